"""Figure `curves`: the losses of every model over its steps, and its scores if several checkpoints were scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...core.errors import FlexbenchError
from ...core.files import read_jsonl
from ...core.old_names import current_log_row
from ...metrics import METRICS
from .. import tables
from ..rows import run_file
from . import labels, style
from .plot import Plot, Query
from .scores import dataset_slug, dataset_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRIC = METRICS["gen_fd"]
LOG = "train.jsonl"
RUN = ["dataset", "model", "hash"]  # columns that identify a run
SCORE = "score"  # the value of the column `phase` for a score
COLUMNS = ["model", "name", "dataset", "latent_dim", "seed", "phase", "step", "total_step", "loss", "value"]
RULE = (
    "Each point is the mean of a loss over the steps since the previous point. Thick lines: means over seeds. Thin "
    "lines: single seeds. Vertical lines: starts of training phases. The vertical axis is logarithmic if all losses "
    "are positive, else linear around zero and logarithmic beyond."
)


def make(query: Query) -> list[Plot]:
    """Return one plot per dataset, with a panel per model. FlexbenchError if no scored run has a training log."""
    jobs = tables.scored_jobs(query.results, query.preset)
    jobs = jobs.assign(row=tables.row_labels(jobs))
    logs = [losses(job) for _, job in jobs.iterrows()]
    has_log = [not log.empty for log in logs]
    if not any(has_log):
        raise FlexbenchError(
            f"figure curves needs the {LOG} of a scored run, and no run folder under {query.place} has one with losses."
        )
    pairs = [(log, scores(job, query.results)) for log, (_, job) in zip(logs, jobs.iterrows(), strict=True)]
    frame = pd.concat([part for pair in pairs for part in pair], ignore_index=True)
    jobs = jobs.assign(has_log=has_log)
    plots = {dataset: frame[frame.dataset == dataset] for dataset in sorted(set(jobs.dataset[jobs.has_log]))}
    note = missing_logs(jobs[~jobs.has_log])
    shown = jobs[jobs.has_log]
    return [_plot(dataset, shown[shown.dataset == dataset], part, note) for dataset, part in plots.items()]


def missing_logs(jobs: pd.DataFrame) -> str:
    """Return a sentence that names jobs without a log; empty for none."""
    names = ", ".join(f"{job['row']} on {job.dataset} (seed {job.seed})" for _, job in jobs.iterrows())
    return f" Losses left out, because their {LOG} is not here: {names}." if names else ""


def _plot(dataset: str, jobs: pd.DataFrame, frame: pd.DataFrame, note: str) -> Plot:
    presets, seeds = (", ".join(map(str, sorted(jobs[c].unique()))) for c in ("preset", "seed"))
    caption = f"{RULE} Preset {presets}; seeds {seeds}.{note}"
    title = f"Losses over steps, {dataset_title(dataset)}"
    frame = frame.reset_index(drop=True)
    return Plot(f"curves-{dataset_slug(dataset)}", title, caption, frame, lambda: draw(frame))


def losses(job: pd.Series) -> pd.DataFrame:
    """Return a job's training log in long form, columns as in COLUMNS. `total_step` counts through all phases.

    The frame is empty if the run folder, or the log in it, is not here.
    """
    file = run_file(job.folder, LOG)
    found, before, phase, length = [], 0, None, 0
    for row in map(current_log_row, read_jsonl(file)) if file else ():
        if row["phase"] != phase:
            before, phase, length = before + length, row["phase"], 0
        length = row.get("of", row["step"])
        for key, value in row.items():
            if key.startswith("loss/") and value is not None:
                found.append((phase, row["step"], before + row["step"], key.removeprefix("loss/"), value))
    return _with_job(job, pd.DataFrame(found, columns=COLUMNS[5:]))


def scores(job: pd.Series, results: pd.DataFrame) -> pd.DataFrame:
    """Return a job's generation scores in the same form; nothing if only one step was scored."""
    rows = results[(results[RUN] == job[RUN]).all(axis=1) & (results.metric == job.metric)]
    rows = rows[rows.n_images == job.n_images].sort_values("step")
    if rows.step.nunique() < 2:
        rows = rows.iloc[:0]
    return _with_job(job, pd.DataFrame({"phase": SCORE, "step": rows.step, "total_step": rows.step,
                                        "loss": rows.metric, "value": rows.value}))  # fmt: skip


def _with_job(job: pd.Series, part: pd.DataFrame) -> pd.DataFrame:
    identity = {"model": job["row"], "name": job.model, "dataset": job.dataset, "latent_dim": job.latent_dim}
    return part.assign(**identity, seed=job.seed)[COLUMNS]


def draw(frame: pd.DataFrame) -> Figure:
    """Draw a panel of losses per model, then one of scores if there are any."""
    logged, scored = frame[frame.phase != SCORE], frame[frame.phase == SCORE]
    main_loss = most_common_loss(logged)
    models = list(dict.fromkeys(logged.model))
    count = len(models) + bool(len(scored))
    columns = min(4, max(2, int(np.ceil(count**0.5)))) if count > 1 else 1
    figure, panels = style.panels(count, columns, 3.6, 2.5)
    label_placers = []
    for axes, model in zip(panels, models, strict=False):
        axes.set_title(model)
        label_placers.append(_losses(axes, logged[logged.model == model], main_loss))
    if len(scored):
        panels[-1].set_title("Generation score (lower is better)")
        label_placers.append(_scores(panels[-1], scored))
    style.freeze_layout(figure)
    for place_labels in label_placers:
        place_labels()
    return figure


def most_common_loss(logged: pd.DataFrame) -> str:
    """Return the loss that most models log; of several, the one that comes first."""
    models = logged.groupby("loss", sort=False).model.nunique()
    return str(models.idxmax())


def _losses(axes: Axes, part: pd.DataFrame, main_loss: str) -> Callable[[], None]:
    """Draw the losses of one model. Return the function that places their names."""
    names = list(dict.fromkeys(part.loss))
    looks = loss_looks(names, main_loss)
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
    """Return where the mean line of each value of a column ends, [n, 2], in order of appearance."""
    means = part.groupby([column, "total_step"], sort=False).value.mean().reset_index()
    last = means.sort_values("total_step", kind="stable").groupby(column, sort=False).last()
    return last.loc[list(dict.fromkeys(part[column])), ["total_step", "value"]].to_numpy()


def loss_looks(names: list[str], main_loss: str) -> dict[str, dict]:
    """Return colour and line of each loss of a model. The main loss looks the same in all panels."""
    colours = [c for c in style.COLOURS if c != style.VERMILION]
    others = [n for n in names if n != main_loss]
    looks = {n: {"color": colours[i % len(colours)], "linestyle": style.DASHES[i // len(colours) % len(style.DASHES)],
                 "linewidth": 1.0} for i, n in enumerate(others)}  # fmt: skip
    return looks | {main_loss: {"color": style.VERMILION, "linestyle": "-", "linewidth": 1.6}}


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
    """Draw the scores of all models over steps. Return the function that places their names."""
    looks = {model: style.of_model(name) for model, name in zip(part.model, part["name"], strict=True)}
    for model, line in part.groupby("model", sort=False):
        _seeds_and_mean(axes, line, looks[model])
    style.thousands(axes.xaxis)
    axes.set_xlabel("step of the last phase")
    return labels.label_ends(axes, _ends(part, "model"), list(looks), list(looks.values()))
