"""The provenance of a run: commit, versions, hardware, data. Imports no torch."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any


def provenance(device: str, threads: int, dataset_hash: str) -> dict[str, Any]:
    """Return the commit, versions, hardware and data that a job runs with."""
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
    """Return the commit of the source tree of this code, with '+dirty' if files differ; None outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)
        # Results that are written into the tree do not change the code.
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
    """Return the processor's name from Linux, else from Python."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
