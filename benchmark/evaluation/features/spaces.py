"""The registry of feature spaces: those in the folder `builtin`, and those that users' files define.

Imports no torch: `flexbench ls features` and the tables read the declarations.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import FlexbenchError, unknown
from ...core.files import sha256_file
from . import builtin
from .declaration import FeatureSpace, FunctionSpace, SpaceInfo

if TYPE_CHECKING:
    from ...data.info import DatasetInfo

__all__ = ["FEATURE_SPACES", "FeatureSpace", "FunctionSpace", "SpaceInfo", "feature_space", "register", "space_for"]

BUILT_IN = "flexbench"  # origin of the suite's own spaces


def _built_in() -> dict[str, SpaceInfo]:
    """Every declaration at module level in a file of the folder `builtin`, by name."""
    names = (f"{builtin.__name__}.{module.name}" for module in pkgutil.iter_modules(builtin.__path__))
    values = (value for name in names for value in vars(importlib.import_module(name)).values())
    return {value.name: value for value in values if isinstance(value, SpaceInfo)}


FEATURE_SPACES: dict[str, SpaceInfo] = _built_in()
_origins: dict[str, str] = dict.fromkeys(FEATURE_SPACES, BUILT_IN)
_hashes: dict[str, str] = {}  # name -> start of the SHA-256 of the file that defines the space


def register(space: SpaceInfo, origin: str) -> None:
    """Add a feature space that `origin`, a file or a package, defines. Registering it again is harmless.

    Raises FlexbenchError for a malformed name, and for a name that another origin has taken.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]*", space.name):
        raise FlexbenchError(
            f"'{space.name}' of {origin} cannot name a feature space: use letters, digits, '-', '.', '_' and '@'."
        )
    found = _find(space.name)
    taken = _origins[found[1].name] if found else origin
    if taken != origin:
        raise FlexbenchError(
            f"feature space '{space.name}' of {origin} is already defined by {taken}. Rename one of them."
        )
    FEATURE_SPACES[space.name], _origins[space.name] = space, origin
    if Path(origin).is_file():
        _hashes[space.name] = sha256_file(Path(origin))[:12]


def _find(name: str) -> tuple[SpaceInfo, SpaceInfo] | None:
    """The declaration of a name, and the listed declaration that it comes from; None for an unknown name."""
    if name in FEATURE_SPACES:
        return FEATURE_SPACES[name], FEATURE_SPACES[name]
    for listed in FEATURE_SPACES.values():
        if listed.parse and (parsed := listed.parse(name)):
            return parsed, listed
    return None


def declared(name: str) -> SpaceInfo:
    """The declaration of a feature space by name. Raises FlexbenchError for an unknown name."""
    found = _find(name)
    if found is None:
        hints = dict.fromkeys(info.parsed_names for info in FEATURE_SPACES.values() if info.parsed_names)
        raise unknown("feature space", name, FEATURE_SPACES, " ".join([*hints, "See 'flexbench ls features'."]))
    return found[0]


def is_for_vectors(name: str) -> bool:
    """Whether a space is for vectors. An unknown name counts as a space for images."""
    found = _find(name)
    return found is not None and found[0].for_vectors


def slow_import(name: str) -> str | None:
    """The module that a feature space needs and that takes long to import; None if there is none."""
    return declared(name).slow_import


def space_for(info: DatasetInfo, asked: str) -> str:
    """The feature space in which a dataset is scored if the user asks for `asked`.

    Vectors have one space of their own, whatever is asked. Raises FlexbenchError if `asked` is for vectors and the
    dataset holds images.
    """
    if info.are_images and is_for_vectors(asked):
        raise FlexbenchError(f"--features {asked} is for vectors, and {info.name} holds images: use pixels.")
    return info.space or asked


def feature_space(name: str, weights: str | Path | None = None, device: str = "cpu") -> FeatureSpace:
    """Build the feature space of this name: a key of FEATURE_SPACES, or a name that a declaration parses.

    Args:
        weights: the weights file, for a space that takes one (`inception`).

    Raises FlexbenchError for an unknown name, and for weights that are missing or have another SHA-256.
    """
    info, entry = declared(name), _find(name)
    assert entry is not None  # or `declared` has raised an error
    listed = entry[1]
    space = info.build(device, weights=weights) if info.takes_weights else info.build(device)
    if not isinstance(space, FeatureSpace) or space.name != name:
        found = f"the space '{space.name}'" if isinstance(space, FeatureSpace) else f"a {type(space).__name__}"
        raise FlexbenchError(
            f"the build function of feature space '{name}' of {_origins[listed.name]} returns {found}; "
            f"it must return a FeatureSpace with the name '{name}'."
        )
    if listed.name in _hashes:  # an edited file is another space: cached features and scores must not mix
        space.fingerprint = {**space.fingerprint, "file": _hashes[listed.name]}
    return space
