"""What the user asked to run: one object from the command line to the process of each job."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.device import DEVICES
from ..core.errors import FlexbenchError
from ..core.files import ensure_dir
from ..core.options import check, option, processors
from ..data.info import dataset_info, size_for
from ..evaluation.features.spaces import space_for
from ..jobs.config import Overrides, preset
from ..jobs.job import EvaluationConfig
from ..metrics import DEFAULT_SPACE
from ..training.callbacks import Schedule
from .tracking import default_uri


@dataclass(frozen=True, kw_only=True)
class RunOptions(Schedule):
    """The options of `flexbench run` and `flexbench tune`, and of `flexbench.run`.

    A new option is a field here (or in `Schedule`, where the training loop reads it), with its help and its range,
    and a parameter of `benchmark.api.run`. The command line is made from the fields.
    """

    models: str = option("", "Names and globs, comma-separated, or 'all': vae,\"flexae*\".")
    datasets: str = option("", "Names, comma-separated: mnist,celeba,folder:PATH. See 'flexbench ls datasets'.")
    latent_dims: tuple[int, ...] = option(
        (), "Latent sizes m, one run each: 32,64,128. Default: the dataset's.", flag="--latent-dim", metavar="M,...",
        least=1, most=4096,
    )  # fmt: skip
    seeds: tuple[int, ...] = option((0,), "Seeds, one run each: 0,1,2 or 0-4.", metavar="N,...", least=0)
    preset: str = option("cpu", "The budget: smoke, demo, cpu or paper. See 'flexbench ls presets'.")
    images: int | None = option(None, "Images of each kind to score. Default: the preset's.", least=1)
    space: str = option(
        DEFAULT_SPACE, "Feature space of the scores, see 'flexbench ls features'; 'inception' gives FID.",
        flag="--features", metavar="SPACE",
    )  # fmt: skip
    inception_weights: str | None = option(
        None, "The file inception-2015-12-05.pt, for --features inception.", envvar="FLEXBENCH_INCEPTION",
        metavar="FILE",
    )  # fmt: skip
    out: Path = option(Path("results"), "Output root: runs, results.csv and the MLflow store.")
    data_dir: Path | None = option(
        None, "Folder of the raw dataset files. Default: a folder in your cache.", envvar="FLEXBENCH_DATA_DIR"
    )
    image_size: int | None = option(None, "Side in pixels for folder:PATH datasets. Default: 64.")
    include: tuple[str, ...] = option(
        (), "Python file, or folder of them, with models, datasets, metrics or feature spaces of your own. Repeatable.",
        metavar="FILE_OR_DIR",
    )  # fmt: skip
    device: str = option("auto", "Where torch runs; auto: CUDA where there is one.", choices=DEVICES)
    jobs: int = option(1, "Jobs at once, each in a process of its own.", least=1, most=64)
    threads: int | None = option(
        None, "Threads of each job. Default: the processors divided by --jobs.", least=1, most=processors()
    )
    tracking_uri: str | None = option(
        "local", "MLflow server or store. Default: SQLite under --out.", envvar="MLFLOW_TRACKING_URI"
    )
    suite: str | None = option(None, "Name of the MLflow experiment. Default: the datasets and the preset.")
    force: bool = option(False, "Delete the earlier runs of these jobs and train anew.")
    retry_failed: bool = option(False, "Run failed jobs again, from their last checkpoint.")
    overrides: Overrides = field(default_factory=Overrides)  # settings of models and of the budget
    scores: str = "all"  # or "validation", see `EvaluationConfig`

    def __post_init__(self) -> None:
        given: dict[str, Any] = {"out": Path(self.out), "data_dir": self.data_dir and Path(self.data_dir)}
        given["include"] = tuple(str(Path(path).resolve()) for path in self.include)
        if self.tracking_uri == "local":
            given["tracking_uri"] = default_uri(given["out"])
        for name, value in given.items():
            object.__setattr__(self, name, value)

    def check(self) -> None:
        """Check every value, cheap things first. Raises FlexbenchError for one that is not valid."""
        check(self)
        preset(self.preset)
        self.dataset_names  # noqa: B018  raises where there is none
        ensure_dir(self.out)

    @property
    def dataset_names(self) -> list[str]:
        """Return the names of the datasets. Raises FlexbenchError where none is given."""
        names = list(dict.fromkeys(filter(None, (d.strip() for d in self.datasets.split(",")))))
        if not names:
            raise FlexbenchError("no dataset given. Use --datasets digits, or names from 'flexbench ls datasets'.")
        return names

    def evaluation(self, dataset: str) -> EvaluationConfig:
        """What is scored on a dataset."""
        space = space_for(dataset_info(dataset), self.space)
        return EvaluationConfig(space, self.images or preset(self.preset).images, self.scores)

    def image_size_for(self, dataset: str) -> int | None:
        """The image size that the user gave, for a dataset that takes one."""
        return size_for(dataset, self.image_size)

    @property
    def threads_per_job(self) -> int:
        """Threads of each process.

        The number is stored with the job and used again on resume, because it changes the rounding of sums.
        """
        return self.threads or max(1, processors() // self.jobs)

    @property
    def suite_name(self) -> str:
        """The name of the MLflow experiment."""
        return self.suite or f"{self.datasets} {self.preset}"
