"""Which checkpoint of a job counts? Imports no torch.

Without snapshots (`flexbench run --score-every N`) a job has its last checkpoint alone, and all rules agree.
"""

from __future__ import annotations

import pandas as pd

from ..errors import FlexbenchError, unknown
from ..schema import LAST

FLOPS = "flops"
RULES = {
    LAST: "the last",
    "best_val": "of those scored the one whose samples are nearest to validation images",
    "oracle": "of those scored the one whose samples are nearest to the test images, which flatters",
    FLOPS: "the last that the training compute of the cheapest model of the dataset allows",
}
JUDGES = {"best_val": "gen_fd_val", "oracle": "gen_fd"}  # family that the choice looks at
EVERYWHERE = ("gen_fd", "rec_fd", "gen_fd_val")  # families that snapshots have


class NotThisTableError(FlexbenchError):
    """What was asked for does not go with one of the tables."""


def select(results: pd.DataFrame, rule: str = LAST) -> pd.DataFrame:
    """The rows of one checkpoint per job and feature space. FlexbenchError for an unknown rule.

    Rules other than "last" keep the distances only, since snapshots have no other scores, and the scores of real
    images.
    """
    if rule not in RULES:
        raise unknown("rule of selection", rule, RULES)
    last = results[results.checkpoint == LAST]
    if rule == LAST:
        return last
    distances = results[results.family.isin(EVERYWHERE)]
    chosen = _within_budget(distances) if rule == FLOPS else _nearest(distances, JUDGES[rule])
    return pd.concat([chosen, last[last.family.str.startswith("real_")]])


def _nearest(distances: pd.DataFrame, family: str) -> pd.DataFrame:
    """Of each job the rows of the step at which a distance is least."""
    judged = distances[distances.family == family]
    best = judged.loc[judged.groupby(["hash", "space"]).value.idxmin(), ["hash", "space", "step"]]
    return distances.merge(best, on=["hash", "space", "step"])


def _within_budget(distances: pd.DataFrame) -> pd.DataFrame:
    """Of each job the rows of the last step at which it had spent no more than the least that a whole job spent."""
    whole = distances[distances.checkpoint == LAST].groupby("dataset").train_flops.min()
    allowed = distances[distances.train_flops <= distances.dataset.map(whole) * (1 + 1e-6)]
    return allowed[allowed.step == allowed.groupby(["hash", "space"]).step.transform("max")]


def check_table(number: int, rule: str) -> None:
    """FlexbenchError where a rule does not go with a table."""
    if rule != LAST and number not in (1, 3):
        raise NotThisTableError(
            f"--select {rule} is for tables 1 and 3: only distances are scored at every checkpoint."
        )
