"""Does a model of the synthetic mixture know its modes? Codes and prior samples to look at, and two counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.seeding import derive, seed_everything
from ..data.batches import CachedRows
from ..data.synthetic import MODES, RADIUS, STD, embed, mode_centres
from ..evaluation.diagnostics import codes_by
from ..evaluation.evaluator import generate
from ..evaluation.neighbours import nearest

if TYPE_CHECKING:
    from ..data import Dataset
    from ..method import Method

SHOWN = 2_000  # codes, and prior samples
COUNTED = 2_000  # generated vectors
GRID = 201  # points along each side of the square in which latents are looked for
SIDE = RADIUS + 10 * STD  # half of it
REACH = 3  # standard deviations of a mode that count as being in it
LEAST = 0.1  # of its share, in generated vectors, makes a mode count as covered


@dataclass(frozen=True)
class Modes:
    """What a trained model makes of the modes."""

    codes: np.ndarray  # float32 [n, code_dim], draws of q(z|x) for test vectors
    modes: np.ndarray  # int64 [n], the true mode of each
    prior: np.ndarray  # float32 [n, code_dim]
    share: float  # of generated vectors whose true latent is within 3 standard deviations of a mode
    covered: int  # modes that at least a tenth of their share of generated vectors fall into


@torch.no_grad()
def explore(method: Method, dataset: Dataset, seed: int) -> Modes:
    """Draw codes, prior samples and vectors from a model of 'synthetic-mog'."""
    method.eval()
    seed_everything(derive(seed, "modes"))
    vectors = CachedRows(torch.from_numpy(dataset.test.images(0, SHOWN)))
    codes = codes_by(method.sample_posterior, vectors, method)
    prior = method.prior(SHOWN, torch.Generator().manual_seed(derive(seed, "modes", "prior")))
    share, covered = count_modes(true_latents(generate(method, COUNTED, seed)))
    modes = dataset.test.labels[:SHOWN, 0].astype(np.int64)
    return Modes(codes.numpy(), modes, prior.float().cpu().numpy(), share, covered)


def true_latents(vectors: np.ndarray) -> np.ndarray:
    """Latents [n, 2] of vectors [n, 128, 1, 1]: of a fine grid those whose vector is nearest.

    A grid, and not the training set: all of that lies in the modes, so that vectors between them would too.
    """
    axis = np.linspace(-SIDE, SIDE, GRID)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    found = nearest(vectors.reshape(len(vectors), -1), embed(grid, "synthetic-mog"))
    return grid[found.indices]


def count_modes(z: np.ndarray) -> tuple[float, int]:
    """Share of latents [n, 2] in a mode, and the number of modes covered, as in `Modes`."""
    distances = np.linalg.norm(z[:, None] - mode_centres(), axis=-1)  # [n, 8]
    inside = distances.min(1) < REACH * STD
    counts = np.bincount(distances.argmin(1)[inside], minlength=MODES)
    return float(inside.mean()), int((counts >= LEAST * len(z) / MODES).sum())
