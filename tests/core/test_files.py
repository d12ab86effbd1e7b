"""Files that survive a crash, and seeds by purpose."""

import os

import pytest

from benchmark.core.errors import FlexbenchError
from benchmark.core.files import (
    append_jsonl,
    atomic_folder,
    atomic_write,
    ensure_dir,
    read_json,
    read_jsonl,
    sha256_file,
    write_json,
)
from benchmark.core.seeding import derive, seed_everything


class Unencodable(str):
    def encode(self):
        raise MemoryError


def refuse(*paths):
    raise OSError("disk full")


def test_atomic_write_replaces_text_and_bytes(tmp_path):
    path = tmp_path / "a.txt"
    for content in ("ü", b"\x00\xff", ""):
        atomic_write(path, content)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("broken", ["encode", "fsync", "replace"])
def test_an_interrupted_write_keeps_the_old_content_and_leaves_nothing(tmp_path, monkeypatch, broken):
    path = tmp_path / "a.txt"
    atomic_write(path, "old")
    content = Unencodable("new") if broken == "encode" else "new"
    if broken != "encode":
        monkeypatch.setattr(os, broken, refuse)
    with pytest.raises((OSError, MemoryError)):
        atomic_write(path, content)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_json_round_trip_and_default(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, None, 2.5], "a": "ä"})
    assert read_json(tmp_path / "a.json") == {"b": [1, None, 2.5], "a": "ä"}
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]
    assert read_json(tmp_path / "none.json", default=7) == 7


@pytest.mark.parametrize("torn", [b'{"a": 3', b'{"a": "\\u20', b'{"a": 3}, ', b"\x00\x00\x00"])
def test_a_torn_line_swallows_no_other_row(tmp_path, torn):
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, [{"a": 1}, {"a": "line\nbreak\u2028"}])
    with open(path, "ab") as file:
        file.write(torn)
    assert read_jsonl(path) == [{"a": 1}, {"a": "line\nbreak\u2028"}]
    append_jsonl(path, [{"a": 4}])
    append_jsonl(path, [{"a": 5}])
    assert read_jsonl(path) == [{"a": 1}, {"a": "line\nbreak\u2028"}, {"a": 4}, {"a": 5}]


def test_a_whole_last_row_without_a_line_end_is_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}')
    append_jsonl(path, [{"a": 2}])
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]


def test_no_file_has_no_rows(tmp_path):
    assert read_jsonl(tmp_path / "none.jsonl") == []


def test_ensure_dir_makes_parents_and_may_be_repeated(tmp_path):
    folder = tmp_path / "a" / "b"
    assert ensure_dir(folder) == ensure_dir(folder) == folder
    assert os.listdir(folder) == []


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_ensure_dir_names_an_impossible_folder(tmp_path, where):
    (tmp_path / "file").touch()
    with pytest.raises(FlexbenchError, match=rf"cannot write to '.*{where}'"):
        ensure_dir(tmp_path / where)


def test_atomic_folder_appears_only_when_the_block_ends_well(tmp_path):
    final = tmp_path / "parent" / "data"
    with atomic_folder(final) as draft:
        (draft / "a").write_text("1")
        assert not final.exists()
    assert (final / "a").read_text() == "1"
    assert os.listdir(tmp_path / "parent") == ["data"]


def test_atomic_folder_leaves_nothing_after_an_error(tmp_path):
    with pytest.raises(KeyError), atomic_folder(tmp_path / "data") as draft:
        (draft / "a").write_text("1")
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_atomic_folder_keeps_one_that_another_process_made(tmp_path):
    final = tmp_path / "data"
    with atomic_folder(final) as draft:
        (draft / "ours").touch()
        final.mkdir()
        (final / "theirs").touch()
    assert os.listdir(final) == ["theirs"]
    assert os.listdir(tmp_path) == ["data"]


def test_atomic_folder_cannot_replace_a_file(tmp_path):
    (tmp_path / "data").write_text("mine")
    with pytest.raises(FlexbenchError, match="cannot create"), atomic_folder(tmp_path / "data"):
        pass
    assert (tmp_path / "data").read_text() == "mine"


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_seeds_differ_by_every_part_of_their_purpose():
    purposes = [(s, a, *b) for s in (0, 1, 11) for a in ("noise", "data") for b in ((), (0,), (1,), ("train", 1))]
    seeds = {derive(*purpose) for purpose in purposes}
    assert len(seeds) == len(purposes)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_on_every_machine_and_in_every_version():
    assert derive(0, "weights") == 133441691874178746
    assert derive(3, "noise", "train", 17) == 8959276949389656077


def test_seed_everything_sets_each_global_generator():
    import random

    import numpy as np
    import torch

    def draw(seed):
        seed_everything(seed)
        return random.random(), np.random.rand(), torch.rand(()).item()

    assert draw(derive(0, "a")) == draw(derive(0, "a"))
    assert not set(draw(derive(0, "a"))) & set(draw(derive(0, "b")))


def test_atomic_folder_removes_what_a_killed_process_left_days_ago(tmp_path):
    old, new = tmp_path / ".store.old.tmp", tmp_path / ".store.new.tmp"
    for draft in (old, new):
        draft.mkdir()
    os.utime(old, (0, 0))
    with atomic_folder(tmp_path / "store"):
        pass
    assert not old.exists()
    assert new.exists()
