"""One card per model, in Markdown, made from the registry: nothing in `docs/models.md` is typed twice."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..registry import Registry

if TYPE_CHECKING:
    from ..method import Method, Train
    from ..optim import OptimizerSpec

HEAD = """# The models

Made by `flexbench ls models -v`. Learning rates are those of preset `paper`; presets `smoke` and `cpu` multiply all of
them by one factor. Steps are given as a multiple of the budget that all models share.
"""


def model_cards(include: Iterable[str] = ()) -> str:
    """The cards of all models, in the order of the registry."""
    registry = Registry.load(include)
    return "\n".join([HEAD, *(card(registry.get(name)) for name in registry.targets)])


def card(method: type[Method]) -> str:
    """Paper, objective, choices, phases with their optimizers, knobs."""
    link = f"[{method.paper}]({method.url})" if method.url else method.paper
    parts = [
        f"## {method.title or method.name}",
        f"`{method.name}` &middot; {link}",
        " ".join((inspect.getdoc(method) or "").split()),
        *prose(inspect.getmodule(method).__doc__ or ""),
        phases_table(method),
        knobs_table(method),
    ]
    for knob, values in method.tuning_grid.items():
        parts.append(f"Open in the sources, tried by `flexbench tune`: `{knob}` = {', '.join(map(str, values))}.")
    return "\n\n".join(filter(None, parts)) + "\n"


def prose(docstring: str) -> Iterator[str]:
    """The paragraphs of a module's docstring after its first, which cites the paper; indented ones are formulas."""
    _, *paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring))
    for paragraph in paragraphs:
        if paragraph.startswith("    "):
            yield f"```\n{textwrap.dedent(paragraph)}\n```"
        else:
            yield paragraph


def phases_table(method: type[Method]) -> str:
    """A row per optimizer of every phase: what it moves, how fast, in how many steps."""
    from ..method import Budget, DataSpec, Train

    budget = Budget(steps=1000, batch_size=128)
    model = method(DataSpec("example", 1, 28), method.Config(width=0.125))
    lines = ["| phase | outer steps | optimizer | moves | rule |", "|---|---|---|---|---|"]
    for phase in model.phases(budget):
        if isinstance(phase, Train):
            lines += _optimizer_rows(model, phase, phase.steps / budget.steps)
        else:
            lines.append(f"| {phase.name} | once, on all training images | | buffers | fit |")
    return "\n".join(lines)


def _optimizer_rows(model: Method, phase: Train, share: float) -> Iterator[str]:
    for name, spec in phase.optimizers().items():
        yield f"| {phase.name} | {share:g} x budget | {name} | {', '.join(moves(model, spec))} | {rule(spec)} |"


def moves(model: Method, spec: OptimizerSpec) -> list[str]:
    """The networks (or single parameters) of a model that an optimizer steps."""
    owned = {id(p) for p in spec.parameters}
    return list(dict.fromkeys(n.split(".")[0] for n, p in model.named_parameters() if id(p) in owned))


def rule(spec: OptimizerSpec) -> str:
    """'Adam 0.0002 (0.9, 0.999)'."""
    clip = f", gradient clipped at {spec.clip:g}" if spec.clip is not None else ""
    if spec.kind is not None:
        return f"{getattr(spec.kind, '__name__', 'own')} {spec.lr:g}{clip}"
    return f"Adam {spec.lr:g} ({spec.betas[0]:g}, {spec.betas[1]:g}){clip}"


def knobs_table(method: type[Method]) -> str:
    """Every knob beyond the shared ones, with its default and the comment it has in the source."""
    from ..method import MethodConfig

    shared = {f.name for f in dataclasses.fields(MethodConfig)}
    comments: dict[str, str] = {}
    for cls in reversed(method.Config.__mro__):
        if issubclass(cls, MethodConfig) and cls is not MethodConfig:
            comments |= knob_comments(cls)
    lines = ["| knob | default | meaning |", "|---|---|---|"]
    for knob in dataclasses.fields(method.Config):
        if knob.name not in shared:
            lines.append(f"| `{knob.name}` | {shown(knob.default)} | {comments.get(knob.name, '')} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def knob_comments(config: type) -> dict[str, str]:
    """Name -> trailing comment of the fields that a configuration class defines itself."""
    source = textwrap.dedent(inspect.getsource(config))
    found = re.findall(r"^    (\w+): [^#\n]*(?:#\s*(.*))?$", source, re.MULTILINE)
    return {name: comment.replace("|", "\\|") or rate_of(name) for name, comment in found}


def rate_of(name: str) -> str:
    """What a learning rate without a comment is the rate of."""
    return f"learning rate of: {name.removeprefix('lr_').replace('_', ' ')}" if name.startswith("lr_") else ""


def shown(value: Any) -> str:
    """A default as a user would type it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
