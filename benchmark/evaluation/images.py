"""From the floats of a network to the 8-bit pictures that are scored and saved."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import FlexbenchError
from ..core.files import atomic_write, ensure_dir

if TYPE_CHECKING:
    import torch

GAP = 2  # pixels between and around the images of a grid
LIGHT = 230  # grey level of the gaps
COMFORTABLE = 48  # least size in pixels of an image in a grid


def to_uint8(x: torch.Tensor) -> np.ndarray:
    """Convert float images [N, C, H, W] to uint8: clamped to [0, 1], times 255, rounded half to even.

    Every image is scored as this 8-bit picture, which is the one a user would save. Raises FlexbenchError for NaN and
    for integer images, which are 8-bit already or on another scale.
    """
    if not x.is_floating_point() or x.ndim != 4:
        raise FlexbenchError(f"expected float images [N, C, H, W] in [0, 1], got {x.dtype} {tuple(x.shape)}.")
    if x.isnan().any():
        raise FlexbenchError("the images contain NaN: the model has diverged. Try a smaller learning rate.")
    return x.detach().float().clamp(0, 1).mul(255).round().byte().cpu().numpy()


def as_stored(x: torch.Tensor) -> np.ndarray:
    """Convert a model's output to the form of its stored data: 8-bit images, or vectors float32 [N, D, 1, 1].

    Raises FlexbenchError for vectors that hold NaN or infinity, and what `to_uint8` raises.
    """
    if x.shape[2:] != (1, 1):
        return to_uint8(x)
    if not x.isfinite().all():
        raise FlexbenchError("the vectors are not finite: the model has diverged. Try a smaller learning rate.")
    return x.detach().float().cpu().numpy()


def save_grid(images: np.ndarray, path: str | Path, columns: int | None = None, scale: int | None = None) -> None:
    """Write uint8 images [N, C, H, W], C = 1 or 3, as one PNG, row by row with light gaps.

    Args:
        columns: images in a row. By default the grid is as square as possible.
        scale: whole factor by which pixels are repeated. By default the longer side gets at least 48 pixels.
    """
    canvas = grid(images, columns, scale)
    ensure_dir(Path(path).absolute().parent)
    atomic_write(Path(path), _png(canvas))


def grid(images: np.ndarray, columns: int | None = None, scale: int | None = None) -> np.ndarray:
    """Return the picture that `save_grid` writes, uint8 [H', W', C]."""
    return _grid(_enlarged(images, scale), columns or math.ceil(math.sqrt(len(images))))


def rows_of(height: int, size: int) -> int:
    """Return the number of rows of a grid of this height, for images `size` pixels high and the default scale."""
    return (height - GAP) // (size * math.ceil(COMFORTABLE / size) + GAP)


def save_images(images: np.ndarray, folder: str | Path) -> None:
    """Write uint8 images [N, C, H, W] as 00000.png, 00001.png, ... at their own size."""
    images = _enlarged(images, scale=1)
    ensure_dir(Path(folder))
    for i, image in enumerate(images):
        atomic_write(Path(folder, f"{i:05d}.png"), _png(image.transpose(1, 2, 0)))


def _png(image: np.ndarray) -> bytes:
    """uint8 [H, W, 1 or 3] -> a PNG file."""
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(png, format="PNG")
    return png.getvalue()


def _enlarged(images: np.ndarray, scale: int | None) -> np.ndarray:
    if images.shape[2:] == (1, 1):
        raise FlexbenchError("vectors have no picture; in Python, flexbench.load(RUN).sample(n) draws vectors.")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
        raise FlexbenchError(f"a grid needs uint8 images [N, 1 or 3, H, W], got {images.dtype} {images.shape}.")
    scale = scale or math.ceil(COMFORTABLE / max(images.shape[2:]))
    return images.repeat(scale, axis=2).repeat(scale, axis=3)


def _grid(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 [N, C, H, W] -> one picture [H', W', C]."""
    n, channels, height, width = images.shape
    down, right = height + GAP, width + GAP
    canvas = np.full((-(-n // columns) * down + GAP, columns * right + GAP, channels), LIGHT, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * down + GAP, i % columns * right + GAP
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas
