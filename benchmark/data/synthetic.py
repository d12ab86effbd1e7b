"""Vectors drawn from a known latent space by a random network: the data of the paper's Figures 2 and 3.

    x = f(z) scaled,   f: n -> 64 tanh -> 64 tanh -> 128 linear, with random weights

`synthetic-r5` has z ~ N(0, I) in five dimensions; `synthetic-mog` has z in the plane, from eight narrow modes on a
circle. Distributions and f are choices of this suite; the paper fixes n, the 128 dimensions and that f is a random
network. The data are centred per dimension and divided by one number, so that distances keep their proportions.
Values are rounded to multiples of 2^-12, far below anything that is measured, because the last bits of tanh differ
between machines.
"""

from __future__ import annotations

import numpy as np

from ..core.seeding import derive
from .source import TEST, TRAIN, Content, Source, chunked

DIM = 128  # numbers in a vector
COUNTS = (50_000, 10_000)  # training, test
UNITS = 64
MODES = 8
RADIUS = 2.0  # of the circle on which the modes of the mixture stand
STD = 0.15  # of each mode
STEP = 2.0**-12


class SyntheticSource(Source):
    """Vectors drawn on demand; the labels are their latents, the mode first where there are modes."""

    def load(self) -> Content:
        draw, n = DRAW[self.info.name], self.info.true_dim
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
    """Latents of a split of 'synthetic-r5', float32 [count, 5]."""
    return np.random.default_rng(derive(0, "synthetic-r5", split)).standard_normal((count, 5)).astype(np.float32)


def draw_mixture(split: int, count: int) -> np.ndarray:
    """Mode and latents of a split of 'synthetic-mog', float32 [count, 3]; all modes are equally likely."""
    rng = np.random.default_rng(derive(0, "synthetic-mog", split))
    mode = rng.integers(0, MODES, count)
    z = mode_centres()[mode] + STD * rng.standard_normal((count, 2))
    return np.concatenate([mode[:, None], z], axis=1).astype(np.float32)


def mode_centres() -> np.ndarray:
    """Centres of the modes of 'synthetic-mog' in its latent space, [8, 2]."""
    angles = np.arange(MODES) * (2 * np.pi / MODES)
    return RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def embed(z: np.ndarray, name: str) -> np.ndarray:
    """The vectors of a dataset that latents [N, n] stand for, float32 [N, 128]."""
    z_train = DRAW[name](TRAIN, COUNTS[0])[:, -z.shape[1] :]
    train = _network(z_train, name)
    mean = train.mean(0)
    scaled = (_network(z, name) - mean) / (train - mean).std()
    return (np.round(scaled / STEP) * STEP).astype(np.float32)


def _network(z: np.ndarray, name: str) -> np.ndarray:
    """f, [N, n] -> [N, 128].

    Weights are N(0, 2^2 / fan_in) and biases N(0, 0.5^2); in the last layer N(0, 1 / fan_in) and none.
    """
    rng, z = np.random.default_rng(derive(0, name, "network")), z.astype(np.float64)
    for _ in range(2):
        weights = rng.normal(0, 2 / np.sqrt(z.shape[1]), (z.shape[1], UNITS))
        z = np.tanh(z @ weights + rng.normal(0, 0.5, UNITS))
    return z @ rng.normal(0, 1 / np.sqrt(UNITS), (UNITS, DIM))


DRAW = {"synthetic-r5": draw_normal, "synthetic-mog": draw_mixture}
