"""From a grid to jobs with their state, and from jobs to results: expand, run, collect."""

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
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from ..core.device import choose_device
from ..core.errors import FlexbenchError
from ..core.files import ensure_dir
from ..data import Dataset, open_dataset
from ..data.info import dataset_info
from ..evaluation.features.spaces import feature_space, slow_import, space_for
from ..evaluation.references import check_count
from ..jobs.config import JobConfig, Overrides, label, preset
from ..jobs.job import EvaluationConfig, Job
from ..jobs.results import write_results
from ..metrics import DEFAULT_SPACE
from ..registry import Registry
from . import processes
from .tracking import default_uri, reachable
from .worker import WorkerOptions


@dataclass(frozen=True)
class Request:
    """What the user asked to run."""

    models: str  # comma-separated names and globs, or "all"
    datasets: str  # comma-separated
    latent_dims: tuple[int, ...] = ()  # empty: each dataset's default
    seeds: tuple[int, ...] = (0,)
    preset: str = "cpu"
    overrides: Overrides = field(default_factory=Overrides)
    images: int | None = None  # to score; None: the preset's
    space: str = DEFAULT_SPACE
    scores: str = "all"  # or "validation", see job.EvaluationConfig
    out: Path = Path("results")
    data_dir: Path | None = None
    image_size: int | None = None  # of folder datasets
    include: tuple[str, ...] = ()
    device: str = "auto"
    jobs: int = 1  # processes at once
    threads: int | None = None  # of each process; None: the processors divided by `jobs`
    tracking_uri: str | None = "local"  # MLflow; "local": SQLite under `out`; None: no tracking
    suite: str | None = None  # MLflow experiment; None: datasets and preset
    inception_weights: str | None = None
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int | None = None
    score_every: int | None = None  # steps between snapshots whose distances are scored; None: only the last
    force: bool = False
    retry_failed: bool = False

    def __post_init__(self) -> None:
        given = {"out": Path(self.out), "data_dir": self.data_dir and Path(self.data_dir)}
        given["include"] = tuple(str(Path(path).resolve()) for path in self.include)
        if self.tracking_uri == "local":
            given["tracking_uri"] = default_uri(given["out"])
        for name, value in given.items():
            object.__setattr__(self, name, value)

    def evaluation(self, dataset: str) -> EvaluationConfig:
        """What is scored on a dataset."""
        space = space_for(dataset_info(dataset), self.space)
        return EvaluationConfig(space, self.images or preset(self.preset).images, self.scores)

    @property
    def suite_name(self) -> str:
        """The name of the MLflow experiment."""
        return self.suite or f"{self.datasets} {self.preset}"


@dataclass(frozen=True)
class Outcome:
    """How a job ended: done | failed | refused | interrupted | killed."""

    job: Job
    word: str


def expand(request: Request) -> tuple[list[Job], dict[str, Dataset]]:
    """The jobs of the grid. Everything that can be wrong is checked before anything is trained, cheap things first."""
    check(request)
    registry = Registry.load(request.include)
    models = check_models(request, registry)
    names = list(dict.fromkeys(filter(None, (d.strip() for d in request.datasets.split(",")))))
    if not names:
        raise FlexbenchError("no dataset given. Use --datasets digits, or names from 'flexbench ls datasets'.")
    for space in {request.evaluation(name).space for name in names}:
        feature_space(space, request.inception_weights)  # missing weights are found before hours of training
    datasets = {name: open_dataset(name, request.data_dir, _size_for(name, request)) for name in names}
    for name, dataset in datasets.items():
        check_count(dataset, request.evaluation(name).images)
    pairs = [(d, m) for d in names for m in suited(models, datasets[d], registry)]
    grid = itertools.product(pairs, request.latent_dims or (None,), request.seeds)
    return [_job(request, registry, datasets[d], d, m, dim, seed) for (d, m), dim, seed in grid], datasets


def suited(models: Sequence[str], dataset: Dataset, registry: Registry) -> list[str]:
    """The models that make sense on a dataset; a warning names the others. FlexbenchError where none does."""
    reasons = {} if dataset.info.are_images else {m: registry.get(m).images_only for m in models}
    skipped = {model: reason for model, reason in reasons.items() if reason}
    if len(skipped) == len(models):
        why = "; ".join(f"{model}: {reason}" for model, reason in skipped.items())
        raise FlexbenchError(f"none of these models makes sense on {dataset.name}, whose data are vectors ({why}).")
    for model, reason in skipped.items():
        warnings.warn(f"{model} is skipped on {dataset.name}, whose data are vectors: {reason}.", stacklevel=3)
    return [model for model in models if model not in skipped]


def check(request: Request) -> None:
    """FlexbenchError for a value out of range."""
    for dim in request.latent_dims:
        if not 1 <= dim <= 4096:
            raise FlexbenchError(f"latent size {dim} is not valid; it must be 1 to 4096, e.g. --latent-dim 32,64.")
    most = os.cpu_count() or 1
    at_least = {"checkpoint_steps": 1, "checkpoint_seconds": 0, "score_every": 1, "images": 1}
    limits = {"jobs": (1, 64), "threads": (1, most), **{name: (least, None) for name, least in at_least.items()}}
    for name, (least, greatest) in limits.items():
        value = getattr(request, name)
        if value is not None and (value < least or (greatest and value > greatest)):
            wanted = f"{least} to {greatest}" if greatest else f"at least {least}"
            raise FlexbenchError(f"--{name.replace('_', '-')} {value} is not valid; it must be {wanted}.")
    preset(request.preset)
    choose_device(request.device)
    ensure_dir(request.out)


