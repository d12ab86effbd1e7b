"""The commands that repeat the runs and make the tables and the report from them. Imports no torch."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from ..data.info import is_built_in, public_name
from ..jobs.config import PRESETS
from ..metrics import DEFAULT_SPACE
from ..registry import BUILT_IN
from .figures.scores import info_of
from .runs import RunRecord

# Dataset, preset, latent size, seeds, and a number that keeps several settings of one model apart.
GridKey = tuple[str, str, int, tuple[int, ...], int]


def reproduce(runs: Iterable[RunRecord]) -> list[str]:
    """Return the `flexbench run` commands that repeat all runs with test scores, one per group of shared options."""
    scored = [run for run in runs if run.test_rows]
    return [run_command(scored, grid, models) for grid, models in grids(scored).items()]


def show(preset: str | None, space: str | None, images: int | None) -> list[str]:
    """Return the commands that print the tables and make the report, with the same choice of results."""
    given = (("--preset", preset), ("--features", space), ("--images", images))
    options = [word for option, value in given if value is not None for word in (option, str(value))]
    return [" ".join(map(shlex.quote, ["flexbench", name, *options])) for name in ("table", "report")]


def grids(runs: Iterable[RunRecord]) -> dict[GridKey, list[tuple[str, str]]]:
    """Group runs into grids, each with the (model, settings) in it. Other settings of a model are in another grid."""
    seeds: dict[tuple[str, str, int, str, str], set[int]] = {}
    for run in runs:
        cell = (typed_dataset(run), run.preset, run.latent_dim, run.model, run.settings)
        seeds.setdefault(cell, set()).add(run.seed)
    found: dict[GridKey, list[tuple[str, str]]] = {}
    for (dataset, preset, size, model, settings), numbers in seeds.items():
        copy = 0
        key = (dataset, preset, size, tuple(sorted(numbers)))
        while model in dict(found.get((*key, copy), ())):
            copy += 1
        found.setdefault((*key, copy), []).append((model, settings))
    return found


def typed_dataset(run: RunRecord) -> str:
    """Return the dataset as a user types it. The path of a folder is left open, because it differs between machines."""
    info = info_of(run.dataset)
    return public_name(info.name) if info else run.dataset


def run_command(runs: Sequence[RunRecord], grid: GridKey, models: Sequence[tuple[str, str]]) -> str:
    """Return the command for one grid. Words that a shell would change are quoted."""
    dataset, preset, size, seeds, _ = grid
    words = ["flexbench", "run", "--models", ",".join(model for model, _ in models), "--datasets", dataset]
    words += [*preset_options(preset), "--latent-dim", str(size), "--seeds", seed_range(seeds)]
    for model, settings in models:
        words += [word for pair in yaml_pairs(settings) for word in ("--set", f"{model}.{pair}")]
    words += scoring_options(next(r for r in runs if (typed_dataset(r), r.preset) == (dataset, preset)))
    if any(model not in BUILT_IN for model, _ in models) or not is_built_in(dataset):
        words += ["--include", "FILE"]
    return " ".join(map(shlex.quote, words))


def preset_options(preset: str) -> Iterator[str]:
    """Return the options for a preset: 'cpu[steps=500]' -> --preset cpu --set train.steps=500."""
    name, _, changes = preset.partition("[")
    yield from ("--preset", name)
    for change in filter(None, changes.rstrip("]").split(",")):
        yield from ("--set", f"train.{change}")


def scoring_options(run: RunRecord) -> Iterator[str]:
    """Return the options for feature space, number of images and image size that differ from their defaults."""
    row = run.test_rows[0]
    if row["space"] != DEFAULT_SPACE:
        yield from ("--features", str(row["space"]))
    preset = PRESETS.get(run.preset.partition("[")[0])
    if not preset or row["n_images"] != preset.images:
        yield from ("--images", str(row["n_images"]))
    info = info_of(run.dataset)
    if info and info.resizable:
        yield from ("--image-size", str(run.job.config.data["size"]) if run.job else "SIZE")


def yaml_pairs(settings: str) -> list[str]:
    """Split settings and write None as YAML does: 'beta=2.0, mask=None' -> ['beta=2.0', 'mask=null']."""
    found = re.split(r", (?=\w+=)", settings) if settings else []
    return [re.sub(r"=None$", "=null", pair) for pair in found]


def seed_range(numbers: Sequence[int]) -> str:
    """Return sorted seeds as a user types them: (0, 1, 2) -> '0-2', (0, 2) -> '0,2'."""
    first, last = numbers[0], numbers[-1]
    without_gaps = len(numbers) > 2 and last - first == len(numbers) - 1
    return f"{first}-{last}" if without_gaps else ",".join(map(str, numbers))
