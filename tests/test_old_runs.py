"""Runs that an older version made are read by every command, and `run` finds them done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import benchmark
from benchmark.jobs.results import Record

OLD = Path(__file__).parent / "old_runs"
GRID = ["--datasets", "digits", "--preset", "smoke", "--features", "pixels", "--images", "40", "--width", "0.03125",
        "--steps", "4", "--no-tracking"]  # fmt: skip


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the old output root."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but locks."""
    found = (p for p in folder.rglob("*") if p.is_file() and "lock" not in p.name)
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


@pytest.mark.parametrize("command", [["table"], ["ls", "runs", "-v"]], ids=lambda words: words[0])
def test_reading_commands_show_old_runs_and_write_nothing(command: list[str], old: Path, flexbench):
    before = files(old)
    result = flexbench(*command, "--out", old)
    assert result.exit_code == 0, result.output
    assert "WAE-GAN" in result.output or "wae-gan" in result.output
    assert files(old) == before


def test_old_logs_and_diagnostics_have_the_names_of_today(old: Path, flexbench):
    shown = flexbench("ls", "runs", "-v", "--out", old).output
    assert "adv_loss" in shown and "disc_loss" in shown and "diagnostics: rms_code" in shown
    assert "fooled" not in shown and "discriminator" not in shown


def test_figures_and_report_show_old_runs(old: Path, flexbench):
    result = flexbench("figure", "pareto", "curves", "--format", "png", "--out", old)
    assert result.exit_code == 0, result.output
    assert flexbench("report", "--out", old).exit_code == 0
    assert "WAE-GAN" in (old / "report.html").read_text()


def test_an_old_model_is_loaded(old: Path):
    (folder,) = old.glob("runs/digits/wae-gan/*")
    assert benchmark.load(folder).sample(2).shape == (2, 1, 8, 8)


def test_old_runs_are_done_and_the_failed_one_has_failed(old: Path, flexbench):
    command = ["run", "--models", "vae,wae-gan", *GRID, "--out", old]
    before = {name: content for name, content in files(old).items() if name.startswith("runs/")}
    result = flexbench(*command)
    assert result.exit_code == 0 and "2 jobs: 2 done" in result.output, result.output
    assert {name: content for name, content in files(old).items() if name.startswith("runs/")} == before
    failed = flexbench("run", "--models", "vae", "--seeds", "1", *GRID, "--set", "train.lr_factor=1e30", "--out", old)
    assert "failed" in failed.output and "is not finite at step 1" in failed.output


def test_the_migrated_record_alone_is_as_good(old: Path, flexbench, tmp_path: Path):
    rows = {(r.hash, r.checkpoint, r.metric, r.value) for r in Record(old).rows}
    Record(old).reconcile()
    (tmp_path / "alone").mkdir()
    shutil.copy(old / "results.csv", tmp_path / "alone")
    assert {(r.hash, r.checkpoint, r.metric, r.value) for r in Record(tmp_path / "alone").rows} == rows
    result = flexbench("run", "--models", "vae,wae-gan", *GRID, "--out", tmp_path / "alone")
    assert "2 jobs: 2 done" in result.output and not (tmp_path / "alone" / "runs").exists(), result.output
    assert flexbench("table", "1", "--out", tmp_path / "alone").stdout == flexbench("table", "1", "--out", old).stdout
