"""One job on disk: its folder, its state and its result rows. Imports no torch."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import FlexbenchError
from ..core.files import append_jsonl, ensure_dir, locked, read_json, read_jsonl, write_json
from ..core.old_names import OLD_DIAGNOSTIC_NAMES, current_log_row
from ..metrics import ALL, PROTOCOL, added_key
from .config import JobConfig
from .results import Cost, ResultRow, folder_rows, run_folders

LOCK = ".lock"


@dataclass(frozen=True)
class EvaluationConfig:
    """How a job is scored. It is not part of the job's hash: a trained model can be scored again without training."""

    space: str  # feature space
    images: int  # of each kind; fewer where the dataset has fewer
    scores: str = "all"  # or "validation": the distance to validation images alone, to choose settings by

    @property
    def key(self) -> str:
        """The name of this evaluation in `done` and in result rows.

        A new protocol makes every job be scored again, and so does a metric that is added or edited.
        """
        return "/".join(filter(None, [self._suite_key, "" if self.scores != ALL else added_key()]))

    @property
    def _suite_key(self) -> str:
        """The key without added metrics."""
        part = "" if self.scores == ALL else f"/{self.scores}"
        return f"{self.space}/{self.images}{part}/protocol-{PROTOCOL}"

    def covered_by(self, keys: Iterable[str]) -> bool:
        """Tell whether one of these finished evaluations includes all scores of this one."""
        whole = replace(self, scores=ALL)._suite_key
        larger = self.scores != ALL or not added_key()
        return any(key == self.key or (larger and (key == whole or key.startswith(f"{whole}/"))) for key in keys)


