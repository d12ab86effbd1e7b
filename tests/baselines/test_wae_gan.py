"""WAE-GAN: its losses, who moves when, its weight."""

import itertools
import math

import pytest
import torch

from baselines import wae_gan
from benchmark.method import DataSpec

from ..model_tools import PlainAE, Spy, Stream, build, handle, images, reconstructions


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_an_undecided_discriminator_loses_two_log_two():
    method = build("wae-gan")
    with torch.no_grad():
        method.discriminator[-1].weight.zero_()
    losses = method.update(Stream(), handle(method), 0)
    assert losses["disc_loss"].item() == pytest.approx(2 * math.log(2))
    assert losses["adv_loss"].item() == pytest.approx(math.log(2))


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
    assert wae_gan.published_reg(data) == pytest.approx(reg)
    assert build("wae-gan", size, channels).reg == pytest.approx(reg)
    assert build("wae-gan", size, channels, reg_scale=0.5).reg == pytest.approx(reg / 2)


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

    assert reconstructions("wae-gan", reg_scale=0.0) == reconstructions(Plain)
    assert reconstructions("wae-gan") != reconstructions(Plain)


# -- critic=wgan-gp -----------------------------------------------------------------------------------------------

WGAN = {"critic": "wgan-gp"}


def test_the_wasserstein_variant_steps_like_flexae_without_its_prior_generator():
    method, batches = build("wae-gan", width=0.125, **WGAN), Stream()
    spy = Spy(method, handle(method))
    method.update(batches, spy, 0)
    autoencoder, critic, encoder = {"encoder", "decoder"}, {"discriminator"}, {"encoder"}
    expected = [("ae", autoencoder), *5 * [("discriminator", critic)], ("encoder", encoder)]
    assert spy.seen == expected
    assert batches.drawn == 6


def test_the_wasserstein_variant_has_the_rates_of_flexae_but_for_the_encoder():
    ours, flexae = build("wae-gan", **WGAN).optimizers(), build("flexae").optimizers()
    for name, counterpart in (("ae", "ae"), ("discriminator", "critic")):
        assert (ours[name].lr, ours[name].betas) == (flexae[counterpart].lr, flexae[counterpart].betas)
    assert (ours["encoder"].lr, ours["encoder"].betas) == (1e-4, (0.0, 0.9))
    assert build("wae-gan", lr_discriminator=0.5, **WGAN).optimizers()["discriminator"].lr == 0.5
    assert build("wae-gan").optimizers()["discriminator"].lr == 2e-4


def test_codes_play_real_and_the_fixed_prior_fake():
    method = build("wae-gan", width=0.25, penalty=1.0, lr=0.0, lr_enc=0.0, **WGAN)
    with torch.no_grad():
        method.encoder[-1].bias.fill_(5.0)  # codes far from the prior
    opt, x = handle(method, lr_factor=5.0), images(64)
    for step in range(10):
        losses = method.update(itertools.repeat(x), opt, step)
    assert losses["distance"] > 0
    with torch.no_grad():
        assert method.discriminator(method.encode(x)).mean() > method.discriminator(method.prior(500)).mean()


def test_the_encoder_step_brings_codes_to_the_prior():
    method = build("wae-gan", width=0.25, lr=0.0, lr_enc=1e-2, **WGAN)
    with torch.no_grad():
        method.encoder[-1].bias.fill_(5.0)
        opt, x = handle(method), images(64)
        before = method.encode(x).mean()
    for step in range(20):
        method.update(itertools.repeat(x), opt, step)
    with torch.no_grad():
        assert method.encode(x).mean() < before - 0.5


def test_a_weight_that_would_do_nothing_is_refused():
    with pytest.raises(ValueError, match="no meaning with critic=wgan-gp"):
        build("wae-gan", reg_scale=0.5, **WGAN)


@pytest.mark.parametrize(("knobs", "streams"), [(WGAN, 2), ({}, 1)])
def test_the_decoder_s_averages_see_the_prior_in_the_wasserstein_variant(knobs, streams):
    method = build("wae-gan", **knobs)
    method.update(Stream(), handle(method), 0)
    assert {int(v) for k, v in method.decoder.named_buffers() if k.endswith("tracked")} == {streams}


def test_without_its_pull_the_wasserstein_variant_is_a_plain_autoencoder():
    assert reconstructions("wae-gan", per_update=6, lr_enc=0.0, **WGAN) == reconstructions(PlainAE)
