"""Digits: the 1,797 real 8x8 digits that ship with scikit-learn."""

from __future__ import annotations

import numpy as np

from .declaration import DatasetInfo
from .source import TEST, TRAIN, Content, Source, chunked


class DigitsSource(Source):
    """Optical digits of the UCI repository. Every fourth image is a test image."""

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


DIGITS = DatasetInfo(
    name="digits",
    title="Optical digits",
    channels=1,
    size=8,
    latent_dim=16,
    splits="1,348 train / 449 test",
    licence="CC BY 4.0",
    source="https://archive.ics.uci.edu/dataset/80",
    note="It ships with scikit-learn and needs no download. Every fourth image is a test image.",
    content_hash="eeeea5fc11f149e6c53f6e79c9a096ef19f3e98aad98ef99c8063ace86bef754",
    open=lambda info, data_dir, download: DigitsSource(info),
)
