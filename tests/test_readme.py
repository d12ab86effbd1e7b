"""What the README shows is what a reader gets."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from benchmark.registry import Registry

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "mnist-cpu"
README = (ROOT / "README.md").read_text()
EXAMPLE = re.search(r"```python\n(# my_model\.py\n.*?)```", README, re.DOTALL)[1]


def section(name: str) -> str:
    """The text between two markers."""
    return re.search(rf"<!-- {name}.*?-->\n(.*?)<!-- /{name} -->", README, re.DOTALL)[1]


def cells(table: str) -> dict[str, list[float]]:
    """Scores of a GitHub table by row, without their marks and the mean rank."""
    plain = re.sub(r"\*|</?ins>", "", table)
    rows = [line.strip("| ").split(" | ") for line in plain.splitlines() if line.startswith("| ")]
    return {name: [float(v) for v in values[:2]] for name, *values in rows[1:]}


def test_the_example_model_is_short_and_keeps_the_contract(flexbench, tmp_path: Path):
    assert len(EXAMPLE.strip().splitlines()) < 30
    (tmp_path / "my_model.py").write_text(EXAMPLE)
    result = flexbench("check", tmp_path / "my_model.py")
    assert result.exit_code == 0, result.output


def demo_options() -> list[str]:
    """The options of the command by which `make demo` trains and scores."""
    value = re.search(r"^DEMO +:= ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    return shlex.split(value.replace("\\\n", " "))


def test_the_demo_table_has_the_models_and_the_protocol_of_make_demo(flexbench, tmp_path: Path):
    """The scores are compared in size only: training is chaotic, so another processor ends with other digits."""
    options = demo_options()
    planned = flexbench("run", *options, "-n", "--out", tmp_path).output
    assert "scored in pixels" in planned and "scored in pixels, 449 images" in section("demo")
    registry = Registry.load()
    titles = [registry.get(name).title for name in registry.match(options[options.index("--models") + 1])]
    shown = cells(section("demo"))
    assert [row.partition(" [")[0] for row in shown] == [*titles, "real images"]
    floor = shown.pop("real images")
    for row, values in shown.items():
        assert all(least < score < 100 for least, score in zip(floor, values, strict=True)), row


def test_the_readme_is_short():
    assert len(README.splitlines()) < 150


def test_the_mnist_table_is_the_committed_one():
    assert section("mnist").strip() in (RESULTS / "README.md").read_text()


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(link: str):
    assert link.startswith("https://") or (ROOT / link).exists()
