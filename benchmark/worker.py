"""The process that does one job: train, export, draw, score. Run as `python -m benchmark.worker FOLDER OPTIONS`.

Its own process, so that one crash cannot end a grid. Exit codes: 0 done, 1 failed, 2 a mistake of the user's,
130 interrupted with the state saved.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import JobConfig
from .device import choose_device, settle
from .errors import DivergedError, FlexbenchError
from .files import read_json
from .job import EvaluationConfig, Job
from .tracking import NoTracker, make_tracker

if TYPE_CHECKING:
    from .method import Method

log = logging.getLogger("benchmark")


@dataclass(frozen=True)
class WorkerOptions:
    """How to do a job; nothing here changes its results."""

    out: str
    suite: str
    evaluation: dict[str, Any]
    data_dir: str | None = None
    image_size: int | None = None
    include: tuple[str, ...] = ()
    device: str = "auto"
    tracking_uri: str | None = None
    inception_weights: str | None = None
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int | None = None
    bar: bool = False  # draw a live bar on stderr; else one line per interval
    position: int = 0  # row of the bar
    parent: int = 0  # stop when this process is gone


def main(arguments: list[str]) -> int:
    """Do the job whose folder and options are given; returns the exit code."""
    job, options = Job.open(Path(arguments[0])), WorkerOptions(**json.loads(arguments[1]))
    with job.lock(lambda: print(f"{job.label}: another process is at work on it; waiting", file=sys.stderr)):
        return Worker(job, options).run()


class Worker:
    """One job from wherever it stands to `done`."""

    def __init__(self, job: Job, options: WorkerOptions):
        self.job, self.options = job, options
        self.evaluation = EvaluationConfig(**options.evaluation)
        self.stopping = self.training = False
        self.tracker = NoTracker()

    def run(self) -> int:
        """Do what is left to do, and turn every way to end into a state on disk and an exit code."""
        from .harness import Interrupted

        if self.job.done(self.evaluation):
            return 0
        log_to(self.job.folder / "log.txt")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        try:
            self.work()
            return 0
        except Interrupted as stop:
            log.info("%s", stop)
            self.tracker.finish("KILLED")
            return 130
        except FlexbenchError as error:
            print(f"Error: {self.job.label}: {error}", file=sys.stderr)
            return 2
        except DivergedError as error:
            return self._fail(f"training diverged: {error}. Lower train.lr_factor, or set this model's learning rates")
        except Exception as error:  # a crash of one job is a state of that job, not the end of the grid
            log.info("%s", traceback.format_exc())
            return self._fail(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def work(self) -> None:
        """Set up, then train, export, draw and score."""
        import torch

        from .data import open_dataset
        from .evaluation.features import feature_space
        from .registry import Registry

        o, config = self.options, self.job.config
        self.tracker = make_tracker(o.tracking_uri, Path(o.out), self.job.folder)
        self.device = choose_device(o.device)
        settle(read_json(self.job.folder / "provenance.json")["threads"])
        self.dataset = open_dataset(config.dataset, o.data_dir and Path(o.data_dir), o.image_size, download=False)
        self.method_class = Registry.load(o.include).get(config.model)
        self.space = feature_space(self.evaluation.space, o.inception_weights, str(self.device))
        log.info("%s on %s, %d threads", self.job.label, self.device, torch.get_num_threads())
        self._start_tracking()
        method = self._trained_method()
        self._draw(method)
        self._score(method)
        self.job.drop_checkpoints()
        folder = self.job.folder
        self.tracker.artifacts(folder / n for n in ("metrics.jsonl", "log.txt"))
        self.tracker.finish("FINISHED")

    def _trained_method(self) -> Any:
        """The trained model: from its weights if it is trained, else by training it."""
        from .api import load
        from .harness import Watch, train
        from .progress import Progress

        if self.job.trained:
            return load(self.job.folder, device=self.device, include=self.options.include)
        with Progress(self.job, self.options.bar, self.options.position) as shown:

            def report(row: dict[str, Any]) -> None:
                losses = {k: v for k, v in row.items() if k.startswith("loss/")}
                self.tracker.log({f"{row['phase']}/{k}": v for k, v in losses.items()}, row["step"])
                shown.report(row)

            watch = Watch(
                self.options.checkpoint_seconds, self.options.checkpoint_steps, log_interval(self.job.config),
                report, lambda: self.stopping or os.getppid() != self.options.parent,
            )  # fmt: skip
            self.training = True
            method = train(self.job.config, self.method_class, self.dataset.train, self.job.folder, self.device, watch)
            self.training = False
            return method

    def _draw(self, method: Any) -> None:
        """Grids to look at: 64 samples, and test images above their reconstructions."""
        import numpy as np

        from .evaluation.evaluator import generate, reconstruct
        from .evaluation.images import save_grid

        folder, test = self.job.folder, self.dataset.test
        save_grid(generate(method, 64, self.job.config.seed), folder / "samples.png", columns=8)
        real = test.take(np.arange(min(32, len(test))))
        save_grid(above(real, reconstruct(method, real), columns=8), folder / "reconstructions.png", columns=8)
        self.tracker.artifacts(folder / n for n in ("samples.png", "reconstructions.png", "config.json",
                                                    "provenance.json", "model.safetensors"))  # fmt: skip

    def _score(self, method: Any) -> None:
        """Score, and record the rows."""
        from .evaluation.evaluator import PROTOCOL, References, score_method

        doing = f"scoring up to {self.evaluation.images:,} images of each kind in {self.space.name}"
        log.info("%s", doing)
        print(f"{self.job.label}: {doing}", file=sys.stderr, flush=True)
        references = References(self.dataset, self.evaluation.images, self.space)
        scores = score_method(method, references, self.job.config.seed)
        provenance = read_json(self.job.folder / "provenance.json")
        shared = row_head(self.job, self.method_class, PROTOCOL, provenance)
        rows = [{**shared, **asdict(score), **self.job.cost} for score in scores]
        self.job.record(rows, self.evaluation)
        self.tracker.log({s.metric: s.value for s in scores}, rows[0]["step"])

    def _start_tracking(self) -> None:
        c = self.job.config
        provenance = read_json(self.job.folder / "provenance.json")
        params = {**{f"train.{k}": v for k, v in asdict(c.train).items()}, **dict(c.method), "seed": c.seed}
        tags = {"model": c.model, "dataset": c.dataset, "m": c.latent_dim, "seed": c.seed, "hash": c.hash,
                "preset": c.preset, "git": provenance["git"] or "unknown"}  # fmt: skip
        self.tracker.start(self.options.suite, f"{c.model}-m{c.latent_dim}-s{c.seed}", params, tags)

    def _stop(self, number: int, frame: Any) -> None:
        """While training, stop after this step with a checkpoint; otherwise there is nothing to save: stop at once."""
        from .harness import Interrupted

        self.stopping = True
        if not self.training:
            raise Interrupted(f"stopped by signal {number}")

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


def row_head(job: Job, method: type[Method], protocol: int, provenance: dict[str, Any]) -> dict[str, Any]:
    """The part of a result row that says which job it is of."""
    c = job.config
    steps = read_json(job.folder / "training.json")["phases"][-1].get("steps", c.train.steps)
    return {
        "protocol": protocol, "model": c.model, "title": method.title or c.model, "dataset": c.dataset,
        "latent_dim": c.latent_dim,
        "seed": c.seed, "preset": c.preset, "settings": c.settings(method),
        "hash": c.hash, "variant": c.variant, "checkpoint": "last", "step": steps,
        "dataset_hash": provenance["dataset_hash"], "git": provenance["git"],
    }  # fmt: skip


def above(real: Any, reconstructed: Any, columns: int) -> Any:
    """Rows of real images, each above the row of their reconstructions."""
    import numpy as np

    rows = [part[i : i + columns] for i in range(0, len(real), columns) for part in (real, reconstructed)]
    return np.concatenate(rows)


def log_interval(config: JobConfig) -> int:
    """Steps per log row: about 100 rows a run, at most one per 100 steps."""
    return max(1, min(100, config.train.steps // 100))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
