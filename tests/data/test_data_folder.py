"""A user's own images: mixed sizes and modes, broken files, splits."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import FlexbenchError
from benchmark.data import open_dataset
from benchmark.data.folder import square


def save_images(folder: Path, count: int, mode: str = "RGB", seed: int = 0) -> list[Path]:
    """Images of noise in mixed sizes and formats."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    paths = [folder / f"{i:03d}.{('png', 'bmp', 'JPG', 'webp')[i % 4 if mode == 'RGB' else 0]}" for i in range(count)]
    for i, path in enumerate(paths):
        pixels = generator.integers(0, 256, (20 + i % 7, 30 - i % 11, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path)
    return paths


def total(dataset) -> int:
    return len(dataset.train) + len(dataset.val) + len(dataset.test)


def test_mixed_sizes_and_formats_become_one_size(tmp_path):
    save_images(tmp_path / "cats" / "deeper", 60)
    (tmp_path / "cats" / "notes.txt").write_text("not an image")
    dataset = open_dataset(f"folder:{tmp_path / 'cats'}")
    assert (dataset.channels, dataset.size, dataset.slug) == (3, 64, "folder-cats")
    assert total(dataset) == 60
    assert dataset.train.take([0]).shape == (1, 3, 64, 64)
    assert dataset.train.labels is None


@pytest.mark.parametrize("mode", ["L", "1", "I;16"])
def test_grey_images_have_one_channel(tmp_path, mode):
    paths = save_images(tmp_path / "grey", 30, "L")
    if mode == "I;16":
        for path in paths:
            wide = np.asarray(Image.open(path)).astype(np.uint16) * 257
            Image.fromarray(wide).save(path)
    else:
        for path in paths:
            Image.open(path).convert(mode).save(path)
    dataset = open_dataset(f"folder:{tmp_path / 'grey'}", image_size=16)
    assert dataset.train.take([0]).shape == (1, 1, 16, 16)
    assert 100 < dataset.train.images().mean() < 155


def test_one_colour_image_makes_the_set_colour(tmp_path):
    save_images(tmp_path / "mixed", 25, "L")
    Image.new("RGB", (9, 9), "red").save(tmp_path / "mixed" / "red.png")
    assert open_dataset(f"folder:{tmp_path / 'mixed'}", image_size=8).channels == 3


def test_unreadable_files_are_listed_in_one_warning(tmp_path):
    paths = save_images(tmp_path / "cats", 40)
    for path in paths[:12]:
        path.write_bytes(path.read_bytes()[:60])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = open_dataset(f"folder:{tmp_path / 'cats'}", image_size=8)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 1
    assert messages[0].startswith("12 unreadable image(s)")
    assert paths[9].name in messages[0]
    assert paths[10].name not in messages[0]
    assert total(dataset) == 28


def test_unreadable_colour_file_does_not_make_a_grey_set_colour(tmp_path):
    save_images(tmp_path / "grey", 25, "L")
    broken = tmp_path / "grey" / "broken.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:5000])
    with pytest.warns(UserWarning, match=r"broken\.png"):
        assert open_dataset(f"folder:{tmp_path / 'grey'}", image_size=8).channels == 1


def test_train_and_test_subfolders_are_the_splits(tmp_path):
    save_images(tmp_path / "cats" / "train", 50)
    save_images(tmp_path / "cats" / "test", 7, seed=1)
    save_images(tmp_path / "cats" / "other", 9, seed=2)
    dataset = open_dataset(f"folder:{tmp_path / 'cats'}", image_size=8)
    assert (len(dataset.train) + len(dataset.val), len(dataset.test)) == (50, 7)


def test_new_images_move_none_from_one_split_to_the_other(tmp_path):
    folder = tmp_path / "cats"
    save_images(folder, 60)
    before = open_dataset(f"folder:{folder}", image_size=8)
    save_images(folder / "more", 30, seed=1)
    after = open_dataset(f"folder:{folder}", image_size=8)
    assert total(after) == 90
    assert 0.08 < len(before.test) / 60 < 0.35
    for split in ("train", "val", "test"):
        old = {image.tobytes() for image in getattr(before, split).images()}
        assert old <= {image.tobytes() for image in getattr(after, split).images()}


def test_image_size_has_its_own_store(tmp_path):
    save_images(tmp_path / "cats", 30)
    small, large = (open_dataset(f"folder:{tmp_path / 'cats'}", image_size=size) for size in (8, 32))
    assert (small.train.images().shape[-1], large.train.images().shape[-1]) == (8, 32)


def test_square_crops_the_centre():
    pixels = np.zeros((10, 30), np.uint8)
    pixels[:, 10:20] = 200
    assert (square(Image.fromarray(pixels), "L", 8) == 200).all()
    assert (square(Image.fromarray(pixels.T), "RGB", 8) == 200).all()


def test_resizing_antialiases():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    inner = square(Image.fromarray(stripes), "L", 8)[:, :, 1:-1]
    assert np.abs(inner.astype(int) - 127).max() < 10


@pytest.mark.parametrize("size", [0, 6, 30, 516, -8])
def test_impossible_image_size(tmp_path, size):
    with pytest.raises(FlexbenchError, match="multiple of 4 from 8 to 512"):
        open_dataset(f"folder:{tmp_path}", image_size=size)


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(FlexbenchError, match=r"there is no folder '.*nowhere'"):
        open_dataset(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(FlexbenchError, match="names no folder"):
        open_dataset("folder:")


@pytest.mark.parametrize("count", [0, 19])
def test_too_few_images(tmp_path, count):
    save_images(tmp_path / "cats", count)
    with pytest.raises(FlexbenchError, match=rf"holds {count} readable image\(s\).*at least 20"):
        open_dataset(f"folder:{tmp_path / 'cats'}")
