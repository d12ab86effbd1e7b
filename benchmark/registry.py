"""The models by name, and everything that plug-ins define: models, datasets, metrics and feature spaces.

A plug-in is a Python file given by `--include`, or an installed package with entry points. A model is imported when it
is asked for. Datasets, metrics and feature spaces go into the process-wide tables of the modules that own them.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .core.errors import FlexbenchError, unknown

if TYPE_CHECKING:
    from .method import Method

BUILT_IN = {
    "vae": "baselines.vae:VAE",
    "vae-flow": "baselines.vae_flow:VAEFlow",
    "vampprior": "baselines.vampprior:VampPrior",
    "vae-iop": "baselines.vae_iop:VAEIOP",
    "vq-vae": "baselines.vq_vae:VQVAE",
    "wae-gan": "baselines.wae_gan:WAEGAN",
    "wae-mmd": "baselines.wae_mmd:WAEMMD",
    "wae-gmm": "baselines.wae_gmm:WAEGMM",
    "2s-vae": "baselines.two_stage_vae:TwoStageVAE",
    "ae-gmm": "baselines.ae_gmm:AEGMM",
    "rae-gmm": "baselines.rae_gmm:RAEGMM",
    "mask-aae": "baselines.mask_aae:MaskAAE",
    "pioneer": "baselines.pioneer:Pioneer",
    "alae": "baselines.alae:ALAE",
    "flexae": "flexae.flexae:FlexAE",
    "flexae-sr": "flexae.flexae_sr:FlexAESR",
}
RESERVED = ("all", "train")  # a word of --models, and a section of settings
MODEL_GROUP = "flexbench.models"  # the entry-point group of models


@dataclass(frozen=True)
class Kind:
    """A kind of plug-in besides models: a class, and the function that registers its instances.

    Some owners stand above this module, which must not import them. A plug-in that declares an instance has imported
    the owner, so the owner is looked up in `sys.modules`.
    """

    noun: str
    owner: str  # module with the class and the function `register(instance, origin)`
    class_name: str
    group: str  # entry-point group

    def is_instance(self, value: object) -> bool:
        """Return whether a value is a declaration of this kind."""
        owner = sys.modules.get(self.owner)
        return hasattr(owner, "register") and isinstance(value, getattr(owner, self.class_name))

    def is_registered(self, value: object) -> bool:
        """Return whether this very object stands in a table of the owner: then another module has defined it."""
        tables = [table for table in vars(sys.modules[self.owner]).values() if isinstance(table, dict)]
        return any(value is known for table in tables for known in table.values())

    def register(self, value: Any, origin: str) -> None:
        """Add a declaration to the owner's table."""
        sys.modules[self.owner].register(value, origin)


KINDS = (
    Kind("dataset", "benchmark.data.info", "DatasetInfo", "flexbench.datasets"),
    Kind("metric", "benchmark.metrics", "Metric", "flexbench.metrics"),
    Kind("feature space", "benchmark.evaluation.features.spaces", "SpaceInfo", "flexbench.features"),
)


@dataclass(frozen=True)
class Included:
    """One thing that an included file defines."""

    noun: str  # "model", or the noun of a Kind
    name: str
    value: Any  # the class of a model, or the instance


