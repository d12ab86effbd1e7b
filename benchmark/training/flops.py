"""Count the floating-point operations of a training step: models with equal steps differ in compute."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopTally(TorchDispatchMode):
    """Adds up the FLOPs of the matrix products and convolutions within the block, backward passes included.

    The formulas are torch's own. Unlike `FlopCounterMode` this mode tracks no modules, so it also works for a loss that
    calls `torch.autograd.grad`, as gradient penalties do. Element-wise operations are not counted.
    """

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out
