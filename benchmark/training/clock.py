"""The wall time of a training phase, and when its next checkpoint is due."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from .callbacks import Schedule


class Clock:
    """Wall time of a phase over all its interruptions, and when the next checkpoint is due."""

    def __init__(self, spent: float, schedule: Schedule):
        self._start = time.perf_counter() - spent
        self._schedule = schedule
        self._last, self._cost = time.perf_counter(), 0.0

    def seconds(self) -> float:
        """Seconds spent in this phase."""
        return time.perf_counter() - self._start

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Around the writing of a checkpoint."""
        started = time.perf_counter()
        yield
        self._last = time.perf_counter()
        self._cost = self._last - started

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is no training."""
        started = time.perf_counter()
        yield
        self._start += time.perf_counter() - started

    def checkpoint_due(self, step: int) -> bool:
        """By count or by time, whichever comes first; by time at most a twentieth of the run goes into writing."""
        every = self._schedule.checkpoint_steps
        interval = max(self._schedule.checkpoint_seconds, 20 * self._cost)
        return bool(every and step % every == 0) or time.perf_counter() - self._last > interval
