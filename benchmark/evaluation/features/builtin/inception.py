"""Inception 2015-12-05 with the resizing of clean-fid (Parmar et al., CVPR 2022, https://arxiv.org/abs/2104.11222).

A Fréchet distance is called FID in this space only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import urllib.request
import warnings
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ....core.errors import FlexbenchError
from ....core.files import cache_dir, ensure_dir, sha256_file
from ..declaration import FeatureSpace, SpaceInfo
from ..network import NetworkSpace
from ..weights import verify

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = "inception"
FILE = "inception-2015-12-05.pt"
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{FILE}"


class InceptionSpace(NetworkSpace):
    """uint8 [B, 3, H, W] -> float32 [B, 2048] by clean-fid's network and its resizer."""

    is_fid = True

    def __init__(self, path: Path, device: str):
        fingerprint = {
            "weights_sha256": SHA256,
            "input_size": 299,
            "resize": "clean-fid: PIL bicubic on floats, clipped to [0, 255]",
            "preprocessing": "(x-128)/128",
        }
        super().__init__(NAME, fingerprint, lambda: load(path), 32, device)

    def run(self, x: Tensor) -> Tensor:
        """Resize a batch on the CPU, then apply the network."""
        import torch
        from cleanfid.resize import build_resizer

        resizer = build_resizer("clean")
        resized = np.stack([resizer(image) for image in x.permute(0, 2, 3, 1).cpu().numpy()])
        # Unoptimised: the optimiser recompiles after the first calls, and equal images would differ by rounding.
        with torch.jit.optimized_execution(False):
            return self.network(torch.from_numpy(resized).permute(0, 3, 1, 2).to(x.device))


def load(path: Path) -> nn.Module:
    """clean-fid's network with the weights of a file."""
    from cleanfid.inception_torchscript import InceptionV3W

    with _named(path, FILE) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, but the file is of that kind
        return InceptionV3W(str(folder), download=False)


def _build(device: str, weights: str | Path | None = None) -> FeatureSpace:
    """`weights` is the file; by default $FLEXBENCH_INCEPTION, or the file in the cache folder."""
    try:
        import cleanfid  # noqa: F401
    except ImportError as error:
        raise FlexbenchError("FID needs clean-fid: pip install 'flexbench[inception]'") from error
    path = _find(weights)
    verify(path, SHA256, _how_to_get())
    return InceptionSpace(path, device)


INCEPTION = SpaceInfo(
    NAME, "Inception 2015-12-05 by clean-fid: FID proper, needs the weights file", 2048, _build, takes_weights=True
)


def download_inception() -> Path:
    """Fetch the Inception weights (96 MB) to the cache folder and return the path of the file.

    A file that is there with the right SHA-256 is kept. A new file appears only when it is complete and has this hash.
    Raises FlexbenchError if the download fails.
    """
    path = _cached()
    if path.is_file() and sha256_file(path) == SHA256:
        return path
    ensure_dir(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
        draft = Path(folder, FILE)
        try:
            with urllib.request.urlopen(URL, timeout=60) as response, open(draft, "wb") as file:
                shutil.copyfileobj(response, file)
        except (OSError, HTTPException) as error:
            raise FlexbenchError(f"cannot download {URL} ({error}). {_how_to_get()}") from error
        verify(draft, SHA256, "The download is damaged: try again.")
        os.replace(draft, path)
    return path


def _find(weights: str | Path | None) -> Path:
    chosen = weights or os.environ.get("FLEXBENCH_INCEPTION")
    path = Path(chosen).expanduser() if chosen else _cached()
    if not path.is_file():
        raise FlexbenchError(f"the Inception weights are not at '{path}'. {_how_to_get()}")
    return path


def _cached() -> Path:
    return cache_dir() / "weights" / FILE


def _how_to_get() -> str:
    return (
        f"Fetch the file with --download-inception, put it at '{_cached()}', or name it by "
        f"--inception-weights FILE or FLEXBENCH_INCEPTION: {FILE}, SHA-256 {SHA256}."
    )


@contextlib.contextmanager
def _named(path: Path, name: str) -> Iterator[Path]:
    """A folder in which the file at `path` has this name: its own folder, or a temporary one with a copy."""
    if path.name == name:
        yield path.parent
        return
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(path, Path(folder, name))
        yield Path(folder)
