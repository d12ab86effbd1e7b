"""Files that survive a crash: atomic writes, appended JSON lines, locks, content hashes, the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import FlexbenchError

DAY = 24 * 3600  # seconds


def cache_dir() -> Path:
    """Return the folder of prepared datasets, cached features and downloads.

    It is $FLEXBENCH_CACHE, or a folder in the user's cache.
    """
    if chosen := os.environ.get("FLEXBENCH_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("flexbench"))


def ensure_dir(path: Path) -> Path:
    """Create a folder if needed and return it. Raises FlexbenchError, which names the folder, if it is not writable."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise FlexbenchError(f"cannot write to '{path}': {error.strerror or error}. Choose another folder.") from error


def atomic_write(path: Path, content: bytes | str) -> None:
    """Replace a file in one step. A reader sees the old content or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a lock file against other processes. The system frees the lock when the holder dies, however it dies.

    Args:
        path: the lock file. It stays there after the block.
        waiting: called once, before the wait, where another process holds the lock.

    Raises FlexbenchError where the file cannot be written, and where the file system has no locks: a lock that is a
    mere file would outlive a killed process.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, fallback_to_soft=False)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if waiting:
                waiting()
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FlexbenchError(f"cannot lock '{path}': {reason}. Choose a folder on a file system with locks.") from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Yield a temporary folder. It becomes `final` when the block ends well; after an error it is removed.

    If another process made `final` in the meantime, that folder stays and ours is dropped. Temporary folders that are
    more than a day old are removed: a killed process left them.
    """
    ensure_dir(final.parent)
    for stale in final.parent.glob(f".{final.name}.*.tmp"):
        if time.time() - stale.stat().st_mtime > DAY:
            shutil.rmtree(stale, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.", suffix=".tmp"))
    try:
        yield draft
        os.chmod(draft, 0o755)
        with contextlib.suppress(OSError):
            os.rename(draft, final)
        if not final.is_dir():
            raise FlexbenchError(f"cannot create '{final}'.")
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented, with the keys in the given order."""
    atomic_write(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path, default: Any = None) -> Any:
    """Return the content of a JSON file, or `default` if there is no such file."""
    return json.loads(path.read_text()) if path.exists() else default


def append_text(path: Path, text: str) -> None:
    """Append whole lines in one write. If a crash left the last line incomplete, they still start on a new line."""
    with open(path, "ab+") as file:
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            text = "\n" + text
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def append_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Append rows as JSON lines, see `append_text`."""
    append_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict]:
    """Return all whole rows of a JSON-lines file. A torn line is skipped. A missing file has no rows."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file) -> str:
    digest = hashlib.sha256()  # Python 3.10 has no hashlib.file_digest
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
