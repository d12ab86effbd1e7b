"""Checkpoints that survive a crash, and the file of the trained model.

A checkpoint is written to a temporary file and then renamed. Its name carries the hash of its content. A damaged
checkpoint is recognised by that hash, and the one before it is used.
"""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from ..core.errors import FlexbenchError
from ..core.files import atomic_write
from ..method import Method

KEPT_CHECKPOINTS = 2
log = logging.getLogger(__name__)


def save_checkpoint(folder: Path, phase: int, step: int, state: dict[str, Any]) -> Path:
    """Write `state` (tensors and plain values) as `<phase>-<step>-<sha256[:16]>.pt`; keep only the newest two files."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    path = folder / f"{phase:02d}-{step:09d}-{digest(data)}.pt"
    atomic_write(path, data)
    for old in checkpoints(folder)[KEPT_CHECKPOINTS:]:
        old.unlink()
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the newest intact checkpoint, in CPU memory, or None. Damaged ones are removed. No pickled code is run."""
    for path in checkpoints(folder):
        data = path.read_bytes()
        if digest(data) == path.stem.rsplit("-", 1)[1]:
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        log.warning("checkpoint %s is damaged: using the one before it", path.name)
        path.unlink()  # it would count as the newest when old ones are dropped
    return None


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a job, newest first."""
    return sorted(folder.glob("*-*-*.pt"), reverse=True)


def digest(data: bytes) -> str:
    """Return the first 16 hex digits of the SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def export_weights(method: Method, path: Path) -> None:
    """Write all parameters and buffers to a safetensors file, atomically."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in method.state_dict().items()}
    atomic_write(path, save(state, metadata={"model": method.name}))


def import_weights(method: Method, path: Path) -> Method:
    """Load all parameters and buffers of a new method from a safetensors file, and set the method to eval mode.

    Raises FlexbenchError if names or shapes differ.
    """
    try:
        method.load_state_dict(load_file(path))
    except Exception as error:  # safetensors and torch each raise their own kinds
        reason = str(error).splitlines()[0]
        raise FlexbenchError(f"'{path}' does not hold the weights of this model: {reason}") from error
    return method.eval()
