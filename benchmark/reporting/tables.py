"""The paper's tables, made from result rows. `metrics` declares which scores each table shows. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from ..core.errors import FlexbenchError
from ..jobs.results import LAST
from ..metrics import METRICS, TABLE_TITLES, Metric
from . import memorization, selection
from .selection import NOTHING_RAN, NotThisTableError, comparable_rows

FLOOR = "real images"
CONTROL = "noisy copies"
BY_SIZE = 3  # the table that shows the scores of table 1 against the latent size
COST_NAME = "cost"
REFERENCES = {
    FLOOR: f"'{FLOOR}': real images other than the test images, scored in place of a model's images.",
    CONTROL: f"'{CONTROL}': training images plus noise of standard deviation 0.02, scored the same way; they show the "
    "scores of a model that memorises.",
}
FLOOR_IS_BEST = f"No model is expected to be better than '{FLOOR}'."


@dataclass(frozen=True)
class Table:
    """A table: means with one row per model, standard deviations over seeds, numbers of seeds."""

    number: int
    title: str
    caption: str
    frame: pd.DataFrame  # means; columns are (dataset, heading)
    std: pd.DataFrame  # standard deviations over seeds, laid out as `frame`
    count: pd.DataFrame  # numbers of seeds, laid out as `frame`
    better: dict[str, str | None]  # heading -> lower | higher | None
    references: tuple[str, ...] = ()  # rows that are not models: they stand last and are not ranked
    verdicts: dict[str, dict[str, str]] = field(default_factory=dict)  # dataset -> row -> see `memorization.judge`

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The columns, (dataset, heading)."""
        return [(str(column[0]), str(column[1])) for column in self.frame.columns]

    @property
    def models(self) -> list[str]:
        """The rows that are models."""
        return [row for row in self.frame.index if row not in self.references]


def make(
    results: pd.DataFrame, number: int, preset: str | None = None, space: str | None = None, images: int | None = None,
    rule: str = LAST,
) -> Table:  # fmt: skip
    """Make one table, see `metrics.TABLE_TITLES`: the paper's tables 1 to 4, or 5 for the scores of added metrics.

    A column never mixes presets, feature spaces or numbers of images.

    Args:
        results: result rows.
        number: 1 to 5.
        preset, space, images: the choice, needed where the results have several.
        rule: which checkpoint of a job counts, see `selection.RULES`.

    Raises FlexbenchError if a choice is needed, if nothing has run, if the rule does not go with the table, and for
    table 3 if no dataset has results at two latent sizes.
    """
    if number not in TABLE_TITLES:
        raise FlexbenchError(f"there is no table {number}. Tables: {', '.join(map(str, TABLE_TITLES))}.")
    selection.check_table(number, rule)
    by_size = number == BY_SIZE
    metrics = [m for m in METRICS.values() if m.table == (1 if by_size else number)]
    chosen = comparable_rows(results, metrics, preset, space, images, rule)
    scored = chosen[chosen.family.isin({m.family for m in metrics})]
    rows = at_several_sizes(chosen) if by_size else selection.main_sizes(chosen, scored)
    models = model_cells(rows, metrics, by_size)
    references = _references(rows, metrics, by_size)
    means, std, count = _pivots(models, references, metrics)
    better = {heading: METRICS[family].better for heading, family in zip(models.heading, models.family, strict=True)}
    verdicts = memorization.judge(models, rows) if any(m.control for m in metrics) else {}
    sentences = [
        caption(models, rule),
        left_out_models(results, models, rule),
        left_out_sizes(scored, models) if not by_size else "",
        memorization.RULE if verdicts else "",
        *(REFERENCES[name] for name in references),
        FLOOR_IS_BEST if FLOOR in references and any(better.values()) else "",
    ]
    return Table(number, TABLE_TITLES[number], " ".join(filter(None, sentences)), means, std, count, better,
                 tuple(references), verdicts)  # fmt: skip


