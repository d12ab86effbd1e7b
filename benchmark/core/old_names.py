"""Names that older versions wrote to files, and the names of today: what readers of old files look up."""

from __future__ import annotations


def current_family(family: str) -> str:
    """The name of today for a family of scores.

    >>> current_family("pms_share_gen"), current_family("gen_fd")
    ('pms_ratio_gen', 'gen_fd')
    """
    return family.replace("ms_share_", "ms_ratio_") if family.startswith(("pms_share_", "ims_share_")) else family
