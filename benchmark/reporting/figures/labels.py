"""Labels beside points and lines instead of a legend, placed so that they do not overlap. Deterministic."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation

DIRECTIONS = 24
DISTANCES = (5.0, 9.0, 14.0, 20.0, 28.0, 38.0, 50.0)  # points between a marker's centre and its label
NEAR = 9.0  # points; a label that is farther away gets a line to its marker
MAX_SWEEPS = 6
AMBIGUITY_COST = 40  # of a label that is nearer to another marker, in square points of overlap


def label_points(
    axes: Axes, points: np.ndarray, texts: Sequence[str], colours: Sequence[str], crosses: np.ndarray, size: float = 7
) -> None:
    """Write a text beside each of `points` (data coordinates [n, 2]), clear of the other texts and of `crosses` [k, 2].

    A text that stands farther away has a line to its point, in the point's colour. The layout of the figure must be
    final.
    """
    figure = axes.figure
    scale = figure.dpi / 72
    anchors, obstacles = axes.transData.transform(points), axes.transData.transform(crosses)
    drawn = [axes.annotate(t, p, (0, 0), textcoords="offset points", fontsize=size, ha="center", va="center")
             for t, p in zip(texts, points, strict=True)]  # fmt: skip
    extents = [text.get_window_extent() for text in drawn]
    sizes = np.array([(e.width, e.height) for e in extents]).reshape(-1, 2) + 2 * scale
    marks = _boxes(np.concatenate([anchors, obstacles]), np.full(2, 7 * scale))
    offsets = place(anchors, sizes, marks, np.array(axes.bbox.extents), scale)
    for text, anchor, point, offset, colour in zip(drawn, anchors, points, offsets, colours, strict=True):
        text.set_position(offset / scale)
        box = np.array(text.get_window_extent().extents).reshape(2, 2)
        near = (np.clip(anchor, *box) - anchor) / scale  # the point of the label that is nearest to the marker
        if np.hypot(*near) > NEAR:
            axes.annotate("", point, near, textcoords="offset points", zorder=2,
                          arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0,
                                      "shrinkB": 3})  # fmt: skip


def along_steps(axes: Axes, points: np.ndarray, every: float = 5) -> np.ndarray:
    """Return points [k, 2] along the step line (flat first) through `points`, one each `every` typographic points.

    All are in data coordinates.
    """
    pixels = axes.transData.transform(points)
    corners = [(b[0], a[1]) for a, b in itertools.pairwise(pixels)]
    path = [p for pair in zip(pixels, corners, strict=False) for p in pair] + [*pixels[len(corners) :]]
    step = every * axes.figure.dpi / 72
    pieces = [np.linspace(a, b, max(2, int(np.hypot(*np.subtract(b, a)) / step)))
              for a, b in itertools.pairwise(path)]  # fmt: skip
    return axes.transData.inverted().transform(np.concatenate(pieces)) if pieces else np.empty((0, 2))


def place(anchors: np.ndarray, sizes: np.ndarray, marks: np.ndarray, frame: np.ndarray, scale: float) -> np.ndarray:
    """Return offsets [n, 2] of the centres of labels from their anchors, in pixels.

    Each label in turn takes the candidate position with the lowest cost, until nothing changes. The cost grows with the
    overlap with other labels and with `marks` (boxes [k, 4] as x0, y0, x1, y1), with the area outside of `frame`, and
    with the distance. A position that is nearer to another anchor than to its own costs more.
    """
    offsets, distance_cost = _candidates(sizes, scale)
    boxes = [_boxes(anchor + options, size) for anchor, options, size in zip(anchors, offsets, sizes, strict=True)]
    fixed = [(_overlap(b, marks) + 3 * _outside(b, frame)) / scale**2 + distance_cost
             + AMBIGUITY_COST * _is_ambiguous(b, anchors, i)
             for i, b in enumerate(boxes)]  # fmt: skip
    chosen: dict[int, int] = {}
    for _ in range(MAX_SWEEPS):
        before = dict(chosen)
        for i, options in enumerate(boxes):
            others = np.array([boxes[j][c] for j, c in chosen.items() if j != i]).reshape(-1, 4)
            chosen[i] = int(np.argmin(fixed[i] + _overlap(options, others) / scale**2))
        if chosen == before:
            break
    return np.array([offsets[i, c] for i, c in chosen.items()]).reshape(-1, 2)


def _candidates(sizes: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return candidate offsets [n, k, 2] in pixels for labels of these sizes [n, 2], and the cost of each [k]."""
    angles = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False)
    around = np.tile(np.stack([np.cos(angles), np.sin(angles)], axis=1), (len(DISTANCES), 1))
    reach = np.repeat(DISTANCES, DIRECTIONS)[:, None]
    return around * (reach * scale + sizes[:, None] / 2), reach[:, 0] + 2 * (1 - around[:, 0])


