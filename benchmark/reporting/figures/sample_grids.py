"""Figure `4`: reconstructions and samples of every model, from the grids that each job leaves. No model is run."""

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
from . import image_grid as mosaic
from .plot import Plot, Query
from .scores import dataset_slug, dataset_title, of_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = {
    "reconstructions": "Rows of test images, each above the row of their reconstructions: the first 32 of the test "
    "split.",
    "samples": "The first 64 images that each model generates with the seed of its run.",
}
COLUMNS = ["dataset", "model", "name", "latent_dim", "seed", "preset", "hash", "kind", "file", "sha256"]


def make(query: Query) -> list[Plot]:
    """Two plots per dataset, each with one grid per model. FlexbenchError where no scored run has left its grids."""
    jobs = tables.scored_jobs(of_images(query.results, "figure 4"), query.preset)
    jobs = jobs.assign(model=tables.row_labels(jobs), name=jobs.model)
    plots = [_plot(query.out, str(dataset), kind, found) for dataset, part in jobs.groupby("dataset") for kind in KINDS
             if len(found := first_seeds(part, kind))]  # fmt: skip
    if not plots:
        files = " or ".join(f"{kind}.png" for kind in KINDS)
        raise FlexbenchError(f"no scored run under '{query.out}' has a {files}. Run something: flexbench run ...")
    return plots


def first_seeds(jobs: pd.DataFrame, kind: str) -> pd.DataFrame:
    """For each model (a label) the job of the lowest seed that has this grid, with `kind` and `file`."""
    jobs = jobs.assign(kind=kind, file=[Path(folder, f"{kind}.png") for folder in jobs.folder])
    jobs = jobs[[file.is_file() for file in jobs.file]]
    return jobs.loc[jobs.groupby("model", sort=False).seed.idxmin()]


def _plot(out: Path, dataset: str, kind: str, jobs: pd.DataFrame) -> Plot:
    files = list(jobs.file)
    frame = jobs.assign(file=[str(file.relative_to(out)) for file in files], sha256=[sha256_file(f) for f in files])
    caption = (
        f"{KINDS[kind]} None is chosen by hand. Of several seeds the first; last checkpoint; preset "
        f"{', '.join(sorted(jobs.preset.unique()))}."
    )
    title = f"{kind.capitalize()}, {dataset_title(dataset)}"
    return Plot(f"4-{dataset_slug(dataset)}-{kind}", title, caption, frame[COLUMNS].reset_index(drop=True),
                lambda: draw(files, list(jobs.model), kind))  # fmt: skip


def draw(files: list[Path], models: list[str], kind: str) -> Figure:
    """The grids of all models, as they are, in a table."""
    columns = min(4, math.ceil(math.sqrt(len(files))))
    named = kind == "reconstructions"
    pictures = [
        mosaic.Tile(pixels(file), model, True, _row_names(file) if named and i % columns == 0 else ())
        for i, (file, model) in enumerate(zip(files, models, strict=True))
    ]
    corners = mosaic.table(np.array([p.size for p in pictures]), columns, left=40 if named else 0)
    return mosaic.draw(pictures, corners)


def pixels(file: Path) -> np.ndarray:
    """A grey or RGB picture file as uint8 [H, W, 1 or 3]."""
    from PIL import Image

    with Image.open(file) as picture:
        values = np.asarray(picture)
    return values[:, :, None] if values.ndim == 2 else values


def _row_names(file: Path) -> list[str]:
    size = read_json(file.parent / "config.json")["data"]["size"]
    return ["real", "rec."] * (rows_of(len(pixels(file)), size) // 2)
