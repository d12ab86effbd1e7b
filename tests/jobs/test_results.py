"""The record of an output root: what is appended, what is read, what is never lost, and that reading writes nothing."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest

from benchmark.core.errors import FlexbenchError
from benchmark.jobs.job import EvaluationConfig
from benchmark.jobs.results import (
    COLUMNS,
    DAMAGED,
    FAILED,
    FILE,
    SPACES,
    Cost,
    Record,
    ResultRow,
    fingerprint_key,
    read_results,
)
from tests import fabricated
from tests.conftest import SMALL

TEXT = '{"space":"pixels"}'
KEY = fingerprint_key(TEXT)
WHOLE = EvaluationConfig("pixels", 40).key
ROW = ResultRow(
    protocol=1, model="vae", title="VAE", dataset="mnist", latent_dim=32, seed=0, preset="cpu", hash="0123abcd",
    variant="v", step=30, metric="gen_fd40_test@pixels", family="gen_fd", value=0.1 + 0.2, se=1e-17, n_images=40,
    space="pixels", fingerprint=KEY, dataset_hash="d" * 64, git="g" * 40, evaluation=WHOLE, images_seen=960,
    optimizer_steps=30, train_seconds=1.5, parameters=1000, train_flops=1e12,
)  # fmt: skip
OTHER = replace(ROW, metric="rec_fd40_test@pixels", family="rec_fd", value=5.0, se=None)
FAILURE = replace(ROW, hash="deadbeef", metric="", family="", value=None, se=None, status=FAILED,
                  reason='loss "a, b" is not finite')  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- the row --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [ROW, OTHER, FAILURE], ids=lambda r: r.family or "failure")
def test_a_row_survives_json_and_csv_to_the_last_digit(row: ResultRow, tmp_path: Path):
    assert ResultRow.read(json.loads(json.dumps(asdict(row)))) == row
    Record(tmp_path).append([row])
    assert Record(tmp_path).rows == [row]


def test_a_row_of_an_older_version_is_read_by_todays_names():
    old = {**asdict(ROW), "metric": "pms_share_gen", "family": "pms_share_gen", "fingerprint": TEXT}
    row = ResultRow.read({k: v for k, v in old.items() if k not in ("status", "reason", "evaluation")})
    assert (row.family, row.metric, row.fingerprint, row.status) == ("pms_ratio_gen", "pms_ratio_gen", KEY, "done")


def test_costs_add_up_over_phases():
    phases = [{"images": 64, "optimizer_steps": {"a": 2, "b": 3}, "seconds": 1.0, "flops_per_step": 10, "steps": 2},
              {"images": 100, "seconds": 0.5}]  # fmt: skip
    assert Cost.of(phases, 7) == Cost(164, 5, 1.5, 7, 20.0)


# -- the file -------------------------------------------------------------------------------------------------------


def test_the_fingerprint_of_a_space_is_stored_once(tmp_path: Path):
    for row in (ROW, OTHER):
        Record(tmp_path).append([row], {KEY: TEXT})
    assert json.loads((tmp_path / SPACES).read_text()) == {KEY: {"space": "pixels"}}
    assert "{" not in (tmp_path / FILE).read_text()


def test_appending_rewrites_nothing(tmp_path: Path):
    Record(tmp_path).append([ROW])
    before = (tmp_path / FILE).read_bytes()
    Record(tmp_path).append([OTHER])
    assert (tmp_path / FILE).read_bytes().startswith(before)


def test_a_failed_job_has_one_row_with_its_reason_until_it_has_scores(tmp_path: Path):
    record = Record(tmp_path)
    record.append([FAILURE])
    record.append([FAILURE])
    assert Record(tmp_path).rows == [FAILURE]
    assert Record(tmp_path).failures == {"deadbeef": FAILURE.reason} and not Record(tmp_path).evaluations
    record.append([replace(ROW, hash="deadbeef")])
    assert Record(tmp_path).failures == {} and Record(tmp_path).evaluations == {"deadbeef": {WHOLE}}


def test_of_equal_rows_the_later_counts_and_compaction_keeps_one(tmp_path: Path):
    for value in (1.0, 2.0):
        Record(tmp_path).append([replace(ROW, value=value)])
    assert [row.value for row in Record(tmp_path).rows] == [2.0]
    Record(tmp_path).reconcile()
    assert len((tmp_path / FILE).read_text().splitlines()) == 2


def test_a_torn_line_costs_itself_alone_and_is_kept_aside(tmp_path: Path):
    Record(tmp_path).append([ROW])
    with open(tmp_path / FILE, "a") as file:
        file.write("1,vae,VAE,mn")
    Record(tmp_path).append([OTHER])
    with pytest.warns(UserWarning, match="line 3 of .* cannot be read and is left out"):
        assert Record(tmp_path).rows == [ROW, OTHER]
    with pytest.warns(UserWarning, match="line 3"):
        Record(tmp_path).reconcile()
    assert Record(tmp_path).rows == [ROW, OTHER]
    assert "1,vae,VAE,mn" in (tmp_path / DAMAGED).read_text()


def test_a_file_with_columns_of_another_version_is_read_but_not_rewritten(tmp_path: Path):
    Record(tmp_path).append([ROW])
    header, line = (tmp_path / FILE).read_text().splitlines()
    (tmp_path / FILE).write_text(f"{header},mood\n{line},good\n")
    assert Record(tmp_path).rows == [ROW]
    before = contents(tmp_path)
    with pytest.raises(FlexbenchError, match="columns that this version does not know: mood"):
        Record(tmp_path).reconcile()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("content", ["", "\n", ",".join(COLUMNS), ",".join(COLUMNS) + "\n"])
def test_a_file_without_rows_has_none_and_takes_some(content: str, tmp_path: Path):
    (tmp_path / FILE).write_text(content)
    assert Record(tmp_path).rows == []
    Record(tmp_path).append([ROW])
    assert Record(tmp_path).rows == [ROW]


# -- run folders ----------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Run folders as an older version left them, without a results.csv."""
    return fabricated.site(tmp_path / "site")


