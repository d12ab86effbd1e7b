"""Terms of objectives that several papers share. They are means over the batch and sums over pixels or dimensions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """Return (1/B) sum_b ||x_b - y_b||^2, a scalar.

    It is summed over pixels and channels. All loss weights of the suite refer to this scale.
    """
    return (x.float() - y.float()).square().flatten(1).sum(1).mean()


def gaussian_kl(mean: Tensor, std: Tensor) -> Tensor:
    """Return KL(N(mean, std^2) || N(0, I)) per dimension, [B, m]: (mu^2 + s^2 - 2 log s - 1) / 2."""
    mean, std = mean.float(), std.float()
    return 0.5 * (mean.square() + std.square() - 2 * std.log() - 1)


def rms(z: Tensor) -> Tensor:
    """Return the root mean square of codes [B, m], a detached scalar.

    It is the scale of a latent space: log it, and divide latent distances by it.
    """
    return z.detach().float().square().mean().sqrt()


def mix(a: Tensor, b: Tensor) -> Tensor:
    """Return random points between a and b, [B, ...]: u a + (1 - u) b with one u ~ U[0, 1] per sample."""
    u = torch.rand(len(a), *[1] * (a.dim() - 1), device=a.device, dtype=a.dtype)
    return u * a + (1 - u) * b


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Return mean (||grad critic(x~)||_2 - 1)^2 at random points x~ between real and fake, a scalar.

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
    """Return the WGAN-GP loss of a critic C and its estimate of the Wasserstein distance W, two scalars.

    W = mean C(real) - mean C(fake), and loss = -W + penalty * gradient_penalty. `real` and `fake` must be detached from
    the networks that made them.
    """
    distance = critic(real).float().mean() - critic(fake).float().mean()
    return penalty * gradient_penalty(critic, real, fake) - distance, distance.detach()
