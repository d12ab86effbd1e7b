"""Tables laid out for print: what stands in each cell, and which cells are marked. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from . import ranking as ranking
from .tables import COST, Table

WIDE = 4  # headings; with more, one grid per dataset reads better
MEAN_RANK, VERDICT = "mean rank", "verdict"


@dataclass(frozen=True)
class Cell:
    """What is printed in one cell; `value` is what it sorts by, `mark` is best, second or nothing."""

    text: str
    value: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Grid:
    """Columns (group, heading) and rows of cells; the first `named` columns are text, the last `references` rows are
    no models."""

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    named: int = 1
    references: int = 0


@dataclass(frozen=True)
class TableLayout:
    """A table ready to print."""

    name: str  # "Table 1", or "Cost of training"
    title: str
    grids: tuple[Grid, ...]
    caption: str = ""


def lay_out(table: Table) -> TableLayout:
    """Lay out one of the paper's tables."""
    datasets = list(dict.fromkeys(table.frame.columns.get_level_values(0)))
    apart = len(table.better) > WIDE or table.verdicts
    groups = [[d] for d in datasets] if apart else [datasets]
    marked = ranking.RULE if any(table.better.values()) else ""
    caption = " ".join(filter(None, [table.caption, marked]))
    return TableLayout(f"Table {table.number}", table.title, tuple(grid(table, group) for group in groups), caption)


def grid(table: Table, datasets: list[str]) -> Grid:
    """The columns of some datasets, the mean rank where several columns have a direction, the verdict if there is."""
    columns = [c for c in table.frame.columns if c[0] in datasets]
    order = {c: ranking.rank_column(table, c) for c in columns}
    ranks = ranking.mean_ranks(table, columns)
    judged = table.verdicts.get(datasets[0], {})  # with verdicts there is one dataset

    def cells(row: str) -> Iterator[Cell]:
        yield Cell(row)
        yield from (Cell(cell(table, row, c), _number(table.frame.loc[row, c]), mark(order[c], row)) for c in columns)
        if ranks is not None:
            rank = ranks.get(row, np.nan)
            yield Cell("-" if np.isnan(rank) else f"{rank:.1f}", _number(rank))
        if judged:
            yield Cell(judged.get(row, "-"))

    rest = [MEAN_RANK] * (ranks is not None) + [VERDICT] * bool(judged)
    return Grid((("", "model"), *columns, *(("", heading) for heading in rest)),
                tuple(tuple(cells(row)) for row in table.frame.index), references=len(table.references))  # fmt: skip


def mark(order: ranking.ColumnRanking, row: str) -> str:
    """best | second | nothing."""
    return "best" if row in order.best else "second" if row == order.second else ""


def cell(table: Table, row: str, column: tuple[str, str]) -> str:
    """'12.34' with ' ± 0.56' where there are several seeds, or a dash where nothing has run."""
    value, spread = table.frame.loc[row, column], table.spread.loc[row, column]
    if np.isnan(value):
        return "-"
    digits = 3 - min(3, len(str(int(abs(value)))) - 1)  # four significant digits, three decimals at most
    return f"{value:.{digits}f}" + ("" if np.isnan(spread) else f" ± {spread:.{digits}f}")


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def cost_layout(costs: pd.DataFrame) -> TableLayout:
    """Lay out what `tables.cost` gives."""
    columns = (("", "model"), ("", "dataset"), *(("", title) for title, _ in COST.values()))
    rows = [
        (
            Cell(model),
            Cell(dataset),
            *(Cell(form.format(row[title]), float(row[title])) for title, form in COST.values()),
        )
        for (model, dataset), row in costs.iterrows()
    ]
    title = "Forward and backward passes of all phases, per outer step and in all; seconds of the machine that ran it"
    return TableLayout("Cost of training", title, (Grid(columns, tuple(rows), named=2),))
