"""The pixels as features."""

from __future__ import annotations

import numpy as np

from ..declaration import FeatureSpace, SpaceInfo, check_images

NAME = "pixels"


class PixelSpace(FeatureSpace):
    """The pixels divided by 255; d = C * H * W."""

    is_pixels = True
    cached = False

    def __init__(self) -> None:
        super().__init__(NAME, {"preprocessing": "x/255"})

    def embed(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, C, H, W] -> float32 [N, C * H * W] in [0, 1]."""
        check_images(images)
        return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


PIXELS = SpaceInfo(NAME, "flattened pixels in [0, 1], no network", None, build=lambda device: PixelSpace())
