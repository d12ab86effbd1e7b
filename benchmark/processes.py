"""The processes that do jobs, one each.

To import torch, scikit-learn, timm and MLflow takes longer than the work of a short job (perf/start.py). So on Linux
they are imported once, by a server that each job's process is forked from. Elsewhere the system's own libraries do not
bear forking, and each process starts from nothing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

from . import worker

FORKING = sys.platform == "linux"
CONTEXT = multiprocessing.get_context("forkserver" if FORKING else "spawn")

# What every job needs; the last one is imported by the first optimizer that torch makes.
COMMON = ("benchmark.api", "benchmark.harness", "benchmark.evaluation.evaluator", "sklearn.cluster", "sklearn.mixture",
          "torch._dynamo")  # fmt: skip

# glibc hands a large block back to the system as soon as it is freed, and fetching it anew, page by page, takes a good
# part of a small network's time on the CPU (perf/malloc.py). 32 MiB is the largest threshold that its older versions
# accept; other C libraries ignore these names. A user's own values come first.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**32 - 1)}

_CHANGING = threading.Lock()  # held to start or to join: a start looks for ended processes, and an end is read once


def prepare(modules: Iterable[str] = ()) -> None:
    """Start the server, with `modules` imported beside the common ones; nothing where it runs or is not used."""
    if not FORKING:
        return
    if sys.version_info >= (3, 11):  # before, the server could not be kept from importing the user's files
        CONTEXT.set_forkserver_preload([*COMMON, *modules])
    resource_tracker.ensure_running()  # first, since it unblocks the signals
    with _environment({**KEEP_MEMORY, **os.environ, "PYTHONSAFEPATH": "1"}), _signals_blocked():
        forkserver.ensure_running()


def start(folder: Path, options: worker.WorkerOptions) -> BaseProcess:
    """Start the process that does the job of `folder`."""
    process = CONTEXT.Process(target=worker.main, args=(folder, options, dict(os.environ)))
    with _CHANGING, _without_main():
        process.start()
    return process


def wait_for(process: BaseProcess) -> int:
    """The exit code of a process, once it has ended; negative: the signal that killed it."""
    connection.wait([process.sentinel])
    with _CHANGING:
        process.join()
    return process.exitcode


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the program. Each process would run it anew to find its functions there, and a script would start again."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Another environment, for what is started meanwhile."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """What is started meanwhile, and what is forked from it, gets no interrupt until it asks for them.

    A Ctrl-C, or the end of an allocation, reaches every process of a group: the server must outlive its workers, and
    a worker that is not ready yet must not miss it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
