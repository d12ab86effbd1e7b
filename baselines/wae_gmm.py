"""WAE with a Gaussian-mixture prior. The FlexAE paper names it in Figure 3; it has no article of its own. A. K. Mondal,
H. Asnani, P. Singla, P. AP, "FlexAE", UAI 2021. https://proceedings.mlr.press/v161/mondal21a.html

    p(z) = (1/K) sum_k N(z; mu_k, s^2 I),   otherwise WAE-GAN

Everything about the mixture is a choice of this suite. It is fixed, not learned, and has K = 10 components. The means
are drawn once from a normal distribution with their own seed, so every run has the same prior. They are shifted to
average 0, and scaled so that their variance, averaged over dimensions, is 1 - s^2 (0.8 by default). The mixture then
has mean 0 and an average variance of 1 per dimension, like the N(0, I) of WAE-GAN. With K = 1 it is N(0, I), and the
model is WAE-GAN.

`radius` instead puts the means at equal angles on a circle in the first two dimensions. This is meant for drawings of a
two-dimensional latent space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.method import DataSpec
from benchmark.networks import noise

from .wae_gan import WAEGAN, WAEGANConfig

SEED = 0  # seed of the means


@dataclass(frozen=True)
class WAEGMMConfig(WAEGANConfig):
    components: int = 10  # K, number of components, equally likely
    variance: float = 0.2  # s^2 of each component; the variance of the means is 1 - s^2
    radius: float | None = None  # radius of the circle of the means; None: random means, as above

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(1, "components")
        self.require(0, "variance", "radius")
        if self.variance > 1:
            raise ValueError(f"variance is {self.variance}; it must be at most 1")
        if self.radius is not None and self.components == 1:
            raise ValueError(f"radius is {self.radius}; with one component there is no circle")


class WAEGMM(WAEGAN):
    """WAE-GAN with a fixed mixture of Gaussians as its prior, which is multimodal like the data."""

    name = "wae-gmm"
    title = "WAE-GMM"
    paper = "Mondal et al., UAI 2021 (Figure 3)"
    year = 2021
    url = "https://proceedings.mlr.press/v161/mondal21a.html"
    Config = WAEGMMConfig
    config: WAEGMMConfig
    means: Tensor  # [K, m]

    def __init__(self, data: DataSpec, config: WAEGMMConfig):
        super().__init__(data, config)
        self.std = 1.0 if config.components == 1 else config.variance**0.5
        self.register_buffer("means", fixed_means(config))

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        device = self.device if generator is None else "cpu"
        component = torch.randint(len(self.means), (n,), generator=generator, device=device).to(self.device)
        return self.means[component] + self.std * noise(n, self.config.latent_dim, self.device, generator)


def fixed_means(config: WAEGMMConfig) -> Tensor:
    """Return the means [K, m] for a config."""
    if config.radius is None:
        return spread_means(config.components, config.latent_dim, 1 - config.variance)
    return circle(config.components, config.latent_dim, config.radius)


def circle(components: int, dim: int, radius: float) -> Tensor:
    """Return K means [K, m] at equal angles, from angle 0, on a circle about 0 in the first two dimensions."""
    angles = torch.arange(components) * (2 * math.pi / components)
    means = torch.zeros(components, max(dim, 2))
    means[:, 0], means[:, 1] = radius * angles.cos(), radius * angles.sin()
    return means[:, :dim]


def spread_means(components: int, dim: int, variance: float) -> Tensor:
    """Return K random means [K, m] centred at 0; their variance, averaged over dimensions, is `variance`.

    A single mean is 0.
    """
    means = torch.randn(components, dim, generator=torch.Generator().manual_seed(SEED))
    means -= means.mean(0)
    if components == 1:
        return means
    return means * (variance / means.square().mean()).sqrt()
