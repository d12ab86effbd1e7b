"""Datasets of users' own: arrays, torch datasets and tables of rows become a prepared dataset, or a clear refusal."""

import itertools
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.core.errors import FlexbenchError
from benchmark.data import DATASETS, Columns, DatasetInfo, info, open_dataset

PAGE = Path(__file__).parents[2] / "docs" / "add_a_dataset.md"


@pytest.fixture(autouse=True)
def tables():
    """The process-wide tables are restored after each test."""
    before = [(table, dict(table)) for table in (DATASETS, info._origins, info._hashes)]
    yield
    for table, content in before:
        table.clear()
        table.update(content)


def pictures(count: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, channels, 8, 8), dtype=np.uint8)


NUMBERS = itertools.count()


def opened(load, data_dir=None, **changes):
    """A dataset with this load function, opened; without a data folder its store is always a new one."""
    declared = {"name": "mine", "title": "Mine", "channels": 1, "size": 8, "latent_dim": 4, **changes}
    info.register(DatasetInfo(**declared, load=load), "test")
    return open_dataset("mine", data_dir or f"/nowhere/{next(NUMBERS)}")


def both(make):
    """A load function whose splits are made from 60 and from 20 pictures."""
    return lambda data_dir: {"train": make(pictures(60)), "test": make(pictures(20, 1))}


class Items:
    """A dataset in the style of torch: a length, and items."""

    def __init__(self, images, item=lambda image, i: (image, i % 3)):
        self.images, self.item = images, item

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.item(self.images[i], i)


