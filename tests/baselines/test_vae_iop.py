"""VAE-IOP: the ratio learns log q / p, its sign in the loss, who moves when, importance resampling."""

import math

import pytest
import torch

from baselines import vae_iop
from baselines.vae_iop import VAEIOPConfig
from benchmark.losses import gaussian_kl
from tests.model_tools import M, Spy, Stream, build, handle, images


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def with_ratio(method, weight, bias=0.0):
    """The method with T(z) = weight . z + bias."""
    ratio = lambda z: z @ torch.as_tensor(weight) + bias  # noqa: E731
    method.log_density_ratio = lambda z, dropout_rate=0.0: ratio(z)
    return method


def test_loss_takes_the_ratio_off_the_kl():
    method, x = build("vae-iop", beta=3.0, decoder_variance=0.1), images()
    torch.manual_seed(1)
    losses = method.loss(x, kl_weight=0.5)
    torch.manual_seed(1)
    mean, std = method.posterior(x)
    z = mean + std * torch.randn_like(std)
    error = sum(((a - b) ** 2).sum() for a, b in zip(x, method.decode(z), strict=True)) / len(x)
    kl, correction = gaussian_kl(mean, std).sum(1).mean(), method.ratio(z).mean()
    for name, value in {
        "reconstruction": error, "kl_normal": kl, "log_density_ratio": correction, "kl": kl - correction,
        "total": error / 0.2 + 1.5 * (kl - correction),
    }.items():  # fmt: skip
        torch.testing.assert_close(losses[name], value)


def test_dropout_acts_in_the_steps_of_the_ratio_only():
    method, z = build("vae-iop"), torch.randn(8, M)
    assert torch.equal(method.log_density_ratio(z), method.log_density_ratio(z))
    assert torch.equal(method.log_density_ratio(z), method.ratio(z).squeeze(1))
    assert not torch.equal(method.log_density_ratio(z, 0.5), method.log_density_ratio(z, 0.5))
    drops = []
    method.log_density_ratio = lambda z, dropout_rate=0.0: drops.append(dropout_rate) or method.ratio(z).squeeze(1)
    method.update(Stream(), handle(method), 0)
    assert drops == [0.0] + 5 * [0.5, 0.5]


def test_dropout_stands_before_the_last_layer():
    method, z = build("vae-iop", ratio_units=10_000), torch.randn(1, M)
    with torch.no_grad():
        method.ratio[-1].weight.fill_(1.0)
        hidden = method.ratio[:-1](z)
        method.ratio[-1].bias.zero_()
        dropped = method.log_density_ratio(z, 0.999)
    assert hidden.shape == (1, 625)
    assert dropped.abs() > 100 * hidden.abs().mean() or dropped == 0  # a few survivors, each a thousand times larger


def test_ratio_is_three_layers_of_tanh():
    layers = [type(layer).__name__ for layer in build("vae-iop", width=1.0).ratio]
    assert layers == 3 * ["Linear", "Tanh"] + ["Linear"]
    assert [p.shape for p in build("vae-iop", width=1.0).ratio.parameters() if p.dim() > 1] == [
        (500, M), (500, 500), (500, 500), (1, 500),
    ]  # fmt: skip


def test_an_undecided_ratio_loses_two_log_two():
    method = build("vae-iop")
    torch.nn.init.zeros_(method.ratio[-1].weight)
    loss = method.discriminator_step(images(), handle(method))["disc_loss"]
    assert loss.item() == pytest.approx(2 * math.log(2))


def test_ratio_loss_calls_posterior_samples_one_and_prior_samples_zero():
    method, x = with_ratio(build("vae-iop"), torch.zeros(M), bias=3.0), images()
    opt = Recorder()
    method.discriminator_step(x, opt)
    expected = math.log(1 + math.exp(-3)) + math.log(1 + math.exp(3))
    assert opt.losses["ratio"].item() == pytest.approx(expected)
    method, opt = with_ratio(shifted(build("vae-iop"), 50.0), torch.ones(M)), Recorder()
    method.discriminator_step(x, opt)  # posterior samples lie far on the side that this T calls posterior
    assert opt.losses["ratio"] < 5
    method, opt = with_ratio(shifted(build("vae-iop"), -50.0), torch.ones(M)), Recorder()
    method.discriminator_step(x, opt)
    assert opt.losses["ratio"] > 100


class Recorder:
    """Optimizers that note the losses and step nothing."""

    def __init__(self):
        self.losses = {}

    def minimise(self, name, loss):
        self.losses[name] = loss


