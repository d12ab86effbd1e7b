"""Names of models, and models of the user's own files."""

import re
import textwrap

import pytest

from benchmark.core.errors import FlexbenchError
from benchmark.method import Method
from benchmark.registry import BUILT_IN, Registry

MODEL = """
from dataclasses import dataclass
from benchmark.method import Method, MethodConfig

@dataclass(frozen=True)
class MineConfig(MethodConfig):
    rate: float | None = None

class Helper(Method):
    pass

class Mine(Helper):
    name = "{name}"
    Config = MineConfig

class Variant(Mine):
    pass
"""


def write(path, name="mine", text=None):
    path.write_text(textwrap.dedent(text) if text is not None else MODEL.format(name=name))
    return path


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("all", list(BUILT_IN)),
        ("vae", ["vae"]),
        ("flexae-sr,vae", ["vae", "flexae-sr"]),  # the registry's order
        ("flexae*", ["flexae", "flexae-sr"]),
        ("*exae*,v?e", ["vae", "flexae", "flexae-sr"]),
        (" vae , vae,va?,", ["vae"]),
        ("all,vae", list(BUILT_IN)),
    ],
)
def test_patterns_select_models(patterns, expected):
    assert Registry().match(patterns) == expected


@pytest.mark.parametrize("patterns", ["vea", "vae,vea", "xy*,vae"])
def test_unknown_names_are_errors_that_list_the_valid_ones(patterns):
    with pytest.raises(FlexbenchError, match=r"unknown model .* Valid: .*flexae, flexae-sr, .*vae, .*ls models"):
        Registry().match(patterns)


def test_unknown_name_gets_a_suggestion():
    with pytest.raises(FlexbenchError, match=r"unknown model 'flexea'\. Did you mean 'flexae'\?"):
        Registry().get("flexea")


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_names_are_those_of_their_classes(name):
    method = Registry().get(name)
    assert issubclass(method, Method)
    assert method.name == name
    assert method.title and method.paper and method.year and method.url


def test_a_file_adds_the_models_it_names(tmp_path):
    registry = Registry.load([write(tmp_path / "mine.py")])
    assert registry.match("mine,vae") == ["vae", "mine"]
    assert registry.get("mine").name == "mine"
    assert set(registry.targets) == {*BUILT_IN, "mine"}  # not the helper, the imported base or the variant
    assert registry.origins == {"mine": str(tmp_path / "mine.py")}


def test_a_folder_adds_the_models_of_its_files(tmp_path):
    write(tmp_path / "a.py", "model-a")
    write(tmp_path / "b.py", "model-b")
    write(tmp_path / "tools.py", text="def f(): ...")
    (tmp_path / "notes.txt").write_text("not Python")
    assert Registry.load([tmp_path]).match("model-*") == ["model-a", "model-b"]


def test_the_source_hash_follows_the_content(tmp_path):
    path, sources = tmp_path / "mine.py", []
    for text in (MODEL, MODEL, MODEL + "# changed\n"):
        write(path, text=text.format(name="mine"))
        sources.append(Registry.load([path]).sources["mine"])
    assert sources[0] == sources[1] != sources[2]


def test_a_second_name_for_a_class_is_no_clash(tmp_path):
    registry = Registry.load([write(tmp_path / "mine.py", text=MODEL.format(name="mine") + "\nDefault = Mine\n")])
    assert registry.match("mine") == ["mine"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no file or folder"),
        ("", "defines no subclass"),
        ("from baselines.vae import VAE", "defines no subclass"),  # importing is not defining
        ("import no_such_package", "importing .* failed: ModuleNotFoundError: .*no_such_package"),
        ("1 / 0", "importing .* failed: ZeroDivisionError"),
        ("def", "importing .* failed: SyntaxError"),
    ],
)
def test_a_bad_include_is_named(tmp_path, text, message):
    path = tmp_path / "bad.py"
    if text is not None:
        write(path, text=text)
    with pytest.raises(FlexbenchError, match=message) as caught:
        Registry.load([path])
    assert str(path) in str(caught.value)


def test_an_empty_folder_and_a_file_of_another_kind_are_named(tmp_path):
    with pytest.raises(FlexbenchError, match=f"'{re.escape(str(tmp_path))}' defines no subclass"):
        Registry.load([tmp_path])
    with pytest.raises(FlexbenchError, match="not a Python file"):
        Registry.load([write(tmp_path / "mine.txt")])


def test_a_name_clash_names_both_owners(tmp_path):
    first, second = write(tmp_path / "a.py"), write(tmp_path / "b.py")
    with pytest.raises(FlexbenchError) as caught:
        Registry.load([first, second])
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)
    with pytest.raises(FlexbenchError, match=r"'vae' of .*c\.py is already defined by baselines\.vae:VAE"):
        Registry.load([write(tmp_path / "c.py", "vae")])
