"""Gated PixelCNN: A. van den Oord, N. Kalchbrenner, O. Vinyals, L. Espeholt, A. Graves, K. Kavukcuoglu, "Conditional
Image Generation with PixelCNN Decoders", NeurIPS 2016. https://arxiv.org/abs/1606.05328

    p(grid) = prod_(i,j) p(code at (i, j) | codes before it in raster order),   y = tanh(a) * sigmoid(b)

This version models grids of code indices, unconditionally. Its convolutions are causal without masks. Each kernel
covers only positions above or to the left, and outputs beyond the grid are cropped. There is no batch norm, because
batch statistics would leak later positions into earlier ones.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class PixelCNN(nn.Module):
    """Distribution of index grids [B, H, W] with values below `codes`.

    `channels` is the width of the stacks and of the embedding, `hidden` is the width of the head. The first layer is
    7x7 and excludes the position itself; `layers` 3x3 layers follow.
    """

    def __init__(self, codes: int, channels: int = 64, hidden: int = 512, layers: int = 12):
        super().__init__()
        self.embedding = nn.Embedding(codes, channels)
        self.layers = nn.ModuleList(GatedLayer(channels, 3 if i else 7, first=i == 0) for i in range(layers + 1))
        self.head = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, codes, 1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, grid: Tensor) -> Tensor:
        """Map index grids [B, H, W] to logits [B, codes, H, W], each computed from the positions before it."""
        return self.head(self.context(self.embed(grid)))

    def embed(self, grid: Tensor) -> Tensor:
        """Map index grids [B, H, W] to vectors [B, channels, H, W]."""
        return self.embedding(grid).permute(0, 3, 1, 2)

    def context(self, embedded: Tensor) -> Tensor:
        """Map embedded grids [B, channels, H, W] to features, of the same shape, of all earlier positions."""
        return self.horizontal(embedded, self.vertical(embedded))

    def vertical(self, embedded: Tensor) -> list[Tensor]:
        """Run the vertical stack on [B, channels, H, W].

        Return the features of the rows above each position, [B, 2 channels, H, W] for each layer.
        """
        features, v = [], embedded
        for layer in self.layers:
            v, above = cast(GatedLayer, layer).vertical_step(v)
            features.append(above)
        return features

    def horizontal(self, embedded: Tensor, features: list[Tensor]) -> Tensor:
        """Run the horizontal stack on [B, channels, H, W] and the vertical stack's features -> [B, channels, H, W]."""
        h = embedded
        for layer, above in zip(self.layers, features, strict=True):
            h = cast(GatedLayer, layer).horizontal_step(h, above)
        return h

    @torch.no_grad()
    def sample(self, uniform: Tensor) -> Tensor:
        """Sample grids [n, H, W] in raster order from uniform numbers in [0, 1) of the same shape.

        Each code is found by inverting its distribution function. The vertical stack does not depend on the current
        row, so it runs once per row, on the rows so far.
        """
        grid = torch.zeros(uniform.shape, dtype=torch.long, device=uniform.device)
        for i in range(grid.shape[1]):
            features = [above[:, :, i:] for above in self.vertical(self.embed(grid[:, : i + 1]))]
            for j in range(grid.shape[2]):
                context = self.horizontal(self.embed(grid[:, i : i + 1]), features)[..., j : j + 1]
                grid[:, i, j] = sample_codes(self.head(context)[:, :, 0, 0], uniform[:, i, j])
        return grid


class GatedLayer(nn.Module):
    """One layer of the two stacks. The vertical stack sees the rows above a position, the horizontal stack its left.

    Together they see all positions before it, without the blind spot of a single masked convolution. Only the
    horizontal stack has residual connections, and none in the first layer.
    """

    def __init__(self, channels: int, kernel: int, first: bool):
        super().__init__()
        reach = kernel // 2
        own = 0 if first else 1  # later layers see their own position: its features contain earlier positions only
        self.first = first
        self.above = nn.Conv2d(channels, 2 * channels, (reach + own, kernel), padding=reach)
        self.left = nn.Conv2d(channels, 2 * channels, (1, reach + own), padding=(0, reach))
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def vertical_step(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of the vertical stack [B, c, H, W], and features [B, 2c, H, W] for the horizontal one."""
        seen = self.above(v)[:, :, : v.shape[2]]  # row i sees rows i - reach to i - 1; in later layers, to i
        return gate(seen), self.link(seen)

    def horizontal_step(self, h: Tensor, above: Tensor) -> Tensor:
        """Return the output of the horizontal stack [B, c, H, W], given features [B, 2c, H, W] of the vertical one."""
        seen = self.left(h)[..., : h.shape[3]]  # column j sees columns j - reach to j - 1; in later layers, to j
        change = self.out(gate(seen + above))
        return change if self.first else h + change


def gate(x: Tensor) -> Tensor:
    """Return tanh(a) * sigmoid(b) for the two halves a, b of the channels: [B, 2c, H, W] -> [B, c, H, W]."""
    a, b = x.chunk(2, dim=1)
    return a.tanh() * b.sigmoid()


def sample_codes(logits: Tensor, uniform: Tensor) -> Tensor:
    """Return codes [n] for logits [n, K] and uniform numbers [n] in [0, 1).

    A code is the first one at which the cumulative probability exceeds the number. A code of probability zero is never
    returned.
    """
    cumulative = logits.float().softmax(1).cumsum(1)
    index = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)[:, 0]
    return index.clamp(max=logits.shape[1] - 1)
