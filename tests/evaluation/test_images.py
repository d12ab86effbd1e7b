import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.core.errors import FlexbenchError
from benchmark.evaluation.images import save_grid, to_uint8


def test_to_uint8_clamps_and_rounds_half_to_even():
    x = torch.tensor([-3.0, 0.0, 0.4 / 255, 0.6 / 255, 0.5, 1.0, 7.0, torch.inf]).view(1, 1, 2, 4)
    image = to_uint8(x.requires_grad_())
    assert image.dtype == np.uint8
    assert image.ravel().tolist() == [0, 0, 0, 1, 128, 255, 255, 255]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_to_uint8_returns_what_was_saved(dtype):
    x = torch.arange(256).view(1, 1, 16, 16)
    tolerance = 1 if dtype == torch.bfloat16 else 0  # has 8 bits of its own
    assert np.abs(to_uint8((x / 255).to(dtype)).astype(int) - x.numpy()).max() <= tolerance


@pytest.mark.parametrize("x", [torch.full((1, 1, 2, 2), torch.nan), torch.zeros(1, 1, 2, 2).byte(), torch.zeros(2, 2)])
def test_to_uint8_refuses(x):
    with pytest.raises(FlexbenchError, match=r"NaN|expected float images"):
        to_uint8(x)


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_round_trip(tmp_path, channels):
    images = np.random.default_rng(0).integers(0, 256, (5, channels, 28, 28), dtype=np.uint8)
    save_grid(images, tmp_path / "grid.png")
    picture = np.asarray(Image.open(tmp_path / "grid.png")).reshape(2 * 58 + 2, 3 * 58 + 2, channels)  # 2 * 28 + 2 = 58
    for i, image in enumerate(images):
        top, left = i // 3 * 58 + 2, i % 3 * 58 + 2
        assert (picture[top : top + 56 : 2, left + 1 : left + 57 : 2] == image.transpose(1, 2, 0)).all()
    assert len(np.unique(np.concatenate([picture[:2].ravel(), picture[:, :2].ravel()]))) == 1  # gaps of one colour
    assert picture[0, 0, 0] > 200
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_grid_with_chosen_columns_and_scale(tmp_path):
    save_grid(np.zeros((6, 3, 10, 20), dtype=np.uint8), tmp_path / "grid.png", columns=6, scale=1)
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size == (6 * 22 + 2, 12 + 2)


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (2, 2, 8, 8), (8, 8)])
def test_grid_refuses(tmp_path, shape):
    with pytest.raises(FlexbenchError, match="a grid needs uint8 images"):
        save_grid(np.zeros(shape, dtype=np.uint8), tmp_path / "grid.png")
