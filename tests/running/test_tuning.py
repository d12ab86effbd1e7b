"""Choosing settings: which jobs, by which score, and what is written. No test image may have a say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from benchmark.core.errors import FlexbenchError
from benchmark.jobs.config import Overrides
from benchmark.jobs.job import EvaluationConfig, find_jobs
from benchmark.jobs.results import ResultRow
from benchmark.running import tuning
from benchmark.running.options import RunOptions
from tests.conftest import SMALL


def request(out, models="vae,flexae", **more) -> RunOptions:
    return RunOptions(
        models=models, datasets="digits", preset="smoke", space="pixels", images=40, out=out, tracking_uri=None, **more
    )


def scored(job, value, n=40):
    job.create()
    job.record([ResultRow(metric=f"gen_fd{n}_val@pixels", family="gen_fd_val", value=value, n_images=n, step=30,
                          protocol=1, space="pixels", hash=job.config.hash)])  # fmt: skip


def test_every_value_of_the_open_setting_is_tried_on_every_seed(tmp_path):
    trials, _, made = tuning.make_trials(request(tmp_path, seeds=(0, 1)))
    assert [(t.model, t.knob, t.value) for t in trials] == [("vae", "decoder_variance", v) for v in (0.5, 0.1, 0.02)]
    assert all([job.config.seed for job in one.jobs] == [0, 1] for one in trials)
    assert made.evaluation("digits") == EvaluationConfig("pixels", 40, "validation")


def test_models_without_an_open_setting_have_nothing_to_try(tmp_path):
    with pytest.raises(FlexbenchError, match="has an open setting"):
        tuning.make_trials(request(tmp_path, "flexae"))


def test_a_setting_cannot_be_given_and_tried(tmp_path):
    with pytest.raises(FlexbenchError, match=r"'vae\.decoder_variance' is the setting that is tuned"):
        tuning.make_trials(request(tmp_path, overrides=Overrides({"vae": {"decoder_variance": 1.0}})))


def test_several_latent_sizes_are_refused(tmp_path):
    with pytest.raises(FlexbenchError, match="one latent size"):
        tuning.make_trials(request(tmp_path, latent_dims=(8, 16)))


def test_the_lowest_mean_over_seeds_is_chosen(tmp_path):
    trials, _, made = tuning.make_trials(request(tmp_path, seeds=(0, 1)))
    for one, values in zip(trials, [(5, 5), (1, 7), (3, 6)], strict=True):
        for job, value in zip(one.jobs, values, strict=True):
            scored(job, value)
    (choice,) = tuning.choose(trials, made)
    assert choice.scores == (5, 4, 4.5)
    assert choice.best is trials[1]
    assert "0.5: 5, **0.1: 4**, 0.02: 4.5" in tuning.to_markdown([choice])


def test_a_try_that_failed_on_one_seed_is_never_chosen(tmp_path):
    trials, _, made = tuning.make_trials(request(tmp_path, seeds=(0, 1)))
    scored(trials[0].jobs[0], 1)
    trials[0].jobs[1].create()
    trials[0].jobs[1].fail(ResultRow(hash="x", status="failed", reason="training diverged"))
    for job in (*trials[1].jobs, *trials[2].jobs):
        scored(job, 9)
    (choice,) = tuning.choose(trials, made)
    assert choice.best is trials[1]
    assert "0.5: failed" in tuning.to_markdown([choice])
    assert tuning.Choice("digits", "VAE", tuple(trials[:1]), (float("inf"),)).best is None


def test_nothing_is_chosen_while_a_try_is_missing(tmp_path):
    trials, _, made = tuning.make_trials(request(tmp_path))
    for one in trials[:2]:
        scored(one.jobs[0], 1)
    (choice,) = tuning.choose(trials, made)
    assert choice.best is None
    assert "0.02: not scored" in tuning.to_markdown([choice]) and "**" not in tuning.to_markdown([choice])
    assert tuning.write_settings([choice], made) == []


def test_scores_of_different_numbers_of_images_are_not_compared(tmp_path):
    trials, _, made = tuning.make_trials(request(tmp_path))
    for one, n in zip(trials, (40, 40, 20), strict=True):
        scored(one.jobs[0], 1, n)
    with pytest.raises(FlexbenchError, match="different numbers of images"):
        tuning.choose(trials, made)
    scored(trials[2].jobs[0], 0.5, 40)
    scored(trials[0].jobs[0], 0.1, 20)
    (choice,) = tuning.choose(trials, made)
    assert choice.scores == (1, 1, 0.5)


def test_settings_of_models_tried_earlier_are_kept(tmp_path):
    (tmp_path / "tuned-digits-smoke-m16.yml").write_text("alae: {lr: 1}\nvae: {decoder_variance: 9}\n")
    trials, _, made = tuning.make_trials(request(tmp_path))
    for one, value in zip(trials, (3, 2, 1), strict=True):
        scored(one.jobs[0], value)
    (path,) = tuning.write_settings(tuning.choose(trials, made), made)
    assert yaml.safe_load(path.read_text()) == {"alae": {"lr": 1}, "vae": {"decoder_variance": 0.02}}


def test_the_file_holds_the_other_settings_of_the_tries_and_is_one_per_budget(tmp_path):
    overrides = Overrides({"vae": {"beta": 2.0}, "train": {"steps": 7}, "flexae": {"penalty": 1.0}})
    trials, _, made = tuning.make_trials(request(tmp_path, overrides=overrides))
    for one in trials:
        scored(one.jobs[0], 1)
    (path,) = tuning.write_settings(tuning.choose(trials, made), made)
    assert path.name == "tuned-digits-smoke-steps=7-m16.yml"
    assert yaml.safe_load(path.read_text()) == {
        "train": {"steps": 7}, "vae": {"beta": 2.0, "decoder_variance": 0.5}
    }  # fmt: skip


def test_a_whole_evaluation_holds_the_validation_score():
    whole = EvaluationConfig("pixels", 40)
    part = replace(whole, scores="validation")
    assert whole.covered_by([whole.key]) and not whole.covered_by([part.key])
    assert part.covered_by([part.key]) and part.covered_by([whole.key])
    assert not part.covered_by([EvaluationConfig("pixels", 41).key])
    assert part.key != whole.key


def test_tune_then_run_trains_nothing_twice_and_scores_the_same(flexbench, tmp_path):
    tuned = flexbench("tune", "--models", "vae", *SMALL, "--out", tmp_path, "--no-tracking")
    assert tuned.exit_code == 0, tuned.output
    assert "| digits | VAE | decoder_variance |" in tuned.output
    jobs = {job.config.method["decoder_variance"]: job for job in find_jobs(tmp_path)}
    assert set(jobs) == {0.5, 0.1, 0.02}
    assert all([row.family for row in job.rows] == ["gen_fd_val"] for job in jobs.values())
    (settings,) = tmp_path.glob("tuned-digits-smoke*.yml")
    chosen = jobs[yaml.safe_load(settings.read_text())["vae"]["decoder_variance"]]
    validation, written = chosen.rows[0].value, (chosen.folder / "model.safetensors").stat().st_mtime_ns

    ran = flexbench("run", "--models", "vae", *SMALL, "--out", tmp_path, "--no-tracking", "--config", settings)
    assert ran.exit_code == 0 and "to score" in ran.output, ran.output
    scores = {row.family: row.value for row in chosen.rows}
    assert scores["gen_fd_val"] == validation
    assert "gen_fd" in scores
    assert (chosen.folder / "model.safetensors").stat().st_mtime_ns == written
    table = flexbench("table", "1", "--out", tmp_path).output
    assert table.count("| VAE") == 1  # the other two trials have no test scores, so no row

    again = flexbench("tune", "--models", "vae", *SMALL, "--out", tmp_path, "--no-tracking")
    assert again.output.count("\n  done ") == 3
    assert flexbench("ls", "runs", "-v", "--out", tmp_path).output.count("diagnostics: rms_code") == 3


def test_an_added_metric_asks_for_scores_anew_and_its_evaluation_holds_the_suites_own(monkeypatch):
    plain = EvaluationConfig("pixels", 40)
    key = plain.key
    monkeypatch.setattr("benchmark.jobs.job.added_key", lambda: "abc")
    assert plain.key != key and not plain.covered_by([key])
    larger = plain.key
    assert replace(plain, scores="validation").covered_by([key])
    monkeypatch.undo()
    assert plain.covered_by([larger])
