"""Gated PixelCNN: A. van den Oord, N. Kalchbrenner, O. Vinyals, L. Espeholt, A. Graves, K. Kavukcuoglu, "Conditional
Image Generation with PixelCNN Decoders", NeurIPS 2016. https://arxiv.org/abs/1606.05328

    p(grid) = prod_(i,j) p(code at (i, j) | codes before it in raster order),   y = tanh(a) * sigmoid(b)

Here for grids of code indices, unconditional. The convolutions are causal by their shape (kernels reach only up or
left, and what they compute beyond the grid is cut off), so that no weight has to be masked. There is no batch norm:
its batch statistics would tell a position about later ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PixelCNN(nn.Module):
    """Distribution of index grids [B, H, W] with values below `codes`.

    `channels` is the width of the stacks and of the embedding, `hidden` that of the head; `layers` 3x3 layers follow
    the first one, which is 7x7 and leaves out the position itself.
    """

    def __init__(self, codes: int, channels: int = 64, hidden: int = 512, layers: int = 12):
        super().__init__()
        self.embedding = nn.Embedding(codes, channels)
        self.layers = nn.ModuleList(GatedLayer(channels, 3 if i else 7, first=i == 0) for i in range(layers + 1))
        self.head = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, codes, 1))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, grid: Tensor) -> Tensor:
        """Index grids [B, H, W] -> logits [B, codes, H, W], each from the positions before it."""
        return self.head(self.context(self.embed(grid)))

    def embed(self, grid: Tensor) -> Tensor:
        """Index grids [B, H, W] -> vectors [B, channels, H, W]."""
        return self.embedding(grid).permute(0, 3, 1, 2)

    def context(self, embedded: Tensor) -> Tensor:
        """[B, channels, H, W] -> what each position knows of those before it, of the same shape."""
        return self.horizontal(embedded, self.vertical(embedded))

    def vertical(self, embedded: Tensor) -> list[Tensor]:
        """[B, channels, H, W] -> what each layer tells a position of the rows above, [B, 2 channels, H, W] each."""
        messages, v = [], embedded
        for layer in self.layers:
            v, message = layer.look_up(v)
            messages.append(message)
        return messages

    def horizontal(self, embedded: Tensor, messages: list[Tensor]) -> Tensor:
        """The same vectors and the vertical stack's messages -> [B, channels, H, W]."""
        h = embedded
        for layer, message in zip(self.layers, messages, strict=True):
            h = layer.look_left(h, message)
        return h

    @torch.no_grad()
    def draw(self, uniform: Tensor) -> Tensor:
        """Grids [n, H, W] in raster order, each code by the inverse of its distribution from a number in [0, 1).

        The vertical stack does not depend on the row that is being filled: it runs once per row, on the rows so far.
        """
        grid = torch.zeros(uniform.shape, dtype=torch.long, device=uniform.device)
        for i in range(grid.shape[1]):
            messages = [m[:, :, i:] for m in self.vertical(self.embed(grid[:, : i + 1]))]
            for j in range(grid.shape[2]):
                context = self.horizontal(self.embed(grid[:, i : i + 1]), messages)[..., j : j + 1]
                grid[:, i, j] = invert(self.head(context)[:, :, 0, 0], uniform[:, i, j])
        return grid


class GatedLayer(nn.Module):
    """One layer of the two stacks: the vertical one sees the rows above a position, the horizontal one its left.

    Together they see all that comes before it, without the blind spot of a single masked convolution. Only the
    horizontal stack has a residual connection, and not in the first layer.
    """

    def __init__(self, channels: int, kernel: int, first: bool):
        super().__init__()
        reach, own = kernel // 2, 0 if first else 1  # later layers may see their own position: it knows only the past
        self.first = first
        self.above = nn.Conv2d(channels, 2 * channels, (reach + own, kernel), padding=reach)
        self.left = nn.Conv2d(channels, 2 * channels, (1, reach + own), padding=(0, reach))
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def look_up(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Vertical stack [B, c, H, W] -> the same one layer up, and its message [B, 2c, H, W] to the horizontal one."""
        seen = self.above(v)[:, :, : v.shape[2]]  # row i: of rows i - reach to i - 1, in later layers to i
        return gate(seen), self.link(seen)

    def look_left(self, h: Tensor, message: Tensor) -> Tensor:
        """Horizontal stack [B, c, H, W] -> the same one layer up."""
        seen = self.left(h)[..., : h.shape[3]]  # column j: of columns j - reach to j - 1, in later layers to j
        change = self.out(gate(seen + message))
        return change if self.first else h + change


def gate(x: Tensor) -> Tensor:
    """tanh(a) * sigmoid(b) of the two halves of the channels: [B, 2c, H, W] -> [B, c, H, W]."""
    a, b = x.chunk(2, dim=1)
    return a.tanh() * b.sigmoid()


def invert(logits: Tensor, uniform: Tensor) -> Tensor:
    """Codes [n] from logits [n, K] and uniform numbers [n]: the first code at which the cumulated probability exceeds
    the number. A code of probability zero is never taken.
    """
    cumulated = logits.float().softmax(1).cumsum(1)
    reached = torch.searchsorted(cumulated, uniform[:, None] * cumulated[:, -1:], right=True)[:, 0]
    return reached.clamp(max=logits.shape[1] - 1)
