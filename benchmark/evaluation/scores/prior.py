"""The distance between the codes of a model and its prior."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..diagnostics import count_codes

if TYPE_CHECKING:
    from ..references import References, TrainedModel


def mismatch(model: TrainedModel, references: References) -> tuple[float, None, int]:
    """Sliced Wasserstein-1 distance between posterior and prior samples, over the RMS code; see `diagnostics`."""
    train = references.dataset.train
    return model.prior_mismatch(train), None, count_codes(model.method, train)
