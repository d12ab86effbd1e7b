"""VAE-VampPrior: J. M. Tomczak, M. Welling, "VAE with a VampPrior", AISTATS 2018. https://arxiv.org/abs/1705.07120

    p(z) = (1/K) sum_k q(z|u_k),   u_k: learned pseudo-inputs, clipped to [0, 1]
    L = mean_b [ ||x - Dec(z)||^2 / (2 s_x^2) + w beta (log q(z|x) - log p(z)) ],   z ~ q(z|x)

The one-level model of the paper: the prior is a mixture of the encoder's own posteriors, and moves with the encoder.
Pseudo-inputs start as in the authors' code, at N(0.05, 0.01^2) for grey images and N(0.4, 0.05^2) for colour.
Choices: the shared encoder has batch norm, which the paper's has not, so images and pseudo-inputs go through it in one
batch: both are then normalised alike, in training and after it. w rises from 0 to 1 over a share of the steps (there:
100 epochs). Samples draw their pseudo-input at random (there: the first ones in order). Adam without normalising each
gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.method import DataSpec
from benchmark.networks import noise

from .annealed_vae import AnnealedVAE, AnnealedVAEConfig

CHUNK = 100  # images per comparison with all pseudo-inputs in `diagnostics`, to bound its memory


@dataclass(frozen=True)
class VampPriorConfig(AnnealedVAEConfig):
    pseudo_inputs: int = 500  # K; each costs an encoder pass per step, so 128 to 256 save much at 64x64

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

    def __init__(self, data: DataSpec, config: VampPriorConfig):
        super().__init__(data, config)
        self.pseudo_inputs = PseudoInputs(config.pseudo_inputs, data)

    def compare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A sample z of q(z|x) [B, m], its log q(z_j|x) [B, m] and log q(z_j|u_k) [B, K, m], all without the 2 pi."""
        u = self.pseudo_inputs()
        mean, std = self.posterior(torch.cat([x, u]))  # one batch: see above
        (mean, mean_u), (std, std_u) = (t.split([len(x), len(u)]) for t in (mean, std))
        z = mean + std * torch.randn_like(std)
        return z, log_normal(z, mean, std), log_normal(z[:, None], mean_u, std_u)

    def infer(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        z, log_q, log_components = self.compare(x)
        return z, {"kl": log_q.sum(1) - log_mixture(log_components.sum(2))}

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        mean, std = self.posterior(self.pseudo_inputs())
        where = self.device if generator is None else "cpu"
        k = torch.randint(len(mean), (n,), generator=generator, device=where).to(self.device)
        return mean[k] + std[k] * noise(n, self.config.latent_dim, self.device, generator)

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """KL from the prior, dimensions that differ from the prior's marginal by 0.01 nats, pseudo-inputs in use.

        `pseudo_inputs_used` is the perplexity of their average posterior probability, from 1 to K; `clipped_share` the
        share of their values that have left (0, 1) and get no gradient any more.
        """
        kl, marginal, used = [], [], []
        for part in x.split(CHUNK):
            _, log_q, log_components = self.compare(part)
            kl.append(log_q.sum(1) - log_mixture(log_components.sum(2)))
            marginal.append(log_q - log_mixture(log_components))
            used.append(log_components.sum(2).softmax(1))
        share, u = torch.cat(used).mean(0), self.pseudo_inputs()  # [K] and [K, C, S, S]
        return {
            "kl": torch.cat(kl).mean(),
            "active_dims_kl": (torch.cat(marginal).mean(0) > 0.01).sum(),
            "pseudo_inputs_used": torch.special.entr(share).sum().exp(),
            "clipped_share": ((u == 0) | (u == 1)).float().mean(),
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
    """log N(z; mean, std^2) + log(2 pi) / 2, entry by entry."""
    return -((z - mean) / std).square() / 2 - std.log()


def log_mixture(log_components: Tensor) -> Tensor:
    """log of the mean over K of exp(log_components), [B, K, ...] -> [B, ...]; finite however small they are."""
    return log_components.logsumexp(1) - math.log(log_components.shape[1])
