"""The Python API of flexbench: train, score and tabulate generative auto-encoders on equal terms.

Everything here is defined in `benchmark.api`. A name is imported when it is first used, so `import flexbench` is fast
and imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.api import evaluate, figure, load, report, run, table

__all__ = ["evaluate", "figure", "load", "report", "run", "table"]


def __getattr__(name: str) -> Any:
    """Import a function of the API on its first use. Raises ImportError where a file of the user's shadows ours."""
    if name not in __all__:
        raise AttributeError(f"module 'flexbench' has no attribute '{name}'")
    from ._shadows import LIBRARY, find_shadow

    if problem := find_shadow(LIBRARY):
        raise ImportError(problem)
    from benchmark import api

    globals()[name] = getattr(api, name)
    return globals()[name]


def __dir__() -> list[str]:
    return [*globals(), *__all__]
