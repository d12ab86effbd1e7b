"""Figure `curves`: the losses of every model over its steps, and its scores where several checkpoints have some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...core.errors import FlexbenchError
from ...core.files import read_jsonl
from ...metrics import METRICS
from .. import tables
from . import labels, style
from .plot import Plot, Query
from .scores import dataset_slug, dataset_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRIC = METRICS["gen_fd"]
FIXED = "reconstruction"  # the loss that has one look in all panels
SCORE = "score"  # what stands in the column `phase` of a score
COLUMNS = ["model", "name", "dataset", "latent_dim", "seed", "phase", "step", "total_step", "loss", "value"]
RULE = (
    "Each point is the mean of a loss over the steps since the point before. Thick lines: means over seeds; thin "
    "ones: single seeds. Vertical lines part the phases of a training. The scale is logarithmic where all losses are "
    "positive, else linear about zero and logarithmic beyond."
)


def make(query: Query) -> list[Plot]:
    """One plot per dataset, with a panel per model. FlexbenchError where no scored run has a training log."""
    jobs = tables.scored_jobs(query.results, query.preset)
    jobs = jobs.assign(row=tables.row_labels(jobs))
    parts = [pd.concat([losses(job), scores(job, query.results)]) for _, job in jobs.iterrows()]
    frame = pd.concat(parts, ignore_index=True)
    if frame.empty:
        raise FlexbenchError(f"no run under '{query.out}' has losses in its train.jsonl. Run something first.")
    return [_plot(dataset, jobs[jobs.dataset == dataset], part) for dataset, part in frame.groupby("dataset")]


def _plot(dataset: str, jobs: pd.DataFrame, frame: pd.DataFrame) -> Plot:
    presets, seeds = (", ".join(map(str, sorted(jobs[c].unique()))) for c in ("preset", "seed"))
    caption = f"{RULE} Preset {presets}; seeds {seeds}."
    title = f"Losses over steps, {dataset_title(dataset)}"
    frame = frame.reset_index(drop=True)
    return Plot(f"curves-{dataset_slug(dataset)}", title, caption, frame, lambda: draw(frame))


def losses(job: pd.Series) -> pd.DataFrame:
    """A job's training log in long form, columns as in COLUMNS; `total_step` counts through all phases."""
    found, before, phase, length = [], 0, None, 0
    for row in read_jsonl(Path(job.folder, "train.jsonl")):
        if row["phase"] != phase:
            before, phase, length = before + length, row["phase"], 0
        length = row.get("of", row["step"])
        for key, value in row.items():
            if key.startswith("loss/") and value is not None:
                found.append((phase, row["step"], before + row["step"], key.removeprefix("loss/"), value))
    return _with_job(job, pd.DataFrame(found, columns=COLUMNS[5:]))


def scores(job: pd.Series, results: pd.DataFrame) -> pd.DataFrame:
    """A job's generation scores in the same form, if there are some at several steps; else nothing."""
    rows = results[(results.folder == job.folder) & (results.metric == job.metric)]
    rows = rows[rows.n_images == job.n_images].sort_values("step")
    if rows.step.nunique() < 2:
        rows = rows.iloc[:0]
    return _with_job(job, pd.DataFrame({"phase": SCORE, "step": rows.step, "total_step": rows.step,
                                        "loss": rows.metric, "value": rows.value}))  # fmt: skip


def _with_job(job: pd.Series, part: pd.DataFrame) -> pd.DataFrame:
    who = {"model": job["row"], "name": job.model, "dataset": job.dataset, "latent_dim": job.latent_dim}
    return part.assign(**who, seed=job.seed)[COLUMNS]


def draw(frame: pd.DataFrame) -> Figure:
    """A panel of losses per model, then one of scores if there are any."""
    logged, scored = frame[frame.phase != SCORE], frame[frame.phase == SCORE]
    models = list(dict.fromkeys(logged.model))
    count = len(models) + bool(len(scored))
    columns = min(4, max(2, int(np.ceil(count**0.5)))) if count > 1 else 1
    figure, panels = style.panels(count, columns, 3.6, 2.5)
    finish = []
    for axes, model in zip(panels, models, strict=False):
        axes.set_title(model)
        finish.append(_losses(axes, logged[logged.model == model]))
    if len(scored):
        panels[-1].set_title("Generation score (lower is better)")
        finish.append(_scores(panels[-1], scored))
    style.freeze_layout(figure)
    for place_names in finish:
        place_names()
    return figure


