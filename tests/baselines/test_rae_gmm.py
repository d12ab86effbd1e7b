"""RAE+GMM: the penalty on the codes; all else is AE+GMM's."""

import pytest
import torch

from baselines.ae_gmm import AEGMM
from benchmark.method import Budget
from tests.model_tools import Spy, Stream, build, handle, images

from .test_ae_gmm import PlainAE, trained


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


MNIST, CIFAR, CELEBA = 6.4e-3, 2.4e-2, 1.92e-2


@pytest.mark.parametrize(
    ("channels", "size", "beta"),
    [(1, 28, MNIST), (1, 32, MNIST), (1, 8, MNIST * 64 / 784), (3, 32, CIFAR), (3, 64, CELEBA)],
)
def test_loss_adds_the_published_penalty_on_codes(channels, size, beta):
    method, x = build("rae-gmm", size, channels, width=0.05, beta_scale=2.0), images(8, channels, size)
    method.loss(x)
    losses, z = method.loss(x), method.encode(x)
    penalty = 2.0 * beta * sum((row @ row) for row in z) / len(z)  # summed over dimensions, mean over the batch
    torch.testing.assert_close(losses["code_regulariser"], penalty)
    plain = build("ae-gmm", size, channels, width=0.05)
    plain.load_state_dict(method.state_dict())
    torch.testing.assert_close(losses["total"], plain.loss(x)["total"] + penalty)
    torch.testing.assert_close(losses["decoder_regulariser"], plain.loss(x)["decoder_regulariser"])


@pytest.mark.parametrize(
    ("knobs", "other", "other_knobs"),
    [
        ({"beta_scale": 0.0, "lambda_scale": 0.0}, PlainAE, {}),
        ({"beta_scale": 0.0, "lambda_scale": 7.0}, "ae-gmm", {"lambda_scale": 7.0}),
    ],
)
def test_without_its_penalties_it_is_the_simpler_model_bit_for_bit(knobs, other, other_knobs):
    (losses, weights), (other_losses, other_weights) = trained("rae-gmm", **knobs), trained(other, **other_knobs)
    assert losses == other_losses
    assert all(torch.equal(p, other_weights[name]) for name, p in weights.items())
    assert trained("rae-gmm", **knobs | {"beta_scale": 100.0})[0] != other_losses


def test_a_stronger_penalty_makes_smaller_codes():
    sizes = []
    for scale in (0.0, 1e4):
        torch.manual_seed(0)
        method, batches = build("rae-gmm", beta_scale=scale), Stream()
        opt = handle(method, lr_factor=5.0)
        for step in range(50):
            rms = method.update(batches, opt, step)["rms_code"].item()
        sizes.append(rms)
    assert sizes[1] < 0.7 * sizes[0]


def test_one_adam_moves_both_networks_and_the_mixture_is_that_of_ae_gmm():
    method, batches = build("rae-gmm", lr=5e-4), Stream()
    spy = Spy(method, handle(method))
    method.update(batches, spy, 0)
    assert spy.seen == [("main", {"encoder", "decoder"})]
    assert method.optimizers()["main"].lr == 5e-4
    assert batches.drawn == 1
    assert isinstance(method, AEGMM)
    assert [phase.name for phase in method.phases(Budget(1, 8))] == ["train", "gmm"]


@pytest.mark.parametrize("bad", [{"beta_scale": -1.0}, {"lambda_scale": -1.0}, {"components": 0}])
def test_bad_knobs_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        build("rae-gmm", **bad)
