"""The page without a browser: same bytes, the tables' numbers, nothing but text from what was written by others."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

import benchmark
from benchmark.core.errors import FlexbenchError
from benchmark.jobs.results import read_results as results
from benchmark.reporting import commands, report, rows, runs
from benchmark.reporting.formats import to_text
from benchmark.reporting.layout import score_text
from benchmark.reporting.report import page, policy, write
from benchmark.reporting.summary import leaders
from benchmark.reporting.tables import FLOOR, cost, make
from tests import fabricated
from tests.fabricated import HOSTILE

DRAW_FIGURES = report.draw_figures
SCORES = {"rec_fd": 50.0, "gen_fd": 90.0, "real_fd": 2.5}


class Parsed(HTMLParser):
    """Tags with their attributes, texts, and the rows of every table by the id of its section."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.rows: dict[str, list[list[tuple[str, str | None]]]] = {}
        self.section, self.open = "", False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag == "section" and "id" in given:
            self.section = given["id"]
        if tag == "tr":
            self.rows.setdefault(self.section, []).append([])
        if tag in ("td", "th"):
            self.rows[self.section][-1].append(("", given.get("data-value")))
            self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = self.open and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open:
            row = self.rows[self.section][-1]
            row[-1] = (row[-1][0] + data, row[-1][1])

    def body(self, section: str) -> dict[str, list[tuple[str, str | None]]]:
        """Rows by their first cell."""
        return {" ".join(row[0][0].split()): row[1:] for row in self.rows[section]}


