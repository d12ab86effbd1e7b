"""VAE-VampPrior: J. M. Tomczak, M. Welling, "VAE with a VampPrior", AISTATS 2018. https://arxiv.org/abs/1705.07120

    p(z) = (1/K) sum_k q(z|u_k),   u_k: learned pseudo-inputs, clipped to [0, 1]
    L = mean_b [ ||x - Dec(z)||^2 / (2 s_x^2) + w beta (log q(z|x) - log p(z)) ],   z ~ q(z|x)

This is the one-level model of the paper. The prior is a mixture of the encoder's posteriors, so it changes with the
encoder. Pseudo-inputs start as in the authors' code: N(0.05, 0.01^2) for grey images, N(0.4, 0.05^2) for colour images.

Choices: the shared encoder has batch norm, unlike the paper's. So each training batch holds the images and the
pseudo-inputs. Both get the same normalisation, in training and in evaluation. w rises from 0 to 1 over a given fraction
of the steps (paper: 100 epochs). Each sample draws its pseudo-input at random (paper: the first ones in order). Adam is
used without the authors' normalisation of each gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.method import DataSpec
from benchmark.networks import noise

from .annealed_vae import AnnealedVAE, AnnealedVAEConfig

CHUNK = 100  # images that `diagnostics` compares with all pseudo-inputs at a time, which bounds its memory


@dataclass(frozen=True)
class VampPriorConfig(AnnealedVAEConfig):
    pseudo_inputs: int = 500  # K; each costs one encoder pass per step, so 128 to 256 save much time at 64x64

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(1, "pseudo_inputs")


class VampPrior(AnnealedVAE):
    """VAE whose prior is the mixture of its posteriors at K learned pseudo-inputs."""

    name = "vampprior"
    title = "VAE-VampPrior"
    paper = "Tomczak & Welling, AISTATS 2018"
    year = 2018
    url = "https://arxiv.org/abs/1705.07120"
    images_only = "its pseudo-inputs are images in [0, 1]"
    Config = VampPriorConfig
    config: VampPriorConfig

    def __init__(self, data: DataSpec, config: VampPriorConfig):
        super().__init__(data, config)
        self.pseudo_inputs = PseudoInputs(config.pseudo_inputs, data)

    def sample_with_log_densities(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a sample z of q(z|x) [B, m], its log q(z_j|x) [B, m] and its log q(z_j|u_k) [B, K, m].

        The densities are without their factors of 2 pi.
        """
        u = self.pseudo_inputs()
        mean, std = self.posterior(torch.cat([x, u]))  # one batch: see the module docstring
        (mean, mean_u), (std, std_u) = (t.split([len(x), len(u)]) for t in (mean, std))
        z = mean + std * torch.randn_like(std)
        return z, log_normal(z, mean, std), log_normal(z[:, None], mean_u, std_u)

    def sample_with_kl(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        z, log_q, log_components = self.sample_with_log_densities(x)
        return z, {"kl": log_q.sum(1) - log_mixture(log_components.sum(2))}

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        mean, std = self.posterior(self.pseudo_inputs())
        device = self.device if generator is None else "cpu"
        k = torch.randint(len(mean), (n,), generator=generator, device=device).to(self.device)
        return mean[k] + std[k] * noise(n, self.config.latent_dim, self.device, generator)

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """Return KL, active dimensions, and the use and clipping of the pseudo-inputs.

        `active_dims_kl` is the number of dimensions whose posterior differs from the prior's marginal by more than 0.01
        nats. `pseudo_input_perplexity` is the perplexity of the pseudo-inputs' average posterior probability, from 1 to
        K. `clipped_ratio` is the fraction of their values outside (0, 1). Such a value is clipped and gets no gradient.
        """
        kl, marginal_kl, probability = [], [], []
        for part in x.split(CHUNK):
            _, log_q, log_components = self.sample_with_log_densities(part)
            kl.append(log_q.sum(1) - log_mixture(log_components.sum(2)))
            marginal_kl.append(log_q - log_mixture(log_components))
            probability.append(log_components.sum(2).softmax(1))
        usage, u = torch.cat(probability).mean(0), self.pseudo_inputs()  # [K] and [K, C, S, S]
        return {
            "kl": torch.cat(kl).mean(),
            "active_dims_kl": (torch.cat(marginal_kl).mean(0) > 0.01).sum(),
            "pseudo_input_perplexity": torch.special.entr(usage).sum().exp(),
            "clipped_ratio": ((u == 0) | (u == 1)).float().mean(),
        }


class PseudoInputs(nn.Module):
    """K learned images [K, C, S, S]."""

    def __init__(self, count: int, data: DataSpec):
        super().__init__()
        mean, std = (0.05, 0.01) if data.channels == 1 else (0.4, 0.05)
        self.images = nn.Parameter(mean + std * torch.randn(count, data.channels, data.size, data.size))

    def forward(self) -> Tensor:
        return self.images.clamp(0, 1)


def log_normal(z: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return log N(z; mean, std^2) + log(2 pi) / 2, entry by entry."""
    return -((z - mean) / std).square() / 2 - std.log()


def log_mixture(log_components: Tensor) -> Tensor:
    """Return the log of the mean over K of exp(log_components), [B, K, ...] -> [B, ...], without underflow."""
    return log_components.logsumexp(1) - math.log(log_components.shape[1])
