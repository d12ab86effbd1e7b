"""The paper's own values beside ours. Imports no torch.

Values stand side by side only where the score is the same: FID by Inception features, 10,000 images, the paper's
budget. Even then the protocols differ, and `CAVEAT` says how. Everywhere else only the order of the models is compared,
by Spearman's rank correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..core.errors import FlexbenchError
from ..jobs.results import LAST
from ..metrics import METRICS
from .selection import choose
from .tables import model_cells

FOLDER = Path(__file__).resolve().parent / "published"
TABLES = (1, 2)  # those with a row per model
CAVEAT = (
    "The paper's values are of the checkpoints that were best on the test set, of images that were not rounded to "
    "8 bit and, in its code, stretched to full contrast; ours are of the last checkpoint and of images as they are."
)


@dataclass(frozen=True)
class Comparison:
    """One column of a table, ours and the paper's: `frame` has a row per model that both have, ours best first."""

    dataset: str
    heading: str
    frame: pd.DataFrame  # columns: ours, paper, our_rank, paper_rank; index: titles
    rho: float  # Spearman's rank correlation; NaN with fewer than three models
    same_score: bool  # the values may stand side by side, not only their order


def published(number: int) -> pd.DataFrame:
    """A table of the paper in long form: title, dataset, family, value (and latent_dim in table 3)."""
    path = FOLDER / f"table{number}.csv"
    if not path.exists():
        raise FlexbenchError(f"the paper's table {number} is not here. There are: 1, 2, 3, 4.")
    return pd.read_csv(path)


def compare(
    results: pd.DataFrame, number: int, preset: str | None = None, space: str | None = None, images: int | None = None
) -> list[Comparison]:
    """Our table 1 or 2 against the paper's, column by column, for models and datasets that both have.

    Raises FlexbenchError for another table, and as `tables.make` does.
    """
    if number not in TABLES:
        raise FlexbenchError(f"--published is for tables 1 and 2, which have a row per model, not for table {number}.")
    metrics = [m for m in METRICS.values() if m.table == number]
    ours = model_cells(one_variant(choose(results, metrics, preset, space, images), results), metrics)
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
    """One variant per model, at the latent size that most of a dataset's models have (the smallest of such).

    Where a model was scored with several settings, those are kept whose samples are nearest to the validation images,
    in the same feature space.
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
    """Both columns for the titles that both have, with their ranks among these; 1 is best."""
    frame = pd.DataFrame({"ours": ours, "paper": paper}).dropna()
    ranks = frame.rank(ascending=ascending).rename(columns={"ours": "our_rank", "paper": "paper_rank"})
    return frame.join(ranks).sort_values("our_rank", kind="stable")


def spearman(frame: pd.DataFrame) -> float:
    """Pearson's correlation of the ranks."""
    return frame.our_rank.corr(frame.paper_rank) if len(frame) > 2 else float("nan")


def to_markdown(comparisons: list[Comparison]) -> str:
    """A GitHub table per column, with the rank correlation above it."""
    if not comparisons:
        return "The paper has none of these datasets: nothing to compare.\n"
    return "\n".join(_section(c) for c in comparisons)


def _section(c: Comparison) -> str:
    head = f"**{c.dataset} {c.heading}: Spearman's rho with the paper's order is {c.rho:.2f} ({len(c.frame)} models).**"
    if c.same_score:
        lines = ["| model | ours | paper | our rank | paper's rank |", "|---|---:|---:|---:|---:|"]
        lines += [f"| {t} | {r.ours:.4g} | {r.paper:g} | {r.our_rank:g} | {r.paper_rank:g} |"
                  for t, r in c.frame.iterrows()]  # fmt: skip
        return "\n".join([head, CAVEAT, "", *lines, ""])
    why = "Only the order is compared: the feature space, the number of images or the budget is not the paper's."
    lines = ["| model | our rank | paper's rank |", "|---|---:|---:|"]
    lines += [f"| {title} | {row.our_rank:g} | {row.paper_rank:g} |" for title, row in c.frame.iterrows()]
    return "\n".join([head, why, "", *lines, ""])
