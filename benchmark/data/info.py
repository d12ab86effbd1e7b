"""What is known about each dataset before any of its files is read."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import FlexbenchError, unknown

_SPRITES_RANGE = (20, 10_000_000)  # images in 'sprites:N': enough for three splits, and not the disk by a slip
FOLDER_PREFIX = "folder:"
VECTOR_SPACE = "coordinates"  # name of the feature space of data that are no images


@dataclass(frozen=True)
class DatasetInfo:
    """Metadata of one dataset; a tenth of the training images becomes 'val' unless `splits` names its own."""

    name: str  # as typed by the user
    title: str
    channels: int | None  # None: known once the images have been read
    size: int  # height and width in pixels; 1 for vectors
    latent_dim: int  # default size of the latent space
    splits: str  # published counts, for people
    licence: str
    source: str
    note: str = ""
    true_dim: int | None = None  # numbers that an image is drawn from, where that is known
    space: str | None = None  # the one feature space that makes sense, where the data are no images
    main_labels: tuple[str, ...] = ()  # attributes that figures show first
    content_hash: str | None = None  # that of the standard data, where it is known; others are refused

    @property
    def kind(self) -> str:
        """The name without its argument: 'sprites' for 'sprites:2000'."""
        return self.name.partition(":")[0]

    @property
    def are_images(self) -> bool:
        """Vectors are stored as images of one pixel, with a channel for each number."""
        return self.size > 1

    @property
    def shape(self) -> str:
        """Of one image or vector, see `shape_of`."""
        return shape_of(self.channels, self.size)

    def space_for(self, asked: str) -> str:
        """The feature space of scores where `asked` is wanted; FlexbenchError for one that images do not have."""
        if asked == VECTOR_SPACE and self.are_images:
            raise FlexbenchError(f"--features {asked} is for vectors, and {self.name} holds images: use pixels.")
        return self.space or asked

    @property
    def slug(self) -> str:
        """A name that is safe in a file name: 'sprites-2000', 'folder-cats'."""
        argument = self.name.partition(":")[2]
        last = Path(argument).expanduser().resolve().name if argument else ""
        return "-".join(filter(None, [self.kind, re.sub(r"[^\w.-]+", "-", last, flags=re.ASCII).strip("-")]))


def shape_of(channels: int | None, size: int) -> str:
    """'28x28x1' for images (channels last, '1|3' where they are not known yet), '128 numbers' for vectors."""
    return f"{size}x{size}x{channels or '1|3'}" if size > 1 else f"{channels} numbers"


_FACES = ("Smiling", "Male", "Eyeglasses", "Blond_Hair", "Young", "Bangs", "Mustache", "Pale_Skin")
_ENTRIES = (
    DatasetInfo(
        name="digits",
        title="Optical digits",
        channels=1,
        size=8,
        latent_dim=16,
        splits="1,348 train / 449 test",
        licence="CC BY 4.0",
        source="https://archive.ics.uci.edu/dataset/80",
        note="Ships with scikit-learn: needs no download. Every fourth image is a test image.",
        content_hash="eeeea5fc11f149e6c53f6e79c9a096ef19f3e98aad98ef99c8063ace86bef754",
    ),
    DatasetInfo(
        name="mnist",
        title="MNIST",
        channels=1,
        size=28,
        latent_dim=32,
        splits="60,000 train / 10,000 test",
        licence="CC BY-SA 3.0",
        source="http://yann.lecun.com/exdb/mnist/",
        note="Not padded, not binarised.",
        content_hash="786e62bc8f2c01efc6a94020bc5fde00301eb627837467421687eff0782e8fcd",
    ),
    DatasetInfo(
        name="fashion_mnist",
        title="Fashion-MNIST",
        channels=1,
        size=28,
        latent_dim=32,
        splits="60,000 train / 10,000 test",
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist",
    ),
    DatasetInfo(
        name="cifar10",
        title="CIFAR-10",
        channels=3,
        size=32,
        latent_dim=64,
        splits="50,000 train / 10,000 test",
        licence="none stated by the authors",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        note="Never stored as JPEG, no flips.",
    ),
    DatasetInfo(
        name="celeba",
        title="CelebA",
        channels=3,
        size=64,
        latent_dim=64,
        splits="162,770 train / 19,867 val / 19,962 test",
        licence="non-commercial research only",
        source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        note="128x128 crop (rows 45-172, columns 25-152) as in FlexAE. FIDs compare only within one crop.",
        main_labels=_FACES,
    ),
    DatasetInfo(
        name="celeba140",
        title="CelebA, 140x140 crop",
        channels=3,
        size=64,
        latent_dim=64,
        splits="162,770 train / 19,867 val / 19,962 test",
        licence="non-commercial research only",
        source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        note="140x140 centre crop as in WAE and RAE. FIDs compare only within one crop.",
        main_labels=_FACES,
    ),
    DatasetInfo(
        name="sprites",
        title="Sprites",
        channels=3,
        size=32,
        latent_dim=64,
        splits="50,000 train / 10,000 test",
        licence="MIT, as flexbench",
        source="drawn by flexbench",
        note="True latent dimension: 5 continuous factors (hue, scale, rotation, x, y) plus one discrete (shape), "
        "so n = 6 at most. 'sprites:N' draws N training images.",
        true_dim=6,
    ),
    DatasetInfo(
        name="synthetic-r5",
        title="Synthetic R^5",
        channels=128,
        size=1,
        latent_dim=50,
        splits="50,000 train / 10,000 test",
        licence="MIT, as flexbench",
        source="drawn by flexbench",
        note="No images: vectors from a normal distribution in R^5 by a random network (the paper's Figure 2).",
        content_hash="542caebea85dbe8b6528f2ea269b2c2cffe9be61fc20d5621287c726f6a92dd0",
        true_dim=5,
        space=VECTOR_SPACE,
    ),
    DatasetInfo(
        name="synthetic-mog",
        title="Synthetic mixture",
        channels=128,
        size=1,
        latent_dim=2,
        splits="50,000 train / 10,000 test",
        licence="MIT, as flexbench",
        source="drawn by flexbench",
        note="No images: vectors from a mixture of 8 Gaussians in R^2 by a random network (the paper's Figure 3).",
        content_hash="81e6d01818304c27352c76832acafbf1625756f615d0e8e78b3232c296427ce3",
        true_dim=2,
        space=VECTOR_SPACE,
    ),
    DatasetInfo(
        name="folder:PATH",
        title="Images in a folder",
        channels=None,
        size=64,
        latent_dim=64,
        splits="train/ and test/ where both are there, else a fifth is test",
        licence="that of the images",
        source="the user's files",
        note="jpg, png, bmp and webp files below PATH; centre-cropped to a square, resized to the image size.",
    ),
)

#: Every dataset by name, in the order of the list for users; the key 'folder:PATH' stands for any folder.
DATASETS: dict[str, DatasetInfo] = {entry.name: entry for entry in _ENTRIES}


def dataset_info(name: str) -> DatasetInfo:
    """Metadata of a dataset by name; 'sprites:N' and 'folder:PATH' are resolved, no file is read.

    Raises FlexbenchError for an unknown name, a bad N or an empty PATH.
    """
    if name.startswith(FOLDER_PREFIX):
        return _folder_info(name)
    if name.startswith("sprites:"):
        return _sprites_info(name)
    if name not in DATASETS:
        raise unknown("dataset", name, [*DATASETS, "sprites:N"], "See 'flexbench ls datasets'.")
    return DATASETS[name]


def _folder_info(name: str) -> DatasetInfo:
    if not name.removeprefix(FOLDER_PREFIX).strip():
        raise FlexbenchError(f"'{name}' names no folder. Write 'folder:PATH', for example 'folder:~/cats'.")
    return replace(DATASETS["folder:PATH"], name=name)


def _sprites_info(name: str) -> DatasetInfo:
    text = name.partition(":")[2]
    low, high = _SPRITES_RANGE
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise FlexbenchError(
            f"'{name}' is no dataset: N in 'sprites:N' is a whole number from {low} to {high}, "
            "for example 'sprites:2000'."
        )
    name = f"sprites:{int(text)}"
    train, test = sprites_counts(name)
    return replace(DATASETS["sprites"], name=name, splits=f"{train:,} train / {test:,} test")


def sprites_counts(name: str) -> tuple[int, int]:
    """Numbers of training images (validation included) and of test images of 'sprites' or 'sprites:N'."""
    train = int(name.partition(":")[2] or 50_000)
    return train, max(train // 5, 100)
