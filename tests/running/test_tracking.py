"""MLflow is a view: what it shows, and what happens when it is down."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmark.registry import BUILT_IN
from benchmark.running.tracking import client, default_uri, mlflow_name
from tests.conftest import SMALL


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_names_are_legal_and_readable():
    assert mlflow_name("gen_fd10k_test@efficientnet_lite0@128") == "gen_fd10k_test/efficientnet_lite0-128"


def test_one_experiment_with_one_finished_run_per_job(demo: Path):
    store = client(default_uri(demo))
    (experiment,) = [e for e in store.search_experiments() if e.name != "Default"]
    assert experiment.name == "digits smoke"
    runs = store.search_runs([experiment.experiment_id])
    assert {run.data.tags["model"] for run in runs} == set(BUILT_IN)
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.params["train.steps"] == "30" and run.data.params["latent_dim"] == "16"
        assert {"dataset", "m", "seed", "hash", "git"} <= run.data.tags.keys()
        assert "gen_fd100_test/pixels" in run.data.metrics
        (name,) = [name for name in run.data.metrics if name.endswith("/loss/reconstruction")]  # of the first phase
        history = store.get_metric_history(run.info.run_id, name)
        assert [point.step for point in history] == list(range(1, 31))
        files = {f.path for f in store.list_artifacts(run.info.run_id)}
        assert {"samples.png", "reconstructions.png", "config.json", "model.safetensors", "metrics.jsonl"} <= files


def test_tracked_scores_are_those_on_disk(demo: Path):
    store = client(default_uri(demo))
    for file in demo.glob("runs/*/*/*/metrics.jsonl"):
        run = store.get_run(json.loads((file.parent / "tracking.json").read_text())["run_id"])
        for row in map(json.loads, file.read_text().splitlines()):
            assert run.data.metrics[mlflow_name(row["metric"])] == row["value"]


def test_a_tracker_that_is_down_costs_one_warning(tmp_path: Path):
    dead = f"http://127.0.0.1:{free_port()}"
    words = ["run", "--models", "vae", *SMALL, "--out", str(tmp_path), "--tracking-uri", dead]
    done = subprocess.run([sys.executable, "-m", "cli", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("tracking is off") == 1
    assert "1 jobs: 1 done" in done.stdout


def test_ui_serves_the_runs_on_loopback(demo: Path):
    with serving(demo) as (_, experiments):
        assert "digits smoke" in {e["name"] for e in experiments}


@contextlib.contextmanager
def serving(out: Path) -> Iterator[tuple[str, list[dict]]]:
    """`flexbench ui` on a free port, once it answers: its address, and the experiments that it found."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "ui", "--out", str(out), "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert address in process.stdout.readline()
        yield address, ask(f"{address}/api/2.0/mlflow/experiments/search?max_results=10", process)["experiments"]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(url: str, process: subprocess.Popen) -> dict:
    """JSON of a server that is starting up."""
    while process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.2)
    raise AssertionError(process.stdout.read())
