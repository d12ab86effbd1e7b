"""MNIST, Fashion-MNIST and CIFAR-10, read and downloaded by torchvision's dataset classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .declaration import DatasetInfo
from .source import TEST, TRAIN, Content, DownloadedSource, chunked

# The raw files of MNIST and of its drop-in replacement, with their sizes in bytes. A truncated file is found by its
# size, because torchvision reports it only as a wrong shape.
_IDX_BYTES = {
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}
_CIFAR_FILES = ("batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


class TorchvisionSource(DownloadedSource):
    """A set of small images that torchvision holds in memory as one array per split."""

    class_name: str  # in torchvision.datasets
    folder: str  # torchvision's layout below the data folder
    names: tuple[str, ...]  # files in that folder

    def __init__(self, info: DatasetInfo, data_dir: Path, download: bool):
        super().__init__(info, data_dir, self.folder, download)

    def missing(self) -> list[str]:
        return [name for name in self.names if not (self.root / name).is_file()]

    def fetch(self) -> None:
        self._torchvision(train=True, download=True)

    def files(self) -> list[str]:
        self.require()
        return sorted(self.names)

    def load(self) -> Content:
        train, test = self._read(train=True), self._read(train=False)
        images = np.concatenate([_as_nchw(part.data) for part in (train, test)])
        return Content(
            channels=images.shape[1],
            size=self.info.size,
            splits=np.repeat(np.array([TRAIN, TEST], np.uint8), [len(train), len(test)]),
            chunks=chunked(images),
            labels=np.concatenate([np.asarray(part.targets, np.int64) for part in (train, test)]),
            label_names=train.classes,
        )

    def _read(self, train: bool) -> Any:
        try:
            return self._torchvision(train=train, download=False)
        except Exception as error:  # a damaged idx or pickle file can raise almost anything
            raise self.damaged(str(self.root), error) from error

    def _torchvision(self, train: bool, download: bool) -> Any:
        import torchvision.datasets

        return getattr(torchvision.datasets, self.class_name)(self.data_dir, train=train, download=download)


class MNISTSource(TorchvisionSource):
    """MNIST: four idx files in MNIST/raw."""

    class_name, folder, names = "MNIST", "MNIST/raw", tuple(_IDX_BYTES)
    packed_form = "plain or as .gz"

    def load(self) -> Content:
        for name, expected in _IDX_BYTES.items():
            path = self.root / name
            if (found := path.stat().st_size) != expected:
                raise self.damaged(str(path), f"{found} bytes instead of {expected}")
        return super().load()


class FashionMNISTSource(MNISTSource):
    """Fashion-MNIST: files of the same names and sizes in FashionMNIST/raw."""

    class_name, folder = "FashionMNIST", "FashionMNIST/raw"


class CIFAR10Source(TorchvisionSource):
    """CIFAR-10: the unpacked 'python version'. torchvision checks each file's MD5 before it reads it."""

    class_name, folder, names = "CIFAR10", "cifar-10-batches-py", _CIFAR_FILES
    packed_form = "or cifar-10-python.tar.gz beside that folder"


def _as_nchw(data: Any) -> np.ndarray:
    """torchvision's tensor [N, H, W] or array [N, H, W, 3] as an array [N, C, H, W]."""
    images = np.asarray(data)
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


MNIST = DatasetInfo(
    name="mnist",
    title="MNIST",
    channels=1,
    size=28,
    latent_dim=32,
    splits="60,000 train / 10,000 test",
    licence="CC BY-SA 3.0",
    source="http://yann.lecun.com/exdb/mnist/",
    note="The images are neither padded nor binarised.",
    content_hash="786e62bc8f2c01efc6a94020bc5fde00301eb627837467421687eff0782e8fcd",
    open=MNISTSource,
)

FASHION_MNIST = DatasetInfo(
    name="fashion_mnist",
    title="Fashion-MNIST",
    channels=1,
    size=28,
    latent_dim=32,
    splits="60,000 train / 10,000 test",
    licence="MIT",
    source="https://github.com/zalandoresearch/fashion-mnist",
    open=FashionMNISTSource,
)

CIFAR10 = DatasetInfo(
    name="cifar10",
    title="CIFAR-10",
    channels=3,
    size=32,
    latent_dim=64,
    splits="50,000 train / 10,000 test",
    licence="none stated by the authors",
    source="https://www.cs.toronto.edu/~kriz/cifar.html",
    note="The images are never stored as JPEG and never flipped.",
    open=CIFAR10Source,
)
