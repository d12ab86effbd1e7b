"""Is a trained model sound? Figures of its latent space, the same for every model, and those it names itself."""

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

CODES = 10_000  # codes and prior samples that are compared
VALUES = 20_000_000  # numbers in these codes at most, so that large latent grids fit in memory: then there are fewer
OWN = 1_000  # images that a method's own figures see
DIRECTIONS = 500


@torch.no_grad()
def diagnostics(method: Method, train: Split, seed: int) -> dict[str, float]:
    """Figures of a trained model on up to 10,000 training images.

    `rms_code`: root mean square of the codes. `active_dims`: coordinates in which the (deterministic) codes have a
    variance above 1 % of their mean variance. `prior_mismatch`: sliced Wasserstein-1 distance of the aggregated
    posterior (a draw for each image) and as many prior samples, over the root mean square of the former; 0 if they
    agree, about 1 if they have nothing in common. And what `Method.diagnostics` adds.
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
    """Of the figures of `diagnostics` the distance between prior and codes, to the same digits."""
    method.eval()
    seed_everything(derive(seed, "diagnostics"))
    rows = CachedRows(torch.from_numpy(_chosen(method, train, seed)))
    return float(_mismatch(method, rows, seed))


def _chosen(method: Method, train: Split, seed: int) -> np.ndarray:
    """The training images that the figures see."""
    rows = np.random.default_rng(derive(seed, "diagnostics")).permutation(len(train))
    return train.take(rows[: count_codes(method, train)])


def count_codes(method: Method, train: Split) -> int:
    """How many training images that is."""
    return min(CODES, max(OWN, VALUES // method.code_dim), len(train))


def codes_by(make: Callable[[Tensor], Tensor], images: CachedRows, method: Method) -> Tensor:
    """What `make` gives for all images, float32 [N, code_dim] on the CPU."""
    return map_rows(images, make, method.device).tensor.float()


def _mismatch(method: Method, rows: CachedRows, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive(seed, "diagnostics", "prior"))
    drawn = codes_by(method.sample_posterior, rows, method)
    prior = codes_by(lambda x: method.prior(len(x), generator), rows, method)
    return sliced_wasserstein(drawn, prior) / rms(drawn)


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = DIRECTIONS, seed: int = 0) -> Tensor:
    """Mean over random unit directions of the Wasserstein-1 distance of two projected sets [n, m] each. Scalar.

    Its bias falls with n whatever m is, unlike that of exact optimal transport.
    """
    axes = torch.randn(a.shape[1], directions, generator=torch.Generator().manual_seed(seed))
    axes /= axes.norm(dim=0)
    return ((a @ axes).sort(0).values - (b @ axes).sort(0).values).abs().mean()
