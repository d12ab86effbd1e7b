"""How much of the distance between samples and test images comes from pixels that are just not black?

    python results/mnist-cpu/haze.py RUN... --data-dir DIR

RUN is the folder of a run on MNIST with its weights. For each, 3,000 samples are compared with the 10,000 test images
in the default feature space, as they are and with all values below 13 of 255 set to 0, beside the share of such values
above 0. Nobody sees them, but the background of real digits is exactly 0, and the network sees the difference.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

import benchmark
from benchmark.data import open_dataset
from benchmark.evaluation.evaluator import generate
from benchmark.evaluation.features import feature_space
from benchmark.evaluation.references import ImageSet
from benchmark.evaluation.scores.frechet import frechet_distance, gaussian
from benchmark.metrics import DEFAULT_SPACE

DARK = 13


@click.command(help=__doc__)
@click.argument("runs", nargs=-1, required=True)
@click.option("--data-dir", type=click.Path(path_type=Path))
def main(runs: tuple[str, ...], data_dir: Path | None) -> None:
    space, test = feature_space(DEFAULT_SPACE), open_dataset("mnist", data_dir).test
    real = test.take(np.arange(len(test)))
    target = gaussian(ImageSet(real, space))
    print("| run | values from 1 to 12 | distance | with these set to 0 |\n|---|---:|---:|---:|")
    print(f"| test images | {dark_share(real):.3f} | - | - |", flush=True)
    for run in runs:
        samples = generate(benchmark.load(run), 3000, seed=0)
        images = samples, np.where(samples < DARK, 0, samples)
        plain, cleaned = (frechet_distance(gaussian(ImageSet(part, space)), target) for part in images)
        name = "/".join(Path(run).parts[-2:])
        print(f"| {name} | {dark_share(samples):.3f} | {plain:.1f} | {cleaned:.1f} |", flush=True)


def dark_share(images: np.ndarray) -> float:
    """Share of values that are above 0 and below DARK."""
    return float(((images > 0) & (images < DARK)).mean())


if __name__ == "__main__":
    main()
