"""A model and a dataset outside the repository: one file each, no edit anywhere."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SMALL

MODEL = '''
"""Plain auto-encoder with a Gaussian fitted to its codes."""
from dataclasses import dataclass

import torch

from benchmark.losses import squared_error
from benchmark.method import Fit, Method, MethodConfig, Train


@dataclass(frozen=True)
class Config(MethodConfig):
    shrink: float = 0.0  # weight of the mean squared code


class GaussianAE(Method):
    name, title, paper, year = "gaussian-ae", "AE + Gaussian", "nobody, 2026", 2026
    Config = Config

    def __init__(self, data, config):
        super().__init__(data, config)
        self.register_buffer("mean", torch.zeros(config.latent_dim))
        self.register_buffer("factor", torch.eye(config.latent_dim))

    def loss(self, x):
        z = self.encode(x)
        error = squared_error(x, self.decode(z))
        return {"total": error + self.config.shrink * z.square().mean(), "reconstruction": error}

    def phases(self, budget):
        return [*super().phases(budget), Fit("fit", self.fit)]

    def fit(self, images):
        codes = torch.cat([self.encode(x) for x in images])
        self.mean.copy_(codes.mean(0))
        self.factor.copy_(torch.linalg.cholesky(codes.T.cov() + 1e-4 * torch.eye(codes.shape[1])))

    def prior(self, n, generator=None):
        return self.mean + super().prior(n, generator) @ self.factor.T
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "my_model.py"
    file.write_text(MODEL)
    return file


def test_it_runs_beside_the_others_and_stands_in_the_table(plugin: Path, flexbench, tmp_path: Path):
    repository = Path(__file__).parent.parent
    before = subprocess.run(["git", "status", "--porcelain"], cwd=repository, capture_output=True, text=True).stdout
    out = ["--out", tmp_path / "out"]
    models = ["--models", "vae,gaussian-ae", "--include", plugin, "--set", "gaussian-ae.shrink=0.1"]
    result = flexbench("run", *models, *SMALL, *out, "--no-tracking")
    assert result.exit_code == 0, result.output
    shown = flexbench("table", "1", *out).output
    assert "| VAE |" in shown and "| AE + Gaussian [shrink=0.1] |" in shown
    (run,) = (tmp_path / "out").glob("runs/digits/gaussian-ae/*")
    assert [p["name"] for p in json.loads((run / "training.json").read_text())["phases"]] == ["train", "fit"]
    assert flexbench("sample", run, "--include", plugin, "--out", tmp_path / "x.png").exit_code == 0
    after = subprocess.run(["git", "status", "--porcelain"], cwd=repository, capture_output=True, text=True).stdout
    assert before == after


def test_it_is_listed_with_its_file(plugin: Path, flexbench):
    shown = flexbench("ls", "models", "--include", plugin).output
    assert "gaussian-ae" in shown and str(plugin) in shown


def test_check_passes_it_and_names_what_a_broken_one_breaks(plugin: Path, flexbench, tmp_path: Path):
    good = flexbench("check", plugin)
    assert good.exit_code == 0 and good.output.count(": ok") == 7, good.output
    plugin.write_text(MODEL.replace("super().prior(n, generator)", "torch.randn(n, self.mean.shape[0])"))
    bad = flexbench("check", plugin)
    assert bad.exit_code == 1 and "sample ignores its generator" in bad.output


def test_an_edited_file_is_another_model_not_a_second_seed(plugin: Path, flexbench, tmp_path: Path):
    run = ["run", "--models", "gaussian-ae", "--include", plugin, *SMALL, "--out", tmp_path / "out", "-n"]
    assert "  new " in flexbench(*run).output
    folder = flexbench("run", *run[1:-1], "--no-tracking")
    assert folder.exit_code == 0
    assert "  done " in flexbench(*run).output
    plugin.write_text(MODEL.replace("1e-4", "1e-3"))
    assert "  new " in flexbench(*run).output


DATASET = """
import numpy as np

from benchmark.data import DatasetInfo


