"""WAE-GAN: I. Tolstikhin, O. Bousquet, S. Gelly, B. Schoelkopf, "Wasserstein Auto-Encoders", ICLR 2018.
https://arxiv.org/abs/1711.01558

    L_AE = mean ||x - Dec(E(x))||^2 + lambda mean BCE(T(E(x)), 1)                     (Algorithm 1, non-saturating)
    L_T  = mean BCE(T(z_p), 1) + mean BCE(T(sg[E(x)]), 0),   z_p ~ N(0, I)

The reference code weighs 0.05 times the squared error against lambda = 10 (MNIST) or 100 (CelebA, images in
[-1, 1]); on the squared error of images in [0, 1] that is lambda = 200 and 500. CIFAR-10 is not in the paper; 300
lies between. Grey images smaller than 28x28 get 200 times their share of 784 pixels.
Deviations: the discriminator is the suite's latent critic (4 x 1024); no encoder pre-training, no noise on the
inputs, no learning-rate decay, as for all models of the suite.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmark.losses import squared_error
from benchmark.method import DataSpec, Method, MethodConfig
from benchmark.networks import build_mlp
from benchmark.optim import Optimizers, OptimizerSpec, adam


@dataclass(frozen=True)
class WAEGANConfig(MethodConfig):
    reg: float | None = None  # lambda, on the squared-error scale; None: by the size of the images, see above
    lr: float = 2e-4  # of encoder and decoder
    lr_discriminator: float = 2e-4

    def __post_init__(self) -> None:
        self.require(0, "reg", "lr", "lr_discriminator")


class WAEGAN(Method):
    """Deterministic auto-encoder; a discriminator in latent space pulls the aggregated posterior toward N(0, I)."""

    name = "wae-gan"
    title = "WAE-GAN"
    paper = "Tolstikhin et al., ICLR 2018"
    year = 2018
    url = "https://arxiv.org/abs/1711.01558"
    Config = WAEGANConfig

    def __init__(self, data: DataSpec, config: WAEGANConfig):
        super().__init__(data, config)
        self.discriminator = build_mlp(config.latent_dim, 1, config.width)
        self.reg = default_reg(data) if config.reg is None else config.reg

    def optimizers(self) -> dict[str, OptimizerSpec]:
        c = self.config
        return {
            "ae": adam(self.encoder, self.decoder, lr=c.lr, betas=(0.5, 0.999)),
            "discriminator": adam(self.discriminator, lr=c.lr_discriminator, betas=(0.5, 0.999)),
        }

    def update(self, batches: Iterator[Tensor], opt: Optimizers, step: int) -> Mapping[str, Tensor]:
        x = next(batches)
        z, z_prior = self.encode(x), self.prior(len(x))  # [B, m] each
        error = squared_error(x, self.decode(z))
        fooled = bce(self.discriminator(z), 1)
        opt.minimise("ae", error + self.reg * fooled)

        told_apart = bce(self.discriminator(z_prior), 1) + bce(self.discriminator(z.detach()), 0)
        opt.minimise("discriminator", told_apart)
        rms = z.detach().float().square().mean().sqrt()
        return {"reconstruction": error, "fooled": fooled, "discriminator": told_apart, "rms_code": rms}


def bce(logits: Tensor, target: float) -> Tensor:
    """Mean binary cross-entropy of logits against one label for the whole batch. Scalar."""
    return binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, target, dtype=torch.float32))


def default_reg(data: DataSpec) -> float:
    """lambda for this kind of image: 200 at 28x28 grey, 300 at 32x32 colour, 500 at 64x64 colour."""
    if data.channels == 1:
        return 200.0 * min(1.0, data.pixels / 784)
    return 500.0 if data.size >= 64 else 300.0
