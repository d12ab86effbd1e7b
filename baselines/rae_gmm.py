"""RAE+GMM: P. Ghosh, M. S. M. Sajjadi, A. Vergari, M. Black, B. Schoelkopf, "From Variational to Deterministic
Autoencoders", ICLR 2020. https://arxiv.org/abs/1903.12436

    L = mean ||x - Dec(E(x))||^2 + beta mean ||z||^2 + lambda sum ||W||^2,   z = E(x),   W: kernels of the decoder

This is the RAE with L2 regularisation. Two regularisers replace the noise of a VAE. One keeps the codes small. The
other keeps the decoder smooth; without it, the decoder would undo the first one by scaling up its weights. Samples come
from a mixture that is fitted to the codes after training. See ae_gmm.py for lambda, the fit and the deviations.

The authors' code averages the error over D pixels and ||z||^2 over m dimensions. For the squared error, beta is
therefore multiplied by D / m. The authors' (beta, m) are (1e-4, 16) for MNIST, (1e-4, 64) for CelebA and (1e-3, 128)
for CIFAR-10. `beta_scale` is a further factor.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from benchmark.method import DataSpec, weight_for

from .ae_gmm import AEGMM, AEGMMConfig


@dataclass(frozen=True)
class RAEGMMConfig(AEGMMConfig):
    beta_scale: float = 1.0  # factor on the published weight beta of the codes; 0 gives AE+GMM

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0, "beta_scale")


class RAEGMM(AEGMM):
    """Regularised deterministic auto-encoder with an ex-post Gaussian mixture as its prior."""

    name = "rae-gmm"
    title = "RAE+GMM"
    tuning_grid = {"beta_scale": (1.0, 10.0, 100.0)}
    Config = RAEGMMConfig
    config: RAEGMMConfig

    def __init__(self, data: DataSpec, config: RAEGMMConfig):
        super().__init__(data, config)
        published = weight_for(
            data, grey=1024 * 1e-4 / 16, small_colour=3072 * 1e-3 / 128, large_colour=12288 * 1e-4 / 64
        )
        self.beta = config.beta_scale * published

    def regularisers(self, z: Tensor) -> dict[str, Tensor]:
        return {"code_regulariser": self.beta * z.float().square().sum(1).mean(), **super().regularisers(z)}
