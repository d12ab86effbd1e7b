"""Figure `2`: the distance of prior and codes in training, for vectors with a known dimension (the paper's Figure 2).

No model is run. The losses are found in the training log by the names that `Method` gives them in general.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.errors import FlexbenchError
from ...core.files import read_jsonl
from ...core.old_names import current_log_row
from ...metrics import METRICS
from .. import tables
from ..rows import run_file
from ..selection import ordered, with_one_image_count, with_one_value
from . import style
from .plot import Plot, Query
from .scores import declared_names, info_of, protocol, results_where

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...data import DatasetInfo

FLOOR = "real vectors"
ERROR = "train_error"
LOGGED = {  # key of the training log -> quantity
    "loss/distance": "critic",
    "loss/distance_per_rms": "critic_per_rms",
    "loss/reconstruction": ERROR,
}
PANELS = {
    "critic": "Critic's distance of prior and codes",
    "critic_per_rms": "Critic's distance / RMS code",
    "prior_mismatch": "Sliced Wasserstein distance / RMS code",
    ERROR: "Squared error per number, in training",
    "rec_fd": "Frechet distance, reconstructed",
    "gen_fd": "Frechet distance, generated",
}
SCORED = ("prior_mismatch", "rec_fd", "gen_fd")  # the panels that show scores
RULE = (
    "Lines: means over seeds; bands: from the lowest to the highest seed. The critic's distance is the estimate of "
    "each model's own Wasserstein critic in training. The squared error is that of the training batches. The other "
    "three are measured at the scored steps, against training codes and held-out vectors."
)
COLUMNS = ["model", "name", "seed", "quantity", "step", "value"]


def make(query: Query) -> list[Plot]:
    """Return a plot of six panels for each dataset of vectors with a known dimension.

    Raises FlexbenchError if no run on such a dataset was scored at several steps.
    """
    results = results_where(query.results, has_known_dimension)
    found = {str(name): followed(rows, query) for name, rows in results.groupby("dataset")}
    found = {name: scored for name, scored in found.items() if len(scored)}
    if not found:
        names = declared_names(has_known_dimension)
        raise FlexbenchError(
            f"figure 2 follows runs on vectors with a known dimension ({', '.join(names)}) over their steps, and no "
            f"such run under '{query.out}' was scored at several steps. Run some: flexbench run --datasets {names[0]} "
            "--score-every 100 ..."
        )
    return [_plot(name, scored, alone=len(found) == 1) for name, scored in found.items()]


def has_known_dimension(info: DatasetInfo) -> bool:
    """Return whether a dataset holds vectors that are drawn from a space of known dimension."""
    return not info.are_images and info.true_dim is not None


def _plot(dataset: str, scored: pd.DataFrame, alone: bool) -> Plot:
    info = info_of(dataset)
    frame = quantities(scored, (info and info.channels) or 1)
    caption = f"{RULE} {protocol(scored, [METRICS['gen_fd']], rule=None)}"
    name = "2" if alone else f"2-{dataset}"
    return Plot(name, f"Prior and codes in training, {dataset}", caption, frame, lambda: draw(frame))


def followed(rows: pd.DataFrame, query: Query) -> pd.DataFrame:
    """Return the scores of the runs that were scored at several steps, of one preset and number of vectors."""
    rows = with_one_value(rows[rows.protocol == rows.protocol.max()], "preset", query.preset, "--preset")
    distances = with_one_image_count(rows[rows.family.isin(("gen_fd", "rec_fd", "real_fd"))], query.images)
    steps = distances[distances.family == "gen_fd"].groupby("hash").step.nunique()
    rows = pd.concat([distances, rows[rows.family == "prior_mismatch"]])
    return ordered(rows[rows.hash.isin(steps[steps > 1].index)])


def quantities(scored: pd.DataFrame, numbers: int) -> pd.DataFrame:
    """Return the quantities in long form, with the columns COLUMNS. `numbers` is how many numbers a vector has.

    The distance of real vectors is the quantity `real_fd`; its row belongs to no model.
    """
    jobs = scored.drop_duplicates("hash")
    jobs = jobs.assign(row=tables.row_labels(jobs))
    parts = []
    for _, job in jobs.iterrows():
        own = scored[(scored.hash == job.hash) & scored.family.isin(SCORED)].drop_duplicates(["family", "step"])
        found = own[["family", "step", "value"]].set_axis(["quantity", "step", "value"], axis=1)
        part = pd.concat([logged(run_file(job.folder, "train.jsonl"), numbers), found])
        parts.append(part.assign(model=job["row"], name=job.model, seed=job.seed))
    real = scored[scored.family == "real_fd"].head(1)
    parts.append(pd.DataFrame({"model": FLOOR, "quantity": "real_fd", "value": real.value}))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def logged(log: Path | None, numbers: int) -> pd.DataFrame:
    """Return the quantities in a training log: quantity, step, value; none if the log is not here.

    The squared error is divided by `numbers`.
    """
    rows = [
        (quantity, row["step"], row[key] / (numbers if quantity == ERROR else 1))
        for row in (map(current_log_row, read_jsonl(log)) if log else ())
        for key, quantity in LOGGED.items()
        if row.get(key) is not None
    ]
    return pd.DataFrame(rows, columns=["quantity", "step", "value"])


def draw(frame: pd.DataFrame) -> Figure:
    """Draw six panels, each with a line and a band per model."""
    figure, panels = style.panels(len(PANELS), 3, 3.4, 2.7)
    models = frame[frame.seed.notna()]
    looks = variant_looks(models)
    floor = frame[frame.seed.isna()].value  # one number, or none if it was not scored
    for axes, (quantity, title) in zip(panels, PANELS.items(), strict=True):
        axes.set_title(title, fontsize=8)
        _panel(axes, models[models.quantity == quantity], looks)
        for value in floor if quantity.endswith("_fd") else ():
            style.horizontal(axes, value, FLOOR)
    handles = [panels[0].plot([], [], **look)[0] for look in looks.values()]
    figure.legend(handles, list(looks), loc="outside lower center", frameon=False, ncols=1, fontsize=7)
    return figure


def variant_looks(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the line style of each label in `model`: the model's colour, and other dashes for other settings of it."""
    looks: dict[str, dict[str, Any]] = {}
    for model, part in frame.groupby("model", sort=False):
        own = style.of_model(part["name"].iloc[0])
        same = sum(look["color"] == own["color"] for look in looks.values())
        looks[str(model)] = {"color": own["color"], "linestyle": style.DASHES[same % len(style.DASHES)]}
    return looks


def _panel(axes: Axes, part: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    for name, lines in part.groupby("model", sort=False):
        model = str(name)
        over = lines.groupby("step").value
        axes.fill_between(over.mean().index, over.min(), over.max(), color=looks[model]["color"], alpha=0.18, lw=0)
        axes.plot(over.mean().index, over.mean(), **looks[model])
    values = part.value.to_numpy()
    if len(values) and (values > 0).all() and values.max() > 5 * values.min():
        axes.set_yscale("log")
        style.plain_log(axes.yaxis)
    elif len(values) and np.nanmin(values) >= 0:
        axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    style.thousands(axes.xaxis)
    axes.set_xlabel("step")
