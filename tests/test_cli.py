"""The command line as a user types it: what it does, and how it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark.registry import BUILT_IN
from tests.conftest import EVERY_MODEL, SMALL

MNIST_FILES = ("train-images", "train-labels", "t10k-images", "t10k-labels")


def runs_of(out: Path) -> list[Path]:
    return sorted(path.parent for path in out.glob("runs/*/*/*/config.json"))


def test_the_installed_command_shows_its_help_without_importing_torch():
    code = (
        "import sys; from cli import main; main(['--help'], standalone_mode=False); assert 'torch' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for command in ("run", "table", "figure", "report", "evaluate", "sample", "ls", "check", "data", "ui"):
        assert f"\n  {command} " in shown


def test_demo_leaves_every_promised_file(demo: Path):
    assert len(runs_of(demo)) == len(BUILT_IN)
    for run in runs_of(demo):
        present = {path.name for path in run.iterdir()}
        assert present >= {
            "config.json", "provenance.json", "train.jsonl", "metrics.jsonl", "log.txt", "model.safetensors",
            "samples.png", "reconstructions.png", "training.json", "done",
        }  # fmt: skip
        assert Image.open(run / "samples.png").size[0] >= 8 * 48
    assert (demo / "results.csv").exists()


def test_every_row_stands_alone(demo: Path):
    from benchmark.jobs.results import COLUMNS

    for run in runs_of(demo):
        for line in (run / "metrics.jsonl").read_text().splitlines():
            assert json.loads(line).keys() == set(COLUMNS)


def test_the_same_command_again_runs_nothing(demo: Path, flexbench):
    before = {path: path.stat().st_mtime_ns for run in runs_of(demo) for path in run.iterdir()}
    result = flexbench("run", *EVERY_MODEL, "--out", demo)
    assert result.exit_code == 0 and f"{len(BUILT_IN)} jobs: {len(BUILT_IN)} done" in result.output
    assert before == {path: path.stat().st_mtime_ns for run in runs_of(demo) for path in run.iterdir()}


def test_a_trained_model_is_scored_in_another_space_without_training(flexbench, tmp_path: Path):
    out = ["--out", tmp_path, "--no-tracking"]
    assert flexbench("run", "--models", "vae", *SMALL, *out).exit_code == 0
    (run,) = runs_of(tmp_path)
    weights = (run / "model.safetensors").stat().st_mtime_ns
    other = [word if word != "40" else "50" for word in SMALL]
    assert "to score" in flexbench("run", "--models", "vae", *other, *out, "-n").output
    assert flexbench("run", "--models", "vae", *other, *out).exit_code == 0
    assert (run / "model.safetensors").stat().st_mtime_ns == weights
    refused = flexbench("table", "1", "--out", tmp_path)
    assert refused.exit_code == 2 and "--images" in refused.output
    assert flexbench("table", "1", "--out", tmp_path, "--images", "50").exit_code == 0


def test_scores_in_training_leave_the_last_ones_alone(flexbench, tmp_path: Path):
    words = ["run", "--models", "ae-gmm", *SMALL, "--no-tracking"]
    assert flexbench(*words, "--out", tmp_path / "plain").exit_code == 0
    assert flexbench(*words, "--out", tmp_path / "followed", "--score-every", "10").exit_code == 0
    plain, followed = (pd.read_csv(tmp_path / name / "results.csv") for name in ("plain", "followed"))
    values = ["metric", "value", "step"]
    pd.testing.assert_frame_equal(followed[followed.checkpoint == "last"][values].reset_index(drop=True), plain[values])
    early = followed[followed.checkpoint != "last"]
    assert sorted(zip(early.step, early.family, strict=True)) == [
        (step, family) for step in (10, 20) for family in ("gen_fd", "gen_fd_val", "prior_mismatch", "rec_fd")
    ]
    spent = followed[followed.family == "gen_fd"].set_index("step").train_flops
    assert spent[10] * 3 == spent[20] * 1.5 == spent[30]
    for option in (["--select", "best_val"], ["--select", "oracle"], ["--budget-by", "flops"]):
        assert "| AE+GMM |" in flexbench("table", "1", *option, "--out", tmp_path / "followed").output


def test_dry_run_shows_the_jobs_and_writes_none(flexbench, tmp_path: Path):
    result = flexbench("run", "--models", "vae,flexae*", *SMALL, "--seeds", "0-2", "--out", tmp_path, "-n")
    assert result.exit_code == 0
    assert result.output.startswith("9 jobs") and result.output.count("  new ") == 9
    assert not runs_of(tmp_path)


def test_tables_show_every_model_and_the_floor(demo: Path, flexbench):
    for number in ("1", "2", "4"):
        text = flexbench("table", number, "--out", demo).output
        for title in ("VAE", "WAE-GAN", "FlexAE", "FlexAE-SR", "real images"):
            assert f"\n| {title} |" in text
    csv = flexbench("table", "1", "--format", "csv", "--out", demo).output
    assert csv.startswith("table,model,dataset,score,mean,std,seeds,rank,mark\n1,VAE,digits,Rec.,")


def test_table_imports_no_torch(demo: Path):
    code = (
        "import sys; from cli import main; main(['table', '--out', sys.argv[1]], standalone_mode=False); "
        "assert 'torch' not in sys.modules and 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(demo)], check=True, capture_output=True)


def test_sample_draws_a_grid_or_single_files_and_repeats_itself(demo: Path, flexbench, tmp_path: Path):
    run = runs_of(demo)[0]
    assert flexbench("sample", run, "-n", "9", "--out", tmp_path / "a.png").exit_code == 0
    assert flexbench("sample", run, "-n", "9", "--out", tmp_path / "b.png").exit_code == 0
    assert flexbench("sample", run, "-n", "9", "--seed", "1", "--out", tmp_path / "c.png").exit_code == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c
    assert flexbench("sample", run, "-n", "5", "--out", tmp_path / "many").exit_code == 0
    assert len(list((tmp_path / "many").glob("*.png"))) == 5


def test_evaluate_a_run_gives_the_scores_of_its_rows(demo: Path):
    run = runs_of(demo)[0]
    words = [sys.executable, "-m", "cli", "evaluate", str(run), "--features", "pixels", "--images", "100"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # like the worker: sums round differently with more
    result = subprocess.run(words, capture_output=True, text=True, check=True, env=one_thread)
    shown = dict(line.split("\t") for line in result.stdout.splitlines())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert float(shown[row["metric"]]) == pytest.approx(row["value"], rel=1e-5)


def test_evaluate_a_folder_of_real_images_comes_near_the_floor(flexbench, tmp_path: Path):
    from benchmark.data import open_dataset
    from benchmark.evaluation.images import save_images

    save_images(open_dataset("digits").train.images(0, 100), tmp_path / "pictures")
    (tmp_path / "pictures" / "broken.png").write_bytes(b"not an image")
    result = flexbench("evaluate", tmp_path / "pictures", "--dataset", "digits", "--features", "pixels")
    assert result.exit_code == 0, result.output
    assert "1 unreadable image" in result.stderr
    shown = {name: float(v) for name, v in (line.split("\t") for line in result.stdout.splitlines())}
    assert shown["gen_fd100_test@pixels"] < 2 * shown["real_fd100_test@pixels"]
    assert shown["gen_recall_f8@pixels"] > 0.8


@pytest.mark.parametrize("what", ["models", "datasets", "metrics", "features", "runs"])
def test_ls(what: str, demo: Path, flexbench):
    result = flexbench("ls", what, "--out", demo)
    assert result.exit_code == 0
    expected = {
        "models": "wae-gan",
        "datasets": "celeba140",
        "metrics": "gen_fd",
        "features": "inception",
        "runs": "done",
    }
    assert expected[what] in result.output and len(result.output.splitlines()) >= 5


def test_data_prepare_tells_the_splits(flexbench):
    result = flexbench("data", "prepare", "digits")
    assert result.exit_code == 0 and "1,190 train, 158 validation, 449 test" in result.output


def test_a_folder_dataset_trains(flexbench, tmp_path: Path):
    rng = np.random.default_rng(0)
    for i in range(60):
        picture = rng.integers(0, 255, (20 + i % 3, 24, 3), dtype=np.uint8)
        (tmp_path / "cats").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "cats" / f"{i}.png")
    result = flexbench(
        "run", "--models", "vae", "--datasets", f"folder:{tmp_path / 'cats'}", "--image-size", "16",
        "--preset", "smoke",
        "--features", "pixels", "--out", tmp_path / "out", "--no-tracking", "--latent-dim", "4",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    (run,) = runs_of(tmp_path / "out")
    assert run.parts[-3] == "folder-cats"
    assert json.loads((run / "config.json").read_text())["data"]["size"] == 16


def test_settings_change_the_run_and_its_row(flexbench, tmp_path: Path):
    settings = tmp_path / "settings.yml"
    settings.write_text("train: {steps: 7}\nvae: {decoder_variance: 1.0}\n")
    out = ["--out", tmp_path, "--no-tracking"]
    for extra in ([], ["--config", settings, "--set", "vae.beta=2"]):
        assert flexbench("run", "--models", "vae", *SMALL, *out, *extra).exit_code == 0
    listed = flexbench("ls", "runs", "--out", tmp_path).output
    assert "smoke[steps=7]" in listed
    refused = flexbench("table", "1", "--out", tmp_path)
    assert refused.exit_code == 2 and "--preset with one: smoke, smoke[steps=7]" in refused.output
    shown = flexbench("table", "1", "--out", tmp_path, "--preset", "smoke[steps=7]").output
    assert "| VAE [beta=2.0, decoder_variance=1.0] |" in shown


def test_parallel_jobs_give_the_same_scores(flexbench, tmp_path: Path):
    scores = []
    for jobs in ("1", "2"):
        out = tmp_path / jobs
        words = ["--seeds", "0,1", "--threads", "1", "--jobs", jobs, "--out", out]
        result = flexbench("run", "--models", "vae", *SMALL, *words)
        assert result.exit_code == 0, result.output
        assert all((run / "tracking.json").exists() for run in runs_of(out))
        rows = [json.loads(x) for run in runs_of(out) for x in (run / "metrics.jsonl").read_text().splitlines()]
        scores.append([(row["seed"], row["metric"], row["value"]) for row in rows])
    assert scores[0] == scores[1]


def test_a_diverging_job_fails_with_its_reason_and_is_tried_again_on_demand(flexbench, tmp_path: Path):
    wild = ["run", "--models", "vae", *SMALL, "--set", "train.lr_factor=1e30", "--out", tmp_path, "--no-tracking"]
    first = flexbench(*wild)
    assert first.exit_code == 1 and "1 jobs: 1 failed" in first.output
    (run,) = runs_of(tmp_path)
    reason = json.loads((run / "failed").read_text())["reason"]
    assert "loss 'main' is not finite at step 1 of phase 'train'" in reason
    assert not (run / "checkpoint").exists()
    again = flexbench(*wild)
    assert again.exit_code == 1 and "--retry-failed" in again.output
    retried = flexbench(*wild, "--retry-failed")
    assert retried.exit_code == 1 and "  to retry " in retried.output


def test_force_trains_anew_but_not_under_a_process_at_work(flexbench, tmp_path: Path):
    from benchmark.jobs.job import Job

    command = ["run", "--models", "vae", *SMALL, "--steps", "3", "--out", tmp_path, "--no-tracking"]
    assert flexbench(*command).exit_code == 0
    (run,) = runs_of(tmp_path)
    trained = (run / "training.json").stat().st_mtime_ns
    with Job.open(run).lock():
        check_refusal(flexbench(*command, "--force"), ["another process is at work"])
    assert (run / "training.json").stat().st_mtime_ns == trained
    assert flexbench(*command, "--force").exit_code == 0
    assert (run / "training.json").stat().st_mtime_ns > trained


def test_a_folder_too_small_to_score_is_refused_before_training(flexbench, tmp_path: Path):
    (tmp_path / "few").mkdir()
    for i in range(30):
        Image.fromarray(np.full((16, 16), i, dtype=np.uint8)).save(tmp_path / "few" / f"{i}.png")
    result = flexbench("run", "--models", "vae", "--datasets", f"folder:{tmp_path / 'few'}", "--out", tmp_path / "out")
    check_refusal(result, ["few", "10 are needed"])
    assert not runs_of(tmp_path / "out")


def test_files_of_the_users_folder_are_not_imported(tmp_path: Path):
    (tmp_path / "benchmark.py").write_text("raise RuntimeError('imported from the current folder')")
    script = Path(sys.executable).parent / "flexbench"
    words = [script, "run", "--models", "vae", *SMALL, "--steps", "2", "--no-tracking"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("space, modules", [("pixels", set()), ("efficientnet_lite0@40", {"timm"})])
def test_what_is_imported_beforehand_follows_the_feature_space(space: str, modules: set[str]):
    from benchmark.running.options import RunOptions
    from benchmark.running.runner import slow_modules

    assert (
        slow_modules(RunOptions(models="vae", datasets="digits", space=space, tracking_uri=None), ["digits"]) == modules
    )


def test_a_script_runs_jobs_and_is_not_run_by_them(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import benchmark\nprint('begins')\n"
        "frame = benchmark.run('vae', 'digits', preset='smoke', space='pixels', images=40, out='out', "
        "tracking_uri=None)\nprint(len(frame) > 10)\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "begins\nTrue\n"), done.stderr


def test_a_damaged_run_does_not_hide_the_others(demo: Path, flexbench, tmp_path: Path):
    shutil.copytree(demo / "runs", tmp_path / "runs")
    (runs_of(tmp_path)[0] / "config.json").write_text("{")
    result = flexbench("ls", "runs", "--out", tmp_path)
    assert result.exit_code == 0 and result.output.count("done  ") == len(BUILT_IN)
    assert result.output.count("(not here)") == 1  # the scores of the damaged run are whole, its folder is no run
    assert "config.json" in result.stderr


BAD = {
    "model": (["run", "--models", "vea", *SMALL], ["'vea'", "Did you mean 'vae'", "flexbench ls models"]),
    "dataset": (["run", "--models", "vae", "--datasets", "minst"], ["'minst'", "Did you mean 'mnist'"]),
    "preset": (["run", "--models", "vae", "--datasets", "digits", "--preset", "gpu"], ["'gpu'", "cpu", "paper"]),
    "key": (["run", "--models", "vae", *SMALL, "--set", "vae.bta=2"], ["'vae.bta'", "vae.beta"]),
    "section": (["run", "--models", "vae", *SMALL, "--set", "vea.beta=2"], ["'vea'", "vae"]),
    "value": (["run", "--models", "vae", *SMALL, "--set", "vae.beta=high"], ["vae.beta", "'high'", "float"]),
    "range": (["run", "--models", "vae", *SMALL, "--set", "vae.beta=-1"], ["vae.beta is -1.0", "at least 0"]),
    "models": (["run", "--models", ",", *SMALL], ["no model given", "flexbench ls models"]),
    "form": (["run", "--models", "vae", *SMALL, "--set", "beta"], ["'beta'", "MODEL.KEY=VALUE"]),
    "latent size": (["run", "--models", "vae", *SMALL, "--latent-dim", "0"], ["--latent-dim 0", "1 to 4096"]),
    "steps": (["run", "--models", "vae", *SMALL, "--steps", "0"], ["train.steps", "at least 1"]),
    "seeds": (["run", "--models", "vae", *SMALL, "--seeds", "a"], ["'a'", "0-4"]),
    "seed range": (["run", "--models", "vae", *SMALL, "--seeds", "4-0"], ["'4-0'", "0-4"]),
    "threads": (["run", "--models", "vae", *SMALL, "--threads", "100000"], ["--threads 100000", "1 to "]),
    "few": (["run", "--models", "vae", *SMALL, "--images", "5"], ["5 images of digits", "10 are needed"]),
    "dry": (["run", "--models", "vae", "--datasets", "digits", "--features", "dino", "-n"], ["'dino'"]),
    "cost": (["table", "cost", "--out", "."], ["nothing has run"]),
    "space": (["run", "--models", "vae", "--datasets", "digits", "--features", "dino"], ["'dino'", "inception"]),
    "out": (["run", "--models", "vae", *SMALL, "--out", "/proc/flexbench"], ["/proc/flexbench", "Choose another"]),
    "include": (["run", "--models", "vae", *SMALL, "--include", "nowhere.py"], ["nowhere.py"]),
    "yaml": (["run", "--models", "vae", *SMALL, "--config", "nowhere.yml"], ["nowhere.yml"]),
    "folder": (["run", "--models", "vae", "--datasets", "folder:/nowhere"], ["/nowhere"]),
    "run": (["sample", "/nowhere"], ["/nowhere", "flexbench ls runs"]),
    "images": (["evaluate", "/nowhere", "--dataset", "digits"], ["/nowhere", "flexbench ls runs"]),
    "against what": (["evaluate", "."], ["--dataset"]),
    "empty": (["table", "--out", "/nowhere"], ["/nowhere"]),
    "published": (["table", "4", "--published", "--out", "."], ["tables 1 and 2", "flexbench table 1 --published"]),
    "format": (["table", "1", "--format", "md,pdf", "--out", "."], ["'pdf'", "latex"]),
    "selection": (["table", "1", "--select", "best", "--out", "."], ["'best'", "best_val"]),
    "equal compute": (["table", "1", "--published", "--budget-by", "flops", "--out", "."], ["last checkpoints"]),
    "two rules": (["table", "1", "--select", "oracle", "--budget-by", "flops", "--out", "."], ["--select oracle"]),
    "snapshots": (["run", "--models", "vae", *SMALL, "--score-every", "0"], ["--score-every 0", "at least 1"]),
    "nothing to tune": (["tune", "--models", "flexae", *SMALL], ["'flexae'", "open setting", "flexbench ls models -v"]),
    "tune and set": (["tune", "--models", "vae", *SMALL, "--set", "vae.decoder_variance=1"],
                     ["'vae.decoder_variance'", "leave it out"]),
    "tune sizes": (["tune", "--models", "vae", *SMALL, "--latent-dim", "4,8"], ["one latent size"]),
    "useless": (["run", "--models", "wae-gan", *SMALL, "--set", "wae-gan.critic=wgan-gp", "--set",
                 "wae-gan.reg_scale=2"], ["reg_scale is 2.0", "no meaning"]),
    "choice": (["run", "--models", "wae-gan", *SMALL, "--set", "wae-gan.critic=hinge"], ["'hinge'", "wgan-gp"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line_and_code_2(name: str, flexbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arguments, expected = BAD[name]
    monkeypatch.chdir(tmp_path)
    result = flexbench(*arguments)
    check_refusal(result, expected)
    assert not list(tmp_path.glob("results/runs/**/config.json"))


def check_refusal(result, expected: list[str]) -> None:
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    for part in expected:
        assert part in line


def test_missing_data_offline_says_which_files_to_put_where(flexbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import urllib.error
    import urllib.request

    def offline(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    result = flexbench("run", "--models", "vae", "--datasets", "mnist", "--preset", "smoke", "--data-dir", tmp_path)
    check_refusal(
        result, ["mnist", str(tmp_path / "MNIST" / "raw"), "train-images-idx3-ubyte", "flexbench data prepare mnist"]
    )


def test_a_damaged_data_file_is_named(flexbench, tmp_path: Path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in MNIST_FILES:
        (raw / f"{name}-idx{3 if 'images' in name else 1}-ubyte").write_bytes(b"\x00\x00\x08\x03 truncated")
    check_refusal(flexbench("data", "prepare", "mnist", "--data-dir", tmp_path, "--offline"), ["mnist", str(tmp_path)])


def test_inception_weights_with_the_wrong_hash_are_refused_before_training(flexbench, tmp_path: Path):
    weights = tmp_path / "inception-2015-12-05.pt"
    weights.write_bytes(b"something else")
    arguments = ["--features", "inception", "--inception-weights", weights, "--out", tmp_path / "out"]
    result = flexbench("run", "--models", "vae", "--datasets", "digits", "--preset", "smoke", *arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr and "SHA-256" in result.stderr and "f58cb9b6" in result.stderr
    assert not runs_of(tmp_path / "out")


def test_damaged_weights_of_a_run_are_named(demo: Path, flexbench, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(runs_of(demo)[0], copy)
    (copy / "model.safetensors").write_bytes(b"damaged")
    check_refusal(flexbench("sample", copy, "--out", tmp_path / "x.png"), ["model.safetensors"])
