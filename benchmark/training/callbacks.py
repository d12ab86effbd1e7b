"""What a run tells while it trains, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..method import Method

Accounts = list[dict[str, Any]]  # what each phase cost, see training.json


@dataclass(frozen=True)
class Callbacks:
    """What a run tells while it trains, and when. None of this changes results."""

    checkpoint_seconds: float = 60.0  # longest time between checkpoints
    checkpoint_steps: int | None = None  # steps between checkpoints, beside the time
    log_every: int = 50  # steps per row of train.jsonl
    report: Callable[[dict[str, Any]], None] = lambda row: None  # gets each row as it is written
    stop: Callable[[], bool] = lambda: False  # asked after every step; True: save a checkpoint and raise Interrupted
    score_every: int | None = None  # steps between snapshots in the last phase of training
    snapshot: Callable[[Method, int, Accounts], None] = lambda method, step, accounts: None  # see `take_snapshot`
