"""flexbench: train, score and tabulate generative auto-encoders on equal terms."""

from .api import evaluate, load, run, table

__all__ = ["evaluate", "load", "run", "table"]
