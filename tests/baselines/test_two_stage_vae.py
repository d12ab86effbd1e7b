"""2S-VAE: both stages' objective against distributions, the learned scales, who moves when, and how it samples."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from baselines.two_stage_vae import negative_elbo
from baselines.vae import GaussianAutoencoder
from benchmark.method import Budget
from tests.model_tools import M, Spy, Stream, build, handle, images, moved, phase_of

D = 64  # pixels of the 8x8 images


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def latents(n=512):
    """Means and deviations of posteriors, [n, 2 M], whose z are far from N(0, I): two clusters, thin in all but one."""
    cluster = torch.where(torch.rand(n, 1) < 0.5, -2.0, 2.0)
    mean = torch.cat([cluster, 0.5 * cluster, torch.full((n, M - 2), 0.3)], dim=1)
    return torch.cat([mean, torch.full((n, M), 0.2)], dim=1)


# -- the objective --------------------------------------------------------------------------------------------------


def test_both_stages_minimise_the_negative_evidence_bound():
    method = build("2s-vae")
    with torch.no_grad():
        method.scale.log_gamma.fill_(-1.3)
        method.second.scale.log_gamma.fill_(0.4)
    stages = [
        (images(), method.posterior, method.decode, method.scale),
        (torch.randn(8, M), method.second.posterior, method.second.decode, method.second.scale),
    ]
    for x, posterior, decode, scale in stages:
        torch.manual_seed(1)
        total, error, kl = negative_elbo(x, posterior, decode, scale)
        torch.manual_seed(1)
        mean, std = posterior(x)
        y = decode(mean + std * torch.randn(8, M))
        log_likelihood = Normal(y, scale.gamma).log_prob(x).flatten(1).sum(1)
        divergence = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(1)
        torch.testing.assert_close(total, (divergence - log_likelihood).mean())
        torch.testing.assert_close(error, (x - y).square().flatten(1).sum(1).mean())
        torch.testing.assert_close(kl, divergence.mean())


def test_with_variance_one_half_the_first_stage_is_the_vae_up_to_a_constant():
    method, vae, x = build("2s-vae"), build("vae"), images()
    log_gamma = 0.5 * math.log(0.5)
    with torch.no_grad():
        method.scale.log_gamma.fill_(log_gamma)
    vae.load_state_dict({k: v for k, v in method.state_dict().items() if k.startswith(("encoder", "decoder"))})
    assert isinstance(method, GaussianAutoencoder) and isinstance(vae, GaussianAutoencoder)
    gradients = []
    for model in (method, vae):
        torch.manual_seed(1)
        losses = model.loss(x)
        parameters = [*model.encoder.parameters(), *model.decoder.parameters()]
        gradients.append((losses, torch.autograd.grad(losses["total"], parameters)))
    (ours, a), (theirs, b) = gradients
    constant = D * (log_gamma + 0.5 * math.log(2 * math.pi))
    torch.testing.assert_close(ours["total"], theirs["total"] + constant)
    torch.testing.assert_close(ours["reconstruction"], theirs["reconstruction"])
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_optimal_variance_is_the_mean_squared_error():
    method, x = build("2s-vae"), images()

    def slope(log_gamma):
        torch.manual_seed(1)
        with torch.no_grad():
            method.scale.log_gamma.fill_(log_gamma)
        losses = method.loss(x)
        return torch.autograd.grad(losses["total"], method.scale.log_gamma)[0].item(), losses["reconstruction"].item()

    best = 0.5 * math.log(slope(0.0)[1] / D)
    assert slope(best)[0] == pytest.approx(0, abs=1e-3)
    assert slope(best - 0.1)[0] < -1 < 1 < slope(best + 0.1)[0]


# -- the learned scales ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lr_factor", "steps"), [(1.0, 160), (5.0, 60)])
def test_gamma_follows_the_root_mean_squared_error(lr_factor, steps):
    method, x = build("2s-vae"), images()
    opt = handle(method, lr_factor)
    for step in range(steps):
        losses = method.update(itertools.repeat(x), opt, step)
    assert losses["gamma_x"] < 0.5
    assert losses["gamma_x"].item() == pytest.approx((losses["reconstruction"].item() / D) ** 0.5, rel=0.15)


@pytest.mark.parametrize("stage", ["vae", "second-stage"])
def test_gamma_stays_above_its_minimum_and_can_leave_it(stage):
    method = build("2s-vae")
    phase, scale = phase_of(method, stage), method.scale if stage == "vae" else method.second.scale
    batches = Stream() if stage == "vae" else iter([latents(8)] * 2)
    with torch.no_grad():
        scale.log_gamma.fill_(-20.0)
    phase.update(batches, handle(method, phase=stage), 0)
    assert scale.log_gamma.item() == -6
    phase.update(batches, handle(method, phase=stage), 1)  # the error is far above gamma^2 = e^-12
    assert scale.log_gamma.item() > -6


# -- who moves when -------------------------------------------------------------------------------------------------


def test_phases_optimizers_and_learning_rates():
    method = build("2s-vae", second_share=0.5)
    first, second = method.phases(Budget(30, 8))
    assert [(p.name, p.steps) for p in (first, second)] == [("vae", 30), ("second-stage", 15)]
    assert [p.steps for p in build("2s-vae").phases(Budget(30, 8))] == [30, 30]
    assert first.inputs is None
    parts = {
        "vae": [method.encoder, method.decoder], "gamma_x": [method.scale],
        "second": [method.second.encoder, method.second.decoder], "gamma_z": [method.second.scale],
    }  # fmt: skip
    specs = first.optimizers() | second.optimizers()
    assert {n: set(s.parameters) for n, s in specs.items()} == {
        n: {p for part in modules for p in part.parameters()} for n, modules in parts.items()
    }
    rates = {"vae": 2e-4, "gamma_x": 1e-2, "second": 2e-4, "gamma_z": 1e-2}
    assert {n: (s.lr, s.betas) for n, s in specs.items()} == {n: (lr, (0.9, 0.999)) for n, lr in rates.items()}


def test_each_stage_moves_its_own_networks_once_per_batch():
    method, batches = build("2s-vae"), Stream()
    spy = Spy(method, handle(method))
    method.update(batches, spy, 0)
    assert spy.seen == [(("vae", "gamma_x"), {"encoder", "decoder", "scale"})]
    assert batches.drawn == 1

    batches = Stream(8, 2 * M)
    spy = Spy(method, handle(method, phase="second-stage"))
    method.second_update(batches, spy, 0)
    assert spy.seen == [(("second", "gamma_z"), {"second"})]
    assert batches.drawn == 1
    parts = moved(method.second, lambda: method.second_update(batches, spy.opt, 1))
    assert parts == {"encoder", "decoder", "scale"}


def test_the_second_stage_trains_on_fresh_draws_from_the_posteriors_of_the_images():
    method, x = build("2s-vae").eval(), images()
    phase = phase_of(method, "second-stage")
    with torch.no_grad():
        mean, std = method.posterior(x)
        assert torch.equal(phase.inputs(x), torch.cat([mean, std], dim=1))

    seen = []
    method.second.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    row = torch.cat([torch.arange(M).float(), torch.linspace(0.1, 1.0, M)])
    batch, opt = row.repeat(4000, 1), handle(method, phase="second-stage")
    for step in range(2):
        phase.update(iter([batch]), opt, step)
    a, b = seen
    assert not torch.equal(a, b)
    torch.testing.assert_close(a.mean(0), row[:M], rtol=0, atol=0.1)
    torch.testing.assert_close(a.std(0), row[M:], rtol=0.1, atol=0)


# -- the second stage -----------------------------------------------------------------------------------------------


def test_second_stage_has_three_hidden_layers_and_a_skip_to_the_last():
    method = build("2s-vae", width=1.0)
    for net, outputs in ((method.second.encoder, 2 * M), (method.second.decoder, M)):
        shapes = [tuple(p.shape) for p in net.parameters() if p.dim() == 2]
        assert shapes == [(1024, M), (1024, 1024), (1024, 1024), (outputs, 1024 + M)]
        assert not list(net.buffers())  # no batch norm
        with torch.no_grad():
            z = torch.randn(5, M)
            hidden = torch.randn(5, M)
            for layer in list(net.hidden)[::2]:
                hidden = layer(z if layer is net.hidden[0] else hidden).relu()
            expected = torch.cat([hidden, z], 1) @ net.out[0].weight.T + net.out[0].bias
            torch.testing.assert_close(net(z), expected)


def test_second_posterior_is_positive_and_of_the_size_of_z():
    method = build("2s-vae", latent_dim=6)
    mean, std = method.second.posterior(1e4 * torch.randn(7, 6))
    assert mean.shape == std.shape == (7, 6)
    assert (std > 0).all()
    assert std.isfinite().all()


def test_second_stage_draws_codes_better_than_a_standard_normal():
    method, rows = build("2s-vae", width=0.125), latents()
    opt, update = handle(method, lr_factor=5.0, phase="second-stage"), method.second_update
    for step in range(400):
        losses = update(iter([rows[torch.randint(len(rows), (64,))]]), opt, step)
    z = rows[:, :M] + rows[:, M:] * torch.randn(len(rows), M)
    with torch.no_grad():
        drawn = method.eval().prior(4000)
    assert (drawn.mean(0) - z.mean(0)).norm() < 0.5 * z.mean(0).norm()
    distance, without = torch.cov(drawn.T) - torch.cov(z.T), torch.eye(M) - torch.cov(z.T)
    assert distance.norm() < 0.3 * without.norm()
    assert losses["gamma_z"] < 0.5


# -- use ------------------------------------------------------------------------------------------------------------


def test_prior_adds_gamma_z_noise_to_the_decoded_u_and_pixels_get_none():
    method = build("2s-vae").eval()
    with torch.no_grad():
        method.second.scale.log_gamma.fill_(-1.0)
        u, eps = torch.randn(6, 2 * M, generator=torch.Generator().manual_seed(3)).chunk(2, dim=1)
        z = method.second.decoder(u) + math.exp(-1.0) * eps
        torch.testing.assert_close(method.prior(6, torch.Generator().manual_seed(3)), z)
        torch.testing.assert_close(method.sample(6, torch.Generator().manual_seed(3)), method.decode(z))
        method.second.decoder.out[0].weight.zero_()
        torch.testing.assert_close(method.prior(4000).std(0), torch.full((M,), math.exp(-1.0)), rtol=0.1, atol=0)


def test_codes_are_posterior_means():
    method, x = build("2s-vae").eval(), images()
    with torch.no_grad():
        assert torch.equal(method.encode(x), method.posterior(x)[0])
        assert torch.equal(method.reconstruct(x), method.decode(method.posterior(x)[0]))


def test_diagnostics_name_both_scales_and_counts_what_both_stages_use():
    method = build("2s-vae").eval()
    with torch.no_grad():
        method.second.encoder.out[0].weight.zero_()
        method.second.encoder.out[0].bias[:2] = 1.0  # two means at 1; deviations that softplus makes 1 up to the 1e-6
        method.second.encoder.out[0].bias[M:] = math.log(math.e - 1)
        figures = method.diagnostics(images())
    assert figures["gamma_x"] == figures["gamma_z"] == 1
    assert figures["second_active_dims_kl"] == 2
    assert figures["second_kl"].item() == pytest.approx(1.0, abs=1e-4)
    assert {"kl", "active_dims_kl"} <= figures.keys()


def test_knobs_are_its_own():
    knobs = {f.name for f in dataclasses.fields(build("2s-vae").Config)}
    assert knobs == {"latent_dim", "width", "second_share", "lr", "lr_gamma"}
    for bad in ({"second_share": 0.0}, {"lr": -1.0}, {"lr_gamma": -1.0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            build("2s-vae", **bad)
