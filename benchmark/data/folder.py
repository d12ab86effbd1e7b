"""Any folder of images: its files are found, split, cropped to a square and resized."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import FlexbenchError
from .declaration import DatasetInfo
from .source import CHUNK_IMAGES, TEST, TRAIN, VAL, Content, Source, hash_fraction, lowest

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
MIN_IMAGES = 20
TEST_SHARE = 0.2
_SPLIT_FOLDERS = {"train": TRAIN, "val": VAL, "test": TEST}
_GREY_MODES = {"1", "L", "I", "I;16", "I;16B", "I;16L"}  # Pillow opens 16-bit grey PNGs as 'I' or 'I;16'


class FolderSource(Source):
    """The images below a folder.

    If there are subfolders train/ and test/ (and possibly val/), they are the splits, and files elsewhere are left
    out. Otherwise a fifth of the images is the test split. A hash of each relative path chooses them, so an added
    image moves no other image to another split.
    """

    key = "folder"  # without the path: a folder that is moved keeps its store

    root: Path

    def __init__(self, info: DatasetInfo):
        super().__init__(info, Path(info.name.partition(":")[2]).expanduser())

    def files(self) -> list[str]:
        if not self.root.is_dir():
            raise FlexbenchError(f"there is no folder '{self.root}'. Give the path of a folder of images: folder:PATH.")
        names = sorted(path.relative_to(self.root).as_posix() for path in self._walk() if path.is_file())
        return [name for name in names if _top(name) in _SPLIT_FOLDERS] if self._has_split_folders() else names

    def load(self) -> Content:
        names, modes, skipped = self._probe(self.files())
        if skipped:
            more = ", ..." if len(skipped) > 10 else ""
            warnings.warn(
                f"{len(skipped)} unreadable image(s) in '{self.root}' passed over: {', '.join(skipped[:10])}{more}",
                stacklevel=2,
            )
        if len(names) < MIN_IMAGES:
            raise FlexbenchError(
                f"'{self.root}' holds {len(names)} readable image(s) ({', '.join(sorted(SUFFIXES))}); "
                f"at least {MIN_IMAGES} are needed."
            )
        mode = "L" if modes <= _GREY_MODES else "RGB"
        return Content(
            channels=len(mode),
            size=self.info.size,
            splits=self._splits(names),
            chunks=self._chunks(names, mode),
            skipped=skipped,
        )

    def _walk(self) -> Iterator[Path]:
        return (path for path in self.root.rglob("*") if path.suffix.lower() in SUFFIXES)

    def _has_split_folders(self) -> bool:
        return all((self.root / name).is_dir() for name in ("train", "test"))

    def _probe(self, names: list[str]) -> tuple[list[str], set[str], list[str]]:
        """Return the readable names, the modes of their images, and the unreadable names."""
        readable, modes, skipped = [], set(), []
        for name in names:
            try:
                modes.add(decode(self.root / name).mode)
                readable.append(name)
            except Exception:  # Pillow raises OSError, SyntaxError, ValueError, struct.error... for damaged files
                skipped.append(name)
        return readable, modes, skipped

    def _splits(self, names: list[str]) -> np.ndarray:
        if self._has_split_folders():
            return np.array([_SPLIT_FOLDERS[_top(name)] for name in names], np.uint8)
        is_test = lowest(np.array([hash_fraction(os.fsencode(name)) for name in names]), TEST_SHARE)
        return np.where(is_test, TEST, TRAIN).astype(np.uint8)

    def _chunks(self, names: list[str], mode: str) -> Iterator[np.ndarray]:
        for start in range(0, len(names), CHUNK_IMAGES):
            paths = (self.root / name for name in names[start : start + CHUNK_IMAGES])
            yield np.stack([square(decode(path), mode, self.info.size) for path in paths])


def decode(path: Path) -> Image.Image:
    """Read a whole image file and turn it upright. Raises whatever Pillow raises."""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        image.load()
        return ImageOps.exif_transpose(image)


def square(image: Image.Image, mode: str, size: int) -> np.ndarray:
    """Centre-crop an image to a square and resize it: uint8 [C, size, size] with C = len(mode).

    Resizing is bilinear with antialiasing, as for CelebA: it adds no ringing at edges.
    """
    from PIL import Image

    side = min(image.size)
    left, upper = (image.width - side) // 2, (image.height - side) // 2
    image = in_mode(image, mode).crop((left, upper, left + side, upper + side))
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return pixels.reshape(size, size, len(mode)).transpose(2, 0, 1)


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image to grey ('L') or colour ('RGB'). Of 16 bits the upper 8 are kept."""
    from PIL import Image

    if image.mode.startswith("I"):  # Pillow's own conversion may clip
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
    return image.convert(mode)


def _top(name: str) -> str:
    return name.partition("/")[0]


def at_path(info: DatasetInfo, path: str) -> DatasetInfo:
    """Return the declaration of 'folder:PATH' for one path. Raises FlexbenchError for an empty path."""
    name = f"{info.kind}:{path}"
    if not path.strip():
        raise FlexbenchError(f"'{name}' names no folder. Write 'folder:PATH', for example 'folder:~/cats'.")
    named = replace(info, name=name)
    return replace(named, title=named.slug)


FOLDER = DatasetInfo(
    name="folder:PATH",
    title="Images in a folder",
    channels=None,
    size=64,
    latent_dim=64,
    splits="train/ and test/ where both are there, else a fifth is test",
    licence="that of the images",
    source="the user's files",
    note="The jpg, png, bmp and webp files below PATH. They are centre-cropped to a square and resized to the image "
    "size.",
    resizable=True,
    form="folder:PATH",
    open=lambda info, data_dir, download: FolderSource(info),
    parse=at_path,
)
