"""Train one job: phases, precision, EMA, logs, checkpoints, resume. Read it from `train` downwards."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DivergedError, FlexbenchError, Interrupted
from ..core.files import append_jsonl, atomic_write, read_jsonl, write_json
from ..core.seeding import derive, seed_everything
from ..data.batches import Batches, CachedRows, Rows, in_order, map_rows
from ..jobs.config import JobConfig
from ..method import Fit, Method, Train
from ..networks import count_parameters
from ..optim import Optimizers, all_finite
from .callbacks import Accounts, Callbacks
from .checkpoint import export_weights, load_checkpoint, save_checkpoint
from .clock import Clock
from .ema import EMA
from .flops import FlopTally

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """What all phases of a job share."""

    config: JobConfig
    method: Method
    rows: Rows  # the training images
    folder: Path
    device: torch.device
    callbacks: Callbacks

    def seed(self, *purpose: str | int) -> None:
        """Seed every global generator for one purpose of this run."""
        seed_everything(derive(self.config.seed, *purpose))

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context of bf16 autocast if the run asks for it, else one that does nothing.

        The cache of cast weights is off: an update takes optimizer steps within the block and must see its new weights.
        """
        if self.config.train.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False)
        return contextlib.nullcontext()


@dataclass
class PhaseProgress:
    """The position of a run. Together with the weights it is the whole state, since the step determines every draw."""

    phase: str  # the current phase
    step: int = 0  # steps done in it
    drawn: int = 0  # batches drawn in it
    seconds: float = 0.0  # wall time spent in it, summed over interruptions
    inputs: str = ""  # hash of the phase's own inputs; empty where it trains on the images
    sums: dict[str, Tensor] = field(default_factory=dict)  # losses since the last row of the log
    counts: dict[str, int] = field(default_factory=dict)  # steps behind each of the sums
    accounts: Accounts = field(default_factory=list)  # one per finished phase


def train(
    config: JobConfig, method_class: type[Method], rows: Rows, folder: Path, device: torch.device,
    callbacks: Callbacks | None = None,
) -> Method:  # fmt: skip
    """Train a job, or resume it, and write `model.safetensors` and `training.json` to its folder.

    An interrupted run resumes from its newest intact checkpoint. On the same machine it ends with the same weights, bit
    for bit.

    Args:
        rows: the training images.

    Raises DivergedError if a loss or a weight is not finite, Interrupted if `callbacks.stop` returns True, and
    FlexbenchError if the folder holds the state of another model.
    """
    seed_everything(derive(config.seed, "weights"))
    method = config.build(method_class).to(device)
    run = TrainingRun(config, method, rows, folder, device, callbacks or Callbacks())
    phases = method.phases(config.budget)
    names = check_names([phase.name for phase in phases])

    progress, state = restore(run, names)
    truncate_log(folder / "train.jsonl", progress)
    for number, phase in enumerate(phases[names.index(progress.phase) :], names.index(progress.phase) + 1):
        later = phases[number:]
        account = run_fit(run, phase) if isinstance(phase, Fit) else run_train(run, phase, progress, state, later)
        accounts = [*progress.accounts, {"name": phase.name, **account}]
        state = None
        if phase is not phases[-1]:
            progress = PhaseProgress(names[len(accounts)], accounts=accounts)
            save(run, progress)

    method.eval()
    export_weights(method, folder / "model.safetensors")
    write_json(folder / "training.json", {"parameters": count_parameters(method), "phases": accounts})
    return method


def run_fit(run: TrainingRun, phase: Fit) -> dict[str, Any]:
    """Run a closed-form fit on all training images, in eval mode, and return its cost."""
    started = time.perf_counter()
    run.seed("fit", phase.name)
    run.method.eval()
    with torch.no_grad():
        phase.fit(in_order(run.rows, run.device))
    return {"images": len(run.rows), "seconds": time.perf_counter() - started}


