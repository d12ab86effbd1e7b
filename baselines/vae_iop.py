"""VAE-IOP: H. Takahashi, T. Iwata, Y. Yamanaka, M. Yamada, S. Yagi, "Variational Autoencoder with Implicit Optimal
Priors", AAAI 2019. https://arxiv.org/abs/1809.05284

    L   = mean_b [ ||x - Dec(z)||^2 / (2 s_x^2) + w beta (KL(q(z|x) || N(0, I)) - T(z)) ],   z ~ q(z|x)
    L_T = mean BCE(T(z_q), 1) + mean BCE(T(z_p), 0),   z_q ~ q(z|x) detached,   z_p ~ N(0, I)

The prior that is best for the evidence lower bound is the aggregated posterior q(z). Its KL term is the one of N(0, I)
less E log q(z) / N(z; 0, I), and the classifier T estimates that ratio.
Sampling, which the paper does not do, is importance resampling: of 50 proposals from N(0, I) per wanted sample, taken
with probability softmax(T). `diagnostics` tells how many of the proposals really count (the effective sample size).
Choices: T takes n_ratio steps per step of the VAE, on fresh images, where the authors alternate one epoch with ten;
dropout in T acts only while T itself is trained; w rises from 0 to 1 over a share of the steps (there: 100 epochs).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, softplus

from benchmark.method import DataSpec
from benchmark.networks import initialise, noise, scaled
from benchmark.optim import Optimizers, OptimizerSpec, adam

from .annealed_vae import AnnealedVAE, AnnealedVAEConfig

GROUP = 500  # samples that share their proposals, which bounds the memory of sampling


@dataclass(frozen=True)
class VAEIOPConfig(AnnealedVAEConfig):
    n_ratio: int = 5  # steps of T per step of the VAE; the authors' epochs amount to 10
    ratio_units: int = 500  # units of each of T's three layers, times width
    dropout: float = 0.5  # before the last layer of T
    proposals: int = 50  # draws from N(0, I) per wanted sample
    lr_ratio: float = 1e-3  # of T

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(1, "n_ratio", "ratio_units", "proposals")
        self.require(0, "dropout", "lr_ratio")
        if self.dropout >= 1:
            raise ValueError(f"dropout is {self.dropout}; it must be less than 1")


class VAEIOP(AnnealedVAE):
    """VAE whose implicit prior is its aggregated posterior, through a classifier's estimate of the density ratio."""

    name = "vae-iop"
    title = "VAE-IOP"
    paper = "Takahashi et al., AAAI 2019"
    year = 2019
    url = "https://arxiv.org/abs/1809.05284"
    Config = VAEIOPConfig

    def __init__(self, data: DataSpec, config: VAEIOPConfig):
        super().__init__(data, config)
        m, units = config.latent_dim, scaled(config.ratio_units, config.width)
        layers = [part for inputs in (m, units, units) for part in (nn.Linear(inputs, units), nn.Tanh())]
        self.ratio = initialise(nn.Sequential(*layers, nn.Linear(units, 1)), nn.init.xavier_uniform_)

    def log_ratio(self, z: Tensor, drop: float = 0.0) -> Tensor:
        """T(z), the estimate of log q(z) / N(z; 0, I): [B, m] -> [B]."""
        hidden = dropout(self.ratio[:-1](z), drop, training=drop > 0)
        return self.ratio[-1](hidden).squeeze(1).float()

    def infer(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        z, values = super().infer(x)
        correction = self.log_ratio(z)
        return z, {"kl": values["kl"] - correction, "kl_normal": values["kl"], "correction": correction}

    def optimizers(self) -> dict[str, OptimizerSpec]:
        return {"main": adam(self.encoder, self.decoder), "ratio": adam(self.ratio, lr=self.config.lr_ratio)}

    def update(
        self, batches: Iterator[Tensor], opt: Optimizers, step: int, warmup_steps: float = 1.0
    ) -> Mapping[str, Tensor]:
        logs = dict(super().update(batches, opt, step, warmup_steps))
        for _ in range(self.config.n_ratio):
            logs |= self.ratio_step(next(batches), opt)
        return logs

    def ratio_step(self, x: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """L_T: posterior samples are class 1, prior samples class 0. 2 log 2 where T cannot tell them apart."""
        with torch.no_grad():
            mean, std = self.posterior(x)
            z = mean + std * torch.randn_like(std)
        z_prior, drop = noise(len(x), self.config.latent_dim, x.device), self.config.dropout
        loss = softplus(-self.log_ratio(z, drop)).mean() + softplus(self.log_ratio(z_prior, drop)).mean()
        opt.minimise("ratio", loss)
        return {"ratio": loss}

    @torch.no_grad()
    def propose(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n proposals from N(0, I), [n, m], and their importance weights, [n], which sum to 1."""
        z = noise(n, self.config.latent_dim, self.device, generator)
        return z, self.log_ratio(z).softmax(0)

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.cat([self.resample(min(GROUP, n - i), generator) for i in range(0, n, GROUP)])

    def resample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n samples, [n, m], out of `proposals` times as many."""
        z, weights = self.propose(n * self.config.proposals, generator)
        weights = weights if generator is None else weights.cpu()
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
        return z[chosen.to(z.device)]

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """KL from the implicit prior, what T takes off it, and the effective number and share of proposals."""
        _, values = self.infer(x)
        _, weights = self.propose(GROUP * self.config.proposals)
        effective = 1 / weights.square().sum()
        return super().diagnostics(x) | {
            "kl": values["kl"].mean(), "correction": values["correction"].mean(),
            "effective_proposals": effective, "effective_share": effective / len(weights),
        }  # fmt: skip
