"""Find files of the user's that Python would import instead of flexbench's own modules. Nothing is imported here."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent  # the folder that holds all of flexbench's modules
LIBRARY = ("benchmark", "baselines", "flexae")
COMMAND = (*LIBRARY, "cli")


def find_shadow(names: Iterable[str]) -> str | None:
    """Return one line about the first of our modules that another file shadows, or None.

    The line names that file and says what to do. `names` are top-level modules; they are located, not imported.
    """
    for name in names:
        file = locate(name)
        if file is None:
            return f"flexbench is not installed completely: its module '{name}' is missing. Install flexbench again."
        if file.resolve().parent not in (HOME, HOME / name):
            shown = file.parent if file.stem == "__init__" else file
            return (
                f"'{shown}' has the name of flexbench's module '{name}', so Python would run it instead. "
                "Rename it, or run flexbench from another folder."
            )
    return None


def locate(name: str) -> Path | None:
    """Return the file that `import name` would run or has run; None if there is none."""
    if name in sys.modules:
        origin = getattr(sys.modules[name], "__file__", None)
    else:
        spec = importlib.util.find_spec(name)
        origin = spec.origin if spec else None
    return Path(origin) if origin else None
