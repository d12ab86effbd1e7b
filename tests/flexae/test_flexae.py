"""FlexAE and FlexAE-SR: formulas, who moves when, what each stream of images does."""

import copy

import pytest
import torch

from ..model_tools import M, PlainAE, Spy, Stream, build, handle, images, reconstructions

FLEX = ["flexae", "flexae-sr"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


STEPS = {"ae": 1, "critic": 5, "prior": 1, "encoder": 1}


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
    torch.testing.assert_close(method.encoder_step(x, opt)["adv_loss"], real)  # Eq. 8
    torch.testing.assert_close(method.prior_step(n, opt)["prior_adv_loss"], -fake)  # Eq. 7
    z = method.encode(x).detach()
    distance = method.critic(z).mean() - method.critic(method.prior_generator(n)).mean()
    logs = method.critic_step(z, n, opt)
    torch.testing.assert_close(logs["critic_loss"], -distance)  # Eq. 6 without its penalty
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
    method, x, x_other = build("flexae-sr"), images(), images()
    monkeypatch.setattr(torch, "rand", lambda *shape, **kw: torch.full(shape, 0.3, **kw))

    def score():
        with torch.no_grad():
            return method.image_critic(method.decode(0.3 * method.encode(x) + 0.7 * method.encode(x_other))).mean()

    before = score()
    torch.testing.assert_close(method.smoothing_step(x, x_other, handle(method))["image_adv_loss"], -before)  # Eq. 10
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
