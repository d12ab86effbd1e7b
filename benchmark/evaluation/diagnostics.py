"""Diagnostics: figures of the latent space that are the same for every model, and figures that a model adds itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..core.seeding import derive, seed_everything
from ..data.batches import CachedRows, map_rows, to_device
from ..losses import rms

if TYPE_CHECKING:
    from ..data import Split
    from ..method import Method

CODES = 10_000  # number of codes and of prior samples that are compared, at most
VALUES = 20_000_000  # numbers in these codes, at most: the codes of large latent grids must fit in memory
OWN = 1_000  # number of images for a model's own figures, and of codes that are always compared
DIRECTIONS = 500


@torch.no_grad()
def diagnostics(method: Method, train: Split, seed: int) -> dict[str, float]:
    """Compute the diagnostics of a trained model on up to 10,000 training images.

    `rms_code` is the root mean square of the codes. `active_dims` is the number of coordinates in which the
    deterministic codes have a variance above 1 % of their mean variance. `prior_mismatch` is the sliced Wasserstein-1
    distance between the aggregated posterior (one draw per image) and as many prior samples, divided by the root mean
    square of the former: 0 if both agree, about 1 if they have nothing in common. The other figures are those of
    `Method.diagnostics`.
    """
    method.eval()
    seed_everything(derive(seed, "diagnostics"))
    images = _chosen(method, train, seed)
    rows = CachedRows(torch.from_numpy(images))
    codes = codes_by(method.encode, rows, method)
    variance = codes.var(0)
    figures = {
        "rms_code": rms(codes),
        "active_dims": (variance > 0.01 * variance.mean()).sum(),
        "prior_mismatch": _mismatch(method, rows, seed),
        **method.diagnostics(to_device(images[:OWN], method.device)),
    }
    return {name: float(value) for name, value in figures.items()}


@torch.no_grad()
def prior_mismatch(method: Method, train: Split, seed: int) -> float:
    """Compute the figure `prior_mismatch` of `diagnostics` alone. Both give the same value to the last digit."""
    method.eval()
    return float(_mismatch(method, CachedRows(torch.from_numpy(_chosen(method, train, seed))), seed))


def _chosen(method: Method, train: Split, seed: int) -> np.ndarray:
    """The training images that the figures are computed of."""
    rows = np.random.default_rng(derive(seed, "diagnostics")).permutation(len(train))
    return train.take(rows[: count_codes(method, train)])


def count_codes(method: Method, train: Split) -> int:
    """The number of training images that the figures are computed of."""
    return min(CODES, max(OWN, VALUES // method.code_dim), len(train))


def codes_by(make: Callable[[Tensor], Tensor], images: CachedRows, method: Method) -> Tensor:
    """Apply `make` to all images: float32 codes [N, code_dim] on the CPU."""
    return map_rows(images, make, method.device).tensor.float()


def _mismatch(method: Method, rows: CachedRows, seed: int) -> Tensor:
    seed_everything(derive(seed, "diagnostics"))  # the same posterior draws whatever was computed before
    generator = torch.Generator().manual_seed(derive(seed, "diagnostics", "prior"))
    drawn = codes_by(method.sample_posterior, rows, method)
    prior = codes_by(lambda x: method.prior(len(x), generator), rows, method)
    return sliced_wasserstein(drawn, prior) / rms(drawn)


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = DIRECTIONS, seed: int = 0) -> Tensor:
    """Mean Wasserstein-1 distance of two sets [n, m] that are projected on random unit directions. A scalar.

    Its bias decreases with n at a rate that does not depend on m, unlike the bias of exact optimal transport.
    """
    axes = torch.randn(a.shape[1], directions, generator=torch.Generator().manual_seed(seed))
    axes /= axes.norm(dim=0)
    return ((a @ axes).sort(0).values - (b @ axes).sort(0).values).abs().mean()