def check_models(request: Request, registry: Registry) -> list[str]:
    """The names of the models; FlexbenchError for an unknown one, and for settings that do not fit."""
    request.overrides.check_sections(registry.targets)
    train = request.overrides.train(preset(request.preset).train)
    models = registry.match(request.models)
    for name in models:
        request.overrides.method(name, registry.get(name).Config, 1, train.width)
    return models


def _size_for(dataset: str, request: Request) -> int | None:
    """--image-size concerns the folder datasets of a grid alone."""
    return request.image_size if dataset.startswith("folder:") else None


def _job(request: Request, registry: Registry, dataset: Dataset, name: str, model: str, dim: int | None,
         seed: int) -> Job:  # fmt: skip
    """One cell of the grid."""
    method_class, base = registry.get(model), preset(request.preset).train
    train = request.overrides.train(base)
    dim = dim or dataset.latent_dim
    config = JobConfig(
        model=model,
        dataset=name,
        data={"name": dataset.slug, "channels": dataset.channels, "size": dataset.size},
        latent_dim=dim,
        seed=seed,
        train=train,
        method=asdict(request.overrides.method(model, method_class.Config, dim, train.width)),
        model_version=registry.version(model),
        dataset_hash=None if dataset.info.content_hash else dataset.content_hash,
        preset=label(request.preset, base, train),
    )
    return Job.place(config, dataset.slug, request.out)


def plan(job: Job, request: Request) -> tuple[str, str]:
    """What a job stands at or will be made to, and a detail: for people to read before anything is run."""
    evaluation = request.evaluation(job.config.dataset)
    state = "new" if request.force else job.state(evaluation)
    if state == "failed" and request.retry_failed:
        return "to retry", ""
    return state, "" if request.force else job.detail(evaluation)


def run_jobs(jobs: Sequence[Job], datasets: dict[str, Dataset], request: Request) -> list[Outcome]:
    """Run what is not done, `request.jobs` at a time, each in a process of its own; results.csv follows each."""
    todo = [job for job in jobs if _prepare(job, request)]
    if todo and request.tracking_uri and not reachable(request.tracking_uri, request.out, request.suite_name):
        request = replace(request, tracking_uri=None)
    hashes = {name: dataset.content_hash for name, dataset in datasets.items()}
    with Workers(request, hashes) as workers, ThreadPoolExecutor(request.jobs) as pool:
        ended = dict(zip(todo, pool.map(workers.run, todo), strict=True))
    write_results(request.out)
    return [Outcome(job, ended.get(job, job.state(request.evaluation(job.config.dataset)))) for job in jobs]


def slow_modules(request: Request, datasets: Iterable[str]) -> set[str]:
    """What each job of this request imports, beside what every job does."""
    spaces = {request.evaluation(dataset).space for dataset in datasets}
    modules = {slow_import(space) for space in spaces} | {"mlflow" if request.tracking_uri else None}
    return modules - {None}


def _prepare(job: Job, request: Request) -> bool:
    """Bring a job's folder to the start, and say whether there is something to do."""
    if request.force:
        job.delete()
    if request.retry_failed:
        job.clear_failure()
    if job.state(request.evaluation(job.config.dataset)) in ("done", "failed"):
        return False
    job.create()
    return True


def threads(request: Request) -> int:
    """Threads for each process. They are recorded with the job, since sums round differently with another number."""
    return request.threads or max(1, (os.cpu_count() or 1) // request.jobs)


class Workers:
    """Starts worker processes and, when the user interrupts, lets them save their state before they end."""

    def __init__(self, request: Request, hashes: dict[str, str]):
        self.request, self.hashes = request, hashes
        self.modules = slow_modules(request, hashes)
        self.running: set[int] = set()  # ids of the jobs' processes
        self.stopping = threading.Event()
        self.writing = threading.Lock()
        self.free: queue.SimpleQueue[int] = queue.SimpleQueue()  # rows of the terminal for progress bars
        for row in range(request.jobs):
            self.free.put(row)

    def __enter__(self) -> Workers:
        self._before = {n: signal.signal(n, self._interrupt) for n in _signals()}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        processes.dismiss()

    def run(self, job: Job) -> str:
        """Do one job; returns the word for how it ended."""
        if self.stopping.is_set():
            return "interrupted"
        position = self.free.get()
        code = self._do(job, position)
        self.free.put(position)
        with self.writing:
            write_results(self.request.out)
        if code < 0 and not self.stopping.is_set():
            print(f"{job.label}: the process was killed by signal {-code} (out of memory?). "
                  "The same command again goes on from the last checkpoint.", file=sys.stderr)  # fmt: skip
        return {0: "done", 1: "failed", 2: "refused", 130: "interrupted"}.get(code, "killed")

    def _do(self, job: Job, position: int) -> int:
        with processes.hosted(self.modules) as host:
            if process := host.start(job.folder, self._options(job, position)):
                self.running.add(process)
                if self.stopping.is_set():  # an interrupt that came before this process was known
                    _stop(process)
            code = host.wait()
            self.running.discard(process)
        return code

    def _options(self, job: Job, position: int) -> WorkerOptions:
        """What the worker must know: the fields it shares with the request, and the rest."""
        r = self.request
        shared = {f.name: getattr(r, f.name) for f in fields(WorkerOptions) if hasattr(r, f.name)}
        own = {"evaluation": r.evaluation(job.config.dataset), "threads": threads(r), "position": position,
               "dataset_hash": self.hashes[job.config.dataset], "bar": sys.stderr.isatty(),
               "image_size": _size_for(job.config.dataset, r)}  # fmt: skip
        return WorkerOptions(**{**shared, **own})

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
