"""The paper's tables from the tidy frame. Which scores stand where is declared with the metrics, not here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from ..errors import FlexbenchError
from ..evaluation.metrics import METRICS, TABLE_TITLES, Metric
from ..registry import BUILT_IN
from . import verdicts

FLOOR = "real images"
CONTROL = "noisy copies"
BY_SIZE = 3  # the table that shows the scores of table 1 against the latent size
COST_NAME = "cost"
NOTHING = "nothing has run. Start with: flexbench run --models all --datasets digits --preset smoke"
BUILT_IN_ORDER = {name: i for i, name in enumerate(BUILT_IN)}


@dataclass(frozen=True)
class Table:
    """A table: `frame` holds means with one row per model, `spread` standard deviations over seeds, `count` seeds."""

    number: int
    title: str
    caption: str
    frame: pd.DataFrame  # columns are (dataset, heading)
    spread: pd.DataFrame
    count: pd.DataFrame
    better: dict[str, str | None]  # heading -> lower | higher | None
    references: tuple[str, ...] = ()  # rows that are no models: they stand last and take part in no comparison
    verdicts: dict[str, dict[str, str]] = field(default_factory=dict)  # dataset -> row -> words, see `verdicts`

    @property
    def models(self) -> list[str]:
        """The rows that are models."""
        return [row for row in self.frame.index if row not in self.references]


def make(
    results: pd.DataFrame, number: int, preset: str | None = None, space: str | None = None, images: int | None = None
) -> Table:
    """Table 1 (Frechet distances), 2 (precision and recall), 3 (1 against latent size) or 4 (memorisation).

    Rows of different presets, feature spaces or numbers of images are never put into one column: with several on
    disk, `preset`, `space` or `images` chooses. Raises FlexbenchError when it must be chosen, when nothing has run,
    and for table 3 when no dataset has results at two latent sizes.
    """
    if number not in TABLE_TITLES:
        raise FlexbenchError(f"there is no table {number}. Tables: {', '.join(map(str, TABLE_TITLES))}.")
    metrics = [m for m in METRICS.values() if m.table == (1 if number == BY_SIZE else number)]
    rows = choose(results, metrics, preset, space, images)
    rows = at_several_sizes(rows) if number == BY_SIZE else rows
    models = model_cells(rows, metrics, by_size=number == BY_SIZE)
    references = {FLOOR: reference_cells(rows, FLOOR, {m.family: m.floor for m in metrics}, number == BY_SIZE),
                  CONTROL: reference_cells(rows, CONTROL, {m.family: m.control for m in metrics}, False)}  # fmt: skip
    references = {name: cells for name, cells in references.items() if len(cells)}
    cells = pd.concat([models, *references.values()])
    columns = pd.MultiIndex.from_tuples(
        sorted({*zip(models.dataset, models.heading, strict=True)}, key=_place(metrics))
    )

    def pivot(values: pd.Series) -> pd.DataFrame:
        return values.unstack(["dataset", "heading"]).reindex(index=[*models.row.unique(), *references],
                                                              columns=columns)  # fmt: skip

    grouped = cells.groupby(["row", "dataset", "heading"], sort=False).value
    better = {heading: METRICS[family].better for heading, family in zip(models.heading, models.family, strict=True)}
    judged = verdicts.judge(models, rows) if any(m.control for m in metrics) else {}
    words = [caption(rows, metrics), verdicts.RULE if judged else "", *map(REFERENCES.get, references)]
    return Table(number, TABLE_TITLES[number], " ".join(filter(None, words)), pivot(grouped.mean()),
                 pivot(grouped.std(ddof=1)), pivot(grouped.count()), better, tuple(references), judged)  # fmt: skip


REFERENCES = {
    FLOOR: f"'{FLOOR}': real images that are not the test images, in the model's place: the best that can be expected.",
    CONTROL: f"'{CONTROL}': training images with noise of standard deviation 0.02: what memorising looks like.",
}


def _place(metrics: list[Metric]) -> Callable[[tuple[str, str]], tuple[str, int, int]]:
    """Order of the columns: dataset, latent size where it is in the heading, then the order of the metrics."""
    order = [m.column for m in metrics]

    def key(column: tuple[str, str]) -> tuple[str, int, int]:
        heading, _, size = column[1].partition(" m=")
        return column[0], int(size or 0), order.index(heading)

    return key


def at_several_sizes(rows: pd.DataFrame, what: str = f"table {BY_SIZE}") -> pd.DataFrame:
    """The rows of datasets that have results at two latent sizes or more; FlexbenchError where there are none."""
    kept = rows[rows.groupby("dataset").latent_dim.transform("nunique") > 1]
    if kept.empty:
        only = ", ".join(sorted({f"{d} m={m}" for d, m in zip(rows.dataset, rows.latent_dim, strict=True)}))
        raise OneSizeError(f"{what} compares latent sizes, and there is only: {only}. "
                           "Run several: flexbench run --latent-dim 32,64,128 ...")  # fmt: skip
    return kept


class OneSizeError(FlexbenchError):
    """Every dataset has results at one latent size only."""


def make_several(
    results: pd.DataFrame, names: Sequence[str], preset: str | None = None, space: str | None = None,
    images: int | None = None,
) -> dict[str, Table | pd.DataFrame]:  # fmt: skip
    """Tables by name, '1' to '4' and 'cost'. Of several, the one over latent sizes is left out where there is one size.

    Raises what `make` and `cost` raise.
    """
    found: dict[str, Table | pd.DataFrame] = {}
    for name in names:
        try:
            found[name] = (
                cost(results, preset) if name == COST_NAME else make(results, int(name), preset, space, images)
            )
        except OneSizeError:
            if len(names) == 1:
                raise
    return found


def choose(
    results: pd.DataFrame, metrics: list[Metric], preset: str | None, space: str | None, images: int | None
) -> pd.DataFrame:
    """The rows that belong in one table, or a FlexbenchError if they may not stand side by side."""
    families = {f for m in metrics for f in (m.family, m.floor, m.control) if f}
    rows = _one_of(results[results.family.isin(families)], "preset", preset, "--preset")
    of_pixels = rows.space.isna()  # such scores do not depend on the feature space
    rows = pd.concat([rows[of_pixels], _one_of(rows[~of_pixels], "space", space, "--features")])
    if rows.empty:
        raise FlexbenchError(NOTHING)
    rows = pd.concat([_one_count(part, images) for _, part in rows.groupby("dataset")])
    return _ordered(rows[rows.protocol == rows.protocol.max()])


def model_cells(rows: pd.DataFrame, metrics: list[Metric], by_size: bool = False) -> pd.DataFrame:
    """The models' scores, with the `row` and `heading` where each stands; the latent size is part of one of them."""
    models = rows[rows.family.isin({m.family for m in metrics})]
    return models.assign(row=row_labels(models, sized=not by_size), heading=headings(models, by_size))