def _references(rows: pd.DataFrame, metrics: list[Metric], by_size: bool) -> dict[str, pd.DataFrame]:
    """Return the cells of each reference row that has any."""
    found = {FLOOR: reference_cells(rows, FLOOR, {m.family: m.floor for m in metrics}, by_size),
             CONTROL: reference_cells(rows, CONTROL, {m.family: m.control for m in metrics}, False)}  # fmt: skip
    return {name: cells for name, cells in found.items() if len(cells)}


def _pivots(
    models: pd.DataFrame, references: dict[str, pd.DataFrame], metrics: list[Metric]
) -> tuple[pd.DataFrame, ...]:
    """Return means, standard deviations and numbers of seeds, with rows and columns in the order of the table."""
    cells = pd.concat([models, *references.values()])
    order = sorted({*zip(models.dataset, models.heading, strict=True)}, key=_column_order(metrics))
    index, columns = [*models.row.unique(), *references], pd.MultiIndex.from_tuples(order)
    grouped = cells.groupby(["row", "dataset", "heading"], sort=False).value
    return tuple(
        values.unstack(["dataset", "heading"]).reindex(index=index, columns=columns)
        for values in (grouped.mean(), grouped.std(ddof=1), grouped.count())
    )


def left_out_models(results: pd.DataFrame, models: pd.DataFrame, rule: str) -> str:
    """Return a sentence that names the models without a checkpoint that fits the rule of selection."""
    names = [] if rule == LAST else selection.models_without_checkpoint(results, models)
    return f"Left out, because they have no scored checkpoint of that kind: {', '.join(names)}." if names else ""


def left_out_sizes(scored: pd.DataFrame, models: pd.DataFrame) -> str:
    """Return a sentence that names the latent sizes that `selection.main_sizes` dropped."""
    kept = set(zip(models.dataset, models.latent_dim, strict=True))
    others = sorted(set(zip(scored.dataset, scored.latent_dim, strict=True)) - kept)
    names = ", ".join(f"{dataset} m={size}" for dataset, size in others)
    return f"Left out, because less than half of these models ran there: {names}." if names else ""


def _column_order(metrics: list[Metric]) -> Callable[[tuple[str, str]], tuple[str, int, int]]:
    """Return a sort key for columns: dataset, latent size where the heading has one, then the order of the metrics."""
    order = [m.column for m in metrics]

    def key(column: tuple[str, str]) -> tuple[str, int, int]:
        heading, _, size = column[1].partition(" m=")
        return column[0], int(size or 0), order.index(heading)

    return key


def at_several_sizes(rows: pd.DataFrame, subject: str = f"table {BY_SIZE}") -> pd.DataFrame:
    """Return the rows of models that have results at several latent sizes of a dataset; FlexbenchError without any.

    `subject` names the table or figure in the error.
    """
    models = rows.fillna({"settings": ""}).groupby(["dataset", "title", "settings"])
    kept = rows[models.latent_dim.transform("nunique") > 1]
    if kept.empty:
        sizes = ", ".join(sorted({f"{d} m={m}" for d, m in zip(rows.dataset, rows.latent_dim, strict=True)}))
        raise NotThisTableError(f"{subject} compares latent sizes, and no model has several. There are: {sizes}. "
                                "Run several: flexbench run --latent-dim 32,64,128 ...")  # fmt: skip
    return kept


