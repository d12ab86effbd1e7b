"""Measure how much almost black pixels add to the distance between samples and test images.

\b
    python results/mnist-cpu/haze.py RUN... --data-dir DIR

RUN is the folder of a run on MNIST that holds the weights. For each run, the script compares 3,000 samples with the
10,000 test images in the default feature space. It does so twice: with the samples as they are, and with all values
below 13 of 255 set to 0. It also prints the ratio of values from 1 to 12. People cannot see these values. But the
background of a real digit is exactly 0, and the feature network sees the difference.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

import flexbench
from benchmark.data import open_dataset
from benchmark.evaluation.evaluator import generate
from benchmark.evaluation.features import feature_space
from benchmark.evaluation.references import ImageSet
from benchmark.evaluation.scores.frechet import frechet_distance, gaussian
from benchmark.metrics import DEFAULT_SPACE

DARK = 13  # values from 1 to 12 of 255 are almost black


@click.command(help=__doc__)
@click.argument("runs", nargs=-1, required=True)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the raw files of MNIST.")
def main(runs: tuple[str, ...], data_dir: Path | None) -> None:
    """Print one row of a Markdown table for the test images and for each run."""
    space, test = feature_space(DEFAULT_SPACE), open_dataset("mnist", data_dir).test
    real = test.take(np.arange(len(test)))
    target = gaussian(ImageSet(real, space))
    print("| run | values from 1 to 12 | distance | with these set to 0 |\n|---|---:|---:|---:|")
    print(f"| test images | {dark_ratio(real):.3f} | - | - |", flush=True)
    for run in runs:
        samples = generate(flexbench.load(run), 3000, seed=0)
        images = samples, np.where(samples < DARK, 0, samples)
        plain, cleaned = (frechet_distance(gaussian(ImageSet(part, space)), target) for part in images)
        name = "/".join(Path(run).parts[-2:])
        print(f"| {name} | {dark_ratio(samples):.3f} | {plain:.1f} | {cleaned:.1f} |", flush=True)


def dark_ratio(images: np.ndarray) -> float:
    """Return the ratio of values that are above 0 and below DARK."""
    return float(((images > 0) & (images < DARK)).mean())


if __name__ == "__main__":
    main()