@pytest.fixture(scope="module", autouse=True)
def without_figures() -> Iterator[None]:
    """Figures take longer than all the rest of a page: they have a test of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_figures", lambda *_, **__: [])
        yield


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fabricated.site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def text(site: Path) -> str:
    return page(site)


@pytest.fixture(scope="module")
def parsed(text: str) -> Parsed:
    return Parsed(text)


def test_the_same_runs_give_the_same_bytes_wherever_they_lie(site: Path, text: str, tmp_path: Path):
    shutil.copytree(site, tmp_path / "elsewhere")
    assert page(site) == page(tmp_path / "elsewhere") == text
    assert str(site) not in text


@pytest.mark.parametrize("number", [1, 2, 4])
def test_every_number_is_the_tables(site: Path, parsed: Parsed, number: int):
    table = make(results(site), number)
    shown = parsed.body(f"table-{number}")
    for row in table.frame.index:
        for column, (words, value) in zip(table.frame.columns, shown[row], strict=False):
            assert " ".join(words.split()) == score_text(table, row, column)
            expected = table.frame.loc[row, column]
            assert (value is None) == (expected != expected) and (
                value is None or float(value) == pytest.approx(expected)
            )


def test_the_cost_table_is_there(site: Path, parsed: Parsed):
    assert parsed.rows["table-cost"][1][0][0] == "VAE"
    assert len(parsed.rows["table-cost"]) == 1 + len(cost(results(site)))


def test_real_images_stand_last_in_a_body_of_their_own(text: str):
    (references,) = re.findall(r'<tbody class="references">(.*?)</tbody>', text.split('id="table-2"')[0].split(
        'id="table-1"')[-1], re.DOTALL)  # fmt: skip
    assert FLOOR in references and references.count("<tr>") == 1


def test_csv_links_hold_the_tables(site: Path, parsed: Parsed):
    links = {given["download"]: given["href"] for tag, given in parsed.tags if tag == "a" and "download" in given}
    assert set(links) == {
        f"{name}.csv" for name in ("table-1", "table-2", "table-4", "table-cost", "diagnostics", "runs")
    }
    content = base64.b64decode(links["table-1.csv"].partition("base64,")[2]).decode()
    assert content == to_text(make(results(site), 1), "csv")


def test_what_others_wrote_stays_text(text: str, parsed: Parsed):
    assert "<img src=x" not in text
    assert not [given for _, given in parsed.tags for name in given if name.startswith("on")]
    assert f"{HOSTILE} [name={HOSTILE}]" in parsed.text  # title and settings
    assert f"is not finite {HOSTILE}" in parsed.text  # reason of a failure
    assert any(given.get("alt", "").endswith(f"{HOSTILE}] on mnist") for _, given in parsed.tags)


def test_captions_and_names_of_diagnostics_stay_text(tmp_path: Path):
    folder = fabricated.run(tmp_path, "vae", title="VAE", scores=SCORES, space=HOSTILE)
    fabricated.write(folder / "diagnostics.json", {HOSTILE: 1.0})
    made = page(tmp_path)
    assert "<img src=x" not in made
    assert f"rec_fd@{HOSTILE}. 10,000 images" in Parsed(made).text
    assert HOSTILE in [column for column, _ in Parsed(made).rows["diagnostics"][0]]


def test_nothing_is_loaded_from_anywhere(text: str, parsed: Parsed):
    for tag, given in parsed.tags:
        for name in ("src", "href", "srcset", "poster", "action", "data"):
            assert given.get(name, "#").startswith(("#", "data:")), (tag, given)
        assert "style" not in given
    style, script = (re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1] for tag in ("style", "script"))
    assert "url(" not in style and "@import" not in style
    assert "fetch" not in script and len(script.splitlines()) < 150
    meta = next(given for tag, given in parsed.tags if given.get("http-equiv") == "Content-Security-Policy")
    assert meta["content"] == policy(style, script) and meta["content"].startswith("default-src 'none'; img-src data:;")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in meta["content"] and "unsafe" not in meta["content"]


def test_pictures_are_the_files_of_the_first_seeds(site: Path, parsed: Parsed):
    shown = [base64.b64decode(given["src"].partition("base64,")[2])
             for tag, given in parsed.tags if tag == "img" and "src" in given]  # fmt: skip
    folders = [path for path in site.glob("runs/*/*/32-s0-*") if "5.0" not in (path / "metrics.jsonl").read_text()]
    files = {(folder / name).read_bytes() for folder in folders for name in ("samples.png", "reconstructions.png")}
    assert set(shown) == files and len(shown) == len(files) == 12
    sizes = {(given["width"], given["height"]) for tag, given in parsed.tags if tag == "img" and "src" in given}
    assert sizes == {("233", "233"), ("201", "201")}  # 466 of two and 402 of six screen pixels per pixel


def test_pictures_stand_in_the_order_of_the_tables(parsed: Parsed):
    made = [given["alt"] for tag, given in parsed.tags if given.get("alt", "").startswith("A grid of images")]
    names = [alt.removeprefix("A grid of images generated by ").split(" on ")[0].split(" [")[0] for alt in made]
    assert names == ["VAE", "FlexAE", "VAE", "WAE-GAN", "FlexAE", HOSTILE]


def test_figure_5_stands_beside_the_pictures_of_the_run_it_is_of(tmp_path: Path):
    folder = fabricated.run(tmp_path, "vae", scores={"gen_fd": 5.0})
    picture = (folder / "samples.png").read_bytes()
    drawn = tmp_path / "figures" / "5-mnist-vae.png"
    drawn.parent.mkdir()
    for digest, count in ((folder.name.rpartition("-")[2], 3), ("00000000", 2)):
        drawn.write_bytes(picture + f"seed 0, run {digest}.".encode())
        made = Parsed(write(tmp_path).read_text())
        alts = [given["alt"] for tag, given in made.tags if tag == "img" and "src" in given]
        assert len(alts) == count and sum("nearest to samples" in alt for alt in alts) == count - 2


def test_scores_taken_in_training_do_not_stand_for_the_trained_model(tmp_path: Path):
    folder = fabricated.run(tmp_path, "vae", scores=SCORES)
    rows = (folder / "metrics.jsonl").read_text()
    early = rows.replace('"last"', '"step 500"').replace('"train_seconds": 60.0', '"train_seconds": 9.0')
    (folder / "metrics.jsonl").write_text(early.replace('"step": 3000', '"step": 500') + rows)
    (run,) = runs.find_runs(tmp_path)
    assert run.last["train_seconds"] == 60.0 and len(run.test_rows) == 1
    (folder / "metrics.jsonl").write_text(early)
    (run,) = runs.find_runs(tmp_path)
    assert run.last == {} and commands.reproduce([run]) == []


def test_a_broken_picture_is_left_out(tmp_path: Path):
    (fabricated.run(tmp_path, "vae", scores=SCORES) / "samples.png").write_bytes(b"no picture")
    assert [given["alt"] for tag, given in Parsed(page(tmp_path)).tags if tag == "img" and given.get("src")] == [
        "Rows of test images, each above its reconstructions by VAE on mnist"
    ]


def test_the_summary_names_the_best_and_counts_the_runs(site: Path, parsed: Parsed):
    frame = results(site)
    digits, mnist = leaders({str(n): make(frame, n) for n in (1, 2)})
    assert [place.row for place in mnist.generation] == ["FlexAE", "VAE", "WAE-GAN [reg_scale=0.05]"]
    assert (mnist.generation[0].score, mnist.floor) == ("71.75 ± 2.12", "2.500")
    assert mnist.reconstruction.row == "FlexAE" and mnist.best_rank.rows == ("FlexAE",)
    assert digits.best_rank.rows == ("VAE", "FlexAE") and digits.best_rank.value == "1.5"
    assert dict(runs.tally(runs.find_runs(site)).counts) == {"done": 9, "failed": 1, "unfinished": 1}
    assert "1 finished run was scored on validation images only" in parsed.text


def test_a_shared_first_place_is_said(tmp_path: Path):
    for seed, (one, other) in enumerate([(10, 11), (14, 15)]):
        fabricated.run(tmp_path, "vae", seed, scores=SCORES | {"gen_fd": one})
        fabricated.run(tmp_path, "flexae", seed, scores=SCORES | {"gen_fd": other})
    fabricated.run(tmp_path, "wae-gan", scores=SCORES | {"gen_fd": 99})
    (found,) = leaders({"1": make(results(tmp_path), 1)})
    assert [(place.row, place.tied) for place in found.generation] == [
        ("VAE", False), ("FLEXAE", True), ("WAE-GAN", False),
    ]  # fmt: skip
    assert "shares the first place" in page(tmp_path)


def test_only_failed_runs_still_make_a_page(tmp_path: Path):
    fabricated.run(tmp_path, "vae", failed="loss 'total' is not finite")
    parsed = Parsed(page(tmp_path))
    assert "No run has test scores yet." in parsed.text and "vae on mnist, m=32, seed 0: loss 'total'" in parsed.text
    assert "beta=1.0" in parsed.text  # before scores tell what differs from the defaults, every knob is named
    assert set(parsed.rows) == {"runs"}


def test_only_tries_still_make_a_page(tmp_path: Path):
    fabricated.run(tmp_path, "vae", scores={"gen_fd_val": 110.0})
    parsed = Parsed(page(tmp_path))
    assert set(parsed.rows) == {"diagnostics", "runs"}
    assert sum(tag == "img" and "src" in given for tag, given in parsed.tags) == 2


def test_what_is_wrong_is_one_clear_line(tmp_path: Path, site: Path):
    with pytest.raises(FlexbenchError, match=r"nothing has run\. Start with: flexbench run"):
        page(tmp_path)
    with pytest.raises(FlexbenchError, match="there is no folder"):
        page(tmp_path / "none")
    with pytest.raises(FlexbenchError, match=r"no runs with --preset 'paper'\. There are: cpu"):
        page(site, preset="paper")
    with pytest.raises(FlexbenchError, match="is a folder"):
        write(site, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_results_that_may_not_share_a_table_must_be_chosen(tmp_path: Path):
    fabricated.run(tmp_path, "vae", title="VAE", scores=SCORES)
    fabricated.run(tmp_path, "flexae", title="FlexAE", scores=SCORES, space="pixels")
    with pytest.raises(FlexbenchError, match="Use --features with one"):
        page(tmp_path)
    parsed = Parsed(page(tmp_path, space="pixels"))
    assert list(parsed.body("table-1")) == ["", "model", "FlexAE", FLOOR]
    assert "flexbench report --features pixels" in parsed.text


def test_commands_make_the_scored_runs_again(site: Path):
    found = runs.find_runs(site)
    assert commands.reproduce(found) == [
        "flexbench run --models flexae,vae --datasets digits --preset cpu --latent-dim 32 --seeds 0",
        "flexbench run --models flexae,vae --datasets mnist --preset cpu --latent-dim 32 --seeds 0,1",
        "flexbench run --models mine,wae-gan --datasets mnist --preset cpu --latent-dim 32 --seeds 0 "
        f"--set 'mine.name={HOSTILE}' --set wae-gan.reg_scale=0.05 --include FILE",
    ]
    assert list(commands.preset_options("cpu[steps=500,width=0.5]")) == [
        "--preset", "cpu", "--set", "train.steps=500", "--set", "train.width=0.5",
    ]  # fmt: skip
    assert commands.yaml_pairs("a=1, b=None") == ["a=1", "b=null"]
    assert tuple(map(commands.seed_range, ((0, 1, 2), (0, 2), (4,)))) == ("0-2", "0,2", "4")


def test_commands_and_function(site: Path, tmp_path: Path, flexbench, text: str):
    result = flexbench("report", "--out", site, "--to", tmp_path / "new" / "x.html")
    assert result.exit_code == 0, result.output
    assert re.fullmatch(r"Report: .*x\.html \(\d\.\d MB\)\n", result.output)
    assert (tmp_path / "new" / "x.html").read_text() == text
    assert benchmark.report(out=site) == site / "report.html"
    assert (site / "report.html").read_text() == text
    assert flexbench("report", "--out", tmp_path / "none").exit_code == 2


def test_many_runs_without_pictures(tmp_path: Path):
    fabricated.jobs(tmp_path, 200)
    assert report.figure_names(runs.find_runs(tmp_path)[:100]) == ["pareto", "dims", "2", "curves"]
    assert report.figure_names(runs.find_runs(tmp_path)) == ["pareto", "dims", "2"]
    parsed = Parsed(page(tmp_path))
    assert len(parsed.rows["runs"]) == 201
    assert "VAE" in parsed.body("table-1")


def test_figures_are_images_drawn_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report, "draw_figures", DRAW_FIGURES)
    fabricated.run(tmp_path, "vae", title=HOSTILE, scores=SCORES)
    text = page(tmp_path)
    assert text == page(tmp_path)
    parsed = Parsed(text)
    shown = [given for tag, given in parsed.tags if given.get("src", "").startswith("data:image/svg+xml;base64,")]
    assert len(shown) == 2 and "<svg" not in text  # there is one latent size
    for given in shown:
        title, _, caption = given["alt"].partition(". ")
        assert title in parsed.text and caption in parsed.text
        assert base64.b64decode(given["src"].partition("base64,")[2]).lstrip().startswith(b"<?xml")
    assert "Losses over steps" in parsed.text and not [g for _, g in parsed.tags if "style" in g]


# -- without run folders ------------------------------------------------------------------------------------------


@pytest.fixture
def rows_only(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output root that has the rows of `site`, one row of a failed job, and no run folders."""
    frame = rows.load_rows(site).assign(folder="")
    frame = frame[frame.status == "done"]
    failed = {**frame.iloc[0].to_dict(), "hash": "ffffffff", "seed": 7, "metric": "", "family": "",
              "value": float("nan"), "status": "failed", "reason": "loss 'total' is not finite"}  # fmt: skip
    frame = pd.concat([frame, pd.DataFrame([failed])], ignore_index=True)
    for module in (rows, report, runs):
        monkeypatch.setattr(module, "load_rows", lambda _: frame)
    return tmp_path


