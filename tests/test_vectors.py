"""Vectors instead of images: every model that makes sense there trains on them, and the others say why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark import table
from benchmark.core.errors import FlexbenchError
from benchmark.evaluation.features import feature_space
from benchmark.evaluation.images import as_stored, save_grid
from benchmark.method import Budget, DataSpec, Fit, Train, weight_for
from benchmark.networks import BatchNorm1d, build_decoder, build_encoder, build_image_critic
from benchmark.registry import BUILT_IN, Registry
from benchmark.reporting.figures.latent_scatter import short_names
from benchmark.reporting.figures.prior_distance import PANELS
from benchmark.running.options import RunOptions
from benchmark.running.runner import expand
from tests.model_tools import build, handle, phase_of

from . import fabricated

D = 12
SUITED = [name for name in BUILT_IN if not Registry().get(name).images_only]


def vectors(n=8):
    return 3 * torch.randn(n, D, 1, 1)


def test_networks_are_dense_and_the_decoder_has_no_bounds():
    x = vectors()
    encoder, decoder = build_encoder(D, 1, 5, 0.05), build_decoder(D, 1, 5, 0.05)
    critic = build_image_critic(D, 1, 0.05)
    assert encoder(x).shape == (8, 5) and decoder(encoder(x)).shape == x.shape and critic(x).shape == (8, 1)
    with torch.no_grad():
        decoder[-2].bias.fill_(7.0)
    assert decoder(torch.zeros(1, 5)).min() > 6
    assert not any(isinstance(layer, BatchNorm1d) for net in (encoder, decoder) for layer in net)


@pytest.mark.parametrize("name", SUITED)
def test_a_model_trains_and_samples(name):
    torch.manual_seed(0)
    method = build(name, size=1, channels=D)
    phase = phase_of(method)
    assert isinstance(phase, Train)
    opt = handle(method)
    for step in range(3):
        losses = phase.update(iter(vectors, None), opt, step)
        assert all(torch.as_tensor(value).isfinite().all() for value in losses.values())
    method.eval()
    for fit in method.phases(Budget(10, 8))[1:]:
        if isinstance(fit, Fit):
            fit.fit(iter([vectors(64), vectors(64)]))
    assert method.sample(3, torch.Generator().manual_seed(0)).shape == (3, D, 1, 1)
    assert method.reconstruct(vectors()).shape == (8, D, 1, 1)


@pytest.mark.parametrize("name", ["ae-gmm", "rae-gmm"])
def test_dense_decoders_are_penalised(name):
    method = build(name, size=1, channels=D)
    weights = [layer.weight for layer in method.decoder if isinstance(layer, torch.nn.Linear)]
    assert [id(kernel) for kernel in method.decoder_kernels()] == [id(weight) for weight in weights] and weights
    assert method.regularisers(torch.zeros(2, 4))["decoder_regulariser"] > 0


def test_models_that_need_pixels_are_skipped_with_their_reason(tmp_path):
    request = RunOptions(
        models="vae,vq-vae,alae", datasets="synthetic-mog", preset="smoke", out=tmp_path, tracking_uri=None
    )
    with pytest.warns(UserWarning, match="vq-vae is skipped on synthetic-mog.*grid of positions") as caught:
        jobs, _ = expand(request)
    assert [job.config.model for job in jobs] == ["vae"] and len(caught) == 2
    with pytest.raises(FlexbenchError, match=r"none of these models makes sense on synthetic-mog.*vq-vae: its code"):
        expand(RunOptions(models="vq-vae", datasets="synthetic-mog", preset="smoke", out=tmp_path, tracking_uri=None))


def test_vectors_are_scored_as_they_are_and_images_never_in_that_space(tmp_path):
    request = RunOptions(models="vae", datasets="synthetic-r5,digits", preset="smoke", out=tmp_path, tracking_uri=None)
    assert request.evaluation("synthetic-r5").space == "coordinates"
    assert request.evaluation("digits").space == request.space
    with pytest.raises(FlexbenchError, match="coordinates is for vectors, and digits holds images"):
        expand(
            RunOptions(
                models="vae", datasets="digits", space="coordinates", preset="smoke", out=tmp_path, tracking_uri=None
            )
        )
    space = feature_space("coordinates")
    x = as_stored(vectors())
    assert np.array_equal(space.embed(x), x[:, :, 0, 0])
    with pytest.raises(FlexbenchError, match="needs float32 vectors, got uint8"):
        space.embed(np.zeros((2, 1, 8, 8), np.uint8))


def test_values_are_kept_but_for_those_that_are_not_finite():
    x = vectors()
    assert np.array_equal(as_stored(x), x.numpy())
    with pytest.raises(FlexbenchError, match="not finite"):
        as_stored(x / 0)
    with pytest.raises(FlexbenchError, match="no picture"):
        save_grid(x.numpy(), "never.png")


def test_loss_weights_count_numbers_as_pixels():
    assert weight_for(DataSpec("v", 128, 1), 784.0, 1.0, 1.0) == pytest.approx(128.0)


@pytest.fixture(scope="module")
def studies(flexbench, tmp_path_factory) -> Path:
    """The paper's two studies at their smallest."""
    out = tmp_path_factory.mktemp("studies")
    small = ["--preset", "smoke", "--width", "0.02", "--images", "60", "--no-tracking", "--out", out]
    for words in (
        ["--models", "flexae", "--datasets", "synthetic-r5", "--score-every", "10"],
        ["--models", "wae-gmm,vq-vae", "--datasets", "synthetic-mog", "--set", "wae-gmm.radius=3"],
    ):
        result = flexbench("run", *words, *small)
        assert result.exit_code == 0, result.output
        assert "scored in coordinates" in result.output
    return out


