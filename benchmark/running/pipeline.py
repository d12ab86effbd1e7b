"""The work of one job, in order: train, draw pictures, compute diagnostics, score, record."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.canonical import canonical
from ..core.device import choose_device, make_deterministic
from ..core.errors import FlexbenchError, Interrupted
from ..core.files import read_json, write_json
from ..jobs.config import JobConfig
from ..jobs.job import EvaluationConfig, Job
from ..jobs.provenance import provenance
from ..jobs.results import FAILED, LAST, Cost, Record, ResultRow, fingerprint_key
from ..metrics import PROTOCOL, Score
from .options import RunOptions
from .tracking import NoTracker, make_tracker

if TYPE_CHECKING:
    from ..method import Method

log = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Task:
    """What the process of a job is told."""

    folder: Path  # of the run
    options: RunOptions
    evaluation: EvaluationConfig  # made by the parent, which has registered the plug-ins
    dataset_hash: str  # of the data that the parent opened
    bar: bool  # draw a live bar on stderr; else print one line per interval
    position: int  # row of the bar


class Pipeline:
    """Does the remaining work of one job, until it is `done`.

    Args:
        stopping: asked after each step of training; True means that the job saves a checkpoint and stops.
    """

    def __init__(self, job: Job, task: Task, stopping: Callable[[], bool]):
        self.job, self.task, self.options, self.stopping = job, task, task.options, stopping
        self.evaluation = task.evaluation
        self.training = False
        self.tracker = NoTracker()
        self.session: dict[str, Any] = {}
        self.method_class: type[Method] | None = None  # known once the plug-ins are

    def run(self) -> None:
        """Set up, then train, draw, diagnose and score. The marker `done` is the last thing written."""
        self._open()
        if self.job.done(self.evaluation):  # another command has done it while this one waited for the lock
            return
        self._begin_session()
        self._start_tracking()
        method = self._trained_method()
        self._draw(method)
        self._score(method, self._diagnose(method))
        self.tracker.artifacts(self.job.folder / n for n in ("metrics.jsonl", "provenance.json", "log.txt"))
        self.tracker.finish("FINISHED")
        self._append([row for row in self.job.rows if row.evaluation == self.evaluation.key])
        self.job.finish(self.evaluation)

    def fail(self, reason: str) -> None:
        """Record that the job failed: in its folder, and as one row of the record without a value."""
        row = self._row(status=FAILED, reason=reason)
        self.job.fail(row)
        Record(self.options.out).append([row])

    # -- the steps --------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        from ..data import open_dataset
        from ..evaluation.features.spaces import feature_space
        from ..registry import Registry

        o, config = self.options, self.job.config
        self.tracker = make_tracker(o.tracking_uri, o.out, self.job.folder)
        self.device = choose_device(o.device)
        self.method_class = Registry.load(o.include).get(config.model)
        self.dataset = open_dataset(config.dataset, o.data_dir, o.image_size_for(config.dataset), download=False)
        self.space = feature_space(self.evaluation.space, o.inception_weights, str(self.device))

    def _begin_session(self) -> None:
        """Record where this process runs. A job that was begun goes on with the data and threads it began with."""
        before = self.job.sessions if self.job.begun else []
        expected = {self.task.dataset_hash, *(session["dataset_hash"] for session in before)}
        if expected != {self.dataset.content_hash}:
            raise FlexbenchError(f"the images of '{self.dataset.name}' have changed. Train anew with --force.")
        threads = before[-1]["threads"] if before else self.options.threads_per_job
        make_deterministic(threads)
        self.session = provenance(str(self.device), threads, self.dataset.content_hash)
        self.session["feature_space"] = self.space.fingerprint
        self.job.begin_session(self.session)
        log.info("%s on %s, %d threads", self.job.label, self.device, threads)

    def _start_tracking(self) -> None:
        c = self.job.config
        params = {**{f"train.{k}": v for k, v in asdict(c.train).items()}, **dict(c.method), "seed": c.seed}
        tags = {"model": c.model, "dataset": c.dataset, "m": c.latent_dim, "seed": c.seed, "hash": c.hash,
                "preset": c.preset, "git": self.session["git"] or "unknown"}  # fmt: skip
        self.tracker.start(self.options.suite_name, f"{c.model}-m{c.latent_dim}-s{c.seed}", params, tags)

    def _trained_method(self) -> Method:
        """Load the trained model if there is one; else train it."""
        from ..training.trained import load_trained

        if self.job.trained:
            return load_trained(self.job.folder, device=self.device, include=self.options.include)
        self.training = True
        method = self._train()
        self.training = False
        if self.stopping():  # a signal that came after the last step
            raise Interrupted("stopped when trained")
        return method

    def _train(self) -> Method:
        from ..training.callbacks import Callbacks
        from ..training.loop import train
        from .progress import ProgressDisplay

        with ProgressDisplay(self.job, self.task.bar, self.task.position) as shown:

            def report(row: dict[str, Any]) -> None:
                losses = {k: v for k, v in row.items() if k.startswith("loss/") and v is not None}
                self.tracker.log({f"{row['phase']}/{k}": v for k, v in losses.items()}, row["step"])
                shown.report(row)

            every = log_interval(self.job.config)
            callbacks = Callbacks(self.options, every, report, self.stopping, self._score_snapshot)
            rows, folder = self.dataset.train, self.job.folder
            assert self.method_class is not None  # `_open` has set it
            return train(self.job.config, self.method_class, rows, folder, self.device, callbacks)

    def _draw(self, method: Method) -> None:
        """Draw grids of images: 64 samples, and test images above their reconstructions. Vectors have none."""
        import numpy as np

        from ..evaluation.evaluator import generate, reconstruct
        from ..evaluation.images import save_grid

        folder, test = self.job.folder, self.dataset.test
        files = ["config.json", "provenance.json", "model.safetensors"]
        if self.dataset.info.are_images:
            save_grid(generate(method, 64, self.job.config.seed), folder / "samples.png", columns=8)
            real = test.take(np.arange(min(32, len(test))))
            pairs = interleave_rows(real, reconstruct(method, real), columns=8)
            save_grid(pairs, folder / "reconstructions.png", columns=8)
            files += ["samples.png", "reconstructions.png"]
        self.tracker.artifacts(folder / name for name in files)

    def _diagnose(self, method: Method) -> dict[str, float]:
        """Record the figures that tell whether the model is sound."""
        from ..evaluation.diagnostics import diagnostics

        figures = diagnostics(method, self.dataset.train, self.job.config.seed)
        write_json(self.job.folder / "diagnostics.json", figures)
        self.tracker.log({f"diagnostics/{name}": value for name, value in figures.items()}, 0)
        return figures

    @cached_property
    def references(self) -> Any:
        """The real images that scores compare with."""
        from ..evaluation.references import References

        return References(self.dataset, self.evaluation.images, self.space)

    def _score(self, method: Method, figures: dict[str, float]) -> None:
        """Score the trained model and record the rows."""
        from ..evaluation.evaluator import score

        doing = f"scoring up to {self.evaluation.images:,} images of each kind in {self.space.name}"
        log.info("%s", doing)
        print(f"{self.job.label}: {doing}", file=sys.stderr, flush=True)
        scores = score(method, self.references, self.job.config.seed, self.evaluation.scores, figures)
        step = read_json(self.job.folder / "training.json")["phases"][-1].get("steps", self.job.config.train.steps)
        self._record(scores, LAST, step, self.job.cost)

    def _score_snapshot(self, method: Method, step: int, accounts: list[dict[str, Any]]) -> None:
        """Record the distances of a model that is still in training."""
        from ..evaluation.evaluator import DISTANCES, score
        from ..networks import count_parameters

        scores = score(method, self.references, self.job.config.seed, DISTANCES)
        self._record(scores, f"step {step}", step, Cost.of(accounts, count_parameters(method)))

    # -- the rows ---------------------------------------------------------------------------------------------------

    def _record(self, scores: Iterable[Score], checkpoint: str, step: int, cost: Cost) -> None:
        """Write scores to the run folder and to the tracker."""
        rows = [self._row(checkpoint=checkpoint, step=step, **score_fields(score), **asdict(cost)) for score in scores]
        self.job.record(rows)
        self.tracker.log({row.metric: row.value for row in rows if row.value is not None}, step)

    def _append(self, rows: list[ResultRow]) -> None:
        """Append the rows of this job to the record of the output root."""
        text = canonical(self.space.fingerprint)
        Record(self.options.out).append(rows, {fingerprint_key(text): text})

    def _row(self, **values: Any) -> ResultRow:
        """Build a row of this job and evaluation."""
        c, method = self.job.config, self.method_class
        return ResultRow(
            protocol=PROTOCOL, model=c.model, title=method.title or c.model if method else c.model,
            dataset=c.data["name"], latent_dim=c.latent_dim, seed=c.seed, preset=c.preset,
            settings=c.settings(method) if method else "", hash=c.hash, variant=c.variant,
            dataset_hash=self.task.dataset_hash, git=self.session.get("git"), evaluation=self.evaluation.key, **values,
        )  # fmt: skip


def score_fields(score: Score) -> dict[str, Any]:
    """The fields of a score, with the key of the fingerprint in place of its JSON text."""
    values = asdict(score)
    return {**values, "fingerprint": score.fingerprint and fingerprint_key(score.fingerprint)}


def interleave_rows(real: Any, reconstructed: Any, columns: int) -> Any:
    """Rows of real images, each above the row of their reconstructions."""
    import numpy as np

    rows = [part[i : i + columns] for i in range(0, len(real), columns) for part in (real, reconstructed)]
    return np.concatenate(rows)


def log_interval(config: JobConfig) -> int:
    """Return the steps per log row: a hundredth of the run, from 1 to 100 steps."""
    return max(1, min(100, config.train.steps // 100))
