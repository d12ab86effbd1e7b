"""The `flexbench` command: parse, call, print. No logic."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmark.command_options import (
    CHECKPOINT,
    DATA_DIR,
    DEVICE,
    DOWNLOAD,
    GRID,
    IMAGE_SIZE,
    INCLUDE,
    OUT,
    ROOTS,
    SPACE,
    WHICH,
)  # fmt: skip
from benchmark.core.errors import FlexbenchError, unknown
from benchmark.reporting.figures import FIGURES, FORMATS
from benchmark.running.options import RunOptions

TABLES = ("1", "2", "3", "4", "5", "cost")
STYLES = ("md", "csv", "latex", "html")


class Refusal(click.ClickException):
    """A mistake of the user or of the surroundings."""

    exit_code = 2


class Main(click.Group):
    """Shows a FlexbenchError as one line, with exit code 2, and a warning without its source line."""

    def invoke(self, ctx: click.Context) -> Any:
        warnings.showwarning = lambda message, *rest, **more: click.echo(f"Warning: {message}", err=True)
        try:
            return super().invoke(ctx)
        except FlexbenchError as error:
            raise Refusal(str(error)) from error


def split_choices(text: str, valid: Sequence[str], kind: str) -> list[str]:
    """'md,csv' -> ['md', 'csv'], each of them one of `valid`."""
    found = list(dict.fromkeys(filter(None, (word.strip() for word in text.split(",")))))
    for word in found or [text]:
        if word not in valid:
            raise unknown(kind, word, valid)
    return found


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="flexbench")
def main() -> None:
    """Train, score and tabulate generative auto-encoders on equal terms.

    \b
    flexbench run --models all --datasets digits --preset smoke
    flexbench table
    """


@main.command()
@GRID
def run(dry_run: bool, **options: Any) -> None:
    """Train and score every model on every dataset, latent size and seed.

    Finished jobs are not done again. The same command skips them and resumes the others.

    \b
    flexbench run --models all --datasets digits --preset smoke
    flexbench run --models vae,"flexae*" --datasets mnist --seeds 0-2 -n
    """
    from benchmark.running.runner import expand, run_jobs

    chosen = run_options(**options)
    jobs, datasets = expand(chosen)
    show_jobs(jobs, chosen)
    if dry_run:
        return
    states = [outcome.state for outcome in run_jobs(jobs, datasets, chosen)]
    click.echo(f"{len(states)} jobs: " + ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states)))
    click.echo(f"Results: {chosen.out / 'results.csv'}. Next: flexbench table --out {chosen.out}")
    sys.exit(exit_code(states))


@main.command()
@GRID
def tune(dry_run: bool, **options: Any) -> None:
    """Train each model with three values of its open setting, and choose one by the validation images.

    The value is chosen whose samples are nearest to the validation images.

    Models without an open setting are left out. No test image is scored. The choices are written to
    tuned-DATASET-PRESET-mSIZE.yml under --out. A trial is an ordinary run. A later
    'flexbench run --config FILE' does not train it again; it only scores it on test images. A value is chosen only
    when all three have been scored or have failed.

    \b
    flexbench tune --models all --datasets mnist --preset cpu
    flexbench run --models all --datasets mnist --preset cpu --config results/tuned-mnist-cpu-m32.yml
    """
    from benchmark.running import tuning
    from benchmark.running.runner import run_jobs

    trials, datasets, chosen = tuning.make_trials(run_options(**options))
    jobs = [job for trial in trials for job in trial.jobs]
    show_jobs(jobs, chosen)
    if dry_run:
        return
    states = [outcome.state for outcome in run_jobs(jobs, datasets, chosen)]
    choices = tuning.choose(trials, chosen)
    click.echo(tuning.to_markdown(choices))
    for path in tuning.write_settings(choices, chosen):
        click.echo(f"Settings: {path}. Next: flexbench run with --config {path}", err=True)
    sys.exit(exit_code(states))


def run_options(
    pairs: tuple[str, ...], config_file: Path | None, no_tracking: bool, download_inception: bool, **options: Any
) -> RunOptions:
    """Build the run options: parse the settings, and pass every other option to the field of the same name."""
    from benchmark.jobs.config import Overrides

    fetch_inception(download_inception)
    budget = {name: options.pop(name) for name in ("steps", "batch_size", "width", "precision")}
    if no_tracking:
        options["tracking_uri"] = None
    return RunOptions(overrides=Overrides.parse(pairs, config_file, **budget), **options)


def fetch_inception(wanted: bool) -> None:
    """Fetch the Inception weights, if that is wanted, and print where they are."""
    if wanted:
        from benchmark.evaluation.features import download_inception

        click.echo(f"Inception weights: {download_inception()}", err=True)


def show_jobs(jobs: list[Any], options: RunOptions) -> None:
    """Print one line per job: its state, its name, details."""
    from benchmark.core.device import choose_device
    from benchmark.running.runner import plan

    spaces = dict.fromkeys(options.evaluation(job.config.dataset).space for job in jobs)
    click.echo(f"{len(jobs)} jobs under {options.out / 'runs'}, on {choose_device(options.device)}, "
               f"scored in {', '.join(spaces)}:")  # fmt: skip
    for job, state, detail in plan(jobs, options):
        click.echo(f"  {state:<10} {job.label}" + (f": {detail}" if detail else ""))


def exit_code(words: list[str]) -> int:
    """0 all done, 130 interrupted, 2 refused for a mistake of the user's, 1 otherwise."""
    for word, code in (("interrupted", 130), ("failed", 1), ("killed", 1), ("refused", 2)):
        if word in words:
            return code
    return 0


