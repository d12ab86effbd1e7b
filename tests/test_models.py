"""The models of the suite: their formulas, who moves when, and that they learn."""

import copy
import itertools
import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch.distributions import Normal, kl_divergence

from baselines import wae_gan
from benchmark.losses import squared_error
from benchmark.method import Budget, DataSpec, Method
from benchmark.optim import Optimizers, adam
from benchmark.registry import BUILT_IN, Registry

M = 4
FLEX = ["flexae", "flexae-sr"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(name, size=8, channels=1, width=0.0625, **knobs):
    cls = Registry().get(name) if isinstance(name, str) else name
    return cls(DataSpec("random", channels, size), cls.Config(latent_dim=M, width=width, **knobs)).train()


def handle(method, lr_factor=1.0):
    (phase,) = method.phases(Budget(10, 8))
    return Optimizers(phase.optimizers(), lr_factor)


def images(n=8, channels=1, size=8):
    return torch.rand(n, channels, size, size)


def moved(method, action):
    """The networks of which any bit changed while `action` ran; every weight of such a one must have changed.

    Biases need not: the last one of a Wasserstein critic adds a constant, which has no gradient.
    """
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    action()
    changed = {name for name, p in method.named_parameters() if not torch.equal(p, before[name])}
    networks = {name.split(".")[0] for name in changed}
    weights = {name for name, p in before.items() if name.split(".")[0] in networks and p.dim() > 1}
    assert weights <= changed
    return networks


class Stream:
    """Endless random batches; `drawn` counts them."""

    def __init__(self, *shape):
        self.shape, self.drawn = shape or (8, 1, 8, 8), 0

    def __next__(self):
        self.drawn += 1
        return torch.rand(self.shape)


# -- all models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
def test_shapes_ranges_and_determinism(name):
    method, x = build(name, channels=3, size=12).eval(), images(5, 3, 12)
    with torch.no_grad():
        z, y, drawn = method.encode(x), method.reconstruct(x), method.sample(6, torch.Generator().manual_seed(1))
        assert z.shape == (5, M)
        assert y.shape == x.shape
        assert drawn.shape == (6, 3, 12, 12)
        for picture in (y, drawn):
            assert picture.min() >= 0
            assert picture.max() <= 1
        assert torch.equal(z, method.encode(x))
        assert torch.equal(y, method.reconstruct(x))
        assert torch.equal(y, method.decode(z))
        assert torch.equal(drawn, method.sample(6, torch.Generator().manual_seed(1)))
        assert not torch.equal(drawn, method.sample(6, torch.Generator().manual_seed(2)))
        assert not torch.equal(method.prior(3), method.prior(3))  # the global generator, where none is given


@pytest.mark.parametrize("name", BUILT_IN)
def test_evaluation_does_not_depend_on_the_batch(name):
    method = build(name)
    method.update(Stream(), handle(method), 0)
    method.eval()
    x = images()
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([method.reconstruct(part) for part in x.split(3)]), method.reconstruct(x))
        z = method.prior(8)
        torch.testing.assert_close(torch.cat([method.decode(part) for part in z.split(1)]), method.decode(z))


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_step_moves_every_parameter(name):
    method = build(name, width=0.125)
    assert moved(method, lambda: method.update(Stream(), handle(method), 0)) == {n for n, _ in method.named_children()}


@pytest.mark.parametrize("name", BUILT_IN)
def test_logged_losses_are_scalars_that_hold_a_reconstruction(name):
    method = build(name)
    losses = method.update(Stream(), handle(method), 0)
    assert "reconstruction" in losses
    assert all(value.dim() == 0 and value.isfinite() for value in losses.values())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("name", BUILT_IN)
