import numpy as np
import pytest
import scipy
from scipy.linalg import sqrtm

from benchmark.core.errors import FlexbenchError
from benchmark.evaluation.scores.frechet import Gaussian, fit_gaussian, frechet_distance


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def distance(x, y):
    return frechet_distance(fit_gaussian(x), fit_gaussian(y))


def correlated(rng, n, d, rank=None):
    return rng.normal(size=(n, rank or d)) @ rng.normal(size=(rank or d, d)) + rng.normal(size=d)


@pytest.mark.parametrize("n", [8, 12, 200])  # fewer rows than dimensions, as many, more
def test_half_factor_gives_the_unbiased_covariance(rng, n):
    x = correlated(rng, n, 12)
    gaussian = fit_gaussian(x.astype(np.float32))
    x = x.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(gaussian.half @ gaussian.half.T, np.cov(x.T), atol=1e-12 * gaussian.trace)
    np.testing.assert_allclose(gaussian.mean, x.mean(0), rtol=1e-12)
    assert gaussian.trace == pytest.approx(np.trace(np.cov(x.T)), rel=1e-12)


def test_dead_features_and_linear_dependence_lower_the_rank(rng):
    x = correlated(rng, 300, 20, rank=7)
    assert fit_gaussian(x).half.shape == (20, 7)


@pytest.mark.parametrize("n", [10, 500])
def test_a_shift_costs_its_squared_length(rng, n):
    x, shift = correlated(rng, n, 30), rng.normal(size=30)
    assert distance(x, x + shift) == pytest.approx(shift @ shift, rel=1e-9)


def test_commuting_covariances_have_a_closed_form(rng):
    rotation = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    a, b = np.abs(rng.normal(size=(2, 40)))
    a[:25] = 0  # singular, and not the same null space as b
    b[30:] = 0
    gaussians = [Gaussian(np.zeros(40), rotation * s) for s in (a, b)]
    assert frechet_distance(*gaussians) == pytest.approx(np.square(a - b).sum(), rel=1e-12)


def test_a_scaled_set_has_a_closed_form_when_rank_deficient(rng):
    x = correlated(rng, 50, 200)
    expected = 0.25 * (np.trace(np.cov(x.T)) + np.square(x.mean(0)).sum())
    assert distance(x, 1.5 * x) == pytest.approx(expected, rel=1e-12)


def test_agrees_with_the_matrix_square_root_at_full_rank(rng):
    x, y = correlated(rng, 400, 25), correlated(rng, 300, 25)
    root = sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * root)
    assert distance(x, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.skipif(tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 18), reason="breaks clean-fid's call")
def test_agrees_with_clean_fid_at_full_rank(rng):
    fid = pytest.importorskip("cleanfid.fid")
    x, y = correlated(rng, 400, 25), correlated(rng, 300, 25)
    expected = fid.frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert distance(x, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(300, 200), (20, 30), (20, 300)])
def test_zero_for_equal_sets_and_symmetric(rng, n, m):
    x, y = correlated(rng, n, 50), correlated(rng, m, 50)
    assert 0 <= distance(x, x) < 1e-9
    assert distance(x, y) == pytest.approx(distance(y, x), rel=1e-12)
    assert distance(x, y) == distance(x.copy(), y.copy())


@pytest.mark.parametrize("n", [4, 40])
def test_constant_features(n):
    x = np.ones((n, 5), dtype=np.float32)
    assert distance(x, x + 2) == 20


def test_mistakes_are_named(rng):
    with pytest.raises(FlexbenchError, match="at least 2 images"):
        fit_gaussian(np.zeros((1, 3)))
    with pytest.raises(FlexbenchError, match="NaN or infinity"):
        fit_gaussian(np.array([[0, 1], [np.nan, 2]]))
    with pytest.raises(FlexbenchError, match="3 and 4 dimensions"):
        distance(np.zeros((5, 3)), np.zeros((5, 4)))