@main.command()
@click.argument("name", metavar="[1|2|3|4|5|cost|all]", type=click.Choice([*TABLES, "all"]), default="all")
@ROOTS
@click.option("--format", "styles", default="md", show_default=True, metavar="STYLE,...",
              help="md, csv, latex or html; several of them are written to files in OUT/tables.")  # fmt: skip
@WHICH
@CHECKPOINT
@click.option(
    "--published",
    is_flag=True,
    help="Print below tables 1 and 2 the rank correlation with the paper's order of the models.",
)
@INCLUDE
def table(
    name: str, roots: tuple[Path, ...], styles: str, rule: str, budget_by: str, published: bool,
    include: tuple[str, ...], **which: Any,
) -> None:  # fmt: skip
    """Make the paper's tables of what has run.

    1: Frechet distances. 2: precision and recall. 3: distances against latent size. 4: memorisation. 5: scores of
    metrics that were added. cost: what training cost.

    \b
    flexbench table
    flexbench table 1 --format latex
    flexbench table all --format md,csv,latex,html
    flexbench table 1 --published
    """
    from benchmark.jobs.results import read_results
    from benchmark.registry import Registry
    from benchmark.reporting import formats, paper
    from benchmark.reporting.runs import check_roots
    from benchmark.reporting.tables import make_several

    Registry.load(include)
    wanted = split_choices(styles, STYLES, "format")
    if published and (wanted != ["md"] or name not in ("1", "2", "all")):
        raise FlexbenchError("--published goes with tables 1 and 2, in Markdown: flexbench table 1 --published.")
    if (budget_by == "flops" or published) and rule != "last":
        raise FlexbenchError(f"--select {rule} goes neither with --published nor with --budget-by flops.")
    if budget_by == "flops" and published:
        raise FlexbenchError("--published compares last checkpoints: it does not go with --budget-by flops.")
    rule = budget_by if budget_by == "flops" else rule
    check_roots(roots)
    frame = read_results(roots)
    tables = make_several(frame, TABLES if name == "all" else [name], rule=rule, **which)
    if len(wanted) > 1:
        for file in formats.write(tables, wanted, roots[0] / "tables"):
            click.echo(file)
    else:
        for number, made in tables.items():
            click.echo(formats.to_text(made, *wanted))
            if published and number in ("1", "2"):
                click.echo(paper.to_markdown(paper.compare(frame, int(number), **which)))
    click.echo(f"All scores: {', '.join(str(root / 'results.csv') for root in roots)}", err=True)


