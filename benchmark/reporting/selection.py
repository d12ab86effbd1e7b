"""Which rows may stand in one table: one preset, one feature space, one number of images, one checkpoint per job.

Imports no torch. Without snapshots (`flexbench run --score-every N`) a job has its last checkpoint alone, and all rules
of selection agree.
"""

from __future__ import annotations

import pandas as pd

from ..core.errors import FlexbenchError, unknown
from ..evaluation.features.spaces import is_for_vectors
from ..jobs.results import LAST
from ..metrics import Metric
from ..registry import BUILT_IN

FLOPS = "flops"
RULES = {
    LAST: "the last",
    "best_val": "of those scored the one whose samples are nearest to validation images",
    "oracle": "of those scored the one whose samples are nearest to the test images, which flatters",
    FLOPS: "the last scored one that the compute of the dataset's cheapest model allows",
}
JUDGES = {"best_val": "gen_fd_val", "oracle": "gen_fd"}  # family that the choice looks at
BUILT_IN_ORDER = {name: i for i, name in enumerate(BUILT_IN)}
NO_SUCH = "nothing that has run was scored by what this shows; of vectors, only distances are."
NOTHING = "nothing has run. Start with: flexbench run --models all --datasets digits --preset smoke"


class NotThisTableError(FlexbenchError):
    """What was asked for does not go with one of the tables."""


def choose(
    results: pd.DataFrame, metrics: list[Metric], preset: str | None, space: str | None, images: int | None,
    rule: str = LAST,
) -> pd.DataFrame:  # fmt: skip
    """The rows that belong in one table, or a FlexbenchError if they may not stand side by side.

    That is decided on the rows of models; then come the scores of real images that go with them.
    """
    if rule not in RULES:
        raise unknown("rule of selection", rule, RULES)
    rows = results[results.family.isin({m.family for m in metrics})]
    if rows.empty:
        raise NotThisTableError(NO_SUCH) if (results.family == "gen_fd").any() else FlexbenchError(NOTHING)
    rows = one_space(one_of(rows, "preset", preset, "--preset"), space)
    rows = pd.concat([one_count(part, images) for _, part in rows.groupby("dataset")])
    rows = rows[rows.protocol == rows.protocol.max()]
    return ordered(pd.concat([select(rows, results, rule), _references(rows, results, metrics)]))


def ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the registry; included models after the suite's own, by name."""
    place = rows.model.map(lambda m: BUILT_IN_ORDER.get(m, len(BUILT_IN_ORDER)))
    return rows.assign(order=place).sort_values(["order", "model"], kind="stable")


