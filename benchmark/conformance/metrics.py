"""The contract of a metric: its declaration, and the number that it computes for a tiny set of images."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..metrics import Metric
from .common import Images, require, small_dataset

COUNT = 24  # images of each kind


def check_declaration_is_complete(metric: Metric) -> str | None:
    """The metric has a family, a title, a function, and a heading if it stands in a table."""
    require(bool(metric.family), "the family is empty")
    require(bool(metric.title), "the title is empty")
    require(metric.compute is not None, "compute is missing: give it a function")
    require(metric.table is None or bool(metric.column), "it stands in a table, and its column has no heading")
    return None if metric.floor else "it names no floor, so users do not see the score of real images"


def check_direction_is_valid(metric: Metric) -> None:
    """`better` is "lower", "higher" or None."""
    require(metric.better in ("lower", "higher", None), f"better is {metric.better!r}: use 'lower', 'higher' or None")


def check_computes_a_finite_number(metric: Metric) -> str | None:
    """The function returns a finite number for a tiny set of images, alone or with its standard error and count."""
    found = computed(metric)
    if found is None:
        return "it returned None: it could not be computed for the tiny set of images"
    value, error = found
    require(math.isfinite(value), f"it returned {value}")
    require(error is None or (math.isfinite(error) and error >= 0), f"its standard error is {error}")
    return None


def check_deterministic(metric: Metric) -> None:
    """Computing the metric again gives the same number."""
    first, again = computed(metric), computed(metric)
    require(first == again, f"it returned {first} and then {again} for the same images: fix all seeds")


def computed(metric: Metric) -> tuple[float, float | None] | None:
    """Compute a metric anew. Return its value and standard error, or None if it returned None."""
    from ..evaluation.features.spaces import feature_space
    from ..evaluation.references import References

    references = References(small_dataset(), COUNT, feature_space("pixels"))
    result = function_of(metric)(subject_of(metric, references), references)
    if result is None:
        return None
    value, error, *_ = (*result, None) if isinstance(result, tuple) else (result, None)
    require(np.ndim(value) == 0, f"it returned the shape {np.shape(value)}, not one number")
    return float(value), None if error is None else float(error)


def function_of(metric: Metric) -> Callable[..., Any]:
    """Return the function of a metric, which may be given as "module:function"."""
    if not isinstance(metric.compute, str):
        assert metric.compute is not None  # `register` refuses a metric without a function
        return metric.compute
    module, name = metric.compute.split(":")
    return getattr(importlib.import_module(module), name)


def subject_of(metric: Metric, references: Any) -> Any:
    """Return what the metric is computed for: an image set, or a small untrained model."""
    from ..evaluation.references import ImageSet, TrainedModel

    if metric.subject == "model":
        return TrainedModel(_small_model(), 0)
    real = {"training": references.train_a, "validation": references.val, "copies": references.copies}
    return real.get(metric.subject) or ImageSet(Images(seed=3).images(0, references.n), references.space)


def _small_model() -> Any:
    from ..core.seeding import seed_everything
    from ..method import DataSpec, Method, MethodConfig

    seed_everything(0)
    return Method(DataSpec("debug", 1, 8), MethodConfig(latent_dim=4, width=0.0625)).eval()


CHECKS: list[Callable[[Metric], str | None]] = [
    check_declaration_is_complete,
    check_direction_is_valid,
    check_computes_a_finite_number,
    check_deterministic,
]
