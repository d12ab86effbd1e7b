"""One pass per image set: images are embedded once, and every metric reads the cached features.

Vectors, float32 [N, D, 1, 1], take the place of images, uint8 [N, C, S, S], where the data are no images. Of these the
distances are measured, as in the paper's studies with such data, but not PRD, and not memorisation, whose controls
(noise on pixels, perceptual features) are about pictures.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..core.canonical import canonical
from ..core.errors import FlexbenchError
from ..core.files import cache_dir, ensure_dir, read_json, write_json
from ..core.seeding import derive, seed_everything
from ..data.batches import CachedRows, in_order
from ..data.info import VECTOR_SPACE
from ..metrics import PROTOCOL, metric_name
from .diagnostics import count_codes, prior_mismatch
from .features import FeatureSpace, cached_features
from .frechet import Gaussian, fit_gaussian, frechet_distance
from .images import as_stored
from .memorization import Neighbours, mean_and_error, nearest, nearest_in_parts, train_ratio
from .precision_recall import precision_recall

if TYPE_CHECKING:
    from ..data import Dataset, Split
    from ..method import Method

LEAST = 10  # images of each kind that PRD's 20 clusters need
PART = 10_000  # training images compared with at once, where all of them are
SEARCHED = 20  # all training images are only searched where there are at most so many for each image that is scored
COPY_NOISE = 0.02 * 255  # standard deviation of the noise on the copies that memorisation is tried on
CHUNK = 500  # images per forward pass of sampling; part of the protocol, since it splits the draws of noise


@dataclass(frozen=True)
class Score:
    """One number and the protocol that made it."""

    metric: str  # full name, see metrics.metric_name
    family: str
    value: float
    se: float | None  # standard error where the metric has one
    n_images: int  # images on each side
    space: str | None  # feature space; None for pixels as they are
    fingerprint: str | None  # of the feature space: weights, input size, resizing


class ImageSet:
    """uint8 images [N, C, S, S] with their features and the Gaussian of these, each computed at most once.

    Features of real images are kept on disk too: a second model re-embeds nothing real.
    """

    def __init__(self, images: np.ndarray, space: FeatureSpace, real: bool = False):
        self.images, self.space, self.real = images, space, real

    @cached_property
    def features(self) -> np.ndarray:
        """float32 [N, d]."""
        return cached_features(self.space, self.images) if self.real else self.space.embed(self.images)

    @cached_property
    def gaussian(self) -> Gaussian:
        """Mean and covariance of the features."""
        return fit_gaussian(self.features)

    def head(self, n: int) -> ImageSet:
        """The first n images; features that are there already are not computed again."""
        if n >= len(self.images):
            return self
        part = ImageSet(self.images[:n], self.space, self.real)
        if "features" in vars(self):
            part.features = self.features[:n]
        return part


class References:
    """The real images that scores compare with, the same for every model of a dataset.

    `test`: n test images. `train_a`, `train_b`: disjoint sets of n training images. `val`: up to n held-out ones.
    n is the number asked for, or fewer where the dataset has fewer test images or fewer than 2n training images.
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

    def floor(self) -> list[Score]:
        """Every score with real images in the model's place.

        Training images (`train_a`) give what a perfect model would get; held-out ones what one gets that copies
        nothing, and noisy copies what one gets that does nothing else.
        """
        return _remembered(self, lambda: [*fidelity(self.train_a, self, "real"), *self._of_copying()])

    def _of_copying(self) -> list[Score]:
        if not self.dataset.info.are_images:
            return []
        return [
            *memorization(self.train_a, self, "tr"), *copying(self.val, self, "val"),
            *memorization(self.copies, self, "copy"), *copying(self.copies, self, "copy"),
        ]  # fmt: skip


def parts_of(split: Split) -> Iterator[np.ndarray]:
    """All images of a split, in the parts in which they are embedded and compared with."""
    return (split.images(start, start + PART) for start in range(0, len(split), PART))


