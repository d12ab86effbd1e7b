"""What does forking a job's process from one that has imported the libraries save, beside starting it from nothing?

    python perf/start.py

Six short jobs (VAE, 30 steps on the embedded digits, scored and tracked as usual), one after another, with one host
for all and with a new one for each, in turn, three times each. The medians and their ratio are printed; that the scores
are equal to the last digit is checked.
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
from benchmark import processes
processes.FORKING = sys.argv.pop(1) == "forked"  # else a new host for each job, which imports nothing beforehand
from cli import main
main()
"""


def run_jobs(way: str) -> tuple[float, pd.DataFrame]:
    """Seconds for the whole command, and the scores."""
    words = ["run", "--models", "vae", "--datasets", "digits", "--preset", "smoke", "--seeds", "0-5"]
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        command = [sys.executable, "-c", CHILD, way, *words, "--out", out]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - started, pd.read_csv(Path(out) / "results.csv")


def main() -> None:
    """Measure in turn and print."""
    pairs = [(run_jobs("anew"), run_jobs("forked")) for _ in range(3)]
    first = pairs[0][0][1][["seed", "metric", "value"]]
    for _, scores in (run for pair in pairs for run in pair):
        pd.testing.assert_frame_equal(scores[["seed", "metric", "value"]], first, check_exact=True)
    anew, forked = (statistics.median(seconds for seconds, _ in column) for column in zip(*pairs, strict=True))
    print(f"6 jobs: started anew {anew:.1f} s, forked {forked:.1f} s, ratio {anew / forked:.2f}")


if __name__ == "__main__":
    main()
