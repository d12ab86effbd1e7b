"""The contract, for every registered model. `flexbench check` runs the same suite on a user's file."""

from pathlib import Path

import pytest

from benchmark.conformance import CHECKS
from benchmark.registry import Registry

REGISTRY = Registry.load()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("model", REGISTRY.targets)
def test_model_keeps_the_contract(model: str, check, tmp_path: Path):
    check(REGISTRY.get(model), tmp_path)  # raises Violation with what is wrong
