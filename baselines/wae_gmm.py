"""WAE with a Gaussian-mixture prior: the paper's Figure 3 names it, without an article of its own. A. K. Mondal,
H. Asnani, P. Singla, P. AP, "FlexAE", UAI 2021. https://proceedings.mlr.press/v161/mondal21a.html

    p(z) = (1/K) sum_k N(z; mu_k, s^2 I),   otherwise WAE-GAN

Everything about the mixture is a choice of this suite: fixed, not learned; K = 10; the means are drawn once from a
normal distribution with a seed of their own (the same prior in every run), centred, and scaled so that their variance
is 1 - s^2 = 0.8. The mixture then has mean 0 and an average variance of 1 per dimension, like the N(0, I) of WAE-GAN.
With K = 1 it is N(0, I), and the model is WAE-GAN. A `radius` puts the means on a circle in the first two dimensions
instead, evenly spaced, as for drawings of a latent space of two dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.method import DataSpec
from benchmark.networks import noise

from .wae_gan import WAEGAN, WAEGANConfig

SEED = 0  # of the means


@dataclass(frozen=True)
class WAEGMMConfig(WAEGANConfig):
    components: int = 10  # K, equally likely
    variance: float = 0.2  # s^2 of each component; the means have the rest of 1
    radius: float | None = None  # of the circle of the means; None: random directions, as above

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(1, "components")
        self.require(0, "variance", "radius")
        if self.variance > 1:
            raise ValueError(f"variance is {self.variance}; it must be at most 1")
        if self.radius is not None and self.components == 1:
            raise ValueError(f"radius is {self.radius}; with one component there is no circle")


class WAEGMM(WAEGAN):
    """WAE-GAN whose fixed prior is a mixture of Gaussians: multimodal, like the data."""

    name = "wae-gmm"
    title = "WAE-GMM"
    paper = "Mondal et al., UAI 2021 (Figure 3)"
    year = 2021
    url = "https://proceedings.mlr.press/v161/mondal21a.html"
    Config = WAEGMMConfig

    def __init__(self, data: DataSpec, config: WAEGMMConfig):
        super().__init__(data, config)
        self.std = 1.0 if config.components == 1 else config.variance**0.5
        self.register_buffer("means", means_of(config))

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        where = self.device if generator is None else "cpu"
        component = torch.randint(len(self.means), (n,), generator=generator, device=where).to(self.device)
        return self.means[component] + self.std * noise(n, self.config.latent_dim, self.device, generator)


def means_of(config: WAEGMMConfig) -> Tensor:
    """The fixed means [K, m] of a configuration."""
    if config.radius is None:
        return spread_means(config.components, config.latent_dim, 1 - config.variance)
    return circle(config.components, config.latent_dim, config.radius)


def circle(components: int, dim: int, radius: float) -> Tensor:
    """K means [K, m] at equal angles on a circle about 0 in the first two dimensions, the first at angle 0."""
    angles = torch.arange(components) * (2 * math.pi / components)
    means = torch.zeros(components, max(dim, 2))
    means[:, 0], means[:, 1] = radius * angles.cos(), radius * angles.sin()
    return means[:, :dim]


def spread_means(components: int, dim: int, variance: float) -> Tensor:
    """K fixed means [K, m] around 0 whose variance, ema_modules over dimensions, is `variance`; one mean is 0."""
    means = torch.randn(components, dim, generator=torch.Generator().manual_seed(SEED))
    means -= means.mean(0)
    if components == 1:
        return means
    return means * (variance / means.square().mean()).sqrt()
