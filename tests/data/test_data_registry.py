"""Names, metadata and the errors for bad ones."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.core.errors import FlexbenchError
from benchmark.data import DATASETS, dataset_info, open_dataset
from benchmark.data.info import BUILT_IN, info_of_slug, is_built_in, public_name, size_for

SHARED = sorted((Path(__file__).parents[2] / "benchmark").rglob("*.py"))


def test_import_leaves_torch_alone():
    code = "import sys, benchmark.data; sys.exit(bool({'torch', 'torchvision', 'sklearn', 'PIL'} & set(sys.modules)))"
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


def test_shared_code_names_no_dataset():
    kinds = {info.kind for info in DATASETS.values()}
    for path in SHARED:
        if path.parent.name == "data" and path.stem in BUILT_IN:
            continue
        texts = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)} - {*BUILT_IN}
        named = {t for t in texts if isinstance(t, str) and (t in DATASETS or t.partition(":")[0] in kinds)}
        assert not named, f"{path} names {named}"


def test_a_dataset_is_known_by_the_name_of_its_run_folders():
    for name in ("mnist", "sprites:2000", "synthetic-r5", "folder:/a/cats"):
        assert info_of_slug(dataset_info(name).slug).kind == dataset_info(name).kind
    assert info_of_slug("folder-cats").title == "folder-cats"
    assert info_of_slug("sprites-many") is info_of_slug("nothing-like-it") is None


def test_paths_are_not_shown_to_others_and_only_folders_are_resized():
    assert [public_name(name) for name in ("folder:/a/b", "sprites:20", "mine")] == [
        "folder:PATH",
        "sprites:20",
        "mine",
    ]
    assert is_built_in("sprites:20") and not is_built_in("mine")
    assert size_for("folder:/a", 16) == 16 and size_for("digits", 16) is None
