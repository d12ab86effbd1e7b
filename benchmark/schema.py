"""The result row, and what a run records about where it was made. Imports no torch."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict

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


def provenance(device: str, threads: int, dataset_hash: str) -> dict[str, Any]:
    """Where and with what a job runs: commit, versions, hardware, data."""
    packages = ("torch", "torchvision", "numpy", "scikit-learn", "faiss-cpu", "timm", "flexbench")
    return {
        "git": git_commit(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "platform": platform.platform(),
        "processor": _processor(),
        "device": device,
        "threads": threads,
        "dataset_hash": dataset_hash,
    }


@functools.cache
def git_commit() -> str | None:
    """Commit of the source tree that this code runs from, with '+dirty' if files differ; None outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)
        # Results that are written into the tree do not make the code another one.
        changed = git("status", "--porcelain", "-uno", "--", ":/", ":!/results")
        return git("rev-parse", "HEAD") + ("+dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name as Linux gives it, else what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
