"""Figures: what is drawn is what the data say, nothing that cannot be compared is drawn, the same bytes each time."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark import figure
from benchmark.core.errors import FlexbenchError
from benchmark.evaluation.images import save_grid
from benchmark.jobs.config import JobConfig, TrainConfig
from benchmark.jobs.job import Job
from benchmark.jobs.results import ResultRow
from benchmark.reporting import rows
from benchmark.reporting.figures import FIGURES, Query, curves, labels, make_several, pareto, save, style
from benchmark.reporting.figures.scores import info_of

SPACE = "efficientnet_lite0@128"
SCORES = {("vae", 8): 90.0, ("vae", 4): 120.0, ("flexae", 8): 60.0, ("flexae", 4): 75.0}


def job(out: Path, model: str, m: int = 8, seed: int = 0, dataset: str = "sprites", scores=None, **more) -> Job:
    """A finished job that never ran, with its log and its pictures; `scores` is {step: generation score}."""
    data = {"name": dataset, "channels": 3, "size": 32}
    config = JobConfig(model, dataset, data, m, seed, TrainConfig(60, 64, 0.25, 5.0), {"latent_dim": m, "width": 0.25})
    made = Job.place(config, dataset, out)
    made.create()
    base = {
        "protocol": 1, "model": model, "title": model.upper(), "dataset": dataset, "latent_dim": m, "seed": seed,
        "preset": "cpu", "settings": "", "hash": config.hash, "variant": config.variant, "checkpoint": "last",
        "n_images": 10_000, "space": SPACE, "git": "0" * 40, "train_flops": 1e12 * len(model), **more,
    }  # fmt: skip
    for step, score in (scores or {60: SCORES.get((model, m), 50.0) + 3 * seed}).items():
        values = {"gen_fd": score, "rec_fd": score / 2, "real_fd": 2.5}
        base["checkpoint"] = "last" if step == 60 else f"step {step}"
        made.record([ResultRow(**base, step=step, family=f, metric=f"{f}10k_test@{SPACE}", value=v)
                     for f, v in values.items()])  # fmt: skip
    logged = [{"phase": phase, "step": step, "of": 30, "loss/reconstruction": 10.0 / step + seed, f"loss/{name}": -step}
            for phase, name in (("one", "kl"), ("two", "penalty")) for step in (10, 20, 30)]  # fmt: skip
    (made.folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in logged))
    images = np.random.default_rng(seed).integers(0, 256, (64, 3, 32, 32), dtype=np.uint8)
    save_grid(images, made.folder / "samples.png", columns=8)
    save_grid(images[:16], made.folder / "reconstructions.png", columns=8)
    return made


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, two latent sizes, two seeds."""
    folder = tmp_path_factory.mktemp("figures")
    for (model, m), seed in itertools.product(SCORES, (0, 1)):
        job(folder, model, m, seed)
    return folder


def drawn(plot) -> matplotlib.figure.Figure:
    with style.applied():
        return plot.draw()


def bars(axes) -> list[np.ndarray]:
    """Points [n, 2] of each line with error bars."""
    return [container.lines[0].get_xydata() for container in axes.containers]


def test_pareto_draws_its_frame(out: Path):
    (plot,) = figure("pareto", out)
    axes = drawn(plot).axes
    assert [a.get_title(loc="left") for a in axes] == ["Sprites, m = 4", "Sprites, m = 8"]
    for panel, (_, part) in zip(axes, plot.frame.groupby("latent_dim"), strict=True):
        models = part[part.tflops.notna()]
        assert np.array_equal(np.concatenate(bars(panel)), models[["tflops", "mean"]])
        assert {"VAE", "FLEXAE", "real images"} <= {text.get_text() for text in panel.texts}
        (line,) = [line for line in panel.lines if line.get_label() == "Pareto front"]
        best = models[models.on_front].sort_values("tflops")
        assert line.get_drawstyle() == "steps-post" and np.array_equal(line.get_xydata(), best[["tflops", "mean"]])
        assert (part[part.tflops.isna()]["mean"] == 2.5).all()
    vae = plot.frame.set_index(["model", "latent_dim"]).loc[("VAE", 8)]
    assert (vae["mean"], vae["std"], vae.seeds, vae.tflops) == (91.5, pytest.approx(3 / 2**0.5), 2, 3)


def test_the_front_is_that_of_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(50):
        costs, scores = rng.integers(0, 5, (2, 8)).astype(float)  # with ties
        points = list(zip(costs, scores, strict=True))
        expected = [not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points) for p in points]
        assert pareto.front(costs, scores).tolist() == expected


