"""The process of one job: its lock, its signals, and how it ends. The work itself is in `pipeline`.

Each job runs in a process of its own, so a crash of one job does not end the grid. Exit codes: 0 done, 1 failed, 2 a
mistake of the user or of the surroundings, 130 interrupted with the state saved.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from ..core.errors import DivergedError, FlexbenchError, Interrupted
from ..jobs.job import Job
from .pipeline import Pipeline, Task

log = logging.getLogger("benchmark")
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


def main(task: Task, environment: dict[str, str]) -> int:
    """Do a job in this process, with its folder locked, and return the exit code."""
    os.environ.clear()  # the host's; the command may have changed its own since it started the host
    os.environ.update(environment)
    job = Job.open(task.folder)
    worker = Worker(job, task)
    try:
        listen(worker)
        with job.lock(lambda: print(f"{job.label}: another process is at work on it; waiting", file=sys.stderr)):
            return worker.run()
    except Interrupted as stop:
        log.info("%s", stop)
        worker.pipeline.tracker.finish("KILLED")
        return 130
    finally:
        for number in INTERRUPTS:  # the job has ended, so there is nothing left to stop
            signal.signal(number, signal.SIG_IGN)


def listen(worker: Worker) -> None:
    """Install the signal handlers and unblock the interrupts that the host has blocked.

    Interrupts that came in the meantime are delivered now.
    """
    for number in INTERRUPTS:
        signal.signal(number, worker.stop)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)


def orphaned(parent: int) -> bool:
    """Whether the host, process `parent`, or its owner is gone; the owner holds the other end of stdin."""
    return os.getppid() != parent or (os.name != "nt" and bool(select.select([sys.stdin], [], [], 0)[0]))


class Worker:
    """Runs the pipeline of one job and turns every way to end into a state on disk and an exit code."""

    def __init__(self, job: Job, task: Task):
        self.job = job
        self.stopping = False
        self.parent = os.getppid()
        self.pipeline = Pipeline(job, task, lambda: self.stopping or orphaned(self.parent))

    def run(self) -> int:
        """Do the remaining work of the job and return the exit code."""
        log_to(self.job.folder / "log.txt")
        try:
            self.pipeline.run()
            return 0
        except FlexbenchError as error:
            log.info("refused: %s", error)
            print(f"Error: {self.job.label}: {error}", file=sys.stderr)
            self.pipeline.tracker.finish("FAILED")
            return 2
        except DivergedError as error:
            return self._fail(f"training diverged: {error}. Lower the learning rates, e.g. --set train.lr_factor=1")
        except Exception as error:  # a crash of one job is a state of that job, not the end of the grid
            log.info("%s", traceback.format_exc())
            return self._fail(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def stop(self, number: int, frame: Any) -> None:
        """Stop the job. While it trains, it saves a checkpoint after this step; else it has nothing to save.

        A Ctrl-C comes twice, from the terminal and from the parent. The second one must not disturb the stopping.
        """
        first, self.stopping = not self.stopping, True
        if first and not self.pipeline.training:
            raise Interrupted(f"stopped by signal {number}")

    def _fail(self, reason: str) -> int:
        self.pipeline.fail(reason)
        log.info("failed: %s", reason)
        print(f"{self.job.label}: failed: {reason}", file=sys.stderr)
        self.pipeline.tracker.finish("FAILED")
        return 1


def log_to(path: Path) -> None:
    """Send warnings to stderr; send them and the messages of the training loop to the job's log file."""
    terminal, file = logging.StreamHandler(), logging.FileHandler(path)
    terminal.setLevel(logging.WARNING)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(handlers=[terminal, file], level=logging.WARNING, force=True)
    log.setLevel(logging.INFO)
