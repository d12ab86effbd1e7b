"""The rows of text that `flexbench ls` prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .jobs.config import PRESETS
from .registry import Registry
from .reporting.rows import Roots
from .reporting.runs import RunRecord, all_runs

Rows = list[tuple[str, ...]]


def models(include: Iterable[str] = ()) -> Rows:
    """Return name, title, paper with venue and year, and place of definition of every model."""
    registry = Registry.load(include)
    rows: Rows = [("model", "title", "paper", "defined in")]
    for name in registry.targets:
        method = registry.get(name)
        rows.append((name, method.title or name, method.paper, registry.origins.get(name, method.__module__)))
    return rows


def datasets(include: Iterable[str] = ()) -> Rows:
    """Return name, image size, default latent size, splits, licence and source of every dataset."""
    from .data import DATASETS
    from .data.info import origin_of

    Registry.load(include)
    rows: Rows = [("dataset", "images", "m", "splits", "licence", "source")]
    for info in DATASETS.values():
        source = info.source or origin_of(info.name)
        rows.append((info.name, info.shape, str(info.latent_dim), info.splits, info.licence, source))
    return rows


def datasets_with_notes(include: Iterable[str] = ()) -> str:
    """Return the rows of every dataset as text, each with its title and note below it."""
    from .data import DATASETS

    head, *rows = aligned(datasets(include)).splitlines()
    notes = [f"    {info.title}. {info.note}".rstrip() for info in DATASETS.values()]
    return "\n".join([head, *(line for pair in zip(rows, notes, strict=True) for line in pair)])


def metrics(include: Iterable[str] = ()) -> Rows:
    """Return family, direction and meaning of every metric."""
    from .metrics import METRICS

    Registry.load(include)
    arrows = {"lower": "lower is better", "higher": "higher is better", None: ""}
    rows: Rows = [("score", "direction", "meaning")]
    return rows + [(m.family, arrows[m.better], m.title) for m in METRICS.values()]


def features(include: Iterable[str] = ()) -> Rows:
    """Return name, dimension and meaning of every feature space."""
    from .evaluation.features import FEATURE_SPACES

    Registry.load(include)
    rows: Rows = [("space", "dimension", "meaning")]
    return rows + [(n, str(s.dimension or "C*H*W"), s.description) for n, s in FEATURE_SPACES.items()]


def presets(include: Iterable[str] = ()) -> Rows:
    """Return name, budget, number of scored images and purpose of every preset."""
    rows: Rows = [("preset", "steps", "batch", "width", "learning-rate factor", "images scored", "purpose")]
    for name, preset in PRESETS.items():
        t = preset.train
        numbers = (f"{t.steps:,}", str(t.batch_size), f"{t.width:g}", f"{t.lr_factor:g}", f"{preset.images:,}")
        rows.append((name, *numbers, preset.purpose))
    return rows


def runs(roots: Roots) -> Rows:
    """Return state, settings and folder of every run under one output root or several."""
    return _run_rows(all_runs(roots))


def runs_with_diagnostics(roots: Roots) -> str:
    """Return every run as text, with its diagnostics and its last logged losses below it."""
    found = all_runs(roots)
    head, *rows = aligned(_run_rows(found)).splitlines()
    return "\n".join([head, *(line for run, row in zip(found, rows, strict=True) for line in (row, *_values(run)))])


def _run_rows(runs: Iterable[RunRecord]) -> Rows:
    rows: Rows = [("state", "model", "dataset", "m", "seed", "preset", "folder")]
    for run in runs:
        folder = str(run.folder or "(not here)")
        rows.append((run.state, run.model, run.dataset, str(run.latent_dim), str(run.seed), run.preset, folder))
    return rows


def _values(run: RunRecord) -> Iterator[str]:
    job = run.job
    if run.failure:
        yield f"    failed: {run.failure} (run again with --retry-failed)"
    for name, values in (("diagnostics", job.diagnostics), ("last losses", job.last_losses)) if job else ():
        if values:
            yield f"    {name}: " + ", ".join(f"{k} {v:.4g}" for k, v in values.items() if v is not None)


def aligned(rows: Rows) -> str:
    """Return rows as text, with each column padded to its widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
