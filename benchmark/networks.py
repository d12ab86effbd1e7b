"""The networks that all models share, scaled by `width`.

The architecture is that of the FlexAE release: the "InfoGAN" networks of Dai & Wipf, "Diagnosing and Enhancing
VAE Models" (ICLR 2019), with ReLU, one more transposed convolution and Glorot initialisation. `width` multiplies
the base sizes 64 / 128 / 1024 of every network, so it is the only knob of capacity.
Images are [B, C, S, S] in [0, 1] with S a multiple of 4; latent codes are [B, m]. Vectors are [B, D, 1, 1], that is
S = 1. For them the image networks become dense networks without batch norm, and the decoder's output is unbounded.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

VECTOR_LAYERS = 3  # hidden layers of the encoder, decoder and critic for vectors


class _CorrectedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm with the release's settings (decay 0.99, epsilon 1e-3) and a correction of its running averages.

    Running averages that start at (0, 1) still contain this start with weight 0.99^t after t steps. Here they start at
    zero and are divided by 1 - 0.99^t in eval mode, as Adam does with its moments. Early on this gives the plain
    average; after a few hundred steps it gives the value of the release.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, features: int):
        super().__init__(features, eps=1e-3, momentum=0.01)  # momentum in PyTorch is one minus the decay

    def reset_running_stats(self) -> None:
        super().reset_running_stats()
        self.running_var.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        steps = self.num_batches_tracked
        weight = 1 - (1 - self.momentum) ** steps.clamp(min=1)
        variance = torch.where(steps > 0, self.running_var / weight, torch.ones_like(self.running_var))
        return nn.functional.batch_norm(x, self.running_mean / weight, variance, self.weight, self.bias, eps=self.eps)


class BatchNorm1d(_CorrectedBatchNorm, nn.BatchNorm1d):
    """Batch norm for dense layers, [B, F]."""


class BatchNorm2d(_CorrectedBatchNorm, nn.BatchNorm2d):
    """Batch norm for convolutions, [B, C, H, W], with one mean and variance per channel."""


def scaled(base: int, width: float) -> int:
    """Return a base number of channels or units times `width`, rounded, at least 1."""
    return max(1, round(base * width))


def build_encoder(channels: int, size: int, outputs: int, width: float = 1.0) -> nn.Sequential:
    """Return the encoder, x [B, C, S, S] -> [B, outputs].

    It has two stride-2 convolutions and two dense layers, with batch norm on layers 2 and 3.
    """
    if size == 1:
        return nn.Sequential(nn.Flatten(), *build_mlp(channels, outputs, width, VECTOR_LAYERS))
    c1, c2, hidden = scaled(64, width), scaled(128, width), scaled(1024, width)
    net = nn.Sequential(
        nn.Conv2d(channels, c1, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(c1, c2, 4, stride=2, padding=1), BatchNorm2d(c2), nn.ReLU(),
        nn.Flatten(), nn.Linear(c2 * (size // 4) ** 2, hidden), BatchNorm1d(hidden), nn.ReLU(),
        nn.Linear(hidden, outputs),
    )  # fmt: skip
    return initialise(net, nn.init.xavier_uniform_)


def build_decoder(channels: int, size: int, inputs: int, width: float = 1.0) -> nn.Sequential:
    """Return the decoder, z [B, inputs] -> x [B, C, S, S] in [0, 1] (sigmoid).

    As in the release, the second batch norm acts on the flat vector.
    """
    if size == 1:
        return nn.Sequential(*build_mlp(inputs, channels, width, VECTOR_LAYERS), nn.Unflatten(1, (channels, 1, 1)))
    c1, c2, hidden, side = scaled(64, width), scaled(128, width), scaled(1024, width), size // 4
    flat = c2 * side**2
    net = nn.Sequential(
        nn.Linear(inputs, hidden), BatchNorm1d(hidden), nn.ReLU(),
        nn.Linear(hidden, flat), BatchNorm1d(flat), nn.ReLU(),
        nn.Unflatten(1, (c2, side, side)),
        nn.ConvTranspose2d(c2, c2, 4, stride=2, padding=1), BatchNorm2d(c2), nn.ReLU(),
        nn.ConvTranspose2d(c2, c1, 4, stride=2, padding=1), BatchNorm2d(c1), nn.ReLU(),
        nn.Conv2d(c1, channels, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip
    initialise(net[:-2], glorot_normal_)
    initialise(net[-2:], nn.init.xavier_uniform_)
    return net


def without_batch_norm(net: nn.Sequential) -> list[nn.Module]:
    """Return the layers of a network, except its batch norms."""
    return [layer for layer in net if not isinstance(layer, (BatchNorm1d, BatchNorm2d))]


def leaky(layer: nn.Module) -> nn.Module:
    """Return a leaky ReLU of slope 0.2 in place of a ReLU, and any other layer unchanged."""
    return nn.LeakyReLU(0.2) if isinstance(layer, nn.ReLU) else layer


def build_mlp(inputs: int, outputs: int, width: float = 1.0, layers: int = 4) -> nn.Sequential:
    """Return a dense network, [B, inputs] -> [B, outputs]: `layers` ReLU layers of 1024 * width units and a linear one.

    It has no normalisation. With one output it is the latent critic of FlexAE, with m outputs its prior generator
    (P-GEN).
    """
    units = scaled(1024, width)
    parts: list[nn.Module] = []
    for i in range(layers):
        parts += [nn.Linear(units if i else inputs, units), nn.ReLU()]
    return initialise(nn.Sequential(*parts, nn.Linear(units, outputs)), glorot_normal_)


def build_image_critic(channels: int, size: int, width: float = 1.0) -> nn.Sequential:
    """Return an image critic, x [B, C, S, S] -> [B, 1]: the encoder's layers without batch norm."""
    if size == 1:
        return build_encoder(channels, size, 1, width)
    c1, c2, hidden = scaled(64, width), scaled(128, width), scaled(1024, width)
    net = nn.Sequential(
        nn.Conv2d(channels, c1, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(c1, c2, 4, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(c2 * (size // 4) ** 2, hidden), nn.ReLU(),
        nn.Linear(hidden, 1),
    )  # fmt: skip
    return initialise(net, nn.init.xavier_uniform_)


def glorot_normal_(weight: Tensor) -> Tensor:
    """Fill a weight from a normal distribution truncated at two standard deviations (Glorot).

    Its standard deviation after truncation is sqrt(2 / (fan_in + fan_out)).
    """
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    std = math.sqrt(2 / (fan_in + fan_out)) / 0.87962566103423978  # std of a unit normal truncated at +-2
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def initialise(net: nn.Sequential, init: Callable[[Tensor], Tensor]) -> nn.Sequential:
    """Apply `init` to every dense and convolution weight of `net`, set the biases to zero, and return `net`."""
    for layer in net:
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            init(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net


@contextlib.contextmanager
def frozen_statistics(*nets: nn.Module) -> Iterator[None]:
    """Within the block, train-mode batch norm uses batch statistics but does not update its running averages.

    Use it for passes that only feed a critic. They are repeated n_critic times, so they would dominate the averages.
    """
    norms = [m for net in nets for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [m.track_running_stats for m in norms]
    try:
        for m in norms:
            m.track_running_stats = False
        yield
    finally:
        for m, tracked in zip(norms, before, strict=True):
            m.track_running_stats = tracked


def count_parameters(net: nn.Module) -> int:
    """Return the number of trainable values: weights, biases and batch-norm scales and shifts."""
    return sum(p.numel() for p in net.parameters())


def noise(n: int, dim: int, device: torch.device | str, generator: torch.Generator | None = None) -> Tensor:
    """Return standard normal noise [n, dim]. With a (CPU) generator it is drawn on the CPU, so all devices agree."""
    if generator is None:
        return torch.randn(n, dim, device=device)
    return torch.randn(n, dim, generator=generator).to(device)
