import warnings

import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans

from benchmark.core.errors import FlexbenchError
from benchmark.core.seeding import derive
from benchmark.evaluation.scores import prd as module
from benchmark.evaluation.scores.prd import PRD, precision_recall


def modes(seed, n, count, d=100):
    """n points around the first `count` of some far-apart centres."""
    centres = 20 * np.random.default_rng(99).normal(size=(4, d))
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(count, size=n)] + rng.normal(size=(n, d))).astype(np.float32)


@pytest.fixture(scope="module")
def half_covered():
    return precision_recall(modes(1, 2000, 1), modes(2, 2000, 2), seed=0, runs=10)


def test_equal_distributions_score_near_one():
    scores = precision_recall(modes(1, 3000, 4), modes(2, 3000, 4), seed=0, runs=10)
    assert min(scores.precision_f1_8, scores.recall_f8) > 0.95
    assert 0 < max(scores.precision_se, scores.recall_se) < 0.01


def test_disjoint_distributions_score_zero():
    scores = precision_recall(modes(1, 500, 1) + 1000, modes(2, 500, 1), seed=0, runs=2)
    assert scores == PRD(0, 0, 0, 0)


def test_one_of_two_modes_is_precise_and_recalls_half(half_covered):
    assert half_covered.precision_f1_8 > 0.95
    assert half_covered.recall_f8 == pytest.approx(0.5, abs=0.03)


def test_swapped_arguments_swap_precision_and_recall(half_covered):
    swapped = precision_recall(modes(2, 2000, 2), modes(1, 2000, 1), seed=0, runs=10)
    assert swapped.recall_f8 == pytest.approx(half_covered.precision_f1_8, abs=0.02)
    assert swapped.precision_f1_8 == pytest.approx(half_covered.recall_f8, abs=0.02)


def test_the_seed_decides():
    x, y = np.random.default_rng(0).normal(size=(2, 500, 80))
    first, again, other = (precision_recall(x, y, seed=seed, runs=3) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("m", [40, 300])  # fewer points than dimensions, and more
def test_principal_scores_keep_the_distances_of_low_rank_data(m):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(m, 8)) @ rng.normal(size=(8, 120))
    scores = module._principal_scores(x, 16)
    assert scores.shape == (m, 16)
    np.testing.assert_allclose(scores @ scores.T, (x - x.mean(0)) @ (x - x.mean(0)).T, atol=1e-2)


def literal_2018(generated, reference, seed, runs):
    """The steps of the authors' program (max F_8, max F_1/8), with loops in place of broadcasting."""
    points, n, curves = np.concatenate([generated, reference]), len(generated), []
    for run in range(runs):
        kmeans = MiniBatchKMeans(n_clusters=20, n_init=10, random_state=derive(seed, "prd", run) % 2**32)
        labels = kmeans.fit(points).labels_
        p, q = (np.histogram(part, bins=20, range=[0, 20], density=True)[0] for part in (labels[:n], labels[n:]))
        curve = []
        for angle in np.linspace(1e-10, np.pi / 2 - 1e-10, num=1001):
            precision = sum(min(np.tan(angle) * q_i, p_i) for p_i, q_i in zip(p, q, strict=True))
            curve.append((min(precision, 1), min(precision / np.tan(angle), 1)))
        curves.append(curve)
    return [max((1 + b**2) * p * r / (b**2 * p + r + 1e-10) for p, r in np.mean(curves, axis=0)) for b in (8, 1 / 8)]


def test_the_exact_mode_is_the_2018_protocol():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 70)), 0.3 + 1.2 * rng.normal(size=(600, 70))
    scores = precision_recall(x, y, seed=5, runs=3, components=None)
    assert (scores.recall_f8, scores.precision_f1_8) == pytest.approx(literal_2018(x, y, seed=5, runs=3), rel=1e-9)


def test_principal_components_score_like_the_exact_mode():
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(30, 200))
    x, y = rng.normal(size=(1000, 30)) @ mix, (rng.normal(size=(1000, 30)) + 0.3) @ mix
    fast, exact = (precision_recall(x, y, seed=0, runs=10, components=k) for k in (64, None))
    assert fast.recall_f8 == pytest.approx(exact.recall_f8, abs=0.03)
    assert fast.precision_f1_8 == pytest.approx(exact.precision_f1_8, abs=0.03)


def test_standard_errors_are_those_of_the_runs_own_maxima():
    precision, recall = np.array([[0.2, 0.6], [0.4, 0.8]]), np.array([[1.0, 0.5], [1.0, 0.5]])
    value, error = module._max_f(precision, recall, beta=1)
    assert value == pytest.approx(2 * 0.7 * 0.5 / 1.2)
    assert error == pytest.approx(abs(2 * 0.6 * 0.5 / 1.1 - 2 * 0.8 * 0.5 / 1.3) / 2)


def test_few_images_are_enough_and_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = precision_recall(modes(1, 64, 4), modes(2, 64, 4), seed=0, runs=3)
    assert 0 < scores.recall_f8 <= 1


def test_mistakes_are_named():
    x = np.zeros((30, 5))
    for generated, reference, runs, text in [
        (x, x[:20], 5, "as many generated as reference"),
        (x[:9], x[:9], 5, "needs 10 images"),
        (x, x, 1, "2 runs"),
        (x, x + np.inf, 5, "NaN or infinity"),
    ]:
        with pytest.raises(FlexbenchError, match=text):
            precision_recall(generated, reference, seed=0, runs=runs)
