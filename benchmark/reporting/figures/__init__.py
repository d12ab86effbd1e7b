"""Figures of what has run. `FIGURES` says which there are; each module makes the `Plot`s of one or two of them.

A new figure is one function `make(query) -> list[Plot]` and one line in `FIGURES`. Importing this package imports
neither torch nor matplotlib nor pandas.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from ...core.errors import FlexbenchError, unknown
from .plot import FORMATS, Plot, Query, rendered, save

FIGURES = {  # name -> module:function of this package
    "pareto": "pareto:make",
    "curves": "curves:make",
    "dims": "dims:make",
    "2": "prior_distance:make",
    "3": "latent_scatter:make",
    "4": "sample_grids:make",
    "5": "latent_walks:make",
}

__all__ = ["FIGURES", "FORMATS", "Plot", "Query", "make", "make_several", "rendered", "save"]


def make(name: str, query: Query) -> list[Plot]:
    """The plots of one figure, nothing drawn yet. FlexbenchError where it cannot be made of what has run."""
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES, "Or 'all'.")
    if not query.out.is_dir():
        raise FlexbenchError(f"there is no folder '{query.out}'. Run something first, or give --out.")
    module, function = FIGURES[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), function)(query)


def make_several(names: Iterable[str], query: Query) -> tuple[list[Plot], dict[str, str]]:
    """The plots of those figures that can be made, and for the others the reason.

    Raises FlexbenchError with the reasons where none can be made.
    """
    plots, reasons = [], {}
    for name in names:
        try:
            plots += make(name, query)
        except FlexbenchError as error:
            reasons[name] = str(error)
    if reasons and not plots:
        raise FlexbenchError(" ".join(dict.fromkeys(reasons.values())))
    return plots, reasons
