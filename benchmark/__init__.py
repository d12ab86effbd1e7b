"""flexbench: train, score and tabulate generative auto-encoders on equal terms."""

from .api import evaluate, figure, load, run, table

__all__ = ["evaluate", "figure", "load", "run", "table"]
