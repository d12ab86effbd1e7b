"""The runs behind the tables: state, diagnostics, hardware and versions. Imports no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.errors import FlexbenchError
from ..jobs.job import Job, find_jobs
from ..jobs.results import LAST
from .layout import Cell, Grid, TableLayout
from .rows import Roots, as_roots, load_rows
from .selection import NOTHING_RAN

SHARED_KNOBS = ("latent_dim", "width")  # stand in a model's configuration, but belong to the grid
MIN_MODELS = 2  # that report a diagnostic before it gets a column of its own
FAILED = "failed"

Key = tuple[str, str, str]  # dataset, model, hash: names a run


@dataclass(frozen=True)
class ExpandableCell(Cell):
    """A cell that opens: `text` is always seen, `details` (name, value) when it is open."""

    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One run, from its result rows and, where that is here, its folder."""

    model: str  # name as typed
    dataset: str  # name of its data, which holds no path
    latent_dim: int  # m
    seed: int
    preset: str  # with the changes made to it
    hash: str  # of the configuration, as in the name of the run folder
    rows: tuple[dict[str, Any], ...] = ()  # its scores, as result rows
    job: Job | None = None  # None: the run folder is not here
    reason: str | None = None  # why it failed, as its result row says it

    @property
    def key(self) -> Key:
        """Dataset, model, hash."""
        return self.dataset, self.model, self.hash

    @property
    def folder(self) -> Path | None:
        """The run folder; None if it is not here."""
        return self.job.folder if self.job else None

    @cached_property
    def failure(self) -> str | None:
        """Why it failed, or None."""
        return self.job.failure if self.job else self.reason

    @cached_property
    def state(self) -> str:
        """done | failed | to score | to resume | new; without its folder: done | failed | unfinished."""
        if self.failure:
            return FAILED
        return self.job.state() if self.job else "done" if self.last else "unfinished"

    @cached_property
    def last(self) -> dict[str, Any]:
        """A row of the trained model, for the values that all its rows share; empty before it is scored."""
        return next((row for row in self.rows if row["checkpoint"] == LAST), {})

    @property
    def title(self) -> str:
        """The model's name as printed; as typed before it is scored."""
        return str(self.last.get("title") or self.model)

    @property
    def settings(self) -> str:
        """The knobs that differ from their defaults. Before the run is scored, all knobs are listed."""
        if self.last or self.job is None:
            return _text(self.last.get("settings"))
        return ", ".join(f"{k}={v}" for k, v in self.job.config.method.items() if k not in SHARED_KNOBS)

    @property
    def label(self) -> str:
        """'VAE [beta=2.0]'."""
        changed = self.settings if self.last else ""
        return f"{self.title} [{changed}]" if changed else self.title

    @property
    def name(self) -> str:
        """'vae on mnist, m=32, seed 0'."""
        if self.job:
            return self.job.label
        return f"{self.model} on {self.dataset}, m={self.latent_dim}, seed {self.seed}"

    @property
    def test_rows(self) -> list[dict[str, Any]]:
        """Frechet distances of generated images to test images: one per feature space and number of images."""
        return [row for row in self.rows if row["family"] == "gen_fd" and row["checkpoint"] == LAST]

    @property
    def is_trial(self) -> bool:
        """Whether it was scored on validation images only, to choose settings."""
        return bool(self.rows) and all(row["family"] == "gen_fd_val" for row in self.rows)


def _text(value: Any) -> str:
    """Return a text; empty for a missing value."""
    return value if isinstance(value, str) else ""


def hash_in_name(job: Job) -> str:
    """Return the hash in the name of a run folder, `<m>-s<seed>-<hash>`."""
    return job.folder.name.rpartition("-")[2]


def _known(value: Any) -> Any:
    """Return a value, with None for the NaN that a frame has where a value is missing."""
    return None if value != value else value


def find_runs(roots: Roots, preset: str | None = None, rows: pd.DataFrame | None = None) -> list[RunRecord]:
    """Return every run under one output root or several: those with result rows, and those with only a folder.

    Args:
        roots: output root or roots.
        preset: only runs of this preset.
        rows: the frame of `load_rows`, if it was read before.

    Raises FlexbenchError if a root does not exist, if there is no run, or none of the preset.
    """
    check_roots(roots)
    runs = all_runs(roots, rows)
    if not runs:
        raise FlexbenchError(NOTHING_RAN)
    presets = sorted({run.preset for run in runs})
    if preset is not None and preset not in presets:
        raise FlexbenchError(f"no runs with --preset '{preset}'. There are: {', '.join(presets)}.")
    return [run for run in runs if preset in (None, run.preset)]


