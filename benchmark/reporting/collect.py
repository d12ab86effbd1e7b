"""From the rows that jobs leave on disk to one tidy frame: one row per job x checkpoint x score. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from ..files import atomic_write, ensure_dir
from ..job import find_jobs
from ..schema import ResultRow

COLUMNS = list(ResultRow.__annotations__)


def results(out: Path, folders: bool = False) -> pd.DataFrame:
    """All scores of all jobs under an output root, in a fixed order; with `folders`, a last column says whose."""
    rows = ({**row, "folder": str(job.folder)} for job in find_jobs(out) for row in job.rows)
    return tidy(rows, *(["folder"] if folders else []))


def tidy(rows: Iterable[dict[str, Any]], *more: str) -> pd.DataFrame:
    """Result rows as a frame, in a fixed order; `more` names columns beyond those of a result row."""
    frame = pd.DataFrame(list(rows), columns=[*COLUMNS, *more])
    keys = ["dataset", "model", "latent_dim", "seed", "preset", "settings", "hash", "step", "metric", "n_images"]
    return frame.sort_values(keys, kind="stable").reset_index(drop=True)


def write_results(out: Path, frame: pd.DataFrame | None = None) -> Path:
    """Rebuild results.csv atomically, from `frame` if it was just read; FlexbenchError if the folder is read-only."""
    path = ensure_dir(out) / "results.csv"
    atomic_write(path, (results(out) if frame is None else frame).to_csv(index=False))
    return path
