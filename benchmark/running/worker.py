"""What the process of a job does: train, export, draw, score. `runner.Workers` starts it.

Its own process, so that one crash cannot end a grid. Exit codes: 0 done, 1 failed, 2 a mistake of the user's,
130 interrupted with the state saved.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import traceback
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.device import choose_device, make_deterministic
from ..core.errors import DivergedError, FlexbenchError, Interrupted
from ..core.files import read_json, write_json
from ..jobs.config import JobConfig
from ..jobs.job import EvaluationConfig, Job, cost_of
from ..jobs.provenance import provenance
from ..jobs.results import LAST
from ..metrics import PROTOCOL
from .tracking import NoTracker, make_tracker

if TYPE_CHECKING:
    from ..method import Method

log = logging.getLogger("benchmark")


@dataclass(frozen=True)
class WorkerOptions:
    """How to do a job; nothing here changes its results. Fields that `runner.Request` has too are explained there."""

    out: Path
    suite_name: str
    evaluation: EvaluationConfig
    device: str
    threads: int
    dataset_hash: str  # of the data that the parent opened
    bar: bool  # draw a live bar on stderr; else one line per interval
    position: int  # row of the bar
    data_dir: Path | None
    image_size: int | None
    include: tuple[str, ...]
    tracking_uri: str | None
    inception_weights: str | None
    checkpoint_seconds: float
    checkpoint_steps: int | None
    score_every: int | None


INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def main(folder: Path, options: WorkerOptions, environment: dict[str, str]) -> int:
    """Do the job of a folder in this process, with its folder locked; the exit code."""
    os.environ.clear()  # of the host, which may be older than what its owner has set since
    os.environ.update(environment)
    job = Job.open(folder)
    worker = Worker(job, options)
    try:
        listen(worker)
        with job.lock(lambda: print(f"{job.label}: another process is at work on it; waiting", file=sys.stderr)):
            return worker.run()
    except Interrupted as stop:
        log.info("%s", stop)
        worker.tracker.finish("KILLED")
        return 130
    finally:
        for number in INTERRUPTS:  # the job has ended, nothing is left to stop
            signal.signal(number, signal.SIG_IGN)


def listen(worker: Worker) -> None:
    """From here on interrupts reach the worker, those too that came before: its host has blocked them."""
    for number in INTERRUPTS:
        signal.signal(number, worker.stop)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)


def orphaned(parent: int) -> bool:
    """Whether the host, process `parent`, or its owner is gone; the owner holds the other end of stdin."""
    return os.getppid() != parent or (os.name != "nt" and bool(select.select([sys.stdin], [], [], 0)[0]))


class Worker:
    """One job from wherever it stands to `done`."""

    def __init__(self, job: Job, options: WorkerOptions):
        self.job, self.options = job, options
        self.evaluation = options.evaluation
        self.stopping = self.training = False
        self.parent = os.getppid()
        self.tracker = NoTracker()

    def run(self) -> int:
        """Do what is left to do, and turn every way to end into a state on disk and an exit code."""
        if self.job.done(self.evaluation):
            return 0
        log_to(self.job.folder / "log.txt")
        try:
            self.work()
            return 0
        except FlexbenchError as error:
            log.info("refused: %s", error)
            print(f"Error: {self.job.label}: {error}", file=sys.stderr)
            self.tracker.finish("FAILED")
            return 2
        except DivergedError as error:
            return self._fail(f"training diverged: {error}. Lower the learning rates, e.g. --set train.lr_factor=1")
        except Exception as error:  # a crash of one job is a state of that job, not the end of the grid
            log.info("%s", traceback.format_exc())
            return self._fail(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def stop(self, number: int, frame: Any) -> None:
        """While training, stop after this step with a checkpoint; otherwise there is nothing to save: stop at once.

        A Ctrl-C comes twice, from the terminal and from the parent: the second one must not disturb the stopping.
        """
        first, self.stopping = not self.stopping, True
        if first and not self.training:
            raise Interrupted(f"stopped by signal {number}")

    def work(self) -> None:
        """Set up, then train, export, draw and score; mark as done last of all."""
        from ..data import open_dataset
        from ..evaluation.features import feature_space
        from ..registry import Registry

        o, config = self.options, self.job.config
        self.tracker = make_tracker(o.tracking_uri, o.out, self.job.folder)
        self.device = choose_device(o.device)
        self.dataset = open_dataset(config.dataset, o.data_dir, o.image_size, download=False)
        self.method_class = Registry.load(o.include).get(config.model)
        self.space = feature_space(self.evaluation.space, o.inception_weights, str(self.device))
        self._begin_session()
        self._start_tracking()
        method = self._trained_method()
        self._draw(method)
        self._score(method, self._examine(method))
        self.tracker.artifacts(self.job.folder / n for n in ("metrics.jsonl", "provenance.json", "log.txt"))
        self.tracker.finish("FINISHED")
        self.job.finish(self.evaluation)

    def _begin_session(self) -> None:
        """Record where this process runs. A job that was begun goes on with the data and threads it began with."""
        before = self.job.sessions if self.job.begun else []
        expected = {self.options.dataset_hash, *(session["dataset_hash"] for session in before)}
        if expected != {self.dataset.content_hash}:
            raise FlexbenchError(f"the images of '{self.dataset.name}' have changed. Train anew with --force.")
        threads = before[-1]["threads"] if before else self.options.threads
        make_deterministic(threads)
        self.session = provenance(str(self.device), threads, self.dataset.content_hash)
        self.job.begin_session(self.session)
        log.info("%s on %s, %d threads", self.job.label, self.device, threads)

    def _trained_method(self) -> Any:
        """The trained model: from its weights if it is trained, else by training it."""
        from ..training.loop import Callbacks, train
        from ..training.trained import load_trained
        from .progress import ProgressDisplay

        if self.job.trained:
            return load_trained(self.job.folder, device=self.device, include=self.options.include)
        with ProgressDisplay(self.job, self.options.bar, self.options.position) as shown:

            def report(row: dict[str, Any]) -> None:
                losses = {k: v for k, v in row.items() if k.startswith("loss/") and v is not None}
                self.tracker.log({f"{row['phase']}/{k}": v for k, v in losses.items()}, row["step"])
                shown.report(row)

            callbacks = Callbacks(
                self.options.checkpoint_seconds, self.options.checkpoint_steps, log_interval(self.job.config),
                report, lambda: self.stopping or orphaned(self.parent),
                self.options.score_every, self._score_snapshot,
            )  # fmt: skip
            self.training = True
            method = train(
                self.job.config, self.method_class, self.dataset.train, self.job.folder, self.device, callbacks
            )
            self.training = False
            if self.stopping:  # a signal that came after the last step
                raise Interrupted("stopped when trained")
            return method

    def _draw(self, method: Any) -> None:
        """Grids to look at: 64 samples, and test images above their reconstructions. None of vectors."""
        import numpy as np

        from ..evaluation.evaluator import generate, reconstruct
        from ..evaluation.images import save_grid

        folder, test = self.job.folder, self.dataset.test
        files = ["config.json", "provenance.json", "model.safetensors"]
        if self.dataset.info.are_images:
            save_grid(generate(method, 64, self.job.config.seed), folder / "samples.png", columns=8)
            real = test.take(np.arange(min(32, len(test))))
            save_grid(above(real, reconstruct(method, real), columns=8), folder / "reconstructions.png", columns=8)
            files += ["samples.png", "reconstructions.png"]
        self.tracker.artifacts(folder / name for name in files)

    def _examine(self, method: Any) -> dict[str, float]:
        """Record the figures that tell whether the model is sound."""
        from ..evaluation.diagnostics import diagnostics

        figures = diagnostics(method, self.dataset.train, self.job.config.seed)
        write_json(self.job.folder / "diagnostics.json", figures)
        self.tracker.log({f"diagnostics/{name}": value for name, value in figures.items()}, 0)
        return figures

    @cached_property
    def references(self) -> Any:
        """The real images that scores compare with."""
        from ..evaluation.evaluator import References

        return References(self.dataset, self.evaluation.images, self.space)

    def _score(self, method: Any, figures: dict[str, float]) -> None:
        """Score, and record the rows."""
        from ..evaluation.evaluator import score

        doing = f"scoring up to {self.evaluation.images:,} images of each kind in {self.space.name}"
        log.info("%s", doing)
        print(f"{self.job.label}: {doing}", file=sys.stderr, flush=True)
        scores = score(method, self.references, self.job.config.seed, self.evaluation.scores, figures)
        step = read_json(self.job.folder / "training.json")["phases"][-1].get("steps", self.job.config.train.steps)
        self._record(scores, LAST, step, self.job.cost)

    def _score_snapshot(self, method: Any, step: int, accounts: list[dict[str, Any]]) -> None:
        """Record the distances of a model that is still in training."""
        from ..evaluation.evaluator import DISTANCES, score
        from ..networks import count_parameters

        scores = score(method, self.references, self.job.config.seed, DISTANCES)
        self._record(scores, f"step {step}", step, cost_of(accounts, count_parameters(method)))

    def _record(self, scores: list[Any], checkpoint: str, step: int, cost: dict[str, Any]) -> None:
        """Write scores to disk and to the tracker."""
        head = row_head(self.job, self.method_class, self.session, checkpoint, step)
        self.job.record([{**head, **asdict(score), **cost} for score in scores])
        self.tracker.log({score.metric: score.value for score in scores}, step)

    def _start_tracking(self) -> None:
        c = self.job.config
        params = {**{f"train.{k}": v for k, v in asdict(c.train).items()}, **dict(c.method), "seed": c.seed}
        tags = {"model": c.model, "dataset": c.dataset, "m": c.latent_dim, "seed": c.seed, "hash": c.hash,
                "preset": c.preset, "git": self.session["git"] or "unknown"}  # fmt: skip
        self.tracker.start(self.options.suite_name, f"{c.model}-m{c.latent_dim}-s{c.seed}", params, tags)

    def _fail(self, reason: str) -> int:
        self.job.fail(reason)
        log.info("failed: %s", reason)
        print(f"{self.job.label}: failed: {reason}", file=sys.stderr)
        self.tracker.finish("FAILED")
        return 1


def log_to(path: Path) -> None:
    """Warnings to stderr; what the harness says, and any warning, to the job's log file."""
    terminal, file = logging.StreamHandler(), logging.FileHandler(path)
    terminal.setLevel(logging.WARNING)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[terminal, file], level=logging.WARNING, force=True)
    log.setLevel(logging.INFO)


def row_head(job: Job, method: type[Method], session: dict[str, Any], checkpoint: str, step: int) -> dict[str, Any]:
    """The part of a result row that says which job and checkpoint it is of, and by which code it was scored."""
    c = job.config
    return {
        "protocol": PROTOCOL, "model": c.model, "title": method.title or c.model, "dataset": c.data["name"],
        "latent_dim": c.latent_dim, "seed": c.seed, "preset": c.preset, "settings": c.settings(method),
        "hash": c.hash, "variant": c.variant, "checkpoint": checkpoint, "step": step,
        "dataset_hash": session["dataset_hash"], "git": session["git"],
    }  # fmt: skip


def above(real: Any, reconstructed: Any, columns: int) -> Any:
    """Rows of real images, each above the row of their reconstructions."""
    import numpy as np

    rows = [part[i : i + columns] for i in range(0, len(real), columns) for part in (real, reconstructed)]
    return np.concatenate(rows)


def log_interval(config: JobConfig) -> int:
    """Steps per log row: about 100 rows a run, at most one per 100 steps."""
    return max(1, min(100, config.train.steps // 100))
