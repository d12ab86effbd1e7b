"""Which rows may stand in one table: one preset, one feature space, one number of images, one checkpoint per job.

Imports no torch. A job without snapshots (`flexbench run --score-every N` makes them) has only its last checkpoint, and
every rule chooses it.
"""

from __future__ import annotations

import pandas as pd

from ..core.errors import FlexbenchError, unknown
from ..evaluation.features.spaces import is_for_vectors
from ..jobs.results import LAST
from ..metrics import Metric
from ..registry import BUILT_IN

FLOPS = "flops"
RULES = {  # rule -> which checkpoint it takes, as captions say it
    LAST: "last",
    "best_val": "of the scored ones, the one whose samples are nearest to the validation images",
    "oracle": "of the scored ones, the one whose samples are nearest to the test images (optimistic)",
    FLOPS: "the last scored one within the training compute of the dataset's cheapest model",
}
RULE_FAMILIES = {"best_val": "gen_fd_val", "oracle": "gen_fd"}  # rule -> the family of scores that it minimises
BUILT_IN_ORDER = {name: i for i, name in enumerate(BUILT_IN)}
NOT_SCORED = "no run has the scores that this needs. Vectors have Frechet distances only."
NOTHING_RAN = "nothing has run. Start with: flexbench run --models all --datasets digits --preset smoke"


class NotThisTableError(FlexbenchError):
    """The request does not go with this table, but may go with others."""


def comparable_rows(
    results: pd.DataFrame, metrics: list[Metric], preset: str | None, space: str | None, images: int | None,
    rule: str = LAST,
) -> pd.DataFrame:  # fmt: skip
    """Return the rows that belong in one table; raise FlexbenchError if they may not stand side by side.

    The models' rows decide. The scores of real images that go with them come after.
    """
    if rule not in RULES:
        raise unknown("rule of selection", rule, RULES)
    rows = results[results.family.isin({m.family for m in metrics})]
    if rows.empty:
        raise NotThisTableError(NOT_SCORED) if (results.family == "gen_fd").any() else FlexbenchError(NOTHING_RAN)
    rows = with_one_space(with_one_value(rows, "preset", preset, "--preset"), space)
    rows = pd.concat([with_one_image_count(part, images) for _, part in rows.groupby("dataset")])
    rows = rows[rows.protocol == rows.protocol.max()]
    return ordered(pd.concat([select_checkpoints(rows, results, rule), _reference_rows(rows, results, metrics)]))


def ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort rows in the order of the registry. Models of the user's own follow the built-in ones, by name."""
    place = rows.model.map(lambda m: BUILT_IN_ORDER.get(m, len(BUILT_IN_ORDER)))
    return rows.assign(order=place).sort_values(["order", "model"], kind="stable")


