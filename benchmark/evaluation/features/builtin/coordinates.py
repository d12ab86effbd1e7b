"""Vectors as their own features."""

from __future__ import annotations

import numpy as np

from ....core.errors import FlexbenchError
from ..declaration import FeatureSpace, SpaceInfo

NAME = "coordinates"


class VectorSpace(FeatureSpace):
    """Vectors without any change: float32 [N, D, 1, 1] -> float32 [N, D]."""

    cached = False

    def __init__(self) -> None:
        super().__init__(NAME, {"preprocessing": "none"})

    def embed(self, images: np.ndarray) -> np.ndarray:
        """float32 vectors [N, D, 1, 1] -> float32 [N, D]. Raises FlexbenchError for anything else."""
        if images.dtype != np.float32 or images.shape[2:] != (1, 1):
            raise FlexbenchError(f"'{NAME}' needs float32 vectors, got {images.dtype} {images.shape}.")
        return images.reshape(len(images), -1)


COORDINATES = SpaceInfo(
    NAME,
    "the numbers of a vector, unchanged; only for data that are vectors and not images",
    None,
    build=lambda device: VectorSpace(),
    for_vectors=True,
)
