"""One card per model, in Markdown, generated from the registry. `docs/models.md` is this text."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..registry import Registry

if TYPE_CHECKING:
    from ..method import Method, Train
    from ..optim import OptimizerSpec

HEAD = """# The models

`flexbench ls models -v` prints this page. The learning rates are those of preset `paper`; the others multiply all of
them by one factor. Steps are given as multiples of the budget, which all models share.
"""


def model_cards(include: Iterable[str] = ()) -> str:
    """Return the cards of all models, in the order of the registry."""
    registry = Registry.load(include)
    return "\n".join([HEAD, *(card(registry.get(name)) for name in registry.targets)])


def card(method: type[Method]) -> str:
    """Return the card of a model: paper, objective, choices, phases with their optimizers, knobs."""
    link = f"[{method.paper}]({method.url})" if method.url else method.paper
    parts = [
        f"## {method.title or method.name}",
        f"`{method.name}` &middot; {link}",
        " ".join((inspect.getdoc(method) or "").split()),
        *prose(sys.modules[method.__module__].__doc__ or ""),
        phases_table(method),
        knobs_table(method),
    ]
    for knob, values in method.tuning_grid.items():
        parts.append(f"The sources leave `{knob}` open. `flexbench tune` tries {', '.join(map(str, values))}.")
    return "\n\n".join(filter(None, parts)) + "\n"


def prose(docstring: str) -> Iterator[str]:
    """Yield the paragraphs of a module docstring after the first (the citation). Indented ones are formulas."""
    _, *paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring))
    for paragraph in paragraphs:
        if paragraph.startswith("    "):
            yield f"```\n{textwrap.dedent(paragraph)}\n```"
        else:
            yield paragraph


def phases_table(method: type[Method]) -> str:
    """Return a table with one row per optimizer of every phase: steps, networks that it moves, rule."""
    from ..method import Budget, DataSpec, Train

    budget = Budget(steps=1000, batch_size=128)
    model = method(DataSpec("example", 1, 28), method.Config(width=0.125))
    lines = ["| phase | outer steps | optimizer | networks | rule |", "|---|---|---|---|---|"]
    for phase in model.phases(budget):
        if isinstance(phase, Train):
            lines += _optimizer_rows(model, phase, phase.steps / budget.steps)
        else:
            lines.append(f"| {phase.name} | once, on all training images | | buffers | fit |")
    return "\n".join(lines)


def _optimizer_rows(model: Method, phase: Train, ratio: float) -> Iterator[str]:
    for name, spec in phase.optimizers().items():
        yield f"| {phase.name} | {ratio:g} x budget | {name} | {', '.join(networks_of(model, spec))} | {rule(spec)} |"


def networks_of(model: Method, spec: OptimizerSpec) -> list[str]:
    """Return the names of the networks (or single parameters) of a model that an optimizer moves."""
    owned = {id(p) for p in spec.parameters}
    return list(dict.fromkeys(n.split(".")[0] for n, p in model.named_parameters() if id(p) in owned))


def rule(spec: OptimizerSpec) -> str:
    """Return the rule of an optimizer, for example 'Adam 0.0002 (0.9, 0.999)': learning rate and betas."""
    return f"Adam {spec.lr:g} ({spec.betas[0]:g}, {spec.betas[1]:g})"


def knobs_table(method: type[Method]) -> str:
    """Return a table of the knobs of a model, except the shared ones: default, and comment in the source."""
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
    """Return name -> trailing comment for the fields that a config class itself defines."""
    source = textwrap.dedent(inspect.getsource(config))
    found = re.findall(r"^    (\w+): [^#\n]*(?:#\s*(.*))?$", source, re.MULTILINE)
    return {name: comment.replace("|", "\\|") or rate_of(name) for name, comment in found}


def rate_of(name: str) -> str:
    """Return the description of a learning rate without a comment; '' for any other knob."""
    return f"learning rate of: {name.removeprefix('lr_').replace('_', ' ')}" if name.startswith("lr_") else ""


def shown(value: Any) -> str:
    """Return a default as a user would type it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
