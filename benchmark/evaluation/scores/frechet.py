"""Fréchet distance between two sets of features, without a matrix square root.

For Gaussians N(μ₁, Σ₁) and N(μ₂, Σ₂) (Dowson & Landau 1982; Heusel et al. 2017, Eq. 6)

    FD = |μ₁ - μ₂|² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁ Σ₂)^½ .

With half factors Σ = H Hᵀ the last trace is the nuclear norm of H₁ᵀ H₂: the eigenvalues of Σ₁ Σ₂ are the squared
singular values of H₁ᵀ H₂. No product of covariances is formed, so there are no complex numbers and squaring loses no
digits. Singular covariances (fewer images than features, dead features) need no special case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import FlexbenchError

if TYPE_CHECKING:
    from ..references import ImageSet, References


def to_test(images: ImageSet, references: References) -> float:
    """Fréchet distance of n images to n test images."""
    return frechet_distance(gaussian(images), gaussian(references.test))


def to_validation(images: ImageSet, references: References) -> tuple[float, None, int] | None:
    """Fréchet distance to validation images, with as many images on both sides; None without validation images.

    It is the one score that settings may be chosen by.
    """
    n = min(len(references.val), len(images))
    if n < 2:
        return None
    return frechet_distance(gaussian(images.head(n)), gaussian(references.val.head(n))), None, n


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of a set of features, the covariance as a half factor."""

    mean: np.ndarray  # float64 [d]
    half: np.ndarray  # float64 [d, r]; half @ half.T is the unbiased covariance (division by N - 1)

    @property
    def trace(self) -> float:
        """Trace of the covariance."""
        return float(np.square(self.half).sum())


def gaussian(images: ImageSet) -> Gaussian:
    """The Gaussian of the features of an image set. It is fitted once."""
    return images.once("gaussian", lambda: fit_gaussian(images.features))


def fit_gaussian(features: np.ndarray) -> Gaussian:
    """Fit a Gaussian to features [N, d] of any float type; everything is accumulated in float64.

    Raises FlexbenchError if the array is not a matrix, has fewer than two rows or a value that is not finite.
    """
    x = np.array(features, dtype=np.float64)  # a copy, centred in place below
    if x.ndim != 2 or len(x) < 2:
        raise FlexbenchError(f"a Fréchet distance needs features [N, d] of at least 2 images, got shape {x.shape}.")
    if not np.isfinite(x).all():
        raise FlexbenchError("cannot compute a Fréchet distance: the features contain NaN or infinity.")
    mean = x.mean(axis=0)
    x -= mean
    n, d = x.shape
    x /= np.sqrt(n - 1)
    return Gaussian(mean, x.T if n <= d else _half_factor(x.T @ x))


def _half_factor(covariance: np.ndarray) -> np.ndarray:
    """H [d, r] with H Hᵀ = covariance, without the directions whose variance is rounding error."""
    w, v = np.linalg.eigh(covariance)
    kept = w > len(w) * np.finfo(np.float64).eps * w[-1]
    return v[:, kept] * np.sqrt(w[kept])


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians: at least 0, symmetric, 0 for equal ones."""
    if a.mean.shape != b.mean.shape:
        raise FlexbenchError(
            f"cannot compare features of {a.mean.size} and {b.mean.size} dimensions: use one feature space for both."
        )
    overlap = np.linalg.svd(a.half.T @ b.half, compute_uv=False).sum()
    distance = np.square(a.mean - b.mean).sum() + a.trace + b.trace - 2 * overlap
    return max(0.0, float(distance))  # equal sets give rounding error of either sign
