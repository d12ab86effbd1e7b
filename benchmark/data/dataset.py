"""A dataset as methods and scores see it: three splits of uint8 images, read from disk as they are asked for.

Vectors are float32 [k, D, 1, 1] wherever images are uint8 [k, C, H, W].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import FlexbenchError
from ..core.files import cache_dir
from .celeba import CelebASource
from .digits import DigitsSource
from .folder import FolderSource, check_image_size
from .info import DatasetInfo, dataset_info
from .source import Source
from .sprites import SpritesSource
from .store import SPLIT_CODES, Store, open_store
from .synthetic import SyntheticSource
from .torchvision_sets import CIFAR10Source, FashionMNISTSource, MNISTSource

_LOCAL = {"digits": DigitsSource, "sprites": SpritesSource, "folder": FolderSource,
          "synthetic-r5": SyntheticSource, "synthetic-mog": SyntheticSource}  # fmt: skip
_DOWNLOADED = {
    "mnist": MNISTSource,
    "fashion_mnist": FashionMNISTSource,
    "cifar10": CIFAR10Source,
    "celeba": CelebASource,
    "celeba140": CelebASource,
}


class Split:
    """One split of a dataset. Holds row numbers only; images stay on disk until they are taken."""

    def __init__(self, store: Store, code: int):
        self._store = store
        self._rows = np.flatnonzero(store.splits == code)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """A copy of the images at `indices`, in that order: uint8 [k, C, H, W]; reads only these."""
        return self._store.images[self._rows[indices]]

    def images(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """A copy of the images from `start` up to `stop` (exclusive; None is the end): uint8 [k, C, H, W]."""
        return self._store.images[self._rows[start:stop]]

    @property
    def labels(self) -> np.ndarray | None:
        """A copy of all labels: class numbers [n], or attributes or factors [n, K]; None where there are none."""
        return None if self._store.labels is None else self._store.labels[self._rows]


@dataclass(frozen=True, eq=False)
class Dataset:
    """An open dataset: metadata and three splits, none of which is ever read as a whole."""

    info: DatasetInfo  # `channels` and `size` are those of the images
    content_hash: str  # hex SHA-256 of images, splits and labels
    label_names: tuple[str, ...]  # of the classes (labels [n]) or of the columns (labels [n, K])
    train: Split
    val: Split
    test: Split

    @property
    def name(self) -> str:
        """As typed by the user."""
        return self.info.name

    @property
    def slug(self) -> str:
        """The name in a form that is safe in a file name."""
        return self.info.slug

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB); of vectors, how many numbers they have."""
        return self.info.channels

    @property
    def size(self) -> int:
        """Height and width in pixels; 1 for vectors."""
        return self.info.size

    @property
    def latent_dim(self) -> int:
        """Default size of the latent space."""
        return self.info.latent_dim


def open_dataset(
    name: str, data_dir: str | Path | None = None, image_size: int | None = None, download: bool = True
) -> Dataset:
    """Open a dataset by name, preparing its store on first use.

    Args:
        name: a key of DATASETS, 'sprites:N' or 'folder:PATH'.
        data_dir: where raw files are, and go when downloaded; default: 'raw' in the cache folder. It may be
            read-only if the files are there.
        image_size: height and width for 'folder:PATH', a multiple of 4 from 8 to 512; default 64.
        download: whether missing files may be fetched; if not, the network is never touched.

    Raises FlexbenchError for a bad name or size, missing or damaged files, a failed download, a full disk.
    """
    info = _with_size(dataset_info(name), image_size)
    store = open_store(_make_source(info, Path(data_dir or cache_dir() / "raw").expanduser(), download))
    return Dataset(
        info=replace(info, channels=store.meta["channels"]),
        content_hash=store.meta["content_hash"],
        label_names=tuple(store.meta["label_names"]),
        **{split: Split(store, code) for split, code in SPLIT_CODES.items()},
    )


def _with_size(info: DatasetInfo, image_size: int | None) -> DatasetInfo:
    if image_size is None:
        return info
    if info.kind != "folder":
        raise FlexbenchError(
            f"image size {image_size} cannot be set for '{info.name}', whose images are {info.size}x{info.size}; "
            "it is for 'folder:PATH' only."
        )
    return replace(info, size=check_image_size(image_size))


def _make_source(info: DatasetInfo, data_dir: Path, download: bool) -> Source:
    if info.kind in _LOCAL:
        return _LOCAL[info.kind](info)
    return _DOWNLOADED[info.kind](info, data_dir, download)
