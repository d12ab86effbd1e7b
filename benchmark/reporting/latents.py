"""The images of figure 5: latent walks of a trained model, and the training images nearest to its samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data.batches import CachedRows
from ..evaluation.diagnostics import codes_by
from ..evaluation.evaluator import CHUNK, generate, reconstruct
from ..evaluation.features import FeatureSpace, cached_features
from ..evaluation.images import to_uint8
from ..evaluation.neighbours import Neighbours, k_nearest_in_parts
from ..evaluation.references import parts_of

if TYPE_CHECKING:
    from ..data import Dataset
    from ..method import Method

MAX_CODES = 10_000  # training images whose codes are averaged, evenly spaced over the split
SAMPLE_GRID = 64  # images in the sample grid of a run; figure 5 shows the first of them
MAX_DIRECTIONS = 8


@dataclass(frozen=True)
class Walks:
    """Interpolations along straight lines between the codes of two test images."""

    ends: np.ndarray  # the test images, uint8 [pairs, 2, C, S, S]
    images: np.ndarray  # uint8 [pairs, steps, C, S, S]; the first and the last are reconstructions of the ends


@dataclass(frozen=True)
class Direction:
    """A direction in code space: the mean code of images with an attribute minus that of images without it."""

    name: str  # of the attribute, or "3 to 4" for two classes
    vector: np.ndarray  # float32 [code_dim]
    start: np.ndarray  # a test image without the attribute, uint8 [C, S, S]
    images: np.ndarray  # its code plus each multiple of the vector, decoded: uint8 [multiples, C, S, S]


@dataclass(frozen=True)
class Nearest:
    """The k training images nearest to each of n generated images, in one space."""

    space: str
    found: Neighbours  # distances and rows of the training split, [n, k]
    images: np.ndarray  # uint8 [n, k, C, S, S]


def evenly_spaced_rows(count: int, limit: int) -> np.ndarray:
    """Return up to `limit` of `count` rows, evenly spaced, so that the order of a split does not matter."""
    return np.linspace(0, count - 1, min(limit, count)).astype(np.int64)


@torch.no_grad()
def codes_of(method: Method, images: np.ndarray) -> Tensor:
    """Return the codes [N, code_dim] of uint8 images [N, C, S, S], on the CPU."""
    method.eval()
    return codes_by(method.encode, CachedRows(torch.from_numpy(images)), method)


@torch.no_grad()
def images_of(method: Method, codes: Tensor) -> np.ndarray:
    """Decode codes [N, code_dim] to images, uint8 [N, C, S, S]."""
    method.eval()
    return np.concatenate([to_uint8(method.decode(z.to(method.device))) for z in codes.split(CHUNK)])


def walks(method: Method, dataset: Dataset, pairs: int = 8, steps: int = 10) -> Walks:
    """Walk from test image to test image in equal steps of the code. Few test images give fewer pairs."""
    rows = evenly_spaced_rows(len(dataset.test), 2 * pairs)
    ends = dataset.test.take(rows[: len(rows) // 2 * 2])
    first, last = codes_of(method, ends).unflatten(0, (-1, 2)).unbind(1)
    weight = torch.linspace(0, 1, steps)[:, None, None]
    between = ((1 - weight) * first + weight * last).transpose(0, 1)  # [pairs, steps, code_dim]
    images = _unflatten(images_of(method, between.flatten(0, 1)), len(first))
    # Rounding depends on the batch size, so the ends are replaced by the exact reconstructions.
    images[:, [0, -1]] = _unflatten(reconstruct(method, ends), len(first))
    return Walks(_unflatten(ends, len(first)), images)


def _unflatten(images: np.ndarray, n: int) -> np.ndarray:
    return images.reshape(n, -1, *images.shape[1:])


def directions(method: Method, dataset: Dataset, multiples: np.ndarray) -> list[Direction]:
    """Return up to MAX_DIRECTIONS directions: of attributes, or of pairs of successive classes; none without labels.

    The mean codes are over up to MAX_CODES training images. Each direction starts from the first test image without the
    attribute.
    """
    train, test = dataset.train.labels, dataset.test.labels
    if train is None or test is None:
        return []
    rows = evenly_spaced_rows(len(train), MAX_CODES)
    codes = codes_of(method, dataset.train.take(rows))
    labels = np.concatenate([train[rows], test])
    found: list[Direction] = []
    for name, without, having in contrasts(labels, dataset.label_names, dataset.info.main_labels):
        (without, starts), having = np.split(without, [len(rows)]), having[: len(rows)]
        if len(found) < MAX_DIRECTIONS and without.any() and having.any() and starts.any():
            vector = codes[torch.from_numpy(having)].mean(0) - codes[torch.from_numpy(without)].mean(0)
            start = dataset.test.take(np.flatnonzero(starts)[:1])
            moved = codes_of(method, start) + torch.from_numpy(multiples).float()[:, None] * vector
            found.append(Direction(name, vector.numpy(), start[0], images_of(method, moved)))
    return found


def contrasts(
    labels: np.ndarray, names: tuple[str, ...], first: tuple[str, ...] = ()
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield a name and two masks [n]: the images without and with an attribute.

    Args:
        labels: class numbers [n], which give pairs of successive classes, or attributes [n, K]. An image has an
            attribute if its value is in the upper half of the attribute's range.
        names: of the classes or attributes.
        first: attributes that come first; the others follow in the order of `names`.
    """
    if labels.ndim == 1:
        classes = np.unique(labels)
        for a, b in zip(classes[::2], classes[1::2], strict=False):
            # a class may be called '0 - zero'
            one, other = (names[int(c)].partition(" - ")[0] for c in (a, b))
            yield f"{one} to {other}", labels == a, labels == b
        return
    for name in sorted(names, key=lambda n: first.index(n) if n in first else len(first)):
        column = labels[:, names.index(name)]
        middle = (column.min() + column.max()) / 2
        yield name.replace("_", " "), column <= middle, column > middle


def nearest_training(
    method: Method, dataset: Dataset, space: FeatureSpace, seed: int, n: int = 8, k: int = 4
) -> tuple[np.ndarray, list[Nearest]]:
    """Return the first n images of a run's sample grid, uint8 [n, C, S, S], and the k training images nearest to each.

    Distances are in pixels and, if that is another, in the feature space. Features of real images that scoring computed
    before are read from the cache.
    """
    samples = generate(method, SAMPLE_GRID, seed)[:n]
    found = [("pixels", k_nearest_in_parts(samples, parts_of(dataset.train), k))]
    if space.name != "pixels":
        parts = (cached_features(space, part) for part in parts_of(dataset.train))
        found.append((space.name, k_nearest_in_parts(space.embed(samples), parts, k)))
    return samples, [
        Nearest(name, neighbours, _unflatten(dataset.train.take(neighbours.indices.ravel()), len(samples)))
        for name, neighbours in found
    ]
