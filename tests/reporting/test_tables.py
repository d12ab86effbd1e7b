"""Tables from fabricated rows: means, spread, order, floor, verdict, and what must not share a column."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmark.core.errors import FlexbenchError
from benchmark.jobs.results import COLUMNS
from benchmark.metrics import METRICS
from benchmark.reporting import selection
from benchmark.reporting.formats import to_text
from benchmark.reporting.ranking import rank_column
from benchmark.reporting.tables import cost, make, make_several
from tests import fabricated

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


CAPTION = """\
Scores: gen_fd@efficientnet_lite0@128, rec_fd@efficientnet_lite0@128. 10,000 images each. Preset cpu; mnist m=32; \
seeds 0, 1; checkpoint: last; commit 012345678. 'real images': real images other than the test images, scored in place \
of a model's images. No model is expected to be better than 'real images'. A mean ties with the \
best one if they differ by at most sqrt(s1² + s2²), where s1 and s2 are their standard deviations over seeds. (A model \
with one seed gets the median standard deviation of the column. If all have one seed, only equal means tie.) Bold: the \
best mean, and the means after it up to the first that does not tie. Underlined: the next mean."""
TITLE = "Frechet distance of reconstructed and generated images to test images (lower is better)"

MARKDOWN = f"""\
**Table 1.** {TITLE}

| model | mnist Rec. | mnist Gen. | mean rank |
|---|---:|---:|---:|
| VAE | <ins>50.00 ± 1.41</ins> | **60.00 ± 2.83** | 1.5 |
| FLEXAE | **10.00** | <ins>70.00</ins> | 1.5 |
| real images | 4.500 | 4.500 | - |

{CAPTION}
"""

LATEX = r"""\begin{table}
\centering
\caption{Table 1. TITLE. CAPTION}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%
\begin{tabular}{lrrr}
\toprule
\multicolumn{1}{c}{} & \multicolumn{2}{c}{mnist} & \multicolumn{1}{c}{} \\
\cmidrule(lr){2-3}
model & Rec. & Gen. & mean rank \\
\midrule
VAE & \underline{50.00 $\pm$ 1.41} & \textbf{60.00 $\pm$ 2.83} & 1.5 \\
FLEXAE & \textbf{10.00} & \underline{70.00} & 1.5 \\
\midrule
real images & 4.500 & 4.500 & - \\
\bottomrule
\end{tabular}}
\end{table}
""".replace("TITLE", TITLE).replace("CAPTION", CAPTION.replace("_", r"\_").replace("²", "$^2$"))

HTML = f"""\
<table>
<caption><b>Table 1.</b> {TITLE}</caption>
<thead><tr><th scope="col">model</th><th scope="col">mnist Rec.</th><th scope="col">mnist Gen.</th>\
<th scope="col">mean rank</th></tr></thead>
<tbody>
<tr><th scope="row">VAE</th><td data-value="50"><u>50.00 ± 1.41</u></td><td data-value="60"><b>60.00 ± 2.83</b></td>\
<td data-value="1.5">1.5</td></tr>
<tr><th scope="row">FLEXAE</th><td data-value="10"><b>10.00</b></td><td data-value="70"><u>70.00</u></td>\
<td data-value="1.5">1.5</td></tr>
</tbody>
<tfoot>
<tr><th scope="row">real images</th><td data-value="4.5">4.500</td><td data-value="4.5">4.500</td><td>-</td></tr>
</tfoot>
</table>
<p>{CAPTION.replace("'", "&#x27;")}</p>
"""

CSV = """\
table,model,dataset,score,mean,std,seeds,rank,mark
1,VAE,mnist,Rec.,50.0,1.4142135623730951,2,2.0,second
1,FLEXAE,mnist,Rec.,10.0,,1,1.0,best
1,real images,mnist,Rec.,4.5,,1,,
1,VAE,mnist,Gen.,60.0,2.8284271247461903,2,1.0,best
1,FLEXAE,mnist,Gen.,70.0,,1,2.0,second
1,real images,mnist,Gen.,4.5,,1,,
"""


