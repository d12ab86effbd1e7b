"""The gated PixelCNN: what each position sees, and that drawing follows the distribution that was learned."""

import itertools
import math

import pytest
import torch

from baselines.pixelcnn import GatedLayer, PixelCNN, gate, sample_codes


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def small(codes=5, layers=4):
    return PixelCNN(codes, channels=6, hidden=8, layers=layers)


def nll(net, grid):
    return torch.nn.functional.cross_entropy(net(grid), grid)


def fitted(grids, steps, layers):
    """A small PixelCNN after a short training on grids [n, H, W]."""
    net = small(int(grids.max()) + 1, layers)
    opt = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = nll(net, grids[torch.randint(len(grids), (64,))])
        opt.zero_grad()
        loss.backward()
        opt.step()
    return net


def seen_from(net, i, j, height=7, width=6):
    """The positions that the logits at (i, j) depend on, from the gradient with respect to the embedded grid."""
    embedded = net.double().embed(torch.randint(5, (1, height, width))).detach().requires_grad_()
    logits = net.head(net.context(embedded))[0, :, i, j]
    (gradient,) = torch.autograd.grad((logits * torch.randn_like(logits)).sum(), embedded)
    return {(a, b) for a, b in itertools.product(range(height), range(width)) if gradient[0, :, a, b].any()}


@pytest.mark.parametrize("steps", [0, 3])  # training must not open what was closed
@pytest.mark.parametrize("position", [(0, 0), (0, 3), (1, 0), (3, 2), (6, 5)])
def test_a_position_depends_on_all_before_it_in_raster_order_and_on_nothing_else(position, steps):
    net = fitted(torch.randint(5, (64, 4, 4)), steps, layers=4)
    before = set(itertools.product(range(7), range(6)))
    assert seen_from(net, *position) == {p for p in before if p < position}


def test_one_layer_sees_the_position_above_to_the_right():
    net = small(layers=1)
    assert {(2, 3), (2, 4), (2, 1)} <= seen_from(net, 3, 2)


def test_rows_below_can_be_left_out():
    net, grid = small(), torch.randint(5, (3, 4, 4))
    torch.testing.assert_close(net(grid[:, :2]), net(grid)[:, :, :2])


def test_first_layer_is_7x7_and_has_no_residual():
    net = small(layers=4)
    assert [layer.first for layer in net.layers] == [True, False, False, False, False]
    assert [layer.above.kernel_size for layer in net.layers] == [(3, 7), *4 * [(2, 3)]]
    assert [layer.left.kernel_size for layer in net.layers] == [(1, 3), *4 * [(1, 2)]]
    for first in (True, False):
        layer, h = GatedLayer(2, 3, first), torch.rand(1, 2, 3, 3)
        torch.nn.init.zeros_(layer.out.weight)
        torch.nn.init.zeros_(layer.out.bias)
        assert torch.equal(layer.horizontal_step(h, torch.rand(1, 4, 3, 3)), torch.zeros_like(h) if first else h)


def test_gate_multiplies_tanh_and_sigmoid():
    a, b = torch.randn(2, 3, 4, 2, 2)
    torch.testing.assert_close(gate(torch.cat([a, b], 1)), torch.tanh(a) / (1 + torch.exp(-b)))


def test_no_normalisation_lets_a_grid_know_of_others():
    net, grids = small().train(), torch.randint(5, (4, 3, 3))
    assert not list(net.buffers())
    torch.testing.assert_close(net(grids)[:1], net(grids[:1]))


# -- drawing ------------------------------------------------------------------------------------------------------


def test_drawing_is_one_full_pass_per_position():
    net, u = small(), torch.rand(6, 3, 4)
    grid = torch.zeros(6, 3, 4, dtype=torch.long)
    for i, j in itertools.product(range(3), range(4)):
        grid[:, i, j] = sample_codes(net(grid)[:, :, i, j], u[:, i, j])
    assert torch.equal(net.sample(u), grid)
    assert len(grid.unique()) > 2
    assert torch.equal(torch.cat([net.sample(part) for part in u.split(1)]), grid)


def test_inversion_takes_each_code_as_often_as_it_is_likely():
    p = torch.tensor([0.0, 0.1, 0.0, 0.6, 0.3, 0.0])
    u = torch.arange(1000) / 1000
    codes = sample_codes(p.log().expand(1000, -1), u)
    torch.testing.assert_close(codes.bincount(minlength=6) / 1000, p, atol=2e-3, rtol=0)
    assert set(codes.tolist()) == {1, 3, 4}  # the first number is 0, and code 0 has no share of it
    assert sample_codes(p.log()[None], torch.tensor([1.0])).item() <= 5


def test_it_learns_a_distribution_and_draws_from_it():
    # Codes of a row are those of the row above plus one; the first row starts with 0 or 1, unequally often, and counts.
    start = (torch.rand(2000) < 0.8).long()
    grids = (start[:, None, None] + torch.arange(3)[:, None] + torch.arange(3)) % 4
    net, entropy = fitted(grids, 150, layers=2), -(0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    with torch.no_grad():
        assert nll(small(4), grids).item() == pytest.approx(math.log(4), abs=0.5)
        assert nll(net, grids).item() == pytest.approx(entropy / 9, abs=0.02)  # all is said by the first position
    drawn = net.sample(torch.rand(2000, 3, 3))
    marginal = drawn[:, 0, 0].bincount(minlength=4) / 2000
    torch.testing.assert_close(marginal, torch.tensor([0.2, 0.8, 0, 0]), atol=0.05, rtol=0)
    rule = (drawn[:, :1, :1] + torch.arange(3)[:, None] + torch.arange(3)) % 4
    assert (drawn == rule).all((1, 2)).float().mean() > 0.95
