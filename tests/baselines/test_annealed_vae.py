"""The VAE with a KL warm-up: the schedule at its ends, and that nothing else differs from the VAE."""

import pytest
import torch

from baselines.annealed_vae import AnnealedVAE, AnnealedVAEConfig
from benchmark.method import Budget
from tests.model_tools import Stream, build, handle, images


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def weight_at(step, steps=100, **knobs):
    """The weight of the KL term in a step of the training phase, from the logged losses."""
    method = build(AnnealedVAE, **knobs)
    (phase,) = method.phases(Budget(steps, 8))
    losses = phase.update(Stream(), handle(method), step)
    error = losses["reconstruction"] / (2 * method.config.decoder_variance)
    return ((losses["total"] - error) / losses["kl"]).item()


@pytest.mark.parametrize(("step", "weight"), [(0, 0.05), (9, 0.5), (19, 1.0), (20, 1.0), (99, 1.0)])
def test_kl_weight_rises_linearly_over_the_first_share_of_the_steps(step, weight):
    assert weight_at(step, warmup=0.2) == pytest.approx(weight, abs=1e-3)
    assert weight_at(step, warmup=0.2, beta=3.0) == pytest.approx(3 * weight, abs=3e-3)


def test_warm_up_follows_the_budget_and_may_be_absent():
    assert weight_at(0, steps=10, warmup=0.2) == pytest.approx(0.5, abs=1e-3)
    assert weight_at(0, warmup=0.0) == pytest.approx(1, abs=1e-3)
    assert weight_at(0, steps=3) == pytest.approx(1, abs=1e-3)  # a tenth of three steps is none


def test_after_the_warm_up_it_is_the_vae():
    method, vae, x = (
        build(AnnealedVAE, decoder_variance=0.1, beta=2.0),
        build("vae", decoder_variance=0.1, beta=2.0),
        images(),
    )
    vae.load_state_dict(method.state_dict())
    torch.manual_seed(1)
    losses = method.loss(x)
    torch.manual_seed(1)
    for name, value in vae.loss(x).items():
        torch.testing.assert_close(losses[name], value)


def test_a_negative_warm_up_is_refused():
    with pytest.raises(ValueError, match="warmup"):
        AnnealedVAEConfig(warmup=-0.1)
