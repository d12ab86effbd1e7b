"""Pictures side by side. Each of their pixels is one pixel of the PNG, so nothing is resampled or blurred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAD, GAP = 36, 14  # pixels above a picture for its heading, and between pictures


@dataclass(frozen=True)
class Tile:
    """An 8-bit picture [H, W, 1 or 3] with the texts around it."""

    pixels: np.ndarray
    heading: str = ""
    shrink_heading: bool = False  # to the picture's width; else a long heading goes on above the next picture
    row_labels: Sequence[str] = ()  # to the left of as many equal parts of the height
    column_labels: Sequence[str] = ()  # below as many equal parts of the width

    @property
    def size(self) -> np.ndarray:
        """Width and height in pixels."""
        return np.array([self.pixels.shape[1], self.pixels.shape[0]])


def draw(tiles: Sequence[Tile], corners: np.ndarray, margin: tuple[int, int] = (0, 0)) -> Figure:
    """Draw pictures with their upper left corners [n, 2] at these pixels (x to the right, y down from the top).

    `margin` is free space to the right and below. The figure has the size that this needs at 150 pixels per inch.
    """
    from .plot import DPI

    total = (corners + [tile.size for tile in tiles]).max(axis=0) + margin
    width, height = total / DPI
    figure = style.new_figure(width, height, layout=None)
    for tile, (left, top) in zip(tiles, corners, strict=True):
        width, height = tile.size
        axes = figure.add_axes((left / total[0], 1 - (top + height) / total[1], width / total[0], height / total[1]))
        axes.imshow(tile.pixels.repeat(3 // tile.pixels.shape[2], axis=2), interpolation="none", aspect="auto")
        axes.set_axis_off()
        _write(axes, tile)
    return figure


def _write(axes: Axes, tile: Tile) -> None:
    # A bold letter is about 0.7 of its size wide; 72 points are an inch of 150 pixels.
    size = min(9.0, tile.size[0] * 72 / 150 / (0.7 * len(tile.heading) or 1)) if tile.shrink_heading else 9.0
    around: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "color": style.INK}
    axes.annotate(tile.heading, (0, 1), (0, 4), ha="left", va="bottom", fontsize=size, fontweight="bold", **around)
    for i, text in enumerate(tile.row_labels):
        axes.annotate(text, (0, 1 - (i + 0.5) / len(tile.row_labels)), (-3, 0), ha="right", va="center", fontsize=6.5,
                      **around)  # fmt: skip
    for i, text in enumerate(tile.column_labels):
        axes.annotate(text, ((i + 0.5) / len(tile.column_labels), 0), (0, -2), ha="center", va="top", fontsize=6.5,
                      **around)  # fmt: skip


def grid_corners(sizes: np.ndarray, columns: int, left: int = 0) -> np.ndarray:
    """Return the upper left corners [n, 2] of pictures of these sizes [n, 2], row by row.

    All cells are as large as the largest picture. `left` pixels stay free before the first column.
    """
    cell = sizes.max(axis=0) + np.array([GAP, HEAD + GAP])
    places = np.arange(len(sizes))
    return np.stack([places % columns, places // columns], axis=1) * cell + (left, HEAD)
