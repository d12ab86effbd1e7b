"""VAE-VampPrior: the prior's density against torch.distributions, its edge cases, batch norm, sampling."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from baselines.vampprior import VampPriorConfig, log_mixture
from tests.model_tools import M, Spy, Stream, build, handle, images


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def vamp(k=5, **knobs):
    """A small model after some steps, in eval mode, with pseudo-inputs that differ."""
    method = build("vampprior", pseudo_inputs=k, **knobs)
    torch.nn.init.uniform_(method.pseudo_inputs.images)
    opt = handle(method)
    for step in range(2):
        method.update(Stream(), opt, step)
    return method.eval()


def test_kl_is_log_q_less_log_p_of_the_mixture_of_posteriors():
    method, x = vamp(), images()
    with torch.no_grad():
        torch.manual_seed(1)
        z, values = method.sample_with_kl(x)
        mean, std = method.posterior(x)
        mean_u, std_u = method.posterior(method.pseudo_inputs())
    torch.manual_seed(1)
    torch.testing.assert_close(z, mean + std * torch.randn_like(std))
    prior = MixtureSameFamily(Categorical(torch.ones(5)), Independent(Normal(mean_u, std_u), 1))
    expected = Normal(mean, std).log_prob(z).sum(1) - prior.log_prob(z)
    torch.testing.assert_close(values["kl"], expected, rtol=1e-4, atol=1e-4)


def test_with_one_pseudo_input_the_mean_of_the_estimate_is_the_kl_of_two_gaussians():
    method, x = vamp(1), images(4)
    with torch.no_grad():
        estimate = method.sample_with_kl(x.repeat(4000, 1, 1, 1))[1]["kl"].view(4000, 4).mean(0)
        posterior = Normal(*method.posterior(x))
        expected = kl_divergence(posterior, Normal(*method.posterior(method.pseudo_inputs()))).sum(1)
    assert expected.max() > 0.05
    torch.testing.assert_close(estimate, expected, rtol=0.1, atol=0.05)


def test_an_image_that_is_the_only_pseudo_input_has_no_kl():
    method = vamp(1)
    with torch.no_grad():
        x = method.pseudo_inputs().expand(3, -1, -1, -1)
        torch.testing.assert_close(method.sample_with_kl(x)[1]["kl"], torch.zeros(3), atol=1e-4, rtol=0)


def test_equal_pseudo_inputs_count_as_one():
    one, many, x = vamp(1), vamp(7), images()
    many.encoder.load_state_dict(one.encoder.state_dict())
    many.pseudo_inputs.images.data = one.pseudo_inputs.images.data.repeat(7, 1, 1, 1)
    values = []
    for method in (one, many):
        torch.manual_seed(1)
        values.append(method.sample_with_kl(x)[1]["kl"])
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-4)


def test_mixture_stays_finite_far_from_all_components():
    far = torch.tensor([[-1e4, -1e4 - 1]])
    torch.testing.assert_close(log_mixture(far), torch.tensor([-1e4 + math.log((1 + math.exp(-1)) / 2)]))


def test_loss_is_scaled_squared_error_plus_weighted_kl():
    method, x = vamp(beta=3.0, decoder_variance=0.1), images()
    torch.manual_seed(1)
    losses = method.loss(x, kl_weight=0.5)
    torch.manual_seed(1)
    z, values = method.sample_with_kl(x)
    error = sum(((a - b) ** 2).sum() for a, b in zip(x, method.decode(z), strict=True)) / len(x)
    torch.testing.assert_close(losses["reconstruction"], error)
    torch.testing.assert_close(losses["total"], error / 0.2 + 1.5 * values["kl"].mean())


def test_images_and_clipped_pseudo_inputs_pass_the_encoder_together_once():
    method, x, seen = build("vampprior", pseudo_inputs=5), images(), []
    with torch.no_grad():
        method.pseudo_inputs.images[0] = 2.0
        method.pseudo_inputs.images[1] = -1.0
    method.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    method.update(iter([x]), handle(method), 0)
    (batch,) = seen
    assert torch.equal(batch[:8], x)
    assert (batch[8] == 1).all()
    assert (batch[9] == 0).all()
    assert len(batch) == 13


def test_training_and_evaluation_agree_on_the_prior_s_place():
    method, x = build("vampprior", pseudo_inputs=16), images(16)
    for _ in range(600):  # the averages of batch norm settle
        method.sample_with_kl(x)
    train = method.sample_with_kl(x)[1]["kl"]
    kl = [method.sample_with_kl(x)[1]["kl"].mean().item() for _ in range(30)]
    method.eval()
    evaluated = [method.sample_with_kl(x)[1]["kl"].mean().item() for _ in range(30)]
    assert train.isfinite().all()
    assert sum(evaluated) / 30 == pytest.approx(sum(kl) / 30, rel=0.1)


def test_one_adam_moves_encoder_decoder_and_pseudo_inputs():
    method = build("vampprior")
    assert {name: (spec.lr, spec.betas) for name, spec in method.optimizers().items()} == {"main": (2e-4, (0.9, 0.999))}
    spy = Spy(method, handle(method))
    method.update(Stream(), spy, 0)
    assert spy.seen == [("main", {"encoder", "decoder", "pseudo_inputs"})]


def test_gradient_of_the_prior_term_reaches_pseudo_inputs_and_encoder():
    method = build("vampprior", pseudo_inputs=5)
    _, values = method.sample_with_kl(images())
    parameters = [method.pseudo_inputs.images, method.encoder[0].weight]
    for gradient in torch.autograd.grad(values["kl"].mean(), parameters):
        assert gradient.abs().max() > 0


@pytest.mark.parametrize(("channels", "mean", "std"), [(1, 0.05, 0.01), (3, 0.4, 0.05)])
def test_pseudo_inputs_start_where_clipping_leaves_them_trainable(channels, mean, std):
    method = build("vampprior", channels=channels)
    values = method.pseudo_inputs.images
    assert values.shape == (VampPriorConfig().pseudo_inputs, channels, 8, 8) == (500, channels, 8, 8)
    assert values.mean().item() == pytest.approx(mean, abs=1e-3)
    assert values.std().item() == pytest.approx(std, rel=0.02)
    assert values.min() > 0
    (gradient,) = torch.autograd.grad(method.sample_with_kl(images(8, channels))[1]["kl"].sum(), values)
    assert (gradient.flatten(1).abs().amax(1) > 0).float().mean() > 0.9


def test_samples_come_from_all_components_alike():
    method = vamp(4)
    with torch.no_grad():
        method.encoder[-1].weight[M:] = 0
        method.encoder[-1].bias[M:] = -20.0  # narrow components: a sample tells its own
        mean, _ = method.posterior(method.pseudo_inputs())
        z = method.prior(2000, torch.Generator().manual_seed(3))
    distance, k = torch.cdist(z, mean, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert distance.max() < 1e-4 < torch.pdist(mean).min() / 10
    counts = k.bincount(minlength=4)
    assert (counts - 500).abs().max() < 100
    assert not torch.equal(k[:4], torch.arange(4))


def test_samples_have_the_mean_and_variance_of_the_mixture():
    method = vamp(4)
    with torch.no_grad():
        mean, std = method.posterior(method.pseudo_inputs())
        z = method.prior(20_000, torch.Generator().manual_seed(3))
    torch.testing.assert_close(z.mean(0), mean.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(z.var(0), std.square().mean(0) + mean.var(0, correction=0), rtol=0.05, atol=0)


def test_diagnostics_of_a_prior_that_is_the_posterior():
    method = vamp(4)
    with torch.no_grad():
        method.encoder[-1].weight.zero_()  # every image has the same posterior
        figures = method.diagnostics(images(250))
    assert figures["kl"].abs() < 1e-5
    assert figures["active_dims_kl"] == 0
    assert figures["pseudo_input_perplexity"].item() == pytest.approx(4, rel=1e-4)


def test_diagnostics_tell_how_much_of_the_pseudo_inputs_is_clipped():
    method = vamp(4)
    with torch.no_grad():
        method.pseudo_inputs.images[0] = -0.1
        method.pseudo_inputs.images[1, :, :4] = 1.1
        assert method.diagnostics(images(5))["clipped_ratio"].item() == pytest.approx(3 / 8)


def test_diagnostics_of_images_that_are_one_pseudo_input_of_four():
    method = vamp(4)
    with torch.no_grad():
        method.encoder[-1].weight[:M] *= 10
        method.encoder[-1].weight[M:] = 0
        method.encoder[-1].bias[M:] = -20.0  # components do not overlap
        figures = method.diagnostics(method.pseudo_inputs()[:1].expand(250, -1, -1, -1))
    assert figures["kl"].item() == pytest.approx(math.log(4), rel=1e-3)
    assert figures["active_dims_kl"] == M
    assert figures["pseudo_input_perplexity"].item() == pytest.approx(1, rel=1e-3)
