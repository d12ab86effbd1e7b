"""Choose each model's open setting on the validation split: a few stated values, the same number for every model.

A try is an ordinary job that is scored by nothing but `gen_fd_val`, so no test image has a say, and a later run with
the chosen values finds it trained.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from .config import Overrides
from .data import Dataset
from .errors import FlexbenchError
from .files import atomic_write
from .job import Job
from .registry import Registry
from .runner import Request, check_models, expand

FAMILY = "gen_fd_val"


@dataclass(frozen=True)
class Try:
    """One value of a model's open setting, and its jobs, one per seed."""

    model: str
    knob: str
    value: Any
    jobs: tuple[Job, ...]

    def score(self, space: str) -> float:
        """Mean over seeds of the distance to validation images, lower is better; NaN while a seed is missing."""
        rows = [_validation_row(job, space) for job in self.jobs]
        return statistics.fmean(row["value"] for row in rows) if all(rows) else math.nan


@dataclass(frozen=True)
class Choice:
    """What was tried for one model on one dataset, and the value of the lowest score (None: no try ended well)."""

    dataset: str
    title: str
    tries: tuple[Try, ...]
    scores: tuple[float, ...]

    @property
    def best(self) -> Try | None:
        """The chosen try; of equal ones the first."""
        scored = [(score, i) for i, score in enumerate(self.scores) if not math.isnan(score)]
        return self.tries[min(scored)[1]] if scored else None


def plan(request: Request) -> tuple[list[Try], dict[str, Dataset], Request]:
    """All tries of the requested models that have an open setting, with the datasets and the request to run them by."""
    if len(request.latent_dims) > 1:
        raise FlexbenchError("settings are chosen for one latent size at a time: give --latent-dim one number.")
    request = replace(request, scores="validation")
    registry = Registry.load(request.include)
    names = [name for name in check_models(request, registry) if registry.get(name).tries]
    if not names:
        raise FlexbenchError(f"no model of '{request.models}' has an open setting. See 'flexbench ls models -v'.")
    grids = {name: next(iter(registry.get(name).tries.items())) for name in names}
    found: dict[tuple[str, str, str], list[Job]] = {}
    for round_ in range(max(len(values) for _, values in grids.values())):
        chosen = {name: (knob, values[round_]) for name, (knob, values) in grids.items() if round_ < len(values)}
        overrides = with_values(request.overrides, chosen)
        jobs, datasets = expand(replace(request, models=",".join(chosen), overrides=overrides))
        for job in jobs:
            found.setdefault((job.folder.parent.parent.name, job.config.model, job.config.variant), []).append(job)
    tries = [Try(model, grids[model][0], jobs[0].config.method[grids[model][0]], tuple(jobs))
             for (_, model, _), jobs in found.items()]  # fmt: skip
    return tries, datasets, request


def with_values(overrides: Overrides, chosen: dict[str, tuple[str, Any]]) -> Overrides:
    """The user's settings with one value for each model's open one; FlexbenchError if the user has set that too."""
    result = Overrides(overrides.values)
    for name, (knob, value) in chosen.items():
        if knob in result.values.get(name, {}):
            raise FlexbenchError(f"'{name}.{knob}' is what is tried for {name}: leave it out of the settings.")
        result.values.setdefault(name, {})[knob] = value
    return result


def choose(tries: Sequence[Try], request: Request) -> list[Choice]:
    """The best value for every model and dataset, in the order of the tries."""
    registry = Registry.load(request.include)
    groups: dict[tuple[str, str], list[Try]] = {}
    for one in tries:
        groups.setdefault((one.jobs[0].config.data["name"], one.model), []).append(one)
    order = {name: i for i, name in enumerate(registry.targets)}
    choices = []
    for dataset, model in sorted(groups, key=lambda key: (key[0], order[key[1]])):
        group = tuple(groups[dataset, model])
        _same_metric(group, request.space)
        title = registry.get(model).title or model
        choices.append(Choice(dataset, title, group, tuple(t.score(request.space) for t in group)))
    return choices


def write_settings(choices: Sequence[Choice], request: Request) -> list[Path]:
    """One settings file per dataset, `tuned-<dataset>.yml` under the output root, for `flexbench run --config`.

    Choices of models that were not tried this time are kept.
    """
    paths = []
    for dataset in dict.fromkeys(choice.dataset for choice in choices):
        path = request.out / f"tuned-{dataset.replace('/', '-')}.yml"
        settings = (yaml.safe_load(path.read_text()) if path.exists() else None) or {}
        chosen = [choice.best for choice in choices if choice.dataset == dataset and choice.best]
        settings |= {one.model: {one.knob: one.value} for one in chosen}
        head = f"# Chosen by 'flexbench tune' on the validation split of {dataset}, preset {request.preset}.\n"
        atomic_write(path, head + yaml.safe_dump(settings, sort_keys=False))
        paths.append(path)
    return paths


def to_markdown(choices: Sequence[Choice]) -> str:
    """A GitHub table: model, setting, every value with its score, the chosen one in bold."""
    lines = ["| dataset | model | setting | value: distance to validation images |", "|---|---|---|---|"]
    for choice in choices:
        cells = []
        for one, score in zip(choice.tries, choice.scores, strict=True):
            text = f"{one.value}: " + ("failed" if math.isnan(score) else f"{score:.4g}")
            cells.append(f"**{text}**" if one is choice.best else text)
        lines.append(f"| {choice.dataset} | {choice.title} | {choice.tries[0].knob} | {', '.join(cells)} |")
    return "\n".join(lines)


def _validation_row(job: Job, space: str) -> dict[str, Any] | None:
    """The newest validation score of a job in a feature space."""
    rows = [row for row in job.rows if row["family"] == FAMILY and row["space"] == space]
    return rows[-1] if rows else None


def _same_metric(tries: Sequence[Try], space: str) -> None:
    """FlexbenchError where tries were scored with different numbers of images, which do not compare."""
    rows = [_validation_row(job, space) for one in tries for job in one.jobs]
    names = sorted({row["metric"] for row in rows if row})
    if len(names) > 1:
        raise FlexbenchError(f"tries of {tries[0].model} were scored as {' and '.join(names)}: use one --images.")
