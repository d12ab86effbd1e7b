"""What every run left behind, laid out: state, diagnostics, where and with what it was made. Imports no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..core.errors import FlexbenchError
from ..jobs.job import Job, find_jobs
from .layout import Cell, Grid, TableLayout
from .tables import NOTHING

SHARED_KNOBS = ("latent_dim", "width")  # stand in a model's configuration, but belong to the grid
COMMON = 2  # models that name a figure of diagnostics before it gets a column of its own


@dataclass(frozen=True)
class Folded(Cell):
    """A cell that opens: `text` is seen, `details` (name, value) unfold."""

    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class RunRecord:
    """A job as a reader meets it. Its files are read once."""

    job: Job

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Its scores."""
        return [vars(row) for row in self.job.rows]

    @cached_property
    def failure(self) -> str | None:
        """Why it failed, or None."""
        return self.job.failure

    @cached_property
    def state(self) -> str:
        """done | failed | to score | to resume | new."""
        return "failed" if self.failure else self.job.state()

    @property
    def head(self) -> dict[str, Any]:
        """The part that all rows of the trained model share; empty before it is scored."""
        return next((row for row in self.rows if row["checkpoint"] == "last"), {})

    @property
    def title(self) -> str:
        """The model's name as printed; as typed where no row tells more."""
        return str(self.head.get("title") or self.job.config.model)

    @property
    def dataset(self) -> str:
        """The name of its data, which holds no path."""
        return str(self.job.config.data["name"])

    @property
    def settings(self) -> str:
        """The knobs that differ from their defaults; before it is scored these are not known, and all are named."""
        if self.head:
            return self.head["settings"] or ""
        return ", ".join(f"{k}={v}" for k, v in self.job.config.method.items() if k not in SHARED_KNOBS)

    @property
    def label(self) -> str:
        """'VAE [beta=2.0]'."""
        changed = self.settings if self.head else ""
        return f"{self.title} [{changed}]" if changed else self.title

    @property
    def hash(self) -> str:
        """Of the configuration, as its folder has it."""
        return self.job.folder.name.rpartition("-")[2]

    @property
    def test_rows(self) -> list[dict[str, Any]]:
        """Distances of the trained model's samples to test images: one per feature space and number of images."""
        return [row for row in self.rows if row["family"] == "gen_fd" and row["checkpoint"] == "last"]

    @property
    def tried(self) -> bool:
        """Only scored on validation images, to choose settings by."""
        return bool(self.rows) and all(row["family"] == "gen_fd_val" for row in self.rows)


def find(out: Path, preset: str | None = None) -> list[RunRecord]:
    """Every run under an output root, of one preset if it is given; FlexbenchError where there is none."""
    if not out.is_dir():
        raise FlexbenchError(f"there is no folder '{out}'. RunRecord something first, or give --out.")
    runs = [RunRecord(job) for job in find_jobs(out)]
    if not runs:
        raise FlexbenchError(NOTHING)
    presets = sorted({run.job.config.preset for run in runs})
    if preset is not None and preset not in presets:
        raise FlexbenchError(f"no runs with --preset '{preset}'. There are: {', '.join(presets)}.")
    return [run for run in runs if preset in (None, run.job.config.preset)]


def number(value: Any) -> Cell:
    """Four significant digits, whole numbers in full; a dash for what is missing."""
    if value is None:
        return Cell("-")
    value = float(value)
    if not math.isfinite(value):
        return Cell(str(value))
    whole = value == int(value) and abs(value) < 1e12
    return Cell(f"{int(value):,}" if whole else f"{value:.4g}", value)


def table(
    name: str, title: str, heads: Sequence[str], rows: Iterable[tuple[Cell, ...]], caption: str = ""
) -> TableLayout:
    """A table layout with one grid and no groups of columns."""
    return TableLayout(name, title, (Grid(tuple(("", head) for head in heads), tuple(rows)),), caption)


# -- diagnostics -------------------------------------------------------------------------------------------------------

DIAGNOSTICS_TITLE = "Is each trained model sound?"
DIAGNOSTICS_CAPTION = (
    "rms_code: root mean square of the codes. active_dims: dimensions of the code whose variance is above a hundredth "
    "of the mean. prior_mismatch: sliced Wasserstein distance of the codes and as many draws from the prior, over the "
    "size of the codes: 0 if they agree, about 1 if they have nothing in common. The others are each model's own."
)


