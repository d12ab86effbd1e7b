"""The tools of all checks: a violation, and a small dataset in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from ..data import Dataset, DatasetInfo, Split


class Violation(AssertionError):
    """A check that does not hold. The message says what is wrong and where."""


def require(holds: bool, message: str) -> None:
    """Raise Violation unless a fact holds."""
    if not holds:
        raise Violation(message)


class Images:
    """64 fixed square pictures of blobs at random places, uint8. It has the interface of a dataset's split."""

    labels = None

    def __init__(self, channels: int = 1, size: int = 8, seed: int = 0):
        rng = np.random.default_rng(seed)
        grid = np.arange(size) * 8 / size
        at, width = rng.uniform(1, 6, (2, 64, 1)), rng.uniform(1, 2, (64, 1, 1))
        y, x = (np.exp(-((grid - a) ** 2)[:, :, None] / width) for a in at)
        blobs = y * x.transpose(0, 2, 1)
        self.all = (255 * blobs[:, None].repeat(channels, 1)).astype(np.uint8)  # [64, C, S, S]

    def __len__(self) -> int:
        return len(self.all)

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the images at `indices`."""
        return self.all[indices]

    def images(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return the images from `start` to `stop`."""
        return self.all[start:stop]


def small_dataset() -> Dataset:
    """Return a dataset of 64 training, 64 validation and 64 test images, 8x8x1, which needs no file."""
    info = DatasetInfo(name="debug", title="Debug", channels=1, size=8, latent_dim=4)
    train, val, test = (cast(Split, Images(seed=seed)) for seed in range(3))
    return Dataset(info, "", (), train, val, test)
