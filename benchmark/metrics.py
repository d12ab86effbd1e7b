"""What the suite measures: one declaration per score, which tables and lists read. Imports neither torch nor numpy.

A score's *name* carries its protocol: `gen_fd10k_test@efficientnet_lite0@128` is the Frechet distance of 10,000
generated images against 10,000 test images in that feature space. Only with Inception features by clean-fid is it
called `gen_fid10k_test`. Its *family*, `gen_fd`, is what a `Metric` declares. The evaluator computes every declared
metric. docs/add_a_metric.md shows how to add one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .core.errors import FlexbenchError, unknown

PROTOCOL = 1  # of scoring; raised when any score would change for the same images
DEFAULT_SPACE = "efficientnet_lite0@128"  # needs no download; see 'flexbench ls features'

# Scopes of an evaluation.
ALL = "all"  # every score
VALIDATION = "validation"  # only the distance to validation images, by which settings are chosen
DISTANCES = "distances"  # only the distances, which are followed over training
SCOPES = (ALL, VALIDATION, DISTANCES)

# Subjects: what a metric is computed of.
GENERATED = "generated"  # n generated images
RECONSTRUCTED = "reconstructed"  # the reconstructions of n test images, in the same order
MODEL = "model"  # the model itself
TRAINING = "training"  # n real training images in the model's place
HELD_OUT = "validation"  # validation images in the model's place
COPIES = "copies"  # n training images with a little noise: what a model that memorises would make
SUBJECTS = (GENERATED, RECONSTRUCTED, MODEL, TRAINING, HELD_OUT, COPIES)
REAL = (TRAINING, HELD_OUT, COPIES)  # the subjects whose scores are the same for every model


@dataclass(frozen=True)
class Metric:
    """One family of scores.

    `compute(images, references)` gets an `evaluation.references.ImageSet` of the subject and the real images
    (`References`). It returns the value; or (value, standard error); or (value, standard error, number of images); or
    None if the score cannot be computed. For the subject "model" its first argument is an
    `evaluation.references.TrainedModel`. Built-in metrics name the function as "module:function".
    """

    family: str  # lower-case letters, digits and '_'
    title: str
    better: str | None = None  # "lower", "higher", or None where neither is better by itself
    table: int | None = None  # number of the paper's table that shows it
    column: str = ""  # heading there
    floor: str | None = None  # family of the same score for real images: the score of a perfect model
    control: str | None = None  # family of the same score for images that are known to be copies
    subject: str = GENERATED  # one of SUBJECTS
    compute: str | Callable[..., Any] | None = None
    scopes: tuple[str, ...] = ()  # the scopes beyond "all" that contain it
    of_features: bool = True  # False: the value does not depend on the feature space, and its name has none
    images_only: bool = False  # True: the score makes no sense for vectors

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.family):
            raise FlexbenchError(f"'{self.family}' cannot name a metric: use lower-case letters, digits and '_'.")
        if self.subject not in SUBJECTS:
            raise unknown(f"subject of metric {self.family}", self.subject, SUBJECTS)
        if self.better not in ("lower", "higher", None):
            raise FlexbenchError(f"better='{self.better}' of metric {self.family} must be 'lower', 'higher' or None.")
        if self.table is not None and not (self.table in TABLE_TITLES and self.column):
            raise FlexbenchError(
                f"metric {self.family} needs a column heading and a table of {', '.join(map(str, TABLE_TITLES))}."
            )


@dataclass(frozen=True)
class Score:
    """One number and the protocol that made it."""

    metric: str  # full name, see metrics.metric_name
    family: str
    value: float
    se: float | None  # standard error where the metric has one
    n_images: int  # images on each side
    space: str | None  # feature space; None for scores that do not depend on it
    fingerprint: str | None  # of the feature space: weights, input size, resizing


TABLE_TITLES = {
    1: "Frechet distance of reconstructed and generated images to test images (lower is better)",
    2: "Precision and recall of generated images, PRD F_1/8 and F_8 (higher is better)",
    3: "Frechet distance of reconstructed and generated images against the latent size m (lower is better)",
    4: "Memorisation: mean distance to the nearest training and test image, and how often it is a training one",
    5: "Further scores, of metrics that were added",
}
FURTHER = 5  # the table of added metrics that name no other

_SCORES = "benchmark.evaluation.scores"  # a package with one module per kind of score
_TO_TEST = f"{_SCORES}.frechet:to_test"
_PRECISION, _RECALL = f"{_SCORES}.prd:precision", f"{_SCORES}.prd:recall"
_DECLARED = [
    Metric("rec_fd", "Frechet distance, reconstructed test images against test images", "lower", 1, "Rec.", "real_fd",
           subject=RECONSTRUCTED, compute=_TO_TEST, scopes=(DISTANCES,)),
    Metric("gen_fd", "Frechet distance, generated images against test images", "lower", 1, "Gen.", "real_fd",
           compute=_TO_TEST, scopes=(DISTANCES,)),
    Metric("real_fd", "Frechet distance, training images against test images", "lower",
           subject=TRAINING, compute=_TO_TEST),
    Metric("gen_fd_val", "Frechet distance, generated images against validation images", "lower",
           compute=f"{_SCORES}.frechet:to_validation", scopes=(DISTANCES, VALIDATION)),
    Metric("rec_mse", "squared error per value of reconstructed test images (pixels in [0, 1]) or vectors", "lower",
           subject=RECONSTRUCTED, compute=f"{_SCORES}.reconstruction:squared_error", of_features=False),
    Metric("prior_mismatch", "sliced Wasserstein distance of codes and prior samples, over the RMS code", "lower",
           subject=MODEL, compute=f"{_SCORES}.prior:mismatch", scopes=(DISTANCES,), of_features=False),
    Metric("gen_precision_f1_8", "PRD precision (F_1/8) of generated images", "higher", 2, "Precision",
           "real_precision_f1_8", compute=_PRECISION, images_only=True),
    Metric("gen_recall_f8", "PRD recall (F_8) of generated images", "higher", 2, "Recall", "real_recall_f8",
           compute=_RECALL, images_only=True),
    Metric("rec_precision_f1_8", "PRD precision (F_1/8) of reconstructed images", "higher",
           subject=RECONSTRUCTED, compute=_PRECISION, images_only=True),
    Metric("rec_recall_f8", "PRD recall (F_8) of reconstructed images", "higher",
           subject=RECONSTRUCTED, compute=_RECALL, images_only=True),
    Metric("real_precision_f1_8", "PRD precision (F_1/8) of training images", "higher",
           subject=TRAINING, compute=_PRECISION, images_only=True),
    Metric("real_recall_f8", "PRD recall (F_8) of training images", "higher",
           subject=TRAINING, compute=_RECALL, images_only=True),
]  # fmt: skip


@dataclass(frozen=True)
class _Memorised:
    """A subject of the memorisation scores: its name in families, in words, and the bases that it is compared with."""

    name: str
    words: str
    subject: str
    bases: tuple[str, ...]


_MEMORISED = (
    _Memorised("gen", "generated", GENERATED, ("tr", "te", "all")),
    _Memorised("rec", "reconstructed", RECONSTRUCTED, ("tr", "te")),
    _Memorised("tr", "training", TRAINING, ("tr", "te")),
    _Memorised("val", "validation", HELD_OUT, ("all",)),
    _Memorised("copy", "noisy training", COPIES, ("tr", "te", "all")),
)
_BASES = {"tr": "of as many training images", "te": "test image", "all": "of all training images"}


def _memorization(kind: str, space: str, short: str) -> list[Metric]:
    """The scores of one kind: "pms" in pixels or "ims" in features."""
    shared: dict[str, Any] = {"of_features": kind == "ims", "images_only": True}
    found: list[Metric] = []
    for of in _MEMORISED:
        shown: dict[str, Any] = {"subject": of.subject, **shared}
        for base in of.bases:
            title = f"{kind.upper()}: mean distance of {of.words} images to the nearest {_BASES[base]}, {space}"
            found.append(
                Metric(f"{kind}_{of.name}_{base}", title, compute=f"{_SCORES}.memorization:{kind}_{base}", **shown)
            )
            if of.subject == GENERATED:
                floor = f"{kind}_val_all" if base == "all" else f"{kind}_tr_{base}"
                column = f"{kind.upper()} Gen-{base.title()}"
                found[-1] = replace(found[-1], table=4, column=column, floor=floor, control=f"{kind}_copy_{base}")
    for of in _MEMORISED:
        if "all" in of.bases:
            title = f"ratio of {of.words} images that are nearer to a training image than to any test image, {space}"
            compute = f"{_SCORES}.memorization:{kind}_ratio"
            found.append(Metric(f"{kind}_ratio_{of.name}", title, subject=of.subject, compute=compute, **shared))
            if of.subject == GENERATED:
                floor, control = f"{kind}_ratio_val", f"{kind}_ratio_copy"
                column = f"nearest in Tr, {short}"
                found[-1] = replace(found[-1], table=4, column=column, floor=floor, control=control)
    return found


_DECLARED += [*_memorization("pms", "pixels", "pixels"), *_memorization("ims", "feature space", "features")]

#: Every metric by family. `register` adds to it.
METRICS: dict[str, Metric] = {metric.family: metric for metric in _DECLARED}

_BUILT_IN = "flexbench"  # origin of the suite's own metrics
_origins: dict[str, str] = dict.fromkeys(METRICS, _BUILT_IN)
_derived: set[str] = set()  # floors and controls that `register` has declared itself


def register(metric: Metric, origin: str) -> None:
    """Add a metric that `origin`, a file or a package, defines. Registering it again is harmless.

    A `floor` or `control` that names an undeclared family declares it: the same computation with real images, or with
    noisy copies of training images, in the model's place.
    Raises FlexbenchError for a metric without `compute`, and for a family that another origin has taken.
    """
    if metric.compute is None:
        raise FlexbenchError(f"metric '{metric.family}' of {origin} has no compute=: give it a function.")
    taken = _origins.get(metric.family, origin)
    if taken != origin:
        raise FlexbenchError(f"metric '{metric.family}' of {origin} is already defined by {taken}. Rename one of them.")
    if metric.table is None and metric.subject not in REAL:
        metric = replace(metric, table=FURTHER, column=metric.column or metric.family)
    METRICS[metric.family], _origins[metric.family] = metric, origin
    _derived.discard(metric.family)
    for family, subject, words in ((metric.floor, TRAINING, "real"), (metric.control, COPIES, "noisy training")):
        if family and (family not in METRICS or (family in _derived and _origins[family] == origin)):
            title = f"{metric.title}, {words} images in the model's place"
            METRICS[family] = Metric(
                family, title, metric.better, subject=subject, compute=metric.compute,
                of_features=metric.of_features, images_only=metric.images_only,
            )  # fmt: skip
            _origins[family] = origin
            _derived.add(family)


def is_built_in(metric: Metric) -> bool:
    """Whether a metric is the suite's own, and not one that a user's file or a package defines."""
    return _origins.get(metric.family) == _BUILT_IN


def added_key() -> str:
    """A text that changes whenever the registered metrics or the files that define them change; "" without any."""
    origins = {family: origin for family, origin in _origins.items() if origin != _BUILT_IN}
    files = {o: Path(o).read_bytes() if Path(o).is_file() else o.encode() for o in set(origins.values())}
    named = (f"{family}:{hashlib.sha256(files[origin]).hexdigest()}" for family, origin in sorted(origins.items()))
    return hashlib.sha256("\n".join(named).encode()).hexdigest()[:12] if origins else ""


def count_label(n: int) -> str:
    """10000 -> '10k', 256 -> '256': how a number of images stands in a score's name."""
    return f"{n // 1000}k" if n % 1000 == 0 else str(n)


def metric_name(family: str, n: int, space: str | None = None, is_fid: bool = False) -> str:
    """The full name of a score: its family, for Frechet distances the number of images, and the feature space.

    >>> metric_name("gen_fd", 10_000, "inception", is_fid=True), metric_name("real_fd", 256, "pixels")
    ('gen_fid10k_test', 'real_fd256_test@pixels')
    >>> metric_name("gen_recall_f8", 10_000, "inception", is_fid=True), metric_name("pms_gen_tr", 10_000)
    ('gen_recall_f8@inception', 'pms_gen_tr')
    """
    subject, _, rest = family.partition("_")
    if not rest.startswith("fd"):
        return f"{family}@{space}" if space else family
    reference = rest.removeprefix("fd").lstrip("_") or "test"
    distance = f"{subject}_{'fid' if is_fid else 'fd'}{count_label(n)}_{reference}"
    return distance if is_fid else f"{distance}@{space}"
