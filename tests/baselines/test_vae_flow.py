"""VAE+Flow: determinants against autograd, who depends on whom, and the loss against the Gaussian's."""

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.distributions import Normal

from baselines.vae_flow import GATE_BIAS, AutoregressiveNet
from benchmark.losses import gaussian_kl
from tests.model_tools import M, Spy, Stream, build, handle, images


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def flow_of(steps, latent_dim=M):
    """A model in double precision whose flow has random weights, so that its steps are far from the identity."""
    method = build("vae-flow", flow_steps=steps, latent_dim=latent_dim).double()
    for p in method.flow.parameters():
        torch.nn.init.normal_(p, std=0.3)
    context = torch.randn(1, method.flow[0].context.in_features).double()
    return method, torch.randn(1, latent_dim).double(), context


def jacobian_of(method, z, context):
    """dz_T/dz_0 [m, m] at one point."""
    return jacobian(lambda z: method.apply_flow(z[None], context)[0][0], z[0])


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("latent_dim", [1, 2, 4])
def test_log_determinant_is_that_of_the_jacobian(monkeypatch, steps, latent_dim):
    monkeypatch.setattr(AutoregressiveNet, "forward", double_forward)
    method, z, context = flow_of(steps, latent_dim)
    _, log_det = method.apply_flow(z, context)
    assert log_det.shape == (1, latent_dim)
    expected = jacobian_of(method, z, context).slogdet().logabsdet
    assert expected.abs() > 0.01
    torch.testing.assert_close(log_det.sum(), expected)


def double_forward(self, z, context):
    """The network without its cast to single precision."""
    return self.rest(self.first(z) + self.context(context)).chunk(2, dim=1)


@pytest.mark.parametrize("t", [0, 1])
def test_a_step_is_triangular_in_its_order_and_scales_each_coordinate_by_its_gate(t):
    method, z, context = flow_of(2)
    method.flow = method.flow[t : t + 1]
    matrix = jacobian_of(method, z, context)  # row: output
    matrix = matrix.flip(0, 1) if t else matrix
    assert torch.equal(matrix.triu(1), torch.zeros_like(matrix))
    below = matrix[torch.tril_indices(M, M, -1).unbind()]
    assert (below != 0).all()  # every later coordinate uses every earlier one
    _, scale = method.flow[0](z, context)
    gate = (scale.double() + GATE_BIAS).sigmoid()[0]
    torch.testing.assert_close(matrix.diagonal(), gate.flip(0) if t else gate)


def test_the_order_is_reversed_so_that_all_coordinates_come_to_depend_on_all():
    one, z, context = flow_of(1)
    assert (jacobian_of(one, z, context)[0, 1:] == 0).all()
    two, z, context = flow_of(2)
    assert (jacobian_of(two, z, context) != 0).all()


@pytest.mark.parametrize("units", [2, 3, 4, 20])
def test_networks_keep_their_order_whatever_their_width(units):
    net = AutoregressiveNet(torch.arange(M), 3, units)
    z, context = torch.randn(M), torch.randn(1, 3)
    for output in range(2):
        matrix = jacobian(lambda z, output=output: net(z[None], context)[output][0], z)
        assert torch.equal(matrix.triu(), torch.zeros(M, M))
        assert (matrix[-1, :-1] != 0).any()


@pytest.mark.parametrize("latent_dim", [1, M])
def test_every_shift_and_scale_depends_on_the_context(latent_dim):
    net = AutoregressiveNet(torch.arange(latent_dim), 3, 20)
    z = torch.randn(1, latent_dim)
    for a, b in zip(net(z, torch.zeros(1, 3)), net(z, torch.ones(1, 3)), strict=True):
        assert (a != b).all()


