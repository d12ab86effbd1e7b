"""Show the progress of a running job: a live bar on a terminal, one line per interval elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from ..jobs.job import Job

INTERVAL = 15.0  # seconds between status lines where there is no terminal
SHOWN = 3  # losses on the line; train.jsonl has all of them


class ProgressDisplay:
    """Shows rows of the training log. As a context manager it closes the bar in any case."""

    def __init__(self, job: Job, bar: bool, position: int):
        self.label, self.use_bar, self.position = job.label, bar, position
        self.bar: Any = None
        self.phase = ""
        self.last = 0.0

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def report(self, row: dict[str, Any]) -> None:
        """Show a row of the log: step, speed, time left and the first few losses."""
        if row["phase"] != self.phase:
            self._begin(row)
        (self._draw if self.use_bar else self._print)(row)

    def _begin(self, row: dict[str, Any]) -> None:
        self.phase, self.started, self.first = row["phase"], time.monotonic(), row["step"]
        if not self.use_bar:
            return
        from tqdm import tqdm

        self.__exit__()
        self.bar = tqdm(
            total=row["of"], initial=row["step"], desc=f"{self.label} [{self.phase}]", unit="step",
            position=self.position, leave=False, dynamic_ncols=True, file=sys.stderr,
        )  # fmt: skip

    def _draw(self, row: dict[str, Any]) -> None:
        self.bar.set_postfix_str(losses(row), refresh=False)
        self.bar.update(row["step"] - self.bar.n)

    def _print(self, row: dict[str, Any]) -> None:
        now, last_row = time.monotonic(), row["step"] == row["of"]
        if now - self.last < INTERVAL and not last_row:
            return
        self.last = now
        speed = row["step"] / max(row["seconds"], 1e-9)
        left = (row["of"] - row["step"]) / speed
        print(
            f"{self.label} [{self.phase}] step {row['step']:,}/{row['of']:,}  {speed:.1f} steps/s  "
            f"{left:.0f} s left  {losses(row)}",
            file=sys.stderr,
            flush=True,
        )


def losses(row: dict[str, Any]) -> str:
    """Return the first few losses of a row: 'reconstruction=31.2 kl=12.0'."""
    pairs = [(k.removeprefix("loss/"), v) for k, v in row.items() if k.startswith("loss/")]
    return " ".join(f"{name}={'not finite' if value is None else f'{value:.4g}'}" for name, value in pairs[:SHOWN])
