"""Tune one setting of each model on the validation split. Every model tries the same number of values.

A trial is an ordinary job of which only `gen_fd_val` is scored, so no test image has a say. A later run with the chosen
values finds the trial trained.
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
from ..jobs.results import LAST, Record
from ..registry import Registry
from .options import RunOptions
from .runner import check_models, expand

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
    """The trials of one model on one dataset, with their scores.

    A score is the mean over seeds; lower is better. It is None while a seed is missing, and infinite where training
    failed.
    """

    dataset: str
    title: str
    trials: tuple[Trial, ...]
    scores: tuple[float | None, ...]

    @property
    def best(self) -> Trial | None:
        """The trial with the lowest score, the first of equal ones. None while a score is missing or if all failed."""
        known = [score for score in self.scores if score is not None]
        if len(known) < len(self.scores) or min(known) == math.inf:
            return None
        return self.trials[known.index(min(known))]


def make_trials(options: RunOptions) -> tuple[list[Trial], dict[str, Dataset], RunOptions]:
    """Return the trials of the requested models that have an open setting, the datasets, and the options to run with.

    Raises FlexbenchError where no model has an open setting, and where a dataset has no validation images.
    """
    if len(options.latent_dims) > 1:
        raise FlexbenchError("settings are chosen for one latent size at a time: give --latent-dim one number.")
    options = replace(options, scores="validation")
    registry = Registry.load(options.include)
    names = [name for name in check_models(options, registry) if registry.get(name).tuning_grid]
    if not names:
        raise FlexbenchError(f"no model of '{options.models}' has an open setting. See 'flexbench ls models -v'.")
    grids = {name: next(iter(registry.get(name).tuning_grid.items())) for name in names}
    found: dict[tuple[str, str, str], list[Job]] = {}
    for round_ in range(max(len(values) for _, values in grids.values())):
        chosen = {name: (knob, values[round_]) for name, (knob, values) in grids.items() if round_ < len(values)}
        overrides = with_values(options.overrides, chosen)
        jobs, datasets = expand(replace(options, models=",".join(chosen), overrides=overrides))
        check_validation(datasets)
        for job in jobs:
            found.setdefault((job.config.data["name"], job.config.model, job.config.variant), []).append(job)
    trials = [Trial(model, grids[model][0], jobs[0].config.method[grids[model][0]], tuple(jobs))
              for (_, model, _), jobs in found.items()]  # fmt: skip
    return trials, datasets, options


def check_validation(datasets: dict[str, Dataset]) -> None:
    """Raise FlexbenchError for a dataset without validation images."""
    for dataset in datasets.values():
        if len(dataset.val) < 2:
            raise FlexbenchError(f"{dataset.name} has no validation images to choose settings by.")


def with_values(overrides: Overrides, chosen: dict[str, tuple[str, Any]]) -> Overrides:
    """Add one value for each model's open setting to the user's settings.

    Raises FlexbenchError if the user has set it too.
    """
    result = Overrides(overrides.values)
    for name, (knob, value) in chosen.items():
        if knob in result.values.get(name, {}):
            raise FlexbenchError(f"'{name}.{knob}' is the setting that is tuned: leave it out of the settings.")
        result.values.setdefault(name, {})[knob] = value
    return result


def choose(trials: Sequence[Trial], options: RunOptions) -> list[Choice]:
    """Return the scores of all trials by model and dataset, in the order of the registry."""
    registry, record = Registry.load(options.include), Record(options.out)
    order = {name: i for i, name in enumerate(registry.targets)}
    groups: dict[tuple[str, int, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.jobs[0].config.data["name"], order[trial.model], trial.model), []).append(trial)
    return [
        Choice(dataset, registry.get(model).title or model, tuple(group), scores(group, _space(group, options), record))
        for (dataset, _, model), group in sorted(groups.items())
    ]


def _space(trials: Sequence[Trial], options: RunOptions) -> str:
    return options.evaluation(trials[0].jobs[0].config.dataset).space


def scores(trials: Sequence[Trial], space: str, record: Record) -> tuple[float | None, ...]:
    """Return each trial's validation score, averaged over seeds.

    It uses the largest number of images with which all trials were scored.
    """
    validation = _validation_scores(record, space)
    found = [[validation.get(job.config.hash, {}) for job in trial.jobs] for trial in trials]
    scored = [values for group in found for values in group if values]
    common = set.intersection(*map(set, scored)) if scored else set()
    if scored and not common:
        raise FlexbenchError(
            f"trials of {trials[0].model} were scored with different numbers of images: use one --images."
        )
    protocol = max(common, default=(0, 0))
    return tuple(
        _mean([values.get(protocol) for values in group], trial.jobs, record)
        for group, trial in zip(found, trials, strict=True)
    )


def _validation_scores(record: Record, space: str) -> dict[str, dict[tuple[int, int], float]]:
    """Hash of a job -> (version of the protocol, number of images) -> its score against validation images."""
    found: dict[str, dict[tuple[int, int], float]] = {}
    for row in record.rows:
        if (row.family, row.space, row.checkpoint) == (FAMILY, space, LAST) and row.value is not None:
            found.setdefault(row.hash, {})[row.protocol, row.n_images] = row.value
    return found


def _mean(values: Sequence[float | None], jobs: Sequence[Job], record: Record) -> float | None:
    """Mean over seeds: infinite if one of them failed, None if one has not ended."""
    known = [value for value in values if value is not None]
    if len(known) == len(values):
        return statistics.fmean(known)
    missing = (job for job, value in zip(jobs, values, strict=True) if value is None)
    return math.inf if any(job.failure or job.config.hash in record.failures for job in missing) else None


def write_settings(choices: Sequence[Choice], options: RunOptions) -> list[Path]:
    """Write one settings file per dataset, `tuned-<dataset>-<preset>-m<size>.yml`, for `flexbench run --config`.

    The file holds the other settings of the trials too, since a choice is good for these only. It keeps the choices of
    models that were not tuned this time.
    """
    paths = []
    for dataset in dict.fromkeys(choice.dataset for choice in choices):
        chosen = [choice.best for choice in choices if choice.dataset == dataset and choice.best]
        if chosen:
            paths.append(_write(dataset, chosen, options))
    return paths


def _write(dataset: str, chosen: Sequence[Trial], options: RunOptions) -> Path:
    config = chosen[0].jobs[0].config
    name = re.sub(r"[^\w.=-]+", "-", f"tuned-{dataset}-{config.preset}").strip("-")
    path = options.out / f"{name}-m{config.latent_dim}.yml"
    settings = (yaml.safe_load(path.read_text()) if path.exists() else None) or {}
    given = options.overrides.values
    if "train" in given:
        settings["train"] = given["train"]
    settings |= {trial.model: {**given.get(trial.model, {}), trial.knob: trial.value} for trial in chosen}
    head = f"# Chosen by 'flexbench tune' on the validation split of {dataset}: preset {config.preset}.\n"
    atomic_write(path, head + yaml.safe_dump(settings, sort_keys=False))
    return path


def to_markdown(choices: Sequence[Choice]) -> str:
    """Return a GitHub table: model, setting, every value with its score, the chosen one in bold."""
    lines = ["| dataset | model | setting | value: distance to validation images |", "|---|---|---|---|"]
    for choice in choices:
        cells = []
        for trial, score in zip(choice.trials, choice.scores, strict=True):
            text = f"{trial.value}: {_shown(score)}"
            cells.append(f"**{text}**" if trial is choice.best else text)
        lines.append(f"| {choice.dataset} | {choice.title} | {choice.trials[0].knob} | {', '.join(cells)} |")
    return "\n".join(lines)


def _shown(score: float | None) -> str:
    return "not scored" if score is None else "failed" if score == math.inf else f"{score:.4g}"
