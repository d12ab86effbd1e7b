"""What a model knows of the modes of a mixture: codes and prior samples to look at, and two counts.

The dataset declares its modes (`LatentModes`). Its true latent space is a plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.seeding import derive, seed_everything
from ..data.batches import CachedRows
from ..data.declaration import LatentModes
from ..evaluation.diagnostics import codes_by
from ..evaluation.evaluator import generate
from ..evaluation.neighbours import nearest

if TYPE_CHECKING:
    from ..data import Dataset
    from ..method import Method

SHOWN = 2_000  # codes, and prior samples
COUNTED = 2_000  # generated vectors
GRID = 201  # points along each side of the square in which latents are searched
MARGIN = 10  # standard deviations of a mode between the outermost centres and the sides of the square
REACH = 3  # a latent within this many standard deviations of a centre is in the mode
LEAST = 0.1  # a mode is covered if it gets at least this part of its share of generated vectors


@dataclass(frozen=True)
class ModeReport:
    """Codes and prior samples of a trained model, and how its generated vectors fall into the modes."""

    codes: np.ndarray  # float32 [n, code_dim], draws of q(z|x) for test vectors
    modes: np.ndarray  # int64 [n], the true mode of each code
    prior: np.ndarray  # float32 [n, code_dim]
    share: float  # share of generated vectors whose true latent is within 3 standard deviations of a mode
    covered: int  # number of modes that get at least a tenth of their share of generated vectors


@torch.no_grad()
def explore(method: Method, dataset: Dataset, seed: int) -> ModeReport:
    """Draw codes, prior samples and vectors from a model of a dataset that declares its modes."""
    method.eval()
    seed_everything(derive(seed, "modes"))
    vectors = CachedRows(torch.from_numpy(dataset.test.images(0, SHOWN)))
    codes = codes_by(method.sample_posterior, vectors, method)
    prior = method.prior(SHOWN, torch.Generator().manual_seed(derive(seed, "modes", "prior")))
    declared, labels = dataset.info.modes, dataset.test.labels
    assert declared is not None and labels is not None  # the caller has chosen a dataset with modes
    share, covered = count_modes(true_latents(generate(method, COUNTED, seed), declared), declared)
    modes = labels[:SHOWN, 0].astype(np.int64)
    return ModeReport(codes.numpy(), modes, prior.float().cpu().numpy(), share, covered)


def true_latents(vectors: np.ndarray, modes: LatentModes) -> np.ndarray:
    """Return the latents [n, 2] of vectors [n, D, 1, 1]: for each, the point of a fine grid with the nearest vector.

    The training latents would not do in place of the grid. They all lie in modes, so every vector would seem to.
    """
    axis = np.linspace(-half_side(modes), half_side(modes), GRID)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    found = nearest(vectors.reshape(len(vectors), -1), modes.embed(grid))
    return grid[found.indices]


def half_side(modes: LatentModes) -> float:
    """Return half the side of the square about the origin in which latents are searched."""
    return float(np.abs(modes.centres).max()) + MARGIN * modes.std


def count_modes(z: np.ndarray, modes: LatentModes) -> tuple[float, int]:
    """Return the share of latents [n, 2] that are in a mode, and the number of modes covered, as in `ModeReport`."""
    count = len(modes.centres)
    distances = np.linalg.norm(z[:, None] - modes.centres, axis=-1)  # [n, K]
    inside = distances.min(1) < REACH * modes.std
    counts = np.bincount(distances.argmin(1)[inside], minlength=count)
    return float(inside.mean()), int((counts >= LEAST * len(z) / count).sum())
