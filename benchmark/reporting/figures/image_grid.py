"""Pictures side by side, each pixel of theirs one pixel of the PNG: nothing is resampled, nothing is blurred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAD, GAP = 36, 14  # pixels: above a picture for its heading, and between pictures


@dataclass(frozen=True)
class Tile:
    """An 8-bit picture [H, W, 1 or 3] with what is written around it."""

    pixels: np.ndarray
    heading: str = ""
    fits: bool = False  # the heading is made small enough for the width; else it may go on over the next picture
    rows: Sequence[str] = ()  # written to the left of as many equal parts of its height
    columns: Sequence[str] = ()  # written below as many equal parts of its width

    @property
    def size(self) -> np.ndarray:
        """Width and height in pixels."""
        return np.array([self.pixels.shape[1], self.pixels.shape[0]])


def draw(pictures: Sequence[Tile], corners: np.ndarray, margin: tuple[int, int] = (0, 0)) -> Figure:
    """Pictures with their upper left corners [n, 2] at these pixels (x to the right, y down from the top).

    `margin` is what is left to the right and below. The figure is as large as that needs at 150 pixels per inch.
    """
    from .plot import DPI

    total = (corners + [p.size for p in pictures]).max(axis=0) + margin
    figure = style.new_figure(*(total / DPI), layout=None)
    for picture, (left, top) in zip(pictures, corners, strict=True):
        width, height = picture.size
        axes = figure.add_axes((left / total[0], 1 - (top + height) / total[1], width / total[0], height / total[1]))
        axes.imshow(picture.pixels.repeat(3 // picture.pixels.shape[2], axis=2), interpolation="none", aspect="auto")
        axes.set_axis_off()
        _write(axes, picture)
    return figure


def _write(axes: Axes, picture: Tile) -> None:
    # A bold letter is about 0.7 of its size wide; 72 points are an inch of 150 pixels.
    size = min(9.0, picture.size[0] * 72 / 150 / (0.7 * len(picture.heading) or 1)) if picture.fits else 9.0
    around = {"xycoords": "axes fraction", "textcoords": "offset points", "color": style.INK}
    axes.annotate(picture.heading, (0, 1), (0, 4), ha="left", va="bottom", fontsize=size, fontweight="bold", **around)
    for i, text in enumerate(picture.rows):
        axes.annotate(text, (0, 1 - (i + 0.5) / len(picture.rows)), (-3, 0), ha="right", va="center", fontsize=6.5,
                      **around)  # fmt: skip
    for i, text in enumerate(picture.columns):
        axes.annotate(text, ((i + 0.5) / len(picture.columns), 0), (0, -2), ha="center", va="top", fontsize=6.5,
                      **around)  # fmt: skip


def table(sizes: np.ndarray, columns: int, left: int = 0) -> np.ndarray:
    """Upper left corners [n, 2] of pictures of these sizes [n, 2], row by row, all cells as large as the largest.

    `left` pixels are kept free before the first column.
    """
    cell = sizes.max(axis=0) + np.array([GAP, HEAD + GAP])
    places = np.arange(len(sizes))
    return np.stack([places % columns, places // columns], axis=1) * cell + (left, HEAD)
