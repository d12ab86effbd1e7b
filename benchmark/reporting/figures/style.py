"""How figures look: fonts, colours, markers. Nothing global is changed; `house()` holds while a figure is made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...registry import BUILT_IN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008), told apart by people with any kind of colour vision; without their yellow, too pale for lines.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = COLOURS = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
INK, FAINT, GRID = "#333333", "#8C8C8C", "#E8E8E8"  # text, what is beside the point, lines behind the data
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}  # behind text that crosses lines
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
BIGGER = {"P": 1.15, "X": 1.15, "*": 1.5}  # markers that look smaller than the others
PLACES = {name: i for i, name in enumerate(BUILT_IN)}

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
def house() -> Iterator[None]:
    """matplotlib's defaults, whatever the user has set, and our changes of them."""
    import matplotlib.style

    with matplotlib.style.context(["default", RC]):
        yield


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Figure:
    """An empty figure, in inches, with a canvas that knows the size of texts. pyplot never hears of it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of so many axes of a size in inches, row by row."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = new_figure(width * columns, height * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False).flatten())
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def freeze_layout(figure: Figure) -> None:
    """Lay out what is there, for good: names that depend on it are placed afterwards."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def of_model(name: str) -> dict[str, Any]:
    """Colour, marker and line of a model, the same in every figure; sixteen are told apart without colour too.

    Eight shapes, first filled and solid, then hollow and dashed. Models of the user's own share the later ones.
    """
    place = PLACES.get(name, len(PLACES) + sum(name.encode()))
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    second = place // len(MARKERS) % 2
    return {
        "color": colour,
        "linestyle": DASHES[second],
        "marker": marker,
        "markersize": 5 * BIGGER.get(marker, 1),
        "markeredgecolor": colour,
        "markerfacecolor": "white" if second else colour,
        "markeredgewidth": 0.9,
    }


def plain_log(axis: Any) -> None:
    """Ticks 1, 2, 5, 10, 20, ... on a logarithmic axis, written out."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def thousands(axis: Any) -> None:
    """Ticks such as 500, 1k, 130k."""
    from matplotlib import ticker

    axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v / 1000:g}k" if abs(v) >= 1000 else f"{v:g}"))


def horizontal(axes: Axes, value: float, text: str) -> None:
    """A thin grey line across the axes, with its name at the left end."""
    axes.axhline(value, color=FAINT, linewidth=0.7, zorder=1)
    axes.annotate(text, (0, value), (3, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                  color=FAINT, fontsize=6.5, va="bottom", ha="left",
                  bbox=PAPER)  # fmt: skip