def test_dims_draws_its_frame_and_the_true_dimension(out: Path):
    (plot,) = figure("dims", out)
    assert set(plot.frame.score) == {"gen_fd", "rec_fd"}
    for axes, (_, part) in zip(drawn(plot).axes, plot.frame.groupby("score", sort=False), strict=True):
        models = part[part["name"].notna()].sort_values("latent_dim", kind="stable")
        lines = [line[["latent_dim", "mean"]] for _, line in models.groupby("name")]
        for shown, line in zip(sorted(bars(axes), key=lambda b: b[0, 1]), lines, strict=True):
            assert np.array_equal(shown, line)
        assert [line.get_xdata() for line in axes.lines if line.get_linestyle() == ":"] == [[6, 6]]
        assert axes.get_xticks().tolist() == [4, 8]


def test_a_dataset_is_known_by_the_name_in_its_rows():
    assert info_of("sprites-2000").true_dim == info_of("sprites").true_dim == 6
    assert info_of("mnist").true_dim is None and info_of("nothing-like-it") is None


def test_dims_of_one_size_says_what_to_run(tmp_path: Path):
    job(tmp_path, "vae")
    with pytest.raises(FlexbenchError, match=r"sprites m=8.*--latent-dim 32,64,128"):
        figure("dims", tmp_path)


def test_curves_draw_means_and_seeds_through_all_phases(out: Path):
    (plot,) = figure("curves", out)
    assert list(plot.frame) == ["model", "name", "dataset", "latent_dim", "seed", "phase", "step", "total_step",
                                "loss", "value"]  # fmt: skip
    axes = drawn(plot).axes
    assert {a.get_title(loc="left") for a in axes} == {"VAE m=4", "VAE m=8", "FLEXAE m=4", "FLEXAE m=8"}
    part = plot.frame[(plot.frame.model == axes[0].get_title(loc="left")) & (plot.frame.loss == "reconstruction")]
    lines = [line for line in axes[0].lines if line.get_color() == style.VERMILION]
    assert len(lines) == 3  # two seeds and their mean
    for seed, line in zip((0, 1), lines, strict=False):
        assert np.array_equal(line.get_xydata(), part[part.seed == seed][["total_step", "value"]])
    assert lines[2].get_xdata().tolist() == [10, 20, 30, 40, 50, 60]
    assert np.allclose(lines[2].get_ydata(), part.groupby("total_step").value.mean())
    assert {"one", "two", "reconstruction", "kl", "penalty"} <= {text.get_text() for text in axes[0].texts}


def test_scores_over_steps_have_a_panel_only_where_there_are_several(tmp_path: Path):
    job(tmp_path, "vae")
    (plot,) = figure("curves", tmp_path)
    assert len(drawn(plot).axes) == 1 and "score" not in set(plot.frame.phase)
    job(tmp_path, "flexae", scores={20: 80.0, 60: 70.0})
    (plot,) = figure("curves", tmp_path)
    *_, last = drawn(plot).axes
    assert [line.get_xydata().tolist() for line in last.lines if len(line.get_xdata()) == 2] == [[[20, 80], [60, 70]]]
    assert figure("pareto", tmp_path)[0].frame.set_index("model")["mean"]["FLEXAE"] == 70  # the last one counts


def test_figure_4_shows_the_pixels_that_a_job_left(out: Path, tmp_path: Path):
    plots = {plot.name: plot for plot in figure("4", out)}
    assert set(plots) == {"4-sprites-reconstructions", "4-sprites-samples"}
    for name, plot in plots.items():
        assert set(plot.frame.seed) == {0} and len(plot.frame) == 4
        axes = drawn(plot).axes
        (png,) = (path for path in save(plot, tmp_path, ["png"]) if path.suffix == ".png")
        page = np.asarray(Image.open(png))[..., :3]
        for panel, file in zip(axes, plot.frame.file, strict=True):
            left_there = np.asarray(Image.open(out / file))
            assert np.array_equal(panel.images[0].get_array(), left_there)
            x, y = panel.get_position().x0 * page.shape[1], (1 - panel.get_position().y1) * page.shape[0]
            shown = page[round(y) : round(y) + len(left_there), round(x) : round(x) + left_there.shape[1]]
            assert np.array_equal(shown, left_there), name


def test_saving_again_gives_the_same_bytes_and_changes_no_setting(out: Path, tmp_path: Path):
    before = dict(matplotlib.rcParams)
    for name in ("pareto", "4"):
        plot = figure(name, out)[0]
        paths, again = save(plot, tmp_path / "a"), save(figure(name, out)[0], tmp_path / "b")
        assert [path.name for path in paths] == [f"{plot.name}.{kind}" for kind in ("pdf", "svg", "png", "csv")]
        assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]
        pd.testing.assert_frame_equal(pd.read_csv(paths[-1]), plot.frame, check_dtype=False)
        assert plot.caption.split(".")[0].encode() in paths[1].read_bytes()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", ["pareto", "dims", "curves", "4"])
