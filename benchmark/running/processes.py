"""The processes that do jobs, one each.

The import of torch, scikit-learn, timm and MLflow takes about a third of a short job's time (perf/start.py). On Linux,
a host process therefore imports them once and is forked for each job. On other systems the system libraries do not
survive a fork, so a host does one job itself and ends.

This is not the forkserver of `multiprocessing`, because that one is shared with the user's own program, imports the
user's main script again, and loses interrupts that arrive before a new process has set its handlers.
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

# Modules that every job needs. torch imports the last one when it makes its first optimizer.
COMMON = ("benchmark.api", "benchmark.training.loop", "benchmark.evaluation.evaluator", "sklearn.cluster",
          "sklearn.mixture", "torch._dynamo")  # fmt: skip

# The user's folder must not be on the path: a file there with the name of one of our modules would be imported.
PROGRAM = """import sys
sys.path[:] = filter(None, sys.path)
from benchmark.running.processes import serve
serve(sys.argv[1:])"""

# glibc returns a large block to the system as soon as it is freed. Fetching the memory again, page by page, takes much
# of the training time of a small network on the CPU (perf/malloc.py). 32 MiB is the largest threshold that older
# versions of glibc accept. Other C libraries ignore these names. The user's own values take precedence.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**32 - 1)}


class Host:
    """A host, as its owner sees it. Call `start` with a job, then `wait`, in turns."""

    def __init__(self, modules: Iterable[str] = ()):
        command = [sys.executable, "-c", PROGRAM, *((*COMMON, *modules) if FORKING else ())]
        with _signals_blocked():
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=KEEP_MEMORY | SETTINGS | os.environ
            )
        assert self._process.stdin is not None and self._process.stdout is not None  # both are pipes
        self._jobs, self._answers = self._process.stdin, self._process.stdout

    @property
    def usable(self) -> bool:
        """Whether the host can do another job."""
        return FORKING and self._process.poll() is None

    def start(self, task: Task) -> int | None:
        """Start a job; return the id of its process, or None where the host has died."""
        with contextlib.suppress(BrokenPipeError):
            pickle.dump((task, dict(os.environ)), self._jobs)
            self._jobs.flush()
        return self._reply()

    def wait(self) -> int:
        """Wait for the job's process and return its exit code; a negative code is the signal that killed it."""
        code = self._reply()
        return code if code is not None else self._process.wait() or 1

    def close(self) -> None:
        """End the host."""
        with contextlib.suppress(BrokenPipeError):
            self._jobs.close()
        self._process.wait()
        self._answers.close()

    def _reply(self) -> int | None:
        line = self._answers.readline()
        return int(line) if line else None


_idle: list[Host] = []


@contextlib.contextmanager
def borrow_host(modules: Iterable[str]) -> Iterator[Host]:
    """Lend a host for one job: an idle one, or a new one that also imports `modules`."""
    try:
        host = _idle.pop()
    except IndexError:
        host = Host(modules)
    yield host
    if host.usable:
        _idle.append(host)
    else:
        host.close()


def close_idle_hosts() -> None:
    """End the idle hosts."""
    while _idle:
        _idle.pop().close()


def serve(modules: Iterable[str]) -> None:
    """Run as a host: do the jobs that arrive on stdin, and answer each on stdout with its process id and exit code."""
    answers = os.dup(1)
    os.dup2(2, 1)  # the output of a model must not be taken for an answer
    for name in modules:
        with contextlib.suppress(Exception):  # a job that needs the module reports the error
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
    """Yield arguments of `worker.main` until the owner closes the pipe or dies. Only the owner can write to it."""
    with contextlib.suppress(EOFError):
        while True:
            yield pickle.load(sys.stdin.buffer)


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block interrupts for processes that are started within the block, and for their children, until they unblock.

    A Ctrl-C reaches every process of a group. A host must outlive its job, and the process of a job must not miss an
    interrupt that comes before it is ready.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