def all_runs(roots: Roots, rows: pd.DataFrame | None = None) -> list[RunRecord]:
    """Return every run under one output root or several, in a fixed order; `rows` as in `find_runs`."""
    rows = load_rows(roots) if rows is None else rows
    found: dict[Key, list[dict[str, Any]]] = {}
    for row in rows.to_dict("records"):
        found.setdefault((row["dataset"], row["model"], row["hash"]), []).append({str(k): v for k, v in row.items()})
    jobs = jobs_by_key(roots)
    runs = [make_record(found.get(key, []), jobs.get(key)) for key in {**jobs, **found}]
    return sorted(runs, key=lambda run: (run.dataset, run.model, run.latent_dim, run.seed, run.hash))


def check_roots(roots: Roots) -> None:
    """Raise FlexbenchError for an output root that is not there."""
    for root in as_roots(roots):
        if not root.is_dir():
            raise FlexbenchError(f"there is no folder '{root}'. Run something first, or give --out.")


def jobs_by_key(roots: Roots) -> dict[Key, Job]:
    """Return the jobs that have a folder. If several roots hold one, the first root counts."""
    jobs = [job for root in as_roots(roots) for job in find_jobs(root)]
    keys = [(job.config.data["name"], job.config.model, job.folder.name.rpartition("-")[2]) for job in jobs]
    return dict(zip(reversed(keys), reversed(jobs), strict=True))


def _identity_of(job: Job | None) -> dict[str, Any]:
    """Return the values of a job without result rows that its rows would have."""
    assert job is not None  # a run has rows or a folder
    return {**vars(job.config), "dataset": job.config.data["name"], "hash": hash_in_name(job)}


def make_record(rows: list[dict[str, Any]], job: Job | None) -> RunRecord:
    """Return the record of a run from its result rows, if it has any, and its job, if its folder is here.

    A failed job has one row without a score, which says why it failed.
    """
    scores = tuple(row for row in rows if row.get("status") != FAILED)
    reasons = [_text(row.get("reason")) or "unknown" for row in rows if row.get("status") == FAILED]
    shared = rows[0] if rows else _identity_of(job)
    identity = {name: shared[name] for name in ("model", "dataset", "latent_dim", "seed", "preset", "hash")}
    return RunRecord(**identity, rows=scores, job=job, reason=reasons[0] if reasons and not scores else None)


def number_cell(value: Any) -> Cell:
    """Return a cell with four significant digits, whole numbers in full; a dash for a missing value."""
    if value is None:
        return Cell("-")
    value = float(value)
    if not math.isfinite(value):
        return Cell(str(value))
    whole = value == int(value) and abs(value) < 1e12
    return Cell(f"{int(value):,}" if whole else f"{value:.4g}", value)


def one_grid_layout(
    name: str, title: str, headings: Sequence[str], rows: Iterable[tuple[Cell, ...]], caption: str = ""
) -> TableLayout:
    """Return a table layout with one grid and no groups of columns."""
    return TableLayout(name, title, (Grid(tuple(("", heading) for heading in headings), tuple(rows)),), caption)


# -- diagnostics -------------------------------------------------------------------------------------------------------

DIAGNOSTICS_TITLE = "Is each trained model sound?"
DIAGNOSTICS_CAPTION = (
    "rms_code: root mean square of the codes. active_dims: dimensions of the code with a variance above a hundredth of "
    "the mean variance. prior_mismatch: sliced Wasserstein distance between codes and as many prior samples, divided "
    "by the RMS code; 0 if they agree, about 1 if they have nothing in common. The other diagnostics are each model's "
    "own."
)


