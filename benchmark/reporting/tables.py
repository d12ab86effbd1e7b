"""The paper's tables from the tidy frame. Which scores stand where is declared with the metrics, not here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import FlexbenchError
from ..evaluation.metrics import METRICS, TABLE_TITLES, Metric
from ..registry import BUILT_IN

FLOOR = "real images"
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


def make(
    results: pd.DataFrame, number: int, preset: str | None = None, space: str | None = None, images: int | None = None
) -> Table:
    """Table 1 (Frechet distances), 2 (precision and recall) or 4 (memorisation) of what has run.

    Rows of different presets, feature spaces or numbers of images are never put into one column: with several on
    disk, `preset`, `space` or `images` chooses. Raises FlexbenchError when it must be chosen, or when nothing has run.
    """
    metrics = [m for m in METRICS.values() if m.table == number]
    if not metrics:
        raise FlexbenchError(f"there is no table {number}. Tables: {', '.join(map(str, TABLE_TITLES))}.")
    rows = choose(results, metrics, preset, space, images)
    models = model_cells(rows, metrics)
    cells = pd.concat([models, floor_cells(rows, metrics)])
    grouped = cells.groupby(["row", "dataset", "heading"], sort=False).value
    columns = pd.MultiIndex.from_product([sorted(cells.dataset.unique()), [m.column for m in metrics]])

    def pivot(values: pd.Series) -> pd.DataFrame:
        return values.unstack(["dataset", "heading"]).reindex(index=[*models.row.unique(), FLOOR], columns=columns)

    better = {m.column: m.better for m in metrics}
    return Table(number, TABLE_TITLES[number], caption(rows, metrics), pivot(grouped.mean()),
                 pivot(grouped.std(ddof=1)), pivot(grouped.count()), better)  # fmt: skip


def choose(
    results: pd.DataFrame, metrics: list[Metric], preset: str | None, space: str | None, images: int | None
) -> pd.DataFrame:
    """The rows that belong in one table, or a FlexbenchError if they may not stand side by side."""
    families = {m.family for m in metrics} | {m.floor for m in metrics if m.floor}
    rows = _one_of(results[results.family.isin(families)], "preset", preset, "--preset")
    of_pixels = rows.space.isna()  # such scores do not depend on the feature space
    rows = pd.concat([rows[of_pixels], _one_of(rows[~of_pixels], "space", space, "--features")])
    if rows.empty:
        raise FlexbenchError(NOTHING)
    rows = pd.concat([_one_count(part, images) for _, part in rows.groupby("dataset")])
    return _ordered(rows[rows.protocol == rows.protocol.max()])


def model_cells(rows: pd.DataFrame, metrics: list[Metric]) -> pd.DataFrame:
    """The models' scores, with the `row` and `heading` where each stands."""
    headings = {m.family: m.column for m in metrics}
    models = rows[rows.family.isin(headings)]
    return models.assign(row=row_labels(models), heading=models.family.map(headings))


def floor_cells(rows: pd.DataFrame, metrics: list[Metric]) -> pd.DataFrame:
    """The floor under each heading: one number per dataset, since real images do not depend on model or seed."""
    floors = [rows[rows.family == m.floor].assign(row=FLOOR, heading=m.column) for m in metrics if m.floor]
    return pd.concat(floors).drop_duplicates(["dataset", "heading"])


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


def row_labels(models: pd.DataFrame) -> pd.Series:
    """A model's title with its changed settings; with the latent size where a dataset has results at several.

    What still differs in more than the seed (an edited file of the user's, say) gets its variant's hash: only
    repetitions are averaged.
    """
    labels = models.title + models.settings.fillna("").map(lambda s: f" [{s}]" if s else "")
    several = models.groupby("dataset").latent_dim.transform("nunique") > 1
    labels = labels.where(~several, labels + " m=" + models.latent_dim.astype(str))
    unclear = models.assign(label=labels).groupby(["label", "dataset"]).variant.transform("nunique") > 1
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
        f"seeds {seeds}; checkpoint: {', '.join(sorted(rows.checkpoint.unique()))}; commit {commits}. "
        f"'{FLOOR}': training images in the model's place, the best that can be expected."
    )


