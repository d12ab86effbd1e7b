"""The page docs/add_a_model.md: each of its models keeps the contract, and its commands and links are right."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from benchmark.registry import MODEL_GROUP, Registry

PAGE = Path(__file__).parent.parent / "docs" / "add_a_model.md"
TEXT = PAGE.read_text()
MODELS = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TEXT, re.DOTALL))


def test_every_python_block_is_a_model():
    assert len(MODELS) == TEXT.count("```python") == 3


@pytest.mark.parametrize("file", MODELS)
def test_a_model_of_the_page_passes_the_check(file: str, flexbench, tmp_path: Path):
    (tmp_path / file).write_text(MODELS[file])
    result = flexbench("check", tmp_path / file)
    assert result.exit_code == 0 and result.output.count(": ok") == 7, result.output


def test_the_commands_of_the_page_are_right(flexbench, tmp_path: Path, monkeypatch):
    (tmp_path / "sparse_ae.py").write_text(MODELS["sparse_ae.py"])
    monkeypatch.chdir(tmp_path)
    check, run, table = (shlex.split(line)[1:] for line in TEXT.splitlines() if line.startswith("flexbench "))
    assert (check, table) == (["check", "sparse_ae.py"], ["table", "1"])
    planned = flexbench(*run, "--dry-run")
    assert planned.exit_code == 0 and "sparse-ae on digits" in planned.output, planned.output


def test_the_entry_point_is_the_one_that_the_registry_reads(tmp_path: Path):
    assert f'[project.entry-points."{MODEL_GROUP}"]' in TEXT
    (tmp_path / "sparse_ae.py").write_text(MODELS["sparse_ae.py"])
    assert Registry.load([tmp_path]).get("sparse-ae").__name__ == "SparseAE"


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", TEXT))
def test_links_lead_somewhere(link: str):
    assert (PAGE.parent / link).exists()
