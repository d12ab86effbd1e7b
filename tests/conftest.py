"""Fixtures that several test files share. Nothing here touches the user's cache."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from benchmark import metrics
from benchmark.data import info
from benchmark.evaluation.features import spaces
from benchmark.running import processes

torch.set_num_threads(1)  # small tensors gain nothing from more, and lose much where the cores are busy
ROOT = Path(__file__).parent.parent
EVERY_MODEL = ["--models", "all", "--datasets", "digits", "--preset", "smoke", "--features", "pixels",
               "--images", "100"]  # fmt: skip
SMALL = [
    "--datasets",
    "digits",
    "--preset",
    "smoke",
    "--features",
    "pixels",
    "--images",
    "40",
    "--threads",
    "1",
]  # seconds per job


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of its own for the session; tests may set FLEXBENCH_CACHE to another one."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("FLEXBENCH_CACHE")
    os.environ["FLEXBENCH_CACHE"] = str(folder)
    yield folder
    os.environ.pop("FLEXBENCH_CACHE") if before is None else os.environ.update(FLEXBENCH_CACHE=before)


@pytest.fixture(scope="session", autouse=True)
def hosts() -> Iterator[None]:
    """Hosts serve all jobs of the session: they are not dismissed after each run, and have imported everything."""
    close, processes.close_idle_hosts = processes.close_idle_hosts, lambda: None
    processes.COMMON += ("timm", "mlflow")
    yield
    close()


# Files whose tests run whole jobs or train for long. `make check` leaves them out.
SLOW = ("test_cli.py", "test_vectors.py", "test_plugin.py", "test_package.py", "test_models.py", "test_conformance.py",
        "test_old_runs.py", "test_add_a_model.py", "running/", "baselines/", "flexae/",
        "reporting/test_report_browser.py", "reporting/test_modes.py", "reporting/test_figures.py")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests: those of the files in SLOW, and those that run the shared jobs."""
    for item in items:
        below = item.path.relative_to(ROOT).as_posix().removeprefix("tests/")
        if below.startswith(SLOW) or "demo" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def plug_ins() -> Iterator[None]:
    """Datasets, metrics and feature spaces that a test adds are removed again."""
    tables = [metrics.METRICS, metrics._origins, metrics._derived, info.DATASETS, info._origins, info._hashes,
              spaces.FEATURE_SPACES, spaces._origins, spaces._hashes]  # fmt: skip
    before = [table.copy() for table in tables]
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


@pytest.fixture(scope="session")
def flexbench() -> Callable[..., Result]:
    """The command line, in this process: flexbench("run", "--models", "vae", ...)."""
    from cli import main

    def call(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return call


@pytest.fixture(scope="session")
def demo(flexbench: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root with every model on digits: preset smoke, scored in pixels.

    Run once, by whichever of the session's processes needs it first; the others wait for it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    out = shared / "demo"
    with open(shared / "demo.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            result = flexbench("run", *EVERY_MODEL, "--jobs", "2", "--threads", "1", "--out", out)
            assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real datasets, or skip."""
    folder = os.environ.get("FLEXBENCH_DATA_DIR")
    if not folder:
        pytest.skip("FLEXBENCH_DATA_DIR is not set: no real MNIST at hand")
    return Path(folder)


# As root, without a screen, and without a word to anyone.
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium with a new profile, or skip."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("there is no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=CHROMIUM)
        yield chromium
        chromium.close()
