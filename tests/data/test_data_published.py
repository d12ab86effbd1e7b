"""Published sets: digits, MNIST and its like through torchvision, CelebA; offline and damaged files."""

import hashlib
import pickle
import shutil
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from PIL import Image

from benchmark.core.errors import FlexbenchError
from benchmark.data import dataset_info, open_dataset

IDX_NAMES = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]


@pytest.fixture
def offline(monkeypatch):
    """Every attempt to reach the network fails at once."""

    def refuse(*_args, **_options):
        raise URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.fixture
def no_network(monkeypatch):
    """Every attempt to reach the network fails the test."""
    monkeypatch.setattr("urllib.request.urlopen", lambda *_args, **_options: pytest.fail("touched the network"))


def test_digits():
    dataset = open_dataset("digits")
    assert len(dataset.train) + len(dataset.val) == 1348
    assert len(dataset.test) == 449
    assert dataset.content_hash == dataset_info("digits").content_hash
    images = dataset.test.images()
    assert images.shape == (449, 1, 8, 8)
    assert (images.min(), images.max()) == (0, 255)
    assert dataset.test.labels[:2].tolist() == [3, 7]  # the set begins 0, 1, 2, ..., 9
    assert dataset.label_names == tuple("0123456789")


def test_mnist(real_data_dir):
    dataset = open_dataset("mnist", data_dir=real_data_dir, download=False)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (54_019, 5_981, 10_000)
    assert dataset.content_hash == dataset_info("mnist").content_hash
    assert dataset.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert dataset.train.take([0, 1]).shape == (2, 1, 28, 28)


