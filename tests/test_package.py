"""The package as its users meet it: the import, the command, and the wheel in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import flexbench as package
from benchmark import api

ROOT = Path(__file__).parent.parent
SOURCES = ("benchmark", "baselines", "flexae", "flexbench", "cli.py", "pyproject.toml", "README.md", "LICENSE")
SCRIPT = "import sys; from flexbench.__main__ import main; sys.exit(main())"  # what an installed script holds
SMALL = ["--datasets", "digits", "--preset", "smoke", "--features", "pixels", "--images", "40"]


def call(*command: str | Path, cwd: Path, path: str | Path = "") -> subprocess.CompletedProcess[str]:
    """Run a command with `path` as PYTHONPATH."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run([str(c) for c in command], cwd=cwd, env=environment, capture_output=True, text=True)


def python(*arguments: str | Path, cwd: Path, path: str | Path = ROOT) -> subprocess.CompletedProcess[str]:
    return call(sys.executable, *arguments, cwd=cwd, path=path)


def test_the_package_is_the_api():
    assert package.__all__ == ["evaluate", "figure", "load", "report", "run", "table"]
    for name in package.__all__:
        assert getattr(package, name) is getattr(api, name)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = package.trian


def test_importing_it_imports_no_torch(tmp_path: Path):
    code = "import sys, flexbench; flexbench.run; assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    assert python("-c", code, cwd=tmp_path).returncode == 0


@pytest.fixture(params=["benchmark.py", "benchmark/__init__.py", "baselines/__init__.py", "flexae.py", "cli.py"])
def shadow(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file with the name of one of our modules, in the folder where the user works. It must not run."""
    file = tmp_path / request.param
    file.parent.mkdir(exist_ok=True)
    file.write_text("print('the file of the user runs')\nraise SystemExit(3)\n")
    return file


@pytest.mark.parametrize("start", [("-m", "flexbench"), ("-c", SCRIPT)], ids=["module", "script"])
def test_the_command_names_a_file_that_shadows_ours(start: tuple[str, str], shadow: Path, tmp_path: Path):
    result = python(*start, "ls", "datasets", cwd=tmp_path)
    named = shadow.parent if shadow.name == "__init__.py" else shadow
    assert (result.returncode, result.stdout) == (2, "")
    assert f"'{named}'" in result.stderr and "Rename it" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_shadow_on_a_relative_path_is_found_too(shadow: Path, tmp_path: Path):
    script = tmp_path / "bin" / "flexbench"  # Python puts the folder of a script first, then PYTHONPATH
    script.parent.mkdir()
    script.write_text(SCRIPT)
    result = python(script, "ls", "datasets", cwd=tmp_path, path=f".{os.pathsep}{ROOT}")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Rename it" in result.stderr and len(result.stderr.splitlines()) == 1


def test_the_import_executes_no_shadow(shadow: Path, tmp_path: Path):
    result = python("-c", "import flexbench", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    if shadow.name != "cli.py":  # the API does not use it
        result = python("-c", "from flexbench import run", cwd=tmp_path)
        assert (result.returncode, result.stdout) == (1, "")
        assert "ImportError: '" in result.stderr.splitlines()[-1]


def test_a_script_with_the_name_of_a_module_is_told(tmp_path: Path):
    (tmp_path / "benchmark.py").write_text("import flexbench\nflexbench.run('vae', 'digits')\n")
    result = python("benchmark.py", cwd=tmp_path)
    assert result.returncode == 1 and "Rename it" in result.stderr.splitlines()[-1]


def test_a_folder_that_holds_no_package_shadows_nothing(tmp_path: Path):
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "notes.txt").write_text("no module\n")
    assert "digits" in python("-m", "flexbench", "ls", "datasets", cwd=tmp_path).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources: a build leaves files beside them."""
    sources, made = (tmp_path_factory.mktemp(name) for name in ("sources", "wheel"))
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, sources / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", made]
    result = python("-m", "pip", "wheel", *options, sources, cwd=sources, path="")
    assert result.returncode == 0, result.stderr
    return next(made.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a new environment that holds the wheel and sees the libraries of the running one.

    A path file adds those libraries. Python reads no path files in a folder that was added so: an editable
    installation of the checkout is not visible.
    """
    folder = tmp_path_factory.mktemp("environment")
    assert python("-m", "venv", "--without-pip", folder, cwd=folder, path="").returncode == 0
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    options = ["--no-deps", "--no-index", "--quiet", wheel]
    result = python("-m", "pip", "--python", scripts / "python", "install", *options, cwd=folder, path="")
    assert result.returncode == 0, result.stderr
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(call(scripts / "python", "-c", show, cwd=folder).stdout.strip())
    libraries = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (own / "libraries.pth").write_text("\n".join(libraries) + "\n")
    return scripts


@pytest.mark.slow
def test_the_wheel_holds_what_is_read_at_run_time(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package_name in ("flexbench", "benchmark"):
        assert f"{package_name}/py.typed" in names
    tracked = [p for folder in ("page", "published") for p in (ROOT / "benchmark" / "reporting" / folder).iterdir()]
    assert {str(p.relative_to(ROOT)) for p in tracked if p.is_file()} <= names
    modules = [p for name in SOURCES[:4] for p in (ROOT / name).rglob("*.py")]
    assert {str(p.relative_to(ROOT)) for p in modules} <= names
    assert not [n for n in names if n.startswith(("tests/", "results/", "perf/"))]


@pytest.mark.slow
def test_the_installed_wheel_runs_a_job_and_its_report(installed: Path, tmp_path: Path):
    where = "import benchmark, cli, flexbench; print(benchmark.__file__, cli.__file__, flexbench.__file__)"
    files = call(installed / "python", "-c", where, cwd=tmp_path).stdout.split()
    assert len(files) == 3 and all(f.startswith(str(installed.parent)) for f in files)
    run = call(installed / "flexbench", "run", "--models", "vae", *SMALL, "--no-tracking", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    for command in (["table", "1", "--published"], ["report"], ["ls", "runs"]):
        result = call(installed / "flexbench", *command, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert "VAE" in (tmp_path / "results" / "report.html").read_text()


@pytest.mark.slow
def test_the_installed_command_names_a_file_that_shadows_ours(installed: Path, shadow: Path, tmp_path: Path):
    result = call(installed / "flexbench", "ls", "datasets", cwd=tmp_path, path=".")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Rename it" in result.stderr and len(result.stderr.splitlines()) == 1
