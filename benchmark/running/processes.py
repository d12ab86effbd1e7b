"""The processes that do jobs, one each.

To import torch, scikit-learn, timm and MLflow takes about a third of a short job's time (perf/start.py). So on Linux a
host process imports them once and is forked for each job. Elsewhere the system's own libraries do not bear forking: a
host does one job itself, and ends.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator

from . import worker
from .pipeline import Task
from .tracking import SETTINGS

FORKING = sys.platform == "linux"

# What every job needs; the last one is imported by the first optimizer that torch makes.
COMMON = ("benchmark.api", "benchmark.training.loop", "benchmark.evaluation.evaluator", "sklearn.cluster",
          "sklearn.mixture", "torch._dynamo")  # fmt: skip

# The user's folder is not put on the path: a file there named like one of our modules would be imported instead.
PROGRAM = """import sys
sys.path[:] = filter(None, sys.path)
from benchmark.running.processes import serve
serve(sys.argv[1:])"""

# glibc hands a large block back to the system as soon as it is freed, and fetching it anew, page by page, takes a good
# part of a small network's time on the CPU (perf/malloc.py). 32 MiB is the largest threshold that its older versions
# accept; other C libraries ignore these names. A user's own values come first.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**32 - 1)}


class Host:
    """A host as its owner sees it: give it a job by `start`, then `wait`, one after the other."""

    def __init__(self, modules: Iterable[str] = ()):
        command = [sys.executable, "-c", PROGRAM, *((*COMMON, *modules) if FORKING else ())]
        with _signals_blocked():
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=KEEP_MEMORY | SETTINGS | os.environ
            )

    @property
    def usable(self) -> bool:
        """Whether it can be given another job."""
        return FORKING and self._process.poll() is None

    def start(self, task: Task) -> int | None:
        """Start a job; return the id of its process, or None where the host has died."""
        with contextlib.suppress(BrokenPipeError):
            pickle.dump((task, dict(os.environ)), self._process.stdin)
            self._process.stdin.flush()
        return self._reply()

    def wait(self) -> int:
        """The exit code of the job's process, once it has ended; negative: the signal that killed it, or its host."""
        code = self._reply()
        return code if code is not None else self._process.wait() or 1

    def close(self) -> None:
        """End the host, which waits for no further job."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _reply(self) -> int | None:
        line = self._process.stdout.readline()
        return int(line) if line else None


_idle: list[Host] = []


@contextlib.contextmanager
def hosted(modules: Iterable[str]) -> Iterator[Host]:
    """A host for one job: an idle one, or a new one that imports `modules` beside what every job needs."""
    try:
        host = _idle.pop()
    except IndexError:
        host = Host(modules)
    yield host
    if host.usable:
        _idle.append(host)
    else:
        host.close()


def dismiss() -> None:
    """End the hosts that are idle."""
    while _idle:
        _idle.pop().close()


def serve(modules: Iterable[str]) -> None:
    """Be a host: do the jobs that come in on stdin, and answer each on stdout with its process's id and exit code."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what a model prints is no answer
    for name in modules:
        with contextlib.suppress(Exception):  # a job that needs it will say so
            importlib.import_module(name)
    for job in _jobs():
        child = os.fork() if FORKING else os.getpid()
        if child == 0:
            os.close(answers)
            sys.exit(worker.main(*job))
        os.write(answers, b"%d\n" % child)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if FORKING else worker.main(*job)
        os.write(answers, b"%d\n" % code)
        if not FORKING:
            return


def _jobs() -> Iterator[tuple]:
    """Arguments of `worker.main`, until the owner closes the pipe or is gone. Only the owner can write to it."""
    with contextlib.suppress(EOFError):
        while True:
            yield pickle.load(sys.stdin.buffer)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """What is started meanwhile, and what is forked from it, gets no interrupt until it asks for them.

    A Ctrl-C, or the end of an allocation, reaches every process of a group: a host must outlive its job, and a job's
    process that is not ready yet must not miss it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
