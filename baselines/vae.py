"""VAE: D. P. Kingma, M. Welling, "Auto-Encoding Variational Bayes", ICLR 2014. https://arxiv.org/abs/1312.6114

    L = mean_b [ ||x - Dec(z)||^2 / (2 s_x^2) + beta KL(N(mu, s^2) || N(0, I)) ],   z = mu + s eps

Three choices are ours. The decoder variance s_x^2 is the knob `decoder_variance`. Its default is 1/2; then L is the
squared error plus the KL. The posterior's standard deviation is s = 1e-6 + softplus(raw), as in the program of Dai &
Wipf (ICLR 2019). Images are reconstructed from the posterior mean mu.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.losses import gaussian_kl, squared_error
from benchmark.method import ConfigT, Method, MethodConfig
from benchmark.networks import build_decoder, build_encoder


@dataclass(frozen=True)
class VAEConfig(MethodConfig):
    beta: float = 1.0  # weight of the KL term; 1 is the evidence lower bound
    decoder_variance: float = 0.5  # s_x^2 of the Gaussian decoder

    def __post_init__(self) -> None:
        self.require(0, "beta")
        self.require(0, "decoder_variance", above=True)


class GaussianAutoencoder(Method[ConfigT]):
    """Auto-encoder with a Gaussian posterior of diagonal covariance. Subclasses define the loss."""

    def build_autoencoder(self) -> tuple[nn.Module, nn.Module]:
        c, d = self.config, self.data
        encoder = build_encoder(d.channels, d.size, 2 * c.latent_dim, c.width)
        return encoder, build_decoder(d.channels, d.size, c.latent_dim, c.width)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of q(z|x), each [B, m]."""
        mean, raw = self.encoder(x).float().chunk(2, dim=1)
        return mean, 1e-6 + nn.functional.softplus(raw)

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]

    def sample_posterior(self, x: Tensor) -> Tensor:
        mean, std = self.posterior(x)
        return mean + std * torch.randn_like(std)

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """Return the KL of the posterior from N(0, I), and the number of dimensions with more than 0.01 nats of it."""
        kl = gaussian_kl(*self.posterior(x)).mean(0)  # [m]
        return {"kl": kl.sum(), "active_dims_kl": (kl > 0.01).sum()}


class VAE(GaussianAutoencoder[VAEConfig]):
    """Gaussian posterior, standard normal prior, Gaussian decoder of fixed variance; maximises the ELBO (Eq. 10)."""

    name = "vae"
    title = "VAE"
    paper = "Kingma & Welling, ICLR 2014"
    year = 2014
    url = "https://arxiv.org/abs/1312.6114"
    tuning_grid = {"decoder_variance": (0.5, 0.1, 0.02)}
    Config = VAEConfig

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        mean, std = self.posterior(x)
        z = mean + std * torch.randn_like(std)  # [B, m]
        reconstruction = squared_error(x, self.decode(z))
        kl = gaussian_kl(mean, std).sum(1).mean()
        total = reconstruction / (2 * self.config.decoder_variance) + self.config.beta * kl
        return {"total": total, "reconstruction": reconstruction, "kl": kl}
