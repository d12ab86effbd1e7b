"""What every source of images offers: the files that identify it, and its images in chunks."""

from __future__ import annotations

import hashlib
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import FlexbenchError
from ..core.files import ensure_dir
from .info import DatasetInfo

TRAIN, VAL, TEST = 0, 1, 2  # codes of the splits, as in CelebA's partition file
CHUNK_IMAGES = 500


@dataclass(frozen=True)
class Content:
    """The images of a source, read as they are asked for.

    Where no image is marked VAL, the store cuts a validation split from the training images.
    """

    channels: int
    size: int  # height and width in pixels
    splits: np.ndarray  # uint8 [N], TRAIN, VAL or TEST of each image
    chunks: Iterable[np.ndarray]  # [k, C, H, W] each, N images in all
    labels: np.ndarray | None = None  # [N] class numbers or [N, K] attributes
    label_names: Sequence[str] = ()  # of the classes, or of the K attributes
    skipped: Sequence[str] = ()  # files passed over as unreadable
    dtype: type[np.generic] = np.uint8  # of the chunks; float32 for data that are no images: vectors, of size 1


class Source(ABC):
    """Where the images of one dataset come from."""

    def __init__(self, info: DatasetInfo, root: Path | None = None):
        self.info = info
        self.root = root  # the folder that `files` is relative to

    @property
    def key(self) -> str:
        """What tells this source from others with the same files."""
        return self.info.name

    @property
    def origin(self) -> str:
        """Where the images are, for messages and provenance."""
        return str(self.root) if self.root else self.info.source

    def files(self) -> list[str]:
        """Sorted paths, relative to `root`, of the files that the images are read from."""
        return []

    @abstractmethod
    def load(self) -> Content:
        """Read everything but the images, which follow chunk by chunk."""


class DownloadedSource(Source):
    """A published set: raw files in `root`, a folder of `data_dir`, fetched where they are missing."""

    packed_form = ""  # another form of the files that `fetch` unpacks instead of downloading them

    def __init__(self, info: DatasetInfo, data_dir: Path, folder: str, download: bool):
        super().__init__(info, data_dir / folder)
        self.data_dir, self.download = data_dir, download

    @property
    def command(self) -> str:
        """What to type once the files are in order."""
        return f"flexbench data prepare {self.info.name} --data-dir {shlex.quote(str(self.data_dir))}"

    @abstractmethod
    def missing(self) -> list[str]:
        """Names of the files that are not in `root`."""

    @abstractmethod
    def fetch(self) -> None:
        """Download the files into `data_dir`; may raise anything."""

    def require(self) -> None:
        """Make sure that all files are there, by download if that is allowed; else FlexbenchError."""
        if not self.missing():
            return
        problem = self._download() if self.download else "downloads are switched off"
        if missing := self.missing():
            form = f" ({self.packed_form})" if self.packed_form and self.download else ""
            raise FlexbenchError(
                f"{self.info.name}: {', '.join(missing)} not found in '{self.root}' and {problem}. "
                f"Put them there{form}, then run '{self.command}'."
            )

    def _download(self) -> str:
        """Try to fetch the files; returns what went wrong if they are still missing afterwards."""
        try:
            ensure_dir(self.data_dir)
            self.fetch()
        except Exception as error:  # urllib, tarfile, gzip, gdown and torchvision have no common base class
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return f"the download failed ({lines[-1].strip()})"
        return "the download did not bring them"

    def damaged(self, what: str, why: object) -> FlexbenchError:
        """The error for a raw file or folder that is there but cannot be used."""
        reason = " ".join(str(why).split()) or type(why).__name__
        return FlexbenchError(
            f"{self.info.name}: '{what}' is damaged ({reason}). Delete it and run '{self.command}' to get it anew."
        )


def chunked(images: np.ndarray) -> Iterator[np.ndarray]:
    """Cut an array [N, ...] into chunks of at most CHUNK_IMAGES rows."""
    for start in range(0, len(images), CHUNK_IMAGES):
        yield images[start : start + CHUNK_IMAGES]


def hash_fraction(data: bytes) -> float:
    """A number in [0, 1) that depends on nothing but `data`."""
    return int.from_bytes(hashlib.sha256(data).digest()[:6], "big") / 2**48


def lowest(fractions: np.ndarray, share: float) -> np.ndarray:
    """Mask of the `fractions` below `share`, and never empty: the smallest one always counts."""
    return (fractions < share) | (fractions == fractions.min(initial=1.0))