def test_what_is_not_comparable_shares_no_figure(name: str, tmp_path: Path):
    for m in (4, 8):
        job(tmp_path, "vae", m)
        job(tmp_path, "flexae", m, preset="smoke")
    with pytest.raises(FlexbenchError, match="Use --preset with one: cpu, smoke"):
        figure(name, tmp_path)
    models = {row for plot in figure(name, tmp_path, preset="cpu") for row in plot.frame.name.dropna()}
    assert models == {"vae"}


def test_only_the_models_asked_for(out: Path):
    assert set(figure("pareto", out, models="flex*")[0].frame.name.dropna()) == {"flexae"}
    with pytest.raises(FlexbenchError, match=r"'vea'. Did you mean 'vae'\? Valid: flexae, vae"):
        figure("pareto", out, models="vea")


def test_all_makes_what_can_be_made_and_says_what_cannot(tmp_path: Path, flexbench):
    job(tmp_path, "vae")
    result = flexbench("figure", "--out", tmp_path, "--format", "svg")
    assert result.exit_code == 0, result.output
    stems = {"pareto", "curves-sprites", "4-sprites-samples", "4-sprites-reconstructions"}
    assert {Path(line) for line in result.stdout.splitlines()} == {
        tmp_path / "figures" / f"{stem}.{kind}" for stem in stems for kind in ("svg", "csv")
    }
    assert "figure dims is left out: this figure compares latent sizes" in result.stderr
    assert "figure 5 is left out: figure 5 needs trained models" in result.stderr
    refused = flexbench("figure", "dims", "--out", tmp_path)
    assert refused.exit_code == 2 and "--latent-dim 32,64,128" in refused.output


def test_nothing_to_draw_is_an_error(tmp_path: Path, flexbench):
    for words, message in [(["--out", tmp_path], "nothing has run"), (["--out", tmp_path / "no"], "there is no folder"),
                           (["pareto", "--out", tmp_path, "--format", "bmp"], "unknown format 'bmp'"),
                           (["6", "--out", tmp_path], "'dims'")]:  # fmt: skip
        result = flexbench("figure", *words)
        assert result.exit_code == 2 and message in result.output
    with pytest.raises(FlexbenchError, match=r"unknown figure '6'.*Valid: 2, 3, 4, 5"):
        figure("6", tmp_path)


