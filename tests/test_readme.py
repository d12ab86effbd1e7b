"""What the README shows is what a reader gets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLE = re.search(r"```python\n(# my_model\.py\n.*?)```", README, re.DOTALL)[1]


def section(name: str) -> str:
    """The text between two markers."""
    return re.search(rf"<!-- {name}.*?-->\n(.*?)<!-- /{name} -->", README, re.DOTALL)[1]


def cells(table: str) -> dict[str, list[float]]:
    """Numbers of a GitHub table by row."""
    rows = [line.strip("| ").replace("*", "").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {name: [float(v) for v in values] for name, *values in rows[1:]}


def test_the_example_model_is_short_and_keeps_the_contract(flexbench, tmp_path: Path):
    assert len(EXAMPLE.strip().splitlines()) < 30
    (tmp_path / "my_model.py").write_text(EXAMPLE)
    result = flexbench("check", tmp_path / "my_model.py")
    assert result.exit_code == 0, result.output


def test_the_table_is_what_the_demo_prints(demo: Path, flexbench):
    printed = cells(flexbench("table", "1", "--out", demo).output)
    shown = cells(section("demo"))
    assert shown.keys() == printed.keys()
    for row, values in shown.items():  # another processor rounds differently, so not to the last digit
        assert values == pytest.approx(printed[row], rel=0.05)


def test_the_mnist_table_is_the_committed_one():
    assert section("mnist").strip() in (ROOT / "results" / "mnist-cpu" / "README.md").read_text()


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(link: str):
    assert link.startswith("https://") or (ROOT / link).exists()
