import math
import os

import numpy as np
import pytest

from benchmark.core.errors import FlexbenchError
from benchmark.evaluation import neighbours
from benchmark.evaluation.neighbours import Neighbours, k_nearest, k_nearest_in_parts, nearest, nearest_in_parts
from benchmark.evaluation.scores.memorization import mean_and_error, train_ratio


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def brute_force(queries, base):
    return np.array([np.sqrt(np.square(base - q).sum(axis=1)).min() for q in queries])


@pytest.mark.parametrize("d", [784, 2048])
def test_exact_copies_are_exactly_zero_among_near_duplicates(rng, d):
    base = rng.random((300, d), dtype=np.float32)
    crowd = base[:50].repeat(6, axis=0) + 1e-4 * rng.random((300, d), dtype=np.float32)
    found = nearest(base, np.concatenate([crowd, base]))
    assert mean_and_error(found) == (0, 0)
    assert (found.indices == np.arange(300, 600)).all()


def test_a_candidate_list_that_is_too_short_is_made_longer(rng):
    base = 1000 + 1e-3 * rng.random((400, 64), dtype=np.float32)  # float32 cannot rank these
    base[7], base[9] = 0, 2000  # nor does subtracting the mean help
    queries = base[200:260]
    found = nearest(queries, base, candidates=1)
    assert (found.distances == 0).all() and (found.indices == np.arange(200, 260)).all()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_a_one_pixel_edit_is_one_255th(rng, shape):
    base = rng.integers(0, 255, (200, *shape), dtype=np.uint8)
    edited = base.copy()
    edited[:, 0, 5, 5] += 1
    np.testing.assert_allclose(nearest(edited, base).distances, 1 / 255, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_brute_force(rng, dtype, monkeypatch):
    monkeypatch.setattr(neighbours, "CHUNK_VALUES", 1000)  # several chunks, the last one short
    queries, base = (3 + rng.normal(size=(n, 33)).astype(dtype) for n in (101, 250))
    np.testing.assert_allclose(nearest(queries, base).distances, brute_force(queries.astype(float), base), rtol=1e-12)


def test_pixels_are_scaled_to_the_unit_interval(rng):
    a, b = rng.integers(0, 256, (2, 60, 1, 8, 8), dtype=np.uint8)
    expected = brute_force(a.reshape(60, 64) / 255.0, b.reshape(60, 64) / 255.0)
    np.testing.assert_allclose(nearest(a, b).distances, expected, rtol=1e-12)
    np.testing.assert_allclose(nearest(a, b / 255.0).distances, expected, rtol=1e-12)


def test_the_score_is_mean_and_standard_error_and_not_symmetric():
    a, b = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]]), np.array([[0.0, 0.0], [100.0, 0.0]])
    assert mean_and_error(nearest(a, b)) == pytest.approx((7 / 3, np.std([0, 5, 2], ddof=1) / math.sqrt(3)))
    assert mean_and_error(nearest(b, a))[0] == pytest.approx(math.hypot(97, 4) / 2)
    assert math.isnan(mean_and_error(nearest(a[:1], b))[1])


def test_parts_give_what_the_whole_gives(rng):
    queries, base = rng.normal(size=(40, 5)), rng.normal(size=(100, 5))
    base[70] = base[3]  # of equal ones the first counts, as in the whole
    queries[0] = base[3]
    whole, parts = nearest(queries, base), nearest_in_parts(queries, [base[:7], base[7:60], base[60:]])
    assert np.array_equal(whole.distances, parts.distances) and np.array_equal(whole.indices, parts.indices)
    assert whole.indices[0] == 3
    with pytest.raises(FlexbenchError, match="got none"):
        nearest_in_parts(queries, [])


@pytest.mark.parametrize("split", [[], [2], [7, 60]])
def test_the_k_nearest_are_those_of_brute_force(rng, split):
    queries, base = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(100, 5)).astype(np.float32)
    base[70:75], queries[0] = base[3], base[3]  # more copies than candidates, and than are asked for
    distances = np.sqrt(np.square(queries[:, None].astype(float) - base).sum(2))
    expected = np.argsort(distances, axis=1, kind="stable")[:, :4]
    found = k_nearest_in_parts(queries, np.split(base, split), 4)
    np.testing.assert_allclose(found.distances, np.take_along_axis(distances, expected, 1), rtol=1e-12)
    assert np.array_equal(found.indices[1:], expected[1:])
    assert set(found.indices[0]) <= {3, 70, 71, 72, 73, 74} and (found.distances[0] == 0).all()
    assert k_nearest(queries, base[:3], 4).indices.shape == (40, 3)


def test_of_images_from_the_same_source_the_share_is_that_of_the_training_images(rng):
    """And it is off by three standard errors about never, however few images are the nearest of most."""
    z = []
    for scale in (1.0, 0.1):  # small queries sit in the middle of the base: few hubs are near to all of them
        for _ in range(60):
            train, test = rng.normal(size=(300, 6)), rng.normal(size=(100, 6))
            queries = scale * rng.normal(size=(400, 6))
            share, se = train_ratio(nearest(queries, train), nearest(queries, test))
            z.append((share - 0.75) / se)
    assert np.std(z[:60]) == pytest.approx(1, abs=0.3)
    assert np.mean(np.abs(z) > 3) < 0.05
    naive = math.sqrt(0.75 * 0.25 / 400)
    assert se > 3 * naive  # with hubs


def test_copies_are_nearest_to_training_images(rng):
    train, test = rng.normal(size=(300, 6)), rng.normal(size=(300, 6))
    copies = train[:100] + 0.01 * rng.normal(size=(100, 6))
    assert train_ratio(nearest(copies, train), nearest(copies, test))[0] == 1
    tie = Neighbours(np.zeros(2), np.arange(2))
    assert train_ratio(tie, tie)[0] == 0


def test_mistakes_are_named():
    x = np.zeros((3, 4))
    for a, b, text in [
        (x[:0], x, "not empty"),
        (x, x[:0], "not empty"),
        (x, x[:, :3], "of 4 and of 3 values"),
        (x + np.nan, x, "NaN or infinity"),
    ]:
        with pytest.raises(FlexbenchError, match=text):
            nearest(a, b)


@pytest.mark.skipif("FLEXBENCH_DATA_DIR" not in os.environ, reason="needs MNIST in $FLEXBENCH_DATA_DIR")
def test_mnist_has_the_paper_s_distances():
    from torchvision.datasets import MNIST

    train, test = (MNIST(os.environ["FLEXBENCH_DATA_DIR"], train=t, download=False).data.numpy() for t in (True, False))
    order = np.random.default_rng(0).permutation(len(train))
    a, b = train[order[:10_000]], train[order[10_000:20_000]]
    for other, published in ((b, 4.72), (test, 4.77)):  # Tr-Tr and Tr-Te of Table 4; other splits differ by 0.03
        found = nearest(a, other)
        assert mean_and_error(found)[0] == pytest.approx(published, abs=0.05)
        assert (found.distances > 0).all()
    assert (nearest(a, a[::-1]).distances == 0).all()