class Table:
    """A stand-in for a split of Hugging Face's `datasets`: rows are dictionaries with a PIL image."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return {"image": Image.fromarray(self.images[i, 0]), "label": i % 3, "id": f"row {i}"}


def test_every_layout_of_an_array_is_the_same_dataset():
    layouts = [lambda x: x, lambda x: x[:, 0], lambda x: x.transpose(0, 2, 3, 1), torch.from_numpy]
    hashes = {opened(both(layout)).content_hash for layout in layouts}
    assert len(hashes) == 1
    dataset = opened(both(layouts[0]))
    assert np.array_equal(dataset.test.images(), pictures(20, 1)) and dataset.test.labels is None
    assert len(dataset.train) + len(dataset.val) == 60 and len(dataset.val) > 0


@pytest.mark.parametrize("to_image", [
    lambda x: x, lambda x: x[0], lambda x: torch.from_numpy(x), lambda x: torch.from_numpy(x).float() / 255,
    lambda x: Image.fromarray(x[0]), lambda x: Image.fromarray(x[0]).convert("RGB"),
])  # fmt: skip
def test_items_of_a_torch_dataset_are_images_with_or_without_labels(to_image):
    labelled = opened(both(lambda x: Items(x, lambda image, i: (to_image(image), i % 3))))
    assert np.array_equal(labelled.test.images(), pictures(20, 1))
    assert labelled.test.labels.tolist() == [i % 3 for i in range(20)] and labelled.label_names == ("0", "1", "2")
    plain = opened(both(lambda x: Items(x, lambda image, i: to_image(image))))
    assert plain.test.labels is None and np.array_equal(plain.test.images(), pictures(20, 1))


def test_rows_of_a_table_are_read_through_columns():
    dataset = opened(both(lambda x: Columns(Table(x), "image", "label")), label_names=("a", "b", "c"))
    assert np.array_equal(dataset.test.images(), pictures(20, 1))
    assert dataset.label_names == ("a", "b", "c") and dataset.test.labels[:4].tolist() == [0, 1, 2, 0]
    with pytest.raises(FlexbenchError, match=r"items are dictionaries.*Columns\(split, 'image', 'label'\)"):
        opened(both(Table))


def test_colour_and_attributes_and_an_official_validation_split():
    def load(data_dir):
        part = lambda n, seed: (pictures(n, seed, 3), np.eye(n, 2, dtype=np.uint8))  # noqa: E731
        return {"train": part(40, 0), "val": part(10, 1), "test": part(20, 2)}

    dataset = opened(load, channels=3)
    assert np.array_equal(dataset.val.images(), pictures(10, 1, 3)) and len(dataset.train) == 40
    assert dataset.test.labels.shape == (20, 2) and dataset.label_names == ("0", "1")


def test_vectors_are_kept_as_floats():
    rows = lambda n: np.random.default_rng(n).standard_normal((n, 5))  # noqa: E731
    dataset = opened(lambda data_dir: {"train": rows(60), "test": rows(20)}, channels=5, size=1)
    assert dataset.test.images().dtype == np.float32 and dataset.info.space == "coordinates"
    assert np.array_equal(dataset.test.images()[:, :, 0, 0], rows(20).astype(np.float32))


def test_floats_are_rounded_half_to_even_as_generated_images_are():
    x = np.tile(np.array([0.5, 1.5, 2.5, 254.6, 0, 255, 3, 4]) / 255, (30, 8, 1))
    dataset = opened(lambda data_dir: {"train": np.concatenate([x, pictures(60)[:, 0] / 255]), "test": x})
    assert dataset.test.images()[0, 0, 0].tolist() == [0, 2, 2, 255, 0, 255, 3, 4]


@pytest.mark.parametrize(("make", "message"), [
    (lambda x: x.astype(int), "train' from image 0: the images are int64; they must be uint8, or floats in"),
    (lambda x: x / 1.0, r"floats from 0 to 255; they must be in \[0, 1\]"),
    (lambda x: x / 127.5 - 1, r"floats from -1 to 1; they must be in"),
    (lambda x: np.where(x > 250, np.nan, x / 255), "floats from nan"),
    (lambda x: x[:, :, :6], r"the shape \(1, 6, 8\), and 8x8x1 is declared"),
    (lambda x: np.repeat(x, 3, 1), r"the shape \(3, 8, 8\), and 8x8x1 is declared"),
    (lambda x: (x, np.arange(3)), "images and 3 labels"),
    (lambda x: (x, -np.ones(len(x), int)), "label .*-1.* is neither a whole number from 0"),
    (lambda x: Items(x, lambda image, i: (image, "cat")), "label 'cat' is neither"),
    (lambda x: Items(x, lambda image, i: image[:, : 4 + i % 2]), "different shapes"),
    (lambda x: Items(x, lambda image, i: 1 / (i - 5)), "ZeroDivisionError"),
    (lambda x: iter(x), "has no length or cannot be indexed"),
    (lambda x: x[:0], "no image is left for the split"),
])  # fmt: skip
def test_what_is_no_image_is_refused_in_one_line(make, message):
    with pytest.raises(FlexbenchError, match=message) as caught:
        opened(both(make))
    assert str(caught.value).startswith("mine: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(("splits", "message"), [
    ({"train": 1}, r"must return a dictionary with 'train', 'test'.*returned train\."),
    ({"train": 1, "test": 1, "validation": 1}, "returned train, test, validation"),
    (None, "returned NoneType"),
])  # fmt: skip
def test_the_names_of_the_splits_are_checked(splits, message):
    with pytest.raises(FlexbenchError, match=message):
        opened(lambda data_dir: splits)


def test_labels_of_one_split_alone_are_refused():
    with pytest.raises(FlexbenchError, match="all splits must have labels of one shape"):
        opened(lambda data_dir: {"train": (pictures(60), np.zeros(60, int)), "test": pictures(20, 1)})


def test_an_error_of_the_users_function_is_one_line():
    def load(data_dir):
        raise KeyError("no such\ncolumn")

    with pytest.raises(FlexbenchError, match="mine: its load function failed: KeyError: 'no such"):
        opened(load)


@pytest.mark.parametrize(("changes", "message"), [
    ({"name": "My set"}, "name is 'My set'; it must be lower-case letters"),
    ({"size": 30}, "size is 30; it must be a multiple of 4 from 8 to 512"),
    ({"channels": 2}, r"channels is 2; it must be 1 \(grey\) or 3 \(RGB\)"),
    ({"channels": None}, "channels is None"),
    ({"latent_dim": 0}, "latent_dim is 0; it must be 1 to 4096"),
    ({"name": "mnist"}, r"dataset 'mnist' of test is already defined by benchmark\.data\.torchvision_sets"),
    ({"name": "sprites-20"}, r"already defined by benchmark\.data\.sprites as sprites:N"),
])  # fmt: skip
def test_a_bad_declaration_names_the_value(changes, message):
    with pytest.raises(FlexbenchError, match=message):
        opened(both(lambda x: x), **changes)


def test_the_store_is_prepared_again_when_a_declared_file_changes(tmp_path):
    calls = []

    def load(data_dir):
        calls.append(data_dir)
        return dict(np.load(data_dir / "mine.npz"))

    def save(seed):
        np.savez(tmp_path / "mine.npz", train=pictures(60, seed), test=pictures(20, seed + 1))
        os.utime(tmp_path / "mine.npz", (seed, seed))

    save(10)
    first, again = (opened(load, tmp_path, files=("*.npz",)) for _ in range(2))
    assert first.content_hash == again.content_hash and calls == [tmp_path]
    save(20)
    assert opened(load, tmp_path, files=("*.npz",)).content_hash != first.content_hash
    with pytest.raises(FlexbenchError, match=r"mine: '\*\.h5' not found in"):
        opened(load, tmp_path, files=("*.h5",))


def test_without_declared_files_each_data_folder_has_a_store_of_its_own(tmp_path):
    def load(data_dir):
        return {"train": pictures(60, len(data_dir.name)), "test": pictures(20, 1)}

    hashes = {opened(load, tmp_path / name).content_hash for name in ("a", "bb", "a")}
    assert len(hashes) == 2


def blocks() -> dict[str, str]:
    """The files that the page shows, by name."""
    found = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return dict(found)


@pytest.mark.parametrize("name", blocks())
def test_the_files_of_the_page_pass_the_check(name, tmp_path, monkeypatch, flexbench):
    (tmp_path / name).write_text(blocks()[name])
    np.savez(tmp_path / "my_file_set.npz", train=pictures(60), test=pictures(20, 1))
    big = {name: Table(np.kron(pictures(n, n), np.ones((1, 1, 4, 4), np.uint8))[:, :, :28, :28])
           for name, n in (("train", 60), ("test", 20))}  # fmt: skip
    stand_in = ModuleType("datasets")
    stand_in.load_dataset = lambda path, cache_dir: big
    monkeypatch.setitem(sys.modules, "datasets", stand_in)
    result = flexbench("check", tmp_path / name, "--data-dir", tmp_path)
    assert result.exit_code == 0 and result.output.count(": ok") >= 5, result.output
