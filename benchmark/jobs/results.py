"""The result rows, and `results.csv`, the record of an output root. Imports no torch.

One row is one score of one checkpoint of one job. A job appends its rows when it ends; a failed job leaves one row with
its reason and no value. `flexbench run` brings the file and the run folders into agreement when it starts and when it
ends. Commands that only read also use run folders that are not in the file yet. They write nothing.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import FlexbenchError
from ..core.files import append_text, atomic_write, ensure_dir, locked, read_json, read_jsonl, write_json
from ..core.old_names import current_family

if TYPE_CHECKING:
    import pandas as pd

LAST = "last"  # the checkpoint at the end of training
DONE, FAILED = "done", "failed"  # values of the column `status`
FILE, SPACES, DAMAGED, LOCK = "results.csv", "feature_spaces.json", "results.damaged.csv", ".results.lock"


@dataclass(frozen=True)
class Cost:
    """What training cost up to a checkpoint."""

    images_seen: int = 0  # images drawn, over all phases
    optimizer_steps: int = 0  # over all optimizers and phases
    train_seconds: float = 0.0  # wall time
    parameters: int = 0  # trainable values
    train_flops: float = 0.0  # forward and backward passes, all steps and phases

    @classmethod
    def of(cls, phases: Sequence[Mapping[str, Any]], parameters: int) -> Cost:
        """Add up the accounts that the training loop keeps of each phase."""
        return cls(
            images_seen=sum(p["images"] for p in phases),
            optimizer_steps=sum(sum(p.get("optimizer_steps", {}).values()) for p in phases),
            train_seconds=round(sum(p["seconds"] for p in phases), 3),
            parameters=parameters,
            train_flops=float(sum(p.get("flops_per_step", 0) * p.get("steps", 0) for p in phases)),
        )


@dataclass(frozen=True)
class ResultRow(Cost):
    """One row of metrics.jsonl and of results.csv. It stands alone: no other file is needed to read it."""

    protocol: int = 0  # version of the evaluation protocol
    model: str = ""  # name as typed
    title: str = ""  # name as printed
    dataset: str = ""
    latent_dim: int = 0  # m
    seed: int = 0
    preset: str = ""  # with the changes made to it, e.g. "cpu[steps=500]"
    settings: str = ""  # the model's knobs that differ from their defaults, e.g. "beta=2.0"
    hash: str = ""  # of the job's configuration
    variant: str = ""  # the same without the seed: rows that share it are repetitions
    checkpoint: str = LAST  # "last", or "step 500" for a snapshot
    step: int = 0  # outer steps of the last phase of training
    metric: str = ""  # full name with the protocol, e.g. "gen_fd10k_test@efficientnet_lite0@128"; empty: job failed
    family: str = ""  # e.g. "gen_fd"
    value: float | None = None  # None: the job failed
    se: float | None = None  # standard error over repetitions inside the metric, not over seeds
    n_images: int = 0  # images on each side of the comparison
    space: str | None = None  # feature space
    fingerprint: str | None = None  # key into feature_spaces.json: weights, input size and resizing of the space
    dataset_hash: str = ""  # content hash of the prepared dataset
    git: str | None = None  # commit of the source tree, "+dirty" where it was changed
    evaluation: str = ""  # the evaluation that gave the row, see `job.EvaluationConfig.key`
    status: str = DONE  # "done", or "failed": a job without scores
    reason: str = ""  # why the job failed

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> ResultRow:
        """Build a row from a line of a file: JSON values or text. Old names are translated.

        Raises ValueError or TypeError for a value of another type.
        """
        known = {name: convert(values[name]) for name, convert in CONVERTERS.items() if _given(values.get(name))}
        row = cls(**known)
        changes: dict[str, Any] = {}
        if row.fingerprint and row.fingerprint.startswith("{"):
            changes["fingerprint"] = fingerprint_key(row.fingerprint)
        if (family := current_family(row.family)) != row.family:
            changes |= {"family": family, "metric": row.metric.replace(row.family, family)}
        return dataclasses.replace(row, **changes) if changes else row


def _given(value: Any) -> bool:
    return value is not None and value != "" and value == value  # NaN differs from itself


def _converter(hint: Any) -> Callable[[Any], Any]:
    """The function that reads a value of an annotated type."""
    (kind,) = [t for t in typing.get_args(hint) or (hint,) if t is not type(None)]
    return _whole if kind is int else kind


def _whole(value: Any) -> int:
    number = float(value)
    if number != int(number):
        raise ValueError(f"{value} is not a whole number")
    return int(number)


HINTS = typing.get_type_hints(ResultRow)
_COST = [field.name for field in dataclasses.fields(Cost)]
COLUMNS = [*(f.name for f in dataclasses.fields(ResultRow) if f.name not in _COST), *_COST]
CONVERTERS: dict[str, Callable[[Any], Any]] = {name: _converter(HINTS[name]) for name in COLUMNS}
IDENTITY = ("hash", "dataset_hash", "checkpoint", "metric", "n_images", "fingerprint", "protocol")
ORDER = ("dataset", "model", "latent_dim", "seed", "preset", "settings", "hash", "step", "metric", "n_images")


def fingerprint_key(text: str) -> str:
    """Return the short key under which the JSON text of a feature space's fingerprint is stored."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def identity(row: ResultRow) -> tuple[Any, ...]:
    """What makes two rows the same score. A failed job has one row for each evaluation."""
    key = tuple(getattr(row, name) for name in IDENTITY)
    return key if row.status == DONE else (*key, row.evaluation, row.status)


