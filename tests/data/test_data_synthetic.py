"""The synthetic vectors: what the paper fixes, what is promised of them, and that labels are their latents."""

import numpy as np
import pytest

from benchmark.data import open_dataset
from benchmark.data.synthetic import MODES, STD, embed, mode_centres

NAMES = ["synthetic-r5", "synthetic-mog"]


@pytest.fixture(scope="module", params=NAMES)
def dataset(request):
    return open_dataset(request.param)


def vectors(split):
    return split.images().reshape(len(split), -1)


def test_vectors_are_floats_of_128_numbers_centred_and_scaled_by_one_number(dataset):
    x = np.concatenate([vectors(dataset.train), vectors(dataset.val)])
    assert x.shape == (50_000, 128) and x.dtype == np.float32 and len(dataset.test) == 10_000
    assert np.abs(x.mean(0)).max() < 1e-4  # of each dimension
    assert x.std() == pytest.approx(1, abs=1e-4)  # of all
    assert x.std(0).max() > 1.2 * x.std(0).min()  # so that dimensions keep their proportions


def test_labels_are_the_latents_that_the_vectors_come_from(dataset):
    z = dataset.test.labels[:, -dataset.info.true_dim :]
    assert np.array_equal(embed(z, dataset.name), vectors(dataset.test))
    assert dataset.label_names[-1] == f"z{dataset.info.true_dim}"


def test_values_are_multiples_of_a_step_that_no_rounding_of_a_processor_reaches(dataset):
    x = vectors(dataset.test).astype(np.float64) * 2**12
    assert np.array_equal(x, np.round(x))


def test_training_and_test_latents_are_other_draws(dataset):
    assert not np.isin(vectors(dataset.test)[:, 0][:50], vectors(dataset.train)[:, :1]).all()
    assert len(np.unique(dataset.train.labels, axis=0)) == len(dataset.train)


def test_r5_is_curved_five_dimensions_fill_more_than_five_principal_ones():
    x = vectors(open_dataset("synthetic-r5").train)
    variance = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    held = np.cumsum(variance) / variance.sum()
    assert [int(np.searchsorted(held, share)) + 1 for share in (0.9, 0.99)] == [14, 43]


def test_modes_are_equally_likely_narrow_and_on_a_circle():
    mode, *z = open_dataset("synthetic-mog").train.labels.T
    z, centres = np.stack(z, 1), mode_centres()
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 2)
    counts = np.bincount(mode.astype(int), minlength=MODES)
    assert counts.min() > 0.95 * len(z) / MODES
    offsets = z - centres[mode.astype(int)]
    np.testing.assert_allclose(offsets.std(0), STD, rtol=0.02)
    assert (np.linalg.norm(z[:, None] - centres, axis=-1).argmin(1) == mode).all()
