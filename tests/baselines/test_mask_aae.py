"""MaskAAE: the mask, its losses, who moves when, its schedules."""

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from baselines.mask_aae import Mask, mask_rate_boost, polarity, rate_factor
from benchmark.losses import squared_error, wasserstein_critic_loss
from benchmark.method import Budget

from ..model_tools import M, Spy, Stream, build, handle, images


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class ScheduleSpy(Spy):
    """Notes learning-rate factors too."""

    def __init__(self, method, opt):
        super().__init__(method, opt)
        self.factors = {}

    def scale_lr(self, name, factor):
        self.factors[name] = factor
        self.opt.scale_lr(name, factor)


def set_mask(method, *w):
    with torch.no_grad():
        method.mask.w.copy_(torch.tensor(w))


def test_mask_values_are_one_minus_exp_of_minus_w():
    mask = Mask(3)
    with torch.no_grad():
        mask.w.copy_(torch.tensor([0.0, math.log(2), 50.0]))
    torch.testing.assert_close(mask.values(), torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(mask(torch.tensor([[3.0, 4.0, 5.0]])), torch.tensor([[0.0, 2.0, 5.0]]))
    mask.values().sum().backward()
    torch.testing.assert_close(mask.w.grad, torch.tensor([1.0, 0.5, 0.0]))  # off can come back, far on is frozen


def test_mask_starts_uniform_between_zero_and_five():
    w = Mask(20_000).w.detach()
    assert 0 <= w.min() < 0.01
    assert 4.99 < w.max() <= 5
    assert w.mean().item() == pytest.approx(2.5, abs=0.05)
    assert Mask(20_000).values().mean().item() == pytest.approx(0.80, abs=0.01)


def test_codes_and_prior_are_masked_alike():
    method, x = build("mask-aae").eval(), images()
    set_mask(method, 0.0, math.log(2), 50.0, 50.0)
    a = torch.tensor([0.0, 0.5, 1.0, 1.0])
    with torch.no_grad():
        torch.testing.assert_close(method.encode(x), a * method.encoder(x))
        noise = torch.randn(5, M, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(method.prior(5, torch.Generator().manual_seed(3)), a * noise)


def test_an_open_mask_makes_an_adversarial_autoencoder():
    method, x = build("mask-aae"), images()
    set_mask(method, *[50.0] * M)
    with torch.no_grad():
        z = method.encoder(x)
        assert torch.equal(method.encode(x), z)
    logs = method.autoencoder_step(x, handle(method))
    torch.testing.assert_close(logs["masked_variance"], z.var(0, correction=0).mean() * math.exp(-10))


def test_autoencoder_loss_is_mean_cross_entropy_and_variance_of_unmasked_codes():
    class Catch:
        def minimise(self, name, loss):
            self.loss = loss

    method, x, opt = build("mask-aae"), images(), Catch()
    set_mask(method, 0.0, 0.05, 1.0, 3.0)
    logs = method.autoencoder_step(x, opt)
    z, a = method.encoder(x), 1 - torch.exp(-method.mask.w)
    y = method.decode(a * z)
    variance = ((z - z.mean(0)) ** 2 * torch.exp(-10 * a**2)).mean()
    torch.testing.assert_close(logs["cross_entropy"], binary_cross_entropy(y, x))
    torch.testing.assert_close(logs["reconstruction"], squared_error(x, y))
    torch.testing.assert_close(opt.loss, binary_cross_entropy(y, x) + 100 * variance)


def test_critic_takes_the_prior_for_real():
    method, x, n = build("mask-aae"), images(), torch.randn(8, M)
    with torch.no_grad():
        z_a, n_a = method.encode(x), method.mask(n)
        distance = method.critic(n_a).mean() - method.critic(z_a).mean()
    torch.manual_seed(5)
    wanted, _ = wasserstein_critic_loss(method.critic, n_a, z_a, 10.0)
    torch.manual_seed(5)
    logs = method.critic_step(x, n, handle(method))
    torch.testing.assert_close(logs["critic_loss"], wanted)
    torch.testing.assert_close(logs["distance"], distance)
    torch.testing.assert_close(logs["rms_code"], z_a.square().mean().sqrt())
    torch.testing.assert_close(logs["distance_per_rms"], distance / logs["rms_code"])


def test_encoder_step_raises_the_critic_on_masked_codes():
    method, x = build("mask-aae"), images()

    def score():
        with torch.no_grad():
            return method.critic(method.encode(x)).mean()

    before = score()
    torch.testing.assert_close(method.encoder_step(x, handle(method))["adv_loss"], -before)
    assert score() > before


def test_mask_loss_and_its_gradient_are_those_of_the_formula():
    method, x, n, rho = build("mask-aae", lr_mask=0.0), images(), torch.randn(8, M), 3.0
    set_mask(method, 0.2, 0.5, 1.0, 3.0)
    w = method.mask.w.detach().clone().requires_grad_(True)
    a = 1 - torch.exp(-w)
    z_a, n_a = a * method.encoder(x).detach(), a * n
    gap = method.critic(z_a).mean() - method.critic(n_a).mean()
    cross_entropy = binary_cross_entropy(method.decode(z_a), x)
    wanted = 1000 * cross_entropy + (1 - gap) ** 2 + rho * (a * (1 - a)).sum()
    (gradient,) = torch.autograd.grad(wanted, w)
    logs = method.mask_step(x, n, rho, handle(method))
    torch.testing.assert_close(logs["mask_loss"], wanted)
    torch.testing.assert_close(method.mask.w.grad, gradient, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logs["soft_mask"], (a * (1 - a)).sum().detach())


def test_polarity_pushes_the_mask_to_zero_or_one_from_either_side_of_a_half():
    method = build("mask-aae", rec_weight=0.0, lr_mask=1e-2)
    set_mask(method, -math.log(0.6), -math.log(0.4), 0.005, 4.0)  # a = 0.4, 0.6, near 0, near 1
    before = method.mask.values().detach()
    method.mask_step(images(), torch.randn(8, M), 1e6, handle(method))
    after = method.mask.values().detach()
    assert (after[[0, 2]] < before[[0, 2]]).all()
    assert (after[[1, 3]] > before[[1, 3]]).all()
    assert method.mask.w[2] == 0  # clamped: the step was twice as long as the way to zero


def test_update_order_owners_and_batches():
    method, batches = build("mask-aae", width=0.125), Stream()
    spy = ScheduleSpy(method, handle(method))
    method.update(batches, spy, 0)
    assert spy.seen == [
        ("ae", {"encoder", "decoder"}), *5 * [("critic", {"critic"})], ("encoder", {"encoder"}), ("mask", {"mask"})
    ]  # fmt: skip
    assert batches.drawn == 8
    assert spy.factors == {"ae": 1.0, "mask": 1.0}


def test_rates_and_betas():
    specs = build("mask-aae").optimizers()
    rates = {"ae": 5e-4, "critic": 1e-4, "encoder": 1e-4, "mask": 5e-4}
    assert {name: (s.lr, s.betas) for name, s in specs.items()} == {k: (lr, (0.0, 0.9)) for k, lr in rates.items()}


@pytest.mark.parametrize("steps", [3000, 130_000])
def test_schedules_at_their_ends(steps):
    interval = steps // 100
    assert [polarity(k, steps, 32) for k in (0, 4 * interval - 1, 4 * interval)] == [2 / 32, 2 / 32, 4 / 32]
    assert polarity(59 * interval, steps, 32) < 2048 <= polarity(60 * interval, steps, 32)
    assert [rate_factor(k, steps) for k in (0, 5 * interval - 1, 5 * interval, steps)] == [1.0, 1.0, 0.2, 0.2]
    assert math.isfinite(polarity(29, 30, 32))


def test_the_phase_knows_its_budget():
    method = build("mask-aae", max_polarity=7.0)
    (phase,) = method.phases(Budget(steps=40, batch_size=8))
    seen = []
    method.mask_step = lambda x, n, rho, opt: seen.append(rho) or {}
    for step, factor in ((0, 1.0), (1, 1.0), (2, 0.2), (39, 0.2)):
        spy = ScheduleSpy(method, handle(method))
        phase.update(Stream(), spy, step)
        assert spy.factors == {"ae": factor, "mask": 20 * factor}  # the mask hurries, see below
        assert spy.opt._torch["ae"].param_groups[0]["lr"] == pytest.approx(5e-4 * factor)
        assert spy.opt._torch["critic"].param_groups[0]["lr"] == 1e-4
    assert seen == [0.5, 0.5, 1.0, 7.0]


def test_decoder_s_averages_see_reconstructions_and_prior_once_each():
    method = build("mask-aae")
    method.update(Stream(), handle(method), 0)
    assert {int(v) for k, v in method.decoder.named_buffers() if k.endswith("tracked")} == {2}


def test_active_dimensions_are_counted_from_a_tenth_on():
    method = build("mask-aae")
    set_mask(method, 0.0, 0.1, 0.11, 5.0)  # a = 0, 0.095, 0.104, 0.99
    a = method.mask.values().detach()
    figures = method.diagnostics(images())
    assert figures["active_dims_mask"] == 2
    torch.testing.assert_close(figures["soft_mask"], (a * (1 - a)).sum())
    assert method.update(Stream(), handle(method), 0)["active_dims_mask"] == 2


@pytest.mark.parametrize(("steps", "factor"), [(130_000, 1.0), (26_000, 1.0), (13_000, 2.0), (2_600, 10.0), (10, 20.0)])
def test_a_short_budget_lets_the_mask_travel_as_far(steps, factor):
    assert mask_rate_boost(steps) == factor


def test_the_mask_s_rate_is_raised_and_lowered_and_no_other(monkeypatch):
    method, seen = build("mask-aae"), {}
    opt = handle(method)
    monkeypatch.setattr(opt, "scale_lr", lambda name, factor: seen.update({name: factor}))
    method.update(Stream(), opt, 500, steps=1300)
    assert seen == {"ae": 0.2, "mask": 0.2 * 20}
    method.update(Stream(), opt, 0, steps=13_000)
    assert seen == {"ae": 1.0, "mask": 2.0}
