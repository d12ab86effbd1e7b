"""The table of all datasets by name: those of the suite, and those that plug-ins register.

A dataset of the suite is a module of this package with one or more `DatasetInfo` values, and a line in `BUILT_IN`.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path

from ..core.errors import FlexbenchError, unknown
from .declaration import VECTOR_SPACE, DatasetInfo, LatentModes, check_declaration, shape_of

__all__ = ["DATASETS", "VECTOR_SPACE", "DatasetInfo", "LatentModes", "dataset_info", "info_of_slug", "is_built_in",
           "origin_of", "public_name", "register", "shape_of", "size_for", "source_hash"]  # fmt: skip

BUILT_IN = ("digits", "torchvision_sets", "celeba", "sprites", "synthetic", "folder")  # modules, in the order of `ls`

#: Every dataset by its declared name, in the order of `flexbench ls datasets`.
DATASETS: dict[str, DatasetInfo] = {}
_origins: dict[str, str] = {}  # name -> file, module or entry point that declares it
_hashes: dict[str, str] = {}  # name -> hash of the file that declares it


def register(info: DatasetInfo, origin: str) -> None:
    """Add a dataset to the table, or replace it if the same origin declares it again.

    `origin` is the path of the file, the module or the entry point ("module:attribute") that declares the dataset.
    Raises FlexbenchError for a bad declaration, and for a name that another origin has taken; it names both.
    """
    if DATASETS.get(info.name) is info:
        return
    try:
        check_declaration(info)
    except FlexbenchError as error:
        raise FlexbenchError(f"dataset '{info.name}' of {origin}: {error}") from error
    _check_free(info, origin)
    DATASETS[info.name], _origins[info.name] = info, origin
    _hashes[info.name] = _hash_of(origin)


def _check_free(info: DatasetInfo, origin: str) -> None:
    """Raise FlexbenchError if another file or package already uses this name, or a name with the same run folder."""
    for other in DATASETS.values():
        with_argument = other.parse and info.slug.startswith(f"{other.kind}-")
        if (other.kind == info.kind or with_argument) and _origins[other.name] != origin:
            raise FlexbenchError(
                f"dataset '{info.name}' of {origin} is already defined by {_origins[other.name]}"
                f"{f' as {other.form}' if with_argument else ''}. Rename one of them."
            )


def _hash_of(origin: str) -> str:
    """Return 12 hex digits of the content of the file behind an origin; empty where there is no such file."""
    module = sys.modules.get(origin.partition(":")[0])
    path = Path(getattr(module, "__file__", None) or origin)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""


def origin_of(name: str) -> str:
    """Return the file, module or entry point that declares a dataset."""
    return _origins[_declared(name).name]


def source_hash(name: str) -> str:
    """Return 12 hex digits of the content of the file that declares a dataset."""
    return _hashes[_declared(name).name]


def dataset_info(name: str) -> DatasetInfo:
    """Return the declaration of a dataset by name, with the argument of a name such as 'kind:N' resolved.

    No file is read. Raises FlexbenchError for an unknown name and for a bad argument.
    """
    declared = _declared(name)
    _, colon, argument = name.partition(":")
    return declared.parse(declared, argument) if declared.parse and colon else declared


def _declared(name: str) -> DatasetInfo:
    """Return the table's entry for a name, without its argument."""
    if name in DATASETS:
        return DATASETS[name]
    kind, colon, _ = name.partition(":")
    for info in DATASETS.values():
        if colon and info.parse and info.kind == kind:
            return info
    forms = [info.form for info in DATASETS.values() if info.form]
    hint = "See 'flexbench ls datasets'; add your own with --include FILE."
    raise unknown("dataset", name, dict.fromkeys([*DATASETS, *forms]), hint)


def info_of_slug(slug: str) -> DatasetInfo | None:
    """Return the declaration of the dataset that has this name in result rows, or None if it is not known."""
    for info in DATASETS.values():
        if slug == info.name:
            return info
        if info.parse and slug.startswith(f"{info.kind}-"):
            try:
                return info.parse(info, slug.removeprefix(f"{info.kind}-"))
            except FlexbenchError:
                return None
    return None


def public_name(name: str) -> str:
    """Return a dataset's name for other users: 'name:PATH' instead of a path of this machine."""
    for info in DATASETS.values():
        if info.form == f"{info.kind}:PATH" and name.startswith(f"{info.kind}:"):
            return info.form
    return name


def is_built_in(name: str) -> bool:
    """Return whether the suite itself has a dataset, or a plug-in defines it."""
    kinds = [info.kind for info in DATASETS.values() if _origins[info.name].startswith(f"{__package__}.")]
    return name.partition(":")[0] in kinds


def size_for(name: str, image_size: int | None) -> int | None:
    """Return `image_size` for a dataset whose images can be resized, and None for the others."""
    return image_size if dataset_info(name).resizable else None


for _name in BUILT_IN:
    _module = importlib.import_module(f".{_name}", __package__)
    for _value in list(vars(_module).values()):
        if isinstance(_value, DatasetInfo):
            register(_value, _module.__name__)
