"""What a figure is, what it is made from, and how it is written. Imports neither torch nor matplotlib nor pandas."""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Callable, Iterable
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

FORMATS = ("pdf", "svg", "png")  # beside the CSV, which is always written
DPI = 150  # of PNG files


@dataclass(frozen=True)
class Query:
    """Which results a figure is made of. `preset`, `space` and `images` choose as in tables, where they must."""

    out: Path  # output root
    models: str | None = None  # names and globs, comma-separated; None: all that have results
    preset: str | None = None
    space: str | None = None
    images: int | None = None
    data_dir: Path | None = None  # raw files of datasets; like the two below only for figures that need the models
    device: str = "cpu"  # or cuda, or auto
    include: tuple[str, ...] = ()  # files that define models of the user's own

    @cached_property
    def results(self) -> pd.DataFrame:
        """All scores of the models asked for, with the `folder` of each job; FlexbenchError for a model without any."""
        from ...jobs.results import read_results
        from ..tables import NOTHING

        rows = read_results(self.out)
        if rows.empty:
            raise FlexbenchError(NOTHING)
        return rows if self.models is None else rows[rows.model.isin(_matching(self.models, sorted(set(rows.model))))]


def _matching(patterns: str, present: list[str]) -> set[str]:
    """Those of `present` that a comma-separated list of names and globs means; each pattern must mean one."""
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
    caption: str  # the protocol in words
    frame: pd.DataFrame  # what is drawn, in long form
    draw: Callable[[], Figure]  # anew at each call; to be shown or saved within `style.house()`


def save(plot: Plot, folder: Path, formats: Iterable[str] = FORMATS) -> list[Path]:
    """Write `<name>.<format>` for each format and `<name>.csv`; returns the paths.

    The same plot gives the same bytes: no dates, no random ids. Title and caption go into the files' metadata, so
    that a picture that is passed on says what it shows.
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
    """The plot drawn once, as the content of a file of each format."""
    with style.house():
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
