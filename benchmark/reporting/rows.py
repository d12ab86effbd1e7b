"""The result rows that every table, figure and report is made from. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..jobs.results import read_results

Roots = Path | Sequence[Path]  # one output root, or several


def as_roots(roots: Roots) -> tuple[Path, ...]:
    """Return output roots as a tuple."""
    return (Path(roots),) if isinstance(roots, (str, Path)) else tuple(map(Path, roots))


def load_rows(roots: Roots) -> pd.DataFrame:
    """Return all result rows under one output root or several, as a tidy frame.

    The columns are those of a result row, and `folder`: the run folder, empty where it is not there.
    """
    return read_results(as_roots(roots))


def run_file(folder: object, name: str) -> Path | None:
    """Return the path of a file in a run folder; None where the folder is not known or has no such file."""
    path = Path(folder, name) if isinstance(folder, (str, Path)) and str(folder) else None
    return path if path is not None and path.is_file() else None
