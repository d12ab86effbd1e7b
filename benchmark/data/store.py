"""The prepared form of a dataset: arrays on disk that are memory-mapped and never read as a whole.

A store is a folder with images.npy (uint8 [N, C, H, W], or float32 [N, D, 1, 1] for vectors), splits.npy (uint8 [N]:
0 train, 1 val, 2 test), labels.npy if there are labels, and meta.json. It is written once, under a temporary name,
and never changed afterwards.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import FlexbenchError
from ..core.files import atomic_folder, cache_dir, ensure_dir, write_json
from .source import TEST, TRAIN, VAL, Content, Source, hash_fraction, lowest

FORMAT = 1  # raised when the same source would give another store, so that old stores are no longer found
VAL_SHARE = 0.1
SPLIT_CODES = {"train": TRAIN, "val": VAL, "test": TEST}
_HASH_BYTES = 1 << 24


@dataclass(frozen=True, eq=False)
class Store:
    """An open store. The arrays are memory-mapped and read-only."""

    path: Path
    meta: dict[str, Any]
    images: np.ndarray  # uint8 [N, C, H, W], or float32 [N, D, 1, 1]
    splits: np.ndarray  # uint8 [N], values of SPLIT_CODES
    labels: np.ndarray | None  # [N] or [N, K]


class _DamagedError(Exception):
    """A store that cannot be read, or whose content is not what was written."""


def open_store(source: Source) -> Store:
    """Open the store of a source. Prepare it first if it does not exist or is damaged.

    Raises FlexbenchError if the source cannot be read or the cache folder cannot be written.
    """
    path = cache_dir() / "datasets" / f"{source.info.slug}-{fingerprint(source)}"
    if path.is_dir():
        try:
            return _read(path)
        except _DamagedError as damage:
            warnings.warn(f"the prepared dataset '{path}' is damaged ({damage}); it is made anew.", stacklevel=3)
            _remove(path)
    _prepare(path, source)
    try:
        return _read(path)
    except _DamagedError as damage:
        raise FlexbenchError(f"'{path}' was written but reads back wrong ({damage}). Check the disk.") from damage


def hash_again(source: Source) -> str:
    """Read a source once more and return its content hash. Nothing is kept."""
    with tempfile.TemporaryDirectory(dir=ensure_dir(cache_dir() / "datasets"), prefix=".again-") as folder:
        _prepare(Path(folder, "store"), source)
        return _read(Path(folder, "store")).meta["content_hash"]


def fingerprint(source: Source) -> str:
    """Return 12 hex digits that change with the source's key, image size or any of its files."""
    try:
        files = [_file_identity(source.root or Path(), name) for name in source.files()]
    except OSError as error:
        raise FlexbenchError(f"cannot read '{source.origin}': {error.strerror or error}.") from error
    identity = json.dumps([FORMAT, source.key, source.info.size, files])
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def _file_identity(root: Path, name: str) -> tuple[str, int, int]:
    stat = (root / name).stat()
    return name, stat.st_size, stat.st_mtime_ns


def content_hash(**arrays: np.ndarray) -> str:
    """Return the hex SHA-256 over the names, types, shapes and bytes of arrays, read block by block."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, len(flat), _HASH_BYTES):
            digest.update(flat[start : start + _HASH_BYTES].data)
    return digest.hexdigest()


def _read(path: Path) -> Store:
    try:
        meta = json.loads((path / "meta.json").read_text())
        arrays = {name: _memory_map(path, name) for name in meta["arrays"]}
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise _DamagedError(" ".join(str(error).split())) from error
    if content_hash(**arrays) != meta.get("content_hash"):
        raise _DamagedError("its content hash differs")
    return Store(path, meta, arrays["images"], arrays["splits"], arrays.get("labels"))


def _memory_map(path: Path, name: str) -> np.ndarray:
    return np.asarray(np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False))


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise FlexbenchError(f"cannot remove the damaged '{path}': {error.strerror}. Delete it yourself.") from error


def _prepare(path: Path, source: Source) -> None:
    try:
        with atomic_folder(path) as draft:
            _write(draft, source)
    except OSError as error:  # sources report their own files as FlexbenchError, so this is about the draft
        raise FlexbenchError(
            f"cannot write the prepared dataset to '{path}': {error.strerror or error}. "
            "Make room there, or set FLEXBENCH_CACHE to another folder."
        ) from error


def _write(draft: Path, source: Source) -> None:
    content = source.load()
    fractions = _write_images(draft / "images.npy", content, source.info.name)
    splits = _with_validation(content.splits, fractions)
    arrays = {"images": _memory_map(draft, "images"), "splits": splits}
    if content.labels is not None:
        arrays["labels"] = content.labels
    for name in list(arrays)[1:]:
        np.save(draft / f"{name}.npy", arrays[name])
    digest = content_hash(**arrays)
    _check_standard(digest, source)
    write_json(draft / "meta.json", _describe(source, content, arrays, digest))


def _write_images(path: Path, content: Content, title: str) -> np.ndarray:
    """Stream the images to a .npy file. Return the hash fraction of each image, float64 [N]."""
    from tqdm import tqdm

    shape = (len(content.splits), content.channels, content.size, content.size)
    descr = np.lib.format.dtype_to_descr(np.dtype(content.dtype))
    fractions: list[float] = []
    # Plain writes: on a full disk they raise OSError. A writable memory map would kill the process.
    with open(path, "wb") as file, tqdm(total=shape[0], desc=title, unit=" images", delay=2, disable=None) as bar:
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        for chunk in content.chunks:
            rows = [image.tobytes() for image in chunk]
            file.writelines(rows)
            fractions += map(hash_fraction, rows)
            bar.update(len(rows))
    return np.array(fractions)


def _with_validation(splits: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Cut a validation split from the training images, unless the source has one.

    Identical images always go to the same split.
    """
    if (splits == VAL).any():
        return splits
    train = np.flatnonzero(splits == TRAIN)
    splits = splits.copy()
    splits[train[lowest(fractions[train], VAL_SHARE)]] = VAL
    return splits


def _check_standard(found: str, source: Source) -> None:
    expected = source.info.content_hash
    if expected and found != expected:
        if not source.files():
            raise FlexbenchError(
                f"{source.info.name} has content hash {found[:12]} here instead of {expected[:12]}: it was made with "
                "other versions of NumPy or scikit-learn. Install those of constraints.txt."
            )
        raise FlexbenchError(
            f"the files in '{source.origin}' are not the standard {source.info.title} (content hash {found[:12]} "
            f"instead of {expected[:12]}). Delete them and run 'flexbench data prepare {source.info.name}'."
        )


def _count_splits(splits: np.ndarray, name: str) -> dict[str, int]:
    counts = {split: int((splits == code).sum()) for split, code in SPLIT_CODES.items()}
    if empty := [split for split, count in counts.items() if not count]:
        raise FlexbenchError(f"{name}: no image is left for the split(s) {', '.join(empty)}. Add other images.")
    return counts


def _describe(source: Source, content: Content, arrays: dict[str, np.ndarray], digest: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": source.info.name,
        "channels": content.channels,
        "size": content.size,
        "counts": _count_splits(arrays["splits"], source.info.name),
        "arrays": list(arrays),
        "content_hash": digest,
        "label_names": list(content.label_names),
        "origin": source.origin,
        "source_files": len(source.files()),
        "skipped": list(content.skipped),
    }
