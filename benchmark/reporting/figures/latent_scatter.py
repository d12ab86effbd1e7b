"""Figure `3`: the latent spaces that models find for a mixture of Gaussians in the plane (the paper's Figure 3)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...core.errors import FlexbenchError
from ...metrics import METRICS
from .. import tables
from . import style
from .latent_walks import WEIGHTS, dataset_of, has_weights
from .plot import Plot, Query
from .scores import declared_names, protocol, results_where

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...data import Dataset, DatasetInfo
    from ..modes import ModeReport

TRUE = "true latent space"
COLOURS = (*style.COLOURS, "#999933")  # of the modes, in order; the last is an olive of Paul Tol's
STATISTICS = {
    "gen_fd": "Frechet distance, generated",
    "share": "share of samples in a mode",
    "covered": "modes covered, of {count}",
}
RULE = (
    "Codes of test vectors, coloured by their true mode, on samples of the prior, in grey. Each model is shown by its "
    "run with the lowest seed. Above each: Frechet distance of generated vectors, mean and standard deviation over "
    "seeds."
)
COUNTS = (
    "Each point is a run, each line a mean over seeds. The true latent of a sample is the point of a fine grid with "
    "the nearest vector. A sample is in a mode if its true latent is within 3 standard deviations of the centre. "
    "With K modes, a mode is covered if at least 1/(10 K) of the samples are in it."
)


def make(query: Query) -> list[Plot]:
    """Return, for each dataset with modes in the plane, the latent spaces and the counts of modes. Runs the models.

    Raises FlexbenchError if no run on such a dataset with two latent dimensions has kept its weights.
    """
    found = runs(query)
    alone = found.dataset.nunique() == 1
    return [plot for name, jobs in found.groupby("dataset") for plot in _plots(str(name), jobs, query, alone)]


def _plots(name: str, jobs: pd.DataFrame, query: Query, alone: bool) -> list[Plot]:
    dataset = dataset_of(jobs.iloc[0], query)
    found = [explore(job, dataset, query) for _, job in jobs.iterrows()]
    points = pd.concat([true_points(dataset), *(points_of(job, modes) for job, modes in _firsts(jobs, found))])
    scores = statistics(jobs, found)
    caption = protocol(jobs, [METRICS["gen_fd"]])
    assert dataset.info.modes is not None  # `runs` has chosen datasets with modes
    stem, count = "3" if alone else f"3-{name}", len(dataset.info.modes.centres)
    return [
        Plot(stem, f"Latent spaces of {name}", f"{RULE} {caption}", points, lambda: draw(points, scores)),
        Plot(f"{stem}-modes", f"Samples and modes, {name}", f"{COUNTS} {caption}", scores,
             lambda: draw_scores(scores, count)),
    ]  # fmt: skip


def has_modes(info: DatasetInfo) -> bool:
    """Return whether a dataset declares modes in the plane."""
    return info.modes is not None and info.modes.centres.shape[1] == 2


def runs(query: Query) -> pd.DataFrame:
    """Return a row for each job that is shown, with its distance in `value` and its label in `row`."""
    rows = results_where(query.results, has_modes)
    rows = rows[(rows.latent_dim == 2) & rows.folder.map(has_weights).astype(bool)]
    if rows.empty:
        names = declared_names(has_modes)
        raise FlexbenchError(
            f"figure 3 shows trained models with two latent dimensions on mixtures ({', '.join(names)}), and no such "
            f"run under '{query.out}' has kept its {WEIGHTS}. Train some: flexbench run --datasets {names[0]} ... "
            "(with --force where they have run)"
        )
    metric = METRICS["gen_fd"]
    return tables.model_cells(tables.comparable_rows(rows, [metric], query.preset, None, query.images), [metric])


def explore(job: pd.Series, dataset: Dataset, query: Query) -> ModeReport:
    """Run the trained model of a job."""
    from ...core.device import choose_device, make_deterministic
    from ...training.trained import load_trained
    from .. import modes

    make_deterministic()
    return modes.explore(load_trained(job.folder, choose_device(query.device), query.include), dataset, job.seed)


def _firsts(jobs: pd.DataFrame, found: list[ModeReport]) -> list[tuple[pd.Series, ModeReport]]:
    """Return the run with the lowest seed of each model."""
    first = jobs.seed == jobs.groupby("row").seed.transform("min")
    return [(job, modes) for (_, job), modes, shown in zip(jobs.iterrows(), found, first, strict=True) if shown]


def true_points(dataset: Dataset) -> pd.DataFrame:
    """Return the true latents of the test vectors that are shown."""
    from ..modes import SHOWN

    labels = np.asarray(dataset.test.labels)[:SHOWN]
    return _points(labels[:, 1:], labels[:, 0]).assign(model=TRUE, kind="latent")


def points_of(job: pd.Series, modes: ModeReport) -> pd.DataFrame:
    """Return codes and prior samples of a model: model, name, seed, kind, mode (NaN for the prior), z1, z2."""
    parts = [_points(modes.prior, np.nan).assign(kind="prior"), _points(modes.codes, modes.modes).assign(kind="code")]
    return pd.concat(parts).assign(model=job["row"], name=job.model, seed=job.seed)


def _points(z: np.ndarray, mode: np.ndarray | float) -> pd.DataFrame:
    return pd.DataFrame({"mode": mode, "z1": z[:, 0], "z2": z[:, 1]})


def statistics(jobs: pd.DataFrame, found: list[ModeReport]) -> pd.DataFrame:
    """Return a row per run: model, name, seed, gen_fd, share, covered."""
    frame = jobs[["row", "model", "seed", "value"]].set_axis(["model", "name", "seed", "gen_fd"], axis=1)
    frame = frame.assign(share=[modes.share for modes in found], covered=[modes.covered for modes in found])
    return frame.reset_index(drop=True)


def draw(points: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """Draw the true latent space and that of each model."""
    models, names = list(dict.fromkeys(points.model)), short_names(points.model)
    figure, panels = style.panels(len(models), 3, 2.9, 3.1)
    for axes, model in zip(panels, models, strict=True):
        axes.set_title(_heading(names[model], scores[scores.model == model].gen_fd), fontsize=8)
        _space(axes, points[points.model == model])
    return figure


def short_names(labels: pd.Series) -> dict[str, str]:
    """Return the labels without the settings in brackets, unless two labels would become the same."""
    short = {label: label.partition(" [")[0] for label in dict.fromkeys(labels)}
    counts = Counter(short.values())
    return {label: name if counts[name] == 1 else label.replace(" [", "\n[") for label, name in short.items()}


def _heading(model: str, distances: pd.Series) -> str:
    if distances.empty:
        return model
    spread = f" \N{PLUS-MINUS SIGN} {distances.std():.2g}" if len(distances) > 1 else ""
    return f"{model}: {distances.mean():.3g}{spread}"


def _space(axes: Axes, part: pd.DataFrame) -> None:
    """Draw codes on prior samples, both axes on one scale."""
    prior, codes = part[part.kind == "prior"], part[part.kind != "prior"]
    axes.scatter(prior.z1, prior.z2, s=3, color="#BBBBBB", linewidths=0, rasterized=True)
    axes.scatter(codes.z1, codes.z2, s=3, c=[COLOURS[int(mode) % len(COLOURS)] for mode in codes["mode"]], linewidths=0,
                 rasterized=True)  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")


def draw_scores(scores: pd.DataFrame, count: int) -> Figure:
    """Draw a panel per statistic, with a row per model. `count` is the number of modes."""
    figure, panels = style.panels(len(STATISTICS), 3, 2.7, 0.6 + 0.32 * scores.model.nunique())
    names, short = list(dict.fromkeys(scores.model))[::-1], short_names(scores.model)
    for axes, (column, title) in zip(panels, STATISTICS.items(), strict=True):
        axes.set_title(title.format(count=count), fontsize=8)
        for y, model in enumerate(names):
            part = scores[scores.model == model]
            look = style.of_model(part["name"].iloc[0])
            axes.plot(part[column], [y] * len(part), **{**look, "linestyle": "none"}, clip_on=False)
            axes.plot([part[column].mean()] * 2, [y - 0.35, y + 0.35], color=look["color"], linewidth=1.5)
        shown = [short[name] for name in names] if axes is panels[0] else [""] * len(names)
        axes.set_yticks(range(len(names)), shown)
        axes.set_xlim(0, 1.05 * scores[column].max() or 1)
        axes.set_ylim(-0.6, len(names) - 0.4)
    return figure
