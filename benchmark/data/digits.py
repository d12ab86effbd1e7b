"""The 1,797 real 8x8 digits that ship with scikit-learn."""

from __future__ import annotations

import numpy as np

from .source import TEST, TRAIN, Content, Source, chunked


class DigitsSource(Source):
    """Optical digits of the UCI repository; every fourth image is a test image."""

    def load(self) -> Content:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, None]  # published values are 0..16
        is_test = np.arange(len(images)) % 4 == 3
        return Content(
            channels=1,
            size=8,
            splits=np.where(is_test, TEST, TRAIN).astype(np.uint8),
            chunks=chunked(images),
            labels=digits.target.astype(np.int64),
            label_names=[str(name) for name in digits.target_names],
        )
