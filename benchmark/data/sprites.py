"""Sprites: coloured shapes drawn from known factors, so the true latent dimension is known.

Shapes are drawn from their signed distance, which gives each pixel its covered share (antialiasing). Drawing is done
in float64: the last bits of sine and cosine differ between machines, and in float32 that would change some pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..core.errors import FlexbenchError
from ..core.seeding import derive
from .declaration import DatasetInfo
from .source import TEST, TRAIN, Content, Source, chunked

SIZE = 32
SHAPES = ("square", "ellipse", "heart")
# Training images: at least 20, so that no split is empty; at most 10 million, so that a slip does not fill the disk.
_RANGE = (20, 10_000_000)
_BLOCK_IMAGES = 1000  # one generator per block, so that image i is the same in 'sprites:2000' and in 'sprites'

#: Range of each factor, in the order of the labels. Lengths are in units of half the image's side, the origin is the
#: image's centre, x grows to the right and y downwards. A quarter turn is all that a square shows of its rotation.
FACTORS = {
    "shape": (0, 3),
    "hue": (0.0, 1.0),
    "scale": (0.25, 0.45),
    "rotation": (0.0, np.pi / 2),
    "x": (-0.5, 0.5),
    "y": (-0.5, 0.5),
}


class SpritesSource(Source):
    """Sprites drawn on demand; the factors are the labels."""

    def load(self) -> Content:
        counts = train_count, test_count = count_images(self.info.name)
        labels = np.concatenate([draw_factors(TRAIN, train_count), draw_factors(TEST, test_count)])
        return Content(
            channels=3,
            size=SIZE,
            splits=np.repeat(np.array([TRAIN, TEST], np.uint8), counts),
            chunks=(draw_sprites(factors) for factors in chunked(labels)),
            labels=labels,
            label_names=tuple(FACTORS),
        )


def draw_factors(split: int, count: int, seed: int = 0) -> np.ndarray:
    """The first `count` rows of the factors of a split: float32 [count, 6], columns as in FACTORS."""
    blocks = [_factor_block(split, start // _BLOCK_IMAGES, seed) for start in range(0, count, _BLOCK_IMAGES)]
    return np.concatenate(blocks)[:count]


def _factor_block(split: int, block: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(derive(seed, "sprites", split, block))
    low, high = np.array(list(FACTORS.values())).T
    factors = generator.uniform(low, high, size=(_BLOCK_IMAGES, len(FACTORS)))
    factors[:, 0] = np.floor(factors[:, 0])
    return factors.astype(np.float32)


def draw_sprites(factors: np.ndarray) -> np.ndarray:
    """Draw one sprite per row of `factors` [N, 6] on black: uint8 [N, 3, 32, 32]."""
    shape, hue, scale, rotation, x, y = (column[:, None, None] for column in factors.astype(np.float64).T)
    centres = (np.arange(SIZE) + 0.5) * (2 / SIZE) - 1
    right, down = centres[None, None, :] - x, centres[None, :, None] - y
    cos, sin = np.cos(rotation) / scale, np.sin(rotation) / scale
    u, v = right * cos + down * sin, down * cos - right * sin  # in the frame of a shape of scale 1
    distance = np.empty_like(u)
    for code, signed_distance in enumerate(_DISTANCES):
        rows = shape[:, 0, 0] == code
        distance[rows] = signed_distance(u[rows], v[rows])
    covered = np.clip(0.5 - distance * scale * (SIZE / 2), 0, 1)  # distance from the edge in pixels
    return np.round(covered[:, None] * _hue_to_rgb(hue[:, 0, 0])[:, :, None, None] * 255).astype(np.uint8)


def _hue_to_rgb(hue: np.ndarray) -> np.ndarray:
    """Fully saturated bright colours [N, 3] in [0, 1] for hues [N] in [0, 1): HSV with S = V = 1."""
    ramp = (hue[:, None] * 6 + np.array([0, 4, 2])) % 6
    return np.clip(np.abs(ramp - 3) - 1, 0, 1)


# Signed distances to shapes of scale 1: negative inside, each centred on its centre of mass, each in the unit disc.


def _square(u: np.ndarray, v: np.ndarray, half_side: float = 0.5**0.5) -> np.ndarray:
    right, down = np.abs(u) - half_side, np.abs(v) - half_side
    return np.hypot(np.maximum(right, 0), np.maximum(down, 0)) + np.minimum(np.maximum(right, down), 0)


def _ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Half-axes 1 and 1/2; distance to first order, which is exact on the edge itself."""
    level, slope = np.hypot(u, 2 * v), np.hypot(u, 4 * v)
    return level * (level - 1) / np.maximum(slope, 1e-9)


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A square on its corner with a half-disc on each of its two upper sides."""
    # With half-side h, each half-disc has area pi h^2 / 2 and its centre of mass 4h / (3 pi) beyond the side, so the
    # heart's centre of mass is at (m, m) in the frame of the square; its tip at (-h, -h) is 1 away from there.
    mean = (np.pi / 2 + 2 / 3) / (4 + np.pi)
    half_side = 0.5**0.5 / (1 + mean)
    a = (u - v) * 0.5**0.5 + mean * half_side
    b = (-u - v) * 0.5**0.5 + mean * half_side
    discs = np.minimum(np.hypot(a - half_side, b), np.hypot(a, b - half_side)) - half_side
    return np.minimum(_square(a, b, half_side), discs)


_DISTANCES: tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], ...] = (_square, _ellipse, _heart)


def count_images(name: str) -> tuple[int, int]:
    """Return the numbers of training images (validation included) and of test images of 'sprites' or 'sprites:N'."""
    train = int(name.partition(":")[2] or 50_000)
    return train, max(train // 5, 100)


def with_count(info: DatasetInfo, text: str) -> DatasetInfo:
    """Return the declaration of 'sprites:N' for the text N. Raises FlexbenchError for a bad N."""
    low, high = _RANGE
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise FlexbenchError(
            f"'{info.kind}:{text}' is no dataset: N in 'sprites:N' is a whole number from {low} to {high}, "
            "for example 'sprites:2000'."
        )
    name = f"{info.kind}:{int(text)}"
    train, test = count_images(name)
    return replace(info, name=name, splits=f"{train:,} train / {test:,} test")


SPRITES = DatasetInfo(
    name="sprites",
    title="Sprites",
    channels=3,
    size=SIZE,
    latent_dim=64,
    splits="50,000 train / 10,000 test",
    licence="MIT, as flexbench",
    source="drawn by flexbench",
    note="True latent dimension: 5 continuous factors (hue, scale, rotation, x, y) plus one discrete (shape), "
    "so n = 6 at most. 'sprites:N' draws N training images.",
    true_dim=6,
    form="sprites:N",
    open=lambda info, data_dir, download: SpritesSource(info),
    parse=with_count,
)
