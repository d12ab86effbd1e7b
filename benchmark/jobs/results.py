"""From the rows that jobs leave on disk to one tidy frame: one row per job x checkpoint x score. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from ..core.files import atomic_write, ensure_dir
from .job import find_jobs

LAST = "last"  # the checkpoint at the end of training


class ResultRow(TypedDict):
    """One row of metrics.jsonl and of results.csv: one score of one checkpoint of one job. It stands alone."""

    protocol: int  # version of the evaluation protocol
    model: str  # name as typed
    title: str  # name as printed
    dataset: str
    latent_dim: int  # m
    seed: int
    preset: str  # with what was changed of it, e.g. "cpu[steps=500]"
    settings: str  # the model's knobs that differ from their defaults, e.g. "beta=2.0"
    hash: str  # of the job's configuration
    variant: str  # the same without the seed: rows that share it are repetitions
    checkpoint: str  # "last", or "step 500" for a snapshot
    step: int  # outer steps of the last phase of training
    metric: str  # full name with the protocol, e.g. "gen_fd10k_test@efficientnet_lite0@128"
    family: str  # e.g. "gen_fd"
    value: float
    se: float | None  # standard error over repetitions inside the metric, not over seeds
    n_images: int  # images on each side of the comparison
    space: str | None  # feature space
    fingerprint: str | None  # weights, input size and resizing of the feature space
    dataset_hash: str  # content hash of the prepared dataset
    images_seen: int  # drawn in training, over all phases
    optimizer_steps: int  # over all optimizers and phases
    train_seconds: float  # wall time
    parameters: int  # trainable values
    train_flops: float  # forward and backward, all steps and phases
    git: str | None  # commit of the source tree, "+dirty" where it was changed


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
