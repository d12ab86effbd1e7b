"""Pieces of objectives that two or more papers use: means over the batch, sums over pixels or dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """(1/B) sum_b ||x_b - y_b||^2: summed over pixels and channels, the reference scale of all loss weights. Scalar."""
    return (x.float() - y.float()).square().flatten(1).sum(1).mean()


def gaussian_kl(mean: Tensor, std: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(0, I)) per dimension, [B, m]: (mu^2 + s^2 - 2 log s - 1) / 2."""
    mean, std = mean.float(), std.float()
    return 0.5 * (mean.square() + std.square() - 2 * std.log() - 1)


def rms(z: Tensor) -> Tensor:
    """Root mean square of codes [B, m]: the scale of a latent space, to log and to divide distances by. Detached."""
    return z.detach().float().square().mean().sqrt()


def mix(a: Tensor, b: Tensor) -> Tensor:
    """Random points between a and b, [B, ...]: u a + (1 - u) b with one u ~ U[0, 1] per sample."""
    u = torch.rand(len(a), *[1] * (a.dim() - 1), device=a.device, dtype=a.dtype)
    return u * a + (1 - u) * b


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """mean (||grad critic(x~)||_2 - 1)^2 at random points x~ between real and fake. Scalar.

    Gulrajani et al., "Improved Training of Wasserstein GANs" (NeurIPS 2017), Eq. 3.
    The 1e-12 inside the root keeps the derivative finite where the gradient is exactly zero.
    """
    points = mix(real, fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norm = (gradient.float().square().flatten(1).sum(1) + 1e-12).sqrt()
    return (norm - 1).square().mean()


def wasserstein_critic_loss(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, penalty: float = 10.0
) -> tuple[Tensor, Tensor]:
    """WGAN-GP loss of a critic and its estimate of the distance W = mean C(real) - mean C(fake). Two scalars.

    loss = -W + penalty * gradient_penalty. `real` and `fake` must be detached from the nets that made them.
    """
    distance = critic(real).float().mean() - critic(fake).float().mean()
    return penalty * gradient_penalty(critic, real, fake) - distance, distance.detach()
