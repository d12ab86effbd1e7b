"""The functions of the Python API. Heavy modules are imported when a function is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.canonical import canonical
from .metrics import DEFAULT_SPACE

if TYPE_CHECKING:
    import pandas as pd

    from .method import Method
    from .reporting.figures import Plot
    from .running.options import RunOptions


Roots = str | Path | Sequence[str | Path]  # one output root, or several that are read together


def run(
    models: str | Iterable[str],
    datasets: str | Iterable[str],
    settings: Mapping[str, Any] | None = None,
    *,
    latent_dims: Sequence[int] = (),
    seeds: Sequence[int] = (0,),
    preset: str = "cpu",
    images: int | None = None,
    space: str = DEFAULT_SPACE,
    inception_weights: str | None = None,
    out: str | Path = "results",
    data_dir: str | Path | None = None,
    image_size: int | None = None,
    include: Sequence[str | Path] = (),
    device: str = "auto",
    jobs: int = 1,
    threads: int | None = None,
    tracking_uri: str | None = "local",
    suite: str | None = None,
    force: bool = False,
    retry_failed: bool = False,
    checkpoint_seconds: float = 60.0,
    checkpoint_steps: int | None = None,
    score_every: int | None = None,
) -> pd.DataFrame:
    """Train and score every model on every dataset, and return the tidy frame of all results under `out`.

    Finished jobs are not done again. Each job runs in a process of its own.

    Args:
        models: names and globs, such as "vae,flexae*" or ["vae", "flexae"], or "all".
        datasets: names, such as "mnist" or "folder:PATH"; see `flexbench ls datasets`.
        settings: like `--set` on the command line: {"train.steps": 500, "vae.beta": 2}.
        latent_dims: latent sizes, a grid axis; empty: the default of each dataset.
        seeds: seeds, a grid axis.
        preset: the budget: "smoke", "demo", "cpu" or "paper".
        images: images of each kind to score; None: the preset's.
        space: feature space of the scores; "inception" gives FID.
        inception_weights: path of inception-2015-12-05.pt, for the space "inception".
        out: output root.
        data_dir: folder of the raw dataset files; None: a folder in the user's cache.
        image_size: side in pixels, for "folder:PATH" datasets.
        include: Python files, or folders of them, with models, datasets, metrics or feature spaces of your own.
        device: "auto", "cpu" or "cuda".
        jobs: jobs at once, 1 to 64.
        threads: threads of each job; None: the processors divided by `jobs`.
        tracking_uri: MLflow server or store; "local": SQLite under `out`; None: no tracking.
        suite: name of the MLflow experiment; None: the datasets and the preset.
        force: delete the earlier runs of these jobs and train anew.
        retry_failed: run failed jobs again.
        checkpoint_seconds: longest time between checkpoints.
        checkpoint_steps: steps between checkpoints, beside the time.
        score_every: steps between checkpoints whose Frechet distances are scored; None: only the last.

    Raises FlexbenchError for bad input, and RuntimeError that names the jobs that did not end well.
    """
    from .jobs.results import read_results
    from .running.runner import expand, run_jobs

    chosen = _run_options(dict(locals()))
    planned, opened = expand(chosen)
    outcomes = run_jobs(planned, opened, chosen)
    if bad := [f"{o.job.label}: {o.state}" for o in outcomes if o.state != "done"]:
        raise RuntimeError("; ".join(bad))
    return read_results(chosen.out)


def _run_options(given: dict[str, Any]) -> RunOptions:
    """Build the run options. Every argument of `run` except `settings` has the name of its field."""
    from .jobs.config import Overrides
    from .running.options import RunOptions

    pairs = [f"{key}={canonical(value)}" for key, value in (given["settings"] or {}).items()]
    names = {field.name for field in dataclasses.fields(RunOptions)}
    options = {name: value for name, value in given.items() if name in names}
    for name in ("models", "datasets"):
        options[name] = given[name] if isinstance(given[name], str) else ",".join(given[name])
    for name in ("latent_dims", "seeds", "include"):
        options[name] = tuple(given[name])
    return RunOptions(**options, overrides=Overrides.parse(pairs))


def load(run_dir: str | Path, device: Any = "cpu", include: Iterable[str] = ()) -> Method:
    """Return the trained model of a run as a torch module in eval mode. No pickle is read.

    Args:
        run_dir: the run folder, with config.json and model.safetensors.
        device: where the model goes: a torch device or its name.
        include: files that define models of your own.

    Raises FlexbenchError if the run is not trained.
    """
    from .training.trained import load_trained

    return load_trained(run_dir, device, include)


def evaluate(source: Method | str | Path, dataset: str | None = None, space: str = DEFAULT_SPACE,
             images: int = 10_000, seed: int | None = None, data_dir: str | Path | None = None,
             image_size: int | None = None, inception_weights: str | None = None,
             include: Iterable[str] = (), device: str = "cpu") -> dict[str, float]:  # fmt: skip
    """Score a model, a finished run, or any folder of images against a dataset. Returns {metric name: value}.

    A model generates and reconstructs at most `images` images, with `seed` (default: the run's, or 0). A run is scored
    against its own dataset unless another is named. The images of a folder (at most `images` of them) count as
    generated images; they are cropped and resized if their size is not the dataset's. Raises FlexbenchError for a
    folder that does not exist or holds no images, and what `open_dataset` and `feature_space` raise.
    """
    from .core.device import make_deterministic
    from .core.errors import FlexbenchError
    from .data import open_dataset
    from .data.info import shape_of, size_for
    from .evaluation.evaluator import score
    from .evaluation.features.spaces import feature_space, space_for
    from .evaluation.image_folder import read_images
    from .evaluation.references import References, check_count
    from .jobs.job import Job
    from .registry import Registry

    make_deterministic()
    Registry.load(include)
    if isinstance(source, (str, Path)) and is_run(source):
        config = Job.open(Path(source)).config
        dataset, seed = dataset or config.dataset, config.seed if seed is None else seed
        image_size = image_size or size_for(dataset, config.data["size"])
        source = load(Path(source), device, include)
    if dataset is None:
        raise FlexbenchError("--dataset is needed to score a folder of images, e.g. --dataset mnist.")
    data = open_dataset(dataset, data_dir and Path(data_dir), image_size)
    check_count(data, images)
    features = feature_space(space_for(data.info, space), inception_weights, device)
    if not isinstance(source, (str, Path)):
        made, real = (shape_of(d.channels, d.size) for d in (source.data, data))
        if made != real:
            raise FlexbenchError(f"the model makes {made} and {dataset} holds {real}: they do not compare.")
        scores = score(source, References(data, images, features), seed or 0)
        return {s.metric: s.value for s in scores}
    if not data.info.are_images:
        raise FlexbenchError(f"{dataset} holds vectors, and a folder holds images: they do not compare.")
    pictures = read_images(Path(source), data.channels, data.size, images)
    scores = score(pictures, References(data, len(pictures), features), seed or 0)
    return {s.metric: s.value for s in scores}


def is_run(source: Any) -> bool:
    """Whether `source` is the folder of a run, and not just one of images."""
    return isinstance(source, (str, Path)) and all((Path(source) / n).is_file() for n in ("config.json", "train.jsonl"))


def table(
    number: int = 1, out: Roots = "results", *, preset: str | None = None, space: str | None = None,
    images: int | None = None, rule: str = "last",
) -> pd.DataFrame:  # fmt: skip
    """Return one of the paper's tables of what is on disk: means, a row per model.

    Args:
        number: 1 Frechet distances, 2 precision and recall, 3 distances against latent size, 4 memorisation, 5 scores
            of added metrics.
        out: the output root, or several that are read together.
        preset, space, images: which results, where there are several.
        rule: which checkpoint counts: "last", "best_val", "oracle" or "flops".

    Raises FlexbenchError where nothing has run, and where a choice among the results is missing.
    """
    from .jobs.results import read_results
    from .reporting.runs import check_roots
    from .reporting.tables import make

    check_roots(_roots(out))
    return make(read_results(_roots(out)), number, preset, space, images, rule).frame


def figure(
    name: str, out: Roots = "results", *, models: str | None = None, preset: str | None = None,
    space: str | None = None, images: int | None = None, data_dir: str | Path | None = None, device: str = "cpu",
    include: Sequence[str] = (),
) -> list[Plot]:  # fmt: skip
    """Return the plots of a figure of what is on disk. Nothing is written.

    Each plot has its data in `frame`, and `draw()` gives a matplotlib Figure. `benchmark.reporting.figures.save` writes
    both.

    Args:
        name: a key of `benchmark.reporting.figures.FIGURES`, such as "pareto".
        out: the output root, or several that are read together.
        models: names and globs, comma-separated; None: all that have results.
        preset, space, images: which results, where there are several.
        data_dir, device, include: for figures that run the models, as in `run`.

    Raises FlexbenchError where the figure cannot be made.
    """
    from .reporting.figures import Query, make

    where = Path(data_dir) if data_dir else None
    return make(name, Query(_roots(out), models, preset, space, images, where, device, tuple(include)))


def report(
    out: Roots = "results", to: str | Path | None = None, *, preset: str | None = None, space: str | None = None,
    images: int | None = None,
) -> Path:  # fmt: skip
    """Write what is on disk as one static HTML page and return its path.

    Args:
        out: the output root, or several that are read together.
        to: the file to write; None: report.html in the (first) root.
        preset, space, images: which results, where there are several.

    Raises FlexbenchError where nothing has run, and where the file cannot be written.
    """
    from .reporting.report import write

    return write(_roots(out), Path(to) if to else None, preset, space, images)


def _roots(out: Roots) -> tuple[Path, ...]:
    return (Path(out),) if isinstance(out, (str, Path)) else tuple(map(Path, out))
