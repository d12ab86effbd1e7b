"""The declaration of a feature space, and the base classes of feature spaces. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.errors import FlexbenchError

BATCH = 500  # images that the function of a FunctionSpace gets at once


@dataclass(frozen=True)
class SpaceInfo:
    """The declaration of one feature space. Its module must not import torch at module level.

    `build(device)` returns the space on a torch device such as "cpu" or "cuda:0". With `takes_weights` it is called as
    `build(device, weights=FILE or None)`. `parse(name)` returns the declaration of a name that is not listed, such as
    `efficientnet_lite0@96`, or None for a name that it does not know.
    """

    name: str  # as typed after --features
    description: str  # one line of `flexbench ls features`
    dimension: int | None  # numbers per image; None: depends on the images
    build: Callable[..., FeatureSpace]
    for_vectors: bool = False  # the space is for vectors only; other spaces are for images only
    parse: Callable[[str], SpaceInfo | None] | None = None
    parsed_names: str = ""  # one sentence about the names that `parse` knows, for error messages
    takes_weights: bool = False  # the user may name a file of weights
    slow_import: str | None = None  # module that the space needs and that takes long to import


class FeatureSpace(ABC):
    """A fixed map from images to vectors.

    Attributes:
        name: as given to `feature_space`.
        fingerprint: everything that changes the numbers beyond rounding: weights, input size, resizing, scaling.
        device: the torch device that computes the features.
        is_fid: whether a Fréchet distance in this space may be called FID.
        is_pixels: whether the features are the pixels themselves.
        cached: whether the features of real images are kept on disk.
    """

    is_fid = False
    is_pixels = False
    cached = True

    def __init__(self, name: str, fingerprint: dict[str, Any], device: str = "cpu"):
        self.name, self.fingerprint, self.device = name, {"space": name, **fingerprint}, device

    @abstractmethod
    def embed(self, images: np.ndarray) -> np.ndarray:
        """uint8 images [N, C, H, W] with C = 1 or 3 -> float32 features [N, d].

        The features of an image do not depend on the other images. A space for vectors gets float32 [N, D, 1, 1].
        """


class FunctionSpace(FeatureSpace):
    """A feature space made of one function.

    Args:
        fingerprint: what changes the numbers, for example {"weights": "resnet18-v1", "input_size": 224}. The values
            are JSON. For a space from an included file, the hash of the file is added.
        embed: uint8 images [n, C, H, W] -> features [n, d]. Called with at most `batch_size` images.
    """

    def __init__(
        self,
        name: str,
        fingerprint: dict[str, Any],
        embed: Callable[[np.ndarray], np.ndarray],
        batch_size: int = BATCH,
        device: str = "cpu",
    ):
        super().__init__(name, fingerprint, device)
        self.function, self.batch_size = embed, batch_size

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Apply the function. Raises FlexbenchError unless it returns one row of numbers per image."""
        return np.concatenate([self._features(batch) for batch in batches(images, self.batch_size)])

    def _features(self, batch: np.ndarray) -> np.ndarray:
        features = np.asarray(self.function(batch))
        if features.ndim != 2 or len(features) != len(batch) or features.dtype.kind not in "fiu":
            raise FlexbenchError(
                f"feature space '{self.name}' returned {features.dtype} {features.shape} for {len(batch)} images; "
                f"it must return numbers of shape [{len(batch)}, d]."
            )
        return features.astype(np.float32, copy=False)


def batches(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Consecutive parts of at most `size` images."""
    return (images[start : start + size] for start in range(0, len(images), size))


def check_images(images: np.ndarray) -> None:
    """Raise FlexbenchError unless these are uint8 images [N, 1 or 3, H, W] and there is at least one."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
        raise FlexbenchError(f"features need uint8 images [N, 1 or 3, H, W], got {images.dtype} {images.shape}.")