def diagnostics_table(runs: Iterable[RunRecord]) -> TableLayout | None:
    """Return the diagnostics and the last losses of every run; None if no run folder has any."""
    found = [(run, run.job.diagnostics, run.job.last_losses) for run in runs if run.job]
    found = [(run, diagnostics, losses) for run, diagnostics, losses in found if diagnostics or losses]
    if not found:
        return None
    common = common_diagnostics([(run, diagnostics) for run, diagnostics, _ in found])
    others = any(set(diagnostics) - set(common) for _, diagnostics, _ in found)

    def row(run: RunRecord, diagnostics: dict[str, float], losses: dict[str, float]) -> tuple[Cell, ...]:
        rest = {name: value for name, value in diagnostics.items() if name not in common}
        return (*identity_cells(run), *(number_cell(diagnostics.get(name)) for name in common),
                *([expandable_cell(rest, "value")] if others else ()), expandable_cell(losses, "loss"))  # fmt: skip

    headings = ["model", "dataset", "m", "seed", *common, *(["model's own"] if others else []), "last losses"]
    return one_grid_layout(
        "Diagnostics", DIAGNOSTICS_TITLE, headings, (row(*entry) for entry in found), DIAGNOSTICS_CAPTION
    )


def expandable_cell(values: dict[str, float], noun: str) -> ExpandableCell:
    """Return a cell that shows how many named values there are, and the values when it is open."""
    ending = "" if len(values) == 1 else "es" if noun.endswith("s") else "s"
    details = tuple((name, number_cell(value).text) for name, value in values.items())
    return ExpandableCell(f"{len(values)} {noun}{ending}", details=details)


def common_diagnostics(found: Iterable[tuple[RunRecord, dict[str, float]]]) -> list[str]:
    """Return the names of the diagnostics that several models report, in order of appearance; with one model, all."""
    models: dict[str, set[str]] = {}
    all_models = set()
    for run, diagnostics in found:
        all_models.add(run.model)
        for name in diagnostics:
            models.setdefault(name, set()).add(run.model)
    return [name for name, users in models.items() if len(users) >= min(MIN_MODELS, len(all_models))]


def identity_cells(run: RunRecord) -> tuple[Cell, ...]:
    """Return model, dataset, latent size and seed."""
    return Cell(run.label), Cell(run.dataset), number_cell(run.latent_dim), Cell(str(run.seed), run.seed)


# -- provenance -----------------------------------------------------------------------------------------------------

RUNS_TITLE = "Configuration, hardware and versions of each run"
RUNS_CAPTION = (
    "The hash identifies the configuration and is part of the run folder's name. Hardware and versions are those of "
    "the last process that worked on the run. '+dirty' marks a source tree with uncommitted changes. A dash marks an "
    "unknown value."
)
RUN_HEADINGS = ("model", "dataset", "m", "seed", "state", "preset", "settings", "hash", "commit", "torch", "processor",
                "device", "threads", "train seconds")  # fmt: skip


def runs_table(runs: Iterable[RunRecord]) -> TableLayout:
    """Return a table with one row per run."""
    return one_grid_layout("Runs", RUNS_TITLE, RUN_HEADINGS, map(provenance_cells, runs), RUNS_CAPTION)


def provenance_cells(run: RunRecord) -> tuple[Cell, ...]:
    """Return the cells for `RUN_HEADINGS`; a dash for a value that is not known."""
    session = ((run.job.sessions if run.job else []) or [{}])[-1]
    commit = _text(run.last.get("git")) or session.get("git") or ""
    _, *rest = identity_cells(run)
    texts = [run.preset, run.settings, run.hash, commit[:9] + "+dirty" * commit.endswith("+dirty"),
             (session.get("versions") or {}).get("torch"), session.get("processor"), session.get("device")]  # fmt: skip
    return (Cell(run.title), *rest, Cell(run.state), *(Cell(str(text or "-")) for text in texts),
            number_cell(session.get("threads")), number_cell(_known(run.last.get("train_seconds"))))  # fmt: skip


@dataclass(frozen=True)
class Tally:
    """How the runs ended: counts by state, and the failures as (run, reason)."""

    counts: tuple[tuple[str, int], ...]
    failures: tuple[tuple[str, str], ...]
    trials: int  # finished runs that were scored on validation images only


def tally(runs: Sequence[RunRecord]) -> Tally:
    """Count done, failed and unfinished runs, in this order; a state without runs counts zero."""
    counts = Counter(run.state if run.state in ("done", FAILED) else "unfinished" for run in runs)
    failures = tuple((run.name, run.failure) for run in runs if run.failure)
    trials = sum(run.is_trial and run.state == "done" for run in runs)
    return Tally(tuple((state, counts[state]) for state in ("done", FAILED, "unfinished")), failures, trials)
