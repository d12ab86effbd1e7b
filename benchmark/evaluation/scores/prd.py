"""Precision and recall for distributions (PRD): Sajjadi, Bachem, Lucic, Bousquet & Gelly, NeurIPS 2018.

Both sets are clustered together. Their histograms over the clusters, p (generated) and q (reference), are compared. A
slope λ gives one point of the curve (Sec. 3 of arXiv:1806.00035):

    precision α(λ) = Σᵢ min(λ qᵢ, pᵢ),    recall β(λ) = α(λ) / λ .

The curve is averaged point by point over several clusterings. It is summarised by max F_8, which weighs recall, and by
max F_1/8, which weighs precision.

The authors' program is unseeded, and its score has a standard error of up to 0.016. This one deviates in three points:
the k-means is seeded; there are 50 runs instead of 10; it clusters the first 64 principal components, which makes a run
many times cheaper. `components=None, runs=10` is the original protocol.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import FlexbenchError
from ...core.seeding import derive

if TYPE_CHECKING:
    from ..references import ImageSet, References

ANGLES = np.linspace(1e-10, np.pi / 2 - 1e-10, 1001)  # of the lines through the origin: λ = tan(angle)


@dataclass(frozen=True)
class PRD:
    """Scores in [0, 1] from the mean curve of all runs; higher is better.

    The standard errors come from the maxima of the single runs. They measure the noise of the clustering and not of the
    images.
    """

    precision_f1_8: float
    recall_f8: float
    precision_se: float
    recall_se: float


def precision(images: ImageSet, references: References) -> tuple[float, float]:
    """PRD precision (F_1/8) of n images against n test images, with its standard error."""
    prd = _of(images, references)
    return prd.precision_f1_8, prd.precision_se


def recall(images: ImageSet, references: References) -> tuple[float, float]:
    """PRD recall (F_8) of n images against n test images, with its standard error."""
    prd = _of(images, references)
    return prd.recall_f8, prd.recall_se


def _of(images: ImageSet, references: References) -> PRD:
    """The PRD scores, computed once for both metrics."""
    test = references.test
    return images.once("prd", lambda: precision_recall(images.features, test.features, seed=derive(0, "prd")))


def precision_recall(
    generated: np.ndarray,
    reference: np.ndarray,
    seed: int,
    runs: int = 50,
    clusters: int = 20,
    components: int | None = 64,
) -> PRD:
    """Compute the PRD of generated features [N, d] against as many reference features [N, d].

    Swapped arguments swap precision and recall.

    Args:
        seed: of the k-means. Run r uses the same stream whatever the number of runs.
        runs: number of clusterings to average over, at least 2.
        components: number of principal components that are clustered (float32). None clusters all d features (float64).

    Raises FlexbenchError for shapes that differ, too few images or runs, and features that are not finite.
    """
    import sklearn.cluster  # noqa: F401  first: `threadpool_limits` only affects libraries that are already loaded
    from threadpoolctl import threadpool_limits

    _check(generated, reference, runs, clusters)
    joint = np.concatenate([generated, reference]).astype(np.float64, copy=False)
    if components is not None and joint.shape[1] > components:
        joint = _principal_scores(joint, components)
    # One thread: the order of parallel sums can change the result, and these small problems gain nothing from more.
    with threadpool_limits(1):
        histograms = np.stack([_histograms(joint, clusters, derive(seed, "prd", run)) for run in range(runs)])
    precision, recall = _curves(histograms[:, 0], histograms[:, 1])
    (p, p_se), (r, r_se) = (_max_f(precision, recall, beta) for beta in (1 / 8, 8))
    return PRD(precision_f1_8=p, recall_f8=r, precision_se=p_se, recall_se=r_se)


def _check(generated: np.ndarray, reference: np.ndarray, runs: int, clusters: int) -> None:
    if generated.shape != reference.shape or generated.ndim != 2:
        raise FlexbenchError(
            f"PRD needs as many generated as reference features [N, d], got {generated.shape} and {reference.shape}."
        )
    least = -(-clusters // 2)
    if len(generated) < least:
        raise FlexbenchError(f"PRD with {clusters} clusters needs {least} images or more a set, got {len(generated)}.")
    if runs < 2:
        raise FlexbenchError(f"PRD needs 2 runs or more for its standard errors, got {runs}.")
    if not (np.isfinite(generated).all() and np.isfinite(reference).all()):
        raise FlexbenchError("cannot compute PRD: the features contain NaN or infinity.")


def _principal_scores(x: np.ndarray, components: int) -> np.ndarray:
    """float64 [m, d] -> float32 [m, k], the coordinates on the first k = min(components, m, d) principal axes.

    The method is exact and not randomised, so the space is the same for every seed. Only the wanted eigenvectors of
    the smaller of covariance and Gram matrix are computed, which costs less than a few runs of k-means.
    """
    from scipy.linalg import eigh

    x = x - x.mean(axis=0)
    wide = x.shape[0] < x.shape[1]
    gram = x @ x.T if wide else x.T @ x
    size = len(gram)
    w, v = eigh(gram, subset_by_index=[max(0, size - components), size - 1])
    scores = v * np.sqrt(w.clip(min=0)) if wide else x @ v
    return scores.astype(np.float32)


def _histograms(joint: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """One clustering of the pooled features [2N, d] -> cluster frequencies [2, clusters]: generated, reference."""
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(clusters, n_init=10, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*memory leak on Windows with MKL")
        labels = kmeans.fit(joint).labels_
    halves = labels.reshape(2, -1)
    return np.stack([np.bincount(half, minlength=clusters) for half in halves]) / halves.shape[1]


def _curves(generated: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Histograms [R, K] of both sets -> precision and recall [R, 1001], one curve a run."""
    slopes = np.tan(ANGLES)
    precision = np.minimum(slopes[:, None] * reference[:, None], generated[:, None]).sum(axis=-1)
    return precision.clip(0, 1), (precision / slopes).clip(0, 1)


def _max_f(precision: np.ndarray, recall: np.ndarray, beta: float) -> tuple[float, float]:
    """Max F_beta of the mean curve, and the standard error of the mean of the runs' own maxima."""
    of_runs = _f_score(precision, recall, beta).max(axis=-1)
    of_mean = _f_score(precision.mean(axis=0), recall.mean(axis=0), beta).max()
    return float(of_mean), float(of_runs.std(ddof=1) / np.sqrt(len(of_runs)))


def _f_score(precision: np.ndarray, recall: np.ndarray, beta: float) -> np.ndarray:
    """F_b = (1 + b²) P R / (b² P + R); the small constant, as in the authors' program, makes 0/0 a 0."""
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall + 1e-10)