def reference_cells(rows: pd.DataFrame, name: str, families: dict[str, str | None], by_size: bool) -> pd.DataFrame:
    """The row `name` of what stands in a model's place: one number per column, the same for every model and seed.

    `families` maps the family of a column to the one that has this number.
    """
    found = [
        part.assign(row=name, heading=headings(part.assign(family=family), by_size))
        for family, other in families.items()
        if len(part := rows[rows.family == other])
    ]
    return pd.concat(found).drop_duplicates(["dataset", "heading"]) if found else rows.iloc[:0]


def headings(rows: pd.DataFrame, by_size: bool) -> pd.Series:
    """'Gen.', or with the latent size 'Gen. m=32'."""
    names = rows.family.map(lambda family: METRICS[family].column)
    return names + " m=" + rows.latent_dim.astype(str) if by_size else names


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the registry; included models after the suite's own, by name."""
    place = rows.model.map(lambda m: BUILT_IN_ORDER.get(m, len(BUILT_IN_ORDER)))
    return rows.assign(order=place).sort_values(["order", "model"], kind="stable")


def _one_of(rows: pd.DataFrame, column: str, chosen: str | int | None, option: str) -> pd.DataFrame:
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


def _one_count(rows: pd.DataFrame, images: int | None) -> pd.DataFrame:
    """Rows of a dataset with one number of scored images; only where there are several does `images` choose."""
    return _one_of(rows, "n_images", images if rows.n_images.nunique() > 1 else None, "--images")


