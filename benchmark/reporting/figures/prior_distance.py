"""Figure `2`: how prior and codes meet in training, for vectors from R^5 (the paper's Figure 2). No model is run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.errors import FlexbenchError
from ...core.files import read_jsonl
from ...metrics import METRICS
from .. import tables
from ..selection import ordered, with_one_image_count, with_one_value
from . import style
from .plot import Plot, Query
from .scores import protocol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DATASET = "synthetic-r5"
DIM = 128  # numbers in a vector
FLOOR = "real vectors"
LOGGED = {  # of train.jsonl: name of the loss -> quantity, and what it is divided by
    "loss/distance": ("critic", 1),
    "loss/distance_per_rms": ("critic_per_rms", 1),
    "loss/reconstruction": ("train_error", DIM),
}
PANELS = {
    "critic": "Critic's distance of prior and codes",
    "critic_per_rms": "Critic's distance / RMS code",
    "prior_mismatch": "Sliced Wasserstein distance / RMS code",
    "train_error": "Squared error per number, in training",
    "rec_fd": "Frechet distance, reconstructed",
    "gen_fd": "Frechet distance, generated",
}
SCORED = ("prior_mismatch", "rec_fd", "gen_fd")  # of the panels, those that are scores
RULE = (
    "Lines: means over seeds; bands: from the lowest to the highest seed. The critic's distance is what each model's "
    "own Wasserstein critic estimates in training, and the squared error is that of the training batches; the other "
    "three are measured at the steps that were scored, against training codes and held-out vectors."
)
COLUMNS = ["model", "name", "seed", "quantity", "step", "value"]


def make(query: Query) -> list[Plot]:
    """One plot of six panels; FlexbenchError where no run on the dataset was scored at several steps."""
    scored = followed(query)
    if scored.empty:
        raise FlexbenchError(
            f"figure 2 follows runs on {DATASET} over their steps, and none under '{query.out}' was scored at several. "
            f"Run some: flexbench run --datasets {DATASET} --score-every 100 ..."
        )
    frame = quantities(scored)
    caption = f"{RULE} {protocol(scored, [METRICS['gen_fd']], rule=None)}"
    return [Plot("2", f"Prior and codes in training, {DATASET}", caption, frame, lambda: draw(frame))]


def followed(query: Query) -> pd.DataFrame:
    """The scores of the runs that were scored at several steps, of one preset and number of vectors."""
    rows = query.results[query.results.dataset == DATASET]
    rows = with_one_value(rows[rows.protocol == rows.protocol.max()], "preset", query.preset, "--preset")
    distances = with_one_image_count(rows[rows.family.isin(("gen_fd", "rec_fd", "real_fd"))], query.images)
    steps = distances[distances.family == "gen_fd"].groupby("hash").step.nunique()
    rows = pd.concat([distances, rows[rows.family == "prior_mismatch"]])
    return ordered(rows[rows.hash.isin(steps[steps > 1].index)])


def quantities(scored: pd.DataFrame) -> pd.DataFrame:
    """Long form, columns as in COLUMNS; the distance of real vectors is the quantity `real_fd`, of no model."""
    jobs = scored.drop_duplicates("hash")
    jobs = jobs.assign(row=tables.row_labels(jobs))
    parts = []
    for _, job in jobs.iterrows():
        own = scored[(scored.hash == job.hash) & scored.family.isin(SCORED)].drop_duplicates(["family", "step"])
        found = own[["family", "step", "value"]].set_axis(["quantity", "step", "value"], axis=1)
        part = pd.concat([logged(Path(job.folder)), found])
        parts.append(part.assign(model=job["row"], name=job.model, seed=job.seed))
    real = scored[scored.family == "real_fd"].head(1)
    parts.append(pd.DataFrame({"model": FLOOR, "quantity": "real_fd", "value": real.value}))
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def logged(folder: Path) -> pd.DataFrame:
    """What a training log holds of the quantities: quantity, step, value."""
    rows = [
        (quantity, row["step"], row[key] / unit)
        for row in read_jsonl(folder / "train.jsonl")
        for key, (quantity, unit) in LOGGED.items()
        if row.get(key) is not None
    ]
    return pd.DataFrame(rows, columns=["quantity", "step", "value"])


def draw(frame: pd.DataFrame) -> Figure:
    """Six panels, a line and a band per model in each."""
    figure, panels = style.panels(len(PANELS), 3, 3.4, 2.7)
    models = frame[frame.seed.notna()]
    looks = variant_looks(models)
    floor = frame[frame.seed.isna()].value  # one number, or none where it was not scored
    for axes, (quantity, title) in zip(panels, PANELS.items(), strict=True):
        axes.set_title(title, fontsize=8)
        _panel(axes, models[models.quantity == quantity], looks)
        for value in floor if quantity.endswith("_fd") else ():
            style.horizontal(axes, value, FLOOR)
    handles = [panels[0].plot([], [], **look)[0] for look in looks.values()]
    figure.legend(handles, list(looks), loc="outside lower center", frameon=False, ncols=1, fontsize=7)
    return figure


def variant_looks(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A line for each label in `model`: the model's colour, and dashes that tell its settings apart."""
    looks: dict[str, dict[str, Any]] = {}
    for model, part in frame.groupby("model", sort=False):
        own = style.of_model(part["name"].iloc[0])
        same = sum(look["color"] == own["color"] for look in looks.values())
        looks[str(model)] = {"color": own["color"], "linestyle": style.DASHES[same % len(style.DASHES)]}
    return looks


def _panel(axes: Axes, part: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    for model, lines in part.groupby("model", sort=False):
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
