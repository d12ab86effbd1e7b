"""Measure the time of `flexbench table all` over 1,000 jobs, and compare it with the time to import pandas.

    python perf/tables.py [JOBS]

Both are whole processes. Each runs five times, in turns. The script prints the medians and their ratio.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import fabricated  # noqa: E402


def seconds(*arguments: str) -> float:
    """Return the wall time of a Python process in seconds."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - started


def main(count: int) -> None:
    """Fabricate the jobs, measure both processes in turns and print the medians."""
    with tempfile.TemporaryDirectory() as out:
        fabricated.jobs(Path(out), count)
        pairs = [(seconds("-m", "cli", "table", "all", "--out", out), seconds("-c", "import pandas")) for _ in range(5)]
    table, pandas = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{count:,} jobs: table all {table:.2f} s, import pandas {pandas:.2f} s, ratio {table / pandas:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