def test_rows_alone_make_a_report_without_pictures(
    rows_only: Path, parsed: Parsed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(report, "draw_figures", DRAW_FIGURES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples.png").write_bytes(b"of no run")  # an empty folder name is not the current folder
    made = Parsed(page(rows_only))
    for table in ("table-1", "table-2", "table-4", "table-cost"):
        assert made.rows[table] == parsed.rows[table]
    assert "Pictures: the run folders are not here." in made.text and "diagnostics" not in made.rows
    pictures = [given["alt"].partition(",")[0] for tag, given in made.tags if tag == "img" and "src" in given]
    assert [alt.partition(".")[0] for alt in pictures] == ["Generation score against training compute"]
    states = [row[4][0] for row in made.rows["runs"][1:]]
    assert (states.count("done"), states.count("failed")) == (9, 1)
    assert "m=32, seed 7: loss 'total' is not finite" in made.text
    assert commands.reproduce(runs.find_runs(rows_only)) == commands.reproduce(
        [run for run in runs.find_runs(rows_only) if run.state == "done"]
    )


def test_a_missing_run_folder_is_named_beside_the_pictures_of_the_others(tmp_path: Path, monkeypatch):
    fabricated.run(tmp_path, "vae", title="VAE", scores=SCORES)
    gone = fabricated.run(tmp_path, "flexae", title="FlexAE", scores=SCORES)
    frame = rows.load_rows(tmp_path)
    shutil.rmtree(gone)
    frame.loc[frame.model == "flexae", "folder"] = ""
    monkeypatch.setattr(report, "load_rows", lambda _: frame)
    made = Parsed(page(tmp_path))
    assert "Pictures: the run folders of 1 run are not here." in made.text
    assert {given["alt"].partition(" on ")[0] for tag, given in made.tags if tag == "img" and "src" in given} == {
        "A grid of images generated by VAE", "Rows of test images, each above its reconstructions by VAE",
    }  # fmt: skip
    assert list(made.body("table-1")) == ["", "model", "VAE", "FlexAE", FLOOR]


def test_several_output_roots_make_one_report(tmp_path: Path):
    for name, model in (("a", "vae"), ("b", "flexae")):
        fabricated.run(tmp_path / name, model, title=model, scores=SCORES)
    made = Parsed(page([tmp_path / "a", tmp_path / "b"]))
    assert list(made.body("table-1")) == ["", "model", "vae", "flexae", FLOOR] and len(made.rows["runs"]) == 3
    assert write([tmp_path / "a", tmp_path / "b"]) == tmp_path / "a" / "report.html"
