"""What the README shows is what a reader gets."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import yaml

from benchmark import figure
from benchmark.jobs.job import Job, find_jobs
from benchmark.registry import Registry
from benchmark.running import tuning
from benchmark.running.runner import Request

ROOT = Path(__file__).parent.parent
RESULTS, STUDIES, SPRITES = (ROOT / "results" / name for name in ("mnist-cpu", "synthetic", "sprites"))
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


def test_the_readme_shows_the_command_of_make_demo():
    shown = shlex.split(section("demo").replace("\\\n", " ").replace("`", " "))
    command = ["flexbench", "run", *demo_options(), "--out", "results/demo"]
    assert any(shown[i : i + len(command)] == command for i in range(len(shown)))


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


def test_the_mnist_table_is_the_committed_one():
    assert section("mnist").strip() in (RESULTS / "README.md").read_text()


@pytest.mark.parametrize("options", [["1", "--published"], ["2"], ["3"], ["4"], ["cost"]], ids=lambda o: o[0])
def test_the_committed_tables_are_what_the_committed_runs_give(options: list[str], flexbench, tmp_path: Path):
    shutil.copytree(RESULTS / "runs", tmp_path / "runs")
    printed = flexbench("table", *options, "--out", tmp_path).stdout
    assert printed.strip() in (RESULTS / "README.md").read_text()


def test_the_committed_studies_are_what_the_committed_runs_give(flexbench, tmp_path: Path):
    shutil.copytree(STUDIES / "runs", tmp_path / "runs")
    page = (STUDIES / "README.md").read_text()
    assert flexbench("table", "1", "--out", tmp_path).stdout.strip() in page
    (frame,) = (plot.frame for plot in figure("2", tmp_path))
    pd.testing.assert_frame_equal(frame, pd.read_csv(STUDIES / "figures" / "2.csv"), check_dtype=False)
    last = frame[(frame.step == 1000) & (frame.quantity == "critic_per_rms")].groupby("model").value
    assert all(f"{mean:.2f} ± {std:.2f}" in page for mean, std in zip(last.mean(), last.std(), strict=True))


def test_the_committed_sizes_are_what_the_committed_runs_give(flexbench, tmp_path: Path):
    shutil.copytree(SPRITES / "runs", tmp_path / "runs")
    assert flexbench("table", "3", "--out", tmp_path).stdout.strip() in (SPRITES / "README.md").read_text()
    (frame,) = (plot.frame for plot in figure("dims", tmp_path))
    pd.testing.assert_frame_equal(frame, pd.read_csv(SPRITES / "figures" / "dims.csv"), check_dtype=False)


def test_the_committed_choices_are_those_of_the_committed_tries():
    """Every table row of docs/tuning.md, and the settings file, from the runs on disk."""
    registry, page = Registry.load(), (ROOT / "docs" / "tuning.md").read_text()
    jobs = [job for job in find_jobs(RESULTS) if job.config.seed == 0 and is_try(job, registry)]
    trials = []
    for name in registry.targets:
        for knob, values in registry.get(name).tuning_grid.items():
            found = [[j for j in jobs if j.config.model == name and j.config.method[knob] == v] for v in values]
            if all(found):
                trials += [tuning.Trial(name, knob, v, tuple(js)) for v, js in zip(values, found, strict=True)]
    choices = tuning.choose(trials, Request("all", "mnist", tracking_uri=None))
    assert tuning.to_markdown(choices) in page
    settings = yaml.safe_load((RESULTS / "tuned-mnist-cpu-m32.yml").read_text())
    assert settings == {choice.best.model: {choice.best.knob: choice.best.value} for choice in choices}
    for job in jobs:  # what has test scores is what was chosen
        chosen = settings.get(job.config.model, {}).items()
        if any(row["family"] == "gen_fd" for row in job.rows):
            assert all(job.config.method[knob] == value for knob, value in chosen)


def is_try(job: Job, registry: Registry) -> bool:
    """Whether nothing but the open setting differs from the defaults: an ablation or another latent size is no try."""
    method = registry.get(job.config.model)
    defaults = asdict(method.Config(latent_dim=32, width=job.config.train.width))
    return all(value == defaults[knob] for knob, value in job.config.method.items() if knob not in method.tuning_grid)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(link: str):
    assert link.startswith("https://") or (ROOT / link).exists()
