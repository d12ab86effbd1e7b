"""The contract of a model, checked on a tiny dataset. The tests run these checks on every model of the suite."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..core.errors import Interrupted
from ..core.seeding import seed_everything
from ..data.batches import Batches, in_order, map_rows
from ..evaluation.evaluator import generate, reconstruct
from ..jobs.config import JobConfig, TrainConfig
from ..method import Fit, Method, Train
from ..optim import Optimizers
from ..training.checkpoint import export_weights, import_weights
from ..training.loop import Callbacks, train
from .common import Images, require

CPU = torch.device("cpu")
STEPS = 6


def small_job(method: type[Method], channels: int = 1) -> JobConfig:
    """Return the job of a few steps of a narrow model on `Images`."""
    config = TrainConfig(steps=STEPS, batch_size=16, width=0.0625, lr_factor=1.0)
    data = {"name": "debug", "channels": channels, "size": 8}
    return JobConfig(method.name, "debug", data, 4, 0, config, asdict(method.Config(latent_dim=4, width=config.width)))


def built(method: type[Method], channels: int = 1) -> Method:
    """Return an untrained model with fixed weights."""
    seed_everything(0)
    return small_job(method, channels).build(method)


def trained(method: type[Method], folder: Path, callbacks: Callbacks | None = None) -> Method:
    """Return a model after its whole small job."""
    return train(small_job(method), method, Images(), folder, CPU, callbacks)


def check_describes_itself(method: type[Method], folder: Path) -> None:
    """The class has a name, and a frozen configuration of plain values that survives JSON."""
    config = method.Config()
    require(bool(getattr(method, "name", "")), "the class has no `name`")
    require(vars(type(config))["__dataclass_params__"].frozen, f"{type(config).__name__} is not a frozen dataclass")
    require(asdict(config) == json.loads(json.dumps(asdict(config))), "the configuration does not survive JSON")
    own = {f.name for f in dataclasses.fields(config)}
    require({"latent_dim", "width"} <= own, "the configuration does not extend MethodConfig")


def check_shapes_and_range(method: type[Method], folder: Path) -> None:
    """The methods encode, decode, reconstruct and sample give finite values of the right shape and range.

    They are called with 1 and with 7 images, grey and colour.
    """
    for channels in (1, 3):
        model = built(method, channels).eval()
        for n in (1, 7):
            x = torch.rand(n, channels, 8, 8)
            with torch.no_grad():
                codes = {"encode": model.encode(x), "prior": model.prior(n, torch.Generator())}
                images = {"reconstruct": model.reconstruct(x), "sample": model.sample(n, torch.Generator()),
                          "decode(encode)": model.decode(model.encode(x))}  # fmt: skip
            for name, z in codes.items():
                wanted = (n, model.code_dim)
                require(z.shape == wanted, f"{name} of {n} gives codes {tuple(z.shape)}, not {wanted}")
            for name, y in images.items():
                require(y.shape == x.shape, f"{name} of {n} images gives {tuple(y.shape)}, not {tuple(x.shape)}")
                require(bool(torch.isfinite(y).all()), f"{name} gives values that are not finite")
                require(bool(y.min() >= 0 and y.max() <= 1), f"{name} leaves [0, 1]")


def check_deterministic(method: type[Method], folder: Path) -> None:
    """In eval mode, encode and reconstruct are deterministic, and sample depends only on its generator's seed."""
    model = built(method).eval()
    x = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        for name in ("encode", "reconstruct"):
            function = getattr(model, name)
            require(torch.equal(function(x), function(x)), f"{name} is not deterministic in eval mode")
        a, b, c = (model.sample(5, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    require(torch.equal(a, b), "sample ignores its generator: the same seed gives different images")
    require(not torch.equal(a, c), "sample gives the same images for different seeds")


def check_independent_of_batch(method: type[Method], folder: Path) -> None:
    """In eval mode, the reconstruction of an image does not depend on the other images of the batch."""
    model = built(method).eval()
    x = torch.rand(8, 1, 8, 8)
    with torch.no_grad():
        together, alone = model.reconstruct(x), torch.cat([model.reconstruct(one[None]) for one in x])
    require(torch.allclose(together, alone, atol=1e-5), "reconstruct depends on the other images of the batch")


def check_updates_what_it_owns(method: type[Method], folder: Path) -> None:
    """In every training phase, each optimizer that steps has a gradient for each of its parameters.

    All other parameters stay unchanged.
    """
    model = built(method)
    for phase in model.phases(small_job(method).budget):
        if isinstance(phase, Fit):
            phase.fit(in_order(Images(), CPU))
        else:
            _check_phase(model, phase)


def _check_phase(model: Method, phase: Train) -> None:
    rows = map_rows(Images(), phase.inputs, CPU) if phase.inputs else Images()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model.train()
    specs = phase.optimizers()
    opt = Optimizers(specs)
    batches = Batches(rows, 16, 0, phase.name, CPU)
    for step in range(3):
        seed_everything(step)
        losses = phase.update(batches, opt, step)
        for name, value in losses.items():
            require(value.dim() == 0 and bool(torch.isfinite(value)), f"loss '{name}' is not a finite scalar")
    owned = {p for name, spec in specs.items() if opt.steps[name] for p in spec.parameters}
    require(bool(owned), f"phase '{phase.name}': no optimizer stepped")
    for name, p in model.named_parameters():
        where = f"phase '{phase.name}': parameter '{name}'"
        if p in owned:
            require(p.grad is not None, f"{where} belongs to an optimizer that stepped, but is in none of its losses")
        else:
            require(torch.equal(before[name], p), f"{where} moved, but not through `opt.minimise`")


def check_resumes(method: type[Method], folder: Path) -> None:
    """A run that is interrupted and resumed ends with the same weights as an uninterrupted one, bit for bit."""
    whole = trained(method, _fresh(folder, "whole")).state_dict()
    total = sum(p.steps for p in built(method).phases(small_job(method).budget) if isinstance(p, Train))
    for cut in {1, total // 2, total - 1}:
        place, steps = _fresh(folder, f"cut{cut}"), itertools.count(1)
        try:
            trained(method, place, Callbacks(stop=functools.partial(_reaches, steps, cut)))
        except Interrupted:
            resumed = trained(method, place).state_dict()
            same = all(torch.equal(whole[name], resumed[name]) for name in whole)
            require(same, f"interrupted after {cut} steps and resumed, the weights differ from an uninterrupted run's")


def check_saves_everything(method: type[Method], folder: Path) -> None:
    """A new model with the weights of the safetensors file samples and reconstructs the same images."""
    model = trained(method, _fresh(folder, "saved"))
    export_weights(model, folder / "model.safetensors")
    seed_everything(123)
    again = import_weights(small_job(method).build(method), folder / "model.safetensors")
    x = Images().images(0, 9)
    require(np.array_equal(generate(model, 9, 5), generate(again, 9, 5)), "a reloaded model samples other images")
    require(np.array_equal(reconstruct(model, x), reconstruct(again, x)), "a reloaded model reconstructs other images")


CHECKS: list[Callable[[type[Method], Path], None]] = [
    check_describes_itself,
    check_shapes_and_range,
    check_deterministic,
    check_independent_of_batch,
    check_updates_what_it_owns,
    check_resumes,
    check_saves_everything,
]


def _fresh(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


def _reaches(steps: Iterator[int], cut: int) -> bool:
    """Count a step, and tell whether it is the one at which a run is cut."""
    return next(steps) == cut
