"""Which device torch runs on, and how to make it repeatable."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .errors import FlexbenchError

if TYPE_CHECKING:
    import torch


DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU; FlexbenchError for `cuda` without one."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise FlexbenchError("--device cuda: torch finds no CUDA device. Use --device cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def make_deterministic(threads: int | None = None) -> None:
    """Make torch repeatable: deterministic kernels, no TF32, and a fixed number of threads where it is given."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("warn")  # the other name of this setting imports the compiler: seconds
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    if threads is not None:
        torch.set_num_threads(threads)
