"""The configuration of a job: presets, overrides, and the hash that names the run folder. All values are plain JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..core.canonical import canonical
from ..core.errors import FlexbenchError, unknown

if TYPE_CHECKING:
    from ..method import Budget, DataSpec, Method, MethodConfig

PROTOCOL = 1  # raised when the training or the data protocol changes, so that old and new runs never mix


@dataclass(frozen=True)
class TrainConfig:
    """The budget that all models of a comparison share."""

    steps: int  # outer updates
    batch_size: int  # images per batch; a step may draw several
    width: float  # scales every network
    lr_factor: float  # multiplies every learning rate of every model
    precision: str = "fp32"  # fp32 | bf16 (autocast while training; scores are always computed in fp32)


@dataclass(frozen=True)
class Preset:
    """A named budget, and the number of images of each kind that are scored."""

    train: TrainConfig
    images: int  # generated, reconstructed and real images per score
    purpose: str


PRESETS = {
    "smoke": Preset(TrainConfig(30, 32, 0.125, 5.0), 256, "does it run: seconds per model"),
    "demo": Preset(TrainConfig(400, 64, 0.125, 10.0), 449, "first pictures of small digits: seconds per model"),
    "cpu": Preset(TrainConfig(3_000, 64, 0.25, 5.0), 10_000, "a real comparison on a laptop: minutes per model"),
    "paper": Preset(TrainConfig(130_000, 128, 1.0, 1.0), 10_000, "the paper's budget, on a GPU"),
}


def preset(name: str) -> Preset:
    """Return the preset of that name. Raises FlexbenchError for an unknown one."""
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]


@dataclass(frozen=True)
class JobConfig:
    """One cell of the grid. It is complete: a model can be rebuilt from it and trained again to the same numbers."""

    model: str
    dataset: str  # as typed
    data: Mapping[str, Any]  # name, channels and size of its images
    latent_dim: int
    seed: int
    train: TrainConfig
    method: Mapping[str, Any]  # every knob of the model's Config, defaults included
    model_version: str = "1"  # the class's `version`, or the hash of an included file
    dataset_hash: str | None = None  # content hash; None where the name alone fixes the content
    protocol: int = PROTOCOL
    preset: str = field(default="", compare=False)  # a label for people; not hashed

    @property
    def hash(self) -> str:
        """8 hex digits over everything that changes results, and over nothing else."""
        return self._hash_without("preset", *self._unhashed_fields)

    @property
    def variant(self) -> str:
        """The hash without the seed. Runs that share it are repetitions."""
        return self._hash_without("preset", "seed", *self._unhashed_fields)

    def settings(self, method: type[Method]) -> str:
        """Return the model's knobs that differ from their defaults, such as 'beta=2.0'."""
        defaults = asdict(method.Config(latent_dim=self.latent_dim, width=self.train.width))
        return ", ".join(f"{k}={v}" for k, v in self.method.items() if v != defaults.get(k))

    @property
    def _unhashed_fields(self) -> tuple[str, ...]:
        """Fields left out of the hash. If the content hash is known, the typed name of the dataset is left out."""
        return ("dataset",) if self.dataset_hash else ()

    def _hash_without(self, *names: str) -> str:
        content = {k: v for k, v in asdict(self).items() if k not in names}
        return hashlib.sha256(canonical(content).encode()).hexdigest()[:8]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for config.json."""
        return asdict(self) | {"hash": self.hash}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JobConfig:
        """Rebuild a configuration from config.json. Raises FlexbenchError for keys that this version does not know."""
        try:
            fields = {k: v for k, v in value.items() if k != "hash"}
            return cls(**fields | {"train": TrainConfig(**fields["train"])})
        except (TypeError, KeyError, AttributeError) as error:
            raise FlexbenchError(f"config.json is not one of this version of flexbench ({error}).") from error

    @property
    def data_spec(self) -> DataSpec:
        """The properties of the data that a method may know."""
        from ..method import DataSpec

        return DataSpec(**self.data)

    @property
    def budget(self) -> Budget:
        """Steps and batch size."""
        from ..method import Budget

        return Budget(self.train.steps, self.train.batch_size)

    def build(self, method: type[Method]) -> Method:
        """Return the untrained model. Raises FlexbenchError if its class no longer has one of the knobs."""
        return method(self.data_spec, replace_fields(method.Config(), self.method, self.model))


class Overrides:
    """Settings from a YAML file, then `--set key=value` pairs, then options, later ones winning.

    Keys are `train.<field>` for the shared budget and `<model>.<knob>` for one model.
    """

    def __init__(self, values: Mapping[str, Mapping[str, Any]] | None = None):
        self.values: dict[str, dict[str, Any]] = {section: dict(v) for section, v in (values or {}).items()}

    @classmethod
    def parse(cls, pairs: Iterable[str] = (), file: Path | None = None, **train: Any) -> Overrides:
        """Read a settings file, `--set` pairs and options of the budget; None means that an option is not given."""
        overrides = cls(read_yaml(file) if file else None)
        for pair in pairs:
            key, equals, text = pair.partition("=")
            section, dot, name = key.strip().partition(".")
            if not (equals and dot and name):
                raise FlexbenchError(
                    f"--set '{pair}' is not of the form train.KEY=VALUE or MODEL.KEY=VALUE, e.g. --set vae.beta=2."
                )
            overrides.values.setdefault(section, {})[name] = parse_value(pair, text)
        given = {k: v for k, v in train.items() if v is not None}
        if given:
            overrides.values.setdefault("train", {}).update(given)
        return overrides

    def check_sections(self, models: Iterable[str]) -> None:
        """Raise FlexbenchError for a section that is neither `train` nor a model."""
        valid = ["train", *models]
        for section in self.values:
            if section not in valid:
                raise unknown("section of settings", section, valid)

    def train(self, base: TrainConfig) -> TrainConfig:
        """Return the budget with its overrides. Raises FlexbenchError for a value that is not valid."""
        config = replace_fields(base, self.values.get("train", {}), "train")
        check_train(config)
        return config

    def method(self, name: str, config_class: type[MethodConfig], latent_dim: int, width: float) -> MethodConfig:
        """Return a model's knobs with their overrides. Latent size and width are those of the grid."""
        values = self.values.get(name, {})
        for shared, option in (("latent_dim", "--latent-dim"), ("width", "--width")):
            if shared in values:
                raise FlexbenchError(f"'{name}.{shared}' is shared by all models of a comparison: use {option}.")
        return replace_fields(config_class(latent_dim=latent_dim, width=width), values, name)


