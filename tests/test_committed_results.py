"""The pages of the committed results show what the committed rows give."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from benchmark.jobs.results import LAST, Record, ResultRow
from benchmark.registry import Registry
from benchmark.running import tuning

ROOT = Path(__file__).parent.parent
MNIST, STUDIES, SPRITES = (ROOT / "results" / name for name in ("mnist-cpu", "synthetic", "sprites"))
SIZE = 32  # latent size at which the settings were tuned


@pytest.mark.parametrize("options", [["1", "--published"], ["2"], ["3"], ["4"], ["cost"]], ids=lambda o: o[0])
def test_the_tables_of_mnist(options: list[str], flexbench):
    assert flexbench("table", *options, "--out", MNIST).stdout.strip() in (MNIST / "README.md").read_text()


def test_the_table_of_the_studies_and_the_numbers_of_figure_2(flexbench):
    page = (STUDIES / "README.md").read_text()
    assert flexbench("table", "1", "--out", STUDIES).stdout.strip() in page
    frame = pd.read_csv(
        STUDIES / "figures" / "2.csv"
    )  # written by `flexbench figure 2` when the training logs were here
    last = frame[(frame.step == 1000) & (frame.quantity == "critic_per_rms")].groupby("model").value
    assert all(f"{mean:.2f} ± {std:.2f}" in page for mean, std in zip(last.mean(), last.std(), strict=True))


def test_the_table_of_the_sprites(flexbench):
    assert flexbench("table", "3", "--out", SPRITES).stdout.strip() in (SPRITES / "README.md").read_text()


def trial_rows() -> list[ResultRow]:
    """The validation scores of seed 0 at the tuned latent size."""
    rows = Record(MNIST).rows
    return [r for r in rows if (r.family, r.checkpoint, r.seed, r.latent_dim) == (tuning.FAMILY, LAST, 0, SIZE)]


def setting(row: ResultRow, knob: str, default: object) -> str | None:
    """The value of a knob in a row, as text, or None if another knob differs from its default too."""
    given = dict(pair.split("=", 1) for pair in row.settings.split(", ") if pair)
    return given.get(knob, str(default)) if set(given) <= {knob} else None


def choices() -> list[tuning.Choice]:
    """What tuning chose, from the committed rows."""
    registry, found = Registry.load(), []
    for name in registry.targets:
        method = registry.get(name)
        for knob, values in method.tuning_grid.items():
            default = getattr(method.Config(), knob)
            scores = {setting(r, knob, default): r.value for r in trial_rows() if r.model == name}
            if set(map(str, values)) <= set(scores):
                trials = tuple(tuning.Trial(name, knob, value, ()) for value in values)
                found.append(tuning.Choice("mnist", method.title, trials, tuple(scores[str(v)] for v in values)))
    return found


def test_the_page_of_tuning_and_the_settings_file_show_the_choices():
    assert tuning.to_markdown(choices()) in (ROOT / "docs" / "tuning.md").read_text()
    settings = yaml.safe_load((MNIST / "tuned-mnist-cpu-m32.yml").read_text())
    assert settings == {choice.best.model: {choice.best.knob: choice.best.value} for choice in choices()}


def test_what_has_test_scores_is_what_was_chosen():
    registry = Registry.load()
    for choice in choices():
        best, default = choice.best, getattr(registry.get(choice.best.model).Config(), choice.best.knob)
        rows = [r for r in Record(MNIST).rows if r.family == "gen_fd" and r.model == best.model]
        values = {setting(row, best.knob, default) for row in rows}
        assert values - {None} == {str(best.value)}, best.model


@pytest.mark.parametrize("folder", [MNIST, STUDIES, SPRITES], ids=lambda f: f.name)
def test_the_pages_show_pictures_that_are_here(folder: Path):
    for link in re.findall(r"\]\(([^)#]+)\)", (folder / "README.md").read_text()):
        assert link.startswith("https://") or (folder / link).exists(), link


def test_nothing_is_committed_that_a_command_makes_again():
    kept = {".md", ".csv", ".json", ".png", ".yml", ".py"}
    assert {path.suffix for path in (ROOT / "results").glob("*-cpu/**/*") if path.is_file()} <= kept
    assert not list((ROOT / "results").glob("*-cpu/runs"))