def opened(method):
    """Every gate at one: all steps are the identity."""
    for net in method.flow:
        torch.nn.init.constant_(net.rest[-1].bias[net.rest[-1].out_features // 2 :], 200.0)
    return method


def test_with_open_gates_it_is_the_vae():
    method, x = opened(build("vae-flow", decoder_variance=0.1)), images()
    torch.manual_seed(1)
    losses = method.loss(x)
    torch.manual_seed(1)
    mean, std = method.posterior(x)
    z = mean + std * torch.randn_like(std)
    error = sum(((a - b) ** 2).sum() for a, b in zip(x, method.decode(z), strict=True)) / len(x)
    kl = (Normal(mean, std).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(1).mean()
    torch.testing.assert_close(losses["reconstruction"], error)
    torch.testing.assert_close(losses["kl"], kl)
    torch.testing.assert_close(losses["total"], error / 0.2 + kl)
    torch.testing.assert_close(method.encode(x), method.posterior(x)[0])


def test_estimated_kl_has_the_mean_of_the_closed_form():
    method, x = opened(build("vae-flow")).eval(), images(4)
    with torch.no_grad():
        estimate = method.sample_with_kl(x.repeat(2000, 1, 1, 1))[1]["kl"].view(2000, 4).mean(0)
        torch.testing.assert_close(estimate, gaussian_kl(*method.posterior(x)).sum(1), rtol=0.1, atol=0.1)


def test_density_of_the_posterior_is_that_of_a_change_of_variables():
    method, x = build("vae-flow").eval(), images(3)
    torch.manual_seed(1)
    z, values = method.sample_with_kl(x)
    torch.manual_seed(1)
    mean, std, context = method.encoder_outputs(x)
    z_0 = mean + std * torch.randn_like(std)
    for i in range(len(x)):
        matrix = jacobian(lambda z, i=i: method.apply_flow(z[None], context[i : i + 1])[0][0], z_0[i])
        log_q = Normal(mean[i], std[i]).log_prob(z_0[i]).sum() - matrix.slogdet().logabsdet
        log_p = Normal(0.0, 1.0).log_prob(z[i]).sum()
        torch.testing.assert_close(values["kl"][i], log_q - log_p, rtol=1e-4, atol=1e-4)


def test_codes_are_the_flow_of_the_mean_and_samples_skip_the_flow():
    method, x = build("vae-flow").eval(), images()
    mean, _, context = method.encoder_outputs(x)
    assert torch.equal(method.encode(x), method.apply_flow(mean, context)[0])
    assert not torch.allclose(method.encode(x), mean)
    z = torch.randn(6, M, generator=torch.Generator().manual_seed(3))
    assert torch.equal(method.sample(6, torch.Generator().manual_seed(3)), method.decode(z))


def test_codes_and_densities_do_not_depend_on_the_batch():
    method, x = build("vae-flow"), images()
    method.update(Stream(), handle(method), 0)
    with torch.no_grad():
        method.eval()
        torch.testing.assert_close(torch.cat([method.encode(part) for part in x.split(3)]), method.encode(x))
    assert not any("norm" in type(part).__name__.lower() for part in method.flow.modules())


def test_one_adam_moves_encoder_flow_and_decoder():
    method = build("vae-flow")
    assert {name: (spec.lr, spec.betas) for name, spec in method.optimizers().items()} == {"main": (2e-4, (0.9, 0.999))}
    spy = Spy(method, handle(method))
    method.update(Stream(), spy, 0)
    assert spy.seen == [("main", {"encoder", "decoder", "flow"})]


def test_diagnostics_count_the_coordinates_that_carry_information():
    method, x = opened(build("vae-flow")).eval(), images(200)
    last = method.encoder[-1]
    with torch.no_grad():
        last.weight[: 2 * M] = 0
        last.bias[:M] = torch.tensor([2.0, 0.0, 1.0, 0.0])  # means
        last.bias[M : 2 * M] = torch.tensor(1.0).expm1().log()  # softplus of it is 1
        figures = method.diagnostics(x)
    assert figures["active_dims_kl"] == 2
    assert figures["kl"].item() == pytest.approx(2.5, abs=0.2)
