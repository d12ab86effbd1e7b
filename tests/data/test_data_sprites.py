"""Sprites: pure functions of their factors, and the factors can be read back from the images."""

import colorsys

import numpy as np
import pytest

from benchmark.data import open_dataset
from benchmark.data.sprites import FACTORS, SHAPES, SIZE, draw_factors, draw_sprites


@pytest.fixture(scope="module")
def factors() -> np.ndarray:
    return draw_factors(split=0, count=300)


@pytest.fixture(scope="module")
def images(factors) -> np.ndarray:
    return draw_sprites(factors)


def column(factors: np.ndarray, name: str) -> np.ndarray:
    return factors[:, list(FACTORS).index(name)]


def test_dataset_counts_and_labels():
    dataset = open_dataset("sprites:200")
    assert (len(dataset.train) + len(dataset.val), len(dataset.test)) == (200, 100)
    assert dataset.label_names == ("shape", "hue", "scale", "rotation", "x", "y")
    assert dataset.train.labels.dtype == np.float32
    assert np.array_equal(draw_sprites(dataset.test.labels), dataset.test.images())


def test_an_image_does_not_depend_on_how_many_are_drawn(factors, images):
    more = draw_factors(split=0, count=2300)
    assert np.array_equal(more[:300], factors)
    assert np.array_equal(draw_sprites(more[100:103]), images[100:103])
    assert not np.array_equal(more[:300], draw_factors(split=2, count=300))
    assert not np.array_equal(more[:1000], more[1000:2000])


def test_factors_fill_their_ranges():
    drawn = draw_factors(split=0, count=3000)
    for (low, high), values in zip(FACTORS.values(), drawn.T, strict=True):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.4 * (high - low) < values.max() <= high
    assert set(column(drawn, "shape")) == set(range(len(SHAPES)))


def test_position_is_the_centre_of_mass(factors, images):
    mass = images.astype(float).sum(axis=1)
    centres = (np.arange(SIZE) + 0.5) * 2 / SIZE - 1
    x = (mass.sum(axis=1) * centres).sum(axis=1) / mass.sum(axis=(1, 2))
    y = (mass.sum(axis=2) * centres).sum(axis=1) / mass.sum(axis=(1, 2))
    pixel = 2 / SIZE
    assert np.abs(x - column(factors, "x")).max() < 0.5 * pixel
    assert np.abs(y - column(factors, "y")).max() < 0.5 * pixel


def test_hue_is_the_colour(factors, images):
    colours = images.max(axis=(2, 3)) / 255
    found = np.array([colorsys.rgb_to_hsv(*colour)[0] for colour in colours])
    difference = np.abs(found - column(factors, "hue"))
    assert np.minimum(difference, 1 - difference).max() < 0.01


def test_area_is_that_of_the_shape_and_its_scale(factors, images):
    radius = column(factors, "scale") * SIZE / 2
    heart = 0.5 / (1 + (np.pi / 2 + 2 / 3) / (4 + np.pi)) ** 2 * (4 + np.pi)
    expected = np.array([2, np.pi / 2, heart])[column(factors, "shape").astype(int)] * radius**2
    brightest = images.max(axis=1) / 255  # one channel of a pure hue is full
    assert np.abs(brightest.sum(axis=(1, 2)) / expected - 1).max() < 0.1


def test_rotation_turns_the_long_axis_of_an_ellipse():
    row = {"shape": 1, "hue": 0, "scale": 0.45, "rotation": 0, "x": 0, "y": 0}
    angles = np.linspace(0.1, 1.4, 5)
    factors = np.array([list((row | {"rotation": angle}).values()) for angle in angles], np.float32)
    centres = (np.arange(SIZE) + 0.5) * 2 / SIZE - 1
    for image, angle in zip(draw_sprites(factors), angles, strict=True):
        mass = image[0].astype(float)
        xx, yy = (mass * centres[None] ** 2).sum(), (mass * centres[:, None] ** 2).sum()
        xy = (mass * centres[None] * centres[:, None]).sum()
        assert 0.5 * np.arctan2(2 * xy, xx - yy) == pytest.approx(angle, abs=0.03)


def test_edges_are_smooth_and_the_border_is_black(images):
    assert ((images > 20) & (images < 235)).any(axis=(1, 2, 3)).mean() > 0.95
    assert not images[:, :, [0, -1]].any()
    assert not images[:, :, :, [0, -1]].any()
