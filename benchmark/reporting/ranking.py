"""Who is ahead in a column, and by more than chance? Imports no torch."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pandas as pd

from .tables import Table

RULE = (
    "Bold: the best mean and those not told apart from it: within sqrt(s1² + s2²) of it, s being standard deviations "
    "over seeds (of a model with one seed: the column's median; without any, only equal figures are not told apart). "
    "Underlined: the next one."
)


@dataclass(frozen=True)
class ColumnRanking:
    """The order in one column: titles in bold, the title underlined, and ranks (1 is best; equal means share theirs).

    Nothing is marked where no direction is better, where there is one model, or where no two are told apart.
    """

    best: frozenset[str] = frozenset()
    second: str | None = None
    ranks: pd.Series | None = None


def rank_column(table: Table, column: tuple[str, str]) -> ColumnRanking:
    """The order of the models in a column (dataset, heading)."""
    better = table.better[column[1]]
    means = table.frame.loc[table.models, column].dropna()
    if better is None or len(means) < 2:
        return ColumnRanking()
    ranks = means.rank(ascending=better == "lower")
    means = means.sort_values(ascending=better == "lower", kind="stable")
    spread = spreads(table, column)
    ahead = list(itertools.takewhile(lambda row: tied(means, spread, means.index[0], row), means.index))
    behind = list(means.index[len(ahead) :])
    return ColumnRanking(frozenset(ahead), behind[0], ranks) if behind else ColumnRanking(ranks=ranks)


def spreads(table: Table, column: tuple[str, str]) -> pd.Series:
    """Standard deviation over seeds of each model; where there is one seed, the median of the others in the column."""
    own = table.spread.loc[table.models, column]
    return own.fillna(own.median())


def tied(means: pd.Series, spread: pd.Series, one: str, other: str) -> bool:
    """Whether the difference of two means is within its spread."""
    allowed = math.hypot(spread[one], spread[other])
    difference = abs(means[one] - means[other])
    return bool(difference <= allowed) or difference == 0


def mean_ranks(table: Table, columns: list[tuple[str, str]]) -> pd.Series | None:
    """Mean rank over those columns in which a direction is better; None unless there are two such columns.

    NaN for a model that lacks one of them, since its mean would be over other columns.
    """
    found = [s.ranks for c in columns if (s := rank_column(table, c)).ranks is not None]
    if len(found) < 2:
        return None
    return pd.concat(found, axis=1).reindex(table.models).mean(axis=1, skipna=False)