def load(data_dir):
    x = np.random.default_rng(SEED).integers(0, 256, (300, 8, 8), dtype=np.uint8)
    return {"train": (x[:200], np.arange(200) % 2), "test": (x[SHARED:], np.arange(300 - SHARED) % 2)}


SEED, SHARED = 0, 200
NOISE = DatasetInfo(name="my-noise", title="Noise", channels=1, size=8, latent_dim=4, note="Only noise.", load=load,
                    licence="MIT", source="drawn here")
"""


@pytest.fixture
def noise(tmp_path: Path) -> Iterator[Path]:
    from benchmark.data import DATASETS, info

    before = [(table, dict(table)) for table in (DATASETS, info._origins, info._hashes)]
    file = tmp_path / "my_noise.py"
    file.write_text(DATASET)
    yield file
    for table, content in before:
        table.clear()
        table.update(content)


def test_a_dataset_of_ones_own_is_prepared_trained_on_scored_and_drawn(noise: Path, flexbench, tmp_path: Path):
    include, out = ["--include", noise], ["--out", tmp_path / "out"]
    prepared = flexbench("data", "prepare", "my-noise", *include)
    assert prepared.exit_code == 0 and "my-noise: 8x8x1, " in prepared.output and "100 test" in prepared.output
    words = [word if word != "digits" else "my-noise" for word in SMALL]
    result = flexbench("run", "--models", "vae", *words, *include, *out, "--no-tracking")
    assert result.exit_code == 0, result.output
    (run,) = (tmp_path / "out").glob("runs/my-noise/vae/*")
    config = json.loads((run / "config.json").read_text())
    assert config["data"] == {"name": "my-noise", "channels": 1, "size": 8} and len(config["dataset_hash"]) == 64
    scored = flexbench("evaluate", run, *include, "--features", "pixels", "--images", "40")
    assert scored.exit_code == 0 and "gen_fd40_test@pixels" in scored.output, scored.output
    for command in (["table"], ["report"], ["figure", "curves"]):
        for given in (include, []):
            shown = flexbench(*command, *out, *given)
            assert shown.exit_code == 0, shown.output
    listed = flexbench("ls", "datasets", "-v", *include).output
    assert "my-noise" in listed and "Noise. Only noise." in listed


def test_an_edited_dataset_is_another_run(noise: Path, flexbench, tmp_path: Path):
    words = [word if word != "digits" else "my-noise" for word in SMALL]
    plan = ["run", "--models", "vae", *words, "--include", noise, "--out", tmp_path / "out", "-n"]
    assert "  new " in flexbench(*plan).output
    assert flexbench(*plan[:-1], "--no-tracking").exit_code == 0
    assert "  done " in flexbench(*plan).output
    noise.write_text(DATASET.replace("SEED, SHARED = 0", "SEED, SHARED = 1"))
    assert "  new " in flexbench(*plan).output


def test_check_covers_datasets(noise: Path, flexbench):
    good = flexbench("check", noise)
    assert good.exit_code == 0 and good.output.count(": ok") == 6, good.output
    noise.write_text(DATASET.replace("SHARED = 0, 200", "SHARED = 0, 190").replace('licence="MIT", ', ""))
    doubtful = flexbench("check", noise)
    assert doubtful.exit_code == 0 and "warning: 10 of 110 test images are training images too" in doubtful.output
    assert "warning: licence not stated" in doubtful.output
    noise.write_text(DATASET.replace("default_rng(SEED)", "default_rng()"))
    random = flexbench("check", noise)
    assert random.exit_code == 1 and "deterministic: loading it again gives other content" in random.output
    noise.write_text(DATASET.replace("size=8", "size=16"))
    wrong = flexbench("check", noise)
    assert wrong.exit_code == 1 and "opens as declared: my-noise: " in wrong.output and "16x16x1" in wrong.output
    noise.write_text(DATASET.replace("latent_dim=4", "latent_dim=65"))
    assert "latent_dim is 65, and an image has only 64 values" in flexbench("check", noise).output
