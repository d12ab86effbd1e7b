"""Groups of options that several commands of `cli.py` share. Those of runs are made from `RunOptions`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .core.click_options import options_of
from .running.options import RunOptions


def combined(*options: Any) -> Any:
    """Return one decorator that adds several options to a command."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


OUT, DATA_DIR, IMAGE_SIZE, INCLUDE, DEVICE = (
    options_of(RunOptions, [name]) for name in ("out", "data_dir", "image_size", "include", "device")
)
SPACE = options_of(RunOptions, ["space", "inception_weights"])
DOWNLOAD = click.option("--download-inception", is_flag=True,
                        help="Fetch the Inception weights (96 MB, hash-checked) if they are missing.")  # fmt: skip
ROOTS = click.option(
    "--out", "roots", type=click.Path(path_type=Path), multiple=True, default=[Path("results")], show_default=True,
    help="Output root to read. Repeatable: several roots are read together. Files are written to the first.",
)  # fmt: skip
CHECKPOINT = combined(
    click.option("--select", "rule", default="last", show_default=True, metavar="RULE",
                 help="Which checkpoint is shown. last: the final one. best_val: the nearest to the validation images. "
                      "oracle: the nearest to the test images. The last two need runs with --score-every."),
    click.option("--budget-by", type=click.Choice(["steps", "flops"]), default="steps", show_default=True,
                 help="flops: show each model's last scored checkpoint that used no more FLOPs than all of the "
                      "training of the cheapest model."),
)  # fmt: skip
WHICH = combined(
    click.option("--preset", help="Show only results of this preset. Needed if the results have several."),
    click.option("--features", "space", help="Show only results in this feature space. Needed if they have several."),
    click.option("--images", type=int, help="Show only results on so many images. Needed if they have several."),
)
GRID = combined(
    options_of(RunOptions),
    click.option("--steps", type=int, help="Outer steps of every model, instead of the preset's."),
    click.option("--batch-size", type=int, help="Images per batch, instead of the preset's."),
    click.option("--width", type=float, help="Factor on the size of every network, instead of the preset's."),
    click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="bf16: autocast in training only."),
    click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE",
                 help="A setting: train.lr_factor=2, vae.beta=0.5. Repeatable."),
    click.option("--config", "config_file", type=click.Path(path_type=Path),
                 help="YAML file of settings, with sections 'train:' and '<model>:'."),
    DOWNLOAD,
    click.option("--no-tracking", is_flag=True, help="Do not log to MLflow."),
    click.option("-n", "--dry-run", is_flag=True, help="Only print the jobs with their state."),
)  # fmt: skip
