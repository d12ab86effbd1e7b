"""CelebA: aligned faces with the official partition and 40 attributes, from a folder or straight from the zip."""

from __future__ import annotations

import importlib.util
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from .declaration import DatasetInfo
from .source import CHUNK_IMAGES, Content, DownloadedSource

_PARTITION = "list_eval_partition.txt"
_ATTRIBUTES = "list_attr_celeba.txt"
_IMAGES = "img_align_celeba"
_ARCHIVE = "img_align_celeba.zip"
_ALIGNED_SIZE = (178, 218)  # width, height

_Box = tuple[int, int, int, int]  # left, upper, right, lower, as PIL takes them; the last two are exclusive

_FLEXAE_CROP: _Box = (25, 45, 153, 173)  # 128x128, rows 45..172 and columns 25..152 as in FlexAE's code
_CENTRE_CROP: _Box = (19, 39, 159, 179)  # 140x140 about the centre as in WAE and RAE


class CelebASource(DownloadedSource):
    """CelebA in `data_dir`/celeba, each image cropped to a box."""

    packed_form = f"the images as a folder {_IMAGES} or as {_ARCHIVE}"

    def __init__(self, info: DatasetInfo, data_dir: Path, download: bool, box: _Box):
        super().__init__(info, data_dir, "celeba", download)
        self.box = box

    def missing(self) -> list[str]:
        missing = [name for name in (_PARTITION, _ATTRIBUTES) if not (self.root / name).is_file()]
        has_images = self._has_folder() or (self.root / _ARCHIVE).is_file()
        return missing if has_images else [*missing, _ARCHIVE]

    def fetch(self) -> None:
        if importlib.util.find_spec("gdown") is None:
            raise ModuleNotFoundError("it needs gdown: pip install 'flexbench[celeba]'")
        from torchvision.datasets import CelebA

        CelebA(self.data_dir, download=True)

    def files(self) -> list[str]:
        self.require()
        images = [_ARCHIVE]
        if self._has_folder():
            images = [f"{_IMAGES}/{name}" for name in os.listdir(self.root / _IMAGES)]
        return sorted([_PARTITION, _ATTRIBUTES, *images])

    def load(self) -> Content:
        names, splits = self._parse(_PARTITION, _read_partition)
        attribute_names, attributes = self._parse(_ATTRIBUTES, lambda path: _read_attributes(path, names))
        return Content(
            channels=3,
            size=self.info.size,
            splits=splits,
            chunks=self._chunks(names),
            labels=attributes,
            label_names=attribute_names,
        )

    def _has_folder(self) -> bool:
        return (self.root / _IMAGES).is_dir()

    def _parse(self, name: str, reader: Callable[[Path], tuple]) -> tuple:
        path = self.root / name
        try:
            return reader(path)
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise self.damaged(str(path), f"not in CelebA's format: {error}") from error

    def _chunks(self, names: list[str]) -> Iterator[np.ndarray]:
        if self._has_folder():
            yield from self._crops(names, lambda name: (self.root / _IMAGES / name).read_bytes())
            return
        try:
            archive = zipfile.ZipFile(self.root / _ARCHIVE)
        except (OSError, zipfile.BadZipFile) as error:
            raise self.damaged(str(self.root / _ARCHIVE), error) from error
        with archive:
            yield from self._crops(names, lambda name: archive.read(f"{_IMAGES}/{name}"))

    def _crops(self, names: list[str], read: Callable[[str], bytes]) -> Iterator[np.ndarray]:
        for start in range(0, len(names), CHUNK_IMAGES):
            yield np.stack([self._crop(name, read) for name in names[start : start + CHUNK_IMAGES]])

    def _crop(self, name: str, read: Callable[[str], bytes]) -> np.ndarray:
        try:
            return crop_aligned(read(name), self.box, self.info.size)
        except Exception as error:  # Pillow and zipfile raise many types for a damaged file
            place = _IMAGES if self._has_folder() else _ARCHIVE
            raise self.damaged(str(self.root / place), f"{name}: {error}") from error


def crop_aligned(data: bytes, box: _Box, size: int) -> np.ndarray:
    """Decode an aligned 178x218 image, crop it to a PIL box and resize it: uint8 [3, size, size]."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        if image.size != _ALIGNED_SIZE:
            raise ValueError(f"{image.width}x{image.height} pixels instead of 178x218")
        # Pillow's bilinear filter widens with the reduction, that is, it antialiases
        face = image.convert("RGB").crop(box).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(face).transpose(2, 0, 1)


def _read_partition(path: Path) -> tuple[list[str], np.ndarray]:
    """Image names in order, and the split of each: uint8 [N], 0 train, 1 val, 2 test."""
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    splits = np.array([int(code) for _, code in rows])
    if not len(splits) or splits.min() < 0 or splits.max() > 2:
        raise ValueError("splits must be 0, 1 or 2")
    return [name for name, _ in rows], splits.astype(np.uint8)


def _read_attributes(path: Path, names: list[str]) -> tuple[list[str], np.ndarray]:
    """Attribute names, and the attributes of the images `names`: uint8 [N, K], 0 or 1."""
    _, header, *lines = path.read_text().splitlines()
    rows = {name: values for name, *values in map(str.split, filter(str.strip, lines))}
    attributes = np.array([rows[name] for name in names]).astype(np.int8) > 0  # the file has -1 and 1
    if attributes.shape != (len(names), len(header.split())):
        raise ValueError("rows and header differ in length")
    return header.split(), attributes.astype(np.uint8)


_FACES = ("Smiling", "Male", "Eyeglasses", "Blond_Hair", "Young", "Bangs", "Mustache", "Pale_Skin")

CELEBA = DatasetInfo(
    name="celeba",
    title="CelebA",
    channels=3,
    size=64,
    latent_dim=64,
    splits="162,770 train / 19,867 val / 19,962 test",
    licence="non-commercial research only",
    source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
    note="128x128 crop (rows 45-172, columns 25-152) as in FlexAE. FIDs compare only within one crop.",
    main_labels=_FACES,
    open=lambda info, data_dir, download: CelebASource(info, data_dir, download, _FLEXAE_CROP),
)

CELEBA140 = replace(
    CELEBA,
    name="celeba140",
    title="CelebA, 140x140 crop",
    note="140x140 centre crop as in WAE and RAE. FIDs compare only within one crop.",
    open=lambda info, data_dir, download: CelebASource(info, data_dir, download, _CENTRE_CROP),
)
