"""The callbacks of the training loop, and the schedule of checkpoints and scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..core.options import option

if TYPE_CHECKING:
    from ..method import Method

Accounts = list[dict[str, Any]]  # what each phase cost, see training.json


@dataclass(frozen=True)
class Schedule:
    """When a run saves its state and scores itself. No value changes the trained model."""

    checkpoint_seconds: float = option(
        60.0,
        "Time between checkpoints, in seconds. It grows if saving takes more than a twentieth of it.",
        least=0,
    )
    checkpoint_steps: int | None = option(
        None, "Also save a checkpoint every N steps, in addition to --checkpoint-seconds.", least=1, metavar="N"
    )
    score_every: int | None = option(
        None,
        "Also score the Frechet distances and the prior mismatch every N steps of the last training phase, for curves "
        "and 'table --select'.",
        least=1,
        metavar="N",
    )


def _no_snapshot(method: Method, step: int, accounts: Accounts) -> None:
    """Ignore the snapshot."""


@dataclass(frozen=True)
class Callbacks:
    """Functions that the training loop calls. None of them changes results."""

    schedule: Schedule = field(default_factory=Schedule)
    log_every: int = 50  # steps per row of train.jsonl
    report: Callable[[dict[str, Any]], None] = lambda row: None  # gets each row of train.jsonl as it is written
    stop: Callable[[], bool] = lambda: False  # asked after every step; True: save a checkpoint and raise Interrupted
    snapshot: Callable[[Method, int, Accounts], None] = _no_snapshot  # gets the model as `loop.take_snapshot` makes it
