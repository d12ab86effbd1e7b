"""The one family of networks that all models share, scaled by `width`.

It is the architecture of the FlexAE release: the "InfoGAN" nets of Dai & Wipf, "Diagnosing and Enhancing
VAE Models" (ICLR 2019), with ReLU, one more transposed convolution and Glorot initialisation. `width` scales
the base sizes 64 / 128 / 1024 of every network alike, so that it is the one knob of capacity.
Images are [B, C, S, S] in [0, 1] with S a multiple of 4; latent codes are [B, m]. For vectors [B, D, 1, 1], S = 1, the
networks of images become dense ones, without batch norm, and the decoder's output has no bounds.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

VECTOR_LAYERS = 3  # hidden layers of the encoder, the decoder and the critic of vectors


class _CorrectedStatistics:
    """Batch norm as in the release (decay 0.99, epsilon 1e-3), right after any number of steps.

    Running averages that start at (0, 1) still carry that start with weight 0.99^t. As Adam does with its moments,
    they start at zero here and are divided by 1 - 0.99^t when used, which is the plain average early on and the
    release's value after a few hundred steps.
    """

    def __init__(self, features: int):
        super().__init__(features, eps=1e-3, momentum=0.01)  # PyTorch's momentum is one minus the decay

    def reset_running_stats(self) -> None:
        super().reset_running_stats()
        self.running_var.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return super().forward(x)
        seen = self.num_batches_tracked
        weight = 1 - (1 - self.momentum) ** seen.clamp(min=1)
        variance = torch.where(seen > 0, self.running_var / weight, torch.ones_like(self.running_var))
        return nn.functional.batch_norm(x, self.running_mean / weight, variance, self.weight, self.bias, eps=self.eps)


class BatchNorm1d(_CorrectedStatistics, nn.BatchNorm1d):
    """Of dense layers, [B, F]."""


class BatchNorm2d(_CorrectedStatistics, nn.BatchNorm2d):
    """Of convolutions, [B, C, H, W], one mean and variance per channel."""


def scaled(base: int, width: float) -> int:
    """A base number of channels or units times `width`, at least 1."""
    return max(1, round(base * width))


def build_encoder(channels: int, size: int, outputs: int, width: float = 1.0) -> nn.Sequential:
    """x [B, C, S, S] -> [B, outputs]: two stride-2 convolutions and two dense layers, batch norm on layers 2 and 3."""
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
    """z [B, inputs] -> x [B, C, S, S] in [0, 1] (sigmoid). The second batch norm sees the flat vector, as released."""
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
    """The layers of a network but for its batch norms."""
    return [layer for layer in net if not isinstance(layer, (BatchNorm1d, BatchNorm2d))]


def leaky(layer: nn.Module) -> nn.Module:
    """Leaky ReLU of slope 0.2 for ReLU; any other layer as it is."""
    return nn.LeakyReLU(0.2) if isinstance(layer, nn.ReLU) else layer


def build_mlp(inputs: int, outputs: int, width: float = 1.0, layers: int = 4, hidden: int = 1024) -> nn.Sequential:
    """[B, inputs] -> [B, outputs]: `layers` dense ReLU layers of `hidden * width` units and a linear one, no norm.

    With one output this is the latent critic of FlexAE, with m outputs its prior generator (P-GEN).
    """
    units = scaled(hidden, width)
    parts: list[nn.Module] = []
    for i in range(layers):
        parts += [nn.Linear(units if i else inputs, units), nn.ReLU()]
    return initialise(nn.Sequential(*parts, nn.Linear(units, outputs)), glorot_normal_)


def build_image_critic(channels: int, size: int, width: float = 1.0) -> nn.Sequential:
    """x [B, C, S, S] -> [B, 1]: the encoder's shape without any batch norm."""
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
    """Glorot normal truncated at two standard deviations, with std sqrt(2 / (fan_in + fan_out)) after truncation."""
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    std = math.sqrt(2 / (fan_in + fan_out)) / 0.87962566103423978  # std of a unit normal truncated at +-2
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def initialise(net: nn.Sequential, init) -> nn.Sequential:
    """Apply `init` to every dense and convolution weight of `net` and set their biases to zero."""
    for layer in net:
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            init(layer.weight)
            nn.init.zeros_(layer.bias)
    return net


@contextlib.contextmanager
def frozen_statistics(*nets: nn.Module) -> Iterator[None]:
    """Within the block, train-mode batch norm still uses batch statistics but leaves the running ones alone.

    For passes that only feed a critic: repeated n_critic times, they would drown the other streams.
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
    """Number of trainable values: weights, biases and batch-norm affines."""
    return sum(p.numel() for p in net.parameters())


def noise(n: int, dim: int, device: torch.device | str, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise [n, dim]. With a (CPU) generator it is drawn on the CPU: the same on every device."""
    if generator is None:
        return torch.randn(n, dim, device=device)
    return torch.randn(n, dim, generator=generator).to(device)
