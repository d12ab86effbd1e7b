"""Read a folder of images, to score them as generated images."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from ..core.errors import FlexbenchError
from ..data.folder import SUFFIXES, decode, square


def read_images(folder: Path, channels: int, size: int, limit: int) -> np.ndarray:
    """Read at most `limit` images below a folder, in the order of their names: uint8 [n, channels, size, size].

    Images of another shape are cropped at the centre and resized; one warning counts them. Unreadable files are left
    out; one warning names them. Raises FlexbenchError if the folder does not exist, or if fewer than two images can be
    read.
    """
    if not folder.is_dir():
        raise FlexbenchError(
            f"there is no folder '{folder}'. Give a run (see 'flexbench ls runs') or a folder of images."
        )
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())[:limit]
    images, resized, broken = [], 0, []
    for path in paths:
        try:
            image = decode(path)
        except Exception:  # Pillow raises exceptions of many classes for damaged files
            broken.append(path.name)
            continue
        resized += image.size != (size, size)
        images.append(square(image, "L" if channels == 1 else "RGB", size))
    if len(images) < 2:
        raise FlexbenchError(f"'{folder}' holds {len(images)} readable images; at least 2 are needed to score them.")
    if broken:
        warnings.warn(f"{len(broken)} unreadable image(s) left out: {', '.join(broken[:10])}", stacklevel=2)
    if resized:
        warnings.warn(f"{resized} of {len(images)} images were cropped and resized to {size}x{size}", stacklevel=2)
    return np.stack(images)
