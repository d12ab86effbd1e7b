"""The checks of `flexbench check`: one module for each kind of plug-in, each with a list `CHECKS`.

A check raises `Violation` where the contract does not hold. It may return a text, which is shown as a warning.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import FlexbenchError
from . import datasets, features, metrics, models
from .common import Violation, require

__all__ = ["CHECKS", "Result", "Violation", "require", "run_checks"]

CHECKS = models.CHECKS
_MODULES = {"model": models, "dataset": datasets, "metric": metrics, "feature space": features}


@dataclass(frozen=True)
class Result:
    """The outcome of one check."""

    fact: str  # what was checked
    problem: str | None = None  # what is wrong, or None where the contract holds
    warning: str | None = None  # what the user should look at

    @property
    def text(self) -> str:
        """The outcome in words."""
        return self.problem or (f"warning: {self.warning}" if self.warning else "ok")


def run_checks(noun: str, value: Any, data_dir: Path | None = None) -> Iterator[Result]:
    """Yield the result of every check of a "model", "dataset", "metric" or "feature space".

    `value` is the class of the model or the declaration. `data_dir` is the folder of raw files, for datasets.
    """
    for check in _MODULES[noun].CHECKS:
        with tempfile.TemporaryDirectory() as folder:
            arguments = {"model": (Path(folder),), "dataset": (data_dir,)}.get(noun, ())
            yield _attempt(check, value, *arguments)


def _attempt(check: Callable[..., str | None], *arguments: Any) -> Result:
    fact = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        return Result(fact, warning=check(*arguments))
    except (Violation, FlexbenchError) as error:
        return Result(fact, problem=str(error))
    except Exception as error:  # a broken plug-in may raise anything
        return Result(fact, problem=f"{type(error).__name__}: {' '.join(str(error).split())}")
