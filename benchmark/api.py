"""The functions of the Python API. Heavy modules are imported when a function is called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .metrics import DEFAULT_SPACE

if TYPE_CHECKING:
    import pandas as pd

    from .method import Method
    from .reporting.figures import Plot


def run(
    models: str | Iterable[str],
    datasets: str | Iterable[str],
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Train and score every model on every dataset, and return the tidy frame of all results under `out`.

    What is done already is not done again. `settings` are like `--set`: {"train.steps": 500, "vae.beta": 2}.
    `options` are the fields of `benchmark.runner.Request`: preset, seeds, latent_dims, out, data_dir, device, space,
    images, jobs, tracking_uri, ... Each job runs in a process of its own.
    Raises FlexbenchError for bad input, and RuntimeError naming the jobs that did not end well.
    """
    from .core.canonical import canonical
    from .jobs.config import Overrides
    from .jobs.results import results
    from .running.runner import Request, expand, run_jobs

    models, datasets = (text if isinstance(text, str) else ",".join(text) for text in (models, datasets))
    pairs = [f"{key}={canonical(value)}" for key, value in (settings or {}).items()]
    request = Request(models, datasets, overrides=Overrides.parse(pairs), **options)
    jobs, opened = expand(request)
    outcomes = run_jobs(jobs, opened, request)
    if bad := [f"{o.job.label}: {o.word}" for o in outcomes if o.word != "done"]:
        raise RuntimeError("; ".join(bad))
    return results(request.out)


def load(run_dir: str | Path, device: Any = "cpu", include: Iterable[str] = ()) -> Method:
    """The trained model of a run, in eval mode, rebuilt from config.json and model.safetensors. No pickle is read.

    `include` names the files that define models of your own. Raises FlexbenchError if the run is not trained.
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
    from .data.info import shape_of
    from .evaluation.evaluator import score
    from .evaluation.features.spaces import feature_space, space_for
    from .evaluation.image_folder import read_images
    from .evaluation.references import References, check_count
    from .jobs.job import Job

    make_deterministic()
    if is_run(source):
        config = Job.open(Path(source)).config
        dataset, seed = dataset or config.dataset, config.seed if seed is None else seed
        image_size = image_size or (config.data["size"] if dataset.startswith("folder:") else None)
        source = load(source, device, include)
    if dataset is None:
        raise FlexbenchError("--dataset is needed to score a folder of images, e.g. --dataset mnist.")
    data = open_dataset(dataset, data_dir and Path(data_dir), image_size)
    check_count(data, images)
    features = feature_space(space_for(data.info, space), inception_weights, device)
    if isinstance(source, (str, Path)):
        if not data.info.are_images:
            raise FlexbenchError(f"{dataset} holds vectors, and a folder holds images: they do not compare.")
        source = read_images(Path(source), data.channels, data.size, images)
        images = len(source)
    else:
        made, real = (shape_of(d.channels, d.size) for d in (source.data, data))
        if made != real:
            raise FlexbenchError(f"the model makes {made} and {dataset} holds {real}: they do not compare.")
    scores = score(source, References(data, images, features), seed or 0)
    return {s.metric: s.value for s in scores}


def is_run(source: Any) -> bool:
    """Whether `source` is the folder of a run, and not just one of images."""
    return isinstance(source, (str, Path)) and all((Path(source) / n).is_file() for n in ("config.json", "train.jsonl"))


def table(number: int = 1, out: str | Path = "results", **options: Any) -> pd.DataFrame:
    """One of the paper's tables (1 to 4) from what is on disk under `out`. Options as of `reporting.tables.make`."""
    from .jobs.results import results
    from .reporting.tables import make

    return make(results(Path(out)), number, **options).frame


def figure(name: str, out: str | Path = "results", **options: Any) -> list[Plot]:
    """The plots of a figure (see `reporting.figures.FIGURES`) of what is on disk under `out`; nothing is written.

    Each has the data in `frame`, and `draw()` gives a matplotlib Figure; `reporting.figures.save` writes both.
    `options` are the fields of `reporting.figures.Query`. Raises FlexbenchError where the figure cannot be made.
    """
    from .reporting.figures import Query, make

    return make(name, Query(Path(out), **options))


def report(out: str | Path = "results", to: str | Path | None = None, **options: Any) -> Path:
    """One static HTML page of what is on disk under `out`, written to `to` or `out`/report.html; returns its path.

    Options (preset, space, images) as of `reporting.tables.make`. Raises FlexbenchError as `reporting.report.write`.
    """
    from .reporting.report import write

    return write(Path(out), Path(to) if to else None, **options)