@main.command()
@click.argument("names", nargs=-1, metavar=f"[{'|'.join(FIGURES)}|all]...", type=click.Choice([*FIGURES, "all"]))
@ROOTS
@click.option("--format", "formats", default=",".join(FORMATS), show_default=True, metavar="FORMAT,...",
              help="Formats of the pictures. The data of every picture are also written as CSV.")  # fmt: skip
@click.option("--models", help="Names and globs, comma-separated. Default: all that have results.")
@WHICH
@DATA_DIR
@INCLUDE
@DEVICE
def figure(names: tuple[str, ...], roots: tuple[Path, ...], formats: str, device: str, **options: Any) -> None:
    """Draw figures of what has run into OUT/figures. 'all' (the default) draws every figure that the results allow.

    2: prior and codes in training, on vectors with a known dimension. 3: latent spaces of mixtures (runs the models).
    4: reconstructions and samples. 5: walks in latent space and nearest training images (runs the models, which needs
    their weights and data). dims: scores against latent size. pareto: score against training compute. curves: losses.

    \b
    flexbench figure
    flexbench figure pareto dims --format pdf
    flexbench figure 5 --models "flexae*"
    """
    from benchmark.registry import Registry
    from benchmark.reporting.figures import Query, make, make_several, save

    Registry.load(options["include"])
    wanted = split_choices(formats, FORMATS, "format")
    everything = not names or "all" in names
    query = Query(roots, device=device, **options)
    plots, reasons = make_several(FIGURES, query) if everything else ([p for n in names for p in make(n, query)], {})
    for name, reason in reasons.items():
        click.echo(f"figure {name} is left out: {reason}", err=True)
    for plot in plots:
        for path in save(plot, roots[0] / "figures", wanted):
            click.echo(path)


@main.command()
@ROOTS
@click.option("--to", type=click.Path(path_type=Path), help="The file to write. Default: report.html under --out.")
@WHICH
@INCLUDE
def report(roots: tuple[Path, ...], include: tuple[str, ...], **options: Any) -> None:
    """Write what has run as one HTML page: tables, pictures, diagnostics, origin.

    The page needs no network.

    \b
    flexbench report
    flexbench report --out results/mnist-cpu --to mnist.html
    """
    from benchmark.api import report as write
    from benchmark.registry import Registry

    Registry.load(include)
    path = write(roots, **options)
    click.echo(f"Report: {path} ({path.stat().st_size / 1e6:.1f} MB)")


@main.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--dataset", help="What to score against. Default for a run: its own dataset.")
@click.option("--images", type=int, default=10_000, show_default=True, help="Images of each kind, at most.")
@click.option("--seed", type=int, help="Seed of the samples drawn from a run. Default: the run's own.")
@SPACE
@DOWNLOAD
@DATA_DIR
@IMAGE_SIZE
@INCLUDE
@DEVICE
def evaluate(source: Path, device: str, download_inception: bool, **options: Any) -> None:
    """Score a finished run, or any folder of images from anywhere. Prints one 'metric value' line per score.

    \b
    flexbench evaluate my_samples/ --dataset mnist
    flexbench evaluate results/runs/digits/vae/16-s0-0123abcd --features pixels
    """
    from benchmark.api import evaluate as score
    from benchmark.core.device import choose_device

    fetch_inception(download_inception)
    for name, value in score(source, device=str(choose_device(device)), **options).items():
        click.echo(f"{name}\t{value:.6g}")


