"""The pages about feature spaces and metrics: their code runs as it stands, and their files are complete plug-ins."""

from __future__ import annotations

import re
import runpy
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmark import metrics
from benchmark.data import open_dataset
from benchmark.evaluation import evaluator
from benchmark.evaluation.features import cached_features, spaces
from benchmark.evaluation.references import References
from benchmark.evaluation.scores import prd

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What a page registers is removed again."""
    for module, names in ((metrics, ("METRICS", "_origins", "_derived")),
                          (spaces, ("FEATURE_SPACES", "_origins", "_hashes"))):  # fmt: skip
        for name in names:
            monkeypatch.setattr(module, name, type(getattr(module, name))(getattr(module, name)))
    monkeypatch.setattr(evaluator, "METRICS", metrics.METRICS)
    monkeypatch.setattr(prd, "precision_recall", partial(prd.precision_recall, runs=2))  # 50 take seconds


def execute(page: str, folder: Path, monkeypatch) -> dict[str, dict]:
    """Save the page's files, those that begin with '# NAME.py', and run every block; what the files define."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    found = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        name = re.match(r"# (\w+)\.py\n", block)
        file = folder / (f"{name[1]}.py" if name else "block.py")
        file.write_text(block)
        values = runpy.run_path(str(file))
        if name:
            found[name[1]] = values
            monkeypatch.delitem(sys.modules, name[1], raising=False)
    return found


def test_the_page_about_feature_spaces(tmp_path, monkeypatch):
    files = execute("add_a_feature_space.md", tmp_path, monkeypatch)
    assert files.keys() == {"my_space", "my_network"}
    images = open_dataset("digits").test.images(0, 10)
    spaces.register(files["my_network"]["RANDOM"], "my_network.py")
    features = cached_features(spaces.feature_space("random-net"), images)
    assert features.shape == (10, spaces.FEATURE_SPACES["random-net"].dimension)
    assert np.array_equal(spaces.feature_space("random-net").embed(images), features)


def test_the_page_about_metrics(tmp_path, monkeypatch):
    files = execute("add_a_metric.md", tmp_path, monkeypatch)
    assert files.keys() == {"my_metric", "my_gap"}
    metrics.register(files["my_gap"]["GAP"], "my_gap.py")
    references = References(open_dataset("digits"), 40, spaces.feature_space("pixels"))
    scores = {s.metric: s.value for s in evaluator.score(references.test.images, references)}
    assert scores["feature_gap@pixels"] == 0 < scores["real_feature_gap@pixels"]


def test_the_tables_of_fields_name_fields():
    for page, cls in (("add_a_metric.md", metrics.Metric), ("add_a_feature_space.md", spaces.SpaceInfo)):
        section = re.search(r"^## (?:The fields|More options).*?\n(.*?)(?=^\| subject|^## )", (DOCS / page).read_text(),
                            re.DOTALL | re.MULTILINE)[1]  # fmt: skip
        first = [row.split(" | ")[0] for row in section.splitlines() if row.startswith("| `")]
        named = {name.partition("=")[0] for cell in first for name in re.findall(r"`([^`]+)`", cell)}
        assert named and named <= set(cls.__dataclass_fields__)
    subjects = re.findall(
        r'"(\w+)"', re.search(r"\| subject .*?\n\n", (DOCS / "add_a_metric.md").read_text(), re.DOTALL)[0]
    )
    assert set(subjects) == set(metrics.SUBJECTS)
