"""What every model of the suite keeps: shapes, finite losses, who moves, and that it learns."""

import itertools

import pytest
import torch
from sklearn.datasets import load_digits

from benchmark.core.old_names import OLD_DIAGNOSTIC_NAMES, current_loss_names
from benchmark.jobs.config import replace_fields
from benchmark.method import Budget, Fit, Train
from benchmark.optim import Optimizers
from benchmark.registry import BUILT_IN, Registry
from tests.model_tools import Stream, build, handle, images

UNPAIRED = ("pioneer", "alae")  # they reconstruct codes, and pixels only in passing


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def train_phases(method):
    """Every training phase with images that stand for its inputs, in the order of training; fits are done between."""
    for phase in method.phases(Budget(10, 8)):
        if isinstance(phase, Fit):
            with torch.no_grad():
                phase.fit(iter([torch.rand(64, method.data.channels, method.data.size, method.data.size)]))
        else:
            yield phase, Inputs(method, phase)


class Inputs(Stream):
    """Endless random batches of what a phase trains on."""

    def __init__(self, method, phase, n=8):
        super().__init__(n, method.data.channels, method.data.size, method.data.size)
        self.method, self.phase = method, phase

    def __next__(self):
        x = super().__next__()
        if self.phase.inputs is None:
            return x
        self.method.eval()
        with torch.no_grad():
            x = self.phase.inputs(x)
        self.method.train()
        return x


@pytest.mark.parametrize("name", BUILT_IN)
def test_shapes_ranges_and_determinism(name):
    method, x = build(name, channels=3, size=12).eval(), images(5, 3, 12)
    with torch.no_grad():
        z, y, drawn = method.encode(x), method.reconstruct(x), method.sample(6, torch.Generator().manual_seed(1))
        assert z.shape == method.prior(5).shape == (5, method.code_dim)
        assert y.shape == x.shape
        assert drawn.shape == (6, 3, 12, 12)
        for picture in (y, drawn):
            assert picture.min() >= 0
            assert picture.max() <= 1
        assert torch.equal(z, method.encode(x))
        assert torch.equal(y, method.reconstruct(x))
        assert torch.equal(y, method.decode(z))
        assert torch.equal(drawn, method.sample(6, torch.Generator().manual_seed(1)))
        assert not torch.equal(drawn, method.sample(6, torch.Generator().manual_seed(2)))
        assert not torch.equal(method.prior(3), method.prior(3))  # the global generator, where none is given
        assert all(torch.as_tensor(v).dim() == 0 for v in method.diagnostics(x).values())


@pytest.mark.parametrize("name", BUILT_IN)
def test_evaluation_does_not_depend_on_the_batch(name):
    method = build(name)
    for phase, batches in train_phases(method):
        phase.update(batches, handle(method, phase=phase.name), 0)
    method.eval()
    x = images()
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([method.reconstruct(part) for part in x.split(3)]), method.reconstruct(x))
        z = method.prior(8)
        torch.testing.assert_close(torch.cat([method.decode(part) for part in z.split(1)]), method.decode(z))


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_phases_together_move_every_network_and_each_only_its_own(name):
    method, seen = build(name, width=0.125), set()
    for phase, batches in train_phases(method):
        opt = handle(method, phase=phase.name)
        owned = {id(p) for spec in phase.optimizers().values() for p in spec.parameters}
        before = {n: p.detach().clone() for n, p in method.named_parameters()}
        phase.update(batches, opt, 0)
        changed = {n for n, p in method.named_parameters() if not torch.equal(p, before[n])}
        assert changed <= {n for n, p in method.named_parameters() if id(p) in owned}
        seen |= {n.split(".")[0] for n in changed}
    assert seen == {n.split(".")[0] for n, _ in method.named_parameters()}


@pytest.mark.parametrize("name", BUILT_IN)
def test_logged_losses_are_scalars_and_the_first_phase_shows_reconstructions(name):
    method = build(name)
    logs = [phase.update(batches, handle(method, phase=phase.name), 0) for phase, batches in train_phases(method)]
    assert "reconstruction" in logs[0]
    assert all(value.dim() == 0 and value.isfinite() for losses in logs for value in losses.values())
    assert all(current_loss_names(losses) == losses for losses in logs)  # no name has an older meaning
    assert not method.diagnostics(images()).keys() & OLD_DIAGNOSTIC_NAMES.keys()


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 3)])
@pytest.mark.parametrize("name", BUILT_IN)
def test_losses_stay_finite_on_every_kind_of_image(name, size, channels):
    method = build(name, size, channels, width=0.05)
    for phase, batches in train_phases(method):
        batches.shape = (4, channels, size, size)
        opt = handle(method, lr_factor=5.0, phase=phase.name)
        for step in range(3):
            opt.begin_step(step)
            losses = phase.update(batches, opt, step)
        opt.check_finite("train")
        assert all(value.isfinite() for value in losses.values())
    assert all(p.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize("name", [n for n in BUILT_IN if n not in UNPAIRED])
def test_every_model_with_a_pixel_loss_can_overfit(name):
    x = torch.from_numpy(load_digits().images[:32]).float()[:, None] / 16
    method = build(name, **{"n_critic": 1} if "flexae" in name else {})
    train = next(p for p in method.phases(Budget(200, 64)) if isinstance(p, Train))
    opt, losses = Optimizers(train.optimizers(), 5.0), []
    for step in range(200):
        losses.append(train.update(itertools.repeat(x), opt, step)["reconstruction"].item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_open_setting_is_a_knob_with_three_values_one_of_them_the_default(name):
    method = Registry().get(name)
    assert len(method.tuning_grid) <= 1
    for knob, values in method.tuning_grid.items():
        assert len(set(values)) == 3
        assert getattr(method.Config(), knob) in values
        for value in values:
            replace_fields(method.Config(), {knob: value}, name)  # in range, and of the annotated type
