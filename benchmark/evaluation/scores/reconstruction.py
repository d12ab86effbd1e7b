"""The squared error of reconstructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..references import ImageSet, References


def squared_error(images: ImageSet, references: References) -> float:
    """Mean squared error per value of the reconstructions of the test images, with pixels in [0, 1], or of vectors."""
    unit = 255 if references.dataset.info.are_images else 1
    error = np.square((images.images.astype(np.float32) - references.test.images) / unit)
    return float(error.mean(dtype=np.float64))
