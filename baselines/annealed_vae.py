"""KL warm-up, the common part of VAE+Flow, VAE-VampPrior and VAE-IOP, which differ from the VAE only in their KL term.
The weight of this term rises from 0, as in S. R. Bowman et al., "Generating Sentences from a Continuous Space",
CoNLL 2016. https://arxiv.org/abs/1511.06349

    L = mean_b [ ||x - Dec(z)||^2 / (2 s_x^2) + w beta KL(z, x) ],   z ~ q(z|x)
    w = min(1, (step + 1) / (warmup steps))

KL(z, x) is the model's estimate of the KL divergence of q(z|x) from its prior. Here it is the closed form of the VAE.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.losses import gaussian_kl, squared_error
from benchmark.method import Budget, Fit, Train
from benchmark.optim import Optimizers

from .vae import VAE, VAEConfig


@dataclass(frozen=True)
class AnnealedVAEConfig(VAEConfig):
    warmup: float = 0.1  # fraction of the steps during which the weight of the KL term rises linearly from 0 to beta

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0, "warmup")
        if self.warmup > 1:
            raise ValueError(f"warmup is {self.warmup}; it must be at most 1")


class AnnealedVAE(VAE):
    """A VAE with a KL warm-up. Subclasses override `sample_with_kl`, which defines posterior and prior."""

    Config = AnnealedVAEConfig
    config: AnnealedVAEConfig

    def sample_with_kl(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return a sample of q(z|x), [B, m], and values to log per image, [B] each. The loss contains "kl"."""
        mean, std = self.posterior(x)
        return mean + std * torch.randn_like(std), {"kl": gaussian_kl(mean, std).sum(1)}

    def loss(self, x: Tensor, kl_weight: float = 1.0) -> dict[str, Tensor]:
        z, values = self.sample_with_kl(x)
        reconstruction = squared_error(x, self.decode(z))
        logs = {name: value.mean() for name, value in values.items()}
        total = reconstruction / (2 * self.config.decoder_variance) + kl_weight * self.config.beta * logs["kl"]
        return {"total": total, "reconstruction": reconstruction, **logs}

    def update(
        self, batches: Iterator[Tensor], opt: Optimizers, step: int, warmup_steps: float = 1.0
    ) -> Mapping[str, Tensor]:
        losses = self.loss(next(batches), min(1.0, (step + 1) / warmup_steps))
        opt.minimise("main", losses["total"])
        return losses

    def phases(self, budget: Budget) -> list[Train | Fit]:
        update = functools.partial(self.update, warmup_steps=max(1.0, self.config.warmup * budget.steps))
        return [Train("train", budget.steps, self.optimizers, update)]
