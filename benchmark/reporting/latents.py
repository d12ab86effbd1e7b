"""What figure 5 shows of a trained model: walks in its latent space, and the training images nearest to its samples."""

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

CODES = 10_000  # training images whose codes are ema_modules, at most: evenly spaced over the split
SHOWN = 64  # images of the sample grid that a run leaves, of which ours are the first
DIRECTIONS = 8  # at most
#: Columns of labels that are shown first where a dataset has them; others follow in their order.
NAMED = ("Smiling", "Male", "Eyeglasses", "Blond_Hair", "Young", "Bangs", "Mustache", "Pale_Skin")


@dataclass(frozen=True)
class Walks:
    """Straight lines between the codes of test images."""

    ends: np.ndarray  # the test images, uint8 [pairs, 2, C, S, S]
    images: np.ndarray  # uint8 [pairs, steps, C, S, S]; the first and the last are the reconstructions of the ends


@dataclass(frozen=True)
class Direction:
    """From images without something to images with it: the difference of their mean codes."""

    name: str  # "Smiling", or "3 to 4" for two classes
    vector: np.ndarray  # float32 [code_dim]
    start: np.ndarray  # a test image without it, uint8 [C, S, S]
    images: np.ndarray  # its code plus each multiple of the vector, decoded: uint8 [multiples, C, S, S]


@dataclass(frozen=True)
class Nearest:
    """The k training images nearest to each of n generated ones, in one space."""

    space: str
    found: Neighbours  # distances and rows of the training split, [n, k]
    images: np.ndarray  # uint8 [n, k, C, S, S]


def evenly_spaced(count: int, wanted: int) -> np.ndarray:
    """Up to `wanted` of `count` rows, evenly spaced from the first to the last, so that no order of a split matters."""
    return np.linspace(0, count - 1, min(wanted, count)).astype(np.int64)


@torch.no_grad()
def codes_of(method: Method, images: np.ndarray) -> Tensor:
    """Codes [N, code_dim] of uint8 images [N, C, S, S], on the CPU."""
    method.eval()
    return codes_by(method.encode, CachedRows(torch.from_numpy(images)), method)


@torch.no_grad()
def images_of(method: Method, codes: Tensor) -> np.ndarray:
    """The images that codes [N, code_dim] are decoded to, uint8 [N, C, S, S]."""
    method.eval()
    return np.concatenate([to_uint8(method.decode(z.to(method.device))) for z in codes.split(CHUNK)])


def walks(method: Method, dataset: Dataset, pairs: int = 8, steps: int = 10) -> Walks:
    """From test image to test image in equal steps of the code; fewer pairs where there are fewer test images."""
    rows = evenly_spaced(len(dataset.test), 2 * pairs)
    ends = dataset.test.take(rows[: len(rows) // 2 * 2])
    first, last = codes_of(method, ends).unflatten(0, (-1, 2)).unbind(1)
    share = torch.linspace(0, 1, steps)[:, None, None]
    between = ((1 - share) * first + share * last).transpose(0, 1)  # [pairs, steps, code_dim]
    images = _unflatten(images_of(method, between.flatten(0, 1)), len(first))
    # The same up to the rounding that depends on the size of a batch; thus exactly.
    images[:, [0, -1]] = _unflatten(reconstruct(method, ends), len(first))
    return Walks(_unflatten(ends, len(first)), images)


def _unflatten(images: np.ndarray, n: int) -> np.ndarray:
    return images.reshape(n, -1, *images.shape[1:])


def directions(method: Method, dataset: Dataset, multiples: np.ndarray) -> list[Direction]:
    """One for each of the first attributes, or for pairs of successive classes; none where there are no labels.

    The means are over up to CODES training images; what is moved is the first test image without the attribute.
    """
    train, test = dataset.train.labels, dataset.test.labels
    if train is None or test is None:
        return []
    rows = evenly_spaced(len(train), CODES)
    codes = codes_of(method, dataset.train.take(rows))
    found = []
    for name, without, having in contrasts(np.concatenate([train[rows], test]), dataset.label_names):
        (without, starts), having = np.split(without, [len(rows)]), having[: len(rows)]
        if len(found) < DIRECTIONS and without.any() and having.any() and starts.any():
            vector = codes[torch.from_numpy(having)].mean(0) - codes[torch.from_numpy(without)].mean(0)
            start = dataset.test.take(np.flatnonzero(starts)[:1])
            moved = codes_of(method, start) + torch.from_numpy(multiples).float()[:, None] * vector
            found.append(Direction(name, vector.numpy(), start[0], images_of(method, moved)))
    return found


def contrasts(labels: np.ndarray, names: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name and two masks [n] of images to compare, without and with something.

    Of class numbers [n] the pairs of successive classes; of columns [n, K] the images in the lower and in the upper
    half of its range, which for attributes of 0 and 1 are those without and with it.
    """
    if labels.ndim == 1:
        classes = np.unique(labels)
        for a, b in zip(classes[::2], classes[1::2], strict=False):
            # torchvision calls the classes of MNIST '0 - zero'
            first, second = (names[int(c)].partition(" - ")[0] for c in (a, b))
            yield f"{first} to {second}", labels == a, labels == b
        return
    for name in sorted(names, key=lambda n: NAMED.index(n) if n in NAMED else len(NAMED)):
        column = labels[:, names.index(name)]
        middle = (column.min() + column.max()) / 2
        yield name.replace("_", " "), column <= middle, column > middle


def nearest_training(
    method: Method, dataset: Dataset, space: FeatureSpace, seed: int, n: int = 8, k: int = 4
) -> tuple[np.ndarray, list[Nearest]]:
    """The first n images of a run's sample grid, uint8 [n, C, S, S], and the k nearest of all training images to each.

    In pixels, and in the feature space, unless that is pixels. The features of real images are those that scoring has
    computed, where it has.
    """
    samples = generate(method, SHOWN, seed)[:n]
    found = [("pixels", k_nearest_in_parts(samples, parts_of(dataset.train), k))]
    if space.name != "pixels":
        parts = (cached_features(space, part) for part in parts_of(dataset.train))
        found.append((space.name, k_nearest_in_parts(space.embed(samples), parts, k)))
    return samples, [
        Nearest(name, neighbours, _unflatten(dataset.train.take(neighbours.indices.ravel()), len(samples)))
        for name, neighbours in found
    ]
