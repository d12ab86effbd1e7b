"""2S-VAE: B. Dai, D. Wipf, "Diagnosing and Enhancing VAE Models", ICLR 2019. https://arxiv.org/abs/1903.05789

    L_1 = mean_b [ ||x - Dec(z)||^2 / (2 g_x^2) + D (log g_x + log(2 pi) / 2) + KL(q(z|x) || N(0, I)) ]
    L_2 = mean_b [ ||z - z^(u)||^2 / (2 g_z^2) + m (log g_z + log(2 pi) / 2) + KL(q(u|z) || N(0, I)) ],   z ~ q(z|x)
    sampling: u ~ N(0, I),   z = z^(u) + g_z eps,   x = Dec(z)

A VAE that learns the standard deviation g_x of its decoder drives it toward 0 and fits the manifold of the data, but
the distribution of its codes is then not N(0, I). A second, small VAE learns this distribution. It is trained on the
frozen posteriors of all training images. Its latent u has the size of z, and both its networks concatenate their input
with the last hidden layer.

Deviations from the authors' code: log g_x and log g_z have their own Adam with rate 1e-2. At the authors' rate of 1e-4,
log g changes by about 1e-4 per step at most. From g = 1 to g = 0.05 takes 30,000 steps. At 1e-2 both follow their
optimum, where g^2 is the mean squared error, after some hundred steps in a run of any length (lr_gamma=1e-4 gives the
authors' rate). Both logarithms are kept above -6. The networks train with the suite's constant rate of 2e-4. The
authors start at 1e-4 and halve the rate on a schedule. The second stage has as many steps as the first; theirs has
twice the epochs. The second stage computes standard deviations as 1e-6 + softplus(raw), like the first; theirs uses
exp, which overflows at large learning rates. Images are reconstructed from the mean of q(z|x); theirs samples z.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.losses import gaussian_kl, squared_error
from benchmark.method import Budget, DataSpec, Fit, MethodConfig, Train
from benchmark.networks import build_mlp, glorot_normal_, initialise, noise, scaled
from benchmark.optim import Optimizers, OptimizerSpec, adam

from .vae import GaussianAutoencoder

LOG_GAMMA_MIN = -6.0


@dataclass(frozen=True)
class TwoStageVAEConfig(MethodConfig):
    second_share: float = 1.0  # steps of the second stage, as a ratio of the budget; they are cheap
    lr: float = 2e-4  # learning rate of the networks of both stages
    lr_gamma: float = 1e-2  # learning rate of the two standard deviations

    def __post_init__(self) -> None:
        self.require(0, "second_share", above=True)
        self.require(0, "lr", "lr_gamma")


class TwoStageVAE(GaussianAutoencoder[TwoStageVAEConfig]):
    """VAE with a learned decoder variance, and a second VAE that learns the distribution of its codes."""

    name = "2s-vae"
    title = "2S-VAE"
    paper = "Dai & Wipf, ICLR 2019"
    year = 2019
    url = "https://arxiv.org/abs/1903.05789"
    tuning_grid = {"lr": (1e-4, 2e-4, 4e-4)}
    Config = TwoStageVAEConfig

    def __init__(self, data: DataSpec, config: TwoStageVAEConfig):
        super().__init__(data, config)
        self.scale = LearnedScale()
        self.second = SecondStage(config.latent_dim, config.width)

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        u, eps = noise(n, 2 * self.config.latent_dim, self.device, generator).chunk(2, dim=1)  # [n, m] each
        return self.second.decode(u) + self.second.scale.gamma * eps

    def phases(self, budget: Budget) -> list[Train | Fit]:
        steps = max(1, round(self.config.second_share * budget.steps))
        return [
            Train("vae", budget.steps, self.optimizers, self.update),
            Train("second-stage", steps, self.second_optimizers, self.second_update, inputs=self.posterior_parameters),
        ]

    def optimizers(self) -> dict[str, OptimizerSpec]:
        """Return the optimizers of the first stage."""
        c = self.config
        return {"vae": adam(self.encoder, self.decoder, lr=c.lr), "gamma_x": adam(self.scale, lr=c.lr_gamma)}

    def second_optimizers(self) -> dict[str, OptimizerSpec]:
        """Return the optimizers of the second stage."""
        c, second = self.config, self.second
        return {
            "second": adam(second.encoder, second.decoder, lr=c.lr),
            "gamma_z": adam(second.scale, lr=c.lr_gamma),
        }

    def update(self, batches: Iterator[Tensor], opt: Optimizers, step: int) -> Mapping[str, Tensor]:
        losses = self.loss(next(batches))
        opt.minimise(("vae", "gamma_x"), losses["total"])
        self.scale.keep_above_minimum()
        return losses

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        total, reconstruction, kl = negative_elbo(x, self.posterior, self.decode, self.scale)
        return {"total": total, "reconstruction": reconstruction, "kl": kl, "gamma_x": self.scale.gamma}

    def posterior_parameters(self, x: Tensor) -> Tensor:
        """Return the training data of the second stage: mean and standard deviation of q(z|x), [B, 2 m]."""
        return torch.cat(self.posterior(x), dim=1)

    def second_update(self, batches: Iterator[Tensor], opt: Optimizers, step: int) -> Mapping[str, Tensor]:
        """Do one step of the second stage on fresh posterior samples z.

        Training on the means alone would collapse unused dimensions to a point.
        """
        second = self.second
        mean, std = next(batches).chunk(2, dim=1)
        z = mean + std * torch.randn_like(std)  # [B, m]
        total, reconstruction, kl = negative_elbo(z, second.posterior, second.decode, second.scale)
        opt.minimise(("second", "gamma_z"), total)
        second.scale.keep_above_minimum()
        return {"second_total": total, "second_reconstruction": reconstruction, "second_kl": kl,
                "gamma_z": second.scale.gamma}  # fmt: skip

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """Return the learned standard deviations, and KL and active dimensions of both stages."""
        mean, std = self.posterior(x)
        kl = gaussian_kl(*self.second.posterior(mean + std * torch.randn_like(std))).mean(0)  # [m]
        return {
            **super().diagnostics(x), "gamma_x": self.scale.gamma,
            "second_kl": kl.sum(), "second_active_dims_kl": (kl > 0.01).sum(), "gamma_z": self.second.scale.gamma,
        }  # fmt: skip


def negative_elbo(
    x: Tensor, posterior: Callable[[Tensor], tuple[Tensor, Tensor]], decode: Callable[[Tensor], Tensor],
    scale: LearnedScale,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return L of either stage for x [B, ...], its squared error and its KL. Three scalars; L may be negative."""
    mean, std = posterior(x)
    reconstruction = squared_error(x, decode(mean + std * torch.randn_like(std)))
    kl = gaussian_kl(mean, std).sum(1).mean()
    log_normaliser = x[0].numel() * (scale.log_gamma + 0.5 * math.log(2 * math.pi))
    return reconstruction / (2 * scale.gamma**2) + log_normaliser + kl, reconstruction, kl


