"""Memorisation scores: how near is the nearest training image? (FlexAE paper, Table 4: PMS in pixels, IMS in features)

    score(A, B) = 1/|A| Σ_{a ∈ A} min_{b ∈ B} ‖a - b‖₂ ,    not squared, pixels in [0, 1].

For a model that memorises, score(generated, train) is clearly below score(generated, test). A sharper test searches all
training images: how often is the nearest of all training and test images a training image? Held-out images give the
value of a model that copies nothing. See `train_ratio`.

The IMS is left out in the feature space of the pixels, where it would equal the PMS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..neighbours import Neighbours, nearest, nearest_in_parts

if TYPE_CHECKING:
    from ..references import ImageSet, References

SEARCHED = 20  # all training images are searched only if there are at most this many per scored image

MeanAndError = tuple[float, float]
View = Callable[["ImageSet"], np.ndarray]  # what is compared of an image set


def pms_tr(images: ImageSet, references: References) -> MeanAndError:
    """PMS against n training images."""
    return mean_and_error(nearest(_pixels(images), _pixels(references.train_b)))


def pms_te(images: ImageSet, references: References) -> MeanAndError:
    """PMS against n test images."""
    return mean_and_error(_to_test(images, references, _pixels))


def pms_all(images: ImageSet, references: References) -> MeanAndError | None:
    """PMS against all training images."""
    return _distance_to_all(images, references, _pixels)


def pms_ratio(images: ImageSet, references: References) -> MeanAndError | None:
    """Share of images whose nearest real image, in pixels, is a training image."""
    return _ratio(images, references, _pixels)


def ims_tr(images: ImageSet, references: References) -> MeanAndError | None:
    """IMS against n training images."""
    if images.space.is_pixels:
        return None
    return mean_and_error(nearest(_features(images), _features(references.train_b)))


def ims_te(images: ImageSet, references: References) -> MeanAndError | None:
    """IMS against n test images."""
    return None if images.space.is_pixels else mean_and_error(_to_test(images, references, _features))


def ims_all(images: ImageSet, references: References) -> MeanAndError | None:
    """IMS against all training images."""
    return None if images.space.is_pixels else _distance_to_all(images, references, _features)


def ims_ratio(images: ImageSet, references: References) -> MeanAndError | None:
    """Share of images whose nearest real image, in features, is a training image."""
    return None if images.space.is_pixels else _ratio(images, references, _features)


def _pixels(images: ImageSet) -> np.ndarray:
    return images.images


def _features(images: ImageSet) -> np.ndarray:
    return images.features


def _to_test(images: ImageSet, references: References, view: View) -> Neighbours:
    """The nearest of n test images; computed once, as two scores need it."""
    return images.once(("to test", view), lambda: nearest(view(images), view(references.test)))


def _to_all(images: ImageSet, references: References, view: View) -> Neighbours | None:
    """The nearest of all training images; computed once, as two scores need it.

    None without images (a dataset may have no validation images), and in a small evaluation of a large dataset, where
    embedding all training images would take far longer than everything else.
    """
    if not len(images.images) or len(references.dataset.train) > SEARCHED * references.n:
        return None
    return images.once(("to all", view), lambda: nearest_in_parts(view(images), map(view, references.all_training())))


def _distance_to_all(images: ImageSet, references: References, view: View) -> MeanAndError | None:
    to_train = _to_all(images, references, view)
    return None if to_train is None else mean_and_error(to_train)


def _ratio(images: ImageSet, references: References, view: View) -> MeanAndError | None:
    to_train = _to_all(images, references, view)
    return None if to_train is None else train_ratio(to_train, _to_test(images, references, view))


def mean_and_error(found: Neighbours) -> MeanAndError:
    """PMS (of pixels) or IMS (of features): the mean distance and its standard error, which is NaN for one image."""
    n = len(found.distances)
    return float(found.distances.mean()), float(found.distances.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan


def train_ratio(to_train: Neighbours, to_test: Neighbours) -> tuple[float, float]:
    """Share of images whose nearest real image is a training image, and its standard error.

    `to_train` and `to_test` are the nearest training and test images of the same images. If both are equally far, the
    test image counts as the nearest. Some real images ("hubs") are the nearest of many images, which are therefore not
    independent: if c_j images have real image j as their nearest, the effective number is n' = n^2 / sum_j c_j^2. The
    standard error is that of a proportion with n' trials. One success and one failure are added first, so it is not
    zero at 0 or 1 (Agresti & Coull 1998 add two of each).
    """
    nearer = to_train.distances < to_test.distances
    neighbour = np.where(nearer, to_train.indices, -1 - to_test.indices)  # training and test images told apart
    counts = np.unique(neighbour, return_counts=True)[1].astype(np.float64)
    share, independent = float(nearer.mean()), len(nearer) ** 2 / float(np.square(counts).sum())
    moderate = (share * independent + 1) / (independent + 2)
    return share, math.sqrt(moderate * (1 - moderate) / independent)
