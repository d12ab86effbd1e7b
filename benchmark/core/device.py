"""The device that torch runs on, and repeatable arithmetic."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .errors import FlexbenchError

if TYPE_CHECKING:
    import torch


DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`; `auto` is CUDA where torch finds it.

    Raises FlexbenchError for `cuda` where torch finds none.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise FlexbenchError("--device cuda: torch finds no CUDA device. Use --device cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def make_deterministic(threads: int | None = None) -> None:
    """Make torch repeatable: deterministic kernels, no TF32, and a fixed number of threads if one is given."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # `torch.use_deterministic_algorithms` has the same effect, but it imports torch's compiler, which takes seconds.
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if threads is not None:
        torch.set_num_threads(threads)
