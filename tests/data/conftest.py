"""Every test here gets an empty cache folder of its own."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FLEXBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def real_data_dir() -> Path:
    """A folder with the real MNIST files in torchvision's layout."""
    chosen = os.environ.get("FLEXBENCH_DATA_DIR")
    if not chosen:
        pytest.skip("FLEXBENCH_DATA_DIR is not set: no real MNIST files")
    return Path(chosen)
