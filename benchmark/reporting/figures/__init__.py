"""Figures of the results. `FIGURES` lists them; each module makes the `Plot`s of one figure.

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
    """Return the plots of one figure, not yet drawn; FlexbenchError if the results do not allow it."""
    if name not in FIGURES:
        raise unknown("figure", name, FIGURES, "Or 'all'.")
    for root in query.roots:
        if not root.is_dir():
            raise FlexbenchError(f"there is no folder '{root}'. Run something first, or give --out.")
    module, function = FIGURES[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), function)(query)


def make_several(names: Iterable[str], query: Query) -> tuple[list[Plot], dict[str, str]]:
    """Return the plots of the figures that can be made, and for each other figure the reason why it cannot.

    Raises FlexbenchError with the reasons if none can be made.
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
