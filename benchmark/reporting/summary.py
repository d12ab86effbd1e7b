"""The results in a few numbers and sentences, for the top of the report. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ..metrics import METRICS
from .layout import score_text
from .ranking import rank_column
from .runs import RunRecord
from .tables import FLOOR, Table

PODIUM = 3  # models on the list of the best
MAX_SEEDS = 8  # with more seeds, a sentence names the first and the last


@dataclass(frozen=True)
class Place:
    """A model on the list of the best. `tied`: it shares the first place."""

    row: str
    score: str
    tied: bool


@dataclass(frozen=True)
class BestRank:
    """The models with the lowest mean rank over several scores."""

    rows: tuple[str, ...]
    value: str
    over: str  # the headings of these scores


@dataclass(frozen=True)
class Leaders:
    """The best models of one dataset, and the floor: the score of real images."""

    dataset: str
    generation: tuple[Place, ...]
    reconstruction: Place | None
    floor: str | None
    best_rank: BestRank | None


def leaders(tables: Mapping[str, Table]) -> list[Leaders]:
    """Return the best models of each dataset of table 1."""
    if "1" not in tables:
        return []
    datasets = dict.fromkeys(tables["1"].frame.columns.get_level_values(0))
    return [dataset_leaders(tables, str(dataset)) for dataset in datasets]


def dataset_leaders(tables: Mapping[str, Table], dataset: str) -> Leaders:
    """Return the best models of a dataset."""
    table = tables["1"]
    ranks, headings = mean_ranks_over_tables([tables[n] for n in ("1", "2") if n in tables], dataset)
    gen, rec = ((dataset, METRICS[family].column) for family in ("gen_fd", "rec_fd"))
    floor = score_text(table, FLOOR, gen) if FLOOR in table.references and gen in table.frame.columns else None
    return Leaders(dataset, tuple(places(table, gen)[:PODIUM]), next(iter(places(table, rec)), None),
                     floor, best_rank(ranks.dropna(), headings))  # fmt: skip


def best_rank(ranks: pd.Series, headings: Sequence[str]) -> BestRank | None:
    """Return the lowest mean rank and the models that have it; None if fewer than two models have a mean rank."""
    if len(ranks) < 2:
        return None
    return BestRank(tuple(ranks.index[ranks == ranks.min()]), f"{ranks.min():.1f}", ", ".join(headings))


def places(table: Table, column: tuple[str, str]) -> list[Place]:
    """Return the models of a column, best first."""
    if column not in table.frame.columns:
        return []
    means = table.frame.loc[table.models, column].dropna()
    means = means.sort_values(ascending=table.better[column[1]] == "lower", kind="stable")
    first_place = rank_column(table, column).best
    return [Place(row, score_text(table, row, column), i > 0 and row in first_place)
            for i, row in enumerate(means.index)]  # fmt: skip


def mean_ranks_over_tables(tables: Iterable[Table], dataset: str) -> tuple[pd.Series, list[str]]:
    """Return each model's mean rank over a dataset's scores that have a better direction, and their headings.

    The result is empty with fewer than two such scores. A model that lacks one of them gets NaN.
    """
    found = {column[1]: ranks for table in tables for column in table.columns
             if column[0] == dataset and (ranks := rank_column(table, column).ranks) is not None}  # fmt: skip
    if len(found) < 2:
        return pd.Series(dtype=float), []
    return pd.concat(found, axis=1).mean(axis=1, skipna=False), list(found)


def headline(runs: Sequence[RunRecord]) -> str:
    """Return 'Generative auto-encoders on mnist and celeba'."""
    return "Generative auto-encoders on " + join(sorted({run.dataset for run in runs}))


def lead(runs: Sequence[RunRecord], scores: pd.DataFrame) -> str:
    """Return one or two sentences on what is compared; `scores` are the rows of table 1, if any."""
    models, seeds = {run.model for run in runs}, sorted({run.seed for run in runs})
    presets = sorted({run.preset for run in runs if run.preset})
    sizes = sorted({run.latent_dim for run in runs})
    text = (
        f"{count(len(models), 'model')} trained on equal terms on {join(sorted({r.dataset for r in runs}))}: "
        f"preset {join(presets)}, latent size {join(sizes)}, {'seed' if len(seeds) == 1 else 'seeds'} "
        f"{join(seeds) if len(seeds) <= MAX_SEEDS else f'{seeds[0]} to {seeds[-1]}'}."
    )
    if scores.empty:
        return f"{text} No run has test scores yet."
    images = join(f"{n:,}" for n in sorted(scores.n_images.unique()))
    spaces = join(sorted(set(scores.space.dropna())))
    return f"{text} Scored with {images} images of each kind in the feature space {spaces}."


def count(n: int, noun: str) -> str:
    """Return '1 model' or '6 models'."""
    return f"{n:,} {noun}" + "s" * (n != 1)


def join(items: Iterable[object]) -> str:
    """Return 'a', 'a and b' or 'a, b and c'; 'none' for nothing."""
    *most, last = map(str, items) if (items := list(items)) else ["none"]
    return f"{', '.join(most)} and {last}" if most else last
