"""The report: one static page with tables, pictures, figures, diagnostics and provenance. Imports no torch.

The page is one file that loads nothing. The same runs give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import FlexbenchError
from ..core.files import atomic_write, ensure_dir
from ..metrics import METRICS, Metric
from . import commands, summary
from .formats import to_text
from .gallery import data_uri, galleries
from .layout import Cell, Grid, TableLayout, cost_layout, lay_out
from .rows import Roots, as_roots, load_rows
from .runs import RunRecord, check_roots, diagnostics_table, find_runs, runs_table, tally
from .selection import comparable_rows
from .tables import BY_SIZE, COST_NAME, Table, make_several, model_cells

PAGE = Path(__file__).parent / "page"
REPORT_FIGURES = ("pareto", "dims", "2", "curves")  # figures that need neither the models nor the data
PER_RUN_FIGURES, MAX_RUNS = ("curves",), 100  # with more runs, figures with a line per run would outweigh the page
NAME = "report.html"  # under the output root, if no other file is named


def write(out: Roots, to: Path | None = None, preset: str | None = None, space: str | None = None,
          images: int | None = None) -> Path:  # fmt: skip
    """Write the report of all runs under one output root or several. Return its path.

    Args:
        out: output root or roots.
        to: the file; default: report.html in the first root.
        preset, space, images: the choice among the results, as in `tables.make`.

    Raises FlexbenchError whenever `tables.make` does, if there is no run, and if the file cannot be written.
    """
    to = to or as_roots(out)[0] / NAME
    if to.is_dir():
        raise FlexbenchError(f"'{to}' is a folder. Give a file: --to {to / NAME}.")
    content = page(out, preset, space, images)
    ensure_dir(to.absolute().parent)
    atomic_write(to, content)
    return to


def page(out: Roots, preset: str | None = None, space: str | None = None, images: int | None = None) -> str:
    """Return the report as HTML text. Arguments and errors are those of `write`."""
    check_roots(out)
    rows = load_rows(out)
    runs = find_runs(out, preset, rows)
    scores = rows if preset is None else rows[rows.preset == preset]
    choice: dict[str, Any] = {"preset": preset, "space": space, "images": images}
    tables = make_several(scores, available_tables(scores), **choice)
    cells = table_1_cells(scores, tables, **choice)
    return render(
        title=summary.headline(runs),
        lead=summary.lead(runs, cells),
        leaders=summary.leaders({n: t for n, t in tables.items() if isinstance(t, Table)}),
        tally=tally(runs),
        count=summary.count,
        tables=[table_section(name, table) for name, table in tables.items()],
        galleries=galleries(runs, cells),
        missing_folders=sum(run.folder is None for run in runs),
        figures=draw_figures(out, figure_names(runs), **choice),
        diagnostics=layout_section("diagnostics", diagnostics_table(runs)),
        runs=layout_section("runs", runs_table(runs)),
        metrics=used_metrics(tables),
        commands=[*commands.reproduce(runs), *commands.show(**choice)],
    )


def available_tables(scores: pd.DataFrame) -> list[str]:
    """Return the names of the tables that there are scores for."""
    found = {METRICS[family].table for family in scores.family.unique() if family in METRICS} - {None}
    names = sorted(map(str, found | ({BY_SIZE} if 1 in found else set())))
    return [*names, COST_NAME] if (scores.family == "gen_fd").any() else names


def table_1_cells(scores: pd.DataFrame, tables: Mapping[str, Any], **choice: Any) -> pd.DataFrame:
    """Return the models' rows behind table 1, in its order; no rows if there is no table 1."""
    metrics = [metric for metric in METRICS.values() if metric.table == 1]
    if "1" not in tables:
        return scores.iloc[:0].assign(row="")
    cells = model_cells(comparable_rows(scores, metrics, **choice), metrics)
    place = {row: i for i, row in enumerate(tables["1"].frame.index)}
    return cells.iloc[cells.row.map(place).argsort(kind="stable")]


def used_metrics(tables: Mapping[str, Any]) -> list[Metric]:
    """Return the declarations of the scores that stand in the tables."""
    columns = {(t.number, heading) for t in tables.values() if isinstance(t, Table) for heading in t.better}
    return [metric for metric in METRICS.values() if (metric.table, metric.column) in columns]


# -- figures --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EmbeddedFigure:
    """A figure as an SVG in a data URI. An <img> never runs its scripts and never loads its links."""

    title: str
    caption: str
    uri: str


def figure_names(runs: Sequence[RunRecord]) -> list[str]:
    """Return the names of the figures for a page. With many runs, figures with a line per run are left out."""
    many = sum(bool(run.test_rows) for run in runs) > MAX_RUNS
    return [name for name in REPORT_FIGURES if not (many and name in PER_RUN_FIGURES)]