def _losses(axes: Axes, part: pd.DataFrame) -> Callable[[], None]:
    """The losses of one model; returns what places their names."""
    names = list(dict.fromkeys(part.loss))
    looks = loss_looks(names)
    _scale(axes, part.value.to_numpy())
    for name in names:
        _seeds_and_mean(axes, part[part.loss == name], looks[name])
    starts = part.assign(start=part.total_step - part.step).groupby("phase", sort=False).start.first()
    for phase, start in starts.items() if len(starts) > 1 else ():
        axes.axvline(start, color=style.FAINT, linewidth=0.6, zorder=1)
        axes.annotate(phase, (start, 1), (2, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
                      fontsize=6, color=style.FAINT, va="top", bbox=style.PAPER)  # fmt: skip
    axes.set_xlim(0, part.total_step.max())
    style.thousands(axes.xaxis)
    axes.set_xlabel("step")
    return labels.label_ends(axes, _ends(part, "loss"), [n.replace("_", " ") for n in names],
                             [looks[n] for n in names])  # fmt: skip


def _seeds_and_mean(axes: Axes, part: pd.DataFrame, look: dict) -> None:
    seeds = [line for _, line in part.groupby("seed")]
    for line in seeds if len(seeds) > 1 else ():
        axes.plot(line.total_step, line.value, **{**look, "linewidth": 0.5, "alpha": 0.4})
    mean = part.groupby("total_step").value.mean()
    axes.plot(mean.index, mean.to_numpy(), **look)


def _ends(part: pd.DataFrame, column: str) -> np.ndarray:
    """Where the mean line of each value of a column ends, [n, 2], in the order in which they appear."""
    means = part.groupby([column, "total_step"], sort=False).value.mean().reset_index()
    last = means.sort_values("total_step", kind="stable").groupby(column, sort=False).last()
    return last.loc[list(dict.fromkeys(part[column])), ["total_step", "value"]].to_numpy()


def loss_looks(names: list[str]) -> dict[str, dict]:
    """Colour and line of each loss of a model: one for the reconstruction everywhere, the others by turns."""
    turns = [c for c in style.COLOURS if c != style.VERMILION]
    others = [n for n in names if n != FIXED]
    looks = {n: {"color": turns[i % len(turns)], "linestyle": style.DASHES[i // len(turns) % len(style.DASHES)],
                 "linewidth": 1.0} for i, n in enumerate(others)}  # fmt: skip
    return looks | {FIXED: {"color": style.VERMILION, "linestyle": "-", "linewidth": 1.6}}


def _scale(axes: Axes, values: np.ndarray) -> None:
    if (values > 0).all():
        axes.set_yscale("log")
        if values.max() < 100 * values.min():
            style.plain_log(axes.yaxis)
        return
    sizes = np.abs(values[values != 0])
    small = 10.0 ** np.floor(np.log10(np.quantile(sizes, 0.2))) if len(sizes) else 1.0
    axes.set_yscale("symlog", linthresh=float(np.clip(small, 1e-3, 1.0)))
    axes.axhline(0, color=style.FAINT, linewidth=0.6, zorder=1)


def _scores(axes: Axes, part: pd.DataFrame) -> Callable[[], None]:
    """The scores of all models over steps; returns what places their names."""
    looks = {model: style.of_model(name) for model, name in zip(part.model, part["name"], strict=True)}
    for model, line in part.groupby("model", sort=False):
        _seeds_and_mean(axes, line, looks[model])
    style.thousands(axes.xaxis)
    axes.set_xlabel("step of the last phase")
    return labels.label_ends(axes, _ends(part, "model"), list(looks), list(looks.values()))
