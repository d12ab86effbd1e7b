"""Figure `pareto`: generation score against the compute of training. Equal steps are not equal compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...metrics import METRICS
from .. import selection, tables
from . import labels, style
from .plot import Plot, Query
from .scores import dataset_title, over_seeds, protocol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRIC = METRICS["gen_fd"]
PANEL = ["dataset", "latent_dim"]
LOG_RATIO = 8  # scores that differ by more than this factor get a logarithmic axis
RULE = (
    "Compute: forward and backward passes of all phases. Points: means over seeds. Bars: standard deviations over "
    "seeds. Line: the Pareto front, the models that no other model beats with the same compute or less."
)


def make(query: Query) -> list[Plot]:
    """Return one plot with a panel per dataset and latent size. Raises what `selection.comparable_rows` raises."""
    rows = selection.comparable_rows(query.results, [METRIC], query.preset, query.space, query.images)
    rows = selection.main_sizes(rows, rows[rows.family == METRIC.family])
    frame = points(rows)
    caption = f"{METRIC.title} ({METRIC.better} is better). {RULE} {protocol(rows, [METRIC])}"
    return [Plot("pareto", "Generation score against training compute", caption, frame, lambda: draw(frame))]


def points(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row per model: dataset, latent_dim, model (its table label), name, mean, std, seeds, tflops, on_front.

    Each dataset and latent size has a row for real images too, without a cost.
    """
    models = tables.model_cells(rows, [METRIC])
    models["row"] = tables.row_labels(models, sized=False)  # sizes have panels of their own
    frame = over_seeds(models, ["latent_dim"], tflops=("train_flops", "mean"))
    frame["tflops"] /= 1e12
    frame["on_front"] = False
    for _, part in frame.groupby(PANEL):
        frame.loc[part.index, "on_front"] = front(part["tflops"].to_numpy(), part["mean"].to_numpy())
    real = rows[rows.family == METRIC.floor].drop_duplicates(PANEL)
    real = real.assign(model=tables.FLOOR, mean=real.value, on_front=False)
    return pd.concat([frame, real[[*PANEL, "model", "mean", "on_front"]]], ignore_index=True)


def front(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return which of n points are on the Pareto front, bool [n]. Lower is better.

    A point is on it unless another point is at least as good in both values and better in one.
    """
    no_worse = (costs[:, None] <= costs) & (scores[:, None] <= scores)
    better = (costs[:, None] < costs) | (scores[:, None] < scores)
    return np.logical_not((no_worse & better).any(axis=0))


def draw(frame: pd.DataFrame) -> Figure:
    """Draw the panels side by side."""
    parts = {f"{dataset_title(str(d))}, m = {m}": part for (d, m), part in frame.groupby(PANEL)}
    width, height = (7.6, 5.2) if len(parts) == 1 else (5.2, 3.8)  # of a panel, in inches; the names need room
    figure, panels = style.panels(len(parts), 3, width, height)
    for axes, (title, part) in zip(panels, parts.items(), strict=True):
        axes.set_title(title)
        _panel(axes, part)
    style.freeze_layout(figure)
    for axes, part in zip(panels, parts.values(), strict=True):
        _label_models(axes, part)
    return figure


def _panel(axes: Axes, part: pd.DataFrame) -> None:
    models, real = part[part.tflops.notna()], part[part.tflops.isna()]
    axes.set_xscale("log")
    if models["mean"].max() > LOG_RATIO * models["mean"].min():
        axes.set_yscale("log")
        style.plain_log(axes.yaxis)
    for row in models.itertuples():
        axes.errorbar(row.tflops, row.mean, None if np.isnan(row.std) else row.std, elinewidth=0.8, capsize=2,
                      zorder=3, **{**style.of_model(row.name), "linestyle": "none"})  # fmt: skip
    best = models[models.on_front].sort_values(["tflops", "mean"])
    axes.plot(best.tflops, best["mean"], drawstyle="steps-post", color=style.FAINT, linewidth=1, zorder=2,
              label="Pareto front")  # fmt: skip
    for value in real["mean"]:
        style.horizontal(axes, value, tables.FLOOR)
    _limits(axes, models, real)
    axes.set_xlabel("training compute (TFLOPs, log scale)")
    axes.set_ylabel(f"Frechet distance of generated images ({METRIC.better} is better)")


def _limits(axes: Axes, models: pd.DataFrame, real: pd.DataFrame) -> None:
    """Leave room for labels on all sides. A linear axis starts at zero, so that lengths compare."""
    low, high = models.tflops.min(), models.tflops.max()
    margin = max((high / low) ** 0.12, 1.25)
    axes.set_xlim(low / margin, high * margin**1.4)
    style.plain_log(axes.xaxis)
    top = (models["mean"] + models["std"].fillna(0)).max()
    if axes.get_yscale() == "linear":
        axes.set_ylim(0, 1.08 * top)
    else:
        axes.set_ylim(0.8 * min(real["mean"].min(), models["mean"].min()), 1.25 * top)


def _label_models(axes: Axes, part: pd.DataFrame) -> None:
    models = part[part.tflops.notna()]
    best = models[models.on_front].sort_values(["tflops", "mean"])
    ends = [models[["tflops"]].assign(end=models["mean"] + k * models["std"].fillna(0)).to_numpy() for k in (-1, 1)]
    line = labels.along_steps(axes, best[["tflops", "mean"]].to_numpy())
    colours = [style.of_model(name)["color"] for name in models["name"]]
    labels.label_points(axes, models[["tflops", "mean"]].to_numpy(), list(models.model), colours,
                        np.concatenate([line, *ends]))  # fmt: skip
