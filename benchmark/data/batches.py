"""Training batches whose order is a pure function of (seed, phase, counter), so there is no state to save."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..core.seeding import derive


class Rows(Protocol):
    """An object with a length whose rows can be taken by index: a dataset split, or the cached inputs of a phase."""

    def __len__(self) -> int: ...
    def take(self, indices: np.ndarray) -> np.ndarray | Tensor: ...


class CachedRows:
    """The rows of a tensor in memory."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def take(self, indices: np.ndarray) -> Tensor:
        return self.tensor[torch.from_numpy(indices)]

    def digest(self) -> str:
        """Return the hex SHA-256 of the content."""
        return hashlib.sha256(self.tensor.contiguous().numpy().data).hexdigest()


def to_device(rows: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Move rows to a device. Stored images (uint8) become floats in [0, 1]; other types are kept."""
    tensor = torch.as_tensor(rows).to(device)
    return tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor


class Batches:
    """An endless iterator of batches drawn uniformly with replacement, as in the FlexAE release. There are no epochs.

    Batch k of a phase depends on (seed, phase, k) alone, so a resumed run only needs the counter `drawn`.
    """

    def __init__(self, rows: Rows, size: int, seed: int, phase: str, device: torch.device, drawn: int = 0):
        self.rows, self.size, self.device, self.drawn = rows, size, device, drawn
        self._key = derive(seed, "data", phase)

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        # The counter of batches is the top word of Philox's counter. Within a batch Philox counts up the lower words,
        # so no two batches share random numbers.
        rng = np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, 0, self.drawn]))
        self.drawn += 1
        return to_device(self.rows.take(rng.integers(0, len(self.rows), self.size)), self.device)


def in_order(rows: Rows, device: torch.device, size: int = 500) -> Iterator[Tensor]:
    """Yield every row once, in order, in batches of at most `size`."""
    for start in range(0, len(rows), size):
        yield to_device(rows.take(np.arange(start, min(start + size, len(rows)))), device)


@torch.no_grad()
def map_rows(rows: Rows, function: Callable[[Tensor], Tensor], device: torch.device) -> CachedRows:
    """Apply a phase's `inputs` to every row once. The result is kept in CPU memory."""
    return CachedRows(torch.cat([function(x).cpu() for x in in_order(rows, device)]))
