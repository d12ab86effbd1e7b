"""kill -9 at any moment, then the same command again: the same numbers as without it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.jobs.results import Record
from tests import fabricated
from tests.conftest import SMALL

COMMAND = ["run", "--models", "flexae", *SMALL, "--steps", "120", "--checkpoint-steps", "7", "--no-tracking"]


def start(*arguments: str | Path) -> subprocess.Popen:
    """The command in a session of its own, so that it and its workers can be killed together."""
    words = [sys.executable, "-m", "cli", *map(str, arguments)]
    return subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_when(process: subprocess.Popen, happened: Callable[[], bool]) -> bool:
    """kill -9 the whole session as soon as something happened; False if the command ended before."""
    while process.poll() is None:
        if happened():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.005)
    return False


def finish(out: Path) -> None:
    assert start(*COMMAND, "--out", out).wait() == 0


def numbers(out: Path) -> dict[str, float]:
    """Every score, exactly as written, and the bytes of the weights."""
    (run,) = out.glob("runs/*/*/*")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    log = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    losses = {f"{row['step']}/{k}": v for row in log for k, v in row.items() if k.startswith("loss/")}
    scores = {row["metric"]: row["value"] for row in rows}
    return {**scores, **losses, "weights": hash((run / "model.safetensors").read_bytes())}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    out = tmp_path_factory.mktemp("uninterrupted")
    finish(out)
    return numbers(out)


MOMENTS = {
    "before the first checkpoint": "config.json",
    "while training": "checkpoint/00-000000042-*.pt",
    "while scoring": "training.json",
    "after the grids are drawn": "reconstructions.png",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_once(moment: str, uninterrupted: dict[str, float], tmp_path: Path):
    process = start(*COMMAND, "--out", tmp_path)
    assert kill_when(process, lambda: any(tmp_path.glob(f"runs/*/*/*/{MOMENTS[moment]}")))
    assert not any(tmp_path.glob("runs/*/*/*/done"))
    finish(tmp_path)
    assert numbers(tmp_path) == uninterrupted


def test_killed_again_and_again_at_random(uninterrupted: dict[str, float], tmp_path: Path):
    rng = random.Random(0)
    for _ in range(6):
        end = time.monotonic() + rng.uniform(1, 9)
        if not kill_when(start(*COMMAND, "--out", tmp_path), lambda end=end: time.monotonic() > end):
            break
    finish(tmp_path)
    assert numbers(tmp_path) == uninterrupted


def test_a_worker_whose_parent_dies_saves_and_stops(uninterrupted: dict[str, float], tmp_path: Path):
    process = start(*COMMAND, "--out", tmp_path)
    while not any(tmp_path.glob("runs/*/*/*/checkpoint/00-000000007-*.pt")):
        time.sleep(0.005)
    process.kill()
    process.wait()
    finish(tmp_path)  # waits for the orphan's lock, then goes on from its checkpoint
    assert numbers(tmp_path) == uninterrupted


BUSY = {"setting up": "log.txt", "training": "checkpoint/00-000000007-*.pt", "scoring": "training.json"}


@pytest.mark.parametrize("at", BUSY)
def test_a_ctrl_c_interrupts_and_the_same_command_goes_on(at: str, uninterrupted: dict[str, float], tmp_path: Path):
    process = start(*COMMAND, "--out", tmp_path)
    while not any(tmp_path.glob(f"runs/*/*/*/{BUSY[at]}")):
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process of the group
    assert process.wait() == 130
    assert not any(tmp_path.glob("runs/*/*/*/failed")) and not any(tmp_path.glob("runs/*/*/*/done"))
    if at == "training":
        assert any(tmp_path.glob("runs/*/*/*/checkpoint/*.pt"))
        finish(tmp_path)
        assert numbers(tmp_path) == uninterrupted


REWRITE = """
import sys
from pathlib import Path
from benchmark.jobs.results import Record
out = Path(sys.argv[1])
line = (out / "results.csv").read_text().splitlines()[-1]
while True:
    with open(out / "results.csv", "a") as file:
        file.write(line + "\\n")
    Record(out).reconcile()
"""


def test_the_record_survives_a_kill_while_it_is_rewritten(tmp_path: Path):
    fabricated.jobs(tmp_path, 300)
    Record(tmp_path).reconcile()
    whole = Record(tmp_path).rows
    for delay in (1.0, 1.2, 1.4):
        end = time.monotonic() + delay
        process = subprocess.Popen([sys.executable, "-c", REWRITE, str(tmp_path)], start_new_session=True)
        assert kill_when(process, lambda end=end: time.monotonic() > end)
        assert Record(tmp_path).rows == whole
