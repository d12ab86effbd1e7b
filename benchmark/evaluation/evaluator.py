"""Score a model or generated images: `score` computes every metric that benchmark/metrics.py declares.

Every set of images is made once and embedded once, and all metrics read the same features.

Some metrics make sense for images only. For vectors only the distances are measured, as in the paper's studies.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..core.canonical import canonical
from ..core.errors import FlexbenchError, unknown
from ..core.files import cache_dir, ensure_dir, read_json, write_json
from ..core.seeding import derive, seed_everything
from ..data.batches import CachedRows, in_order
from ..metrics import (
    ALL,
    DISTANCES,
    GENERATED,
    HELD_OUT,
    METRICS,
    MODEL,
    PROTOCOL,
    REAL,
    RECONSTRUCTED,
    SCOPES,
    TRAINING,
    VALIDATION,
    Metric,
    Score,
    is_built_in,
    metric_name,
)
from .images import as_stored
from .references import COPY_NOISE, ImageSet, References, TrainedModel

if TYPE_CHECKING:
    from ..method import Method

__all__ = ["ALL", "CHUNK", "DISTANCES", "VALIDATION", "Score", "floors", "generate", "reconstruct", "score"]

CHUNK = 500  # images per forward pass of sampling; part of the protocol, since it splits the draws of noise


def score(
    source: Method | np.ndarray,
    references: References,
    seed: int = 0,
    scope: str = ALL,
    diagnostics: Mapping[str, float] | None = None,
) -> list[Score]:
    """Compute all scores of a trained model, or of generated images.

    Args:
        source: the model, which generates `references.n` images and reconstructs the test images. Or generated images,
            uint8 [N, C, S, S], of which the first `references.n` are scored.
        seed: of the model's samples.
        scope: ALL; or VALIDATION, the distance to validation images, which uses no test image; or DISTANCES, the
            Frechet distances and the prior mismatch. A score has the same value in every scope.
        diagnostics: the result of `diagnostics.diagnostics` for the same model and seed, to avoid computing the prior
            mismatch again.

    Raises FlexbenchError for an unknown scope, for too few images or images of another shape, and in the scope
    VALIDATION if the dataset has no validation images.
    """
    if scope not in SCOPES:
        raise unknown("scope", scope, SCOPES)
    subjects = _Subjects(source, references, seed, scope, diagnostics or {})
    metrics = [m for m in METRICS.values() if m.subject not in REAL and (scope == ALL or scope in m.scopes)]
    scores = list(_scores(metrics, subjects))
    if scope == VALIDATION and not scores:
        raise FlexbenchError("there are no validation images to choose settings by.")
    return [*scores, *floors(references)] if scope == ALL else scores


def floors(references: References) -> list[Score]:
    """Compute the scores of real images in the model's place. They are the same for every model of a dataset.

    Training images give the score of a perfect model, validation images the score of a model that copies nothing, and
    noisy copies of training images the score of a model that only copies. Scores of built-in metrics are cached on
    disk.
    """
    subjects = _Subjects(None, references)
    metrics = [metric for metric in METRICS.values() if metric.subject in REAL]
    built_in = [metric for metric in metrics if is_built_in(metric)]
    added = [metric for metric in metrics if not is_built_in(metric)]
    return [*_kept(references, built_in, lambda: list(_scores(built_in, subjects))), *_scores(added, subjects)]


@dataclass(eq=False)
class _Subjects:
    """What the metrics of one evaluation are computed of. Each image set is made when a metric first needs it."""

    source: Method | np.ndarray | None
    references: References
    seed: int = 0
    scope: str = ALL
    diagnostics: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def model(self) -> Method:
        """The model that is scored; only asked for where there is one."""
        assert self.source is not None and not isinstance(self.source, np.ndarray)
        return self.source

    @cached_property
    def generated(self) -> ImageSet:
        if isinstance(self.source, np.ndarray):
            return ImageSet(_checked(self.source, self.references), self.references.space)
        n = self.references.n
        if self.scope == VALIDATION:  # whole chunks, so that the images are the first ones of a full evaluation
            wanted = min(len(self.references.val), n)
            chunks = min(n, math.ceil(wanted / CHUNK) * CHUNK)
            images = generate(self.model, chunks, self.seed)[:wanted] if wanted else self.references.val.images
        else:
            images = generate(self.model, n, self.seed)
        return ImageSet(images, self.references.space)

    @cached_property
    def reconstructed(self) -> ImageSet:
        return ImageSet(reconstruct(self.model, self.references.test.images), self.references.space)

    def get(self, subject: str) -> ImageSet | TrainedModel | None:
        """The subject of a metric; None if there is none, such as reconstructions of a folder of images."""
        if subject in REAL:
            return self._real(subject)
        if self.source is None or (isinstance(self.source, np.ndarray) and subject != GENERATED):
            return None
        if subject == MODEL:
            return TrainedModel(self.model.eval(), self.seed, self.diagnostics)
        return self.reconstructed if subject == RECONSTRUCTED else self.generated

    def _real(self, subject: str) -> ImageSet | None:
        if subject == TRAINING:
            return self.references.train_a
        if subject == HELD_OUT:
            return self.references.val
        return self.references.copies if self.references.dataset.info.are_images else None


def _checked(images: np.ndarray, references: References) -> np.ndarray:
    """The first n images of an array. Raises FlexbenchError for too few, and for another shape or type."""
    n, like = references.n, references.test.images
    if images.dtype != like.dtype or images.shape[1:] != like.shape[1:] or len(images) < n:
        wanted = f"{like.dtype} [{n} or more, {', '.join(map(str, like.shape[1:]))}]"
        raise FlexbenchError(f"generated images must be {wanted}, got {images.dtype} {list(images.shape)}.")
    return images[:n]


def _scores(metrics: Iterable[Metric], subjects: _Subjects) -> Iterator[Score]:
    """The scores of those metrics that have a subject and a value."""
    references = subjects.references
    for metric in metrics:
        if metric.images_only and not references.dataset.info.are_images:
            continue
        subject = subjects.get(metric.subject)
        if subject is None:
            continue
        found = _computed(metric, subject, references, subjects.seed)
        if found is not None:
            yield _make_score(
                metric, found, len(subject.images) if isinstance(subject, ImageSet) else references.n, references
            )


def _computed(metric: Metric, subject: ImageSet | TrainedModel, references: References, seed: int) -> Any:
    """What a metric's `compute` returns. FlexbenchError names an added metric that fails."""
    compute = _function(metric.compute)
    if is_built_in(metric):
        return compute(subject, references)
    seed_everything(derive(seed, "metric", metric.family))
    try:
        with torch.no_grad():
            return compute(subject, references)
    except FlexbenchError:
        raise
    except Exception as error:
        raise FlexbenchError(f"metric '{metric.family}' failed: {type(error).__name__}: {error}") from error


