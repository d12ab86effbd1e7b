"""flexbench: train, score and tabulate generative auto-encoders on equal terms."""

from .api import evaluate, figure, load, report, run, table

__all__ = ["evaluate", "figure", "load", "report", "run", "table"]