def run_train(
    run: TrainingRun,
    phase: Train,
    progress: PhaseProgress,
    state: Mapping[str, Any] | None,
    later: Sequence[Train | Fit] = (),
) -> dict[str, Any]:
    """Run the training loop of one phase and return its cost.

    Args:
        state: content of the checkpoint within this phase from which the run resumes; None: the phase begins.
        later: the phases that follow. Snapshots are taken if all of them are fits.
    """
    config, method, callbacks = run.config, run.method, run.callbacks
    rows = phase_rows(run, phase)
    method.train()
    opt = Optimizers(phase.optimizers(), config.train.lr_factor)
    batches = Batches(rows, config.train.batch_size, config.seed, phase.name, run.device, progress.drawn)
    ema = EMA(method)
    inputs = inputs_hash(rows)
    if state:
        check_inputs(phase, inputs, progress)
        opt.load_state_dict(state["optimizers"])
        ema.restore(state.get("ema", state.get("average")))
    progress.inputs = inputs
    flops = flops_of_one_step(run, phase, rows)
    clock = Clock(progress.seconds, callbacks.schedule)
    every = callbacks.schedule.score_every if all(isinstance(p, Fit) for p in later) else None

    while progress.step < phase.steps:
        run.seed("noise", phase.name, progress.step)
        opt.begin_step(progress.step)
        with run.autocast():
            losses = phase.update(batches, opt, progress.step)
        ema.update(method, progress.step + 1)
        add_up(progress, losses)
        progress.step += 1
        progress.drawn, progress.seconds = batches.drawn, clock.seconds()

        if progress.step % callbacks.log_every == 0 or progress.step == phase.steps:
            check_finite(run, progress, opt)
            callbacks.report(write_row(run, phase, progress))
        if every and progress.step % every == 0 and progress.step < phase.steps:
            check_finite(run, progress, opt)
            with clock.paused():
                take_snapshot(run, progress, ema, cost(progress, batches.size, opt, flops))
        stopping = callbacks.stop()
        if stopping or clock.checkpoint_due(progress.step):
            check_finite(run, progress, opt)
            with clock.saving():
                save(run, progress, opt, ema)
        if stopping:
            raise Interrupted(f"stopped at step {progress.step} of phase '{phase.name}'")

    ema.apply(method)
    return cost(progress, batches.size, opt, flops)


def cost(progress: PhaseProgress, batch_size: int, opt: Optimizers, flops: int) -> dict[str, Any]:
    """Return the cost of a phase of training so far."""
    return {"steps": progress.step, "images": progress.drawn * batch_size, "optimizer_steps": dict(opt.steps),
            "flops_per_step": flops, "seconds": progress.seconds}  # fmt: skip


def take_snapshot(run: TrainingRun, progress: PhaseProgress, ema: EMA, account: dict[str, Any]) -> None:
    """Give `callbacks.snapshot` the model as it would be if training ended now: with its EMA and the later fits.

    The callback gets a copy in eval mode, the step, and the cost of all phases. The run itself does not change, since
    the step determines its random draws. An error here only gives a warning, because an early model may be
    unable to make images.
    """
    try:
        show_copy(run, progress, ema, account)
    except Exception as error:
        log.warning("no snapshot at step %d, the run goes on: %s: %s", progress.step, type(error).__name__, error)


def show_copy(run: TrainingRun, progress: PhaseProgress, ema: EMA, account: dict[str, Any]) -> None:
    """Do the work of `take_snapshot`; raises any error of the model or the callback."""
    twin = run.config.build(type(run.method)).to(run.device)
    twin.load_state_dict(ema.weights or run.method.state_dict())
    accounts = [*progress.accounts, {"name": progress.phase, **account}]
    phases = twin.phases(run.config.budget)
    fits = [phase for phase in phases[len(accounts) :] if isinstance(phase, Fit)]  # snapshots are of the last training
    for fit in fits:
        accounts.append({"name": fit.name, **run_fit(replace(run, method=twin), fit)})
    run.callbacks.snapshot(twin.eval(), progress.step, accounts)


def check_names(names: list[str]) -> list[str]:
    """Check that no two phases share a name, since a resumed run finds its phase by name."""
    if len(set(names)) < len(names):
        raise FlexbenchError(f"two phases of a model have the same name: {', '.join(names)}.")
    return names


def phase_rows(run: TrainingRun, phase: Train) -> Rows:
    """Return the rows that the phase draws batches from: the images, or inputs that are computed from them once."""
    if phase.inputs is None:
        return run.rows
    run.seed("inputs", phase.name)
    run.method.eval()
    return map_rows(run.rows, phase.inputs, run.device)


