"""Walks in latent space end and go where they should, and neighbours are the nearest, whatever the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.data import open_dataset
from benchmark.evaluation.evaluator import generate, reconstruct
from benchmark.evaluation.features import feature_space
from benchmark.method import DataSpec
from benchmark.registry import Registry
from benchmark.reporting.latents import codes_of, contrasts, directions, images_of, nearest_training, walks

MULTIPLES = np.linspace(0, 1.5, 7)


@pytest.fixture(scope="module")
def model():
    """Small and untrained: what is checked holds for any weights."""
    torch.manual_seed(0)
    method = Registry.load().get("vae")
    return method(DataSpec("digits", 1, 8), method.Config(latent_dim=4, width=0.125)).eval()


@pytest.fixture(scope="module")
def digits():
    return open_dataset("digits")


def test_walks_end_at_the_reconstructions(model, digits):
    found = walks(model, digits, pairs=3, steps=5)
    assert found.ends.shape == (3, 2, 1, 8, 8) and found.images.shape == (3, 5, 1, 8, 8)
    expected = reconstruct(model, found.ends.reshape(-1, 1, 8, 8)).reshape(found.ends.shape)
    assert np.array_equal(found.images[:, [0, -1]], expected)
    first, last = codes_of(model, found.ends[:, 0]), codes_of(model, found.ends[:, 1])
    for share, images in zip((0, 0.25, 0.5, 0.75, 1), found.images.swapaxes(0, 1), strict=True):
        expected = images_of(model, (1 - share) * first + share * last).astype(int)
        assert np.abs(expected - images).max() <= 1


def test_a_class_direction_is_the_difference_of_mean_codes(model, digits):
    found = directions(model, digits, MULTIPLES)
    assert [d.name for d in found] == ["0 to 1", "2 to 3", "4 to 5", "6 to 7", "8 to 9"]
    codes, classes = codes_of(model, digits.train.images()), digits.train.labels
    vector = codes[classes == 3].mean(0) - codes[classes == 2].mean(0)
    np.testing.assert_allclose(found[1].vector, vector, rtol=1e-4, atol=1e-6)
    start = digits.test.take(np.flatnonzero(digits.test.labels == 2)[:1])
    assert np.array_equal(found[1].start, start[0])
    moved = images_of(model, codes_of(model, start) + 1.5 * vector).astype(int)
    assert np.abs(found[1].images[-1] - moved[0]).max() <= 1


def test_attributes_are_split_at_the_middle_of_their_range():
    labels = np.array([[0, 1, 0.1], [1, 1, 0.9], [0, 0, 0.4]])
    found = {
        name: having.tolist()
        for name, without, having in contrasts(labels, ("Oval_Face", "Smiling", "hue"), ("Smiling",))
    }
    assert list(found) == ["Smiling", "Oval Face", "hue"]  # those named as first come first
    assert found == {"Oval Face": [False, True, False], "Smiling": [True, True, False], "hue": [False, True, False]}


def test_neighbours_are_those_of_brute_force(model, digits):
    samples, (near,) = nearest_training(model, digits, feature_space("pixels"), seed=0, n=3, k=4)
    assert np.array_equal(samples, generate(model, 64, 0)[:3])
    train = digits.train.images().reshape(-1, 64) / 255
    distances = np.sqrt(np.square(samples.reshape(3, 1, 64) / 255 - train).sum(2))
    np.testing.assert_allclose(near.found.distances, np.sort(distances, axis=1)[:, :4], rtol=1e-12)
    assert np.array_equal(near.images, digits.train.take(near.found.indices.ravel()).reshape(3, 4, 1, 8, 8))
