"""Options that are declared once: their ranges, their types, and the command line that is made from them."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmark import api
from benchmark.core.click_options import options_of, parse_numbers
from benchmark.core.errors import FlexbenchError
from benchmark.core.options import check, declared, option
from benchmark.running.options import RunOptions


@dataclass(frozen=True, kw_only=True)
class Some:
    name: str = option("", "A name that must be given.")
    count: int | None = option(None, "How many.", least=1, most=9)
    rate: float = option(0.5, "How fast.", least=0)
    kind: str = option("a", "Which kind.", choices=("a", "b"))
    sizes: tuple[int, ...] = option((1, 2), "Which sizes.", flag="--size", least=1)
    files: tuple[str, ...] = option((), "Which files.")
    where: Path = option(Path("here"), "Where.")
    loud: bool = option(False, "Whether to shout.")
    hidden: int = 3


def parsed(*arguments: str) -> tuple[int, str, Some | None]:
    """Exit code, output, and the options of a command that was made from `Some`."""
    found: list[Some] = []

    @click.command()
    @options_of(Some)
    def command(**given: object) -> None:
        found.append(Some(**given))

    result = CliRunner().invoke(command, arguments)
    return result.exit_code, result.output, found[0] if found else None


def test_the_command_line_has_the_types_and_defaults_of_the_fields():
    assert parsed("--name", "x")[2] == Some(name="x")
    given = ("--name", "x", "--count", "3", "--rate", "2", "--kind", "b", "--size", "4-6,9", "--files", "p", "--files",
             "q", "--where", "there", "--loud")  # fmt: skip
    assert parsed(*given)[2] == Some(name="x", count=3, rate=2.0, kind="b", sizes=(4, 5, 6, 9), files=("p", "q"),
                                     where=Path("there"), loud=True)  # fmt: skip


def test_an_option_without_a_default_is_required_and_only_declared_fields_are_options():
    assert parsed()[0] == 2 and "--name" in parsed()[1]
    assert parsed("--name", "x", "--hidden", "1")[0] == 2
    assert "hidden" not in declared(Some)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"count": 0}, "--count 0 is not valid; it must be 1 to 9."),
        ({"count": 10}, "--count 10 is not valid; it must be 1 to 9."),
        ({"count": "3"}, "--count: '3' is not valid; it must be a whole number or nothing."),
        ({"count": True}, "--count: True is not valid"),
        ({"rate": -1}, "--rate -1 is not valid; it must be at least 0."),
        ({"kind": "c"}, "--kind 'c' is not valid; it must be a or b."),
        ({"sizes": (1, 0)}, "--size 0 is not valid; it must be at least 1."),
        ({"sizes": [1]}, "--size: [1] is not valid; it must be a list"),
        ({"name": None}, "--name: None is not valid; it must be text."),
    ],
)
def test_a_bad_value_gets_one_line_that_names_it(change: dict, text: str):
    with pytest.raises(FlexbenchError) as caught:
        check(dataclasses.replace(Some(name="x"), **change))
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,,2", "1-", "-1", "0-99999999"])
def test_what_is_no_list_of_numbers(text: str):
    with pytest.raises(FlexbenchError, match="not a list of numbers"):
        parse_numbers(text)


def test_the_api_has_a_parameter_for_each_run_option_with_the_same_default():
    parameters = inspect.signature(api.run).parameters
    for name, (field, _) in declared(RunOptions).items():
        assert name in parameters, f"benchmark.api.run lacks {name}"
        assert f"\n        {name}: " in api.run.__doc__, f"the docstring of benchmark.api.run lacks {name}"
        default = parameters[name].default
        if name not in ("models", "datasets"):
            assert default == (str(field.default) if isinstance(field.default, Path) else field.default), name
