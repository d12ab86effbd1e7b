"""From a grid to jobs with their state, and from jobs to results: expand the grid, run the jobs, keep the record."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from ..core.device import choose_device
from ..core.errors import FlexbenchError
from ..data import Dataset, open_dataset
from ..evaluation.features.spaces import feature_space, slow_import
from ..evaluation.references import check_count
from ..jobs.config import JobConfig, label, preset
from ..jobs.job import EvaluationConfig, Job
from ..jobs.results import Record
from ..registry import Registry
from . import processes
from .options import RunOptions
from .pipeline import Task
from .tracking import reachable


@dataclass(frozen=True)
class Outcome:
    """How a job ended: done | failed | refused | interrupted | killed."""

    job: Job
    state: str


# -- the grid -------------------------------------------------------------------------------------------------------


def expand(options: RunOptions) -> tuple[list[Job], dict[str, Dataset]]:
    """Return the jobs of the grid and the open datasets. Everything is checked before anything is trained."""
    options.check()
    choose_device(options.device)
    registry = Registry.load(options.include)
    models = check_models(options, registry)
    names = options.dataset_names
    for space in {options.evaluation(name).space for name in names}:
        feature_space(space, options.inception_weights)  # missing weights are found before hours of training
    datasets = {name: open_dataset(name, options.data_dir, options.image_size_for(name)) for name in names}
    for name, dataset in datasets.items():
        check_count(dataset, options.evaluation(name).images)
    pairs = [(d, m) for d in names for m in models_for(models, datasets[d], registry)]
    grid = itertools.product(pairs, options.latent_dims or (None,), options.seeds)
    return [_job(options, registry, datasets[d], d, m, dim, seed) for (d, m), dim, seed in grid], datasets


def check_models(options: RunOptions, registry: Registry) -> list[str]:
    """Return the names of the models. Raises FlexbenchError for an unknown one, and for settings that do not fit."""
    options.overrides.check_sections(registry.targets)
    train = options.overrides.train(preset(options.preset).train)
    models = registry.match(options.models)
    for name in models:
        options.overrides.method(name, registry.get(name).Config, 1, train.width)
    return models


def models_for(models: Sequence[str], dataset: Dataset, registry: Registry) -> list[str]:
    """Return the models that make sense on a dataset; a warning names the others.

    Raises FlexbenchError where none makes sense.
    """
    reasons = {} if dataset.info.are_images else {m: registry.get(m).images_only for m in models}
    skipped = {model: reason for model, reason in reasons.items() if reason}
    if len(skipped) == len(models):
        why = "; ".join(f"{model}: {reason}" for model, reason in skipped.items())
        raise FlexbenchError(f"none of these models makes sense on {dataset.name}, whose data are vectors ({why}).")
    for model, reason in skipped.items():
        warnings.warn(f"{model} is skipped on {dataset.name}, whose data are vectors: {reason}.", stacklevel=3)
    return [model for model in models if model not in skipped]


def _job(options: RunOptions, registry: Registry, dataset: Dataset, name: str, model: str, dim: int | None,
         seed: int) -> Job:  # fmt: skip
    """One cell of the grid."""
    method_class, base = registry.get(model), preset(options.preset).train
    train = options.overrides.train(base)
    dim = dim or dataset.latent_dim
    config = JobConfig(
        model=model,
        dataset=name,
        data={"name": dataset.slug, "channels": dataset.channels, "size": dataset.size},
        latent_dim=dim,
        seed=seed,
        train=train,
        method=asdict(options.overrides.method(model, method_class.Config, dim, train.width)),
        model_version=registry.version(model),
        dataset_hash=None if dataset.info.content_hash else dataset.content_hash,
        preset=label(options.preset, base, train),
    )
    return Job.place(config, dataset.slug, options.out)


# -- states ---------------------------------------------------------------------------------------------------------


def state_of(job: Job, evaluation: EvaluationConfig, record: Record) -> str:
    """Return done | failed | to score | to resume | new, from the record and from the run folder.

    A job is done where the record holds its scores, with or without the run folder and the weights.
    """
    if evaluation.covered_by(record.evaluations.get(job.config.hash, ())):
        return "done"
    state = job.state(evaluation)
    return "failed" if state == "new" and job.config.hash in record.failures else state


def plan(jobs: Iterable[Job], options: RunOptions) -> Iterator[tuple[Job, str, str]]:
    """Yield each job, the state from which the command will go on, and a detail. Nothing is run."""
    record = Record(options.out)
    for job in jobs:
        evaluation = options.evaluation(job.config.dataset)
        state = "new" if options.force else state_of(job, evaluation, record)
        if state == "failed":
            reason = job.failure or record.failures.get(job.config.hash)
            retried = options.retry_failed
            yield job, "to retry" if retried else state, "" if retried else f"{reason} (run again with --retry-failed)"
        else:
            yield job, state, job.progress if state == "to resume" else ""


# -- running --------------------------------------------------------------------------------------------------------


def run_jobs(jobs: Sequence[Job], datasets: dict[str, Dataset], options: RunOptions) -> list[Outcome]:
    """Run what is not done, `options.jobs` at a time, each in a process of its own.

    The record agrees with the run folders when this starts and when it ends.
    """
    todo = _prepare(jobs, options)
    if todo and options.tracking_uri and not reachable(options.tracking_uri, options.out, options.suite_name):
        options = replace(options, tracking_uri=None)
    hashes = {name: dataset.content_hash for name, dataset in datasets.items()}
    with Workers(options, hashes) as workers, ThreadPoolExecutor(options.jobs) as pool:
        ended = dict(zip(todo, pool.map(workers.run, todo), strict=True))
    record = Record(options.out)
    record.reconcile()
    return [
        Outcome(job, ended.get(job) or state_of(job, options.evaluation(job.config.dataset), record)) for job in jobs
    ]


def _prepare(jobs: Sequence[Job], options: RunOptions) -> list[Job]:
    """Update the record and the run folders for --force and --retry-failed. Return the jobs that are not done."""
    record = Record(options.out)
    if options.force:
        for job in jobs:
            job.delete()
    record.reconcile(forget=[job.config.hash for job in jobs] if options.force else ())
    if options.retry_failed:
        for job in jobs:
            job.clear_failure()
        record.reconcile(forget=[job.config.hash for job in jobs if job.config.hash in record.failures])
    todo = []
    for job in jobs:
        if state_of(job, options.evaluation(job.config.dataset), record) not in ("done", "failed"):
            job.create()
            todo.append(job)
    return todo


def slow_modules(options: RunOptions, datasets: Iterable[str]) -> set[str]:
    """Return the slow modules that these jobs need in addition to `processes.COMMON`."""
    spaces = {options.evaluation(dataset).space for dataset in datasets}
    modules = {slow_import(space) for space in spaces} | {"mlflow" if options.tracking_uri else None}
    return {module for module in modules if module}


class Workers:
    """Starts the processes of jobs. When the user interrupts, it lets them save their state before they end."""

    def __init__(self, options: RunOptions, hashes: dict[str, str]):
        self.options, self.hashes = options, hashes
        self.modules = slow_modules(options, hashes)
        self.running: set[int] = set()  # ids of the jobs' processes
        self.stopping = threading.Event()
        self.free: queue.SimpleQueue[int] = queue.SimpleQueue()  # rows of the terminal for progress bars
        for row in range(options.jobs):
            self.free.put(row)

    def __enter__(self) -> Workers:
        self._before = {n: signal.signal(n, self._interrupt) for n in _signals()}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        processes.close_idle_hosts()

    def run(self, job: Job) -> str:
        """Do one job; return the word for how it ended."""
        if self.stopping.is_set():
            return "interrupted"
        position = self.free.get()
        code = self._do(self._task(job, position))
        self.free.put(position)
        if code < 0 and not self.stopping.is_set():
            print(f"{job.label}: the process was killed by signal {-code} (out of memory?). "
                  "The same command again goes on from the last checkpoint.", file=sys.stderr)  # fmt: skip
        return {0: "done", 1: "failed", 2: "refused", 130: "interrupted"}.get(code, "killed")

    def _do(self, task: Task) -> int:
        with processes.borrow_host(self.modules) as host:
            if process := host.start(task):
                self.running.add(process)
                if self.stopping.is_set():  # an interrupt that came before this process was known
                    _stop(process)
            code = host.wait()
            self.running.discard(process)
        return code

    def _task(self, job: Job, position: int) -> Task:
        dataset, bar = job.config.dataset, sys.stderr.isatty()
        return Task(job.folder, self.options, self.options.evaluation(dataset), self.hashes[dataset], bar, position)

    def _interrupt(self, number: int, frame: object) -> None:
        """Ask the workers to save and stop. A Ctrl-C reaches them from the terminal too; asking twice does no harm."""
        self.stopping.set()
        for process in list(self.running):
            _stop(process)


def _stop(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)


def _signals() -> Iterator[int]:
    """Signals to catch; only the main thread may."""
    if threading.current_thread() is threading.main_thread():
        yield from (signal.SIGINT, signal.SIGTERM)
