"""What `flexbench ls` prints: plain rows of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from .jobs.job import Job, find_jobs

Rows = list[tuple[str, ...]]


def models(include: Iterable[str] = ()) -> Rows:
    """Name, title, paper with venue and year, where it is defined."""
    from .registry import Registry

    registry = Registry.load(include)
    rows: Rows = [("model", "title", "paper", "defined in")]
    for name in registry.targets:
        method = registry.get(name)
        rows.append((name, method.title or name, method.paper, registry.origins.get(name, method.__module__)))
    return rows


def datasets() -> Rows:
    """Name, image size, default latent size, splits, licence, source."""
    from .data import DATASETS

    rows: Rows = [("dataset", "images", "m", "splits", "licence", "source")]
    for info in DATASETS.values():
        rows.append((info.name, info.shape, str(info.latent_dim), info.splits, info.licence, info.source))
    return rows


def metrics() -> Rows:
    """Family, direction, meaning."""
    from .metrics import METRICS

    arrows = {"lower": "lower is better", "higher": "higher is better", None: ""}
    rows: Rows = [("score", "direction", "meaning")]
    return rows + [(m.family, arrows[m.better], m.title) for m in METRICS.values()]


def features() -> Rows:
    """Feature space, dimension, meaning."""
    from .evaluation.features import FEATURE_SPACES

    rows: Rows = [("space", "dimension", "meaning")]
    return rows + [(n, str(s.dimension or "C*H*W"), s.description) for n, s in FEATURE_SPACES.items()]


def runs(out: Path) -> Rows:
    """State and folder of every run under an output root."""
    return _run_rows(find_jobs(out))


def runs_with_diagnostics(out: Path) -> str:
    """Every run with its diagnostics figures and its last logged losses below it."""
    jobs = find_jobs(out)
    head, *rows = aligned(_run_rows(jobs)).splitlines()
    return "\n".join([head, *(line for job, row in zip(jobs, rows, strict=True) for line in (row, *_figures(job)))])


def _run_rows(jobs: Iterable[Job]) -> Rows:
    rows: Rows = [("state", "model", "dataset", "m", "seed", "preset", "folder")]
    for job in jobs:
        c = job.config
        state = "failed" if job.failure else job.state()
        rows.append((state, c.model, c.dataset, str(c.latent_dim), str(c.seed), c.preset, str(job.folder)))
    return rows


def _figures(job: Job) -> Iterator[str]:
    for name, figures in (("diagnostics", job.diagnostics), ("last losses", job.last_losses)):
        if figures:
            yield f"    {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items() if v is not None)


def aligned(rows: Rows) -> str:
    """Columns padded to their widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
