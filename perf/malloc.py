"""Measure how much time the allocator's settings of worker processes save on the CPU.

    python perf/malloc.py

A process without the settings and a process with them embed the same 320 images in the default feature space, on one
thread. Each runs five times, in turns. The script prints the medians and their ratio. It checks that the features are
equal to the last bit.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmark.running.processes import KEEP_MEMORY  # noqa: E402

CHILD = """
import hashlib, time
import numpy as np, torch
from benchmark.evaluation.features import feature_space
from benchmark.metrics import DEFAULT_SPACE
torch.set_num_threads(1)
space = feature_space(DEFAULT_SPACE)
images = np.random.default_rng(0).integers(0, 256, (320, 1, 28, 28), dtype=np.uint8)
space.embed(images[:32])
started = time.perf_counter()
features = space.embed(images)
print(time.perf_counter() - started, hashlib.sha256(features.tobytes()).hexdigest())
"""


def embed(settings: dict[str, str]) -> tuple[float, str]:
    """Return the seconds that a new process needs, and the hash of its features."""
    environment = {k: v for k, v in os.environ.items() if k not in KEEP_MEMORY} | settings
    command = [sys.executable, "-c", CHILD]
    seconds, digest = subprocess.run(
        command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    return float(seconds), digest


def main() -> None:
    """Measure both in turns and print the medians."""
    pairs = [(embed({}), embed(KEEP_MEMORY)) for _ in range(5)]
    assert len({digest for pair in pairs for _, digest in pair}) == 1, "the settings changed the numbers"
    plain, kept = (statistics.median(seconds for seconds, _ in column) for column in zip(*pairs, strict=True))
    print(f"default {plain:.2f} s, memory kept {kept:.2f} s, ratio {plain / kept:.2f}")


if __name__ == "__main__":
    main()
