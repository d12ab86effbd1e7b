"""A cache on disk for the features of real images."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np

from ...core.files import atomic_write, cache_dir, ensure_dir, locked
from .declaration import FeatureSpace


def cached_features(space: FeatureSpace, images: np.ndarray) -> np.ndarray:
    """`space.embed(images)` for images [N, C, H, W], kept on disk under a hash of the space and of the images.

    A file is in NumPy's .npy format, followed by its SHA-256. A damaged file is computed again. Each type of device has
    its own files, because devices round differently. Spaces with `cached = False` are computed every time.
    """
    if not space.cached:
        return space.embed(images)
    key = json.dumps([space.fingerprint, str(space.device).partition(":")[0]], sort_keys=True)
    folder = cache_dir() / "features" / hashlib.sha256(key.encode()).hexdigest()[:16]
    path = folder / f"{_hash_images(images)}.npy"
    with locked(ensure_dir(folder) / f".{path.stem}.lock"):  # one process computes and the others wait for it
        features = _read_features(path)
        if features is None:
            features = space.embed(images)
            _write_features(path, features)
    return features


def _hash_images(images: np.ndarray) -> str:
    digest = hashlib.sha256(str(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def _read_features(path: Path) -> np.ndarray | None:
    """The array in a cache file, or None if the file is absent or damaged."""
    data = path.read_bytes() if path.is_file() else b""
    content, digest = data[:-32], data[-32:]
    if hashlib.sha256(content).digest() != digest:
        return None
    return np.load(io.BytesIO(content), allow_pickle=False)


def _write_features(path: Path, features: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, features, allow_pickle=False)
    content = buffer.getvalue()
    atomic_write(path, content + hashlib.sha256(content).digest())
