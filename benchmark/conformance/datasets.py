"""The contract of a dataset: its declaration, its content and its splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ..data import Dataset, DatasetInfo, Split, open_dataset
from ..data.dataset import source_of
from ..data.declaration import check_declaration
from ..data.store import hash_again
from .common import require

CHUNK = 1_000  # images that are read at once


def check_declaration_is_complete(info: DatasetInfo, data_dir: Path | None) -> str | None:
    """Every value of the declaration is possible, and users learn what the data are."""
    check_declaration(info)
    require(bool(info.title), "title is empty")
    missing = [name for name in ("licence", "source") if getattr(info, name) in ("", "not stated")]
    return f"{' and '.join(missing)} not stated; 'flexbench ls datasets' shows them" if missing else None


def check_opens_as_declared(info: DatasetInfo, data_dir: Path | None) -> None:
    """The data have the declared shape, the right type, and images in every split."""
    dataset = _open(info, data_dir)
    shape = (info.channels or dataset.channels, info.size, info.size)
    wanted = np.uint8 if info.are_images else np.float32
    for name in ("train", "val", "test"):
        split: Split = getattr(dataset, name)
        require(len(split) > 0, f"split '{name}' is empty")
        first = split.images(0, 1)
        require(first.shape[1:] == shape, f"split '{name}' has the shape {first.shape[1:]}, and {shape} is declared")
        require(first.dtype == wanted, f"split '{name}' has the type {first.dtype}, not {np.dtype(wanted)}")


def check_images_differ(info: DatasetInfo, data_dir: Path | None) -> None:
    """The training images are not all the same."""
    images = _open(info, data_dir).train.images(0, CHUNK)
    require(len(images) == 1 or bool((images != images[:1]).any()), f"the first {len(images)} images are all the same")


def check_deterministic(info: DatasetInfo, data_dir: Path | None) -> None:
    """Loading the data again gives the same content."""
    first, again = _open(info, data_dir).content_hash, hash_again(source_of(info.name, data_dir))
    require(
        first == again, f"loading it again gives other content ({again[:12]} instead of {first[:12]}): fix all seeds"
    )


def check_train_and_test_share_no_image(info: DatasetInfo, data_dir: Path | None) -> str | None:
    """No test image is byte-equal to a training image. Some published sets have a few; then there is a warning."""
    dataset = _open(info, data_dir)
    train = set(_hashes(dataset.train)) | set(_hashes(dataset.val))
    shared = sum(found in train for found in _hashes(dataset.test))
    return f"{shared} of {len(dataset.test)} test images are training images too" if shared else None


def check_latent_dim_is_sane(info: DatasetInfo, data_dir: Path | None) -> str | None:
    """The default latent size is not larger than the data, and not smaller than their true dimension."""
    values = (info.channels or 1) * info.size**2
    require(info.latent_dim <= values, f"latent_dim is {info.latent_dim}, and an image has only {values} values")
    if info.true_dim and info.latent_dim < info.true_dim:
        return f"latent_dim {info.latent_dim} is smaller than true_dim {info.true_dim}"
    return None


def _open(info: DatasetInfo, data_dir: Path | None) -> Dataset:
    return open_dataset(info.name, data_dir)


def _hashes(split: Split) -> Iterator[bytes]:
    """Yield a hash of each image of a split."""
    for start in range(0, len(split), CHUNK):
        for image in split.images(start, start + CHUNK):
            yield hashlib.sha256(image.tobytes()).digest()


CHECKS: list[Callable[[DatasetInfo, Path | None], str | None]] = [
    check_declaration_is_complete,
    check_opens_as_declared,
    check_images_differ,
    check_deterministic,
    check_train_and_test_share_no_image,
    check_latent_dim_is_sane,
]
