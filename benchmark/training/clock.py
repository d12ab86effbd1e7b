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
        self._last, self._cost = time.perf_counter(), 0.0

    def seconds(self) -> float:
        """Return the seconds spent in this phase."""
        return time.perf_counter() - self._start

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Measure the writing of a checkpoint, which happens within the block."""
        started = time.perf_counter()
        yield
        self._last = time.perf_counter()
        self._cost = self._last - started

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock within the block."""
        started = time.perf_counter()
        yield
        self._start += time.perf_counter() - started

    def checkpoint_due(self, step: int) -> bool:
        """Tell whether a checkpoint is due, by steps or by time. Writing takes at most a twentieth of the time."""
        every = self._schedule.checkpoint_steps
        interval = max(self._schedule.checkpoint_seconds, 20 * self._cost)
        return bool(every and step % every == 0) or time.perf_counter() - self._last > interval
