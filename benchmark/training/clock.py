"""The wall time of a training phase, and when its next checkpoint is due."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from .callbacks import Schedule


class Clock:
    """Measures the wall time of a phase over all interruptions, and tells when the next checkpoint is due."""

    def __init__(self, spent: float, schedule: Schedule):
        self._start = time.perf_counter() - spent
        self._schedule = schedule
        self._last, self._save_seconds = time.perf_counter(), 0.0

    def seconds(self) -> float:
        """Return the seconds spent in this phase."""
        return time.perf_counter() - self._start

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Measure the writing of a checkpoint, which happens within the block."""
        started = time.perf_counter()
        yield
        self._last = time.perf_counter()
        self._save_seconds = self._last - started

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock within the block."""
        started = time.perf_counter()
        yield
        self._start += time.perf_counter() - started

    def checkpoint_due(self, step: int) -> bool:
        """Tell whether a checkpoint is due, by steps or by time.

        The interval is at least 20 times the duration of the last save, so saving takes at most about 5 % of the time.
        """
        every = self._schedule.checkpoint_steps
        interval = max(self._schedule.checkpoint_seconds, 20 * self._save_seconds)
        return bool(every and step % every == 0) or time.perf_counter() - self._last > interval