def main_sizes(rows: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Drop every latent size with fewer than half as many `models` as the dataset's most common size.

    Otherwise a study of two models over sizes would put its rows among those of all models at the usual size.
    """
    keys = ["dataset", "latent_dim"]
    count = models.groupby(keys).title.nunique()
    few = count[2 * count < count.groupby("dataset").transform("max")]
    return rows[~pd.MultiIndex.from_frame(rows[keys]).isin(few.index)]


def with_one_value(rows: pd.DataFrame, column: str, chosen: str | int | None, option: str) -> pd.DataFrame:
    """Return the rows with the chosen value of a column, or all rows if they share one value.

    Raises FlexbenchError if no row has the chosen value, and if none is chosen and there are several.
    """
    values = sorted(rows[column].dropna().unique())
    valid = ", ".join(map(str, values)) or "none"
    if chosen is not None:
        if chosen not in values:
            raise FlexbenchError(f"no results with {option} '{chosen}'. There are: {valid}.")
        return rows[rows[column] == chosen]
    if len(values) > 1:
        raise FlexbenchError(f"results that differ in {column} cannot share a table. Use {option} with one: {valid}.")
    return rows


def with_one_space(rows: pd.DataFrame, chosen: str | None) -> pd.DataFrame:
    """Return the rows of one feature space, the chosen or the only one, and those of scores that use none.

    Vectors have a feature space of their own. It stands beside any other, because no column holds both. It can also be
    chosen; then only its rows remain.
    """
    if chosen is not None and is_for_vectors(chosen):
        return with_one_value(rows, "space", chosen, "--features")
    free = rows.space.isna() | rows.space.isin([name for name in rows.space.dropna().unique() if is_for_vectors(name)])
    return pd.concat([rows[free], with_one_value(rows[~free], "space", chosen, "--features")])


def with_one_image_count(rows: pd.DataFrame, images: int | None) -> pd.DataFrame:
    """Return a dataset's rows with one number of scored images. `images` counts only if there are several numbers."""
    return with_one_value(rows, "n_images", images if rows.n_images.nunique() > 1 else None, "--images")


def _reference_rows(rows: pd.DataFrame, results: pd.DataFrame, metrics: list[Metric]) -> pd.DataFrame:
    """Return the floors and controls of the evaluations that gave `rows`.

    Floors and controls may be computed from fewer images, because the validation split may be smaller. The function
    keeps those with the most images, but not with more than the models' scores.
    """
    families = {f for m in metrics for f in (m.floor, m.control) if f}
    scored = rows.drop_duplicates("dataset").set_index("dataset").n_images
    found = results[results.family.isin(families) & results.hash.isin(rows.hash) & (results.checkpoint == LAST)]
    found = found[found.space.isna() | found.space.isin(rows.space.dropna())]
    found = found[(found.protocol == rows.protocol.max()) & (found.n_images <= found.dataset.map(scored).astype(float))]
    return found[found.n_images == found.groupby(["dataset", "family"]).n_images.transform("max")]


# -- one checkpoint per job ---------------------------------------------------------------------------------------


def select_checkpoints(rows: pd.DataFrame, results: pd.DataFrame, rule: str = LAST) -> pd.DataFrame:
    """Return the rows of one checkpoint for each job and feature space.

    `results` holds the scores that the rule needs. Raises FlexbenchError if no job has a checkpoint that fits the rule.
    """
    if rule == LAST:
        return rows[rows.checkpoint == LAST]
    if rule == FLOPS:
        chosen = _within_budget(rows)
    else:
        chosen = _with_lowest_score(rows, results[results.family == RULE_FAMILIES[rule]])
    if chosen.empty:
        raise FlexbenchError(f"no job has a checkpoint to select by {rule}. Score some: flexbench run --score-every N.")
    return chosen


def _with_lowest_score(rows: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return each job's rows of the step with the lowest score. Only scores with the most images count."""
    scores = scores[scores.protocol == rows.protocol.max()]
    scores = scores[scores.n_images == scores.groupby(["hash", "space"]).n_images.transform("max")]
    best = scores.loc[scores.groupby(["hash", "space"]).value.idxmin(), ["hash", "space", "step"]]
    return rows.merge(best, on=["hash", "space", "step"])


def _within_budget(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each job's rows of the last step within the budget: the compute of the cheapest complete job.

    Jobs share a budget if they share the dataset and the latent size.
    """
    kind = [rows.dataset, rows.latent_dim]
    budget = rows.train_flops.where(rows.checkpoint == LAST).groupby(kind).transform("min")
    allowed = rows[rows.train_flops <= budget * (1 + 1e-6)]
    return allowed[allowed.step == allowed.groupby(["hash", "space"]).step.transform("max")]


def models_without_checkpoint(results: pd.DataFrame, chosen: pd.DataFrame) -> list[str]:
    """Return 'model on dataset' for each model that has scores like the `chosen` rows, but no chosen checkpoint."""
    keys = ["title", "dataset"]
    alike = results[(results.family == "gen_fd") & results.preset.isin(chosen.preset)]
    alike = alike[alike.space.isin(chosen.space) & alike.dataset.isin(chosen.dataset)]
    missing = alike[keys].drop_duplicates().merge(chosen[keys].drop_duplicates(), how="left", indicator=True)
    missing = missing[missing["_merge"] == "left_only"]
    return [f"{title} on {dataset}" for title, dataset in zip(missing.title, missing.dataset, strict=True)]


def check_table(number: int, rule: str) -> None:
    """Raise FlexbenchError if a rule of selection does not go with a table."""
    if rule != LAST and number not in (1, 3):
        raise NotThisTableError(
            f"selection by {rule} is for tables 1 and 3: only Frechet distances are scored at every checkpoint."
        )
