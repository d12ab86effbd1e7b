"""The exponential moving average (EMA) of a model's weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from ..method import Method


class EMA:
    """Exponential moving average of the weights, for methods that set `ema_decay`; otherwise it does nothing.

    Buffers, and networks that are not in `ema_modules`, are copied, not ema_modules. The decay is at most
    (1 + t) / (10 + t) after t steps, so that a short run does not keep its first weights. When the phase ends the
    average replaces the weights.
    """

    def __init__(self, method: Method):
        self.decay = method.ema_decay
        self.state = None if self.decay is None else copy.deepcopy(method.state_dict())
        parts = tuple(f"{part}." for part in method.ema_modules) or ("",)
        self._trained = {name for name, _ in method.named_parameters() if name.startswith(parts)}

    @torch.no_grad()
    def update(self, method: Method, step: int) -> None:
        """Move the average toward the weights after `step` steps."""
        decay = min(self.decay or 0.0, (1 + step) / (10 + step))
        for name, value in method.state_dict().items() if self.state else ():
            if name in self._trained:
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)

    def restore(self, state: Mapping[str, Tensor] | None) -> None:
        """Take the average of a checkpoint, on the device of the current one."""
        for name, value in (state or {}).items():
            self.state[name].copy_(value)

    def apply(self, method: Method) -> None:
        """Make the average the method's weights."""
        if self.state:
            method.load_state_dict(self.state)
