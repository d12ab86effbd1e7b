"""The few sentences and numbers that a reader wants first. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ..metrics import METRICS
from .layout import cell
from .ranking import rank_column
from .runs import RunRecord
from .tables import FLOOR, Table

PLACES = 3


@dataclass(frozen=True)
class Place:
    """A model on the list of the best: `tied` where it is not told apart from the first."""

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
    """What is ahead on one dataset."""

    dataset: str
    generation: tuple[Place, ...]
    reconstruction: Place | None
    floor: str | None
    best_rank: BestRank | None


def leaders(tables: Mapping[str, Table]) -> list[Leaders]:
    """One entry per dataset of table 1."""
    if "1" not in tables:
        return []
    datasets = dict.fromkeys(tables["1"].frame.columns.get_level_values(0))
    return [of_dataset(tables, str(dataset)) for dataset in datasets]


def of_dataset(tables: Mapping[str, Table], dataset: str) -> Leaders:
    """The best models of a dataset."""
    table = tables["1"]
    ranks, names = mean_ranks([tables[n] for n in ("1", "2") if n in tables], dataset)
    gen, rec = ((dataset, METRICS[family].column) for family in ("gen_fd", "rec_fd"))
    floor = cell(table, FLOOR, gen) if FLOOR in table.references and gen in table.frame.columns else None
    return Leaders(dataset, tuple(places(table, gen)[:PLACES]), next(iter(places(table, rec)), None),
                     floor, best_rank(ranks.dropna(), names))  # fmt: skip


def best_rank(ranks: pd.Series, over: Sequence[str]) -> BestRank | None:
    """The lowest mean rank and whose it is; None where fewer than two models have one."""
    if len(ranks) < 2:
        return None
    return BestRank(tuple(ranks.index[ranks == ranks.min()]), f"{ranks.min():.1f}", ", ".join(over))


def places(table: Table, column: tuple[str, str]) -> list[Place]:
    """The models of a column, best first."""
    if column not in table.frame.columns:
        return []
    means = table.frame.loc[table.models, column].dropna()
    means = means.sort_values(ascending=table.better[column[1]] == "lower", kind="stable")
    ahead = rank_column(table, column).best
    return [Place(row, cell(table, row, column), i > 0 and row in ahead) for i, row in enumerate(means.index)]


def mean_ranks(tables: Iterable[Table], dataset: str) -> tuple[pd.Series, list[str]]:
    """Mean rank of each model over a dataset's scores that have a direction, and these scores' headings.

    Empty with fewer than two such scores; NaN for a model that lacks one of them.
    """
    found = {column[1]: ranks for table in tables for column in table.frame.columns
             if column[0] == dataset and (ranks := rank_column(table, column).ranks) is not None}  # fmt: skip
    if len(found) < 2:
        return pd.Series(dtype=float), []
    return pd.concat(found, axis=1).mean(axis=1, skipna=False), list(found)


def headline(runs: Sequence[RunRecord]) -> str:
    """'Generative auto-encoders on mnist and celeba'."""
    return "Generative auto-encoders on " + listed(sorted({run.dataset for run in runs}))


def lead(runs: Sequence[RunRecord], scores: pd.DataFrame) -> str:
    """What is compared, in one or two sentences; `scores` are the rows that the tables show, if any."""
    configs = [run.job.config for run in runs]
    models, seeds = {c.model for c in configs}, sorted({c.seed for c in configs})
    presets = sorted({c.preset for c in configs if c.preset})
    sizes = sorted({c.latent_dim for c in configs})
    text = (
        f"{count(len(models), 'model')} trained on equal terms on {listed(sorted({r.dataset for r in runs}))}: "
        f"preset {listed(presets)}, latent size {listed(sizes)}, {'seed' if len(seeds) == 1 else 'seeds'} "
        f"{listed(seeds) if len(seeds) <= 8 else f'{seeds[0]} to {seeds[-1]}'}."
    )
    if scores.empty:
        return f"{text} No run has test scores yet."
    images = listed(f"{n:,}" for n in sorted(scores.n_images.unique()))
    return f"{text} Scored with {images} images of each kind in the feature space {listed(sorted(spaces(scores)))}."


def spaces(scores: pd.DataFrame) -> set[str]:
    """The feature spaces of some rows."""
    return set(scores.space.dropna())


def count(n: int, noun: str) -> str:
    """'1 model', '6 models'."""
    return f"{n:,} {noun}" + "s" * (n != 1)


def listed(items: Iterable[object]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    *most, last = map(str, items)
    return f"{', '.join(most)} and {last}" if most else last
