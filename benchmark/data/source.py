"""The interface of a source: the files that identify it, and its images in chunks."""

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
from .declaration import DatasetInfo

TRAIN, VAL, TEST = 0, 1, 2  # codes of the splits, as in CelebA's partition file
CHUNK_IMAGES = 500


@dataclass(frozen=True)
class Content:
    """The images of a source. Iterating over `chunks` reads them.

    If no image is marked VAL, the store cuts a validation split from the training images.
    """

    channels: int
    size: int  # height and width in pixels
    splits: np.ndarray  # uint8 [N], TRAIN, VAL or TEST of each image
    chunks: Iterable[np.ndarray]  # [k, C, H, W] each, N images in all
    labels: np.ndarray | None = None  # [N] class numbers or [N, K] attributes
    label_names: Iterable[str] = ()  # of the classes, or of the K attributes; read after the chunks, like `labels`
    skipped: Sequence[str] = ()  # unreadable files that were left out
    dtype: type[np.generic] = np.uint8  # type of the chunks; float32 for vectors, whose size is 1


class Source(ABC):
    """The place that the images of one dataset come from."""

    def __init__(self, info: DatasetInfo, root: Path | None = None):
        self.info = info
        self.root = root  # the folder that `files` is relative to

    @property
    def key(self) -> str:
        """A text that distinguishes this source from others with the same files."""
        return self.info.name

    @property
    def origin(self) -> str:
        """The place of the images, for messages and provenance."""
        return str(self.root) if self.root else self.info.source

    def files(self) -> list[str]:
        """Return the sorted paths, relative to `root`, of the files that the images are read from."""
        return []

    @abstractmethod
    def load(self) -> Content:
        """Read everything except the images, which are read chunk by chunk later."""


class DownloadedSource(Source):
    """A published set whose raw files lie in `root`, a folder of `data_dir`. Missing files are downloaded."""

    packed_form = ""  # another form of the files that `fetch` can unpack instead of downloading them

    root: Path

    def __init__(self, info: DatasetInfo, data_dir: Path, folder: str, download: bool):
        super().__init__(info, data_dir / folder)
        self.data_dir, self.download = data_dir, download

    @property
    def command(self) -> str:
        """The command to type after the files have been put in place."""
        return f"flexbench data prepare {self.info.name} --data-dir {shlex.quote(str(self.data_dir))}"

    @abstractmethod
    def missing(self) -> list[str]:
        """Return the names of the files that are missing in `root`."""

    @abstractmethod
    def fetch(self) -> None:
        """Download the files into `data_dir`. May raise any exception."""

    def require(self) -> None:
        """Download missing files if that is allowed. Raises FlexbenchError if files are still missing."""
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
        """Try to fetch the files. Return the reason to show if they are still missing afterwards."""
        try:
            ensure_dir(self.data_dir)
            self.fetch()
        except Exception as error:  # urllib, tarfile, gzip, gdown and torchvision have no common base class
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return f"the download failed ({lines[-1].strip()})"
        return "the download did not bring them"

    def damaged(self, what: str, why: object) -> FlexbenchError:
        """Return the error for a raw file or folder that exists but cannot be used."""
        reason = " ".join(str(why).split()) or type(why).__name__
        return FlexbenchError(
            f"{self.info.name}: '{what}' is damaged ({reason}). Delete it and run '{self.command}' to get it again."
        )


def chunked(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an array [N, ...] in chunks of at most CHUNK_IMAGES rows."""
    for start in range(0, len(images), CHUNK_IMAGES):
        yield images[start : start + CHUNK_IMAGES]


def hash_fraction(data: bytes) -> float:
    """Return a number in [0, 1) that depends only on `data`."""
    return int.from_bytes(hashlib.sha256(data).digest()[:6], "big") / 2**48


def lowest(fractions: np.ndarray, share: float) -> np.ndarray:
    """Return the mask of the `fractions` below `share`. It always contains the smallest one, so it is never empty."""
    return (fractions < share) | (fractions == fractions.min(initial=1.0))
