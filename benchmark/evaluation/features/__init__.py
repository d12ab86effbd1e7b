"""Feature spaces: fixed maps from 8-bit images to vectors, which the scores compare. Importing this imports no torch.

Fréchet distances compare only within one feature space. Therefore the weights are checked by their SHA-256 before they
are loaded, `FeatureSpace.fingerprint` holds everything that changes the numbers, and nothing falls back to other
weights. docs/add_a_feature_space.md shows how to add a space.
"""

from .builtin.inception import download_inception
from .cache import cached_features
from .declaration import FeatureSpace, FunctionSpace, SpaceInfo
from .network import NetworkSpace
from .spaces import FEATURE_SPACES, feature_space, slow_import

__all__ = [
    "FEATURE_SPACES", "FeatureSpace", "FunctionSpace", "NetworkSpace", "SpaceInfo", "cached_features",
    "download_inception", "feature_space", "slow_import",
]  # fmt: skip