def shifted(method, mean):
    """q(z|x) = N(mean, 1) for every image."""
    last = method.encoder[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias[:M] = mean
        last.bias[M:] = math.log(math.e - 1)  # softplus of it is 1
    return method


def test_ratio_learns_the_log_ratio_of_two_known_gaussians():
    method = build("vae-iop", latent_dim=2, ratio_units=1000)
    method.posterior = lambda x: (torch.ones(len(x), 2), torch.ones(len(x), 2))
    opt, x = handle(method, lr_factor=3.0), images(256)
    for _ in range(200):
        method.discriminator_step(x, opt)
    with torch.no_grad():
        z = 0.5 + 0.7 * torch.randn(500, 2)  # between the two
        error = method.log_density_ratio(z) - (z.sum(1) - 1)
    assert error.abs().mean() < 0.25
    posterior, prior = torch.randn(500, 2) + 1, torch.randn(500, 2)
    assert method.log_density_ratio(posterior).mean() > 0.5 > -0.5 > method.log_density_ratio(prior).mean()


def test_vae_moves_once_then_the_ratio_n_times_on_fresh_batches():
    method, batches = build("vae-iop", n_ratio=3), Stream()
    spy = Spy(method, handle(method))
    method.update(batches, spy, 0)
    assert spy.seen == [("main", {"encoder", "decoder"}), *3 * [("ratio", {"ratio"})]]
    assert batches.drawn == 4


def test_owners_learning_rates_and_betas():
    method = build("vae-iop")
    specs = method.optimizers()
    assert {name: (spec.lr, spec.betas) for name, spec in specs.items()} == {
        "main": (2e-4, (0.9, 0.999)), "ratio": (1e-3, (0.9, 0.999)),
    }  # fmt: skip
    assert set(specs["main"].parameters) == {*method.encoder.parameters(), *method.decoder.parameters()}
    assert set(specs["ratio"].parameters) == set(method.ratio.parameters())
    assert VAEIOPConfig().n_ratio == 5


def test_gradient_of_the_vae_flows_through_the_ratio_and_not_from_its_own_steps():
    method, seen = build("vae-iop"), []
    method.ratio.register_forward_pre_hook(lambda _, args: seen.append(args[0].requires_grad))
    method.ratio[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].requires_grad))
    method.update(Stream(), handle(method), 0)
    assert seen == [True] + 10 * [False]  # the VAE's sample; then posterior and prior samples of five steps
    _, values = method.sample_with_kl(images())
    (gradient,) = torch.autograd.grad(values["log_density_ratio"].mean(), method.encoder[0].weight)
    assert gradient.abs().max() > 0


def test_resampling_tilts_the_prior_by_the_ratio():
    weight = torch.tensor([1.0, 0.0, -0.5, 0.0])  # N(0, I) exp(w . z) is N(w, I)
    method = with_ratio(build("vae-iop").eval(), weight)
    z = method.prior(4000, torch.Generator().manual_seed(3))
    assert z.shape == (4000, M)
    torch.testing.assert_close(z.mean(0), weight, atol=0.08, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(M), atol=0.08, rtol=0)


@pytest.mark.parametrize(("n", "groups"), [(1, [1]), (500, [500]), (1001, [500, 500, 1])])
def test_proposals_are_weighed_in_groups_of_bounded_size(n, groups):
    method, seen = build("vae-iop", proposals=7).eval(), []
    propose = method.propose
    method.propose = lambda n, generator=None: seen.append(n) or propose(n, generator)
    assert method.prior(n).shape == (n, M)
    assert seen == [7 * group for group in groups]
    assert vae_iop.GROUP == 500


def test_fifty_proposals_per_sample_by_default_and_no_gradient_in_sampling():
    method = build("vae-iop").eval()
    assert method.config.proposals == 50
    assert not any(t.requires_grad for t in method.propose(3))


def test_sampling_is_a_function_of_the_generator_and_leaves_the_global_one_alone():
    method = build("vae-iop").eval()
    before = torch.get_rng_state()
    a, b = (method.prior(20, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_survive_a_ratio_of_any_size():
    method = with_ratio(build("vae-iop").eval(), 1e4 * torch.ones(M))
    _, weights = method.propose(100)
    assert weights.sum().item() == pytest.approx(1)
    assert method.prior(5).isfinite().all()


def test_diagnostics_tell_how_many_proposals_count():
    method, x = build("vae-iop").eval(), images(50)
    with torch.no_grad():
        flat = with_ratio(method, torch.zeros(M), bias=2.0).diagnostics(x)
        tilted = with_ratio(method, torch.tensor([1.0, 0, 0, 0])).diagnostics(x)
        kl = gaussian_kl(*method.posterior(x))
    assert flat["effective_proposals"].item() == pytest.approx(25_000, rel=1e-3)
    assert flat["effective_ratio"].item() == pytest.approx(1, rel=1e-3)
    assert flat["log_density_ratio"].item() == pytest.approx(2)
    assert flat["kl"].item() == pytest.approx(kl.sum(1).mean().item() - 2, rel=1e-4)
    assert flat["active_dims_kl"] == (kl.mean(0) > 0.01).sum()
    assert tilted["effective_ratio"].item() == pytest.approx(math.exp(-1), rel=0.2)  # E[w]^2 / E[w^2] of exp(z)


@pytest.mark.parametrize("knobs", [{"dropout": 1.0}, {"dropout": -0.1}, {"n_ratio": 0}, {"proposals": 0}])
def test_impossible_knobs_are_refused(knobs):
    with pytest.raises(ValueError, match=next(iter(knobs))):
        VAEIOPConfig(**knobs)