def to_text(table: Table, style: str) -> str:
    """The table as `md` (GitHub) or `csv` (long, with spread and count)."""
    return {"md": to_markdown, "csv": to_csv}[style](table)


def to_markdown(table: Table) -> str:
    """A GitHub table; the best mean of a column is bold where the metric has a direction."""
    lines = [f"**Table {table.number}.** {table.title}", ""]
    datasets = list(dict.fromkeys(table.frame.columns.get_level_values(0)))
    wide = len(table.better) > 4  # many headings: one table per dataset reads better
    for group in [[d] for d in datasets] if wide else [datasets]:
        columns = [c for c in table.frame.columns if c[0] in group]
        header = [f"{d} {h}" if len(datasets) > 1 or not wide else h for d, h in columns]
        lines += ["| model | " + " | ".join(header) + " |", "|---|" + "---:|" * len(columns)]
        best = {c: best_row(table, c) for c in columns}
        for row in table.frame.index:
            cells = [f"**{cell(table, row, c)}**" if best[c] == row else cell(table, row, c) for c in columns]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join([*lines, table.caption, ""])


def best_row(table: Table, column: tuple[str, str]) -> str | None:
    """The model with the best mean, or None where no direction is better or no model is ahead in print."""
    better = table.better[column[1]]
    values = table.frame[column].drop(FLOOR).dropna().sort_values(ascending=better == "lower")
    if better is None or len(values) < 2:
        return None
    first, second = values.index[:2]
    return first if cell(table, first, column) != cell(table, second, column) else None


def cell(table: Table, row: str, column: tuple[str, str]) -> str:
    """'12.34' with ' ± 0.56' where there are several seeds, or a dash where nothing has run."""
    value, spread = table.frame.loc[row, column], table.spread.loc[row, column]
    if np.isnan(value):
        return "-"
    digits = 3 - min(3, len(str(int(abs(value)))) - 1)  # four significant digits, three decimals at most
    return f"{value:.{digits}f}" + ("" if np.isnan(spread) else f" ± {spread:.{digits}f}")


def to_csv(table: Table) -> str:
    """Long form: table, model, dataset, score, mean, std, seeds."""
    rows = [
        {"table": table.number, "model": row, "dataset": d, "score": h, "mean": table.frame.loc[row, (d, h)],
         "std": table.spread.loc[row, (d, h)], "seeds": table.count.loc[row, (d, h)]}
        for row in table.frame.index
        for d, h in table.frame.columns
    ]  # fmt: skip
    return pd.DataFrame(rows).to_csv(index=False)


COST = {
    "parameters": ("parameters", "{:,.0f}"),
    "images_seen": ("images seen", "{:,.0f}"),
    "optimizer_steps": ("optimizer steps", "{:,.0f}"),
    "train_flops": ("training TFLOPs", "{:,.4g}"),
    "train_seconds": ("training seconds", "{:,.1f}"),
}


def cost(results: pd.DataFrame, preset: str | None = None) -> pd.DataFrame:
    """What training cost, one row per model and dataset, means over seeds: equal steps are not equal compute.

    Runs that were only tried for their settings are left out.
    """
    scored = results[results.family == "gen_fd"]
    if scored.empty:
        raise FlexbenchError(NOTHING)
    rows = _ordered(_one_of(scored, "preset", preset, "--preset"))
    jobs = rows.drop_duplicates("hash").assign(train_flops=lambda r: r.train_flops / 1e12)
    jobs = jobs.assign(model=row_labels(jobs)).rename(columns={name: title for name, (title, _) in COST.items()})
    return jobs.groupby(["model", "dataset"], sort=False)[[title for title, _ in COST.values()]].mean()


def cost_text(costs: pd.DataFrame, style: str) -> str:
    """The cost table as `md` or `csv`."""
    if style == "csv":
        return costs.reset_index().to_csv(index=False)
    lines = [
        "**Cost of training.** Forward and backward passes of all phases; seconds of the machine that ran it",
        "",
    ]
    lines += ["| model | dataset | " + " | ".join(costs.columns) + " |", "|---|---|" + "---:|" * len(costs.columns)]
    for (model, dataset), row in costs.iterrows():
        cells = [form.format(row[title]) for title, form in COST.values()]
        lines.append(f"| {model} | {dataset} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])
