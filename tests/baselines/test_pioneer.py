"""Pioneer: the sphere, its KL, who moves when, its networks and schedule."""

import copy
import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, leaky_relu

from baselines.pioneer import PixelNorm, sphere_kl, to_unit_range
from benchmark.losses import squared_error
from benchmark.method import Budget
from benchmark.networks import BatchNorm1d, BatchNorm2d
from benchmark.training.checkpoint import export_weights, import_weights

from ..model_tools import M, Spy, Stream, build, handle, images


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Catch:
    """Notes losses instead of stepping."""

    def minimise(self, name, loss):
        self.loss = loss


@pytest.mark.parametrize(("m", "floor"), [(32, 1.248), (64, 1.587), (128, 1.930), (512, 2.620)])
def test_floor_of_the_kl_is_reached_by_the_uniform_sphere_and_never_passed(m, floor):
    method = build("pioneer", latent_dim=m)
    assert method.kl_floor == pytest.approx(floor, abs=1e-3)
    assert sphere_kl(method.prior(20_000)).item() == pytest.approx(method.kl_floor, abs=1e-3)
    for spread in (0.0, 1.0, 5.0):
        clustered = torch.nn.functional.normalize(torch.randn(50, m) + spread, dim=1)
        assert sphere_kl(clustered) > method.kl_floor


def test_kl_is_that_of_diagonal_gaussians_and_finite_for_one_point():
    e = torch.randn(50, 3) * torch.tensor([0.5, 1.0, 2.0]) + 1
    fitted = torch.distributions.Normal(e.mean(0), e.std(0, correction=0))
    wanted = torch.distributions.kl_divergence(fitted, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(sphere_kl(e), wanted)
    point = torch.ones(5, 3, requires_grad=True)
    sphere_kl(point).backward()
    assert sphere_kl(point).isfinite()
    assert point.grad.isfinite().all()


def test_codes_and_prior_have_unit_length():
    method, x = build("pioneer"), images()
    with torch.no_grad():
        for z in (method.encode(x), method.prior(8), method.prior(8, torch.Generator().manual_seed(1))):
            torch.testing.assert_close(z.norm(dim=1), torch.ones(8))


def test_prior_is_uniform_on_the_sphere():
    z = build("pioneer").prior(20_000)
    torch.testing.assert_close(z.mean(0), torch.zeros(M), atol=0.02, rtol=0)
    torch.testing.assert_close(z.T @ z / len(z), torch.eye(M) / M, atol=0.02, rtol=0)


def test_images_live_between_minus_one_and_one():
    method, x, z = build("pioneer").eval(), images(), torch.randn(8, M)
    with torch.no_grad():
        assert torch.equal(method.encode(x), method.embed(2 * x - 1))
        assert torch.equal(method.decode(z), ((method.decoder(z) + 1) / 2).clamp(0, 1))
    torch.testing.assert_close(
        to_unit_range(torch.tensor([-3.0, -1.0, 0.5, 1.0, 9.0])), torch.tensor([0, 0, 0.75, 1, 1])
    )


@pytest.mark.parametrize("rec_weight", [1.0, 1.5])
def test_encoder_loss_takes_each_kl_from_a_batch_of_its_own(rec_weight):
    method, x, opt = build("pioneer").eval(), images(), Catch()  # eval: spectral norms stand still
    torch.manual_seed(1)
    logs = method.encoder_step(x, rec_weight, opt)
    torch.manual_seed(1)
    fake, y = method.decoder(method.prior(8)), 2 * x - 1
    real_codes, fake_codes, y_again = method.embed(y), method.embed(fake), method.decoder(method.embed(y))
    absolute = sum((a - b).abs().sum() for a, b in zip(y, y_again, strict=True)) / y.numel()
    wanted = 0.1 * sphere_kl(real_codes) - 0.1 * sphere_kl(fake_codes) + rec_weight * absolute
    torch.testing.assert_close(opt.loss, wanted)
    torch.testing.assert_close(logs["kl_real_above_floor"], sphere_kl(real_codes) - method.kl_floor)
    torch.testing.assert_close(logs["kl_fake_above_floor"], sphere_kl(fake_codes) - method.kl_floor)
    torch.testing.assert_close(logs["reconstruction"], squared_error(x, to_unit_range(y_again)))


def test_generator_loss_is_kl_and_cosine_to_the_latent_it_came_from():
    method, z, opt = build("pioneer").eval(), build("pioneer").prior(8), Catch()
    method.generator_step(z, opt)
    e = method.embed(method.decoder(z))
    wanted = 0.1 * sphere_kl(e) + 0.2 * (1 - cosine_similarity(e, z)).mean()
    torch.testing.assert_close(opt.loss, wanted)


def test_encoder_step_trains_on_detached_fakes_and_through_the_generator():
    method, seen = build("pioneer"), []
    method.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].requires_grad))
    decoded = []
    method.decoder.register_forward_pre_hook(lambda _, args: decoded.append(args[0].requires_grad))
    method.encoder_step(images(), 1.5, handle(method))
    assert seen == [False, False]  # real, fake
    assert decoded == [False, True]  # prior codes; then codes of images, whose error the encoder is to lower


