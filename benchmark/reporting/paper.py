"""Comparison of our tables with the paper's. Imports no torch.

Values are compared only if the score is the same: FID on Inception features with 10,000 images, at the paper's training
budget. Even then the protocols differ; `CAVEAT` says how. Otherwise only the order of the models is compared, by
Spearman's rank correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..core.errors import FlexbenchError
from ..jobs.results import LAST
from ..metrics import METRICS
from .selection import comparable_rows
from .tables import model_cells

FOLDER = Path(__file__).resolve().parent / "published"
TABLES = (1, 2)  # the tables with a row per model
CAVEAT = (
    "The paper's values come from the checkpoints that were best on the test set, and from images that were not "
    "rounded to 8 bits and, in its code, were stretched to full contrast. Our values come from the last checkpoint and "
    "from 8-bit images that are not stretched."
)


@dataclass(frozen=True)
class Comparison:
    """One column of a table, ours and the paper's: `frame` has a row per model that both have, our best first."""

    dataset: str
    heading: str
    frame: pd.DataFrame  # columns: ours, paper, our_rank, paper_rank; index: titles
    rho: float  # Spearman's rank correlation; NaN with fewer than three models
    same_score: bool  # the values are comparable, not only their order


def published(number: int) -> pd.DataFrame:
    """Return a table of the paper in long form: title, dataset, family, value (and latent_dim in table 3).

    Raises FlexbenchError for a number other than 1 to 4.
    """
    path = FOLDER / f"table{number}.csv"
    if not path.exists():
        raise FlexbenchError(f"the paper's table {number} is not here. Valid: 1, 2, 3, 4.")
    return pd.read_csv(path)


def compare(
    results: pd.DataFrame, number: int, preset: str | None = None, space: str | None = None, images: int | None = None
) -> list[Comparison]:
    """Compare our table 1 or 2 with the paper's, column by column, for the models and datasets that both have.

    Raises FlexbenchError for another table, and whenever `tables.make` does.
    """
    if number not in TABLES:
        raise FlexbenchError(f"--published is for tables 1 and 2, which have a row per model, not for table {number}.")
    metrics = [m for m in METRICS.values() if m.table == number]
    ours = model_cells(one_variant(comparable_rows(results, metrics, preset, space, images), results), metrics)
    theirs = published(number)
    comparisons = []
    for dataset in sorted(set(ours.dataset) & set(theirs.dataset)):
        for metric in metrics:
            mine = ours[(ours.dataset == dataset) & (ours.family == metric.family)]
            paper = theirs[(theirs.dataset == dataset) & (theirs.family == metric.family)].set_index("title").value
            same = bool(len(mine) and mine.metric.str.contains("_fid10k_").all() and (mine.preset == "paper").all())
            frame = ranked(mine.groupby("title").value.mean(), paper, metric.better == "lower")
            comparisons.append(Comparison(dataset, metric.column, frame, spearman(frame), same))
    return comparisons


def one_variant(rows: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """Keep one variant per model, at the latent size that most of a dataset's models have (of several, the smallest).

    If a model was scored with several settings, the variant with the lowest Frechet distance to validation images is
    kept, measured in the same feature space.
    """
    sizes = rows.groupby(["dataset", "latent_dim"]).title.nunique().groupby("dataset").idxmax()
    rows = rows[[sizes[d][1] == m for d, m in zip(rows.dataset, rows.latent_dim, strict=True)]]
    spaces = set(rows.space.dropna())
    last = results[results.checkpoint == LAST]
    validation = last[(last.family == "gen_fd_val") & last.space.isin(spaces)].groupby("variant").value.mean()
    score = rows.variant.map(validation).fillna(float("inf"))
    best = score.groupby([rows.dataset, rows.title]).transform("min")
    kept = rows[score == best]
    first = kept.groupby(["dataset", "title"]).variant.transform("first")
    return kept[kept.variant == first]


def ranked(ours: pd.Series, paper: pd.Series, ascending: bool) -> pd.DataFrame:
    """Return both columns for the titles that both have, with the ranks among these; 1 is best."""
    frame = pd.DataFrame({"ours": ours, "paper": paper}).dropna()
    ranks = frame.rank(ascending=ascending).rename(columns={"ours": "our_rank", "paper": "paper_rank"})
    return frame.join(ranks).sort_values("our_rank", kind="stable")


def spearman(frame: pd.DataFrame) -> float:
    """Return Pearson's correlation of the ranks; NaN with fewer than three models."""
    return frame.our_rank.corr(frame.paper_rank) if len(frame) > 2 else float("nan")


def to_markdown(comparisons: list[Comparison]) -> str:
    """Return a GitHub table per column, with the rank correlation above it."""
    if not comparisons:
        return "There is nothing to compare: the paper has none of these datasets.\n"
    return "\n".join(_section(c) for c in comparisons)


def _section(c: Comparison) -> str:
    head = f"**{c.dataset} {c.heading}: Spearman's rho with the paper is {c.rho:.2f} ({len(c.frame)} models).**"
    if c.same_score:
        lines = ["| model | ours | paper | our rank | paper's rank |", "|---|---:|---:|---:|---:|"]
        lines += [f"| {t} | {r.ours:.4g} | {r.paper:g} | {r.our_rank:g} | {r.paper_rank:g} |"
                  for t, r in c.frame.iterrows()]  # fmt: skip
        return "\n".join([head, CAVEAT, "", *lines, ""])
    why = (
        "Only ranks are compared, because the feature space, the number of images or the training budget differs from "
        "the paper's."
    )
    lines = ["| model | our rank | paper's rank |", "|---|---:|---:|"]
    lines += [f"| {title} | {row.our_rank:g} | {row.paper_rank:g} |" for title, row in c.frame.iterrows()]
    return "\n".join([head, why, "", *lines, ""])