def _boxes(centres: np.ndarray, size: np.ndarray) -> np.ndarray:
    return np.concatenate([centres - size / 2, centres + size / 2], axis=1)


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the area that each of `boxes` [n, 4] shares with `others` [m, 4], summed: [n]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)


def _is_ambiguous(boxes: np.ndarray, anchors: np.ndarray, own: int) -> np.ndarray:
    """Return which of `boxes` [n, 4] are at least as near to another anchor as to their own, [n].

    Anchors at the same place as their own do not count.
    """
    nearest = np.clip(anchors, boxes[:, None, :2], boxes[:, None, 2:])  # [n, anchors, 2]
    gaps = np.hypot(*np.moveaxis(nearest - anchors, 2, 0))
    others = np.hypot(*(anchors - anchors[own]).T) > 1
    return (gaps[:, others] <= gaps[:, [own]]).any(axis=1)


def _outside(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Return the area of each box [n, 4] outside of the frame [4]."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - _overlap(boxes, frame[None])


def label_ends(
    axes: Axes, ends: np.ndarray, texts: Sequence[str], looks: Sequence[dict[str, Any]], size: float = 6.5
) -> Callable[[], None]:
    """Write a text to the right of the axes for each line that ends at `ends` [n, 2] (data coordinates).

    `looks` are the looks of the lines: a text follows its line's marker, or has its line's colour. The texts are added
    at once, so that the layout leaves room for them. Call the returned function when the layout is final. It moves each
    text as near to the end of its line as the other texts allow, in the order of the ends.
    """
    drawn = [_end_label(axes, text, look, size) for text, look in zip(texts, looks, strict=True)]

    def place_labels() -> None:
        inside = axes.transAxes.inverted().transform(axes.transData.transform(ends)).clip(0, 1)
        heights = keep_apart(inside[:, 1], size * 1.25 * axes.figure.dpi / 72 / axes.bbox.height, 0, 1)
        for (text, markers), end, height in zip(drawn, inside, heights, strict=True):
            text.xy = tuple(end)
            text.set_position((1, height))
            for marker in markers:
                marker.set_ydata([height])

    return place_labels if drawn else lambda: None


def _end_label(axes: Axes, text: str, look: dict[str, Any], size: float) -> tuple[Annotation, list[Line2D]]:
    """Add a text with a line to it, and its marker if it has one, at the middle of the right side."""
    from matplotlib.transforms import offset_copy

    markers, colour = [], look["color"]
    if "marker" in look:
        beside = offset_copy(axes.transAxes, cast("Figure", axes.figure), x=12, units="points")
        markers = axes.plot([1], [0.5], transform=beside, clip_on=False, **{**look, "linestyle": "none"})
        colour = style.INK
    beside = offset_copy(axes.transAxes, cast("Figure", axes.figure), x=16 if markers else 9, units="points")
    arrow = {"arrowstyle": "-", "color": look["color"], "linewidth": 0.4, "alpha": 0.6, "shrinkB": 1,
             "shrinkA": 7 if markers else 1, "relpos": (0, 0.5)}  # fmt: skip
    written = axes.annotate(text, (1, 0.5), (1, 0.5), xycoords="axes fraction", textcoords=beside, fontsize=size,
                            color=colour, va="center", annotation_clip=False, arrowprops=arrow)  # fmt: skip
    return written, markers


def keep_apart(positions: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Move positions [n] as little as possible (least squares) so that neighbours are at least `gap` apart.

    They stay between `low` and `high` if they all fit, else they go on beyond `high`. With the order kept, this is an
    isotonic regression of the positions minus `gap` times their rank. Pool adjacent violators solves it: positions that
    would overlap are joined into blocks around their mean.
    """
    order = np.argsort(positions, kind="stable")
    blocks: list[list[float]] = []  # [sum, count]
    for rank, value in enumerate(np.asarray(positions, float)[order]):
        blocks.append([value - gap * rank, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    level = np.concatenate([np.full(int(count), total / count) for total, count in blocks])
    level = np.clip(level, low, max(low, high - gap * (len(order) - 1)))
    moved = np.empty(len(order))
    moved[order] = level + gap * np.arange(len(order))
    return moved