def make_several(
    results: pd.DataFrame, names: Sequence[str], preset: str | None = None, space: str | None = None,
    images: int | None = None, rule: str = LAST,
) -> dict[str, Table | pd.DataFrame]:  # fmt: skip
    """Make tables by name, '1' to '5' and 'cost'.

    If several are asked for, those that do not apply are left out: table 3 with one latent size, and tables that the
    rule of selection does not go with. Raises what `make` and `cost` raise.
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
    """Return the models' rows, with the table's `row` and `heading` for each.

    The latent size is part of the heading if `by_size`, else of the row where a dataset has several sizes.
    """
    models = rows[rows.family.isin({m.family for m in metrics})]
    return models.assign(row=row_labels(models, sized=not by_size), heading=headings(models, by_size))


def reference_cells(rows: pd.DataFrame, name: str, families: dict[str, str | None], by_size: bool) -> pd.DataFrame:
    """Return the cells of the reference row `name`: one number per column, the same for all models and seeds.

    `families` maps the family of a column to the family whose score the reference row shows there.
    """
    found = [
        part.assign(row=name, heading=headings(part.assign(family=family), by_size))
        for family, reference in families.items()
        if len(part := rows[rows.family == reference])
    ]
    return pd.concat(found).drop_duplicates(["dataset", "heading"]) if found else rows.iloc[:0]


def headings(rows: pd.DataFrame, by_size: bool) -> pd.Series:
    """Return 'Gen.', or with the latent size 'Gen. m=32'."""
    names = rows.family.map(lambda family: METRICS[family].column)
    return names + " m=" + rows.latent_dim.astype(str) if by_size else names


def row_labels(models: pd.DataFrame, sized: bool = True) -> pd.Series:
    """Return a model's title with its changed settings; if `sized`, with the latent size where a dataset has several.

    Only repetitions with other seeds are averaged. So jobs that share a label but differ in more than the seed (in the
    user's own model file, say) get the hash of their variant too.
    """
    labels = models.title + models.settings.fillna("").map(lambda s: f" [{s}]" if s else "")
    several = sized & (models.groupby("dataset").latent_dim.transform("nunique") > 1)
    labels = labels.where(~several, labels + " m=" + models.latent_dim.astype(str))
    same = models.assign(label=labels).groupby(["label", "dataset", "latent_dim"])
    unclear = same.variant.transform("nunique") > 1
    return labels.where(~unclear, labels + " #" + models.variant.astype(str).str[:4])


def caption(models: pd.DataFrame, rule: str | None = LAST) -> str:
    """Return the protocol: scores, images, preset, latent sizes, seeds, checkpoint (if there is a rule), commit."""

    def join(values: Iterable) -> str:
        return ", ".join(map(str, sorted(set(values))))

    sizes = "; ".join(f"{d} m={join(g.latent_dim).replace(' ', '')}" for d, g in models.groupby("dataset"))
    counts = ", ".join(f"{n:,}" for n in sorted(models.n_images.unique()))
    commits = join(c[:9] + "+dirty" * c.endswith("+dirty") for c in models.git.dropna()) or "unknown"
    return (
        f"Scores: {join(models.metric)}. {counts} images each. Preset {join(models.preset)}; {sizes}; "
        f"seeds {join(models.seed)}; {f'checkpoint: {selection.RULES[rule]}; ' if rule else ''}commit {commits}."
    )


COST = {  # column of the results -> heading, number format
    "parameters": ("parameters", "{:,.0f}"),
    "images_seen": ("images seen", "{:,.0f}"),
    "optimizer_steps": ("optimizer steps", "{:,.0f}"),
    "step_flops": ("GFLOPs per step", "{:,.4g}"),
    "train_flops": ("training TFLOPs", "{:,.4g}"),
    "train_seconds": ("training seconds", "{:,.1f}"),
}


def scored_jobs(results: pd.DataFrame, preset: str | None = None) -> pd.DataFrame:
    """Return one row for each job with test scores, in the order of the registry. Tuning trials have none."""
    scored = results[(results.family == "gen_fd") & (results.checkpoint == LAST)]
    if scored.empty:
        raise FlexbenchError(NOTHING_RAN)
    rows = selection.with_one_value(scored, "preset", preset, "--preset")
    return selection.ordered(rows).drop_duplicates(["dataset", "model", "hash"])


def cost(results: pd.DataFrame, preset: str | None = None) -> pd.DataFrame:
    """Return the cost of training, one row per model and dataset, as means over seeds. Tuning trials are left out."""
    jobs = scored_jobs(results, preset)
    jobs = selection.main_sizes(jobs, jobs).assign(
        step_flops=lambda r: r.train_flops / r.step / 1e9, train_flops=lambda r: r.train_flops / 1e12
    )
    jobs = jobs.assign(model=row_labels(jobs)).rename(columns={name: title for name, (title, _) in COST.items()})
    return jobs.groupby(["model", "dataset"], sort=False)[[title for title, _ in COST.values()]].mean()
