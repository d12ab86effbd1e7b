"""ALAE: S. Pidhorskyi, D. A. Adjeroh, G. Doretto, "Adversarial Latent Autoencoders", CVPR 2020.
https://arxiv.org/abs/2004.04467

A GAN whose generator and discriminator consist of two networks each: noise -> F -> w -> G -> image and
image -> E -> w -> D -> score. It is adversarial in image space and an auto-encoder of the latent w, never of pixels.
S(t) = log(1 + e^t), z ~ N(0, I).

    I    E, D   mean S(D(E(G(F(z))))) + mean S(-D(E(x))) + (gamma/2) mean ||grad_x D(E(x))||^2
    II   F, G   mean S(-D(E(G(F(z)))))
    III  E, G   mean (w - E(G(w)))^2,   w = F(z), detached

Each network has one Adam; all steps that move the network use it. This is the compact variant. E is the shared encoder
with leaky ReLU and without batch norm, because it is part of the discriminator. G is the shared decoder with leaky ReLU
and a linear output in [-1, 1]. F and D are leaky ReLU networks of m units a layer. Evaluation uses an EMA of all
weights, with the decay that the authors' rule gives for batches of 128 images.

Deviations: there is no growing, no styles and no truncation. The layers are plain, where the authors' code rescales the
weights; so all networks, F included, have the same rate, and it is below the authors' 1.5e-3. In their code F has a
tenth of the rate. In that code step III also moves F, unlike in the article; here it does not. The decoder's batch-norm
averages include generated images (step II) and reconstructions, once each per step. Reconstructions are computed only
for the logs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from benchmark.losses import squared_error
from benchmark.method import DataSpec, Method, MethodConfig
from benchmark.networks import (
    build_decoder,
    build_encoder,
    frozen_statistics,
    glorot_normal_,
    initialise,
    leaky,
    noise,
    without_batch_norm,
)
from benchmark.optim import Optimizers, OptimizerSpec, adam


@dataclass(frozen=True)
class ALAEConfig(MethodConfig):
    gamma: float = 10.0  # weight of the R1 gradient penalty on real images
    mapping_layers: int = 4  # number of dense layers of F
    lr: float = 2e-4  # learning rate of all four networks

    def __post_init__(self) -> None:
        self.require(0, "gamma", "lr")
        self.require(1, "mapping_layers")


class ALAE(Method[ALAEConfig]):
    """Adversarial model in image space that is also an auto-encoder of its learned latent w."""

    name = "alae"
    title = "ALAE"
    paper = "Pidhorskyi et al., CVPR 2020"
    year = 2020
    url = "https://arxiv.org/abs/2004.04467"
    images_only = "its decoder makes images in [0, 1]"
    ema_decay = 0.991
    tuning_grid = {"lr": (4e-5, 1e-4, 2e-4)}
    Config = ALAEConfig

    def __init__(self, data: DataSpec, config: ALAEConfig):
        super().__init__(data, config)
        m = config.latent_dim
        self.mapping = build_dense(*[m] * (config.mapping_layers + 1))  # F
        self.discriminator = build_dense(m, m, m, 1)  # D

    def build_autoencoder(self) -> tuple[nn.Module, nn.Module]:
        c, d = self.config, self.data
        encoder = build_encoder(d.channels, d.size, c.latent_dim, c.width)
        decoder = build_decoder(d.channels, d.size, c.latent_dim, c.width)[:-1]  # without the sigmoid
        return nn.Sequential(*map(leaky, without_batch_norm(encoder))), nn.Sequential(*map(leaky, decoder))

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(2 * x - 1)

    def decode(self, w: Tensor) -> Tensor:
        return (self.decoder(w).float() / 2 + 0.5).clamp(0, 1)

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.mapping(noise(n, self.config.latent_dim, self.device, generator)).float()

    def score(self, y: Tensor) -> Tensor:
        """Return D(E(y)) for images y in [-1, 1], [B, 1]."""
        return self.discriminator(self.encoder(y)).float()

    def optimizers(self) -> dict[str, OptimizerSpec]:
        networks = {"E": self.encoder, "G": self.decoder, "F": self.mapping, "D": self.discriminator}
        return {name: adam(network, lr=self.config.lr, betas=(0.0, 0.99)) for name, network in networks.items()}

    def update(self, batches: Iterator[Tensor], opt: Optimizers, step: int) -> Mapping[str, Tensor]:
        x = next(batches)
        logs = self.discriminator_step(x, opt)
        return logs | self.generator_step(len(x), opt) | self.latent_step(len(x), opt)

    def discriminator_step(self, x: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Do step I: E and D separate real from generated images, with a gradient penalty on real images."""
        with torch.no_grad(), frozen_statistics(self.decoder):
            fake = self.decoder(self.prior(len(x)))
        real = (2 * x - 1).requires_grad_(True)
        w = self.encoder(real)
        score = self.discriminator(w).float()
        disc_loss = softplus(self.score(fake)).mean() + softplus(-score).mean()
        (gradient,) = torch.autograd.grad(score.sum(), real, create_graph=True)
        r1 = gradient.float().square().flatten(1).sum(1).mean()
        opt.minimise(("E", "D"), disc_loss + self.config.gamma / 2 * r1)
        with torch.no_grad():
            reconstruction = squared_error(x, self.decode(w))  # for the logs only
        return {"disc_loss": disc_loss, "r1": r1, "reconstruction": reconstruction}

    def generator_step(self, n: int, opt: Optimizers) -> dict[str, Tensor]:
        """Do step II: F and G generate n images that D takes for real."""
        w = self.prior(n)
        adv_loss = softplus(-self.score(self.decoder(w))).mean()
        opt.minimise(("F", "G"), adv_loss)
        return {"adv_loss": adv_loss, "std_w": rms_deviation(w)}

    def latent_step(self, n: int, opt: Optimizers) -> dict[str, Tensor]:
        """Do step III: E and G reconstruct n latents."""
        with torch.no_grad():
            w = self.prior(n)
        with frozen_statistics(self.decoder):
            latent_loss = mse_loss(self.encoder(self.decoder(w)).float(), w)
        opt.minimise(("E", "G"), latent_loss)
        return {"latent_loss": latent_loss}

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """Return the spread of w = F(z), and the ratio of its variance that G and E lose (0: none; 1: all)."""
        w = self.prior(len(x))
        latent_loss = mse_loss(self.encode(self.decode(w)), w)
        return {"std_w": rms_deviation(w), "latent_loss_ratio": latent_loss / w.var(0, correction=0).mean()}


@torch.no_grad()
def rms_deviation(w: Tensor) -> Tensor:
    """Return the root of the mean variance per dimension of latents [B, m]. Zero if F has collapsed. Scalar."""
    return w.var(0, correction=0).mean().sqrt()


def build_dense(*sizes: int) -> nn.Sequential:
    """Return dense layers with leaky ReLU between them, [B, sizes[0]] -> [B, sizes[-1]]."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
    return initialise(nn.Sequential(*layers[:-1]), glorot_normal_)