def test_one_encoder_step_then_two_generator_steps_with_fresh_latents():
    method, batches, latents = build("pioneer", width=0.125), Stream(), []
    spy = Spy(method, handle(method))
    step, method.generator_step = method.generator_step, lambda z, opt: latents.append(z) or step(z, opt)
    method.update(batches, spy, 0)
    assert spy.seen == [("encoder", {"encoder"}), *2 * [("generator", {"decoder"})]]
    assert batches.drawn == 1
    assert not torch.equal(*latents)


def test_rates_betas_and_average():
    method = build("pioneer")
    specs = method.optimizers()
    assert set(specs["encoder"].parameters) == set(method.encoder.parameters())
    assert set(specs["generator"].parameters) == set(method.decoder.parameters())
    assert {(s.lr, s.betas) for s in specs.values()} == {(5e-5, (0.0, 0.99))}
    assert (method.ema_decay, method.ema_modules) == (0.999, ("decoder",))


def test_image_weight_rises_after_a_tenth_of_the_budget():
    method, seen = build("pioneer"), []
    method.encoder_step = lambda x, weight, opt: seen.append(weight) or {}
    method.generator_step = lambda z, opt: {}
    (phase,) = method.phases(Budget(steps=40, batch_size=8))
    for step in (0, 3, 4, 39):
        phase.update(Stream(), None, step)
    assert seen == [1.0, 1.0, 1.5, 1.5]


def test_encoder_has_spectral_norm_on_every_layer_and_no_batch_norm():
    method = build("pioneer", width=0.25)
    for _ in range(50):  # power iterations
        method.encode(images())
    layers = [layer for layer in method.encoder if hasattr(layer, "weight")]
    assert len(layers) == 4
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2)
        torch.testing.assert_close(largest, torch.tensor(1.0), rtol=1e-2, atol=0)
    assert not any(isinstance(p, (BatchNorm1d, BatchNorm2d, torch.nn.ReLU)) for p in method.modules())


def test_generator_has_pixel_norm_leaky_relu_and_a_linear_end():
    h = torch.randn(2, 5, 3, 3)
    torch.testing.assert_close(PixelNorm()(h), h / (h.square().sum(1, keepdim=True) / 5 + 1e-8).sqrt())
    kinds = [type(layer).__name__ for layer in build("pioneer").decoder]
    assert kinds.count("PixelNorm") == kinds.count("LeakyReLU") == 4
    assert kinds[-1] == "Conv2d"
    layer = build("pioneer").decoder[2]
    torch.testing.assert_close(layer(h), leaky_relu(h, 0.2))


def test_spectral_norm_survives_copies_and_export(tmp_path):
    method, x = build("pioneer"), images()
    method.update(Stream(), handle(method), 0)
    twin = copy.deepcopy(method)
    twin.update(Stream(), handle(twin), 0)
    method.eval()
    export_weights(method, tmp_path / "model.safetensors")
    again = import_weights(build("pioneer"), tmp_path / "model.safetensors")
    with torch.no_grad():
        y = method.encode(x)
        assert torch.equal(y, method.encode(x))  # no power iteration in eval mode
        assert torch.equal(y, again.encode(x))
        assert not torch.equal(y, twin.eval().encode(x))  # a copy trains on its own


def test_generator_steps_bring_latents_back_through_a_fixed_encoder():
    method, z = build("pioneer", width=0.25), build("pioneer").prior(32)
    opt = handle(method, lr_factor=5.0)
    losses = [method.generator_step(z, opt)["latent_loss"].item() for _ in range(40)]
    assert losses[-1] < losses[0] / 2


def test_diagnostics_measure_both_games():
    method, x = build("pioneer").eval(), images(64)
    with torch.no_grad():
        figures = method.diagnostics(x)
        torch.testing.assert_close(figures["kl_real_above_floor"], sphere_kl(method.encode(x)) - method.kl_floor)
    assert figures["kl_fake_above_floor"] > 0
    assert 0 < figures["latent_loss"] < 2
    assert math.isfinite(figures["latent_loss"])
