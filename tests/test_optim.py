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


def test_minimise_jointly_computes_all_gradients_before_any_step(nets):
    opt, x, before = handle(nets), torch.randn(4, 5), copy.deepcopy(nets)
    z = nets["encoder"](x)
    pairs = [("critic", nets["critic"](z).mean()), ("encoder", -nets["critic"](z).mean())]
    opt.minimise_jointly(pairs)

    critic = torch.optim.Adam(before["critic"].parameters(), lr=0.03, fused=True)
    encoder = torch.optim.Adam(before["encoder"].parameters(), lr=0.02, betas=(0.0, 0.9), fused=True)
    loss = before["critic"](before["encoder"](x)).mean()
    gradients = torch.autograd.grad(loss, list(before.parameters()), allow_unused=True)
    for p, gradient in zip(before.parameters(), gradients, strict=True):
        p.grad = gradient
    for p in before["encoder"].parameters():
        p.grad.neg_()
    critic.step()
    encoder.step()
    assert not moved(nets, before.state_dict())


def test_minimise_jointly_refuses_a_parameter_in_two_pairs(nets):
    opt, before = handle(nets), copy.deepcopy(nets.state_dict())
    values = losses(nets, torch.randn(4, 5))
    with pytest.raises(ValueError, match="same parameter"):
        opt.minimise_jointly([("ae", values["ae"]), ("encoder", values["encoder"])])
    assert not moved(nets, before)


def test_two_names_step_the_same_loss_together(nets):
    twin, x = copy.deepcopy(nets), torch.randn(4, 5)
    opt, other = handle(nets), handle(twin)
    opt.minimise(("encoder", "critic"), losses(nets, x)["encoder"])
    z = twin["encoder"](x)
    other.minimise_jointly([("encoder", twin["critic"](z).mean()), ("critic", twin["critic"](z).mean())])
    assert not moved(nets, twin.state_dict())
    assert opt.steps == {"ae": 0, "encoder": 1, "critic": 1}


def test_steps_are_counted(nets):
    opt, x = handle(nets), torch.randn(4, 5)
    for name in ("critic", "critic", "ae"):
        opt.minimise(name, losses(nets, x)[name])
    assert opt.steps == {"ae": 1, "encoder": 0, "critic": 2}


@pytest.mark.parametrize(("clip", "expected"), [(0.5, 0.5), (1e9, None), (None, None)])
def test_clip_bounds_the_norm_of_the_gradient(nets, clip, expected):
    parameters = list(nets["encoder"].parameters())
    opt = Optimizers({"main": OptimizerSpec(parameters, lr=1.0, clip=clip, kind=torch.optim.SGD)})
    loss = 100 * losses(nets, torch.randn(4, 5))["ae"]
    norm = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, retain_graph=True)]).norm().item()
    before = copy.deepcopy(nets.state_dict())
    opt.minimise("main", loss)
    step = torch.cat([(value - before[name]).flatten() for name, value in nets.state_dict().items()]).norm().item()
    assert step == pytest.approx(expected or norm, rel=1e-4)


def test_lr_factor_and_schedule_scale_the_step(nets):
    def step_length(lr_factor, schedule):
        net = copy.deepcopy(nets["critic"])
        opt = Optimizers({"main": OptimizerSpec(list(net.parameters()), lr=0.1, kind=torch.optim.SGD)}, lr_factor)
        for factor in schedule:  # each is relative to the start, not to the one before
            opt.scale_lr("main", factor)
        opt.minimise("main", net(torch.ones(1, 3)).sum())
        return (nets["critic"].bias - net.bias).item()

    assert step_length(1.0, ()) == pytest.approx(0.1)
    assert step_length(5.0, ()) == pytest.approx(0.5)
    assert step_length(5.0, (0.1, 0.5)) == pytest.approx(0.25)


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
