"""The declaration of a dataset: everything that is known before any of its files is read. Imports no numpy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import FlexbenchError

if TYPE_CHECKING:
    import numpy as np

VECTOR_SPACE = "coordinates"  # name of the feature space that keeps vectors as they are
SIZES = range(8, 513, 4)  # sides in pixels that the shared networks accept
LARGEST_LATENT = 4096


@dataclass(frozen=True, eq=False)
class LatentModes:
    """The true latent space of vectors that come from a mixture of Gaussians with equal weights.

    The labels of such a dataset are [N, 1 + n]: the number of the mode, then the latent.
    """

    centres: np.ndarray  # [K, n], float
    std: float  # standard deviation of each mode in each dimension
    embed: Callable[[np.ndarray], np.ndarray]  # latents [N, n] -> their vectors, float32 [N, D]


@dataclass(frozen=True)
class DatasetInfo:
    """The declaration of one dataset. Give it either `load`, a function that returns the data, or `open`, a source.

    `load(data_dir)` returns {"train": x, "test": y}, and "val" too if the dataset has an official validation split.
    Without "val", a tenth of the training images becomes the validation split. Each value is an array, a pair
    (array, labels), or an indexable object with a length whose items are images or pairs (image, label). See
    `benchmark.data.loaded` for the accepted shapes and types.
    """

    name: str  # as the user types it
    title: str
    channels: int | None  # 1 or 3; for vectors, how many numbers they have; None: known once the images are read
    size: int  # height and width in pixels, a multiple of 4 from 8 to 512; 1 for vectors
    latent_dim: int  # default size of the latent space
    splits: str = ""  # published counts, for people
    licence: str = "not stated"
    source: str = ""  # where the data come from, for people
    note: str = ""  # what a user should know about this version of the data
    true_dim: int | None = None  # dimension of the space that the data are drawn from, where it is known
    space: str | None = None  # the one feature space that fits the data; vectors get VECTOR_SPACE by default
    content_hash: str | None = None  # hash of the standard data, where it is known; other data are refused
    label_names: tuple[str, ...] = ()  # names of the classes (labels [N]) or of the columns (labels [N, K])
    main_labels: tuple[str, ...] = ()  # columns of the labels that figures show first
    files: tuple[str, ...] = ()  # patterns below the data folder; `load` is called again when one of these changes
    modes: LatentModes | None = field(default=None, compare=False)  # of the true latent space, where the data have them
    resizable: bool = False  # whether --image-size may replace `size`
    form: str = ""  # how a name with an argument is written: "name:N", or "name:PATH" for a path of this machine
    load: Callable[[Path], Mapping[str, Any]] | None = field(default=None, compare=False, repr=False)
    # gets the declaration, the data folder and whether it may download; returns a `source.Source`
    open: Callable[[DatasetInfo, Path, bool], Any] | None = field(default=None, compare=False, repr=False)
    parse: Callable[[DatasetInfo, str], DatasetInfo] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.space is None and not self.are_images:
            object.__setattr__(self, "space", VECTOR_SPACE)

    @property
    def kind(self) -> str:
        """The name without its argument: 'name' for 'name:2000'."""
        return self.name.partition(":")[0]

    @property
    def are_images(self) -> bool:
        """Whether the data are images. Vectors are stored as images of one pixel with a channel for each number."""
        return self.size > 1

    @property
    def shape(self) -> str:
        """The shape of one image or vector as text, see `shape_of`."""
        return shape_of(self.channels, self.size)

    @property
    def slug(self) -> str:
        """The name in a form that is safe in a file name: 'name-2000' for 'name:2000', 'name-cats' for a path."""
        argument = self.name.partition(":")[2]
        last = Path(argument).expanduser().resolve().name if argument else ""
        return "-".join(filter(None, [self.kind, re.sub(r"[^\w.-]+", "-", last, flags=re.ASCII).strip("-")]))


def shape_of(channels: int | None, size: int) -> str:
    """Return a shape as text: '28x28x1' for images ('1|3' channels if not known yet), '128 numbers' for vectors."""
    return f"{size}x{size}x{channels or '1|3'}" if size > 1 else f"{channels} numbers"


def check_size(size: int) -> int:
    """Return `size` if the shared networks accept images of it. Raises FlexbenchError otherwise."""
    if size not in SIZES:
        raise FlexbenchError(f"image size {size} is not possible: it is a multiple of 4 from 8 to 512.")
    return size


def check_declaration(info: DatasetInfo) -> None:
    """Raise FlexbenchError if a declaration has a value that no dataset can have."""
    vectors = info.size == 1
    rules = {
        "name": (bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", info.kind)) and (info.parse or info.kind == info.name),
                 "lower-case letters, digits, '-', '.' and '_'"),
        "size": (vectors or info.size in SIZES, "a multiple of 4 from 8 to 512, or 1 for vectors"),
        "channels": (_positive(info.channels) if vectors else info.channels in ((1, 3) if info.load else (1, 3, None)),
                     "the number of values of a vector" if vectors else "1 (grey) or 3 (RGB)"),
        "latent_dim": (_positive(info.latent_dim) and info.latent_dim <= LARGEST_LATENT, f"1 to {LARGEST_LATENT}"),
        "true_dim": (info.true_dim is None or _positive(info.true_dim), "a whole number from 1, or None"),
        "load": ((info.load is None) != (info.open is None), "a function that returns the data"),
    }  # fmt: skip
    for name, (holds, wanted) in rules.items():
        if not holds:
            raise FlexbenchError(f"{name} is {getattr(info, name)!r}; it must be {wanted}.")


def _positive(value: object) -> bool:
    return type(value) is int and value >= 1
