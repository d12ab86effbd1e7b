"""FlexAE: A. K. Mondal, H. Asnani, P. Singla, P. AP, "FlexAE: Flexibly Learning Latent Priors for Wasserstein
Auto-Encoders", UAI 2021. https://proceedings.mlr.press/v161/mondal21a.html

    L_AE     = mean ||x - Dec(E(x))||^2                                                                 (Eq. 5)
    L_Critic = mean C(G(n)) - mean C(E(x)) + 10 mean (||grad C(z~)|| - 1)^2,   n ~ N(0, I)               (Eq. 6)
    L_Gen    = - mean C(G(n))                                                                           (Eq. 7)
    L_Enc    = + mean C(E(x))                                                                           (Eq. 8)

The prior is a generator G (P-GEN) of Gaussian noise. It is trained together with the auto-encoder, so that prior and
aggregated posterior meet. The critic treats codes as real and generated latents as fake. The encoder minimises the
critic's output on its codes. The generator maximises the critic's output on its samples. Each loss has its own Adam.
Adam is invariant to the scale of a loss, so the paper's lambdas are left out, and the learning rates set the trade-off.
The order of the updates and the rates are those of the authors' release. The release contains FlexAE-SR only; FlexAE is
the same algorithm without the smoothing regulariser.

Deviation from the release: there, every step of an optimizer updates the batch-norm averages from all streams. Here
each stream (reconstructions, generated latents) updates the averages of the decoder once per step, so both have the
same weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.losses import rms, squared_error, wasserstein_critic_loss
from benchmark.method import DataSpec, Method, MethodConfig
from benchmark.networks import build_mlp, noise
from benchmark.optim import Optimizers, OptimizerSpec, adam


@dataclass(frozen=True)
class FlexAEConfig(MethodConfig):
    noise_dim: int | None = None  # m', size of the noise of the prior generator; None: m
    n_critic: int = 5  # critic steps per outer step
    penalty: float = 10.0  # beta of Eq. 6, weight of the gradient penalty
    lr_ae: float = 2e-4  # learning rate of encoder and decoder for the reconstruction
    lr_critic: float = 1e-4  # learning rate of the latent critic
    lr_prior: float = 2e-4  # learning rate of the prior generator
    lr_enc: float = 1e-5  # learning rate of the encoder's adversarial loss
    norm_sees_prior: bool = True  # include generated latents in the decoder's batch-norm averages, as in the release

    def __post_init__(self) -> None:
        self.require(1, "noise_dim", "n_critic")
        self.require(0, "penalty", "lr_ae", "lr_critic", "lr_prior", "lr_enc")


class FlexAE(Method[FlexAEConfig]):
    """Wasserstein auto-encoder with a latent prior that is learned together with it (Eq. 3)."""

    name = "flexae"
    title = "FlexAE"
    paper = "Mondal et al., UAI 2021"
    year = 2021
    url = "https://proceedings.mlr.press/v161/mondal21a.html"
    Config = FlexAEConfig

    def __init__(self, data: DataSpec, config: FlexAEConfig):
        super().__init__(data, config)
        m = config.latent_dim
        self.noise_dim = m if config.noise_dim is None else config.noise_dim
        self.prior_generator = build_mlp(self.noise_dim, m, config.width)
        self.critic = build_mlp(m, 1, config.width)

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.prior_generator(noise(n, self.noise_dim, self.device, generator))

    def optimizers(self) -> dict[str, OptimizerSpec]:
        c = self.config
        return {
            "ae": adam(self.encoder, self.decoder, lr=c.lr_ae),
            "critic": adam(self.critic, lr=c.lr_critic, betas=(0.0, 0.9)),
            "prior": adam(self.prior_generator, lr=c.lr_prior, betas=(0.0, 0.9)),
            "encoder": adam(self.encoder, lr=c.lr_enc, betas=(0.0, 0.9)),
        }

    def update(self, batches: Iterator[Tensor], opt: Optimizers, step: int) -> Mapping[str, Tensor]:
        logs = self.autoencoder_step(next(batches), opt)
        for _ in range(self.config.n_critic):
            x = next(batches)
            n = noise(len(x), self.noise_dim, x.device)
            with torch.no_grad():
                z = self.encode(x)  # [B, m]
            logs |= self.critic_step(z, n, opt)
        return logs | self.prior_step(n, opt) | self.encoder_step(x, opt)

    def autoencoder_step(self, x: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise Eq. 5 over encoder and decoder."""
        reconstruction = squared_error(x, self.reconstruct(x))
        opt.minimise("ae", reconstruction)
        return {"reconstruction": reconstruction}

    def critic_step(self, z: Tensor, n: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise Eq. 6 over the latent critic, given codes z [B, m] and prior noise n [B, m']."""
        with torch.no_grad():
            z_prior = self.prior_generator(n)
        critic_loss, distance = wasserstein_critic_loss(self.critic, z, z_prior, self.config.penalty)
        opt.minimise("critic", critic_loss)
        scale = rms(z)  # the codes may have any scale, so compare distance / scale between runs, not distance
        return {"critic_loss": critic_loss, "distance": distance, "distance_per_rms": distance / scale,
                "rms_code": scale}  # fmt: skip

    def prior_step(self, n: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise Eq. 7 over the prior generator."""
        z_prior = self.prior_generator(n)
        adv_loss = -self.critic(z_prior).float().mean()
        opt.minimise("prior", adv_loss)
        if self.config.norm_sees_prior:
            with torch.no_grad():
                self.decode(z_prior)
        return {"prior_adv_loss": adv_loss}

    def encoder_step(self, x: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise Eq. 8 over the encoder, in a separate forward pass after the other updates."""
        adv_loss = self.critic(self.encode(x)).float().mean()
        opt.minimise("encoder", adv_loss)
        return {"adv_loss": adv_loss}
