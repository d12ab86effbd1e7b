"""VAE-IOP: H. Takahashi, T. Iwata, Y. Yamanaka, M. Yamada, S. Yagi, "Variational Autoencoder with Implicit Optimal
Priors", AAAI 2019. https://arxiv.org/abs/1809.05284

    L   = mean_b [ ||x - Dec(z)||^2 / (2 s_x^2) + w beta (KL(q(z|x) || N(0, I)) - T(z)) ],   z ~ q(z|x)
    L_T = mean BCE(T(z_q), 1) + mean BCE(T(z_p), 0),   z_q ~ q(z|x) detached,   z_p ~ N(0, I)

The prior that maximises the evidence lower bound is the aggregated posterior q(z). With it, KL(q(z|x) || q(z)) is
KL(q(z|x) || N(0, I)) minus the mean of log (q(z) / N(z; 0, I)) over z ~ q(z|x). The discriminator T, a classifier of
posterior and prior samples, estimates this log density ratio.

The paper does not sample. Here sampling is importance resampling: each sample is chosen from 50 proposals from N(0, I)
with probability softmax(T). `diagnostics` reports the effective number of proposals (effective sample size).

Choices: after each step of the VAE, T takes n_ratio steps on new batches. The authors train the VAE for one epoch, then
T for ten. Dropout in T is active only while T itself is trained. w rises from 0 to 1 over a given fraction of the steps
(paper: 100 epochs).
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

GROUP = 500  # samples that share one set of proposals, which bounds the memory of sampling


@dataclass(frozen=True)
class VAEIOPConfig(AnnealedVAEConfig):
    n_ratio: int = 5  # steps of T per step of the VAE; the authors' ratio of epochs is 10
    ratio_units: int = 500  # units of each of the three layers of T, times width
    dropout: float = 0.5  # dropout rate before the last layer of T
    proposals: int = 50  # proposals from N(0, I) per sample
    lr_ratio: float = 1e-3  # learning rate of T

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(1, "n_ratio", "ratio_units", "proposals")
        self.require(0, "dropout", "lr_ratio")
        if self.dropout >= 1:
            raise ValueError(f"dropout is {self.dropout}; it must be less than 1")


class VAEIOP(AnnealedVAE):
    """VAE whose implicit prior is its aggregated posterior; a discriminator estimates the density ratio."""

    name = "vae-iop"
    title = "VAE-IOP"
    paper = "Takahashi et al., AAAI 2019"
    year = 2019
    url = "https://arxiv.org/abs/1809.05284"
    Config = VAEIOPConfig
    config: VAEIOPConfig

    def __init__(self, data: DataSpec, config: VAEIOPConfig):
        super().__init__(data, config)
        m, units = config.latent_dim, scaled(config.ratio_units, config.width)
        layers: list[nn.Module] = []
        for inputs in (m, units, units):
            layers += [nn.Linear(inputs, units), nn.Tanh()]
        self.ratio = initialise(nn.Sequential(*layers, nn.Linear(units, 1)), nn.init.xavier_uniform_)

    def log_density_ratio(self, z: Tensor, dropout_rate: float = 0.0) -> Tensor:
        """Return T(z), the estimate of log q(z) / N(z; 0, I): [B, m] -> [B]."""
        hidden = dropout(self.ratio[:-1](z), dropout_rate, training=dropout_rate > 0)
        return self.ratio[-1](hidden).squeeze(1).float()

    def sample_with_kl(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        z, values = super().sample_with_kl(x)
        log_density_ratio = self.log_density_ratio(z)
        kl = values["kl"] - log_density_ratio
        return z, {"kl": kl, "kl_normal": values["kl"], "log_density_ratio": log_density_ratio}

    def optimizers(self) -> dict[str, OptimizerSpec]:
        return {"main": adam(self.encoder, self.decoder), "ratio": adam(self.ratio, lr=self.config.lr_ratio)}

    def update(
        self, batches: Iterator[Tensor], opt: Optimizers, step: int, warmup_steps: float = 1.0
    ) -> Mapping[str, Tensor]:
        logs = dict(super().update(batches, opt, step, warmup_steps))
        for _ in range(self.config.n_ratio):
            logs |= self.discriminator_step(next(batches), opt)
        return logs

    def discriminator_step(self, x: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise L_T: posterior samples are class 1, prior samples class 0. 2 log 2 if T cannot separate them."""
        with torch.no_grad():
            mean, std = self.posterior(x)
            z = mean + std * torch.randn_like(std)
        z_prior, rate = noise(len(x), self.config.latent_dim, x.device), self.config.dropout
        logits, logits_prior = self.log_density_ratio(z, rate), self.log_density_ratio(z_prior, rate)
        disc_loss = softplus(-logits).mean() + softplus(logits_prior).mean()
        opt.minimise("ratio", disc_loss)
        return {"disc_loss": disc_loss}

    @torch.no_grad()
    def propose(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return n proposals from N(0, I), [n, m], and their importance weights, [n], which sum to 1."""
        z = noise(n, self.config.latent_dim, self.device, generator)
        return z, self.log_density_ratio(z).softmax(0)

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.cat([self.resample(min(GROUP, n - i), generator) for i in range(0, n, GROUP)])

    def resample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n samples, [n, m], chosen from `proposals` times as many proposals."""
        z, weights = self.propose(n * self.config.proposals, generator)
        weights = weights if generator is None else weights.cpu()
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
        return z[chosen.to(z.device)]

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """Return the KL from the implicit prior, the mean of T, and the effective number and ratio of proposals."""
        _, values = self.sample_with_kl(x)
        _, weights = self.propose(GROUP * self.config.proposals)
        effective = 1 / weights.square().sum()
        return super().diagnostics(x) | {
            "kl": values["kl"].mean(), "log_density_ratio": values["log_density_ratio"].mean(),
            "effective_proposals": effective, "effective_ratio": effective / len(weights),
        }  # fmt: skip
