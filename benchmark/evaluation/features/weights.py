"""Files of weights."""

from __future__ import annotations

from pathlib import Path

from ...core.errors import FlexbenchError
from ...core.files import sha256_file


def verify(path: Path, expected: str, remedy: str) -> None:
    """Check the SHA-256 of a file before anything in it is executed or used.

    Raises FlexbenchError for another hash; `remedy` ends its message and says what to do.
    """
    found = sha256_file(path)
    if found != expected:
        raise FlexbenchError(f"'{path.name}' in '{path.parent}' has SHA-256 {found}, expected {expected}. {remedy}")