@dataclass
class Registry:
    """Models by the name a user types. A target is "module:attribute", or a class once it is loaded."""

    targets: dict[str, str | type[Method]] = field(default_factory=lambda: dict(BUILT_IN))
    origins: dict[str, str] = field(default_factory=dict)  # name of a model -> file or package, unless it is built in
    sources: dict[str, str] = field(default_factory=dict)  # name of an included model -> hash of its file
    included: list[Included] = field(default_factory=list)  # everything that included files define

    @classmethod
    def load(cls, include: Iterable[str | Path] = ()) -> Registry:
        """Register the entry points of installed packages and the files or folders in `include`.

        Returns the models. Raises FlexbenchError for a file that cannot be imported or defines nothing, and for a name
        that is taken.
        """
        registry = cls()
        for point in entry_points(group=MODEL_GROUP):
            registry.add(point.name, point.value, point.value)
        for kind in KINDS:
            for point in entry_points(group=kind.group):
                kind.register(_instance(point, kind), point.value)
        for path in dict.fromkeys(Path(p).resolve() for p in include):
            registry.include(path)
        return registry

    def add(self, name: str, target: str | type[Method], origin: str) -> None:
        """Register one model. Raises FlexbenchError for a bad name, and for a taken one; it names both owners."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) or name in RESERVED:
            raise FlexbenchError(
                f"'{name}' of {origin} cannot be a model's name: use lower-case letters, digits, '-', '.' and '_', "
                f"but not {' or '.join(RESERVED)}."
            )
        if name in self.targets:
            taken = self.origins.get(name, self.targets[name])
            raise FlexbenchError(f"model '{name}' of {origin} is already defined by {taken}. Rename one of them.")
        self.targets[name], self.origins[name] = target, origin

    def include(self, path: Path) -> None:
        """Register everything that a Python file defines, or all Python files of a folder."""
        if not path.exists():
            raise FlexbenchError(f"--include: there is no file or folder '{path}'.")
        before = len(self.included)
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            self._include_file(file)
        if len(self.included) == before:
            raise FlexbenchError(
                f"--include: '{path}' defines no subclass of benchmark.method.Method with a name, and no DatasetInfo, "
                "Metric or SpaceInfo."
            )

    def _include_file(self, file: Path) -> None:
        module = _import_file(file)
        for method in _methods_of(module):
            self.add(method.name, method, str(file))
            self.sources[method.name] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
            self.included.append(Included("model", method.name, method))
        for kind in KINDS:
            for name, value in _instances_of(module, kind, file).items():
                kind.register(value, str(file))
                self.included.append(Included(kind.noun, name, value))

    def get(self, name: str) -> type[Method]:
        """Return the class of a model. Raises FlexbenchError with a suggestion for an unknown name."""
        if name not in self.targets:
            raise unknown("model", name, self.targets, "See 'flexbench ls models'; add your own with --include FILE.")
        target = self.targets[name]
        if isinstance(target, str):
            module, attribute = target.split(":")
            target = self.targets[name] = getattr(importlib.import_module(module), attribute)
        return target

    def version(self, name: str) -> str:
        """Return the text that identifies a model's code: its class's `version`, or the hash of an included file."""
        return self.sources.get(name, str(self.get(name).version))

    def match(self, patterns: str) -> list[str]:
        """Return the names that a comma-separated list of names and globs, or `all`, stands for, in registry order."""
        names: list[str] = []
        for pattern in filter(None, (p.strip() for p in patterns.split(","))):
            wanted = "*" if pattern == "all" else pattern
            hits = [name for name in self.targets if fnmatch.fnmatchcase(name, wanted)]
            if not hits:
                self.get(pattern)  # raises the error for an unknown name
            names += hits or [pattern]
        if not names:
            raise FlexbenchError("no model given. Use --models all, or names from 'flexbench ls models'.")
        return [name for name in self.targets if name in names]


def _import_file(file: Path) -> ModuleType:
    """Run a Python file as a module of its own. Raises FlexbenchError if that fails."""
    module_name = f"flexbench_include_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise FlexbenchError(f"--include: '{file}' is not a Python file.")
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise FlexbenchError(f"--include: importing '{file}' failed: {type(error).__name__}: {error}") from error
    return module


def _methods_of(module: ModuleType) -> list[type[Method]]:
    """Return the `Method` subclasses that a module itself defines and names.

    A module that defines one has imported `benchmark.method`. Nothing is imported here, because that would load torch.
    """
    if "benchmark.method" not in sys.modules:
        return []
    base = sys.modules["benchmark.method"].Method
    classes = dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
    return [c for c in classes if issubclass(c, base) and c.__module__ == module.__name__ and "name" in vars(c)]


def _instances_of(module: ModuleType, kind: Kind, file: Path) -> dict[str, Any]:
    """Return the declarations of one kind that a module itself defines, by name."""
    found: dict[str, Any] = {}
    for value in vars(module).values():
        if not kind.is_instance(value) or kind.is_registered(value):
            continue
        name = str(getattr(value, "name", None) or getattr(value, "family", ""))
        if found.setdefault(name, value) is not value:
            raise FlexbenchError(f"--include: '{file}' defines the {kind.noun} '{name}' twice. Rename one of them.")
    return found


def _instance(point: EntryPoint, kind: Kind) -> Any:
    """Return the declaration that an entry point names. Raises FlexbenchError if it cannot be imported or is none."""
    where = f"the entry point '{point.name} = {point.value}' of the group '{kind.group}'"
    try:
        value = point.load()
    except Exception as error:
        raise FlexbenchError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
    if not kind.is_instance(value):
        raise FlexbenchError(f"{where} must name a {kind.class_name} of {kind.owner}.")
    return value
