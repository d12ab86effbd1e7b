"""Canonical JSON: equal values give the same text. Configurations are hashed in this form."""

from __future__ import annotations

import json
from typing import Any


def canonical(value: Any) -> str:
    """Return the one JSON text that equal values share: sorted keys, no spaces.

    >>> canonical({"b": 1, "a": [1.0, None]})
    '{"a":[1.0,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
