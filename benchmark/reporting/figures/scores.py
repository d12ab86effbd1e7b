"""Functions that figures of scores share: rows, means over seeds, and names of datasets. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pandas as pd

from ...core.errors import FlexbenchError
from ...data.info import DATASETS, DatasetInfo, info_of_slug
from ...jobs.results import LAST
from ...metrics import Metric
from .. import tables


def over_seeds(rows: pd.DataFrame, keys: Sequence[str], **more: tuple[str, str]) -> pd.DataFrame:
    """Return mean, standard deviation (NaN for one seed) and number of seeds of the values of rows that share `keys`.

    `rows` and `keys` are rows and columns of the result of `tables.model_cells`. In the result, `model` is the label
    in tables, and `name` the name as the user types it. `more` are further columns, as pandas' `agg` takes them.
    """
    groups = rows.groupby(["dataset", "row", "model", *keys], sort=False)
    frame = groups.agg(mean=("value", "mean"), std=("value", "std"), seeds=("value", "count"), **more)
    return frame.reset_index().rename(columns={"model": "name", "row": "model"})


def protocol(rows: pd.DataFrame, metrics: list[Metric], rule: str | None = LAST) -> str:
    """Return the caption that the same rows have in a table. `rule` is None if all checkpoints are shown."""
    return tables.caption(rows[rows.family.isin({m.family for m in metrics})], rule)


def info_of(dataset: str) -> DatasetInfo | None:
    """Return the declaration of a dataset by its name in result rows, or None if it is not known."""
    return info_of_slug(dataset)


def declared_names(holds: Callable[[DatasetInfo], bool]) -> list[str]:
    """Return the names of all known datasets whose declaration has a property."""
    return [info.name for info in DATASETS.values() if holds(info)]


def results_where(results: pd.DataFrame, holds: Callable[[DatasetInfo], bool]) -> pd.DataFrame:
    """Return the results on the known datasets whose declaration has a property."""
    infos = {name: info_of(name) for name in results.dataset.unique()}
    return results[results.dataset.isin([name for name, info in infos.items() if info and holds(info)])]


def of_images(results: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return the results on images. Raises FlexbenchError if all are on vectors, which `what` cannot show."""
    vectors = results_where(results, lambda info: not info.are_images)
    kept = results.drop(vectors.index)
    if kept.empty and len(results):
        raise FlexbenchError(f"{what} shows images, and the data of all runs are vectors.")
    return kept


def dataset_slug(dataset: str) -> str:
    """Return a dataset's name in a form that is safe in a file name."""
    info = info_of(dataset)
    return info.slug if info else re.sub(r"[^\w.-]+", "-", dataset)


def dataset_title(dataset: str) -> str:
    """Return the title of a dataset by its name in result rows, or that name if the dataset is not known."""
    info = info_of(dataset)
    return info.title if info else dataset
