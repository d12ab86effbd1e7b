"""Memorisation scores: how near is the nearest training image? (FlexAE paper, Table 4: PMS in pixels, IMS in features)

    score(A, B) = 1/|A| Σ_{a ∈ A} min_{b ∈ B} ‖a - b‖₂ ,    not squared, pixels in [0, 1].

A memorising model shows as score(generated, train) clearly below score(generated, test). A sharper test looks at all
training images: how often is the nearest of all training and test images a training image, and how often is that so
for held-out images of the same kind? See `train_ratio`.

The fast form ‖a‖² + ‖b‖² - 2ab in float32 is wrong by more than a one-pixel edit where images are nearly equal,
which is where this score matters. Here it only proposes candidates; the distance is a direct difference in float64,
and a bound on the rounding error proves that no other image is nearer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..core.errors import FlexbenchError

CHUNK_VALUES = 2**22  # values converted to float at once: 32 MiB in float64


@dataclass(frozen=True)
class Neighbours:
    """For each of n images the L2 distance (float64 [n]) of the nearest image in a base, and its row (int64 [n]).

    Where k neighbours were asked for, both are [n, k], nearest first.
    """

    distances: np.ndarray
    indices: np.ndarray

    @property
    def first(self) -> Neighbours:
        """Of k neighbours [n, k] the nearest, [n]."""
        return Neighbours(self.distances[:, 0], self.indices[:, 0])

    def or_nearer(self, other: Neighbours, k: int) -> Neighbours:
        """The k nearest of both, which are [n, ...]; of equal ones first those of this one."""
        distances = np.concatenate([self.distances, other.distances], axis=1)
        indices = np.concatenate([self.indices, other.indices], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return Neighbours(np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1))


def mean_and_error(found: Neighbours) -> tuple[float, float]:
    """PMS (of pixels) or IMS (of features): the mean distance, and its standard error, NaN for a single image."""
    n = len(found.distances)
    return float(found.distances.mean()), float(found.distances.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan


def nearest(queries: np.ndarray, base: np.ndarray, candidates: int = 4) -> Neighbours:
    """For each of `queries` [n, ...] the nearest in `base` [m, ...], by L2 distance; not symmetric.

    Trailing axes are flattened. uint8 arrays are pixels and are divided by 255; float arrays are taken as they are.
    The result is exact up to float64 rounding: an identical row gives 0.0, and `candidates`, the number of
    neighbours taken from the float32 search at first, changes only the time. Queries are converted in chunks;
    memory is that of one float32 copy of `base` plus a constant.

    Raises FlexbenchError for an empty array, rows of different length, and values that are not finite.
    """
    return k_nearest(queries, base, 1, candidates).first


def k_nearest(queries: np.ndarray, base: np.ndarray, k: int, candidates: int = 4) -> Neighbours:
    """Like `nearest`, but the k nearest of each [n, k], nearest first; all m where there are fewer than k."""
    queries, base = _rows(queries), _rows(base)
    if queries.shape[1] != base.shape[1]:
        raise FlexbenchError(f"cannot compare rows of {queries.shape[1]} and of {base.shape[1]} values.")
    search, k = _Search(base), min(k, len(base))
    candidates = max(candidates, k)
    squared, indices = zip(*(search.nearest(chunk, k, candidates) for chunk in _chunks(queries)), strict=True)
    return Neighbours(np.sqrt(np.concatenate(squared)), np.concatenate(indices))


def nearest_in_parts(queries: np.ndarray, parts: Iterable[np.ndarray]) -> Neighbours:
    """The nearest in a base that comes in parts, for bases that would not fit in memory; indices count through."""
    return k_nearest_in_parts(queries, parts, 1).first


def k_nearest_in_parts(queries: np.ndarray, parts: Iterable[np.ndarray], k: int) -> Neighbours:
    """The k nearest [n, k] in a base that comes in parts."""
    best, start = None, 0
    for part in parts:
        found = k_nearest(queries, part, k)
        found = Neighbours(found.distances, found.indices + start)
        best = found if best is None else best.or_nearer(found, k)
        start += len(part)
    if best is None:
        raise FlexbenchError("nearest neighbours need arrays [n, ...] that are not empty, got none.")
    return best


def train_ratio(to_train: Neighbours, to_test: Neighbours) -> tuple[float, float]:
    """Share of images whose nearest real image is a training one, and its standard error.

    `to_train` and `to_test` are the nearest training and test images of the same images; of equal distances the test
    image counts. A few real images ("hubs") are the nearest of many, and these are decided together: with c_j images
    at real image j there are only n' = n^2 / sum_j c_j^2 independent ones. The error is that of a share of n', after
    adding a success and a failure, so that a share of 0 or 1 has an error too (as Agresti & Coull 1998 do with two).
    """
    nearer = to_train.distances < to_test.distances
    neighbour = np.where(nearer, to_train.indices, -1 - to_test.indices)  # training and test images told apart
    counts = np.unique(neighbour, return_counts=True)[1].astype(np.float64)
    share, independent = float(nearer.mean()), len(nearer) ** 2 / float(np.square(counts).sum())
    moderate = (share * independent + 1) / (independent + 2)
    return share, math.sqrt(moderate * (1 - moderate) / independent)


class _Search:
    """Nearest neighbours in `base`: a float32 index for the order, float64 differences for the distance."""

    def __init__(self, base: np.ndarray):
        import faiss

        self.base = base
        # Distances ignore a shift, and small norms make for a small rounding error.
        self.mean = sum(chunk.sum(axis=0) for chunk in _chunks(base)) / len(base)
        self.index = faiss.IndexFlatL2(base.shape[1])
        self.largest_norm = 0.0
        for chunk in _chunks(base):
            centred = self._centred(chunk)
            self.index.add(centred)
            self.largest_norm = max(self.largest_norm, float(_norms(centred).max()))

    def nearest(self, queries: np.ndarray, k: int, candidates: int) -> tuple[np.ndarray, np.ndarray]:
        """float64 [n, d] -> squared distances and rows of the k nearest, [n, k] each.

        Queries whose candidates leave a doubt are searched again, with four times as many.
        """
        candidates = min(candidates, len(self.base))
        centred = self._centred(queries)
        rough, indices = self.index.search(centred, candidates)
        squared = np.stack([self._squared_distances(queries, column) for column in indices.T], axis=1)
        order = np.argsort(squared, axis=1, kind="stable")[:, :k]
        best, rows = (np.take_along_axis(of, order, 1) for of in (squared, indices))
        if candidates < len(self.base):
            doubtful = best[:, -1] > rough[:, -1] - self._rounding_bound(centred)
            if doubtful.any():
                best[doubtful], rows[doubtful] = self.nearest(queries[doubtful], k, 4 * candidates)
        return best, rows

    def _centred(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.mean).astype(np.float32)

    def _squared_distances(self, queries: np.ndarray, indices: np.ndarray) -> np.ndarray:
        difference = queries - _as_float(self.base[indices])
        return np.einsum("nd,nd->n", difference, difference)

    def _rounding_bound(self, centred: np.ndarray) -> np.ndarray:
        """Bound [n] on the error of any float32 |x|² + |y|² - 2xy: γ_d (|x| + |y|)², Higham 2002, Sec. 3.1."""
        unit_roundoff = 2.0**-24
        return (self.base.shape[1] + 8) * unit_roundoff * (_norms(centred) + self.largest_norm) ** 2


def _rows(array: np.ndarray) -> np.ndarray:
    """[n, ...] -> [n, d], checked."""
    if array.size == 0 or array.ndim < 2:
        raise FlexbenchError(f"nearest neighbours need arrays [n, ...] that are not empty, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise FlexbenchError("cannot compute nearest neighbours: an array contains NaN or infinity.")
    return array.reshape(len(array), -1)


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive parts of [n, d] in float64, of bounded size."""
    step = max(1, CHUNK_VALUES // rows.shape[1])
    return (_as_float(rows[start : start + step]) for start in range(0, len(rows), step))


def _as_float(rows: np.ndarray) -> np.ndarray:
    return rows / 255.0 if rows.dtype == np.uint8 else rows.astype(np.float64)


def _norms(rows: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
