"""FlexAE-SR: FlexAE with smoothing regularisation. A. K. Mondal, H. Asnani, P. Singla, P. AP, UAI 2021.
https://proceedings.mlr.press/v161/mondal21a.html

    x_inp    = Dec(a E(x) + (1 - a) E(x')),   a ~ U[0, 1], one per sample
    L_Reg    = mean C_z(x_inp) - mean C_z(x) + 10 mean (||grad C_z(x~)|| - 1)^2                          (Eq. 9)
    L_AEReg  = - mean C_z(x_inp)                                                                        (Eq. 10)

An image critic, C_z in the paper, compares decoded interpolations with real images. Training the auto-encoder against
it smooths the latent space (Eq. 4). As in the release, L_AEReg moves encoder and decoder, with its own Adam. One outer
step draws 1 + 2 n_critic batches. First the auto-encoder is updated once. Then, n_critic times, both critics are
updated on new x, x' and n. The updates for smoothing, prior generator and encoder follow, on the last x, x' and n.

Deviation, in addition to that of FlexAE: interpolations that are decoded for the image critic do not change the
decoder's batch-norm averages. The smoothing update adds the interpolations to the averages once per step, as is done
for reconstructions and generated latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.losses import mix, wasserstein_critic_loss
from benchmark.method import DataSpec
from benchmark.networks import build_image_critic, frozen_statistics, noise
from benchmark.optim import Optimizers, OptimizerSpec, adam

from .flexae import FlexAE, FlexAEConfig


@dataclass(frozen=True)
class FlexAESRConfig(FlexAEConfig):
    lr_image_critic: float = 2e-4  # learning rate of the image critic
    lr_smooth: float = 2e-4  # learning rate of encoder and decoder for the smoothing regulariser

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0, "lr_image_critic", "lr_smooth")


class FlexAESR(FlexAE):
    """FlexAE whose decoder must also make realistic images from interpolated codes (Eq. 4)."""

    name = "flexae-sr"
    title = "FlexAE-SR"
    Config = FlexAESRConfig
    config: FlexAESRConfig

    def __init__(self, data: DataSpec, config: FlexAESRConfig):
        super().__init__(data, config)
        self.image_critic = build_image_critic(data.channels, data.size, config.width)

    def optimizers(self) -> dict[str, OptimizerSpec]:
        c = self.config
        return super().optimizers() | {
            "image_critic": adam(self.image_critic, lr=c.lr_image_critic, betas=(0.5, 0.9)),
            "smooth": adam(self.encoder, self.decoder, lr=c.lr_smooth, betas=(0.5, 0.9)),
        }

    def update(self, batches: Iterator[Tensor], opt: Optimizers, step: int) -> Mapping[str, Tensor]:
        logs = self.autoencoder_step(next(batches), opt)
        for _ in range(self.config.n_critic):
            x, x_other = next(batches), next(batches)
            n = noise(len(x), self.noise_dim, x.device)
            with torch.no_grad():
                z, z_other = self.encode(x), self.encode(x_other)  # [B, m] each
            logs |= self.critic_step(z, n, opt)
            logs |= self.image_critic_step(x, z, z_other, opt)
        logs |= self.smoothing_step(x, x_other, opt)
        return logs | self.prior_step(n, opt) | self.encoder_step(x, opt)

    def image_critic_step(self, x: Tensor, z: Tensor, z_other: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise Eq. 9 over the image critic, given real images and decoded interpolations."""
        with torch.no_grad(), frozen_statistics(self.decoder):
            x_mixed = self.decode(mix(z, z_other))
        critic_loss, distance = wasserstein_critic_loss(self.image_critic, x, x_mixed, self.config.penalty)
        opt.minimise("image_critic", critic_loss)
        return {"image_critic_loss": critic_loss, "image_distance": distance}

    def smoothing_step(self, x: Tensor, x_other: Tensor, opt: Optimizers) -> dict[str, Tensor]:
        """Minimise Eq. 10 over encoder and decoder."""
        x_mixed = self.decode(mix(self.encode(x), self.encode(x_other)))
        adv_loss = -self.image_critic(x_mixed).float().mean()
        opt.minimise("smooth", adv_loss)
        return {"image_adv_loss": adv_loss}
