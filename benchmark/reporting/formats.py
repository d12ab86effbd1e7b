"""A laid-out table as GitHub Markdown, LaTeX (booktabs), HTML or CSV. Imports no torch."""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd

from ..core.files import atomic_write, ensure_dir
from . import ranking
from .layout import Cell, Grid, TableLayout, cost_layout, lay_out, mark_of
from .tables import Table


def to_text(table: Table | pd.DataFrame, style: str) -> str:
    """Return a table, or the frame of `tables.cost`, as `md`, `latex`, `html` or `csv`."""
    if style == "csv":
        return table.reset_index().to_csv(index=False) if isinstance(table, pd.DataFrame) else to_csv(table)
    return STYLES[style](cost_layout(table) if isinstance(table, pd.DataFrame) else lay_out(table))


# -- Markdown -----------------------------------------------------------------------------------------------------


def to_markdown(layout: TableLayout) -> str:
    """Return GitHub tables under a bold name."""
    lines = [f"**{layout.name}.** {layout.title}", ""]
    for grid in layout.grids:
        header = [f"{group} {heading}".strip() for group, heading in _column_headings(layout, grid)]
        lines += [_md_row(header), "|" + "---|" * grid.text_columns + "---:|" * (len(header) - grid.text_columns)]
        lines += [_md_row(map(_md_cell, row)) for row in grid.rows]
        lines.append("")
    return "\n".join([*lines, *([layout.caption, ""] if layout.caption else [])])


def _md_row(cells) -> str:
    return "| " + " | ".join(cells) + " |"


def _md_cell(cell: Cell) -> str:
    text = re.sub(r"[\\`*|]|](?=\()", r"\\\g<0>", " ".join(cell.text.split())).replace("<", "&lt;")
    return {"best": f"**{text}**", "second": f"<ins>{text}</ins>", "": text}[cell.mark]


def _column_headings(layout: TableLayout, grid: Grid) -> list[tuple[str, str]]:
    """Return the columns. In a wide table of one dataset, the headings do not repeat the dataset."""
    one_dataset = len(layout.grids) == 1 and len(grid.columns) > 6 and len({g for g, _ in grid.columns if g}) == 1
    return [("" if one_dataset else group, heading) for group, heading in grid.columns]


# -- LaTeX --------------------------------------------------------------------------------------------------------

_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "²": r"$^2$",
        "[": "{[}", **{c: "\\" + c for c in "&%$#_{}"}}  # fmt: skip


def escape_latex(text: str) -> str:
    """Escape the characters that are commands in LaTeX, and '<' and '>', which old fonts lack.

    An opening bracket is escaped too: at the start of a row LaTeX would read it as an option of the line break before.
    """
    return re.sub(r"[\\~^±²&%$#_{}<>[]", lambda m: _TEX.get(m[0], f"${m[0]}$"), text)


def to_latex(layout: TableLayout) -> str:
    """Return one `table` environment per grid, for a document that loads booktabs and graphicx. Wide tables shrink."""
    return "\n".join(_latex_grid(layout, grid) for grid in layout.grids)


def _latex_grid(layout: TableLayout, grid: Grid) -> str:
    columns = _column_headings(layout, grid)
    body = [_tex_row(map(_tex_cell, row)) for row in grid.rows]
    if grid.references:
        body.insert(len(body) - grid.references, r"\midrule")
    return "\n".join([
        r"\begin{table}", r"\centering",
        r"\caption{" + escape_latex(f"{layout.name}. {layout.title}. {layout.caption}".strip()) + "}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        r"\begin{tabular}{" + "l" * grid.text_columns + "r" * (len(columns) - grid.text_columns) + "}", r"\toprule",
        *_tex_header(columns), r"\midrule", *body, r"\bottomrule", r"\end{tabular}}", r"\end{table}", "",
    ])  # fmt: skip