def _sort_key(row: ResultRow) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in ORDER)


# -- the file -------------------------------------------------------------------------------------------------------


class Record:
    """The rows of one output root: those of its results.csv and those that only run folders hold.

    Args:
        out: the output root. Only `append` and `reconcile` write files.
    """

    def __init__(self, out: Path):
        self.out, self.path = out, out / FILE

    @cached_property
    def rows(self) -> list[ResultRow]:
        """All rows of the file and of the run folders. Of rows with the same `identity`, the last one is kept."""
        recorded = self._file[0]
        return merged([*recorded, *self._unrecorded({row.hash for row in recorded})])

    @cached_property
    def evaluations(self) -> dict[str, set[str]]:
        """Hash of a job -> the keys of the evaluations that have scores of its last checkpoint."""
        found: dict[str, set[str]] = {}
        for row in self.rows:
            if row.status == DONE and row.checkpoint == LAST:
                found.setdefault(row.hash, set()).add(row.evaluation)
        return found

    @cached_property
    def failures(self) -> dict[str, str]:
        """Hash of a job that failed and has no scores -> why it failed."""
        return {row.hash: row.reason for row in self.rows if row.status == FAILED}

    # -- writing ----------------------------------------------------------------------------------------------------

    def append(self, rows: Iterable[ResultRow], fingerprints: Mapping[str, str] | None = None) -> None:
        """Append rows to the file; `fingerprints` maps the keys that they use to the JSON text of each."""
        lines = [_line(row) for row in rows]
        with locked(ensure_dir(self.out) / LOCK):
            self._remember(fingerprints or {})
            if _header(self.path) != COLUMNS:
                self._rewrite([])
            append_text(self.path, "".join(lines))

    def reconcile(self, forget: Iterable[str] = ()) -> None:
        """Rewrite the file: rows of all run folders are added, each row stands once, in a fixed order.

        `forget` names hashes of jobs whose old rows are dropped, because the jobs are trained anew.
        """
        with locked(ensure_dir(self.out) / LOCK):
            self.__dict__.pop("_file", None)
            self._rewrite(list(self._unrecorded(set())), frozenset(forget))

    def _rewrite(self, more: Sequence[ResultRow], forget: frozenset[str] = frozenset()) -> None:
        rows, damaged, texts, foreign = self._file
        if foreign:
            raise FlexbenchError(
                f"'{self.path}' has columns that this version does not know: {', '.join(foreign)}. "
                "Use the version of flexbench that wrote it, or another --out."
            )
        self._remember(texts | self._texts_of_folders)
        kept = [row for row in merged([*rows, *more]) if row.hash not in forget]
        if damaged:
            append_text(self.out / DAMAGED, "".join(damaged))
        text = ",".join(COLUMNS) + "\n" + "".join(_line(row) for row in sorted(kept, key=_sort_key))
        if not self.path.is_file() or self.path.read_text("utf-8") != text:
            atomic_write(self.path, text)
        for name in ("_file", "rows", "evaluations", "failures"):
            self.__dict__.pop(name, None)

    def _remember(self, fingerprints: Mapping[str, str]) -> None:
        """Store the JSON of feature spaces once, by key."""
        known = read_json(self.out / SPACES, {})
        new = {key: json.loads(text) for key, text in fingerprints.items() if key not in known}
        if new:
            write_json(self.out / SPACES, {**known, **new})

    # -- reading ----------------------------------------------------------------------------------------------------

    @cached_property
    def _file(self) -> tuple[list[ResultRow], list[str], dict[str, str], list[str]]:
        """Rows of the file, lines that cannot be read, texts of old fingerprints, unknown columns."""
        rows: list[ResultRow] = []
        damaged: list[str] = []
        texts: dict[str, str] = {}
        header, lines = _read_csv(self.path)
        for number, values in lines:
            try:
                rows.append(self._read(header, values))
            except (ValueError, TypeError):
                damaged.append(_text(values))
                warnings.warn(f"line {number} of '{self.path}' cannot be read and is left out", stacklevel=2)
                continue
            texts |= _old_fingerprint(dict(zip(header, values, strict=True)))
        return rows, damaged, texts, [name for name in header if name not in COLUMNS]

    @staticmethod
    def _read(header: list[str], values: list[str]) -> ResultRow:
        row = ResultRow.read(dict(zip(header, values, strict=True)))
        if not row.hash or (row.status == DONE and (row.value is None or not row.metric)):
            raise ValueError("a row without a hash or a value")
        is_old = "evaluation" not in header
        return dataclasses.replace(row, evaluation=guessed_evaluation(row)) if is_old else row

    def _unrecorded(self, known: set[str]) -> Iterator[ResultRow]:
        """Rows of the run folders that the file may lack: jobs that it does not name, and newer scores."""
        written = self.path.stat().st_mtime_ns if self.path.is_file() else 0
        for folder in run_folders(self.out):
            if hash_of(folder) not in known or _newer(folder, written):
                yield from folder_rows(folder, finished=True)

    @property
    def _texts_of_folders(self) -> dict[str, str]:
        texts: dict[str, str] = {}
        for folder in run_folders(self.out):
            for row in read_jsonl(folder / "metrics.jsonl"):
                texts |= _old_fingerprint(row)
        return texts


