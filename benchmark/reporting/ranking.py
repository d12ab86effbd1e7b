"""Which model leads in a column, and by more than the variation over seeds? Imports no torch."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pandas as pd

from .tables import Table

RULE = (
    "A mean ties with the best one if they differ by at most sqrt(s1² + s2²), where s1 and s2 are their standard "
    "deviations over seeds. (A model with one seed gets the median standard deviation of the column. If all have one "
    "seed, only equal means tie.) Bold: the best mean, and the means after it up to the first that does not tie. "
    "Underlined: the next mean."
)


@dataclass(frozen=True)
class ColumnRanking:
    """The order in one column: rows in bold, the underlined row, and ranks (1 is best; equal means share theirs).

    Nothing is marked if the column has no better direction, if there is one model, or if all models share the first
    place.
    """

    best: frozenset[str] = frozenset()
    second: str | None = None
    ranks: pd.Series | None = None


def rank_column(table: Table, column: tuple[str, str]) -> ColumnRanking:
    """Rank the models in a column (dataset, heading)."""
    better = table.better[column[1]]
    means = table.frame.loc[table.models, column].dropna()
    if better is None or len(means) < 2:
        return ColumnRanking()
    ranks = means.rank(ascending=better == "lower")
    means = means.sort_values(ascending=better == "lower", kind="stable")
    std = stds_over_seeds(table, column)
    first_place = list(itertools.takewhile(lambda row: is_tie(means, std, means.index[0], row), means.index))
    behind = list(means.index[len(first_place) :])
    return ColumnRanking(frozenset(first_place), behind[0], ranks) if behind else ColumnRanking(ranks=ranks)


def stds_over_seeds(table: Table, column: tuple[str, str]) -> pd.Series:
    """Return each model's standard deviation over seeds; for a model with one seed, the median of the column."""
    std = table.std.loc[table.models, column]
    return std.fillna(std.median())


def is_tie(means: pd.Series, std: pd.Series, row: str, other: str) -> bool:
    """Return whether two rows' means differ by no more than their standard deviations explain."""
    difference = abs(means[row] - means[other])
    return bool(difference <= math.hypot(std[row], std[other])) or difference == 0


def mean_ranks(table: Table, columns: list[tuple[str, str]]) -> pd.Series | None:
    """Return each model's mean rank over the columns with a better direction; None if these are fewer than two.

    A model that lacks one of the columns gets NaN, because its mean would be over other columns.
    """
    found = [r.ranks for c in columns if (r := rank_column(table, c)).ranks is not None]
    if len(found) < 2:
        return None
    return pd.concat(found, axis=1).reindex(table.models).mean(axis=1, skipna=False)
