"""Choose each model's open setting on the validation split: a few stated values, the same number for every model.

A try is an ordinary job that is scored by nothing but `gen_fd_val`, so no test image has a say, and a later run with
the chosen values finds it trained.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ..core.errors import FlexbenchError
from ..core.files import atomic_write
from ..data import Dataset
from ..jobs.config import Overrides
from ..jobs.job import Job
from ..jobs.results import LAST
from ..registry import Registry
from .runner import Request, check_models, expand

FAMILY = "gen_fd_val"


@dataclass(frozen=True)
class Trial:
    """One value of a model's open setting, and its jobs, one per seed."""

    model: str
    knob: str
    value: Any
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Choice:
    """What was tried for one model on one dataset.

    A score is the mean over seeds, lower is better; None while a seed is missing, infinite where training failed.
    """

    dataset: str
    title: str
    trials: tuple[Trial, ...]
    scores: tuple[float | None, ...]

    @property
    def best(self) -> Trial | None:
        """The try with the lowest score, of equal ones the first; None while one is missing, or if all failed."""
        if None in self.scores or min(self.scores) == math.inf:
            return None
        return self.trials[self.scores.index(min(self.scores))]


def plan(request: Request) -> tuple[list[Trial], dict[str, Dataset], Request]:
    """All trials of the requested models that have an open setting, with the datasets and the request to run them."""
    if len(request.latent_dims) > 1:
        raise FlexbenchError("settings are chosen for one latent size at a time: give --latent-dim one number.")
    request = replace(request, scores="validation")
    registry = Registry.load(request.include)
    names = [name for name in check_models(request, registry) if registry.get(name).tuning_grid]
    if not names:
        raise FlexbenchError(f"no model of '{request.models}' has an open setting. See 'flexbench ls models -v'.")
    grids: dict[str, tuple[str, tuple[Any, ...]]] = {
        name: next(iter(registry.get(name).tuning_grid.items())) for name in names
    }
    found: dict[tuple[str, str, str], list[Job]] = {}
    for round_ in range(max(len(values) for _, values in grids.values())):
        chosen = {name: (knob, values[round_]) for name, (knob, values) in grids.items() if round_ < len(values)}
        overrides = with_values(request.overrides, chosen)
        jobs, datasets = expand(replace(request, models=",".join(chosen), overrides=overrides))
        for dataset in datasets.values():
            if len(dataset.val) < 2:
                raise FlexbenchError(f"{dataset.name} has no validation images to choose settings by.")
        for job in jobs:
            found.setdefault((job.config.data["name"], job.config.model, job.config.variant), []).append(job)
    trials = [Trial(model, grids[model][0], jobs[0].config.method[grids[model][0]], tuple(jobs))
             for (_, model, _), jobs in found.items()]  # fmt: skip
    return trials, datasets, request


def with_values(overrides: Overrides, chosen: dict[str, tuple[str, Any]]) -> Overrides:
    """The user's settings with one value for each model's open one; FlexbenchError if the user has set that too."""
    result = Overrides(overrides.values)
    for name, (knob, value) in chosen.items():
        if knob in result.values.get(name, {}):
            raise FlexbenchError(f"'{name}.{knob}' is what is tried for {name}: leave it out of the settings.")
        result.values.setdefault(name, {})[knob] = value
    return result


def choose(trials: Sequence[Trial], request: Request) -> list[Choice]:
    """The best value for every model and dataset, in the order of the registry."""
    registry = Registry.load(request.include)
    order = {name: i for i, name in enumerate(registry.targets)}
    groups: dict[tuple[str, int, str], list[Trial]] = {}
    for one in trials:
        groups.setdefault((one.jobs[0].config.data["name"], order[one.model], one.model), []).append(one)
    return [
        Choice(dataset, registry.get(model).title or model, tuple(group), scores(group, _space(group, request)))
        for (dataset, _, model), group in sorted(groups.items())
    ]


def _space(trials: Sequence[Trial], request: Request) -> str:
    return request.evaluation(trials[0].jobs[0].config.dataset).space


def scores(trials: Sequence[Trial], space: str) -> tuple[float | None, ...]:
    """Mean over seeds of each try's validation score: the one with the most images that all of them have."""
    found = [[_validation_scores(job, space) for job in one.jobs] for one in trials]
    scored = [values for group in found for values in group if values]
    common = set.intersection(*map(set, scored)) if scored else set()
    if scored and not common:
        raise FlexbenchError(
            f"trials of {trials[0].model} were scored with different numbers of images: use one --images."
        )
    protocol = max(common, default=None)
    return tuple(_mean([v.get(protocol) for v in group], one.jobs) for group, one in zip(found, trials, strict=True))


def _validation_scores(job: Job, space: str) -> dict[tuple[int, int], float]:
    """A job's scores against validation images, by version of the protocol and number of images."""
    rows = [row for row in job.rows if row["family"] == FAMILY and row["space"] == space and row["checkpoint"] == LAST]
    return {(row["protocol"], row["n_images"]): row["value"] for row in rows}


def _mean(values: Sequence[float | None], jobs: Sequence[Job]) -> float | None:
    """Mean over seeds; infinite if one of them failed, None if one has not ended."""
    if any(value is None and job.failure for value, job in zip(values, jobs, strict=True)):
        return math.inf
    return None if None in values else statistics.fmean(values)


def write_settings(choices: Sequence[Choice], request: Request) -> list[Path]:
    """One settings file per dataset, `tuned-<dataset>-<preset>-m<size>.yml`, for `flexbench run --config`.

    It holds the other settings of the trials too, since a choice is good for these only. Choices of models that were
    not tried this time are kept.
    """
    paths = []
    for dataset in dict.fromkeys(choice.dataset for choice in choices):
        chosen = [choice.best for choice in choices if choice.dataset == dataset and choice.best]
        if chosen:
            paths.append(_write(dataset, chosen, request))
    return paths


def _write(dataset: str, chosen: Sequence[Trial], request: Request) -> Path:
    config = chosen[0].jobs[0].config
    name = re.sub(r"[^\w.=-]+", "-", f"tuned-{dataset}-{config.preset}").strip("-")
    path = request.out / f"{name}-m{config.latent_dim}.yml"
    settings = (yaml.safe_load(path.read_text()) if path.exists() else None) or {}
    given = request.overrides.values
    if "train" in given:
        settings["train"] = given["train"]
    settings |= {one.model: {**given.get(one.model, {}), one.knob: one.value} for one in chosen}
    head = f"# Chosen by 'flexbench tune' on the validation split of {dataset}: preset {config.preset}.\n"
    atomic_write(path, head + yaml.safe_dump(settings, sort_keys=False))
    return path


def to_markdown(choices: Sequence[Choice]) -> str:
    """A GitHub table: model, setting, every value with its score, the chosen one in bold."""
    lines = ["| dataset | model | setting | value: distance to validation images |", "|---|---|---|---|"]
    for choice in choices:
        cells = []
        for one, score in zip(choice.trials, choice.scores, strict=True):
            text = f"{one.value}: {_shown(score)}"
            cells.append(f"**{text}**" if one is choice.best else text)
        lines.append(f"| {choice.dataset} | {choice.title} | {choice.trials[0].knob} | {', '.join(cells)} |")
    return "\n".join(lines)


def _shown(score: float | None) -> str:
    return "not scored" if score is None else "failed" if score == math.inf else f"{score:.4g}"
