"""What metrics compute with: sets of images with their features, the real images, and the trained model.

Vectors, float32 [N, D, 1, 1], take the place of images, uint8 [N, C, S, S], for data that are not images.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..core.errors import FlexbenchError
from ..core.seeding import derive
from .diagnostics import prior_mismatch
from .features.cache import cached_features
from .features.declaration import FeatureSpace

if TYPE_CHECKING:
    from ..data import Dataset, Split
    from ..method import Method

LEAST = 10  # images of each kind that PRD's 20 clusters need
PART = 10_000  # training images that are compared with at once, where all of them are
COPY_NOISE = 0.02 * 255  # standard deviation of the noise on the copies that memorisation scores are tested on
NOISE_CHUNK = 500  # images that get their noise at once; it bounds the memory

T = TypeVar("T")


class ImageSet:
    """Images with their features.

    Attributes:
        images: uint8 [N, C, S, S], or float32 vectors [N, D, 1, 1].
        space: the feature space.
        real: whether the images are real. Features of real images are kept on disk, so a second model embeds none.
    """

    def __init__(self, images: np.ndarray, space: FeatureSpace, real: bool = False):
        self.images, self.space, self.real = images, space, real
        self._results: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def features(self) -> np.ndarray:
        """The features, float32 [N, d]. They are computed once."""
        return cached_features(self.space, self.images) if self.real else self.space.embed(self.images)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """The result of `compute()`. It is computed at the first call with this key and kept."""
        if key not in self._results:
            self._results[key] = compute()
        return self._results[key]

    def head(self, n: int) -> ImageSet:
        """The first n images. Features that exist already are not computed again."""
        if n >= len(self.images):
            return self
        part = ImageSet(self.images[:n], self.space, self.real)
        if "features" in vars(self):
            part.features = self.features[:n]
        return part


class References:
    """The real images that scores compare with. They are the same for every model of a dataset.

    n is the number asked for, or less if the dataset has fewer test images or fewer than 2n training images.

    Attributes:
        dataset: the dataset, with all its images.
        space: the feature space.
        n: number of images.
        test: n test images.
        train_a, train_b: disjoint sets of n training images. `train_a` takes the place of a model for the floors.
        val: up to n validation images; it may be empty.
    """

    def __init__(self, dataset: Dataset, n: int, space: FeatureSpace):
        self.n = check_count(dataset, n)
        self.dataset, self.space = dataset, space
        train = _choose(dataset, dataset.train, "train", 2 * self.n)
        test = _choose(dataset, dataset.test, "test", self.n)
        val = _choose(dataset, dataset.val, "val", min(n, len(dataset.val)))
        self.test, self.val = (ImageSet(images, space, real=True) for images in (test, val))
        self.train_a, self.train_b = (ImageSet(part, space, real=True) for part in np.split(train, 2))

    @cached_property
    def copies(self) -> ImageSet:
        """n training images with a little noise, which is what a model that memorises would make."""
        return ImageSet(noisy(_choose(self.dataset, self.dataset.train, "copies", self.n)), self.space)

    def all_training(self) -> Iterator[ImageSet]:
        """All training images, in parts."""
        return (ImageSet(part, self.space, real=True) for part in parts_of(self.dataset.train))


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained model, for metrics of the subject "model".

    `diagnostics` are the figures of `diagnostics.diagnostics` for the same model and seed, if they are known.
    """

    method: Method
    seed: int
    diagnostics: Mapping[str, float] = field(default_factory=dict)

    def prior_mismatch(self, train: Split) -> float:
        """The figure `prior_mismatch` of the diagnostics; computed if it is not known."""
        if "prior_mismatch" in self.diagnostics:
            return self.diagnostics["prior_mismatch"]
        return prior_mismatch(self.method, train, self.seed)


def parts_of(split: Split) -> Iterator[np.ndarray]:
    """All images of a split, in the parts in which they are embedded and compared with."""
    return (split.images(start, start + PART) for start in range(0, len(split), PART))


def check_count(dataset: Dataset, wanted: int) -> int:
    """The number of images of each kind that are scored: `wanted`, or less if the dataset has fewer.

    Raises FlexbenchError if there are too few for a score.
    """
    n = min(wanted, len(dataset.test), len(dataset.train) // 2)
    if n < LEAST:
        raise FlexbenchError(
            f"{n} images of {dataset.name} would be scored, but {LEAST} are needed: --images asks for {wanted}, and "
            f"there are {len(dataset.train)} training and {len(dataset.test)} test images."
        )
    return n


def _choose(dataset: Dataset, split: Split, name: str, n: int) -> np.ndarray:
    """n images of a split in random order, by a seed that depends on the dataset only."""
    rng = np.random.default_rng(derive(0, "reference", dataset.slug, name))
    return split.take(rng.permutation(len(split))[:n])


def noisy(images: np.ndarray) -> np.ndarray:
    """uint8 images with Gaussian noise of standard deviation COPY_NOISE, which is the same for the same images."""
    rng = np.random.default_rng(derive(0, "copies"))
    parts = np.array_split(images, range(NOISE_CHUNK, len(images), NOISE_CHUNK))
    drawn = (np.rint(part + rng.normal(0, COPY_NOISE, part.shape)) for part in parts)
    return np.concatenate([part.clip(0, 255).astype(np.uint8) for part in drawn])