def parse_value(pair: str, text: str) -> Any:
    """Read the right-hand side of `--set` as a YAML value."""
    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError as error:
        raise FlexbenchError(f"--set '{pair}': '{text}' is not a value. Quote it if it is meant as text.") from error


def read_yaml(path: Path) -> dict[str, dict[str, Any]]:
    """Read a settings file: a mapping of sections to mappings."""
    try:
        value = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise FlexbenchError(f"--config: cannot read '{path}': {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise FlexbenchError(f"--config: '{path}' is not a text file in UTF-8.") from error
    except yaml.YAMLError as error:
        raise FlexbenchError(f"--config: '{path}' is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise FlexbenchError(
            f"--config: '{path}' must hold sections such as 'train:' or 'vae:' with 'key: value' lines."
        )
    return value


def replace_fields(config: Any, values: Mapping[str, Any], section: str) -> Any:
    """Return a frozen dataclass with some fields replaced. Raises FlexbenchError for unknown keys and wrong types."""
    hints = typing.get_type_hints(type(config))
    names = [f.name for f in dataclasses.fields(config)]
    changes = {}
    for key, value in values.items():
        if key not in names:
            raise unknown("setting", f"{section}.{key}", [f"{section}.{name}" for name in names])
        changes[key] = coerce(value, hints[key], f"{section}.{key}")
    try:
        return dataclasses.replace(config, **changes)
    except ValueError as error:  # a range that the dataclass itself checks
        raise FlexbenchError(f"{section}.{error}.") from error


def coerce(value: Any, hint: Any, key: str) -> Any:
    """Return `value` as the annotated type. Raises FlexbenchError if it has another type.

    The type may be int, float, bool, str, a Literal choice of these, or a union of all of them with None.
    """
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    options = typing.get_args(hint) if union else (hint,)
    for option in options:
        if option is types.NoneType and value is None:
            return None
        if option in (int, bool, str) and type(value) is option:
            return value
        if option is float and (number := _as_float(value)) is not None:
            return number
        if typing.get_origin(option) is typing.Literal and value in typing.get_args(option):
            return value
    raise FlexbenchError(f"{key}: '{value}' is not a valid value; it must be {' or '.join(map(_wanted, options))}.")


def _wanted(option: Any) -> str:
    """Describe an annotated type in words."""
    if typing.get_origin(option) is typing.Literal:
        return " or ".join(map(str, typing.get_args(option)))
    return "null" if option is types.NoneType else getattr(option, "__name__", str(option))


def _as_float(value: Any) -> float | None:
    """Return a finite number, or None. Text such as '1e-3' counts: YAML 1.1 reads it as a string."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def check_train(config: TrainConfig) -> None:
    """Raise FlexbenchError for a budget with which no model can be trained."""
    rules = {
        "steps": (config.steps >= 1, "at least 1"),
        "batch_size": (config.batch_size >= 2, "at least 2, since batch norm needs two images"),
        "width": (config.width > 0, "greater than 0"),
        "lr_factor": (config.lr_factor > 0, "greater than 0"),
        "precision": (config.precision in ("fp32", "bf16"), "fp32 or bf16"),
    }
    for name, (fine, wanted) in rules.items():
        if not fine:
            raise FlexbenchError(f"train.{name}: {getattr(config, name)} is not valid; it must be {wanted}.")


def label(name: str, base: TrainConfig, config: TrainConfig) -> str:
    """Return the preset's name with the changed values: 'cpu' or 'cpu[steps=500]'."""
    changed = [f"{k}={v}" for k, v in asdict(config).items() if v != getattr(base, k)]
    return f"{name}[{','.join(changed)}]" if changed else name
