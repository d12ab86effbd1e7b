"""WAE-MMD: the kernel distance against its definition, and the objective."""

import pytest
import torch

from baselines.wae_mmd import SCALES, imq_mmd

from ..model_tools import M, PlainAE, build, handle, images, reconstructions


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def by_definition(z, p):
    n, m = z.shape

    def k(a, b):
        c = [2 * m * s for s in SCALES]
        return sum(x / (x + float(((a - b) ** 2).sum())) for x in c)

    within = sum(k(z[i], z[j]) + k(p[i], p[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within - 2 * sum(k(z[i], p[j]) for i in range(n) for j in range(n)) / n**2


def test_distance_is_the_unbiased_double_sum():
    z, p = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64) + 1
    assert imq_mmd(z, p).item() == pytest.approx(by_definition(z, p), rel=1e-5)


def test_equal_distributions_have_a_distance_around_zero_of_either_sign():
    values = torch.stack([imq_mmd(torch.randn(128, 32), torch.randn(128, 32)) for _ in range(60)])
    assert abs(values.mean()) < 0.003
    assert values.min() < 0 < values.max()
    assert values.std() < 0.015


def test_wrong_scales_are_seen():
    p = torch.randn(128, 32)
    assert imq_mmd(0.5 * torch.randn(128, 32), p).item() == pytest.approx(0.44, abs=0.05)
    assert imq_mmd(torch.zeros(128, 32), p).item() == pytest.approx(1.92, abs=0.1)


def test_order_within_the_batch_does_not_count():
    z, p = torch.randn(20, 5), torch.randn(20, 5)
    torch.testing.assert_close(imq_mmd(z[torch.randperm(20)], p), imq_mmd(z, p))


def test_a_set_with_itself_is_slightly_negative():
    z = torch.randn(64, 8)
    assert -0.5 < imq_mmd(z, z) < 0


def test_gradients_pull_codes_to_the_prior():
    z = (torch.randn(64, 4) + 3).requires_grad_()
    imq_mmd(z, torch.randn(64, 4)).backward()
    assert (z.grad.mean(0) > 0).all()  # going down moves them back toward 0


def test_loss_is_squared_error_plus_weighted_distance():
    method, x = build("wae-mmd", reg_scale=3.0), images()
    torch.manual_seed(1)
    losses = method.loss(x)
    torch.manual_seed(1)
    z = method.encode(x)
    distance = imq_mmd(z, torch.randn(8, M))
    torch.testing.assert_close(losses["mmd"], distance)
    torch.testing.assert_close(losses["total"], losses["reconstruction"] + 3 * 200 * 64 / 784 * distance)
    (spec,) = method.optimizers().values()
    assert (spec.lr, spec.betas) == (2e-4, (0.5, 0.999))


def test_without_weight_it_is_a_plain_autoencoder():
    class Plain(PlainAE):
        betas = (0.5, 0.999)

    assert reconstructions("wae-mmd", reg_scale=0.0) == reconstructions(Plain)


def test_training_brings_codes_to_unit_scale():
    method, x = build("wae-mmd", width=0.25, reg_scale=100.0), images(64)
    opt = handle(method, lr_factor=10.0)
    losses = [method.update(iter([x]), opt, step) for step in range(80)]
    assert losses[-1]["mmd"] < losses[0]["mmd"] / 4
    assert losses[-1]["rms_code"].item() == pytest.approx(1, abs=0.35)
