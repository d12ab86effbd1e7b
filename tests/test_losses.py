"""The shared terms of objectives, against other ways to compute them."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from benchmark.losses import gaussian_kl, gradient_penalty, mix, squared_error, wasserstein_critic_loss
from benchmark.networks import build_mlp


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def linear_critic(norm):
    """C(z) = w . z with ||w|| = norm, in float64."""
    w = torch.randn(6, dtype=torch.float64)
    w *= norm / w.norm()
    return lambda z: z.flatten(1) @ w


def test_squared_error_sums_over_pixels_and_averages_over_the_batch():
    x, y = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4)
    by_hand = sum(((a - b) ** 2).sum() for a, b in zip(x, y, strict=True)) / 5
    torch.testing.assert_close(squared_error(x, y), by_hand)
    assert squared_error(torch.zeros(7, 3, 8, 8), torch.ones(7, 3, 8, 8)) == 3 * 8 * 8


def test_gaussian_kl_is_torch_s_and_zero_at_the_prior():
    mean, std = torch.randn(4, 3), torch.rand(4, 3) + 0.1
    torch.testing.assert_close(gaussian_kl(mean, std), kl_divergence(Normal(mean, std), Normal(0.0, 1.0)))
    assert not gaussian_kl(torch.zeros(2, 3), torch.ones(2, 3)).any()


def test_gaussian_kl_is_the_mean_log_ratio():
    mean, std = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.3, 1.5]])
    q = Normal(mean, std)
    z = q.sample((200_000,))
    ratio = q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    error = ratio.std(0) / len(z) ** 0.5
    assert ((ratio.mean(0) - gaussian_kl(mean, std)).abs() < 4 * error).all()


@pytest.mark.parametrize(("norm", "penalty"), [(1, 0), (3, 4)])
@pytest.mark.parametrize("shape", [(9, 6), (9, 1, 2, 3)])
def test_gradient_penalty_of_a_linear_critic(norm, penalty, shape):
    real, fake = torch.randn(2, *shape, dtype=torch.float64)
    assert gradient_penalty(linear_critic(norm), real, fake).item() == pytest.approx(penalty, abs=1e-10)


def test_gradient_penalty_has_finite_gradients_where_the_critic_is_flat():
    w = torch.zeros(4, requires_grad=True)
    gradient_penalty(lambda z: z @ w, torch.randn(5, 4), torch.randn(5, 4)).backward()
    assert w.grad.isfinite().all()


def test_gradient_penalty_is_differentiated_twice():
    w = torch.tensor([3.0, 0.0], requires_grad=True)
    gradient_penalty(lambda z: z @ w, torch.randn(5, 2), torch.randn(5, 2)).backward()
    torch.testing.assert_close(w.grad, torch.tensor([4.0, 0.0]))  # d (||w|| - 1)^2 / dw


def test_mix_draws_one_weight_per_sample():
    a, b = torch.rand(50, 3, 4, 4), torch.rand(50, 3, 4, 4) + 1
    weight = ((mix(a, b) - b) / (a - b)).flatten(1)
    assert (weight > -1e-5).all()
    assert (weight < 1 + 1e-5).all()
    assert (weight.max(1).values - weight.min(1).values).max() < 1e-4
    assert weight[:, 0].std() > 0.2  # 0.29 for a uniform one


def test_a_trained_critic_measures_the_distance_of_two_clouds():
    # For tight clouds d apart, a critic of slope s has loss -s d + 10 (s - 1)^2, least at s = 1 + d / 20.
    real, fake = 0.01 * torch.randn(2, 256, 3)
    real[:, 0] += 2.0
    critic = build_mlp(3, 1, width=1 / 16, layers=2)
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3, betas=(0.0, 0.9))
    for _ in range(300):
        loss, distance = wasserstein_critic_loss(critic, real, fake)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0
    assert distance.item() == pytest.approx(2.0 * (1 + 2.0 / 20), rel=0.05)
    assert loss.item() == pytest.approx(-distance.item(), abs=0.3)
    assert not distance.requires_grad


def test_critic_loss_reaches_the_critic_alone():
    critic, net = nn.Linear(2, 1), nn.Linear(2, 2)
    real, fake = torch.randn(4, 2), net(torch.randn(4, 2)).detach()
    wasserstein_critic_loss(critic, real, fake)[0].backward()
    assert critic.weight.grad.abs().sum() > 0
    assert net.weight.grad is None
