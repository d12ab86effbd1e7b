"""docs/models.md is what the registry says, and a card says what a reader needs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmark.method import Budget, DataSpec, MethodConfig
from benchmark.registry import BUILT_IN, Registry
from benchmark.reporting.cards import card, knob_comments, model_cards, prose

DATA, BUDGET = DataSpec("example", 1, 28), Budget(10, 8)
PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_page_is_made_by_the_command(flexbench):
    shown = flexbench("ls", "models", "-v")
    assert shown.exit_code == 0
    assert PAGE.read_text() == shown.output == model_cards()


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_card_names_paper_phases_optimizers_and_every_knob(name):
    method = Registry().get(name)
    text = card(method)
    assert text.startswith(f"## {method.title}\n")
    assert f"[{method.paper}]({method.url})" in text and "```\n" in text
    for phase in method(DATA, method.Config(width=0.05)).phases(BUDGET):
        assert f"| {phase.name} | " in text
    for field in dataclasses.fields(method.Config):
        if field.name not in {f.name for f in dataclasses.fields(MethodConfig)}:
            (line,) = (row for row in text.splitlines() if row.startswith(f"| `{field.name}` |"))
            assert line.split(" | ")[2].rstrip("| "), f"{field.name} is not explained"
    for knob in method.tuning_grid:
        assert f"The sources leave `{knob}` open." in text


def test_comments_of_knobs_are_read_from_the_source():
    @dataclasses.dataclass(frozen=True)
    class Config(MethodConfig):
        beta: float = 1.0  # weight of a | b
        lr_image_critic: float = 2e-4

    # the class stands inside a function, so its source is indented once more
    assert knob_comments(Config) == {"beta": "weight of a \\| b", "lr_image_critic": "learning rate of: image critic"}


def test_formulas_become_code_and_the_citation_is_not_repeated():
    text = """A. Author, "Title", 2020.

    Some words.

        L = 1

    More words.
    """
    assert list(prose(text)) == ["Some words.", "```\nL = 1\n```", "More words."]