class LearnedScale(nn.Module):
    """The standard deviation gamma of a Gaussian decoder, one for all values. Its logarithm is the parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.log_gamma = nn.Parameter(torch.zeros(()))

    @property
    def gamma(self) -> Tensor:
        """The standard deviation, a positive scalar."""
        return self.log_gamma.exp()

    @torch.no_grad()
    def keep_above_minimum(self) -> None:
        """Clamp log gamma after a step. A clamp in the loss would leave no gradient that could raise gamma again."""
        self.log_gamma.clamp_(min=LOG_GAMMA_MIN)


class SecondStage(nn.Module):
    """The VAE of codes z [B, m], with latent u [B, m]."""

    def __init__(self, dim: int, width: float):
        super().__init__()
        self.encoder = SkipMLP(dim, 2 * dim, width)
        self.decoder = SkipMLP(dim, dim, width)
        self.scale = LearnedScale()

    def posterior(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of q(u|z), each [B, m]."""
        mean, raw = self.encoder(z).float().chunk(2, dim=1)
        return mean, 1e-6 + nn.functional.softplus(raw)

    def decode(self, u: Tensor) -> Tensor:
        """Return z^(u), the mean of p(z|u), [B, m]."""
        return self.decoder(u).float()


class SkipMLP(nn.Module):
    """Three dense ReLU layers, and a linear layer on the concatenation of the last one and the input."""

    def __init__(self, inputs: int, outputs: int, width: float):
        super().__init__()
        hidden = scaled(1024, width)
        self.hidden = build_mlp(inputs, hidden, width, layers=2)  # its linear layer is the third hidden layer
        self.out = initialise(nn.Sequential(nn.Linear(hidden + inputs, outputs)), glorot_normal_)

    def forward(self, z: Tensor) -> Tensor:
        h = torch.relu(self.hidden(z))
        return self.out(torch.cat([h, z], dim=1))
