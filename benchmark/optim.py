"""How parameters move: optimizer specs, and the one handle through which a method may step them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .core.errors import DivergedError


@dataclass(frozen=True)
class OptimizerSpec:
    """One optimizer of a method: which parameters it owns and how it moves them. Sets of parameters may overlap."""

    parameters: Sequence[nn.Parameter]
    lr: float = 2e-4  # learning rate before the preset's common factor
    betas: tuple[float, float] = (0.9, 0.999)  # of Adam
    clip: float | None = None  # largest L2 norm of the gradient; None: no clipping
    kind: type[torch.optim.Optimizer] | None = None  # None: Adam with `betas`; else called with (parameters, lr=...)

    def build(self, lr_factor: float) -> torch.optim.Optimizer:
        """The torch optimizer, its learning rate multiplied by `lr_factor`."""
        lr = self.lr * lr_factor
        if self.kind is not None:
            return self.kind(self.parameters, lr=lr)
        return torch.optim.Adam(self.parameters, lr=lr, betas=tuple(map(float, self.betas)), fused=True)


def adam(*parts: nn.Module | nn.Parameter, **settings: Any) -> OptimizerSpec:
    """Adam over the parameters of the given modules (or bare parameters); `settings` are OptimizerSpec's fields."""
    return OptimizerSpec(tuple(parameters_of(parts)), **settings)


def parameters_of(parts: Iterable[nn.Module | nn.Parameter]) -> Iterator[nn.Parameter]:
    """All trainable parameters of modules, and bare parameters, in order."""
    for part in parts:
        if isinstance(part, nn.Parameter):
            yield part
        else:
            yield from (p for p in part.parameters() if p.requires_grad)


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every value is finite: one reduction on the device, one sync."""
    return bool(torch.stack([t.detach().isfinite().all() for t in tensors]).all())


class Optimizers:
    """The handle that `Method.update` steps through; it alone touches gradients.

    `minimise` clears, computes and steps only the parameters of the named optimizers. So overlapping
    optimizers are right by construction: a frozen network between a loss and the trained one passes
    gradients through and keeps none. `steps` counts the steps of each optimizer.
    """

    def __init__(self, specs: Mapping[str, OptimizerSpec], lr_factor: float = 1.0):
        self._specs = dict(specs)
        self._torch = {name: spec.build(lr_factor) for name, spec in specs.items()}
        self._base_lr = {name: [g["lr"] for g in o.param_groups] for name, o in self._torch.items()}
        self._first_bad: dict[str, Tensor] = {}
        self._clock = 0
        self.steps = dict.fromkeys(specs, 0)

    def minimise(self, names: str | Sequence[str], loss: Tensor) -> None:
        """One step of each named optimizer down the gradient of one scalar `loss`."""
        names = (names,) if isinstance(names, str) else tuple(names)
        self.minimise_jointly([(names, loss)])

    def minimise_jointly(self, pairs: Sequence[tuple[str | Sequence[str], Tensor]]) -> None:
        """Several (names, loss) pairs that share one graph: all gradients first, then all steps.

        Raises ValueError where two pairs would step the same parameter: their gradients would mix.
        """
        pairs = [((names,) if isinstance(names, str) else tuple(names), loss) for names, loss in pairs]
        owners = [self._parameters(names) for names, _ in pairs]
        if len({p for group in owners for p in group}) < sum(map(len, owners)):
            raise ValueError("minimise_jointly: two losses would move the same parameter")
        for i, ((names, loss), parameters) in enumerate(zip(pairs, owners, strict=True)):
            self._watch("+".join(names), loss)
            for p in parameters:
                p.grad = None
            loss.backward(inputs=parameters, retain_graph=i + 1 < len(pairs))
        for names, _ in pairs:
            for name in names:
                self._step(name)

    def scale_lr(self, name: str, factor: float) -> None:
        """Set an optimizer's learning rate to `factor` times its start value: schedules are functions of the step."""
        for group, lr in zip(self._torch[name].param_groups, self._base_lr[name], strict=True):
            group["lr"] = lr * factor

    def begin_step(self, step: int) -> None:
        """Tell the handle the number of the outer step, for the message of `check_finite`."""
        self._clock = step

    def check_finite(self, phase: str) -> None:
        """DivergedError for the first loss that was not finite, or for weights that a gradient spoilt (device sync)."""
        bad = {name: int(step) for name, step in self._first_bad.items() if int(step) >= 0}
        if bad:
            name = min(bad, key=bad.__getitem__)
            raise DivergedError(phase, bad[name], name)
        for name, spec in self._specs.items():
            if not all_finite(spec.parameters):
                raise DivergedError(phase, self._clock, name, "what was moved down the gradient of loss")

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs: the torch optimizers' states and the step counts."""
        return {"torch": {name: o.state_dict() for name, o in self._torch.items()}, "steps": dict(self.steps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`; the set of optimizers must be the same."""
        for name, optimizer in self._torch.items():
            optimizer.load_state_dict(state["torch"][name])
        self.steps = dict(state["steps"])

    def _parameters(self, names: Sequence[str]) -> list[nn.Parameter]:
        return list(dict.fromkeys(p for name in names for p in self._specs[name].parameters))

    def _step(self, name: str) -> None:
        if (clip := self._specs[name].clip) is not None:
            nn.utils.clip_grad_norm_(self._specs[name].parameters, clip)
        self._torch[name].step()
        self.steps[name] += 1

    def _watch(self, name: str, loss: Tensor) -> None:
        """Note the first step at which a loss was not finite, on the device: no sync per step."""
        seen = self._first_bad.setdefault(name, torch.full((), -1, device=loss.device))
        self._first_bad[name] = torch.where((seen < 0) & ~torch.isfinite(loss.detach()), self._clock, seen)
