"""AE+GMM: the penalty on the decoder, the fit of the mixture to training codes, and draws from it."""

import itertools
import math

import pytest
import sklearn.mixture
import torch
from sklearn.mixture import GaussianMixture
from torch import nn

from baselines.ae_gmm import AEGMM, COVARIANCE_FLOOR
from benchmark.losses import squared_error
from benchmark.method import Budget, Fit, Method, Train
from benchmark.optim import Optimizers
from tests.model_tools import M, Spy, Stream, build, handle, images, moved


class Codes(AEGMM):
    """Takes codes [B, m] for images, so that a fit can be tested on known codes."""

    name = "codes"

    def encode(self, x):
        return x


class PlainAE(Method):
    """Squared error only."""

    name = "plain"

    def loss(self, x):
        error = squared_error(x, self.reconstruct(x))
        return {"total": error, "reconstruction": error}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def fitted(codes, **knobs):
    """A model with a mixture fitted to the given codes [N, m], which come in two batches."""
    method = build(Codes, latent_dim=codes.shape[1], **knobs).eval()
    method.fit_mixture(iter(codes.split(len(codes) // 2 + 1)))
    return method


def correlated(n=2000, scale=(1.0, 0.1, 10.0)):
    """Codes [n, 3] of one Gaussian with a mean, correlations and very different scales."""
    mix = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-0.3, 0.5, 0.7]])
    return (torch.randn(n, 3) @ mix.T + torch.tensor([2.0, -1.0, 0.5])) * torch.tensor(scale)


def clusters(n=900):
    """Codes [n, 2] of three tight, well separated clusters with weights 0.6, 0.3 and 0.1, in random order."""
    label = torch.randperm(n) * 10 // n
    center = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])[(label >= 6).int() + (label >= 9).int()]
    return center + 0.1 * torch.randn(n, 2)


# -- the auto-encoder -----------------------------------------------------------------------------------------------

MNIST, CIFAR, CELEBA = 1.024e-4, 3.072e-3, 1.2288e-3


@pytest.mark.parametrize(
    ("channels", "size", "weight", "kernels"),
    [
        (1, 28, MNIST, [7, 10, 13]), (1, 32, MNIST, [7, 10, 13]), (1, 64, MNIST, [7, 10, 13]),
        (1, 8, MNIST * 64 / 784, [7, 10, 13]), (3, 32, CIFAR, [7, 10, 13]), (3, 64, CELEBA, [0, 3, 7, 10, 13]),
    ],
)  # fmt: skip
def test_loss_adds_the_published_penalty_on_decoder_kernels(channels, size, weight, kernels):
    method, x = build("ae-gmm", size, channels, width=0.05, lambda_scale=3.0), images(8, channels, size)
    assert isinstance(method.decoder[7], nn.ConvTranspose2d)
    losses = method.loss(x)
    error = (x - method.reconstruct(x)).square().flatten(1).sum(1).mean()
    penalty = 3.0 * weight * sum((method.decoder[i].weight ** 2).sum() for i in kernels)
    torch.testing.assert_close(losses["reconstruction"], error)
    torch.testing.assert_close(losses["decoder_regulariser"], penalty, rtol=1e-3, atol=0)
    torch.testing.assert_close(losses["total"], error + penalty)
    torch.testing.assert_close(losses["rms_code"], method.encode(x).square().mean().sqrt())

    gradients = torch.autograd.grad(losses["decoder_regulariser"], list(method.parameters()), allow_unused=True)
    reached = {name for (name, _), g in zip(method.named_parameters(), gradients, strict=True) if g is not None}
    assert reached == {f"decoder.{i}.weight" for i in kernels}


def trained(model, **knobs):
    """Losses and weights of a model after five steps from fixed weights on fixed batches."""
    torch.manual_seed(0)
    method = build(model, **knobs)
    opt, batches = handle(method, lr_factor=5.0), Stream()
    losses = [method.update(batches, opt, step)["reconstruction"].item() for step in range(5)]
    return losses, dict(method.named_parameters())


def test_without_penalty_it_is_the_plain_autoencoder_bit_for_bit():
    (losses, weights), (plain_losses, plain) = trained("ae-gmm", lambda_scale=0.0), trained(PlainAE)
    assert losses == plain_losses
    assert all(torch.equal(p, plain[name]) for name, p in weights.items())
    assert weights.keys() == plain.keys()
    assert trained("ae-gmm", lambda_scale=100.0)[0] != plain_losses


