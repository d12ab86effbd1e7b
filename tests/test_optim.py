"""The handle through which methods step their parameters."""

import copy

import pytest
import torch
from torch import nn

from benchmark.core.errors import DivergedError
from benchmark.optim import Optimizers, OptimizerSpec, adam


@pytest.fixture
def nets():
    """An encoder, a decoder and a critic."""
    torch.manual_seed(0)
    return nn.ModuleDict({"encoder": nn.Linear(5, 3), "decoder": nn.Linear(3, 5), "critic": nn.Linear(3, 1)})


def handle(nets, lr_factor=1.0):
    """Optimizers of which two own the encoder, as FlexAE has."""
    return Optimizers(
        {
            "ae": adam(nets["encoder"], nets["decoder"], lr=0.01),
            "encoder": adam(nets["encoder"], lr=0.02, betas=(0, 0.9)),
            "critic": adam(nets["critic"], lr=0.03),
        },
        lr_factor,
    )


def losses(nets, x):
    z = nets["encoder"](x)
    return {
        "ae": (nets["decoder"](z) - x).square().sum(1).mean(),
        "encoder": nets["critic"](z).mean(),
        "critic": -nets["critic"](z.detach()).square().mean(),
    }


def moved(nets, before):
    """Names of the networks with any changed bit; all tensors of one must have changed together."""
    changed = {}
    for name, value in nets.state_dict().items():
        changed.setdefault(name.split(".")[0], set()).add(not torch.equal(value, before[name]))
    assert all(len(kinds) == 1 for kinds in changed.values())
    return {name for name, (kind,) in changed.items() if kind}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ae", {"encoder", "decoder"}), ("encoder", {"encoder"}), ("critic", {"critic"}), (("encoder", "critic"), None)],
)
def test_minimise_moves_the_named_parameters_and_leaves_no_gradient_elsewhere(nets, name, expected):
    opt, before = handle(nets), copy.deepcopy(nets.state_dict())
    expected = expected or {"encoder", "critic"}
    opt.minimise(name, sum(losses(nets, torch.randn(4, 5)).values()))  # every network is in the graph
    assert moved(nets, before) == expected
    assert {key for key, net in nets.items() for p in net.parameters() if p.grad is not None} == expected


def test_overlapping_optimizers_see_the_gradient_of_their_own_loss(nets):
    opt, x = handle(nets), torch.randn(4, 5)
    for name in ("ae", "critic", "encoder", "ae"):
        parameters = [p for key, net in nets.items() if key in (name, *["encoder", "decoder"] * (name == "ae"))
                      for p in net.parameters()]  # fmt: skip
        loss = losses(nets, x)[name]
        expected = torch.autograd.grad(loss, parameters, retain_graph=True)
        opt.minimise(name, loss)
        for p, gradient in zip(parameters, expected, strict=True):
            assert torch.equal(p.grad, gradient)


def test_minimise_is_a_plain_adam_step(nets):
    twin, x = copy.deepcopy(nets), torch.randn(4, 5)
    opt = handle(nets, lr_factor=5.0)
    plain = torch.optim.Adam([*twin["encoder"].parameters(), *twin["decoder"].parameters()], lr=0.05, fused=True)
    for _ in range(3):
        opt.minimise("ae", losses(nets, x)["ae"])
        plain.zero_grad()
        losses(twin, x)["ae"].backward()
        plain.step()
    assert not moved(nets, twin.state_dict())


def test_two_names_step_on_one_loss_with_all_gradients_computed_first(nets):
    opt, x, before = handle(nets), torch.randn(4, 5), copy.deepcopy(nets)
    opt.minimise(("encoder", "critic"), losses(nets, x)["encoder"])

    critic = torch.optim.Adam(before["critic"].parameters(), lr=0.03, fused=True)
    encoder = torch.optim.Adam(before["encoder"].parameters(), lr=0.02, betas=(0.0, 0.9), fused=True)
    losses(before, x)["encoder"].backward()
    encoder.step()
    critic.step()
    assert not moved(nets, before.state_dict())
    assert opt.steps == {"ae": 0, "encoder": 1, "critic": 1}


def test_steps_are_counted(nets):
    opt, x = handle(nets), torch.randn(4, 5)
    for name in ("critic", "critic", "ae"):
        opt.minimise(name, losses(nets, x)[name])
    assert opt.steps == {"ae": 1, "encoder": 0, "critic": 2}


def test_lr_factor_and_schedule_scale_the_step(nets):
    def step_length(lr_factor, schedule):  # the first step of Adam is as long as its learning rate
        net = copy.deepcopy(nets["critic"])
        opt = Optimizers({"main": adam(net, lr=0.1)}, lr_factor)
        for factor in schedule:  # each is relative to the start, not to the one before
            opt.scale_lr("main", factor)
        opt.minimise("main", net(torch.ones(1, 3)).sum())
        return (nets["critic"].bias - net.bias).item()

    assert step_length(1.0, ()) == pytest.approx(0.1)
    assert step_length(5.0, ()) == pytest.approx(0.5)
    assert step_length(5.0, (0.1, 0.5)) == pytest.approx(0.25)


def test_adam_takes_its_defaults_from_the_spec_and_parameters_that_need_a_gradient(nets):
    nets["encoder"].bias.requires_grad_(False)
    spec = adam(nets["encoder"], nets["critic"].bias)
    assert spec == OptimizerSpec((nets["encoder"].weight, nets["critic"].bias), 2e-4, (0.9, 0.999))


def test_state_dict_continues_bit_for_bit(nets):
    x, opt = torch.randn(4, 5), handle(nets)

    def step(nets, opt):
        for name in ("ae", "critic", "encoder"):
            opt.minimise(name, losses(nets, x)[name])

    step(nets, opt)
    opt.scale_lr("ae", 0.5)
    twin, state = copy.deepcopy(nets), copy.deepcopy(opt.state_dict())
    other = handle(twin)
    other.load_state_dict(state)
    for _ in range(3):
        step(nets, opt)
        step(twin, other)
    assert not moved(nets, twin.state_dict())
    assert other.steps == opt.steps == {"ae": 4, "encoder": 4, "critic": 4}
    other.scale_lr("ae", 1.0)
    assert other.state_dict()["torch"]["ae"]["param_groups"][0]["lr"] == 0.01


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_first_loss_that_is_not_finite_is_named(nets, value):
    opt, begin = handle(nets), {"ae": 5, "critic": 3, "encoder": 3}
    for step in range(8):
        opt.begin_step(step)
        for name in ("ae", "critic", "encoder"):
            parameter = nets["decoder" if name == "ae" else name].bias
            opt.minimise(name, 0 * parameter.sum() + (value if step >= begin[name] else 1.0))
        if step < 3:
            opt.check_finite("warm-up")
    with pytest.raises(DivergedError, match=r"'critic'.*step 3.*'warm-up'") as caught:
        opt.check_finite("warm-up")
    assert (caught.value.phase, caught.value.step, caught.value.loss) == ("warm-up", 3, "critic")


def test_a_parameter_that_is_not_finite_is_reported_with_its_optimizer(nets):
    opt = handle(nets)
    opt.begin_step(4)
    opt.check_finite("train")
    with torch.no_grad():
        nets["decoder"].bias[0] = float("nan")
    with pytest.raises(DivergedError, match="a parameter of optimizer 'ae' is not finite at step 4 of phase 'train'"):
        opt.check_finite("train")
