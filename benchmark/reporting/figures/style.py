"""The look of figures: fonts, colours, markers. `applied()` sets it for a block of code; nothing global changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from ...registry import BUILT_IN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008): distinct for any kind of colour vision. Their yellow is left out, because lines would be too pale.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = COLOURS = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
INK, FAINT, GRID = "#333333", "#8C8C8C", "#E8E8E8"  # text, secondary lines and texts, grid lines behind the data
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}  # behind text that crosses lines
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
MARKER_SCALES = {"P": 1.15, "X": 1.15, "*": 1.5}  # for markers that look smaller than the others
POSITIONS = {name: i for i, name in enumerate(BUILT_IN)}

RC = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "lines.linewidth": 1.2,
    "figure.dpi": 150,
    "pdf.fonttype": 42,  # TrueType: text in the PDF can be searched
    "svg.hashsalt": "flexbench",  # ids in the SVG are the same each time
}


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Use matplotlib's defaults with our changes, whatever the user has set."""
    import matplotlib.style

    with matplotlib.style.context(["default", RC]):
        yield


def new_figure(width: float, height: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """Return an empty figure, in inches, with a canvas that can measure texts. pyplot does not know of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` axes, row by row. `width` and `height` are those of one panel, in inches."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = new_figure(width * columns, height * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False).flatten())
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def freeze_layout(figure: Figure) -> None:
    """Compute the layout once and keep it, so that texts can be placed by it afterwards."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def of_model(name: str) -> dict[str, Any]:
    """Return colour, marker and line of a model, the same in every figure.

    Sixteen models are distinct without colour too: eight shapes, first filled and solid, then hollow and dashed. Models
    of the user's own reuse these looks.
    """
    position = POSITIONS.get(name, len(POSITIONS) + sum(name.encode()))
    colour, marker = COLOURS[position % len(COLOURS)], MARKERS[position % len(MARKERS)]
    second = position // len(MARKERS) % 2
    return {
        "color": colour,
        "linestyle": DASHES[second],
        "marker": marker,
        "markersize": 5 * MARKER_SCALES.get(marker, 1),
        "markeredgecolor": colour,
        "markerfacecolor": "white" if second else colour,
        "markeredgewidth": 0.9,
    }


def plain_log(axis: Any) -> None:
    """Put ticks at 1, 2, 5, 10, 20, ... on a logarithmic axis, without exponents."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def thousands(axis: Any) -> None:
    """Write ticks as 500, 1k, 130k."""
    from matplotlib import ticker

    axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v / 1000:g}k" if abs(v) >= 1000 else f"{v:g}"))


def horizontal(axes: Axes, value: float, text: str) -> None:
    """Draw a thin grey line across the axes, with its name at the left end."""
    axes.axhline(value, color=FAINT, linewidth=0.7, zorder=1)
    axes.annotate(text, (0, value), (3, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                  color=FAINT, fontsize=6.5, va="bottom", ha="left",
                  bbox=PAPER)  # fmt: skip
