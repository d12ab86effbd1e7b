"""One seed per purpose, so that a new random draw in one place changes no draw elsewhere."""

from __future__ import annotations

import hashlib


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed that depends on the run's seed and on every word of the purpose.

    >>> derive(0, "weights") == derive(0, "weights") != derive(0, "noise")
    True
    """
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (all devices).

    The training loop calls this before every step, with a seed derived from the number of the step. A method may
    therefore draw from any global generator and still resume to the same numbers.
    """
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
