"""One static page of what has run: tables, pictures, figures, diagnostics, provenance. Imports no torch.

Everything is in the one file, and it loads nothing. The same runs give the same bytes.
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
from ..jobs.results import tidy
from ..metrics import METRICS, Metric
from . import commands, summary
from .formats import to_text
from .gallery import data_uri, galleries
from .layout import Grid, TableLayout, cost_layout, lay_out
from .runs import RunRecord, diagnostics_table, find, runs_table, tally
from .selection import choose
from .svg import inline
from .tables import BY_SIZE, COST_NAME, Table, make_several, model_cells

PAGE = Path(__file__).parent / "page"
DRAWN = ("pareto", "dims", "2", "curves")  # figures that need neither the models nor the data
LINE_PER_RUN, MANY = ("curves",), 100  # with more runs these figures would outweigh the whole page
NAME = "report.html"  # under the output root, if no other file is named


def write(out: Path, to: Path | None = None, preset: str | None = None, space: str | None = None,
          images: int | None = None) -> Path:  # fmt: skip
    """Write the page of all runs under an output root; returns its path.

    `preset`, `space` and `images` choose as in `tables.make`. Raises FlexbenchError as that does, where nothing is on
    disk, and where the file cannot be written.
    """
    to = to or out / NAME
    if to.is_dir():
        raise FlexbenchError(f"'{to}' is a folder. Give a file: --to {to / NAME}.")
    content = page(out, preset, space, images)
    ensure_dir(to.absolute().parent)
    atomic_write(to, content)
    return to


def page(out: Path, preset: str | None = None, space: str | None = None, images: int | None = None) -> str:
    """The page as text."""
    runs = find(out, preset)
    scores = tidy(row for run in runs for row in run.rows)
    which = {"preset": preset, "space": space, "images": images}
    tables = make_several(scores, available(scores), **which)
    cells = shown_cells(scores, tables, **which)
    return render(
        title=summary.headline(runs),
        lead=summary.lead(runs, cells),
        leaders=summary.leaders({n: t for n, t in tables.items() if n != COST_NAME}),
        tally=tally(runs),
        count=summary.count,
        tables=[block(name, table) for name, table in tables.items()],
        galleries=galleries(runs, cells),
        figures=figures(plots(out, drawable(runs), **which)),
        diagnostics=extra("diagnostics", diagnostics_table(runs)),
        runs=extra("runs", runs_table(runs)),
        metrics=used_metrics(tables),
        commands=[*commands.reproduce(runs), *commands.show(**which)],
    )


def drawable(runs: Sequence[RunRecord]) -> list[str]:
    """Names of the figures for a page; of many runs, not those with a line for each."""
    many = sum(bool(run.test_rows) for run in runs) > MANY
    return [name for name in DRAWN if not (many and name in LINE_PER_RUN)]


def plots(out: Path, names: Sequence[str], **which: Any) -> list[tuple[str, str, str]]:
    """Those of the figures that can be made of what has run: (title, caption, SVG document)."""
    from .figures import Query, make_several, rendered

    try:
        found, _ = make_several(names, Query(out, **which))
    except FlexbenchError:  # not one of them: the page has its tables
        return []
    return [(plot.title, plot.caption, rendered(plot, ["svg"])[0].decode()) for plot in found]


def available(scores: pd.DataFrame) -> list[str]:
    """Names of the tables for which there are scores."""
    found = {METRICS[family].table for family in scores.family.unique() if family in METRICS} - {None}
    names = sorted(map(str, found | ({BY_SIZE} if 1 in found else set())))
    return [*names, COST_NAME] if (scores.family == "gen_fd").any() else names


def shown_cells(scores: pd.DataFrame, tables: Mapping[str, Any], **which: Any) -> pd.DataFrame:
    """The models' scores that table 1 is made of, in the order of its rows; none where there is no such table."""
    metrics = [metric for metric in METRICS.values() if metric.table == 1]
    if "1" not in tables:
        return scores.iloc[:0].assign(row="")
    cells = model_cells(choose(scores, metrics, **which), metrics)
    place = {row: i for i, row in enumerate(tables["1"].frame.index)}
    return cells.iloc[cells.row.map(place).argsort(kind="stable")]


