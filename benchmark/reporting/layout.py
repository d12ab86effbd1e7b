"""Tables laid out for print: the text of each cell, and which cells are marked. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from . import ranking
from .tables import COST, Table

MAX_HEADINGS = 4  # a table with more headings gets one grid per dataset
MEAN_RANK, VERDICT = "mean rank", "verdict"


@dataclass(frozen=True)
class Cell:
    """One printed cell. `value` is the number that it sorts by; `mark` is 'best', 'second' or empty."""

    text: str
    value: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Grid:
    """Columns (group, heading) and rows of cells.

    The first `text_columns` columns hold text. The last `references` rows are not models.
    """

    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    text_columns: int = 1
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
    separate = len(table.better) > MAX_HEADINGS or table.verdicts
    groups = [[d] for d in datasets] if separate else [datasets]
    rule = ranking.RULE if any(table.better.values()) else ""
    caption = " ".join(filter(None, [table.caption, rule]))
    grids = tuple(dataset_grid(table, group) for group in groups)
    return TableLayout(f"Table {table.number}", table.title, grids, caption)


def dataset_grid(table: Table, datasets: list[str]) -> Grid:
    """Lay out the columns of some datasets, with the mean rank and the verdict where the table has them."""
    columns = [c for c in table.columns if c[0] in datasets]
    rankings = {c: ranking.rank_column(table, c) for c in columns}
    ranks = ranking.mean_ranks(table, columns)
    verdicts = table.verdicts.get(datasets[0], {})  # a table with verdicts has a grid per dataset

    def cells(row: str) -> Iterator[Cell]:
        yield Cell(row)
        for c in columns:
            yield Cell(score_text(table, row, c), _sort_value(_number(table.frame, row, c)), mark_of(rankings[c], row))
        if ranks is not None:
            rank = ranks.get(row, np.nan)
            yield Cell("-" if np.isnan(rank) else f"{rank:.1f}", _sort_value(rank))
        if verdicts:
            yield Cell(verdicts.get(row, "-"))

    last = [MEAN_RANK] * (ranks is not None) + [VERDICT] * bool(verdicts)
    return Grid((("", "model"), *columns, *(("", heading) for heading in last)),
                tuple(tuple(cells(row)) for row in table.frame.index), references=len(table.references))  # fmt: skip


def mark_of(order: ranking.ColumnRanking, row: str) -> str:
    """Return 'best', 'second' or an empty text."""
    return "best" if row in order.best else "second" if row == order.second else ""


def score_text(table: Table, row: str, column: tuple[str, str]) -> str:
    """Return '12.34', with ' ± 0.56' for several seeds; a dash if nothing has run."""
    value, std = _number(table.frame, row, column), _number(table.std, row, column)
    if np.isnan(value):
        return "-"
    digits = 3 - min(3, len(str(int(abs(value)))) - 1)  # four significant digits, three decimals at most
    return f"{value:.{digits}f}" + ("" if np.isnan(std) else f" ± {std:.{digits}f}")


def _number(frame: pd.DataFrame, row: str, column: tuple[str, str]) -> float:
    """Return a value of a frame; NaN where nothing has run."""
    return float(frame[column][row])


def _sort_value(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def cost_layout(costs: pd.DataFrame) -> TableLayout:
    """Lay out the frame of `tables.cost`."""
    columns = (("", "model"), ("", "dataset"), *(("", title) for title, _ in COST.values()))
    rows = [
        (
            Cell(model),
            Cell(dataset),
            *(Cell(form.format(row[title]), float(row[title])) for title, form in COST.values()),
        )
        for (model, dataset), row in zip(costs.index.to_list(), costs.to_dict("records"), strict=True)
    ]
    title = "FLOPs of the forward and backward passes of all phases, per outer step and in total; wall time in seconds"
    return TableLayout("Cost of training", title, (Grid(columns, tuple(rows), text_columns=2),))