def test_every_figure_can_be_asked_for_and_none_imports_torch_or_pyplot_to_tell(out: Path):
    code = (
        "import sys; from pathlib import Path; from benchmark.reporting.figures import *; "
        "assert not {'matplotlib', 'pandas', 'torch'} & set(sys.modules); "
        "plots, left_out = make_several(FIGURES, Query(Path(sys.argv[1]))); assert [*left_out] == ['2', '3', '5']; "
        "assert not {'matplotlib', 'torch'} & set(sys.modules); plots[0].draw(); "
        "assert not {'matplotlib.pyplot', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(out)], check=True)


# -- without run folders ------------------------------------------------------------------------------------------


def test_figures_of_scores_need_no_run_folders_and_the_others_say_what_they_need(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    frame = rows.load_rows(out).assign(folder="")
    monkeypatch.setattr(rows, "load_rows", lambda _: frame)
    monkeypatch.chdir(tmp_path)
    for name in ("train.jsonl", "samples.png", "model.safetensors"):
        (tmp_path / name).write_text("{}")  # of no run: an empty folder name is not the current folder
    plots, reasons = make_several(FIGURES, Query(out))
    assert {plot.name for plot in plots} == {"pareto", "dims"} and all(len(drawn(plot).axes) for plot in plots)
    assert reasons["curves"].startswith("figure curves needs the train.jsonl of a scored run")
    assert reasons["4"].startswith("figure 4 needs reconstructions.png or samples.png of a scored run")
    assert reasons["5"].startswith("figure 5 needs trained models")


def test_models_without_a_grid_are_named_below_the_grids_of_the_others(tmp_path: Path):
    job(tmp_path, "vae")
    (job(tmp_path, "flexae").folder / "samples.png").unlink()
    captions = {plot.name: plot.caption for plot in figure("4", tmp_path)}
    assert captions["4-sprites-samples"].endswith("because their samples.png is not here: FLEXAE.")
    assert "Left out" not in captions["4-sprites-reconstructions"]


def test_runs_without_a_log_are_named_below_the_curves_of_the_others(tmp_path: Path):
    job(tmp_path, "vae")
    (job(tmp_path, "flexae").folder / "train.jsonl").unlink()
    (plot,) = figure("curves", tmp_path)
    assert set(plot.frame.model) == {"VAE"}
    assert plot.caption.endswith("because their train.jsonl is not here: FLEXAE on sprites (seed 0).")


def test_the_loss_that_most_models_log_looks_the_same_everywhere():
    names = [("a", "penalty"), ("a", "error"), ("b", "error"), ("c", "error"), ("c", "penalty")]
    assert curves.most_common_loss(pd.DataFrame(names, columns=["model", "loss"])) == "error"
    looks = [curves.loss_looks(losses, "error")["error"] for losses in (["penalty", "error"], ["error"])]
    assert looks[0] == looks[1] and curves.loss_looks(["penalty"], "error")["penalty"] != looks[0]


def test_figures_of_several_output_roots(tmp_path: Path):
    job(tmp_path / "a", "vae")
    job(tmp_path / "b", "flexae")
    query = Query((tmp_path / "a", tmp_path / "b"))
    (pareto_plot,) = make_several(["pareto"], query)[0]
    assert set(pareto_plot.frame.name.dropna()) == {"vae", "flexae"}
    files = {file for plot in make_several(["4"], query)[0] for file in plot.frame.file}
    assert len(files) == 4 and all(file.startswith("runs/") for file in files)


# -- names beside points and lines --------------------------------------------------------------------------------


def test_labels_overlap_neither_each_other_nor_points_nor_the_frame():
    rng = np.random.default_rng(0)
    anchors, sizes, frame = rng.uniform(60, 540, (16, 2)), np.tile([60.0, 12.0], (16, 1)), np.array([0, 0, 600, 600.0])
    marks = np.concatenate([anchors - 4, anchors + 4], axis=1)
    centres = anchors + labels.place(anchors, sizes, marks, frame, 1.0)
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        assert min(x0, y0) >= 0 and max(x1, y1) <= 600
        for a0, b0, a1, b1 in [*np.delete(boxes, i, axis=0), *marks]:
            assert min(x1, a1) <= max(x0, a0) or min(y1, b1) <= max(y0, b0)


def test_names_at_line_ends_keep_their_distance_order_and_bounds():
    rng = np.random.default_rng(0)
    for _ in range(20):
        ends = rng.uniform(0, 1, 8)
        heights = labels.keep_apart(ends, 0.1, 0, 1)
        assert np.array_equal(np.argsort(heights), np.argsort(ends))
        assert (
            (np.diff(np.sort(heights)) >= 0.1 - 1e-12).all() and heights.min() >= -1e-12 and heights.max() <= 1 + 1e-12
        )
    assert np.allclose(
        labels.keep_apart(np.array([0.5, 0.5, 0.9]), 0.1, 0, 1), [0.45, 0.55, 0.9]
    )  # no more than needed


# -- figure 5 -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Job]:
    """Digits, two steps of a small model, with a row of scores."""
    import torch

    from benchmark.data import open_dataset
    from benchmark.registry import Registry
    from benchmark.training.loop import train

    folder = tmp_path_factory.mktemp("trained")
    made = job(folder, "vae", 4, dataset="digits", space="pixels", dataset_hash=open_dataset("digits").content_hash)
    config = JobConfig("vae", "digits", {"name": "digits", "channels": 1, "size": 8}, 4, 0,
                       TrainConfig(2, 16, 0.125, 5.0), {"latent_dim": 4, "width": 0.125})  # fmt: skip
    (made.folder / "config.json").write_text(json.dumps(config.to_json()))
    train(config, Registry.load().get("vae"), open_dataset("digits").train, made.folder, torch.device("cpu"))
    return folder, made


def test_figure_5_of_a_trained_model(trained: tuple[Path, Job]):
    (plot,) = figure("5", trained[0])
    assert plot.name == "5-digits-vae"
    counts = plot.frame.groupby("kind").value.agg(["count", "min"])
    assert counts["count"].to_dict() == {"direction": 5, "neighbour": 8 * 4} and (counts["min"] > 0).all()
    assert [axes.images[0].get_array().shape[:2] for axes in drawn(plot).axes][1] == (8 * 50 + 2, 10 * 50 + 2)


def test_figure_5_refuses_other_images_than_those_trained_on(trained: tuple[Path, Job], tmp_path: Path):
    import shutil

    shutil.copytree(trained[0] / "runs", tmp_path / "runs")
    (path,) = tmp_path.glob("runs/*/*/*/metrics.jsonl")
    lines = [json.loads(line) | {"dataset_hash": "0" * 64} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(FlexbenchError, match="the images of 'digits' are not those"):
        figure("5", tmp_path)


def test_the_registry_names_only_what_is_there(out: Path):
    plots, reasons = make_several(FIGURES, Query(out))
    assert set(reasons) == {"2", "3", "5"} and len({plot.name for plot in plots}) == len(plots)
