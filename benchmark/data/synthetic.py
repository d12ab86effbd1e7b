"""Vectors drawn from a known latent space by a random network: the data of the paper's Figures 2 and 3.

    x = f(z) scaled,   f: n -> 64 tanh -> 64 tanh -> 128 linear, with random weights

`synthetic-r5` draws z from N(0, I) in five dimensions. `synthetic-mog` draws z in the plane from eight narrow modes
on a circle. The paper fixes n, the 128 dimensions and that f is a random network. The distributions and f are choices
of this suite. Each dimension is centred, and all of them are divided by one number, so distances keep their
proportions. Values are rounded to multiples of 2^-12, because the last bits of tanh differ between machines; this is
far below any measured quantity.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.seeding import derive
from .declaration import DatasetInfo, LatentModes
from .source import TEST, TRAIN, Content, Source, chunked

DIM = 128  # numbers in a vector
COUNTS = (50_000, 10_000)  # training, test
UNITS = 64
MODES = 8
RADIUS = 2.0  # of the circle on which the modes of the mixture stand
STD = 0.15  # of each mode
STEP = 2.0**-12


class SyntheticSource(Source):
    """Vectors drawn on demand. The labels are their latents; where there are modes, the mode stands first."""

    def load(self) -> Content:
        draw, n = DRAW[self.info.name], self.info.true_dim or 0
        labels = np.concatenate([draw(split, count) for split, count in zip((TRAIN, TEST), COUNTS, strict=True)])
        names = [f"z{i + 1}" for i in range(n)]
        vectors = embed(labels[:, -n:], self.info.name)
        return Content(
            channels=DIM,
            size=1,
            splits=np.repeat(np.array([TRAIN, TEST], np.uint8), COUNTS),
            chunks=chunked(vectors[:, :, None, None]),
            labels=labels,
            label_names=["mode", *names][-labels.shape[1] :],
            dtype=np.float32,
        )


def draw_normal(split: int, count: int) -> np.ndarray:
    """Return the latents of a split of 'synthetic-r5', float32 [count, 5]."""
    return np.random.default_rng(derive(0, "synthetic-r5", split)).standard_normal((count, 5)).astype(np.float32)


def draw_mixture(split: int, count: int) -> np.ndarray:
    """Return mode and latents of a split of 'synthetic-mog', float32 [count, 3]. All modes are equally likely."""
    rng = np.random.default_rng(derive(0, "synthetic-mog", split))
    mode = rng.integers(0, MODES, count)
    z = mode_centres()[mode] + STD * rng.standard_normal((count, 2))
    return np.concatenate([mode[:, None], z], axis=1).astype(np.float32)


def mode_centres() -> np.ndarray:
    """Return the centres of the modes of 'synthetic-mog' in its latent space, [8, 2]."""
    angles = np.arange(MODES) * (2 * np.pi / MODES)
    return RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def embed(z: np.ndarray, name: str) -> np.ndarray:
    """Return the vectors of a dataset that latents [N, n] are mapped to, float32 [N, 128]."""
    z_train = DRAW[name](TRAIN, COUNTS[0])[:, -z.shape[1] :]
    train = _network(z_train, name)
    mean = train.mean(0)
    scaled = (_network(z, name) - mean) / (train - mean).std()
    return (np.round(scaled / STEP) * STEP).astype(np.float32)


def _network(z: np.ndarray, name: str) -> np.ndarray:
    """Apply f, [N, n] -> [N, 128].

    Weights are drawn from N(0, 2^2 / fan_in) and biases from N(0, 0.5^2). The last layer has weights from
    N(0, 1 / fan_in) and no biases.
    """
    rng, z = np.random.default_rng(derive(0, name, "network")), z.astype(np.float64)
    for _ in range(2):
        weights = rng.normal(0, 2 / np.sqrt(z.shape[1]), (z.shape[1], UNITS))
        z = np.tanh(z @ weights + rng.normal(0, 0.5, UNITS))
    return z @ rng.normal(0, 1 / np.sqrt(UNITS), (UNITS, DIM))


DRAW = {"synthetic-r5": draw_normal, "synthetic-mog": draw_mixture}


R5 = DatasetInfo(
    name="synthetic-r5",
    title="Synthetic R^5",
    channels=DIM,
    size=1,
    latent_dim=50,
    splits="50,000 train / 10,000 test",
    licence="MIT, as flexbench",
    source="drawn by flexbench",
    note="Vectors instead of images: a random network maps a normal distribution in R^5 to them (the paper's "
    "Figure 2).",
    content_hash="542caebea85dbe8b6528f2ea269b2c2cffe9be61fc20d5621287c726f6a92dd0",
    true_dim=5,
    open=lambda info, data_dir, download: SyntheticSource(info),
)

MIXTURE = replace(
    R5,
    name="synthetic-mog",
    title="Synthetic mixture",
    latent_dim=2,
    note="Vectors instead of images: a random network maps a mixture of 8 Gaussians in R^2 to them (the paper's "
    "Figure 3).",
    content_hash="81e6d01818304c27352c76832acafbf1625756f615d0e8e78b3232c296427ce3",
    true_dim=2,
    modes=LatentModes(mode_centres(), STD, lambda z: embed(z, "synthetic-mog")),
)