def test_losses_stay_finite_on_every_kind_of_image(name, size, channels):
    method = build(name, size, channels, width=0.05)
    opt, batches = handle(method, lr_factor=5.0), Stream(4, channels, size, size)
    for step in range(3):
        opt.begin_step(step)
        losses = method.update(batches, opt, step)
    opt.check_finite("train")
    assert all(value.isfinite() for value in losses.values())
    assert all(p.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_model_can_overfit(name):
    x = torch.from_numpy(load_digits().images[:64]).float()[:, None] / 16
    method = build(name, **{"n_critic": 1} if name in FLEX else {})
    opt, losses = handle(method, lr_factor=5.0), []
    for step in range(200):
        losses.append(method.update(itertools.repeat(x), opt, step)["reconstruction"].item())
    assert losses[-1] < losses[0] / 2


# -- VAE ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "variance"), [(1.0, 0.5), (3.0, 1.0)])
def test_vae_loss_is_scaled_squared_error_plus_weighted_kl(beta, variance):
    method, x = build("vae", beta=beta, decoder_variance=variance), images()
    torch.manual_seed(1)
    losses = method.loss(x)
    torch.manual_seed(1)
    mean, std = method.posterior(x)
    y = method.decode(mean + std * torch.randn(len(x), M))
    error = sum(((a - b) ** 2).sum() for a, b in zip(x, y, strict=True)) / len(x)  # summed over pixels
    kl = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum(1).mean()  # summed over latents
    torch.testing.assert_close(losses["reconstruction"], error)
    torch.testing.assert_close(losses["kl"], kl)
    torch.testing.assert_close(losses["total"], error / (2 * variance) + beta * kl)


def test_vae_encodes_the_mean_of_a_posterior_of_positive_width():
    method, x = build("vae"), images()
    with torch.no_grad():
        method.encoder[-1].bias.fill_(-200)  # softplus is exactly zero there
        mean, std = method.posterior(x)
        assert torch.equal(method.encode(x), mean)
    assert (std > 0).all()
    assert method.loss(x)["total"].isfinite()


# -- WAE-GAN ------------------------------------------------------------------------------------------------------


def test_an_undecided_discriminator_loses_two_log_two():
    method = build("wae-gan")
    with torch.no_grad():
        method.discriminator[-1].weight.zero_()
    losses = method.update(Stream(), handle(method), 0)
    assert losses["discriminator"].item() == pytest.approx(2 * math.log(2))
    assert losses["fooled"].item() == pytest.approx(math.log(2))


def test_discriminator_calls_the_prior_real_and_codes_fake():
    assert wae_gan.bce(torch.tensor([30.0, 40.0]), 1) < 1e-6 < 30 < wae_gan.bce(torch.tensor([30.0, 40.0]), 0)
    method = build("wae-gan", width=0.25)
    opt, x = handle(method, lr_factor=5.0), images(64)
    for step in range(30):
        method.update(itertools.repeat(x), opt, step)
    with torch.no_grad():
        assert method.discriminator(method.prior(500)).mean() > 0 > method.discriminator(method.encode(x)).mean()


@pytest.mark.parametrize(
    ("channels", "size", "reg"), [(1, 28, 200), (1, 32, 200), (1, 8, 200 * 64 / 784), (3, 32, 300), (3, 64, 500)]
)
def test_default_weight_of_wae_gan_follows_the_images(channels, size, reg):
    data = DataSpec("random", channels, size)
    assert wae_gan.default_reg(data) == pytest.approx(reg)
    assert build("wae-gan", size, channels).reg == pytest.approx(reg)
    assert build("wae-gan", size, channels, reg=7.0).reg == 7.0


class Spy:
    """Passes on to real optimizers and notes what each step moves."""

    def __init__(self, method, opt):
        self.method, self.opt, self.seen = method, opt, []

    def minimise(self, name, loss):
        self.seen.append((name, moved(self.method, lambda: self.opt.minimise(name, loss))))


def test_wae_gan_steps_move_their_own_networks_once_each():
    method, batches = build("wae-gan"), Stream()
    spy = Spy(method, handle(method))
    method.update(batches, spy, 0)
    assert spy.seen == [("ae", {"encoder", "decoder"}), ("discriminator", {"discriminator"})]
    assert batches.drawn == 1


def test_wae_gan_discriminator_step_sees_detached_codes():
    method, seen = build("wae-gan"), []
    method.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0].requires_grad))
    method.update(Stream(), handle(method), 0)
    assert seen == [True, False, False]  # the auto-encoder's step; then prior and codes


def test_wae_gan_without_weight_is_a_plain_autoencoder():
    class Plain(PlainAE):
        betas = (0.5, 0.999)

    assert reconstructions("wae-gan", reg=0.0) == reconstructions(Plain)
    assert reconstructions("wae-gan") != reconstructions(Plain)


# -- FlexAE -------------------------------------------------------------------------------------------------------

STEPS = {"ae": 1, "critic": 5, "prior": 1, "encoder": 1}


class PlainAE(Method):
    """Squared error only."""

    name = "plain"
    betas = (0.9, 0.999)

    def optimizers(self):
        return {"main": adam(self, betas=self.betas)}

    def loss(self, x):
        error = squared_error(x, self.reconstruct(x))
        return {"total": error, "reconstruction": error}


