"""A fifth model outside the repository: one file, no edit anywhere."""

from __future__ import annotations

import json
import subprocess
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
