"""flexbench: train, score and tabulate generative auto-encoders on equal terms."""

from .api import evaluate, load, report, run, table

__all__ = ["evaluate", "load", "report", "run", "table"]