def flops_of_one_step(run: TrainingRun, phase: Train, rows: Rows) -> int:
    """Count the forward and backward FLOPs of one update, on a copy of the method, so that the run does not change."""
    twin = copy.deepcopy(run.method)
    phases = [p for p in twin.phases(run.config.budget) if isinstance(p, Train) and p.name == phase.name]
    (trial,) = phases
    run.seed("flops")
    opt = Optimizers(trial.optimizers())
    batches = Batches(rows, run.config.train.batch_size, run.config.seed, "flops", run.device)
    with FlopTally() as tally, run.autocast():
        trial.update(batches, opt, 0)
    return tally.total


def add_up(progress: PhaseProgress, losses: Mapping[str, Tensor]) -> None:
    """Add a step's scalars to the running sums, on the device."""
    for name, value in losses.items():
        value = torch.as_tensor(value).detach().double()
        progress.sums[name] = progress.sums[name] + value if name in progress.sums else value
        progress.counts[name] = progress.counts.get(name, 0) + 1


def write_row(run: TrainingRun, phase: Train, progress: PhaseProgress) -> dict[str, Any]:
    """Append the mean losses since the last row to train.jsonl, and start new sums."""
    row = {"phase": phase.name, "step": progress.step, "of": phase.steps,
           "images": progress.drawn * run.config.train.batch_size, "seconds": round(progress.seconds, 3)}  # fmt: skip
    means = {name: float(total) / progress.counts[name] for name, total in progress.sums.items()}
    row |= {f"loss/{name}": mean if math.isfinite(mean) else None for name, mean in means.items()}
    append_jsonl(run.folder / "train.jsonl", [row])
    progress.sums, progress.counts = {}, {}
    return row


def check_finite(run: TrainingRun, progress: PhaseProgress, opt: Optimizers) -> None:
    """Raise DivergedError if a loss, a weight or a buffer is not finite. This is called before anything is saved."""
    opt.check_finite(progress.phase)
    for name, buffer in run.method.named_buffers():
        if buffer.is_floating_point() and not all_finite([buffer]):
            raise DivergedError(progress.phase, progress.step - 1, name, "buffer")


def inputs_hash(rows: Rows) -> str:
    """Return the hash of a phase's own inputs. It is empty for the images, which the dataset's hash covers."""
    return rows.digest() if isinstance(rows, CachedRows) else ""


def check_inputs(phase: Train, inputs: str, progress: PhaseProgress) -> None:
    """Raise FlexbenchError if the hash of the phase's inputs differs from the one in the checkpoint."""
    if inputs != progress.inputs:
        raise FlexbenchError(
            f"phase '{phase.name}' cannot resume: its inputs depend on weights that the phase itself trains. "
            "Compute them from networks that it leaves alone, in eval mode."
        )


def save(run: TrainingRun, progress: PhaseProgress, opt: Optimizers | None = None, ema: EMA | None = None) -> None:
    """Write a checkpoint. Without optimizers it marks the start of a phase."""
    state = {
        "progress": vars(progress),
        "method": run.method.state_dict(),
        "optimizers": opt.state_dict() if opt else None,
        "ema": ema.weights if ema else None,
    }
    save_checkpoint(run.folder / "checkpoint", len(progress.accounts), progress.step, state)


def restore(run: TrainingRun, names: list[str]) -> tuple[PhaseProgress, dict[str, Any] | None]:
    """Load the newest checkpoint into the method. Return the run's position, and the state within a phase if any."""
    state = load_checkpoint(run.folder / "checkpoint")
    if state is None:
        return PhaseProgress(phase=names[0]), None
    progress = PhaseProgress(**state["progress"])
    progress.sums = {name: total.to(run.device) for name, total in progress.sums.items()}
    if progress.phase not in names:
        raise FlexbenchError(
            f"the checkpoint in '{run.folder}' stands in phase '{progress.phase}', but this model's phases are: "
            f"{', '.join(names)}. Start anew with --force."
        )
    run.method.load_state_dict(state["method"])
    log.info("resumed at step %d of phase '%s'", progress.step, progress.phase)
    return progress, state if state["optimizers"] else None


def truncate_log(path: Path, progress: PhaseProgress) -> None:
    """Drop the rows of the log that follow the checkpoint from which the run resumes: they are written again."""
    finished = {account["name"] for account in progress.accounts}
    kept = [
        row
        for row in read_jsonl(path)
        if row["phase"] in finished or (row["phase"] == progress.phase and row["step"] <= progress.step)
    ]
    if path.exists():
        atomic_write(path, "".join(json.dumps(row) + "\n" for row in kept))