@main.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("-n", "count", type=click.IntRange(1), default=64, show_default=True, help="How many images.")
@click.option("--out", type=click.Path(path_type=Path), default="samples.png", show_default=True,
              help="A .png file for a grid, or a folder for one file per image.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@INCLUDE
@DEVICE
def sample(run_dir: Path, count: int, out: Path, seed: int, include: tuple[str, ...], device: str) -> None:
    """Draw images from a trained model.

    \b
    flexbench sample results/runs/digits/vae/16-s0-0123abcd -n 64 --out grid.png
    """
    from benchmark.api import load
    from benchmark.core.device import choose_device, make_deterministic
    from benchmark.evaluation.evaluator import generate
    from benchmark.evaluation.images import save_grid, save_images

    make_deterministic()
    images = generate(load(run_dir, choose_device(device), include), count, seed)
    (save_grid if out.suffix.lower() == ".png" else save_images)(images, out)
    click.echo(f"{count} images: {out}")


@main.command()
@click.argument("what", type=click.Choice(["models", "datasets", "metrics", "features", "presets", "runs"]))
@click.option("-v", "--verbose", is_flag=True,
              help="runs: their diagnostics and last losses. models: the card of each, in Markdown. "
                   "datasets: a note on each.")  # fmt: skip
@ROOTS
@INCLUDE
def ls(what: str, verbose: bool, roots: tuple[Path, ...], include: tuple[str, ...]) -> None:
    """List models, datasets, metrics, feature spaces, presets or runs.

    \b
    flexbench ls models
    flexbench ls runs -v --out results
    """
    from benchmark import listing

    if verbose and what == "runs":
        click.echo(listing.runs_with_diagnostics(roots))
    elif verbose and what == "models":
        from benchmark.reporting.cards import model_cards

        click.echo(model_cards(include), nl=False)
    elif verbose and what == "datasets":
        click.echo(listing.datasets_with_notes(include))
    else:
        click.echo(listing.aligned(getattr(listing, what)(roots if what == "runs" else include)))


@main.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@DATA_DIR
def check(path: Path, data_dir: Path | None) -> None:
    """Check the models, datasets, metrics and feature spaces of a file of your own against their contracts.

    \b
    flexbench check my_model.py
    flexbench check my_dataset.py --data-dir DIR
    """
    from benchmark.conformance import run_checks
    from benchmark.registry import Registry

    problems = 0
    for found in Registry.load([path]).included:
        for result in run_checks(found.noun, found.value, data_dir):
            click.echo(f"{found.name}: {result.fact}: {result.text}")
            problems += result.problem is not None
    sys.exit(1 if problems else 0)


@main.group()
def data() -> None:
    """Datasets on this machine."""


@data.command()
@click.argument("name")
@DATA_DIR
@IMAGE_SIZE
@click.option("--from", "source", type=click.Path(path_type=Path), help="Folder of the raw files, like --data-dir.")
@click.option("--offline", is_flag=True, help="Never download.")
@INCLUDE
def prepare(
    name: str, data_dir: Path | None, image_size: int | None, source: Path | None, offline: bool,
    include: tuple[str, ...],
) -> None:  # fmt: skip
    """Make a dataset ready: find or download its files and write the store that training reads.

    \b
    flexbench data prepare digits
    flexbench data prepare celeba --from /data/celeba_download
    """
    from benchmark.data import open_dataset
    from benchmark.registry import Registry

    Registry.load(include)
    dataset = open_dataset(name, source or data_dir, image_size, download=not offline)
    click.echo(
        f"{dataset.name}: {dataset.info.shape}, {len(dataset.train):,} train, "
        f"{len(dataset.val):,} validation, {len(dataset.test):,} test, content {dataset.content_hash[:12]}"
    )


@main.command()
@OUT
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(out: Path, port: int) -> None:
    """Open MLflow on the runs under --out, on this machine only (127.0.0.1)."""
    from benchmark.running.tracking import server_command, set_environment_defaults

    command = server_command(out, port)
    set_environment_defaults()
    click.echo(f"MLflow: http://127.0.0.1:{port}  (stop with Ctrl-C)")
    sys.stdout.flush()
    os.execv(sys.executable, command)


if __name__ == "__main__":
    main()