def diagnostics_table(runs: Iterable[RunRecord]) -> TableLayout | None:
    """The diagnostics figures of every run, with its last losses folded away; None where no run has any."""
    found = [(run, run.job.diagnostics, run.job.last_losses) for run in runs]
    found = [(run, diagnostics, losses) for run, diagnostics, losses in found if diagnostics or losses]
    if not found:
        return None
    common = shared_figures([(run, diagnostics) for run, diagnostics, _ in found])
    own = any(set(diagnostics) - set(common) for _, diagnostics, _ in found)

    def row(run: RunRecord, diagnostics: dict[str, float], losses: dict[str, float]) -> tuple[Cell, ...]:
        rest = {name: value for name, value in diagnostics.items() if name not in common}
        return (*identity(run), *(number(diagnostics.get(name)) for name in common),
                *([fold(rest, "figure")] if own else ()), fold(losses, "loss"))  # fmt: skip

    heads = ["model", "dataset", "m", "seed", *common, *(["its own figures"] if own else []), "last losses"]
    return table("Health", DIAGNOSTICS_TITLE, heads, (row(*one) for one in found), DIAGNOSTICS_CAPTION)


def fold(figures: dict[str, float], noun: str) -> Folded:
    """Named figures behind their number."""
    ending = "" if len(figures) == 1 else "es" if noun.endswith("s") else "s"
    return Folded(f"{len(figures)} {noun}{ending}", details=tuple((n, number(v).text) for n, v in figures.items()))


def shared_figures(found: Iterable[tuple[RunRecord, dict[str, float]]]) -> list[str]:
    """Names of the figures that several models have, in order of appearance; of all, where there is one model."""
    models: dict[str, set[str]] = {}
    everyone = set()
    for run, diagnostics in found:
        everyone.add(run.job.config.model)
        for name in diagnostics:
            models.setdefault(name, set()).add(run.job.config.model)
    return [name for name, users in models.items() if len(users) >= min(COMMON, len(everyone))]


def identity(run: RunRecord) -> tuple[Cell, ...]:
    """Model, dataset, latent size and seed."""
    config = run.job.config
    return Cell(run.label), Cell(run.dataset), number(config.latent_dim), Cell(str(config.seed), config.seed)


# -- provenance -----------------------------------------------------------------------------------------------------

RUNS_TITLE = "Where and with what each run was made"
RUNS_CAPTION = (
    "The hash names the configuration and the run's folder. Hardware and versions are those of the last process that "
    "worked on the run; '+dirty' marks a source tree that was changed after its commit."
)
RUN_HEADS = ("model", "dataset", "m", "seed", "state", "preset", "settings", "hash", "commit", "torch", "processor",
             "device", "threads", "train seconds")  # fmt: skip


def runs_table(runs: Iterable[RunRecord]) -> TableLayout:
    """One row per run."""
    return table("Runs", RUNS_TITLE, RUN_HEADS, map(provenance_row, runs), RUNS_CAPTION)


def provenance_row(run: RunRecord) -> tuple[Cell, ...]:
    """What `RUN_HEADS` names; a dash for what is not known (yet)."""
    session = (run.job.sessions or [{}])[-1]
    config, head = run.job.config, run.head
    commit = head.get("git") or session.get("git") or ""
    _, *rest = identity(run)
    texts = [run.settings, run.hash, commit[:9] + "+dirty" * commit.endswith("+dirty"),
             (session.get("versions") or {}).get("torch"), session.get("processor"), session.get("device")]  # fmt: skip
    return (Cell(run.title), *rest, Cell(run.state), Cell(config.preset), *(Cell(str(text or "-")) for text in texts),
            number(session.get("threads")), number(head.get("train_seconds")))  # fmt: skip


@dataclass(frozen=True)
class Tally:
    """How the runs ended: counts by word, and the failures as (what, why)."""

    counts: tuple[tuple[str, int], ...]
    failures: tuple[tuple[str, str], ...]
    tried: int  # of those that are done, the ones only scored to choose settings


def tally(runs: Sequence[RunRecord]) -> Tally:
    """Done, failed and unfinished runs, in this order; each word is there, whatever its count."""
    words = Counter(run.state if run.state in ("done", "failed") else "unfinished" for run in runs)
    failures = tuple((run.job.label, run.failure) for run in runs if run.failure)
    tried = sum(run.tried and run.state == "done" for run in runs)
    return Tally(tuple((word, words[word]) for word in ("done", "failed", "unfinished")), failures, tried)
