"""The exponential moving average (EMA) of a model's weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from ..method import Method


class EMA:
    """Exponential moving average of the weights, for methods that set `ema_decay`. For the others it does nothing.

    The buffers, and the networks that `ema_modules` leaves out, are copied and not averaged. After t steps the decay is
    at most (1 + t) / (10 + t), so a short run does not keep its first weights. When the phase ends, the average
    replaces the weights.
    """

    def __init__(self, method: Method):
        self.decay = method.ema_decay or 0.0
        self.weights = None if method.ema_decay is None else copy.deepcopy(method.state_dict())
        parts = tuple(f"{part}." for part in method.ema_modules) or ("",)
        self._averaged = {name for name, _ in method.named_parameters() if name.startswith(parts)}

    @torch.no_grad()
    def update(self, method: Method, step: int) -> None:
        """Move the average toward the weights after `step` steps."""
        if self.weights is None:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in method.state_dict().items():
            if name in self._averaged:
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)

    def restore(self, weights: Mapping[str, Tensor] | None) -> None:
        """Take over the average of a checkpoint; the tensors stay on their device."""
        if self.weights is not None and weights is not None:
            for name, value in weights.items():
                self.weights[name].copy_(value)

    def apply(self, method: Method) -> None:
        """Make the average the weights of the method."""
        if self.weights is not None:
            method.load_state_dict(self.weights)
