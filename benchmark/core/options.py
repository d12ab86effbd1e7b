"""Options declared once: a dataclass field that carries its default, its help and its range.

The command line, the checks of values and the documentation all read the declaration. A new run option
needs a field, a parameter of `benchmark.api.run`, and the code that uses it.
"""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import FlexbenchError


@dataclass(frozen=True)
class Declared:
    """What is known of one option beside its name, type and default."""

    help: str  # one sentence for people
    least: float | None = None  # smallest valid number
    most: float | None = None  # largest valid number
    choices: tuple[str, ...] = ()  # the valid words
    flag: str = ""  # as typed on the command line; empty: the name of the field with dashes
    metavar: str | None = None  # how the help names the value
    envvar: str | None = None  # environment variable that gives the default

    def complaint(self, name: str, value: Any) -> str:
        """Return what is wrong with a value, or an empty text. None is valid wherever the type allows it."""
        typed = self.flag or f"--{name.replace('_', '-')}"
        if self.choices and value not in self.choices:
            return f"{typed} '{value}' is not valid; it must be {' or '.join(self.choices)}."
        low = self.least is not None and value < self.least
        if low or (self.most is not None and value > self.most):
            return f"{typed} {value} is not valid; it must be {self._range}."
        return ""

    @property
    def _range(self) -> str:
        return f"at least {self.least:g}" if self.most is None else f"{self.least or 0:g} to {self.most:g}"


def option(default: Any, help: str, **more: Any) -> Any:
    """Return a dataclass field for an option; `more` are the further fields of `Declared`."""
    metadata = {"option": Declared(help, **more)}
    if isinstance(default, types.FunctionType):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def declared(options: type[Any] | Any) -> Mapping[str, tuple[dataclasses.Field[Any], Declared]]:
    """Return name -> (field, declaration) of the options of a dataclass, in order."""
    found = ((field, field.metadata.get("option")) for field in dataclasses.fields(options))
    return {field.name: (field, of) for field, of in found if of is not None}


def check(options: Any) -> None:
    """Check every value of a dataclass of options. Raises FlexbenchError for one of a wrong type or out of range."""
    hints = typing.get_type_hints(type(options))
    for name, (_, of) in declared(options).items():
        value = getattr(options, name)
        _check_type(name, value, hints[name], of)
        for item in value if isinstance(value, tuple) else [value]:
            if item is not None and (complaint := of.complaint(name, item)):
                raise FlexbenchError(complaint)


def _check_type(name: str, value: Any, hint: Any, of: Declared) -> None:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = typing.get_args(hint) if union else (hint,)
    if not any(_is(value, kind) for kind in kinds):
        typed = of.flag or f"--{name.replace('_', '-')}"
        raise FlexbenchError(f"{typed}: {value!r} is not valid; it must be {_in_words(kinds)}.")


def _is(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is(item, typing.get_args(kind)[0]) for item in value)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _in_words(kinds: Sequence[Any]) -> str:
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "nothing"}
    return " or ".join(words.get(kind, "a list" if typing.get_origin(kind) is tuple else str(kind)) for kind in kinds)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
