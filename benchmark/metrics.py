"""What the suite measures: one declaration per score, which tables and lists read. Imports neither torch nor numpy.

A score's *name* carries its protocol: `gen_fd10k_test@efficientnet_lite0@128` is the Frechet distance of 10,000
generated images against 10,000 test images in that feature space; only Inception features by clean-fid make it
`gen_fid10k_test`. Its *family*, `gen_fd`, is what the declaration below describes.
"""

from __future__ import annotations

from dataclasses import dataclass

PROTOCOL = 1  # of scoring; raised when any score would change for the same images
DEFAULT_SPACE = "efficientnet_lite0@128"  # needs no download; see features.FEATURE_SPACES


@dataclass(frozen=True)
class Metric:
    """One family of scores."""

    family: str
    title: str
    better: str | None = None  # "lower", "higher", or None where neither is better by itself
    table: int | None = None  # number of the paper's table that shows it
    column: str = ""  # heading there
    floor: str | None = None  # family of the same score for real images: what a perfect model would get
    control: str | None = None  # family of the same score for images that are known to be copies


_DECLARED = [
    Metric("rec_fd", "Frechet distance, reconstructed test images against test images", "lower", 1, "Rec.", "real_fd"),
    Metric("gen_fd", "Frechet distance, generated images against test images", "lower", 1, "Gen.", "real_fd"),
    Metric("real_fd", "Frechet distance, training images against test images", "lower"),
    Metric("gen_fd_val", "Frechet distance, generated images against validation images", "lower"),
    Metric("rec_mse", "squared error per value of reconstructed test images (pixels in [0, 1]) or vectors", "lower"),
    Metric("prior_mismatch", "sliced Wasserstein distance of codes and prior samples, over the RMS code", "lower"),
    Metric("gen_precision_f1_8", "PRD precision (F_1/8) of generated images", "higher", 2, "Precision",
           "real_precision_f1_8"),
    Metric("gen_recall_f8", "PRD recall (F_8) of generated images", "higher", 2, "Recall", "real_recall_f8"),
    Metric("rec_precision_f1_8", "PRD precision (F_1/8) of reconstructed images", "higher"),
    Metric("rec_recall_f8", "PRD recall (F_8) of reconstructed images", "higher"),
    Metric("real_precision_f1_8", "PRD precision (F_1/8) of training images", "higher"),
    Metric("real_recall_f8", "PRD recall (F_8) of training images", "higher"),
]  # fmt: skip
_WORDS = {"gen": "generated", "rec": "reconstructed", "tr": "training", "val": "validation", "copy": "noisy training"}
_BASES = {"tr": "of the training images compared with", "te": "test image", "all": "of all training images"}
_PAIRS = {"gen": "tr te all", "rec": "tr te", "tr": "tr te", "val": "all", "copy": "tr te all"}
for _kind, _space in (("pms", "pixels"), ("ims", "feature space")):
    for _a, _b in ((a, b) for a, bases in _PAIRS.items() for b in bases.split()):
        _shown = _a == "gen"
        _DECLARED.append(Metric(
            f"{_kind}_{_a}_{_b}",
            f"{_kind.upper()}: mean distance of {_WORDS[_a]} images to the nearest {_BASES[_b]}, {_space}",
            table=4 if _shown else None,
            column=f"{_kind.upper()} Gen-{_b.title()}" if _shown else "",
            floor=(f"{_kind}_val_all" if _b == "all" else f"{_kind}_tr_{_b}") if _shown else None,
            control=f"{_kind}_copy_{_b}" if _shown else None,
        ))  # fmt: skip
    for _a in ("gen", "val", "copy"):
        _shown = _a == "gen"
        _DECLARED.append(Metric(
            f"{_kind}_ratio_{_a}",
            f"share of {_WORDS[_a]} images whose nearest of all training and test images is a training image, {_space}",
            table=4 if _shown else None,
            column=f"nearest in Tr, {'pixels' if _kind == 'pms' else 'features'}" if _shown else "",
            floor=f"{_kind}_ratio_val" if _shown else None,
            control=f"{_kind}_ratio_copy" if _shown else None,
        ))  # fmt: skip

METRICS: dict[str, Metric] = {metric.family: metric for metric in _DECLARED}

TABLE_TITLES = {
    1: "Frechet distance of reconstructed and generated images to test images (lower is better)",
    2: "Precision and recall of generated images, PRD F_1/8 and F_8 (higher is better)",
    3: "Frechet distance of reconstructed and generated images against the latent size m (lower is better)",
    4: "Memorisation: mean distance to the nearest training and test image, and how often it is a training one",
}


def count_label(n: int) -> str:
    """10000 -> '10k', 256 -> '256': how a number of images stands in a score's name."""
    return f"{n // 1000}k" if n % 1000 == 0 else str(n)


def metric_name(family: str, n: int, space: str | None = None, is_fid: bool = False) -> str:
    """The full name of a score: its family, for Frechet distances the number of images, and the feature space.

    >>> metric_name("gen_fd", 10_000, "inception", is_fid=True), metric_name("real_fd", 256, "pixels")
    ('gen_fid10k_test', 'real_fd256_test@pixels')
    >>> metric_name("gen_recall_f8", 10_000, "inception", is_fid=True), metric_name("pms_gen_tr", 10_000)
    ('gen_recall_f8@inception', 'pms_gen_tr')
    """
    subject, _, rest = family.partition("_")
    if not rest.startswith("fd"):
        return f"{family}@{space}" if space else family
    reference = rest.removeprefix("fd").lstrip("_") or "test"
    distance = f"{subject}_{'fid' if is_fid else 'fd'}{count_label(n)}_{reference}"
    return distance if is_fid else f"{distance}@{space}"
