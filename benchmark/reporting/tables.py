"""The paper's tables from the tidy frame. Which scores stand where is declared with the metrics, not here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from ..core.errors import FlexbenchError
from ..jobs.results import LAST
from ..metrics import METRICS, TABLE_TITLES, Metric
from . import memorization as verdicts
from . import selection
from .selection import NOTHING, NotThisTableError, choose

FLOOR = "real images"
CONTROL = "noisy copies"
BY_SIZE = 3  # the table that shows the scores of table 1 against the latent size
COST_NAME = "cost"


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
    results: pd.DataFrame, number: int, preset: str | None = None, space: str | None = None, images: int | None = None,
    rule: str = LAST,
) -> Table:  # fmt: skip
    """Table 1 (Frechet distances), 2 (precision and recall), 3 (1 against latent size) or 4 (memorisation).

    Rows of different presets, feature spaces or numbers of images are never put into one column: with several on
    disk, `preset`, `space` or `images` chooses; `rule` chooses the checkpoint, see `selection.RULES`. Raises
    FlexbenchError when it must be chosen, when nothing has run, for table 3 when no dataset has results at two latent
    sizes, and for a rule that does not go with the table.
    """
    if number not in TABLE_TITLES:
        raise FlexbenchError(f"there is no table {number}. Tables: {', '.join(map(str, TABLE_TITLES))}.")
    selection.check_table(number, rule)
    metrics = [m for m in METRICS.values() if m.table == (1 if number == BY_SIZE else number)]
    chosen = choose(results, metrics, preset, space, images, rule)
    scored = chosen[chosen.family.isin({m.family for m in metrics})]
    rows = at_several_sizes(chosen) if number == BY_SIZE else selection.main_sizes(chosen, scored)
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
    words = [
        caption(models, rule),
        left_out(results, models, rule),
        other_sizes(scored, models) if number != BY_SIZE else "",
        verdicts.RULE if judged else "",
        *(REFERENCES[name] for name in references),
        BEST if FLOOR in references and any(better.values()) else "",
    ]
    return Table(number, TABLE_TITLES[number], " ".join(filter(None, words)), pivot(grouped.mean()),
                 pivot(grouped.std(ddof=1)), pivot(grouped.count()), better, tuple(references), judged)  # fmt: skip


REFERENCES = {
    FLOOR: f"'{FLOOR}': real images that are not the test images, in the model's place.",
    CONTROL: f"'{CONTROL}': training images with noise of standard deviation 0.02: what memorising looks like.",
}


BEST = "No model can be expected to be better than these."


def left_out(results: pd.DataFrame, models: pd.DataFrame, rule: str) -> str:
    """Names the models that the rule of selection leaves without a row."""
    names = [] if rule == LAST else selection.passed_over(results, models)
    return f"Left out, having no scored checkpoint of that kind: {', '.join(names)}." if names else ""


def other_sizes(scored: pd.DataFrame, models: pd.DataFrame) -> str:
    """Names the latent sizes that `selection.main_sizes` has taken out."""
    kept = set(zip(models.dataset, models.latent_dim, strict=True))
    others = sorted(set(zip(scored.dataset, scored.latent_dim, strict=True)) - kept)
    names = ", ".join(f"{dataset} m={size}" for dataset, size in others)
    return f"Left out, few of these models having run there: {names}." if names else ""


def _place(metrics: list[Metric]) -> Callable[[tuple[str, str]], tuple[str, int, int]]:
    """Order of the columns: dataset, latent size where it is in the heading, then the order of the metrics."""
    order = [m.column for m in metrics]

    def key(column: tuple[str, str]) -> tuple[str, int, int]:
        heading, _, size = column[1].partition(" m=")
        return column[0], int(size or 0), order.index(heading)

    return key


def at_several_sizes(rows: pd.DataFrame, what: str = f"table {BY_SIZE}") -> pd.DataFrame:
    """The rows of models that have results at two latent sizes of a dataset or more; FlexbenchError without any."""
    models = rows.fillna({"settings": ""}).groupby(["dataset", "title", "settings"])
    kept = rows[models.latent_dim.transform("nunique") > 1]
    if kept.empty:
        only = ", ".join(sorted({f"{d} m={m}" for d, m in zip(rows.dataset, rows.latent_dim, strict=True)}))
        raise NotThisTableError(f"{what} compares latent sizes, and there is only: {only}. "
                                "Run several: flexbench run --latent-dim 32,64,128 ...")  # fmt: skip
    return kept


def make_several(
    results: pd.DataFrame, names: Sequence[str], preset: str | None = None, space: str | None = None,
    images: int | None = None, rule: str = LAST,
) -> dict[str, Table | pd.DataFrame]:  # fmt: skip
    """Tables by name, '1' to '4' and 'cost'.

    Of several, the one over latent sizes is left out where there is one size, and those that a rule does not go with.
    Raises what `make` and `cost` raise.
    """
    found: dict[str, Table | pd.DataFrame] = {}
    for name in names:
        try:
            is_cost = name == COST_NAME
            found[name] = cost(results, preset) if is_cost else make(results, int(name), preset, space, images, rule)
        except NotThisTableError:
            if len(names) == 1:
                raise
    return found


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


def row_labels(models: pd.DataFrame, sized: bool = True) -> pd.Series:
    """A model's title with its changed settings; if `sized`, with the latent size where a dataset has several.

    What still differs in more than the seed (an edited file of the user's, say) gets its variant's hash: only
    repetitions are ema_modules.
    """
    labels = models.title + models.settings.fillna("").map(lambda s: f" [{s}]" if s else "")
    several = sized & (models.groupby("dataset").latent_dim.transform("nunique") > 1)
    labels = labels.where(~several, labels + " m=" + models.latent_dim.astype(str))
    same = models.assign(label=labels).groupby(["label", "dataset", "latent_dim"])
    unclear = same.variant.transform("nunique") > 1
    return labels.where(~unclear, labels + " #" + models.variant.astype(str).str[:4])


def caption(models: pd.DataFrame, rule: str | None = LAST) -> str:
    """The protocol in words: names of the scores, preset, latent sizes, seeds, selection (if there is one), commit."""

    def listed(values: Iterable) -> str:
        return ", ".join(map(str, sorted(set(values))))

    sizes = "; ".join(f"{d} m={listed(g.latent_dim).replace(' ', '')}" for d, g in models.groupby("dataset"))
    counts = ", ".join(f"{n:,}" for n in sorted(models.n_images.unique()))
    commits = listed(c[:9] + "+dirty" * c.endswith("+dirty") for c in models.git.dropna()) or "unknown"
    return (
        f"Scores: {listed(models.metric)}. {counts} images each. Preset {listed(models.preset)}; {sizes}; "
        f"seeds {listed(models.seed)}; {f'checkpoint: {selection.RULES[rule]}; ' if rule else ''}commit {commits}."
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
    scored = results[(results.family == "gen_fd") & (results.checkpoint == LAST)]
    if scored.empty:
        raise FlexbenchError(NOTHING)
    rows = selection.one_of(scored, "preset", preset, "--preset")
    return selection.ordered(rows).drop_duplicates(["dataset", "model", "hash"])


def cost(results: pd.DataFrame, preset: str | None = None) -> pd.DataFrame:
    """What training cost, one row per model and dataset, means over seeds: equal steps are not equal compute.

    Runs that were only tried for their settings are left out.
    """
    jobs = scored_jobs(results, preset)
    jobs = selection.main_sizes(jobs, jobs).assign(
        step_flops=lambda r: r.train_flops / r.step / 1e9, train_flops=lambda r: r.train_flops / 1e12
    )
    jobs = jobs.assign(model=row_labels(jobs)).rename(columns={name: title for name, (title, _) in COST.items()})
    return jobs.groupby(["model", "dataset"], sort=False)[[title for title, _ in COST.values()]].mean()