def test_a_run_leaves_distances_and_no_pictures(studies):
    scores = pd.read_csv(studies / "results.csv")
    assert set(scores.space.dropna()) == {"coordinates"} and not list(studies.glob("runs/*/*/*/*.png"))
    assert set(scores.family) == {"gen_fd", "rec_fd", "real_fd", "gen_fd_val", "rec_mse", "prior_mismatch"}


def test_figure_2_follows_log_and_scores(studies, flexbench):
    result = flexbench("figure", "2", "--out", studies, "--format", "png")
    assert result.exit_code == 0, result.output
    frame = pd.read_csv(studies / "figures" / "2.csv")
    scores = pd.read_csv(studies / "results.csv").query("dataset == 'synthetic-r5'")
    shown = frame[frame.quantity == "gen_fd"].set_index("step").value
    assert dict(shown) == dict(scores[scores.family == "gen_fd"].set_index("step").value) and len(shown) == 3
    assert set(frame.quantity) == {*PANELS, "real_fd"}
    last = frame[frame.step == 30].set_index("quantity").value
    ratio = last.critic / last.critic_per_rms
    assert ratio == pytest.approx(float(rms_of(studies)), rel=0.05)


def rms_of(out):
    """The RMS code of the last row of the only log."""
    from benchmark.core.files import read_jsonl

    (log,) = out.glob("runs/synthetic-r5/*/*/train.jsonl")
    return read_jsonl(log)[-1]["loss/rms_code"]


def test_figure_3_shows_true_and_learned_latents_and_counts_modes(studies, flexbench):
    result = flexbench("figure", "3", "--out", studies, "--format", "png")
    assert result.exit_code == 0, result.output
    points = pd.read_csv(studies / "figures" / "3.csv")
    assert {kind: len(part) for kind, part in points.groupby("kind")} == {"code": 2000, "latent": 2000, "prior": 2000}
    prior = points[points.kind == "prior"]
    assert np.hypot(prior.z1, prior.z2).mean() == pytest.approx(3, abs=0.2)  # the circle that was asked for
    counted = pd.read_csv(studies / "figures" / "3-modes.csv")
    scores = pd.read_csv(studies / "results.csv").query("dataset == 'synthetic-mog'").set_index("family").value
    assert counted.gen_fd.tolist() == [scores["gen_fd"]] and counted.covered[0] < 8  # 30 steps know few modes


def test_figures_of_images_leave_vectors_out(studies, flexbench):
    result = flexbench("figure", "--out", studies, "--format", "png")
    assert result.exit_code == 0, result.output
    for number in (4, 5):
        assert f"figure {number} is left out: figure {number} shows images, and the data of all" in result.output


def test_tables_show_distances_alone(studies, flexbench):
    result = flexbench("table", "--out", studies)
    assert result.exit_code == 0, result.output
    assert "Table 1" in result.output and "Table 2" not in result.output and "Table 4" not in result.output
    alone = flexbench("table", "2", "--out", studies)
    assert alone.exit_code == 2 and "Vectors have Frechet distances only" in alone.output


def test_images_and_vectors_stand_side_by_side(studies, flexbench, tmp_path):
    shutil.copytree(studies / "runs", tmp_path / "runs")
    fabricated.run(tmp_path, "vae", dataset="mnist", scores={"gen_fd": 5.0, "rec_fd": 4.0, "real_fd": 1.0},
                   preset="smoke[width=0.02]")  # fmt: skip
    for words in (
        ["table"],
        ["table", "1", "--features", fabricated.SPACE],
        ["report"],
        ["figure", "pareto", "2", "3"],
    ):
        result = flexbench(*words, "--out", tmp_path)
        assert result.exit_code == 0, result.output
    frame = table(1, tmp_path)
    assert set(frame.columns.get_level_values(0)) == {"mnist", "synthetic-mog", "synthetic-r5"}
    only = flexbench("table", "1", "--features", "coordinates", "--out", tmp_path)
    assert only.exit_code == 0 and "mnist" not in only.output


def test_figure_2_refuses_different_numbers_of_vectors_in_one_line(studies, flexbench, tmp_path):
    shutil.copytree(studies / "runs", tmp_path / "runs")
    (file,) = tmp_path.glob("runs/synthetic-r5/*/*/metrics.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    more = [row | {"n_images": 50, "value": 2 * row["value"]} for row in rows if row["family"] == "gen_fd"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows + more))
    result = flexbench("figure", "2", "--out", tmp_path)
    assert result.exit_code == 2 and "--images" in result.output
    assert flexbench("figure", "2", "--out", tmp_path, "--images", "50").exit_code == 0
    shown = pd.read_csv(tmp_path / "figures" / "2.csv").query("quantity == 'gen_fd'")
    assert sorted(shown.value) == sorted(row["value"] for row in more)


def test_labels_lose_their_settings_only_where_that_leaves_them_different():
    labels = ["VAE [a=1]", "VAE [a=2]", "FlexAE [b=1]"]
    assert short_names(pd.Series(labels)) == {labels[0]: "VAE\n[a=1]", labels[1]: "VAE\n[a=2]", labels[2]: "FlexAE"}


def test_there_is_no_picture_of_a_vector(studies, flexbench):
    (run,) = studies.glob("runs/synthetic-mog/*/*")
    result = flexbench("sample", run, "--out", studies / "x.png")
    assert result.exit_code == 2 and "vectors have no picture" in result.output
