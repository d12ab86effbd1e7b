"""MaskAAE: A. K. Mondal, S. P. Chowdhury, A. Jayendran, P. Singla, H. Asnani, P. AP, "MaskAAE: Latent Space
Optimization for Adversarial Auto-Encoders", UAI 2020. https://arxiv.org/abs/1912.04564

A learned mask a = 1 - exp(-w), w >= 0, multiplies codes and prior noise alike: z_a = a E(x), n_a = a n, n ~ N(0, I).

    L_AE     = R(x, Dec(z_a)) + 100 mean_bj (z_j - mean_b z_j)^2 exp(-10 a_j^2)
    L_Critic = mean C(z_a) - mean C(n_a) + 10 mean (||grad C(z~)|| - 1)^2
    L_Enc    = - mean C(z_a)
    L_Mask   = 1000 R + (1 + W)^2 + rho sum_j a_j (1 - a_j),   W = mean C(n_a) - mean C(z_a)

R is the cross-entropy averaged over pixels, as in the authors' code, whose weights are tuned to this scale. The second
term of L_AE penalises the variance of masked dimensions; it acts on the codes before the mask. In L_Mask the
reconstruction term keeps dimensions active, and the growing rho drives every a_j to 0 or 1. The critic treats the prior
as real, unlike the critic of FlexAE.

Deviations: the unit of the schedules is an interval I, a hundredth of the budget. In the authors' code I is between 75
and 10,000 steps, of 500,000. rho doubles every 4 I up to 2048; the learning rates of auto-encoder and mask fall to a
fifth at 5 I. Adam with betas (0, 0.9) replaces TensorFlow's RMSProp of decay 0.9. Both divide the gradient by its root
mean square. TensorFlow's RMSProp starts this average at 1, so its first steps are small; Adam's are not. The decoder's
batch-norm averages include masked reconstructions and masked noise, once each per step. Adam moves w by about its rate
per step, and w starts in U(0, 5). With fewer than 26,000 steps, no mask entry would reach 0. The mask's rate is then
multiplied by 26,000 / steps, at most by 20.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmark.losses import rms, squared_error, wasserstein_critic_loss
from benchmark.method import Budget, DataSpec, Fit, Method, MethodConfig, Train
from benchmark.networks import build_mlp, frozen_statistics, noise
from benchmark.optim import Optimizers, OptimizerSpec, adam

ACTIVE = 0.1  # mask value from which a dimension counts as active


@dataclass(frozen=True)
class MaskAAEConfig(MethodConfig):
    rec_weight: float = 1000.0  # weight of R in the mask's loss; higher values keep more dimensions active
    variance_weight: float = 100.0  # weight of the variance of masked dimensions in the auto-encoder's loss
    max_polarity: float = 2048.0  # cap of rho, which starts at 2 / m
    n_critic: int = 5  # critic steps per outer step
    penalty: float = 10.0  # weight of the gradient penalty
    lr_ae: float = 5e-4  # learning rate of encoder and decoder; falls to a fifth after a twentieth of the steps
    lr_critic: float = 1e-4  # learning rate of the latent critic
    lr_enc: float = 1e-4  # learning rate of the encoder's adversarial loss
    lr_mask: float = 5e-4  # learning rate of the mask; falls as lr_ae does; raised in fewer than 26,000 steps

    def __post_init__(self) -> None:
        self.require(0, "rec_weight", "variance_weight", "max_polarity", "penalty")
        self.require(0, "lr_ae", "lr_critic", "lr_enc", "lr_mask")
        self.require(1, "n_critic")


class Mask(nn.Module):
    """z [B, m] -> a z, with one learned a_j = 1 - exp(-w_j) in [0, 1) per dimension."""

    def __init__(self, dim: int):
        super().__init__()
        self.w = nn.Parameter(5 * torch.rand(dim))

    def values(self) -> Tensor:
        """Return a, [m]."""
        return -torch.expm1(-self.w)

    def forward(self, z: Tensor) -> Tensor:
        return z * self.values()


class MaskAAE(Method[MaskAAEConfig]):
    """Wasserstein adversarial auto-encoder that learns which latent dimensions it needs."""

    name = "mask-aae"
    title = "MaskAAE"
    paper = "Mondal et al., UAI 2020"
    year = 2020
    url = "https://arxiv.org/abs/1912.04564"
    images_only = "its reconstruction error is a cross-entropy of pixels in [0, 1]"
    tuning_grid = {"rec_weight": (100.0, 1000.0, 10000.0)}
    Config = MaskAAEConfig

    decoder: nn.Sequential

    def __init__(self, data: DataSpec, config: MaskAAEConfig):
        super().__init__(data, config)
        self.critic = build_mlp(config.latent_dim, 1, config.width)
        self.mask = Mask(config.latent_dim)

    def encode(self, x: Tensor) -> Tensor:
        return self.mask(self.encoder(x))

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.mask(noise(n, self.config.latent_dim, self.device, generator))

    def optimizers(self) -> dict[str, OptimizerSpec]:
        c, betas = self.config, (0.0, 0.9)
        return {
            "ae": adam(self.encoder, self.decoder, lr=c.lr_ae, betas=betas),
            "critic": adam(self.critic, lr=c.lr_critic, betas=betas),
            "encoder": adam(self.encoder, lr=c.lr_enc, betas=betas),
            "mask": adam(self.mask, lr=c.lr_mask, betas=betas),
        }

    def phases(self, budget: Budget) -> list[Train | Fit]:
        return [Train("train", budget.steps, self.optimizers, partial(self.update, steps=budget.steps))]

    def update(
        self, batches: Iterator[Tensor], opt: Optimizers, step: int, steps: int = 130_000
    ) -> Mapping[str, Tensor]:
        """Do outer step number `step` of `steps`. Every part of it uses fresh images."""
        opt.scale_lr("ae", rate_factor(step, steps))
        opt.scale_lr("mask", rate_factor(step, steps) * mask_rate_boost(steps))
        rho = min(polarity(step, steps, self.config.latent_dim), self.config.max_polarity)

        logs = self.autoencoder_step(next(batches), opt)
        for _ in range(self.config.n_critic):
            x = next(batches)
            n = noise(len(x), self.config.latent_dim, x.device)
            logs |= self.critic_step(x, n, opt)
        logs |= self.encoder_step(next(batches), opt)
        return logs | self.mask_step(next(batches), n, rho, opt)

    def autoencoder_step(self, x: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise L_AE over encoder and decoder."""
        z = self.encoder(x).float()  # [B, m], before the mask
        cross_entropy, reconstruction = self.reconstruction_errors(x, self.mask(z))
        variance = (z.var(0, correction=0) * torch.exp(-10 * self.mask.values().square())).mean()
        opt.minimise("ae", cross_entropy + self.config.variance_weight * variance)
        return {"reconstruction": reconstruction, "cross_entropy": cross_entropy, "masked_variance": variance}

    def critic_step(self, x: Tensor, n: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise L_Critic, given images x [B, C, S, S] and noise n [B, m]."""
        with torch.no_grad():
            z_a, n_a = self.encode(x), self.mask(n)
        critic_loss, distance = wasserstein_critic_loss(self.critic, n_a, z_a, self.config.penalty)
        opt.minimise("critic", critic_loss)
        scale = rms(z_a)
        return {"critic_loss": critic_loss, "distance": distance, "distance_per_rms": distance / scale,
                "rms_code": scale}  # fmt: skip

    def encoder_step(self, x: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise L_Enc over the encoder. Only `mask_step` moves the mask."""
        adv_loss = -self.critic(self.encode(x)).float().mean()
        opt.minimise("encoder", adv_loss)
        return {"adv_loss": adv_loss}

    def mask_step(self, x: Tensor, n: Tensor, rho: float, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise L_Mask over w, which is kept at or above zero."""
        with torch.no_grad():
            z = self.encoder(x)
            self.decode(self.mask(n))  # for the batch-norm averages
        z_a, n_a, a = self.mask(z), self.mask(n), self.mask.values()
        with frozen_statistics(self.decoder):
            cross_entropy, _ = self.reconstruction_errors(x, z_a)
        distance = self.critic(n_a).float().mean() - self.critic(z_a).float().mean()
        softness = (a * (1 - a)).sum()
        mask_loss = self.config.rec_weight * cross_entropy + (1 + distance).square() + rho * softness
        opt.minimise("mask", mask_loss)
        with torch.no_grad():
            self.mask.w.clamp_(min=0)
        return {"mask_loss": mask_loss, **self.mask_statistics()}

    def reconstruction_errors(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy of images x and decoded z [B, m], and their squared error (no gradient)."""
        logits = self.decoder[:-1](z).float()  # without the sigmoid
        return binary_cross_entropy_with_logits(logits, x), squared_error(x, logits.detach().sigmoid())

    @torch.no_grad()
    def mask_statistics(self) -> dict[str, Tensor]:
        """Return the number of active dimensions, and the softness sum_j a_j (1 - a_j), 0 for a binary mask."""
        a = self.mask.values()
        return {"active_dims_mask": (a >= ACTIVE).sum(), "soft_mask": (a * (1 - a)).sum()}

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """Return the number of active dimensions, and the softness of the mask."""
        return self.mask_statistics()


def rate_factor(step: int, steps: int) -> float:
    """Return the factor on the rates of auto-encoder and mask: 1, and 0.2 after a twentieth of the budget."""
    return 1.0 if 20 * step < steps else 0.2


def mask_rate_boost(steps: int) -> float:
    """Return the factor on the mask's rate with which w moves as far in a short budget as in 26,000 steps."""
    return min(20.0, max(1.0, 26_000 / steps))


def polarity(step: int, steps: int, dim: int) -> float:
    """Return rho before its cap: 2 / m, doubled every twenty-fifth of the budget."""
    return 2 / dim * 2.0 ** (25 * step // steps)