def row_labels(models: pd.DataFrame, sized: bool = True) -> pd.Series:
    """A model's title with its changed settings; if `sized`, with the latent size where a dataset has several.

    What still differs in more than the seed (an edited file of the user's, say) gets its variant's hash: only
    repetitions are averaged.
    """
    labels = models.title + models.settings.fillna("").map(lambda s: f" [{s}]" if s else "")
    several = sized & (models.groupby("dataset").latent_dim.transform("nunique") > 1)
    labels = labels.where(~several, labels + " m=" + models.latent_dim.astype(str))
    same = models.assign(label=labels).groupby(["label", "dataset", "latent_dim"])
    unclear = same.variant.transform("nunique") > 1
    return labels.where(~unclear, labels + " #" + models.variant.astype(str).str[:4])


def caption(rows: pd.DataFrame, metrics: list[Metric]) -> str:
    """The protocol in words: names of the scores, preset, latent sizes, seeds, selection, commit."""
    families = {m.family for m in metrics}
    names = sorted(rows[rows.family.isin(families)].metric.unique())
    counts = ", ".join(f"{n:,}" for n in sorted(rows.n_images.unique()))
    sizes = "; ".join(f"{d} m={','.join(map(str, sorted(g.latent_dim.unique())))}" for d, g in rows.groupby("dataset"))
    seeds = ", ".join(map(str, sorted(rows.seed.unique())))
    commits = ", ".join(sorted({c[:9] + "+dirty" * c.endswith("+dirty") for c in rows.git.dropna()})) or "unknown"
    return (
        f"Scores: {', '.join(names)}. {counts} images each. Preset {', '.join(sorted(rows.preset.unique()))}; {sizes}; "
        f"seeds {seeds}; checkpoint: {', '.join(sorted(rows.checkpoint.unique()))}; commit {commits}."
    )


COST = {
    "parameters": ("parameters", "{:,.0f}"),
    "images_seen": ("images seen", "{:,.0f}"),
    "optimizer_steps": ("optimizer steps", "{:,.0f}"),
    "step_flops": ("GFLOPs per step", "{:,.4g}"),
    "train_flops": ("training TFLOPs", "{:,.4g}"),
    "train_seconds": ("training seconds", "{:,.1f}"),
}


def scored_jobs(results: pd.DataFrame, preset: str | None = None) -> pd.DataFrame:
    """One row for each job that has test scores, in the order of the registry; those only tried have none."""
    scored = results[results.family == "gen_fd"]
    if scored.empty:
        raise FlexbenchError(NOTHING)
    return _ordered(_one_of(scored, "preset", preset, "--preset")).drop_duplicates(["dataset", "model", "hash"])


def cost(results: pd.DataFrame, preset: str | None = None) -> pd.DataFrame:
    """What training cost, one row per model and dataset, means over seeds: equal steps are not equal compute.

    Runs that were only tried for their settings are left out.
    """
    jobs = scored_jobs(results, preset).assign(
        step_flops=lambda r: r.train_flops / r.step / 1e9, train_flops=lambda r: r.train_flops / 1e12
    )
    jobs = jobs.assign(model=row_labels(jobs)).rename(columns={name: title for name, (title, _) in COST.items()})
    return jobs.groupby(["model", "dataset"], sort=False)[[title for title, _ in COST.values()]].mean()
