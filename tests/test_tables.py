"""Tables from fabricated rows: means, spread, best, floor, and what must not share a column."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmark.errors import FlexbenchError
from benchmark.evaluation.metrics import METRICS
from benchmark.reporting.collect import COLUMNS
from benchmark.reporting.tables import cost, cost_text, make, to_text

SPACE = "efficientnet_lite0@128"


def row(model: str, family: str, value: float, seed: int = 0, **more) -> dict:
    """A result row; what a test does not care about is filled in."""
    base = {
        "protocol": 1, "model": model, "title": model.upper(), "dataset": "mnist", "latent_dim": 32, "seed": seed,
        "preset": "cpu", "settings": "", "hash": f"{model}{seed}", "variant": model, "checkpoint": "last", "step": 3000,
        "metric": f"{family}@{SPACE}", "family": family, "value": value, "n_images": 10_000, "space": SPACE,
        "git": "0123456789abcdef",
    }  # fmt: skip
    return {**base, **more}


def frame(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def both(model: str, rec: float, gen: float, seed: int = 0, **more) -> list[dict]:
    return [row(model, "rec_fd", rec, seed, **more), row(model, "gen_fd", gen, seed, **more),
            row(model, "real_fd", 4.5, seed, **more)]  # fmt: skip


GOLDEN = """\
**Table 1.** Frechet distance of reconstructed and generated images to test images (lower is better)

| model | mnist Rec. | mnist Gen. |
|---|---:|---:|
| VAE | 50.00 ± 1.41 | **60.00 ± 2.83** |
| FLEXAE | **10.00** | 70.00 |
| real images | 4.500 | 4.500 |

Scores: gen_fd@efficientnet_lite0@128, rec_fd@efficientnet_lite0@128. 10,000 images each. Preset cpu; mnist m=32; \
seeds 0, 1; checkpoint: last; commit 012345678. 'real images': training images in the model's place, the best that \
can be expected.
"""


def test_golden_markdown():
    rows = [*both("flexae", 10, 70), *both("vae", 49, 58), *both("vae", 51, 62, seed=1)]
    assert to_text(make(frame(*rows), 1), "md") == GOLDEN


def test_csv_is_long_and_counts_seeds():
    rows = [*both("vae", 49, 58), *both("vae", 51, 62, seed=1)]
    lines = to_text(make(frame(*rows), 1), "csv").splitlines()
    assert lines[0] == "table,model,dataset,score,mean,std,seeds"
    assert lines[1].startswith("1,VAE,mnist,Rec.,50.0,1.41421") and lines[1].endswith(",2")


def test_higher_is_better_where_the_metric_says_so():
    rows = [row("vae", "gen_precision_f1_8", 0.4), row("flexae", "gen_precision_f1_8", 0.7)]
    assert "| FLEXAE | **0.700** |" in to_text(make(frame(*rows), 2), "md")


def test_neither_distance_of_memorisation_is_best():
    rows = [row(m, f, v, space=None) for m, v in (("vae", 4.0), ("flexae", 5.0)) for f in ("pms_gen_tr", "pms_gen_te")]
    assert "**" not in to_text(make(frame(*rows), 4), "md").removeprefix("**Table 4.**")


def test_ties_are_not_bold():
    text = to_text(make(frame(*both("vae", 5, 6), *both("flexae", 5, 7)), 1), "md")
    assert "**5.000**" not in text and "**6.000**" in text


@pytest.mark.parametrize(
    ("difference", "option"),
    [({"preset": "smoke"}, "--preset"), ({"space": "inception"}, "--features"), ({"n_images": 256}, "--images")],
)
def test_what_is_not_comparable_shares_no_column(difference: dict, option: str):
    rows = frame(*both("vae", 5, 6), *both("flexae", 4, 5, **difference))
    with pytest.raises(FlexbenchError, match=option):
        make(rows, 1)


def test_a_choice_makes_them_comparable():
    rows = frame(*both("vae", 5, 6), *both("flexae", 4, 5, preset="smoke"))
    assert "FLEXAE" not in make(rows, 1, preset="cpu").frame.index
    with pytest.raises(FlexbenchError, match="paper"):
        make(rows, 1, preset="paper")


def test_only_repetitions_are_averaged():
    rows = frame(
        *both("vae", 5, 6), *both("vae", 7, 8, settings="beta=2.0", variant="b"),
        *both("mine", 1, 2, variant="1111"), *both("mine", 3, 4, variant="2222"),
        *both("flexae", 1, 1), *both("flexae", 2, 2, latent_dim=64, variant="f64"),
    )  # fmt: skip
    assert list(make(rows, 1).frame.index) == [
        "VAE m=32", "VAE [beta=2.0] m=32", "FLEXAE m=32", "FLEXAE m=64", "MINE m=32 #1111",
        "MINE m=32 #2222", "real images",
    ]  # fmt: skip


def test_missing_cells_are_dashes():
    rows = frame(*both("vae", 5, 6), *both("flexae", 4, 5, dataset="celeba"))
    assert "| VAE | - | - | 5.000 | 6.000 |" in to_text(make(rows, 1), "md")


def test_nothing_run_yet_says_what_to_type():
    with pytest.raises(FlexbenchError, match="flexbench run"):
        make(frame(), 1)


def test_every_metric_has_a_title_and_every_floor_exists():
    for metric in METRICS.values():
        assert metric.title
        assert metric.floor is None or metric.floor in METRICS
        assert (metric.table is None) == (metric.column == "")


def test_cost_counts_each_job_once():
    spent = {"parameters": 1_000, "images_seen": 500, "optimizer_steps": 30, "train_flops": 2e12}
    rows = [*both("vae", 5, 6, **spent, train_seconds=10.0), *both("vae", 5, 6, seed=1, **spent, train_seconds=20.0)]
    assert "| VAE | mnist | 1,000 | 500 | 30 | 2 | 15.0 |" in cost_text(cost(frame(*rows)), "md")