def _function(compute: str | Callable[..., Any] | None) -> Callable[..., Any]:
    """The function of a metric. "module:function" is imported now."""
    if not isinstance(compute, str):
        assert compute is not None  # `register` refuses a metric without a function
        return compute
    module, name = compute.split(":")
    return getattr(importlib.import_module(module), name)


def _make_score(metric: Metric, found: Any, count: int, references: References) -> Score:
    """Return the score of a metric from the result of its `compute`.

    `count` is the number of images, used if `compute` returned none.

    Raises FlexbenchError if that is not a value, (value, error) or (value, error, number of images).
    """
    parts = found if isinstance(found, tuple) else (found,)
    try:
        value, se, n = (*parts, None, None)[: max(3, len(parts))]
        value, se, n = float(value), None if se is None else float(se), count if n is None else int(n)
    except (TypeError, ValueError) as error:
        raise FlexbenchError(
            f"metric '{metric.family}' must return a number or (number, standard error), got {found!r:.100}."
        ) from error
    space = references.space if metric.of_features else None
    name, fingerprint = (space.name, canonical(space.fingerprint)) if space else (None, None)
    full = metric_name(metric.family, n, name, bool(space and space.is_fid))
    return Score(full, metric.family, value, se, n, name, fingerprint)


def _kept(references: References, metrics: list[Metric], compute: Callable[[], list[Score]]) -> list[Score]:
    """Scores of real images, kept on disk by what they depend on: dataset, number of images, space, metrics."""
    r, families = references, sorted(metric.family for metric in metrics)
    key = canonical([PROTOCOL, r.space.name, r.space.fingerprint, r.dataset.slug, r.dataset.content_hash, r.n,
                     len(r.val), COPY_NOISE, families])  # fmt: skip
    path = ensure_dir(cache_dir() / "scores") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    if (rows := read_json(path)) is None:
        rows = [asdict(score) for score in compute()]
        write_json(path, rows)
    return [Score(**row) for row in rows]


@torch.no_grad()
def generate(method: Method, n: int, seed: int) -> np.ndarray:
    """Generate n images as the 8-bit pictures that a user would save, uint8 [n, C, S, S]; the same for the same seed.

    A model of vectors gives float32 [n, D, 1, 1]. The first k images do not depend on n if k is a multiple of CHUNK.
    """
    method.eval()
    seed_everything(derive(seed, "sampling"))
    generator = torch.Generator().manual_seed(derive(seed, "sampling", "noise"))
    return np.concatenate([as_stored(method.sample(k, generator)) for k in _chunks(n)])


@torch.no_grad()
def reconstruct(method: Method, images: np.ndarray) -> np.ndarray:
    """Reconstruct uint8 images [N, C, S, S] to uint8 images, or float32 vectors to float32 vectors."""
    method.eval()
    rows = CachedRows(torch.from_numpy(images))
    return np.concatenate([as_stored(method.reconstruct(x)) for x in in_order(rows, method.device, CHUNK)])


def _chunks(n: int) -> Iterator[int]:
    """Sizes that add up to n, each at most CHUNK."""
    for start in range(0, n, CHUNK):
        yield min(CHUNK, n - start)