def check_count(dataset: Dataset, wanted: int) -> int:
    """How many images of each kind are scored: `wanted`, or fewer where the dataset has fewer.

    Raises FlexbenchError where that is too few for a score.
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
    """uint8 images with Gaussian noise of standard deviation COPY_NOISE, the same for the same images."""
    rng = np.random.default_rng(derive(0, "copies"))
    parts = np.array_split(images, range(CHUNK, len(images), CHUNK))  # bounds the memory of the noise
    drawn = (np.rint(part + rng.normal(0, COPY_NOISE, part.shape)) for part in parts)
    return np.concatenate([part.clip(0, 255).astype(np.uint8) for part in drawn])


def _remembered(references: References, compute: Callable[[], list[Score]]) -> list[Score]:
    """Scores of real images, kept on disk by what they depend on: the dataset, how many are taken, the space."""
    r = references
    key = canonical([PROTOCOL, r.space.name, r.space.fingerprint, r.dataset.slug, r.dataset.content_hash, r.n,
                     len(r.val.images), COPY_NOISE, SEARCHED])  # fmt: skip
    path = ensure_dir(cache_dir() / "scores") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    if (rows := read_json(path)) is None:
        rows = [asdict(score) for score in compute()]
        write_json(path, rows)
    return [Score(**row) for row in rows]


def fidelity(images: ImageSet, references: References, subject: str) -> list[Score]:
    """Frechet distance and, of images, PRD of a set of n against n test images; subject is gen, rec or real."""
    if images.space.name == VECTOR_SPACE:
        return [distance(images, references, subject)]
    prd = precision_recall(images.features, references.test.features, seed=derive(0, "prd"))
    score = _scorer(images.space, len(images.images))
    return [
        distance(images, references, subject),
        score(f"{subject}_precision_f1_8", prd.precision_f1_8, prd.precision_se),
        score(f"{subject}_recall_f8", prd.recall_f8, prd.recall_se),
    ]


def distance(images: ImageSet, references: References, subject: str) -> Score:
    """Frechet distance of a set of n images to n test images."""
    value = frechet_distance(images.gaussian, references.test.gaussian)
    return _scorer(images.space, len(images.images))(f"{subject}_fd", value)


def memorization(images: ImageSet, references: References, subject: str) -> list[Score]:
    """PMS and IMS of a set of n images against n training and n test images; subject is gen, rec, tr or copy."""
    return [
        score(f"{kind}_{subject}_{name}", *mean_and_error(neighbours))
        for name, base in (("tr", references.train_b), ("te", references.test))
        for kind, score, neighbours in _both(images, lambda of, base=base: nearest(of(images), of(base)))
    ]


def copying(images: ImageSet, references: References, subject: str) -> list[Score]:
    """PMS and IMS against *all* training images, and the share whose nearest of these and the n test images is one.

    The subject is gen, val or copy. Empty without images (a dataset may have no validation images), and in a small
    evaluation of a large dataset: embedding all of it would take far longer than all else, and show little.
    """
    if not len(images.images) or len(references.dataset.train) > SEARCHED * references.n:
        return []

    def neighbours(of: Callable[[ImageSet], np.ndarray]) -> tuple[Neighbours, Neighbours]:
        to_train = nearest_in_parts(of(images), map(of, references.all_training()))
        return to_train, nearest(of(images), of(references.test))

    scores = []
    for kind, score, (to_train, to_test) in _both(images, neighbours):
        scores.append(score(f"{kind}_{subject}_all", *mean_and_error(to_train)))
        scores.append(score(f"{kind}_ratio_{subject}", *train_ratio(to_train, to_test)))
    return scores


def _both(images: ImageSet, compute: Callable) -> Iterator[tuple[str, Callable[..., Score], Any]]:
    """Kind, maker of scores and result of `compute(rows)`, for pixels (pms) and for features (ims).

    `rows` takes from an image set what is compared. In the space of pixels the two would be the same number. Nothing
    for vectors.
    """
    if images.space.name == VECTOR_SPACE:
        return
    n = len(images.images)
    yield "pms", _scorer(None, n), compute(lambda part: part.images)
    if images.space.name != "pixels":
        yield "ims", _scorer(images.space, n), compute(lambda part: part.features)


def score_generated(images: np.ndarray, references: References) -> list[Score]:
    """All scores of generated images, uint8 [n, C, S, S] with n = references.n, from any source."""
    generated = ImageSet(images, references.space)
    return [
        *fidelity(generated, references, "gen"),
        *memorization(generated, references, "gen"),
        *copying(generated, references, "gen"),
        *validation(generated, references),
    ]


def validation(generated: ImageSet, references: References) -> list[Score]:
    """Frechet distance of generated to held-out training images, the one score that settings may be chosen by."""
    n = min(len(references.val.images), len(generated.images))
    if n < 2:
        return []
    distance = frechet_distance(generated.head(n).gaussian, references.val.head(n).gaussian)
    return [_scorer(references.space, n)("gen_fd_val", distance)]


def score_reconstructed(images: np.ndarray, references: References) -> list[Score]:
    """All scores of the reconstructions of the test images, uint8 [n, C, S, S] in the same order."""
    reconstructed = ImageSet(images, references.space)
    unit = 255 if references.dataset.info.are_images else 1
    error = np.square((images.astype(np.float32) - references.test.images) / unit).mean(dtype=np.float64)
    return [
        *fidelity(reconstructed, references, "rec"),
        *memorization(reconstructed, references, "rec"),
        _scorer(None, len(images))("rec_mse", float(error)),
    ]


def score_method(method: Method, references: References, seed: int) -> list[Score]:
    """Generate and reconstruct `references.n` images with a trained model; scores of both, and the floor."""
    return [
        *score_generated(generate(method, references.n, seed), references),
        *score_reconstructed(reconstruct(method, references.test.images), references),
        *references.floor(),
    ]


def score_latents(method: Method, train: Split, value: float) -> list[Score]:
    """How far the aggregated posterior is from the prior: `value`, one of the figures of `diagnostics.diagnostics`."""
    return [_scorer(None, count_codes(method, train))("prior_mismatch", value)]


def score_snapshot(method: Method, references: References, seed: int) -> list[Score]:
    """Of the scores of a trained model the distances, to the same digits: what is followed over training."""
    train = references.dataset.train
    generated = ImageSet(generate(method, references.n, seed), references.space)
    reconstructed = ImageSet(reconstruct(method, references.test.images), references.space)
    return [
        distance(generated, references, "gen"),
        distance(reconstructed, references, "rec"),
        *score_latents(method, train, prior_mismatch(method, train, seed)),
        *validation(generated, references),
    ]


def score_validation(method: Method, references: References, seed: int) -> list[Score]:
    """Of the scores of `score_method` only the one that looks at no test image, to the same digits.

    Raises FlexbenchError where the dataset has no validation images to compare with.
    """
    n = min(len(references.val.images), references.n)
    whole_chunks = min(references.n, math.ceil(n / CHUNK) * CHUNK)
    images = generate(method, whole_chunks, seed)[:n]
    if not (scores := validation(ImageSet(images, references.space), references)):
        raise FlexbenchError("there are no validation images to choose settings by.")
    return scores


def _scorer(space: FeatureSpace | None, n: int) -> Callable[..., Score]:
    """Makes Scores of one protocol."""
    name, fingerprint = (space.name, canonical(space.fingerprint)) if space else (None, None)

    def score(family: str, value: float, se: float | None = None) -> Score:
        full = metric_name(family, n, name, bool(space and space.is_fid))
        return Score(full, family, float(value), None if se is None else float(se), n, name, fingerprint)

    return score


@torch.no_grad()
def generate(method: Method, n: int, seed: int) -> np.ndarray:
    """n generated images as the 8-bit pictures a user would save, uint8 [n, C, S, S], the same for the same seed.

    Or vectors float32 [n, D, 1, 1], where the model makes these.
    """
    method.eval()
    seed_everything(derive(seed, "sampling"))
    generator = torch.Generator().manual_seed(derive(seed, "sampling", "noise"))
    return np.concatenate([as_stored(method.sample(k, generator)) for k in _chunks(n)])


@torch.no_grad()
def reconstruct(method: Method, images: np.ndarray) -> np.ndarray:
    """Reconstructions of uint8 images [N, C, S, S], as uint8, or of float32 vectors, as float32."""
    method.eval()
    rows = CachedRows(torch.from_numpy(images))
    return np.concatenate([as_stored(method.reconstruct(x)) for x in in_order(rows, method.device, CHUNK)])


def _chunks(n: int) -> Iterator[int]:
    """Sizes that add up to n, each at most CHUNK."""
    for start in range(0, n, CHUNK):
        yield min(CHUNK, n - start)
