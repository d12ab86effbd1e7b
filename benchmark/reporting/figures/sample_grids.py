"""Figure `4`: reconstructions and samples of every model, from the grids in the run folders. No model is run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...core.errors import FlexbenchError
from ...core.files import read_json, sha256_file
from ...evaluation.images import rows_of
from .. import tables
from ..rows import run_file
from . import image_grid
from .plot import Plot, Query
from .scores import dataset_slug, dataset_title, of_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {
    "reconstructions": "The first 32 images of the test split, each row above the row of their reconstructions.",
    "samples": "The first 64 images that each model generates with the seed of its run.",
}
COLUMNS = ["dataset", "model", "name", "latent_dim", "seed", "preset", "hash", "kind", "file", "sha256"]


def make(query: Query) -> list[Plot]:
    """Return two plots per dataset, with one grid per model. FlexbenchError if no scored run has its grids here."""
    jobs = tables.scored_jobs(of_images(query.results, "figure 4"), query.preset)
    jobs = jobs.assign(model=tables.row_labels(jobs), name=jobs.model)
    plots = [_plot(query, part, kind, found) for _, part in jobs.groupby("dataset") for kind in KINDS
             if len(found := first_seeds(part, kind))]  # fmt: skip
    if not plots:
        files = " or ".join(f"{kind}.png" for kind in KINDS)
        raise FlexbenchError(f"figure 4 needs {files} of a scored run, and no run folder under {query.place} has one.")
    return plots


def first_seeds(jobs: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return, for each model (a label), the job with the lowest seed that has this grid, with `kind` and `file`."""
    files = pd.Series([run_file(folder, f"{kind}.png") for folder in jobs.folder], jobs.index, dtype=object)
    jobs = jobs.assign(kind=kind, file=files)
    jobs = jobs[jobs.file.notna()]
    return jobs.loc[jobs.groupby("model", sort=False).seed.idxmin()]


def _plot(query: Query, jobs: pd.DataFrame, kind: str, shown: pd.DataFrame) -> Plot:
    dataset, files = str(shown.dataset.iloc[0]), list(shown.file)
    frame = shown.assign(file=[_relative(file, query) for file in files], sha256=[sha256_file(f) for f in files])
    missing = [model for model in dict.fromkeys(jobs.model) if model not in set(shown.model)]
    caption = (
        f"{KINDS[kind]} No image is chosen by hand. Each model: its lowest seed, last checkpoint. Preset "
        f"{', '.join(sorted(shown.preset.unique()))}."
    )
    if missing:
        caption += f" Left out, because their {kind}.png is not here: {', '.join(missing)}."
    title = f"{kind.capitalize()}, {dataset_title(dataset)}"
    return Plot(f"4-{dataset_slug(dataset)}-{kind}", title, caption, frame[COLUMNS].reset_index(drop=True),
                lambda: draw(files, list(shown.model), kind))  # fmt: skip


def _relative(file: Path, query: Query) -> str:
    """Return the path of a file below its output root."""
    return next(str(file.relative_to(root)) for root in query.roots if file.is_relative_to(root))


def draw(files: list[Path], models: list[str], kind: str) -> Figure:
    """Draw the grids of all models side by side, without resampling."""
    columns = min(4, math.ceil(math.sqrt(len(files))))
    has_row_labels = kind == "reconstructions"
    tiles = [
        image_grid.Tile(pixels(file), model, True, _row_labels(file) if has_row_labels and i % columns == 0 else ())
        for i, (file, model) in enumerate(zip(files, models, strict=True))
    ]
    corners = image_grid.grid_corners(
        np.array([tile.size for tile in tiles]), columns, left=40 if has_row_labels else 0
    )
    return image_grid.draw(tiles, corners)


def pixels(file: Path) -> np.ndarray:
    """Read a grey or RGB picture file as uint8 [H, W, 1 or 3]."""
    from PIL import Image

    with Image.open(file) as picture:
        values = np.asarray(picture)
    return values[:, :, None] if values.ndim == 2 else values


def _row_labels(file: Path) -> list[str]:
    size = read_json(file.parent / "config.json")["data"]["size"]
    return ["real", "rec."] * (rows_of(len(pixels(file)), size) // 2)
