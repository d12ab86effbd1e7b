"""Memorisation scores: how near is the nearest training image? (FlexAE paper, Table 4: PMS in pixels, IMS in features)

    score(A, B) = 1/|A| Σ_{a ∈ A} min_{b ∈ B} ‖a - b‖₂ ,    not squared, pixels in [0, 1].

A memorising model shows as score(generated, train) clearly below score(generated, test).

The fast form ‖a‖² + ‖b‖² - 2ab in float32 is wrong by more than a one-pixel edit where images are nearly equal,
which is where this score matters. Here it only proposes candidates; the distance is a direct difference in float64,
and a bound on the rounding error proves that no other image is nearer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import FlexbenchError

CHUNK_VALUES = 2**22  # values converted to float at once: 32 MiB in float64


@dataclass(frozen=True)
class Score:
    """Mean nearest-neighbour distance, its standard error over the images, and how many are exact copies."""

    mean: float
    se: float  # NaN for a single image
    exact_copies: int


def memorization_score(a: np.ndarray, b: np.ndarray) -> Score:
    """Mean L2 distance from the images or features of `a` to their nearest in `b`; not symmetric.

    Takes what `nearest_distances` takes: uint8 gives PMS in units of [0, 1] pixels, float features give IMS.
    """
    distances = nearest_distances(a, b)
    n = len(distances)
    se = float(distances.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Score(float(distances.mean()), se, int((distances == 0).sum()))


def nearest_distances(queries: np.ndarray, base: np.ndarray, candidates: int = 4) -> np.ndarray:
    """L2 distance (float64 [n]) from each of `queries` [n, ...] to its nearest in `base` [m, ...].

    Trailing axes are flattened. uint8 arrays are pixels and are divided by 255; float arrays are taken as they are.
    The result is exact up to float64 rounding: an identical row gives 0.0, and `candidates`, the number of
    neighbours taken from the float32 search at first, changes only the time. Queries are converted in chunks;
    memory is that of one float32 copy of `base` plus a constant.

    Raises FlexbenchError for an empty array, rows of different length, and values that are not finite.
    """
    queries, base = _rows(queries), _rows(base)
    if queries.shape[1] != base.shape[1]:
        raise FlexbenchError(f"cannot compare rows of {queries.shape[1]} and of {base.shape[1]} values.")
    search = _Search(base)
    return np.sqrt(np.concatenate([search.nearest_squared(chunk, candidates) for chunk in _chunks(queries)]))


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

    def nearest_squared(self, queries: np.ndarray, candidates: int) -> np.ndarray:
        """float64 [n, d] -> [n]. Rows whose candidates leave a doubt are searched again, with four times as many."""
        candidates = min(candidates, len(self.base))
        centred = self._centred(queries)
        rough, indices = self.index.search(centred, candidates)
        best = np.min([self._squared_distances(queries, column) for column in indices.T], axis=0)
        if candidates < len(self.base):
            doubtful = best > rough[:, -1] - self._rounding_bound(centred)
            if doubtful.any():
                best[doubtful] = self.nearest_squared(queries[doubtful], 4 * candidates)
        return best

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