def draw_figures(out: Roots, names: Sequence[str], **choice: Any) -> list[EmbeddedFigure]:
    """Draw those of the figures that can be made from the results."""
    from .figures import Query, make_several, rendered

    try:
        plots, _ = make_several(names, Query(out, **choice))
    except FlexbenchError:  # none can be made; the page still has its tables
        return []
    return [embed(plot.title, plot.caption, rendered(plot, ["svg"])[0]) for plot in plots]


def embed(title: str, caption: str, svg: bytes) -> EmbeddedFigure:
    """Return an SVG document as a figure for the page."""
    return EmbeddedFigure(title, caption, data_uri(svg, "image/svg+xml"))


# -- tables ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """The heading of a column, and how the column is sorted."""

    heading: str
    numeric: bool
    first_direction: str  # the direction of the first sorting
    has_std: bool  # some cell has a standard deviation, so all cells keep room for one


@dataclass(frozen=True)
class TableSection:
    """A table on the page: its layout, with the columns and column groups of each grid, and the same as a CSV file."""

    key: str
    layout: TableLayout
    grids: tuple[tuple[Grid, tuple[Column, ...], tuple[tuple[str, int], ...]], ...]
    csv: str  # data URI
    file: str


def table_section(name: str, table: Table | pd.DataFrame) -> TableSection:
    """Return the section of one of the paper's tables, or of the cost of training."""
    better = table.better if isinstance(table, Table) else {}
    layout = lay_out(table) if isinstance(table, Table) else cost_layout(table)
    return _section(f"table-{name}", layout, to_text(table, "csv"), better)


def layout_section(name: str, layout: TableLayout | None) -> TableSection | None:
    """Return the section of a table that is laid out already; None for none."""
    return None if layout is None else _section(name, layout, layout_csv(layout), {})


def _section(key: str, layout: TableLayout, csv: str, better: Mapping[str, str | None]) -> TableSection:
    grids = tuple((grid, tuple(columns(grid, better)), tuple(column_groups(grid))) for grid in layout.grids)
    return TableSection(key, layout, grids, data_uri(csv.encode(), "text/csv;charset=utf-8"), f"{key}.csv")


def columns(grid: Grid, better: Mapping[str, str | None]) -> Iterator[Column]:
    """Yield the columns. A column with a number is numeric, and its first sorting puts the best on top."""
    for place, (_, heading) in enumerate(grid.columns):
        numeric = any(row[place].value is not None for row in grid.rows)
        direction = "descending" if better.get(heading) == "higher" else "ascending"
        yield Column(heading, numeric, direction, numeric and any("±" in row[place].text for row in grid.rows))


def column_groups(grid: Grid) -> Iterator[tuple[str, int]]:
    """Yield (group, number of columns) from left to right; nothing if no column has a group."""
    if any(group for group, _ in grid.columns):
        for group, part in itertools.groupby(grid.columns, key=lambda column: column[0]):
            yield group, len(list(part))


def layout_csv(layout: TableLayout) -> str:
    """Return a table layout of one grid as CSV, as printed. The details of expandable cells are written out."""
    (grid,) = layout.grids
    rows = [[csv_value(cell) for cell in row] for row in grid.rows]
    return pd.DataFrame(rows, columns=[heading for _, heading in grid.columns]).to_csv(index=False)


def csv_value(cell: Cell) -> Any:
    """Return a cell's number if it has one, else its details or its text."""
    if details := getattr(cell, "details", ()):
        return ", ".join(f"{name} {value}" for name, value in details)
    return cell.text if cell.value is None else cell.value


# -- the page -------------------------------------------------------------------------------------------------------


def render(**content: Any) -> str:
    """Fill the template. Everything is escaped but the page's own style and script."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    loader = FileSystemLoader(PAGE)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, keep_trailing_newline=True)  # fmt: skip
    style, script = ((PAGE / name).read_text("utf-8") for name in ("style.css", "script.js"))
    text = environment.get_template("template.html").render(
        style=Markup(style), script=Markup(script), policy=policy(style, script), markup=Markup, **content
    )
    return text.lstrip()  # drops the blank lines of the macro definitions


def policy(style: str, script: str) -> str:
    """Return a content policy that allows only the page's own style and script, and pictures inside the page."""
    sources = {"default-src": "'none'", "img-src": "data:", "style-src": _hash(style), "script-src": _hash(script),
               "base-uri": "'none'", "form-action": "'none'"}  # fmt: skip
    return "; ".join(f"{name} {value}" for name, value in sources.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
