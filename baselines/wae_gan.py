"""WAE-GAN: I. Tolstikhin, O. Bousquet, S. Gelly, B. Schoelkopf, "Wasserstein Auto-Encoders", ICLR 2018.
https://arxiv.org/abs/1711.01558

    L_AE = mean ||x - Dec(E(x))||^2 + lambda mean BCE(T(E(x)), 1)                     (Algorithm 1, non-saturating)
    L_T  = mean BCE(T(z_p), 1) + mean BCE(T(sg[E(x)]), 0),   z_p ~ N(0, I)

With critic=wgan-gp the discriminator is a Wasserstein critic C. It is trained and used as in FlexAE, but against the
fixed prior. This is FlexAE without its learned prior (Mondal et al., UAI 2021, Eqs. 5, 6 and 8):

    L_AE = mean ||x - Dec(E(x))||^2,   L_C = mean C(z_p) - mean C(E(x)) + 10 mean (||grad C(z~)|| - 1)^2,
    L_E  = mean C(E(x))

Each of these losses has its own Adam. One outer step does one step on L_AE, n_critic steps on L_C and one on L_E. The
step on L_E uses the last batch of the critic.

The authors' program minimises 0.05 times the squared error plus lambda times the penalty. Its lambda is 10 for MNIST
and 100 for CelebA, whose images are in [-1, 1]. For the squared error of images in [0, 1] this is lambda = 200 and 500.
CIFAR-10 is not in the paper; 300 lies between. Grey images smaller than 28x28 get 200 times pixels / 784. At short
budgets these weights can be far too large, so `reg_scale` multiplies them.

Deviations: the discriminator is the latent critic of the suite (4 x 1024). There is no encoder pre-training, no noise
on the inputs and no learning-rate decay, as for all models of the suite. With wgan-gp the learning rate of the encoder
is 1e-4. FlexAE's rate is 1e-5, but its prior also moves toward the codes; at 1e-5 with a fixed prior, the codes hardly
move.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmark.losses import rms, squared_error, wasserstein_critic_loss
from benchmark.method import DataSpec, Method, MethodConfig, weight_for
from benchmark.networks import build_mlp
from benchmark.optim import Optimizers, OptimizerSpec, adam


@dataclass(frozen=True)
class WAEGANConfig(MethodConfig):
    critic: Literal["logistic", "wgan-gp"] = "logistic"  # discriminator of the WAE paper, or Wasserstein critic
    reg_scale: float = 1.0  # only logistic: factor on the published lambda (200 for MNIST, see above)
    n_critic: int = 5  # only wgan-gp: critic steps per outer step
    penalty: float = 10.0  # only wgan-gp: weight of the gradient penalty
    lr: float = 2e-4  # learning rate of encoder and decoder
    lr_discriminator: float | None = None  # of the discriminator; None: 2e-4 for logistic, 1e-4 for wgan-gp
    lr_enc: float = 1e-4  # only wgan-gp: learning rate of the encoder's adversarial loss

    def __post_init__(self) -> None:
        self.require(0, "reg_scale", "penalty", "lr", "lr_discriminator", "lr_enc")
        self.require(1, "n_critic")
        if self.critic == "wgan-gp" and self.reg_scale != 1:
            raise ValueError(f"reg_scale is {self.reg_scale}; it has no meaning with critic=wgan-gp")


class WAEGAN(Method[WAEGANConfig]):
    """Deterministic auto-encoder; a discriminator in latent space pulls the aggregated posterior toward N(0, I)."""

    name = "wae-gan"
    title = "WAE-GAN"
    paper = "Tolstikhin et al., ICLR 2018"
    year = 2018
    url = "https://arxiv.org/abs/1711.01558"
    tuning_grid = {"reg_scale": (0.05, 0.25, 1.0)}
    Config = WAEGANConfig

    def __init__(self, data: DataSpec, config: WAEGANConfig):
        super().__init__(data, config)
        self.discriminator = build_mlp(config.latent_dim, 1, config.width)
        self.reg = config.reg_scale * published_reg(data)

    def optimizers(self) -> dict[str, OptimizerSpec]:
        c, rate = self.config, self.config.lr_discriminator
        if c.critic == "logistic":
            return {
                "ae": adam(self.encoder, self.decoder, lr=c.lr, betas=(0.5, 0.999)),
                "discriminator": adam(self.discriminator, lr=2e-4 if rate is None else rate, betas=(0.5, 0.999)),
            }
        return {
            "ae": adam(self.encoder, self.decoder, lr=c.lr),
            "discriminator": adam(self.discriminator, lr=1e-4 if rate is None else rate, betas=(0.0, 0.9)),
            "encoder": adam(self.encoder, lr=c.lr_enc, betas=(0.0, 0.9)),
        }

    def update(self, batches: Iterator[Tensor], opt: Optimizers, step: int) -> Mapping[str, Tensor]:
        if self.config.critic == "logistic":
            return self.logistic_step(next(batches), opt)
        return self.wasserstein_step(batches, opt)

    def logistic_step(self, x: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Do Algorithm 1 of the WAE paper: auto-encoder, then discriminator, on the same images and prior samples."""
        z, z_prior = self.encode(x), self.prior(len(x))  # [B, m] each
        reconstruction = squared_error(x, self.decode(z))
        adv_loss = bce(self.discriminator(z), 1)
        opt.minimise("ae", reconstruction + self.reg * adv_loss)

        disc_loss = bce(self.discriminator(z_prior), 1) + bce(self.discriminator(z.detach()), 0)
        opt.minimise("discriminator", disc_loss)
        return {"reconstruction": reconstruction, "adv_loss": adv_loss, "disc_loss": disc_loss, "rms_code": rms(z)}

    def wasserstein_step(self, batches: Iterator[Tensor], opt: Optimizers) -> dict[str, Tensor]:
        """Do the updates of FlexAE except its prior generator's: auto-encoder, n_critic times the critic, encoder."""
        x = next(batches)
        reconstruction = squared_error(x, self.reconstruct(x))
        opt.minimise("ae", reconstruction)

        for _ in range(self.config.n_critic):
            x = next(batches)
            with torch.no_grad():
                z = self.encode(x)
            z_prior = self.prior(len(x))
            critic_loss, distance = wasserstein_critic_loss(self.discriminator, z, z_prior, self.config.penalty)
            opt.minimise("discriminator", critic_loss)

        with torch.no_grad():
            self.decode(self.prior(len(x)))  # as in FlexAE, the decoder's batch-norm averages include prior samples
        adv_loss = self.discriminator(self.encode(x)).float().mean()
        opt.minimise("encoder", adv_loss)
        return {"reconstruction": reconstruction, "critic_loss": critic_loss, "distance": distance,
                "distance_per_rms": distance / rms(z), "adv_loss": adv_loss, "rms_code": rms(z)}  # fmt: skip


def bce(logits: Tensor, target: float) -> Tensor:
    """Return the mean binary cross-entropy of logits against one label for the whole batch. Scalar."""
    return binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, target, dtype=torch.float32))


def published_reg(data: DataSpec) -> float:
    """Return lambda for this kind of image: 200 at 28x28 grey, 300 at 32x32 colour, 500 at 64x64 colour."""
    return weight_for(data, grey=200.0, small_colour=300.0, large_colour=500.0)
