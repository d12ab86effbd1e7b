import math
import os

import numpy as np
import pytest

from benchmark.errors import FlexbenchError
from benchmark.evaluation import memorization
from benchmark.evaluation.memorization import memorization_score, nearest_distances


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def brute_force(queries, base):
    return np.array([np.sqrt(np.square(base - q).sum(axis=1)).min() for q in queries])


@pytest.mark.parametrize("d", [784, 2048])
def test_exact_copies_are_exactly_zero_among_near_duplicates(rng, d):
    base = rng.random((300, d), dtype=np.float32)
    crowd = base[:50].repeat(6, axis=0) + 1e-4 * rng.random((300, d), dtype=np.float32)
    score = memorization_score(base, np.concatenate([crowd, base]))
    assert (score.mean, score.se, score.exact_copies) == (0, 0, 300)


def test_a_candidate_list_that_is_too_short_is_made_longer(rng):
    base = 1000 + 1e-3 * rng.random((400, 64), dtype=np.float32)  # float32 cannot rank these
    base[7], base[9] = 0, 2000  # nor does subtracting the mean help
    queries = base[200:260]
    assert (nearest_distances(queries, base, candidates=1) == 0).all()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_a_one_pixel_edit_is_one_255th(rng, shape):
    base = rng.integers(0, 255, (200, *shape), dtype=np.uint8)
    edited = base.copy()
    edited[:, 0, 5, 5] += 1
    np.testing.assert_allclose(nearest_distances(edited, base), 1 / 255, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_brute_force(rng, dtype, monkeypatch):
    monkeypatch.setattr(memorization, "CHUNK_VALUES", 1000)  # several chunks, the last one short
    queries, base = (3 + rng.normal(size=(n, 33)).astype(dtype) for n in (101, 250))
    np.testing.assert_allclose(nearest_distances(queries, base), brute_force(queries.astype(float), base), rtol=1e-12)


def test_pixels_are_scaled_to_the_unit_interval(rng):
    a, b = rng.integers(0, 256, (2, 60, 1, 8, 8), dtype=np.uint8)
    expected = brute_force(a.reshape(60, 64) / 255.0, b.reshape(60, 64) / 255.0)
    np.testing.assert_allclose(nearest_distances(a, b), expected, rtol=1e-12)
    np.testing.assert_allclose(nearest_distances(a, b / 255.0), expected, rtol=1e-12)


def test_score_is_mean_standard_error_and_copies_and_not_symmetric():
    a, b = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]]), np.array([[0.0, 0.0], [100.0, 0.0]])
    score = memorization_score(a, b)
    assert score.mean == pytest.approx(7 / 3)
    assert score.se == pytest.approx(np.std([0, 5, 2], ddof=1) / math.sqrt(3))
    assert score.exact_copies == 1
    assert memorization_score(b, a).mean == pytest.approx(math.hypot(97, 4) / 2)
    assert math.isnan(memorization_score(a[:1], b).se)


def test_mistakes_are_named():
    x = np.zeros((3, 4))
    for a, b, text in [
        (x[:0], x, "not empty"),
        (x, x[:0], "not empty"),
        (x, x[:, :3], "of 4 and of 3 values"),
        (x + np.nan, x, "NaN or infinity"),
    ]:
        with pytest.raises(FlexbenchError, match=text):
            memorization_score(a, b)


@pytest.mark.skipif("FLEXBENCH_DATA_DIR" not in os.environ, reason="needs MNIST in $FLEXBENCH_DATA_DIR")
def test_mnist_has_the_paper_s_distances():
    from torchvision.datasets import MNIST

    train, test = (MNIST(os.environ["FLEXBENCH_DATA_DIR"], train=t, download=False).data.numpy() for t in (True, False))
    order = np.random.default_rng(0).permutation(len(train))
    a, b = train[order[:10_000]], train[order[10_000:20_000]]
    for other, published in ((b, 4.72), (test, 4.77)):  # Tr-Tr and Tr-Te of Table 4; other splits differ by 0.03
        score = memorization_score(a, other)
        assert score.mean == pytest.approx(published, abs=0.05)
        assert score.exact_copies == 0
    copies = memorization_score(a, a[::-1])
    assert (copies.mean, copies.exact_copies) == (0, 10_000)
