"""ALAE: its three steps, who moves when, its gradient penalty and networks."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from baselines.alae import build_dense, rms_deviation
from benchmark.losses import squared_error
from benchmark.networks import BatchNorm1d, BatchNorm2d

from ..model_tools import M, Spy, Stream, build, handle, images


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Catch:
    """Notes losses instead of stepping."""

    def minimise(self, names, loss):
        self.names, self.loss = names, loss


def linear(method, vector):
    """Make D(E(y)) = vector . y for images of as many pixels."""
    method.encoder = nn.Sequential(nn.Flatten(), nn.Linear(len(vector), M, bias=False))
    method.discriminator = nn.Linear(M, 1, bias=False)
    with torch.no_grad():
        method.encoder[1].weight.zero_()[0] = vector
        method.discriminator.weight.copy_(torch.tensor([[1.0, 0, 0, 0]]))
    return method


def test_gradient_penalty_of_a_linear_score_is_its_squared_length():
    vector, opt = torch.randn(64), Catch()
    method = linear(build("alae"), vector)
    logs = method.discriminator_step(images(), opt)
    torch.testing.assert_close(logs["r1"], vector.square().sum())
    torch.testing.assert_close(opt.loss, logs["disc_loss"] + 5 * vector.square().sum())  # gamma / 2 = 5


def test_gradient_penalty_trains_the_discriminator():
    method, opt = linear(build("alae", gamma=10.0), torch.full((64,), 0.1)), Catch()
    method.discriminator_step(images(), opt)
    weight = method.encoder[1].weight
    (with_penalty,) = torch.autograd.grad(opt.loss, weight)
    torch.manual_seed(0)
    method = linear(build("alae", gamma=0.0), torch.full((64,), 0.1))
    method.discriminator_step(images(), opt)
    (without,) = torch.autograd.grad(opt.loss, method.encoder[1].weight)
    torch.testing.assert_close((with_penalty - without)[0], torch.full((64,), 10 * 0.1))  # gamma v


def test_discriminator_step_calls_images_real_and_generated_ones_fake():
    method, x, opt = build("alae", gamma=0.0), images(), Catch()
    torch.manual_seed(1)
    logs = method.discriminator_step(x, opt)
    torch.manual_seed(1)
    fake, real = method.score(method.decoder(method.prior(8))), method.score(2 * x - 1)
    wanted = bce(fake, torch.zeros_like(fake)) + bce(real, torch.ones_like(real))
    torch.testing.assert_close(logs["disc_loss"], wanted)
    torch.testing.assert_close(opt.loss, wanted)
    torch.testing.assert_close(logs["reconstruction"], squared_error(x, method.reconstruct(x)))


def test_generator_step_wants_its_images_called_real():
    method, opt = build("alae"), Catch()
    torch.manual_seed(1)
    logs = method.generator_step(8, opt)
    torch.manual_seed(1)
    w = method.prior(8)
    score = method.score(method.decoder(w))
    torch.testing.assert_close(opt.loss, bce(score, torch.ones_like(score)))
    torch.testing.assert_close(logs["std_w"], w.var(0, correction=0).mean().sqrt().detach())


def test_latent_step_compares_codes_of_generated_images_with_detached_latents():
    method, opt = build("alae"), Catch()
    torch.manual_seed(1)
    method.latent_step(8, opt)
    torch.manual_seed(1)
    w = method.prior(8)
    wanted = sum((w - method.encoder(method.decoder(w))).square().flatten()) / (8 * M)
    torch.testing.assert_close(opt.loss, wanted)
    gradients = torch.autograd.grad(opt.loss, list(method.mapping.parameters()), allow_unused=True)
    assert all(g is None for g in gradients)


def test_an_undecided_discriminator_is_at_the_equilibrium():
    method = build("alae", lr=0.0)
    with torch.no_grad():
        method.discriminator[-1].weight.zero_()
    logs = method.update(Stream(), handle(method), 0)
    assert logs["disc_loss"].item() == pytest.approx(2 * math.log(2))
    assert logs["adv_loss"].item() == pytest.approx(math.log(2))
    assert logs["r1"] == 0


def test_three_steps_each_move_their_two_networks():
    method, batches, latents = build("alae", width=0.125), Stream(), []
    method.mapping.register_forward_pre_hook(lambda _, args: latents.append(args[0]))
    spy = Spy(method, handle(method))
    method.update(batches, spy, 0)
    assert spy.seen == [
        (("E", "D"), {"encoder", "discriminator"}),
        (("F", "G"), {"mapping", "decoder"}),
        (("E", "G"), {"encoder", "decoder"}),
    ]
    assert batches.drawn == 1
    assert len(latents) == 3
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(latents, 2))


def test_each_network_has_one_adam_for_all_its_steps():
    method = build("alae")
    opt, specs = handle(method), method.optimizers()
    owners = {"E": method.encoder, "G": method.decoder, "F": method.mapping, "D": method.discriminator}
    assert {name: set(s.parameters) for name, s in specs.items()} == {k: set(v.parameters()) for k, v in owners.items()}
    assert {(s.lr, s.betas) for s in specs.values()} == {(2e-4, (0.0, 0.99))}
    method.update(Stream(), opt, 0)
    assert opt.steps == {"E": 2, "G": 2, "F": 1, "D": 1}
    assert (method.ema_decay, method.ema_modules) == (0.991, ())


def test_discriminator_step_leaves_generated_images_detached():
    method, seen = build("alae"), []
    method.encoder.register_forward_pre_hook(lambda _, args: seen.append((args[0].requires_grad, args[0].grad_fn)))
    method.discriminator_step(images(), handle(method))
    assert sorted(needed for needed, _ in seen) == [False, True]  # fake; real, for the penalty
    assert all(made_by is None for _, made_by in seen)


def test_networks_of_the_compact_variant():
    method = build("alae", latent_dim=6)
    assert not any(isinstance(p, (BatchNorm1d, BatchNorm2d, nn.ReLU)) for p in method.encoder.modules())
    assert [type(p).__name__ for p in method.decoder][-1] == "Conv2d"  # linear output
    assert not any(isinstance(p, nn.ReLU) for p in method.modules())
    assert [p.out_features for p in method.mapping if isinstance(p, nn.Linear)] == [6] * 4
    assert [p.out_features for p in method.discriminator if isinstance(p, nn.Linear)] == [6, 6, 1]
    assert [type(p).__name__ for p in build_dense(2, 3, 1)] == ["Linear", "LeakyReLU", "Linear"]
    assert method.mapping[1].negative_slope == method.encoder[1].negative_slope == 0.2


def test_images_live_between_minus_one_and_one_and_samples_come_from_the_mapping():
    method, x, w = build("alae").eval(), images(), torch.randn(8, M)
    with torch.no_grad():
        assert torch.equal(method.encode(x), method.encoder(2 * x - 1))
        assert torch.equal(method.decode(w), ((method.decoder(w) + 1) / 2).clamp(0, 1))
        assert torch.equal(method.decode(100 * w), method.decode(100 * w).clamp(0, 1))
        z = torch.randn(5, M, generator=torch.Generator().manual_seed(2))
        assert torch.equal(method.prior(5, torch.Generator().manual_seed(2)), method.mapping(z))


def test_decoder_s_averages_see_generated_images_and_reconstructions_once_each():
    method = build("alae")
    method.update(Stream(), handle(method), 0)
    assert {int(v) for k, v in method.decoder.named_buffers() if k.endswith("tracked")} == {2}


def test_spread_is_zero_for_a_point():
    assert rms_deviation(torch.ones(5, 3)) == 0
    assert rms_deviation(2 * torch.randn(10_000, 3)).item() == pytest.approx(2, abs=0.05)


def test_latent_steps_bring_latents_back():
    method = build("alae", width=0.25)
    opt = handle(method, lr_factor=5.0)
    losses = [method.latent_step(32, opt)["latent_loss"].item() for _ in range(60)]
    assert losses[-1] < losses[0] / 2


def test_diagnostics_tell_a_collapsed_mapping_and_a_lost_latent():
    method, x = build("alae").eval(), images(64)
    with torch.no_grad():
        assert method.diagnostics(x)["std_w"] > 0.1
        method.mapping[-1].weight.mul_(1e-3)
        assert method.diagnostics(x)["std_w"] < 1e-2
        method.encode = lambda y: torch.zeros(len(y), M)
        assert method.diagnostics(x)["latent_loss_ratio"].item() == pytest.approx(1, abs=0.2)