def used_metrics(tables: Mapping[str, Any]) -> list[Metric]:
    """The declarations of the scores that stand in the tables."""
    columns = {(t.number, heading) for t in tables.values() if isinstance(t, Table) for heading in t.better}
    return [metric for metric in METRICS.values() if (metric.table, metric.column) in columns]


def figures(found: list[tuple[str, str, str]]) -> list[dict[str, str]]:
    """Figures ready for the page."""
    return [{"title": title, "caption": caption, "svg": inline(svg, f"figure{i}-", title)}
            for i, (title, caption, svg) in enumerate(found, 1)]  # fmt: skip


# -- tables ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """How a column is headed and sorted."""

    heading: str
    numeric: bool
    first: str  # the direction of the first sorting
    spread: bool  # some cell has a standard deviation, for which all keep room


@dataclass(frozen=True)
class Block:
    """A table layout on the page: per grid its columns and the groups above them, and the same as a CSV file."""

    key: str
    layout: TableLayout
    grids: tuple[tuple[Grid, tuple[Column, ...], tuple[tuple[str, int], ...]], ...]
    csv: str  # data URI
    file: str


def block(name: str, table: Table | pd.DataFrame) -> Block:
    """One of the tables."""
    better = table.better if isinstance(table, Table) else {}
    laid_out = lay_out(table) if isinstance(table, Table) else cost_layout(table)
    return as_block(f"table-{name}", laid_out, to_text(table, "csv"), better)


def extra(name: str, laid_out: TableLayout | None) -> Block | None:
    """A table of the runs themselves."""
    return laid_out and as_block(name, laid_out, layout_csv(laid_out), {})


def as_block(key: str, laid_out: TableLayout, csv: str, better: Mapping[str, str | None]) -> Block:
    """A table layout with what the page needs beside it."""
    grids = tuple((grid, tuple(columns(grid, better)), tuple(groups(grid))) for grid in laid_out.grids)
    return Block(key, laid_out, grids, data_uri(csv.encode(), "text/csv;charset=utf-8"), f"{key}.csv")


def columns(grid: Grid, better: Mapping[str, str | None]) -> Iterator[Column]:
    """Numeric is a column with a number in it; the first sorting puts the best on top."""
    for place, (_, heading) in enumerate(grid.columns):
        numeric = any(row[place].value is not None for row in grid.rows)
        first = "descending" if better.get(heading) == "higher" else "ascending"
        yield Column(heading, numeric, first, numeric and any("±" in row[place].text for row in grid.rows))


def groups(grid: Grid) -> Iterator[tuple[str, int]]:
    """(group, number of columns) from left to right; nothing where no column has a group."""
    if any(group for group, _ in grid.columns):
        for group, part in itertools.groupby(grid.columns, key=lambda column: column[0]):
            yield group, len(list(part))


def layout_csv(laid_out: TableLayout) -> str:
    """The grids of a table layout as they are printed; what is folded away is written out."""
    (grid,) = laid_out.grids
    rows = [[cell_text(cell) for cell in row] for row in grid.rows]
    return pd.DataFrame(rows, columns=[heading for _, heading in grid.columns]).to_csv(index=False)


def cell_text(cell: Any) -> Any:
    """A number where there is one, else the text or the details."""
    if details := getattr(cell, "details", ()):
        return ", ".join(f"{name} {value}" for name, value in details)
    return cell.text if cell.value is None else cell.value


# -- the page -------------------------------------------------------------------------------------------------------


def render(**content: Any) -> str:
    """The template with its style and script inside. Everything is escaped but these two and the drawings."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    loader = FileSystemLoader(PAGE)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, keep_trailing_newline=True)  # fmt: skip
    style, script = ((PAGE / name).read_text("utf-8") for name in ("style.css", "script.js"))
    text = environment.get_template("template.html").render(
        style=Markup(style), script=Markup(script), policy=policy(style, script), markup=Markup, **content
    )
    return text.lstrip()  # of the lines that only define macros


def policy(style: str, script: str) -> str:
    """A content policy that allows the page's own style and script, pictures inside it, and nothing else."""
    sources = {"default-src": "'none'", "img-src": "data:", "style-src": _hash(style), "script-src": _hash(script),
               "base-uri": "'none'", "form-action": "'none'"}  # fmt: skip
    return "; ".join(f"{name} {value}" for name, value in sources.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
