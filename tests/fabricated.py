"""Jobs that never ran: folders with the files that reading needs."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

from benchmark.evaluation.images import save_grid

FAMILIES = ("rec_fd", "gen_fd", "real_fd", "gen_precision_f1_8", "gen_recall_f8", "pms_gen_tr", "pms_gen_te")
TRAIN = {"steps": 3000, "batch_size": 64, "width": 0.25, "lr_factor": 5.0, "precision": "fp32"}


def jobs(out: Path, count: int, model: str = "vae", title: str = "VAE") -> None:
    """`count` finished jobs of one model on MNIST, one per seed; the scores of seed s are 5 + s / 1000."""
    data = {"name": "mnist", "channels": 1, "size": 28}
    for seed in range(count):
        name = f"32-s{seed}-{seed:08x}"
        folder = out / "runs" / "mnist" / model / name
        folder.mkdir(parents=True)
        config = {"model": model, "dataset": "mnist", "data": data, "latent_dim": 32, "seed": seed, "train": TRAIN,
                  "method": {}, "preset": "cpu"}  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        shared = {"protocol": 1, "model": model, "title": title, "dataset": "mnist", "latent_dim": 32, "seed": seed,
                  "preset": "cpu", "settings": "", "hash": f"{seed:08x}", "variant": model, "checkpoint": "last",
                  "step": 3000, "value": 5 + seed / 1000, "n_images": 10_000, "space": "pixels", "git": "0" * 40,
                  "parameters": 1000, "images_seen": 192_000, "optimizer_steps": 3000, "train_flops": 1e12,
                  "train_seconds": 60.0}  # fmt: skip
        rows = [{**shared, "family": family, "metric": family} for family in FAMILIES]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


SPACE = "efficientnet_lite0@128"
HOSTILE = "<img src=x onerror=alert(1)>"  # a text that must stay one wherever it is shown


def run(
    out: Path, model: str, seed: int = 0, dataset: str = "mnist", title: str = "", settings: str = "",
    scores: dict[str, float] | None = None, failed: str = "", size: int = 28, **more,
) -> Path:  # fmt: skip
    """One job with all the files that a run leaves but its weights; without `scores` it has none and no pictures.

    `more` goes into the result rows. Returns its folder.
    """
    digest = f"{zlib.crc32(f'{model}{dataset}{seed}{settings}'.encode()):08x}"
    here = out / "runs" / dataset / model / f"32-s{seed}-{digest}"
    here.mkdir(parents=True)
    config = {"model": model, "dataset": dataset, "data": {"name": dataset, "channels": 1, "size": size},
              "latent_dim": 32, "seed": seed, "train": TRAIN, "method": {"latent_dim": 32, "width": 0.25, "beta": 1.0},
              "preset": "cpu"}  # fmt: skip
    session = {"git": "0123456789abcdef", "versions": {"torch": "2.14.1"}, "processor": "a processor",
               "device": "cpu", "threads": 1}  # fmt: skip
    write(here / "config.json", config)
    write(here / "provenance.json", {"sessions": [session]})
    if failed:
        write(here / "failed", {"reason": failed})
    if scores is None:
        return here
    shared = {"protocol": 1, "model": model, "title": title or model.upper(), "dataset": dataset, "latent_dim": 32,
              "seed": seed, "preset": "cpu", "settings": settings, "hash": digest, "checkpoint": "last", "step": 3000,
              "variant": f"{model}{dataset}{settings}", "n_images": 10_000, "space": SPACE, "git": "0123456789abcdef",
              "parameters": 1000 + seed, "images_seen": 192_000, "optimizer_steps": 3000, "train_flops": 1e12,
              "train_seconds": 60.0, **more}  # fmt: skip
    rows = [{**shared, "family": f, "metric": f"{f}@{shared['space']}", "value": v} for f, v in scores.items()]
    (here / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    losses = [{"phase": "main", "step": s, "of": 3000, "images": 64 * s, "seconds": s / 50, "loss/total": 1 / s,
               "loss/reconstruction": 0.5 / s} for s in (30, 3000)]  # fmt: skip
    (here / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in losses))
    write(here / "diagnostics.json", {"rms_code": 1.25, "active_dims": 32.0, "prior_mismatch": 0.05 + seed / 100})
    write(here / "done", {"evaluations": ["x"]})
    for place, name in enumerate(("samples.png", "reconstructions.png")):
        picture(here / name, size, int(digest, 16) + place)
    return here


def write(path: Path, value: object) -> None:
    """A JSON file."""
    path.write_text(json.dumps(value))


def picture(path: Path, size: int, number: int) -> None:
    """A grid of 8 x 8 images of noise, as runs draw them."""
    pixels = np.random.default_rng(number).integers(0, 256, (64, 1, size, size), dtype=np.uint8)
    save_grid(pixels, path, columns=8)


def site(out: Path) -> Path:
    """Two datasets, four models with up to two seeds, one of them with a hostile title; a try, failures, an unfinished
    run, missing scores. Returns `out`."""
    good = {"real_fd": 2.5, "real_precision_f1_8": 0.99, "real_recall_f8": 0.99}
    for seed, shift in ((0, 0.0), (1, 3.0)):
        one = {"rec_fd": 50 + shift, "gen_fd": 90 + shift, "gen_precision_f1_8": 0.6, "gen_recall_f8": 0.7}
        other = {"rec_fd": 40.5 + shift / 9, "gen_fd": 70.25 + shift, "gen_precision_f1_8": 0.9, "gen_recall_f8": 0.95}
        run(out, "vae", seed, title="VAE", scores={**one, "pms_gen_tr": 4.0, "pms_gen_te": 4.1, **good})
        run(out, "flexae", seed, title="FlexAE", scores={**other, "pms_gen_tr": 4.5, "pms_gen_te": 4.4, **good})
    run(out, "flexae", dataset="digits", title="FlexAE", size=8, scores={"rec_fd": 300, "gen_fd": 400, "real_fd": 36.0})
    run(out, "mine", title=HOSTILE, settings=f"name={HOSTILE}", scores={"gen_fd": 1234.5, "real_fd": 2.5})
    run(out, "vae", dataset="digits", title="VAE", size=8, scores={"rec_fd": 310, "gen_fd": 390, "real_fd": 36.0})
    run(out, "wae-gan", title="WAE-GAN", settings="reg_scale=0.05", scores={"rec_fd": 60, "gen_fd": 100, **good})
    run(out, "wae-gan", title="WAE-GAN", settings="reg_scale=5.0", scores={"gen_fd_val": 110})
    run(out, "wae-gan", 1, failed=f"loss 'total' is not finite {HOSTILE}")
    run(out, "flexae", 2)
    return out
