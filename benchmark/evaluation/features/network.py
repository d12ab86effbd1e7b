"""Feature spaces computed by a network with fixed weights. torch is imported when features are computed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .declaration import FeatureSpace, batches, check_images

if TYPE_CHECKING:
    from torch import Tensor, nn


class NetworkSpace(FeatureSpace):
    """The output of a network with fixed weights, in float32.

    Args:
        build: returns the network, uint8 [B, 3, H, W] -> float32 [B, d]. It is called for the first image, so cached
            features cost no loading.
        batch_size: number of images in every batch. The last batch is filled up, because the rounding of a network may
            depend on the size of its batch.
    """

    def __init__(
        self, name: str, fingerprint: dict[str, Any], build: Callable[[], nn.Module], batch_size: int, device: str
    ):
        super().__init__(name, fingerprint, device)
        self.build, self.batch_size = build, batch_size
        self._network: nn.Module | None = None

    @property
    def network(self) -> nn.Module:
        """The network in eval mode, built when it is first asked for."""
        if self._network is None:
            self._network = self.build().eval().to(self.device)
        return self._network

    def embed(self, images: np.ndarray) -> np.ndarray:
        """uint8 images [N, 1 or 3, H, W] -> float32 features [N, d]."""
        import torch

        check_images(images)
        assert not any(module.training for module in self.network.modules()), "the feature network left eval mode"
        with torch.inference_mode(), _full_precision(self.device):
            return np.concatenate([self._features(batch) for batch in batches(images, self.batch_size)])

    def run(self, x: Tensor) -> Tensor:
        """One batch, uint8 [B, 3, H, W] -> float32 [B, d]; override it to prepare the images."""
        return self.network(x)

    def _features(self, batch: np.ndarray) -> np.ndarray:
        import torch

        full = np.zeros((self.batch_size, 3, *batch.shape[2:]), dtype=np.uint8)
        full[: len(batch)] = batch  # grey images are repeated to three channels
        return self.run(torch.from_numpy(full).to(self.device))[: len(batch)].cpu().numpy()


@contextlib.contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """Plain float32 whatever the caller's settings: no autocast, no TF32, deterministic cuDNN algorithms."""
    import torch

    cudnn = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.autocast(torch.device(device).type, enabled=False), cudnn:
        yield
