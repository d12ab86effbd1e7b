"""Rules of the code that a machine can check: who imports whom, who names whom, how long functions are."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("flexbench", "benchmark", "baselines", "flexae")
SHARED = sorted((ROOT / "benchmark").rglob("*.py"))
MODELS = sorted(p for folder in ("baselines", "flexae") for p in (ROOT / folder).glob("*.py"))
PRODUCT = [*SHARED, *MODELS, *sorted((ROOT / "flexbench").glob("*.py")), ROOT / "cli.py"]
FOR_MODELS = {"method", "optim", "networks", "losses"}

# Lowest first. An import, a deferred one too, goes to a lower layer or stays within its own.
LAYERS = (
    "benchmark.core",
    "benchmark.metrics",
    "benchmark.losses",
    "benchmark.networks",
    "benchmark.optim",
    "benchmark.method",
    "baselines",
    "flexae",
    "benchmark.registry",
    "benchmark.data",
    "benchmark.jobs",
    "benchmark.training",
    "benchmark.evaluation",
    "benchmark.reporting",
    "benchmark.running",
    "benchmark.api",
    "benchmark.listing",
    "benchmark.conformance",
    "benchmark.command_options",
    "benchmark",  # its __init__, which offers the functions of benchmark.api
    "flexbench",
    "cli",
    "flexbench.__main__",  # the installed command: it looks for shadows, then starts cli
)


def module_name(path: Path) -> str:
    """The dotted name of a file of the product."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path): path for path in PRODUCT}


def imported(path: Path) -> Iterator[str]:
    """Absolute names of every module that a file imports, wherever the import stands."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            target = ".".join([*base, *filter(None, [node.module])])
            inner = [f"{target}.{alias.name}" for alias in node.names]
            yield from {name if name in NAMES else target for name in inner}


def needed(path: Path) -> Iterator[str]:
    """Modules of the product that a file imports, but for its own package's __init__, which Python runs anyway."""
    own = module_name(path)
    for name in imported(path):
        if name.split(".")[0] in (*PACKAGES, "cli") and name in NAMES and not own.startswith(f"{name}."):
            yield name


def layer_of(name: str) -> int:
    """Place of a module in LAYERS: that of the longest name that it begins with."""
    fitting = [layer for layer in LAYERS if name == layer or name.startswith(f"{layer}.")]
    assert fitting, f"{name} is in no layer: add it to LAYERS"
    found = max(fitting, key=len)
    assert found != "benchmark" or name == "benchmark", f"{name} is in no layer: add it to LAYERS"
    return LAYERS.index(found)


@pytest.mark.parametrize("path", PRODUCT, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path):
    own = module_name(path)
    for name in needed(path):
        assert layer_of(name) <= layer_of(own), f"{own} imports {name}, which is above it"


def test_no_module_imports_itself_through_others():
    graph = {module_name(path): set(needed(path)) - {module_name(path)} for path in PRODUCT}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


def test_a_new_layer_has_to_be_placed():
    with pytest.raises(AssertionError, match="in no layer"):
        layer_of("benchmark.somewhere")


@pytest.mark.parametrize("path", MODELS, ids=lambda p: str(p.relative_to(ROOT)))
def test_models_import_the_contract_only(path: Path):
    for name in imported(path):
        head, *rest = name.split(".")
        if head == "benchmark":
            assert rest and rest[0] in FOR_MODELS, f"{path.name} imports {name}"
        assert head not in ("cli", "tests")


@pytest.mark.parametrize("path", SHARED, ids=lambda p: str(p.relative_to(ROOT)))
def test_shared_code_reaches_models_through_the_registry_only(path: Path):
    for name in imported(path):
        assert name.split(".")[0] not in ("baselines", "flexae", "cli", "tests"), f"{path.name} imports {name}"
    if path.name == "registry.py":
        return
    from benchmark.registry import BUILT_IN

    words = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
    assert not words & BUILT_IN.keys(), f"{path.name} names a model"


def test_reading_results_imports_no_torch():
    modules = "benchmark.reporting.tables, benchmark.reporting.report, benchmark.listing"
    code = f"import sys, benchmark, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length of the body, without the docstring, of every function of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            yield f"{path.name}:{node.name}", (body[-1].end_lineno - body[0].lineno + 1) if body else 0


def test_functions_are_short():
    lengths = dict(pair for path in PRODUCT for pair in functions(path))
    assert statistics.median(lengths.values()) <= 10
    assert {name for name, n in lengths.items() if n > 50} == set()


def test_public_things_have_docstrings():
    missing = []
    for path in PRODUCT:
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            config = isinstance(node, ast.ClassDef) and node.name.endswith("Config") and path in MODELS
            if public and not config and not ast.get_docstring(node):
                missing.append(f"{path.name}:{node.name}")
    assert missing == []


@pytest.mark.parametrize("path", MODELS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_knob_is_explained_and_every_paper_cited(path: Path):
    lines = path.read_text().splitlines()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and not field.target.id.startswith("lr_"):
                    assert "#" in lines[field.lineno - 1], f"{path.name}: {field.target.id} has no comment"
    if any(isinstance(node, ast.ClassDef) for node in ast.parse(path.read_text()).body):
        assert "https://" in (ast.get_docstring(ast.parse(path.read_text())) or "")
