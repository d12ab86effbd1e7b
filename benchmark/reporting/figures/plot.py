"""A figure: the results that it is made from, and how it is drawn and saved. Imports no torch, matplotlib or pandas."""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import FlexbenchError, unknown
from ...core.files import atomic_write, ensure_dir
from . import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMATS = ("pdf", "svg", "png")  # the CSV is always written too
DPI = 150  # of PNG files


@dataclass(frozen=True)
class Query:
    """The results that a figure is made from. `preset`, `space` and `images` choose among them as in `tables.make`."""

    out: Path | Sequence[Path]  # output root, or several
    models: str | None = None  # names and globs, comma-separated; None: all models with results
    preset: str | None = None
    space: str | None = None
    images: int | None = None
    data_dir: Path | None = None  # raw files of datasets; this and the next two: for figures that run models
    device: str = "cpu"  # or cuda, or auto
    include: tuple[str, ...] = ()  # files that define models of the user's own

    @cached_property
    def results(self) -> pd.DataFrame:
        """The result rows of the chosen models, see `rows.load_rows`; FlexbenchError for a model without any."""
        from ..rows import load_rows
        from ..selection import NOTHING_RAN

        rows = load_rows(self.out)
        if rows.empty:
            raise FlexbenchError(NOTHING_RAN)
        return rows if self.models is None else rows[rows.model.isin(_matching(self.models, sorted(set(rows.model))))]

    @property
    def roots(self) -> tuple[Path, ...]:
        """The output roots."""
        return (self.out,) if isinstance(self.out, Path) else tuple(self.out)

    @property
    def place(self) -> str:
        """The output roots as messages name them."""
        return ", ".join(f"'{root}'" for root in self.roots)


def _matching(patterns: str, present: list[str]) -> set[str]:
    """Return the names in `present` that match a comma-separated list of names and globs.

    Raises FlexbenchError for a pattern without a match.
    """
    found: set[str] = set()
    for pattern in filter(None, (p.strip() for p in patterns.split(","))):
        hits = fnmatch.filter(present, "*" if pattern == "all" else pattern)
        if not hits:
            raise unknown("model with results", pattern, present, "See 'flexbench ls runs'.")
        found.update(hits)
    return found


@dataclass(frozen=True)
class Plot:
    """One figure, not yet drawn."""

    name: str  # stem of its files
    title: str
    caption: str  # how to read the figure, and the protocol
    frame: pd.DataFrame  # what is drawn, in long form
    draw: Callable[[], Figure]  # draws a new figure; call it, and show or save the figure, within `style.applied()`


def save(plot: Plot, folder: Path, formats: Iterable[str] = FORMATS) -> list[Path]:
    """Write `<name>.<format>` for each format, and `<name>.csv`. Return the paths.

    The same plot gives the same bytes: there are no dates and no random ids. Each file has title and caption in its
    metadata.
    """
    ensure_dir(folder)
    paths = []
    for kind, content in zip(formats, rendered(plot, formats), strict=True):
        paths.append(folder / f"{plot.name}.{kind}")
        atomic_write(paths[-1], content)
    paths.append(folder / f"{plot.name}.csv")
    atomic_write(paths[-1], plot.frame.to_csv(index=False))
    return paths


def rendered(plot: Plot, formats: Iterable[str]) -> list[bytes]:
    """Draw the plot once. Return the content of a file for each format."""
    with style.applied():
        figure = plot.draw()
        return [_rendered(figure, kind, plot) for kind in formats]


def _rendered(figure: Figure, kind: str, plot: Plot) -> bytes:
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"Title": plot.title, "Subject": plot.caption, "CreationDate": None},
        "svg": {"Title": plot.title, "Description": plot.caption, "Date": None},
        "png": {"Title": plot.title, "Description": plot.caption},
    }
    if kind not in metadata:
        raise unknown("format", kind, metadata)
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=DPI, metadata=metadata[kind])
    return content.getvalue()