def merged(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """Each score once, the later of equal ones; a failure counts only while its job has no scores."""
    found = {identity(row): row for row in rows}
    scored = {row.hash for row in found.values() if row.status == DONE and row.checkpoint == LAST}
    return [row for row in found.values() if row.status == DONE or row.hash not in scored]


def _old_fingerprint(values: Mapping[str, Any]) -> dict[str, str]:
    """Key and JSON text of a fingerprint that stands in the row itself, as rows had it before version 0.1.0."""
    text = values.get("fingerprint")
    return {fingerprint_key(text): text} if isinstance(text, str) and text.startswith("{") else {}


def guessed_evaluation(row: ResultRow) -> str:
    """The evaluation of a row that names none, as rows did before version 0.1.0: by its space and number of images."""
    if not row.space:
        return ""
    part = "/validation" if row.family == "gen_fd_val" else ""
    return f"{row.space}/{row.n_images}{part}/protocol-{row.protocol}"


def _line(row: ResultRow) -> str:
    values = asdict(row)
    return _text(["" if values[name] is None else values[name] for name in COLUMNS])


def _text(values: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()


def _header(path: Path) -> list[str]:
    return _read_csv(path, only_header=True)[0]


def _read_csv(path: Path, only_header: bool = False) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and numbered lines of a CSV file; both empty where there is no file or an empty one."""
    if not path.is_file():
        return [], []
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            return header, [] if only_header else [(reader.line_num, line) for line in reader if line]
    except (OSError, csv.Error) as error:
        raise FlexbenchError(f"'{path}' cannot be read: {error}. Move it away, then run the command again.") from error


# -- run folders ----------------------------------------------------------------------------------------------------


def run_folders(out: Path) -> list[Path]:
    """Every run folder under an output root, sorted."""
    return sorted(path.parent for path in out.glob("runs/*/*/*/config.json"))


def hash_of(folder: Path) -> str:
    """The hash in the name of a run folder, `<m>-s<seed>-<hash>`."""
    return folder.name.rpartition("-")[2]


def _newer(folder: Path, than: int) -> bool:
    """Whether a run folder has scores, or a failure, written at or after a time in nanoseconds."""
    files = [folder / "metrics.jsonl", folder / FAILED]
    # Equal times count as newer, since a clock has ticks; rows that are read twice are merged.
    return any(file.stat().st_mtime_ns >= than for file in files if file.is_file())


def folder_rows(folder: Path, finished: bool = False) -> list[ResultRow]:
    """The result rows of a run folder: its scores, or one row with the reason of its failure.

    With `finished`, scores of an evaluation that has not come to its end are left out: it will be done again.
    """
    keys = read_json(folder / DONE, {}).get("evaluations", [])
    found = []
    for values in read_jsonl(folder / "metrics.jsonl"):
        try:
            row = ResultRow.read(values)
        except (ValueError, TypeError) as error:
            warnings.warn(f"a row of '{folder / 'metrics.jsonl'}' is left out: {error}", stacklevel=2)
            continue
        row = row if row.evaluation else dataclasses.replace(row, evaluation=_evaluation_of(row, keys))
        if not (finished and row.checkpoint == LAST and row.evaluation and row.evaluation not in keys):
            found.append(row)
    return merged([*found, *_failure(folder)])


def _failure(folder: Path) -> list[ResultRow]:
    """The row of a failed run; before version 0.1.0 a run left no more than the reason."""
    failed = read_json(folder / FAILED, {})
    if "row" in failed:
        return [ResultRow.read(failed["row"])]
    if "reason" not in failed:
        return []
    config = read_json(folder / "config.json")
    shared = {name: config[name] for name in ("model", "latent_dim", "seed", "preset")}
    return [ResultRow(**shared, dataset=config["data"]["name"], hash=hash_of(folder), title=config["model"],
                      status=FAILED, reason=failed["reason"])]  # fmt: skip


def _evaluation_of(row: ResultRow, keys: Sequence[str]) -> str:
    """Which of a finished run's evaluations gave a row that names none."""
    whole = [key for key in keys if "/validation/" not in key]
    wanted = [key for key in keys if "/validation/" in key] if row.family == "gen_fd_val" and not whole else whole
    fitting = [key for key in wanted if row.space is None or key.startswith(f"{row.space}/")]
    return max(fitting, key=lambda key: f"/{row.n_images}/" in key, default="")


# -- frames ---------------------------------------------------------------------------------------------------------


def read_results(out: Path | str | Sequence[Path | str]) -> pd.DataFrame:
    """Return all rows under one output root, or under several, as a tidy frame in a fixed order.

    The columns are `COLUMNS` and `folder`: the run folder of each row, empty where it is not there. A row that several
    roots hold stands once. Where they hold other values, the first root counts, and one warning names both roots.
    """
    roots = [Path(out)] if isinstance(out, (str, Path)) else [Path(root) for root in out]
    found: dict[tuple[Any, ...], tuple[ResultRow, Path]] = {}
    for root in roots:
        differing: dict[Path, int] = {}
        for row in Record(root).rows:
            first, where = found.setdefault(identity(row), (row, root))
            if first.value != row.value:
                differing[where] = differing.get(where, 0) + 1
        for where, count in differing.items():
            message = f"{count} score(s) differ between '{where}' and '{root}'; the values from '{where}' are used"
            warnings.warn(message, stacklevel=2)
    scored = {row.hash for row, _ in found.values() if row.status == DONE and row.checkpoint == LAST}
    kept = [(row, root) for row, root in found.values() if row.status == DONE or row.hash not in scored]
    return _frame(kept, roots)


def _frame(found: Sequence[tuple[ResultRow, Path]], roots: Sequence[Path]) -> pd.DataFrame:
    """The rows as a frame, each with its run folder: the one in its own root, else one in another."""
    folders = {(root, hash_of(folder)): str(folder) for root in roots for folder in run_folders(root)}
    anywhere = {key: folder for (_, key), folder in folders.items()}
    rows = [{**vars(row), "folder": folders.get((root, row.hash)) or anywhere.get(row.hash, "")} for row, root in found]
    return tidy(rows, "folder")


def tidy(rows: Iterable[Mapping[str, Any]], *more: str) -> pd.DataFrame:
    """Return result rows, given as mappings, as a frame in a fixed order; `more` names further columns."""
    import pandas as pd

    frame = pd.DataFrame(list(rows), columns=[*COLUMNS, *more])
    return frame.sort_values(list(ORDER), kind="stable").reset_index(drop=True)
