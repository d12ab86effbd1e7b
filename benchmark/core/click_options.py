"""Options of a command, made from the declared options of a dataclass (see `options`)."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from .errors import FlexbenchError
from .options import Declared, declared


def parse_numbers(text: str) -> tuple[int, ...]:
    """Read a list of whole numbers and ranges: '0-2,7' -> (0, 1, 2, 7). Raises FlexbenchError for another text."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        span = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not 0 < len(span) <= 10_000:
            raise FlexbenchError(f"'{text}' is not a list of numbers such as 0,1,2 or 0-4.")
        found += span
    return tuple(dict.fromkeys(found))


def options_of(options: type[Any], names: Iterable[str] | None = None) -> Callable[[Any], Any]:
    """Return a decorator that adds the options of a dataclass to a command.

    Args:
        options: the dataclass.
        names: only these fields, in this order; by default all of them, the dataclass's own before inherited ones.
    """
    hints, found = typing.get_type_hints(options), declared(options)
    own = [name for name in found if name in vars(options).get("__annotations__", {})]
    order = list(names) if names is not None else [*own, *(name for name in found if name not in own)]

    def decorate(command: Any) -> Any:
        for name in reversed(order):
            command = _option(name, hints[name], *found[name])(command)
        return command

    return decorate


def _option(name: str, hint: Any, field: dataclasses.Field[Any], of: Declared) -> Any:
    factory = field.default_factory
    default: Any = field.default if factory is dataclasses.MISSING else factory()
    shared: dict[str, Any] = {"help": of.help, "envvar": of.envvar, "metavar": of.metavar}
    flag = of.flag or f"--{name.replace('_', '-')}"
    kind, is_tuple, item = _kind(hint)
    if of.choices:
        shared["type"] = click.Choice(of.choices)
    elif is_tuple and item is int:
        text = ",".join(map(str, default)) or None
        return click.option(flag, name, default=text, show_default=text is not None, callback=_numbers, **shared)
    elif is_tuple:
        return click.option(flag, name, multiple=True, **shared)
    elif kind is bool:
        return click.option(flag, name, is_flag=True, **shared)
    else:
        shared["type"] = click.Path(path_type=Path) if kind is Path else {str: None}.get(kind, kind)
    if default == "":
        return click.option(flag, name, required=True, **shared)
    return click.option(flag, name, default=default, show_default=default is not None, **shared)


def _kind(hint: Any) -> tuple[Any, bool, Any]:
    """The type of an option without None, whether it is a tuple, and the type of its items."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    (kind,) = [k for k in (typing.get_args(hint) if union else (hint,)) if k is not type(None)]
    is_tuple = typing.get_origin(kind) is tuple
    return kind, is_tuple, typing.get_args(kind)[0] if is_tuple else None


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    return parse_numbers(value) if value else ()
