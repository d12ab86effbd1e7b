"""What figures of scores share: which rows, their means over seeds, and names. Imports no torch."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import pandas as pd

from ...core.errors import FlexbenchError
from ...data.info import DatasetInfo, dataset_info
from ...jobs.results import LAST
from ...metrics import Metric
from .. import tables


def over_seeds(rows: pd.DataFrame, keys: Sequence[str], **more: tuple[str, str]) -> pd.DataFrame:
    """Mean, standard deviation (NaN for one seed) and number of seeds of the values of rows that share `keys`.

    `keys` are columns of what `tables.model_cells` gives; `row`, the label in tables, becomes `model`, and the name
    as typed becomes `name`. `more` are further columns, as pandas' `agg` takes them.
    """
    groups = rows.groupby(["dataset", "row", "model", *keys], sort=False)
    frame = groups.agg(mean=("value", "mean"), std=("value", "std"), seeds=("value", "count"), **more)
    return frame.reset_index().rename(columns={"model": "name", "row": "model"})


def protocol(rows: pd.DataFrame, metrics: list[Metric], rule: str | None = LAST) -> str:
    """The caption that the same rows have in a table; without a `rule` where all checkpoints are shown."""
    return tables.caption(rows[rows.family.isin({m.family for m in metrics})], rule)


def info_of(dataset: str) -> DatasetInfo | None:
    """What is known of a dataset by the name in result rows, if it is one of the suite's: 'mnist', 'sprites-2000'."""
    for name in (dataset, dataset.replace("-", ":", 1)):
        with contextlib.suppress(FlexbenchError):
            return dataset_info(name)
    return None


def of_images(results: pd.DataFrame, what: str) -> pd.DataFrame:
    """The results on datasets of images; FlexbenchError where all are on vectors, of which `what` shows nothing."""
    infos = results.dataset.map(info_of)
    kept = results[[info is None or info.are_images for info in infos]]
    if kept.empty and len(results):
        raise FlexbenchError(f"{what} shows images, and the data of all that has run are vectors.")
    return kept


def dataset_slug(dataset: str) -> str:
    """A dataset's name for use in a file's name."""
    info = info_of(dataset)
    return info.slug if info else re.sub(r"[^\w.-]+", "-", dataset)


def dataset_title(dataset: str) -> str:
    """'MNIST' for 'mnist'; a folder's own name."""
    info = info_of(dataset)
    return dataset if info is None else info.slug if info.kind == "folder" else info.title
