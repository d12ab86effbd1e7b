"""Figure `5`: walks in the latent space of each model, and the training images nearest to its samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ...core.errors import FlexbenchError
from ...evaluation.images import grid
from ...metrics import METRICS
from .. import tables
from ..paper import one_variant
from . import image_grid as mosaic
from .plot import Plot, Query
from .scores import dataset_slug, dataset_title, of_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ...data import Dataset
    from ..latents import Direction, Nearest, Walks

MULTIPLES = np.linspace(0, 1.5, 7)  # of a direction, added to a code
WEIGHTS = "model.safetensors"
LETTER = 8.5  # pixels of a letter beside a row
RULE = (
    "Left: straight lines between the codes of test images, which are evenly spread over the split and stand outside; "
    "the ends of a line are their reconstructions. Middle: a test image, and its code plus multiples (below) of the "
    "difference of two mean codes: of images with and without an attribute (of a continuous one: of the upper and the "
    "lower half of its range), or of two classes. Right: the first samples of the run, each with the nearest of all "
    "training images, nearest first. None is chosen by hand."
)
COLUMNS = ["dataset", "model", "name", "latent_dim", "seed", "hash", "kind", "space", "item", "rank", "train_row",
           "value"]  # fmt: skip


@dataclass(frozen=True)
class Found:
    """What is drawn of one model."""

    walks: Walks
    directions: list[Direction]
    samples: np.ndarray  # uint8 [n, C, S, S]
    nearest: list[Nearest]


def make(query: Query) -> list[Plot]:
    """One plot per dataset and model: one variant of each, its first seed that has kept its weights.

    Raises FlexbenchError where no scored run has kept any, and where the images of a dataset are not there.
    """
    jobs = with_weights(query)
    datasets = {name: dataset_of(part.iloc[0], query) for name, part in jobs.groupby("dataset")}
    return [_plot(job, explore(job, datasets[job.dataset], query)) for _, job in jobs.iterrows()]


def with_weights(query: Query) -> pd.DataFrame:
    """The jobs that are shown, a row each, `row` being their label in tables."""
    metric = METRICS["gen_fd"]
    rows = tables.choose(of_images(query.results, "figure 5"), [metric], query.preset, query.space, query.images)
    rows = tables.model_cells(rows, [metric])
    rows = rows[rows.folder.map(has_weights)]
    if rows.empty:
        raise FlexbenchError(
            f"this figure needs trained models, and no scored run under '{query.out}' has kept its {WEIGHTS}. "
            "Train anew: flexbench run ... --force"
        )
    kept = one_variant(rows, query.results)
    return kept.loc[kept.groupby(["dataset", "title"], sort=False).seed.idxmin()]


def has_weights(folder: str | Path) -> bool:
    """Whether a run has kept its weights."""
    return Path(folder, WEIGHTS).is_file()


def dataset_of(job: pd.Series, query: Query) -> Dataset:
    """The images that a job was trained on; nothing is downloaded."""
    from ...data import open_dataset
    from ...data.info import size_for
    from ...jobs.job import Job

    config = Job.open(Path(job.folder)).config
    size = size_for(config.dataset, config.data["size"])
    dataset = open_dataset(config.dataset, query.data_dir, size, download=False)
    if job.dataset_hash not in (dataset.content_hash, None):
        raise FlexbenchError(f"the images of '{config.dataset}' are not those that '{job.folder}' was trained on.")
    return dataset


def explore(job: pd.Series, dataset: Dataset, query: Query) -> Found:
    """Run the trained model of a job."""
    from ...core.device import choose_device, make_deterministic
    from ...evaluation.features import feature_space
    from ...training.trained import load_trained
    from .. import latents

    make_deterministic()
    device = choose_device(query.device)
    method, space = load_trained(job.folder, device, query.include), feature_space(job.space, device=str(device))
    samples, nearest = latents.nearest_training(method, dataset, space, job.seed)
    return Found(latents.walks(method, dataset), latents.directions(method, dataset, MULTIPLES), samples, nearest)


def _plot(job: pd.Series, found: Found) -> Plot:
    title = f"{job['row']} on {dataset_title(job.dataset)}, m = {job.latent_dim}"
    spaces = " and in ".join(near.space for near in found.nearest)
    caption = f"{title}. {RULE} Distances are taken in {spaces}. Preset {job.preset}, seed {job.seed}, run {job.hash}."
    return Plot(f"5-{dataset_slug(job.dataset)}-{job.model}", title, caption, numbers(job, found),
                lambda: draw(title, found))  # fmt: skip


def numbers(job: pd.Series, found: Found) -> pd.DataFrame:
    """Columns as in COLUMNS: norms of the directions (kind `direction`), distances of neighbours (`neighbour`).

    A neighbour's `item` is the number of the sample, its `train_row` the row of the training split.
    """
    rows = [("direction", "code", d.name, None, None, float(np.linalg.norm(d.vector))) for d in found.directions]
    for near in found.nearest:
        for (i, rank), distance in np.ndenumerate(near.found.distances):
            rows.append(("neighbour", near.space, str(i), rank + 1, int(near.found.indices[i, rank]), distance))
    frame = pd.DataFrame(rows, columns=COLUMNS[6:]).astype({"rank": "Int64", "train_row": "Int64"})
    who = {"dataset": job.dataset, "model": job["row"], "name": job.model}
    return frame.assign(**who, latent_dim=job.latent_dim, seed=job.seed, hash=job.hash)[COLUMNS]


def draw(title: str, found: Found) -> Figure:
    """Three panels side by side; that of directions is left out where there are none."""
    panels = [list(_walks(title, found.walks)), list(_directions(found.directions)), list(_nearest(found))]
    pictures, corners, left = [], [], 0
    for panel in filter(None, panels):
        for picture in panel:
            left += round(LETTER * max(map(len, picture.rows), default=0))
            pictures.append(picture)
            corners.append((left, 2 * mosaic.HEAD))  # room for the title above the headings
            left += picture.size[0] + mosaic.GAP // 2
        left += 2 * mosaic.GAP
    return mosaic.draw(pictures, np.array(corners), margin=(mosaic.GAP, mosaic.HEAD // 2))


def _walks(title: str, walks: Walks) -> Iterator[mosaic.Tile]:
    inner = walks.images.shape[1] - 2
    yield _strip(walks.ends[:, :1], f"{title}\nInterpolation", columns=["real"])
    yield _strip(walks.images, columns=["rec.", *[""] * inner, "rec."])
    yield _strip(walks.ends[:, 1:], columns=["real"])


def _directions(directions: list[Direction]) -> Iterator[mosaic.Tile]:
    if directions:
        names, starts = [d.name for d in directions], np.stack([d.start for d in directions])
        yield _strip(starts[:, None], "Directions", rows=names, columns=["real"])
        yield _strip(np.stack([d.images for d in directions]), columns=[f"{m:g}" for m in MULTIPLES])


def _nearest(found: Found) -> Iterator[mosaic.Tile]:
    yield _strip(found.samples[:, None], "Nearest training images", columns=["sample"])
    for near in found.nearest:
        yield _strip(near.images, columns=["in pixels" if near.space == "pixels" else "in features"])


def _strip(images: np.ndarray, heading: str = "", **around: list[str]) -> mosaic.Tile:
    """uint8 [rows, columns, C, S, S] as a grid."""
    return mosaic.Tile(grid(images.reshape(-1, *images.shape[2:]), columns=images.shape[1]), heading, **around)
