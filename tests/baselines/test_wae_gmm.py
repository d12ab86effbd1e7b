"""WAE-GMM: the mixture's moments, and that one component is WAE-GAN."""

import pytest
import torch

from baselines.wae_gmm import circle, spread_means

from ..model_tools import M, build, handle, images


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_samples_have_the_moments_of_the_mixture():
    method = build("wae-gmm")
    z = method.prior(100_000, torch.Generator().manual_seed(0))
    means = method.means
    covariance = means.T @ means / len(means) + 0.2 * torch.eye(M)
    torch.testing.assert_close(z.mean(0), torch.zeros(M), atol=0.02, rtol=0)
    torch.testing.assert_close(z.T.cov(), covariance, atol=0.03, rtol=0)
    assert covariance.diagonal().mean().item() == pytest.approx(1, abs=1e-5)


def test_the_prior_is_a_mixture_and_not_one_gaussian():
    method = build("wae-gmm", variance=0.01)
    nearest = torch.cdist(method.prior(2000), method.means).min(1)
    assert nearest.values.max() < 0.1 * 6  # six standard deviations
    assert nearest.indices.bincount(minlength=10).min() > 120  # of 200 expected


def test_means_are_the_same_in_every_run_and_for_every_seed():
    torch.manual_seed(5)
    assert torch.equal(build("wae-gmm").means, spread_means(10, M, 0.8))


@pytest.mark.parametrize("components", [2, 10])
def test_means_are_centred_and_scaled(components):
    means = spread_means(components, 7, 0.8)
    torch.testing.assert_close(means.mean(0), torch.zeros(7), atol=1e-6, rtol=0)
    assert means.square().mean().item() == pytest.approx(0.8)


def test_means_on_a_circle_are_evenly_spaced_in_the_first_two_dimensions():
    means = build("wae-gmm", components=8, radius=3.0, variance=0.25).means
    assert torch.equal(means, circle(8, M, 3.0)) and not means[:, 2:].any()
    torch.testing.assert_close(means.norm(dim=1), torch.full((8,), 3.0))
    side = 2 * 3.0 * torch.sin(torch.tensor(torch.pi / 8))  # of a regular octagon
    torch.testing.assert_close((means - means.roll(1, 0)).norm(dim=1), side.expand(8))


def test_with_one_component_there_is_no_circle():
    with pytest.raises(ValueError, match="no circle"):
        build("wae-gmm", components=1, radius=3.0)


def test_with_one_component_it_is_wae_gan():
    def losses(name, **knobs):
        torch.manual_seed(0)
        method, x = build(name, **knobs), images()
        opt = handle(method)
        torch.manual_seed(1)
        z = torch.randn(8, M)
        method.prior = lambda n, generator=None: z + (method.means[0] if name == "wae-gmm" else 0)
        return [method.update(iter([x]), opt, step)["disc_loss"].item() for step in range(3)]

    method = build("wae-gmm", components=1)
    z = method.prior(50_000)
    assert method.std == 1.0
    assert torch.equal(method.means, torch.zeros(1, M))
    torch.testing.assert_close(z.T.cov(), torch.eye(M), atol=0.03, rtol=0)
    assert losses("wae-gmm", components=1) == losses("wae-gan")


def test_both_critics_see_the_mixture():
    for critic in ("logistic", "wgan-gp"):
        method, drawn = build("wae-gmm", critic=critic), []
        own = method.prior
        method.prior = lambda n, generator=None, own=own, drawn=drawn: drawn.append(n) or own(n, generator)
        method.update(iter([images() for _ in range(6)]), handle(method), 0)
        assert len(drawn) == (1 if critic == "logistic" else 6)  # five for the critic, one for the batch norm


def test_a_variance_above_one_is_refused():
    with pytest.raises(ValueError, match="variance"):
        build("wae-gmm", variance=1.5)
