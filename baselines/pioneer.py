"""Pioneer: A. Heljakka, A. Solin, J. Kannala, "Pioneer Networks: Progressively Growing Generative Autoencoder",
ACCV 2018. https://arxiv.org/abs/1807.03026

There is no discriminator. The encoder E, which maps onto the unit sphere, and the generator G are adversaries.

    L_E = 0.1 KL(E(x)) - 0.1 KL(E(G(z))) + l_x mean |x - G(E(x))|              moves E only
    L_G = 0.1 KL(E(G(z))) + l_z mean (1 - cos(E(G(z)), z))                     moves G only, twice per step
    KL(e) = (1/m) sum_j (v_j + mu_j^2 - log v_j - 1) / 2,   z ~ uniform on the sphere

mu and v are mean and variance of each coordinate over a batch, so real and generated codes need separate batches. On
the sphere KL has the lower bound (1/m + ln m - 1) / 2, which uniform codes reach. The logs show the excess over it. The
weights are those of the authors' code. Its latent loss is 100 mean_j (2 - e_j z_j) over 512 coordinates. Up to a
constant this is 0.195 (1 - cos), so l_z = 0.2. Samples and reconstructions use an EMA of the weights of G.

This is the variant of fixed resolution, without growing. l_x is 1 for the first tenth of the steps, then 1.5. E is the
shared encoder with leaky ReLU, spectral norm in place of batch norm, and a normalised output. G is the shared decoder
with leaky ReLU, pixel norm in place of batch norm (on flat layers over all features), and a linear output in [-1, 1].

Deviations: there is no pool of old generated images. The authors' code keeps the weights of G at variance 1, multiplies
them by sqrt(2 / fan-in) when they are used, and has a rate of 1e-3. Here the layers are plain. Their weights are sqrt(2
/ fan-in) times as large, that is 0.03 to 0.05 times in the wide layers. So the rate is 0.05 times the authors', 5e-5.
At an actual rate of 1e-3 or more (including the factor of the preset), 3,000 steps on MNIST end in noise around the
digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrizations import spectral_norm

from benchmark.losses import squared_error
from benchmark.method import Budget, Fit, Method, MethodConfig, Train
from benchmark.networks import BatchNorm1d, BatchNorm2d, build_decoder, build_encoder, leaky, noise, without_batch_norm
from benchmark.optim import Optimizers, OptimizerSpec, adam


@dataclass(frozen=True)
class PioneerConfig(MethodConfig):
    kl_weight: float = 0.1  # weight of all three KL terms
    rec_weight: float = 1.5  # l_x, weight of the absolute error of the images, averaged over pixels
    rec_weight_start: float = 1.0  # l_x in the first tenth of the steps
    latent_weight: float = 0.2  # l_z, weight of 1 - cos between z and E(G(z))
    generator_steps: int = 2  # generator steps per outer step
    lr: float = 5e-5  # learning rate of encoder and generator

    def __post_init__(self) -> None:
        self.require(0, "kl_weight", "rec_weight", "rec_weight_start", "latent_weight", "lr")
        self.require(1, "generator_steps")


class PixelNorm(nn.Module):
    """Pixel norm: h [B, F, ...] divided by the root mean square of its F features at every position."""

    def forward(self, h: Tensor) -> Tensor:
        return h * torch.rsqrt(h.float().square().mean(1, keepdim=True) + 1e-8)


class Pioneer(Method[PioneerConfig]):
    """Adversarial generator-encoder: the encoder tells real from generated images by their codes on the sphere."""

    name = "pioneer"
    title = "Pioneer"
    paper = "Heljakka et al., ACCV 2018"
    year = 2018
    url = "https://arxiv.org/abs/1807.03026"
    images_only = "its decoder makes images in [0, 1]"
    ema_decay = 0.999
    ema_modules = ("decoder",)
    tuning_grid = {"lr": (2e-5, 5e-5, 1e-4)}
    Config = PioneerConfig

    def build_autoencoder(self) -> tuple[nn.Module, nn.Module]:
        c, d = self.config, self.data
        encoder = build_encoder(d.channels, d.size, c.latent_dim, c.width)
        decoder = build_decoder(d.channels, d.size, c.latent_dim, c.width)
        return spherical_encoder(encoder), pixel_normed(decoder[:-1])

    def embed(self, y: Tensor) -> Tensor:
        """Map images [B, C, S, S] in [-1, 1] to codes [B, m] of unit length."""
        return normalize(self.encoder(y).float(), dim=1)

    def encode(self, x: Tensor) -> Tensor:
        return self.embed(2 * x - 1)

    def decode(self, z: Tensor) -> Tensor:
        return to_unit_range(self.decoder(z))

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return normalize(noise(n, self.config.latent_dim, self.device, generator), dim=1)

    def optimizers(self) -> dict[str, OptimizerSpec]:
        lr, betas = self.config.lr, (0.0, 0.99)
        return {"encoder": adam(self.encoder, lr=lr, betas=betas), "generator": adam(self.decoder, lr=lr, betas=betas)}

    def phases(self, budget: Budget) -> list[Train | Fit]:
        return [Train("train", budget.steps, self.optimizers, partial(self.update, steps=budget.steps))]

    def update(
        self, batches: Iterator[Tensor], opt: Optimizers, step: int, steps: int = 130_000
    ) -> Mapping[str, Tensor]:
        """Do outer step number `step` of `steps`."""
        x = next(batches)
        logs = self.encoder_step(x, self.rec_weight(step, steps), opt)
        for _ in range(self.config.generator_steps):
            logs |= self.generator_step(self.prior(len(x)), opt)
        return logs

    def rec_weight(self, step: int, steps: int) -> float:
        """Return l_x, which is lower in the first tenth of the budget."""
        return self.config.rec_weight_start if 10 * step < steps else self.config.rec_weight

    def encoder_step(self, x: Tensor, rec_weight: float, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise L_E over the encoder.

        Its three terms make real codes uniform on the sphere, make generated codes less so, and reconstruct images.
        """
        y = 2 * x - 1
        with torch.no_grad():
            fake = self.decoder(self.prior(len(x)))
        e = self.embed(y)
        kl_real, kl_fake = sphere_kl(e), sphere_kl(self.embed(fake))
        y_again = self.decoder(e).float()
        absolute_error = (y - y_again).abs().mean()
        encoder_loss = self.config.kl_weight * (kl_real - kl_fake) + rec_weight * absolute_error
        opt.minimise("encoder", encoder_loss)
        reconstruction, floor = squared_error(x, to_unit_range(y_again.detach())), self.kl_floor
        return {"encoder_loss": encoder_loss, "reconstruction": reconstruction, "absolute_error": absolute_error,
                "kl_real_above_floor": kl_real - floor, "kl_fake_above_floor": kl_fake - floor}  # fmt: skip

    def generator_step(self, z: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise L_G over the generator, given prior codes z [B, m]."""
        e = self.embed(self.decoder(z))
        latent_loss = (1 - (e * z).sum(1)).mean()
        generator_loss = self.config.kl_weight * sphere_kl(e) + self.config.latent_weight * latent_loss
        opt.minimise("generator", generator_loss)
        return {"generator_loss": generator_loss, "latent_loss": latent_loss}

    @property
    def kl_floor(self) -> float:
        """Lower bound of `sphere_kl` for unit vectors, which the uniform distribution on the sphere reaches."""
        m = self.config.latent_dim
        return 0.5 * (1 / m + math.log(m) - 1)

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """Return the KL above its floor of real and generated codes, and 1 - cos of prior codes and re-encoded ones."""
        z = self.prior(len(x))
        e = self.encode(self.decode(z))
        return {"kl_real_above_floor": sphere_kl(self.encode(x)) - self.kl_floor,
                "kl_fake_above_floor": sphere_kl(e) - self.kl_floor,
                "latent_loss": (1 - (e * z).sum(1)).mean()}  # fmt: skip


def sphere_kl(e: Tensor) -> Tensor:
    """Return KL(N(mu, v) || N(0, I)) per coordinate for mean and variance of a batch of codes [B, m]. Scalar."""
    mean, variance = e.mean(0), e.var(0, correction=0)  # [m]
    return 0.5 * (variance + mean.square() - variance.clamp(min=1e-6).log() - 1).mean()


def to_unit_range(y: Tensor) -> Tensor:
    """Map images in about [-1, 1] to images in [0, 1]."""
    return (y.float() / 2 + 0.5).clamp(0, 1)


def spherical_encoder(net: nn.Sequential) -> nn.Sequential:
    """Return the shared encoder with leaky ReLU, and spectral norm of its weights in place of batch norm."""
    layers = without_batch_norm(net)
    return nn.Sequential(*[spectral_norm(layer) if hasattr(layer, "weight") else leaky(layer) for layer in layers])


def pixel_normed(net: nn.Sequential) -> nn.Sequential:
    """Return the shared decoder with leaky ReLU, and pixel norm in place of batch norm."""
    layers = [PixelNorm() if isinstance(layer, (BatchNorm1d, BatchNorm2d)) else leaky(layer) for layer in net]
    return nn.Sequential(*layers)
