"""The contract of a feature space: the shape and type of its features, and what they may depend on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .common import Images, Violation, require

if TYPE_CHECKING:
    from ..evaluation.features.spaces import FeatureSpace, SpaceInfo

SIZE = 32  # side of the pictures in pixels
BATCHES = (1, 7)  # besides all pictures at once
VECTOR = 12  # numbers of a vector


def check_declaration_is_complete(info: SpaceInfo) -> None:
    """The declaration has a name and a description, and builds a space of that name."""
    require(bool(info.name and info.description), "name or description is empty")
    space = built(info)
    require(space.name == info.name, f"the built space is called '{space.name}', not '{info.name}'")


def check_features_are_finite_float32(info: SpaceInfo) -> None:
    """The features are float32 [N, d] and finite, with the declared dimension."""
    space = built(info)
    for kind, images in pictures(info):
        features = space.embed(images)
        fits = isinstance(features, np.ndarray) and features.ndim == 2 and len(features) == len(images)
        require(fits, f"{kind} {images.shape} give the shape {np.shape(features)}, not ({len(images)}, d)")
        require(features.dtype == np.float32, f"{kind} give {features.dtype}, not float32")
        require(bool(np.isfinite(features).all()), f"{kind} give values that are not finite")
        wanted = info.dimension or features.shape[1]
        require(features.shape[1] == wanted, f"{kind} give {features.shape[1]} numbers, and {wanted} are declared")


def check_independent_of_batch(info: SpaceInfo) -> None:
    """The features of an image are the same whatever images are embedded with it, up to rounding."""
    space = built(info)
    for kind, images in pictures(info):
        together = space.embed(images)
        for size in BATCHES:
            parts = np.concatenate([space.embed(images[i : i + size]) for i in range(0, len(images), size)])
            same = np.allclose(parts, together, rtol=1e-4, atol=1e-5 * float(np.abs(together).max()))
            require(same, f"the features of {kind} differ between batches of {size} and of {len(images)}")


def check_deterministic(info: SpaceInfo) -> None:
    """A space that is built again gives the same features."""
    first, again = built(info), built(info)
    for kind, images in pictures(info):
        require(
            np.array_equal(first.embed(images), again.embed(images)), f"the features of {kind} differ when repeated"
        )


def check_fingerprint_is_stable_json(info: SpaceInfo) -> None:
    """The fingerprint survives JSON, and a space that is built again has the same one."""
    first, again = built(info).fingerprint, built(info).fingerprint
    try:
        kept = json.loads(json.dumps(first))
    except (TypeError, ValueError) as error:
        raise Violation(f"the fingerprint is not JSON: {error}") from error
    require(kept == first, "the fingerprint changes when it is written as JSON: use strings, numbers and lists")
    require(first == again, "the fingerprint differs when the space is built again")


def built(info: SpaceInfo) -> FeatureSpace:
    """Build the space on the CPU."""
    options: dict[str, Any] = {"weights": None} if getattr(info, "takes_weights", False) else {}
    return info.build("cpu", **options)


def pictures(info: SpaceInfo) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what the space must embed, with its name: grey and colour images; or vectors, for a space of vectors."""
    if getattr(info, "for_vectors", False):
        yield "vectors", np.random.default_rng(0).standard_normal((16, VECTOR, 1, 1)).astype(np.float32)
        return
    for kind, channels in (("grey images", 1), ("colour images", 3)):
        yield kind, Images(channels, SIZE).images(0, 16)


CHECKS: list[Callable[[SpaceInfo], str | None]] = [
    check_declaration_is_complete,
    check_features_are_finite_float32,
    check_independent_of_batch,
    check_deterministic,
    check_fingerprint_is_stable_json,
]
