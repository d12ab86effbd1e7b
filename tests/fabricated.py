"""Jobs that never ran: folders with the files that reading needs."""

from __future__ import annotations

import json
from pathlib import Path

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
