"""Exact nearest neighbours by L2 distance.

The fast form ‖a‖² + ‖b‖² - 2ab in float32 has a rounding error above the distance of two images that differ in one
pixel. Memorisation scores depend on such distances. Here the fast form only proposes candidates. The distance is a
direct difference in float64, and a bound on the rounding error proves that no other row is nearer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..core.errors import FlexbenchError

CHUNK_VALUES = 2**22  # values converted to float at once: 32 MiB in float64


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of a base for each of n queries: L2 distances (float64 [n]) and row numbers (int64 [n]).

    A search for k neighbours gives arrays [n, k], nearest first.
    """

    distances: np.ndarray
    indices: np.ndarray

    @property
    def first(self) -> Neighbours:
        """The nearest of k neighbours: [n, k] -> [n]."""
        return Neighbours(self.distances[:, 0], self.indices[:, 0])

    def or_nearer(self, other: Neighbours, k: int) -> Neighbours:
        """The k nearest of both sets [n, ...]. Among equal distances, neighbours of this set come first."""
        distances = np.concatenate([self.distances, other.distances], axis=1)
        indices = np.concatenate([self.indices, other.indices], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return Neighbours(np.take_along_axis(distances, order, 1), np.take_along_axis(indices, order, 1))


def nearest(queries: np.ndarray, base: np.ndarray, candidates: int = 4) -> Neighbours:
    """Find the nearest row of `base` [m, ...] for each of `queries` [n, ...], by L2 distance.

    Trailing axes are flattened. uint8 arrays are pixels and are divided by 255; float arrays are used unchanged.
    The result is exact up to float64 rounding, so an identical row gives 0.0. `candidates` is the number of neighbours
    that the first float32 search proposes; it changes only the time. The memory is one float32 copy of `base` plus a
    constant.

    Raises FlexbenchError for an empty array, rows of different length, and values that are not finite.
    """
    return k_nearest(queries, base, 1, candidates).first


def k_nearest(queries: np.ndarray, base: np.ndarray, k: int, candidates: int = 4) -> Neighbours:
    """Find the k nearest rows for each query, [n, k], nearest first; all m rows if m < k. See `nearest`."""
    queries, base = _rows(queries), _rows(base)
    if queries.shape[1] != base.shape[1]:
        raise FlexbenchError(f"cannot compare rows of {queries.shape[1]} and of {base.shape[1]} values.")
    search, k = _Search(base), min(k, len(base))
    candidates = max(candidates, k)
    squared, indices = zip(*(search.nearest(chunk, k, candidates) for chunk in _chunks(queries)), strict=True)
    return Neighbours(np.sqrt(np.concatenate(squared)), np.concatenate(indices))


def nearest_in_parts(queries: np.ndarray, parts: Iterable[np.ndarray]) -> Neighbours:
    """Find the nearest rows in a base that comes in parts, because it may not fit in memory.

    Row numbers count from the start of the first part.
    """
    return k_nearest_in_parts(queries, parts, 1).first


def k_nearest_in_parts(queries: np.ndarray, parts: Iterable[np.ndarray], k: int) -> Neighbours:
    """Find the k nearest rows [n, k] in a base that comes in parts; see `nearest_in_parts`."""
    best, start = None, 0
    for part in parts:
        found = k_nearest(queries, part, k)
        found = Neighbours(found.distances, found.indices + start)
        best = found if best is None else best.or_nearer(found, k)
        start += len(part)
    if best is None:
        raise FlexbenchError("nearest neighbours need arrays [n, ...] that are not empty, got none.")
    return best


class _Search:
    """Nearest neighbours in `base`: a float32 index proposes, float64 differences decide."""

    def __init__(self, base: np.ndarray):
        import faiss

        self.base = base
        # Distances do not depend on a shift, and small norms give a small rounding error.
        self.mean = sum(chunk.sum(axis=0) for chunk in _chunks(base)) / len(base)
        self.index = faiss.IndexFlatL2(base.shape[1])
        self.largest_norm = 0.0
        for chunk in _chunks(base):
            centred = self._centred(chunk)
            self.index.add(centred)
            self.largest_norm = max(self.largest_norm, float(_norms(centred).max()))

    def nearest(self, queries: np.ndarray, k: int, candidates: int) -> tuple[np.ndarray, np.ndarray]:
        """float64 [n, d] -> squared distances and rows of the k nearest, [n, k] each.

        Where the rounding error could hide a nearer row, the search is repeated with four times as many candidates.
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
