"""An open dataset: three splits of uint8 images that are read from disk on demand.

Images are uint8 [k, C, H, W]; vectors are float32 [k, D, 1, 1] instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import FlexbenchError
from ..core.files import cache_dir
from .declaration import DatasetInfo, check_size
from .info import DATASETS, dataset_info, source_hash
from .loaded import LoadedSource
from .source import Source
from .store import SPLIT_CODES, Store, open_store


class Split:
    """One split of a dataset. It holds row numbers; the images stay on disk until they are taken."""

    def __init__(self, store: Store, code: int):
        self._store = store
        self._rows = np.flatnonzero(store.splits == code)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return a copy of the images at `indices`, in that order: uint8 [k, C, H, W]. Only these are read."""
        return self._store.images[self._rows[indices]]

    def images(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return a copy of the images from `start` to `stop` (exclusive; None: to the end): uint8 [k, C, H, W]."""
        return self._store.images[self._rows[start:stop]]

    @property
    def labels(self) -> np.ndarray | None:
        """A copy of all labels: class numbers [n], or attributes or factors [n, K]. None if there are no labels."""
        return None if self._store.labels is None else self._store.labels[self._rows]


@dataclass(frozen=True, eq=False)
class Dataset:
    """An open dataset: its declaration and three splits."""

    info: DatasetInfo  # with the channels and the size that the images have
    content_hash: str  # hex SHA-256 of images, splits and labels
    label_names: tuple[str, ...]  # names of the classes (labels [n]) or of the columns (labels [n, K])
    train: Split
    val: Split
    test: Split

    @property
    def name(self) -> str:
        """The name as the user types it."""
        return self.info.name

    @property
    def slug(self) -> str:
        """The name in a form that is safe in a file name."""
        return self.info.slug

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB); for vectors, how many numbers they have."""
        assert self.info.channels is not None  # the store knows them once the images are read
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
    """Open a dataset by name. The first use prepares its store.

    Args:
        name: a name from `flexbench ls datasets`.
        data_dir: the folder that raw files are read from and downloaded to; default: 'raw' in the cache folder. It may
            be read-only if the files are there.
        image_size: height and width for a dataset that can be resized, a multiple of 4 from 8 to 512; default: its
            declared size.
        download: whether missing files may be downloaded. If False, the network is never touched.

    Raises FlexbenchError for a bad name or size, missing or damaged files, a failed download, and a full disk.
    """
    store = open_store(source_of(name, data_dir, image_size, download))
    info = _with_size(dataset_info(name), image_size)
    return Dataset(
        info=replace(info, channels=store.meta["channels"]),
        content_hash=store.meta["content_hash"],
        label_names=tuple(store.meta["label_names"]),
        **{split: Split(store, code) for split, code in SPLIT_CODES.items()},
    )


def source_of(
    name: str, data_dir: str | Path | None = None, image_size: int | None = None, download: bool = True
) -> Source:
    """Return the source of a dataset, with the arguments and errors of `open_dataset`. Nothing is read yet."""
    info = _with_size(dataset_info(name), image_size)
    folder = Path(data_dir or cache_dir() / "raw").expanduser()
    return info.open(info, folder, download) if info.open else LoadedSource(info, folder, source_hash(name))


def _with_size(info: DatasetInfo, image_size: int | None) -> DatasetInfo:
    """Return the declaration with another image size, where one is given."""
    if image_size is None:
        return info
    if not info.resizable:
        resizable = " and ".join(f"'{other.form or other.name}'" for other in DATASETS.values() if other.resizable)
        raise FlexbenchError(
            f"image size {image_size} cannot be set for '{info.name}', whose images are {info.size}x{info.size}; "
            f"it is for {resizable} only."
        )
    return replace(info, size=check_size(image_size))
