"""Names -> things, imported only when asked for: the suite's models, entry points, and users' own files."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

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
ENTRY_POINTS = "flexbench.models"  # a package may register models under this entry-point group


@dataclass
class Registry:
    """Models by the name a user types. A target is "module:attribute", or a class once it is loaded."""

    targets: dict[str, str | type[Method]] = field(default_factory=lambda: dict(BUILT_IN))
    origins: dict[str, str] = field(default_factory=dict)  # name -> file or package, for names not built in
    sources: dict[str, str] = field(default_factory=dict)  # name -> hash of an included file

    @classmethod
    def load(cls, include: Iterable[str | Path] = ()) -> Registry:
        """Built-in models, installed entry points, and the models of the files or folders in `include`."""
        registry = cls()
        for point in entry_points(group=ENTRY_POINTS):
            registry.add(point.name, point.value, point.value)
        for path in dict.fromkeys(Path(p).resolve() for p in include):
            registry.include(path)
        return registry

    def add(self, name: str, target: str | type[Method], origin: str) -> None:
        """Register one model; a bad name, and one that is taken, are errors that name the owners."""
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
        """Register every `Method` that a Python file defines, or those of all Python files of a folder."""
        if not path.exists():
            raise FlexbenchError(f"--include: there is no file or folder '{path}'.")
        found = 0
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            for method in _methods_of(file):
                self.add(method.name, method, str(file))
                self.sources[method.name] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
                found += 1
        if not found:
            raise FlexbenchError(f"--include: '{path}' defines no subclass of benchmark.method.Method with a name.")

    def get(self, name: str) -> type[Method]:
        """The class of a model; FlexbenchError with a suggestion for an unknown name."""
        if name not in self.targets:
            raise unknown("model", name, self.targets, "See 'flexbench ls models'; add your own with --include FILE.")
        target = self.targets[name]
        if isinstance(target, str):
            module, attribute = target.split(":")
            target = self.targets[name] = getattr(importlib.import_module(module), attribute)
        return target

    def version(self, name: str) -> str:
        """What tells one version of a model from another: its class's `version`, or the hash of an included file."""
        return self.sources.get(name, str(self.get(name).version))

    def match(self, patterns: str) -> list[str]:
        """Names for a comma-separated list of names and globs, or `all`, in the order of the registry, each once."""
        names: list[str] = []
        for pattern in filter(None, (p.strip() for p in patterns.split(","))):
            wanted = "*" if pattern == "all" else pattern
            hits = [name for name in self.targets if fnmatch.fnmatchcase(name, wanted)]
            names += hits or [self.get(pattern) and pattern]
        if not names:
            raise FlexbenchError("no model given. Use --models all, or names from 'flexbench ls models'.")
        return [name for name in self.targets if name in names]


def _methods_of(file: Path) -> list[type[Method]]:
    """The `Method` subclasses that a Python file itself defines and names."""
    from .method import Method

    module_name = f"flexbench_include_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise FlexbenchError(f"--include: '{file}' is not a Python file.")
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise FlexbenchError(f"--include: importing '{file}' failed: {type(error).__name__}: {error}") from error
    classes = dict.fromkeys(value for value in vars(module).values() if isinstance(value, type))
    return [c for c in classes if issubclass(c, Method) and c.__module__ == module_name and "name" in vars(c)]
