"""Figure `dims`: generation and reconstruction scores, and the distance of prior and codes, against the latent size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...jobs.results import LAST
from ...metrics import METRICS, Metric
from .. import tables
from ..selection import comparable_rows, ordered
from . import labels, style
from .plot import Plot, Query
from .scores import dataset_title, info_of, over_seeds, protocol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISMATCH = "prior_mismatch"
PANELS = {"gen_fd": "generation", "rec_fd": "reconstruction", MISMATCH: "prior and codes"}
UNITS = {MISMATCH: "sliced Wasserstein distance / RMS code (lower is better)"}  # of scores that are not Frechet
LOG_RATIO = 8  # scores that differ by more than this factor get a logarithmic axis


def make(query: Query) -> list[Plot]:
    """Return one plot with a row of panels per dataset; FlexbenchError if no model has results at two latent sizes.

    The third panel is missing if the runs were scored before the distance of prior and codes was measured.
    """
    metrics = [METRICS[family] for family in PANELS]
    distances = [m for m in metrics if m.family != MISMATCH]
    rows = comparable_rows(query.results, distances, query.preset, query.space, query.images)
    rows = tables.at_several_sizes(rows, "this figure")
    frame = points(pd.concat([rows, mismatch(rows, query.results)]), metrics)
    caption = (
        f"Frechet distance to test images, and distance of prior and codes, against the latent size. Points: means "
        f"over seeds. Bars: standard deviations over seeds. Dotted line: the true dimension, if known. "
        f"{protocol(rows, distances)}"
    )
    return [Plot("dims", "Scores against the latent size", caption, frame, lambda: draw(frame))]


def mismatch(rows: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Return the distances of prior and codes of the same runs at the last checkpoint. They use no feature space."""
    found = results[(results.family == MISMATCH) & results.hash.isin(rows.hash) & (results.checkpoint == LAST)]
    return ordered(found.drop_duplicates("hash", keep="last"))


def points(rows: pd.DataFrame, metrics: list[Metric]) -> pd.DataFrame:
    """Return the long form: dataset, model (its label in tables), name, score (a family), latent_dim, mean, std, seeds.

    Each dataset, score and size has a row for real images too.
    """
    models = tables.model_cells(rows, metrics, by_size=True)
    frame = over_seeds(models, ["family", "latent_dim"])
    real = pd.concat([rows[rows.family == m.floor].assign(family=m.family) for m in metrics])
    real = real.drop_duplicates(["dataset", "family", "latent_dim"]).assign(model=tables.FLOOR, mean=lambda r: r.value)
    frame = pd.concat([frame, real[["dataset", "model", "family", "latent_dim", "mean"]]], ignore_index=True)
    return frame.rename(columns={"family": "score"})


def draw(frame: pd.DataFrame) -> Figure:
    """Draw a row of panels per dataset."""
    scores = [family for family in PANELS if family in set(frame.score)]
    pairs = [(dataset, family) for dataset in dict.fromkeys(frame.dataset) for family in scores]
    figure, panels = style.panels(len(pairs), len(scores), 4.4, 3.6)
    label_placers = [
        _panel(axes, dataset, family, frame[(frame.dataset == dataset) & (frame.score == family)])
        for axes, (dataset, family) in zip(panels, pairs, strict=True)
    ]
    style.freeze_layout(figure)
    for place_labels in label_placers:
        place_labels()
    return figure


def _panel(axes: Axes, dataset: str, family: str, part: pd.DataFrame) -> Callable[[], None]:
    """Draw one score of one dataset. Return the function that places the names of the lines."""
    models, real = part[part["name"].notna()], part[part["name"].isna()]
    axes.set_title(f"{dataset_title(dataset)}: {PANELS[family]}")
    axes.set_ylabel(UNITS.get(family, "Frechet distance (lower is better)"))
    if models.empty:
        return lambda: None
    ends, looks = [], []
    for _, line in models.groupby("model", sort=False):
        line, look = line.sort_values("latent_dim"), style.of_model(line["name"].iloc[0])
        axes.errorbar(line.latent_dim, line["mean"], line["std"], elinewidth=0.8, capsize=1.5, **look)
        ends.append(line[["latent_dim", "mean"]].to_numpy()[-1])
        looks.append(look)
    _scales(axes, dataset, models)
    if len(real):
        style.horizontal(axes, real["mean"].iloc[0], tables.FLOOR)
    return labels.label_ends(axes, np.array(ends), list(dict.fromkeys(models.model)), looks)


def _scales(axes: Axes, dataset: str, models: pd.DataFrame) -> None:
    """Set a binary logarithmic axis with a tick at each size that ran, and a line at the true dimension if known."""
    sizes = sorted(models.latent_dim.unique())
    info = info_of(dataset)
    true = info.true_dim if info else None
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(m) for m in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlim(min(sizes[0], true or sizes[0]) / 1.15, max(sizes[-1], true or 0) * 1.15)
    axes.set_xlabel("latent size m")
    if models["mean"].max() > LOG_RATIO * models["mean"].min():
        axes.set_yscale("log")
        style.plain_log(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
    if true:
        axes.axvline(true, color=style.INK, linestyle=":", linewidth=1, zorder=1)
        axes.annotate(f"true n = {true}", (true, 1), (3, -2), xycoords=("data", "axes fraction"), va="top",
                      textcoords="offset points", fontsize=6.5)  # fmt: skip
