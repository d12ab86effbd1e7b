"""Measure how much time a job saves if its process is forked from a host that has imported the libraries.

    python perf/start.py

The script runs six short jobs one after another (VAE, 30 steps on digits, scored and tracked as usual). It does so with
one host for all jobs, and with a new process for each job. Each way runs three times, in turns. The script prints the
medians and their ratio. It checks that the scores are equal to the last digit.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent

CHILD = """
import sys
from benchmark.running import processes
processes.FORKING = sys.argv.pop(1) == "forked"  # otherwise each job gets a new host that imports nothing in advance
from cli import main
main()
"""


def run_jobs(start: str) -> tuple[float, pd.DataFrame]:
    """Return the seconds of the whole command, and the scores. `start` is "forked" or "new"."""
    arguments = ["run", "--models", "vae", "--datasets", "digits", "--preset", "smoke", "--seeds", "0-5"]
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        command = [sys.executable, "-c", CHILD, start, *arguments, "--out", out]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - began, pd.read_csv(Path(out) / "results.csv")


def main() -> None:
    """Measure both in turns and print the medians."""
    pairs = [(run_jobs("new"), run_jobs("forked")) for _ in range(3)]
    first = pairs[0][0][1][["seed", "metric", "value"]]
    for _, scores in (run for pair in pairs for run in pair):
        pd.testing.assert_frame_equal(scores[["seed", "metric", "value"]], first, check_exact=True)
    new, forked = (statistics.median(seconds for seconds, _ in column) for column in zip(*pairs, strict=True))
    print(f"6 jobs: new processes {new:.1f} s, forked {forked:.1f} s, ratio {new / forked:.2f}")


if __name__ == "__main__":
    main()
