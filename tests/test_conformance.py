"""The contract, for every model of the suite and one dataset, metric and feature space of each sort."""

from pathlib import Path

import pytest

from benchmark.conformance import CHECKS, run_checks
from benchmark.data import dataset_info
from benchmark.registry import Registry

REGISTRY = Registry.load()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("model", REGISTRY.targets)
def test_model_keeps_the_contract(model: str, check, tmp_path: Path):
    check(REGISTRY.get(model), tmp_path)  # raises Violation with what is wrong


def problems(noun: str, value: object) -> dict[str, str]:
    return {result.fact: result.problem for result in run_checks(noun, value) if result.problem}


@pytest.mark.parametrize("name", ["digits", "synthetic-mog"])
def test_datasets_of_the_suite_keep_the_contract(name: str):
    assert problems("dataset", dataset_info(name)) == {}


@pytest.mark.parametrize("family", ["gen_fd", "rec_mse", "prior_mismatch", "real_fd", "pms_gen_all"])
def test_metrics_of_the_suite_keep_the_contract(family: str):
    metrics = pytest.importorskip("benchmark.evaluation.references") and pytest.importorskip("benchmark.metrics")
    assert problems("metric", metrics.METRICS[family]) == {}


def test_a_broken_metric_is_named():
    pytest.importorskip("benchmark.evaluation.references")
    from benchmark.metrics import Metric

    draws = iter(range(9))
    broken = Metric("mine", "Mine", "lower", compute=lambda images, references: (float("nan"), 0.1)[0])
    assert "it returned nan" in problems("metric", broken)["computes a finite number"]
    random = Metric("mine", "Mine", "lower", compute=lambda images, references: next(draws))
    assert "fix all seeds" in problems("metric", random)["deterministic"]


@pytest.mark.parametrize("name", ["pixels", "coordinates", "efficientnet_lite0@64"])
def test_feature_spaces_of_the_suite_keep_the_contract(name: str):
    spaces = pytest.importorskip("benchmark.evaluation.features.spaces")
    assert problems("feature space", spaces.FEATURE_SPACES[name]) == {}


def test_a_broken_feature_space_is_named():
    spaces = pytest.importorskip("benchmark.evaluation.features.spaces")

    def build(device):
        return spaces.FunctionSpace("mine", {"when": object()}, lambda x: x.reshape(len(x), -1) - x.mean())

    found = problems("feature space", spaces.SpaceInfo("mine", "Mine", 7, build))
    assert "and 7 are declared" in found["features are finite float32"]
    assert "differ between batches" in found["independent of batch"]
    assert "is not JSON" in found["fingerprint is stable json"]
