"""Modes of the synthetic mixture: latents are found again, and the counts are right."""

import numpy as np
import pytest

from benchmark.data import dataset_info, open_dataset
from benchmark.data.synthetic import STD, embed, mode_centres
from benchmark.reporting.modes import GRID, count_modes, half_side, true_latents

MODES = dataset_info("synthetic-mog").modes


def as_vectors(z):
    return embed(z, "synthetic-mog")[:, :, None, None]


def test_the_square_reaches_beyond_the_modes():
    assert half_side(MODES) == 3.5  # radius 2 and ten standard deviations of 0.15


def test_the_latents_of_real_vectors_are_found_up_to_the_spacing_of_the_grid():
    test = open_dataset("synthetic-mog").test
    error = np.abs(true_latents(test.images(0, 300), MODES) - test.labels[:300, 1:])
    assert error.mean() < 2 * half_side(MODES) / (GRID - 1)
    assert error.max() < STD  # near in vectors is not quite near in latents


def test_latents_between_the_modes_are_not_taken_for_ones_in_a_mode():
    between = np.stack([mode_centres(), np.roll(mode_centres(), 1, axis=0)]).mean(0)
    found = true_latents(as_vectors(np.concatenate([between, np.zeros((1, 2))])), MODES)
    assert count_modes(found, MODES) == (0.0, 0)


def test_the_true_distribution_is_within_three_standard_deviations_as_often_as_theory_says():
    z = open_dataset("synthetic-mog").train.labels[:, 1:]
    share, covered = count_modes(z, MODES)
    assert share == pytest.approx(1 - np.exp(-4.5), abs=2e-3)  # of a normal distribution in the plane
    assert covered == 8


@pytest.mark.parametrize("kept", [1, 3, 8])
def test_collapsed_modes_are_counted(kept):
    z = np.repeat(mode_centres()[:kept], 50, axis=0) + STD * 0.1
    assert count_modes(z, MODES) == (1.0, kept)


def test_a_mode_with_less_than_a_tenth_of_its_share_is_not_covered():
    z = np.concatenate([np.repeat(mode_centres()[:1], 991, axis=0), np.repeat(mode_centres()[1:2], 9, axis=0)])
    assert count_modes(z, MODES) == (1.0, 1)  # its share of 1,000 would be 125