def test_reading_takes_unrecorded_run_folders_into_account_and_writes_nothing(site: Path):
    before = contents(site)
    frame = read_results(site)
    assert len(frame) and contents(site) == before
    assert set(frame.folder) == {str(p.parent) for p in site.glob("runs/*/*/*/metrics.jsonl")} | {
        str(p.parent) for p in site.glob("runs/*/*/*/failed")
    }


def test_the_record_alone_gives_the_same_rows_as_the_run_folders(site: Path):
    frame = read_results(site)
    Record(site).reconcile()
    shutil.rmtree(site / "runs")
    alone = read_results(site)
    pd.testing.assert_frame_equal(frame.drop(columns="folder"), alone.drop(columns="folder"))
    assert set(alone.folder) == {""}


def test_a_file_of_the_older_layout_is_read_and_migrated(tmp_path: Path):
    old = [name for name in COLUMNS if name not in ("evaluation", "status", "reason")]
    values = {**asdict(ROW), "fingerprint": TEXT}
    pd.DataFrame([values])[old].to_csv(tmp_path / FILE, index=False)
    assert Record(tmp_path).rows == [ROW]
    Record(tmp_path).reconcile()
    assert (tmp_path / FILE).read_text().splitlines()[0] == ",".join(COLUMNS)
    assert Record(tmp_path).rows == [ROW] and KEY in json.loads((tmp_path / SPACES).read_text())


def test_newer_scores_of_a_recorded_run_are_seen(site: Path):
    Record(site).reconcile()
    (folder,) = site.glob("runs/mnist/flexae/32-s0-*")
    more = replace(ROW, hash=folder.name[-8:], value=123.0, evaluation="x")
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps(asdict(more)) + "\n")
    assert more in Record(site).rows


def test_jobs_that_are_trained_anew_lose_their_old_rows(tmp_path: Path):
    Record(tmp_path).append([ROW, replace(ROW, hash="11111111")])
    Record(tmp_path).reconcile(forget=[ROW.hash])
    assert [row.hash for row in Record(tmp_path).rows] == ["11111111"]


# -- several roots --------------------------------------------------------------------------------------------------


def test_rows_of_several_roots_stand_side_by_side(tmp_path: Path):
    mine, hers = tmp_path / "mine", tmp_path / "hers"
    Record(mine).append([ROW, OTHER])
    Record(hers).append([ROW, replace(ROW, hash="11111111", seed=1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frame = read_results([mine, hers])
    assert sorted(zip(frame.hash, frame.family, strict=True)) == [
        ("0123abcd", "gen_fd"), ("0123abcd", "rec_fd"), ("11111111", "gen_fd")
    ]  # fmt: skip


def test_the_first_root_counts_where_two_differ_and_one_line_names_both(tmp_path: Path):
    mine, hers = tmp_path / "mine", tmp_path / "hers"
    Record(mine).append([ROW, OTHER])
    Record(hers).append([replace(ROW, value=9.0), replace(OTHER, value=9.0)])
    with pytest.warns(UserWarning, match=f"2 score.*differ between .{mine}. and .{hers}.") as caught:
        frame = read_results([mine, hers])
    assert sorted(frame.value) == sorted([ROW.value, OTHER.value]) and len(caught) == 1


@pytest.mark.parametrize(
    "change",
    [{"dataset_hash": "e"}, {"checkpoint": "step 5"}, {"n_images": 41}, {"fingerprint": "f"}, {"protocol": 2}],
    ids=lambda change: next(iter(change)),
)
def test_what_makes_a_row_another_one(change: dict, tmp_path: Path):
    Record(tmp_path).append([ROW, replace(ROW, **change)])
    assert len(Record(tmp_path).rows) == 2


# -- through the command line ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_job_that_fails_leaves_one_row_and_a_later_success_replaces_it(flexbench, tmp_path: Path):
    command = ["run", "--models", "vae", *SMALL, "--steps", "4", "--no-tracking", "--out", tmp_path]
    failing = flexbench(*command, "--set", "train.lr_factor=1e30")
    assert failing.exit_code == 1, failing.output
    (row,) = Record(tmp_path).rows
    assert row.status == FAILED and "is not finite" in row.reason and row.value is None and row.title == "VAE"
    shutil.rmtree(tmp_path / "runs")
    again = flexbench(*command, "--set", "train.lr_factor=1e30")
    assert again.exit_code == 1 and "1 jobs: 1 failed" in again.output  # the file knows it: nothing is trained
    assert not (tmp_path / "runs").exists()
    assert flexbench("table", "--out", tmp_path).exit_code == 2
    assert flexbench(*command).exit_code == 0
    statuses = [row.status for row in Record(tmp_path).rows]
    assert statuses.count(FAILED) == 1 and statuses.count("done") > 1