def fake_idx(folder: Path) -> None:
    """Files of MNIST's names, sizes and headers, with images that are all black."""
    folder.mkdir(parents=True)
    for name, count in zip(IDX_NAMES, (60_000, 60_000, 10_000, 10_000), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        header = b"\0\0\x08" + bytes([len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        (folder / name).write_bytes(header + bytes(int(np.prod(shape))))


def test_mnist_of_other_content_is_refused(tmp_path, no_network):
    fake_idx(tmp_path / "MNIST" / "raw")
    with pytest.raises(FlexbenchError, match=r"not the standard MNIST.*flexbench data prepare mnist"):
        open_dataset("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("name", IDX_NAMES)
def test_truncated_file_is_named(tmp_path, no_network, name):
    raw = tmp_path / "FashionMNIST" / "raw"
    fake_idx(raw)
    with open(raw / name, "r+b") as file:
        file.truncate(5000)
    with pytest.raises(FlexbenchError, match=rf"{name}' is damaged \(5000 bytes .*\)\. Delete it") as raised:
        open_dataset("fashion_mnist", data_dir=tmp_path)
    assert "\n" not in str(raised.value)


def test_file_with_a_wrong_header_is_one_line(tmp_path, no_network):
    raw = tmp_path / "FashionMNIST" / "raw"
    fake_idx(raw)
    with open(raw / "train-images-idx3-ubyte", "r+b") as file:
        file.write(b"\0\0\0\0")
    with pytest.raises(FlexbenchError, match=r"FashionMNIST/raw' is damaged .* Delete it"):
        open_dataset("fashion_mnist", data_dir=tmp_path)


def test_offline_says_what_to_put_where(tmp_path, offline):
    with pytest.raises(FlexbenchError) as raised:
        open_dataset("fashion_mnist", data_dir=tmp_path / "my data")
    message = str(raised.value)
    assert all(name in message for name in IDX_NAMES)
    assert f"'{tmp_path}/my data/FashionMNIST/raw'" in message
    assert "Name or service not known" in message
    assert f"flexbench data prepare fashion_mnist --data-dir '{tmp_path}/my data'" in message
    assert "\n" not in message


def test_only_the_missing_files_are_named(tmp_path, offline):
    fake_idx(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / IDX_NAMES[2]).unlink()
    with pytest.raises(FlexbenchError, match=rf"mnist: {IDX_NAMES[2]} not found"):
        open_dataset("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "celeba", "celeba140"])
def test_without_download_the_network_is_not_touched(name, tmp_path, no_network):
    with pytest.raises(FlexbenchError, match=f"{name}: .* not found .*downloads are switched off"):
        open_dataset(name, data_dir=tmp_path / "nowhere", download=False)
    assert not (tmp_path / "nowhere").exists()


def test_default_data_dir_is_in_the_cache(cache, no_network):
    with pytest.raises(FlexbenchError, match=f"{cache}/raw/MNIST/raw"):
        open_dataset("mnist", download=False)


def test_data_dir_that_cannot_be_made(tmp_path, offline):
    (tmp_path / "file").write_text("")
    with pytest.raises(FlexbenchError, match=r"the download failed \(cannot write to"):
        open_dataset("mnist", data_dir=tmp_path / "file")


@pytest.fixture
def fake_cifar(tmp_path, monkeypatch) -> Path:
    """A small CIFAR-10 whose checksums torchvision accepts; returns the data folder."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def save(name: str, content: dict) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(seed: int) -> dict:
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 3072), dtype=np.uint8)
        return {"data": pixels, "labels": [seed] * 20}

    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [save(f"data_batch_{i}", batch(i)) for i in range(1, 6)])
    monkeypatch.setattr(cifar, "test_list", [save("test_batch", batch(6))])
    name, md5 = save("batches.meta", {"label_names": ["plane", "car"]})
    monkeypatch.setattr(cifar, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return tmp_path


def test_cifar10_keeps_channel_order(fake_cifar, no_network):
    dataset = open_dataset("cifar10", data_dir=fake_cifar)
    assert (len(dataset.train) + len(dataset.val), len(dataset.test)) == (100, 20)
    expected = np.random.default_rng(6).integers(0, 256, (20, 3072), dtype=np.uint8).reshape(20, 3, 32, 32)
    assert np.array_equal(dataset.test.images(), expected)
    assert dataset.test.labels.tolist() == [6] * 20
    assert dataset.label_names == ("plane", "car")


def test_damaged_cifar10_names_its_folder(fake_cifar, no_network):
    with open(fake_cifar / "cifar-10-batches-py" / "data_batch_3", "r+b") as file:
        file.truncate(100)
    with pytest.raises(FlexbenchError, match=r"cifar-10-batches-py' is damaged"):
        open_dataset("cifar10", data_dir=fake_cifar)


def coordinates() -> np.ndarray:
    """A 178x218 image whose red is the column and whose green is the row."""
    pixels = np.zeros((218, 178, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(178), np.arange(218)[:, None]
    return pixels


@pytest.fixture
def fake_celeba(tmp_path) -> Path:
    """Twelve images in a folder; returns the folder 'celeba'. Blue is the image's number."""
    root = tmp_path / "celeba"
    images = root / "img_align_celeba"
    images.mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, 13)]
    for i, name in enumerate(names):
        pixels = coordinates()
        pixels[..., 2] = i
        Image.fromarray(pixels).save(images / name, format="png")  # lossless, whatever the name says
    splits = [0] * 6 + [1] * 3 + [2] * 3
    rows = "".join(f"{name} {code}\n" for name, code in zip(names, splits, strict=True))
    (root / "list_eval_partition.txt").write_text(rows)
    attributes = "".join(f"{name}  {'1' if i % 2 else '-1'} -1\n" for i, name in enumerate(names))
    (root / "list_attr_celeba.txt").write_text(f"12\nSmiling Young \n{attributes}")
    return root


def to_zip(root: Path) -> None:
    with zipfile.ZipFile(root / "img_align_celeba.zip", "w") as archive:
        for path in (root / "img_align_celeba").iterdir():
            archive.write(path, f"img_align_celeba/{path.name}")
    shutil.rmtree(root / "img_align_celeba")


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_celeba_splits_and_attributes(fake_celeba, no_network, form):
    if form == "zip":
        to_zip(fake_celeba)
    dataset = open_dataset("celeba", data_dir=fake_celeba.parent)
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (6, 3, 3)
    assert dataset.val.images()[:, 2].max(axis=(1, 2)).tolist() == [6, 7, 8]
    assert dataset.label_names == ("Smiling", "Young")
    assert dataset.test.labels.dtype == np.uint8
    assert dataset.test.labels.tolist() == [[1, 0], [0, 0], [1, 0]]


@pytest.mark.parametrize(("name", "left", "upper", "side"), [("celeba", 25, 45, 128), ("celeba140", 19, 39, 140)])
def test_celeba_crop(fake_celeba, name, left, upper, side):
    red, green, _ = open_dataset(name, data_dir=fake_celeba.parent).train.images(0, 1)[0].astype(float)
    centres = (np.arange(64) + 0.5) * side / 64 - 0.5  # of the new pixels, in pixels of the crop
    inner = slice(2, -2)  # the filter is cut off at the border
    for found, expected in ((red, left + centres), (green.T, upper + centres)):
        difference = (found - expected)[:, inner]
        assert difference.min() > -0.5  # halves are rounded up
        assert difference.max() <= 0.5


def test_celeba_without_gdown_says_how_to_get_it(tmp_path, monkeypatch, no_network):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FlexbenchError, match=r"list_eval_partition.*pip install 'flexbench\[celeba\]'"):
        open_dataset("celeba", data_dir=tmp_path)


def replace_image(root: Path) -> str:
    Image.new("RGB", (64, 64)).save(root / "img_align_celeba" / "000003.jpg")
    return r"img_align_celeba' is damaged \(000003\.jpg: 64x64 pixels instead of 178x218\)"


def lose_image(root: Path) -> str:
    (root / "img_align_celeba" / "000003.jpg").unlink()
    return r"img_align_celeba' is damaged \(000003\.jpg"


def break_zip(root: Path) -> str:
    to_zip(root)
    (root / "img_align_celeba.zip").write_bytes(b"PK")
    return r"img_align_celeba\.zip' is damaged"


def break_partition(root: Path) -> str:
    (root / "list_eval_partition.txt").write_text("000001.jpg 7\n")
    return r"list_eval_partition\.txt' is damaged"


def shorten_attributes(root: Path) -> str:
    path = root / "list_attr_celeba.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    return r"list_attr_celeba\.txt' is damaged .*000012\.jpg"


@pytest.mark.parametrize("damage", [replace_image, lose_image, break_zip, break_partition, shorten_attributes])
def test_damaged_celeba_names_the_file(fake_celeba, no_network, damage):
    expected = damage(fake_celeba)
    with pytest.raises(FlexbenchError, match=expected):
        open_dataset("celeba", data_dir=fake_celeba.parent)