@dataclass(frozen=True, eq=False)
class Job:
    """A cell of the grid and its folder."""

    config: JobConfig
    folder: Path

    @classmethod
    def place(cls, config: JobConfig, dataset_slug: str, out: Path) -> Job:
        """Return the job with its folder: runs/<dataset>/<model>/<m>-s<seed>-<hash>."""
        name = f"{config.latent_dim}-s{config.seed}-{config.hash}"
        return cls(config, out / "runs" / dataset_slug / config.model / name)

    @classmethod
    def open(cls, folder: Path) -> Job:
        """Return the job of a run folder. Raises FlexbenchError if the folder is not a run."""
        if not (folder / "config.json").is_file():
            raise FlexbenchError(f"'{folder}' is not a run: it has no config.json. See 'flexbench ls runs'.")
        try:
            return cls(JobConfig.from_json(read_json(folder / "config.json")), folder)
        except (ValueError, OSError) as error:
            raise FlexbenchError(f"'{folder / 'config.json'}' cannot be read: {error}") from error

    @property
    def label(self) -> str:
        """The job in words: 'vae on mnist, m=32, seed 0'."""
        c = self.config
        return f"{c.model} on {c.dataset}, m={c.latent_dim}, seed {c.seed}"

    def create(self) -> None:
        """Write config.json if it is not there."""
        ensure_dir(self.folder)
        if not (self.folder / "config.json").exists():
            write_json(self.folder / "config.json", self.config.to_json())

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The provenance of each process that worked on the job, oldest first."""
        return read_json(self.folder / "provenance.json", {"sessions": []})["sessions"]

    def begin_session(self, provenance: dict[str, Any]) -> None:
        """Record the provenance of a further process."""
        write_json(self.folder / "provenance.json", {"sessions": [*self.sessions, provenance]})

    @property
    def begun(self) -> bool:
        """Whether some training is on disk."""
        return self.trained or any((self.folder / "checkpoint").glob("*.pt"))

    # -- state, derived from what is there -----------------------------------------------------------------------

    @property
    def trained(self) -> bool:
        """Whether training has ended."""
        return (self.folder / "training.json").exists()

    def done(self, evaluation: EvaluationConfig | None = None) -> bool:
        """Tell whether the job is trained and scored in this way; without an evaluation, in any way."""
        evaluations = read_json(self.folder / "done", {}).get("evaluations", [])
        return evaluation.covered_by(evaluations) if evaluation else bool(evaluations)

    @property
    def failure(self) -> str | None:
        """The reason of the failure, or None."""
        return read_json(self.folder / "failed", {}).get("reason")

    def state(self, evaluation: EvaluationConfig | None = None) -> str:
        """Return the state of the run folder: done | failed | to score | to resume | new."""
        if self.done(evaluation):
            return "done"
        if self.failure:
            return "failed"
        if self.trained:
            return "to score"
        return "to resume" if self.begun else "new"

    @property
    def progress(self) -> str:
        """Where the newest checkpoint of a job that was begun stands, in words."""
        phase, step, _ = max((self.folder / "checkpoint").glob("*-*-*.pt")).stem.split("-")
        return f"phase {int(phase) + 1}, step {int(step):,} of {self.config.train.steps:,}"

    @property
    def diagnostics(self) -> dict[str, float]:
        """The diagnostics of the trained model by name, see `evaluation.diagnostics`; empty before it is scored."""
        old = read_json(self.folder / "health.json", {})  # its name before version 0.1.0
        found = read_json(self.folder / "diagnostics.json", old)
        return {OLD_DIAGNOSTIC_NAMES.get(name, name): value for name, value in found.items()}

    @property
    def last_losses(self) -> dict[str, float]:
        """Name of a loss -> its mean over the last logged steps, for all phases together."""
        rows = {row["phase"]: current_log_row(row) for row in read_jsonl(self.folder / "train.jsonl")}
        return {k.removeprefix("loss/"): v for row in rows.values() for k, v in row.items() if k.startswith("loss/")}

    # -- changes of state ----------------------------------------------------------------------------------------

    def record(self, rows: list[ResultRow]) -> None:
        """Append scores to the run's own file."""
        append_jsonl(self.folder / "metrics.jsonl", map(asdict, rows))

    def finish(self, evaluation: EvaluationConfig) -> None:
        """Remove the checkpoints, then mark this evaluation as done."""
        shutil.rmtree(self.folder / "checkpoint", ignore_errors=True)
        before = read_json(self.folder / "done", {}).get("evaluations", [])
        write_json(self.folder / "done", {"evaluations": sorted({*before, evaluation.key})})

    def fail(self, row: ResultRow) -> None:
        """Mark the job as failed. It is not run again unless the user asks for it."""
        write_json(self.folder / "failed", {"reason": row.reason, "row": asdict(row)})

    def clear_failure(self) -> None:
        """Remove the mark of a failure, so that the job runs again."""
        (self.folder / "failed").unlink(missing_ok=True)

    def delete(self) -> None:
        """Remove all files of the run but its lock. Raises FlexbenchError if another process works on it."""
        with self.lock(self._refuse):
            for path in self.folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != LOCK:
                    path.unlink()

    def _refuse(self) -> None:
        raise FlexbenchError(f"{self.label}: another process is at work on '{self.folder}'. Wait for it or stop it.")

    @property
    def cost(self) -> Cost:
        """The cost of the training, for the result rows."""
        training = read_json(self.folder / "training.json")
        return Cost.of(training["phases"], training["parameters"])

    @property
    def rows(self) -> list[ResultRow]:
        """The job's result rows. If a crash caused a score to be written twice, only the later row is returned."""
        return folder_rows(self.folder)

    @contextlib.contextmanager
    def lock(self, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the job's lock within the block, see `files.locked`."""
        with locked(ensure_dir(self.folder) / LOCK, waiting):
            yield


def find_jobs(out: Path) -> list[Job]:
    """Return every job under an output root, sorted by folder. Unreadable folders are left out with a warning."""
    found = []
    for folder in run_folders(out):
        try:
            found.append(Job.open(folder))
        except FlexbenchError as error:
            warnings.warn(f"'{folder}' is left out: {error}", stacklevel=2)
    return found
