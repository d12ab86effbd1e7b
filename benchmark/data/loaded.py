"""Datasets whose declaration has a `load` function: arrays, torch datasets and the like become a source.

Accepted for each split, with C the declared channels and S the declared size:

* an array or tensor [N, S, S] (if C is 1), [N, S, S, C] or [N, C, S, S];
* a pair (array, labels) with labels [N] or [N, K];
* an indexable object with a length whose items are images or pairs (image, label). An image is a PIL image, or an
  array or tensor [S, S], [S, S, C] or [C, S, S].

Values are uint8. Floats are accepted if all of them are in [0, 1]; each is multiplied by 255 and rounded half to even.
PIL images are converted to grey (C = 1) or RGB (C = 3). A label is a class number from 0, or K numbers. Vectors
(size 1) are float arrays [N, D] or items [D] with D the declared channels. Everything else is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import FlexbenchError
from .declaration import DatasetInfo
from .folder import in_mode
from .source import CHUNK_IMAGES, TEST, TRAIN, VAL, Content, Source

_CODES = {"train": TRAIN, "val": VAL, "test": TEST}


class Columns:
    """A view of a table whose rows are dictionaries, as Hugging Face's `datasets` have them.

    Its items are pairs (row[image], row[label]), or row[image] alone if `label` is None.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], image: str = "image", label: str | None = None):
        self.rows, self.image, self.label = rows, image, label

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        row = self.rows[index]
        return row[self.image] if self.label is None else (row[self.image], row[self.label])


class LoadedSource(Source):
    """The data that the `load` function of a declaration returns.

    `source_hash` is the hash of the file that declares the dataset. The store is prepared again if that file or one
    of the declared `files` changes. Without declared `files`, it is also prepared again for another data folder.
    """

    root: Path

    def __init__(self, info: DatasetInfo, data_dir: Path, source_hash: str):
        super().__init__(info, data_dir)
        if info.load is None or info.channels is None:
            raise FlexbenchError(f"dataset '{info.name}' needs load= and channels=.")
        self._load, self._channels = info.load, info.channels
        self.source_hash = source_hash

    @property
    def key(self) -> str:
        """The name and the hash of the declaring file, and the data folder if no files of it are declared."""
        folder = "" if self.info.files else str(self.root.resolve())
        return " ".join(filter(None, [self.info.name, self.source_hash, folder]))

    def files(self) -> list[str]:
        """Return the files below the data folder that match the declared patterns. Each pattern must match one."""
        found: set[str] = set()
        for pattern in self.info.files:
            hits = {p.relative_to(self.root).as_posix() for p in self.root.glob(pattern) if p.is_file()}
            if not hits:
                raise FlexbenchError(f"{self.info.name}: '{pattern}' not found in '{self.root}'. Give --data-dir.")
            found |= hits
        return sorted(found)

    def load(self) -> Content:
        with self._named("its load function failed"):
            splits = self._load(self.root)
        self._check_names(splits)
        parts = {name: self._part(name, splits[name]) for name in _CODES if name in splits}
        counts = [len(part) for part in parts.values()]
        labels = self._label_array(parts)
        return Content(
            channels=self._channels,
            size=self.info.size,
            splits=np.repeat(np.array([_CODES[name] for name in parts], np.uint8), counts),
            chunks=self._chunks(parts, labels),
            labels=labels,
            label_names=self._label_names(labels),
            dtype=np.uint8 if self.info.are_images else np.float32,
        )

    def _check_names(self, splits: Any) -> None:
        if not isinstance(splits, Mapping) or not {"train", "test"} <= splits.keys() <= _CODES.keys():
            found = ", ".join(map(str, splits)) if isinstance(splits, Mapping) else type(splits).__name__
            raise FlexbenchError(
                f"{self.info.name}: its load function must return a dictionary with 'train', 'test' and possibly "
                f"'val', and it returned {found}."
            )

    def _part(self, name: str, value: Any) -> _Part:
        with self._named(f"split '{name}'"):
            if isinstance(value, tuple) and len(value) == 2:
                images, labels = map(_to_array, value)
                if len(images) != len(labels):
                    raise ValueError(f"it has {len(images)} images and {len(labels)} labels")
                return _Arrays(images, labels)
            if hasattr(value, "dtype"):
                return _Arrays(_to_array(value), None)
            return _Items(value, lambda image: _pil_to_array(image, self.info))

    def _label_array(self, parts: Mapping[str, _Part]) -> np.ndarray | None:
        """Return an empty array for the labels of all splits, which `_chunks` fills; None if there are no labels."""
        with self._named("labels"):
            given = [label for part in parts.values() if (label := part.first_label()) is not None]
            first = [_check_label(label) for label in given]
            if not first:
                return None
            if len(first) < len(parts) or any(label.shape != first[0].shape for label in first):
                raise ValueError("all splits must have labels of one shape, or none may have labels")
            dtype = np.int64 if all(label.dtype.kind in "biu" for label in first) else np.float32
            return np.zeros((sum(map(len, parts.values())), *first[0].shape), dtype)

    def _chunks(self, parts: Mapping[str, _Part], labels: np.ndarray | None) -> Iterator[np.ndarray]:
        done = 0
        for name, part in parts.items():
            for start in range(0, len(part), CHUNK_IMAGES):
                with self._named(f"split '{name}' from image {start}"):
                    images, found = part.take(start, min(start + CHUNK_IMAGES, len(part)))
                    if labels is not None:
                        labels[done : done + len(images)] = [_check_label(label) for label in found]
                    done += len(images)
                    stored = convert(images, self.info)
                yield stored

    def _label_names(self, labels: np.ndarray | None) -> Iterator[str]:
        """Yield the declared names, or numbers. The labels are complete once the images have been read."""
        if labels is None or not labels.size:
            return
        count = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
        if self.info.label_names and len(self.info.label_names) < count:
            raise FlexbenchError(
                f"{self.info.name}: {len(self.info.label_names)} label_names are declared, and the labels need {count}."
            )
        yield from self.info.label_names or map(str, range(count))

    @contextmanager
    def _named(self, where: str) -> Iterator[None]:
        """Turn whatever the user's code raises into one line that names the dataset and the place."""
        try:
            yield
        except FlexbenchError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())
            kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
            raise FlexbenchError(f"{self.info.name}: {where}: {kind}{reason}") from error