def main_sizes(rows: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """The rows without those latent sizes at which fewer than half as many `models` ran as at another of the dataset.

    A study of two models over sizes would otherwise put its rows among those of all models at the usual size.
    """
    keys = ["dataset", "latent_dim"]
    count = models.groupby(keys).title.nunique()
    few = count[2 * count < count.groupby("dataset").transform("max")]
    return rows[~pd.MultiIndex.from_frame(rows[keys]).isin(few.index)]


def one_of(rows: pd.DataFrame, column: str, chosen: str | int | None, option: str) -> pd.DataFrame:
    """Rows with one value of a column: the chosen one, or the only one."""
    values = sorted(rows[column].dropna().unique())
    listed = ", ".join(map(str, values)) or "none"
    if chosen is not None:
        if chosen not in values:
            raise FlexbenchError(f"no results with {option} '{chosen}'. There are: {listed}.")
        return rows[rows[column] == chosen]
    if len(values) > 1:
        raise FlexbenchError(f"results that differ in {column} cannot share a table. Use {option} with one: {listed}.")
    return rows


def one_space(rows: pd.DataFrame, chosen: str | None) -> pd.DataFrame:
    """Rows of one feature space, the chosen or the only one, and those that depend on none.

    Vectors have a space of their own, which stands beside any other: no column holds both. It can be chosen alone.
    """
    if chosen is not None and is_for_vectors(chosen):
        return one_of(rows, "space", chosen, "--features")
    free = rows.space.isna() | rows.space.isin([name for name in rows.space.dropna().unique() if is_for_vectors(name)])
    return pd.concat([rows[free], one_of(rows[~free], "space", chosen, "--features")])


def one_count(rows: pd.DataFrame, images: int | None) -> pd.DataFrame:
    """Rows of a dataset with one number of scored images; only where there are several does `images` choose."""
    return one_of(rows, "n_images", images if rows.n_images.nunique() > 1 else None, "--images")


def _references(rows: pd.DataFrame, results: pd.DataFrame, metrics: list[Metric]) -> pd.DataFrame:
    """Floors and controls from the same evaluations as `rows`.

    There may be fewer images in these (of the validation split), so of several numbers the largest that fits counts.
    """
    families = {f for m in metrics for f in (m.floor, m.control) if f}
    scored = rows.drop_duplicates("dataset").set_index("dataset").n_images
    found = results[results.family.isin(families) & results.hash.isin(rows.hash) & (results.checkpoint == LAST)]
    found = found[found.space.isna() | found.space.isin(rows.space.dropna())]
    found = found[(found.protocol == rows.protocol.max()) & (found.n_images <= found.dataset.map(scored).astype(float))]
    return found[found.n_images == found.groupby(["dataset", "family"]).n_images.transform("max")]


# -- one checkpoint per job ---------------------------------------------------------------------------------------


def select(rows: pd.DataFrame, results: pd.DataFrame, rule: str = LAST) -> pd.DataFrame:
    """Of rows that may stand side by side, those of one checkpoint per job and feature space.

    `results` hold the scores that a rule looks at. FlexbenchError where no job has a checkpoint that the rule takes.
    """
    if rule == LAST:
        return rows[rows.checkpoint == LAST]
    chosen = _within_budget(rows) if rule == FLOPS else _nearest(rows, results[results.family == JUDGES[rule]])
    if chosen.empty:
        raise FlexbenchError(f"no job has a checkpoint to select by {rule}. Score some: flexbench run --score-every N.")
    return chosen


def _nearest(rows: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Of each job the rows of the step at which the judged distance is least, among those of the most images."""
    judged = judged[judged.protocol == rows.protocol.max()]
    judged = judged[judged.n_images == judged.groupby(["hash", "space"]).n_images.transform("max")]
    best = judged.loc[judged.groupby(["hash", "space"]).value.idxmin(), ["hash", "space", "step"]]
    return rows.merge(best, on=["hash", "space", "step"])


def _within_budget(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each job the rows of the last step at which it had spent no more than the cheapest whole job of its kind."""
    kind = [rows.dataset, rows.latent_dim]
    budget = rows.train_flops.where(rows.checkpoint == LAST).groupby(kind).transform("min")
    allowed = rows[rows.train_flops <= budget * (1 + 1e-6)]
    return allowed[allowed.step == allowed.groupby(["hash", "space"]).step.transform("max")]


def passed_over(results: pd.DataFrame, chosen: pd.DataFrame) -> list[str]:
    """'Model on dataset' for those that were scored like the `chosen` ones, but at no checkpoint of that kind."""
    keys = ["title", "dataset"]
    alike = results[(results.family == "gen_fd") & results.preset.isin(chosen.preset)]
    alike = alike[alike.space.isin(chosen.space) & alike.dataset.isin(chosen.dataset)]
    missing = alike[keys].drop_duplicates().merge(chosen[keys].drop_duplicates(), how="left", indicator=True)
    missing = missing[missing["_merge"] == "left_only"]
    return [f"{title} on {dataset}" for title, dataset in zip(missing.title, missing.dataset, strict=True)]


def check_table(number: int, rule: str) -> None:
    """FlexbenchError where a rule does not go with a table."""
    if rule != LAST and number not in (1, 3):
        raise NotThisTableError(
            f"selection by {rule} is for tables 1 and 3: only distances are scored at every checkpoint."
        )
