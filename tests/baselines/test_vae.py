"""The VAE's formulas."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from ..model_tools import M, build, images


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


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
