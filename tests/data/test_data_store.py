"""The prepared store: written once, whole or not at all, verified when opened, mapped and not read."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.core.errors import FlexbenchError
from benchmark.data import DATASETS, Split, open_dataset
from benchmark.data.source import TEST, TRAIN, VAL, Content, Source, chunked
from benchmark.data.store import content_hash, open_store


class ArraySource(Source):
    """A source made of given images; a quarter of them is the test split."""

    def __init__(self, images: np.ndarray, chunks=None, splits: np.ndarray | None = None, name: str = "fake"):
        _, channels, size, _ = images.shape
        super().__init__(replace(DATASETS["digits"], name=name, channels=channels, size=size, content_hash=None))
        self.images, self.make_chunks, self.splits = images, chunks or (lambda: chunked(images)), splits

    def load(self) -> Content:
        every_fourth = np.where(np.arange(len(self.images)) % 4 == 3, TEST, TRAIN).astype(np.uint8)
        splits = every_fourth if self.splits is None else self.splits
        return Content(self.info.channels, self.info.size, splits, self.make_chunks())


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (400, 1, 8, 8), dtype=np.uint8)


def stores(cache: Path) -> list[Path]:
    """Everything in the folder of stores, hidden drafts included."""
    return list((cache / "datasets").iterdir())


def test_splits_are_disjoint_and_cover_everything(images):
    store = open_store(ArraySource(images))
    parts = [Split(store, code) for code in (TRAIN, VAL, TEST)]
    assert sum(map(len, parts)) == len(images)
    taken = np.concatenate([part.images() for part in parts])
    assert {image.tobytes() for image in taken} == {image.tobytes() for image in images}
    assert [len(part) for part in parts] == list(store.meta["counts"].values())


def test_take_returns_a_writable_copy_in_the_order_asked(images):
    split = Split(open_store(ArraySource(images)), TEST)
    batch = split.take([5, 0, 5])
    assert batch.dtype == np.uint8
    assert np.array_equal(batch, images[3::4][[5, 0, 5]])
    batch[:] = 0
    assert np.array_equal(split.images(5, 7), images[3::4][5:7])
    with pytest.raises(IndexError):
        split.take([len(split)])


def test_validation_is_a_tenth_of_the_training_images(images):
    counts = open_store(ArraySource(images)).meta["counts"]
    assert 0.04 < counts["val"] / (counts["train"] + counts["val"]) < 0.16


def test_copies_of_an_image_fall_on_the_same_side(images):
    twice = np.concatenate([images, images])
    splits = np.where(np.arange(len(images)) % 4 == 3, TEST, TRAIN).astype(np.uint8)
    store = open_store(ArraySource(twice, splits=np.concatenate([splits, splits])))
    assert np.array_equal(store.splits[:400], store.splits[400:])
    assert (store.splits == VAL).any()


def test_official_validation_is_kept(images):
    official = (np.arange(len(images)) % 3).astype(np.uint8)
    assert np.array_equal(open_store(ArraySource(images, splits=official)).splits, official)


def test_validation_is_never_empty(images):
    for seed in range(5):
        few = np.random.default_rng(seed).integers(0, 256, (8, 1, 8, 8), dtype=np.uint8)
        assert open_store(ArraySource(few, name=f"few:{seed}")).meta["counts"]["val"] >= 1


def test_identical_images_cannot_be_split(images, cache):
    with pytest.raises(FlexbenchError, match=r"no image is left for the split\(s\) train"):
        open_store(ArraySource(np.zeros_like(images)))
    assert stores(cache) == []


def test_second_open_writes_nothing(images, cache):
    first = open_store(ArraySource(images))
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    second = open_store(ArraySource(images, chunks=lambda: pytest.fail("prepared again")))
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
    assert second.meta == first.meta
    assert np.array_equal(second.splits, first.splits)


def damage_a_pixel(store: Path):
    data = bytearray((store / "images.npy").read_bytes())
    data[-1] ^= 1
    (store / "images.npy").write_bytes(data)


def truncate_images(store: Path):
    (store / "images.npy").write_bytes((store / "images.npy").read_bytes()[:-100])


def empty_splits(store: Path):
    (store / "splits.npy").write_bytes(b"")


def lose_meta(store: Path):
    (store / "meta.json").unlink()


def tear_meta(store: Path):
    (store / "meta.json").write_text('{"format": 1,')


@pytest.mark.parametrize("damage", [damage_a_pixel, truncate_images, empty_splits, lose_meta, tear_meta])
def test_damaged_store_is_made_anew_and_says_so(images, damage):
    good = open_store(ArraySource(images))
    damage(good.path)
    with pytest.warns(UserWarning, match="is damaged .* made anew"):
        repaired = open_store(ArraySource(images))
    assert np.array_equal(repaired.images, images)
    assert repaired.meta == good.meta


def test_crash_in_the_middle_leaves_nothing(images, cache):
    def crash():
        yield images[:200]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(ArraySource(images, chunks=crash))
    assert stores(cache) == []
    assert np.array_equal(open_store(ArraySource(images)).images, images)


def test_full_disk_is_one_clear_line(images, cache):
    def fill():
        yield images[:200]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(FlexbenchError, match=r"No space left on device.*FLEXBENCH_CACHE") as raised:
        open_store(ArraySource(images, chunks=fill))
    assert "\n" not in str(raised.value)
    assert stores(cache) == []


def test_two_processes_may_prepare_at_once(images, cache):
    def overtaken():
        open_store(ArraySource(images))  # another process is faster
        yield from chunked(images)

    store = open_store(ArraySource(images, chunks=overtaken))
    assert stores(cache) == [store.path]
    assert np.array_equal(store.images, images)


def test_content_hash_sees_values_shapes_and_types(images):
    variants = [images, images[::-1].copy(), images.reshape(400, 1, 4, 16), images.view(np.int8)]
    assert len({content_hash(images=variant) for variant in variants}) == len(variants)


def test_store_is_verified_against_the_standard_content(monkeypatch, cache):
    monkeypatch.setitem(DATASETS, "digits", replace(DATASETS["digits"], content_hash="0" * 64))
    with pytest.raises(FlexbenchError, match=r"digits has content hash .* here instead of 0{12}.*constraints.txt"):
        open_dataset("digits")
    assert stores(cache) == []


def anonymous_memory_mib() -> float:
    status = Path("/proc/self/status")
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines()) if status.exists() else {}
    if "RssAnon" not in fields:
        pytest.skip("this system does not report RssAnon")
    return int(fields["RssAnon"].split()[0]) / 1024


def test_batches_do_not_pull_the_store_into_memory():
    chunk = np.random.default_rng(0).integers(0, 256, (500, 3, 32, 32), dtype=np.uint8)
    whole = np.broadcast_to(chunk[:1], (50_000, 3, 32, 32))  # a shape only: 150 MB that take no memory
    source = ArraySource(whole, chunks=lambda: (chunk for _ in range(100)))
    open_store(source)
    before = anonymous_memory_mib()
    split = Split(open_store(source), TRAIN)
    generator = np.random.default_rng(0)
    total = sum(int(split.take(generator.integers(len(split), size=64)).sum()) for _ in range(200))
    assert total > 0
    assert anonymous_memory_mib() - before < 32