class _Arrays:
    """A split that is one array [N, ...], with or without labels."""

    def __init__(self, images: np.ndarray, labels: np.ndarray | None):
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def first_label(self) -> Any:
        return None if self.labels is None or not len(self.labels) else self.labels[0]

    def take(self, start: int, stop: int) -> tuple[np.ndarray, Any]:
        return self.images[start:stop], None if self.labels is None else self.labels[start:stop]


class _Items:
    """A split whose images are the items of an indexable object."""

    def __init__(self, items: Any, to_array: Callable[[Any], np.ndarray]):
        if not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
            raise ValueError(f"a {type(items).__name__} has no length or cannot be indexed")
        self.items, self.to_array = items, to_array

    def __len__(self) -> int:
        return len(self.items)

    def first_label(self) -> Any:
        return self._item(0)[1] if len(self) else None

    def take(self, start: int, stop: int) -> tuple[np.ndarray, Any]:
        images, labels = zip(*(self._item(i) for i in range(start, stop)), strict=True)
        shapes = sorted({image.shape for image in images})
        if len(shapes) > 1:
            raise ValueError(f"the images have different shapes: {', '.join(map(str, shapes[:3]))}")
        return np.stack(images), labels

    def _item(self, index: int) -> tuple[np.ndarray, Any]:
        item = self.items[index]
        if isinstance(item, Mapping):
            raise ValueError("its items are dictionaries; wrap it: benchmark.data.Columns(split, 'image', 'label')")
        image, label = item if isinstance(item, (tuple, list)) and len(item) == 2 else (item, None)
        return self.to_array(image), label


_Part = _Arrays | _Items


def convert(images: np.ndarray, info: DatasetInfo) -> np.ndarray:
    """Return images or vectors [N, ...] as the store holds them: uint8 [N, C, S, S], or float32 [N, D, 1, 1].

    Raises ValueError for another shape than the declared one, another type, and values out of range.
    """
    if not info.are_images:
        return _vectors(images, info)
    c, s = info.channels, info.size
    shape = images.shape[1:]
    if shape == (s, s, c):
        images = images.transpose(0, 3, 1, 2)
    elif shape == (s, s) and c == 1:
        images = images[:, None]
    elif shape != (c, s, s):
        raise ValueError(f"an image has the shape {shape}, and {info.shape} is declared")
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind != "f":
        raise ValueError(f"the images are {images.dtype}; they must be uint8, or floats in [0, 1]")
    if not (images.min() >= 0 and images.max() <= 1):  # also true for NaN
        raise ValueError(f"the images are floats from {images.min():g} to {images.max():g}; they must be in [0, 1]")
    return np.ascontiguousarray(np.rint(images.astype(np.float64) * 255).astype(np.uint8))


def _vectors(vectors: np.ndarray, info: DatasetInfo) -> np.ndarray:
    if vectors.shape[1:] not in ((info.channels,), (info.channels, 1, 1)):
        raise ValueError(f"a vector has the shape {vectors.shape[1:]}, and {info.shape} are declared")
    if vectors.dtype.kind != "f" or not np.isfinite(vectors).all():
        raise ValueError(f"the vectors are {vectors.dtype}; they must be finite floats")
    return np.ascontiguousarray(vectors.reshape(len(vectors), -1, 1, 1), np.float32)


def _pil_to_array(image: Any, info: DatasetInfo) -> np.ndarray:
    """Return a PIL image in the declared mode, or an array or tensor, as an array."""
    if type(image).__module__.partition(".")[0] == "PIL":
        return np.asarray(in_mode(image, "L" if info.channels == 1 else "RGB"))
    return _to_array(image)


def _to_array(value: Any) -> np.ndarray:
    """Return an array, a tensor or a list of numbers as an array."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _check_label(label: Any) -> np.ndarray:
    """Return one label as an array: a class number [], or numbers [K]. Raises ValueError for anything else."""
    found = _to_array(label)
    if found.ndim == 0 and found.dtype.kind in "biu" and found >= 0:
        return found
    if found.ndim == 1 and found.dtype.kind in "biuf":
        return found
    raise ValueError(f"label {label!r} is neither a whole number from 0 nor a list of numbers")
