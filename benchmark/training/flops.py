"""Count the floating-point operations of one training step, because equal steps are not equal compute."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopTally(TorchDispatchMode):
    """Adds up the FLOPs of matrix products and convolutions run within the block, backward passes included.

    Uses torch's own formulas. Unlike `FlopCounterMode` it tracks no modules, so that it also works where a loss
    contains `torch.autograd.grad`, as gradient penalties do. Element-wise work is not counted.
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
