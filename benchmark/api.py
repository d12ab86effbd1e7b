"""The four functions of the Python API. Heavy modules are imported when a function is called."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from .method import Method


def run(models: str | Iterable[str], datasets: str | Iterable[str], **options: Any) -> pd.DataFrame:
    """Train and score every model on every dataset, and return the tidy frame of all results under `out`.

    What is done already is not done again. `options` are the fields of `benchmark.runner.Request`: preset, seeds,
    latent_dims, out, data_dir, device, space, images, jobs, ... Call it from under `if __name__ == "__main__":`
    only if your platform needs that for subprocesses; each job runs in a process of its own.
    Raises FlexbenchError for bad input, and RuntimeError naming the jobs that did not end well.
    """
    from .reporting.collect import results
    from .runner import Request, expand, run_jobs

    models, datasets = (text if isinstance(text, str) else ",".join(text) for text in (models, datasets))
    request = Request(models, datasets, **options)
    jobs, opened = expand(request)
    outcomes = run_jobs(jobs, opened, request)
    if bad := [f"{o.job.label}: {o.word}" for o in outcomes if o.word != "done"]:
        raise RuntimeError("; ".join(bad))
    return results(request.out)


def load(run_dir: str | Path, device: Any = "cpu", include: Iterable[str] = ()) -> Method:
    """The trained model of a run, in eval mode, rebuilt from config.json and model.safetensors. No pickle is read.

    `include` names the files that define models of your own. Raises FlexbenchError if the run is not trained.
    """
    from .checkpoint import import_weights
    from .errors import FlexbenchError
    from .job import Job
    from .registry import Registry

    job = Job.open(Path(run_dir))
    if not job.trained:
        raise FlexbenchError(f"'{run_dir}' is not trained yet. Go on with the same 'flexbench run' command.")
    method = job.config.build(Registry.load(include).get(job.config.model))
    return import_weights(method, job.folder / "model.safetensors").to(device)


def evaluate(source: Method | str | Path, dataset: str, space: str | None = None, images: int = 10_000,
             seed: int = 0, data_dir: str | Path | None = None, image_size: int | None = None,
             inception_weights: str | None = None, device: str = "cpu") -> dict[str, float]:  # fmt: skip
    """Score a model, or any folder of images, against a dataset. Returns {metric name: value}.

    A model is asked for `images` samples and reconstructions; a folder's images (all of them, at most `images`) are
    taken as generated ones, and cropped and resized to the dataset's size if they differ.
    """
    from .data import open_dataset
    from .evaluation.evaluator import References, score_generated, score_method
    from .evaluation.features import feature_space
    from .evaluation.folder import read_images
    from .evaluation.metrics import DEFAULT_SPACE

    data = open_dataset(dataset, data_dir and Path(data_dir), image_size)
    features = feature_space(space or DEFAULT_SPACE, inception_weights, device)
    if not isinstance(source, (str, Path)):
        return {s.metric: s.value for s in score_method(source, References(data, images, features), seed)}
    pictures = read_images(Path(source), data.channels, data.size, images)
    references = References(data, len(pictures), features)
    scores = [*score_generated(pictures[: references.n], references), *references.floor()]
    return {s.metric: s.value for s in scores}


def table(number: int = 1, out: str | Path = "results", **options: Any) -> pd.DataFrame:
    """One of the paper's tables (1, 2 or 4) from what is on disk under `out`. Options as of `reporting.tables.make`."""
    from .reporting.collect import results
    from .reporting.tables import make

    return make(results(Path(out)), number, **options).frame
