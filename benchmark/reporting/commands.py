"""The commands that make what is on disk again. Imports no torch."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from ..data.info import is_built_in, public_name
from ..jobs.config import PRESETS
from ..metrics import DEFAULT_SPACE
from ..registry import BUILT_IN
from .runs import RunRecord

Grid = tuple[str, str, int, tuple[int, ...], int]  # dataset, preset, latent size, seeds, place among a model's settings


def reproduce(runs: Iterable[RunRecord]) -> list[str]:
    """One `flexbench run` command per part of the grid that shares its options, for the runs that have test scores."""
    scored = [run for run in runs if run.test_rows]
    return [command(scored, grid, cells) for grid, cells in grids(scored).items()]


def show(preset: str | None, space: str | None, images: int | None) -> list[str]:
    """The commands that print the tables and make the page, with the same choice among what is on disk."""
    given = (("--preset", preset), ("--features", space), ("--images", images))
    options = [word for option, value in given if value is not None for word in (option, str(value))]
    return [" ".join(map(shlex.quote, ["flexbench", name, *options])) for name in ("table", "report")]


def grids(runs: Iterable[RunRecord]) -> dict[Grid, list[tuple[str, str]]]:
    """Part of the grid -> the (model, settings) in it. A model with other settings has a command of its own."""
    seeds: dict[tuple[str, str, int, str, str], set[int]] = {}
    for run in runs:
        c = run.job.config
        seeds.setdefault((typed(run), c.preset, c.latent_dim, c.model, run.settings), set()).add(c.seed)
    found: dict[Grid, list[tuple[str, str]]] = {}
    for (dataset, preset, size, model, settings), numbers in seeds.items():
        place = 0
        key = (dataset, preset, size, tuple(sorted(numbers)))
        while model in dict(found.get((*key, place), ())):
            place += 1
        found.setdefault((*key, place), []).append((model, settings))
    return found


def typed(run: RunRecord) -> str:
    """The dataset as a user types it; a path of this machine would mean nothing elsewhere."""
    return public_name(run.job.config.dataset)


def command(runs: Sequence[RunRecord], grid: Grid, cells: Sequence[tuple[str, str]]) -> str:
    """The command line for one part of the grid."""
    dataset, preset, size, seeds, _ = grid
    words = ["flexbench", "run", "--models", ",".join(model for model, _ in cells), "--datasets", dataset]
    words += [*preset_words(preset), "--latent-dim", str(size), "--seeds", span(seeds)]
    for model, settings in cells:
        words += [word for pair in pairs(settings) for word in ("--set", f"{model}.{pair}")]
    words += scoring_words(next(r for r in runs if (typed(r), r.job.config.preset) == (dataset, preset)), preset)
    if any(model not in BUILT_IN for model, _ in cells) or not is_built_in(dataset):
        words += ["--include", "FILE"]
    return " ".join(map(shlex.quote, words))


def preset_words(preset: str) -> Iterator[str]:
    """'cpu[steps=500]' -> --preset cpu --set train.steps=500."""
    name, _, changes = preset.partition("[")
    yield from ("--preset", name)
    for change in filter(None, changes.rstrip("]").split(",")):
        yield from ("--set", f"train.{change}")


def scoring_words(run: RunRecord, preset: str) -> Iterator[str]:
    """Feature space, number of images and image size, where they are not what the command takes by itself."""
    row = run.test_rows[0]
    if row["space"] != DEFAULT_SPACE:
        yield from ("--features", str(row["space"]))
    usual = PRESETS.get(preset.partition("[")[0])
    if not usual or row["n_images"] != usual.images:
        yield from ("--images", str(row["n_images"]))
    if typed(run) != run.job.config.dataset:
        yield from ("--image-size", str(run.job.config.data["size"]))


def pairs(settings: str) -> list[str]:
    """'beta=2.0, mask=None' -> ['beta=2.0', 'mask=null'], as YAML spells them."""
    found = re.split(r", (?=\w+=)", settings) if settings else []
    return [re.sub(r"=None$", "=null", pair) for pair in found]


def span(numbers: Sequence[int]) -> str:
    """(0, 1, 2) -> '0-2'; with gaps '0,2'."""
    first, last = numbers[0], numbers[-1]
    whole = len(numbers) > 2 and last - first == len(numbers) - 1
    return f"{first}-{last}" if whole else ",".join(map(str, numbers))
