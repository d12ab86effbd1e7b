"""Log to MLflow. MLflow gets copies; the results are in files. If MLflow cannot be reached, one warning is printed."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import FlexbenchError
from ..core.files import read_json, write_json

log = logging.getLogger(__name__)
ARTIFACTS = "mlartifacts"  # folder of a local store's artifacts, under the output root

# A failed call must not delay a training run for minutes. A benchmark sends no telemetry.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a dozen more processes, for features that are not used here
}


def default_uri(out: Path) -> str:
    """Return the address of the SQLite store under the output root."""
    return f"sqlite:///{out.resolve() / 'mlflow.db'}"


class NoTracker:
    """A tracker that does nothing, for `--no-tracking`."""

    def start(self, suite: str, name: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        """Begin the run of a job, or continue it."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log losses or scores at a step."""

    def artifacts(self, paths: Iterable[Path]) -> None:
        """Store files with the run."""

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""


def warn_once(method: Callable) -> Callable:
    """Wrap a method of the tracker: its first failure gives one warning, and later calls do nothing."""

    @functools.wraps(method)
    def call(self: MLflowTracker, *args: Any, **kwargs: Any) -> None:
        if self.down:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # the tracker may raise anything; the run goes on
            self.down = True
            log.warning("tracking is off for this job, results are not affected: %s", reason(error))

    return call


class MLflowTracker(NoTracker):
    """A tracker with one MLflow run per job, in the experiment of the suite. A resumed job continues its MLflow run.

    Args:
        uri: tracking store, e.g. `sqlite:///results/mlflow.db` or `http://host:5000`.
        out: the output root; artifacts of a local store go to `mlartifacts/` in it.
        folder: the job's folder; `tracking.json` there remembers the run.
    """

    def __init__(self, uri: str, out: Path, folder: Path):
        self.uri, self.out, self.folder = uri, out, folder
        self.down = False
        self.run_id = ""

    @warn_once
    def start(self, suite: str, name: str, params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
        from mlflow.entities import Param, RunTag

        self.client = client(self.uri)
        known = read_json(self.folder / "tracking.json", {})
        if known.get("uri") == self.uri:
            self.run_id = known["run_id"]
            self.client.update_run(self.run_id, status="RUNNING")
            return
        experiment = ensure_experiment(self.uri, self.out, suite)
        self.run_id = self.client.create_run(experiment, run_name=name).info.run_id
        self.client.log_batch(
            self.run_id,
            params=[Param(k, str(v)) for k, v in params.items()],
            tags=[RunTag(k, str(v)) for k, v in tags.items()],
        )
        write_json(self.folder / "tracking.json", {"uri": self.uri, "run_id": self.run_id})

    @warn_once
    def log(self, values: Mapping[str, float], step: int) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(mlflow_name(k), v, now, step) for k, v in values.items()])

    @warn_once
    def artifacts(self, paths: Iterable[Path]) -> None:
        for path in paths:
            self.client.log_artifact(self.run_id, str(path))

    @warn_once
    def finish(self, status: str) -> None:
        self.client.set_terminated(self.run_id, status)


def set_environment_defaults() -> None:
    """Set MLflow's environment variables that the user has not set. Call it before MLflow is imported."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)


def server_command(out: Path, port: int) -> list[str]:
    """Return the command that serves the local store of an output root, on this machine only.

    Raises FlexbenchError if there is no store.
    """
    if not (out / "mlflow.db").exists():
        raise FlexbenchError(f"there is no MLflow store in '{out}'. Run something first, or give its folder by --out.")
    return [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", default_uri(out),
            "--artifacts-destination", str(out.resolve() / ARTIFACTS),
            "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]  # fmt: skip


def client(uri: str) -> Any:
    """Return an MLflow client for a store."""
    set_environment_defaults()
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(uri)


def ensure_experiment(uri: str, out: Path, suite: str) -> str:
    """Return the id of the suite's experiment; create the experiment if it does not exist."""
    store = client(uri)
    if (found := store.get_experiment_by_name(suite)) is not None:
        return found.experiment_id
    location = (out.resolve() / ARTIFACTS).as_uri() if uri.startswith("sqlite:") else None
    return store.create_experiment(suite, artifact_location=location)


def mlflow_name(name: str) -> str:
    """Replace the characters that MLflow forbids: `gen_fd10k_test@space@128` -> `gen_fd10k_test/space-128`."""
    return re.sub(r"[^\w\-. :/]", "-", name.replace("@", "/", 1))


def reachable(uri: str, out: Path, suite: str) -> bool:
    """Create the suite's experiment before several workers ask for it at the same time.

    Return False, after one warning, if the tracker is down.
    """
    try:
        ensure_experiment(uri, out, suite)
        return True
    except Exception as error:  # the tracker may raise anything; the runs go on
        log.warning("tracking is off, results are not affected: %s", reason(error))
        return False


def reason(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def make_tracker(uri: str | None, out: Path, folder: Path) -> NoTracker:
    """Return the tracker of a job. Without a `uri` the tracker does nothing."""
    return MLflowTracker(uri, out, folder) if uri else NoTracker()