def test_the_penalty_is_a_term_of_the_loss_and_shrinks_the_kernels():
    method = build("ae-gmm", lambda_scale=1e6)
    opt, before = handle(method, lr_factor=5.0), method.decoder[7].weight.norm().item()
    for step in range(20):
        method.update(Stream(), opt, step)
    assert method.decoder[7].weight.norm() < 0.9 * before
    assert {type(o) for o in opt._torch.values()} == {torch.optim.Adam}


def test_one_adam_moves_both_networks_and_the_mixture_is_fitted_afterwards():
    method, batches = build("ae-gmm"), Stream()
    train, gmm = method.phases(Budget(30, 8))
    assert isinstance(train, Train)
    assert isinstance(gmm, Fit)
    assert (train.name, train.steps, gmm.name) == ("train", 30, "gmm")
    (spec,) = train.optimizers().values()
    assert (spec.lr, spec.betas, set(spec.parameters)) == (2e-4, (0.9, 0.999), set(method.parameters()))
    assert build("ae-gmm", lr=5e-4).optimizers()["main"].lr == 5e-4

    before = [b.clone() for b in (method.weights, method.means, method.factors)]
    spy = Spy(method, Optimizers(train.optimizers()))
    train.update(batches, spy, 0)
    assert spy.seen == [("main", {"encoder", "decoder"})]
    assert batches.drawn == 1
    assert all(torch.equal(a, b) for a, b in zip(before, (method.weights, method.means, method.factors), strict=True))


# -- the fit --------------------------------------------------------------------------------------------------------


def test_with_one_component_the_fit_is_the_closed_form():
    codes = correlated()
    method = fitted(codes, components=1)
    floor = COVARIANCE_FLOOR * torch.diag(codes.var(0, correction=0))
    torch.testing.assert_close(method.weights, torch.ones(1))
    torch.testing.assert_close(method.means[0], codes.mean(0), rtol=1e-4, atol=1e-5)
    covariance = method.factors[0] @ method.factors[0].T
    torch.testing.assert_close(covariance, torch.cov(codes.T, correction=0) + floor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("components", [1, 5])
def test_for_gaussian_codes_draws_have_their_mean_and_covariance(components):
    codes = correlated()
    drawn = fitted(codes, components=components).prior(40_000)
    spread = codes.std(0)
    torch.testing.assert_close(drawn.mean(0) / spread, codes.mean(0) / spread, rtol=0, atol=0.05)
    a, b = (torch.cov(z.T) / spread.outer(spread) for z in (drawn, codes))
    torch.testing.assert_close(a, b, rtol=0, atol=0.1)


def test_components_find_clusters_and_their_weights():
    codes = clusters()
    method = fitted(codes, components=3)
    order = method.weights.argsort(descending=True)
    torch.testing.assert_close(method.weights[order], torch.tensor([0.6, 0.3, 0.1]), rtol=0, atol=1e-3)
    wanted = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    torch.testing.assert_close(method.means[order], wanted, rtol=0, atol=0.05)
    assert method.diagnostics(codes)["smallest_weight"] == method.weights.min()


def test_em_sees_the_standardised_codes_of_all_training_images_and_nothing_else(monkeypatch):
    seen = {}

    class Noted(GaussianMixture):
        def __init__(self, n_components, **settings):
            seen.update(settings, components=n_components)
            super().__init__(n_components, **settings)

        def fit(self, x):
            seen["x"] = x
            return super().fit(x)

    monkeypatch.setattr(sklearn.mixture, "GaussianMixture", Noted)
    method, x = build("ae-gmm").eval(), images(50)
    encoded = []
    method.encoder.register_forward_pre_hook(lambda _, args: encoded.append(args[0]))
    method.phases(Budget(1, 8))[1].fit(iter(x.split(20)))
    assert torch.equal(torch.cat(encoded), x)
    assert (seen["components"], seen["max_iter"], seen["tol"]) == (10, 2000, 1e-3)
    assert seen.get("covariance_type", "full") == "full"
    assert (seen["init_params"], seen["reg_covar"], seen["random_state"]) == ("kmeans", 1e-4, 0)
    with torch.no_grad():
        z = method.encode(x).double()
    assert seen["x"].dtype == "float64"
    torch.testing.assert_close(torch.from_numpy(seen["x"]), (z - z.mean(0)) / z.std(0, correction=0))


def test_the_fit_is_the_same_each_time_and_leaves_the_networks_alone():
    method, x = build("ae-gmm").eval(), images(60)
    assert moved(method, lambda: method.fit_mixture(iter([x]))) == set()
    first = [b.clone() for b in (method.weights, method.means, method.factors)]
    assert method.weights.sum().item() == pytest.approx(1)
    assert (method.weights > 0).all()
    torch.manual_seed(99)
    method.fit_mixture(iter([x]))
    assert all(torch.equal(a, b) for a, b in zip(first, (method.weights, method.means, method.factors), strict=True))


@pytest.mark.parametrize("kind", ["a line in four dimensions", "a constant dimension", "one point"])
@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_codes_that_do_not_fill_their_space_give_a_sound_mixture(kind):
    line = torch.randn(200, 1) @ torch.tensor([[1.0, 2.0, -1.0, 0.5]])
    codes = {"a line in four dimensions": line, "one point": torch.ones(200, 4)}.get(kind, torch.randn(200, 4))
    if kind == "a constant dimension":
        codes[:, 2] = 3.0
    method = fitted(codes)
    drawn = method.prior(2000)
    assert drawn.isfinite().all()
    assert (method.factors.diagonal(dim1=1, dim2=2) > 0).all()
    assert method.weights.sum().item() == pytest.approx(1)
    assert method.log_density(codes).isfinite().all()
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), rtol=0.1, atol=0.3)
    torch.testing.assert_close(drawn.std(0), codes.std(0), rtol=0.2, atol=1e-5)


