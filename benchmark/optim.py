"""Optimizer specs, and the handle through which a method steps its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .core.errors import DivergedError


@dataclass(frozen=True)
class OptimizerSpec:
    """One Adam optimizer of a method: its parameters, learning rate and betas. Sets of parameters may overlap."""

    parameters: Sequence[nn.Parameter]
    lr: float = 2e-4  # learning rate before the common factor of the preset
    betas: tuple[float, float] = (0.9, 0.999)

    def build(self, lr_factor: float) -> torch.optim.Optimizer:
        """Return the torch optimizer with its learning rate multiplied by `lr_factor`."""
        first, second = self.betas
        betas = (float(first), float(second))
        return torch.optim.Adam(self.parameters, lr=self.lr * lr_factor, betas=betas, fused=True)


def adam(
    *parts: nn.Module | nn.Parameter, lr: float = OptimizerSpec.lr, betas: tuple[float, float] = OptimizerSpec.betas
) -> OptimizerSpec:
    """Return an Adam over the trainable parameters of the given modules, or over bare parameters."""
    return OptimizerSpec(tuple(parameters_of(parts)), lr, betas)


def parameters_of(parts: Iterable[nn.Module | nn.Parameter]) -> Iterator[nn.Parameter]:
    """Yield all trainable parameters of modules, and bare parameters, in order."""
    for part in parts:
        if isinstance(part, nn.Parameter):
            yield part
        else:
            yield from (p for p in part.parameters() if p.requires_grad)


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether every value is finite. It costs one reduction on the device and one device sync."""
    return bool(torch.stack([t.detach().isfinite().all() for t in tensors]).all())


class Optimizers:
    """`Method.update` calls this object to step its optimizers. No other code reads or writes gradients.

    `minimise` clears, computes and steps the gradients of the named optimizers' parameters only. So two optimizers may
    share parameters. A network that is not stepped passes gradients through, and its own `.grad` is not written.
    `steps` counts the steps of each optimizer.
    """

    def __init__(self, specs: Mapping[str, OptimizerSpec], lr_factor: float = 1.0):
        self._specs = dict(specs)
        self._torch = {name: spec.build(lr_factor) for name, spec in specs.items()}
        self._base_lr = {name: [g["lr"] for g in o.param_groups] for name, o in self._torch.items()}
        self._first_bad: dict[str, Tensor] = {}
        self._outer_step = 0
        self.steps = dict.fromkeys(specs, 0)

    def minimise(self, names: str | Sequence[str], loss: Tensor) -> None:
        """Do one step of each named optimizer on the gradient of one scalar `loss`.

        With several names, all gradients are computed before any optimizer steps.
        """
        names = (names,) if isinstance(names, str) else tuple(names)
        self._watch("+".join(names), loss)
        parameters = list(dict.fromkeys(p for name in names for p in self._specs[name].parameters))
        for p in parameters:
            p.grad = None
        loss.backward(inputs=parameters)
        for name in names:
            self._torch[name].step()
            self.steps[name] += 1

    def scale_lr(self, name: str, factor: float) -> None:
        """Set the learning rate of an optimizer to `factor` times its initial value.

        Compute `factor` from the step number. Then a resumed run sets the right rate without saved state.
        """
        for group, lr in zip(self._torch[name].param_groups, self._base_lr[name], strict=True):
            group["lr"] = lr * factor

    def begin_step(self, step: int) -> None:
        """Set the number of the outer step, which the message of `check_finite` names."""
        self._outer_step = step

    def check_finite(self, phase: str) -> None:
        """Raise DivergedError for the first loss that was not finite, or for a parameter that is not (device sync)."""
        bad = {name: int(step) for name, step in self._first_bad.items() if int(step) >= 0}
        if bad:
            name = min(bad, key=bad.__getitem__)
            raise DivergedError(phase, bad[name], name)
        for name, spec in self._specs.items():
            if not all_finite(spec.parameters):
                raise DivergedError(phase, self._outer_step, name, "a parameter of optimizer")

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs: the states of the torch optimizers and the step counts."""
        return {"torch": {name: o.state_dict() for name, o in self._torch.items()}, "steps": dict(self.steps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`; the set of optimizers must be the same."""
        for name, optimizer in self._torch.items():
            optimizer.load_state_dict(state["torch"][name])
        self.steps = dict(state["steps"])

    def _watch(self, name: str, loss: Tensor) -> None:
        """Record the first step at which a loss is not finite. It is kept on the device, so no step needs a sync."""
        seen = self._first_bad.setdefault(name, torch.full((), -1, device=loss.device))
        self._first_bad[name] = torch.where((seen < 0) & ~torch.isfinite(loss.detach()), self._outer_step, seen)