@pytest.mark.parametrize(("style", "expected"), [("md", MARKDOWN), ("latex", LATEX), ("html", HTML), ("csv", CSV)])
def test_golden(style: str, expected: str):
    rows = [*both("flexae", 10, 70), *both("vae", 49, 58), *both("vae", 51, 62, seed=1)]
    assert to_text(make(frame(*rows), 1), style) == expected


HOSTILE = "[x](y) <img src=x onerror=alert(1)> & 50% of_$a#{b}~^\\ | c"


def test_what_a_title_holds_is_text_in_every_format():
    table = make(frame(*both("a", 1, 2, title=HOSTILE), *both("b", 3, 4)), 1)
    assert "<img" not in to_text(table, "html") and "&lt;img src=x" in to_text(table, "html")
    assert "<img" not in to_text(table, "md") and "\\\\ \\| c |" in to_text(table, "md")
    assert "[x\\](y)" in to_text(table, "md")
    assert r"$<$img src=x" in to_text(table, "latex") and r"50\% of\_\$a\#\{b\}" in to_text(table, "latex")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(tmp_path: Path):
    rows = frame(*both("a", 1, 2, title=HOSTILE), *both("b", 3, 4), *both("b", 3, 4, latent_dim=64, variant="x"),
                 *memorised("a"), *memorised("b"))  # fmt: skip
    tables = "\n".join(to_text(table, "latex") for table in make_several(rows, ["1", "3", "4", "cost"]).values())
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "tables.tex").write_text(f"{head}\n{tables}\n\\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert result.returncode == 0, result.stdout
    assert (tmp_path / "tables.pdf").stat().st_size > 1000


def scores(**values: list[float]) -> pd.DataFrame:
    """Generation scores of several seeds, by model."""
    return frame(*(r for m, vs in values.items() for seed, v in enumerate(vs) for r in both(m, 50, v, seed)))


@pytest.mark.parametrize(
    ("values", "best", "second"),
    [
        ({"a": [10, 11], "b": [20, 21], "c": [30, 31]}, {"A"}, "B"),
        ({"a": [10, 14], "b": [13, 15], "c": [30, 31]}, {"A", "B"}, "C"),  # differ by 2, within hypot(2.8, 1.4)
        ({"a": [10, 14], "b": [13.5], "c": [30, 31]}, {"A", "B"}, "C"),  # b gets the median spread, 1.8
        ({"a": [10], "b": [10.001], "c": [30]}, {"A"}, "B"),  # nothing is known of the spread
        ({"a": [10], "b": [10], "c": [30]}, {"A", "B"}, "C"),
        ({"a": [9, 11], "b": [12, 12.1], "c": [8, 18]}, {"A"}, "B"),  # c is behind b, though not told apart from a
        ({"a": [10, 14], "b": [13, 15]}, set(), None),  # no one is ahead of anyone
        ({"a": [10, 11]}, set(), None),
    ],
)
def test_a_lead_within_the_seed_spread_is_no_win(values: dict, best: set[str], second: str | None):
    order = rank_column(make(scores(**values), 1), ("mnist", "Gen."))
    assert (set(order.best), order.second) == (best, second)


def test_ranks_are_means_over_columns_and_ties_share_theirs():
    rows = frame(*both("vae", 5, 6), *both("flexae", 5, 7), *both("wae-gan", 9, 8), row("ae-gmm", "gen_fd", 1))
    lines = to_text(make(rows, 1), "md").splitlines()
    ends = {line.split(" | ")[0].strip("| "): line.split(" | ")[-1].strip("| ") for line in lines if line[:2] == "| "}
    assert ends == {"model": "mean rank", "VAE": "1.8", "WAE-GAN": "3.5", "AE-GMM": "-", "FLEXAE": "2.2",
                    "real images": "-"}  # fmt: skip


def memorised(model: str, share: float = 0.9, se: float = 0.01, seed: int = 0, **more) -> list[dict]:
    """Table 4's rows of a model, with held-out images at 0.85 and noisy copies at 1."""
    pixels, held_out = {"space": None, **more}, {"n_images": 5_981}  # there are fewer of these
    return [
        row(model, "pms_gen_tr", 4.0, seed, **pixels), row(model, "pms_gen_te", 4.1, seed, **pixels),
        row(model, "pms_gen_all", 3.5, seed, **pixels), row(model, "pms_val_all", 3.6, seed, **held_out, **pixels),
        row(model, "pms_ratio_gen", share, seed, se=se, **pixels),
        row(model, "pms_ratio_val", 0.85, seed, se=0.01, **held_out, **pixels),
        row(model, "pms_ratio_copy", 1.0, seed, se=0.001, **pixels), row(model, "ims_gen_tr", 9.0, seed, **more),
        row(model, "ims_ratio_gen", 0.84, seed, se=0.01, **more),
        row(model, "ims_ratio_val", 0.85, seed, se=0.01, **held_out, **more),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("share", "se", "verdict"),
    [(0.86, 0.01, "no sign of it"), (0.89, 0.01, "no sign of it"), (0.90, 0.01, "memorises"),
     (0.90, 0.03, "no sign of it"), (0.50, 0.01, "no sign of it")],
)  # fmt: skip
def test_the_verdict_on_memorising(share: float, se: float, verdict: str):
    table = make(frame(*memorised("vae", share, se), *memorised("flexae", 0.85)), 4)
    assert table.verdicts == {"mnist": {"VAE": verdict, "FLEXAE": "no sign of it"}}
    assert f"| {share:.3f} | 9.000 | 0.840 | {verdict} |" in to_text(table, "md")
    assert "3 standard errors" in table.caption


def test_the_verdict_is_open_where_copies_would_not_be_told_apart():
    table = make(frame(*memorised("vae", 1.0, 0.1), row("flexae", "pms_gen_tr", 4.0, space=None)), 4)
    assert table.verdicts == {"mnist": {"VAE": "no sign of it"}}  # in features copies would be
    rows = [r for r in memorised("vae", 1.0, 0.1) if not r["family"].startswith("ims")]
    assert make(frame(*rows), 4).verdicts == {"mnist": {"VAE": "cannot tell"}}


def test_each_dataset_has_its_own_verdict():
    pixels = [r for r in (*memorised("vae", 0.95), *memorised("vae", 0.85, dataset="digits")) if r["space"] is None]
    text = to_text(make(frame(*pixels), 4), "md")
    assert text.count("| memorises |") == text.count("| no sign of it |") == 1


def test_a_number_of_images_is_chosen_for_models_and_controls_together():
    few = [{**r, "value": 2 * r["value"], "n_images": min(r["n_images"], 256)} for r in memorised("vae")]
    rows = frame(*memorised("vae"), *few)
    with pytest.raises(FlexbenchError, match="--images with one: 256, 10000"):
        make(rows, 4)
    for images, value in ((256, 7.2), (10_000, 3.6)):
        assert make(rows, 4, images=images).frame.loc["real images", ("mnist", "PMS Gen-All")] == value


def test_table_4_shows_what_copies_and_held_out_images_get():
    table = make(frame(*memorised("vae")), 4)
    assert table.frame.loc["noisy copies", ("mnist", "nearest in Tr, pixels")] == 1
    assert table.frame.loc["real images", ("mnist", "PMS Gen-All")] == 3.6
    assert table.models == ["VAE"]


def test_results_without_the_test_of_memorising_have_no_verdict():
    table = make(frame(row("vae", "pms_gen_tr", 4.0, space=None), row("vae", "pms_gen_te", 4.0, space=None)), 4)
    assert table.verdicts == {} and list(table.frame.columns) == [("mnist", "PMS Gen-Tr"), ("mnist", "PMS Gen-Te")]


def test_sizes_of_few_models_are_left_to_table_3():
    here = [row for i, name in enumerate(("vae", "alae", "flexae")) for row in both(name, i, i)]
    rows = frame(*here, *both("flexae", 3, 3, latent_dim=64, variant="f64"), *both("vae", 1, 1, dataset="digits"))
    table = make(rows, 1)
    assert table.models == ["VAE", "ALAE", "FLEXAE"] and "m=32;" in table.caption
    assert "Left out, because less than half of these models ran there: mnist m=64." in table.caption
    assert len(cost(rows)) == 4
    by_size = make(rows, 3)
    assert by_size.models == ["FLEXAE"] and "ran there" not in by_size.caption
    rows = frame(*here, *both("flexae", 3, 3, latent_dim=64, variant="f64"), *both("vae", 3, 3, latent_dim=64))
    assert {"VAE m=64", "FLEXAE m=64", "ALAE m=32"} < set(make(rows, 1).models)  # one may have failed at a size


def test_table_3_has_a_column_per_latent_size():
    grid = [(m, d) for m in ("vae", "flexae") for d in (32, 128, 64)]
    sizes = [r for m, d in grid for r in both(m, 5 + d, 6 + d, latent_dim=d, variant=f"{m}{d}")]
    table = make(frame(*sizes, *both("vae", 1, 1, dataset="digits", latent_dim=16)), 3)
    assert list(table.frame.index) == ["VAE", "FLEXAE", "real images"]
    assert list(table.frame.columns) == [("mnist", f"{h} m={d}") for d in (32, 64, 128) for h in ("Rec.", "Gen.")]
    assert table.frame.loc["FLEXAE", ("mnist", "Gen. m=64")] == 70
    assert table.frame.loc["real images", ("mnist", "Gen. m=64")] == 4.5


def test_table_3_of_one_size_says_what_to_run_and_is_left_out_of_all():
    rows = frame(*both("vae", 5, 6))
    with pytest.raises(FlexbenchError, match=r"mnist m=32.*--latent-dim 32,64,128"):
        make(rows, 3)
    assert list(make_several(rows, ["1", "3", "cost"])) == ["1", "cost"]


def followed(model: str, **curves: list[float]) -> list[dict]:
    """A job with snapshots at steps 1,000 and 2,000, a TFLOP per step; the floor is scored at the end alone."""
    rows = [
        row(model, family, value, step=step, checkpoint="last" if step == 3000 else f"step {step}",
            train_flops=step * (2e12 if model == "flexae" else 1e12))
        for family, values in curves.items()
        for step, value in zip((1000, 2000, 3000), values, strict=True)
    ]  # fmt: skip
    return [*rows, row(model, "real_fd", 1.0)]


FOLLOWED = [
    *followed("vae", gen_fd=[9, 7, 8], rec_fd=[5, 4, 3], gen_fd_val=[6, 8, 7]),
    *followed("flexae", gen_fd=[4, 5, 3], rec_fd=[2, 1, 1], gen_fd_val=[9, 5, 6]),
]


@pytest.mark.parametrize(
    ("rule", "vae", "flexae"),
    [("last", (3, 8), (1, 3)), ("best_val", (5, 9), (1, 5)), ("oracle", (4, 7), (1, 3)), ("flops", (3, 8), (2, 4))],
)
def test_selection_of_a_checkpoint(rule: str, vae: tuple, flexae: tuple):
    table = make(frame(*FOLLOWED), 1, rule=rule)
    assert tuple(table.frame.loc["VAE"]) == vae and tuple(table.frame.loc["FLEXAE"]) == flexae
    assert tuple(table.frame.loc["real images"]) == (1, 1)
    assert selection.RULES[rule] in table.caption


def test_selection_goes_with_distances_only_and_has_four_rules():
    rows = frame(*FOLLOWED, row("vae", "gen_recall_f8", 0.5))
    with pytest.raises(FlexbenchError, match="tables 1 and 3"):
        make(rows, 2, rule="oracle")
    with pytest.raises(FlexbenchError, match="best_val"):
        make(rows, 1, rule="best")
    assert list(make_several(rows, ["1", "2", "cost"], rule="oracle")) == ["1", "cost"]


def test_a_rule_looks_at_what_is_in_the_table_only():
    cheap = both("ae-gmm", 1, 1, preset="smoke", train_flops=1.0, step=30)
    tried = [row("vae", "gen_fd_val", 3, hash="try", train_flops=1.0)]
    rows = frame(*FOLLOWED, *cheap, *tried, row("vae", "gen_fd", 0.1, n_images=256, hash="vae0"))
    for rule, expected in {"last": (3, 8), "best_val": (5, 9), "oracle": (4, 7), "flops": (3, 8)}.items():
        table = make(rows, 1, preset="cpu", images=10_000, rule=rule)
        assert tuple(table.frame.loc["VAE"]) == expected


def test_models_without_a_checkpoint_that_the_rule_takes_are_named():
    rows = frame(*FOLLOWED, *both("alae", 1, 1, train_flops=1e18))
    table = make(rows, 1, rule="flops")
    assert "ALAE" not in table.frame.index and "no scored checkpoint of that kind: ALAE on mnist." in table.caption
    assert "Left out" not in make(rows, 1).caption
    with pytest.raises(FlexbenchError, match="--score-every"):
        make(frame(*both("vae", 1, 1)), 1, rule="best_val")


def test_the_cost_is_that_of_the_whole_training():
    assert list(cost(frame(*FOLLOWED))["training TFLOPs"]) == [3000, 6000]


def test_a_thousand_jobs_are_tabulated_without_torch(tmp_path: Path):
    """That this is quick is shown by perf/tables.py."""
    fabricated.jobs(tmp_path, 1000)
    code = (
        "import sys; from cli import main; main(['table', '1', '--out', sys.argv[1]], standalone_mode=False); "
        "assert 'torch' not in sys.modules and 'mlflow' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    text = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout
    assert "| VAE | 5.500 ± 0.289 | 5.500 ± 0.289 |" in text
    assert not (tmp_path / "results.csv").exists()  # a command that reads writes nothing


def test_higher_is_better_where_the_metric_says_so():
    rows = [row("vae", "gen_precision_f1_8", 0.4), row("flexae", "gen_precision_f1_8", 0.7)]
    assert "| FLEXAE | **0.700** |" in to_text(make(frame(*rows), 2), "md")


def test_neither_distance_of_memorisation_is_best():
    rows = [row(m, f, v, space=None) for m, v in (("vae", 4.0), ("flexae", 5.0)) for f in ("pms_gen_tr", "pms_gen_te")]
    assert "**" not in to_text(make(frame(*rows), 4), "md").removeprefix("**Table 4.**")


def test_ties_are_not_bold():
    text = to_text(make(frame(*both("vae", 5, 6), *both("flexae", 5, 7)), 1), "md")
    assert "**5.000**" not in text and "**6.000**" in text and "<ins>7.000</ins>" in text


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
        *both("flexae", 1, 1), *both("flexae", 2, 2, latent_dim=64, variant="f64"), *both("alae", 3, 3, latent_dim=64),
    )  # fmt: skip
    assert list(make(rows, 1).frame.index) == [
        "VAE m=32", "VAE [beta=2.0] m=32", "ALAE m=64", "FLEXAE m=32", "FLEXAE m=64", "MINE m=32 #1111",
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
        assert all(other is None or other in METRICS for other in (metric.floor, metric.control))
        assert (metric.table is None) == (metric.column == "")


def test_cost_counts_each_job_once():
    spent = {"parameters": 1_000, "images_seen": 500, "optimizer_steps": 30, "train_flops": 2e12}
    rows = [*both("vae", 5, 6, **spent, train_seconds=10.0), *both("vae", 5, 6, seed=1, **spent, train_seconds=20.0)]
    assert "| VAE | mnist | 1,000 | 500 | 30 | 0.6667 | 2 | 15.0 |" in to_text(cost(frame(*rows)), "md")