def _tex_header(columns: list[tuple[str, str]]) -> list[str]:
    """Return the headings, below a row of datasets if the columns have groups."""
    lines = []
    if any(group for group, _ in columns):
        spans = [(group, len(list(cells))) for group, cells in itertools.groupby(columns, key=lambda c: c[0])]
        lines.append(_tex_row(rf"\multicolumn{{{n}}}{{c}}{{{escape_latex(group)}}}" for group, n in spans))
        ends = list(itertools.accumulate(n for _, n in spans))
        lines += [rf"\cmidrule(lr){{{end - n + 1}-{end}}}" for (g, n), end in zip(spans, ends, strict=True) if g]
    return [*lines, _tex_row(escape_latex(heading) for _, heading in columns)]


def _tex_row(cells) -> str:
    return " & ".join(cells) + r" \\"


def _tex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    return {"best": rf"\textbf{{{text}}}", "second": rf"\underline{{{text}}}", "": text}[cell.mark]


# -- HTML ---------------------------------------------------------------------------------------------------------


def to_html(layout: TableLayout) -> str:
    """Return a `<table>` per grid, with all texts escaped. Cells carry the number that they sort by."""
    return "\n".join(_html_grid(layout, grid) for grid in layout.grids)


def _html_grid(layout: TableLayout, grid: Grid) -> str:
    header = "".join(f'<th scope="col">{html.escape(f"{group} {heading}".strip())}</th>'
                     for group, heading in _column_headings(layout, grid))  # fmt: skip
    models = len(grid.rows) - grid.references
    rows = ["<tr>" + "".join(map(_html_cell, row, range(len(row)))) + "</tr>" for row in grid.rows]
    return "\n".join([
        "<table>", f"<caption><b>{html.escape(layout.name)}.</b> {html.escape(layout.title)}</caption>",
        f"<thead><tr>{header}</tr></thead>", "<tbody>", *rows[:models], "</tbody>",
        *(["<tfoot>", *rows[models:], "</tfoot>"] if grid.references else []), "</table>",
        *([f"<p>{html.escape(layout.caption)}</p>"] if layout.caption else []), "",
    ])  # fmt: skip


def _html_cell(cell: Cell, column: int) -> str:
    text = html.escape(cell.text)
    text = {"best": f"<b>{text}</b>", "second": f"<u>{text}</u>", "": text}[cell.mark]
    if column == 0:
        return f'<th scope="row">{text}</th>'
    value = "" if cell.value is None else f' data-value="{cell.value:.10g}"'
    return f"<td{value}>{text}</td>"


STYLES: dict[str, Callable[[TableLayout], str]] = {"md": to_markdown, "latex": to_latex, "html": to_html}


# -- CSV ----------------------------------------------------------------------------------------------------------


def to_csv(table: Table) -> str:
    """Return the long form: table, model, dataset, score, mean, std, seeds, rank (1 is best), mark (best or second).

    Table 4 has the column verdict too.
    """
    rows = []
    for dataset, heading in table.columns:
        order = ranking.rank_column(table, (dataset, heading))
        for row in table.frame.index:
            mean, std, seeds = (part.loc[row, (dataset, heading)] for part in (table.frame, table.std, table.count))
            rank = None if order.ranks is None else order.ranks.get(row)
            verdict = table.verdicts.get(dataset, {}).get(row, "")
            rows.append((table.number, row, dataset, heading, mean, std, seeds, rank, mark_of(order, row), verdict))
    names = ["table", "model", "dataset", "score", "mean", "std", "seeds", "rank", "mark", "verdict"]
    frame = pd.DataFrame(rows, columns=names)
    return (frame if table.verdicts else frame.drop(columns="verdict")).to_csv(index=False)


SUFFIXES = {"md": "md", "csv": "csv", "latex": "tex", "html": "html"}


def write(tables: Mapping[str, Table | pd.DataFrame], styles: Iterable[str], folder: Path) -> list[Path]:
    """Write each table in each style to `table<name>.<suffix>` in a folder. Return the paths."""
    ensure_dir(folder)
    paths = []
    for (name, table), style in itertools.product(tables.items(), styles):
        paths.append(folder / f"table{name if name.isdigit() else '-' + name}.{SUFFIXES[style]}")
        atomic_write(paths[-1], to_text(table, style))
    return paths
