"""Names, metadata and the errors for bad ones."""

import subprocess
import sys

import pytest

from benchmark.core.errors import FlexbenchError
from benchmark.data import DATASETS, dataset_info, open_dataset


def test_import_leaves_torch_alone():
    code = "import sys, benchmark.data; sys.exit(any(m in sys.modules for m in ('torch', 'torchvision', 'sklearn')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("info", DATASETS.values(), ids=DATASETS)
def test_every_entry_is_complete(info):
    assert all([info.title, info.splits, info.licence, info.source])
    assert info.size % 4 == 0 if info.are_images else info.size == 1
    assert info.latent_dim > 0


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("mnist", "mnist"),
        ("sprites:2000", "sprites-2000"),
        ("folder:/a/b/cats/", "folder-cats"),
        ("folder:/a/my cats & dogs", "folder-my-cats-dogs"),
        ("folder:/", "folder"),
    ],
)
def test_slug_is_safe_in_a_file_name(name, slug):
    assert dataset_info(name).slug == slug


def test_unknown_name_lists_the_valid_ones_and_a_guess():
    with pytest.raises(FlexbenchError, match=r"Did you mean 'mnist'\?.*folder:PATH.*sprites:N.*flexbench ls datasets"):
        dataset_info("mnits")


@pytest.mark.parametrize("name", ["sprites:", "sprites:many", "sprites:0", "sprites:-5", "sprites:2e3", "sprites:²"])
def test_bad_number_of_sprites_is_named(name):
    with pytest.raises(FlexbenchError, match=r"N in 'sprites:N' is a whole number from 20"):
        open_dataset(name)


def test_image_size_is_for_folders_only():
    with pytest.raises(FlexbenchError, match="image size 16 cannot be set for 'digits'"):
        open_dataset("digits", image_size=16)