# -- the prior ------------------------------------------------------------------------------------------------------


def uneven(dim=2):
    """A model with a mixture of three known, correlated components."""
    method = build(Codes, latent_dim=dim, components=3).eval()
    method.weights.copy_(torch.tensor([0.6, 0.3, 0.1]))
    method.means.copy_(torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]]))
    method.factors.copy_(torch.tensor([[1.0, 0.0], [0.7, 0.5]]) * torch.tensor([1.0, 2.0, 0.5])[:, None, None])
    return method


def component_of(z, method):
    return torch.cdist(z, method.means).argmin(1)


def test_draws_have_the_mixture_s_weights_means_and_covariances():
    method = uneven()
    z = method.prior(30_000)
    component = component_of(z, method)
    for k, weight in enumerate((0.6, 0.3, 0.1)):
        part = z[component == k]
        assert len(part) / len(z) == pytest.approx(weight, abs=0.01)
        torch.testing.assert_close(part.mean(0), method.means[k], rtol=0, atol=0.15)
        torch.testing.assert_close(torch.cov(part.T), method.factors[k] @ method.factors[k].T, rtol=0.1, atol=0.02)
    second_moment = method.factors @ method.factors.mT + method.means[:, :, None] * method.means[:, None]
    mean = method.weights @ method.means
    covariance = (method.weights[:, None, None] * second_moment).sum(0) - mean.outer(mean)
    torch.testing.assert_close(torch.cov(z.T), covariance, rtol=0.05, atol=1.0)


@pytest.mark.parametrize("seeded", [True, False])
def test_draws_are_not_grouped_by_component(seeded):
    method = uneven()
    z = method.prior(2000, torch.Generator().manual_seed(1) if seeded else None)
    component = component_of(z, method)
    for start in range(0, 2000, 500):
        counts = torch.bincount(component[start : start + 500], minlength=3)
        torch.testing.assert_close(counts / 500, method.weights, rtol=0, atol=0.08)
    runs = [len(list(group)) for _, group in itertools.groupby(component.tolist())]
    assert max(runs) < 40


def test_all_randomness_comes_from_the_generator_that_is_given():
    method = uneven()
    a, b, c = (method.prior(500, torch.Generator().manual_seed(k)) for k in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(component_of(a, method), component_of(c, method))


def test_unfitted_mixture_is_a_standard_normal():
    z = build("ae-gmm").prior(20_000)
    torch.testing.assert_close(z.mean(0), torch.zeros(M), rtol=0, atol=0.05)
    torch.testing.assert_close(torch.cov(z.T), torch.eye(M), rtol=0, atol=0.05)


def test_log_density_is_that_of_the_fitted_mixture():
    codes = correlated(500)
    method = fitted(codes, components=4)
    center, spread = codes.mean(0), codes.std(0, correction=0)
    own = GaussianMixture(4, max_iter=2000, tol=1e-3, reg_covar=COVARIANCE_FLOOR, random_state=0)
    standardised = ((codes - center) / spread).double().numpy()
    expected = torch.from_numpy(own.fit(standardised).score_samples(standardised)) - spread.log().sum()
    torch.testing.assert_close(method.log_density(codes).double(), expected, rtol=1e-3, atol=1e-2)
    per_dim = method.diagnostics(codes)["log_density_per_dim"]
    assert per_dim.item() == pytest.approx(expected.mean().item() / 3, abs=1e-2)
    assert method.log_density(codes + 30 * spread).mean() < expected.mean() - 100
    assert math.isfinite(per_dim)


@pytest.mark.parametrize("bad", [{"components": 0}, {"lambda_scale": -1.0}, {"lr": -1.0}])
def test_bad_knobs_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        build("ae-gmm", **bad)
