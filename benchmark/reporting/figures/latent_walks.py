"""Figure `5`: latent walks of each model, and the training images nearest to its samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...core.errors import FlexbenchError
from ...evaluation.images import grid
from ...metrics import METRICS
from .. import tables
from ..paper import one_variant
from ..rows import run_file
from ..selection import comparable_rows
from . import image_grid
from .plot import Plot, Query
from .scores import dataset_slug, dataset_title, of_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ...data import Dataset
    from ..latents import Direction, Nearest, Walks

MULTIPLES = np.linspace(0, 1.5, 7)  # multiples of a direction that are added to a code
WEIGHTS = "model.safetensors"
LETTER_WIDTH = 8.5  # pixels of a letter in a row label
RULE = (
    "Left: interpolation along straight lines between the codes of two test images. The test images stand outside and "
    "are evenly spaced over the split; the ends of each line are their reconstructions. Middle: a test image, then its "
    "code plus multiples (below) of a direction, decoded. A direction is the difference between the mean codes of two "
    "classes, or of images with and without an attribute (of a continuous attribute: in the upper and the lower half "
    "of its range). Right: the first samples of the run, each with the nearest of all training images, nearest first. "
    "No image is chosen by hand."
)
COLUMNS = ["dataset", "model", "name", "latent_dim", "seed", "hash", "kind", "space", "item", "rank", "train_row",
           "value"]  # fmt: skip


@dataclass(frozen=True)
class LatentViews:
    """The images that figure 5 shows of one model."""

    walks: Walks
    directions: list[Direction]
    samples: np.ndarray  # uint8 [n, C, S, S]
    nearest: list[Nearest]


def make(query: Query) -> list[Plot]:
    """Return one plot per dataset and model: one variant of each, its lowest seed with weights.

    Raises FlexbenchError if no scored run has its weights here, and if the images of a dataset are not here.
    """
    jobs = jobs_with_weights(query)
    datasets = {name: dataset_of(part.iloc[0], query) for name, part in jobs.groupby("dataset")}
    return [_plot(job, compute_views(job, datasets[job.dataset], query)) for _, job in jobs.iterrows()]


def jobs_with_weights(query: Query) -> pd.DataFrame:
    """Return the jobs that are shown, one row each. The column `row` is their label in tables."""
    metric = METRICS["gen_fd"]
    rows = comparable_rows(of_images(query.results, "figure 5"), [metric], query.preset, query.space, query.images)
    rows = tables.model_cells(rows, [metric])
    rows = rows[rows.folder.map(has_weights)]
    if rows.empty:
        raise FlexbenchError(
            f"figure 5 needs trained models, and no scored run folder under {query.place} has its {WEIGHTS}. "
            "Train again: flexbench run ... --force"
        )
    kept = one_variant(rows, query.results)
    return kept.loc[kept.groupby(["dataset", "title"], sort=False).seed.idxmin()]


def has_weights(folder: str | Path) -> bool:
    """Return whether a run folder is here and has the weights."""
    return run_file(folder, WEIGHTS) is not None


def dataset_of(job: pd.Series, query: Query) -> Dataset:
    """Open the dataset that a job was trained on. Nothing is downloaded.

    Raises FlexbenchError if the images are not here, or are not those that the job was trained on.
    """
    from ...data import open_dataset
    from ...data.info import size_for
    from ...jobs.job import Job

    config = Job.open(Path(job.folder)).config
    size = size_for(config.dataset, config.data["size"])
    dataset = open_dataset(config.dataset, query.data_dir, size, download=False)
    if job.dataset_hash not in (dataset.content_hash, None):
        raise FlexbenchError(f"the images of '{config.dataset}' are not those that '{job.folder}' was trained on.")
    return dataset


def compute_views(job: pd.Series, dataset: Dataset, query: Query) -> LatentViews:
    """Run the trained model of a job and return what the figure shows."""
    from ...core.device import choose_device, make_deterministic
    from ...evaluation.features import feature_space
    from ...training.trained import load_trained
    from .. import latents

    make_deterministic()
    device = choose_device(query.device)
    method, space = load_trained(job.folder, device, query.include), feature_space(job.space, device=str(device))
    samples, nearest = latents.nearest_training(method, dataset, space, job.seed)
    return LatentViews(latents.walks(method, dataset), latents.directions(method, dataset, MULTIPLES), samples, nearest)


def _plot(job: pd.Series, views: LatentViews) -> Plot:
    title = f"{job['row']} on {dataset_title(job.dataset)}, m = {job.latent_dim}"
    spaces = " and in ".join(near.space for near in views.nearest)
    caption = f"{title}. {RULE} Distances: in {spaces}. Preset {job.preset}, seed {job.seed}, run {job.hash}."
    return Plot(f"5-{dataset_slug(job.dataset)}-{job.model}", title, caption, view_values(job, views),
                lambda: draw(title, views))  # fmt: skip


def view_values(job: pd.Series, views: LatentViews) -> pd.DataFrame:
    """Return norms of directions (kind `direction`) and distances of neighbours (`neighbour`), columns as in COLUMNS.

    A neighbour's `item` is the number of the sample. Its `train_row` is the row of the training split.
    """
    rows: list[tuple[Any, ...]]
    rows = [("direction", "code", d.name, None, None, float(np.linalg.norm(d.vector))) for d in views.directions]
    for near in views.nearest:
        for (i, rank), distance in np.ndenumerate(near.found.distances):
            rows.append(("neighbour", near.space, str(i), rank + 1, int(near.found.indices[i, rank]), distance))
    frame = pd.DataFrame(rows, columns=COLUMNS[6:]).astype({"rank": "Int64", "train_row": "Int64"})
    identity = {"dataset": job.dataset, "model": job["row"], "name": job.model}
    return frame.assign(**identity, latent_dim=job.latent_dim, seed=job.seed, hash=job.hash)[COLUMNS]


def draw(title: str, views: LatentViews) -> Figure:
    """Draw three panels side by side. The panel of directions is left out if there are none."""
    panels = [list(_walks(title, views.walks)), list(_directions(views.directions)), list(_nearest(views))]
    tiles, corners, left = [], [], 0
    for panel in filter(None, panels):
        for tile in panel:
            left += round(LETTER_WIDTH * max(map(len, tile.row_labels), default=0))
            tiles.append(tile)
            corners.append((left, 2 * image_grid.HEAD))  # room for the title above the headings
            left += tile.size[0] + image_grid.GAP // 2
        left += 2 * image_grid.GAP
    return image_grid.draw(tiles, np.array(corners), margin=(image_grid.GAP, image_grid.HEAD // 2))


def _walks(title: str, walks: Walks) -> Iterator[image_grid.Tile]:
    inner = walks.images.shape[1] - 2
    yield _strip(walks.ends[:, :1], f"{title}\nInterpolation", column_labels=["real"])
    yield _strip(walks.images, column_labels=["rec.", *[""] * inner, "rec."])
    yield _strip(walks.ends[:, 1:], column_labels=["real"])


def _directions(directions: list[Direction]) -> Iterator[image_grid.Tile]:
    if directions:
        names, starts = [d.name for d in directions], np.stack([d.start for d in directions])
        yield _strip(starts[:, None], "Directions", row_labels=names, column_labels=["real"])
        yield _strip(np.stack([d.images for d in directions]), column_labels=[f"{m:g}" for m in MULTIPLES])


def _nearest(views: LatentViews) -> Iterator[image_grid.Tile]:
    yield _strip(views.samples[:, None], "Nearest training images", column_labels=["sample"])
    for near in views.nearest:
        yield _strip(near.images, column_labels=["in pixels" if near.space == "pixels" else "in features"])


def _strip(images: np.ndarray, heading: str = "", **texts: Any) -> image_grid.Tile:
    """Return images, uint8 [rows, columns, C, S, S], as one picture."""
    return image_grid.Tile(grid(images.reshape(-1, *images.shape[2:]), columns=images.shape[1]), heading, **texts)
