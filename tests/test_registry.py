"""Names of models, and models of the user's own files."""

import re
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from benchmark import registry as registry_module
from benchmark.core.errors import FlexbenchError
from benchmark.data import DATASETS, DatasetInfo, info
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


DATASET = """
from benchmark.data import DATASETS, DatasetInfo
from benchmark.data.digits import DIGITS  # importing is not defining

OTHER = DATASETS["mnist"]
MINE = DatasetInfo(name="{name}", title="Mine", channels=1, size=8, latent_dim=4, load=lambda data_dir: {{}})
"""


@pytest.fixture
def tables():
    """The process-wide tables of datasets are restored after the test."""
    before = [(table, dict(table)) for table in (DATASETS, info._origins, info._hashes)]
    yield
    for table, content in before:
        table.clear()
        table.update(content)


def test_a_file_adds_the_datasets_it_defines_and_may_be_included_again(tmp_path, tables):
    path, count = write(tmp_path / "sets.py", text=DATASET.format(name="my-set")), len(DATASETS)
    for _ in range(2):
        registry = Registry.load([path])
        assert [(found.noun, found.name) for found in registry.included] == [("dataset", "my-set")]
        assert len(DATASETS) == count + 1 and DATASETS["my-set"] is registry.included[0].value
    assert info.origin_of("my-set") == str(path)
    before = info.source_hash("my-set")
    write(path, text=DATASET.format(name="my-set") + "# changed\n")
    Registry.load([path])
    assert info.source_hash("my-set") != before


def test_a_file_may_define_models_and_datasets(tmp_path, tables):
    path = write(tmp_path / "both.py", text=DATASET.format(name="my-set") + MODEL.format(name="mine"))
    assert [(f.noun, f.name) for f in Registry.load([path]).included] == [("model", "mine"), ("dataset", "my-set")]


def test_a_dataset_of_two_origins_names_both(tmp_path, tables):
    first, second = (write(tmp_path / f"{n}.py", text=DATASET.format(name="my-set")) for n in "ab")
    with pytest.raises(FlexbenchError, match=r"'my-set' of .*b\.py is already defined by .*a\.py"):
        Registry.load([first, second])
    with pytest.raises(FlexbenchError, match=r"'digits' of .*c\.py is already defined by benchmark\.data\.digits"):
        Registry.load([write(tmp_path / "c.py", text=DATASET.format(name="digits"))])
    twice = DATASET.format(name="twice") + "AGAIN = DatasetInfo(**{**vars(MINE), 'title': 'Again'})\n"
    with pytest.raises(FlexbenchError, match="defines the dataset 'twice' twice"):
        Registry.load([write(tmp_path / "d.py", text=twice)])


def test_a_file_that_only_imports_datasets_defines_nothing(tmp_path):
    path = write(tmp_path / "none.py", text="from benchmark.data.digits import DIGITS")
    with pytest.raises(FlexbenchError, match=r"defines no subclass of .* and no DatasetInfo"):
        Registry.load([path])


def installed(monkeypatch, group: str, value: str) -> None:
    """Pretend that a package with one entry point is installed."""
    point = EntryPoint("mine", value, group)
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [point] if group == point.group else [])


def test_a_package_registers_datasets_by_entry_point(monkeypatch, tables):
    module = ModuleType("a_package")
    module.SET = DatasetInfo(name="packaged", title="P", channels=1, size=8, latent_dim=4, load=lambda data_dir: {})
    monkeypatch.setitem(sys.modules, "a_package", module)
    installed(monkeypatch, "flexbench.datasets", "a_package:SET")
    for _ in range(2):
        Registry.load()
    assert DATASETS["packaged"] is module.SET and info.origin_of("packaged") == "a_package:SET"


@pytest.mark.parametrize(("value", "message"), [
    ("no_such_package:X", "'mine = no_such_package:X' of the group 'flexbench.datasets' cannot be loaded: ModuleNot"),
    ("benchmark.data:DATASETS", "must name a DatasetInfo of benchmark.data.info"),
])  # fmt: skip
def test_a_bad_entry_point_is_named(monkeypatch, value, message):
    installed(monkeypatch, "flexbench.datasets", value)
    with pytest.raises(FlexbenchError, match=message):
        Registry.load()


def test_including_a_dataset_imports_no_torch(tmp_path):
    path = write(tmp_path / "sets.py", text=DATASET.format(name="light"))
    code = f"import sys; from benchmark.registry import Registry; Registry.load([{str(path)!r}]); " \
           "sys.exit('torch' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
