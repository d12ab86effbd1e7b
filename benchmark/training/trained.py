"""Load the trained model of a run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.errors import FlexbenchError
from ..jobs.job import Job
from ..method import Method
from ..registry import Registry
from .checkpoint import import_weights


def load_trained(run_dir: str | Path, device: Any = "cpu", include: Iterable[str] = ()) -> Method:
    """Return the trained model of a run, in eval mode. No pickle is read.

    Args:
        run_dir: the run folder, with config.json and model.safetensors.
        device: where the model goes.
        include: files that define models of your own.

    Raises FlexbenchError if the run is not trained.
    """
    job = Job.open(Path(run_dir))
    if not job.trained:
        raise FlexbenchError(f"'{run_dir}' is not trained yet. Go on with the same 'flexbench run' command.")
    registry = Registry.load(include)
    method = job.config.build(registry.get(job.config.model))
    if registry.version(method.name) != job.config.model_version:
        warnings.warn(f"model '{method.name}' has changed since '{run_dir}' was trained with it", stacklevel=2)
    return import_weights(method, job.folder / "model.safetensors").to(device)