def reconstructions(name, per_update=1, **knobs):
    """Reconstruction losses of five updates from the same first weights and on the same batches for them."""
    torch.manual_seed(0)
    method = build(name, **knobs)
    own = torch.rand(5, 8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    batches = iter([x if k == 0 else torch.rand_like(x) for x in own for k in range(per_update)])
    opt = handle(method, lr_factor=5.0)
    losses = [method.update(batches, opt, step)["reconstruction"].item() for step in range(5)]
    assert next(batches, None) is None
    return losses


@pytest.mark.parametrize(
    ("name", "knobs", "per_update"),
    [("flexae", {"lr_enc": 0.0}, 6), ("flexae-sr", {"lr_enc": 0.0, "lr_smooth": 0.0}, 11)],
)
def test_without_its_pulls_flexae_is_a_plain_autoencoder(name, knobs, per_update):
    plain = reconstructions(PlainAE)
    assert reconstructions(name, per_update=per_update, **knobs) == plain
    assert reconstructions(name, per_update=per_update) != plain


@pytest.mark.parametrize(
    ("name", "steps", "drawn"), [("flexae", STEPS, 6), ("flexae-sr", STEPS | {"image_critic": 5, "smooth": 1}, 11)]
)
def test_flexae_counts_of_steps_and_batches(name, steps, drawn):
    method, batches = build(name), Stream()
    opt = handle(method)
    method.update(batches, opt, 0)
    assert (opt.steps, batches.drawn) == (steps, drawn)


OWNERS = {
    "ae": {"encoder", "decoder"}, "critic": {"critic"}, "prior": {"prior_generator"}, "encoder": {"encoder"},
    "image_critic": {"image_critic"}, "smooth": {"encoder", "decoder"},
}  # fmt: skip


@pytest.mark.parametrize("name", FLEX)
def test_flexae_steps_move_their_own_networks_in_the_order_of_the_release(name):
    method = build(name, width=0.125)
    spy = Spy(method, handle(method))
    method.update(Stream(), spy, 0)
    critics = ["critic", "image_critic"] if name == "flexae-sr" else ["critic"]
    smooth = ["smooth"] if name == "flexae-sr" else []
    assert [step for step, _ in spy.seen] == ["ae", *5 * critics, *smooth, "prior", "encoder"]
    assert all(parts == OWNERS[step] for step, parts in spy.seen)


def test_flexae_owners_learning_rates_and_betas():
    method = build("flexae-sr")
    opt = method.optimizers()
    for name, spec in opt.items():
        assert set(spec.parameters) == {p for part in OWNERS[name] for p in getattr(method, part).parameters()}
    assert {name: (spec.lr, spec.betas) for name, spec in opt.items()} == {
        "ae": (2e-4, (0.9, 0.999)), "critic": (1e-4, (0.0, 0.9)), "prior": (2e-4, (0.0, 0.9)),
        "encoder": (1e-5, (0.0, 0.9)), "image_critic": (2e-4, (0.5, 0.9)), "smooth": (2e-4, (0.5, 0.9)),
    }  # fmt: skip


def test_flexae_losses_have_the_signs_of_the_paper():
    method, x, n = build("flexae", penalty=0.0), images(), torch.randn(8, M)
    real, fake = method.critic(method.encode(x)).mean(), method.critic(method.prior_generator(n)).mean()
    opt = handle(method)
    torch.testing.assert_close(method.encoder_step(x, opt)["encoder"], real)  # Eq. 8
    torch.testing.assert_close(method.prior_step(n, opt)["prior"], -fake)  # Eq. 7
    z = method.encode(x).detach()
    distance = method.critic(z).mean() - method.critic(method.prior_generator(n)).mean()
    logs = method.critic_step(z, n, opt)
    torch.testing.assert_close(logs["critic"], -distance)  # Eq. 6 without its penalty
    torch.testing.assert_close(logs["distance"], distance.detach())
    torch.testing.assert_close(logs["rms_code"], z.square().mean().sqrt())
    torch.testing.assert_close(logs["distance_per_rms"], logs["distance"] / logs["rms_code"])


def test_encoder_step_lowers_and_prior_step_raises_the_critic():
    method, x, n = build("flexae"), images(), torch.randn(8, M)
    opt = handle(method)

    def scores():
        with torch.no_grad():
            return method.critic(method.encode(x)).mean(), method.critic(method.prior_generator(n)).mean()

    (real, fake), _ = scores(), method.encoder_step(x, opt)
    assert scores()[0] < real
    method.prior_step(n, opt)
    assert scores()[1] > fake


def test_critic_steps_raise_codes_over_prior_samples():
    method, n = build("flexae"), torch.randn(8, M)
    opt, z = handle(method, lr_factor=5.0), torch.randn(8, M) + 2
    distances = [method.critic_step(z, n, opt)["distance"].item() for _ in range(30)]
    assert distances[-1] > distances[0]
    assert method.critic(z).mean() > method.critic(method.prior_generator(n)).mean()


@pytest.mark.parametrize(("noise_dim", "used"), [(2, 2), (None, M), (7, 7)])
@pytest.mark.parametrize("name", FLEX)
def test_prior_noise_may_have_another_size_than_the_code(name, noise_dim, used):
    method = build(name, noise_dim=noise_dim)
    method.update(Stream(), handle(method), 0)
    assert method.prior_generator[0].in_features == used
    assert method.prior(3).shape == (3, M)
    assert method.eval().sample(3).shape == (3, 1, 8, 8)


def test_flexae_samples_through_its_prior_generator():
    method = build("flexae").eval()
    n = torch.randn(6, M, generator=torch.Generator().manual_seed(3))
    z = method.prior_generator(n)
    assert torch.equal(method.prior(6, torch.Generator().manual_seed(3)), z)
    assert torch.equal(method.sample(6, torch.Generator().manual_seed(3)), method.decode(z))


def averages(net):
    return {name: value.clone() for name, value in net.named_buffers()}


def same(a, b):
    return all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.mark.parametrize("sees", [True, False])
def test_prior_step_shows_its_samples_to_the_decoder_s_averages_if_asked(sees):
    method = build("flexae", norm_sees_prior=sees)
    before = averages(method.decoder)
    method.prior_step(torch.randn(8, M), handle(method))
    assert same(before, averages(method.decoder)) is not sees


@pytest.mark.parametrize(("name", "streams"), [("flexae", 2), ("flexae-sr", 3)])
def test_each_stream_moves_the_decoder_s_averages_once_per_step(name, streams):
    method = build(name)
    method.update(Stream(), handle(method), 0)
    assert {int(v) for k, v in averages(method.decoder).items() if k.endswith("tracked")} == {streams}


# -- FlexAE-SR ----------------------------------------------------------------------------------------------------


def test_interpolation_with_weight_one_is_the_reconstruction(monkeypatch):
    method, x, x_other, seen = build("flexae-sr"), images(), images(), []
    expected = method.reconstruct(x)
    method.image_critic.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    monkeypatch.setattr(torch, "rand", lambda *shape, **kw: torch.ones(*shape, **kw))
    opt = handle(method)
    with torch.no_grad():
        z, z_other = method.encode(x), method.encode(x_other)
    method.image_critic_step(x, z, z_other, opt)
    real, mixed, between = (
        seen  # the critic loss scores real images, interpolations, and points between for the penalty
    )
    assert torch.equal(real, x)
    torch.testing.assert_close(mixed, expected)
    assert torch.equal(between, real)
    seen.clear()
    method.smoothing_step(x, x_other, opt)
    torch.testing.assert_close(seen[0], expected)


def test_interpolation_uses_both_images():
    method, seen = build("flexae-sr"), []
    method.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    x, x_other = images(), images()
    z, z_other = method.encode(x), method.encode(x_other)
    method.smoothing_step(x, x_other, handle(method))
    weight = (seen[0] - z_other) / (z - z_other)
    torch.testing.assert_close(weight, weight[:, :1].expand(-1, M), rtol=1e-3, atol=1e-3)  # one per sample
    assert weight[:, 0].std() > 0.1


def test_smoothing_step_raises_the_image_critic_on_interpolations(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **kw: torch.full(shape, 0.3, **kw))
    method, x, x_other = build("flexae-sr"), *torch.rand(2, 8, 1, 8, 8)

    def score():
        with torch.no_grad():
            return method.image_critic(method.decode(0.3 * method.encode(x) + 0.7 * method.encode(x_other))).mean()

    before = score()
    torch.testing.assert_close(method.smoothing_step(x, x_other, handle(method))["smooth"], -before)  # Eq. 10
    assert score() > before


def test_image_critic_step_leaves_the_decoder_s_averages_alone():
    method, x = build("flexae-sr"), images()
    before, twin = averages(method.decoder), copy.deepcopy(method)
    method.image_critic_step(x, torch.randn(8, M), torch.randn(8, M), handle(method))
    assert same(before, averages(method.decoder))
    twin.decode(torch.randn(8, M))
    assert not same(before, averages(twin.decoder))


@pytest.mark.parametrize("name", FLEX)
def test_the_last_critic_batch_and_noise_serve_the_later_steps(name):
    method, x = build(name, n_critic=2), [images() for _ in range(5)]
    seen = {"encoder": [], "prior_generator": [], "image_critic": []}
    for part, inputs in seen.items():
        if hasattr(method, part):
            getattr(method, part).register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0]))
    method.update(iter(x), handle(method), 0)
    noises = seen["prior_generator"]
    assert torch.equal(noises[-1], noises[-2])
    assert not torch.equal(noises[0], noises[1])
    if name == "flexae":  # critic steps on batches 1, 2
        assert torch.equal(seen["encoder"][-1], x[2])
    else:  # on pairs (1, 2), (3, 4), of which the first is what the image critic takes for real
        assert torch.equal(seen["encoder"][-1], x[3])
        assert torch.equal(seen["image_critic"][0], x[1])
        assert torch.equal(seen["image_critic"][3], x[3])
