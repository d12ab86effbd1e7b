"""VQ-VAE: its quantiser, its codebook of moving averages, its loss, and its phases."""

import copy
import itertools
import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from baselines.vq_vae import VQVAE, VQVAEConfig, flat_vectors, perplexity
from benchmark.data.batches import Batches
from benchmark.method import Budget, Fit
from benchmark.networks import BatchNorm2d
from tests.model_tools import M, Spy, Stream, build, handle, images, phase_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def model(**knobs):
    return build("vq-vae", **{"prior_layers": 2, "codes": 16} | knobs)


def book(method):
    return {name: getattr(method, name).clone() for name in ("codebook", "counts", "sums")}


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def rows_in(rows, table):
    """For each of the rows [n, d], the index of its equal in the table [m, d]; each must have one."""
    equal = (rows[:, None] == table[None]).all(2)
    assert equal.any(1).all()
    return equal.int().argmax(1)


def grids_of(n, codes=16):
    """Endless batches of int32 grids in which each code is the one before plus one."""
    while True:
        yield ((torch.randint(2, (n, 1)) + torch.arange(4)) % codes).view(n, 2, 2).int()


# -- codes --------------------------------------------------------------------------------------------------------


def test_nearest_is_brute_force():
    method, z = model(), torch.randn(3, M, 2, 5)
    grid = method.nearest(z)
    for b, i, j in itertools.product(range(3), range(2), range(5)):
        distances = torch.stack([(z[b, :, i, j] - e).square().sum() for e in method.codebook])
        assert grid[b, i, j] == distances.argmin()
        assert torch.equal(method.embed(grid)[b, :, i, j], method.codebook[grid[b, i, j]])


def test_codes_are_their_own_nearest_also_where_two_are_equal():
    method = model()
    method.codebook[7] = method.codebook[3]
    z = method.embed(torch.arange(16).view(1, 4, 4))
    assert torch.equal(method.embed(method.nearest(z)), z)


def test_the_quantiser_keeps_full_precision_under_autocast():
    method, z = model(codes=512), torch.randn(8, M, 7, 7)
    twin = copy.deepcopy(method)
    grid = method.nearest(z)
    method.update_codebook(flat_vectors(z), grid.flatten())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(twin.nearest(z), grid)
        twin.update_codebook(flat_vectors(z), grid.flatten())
    assert same(book(method), book(twin))
    assert torch.equal(method.nearest(z.bfloat16()), method.nearest(z.bfloat16().float()))


def test_a_code_is_the_flat_quantised_grid():
    method, x = build("vq-vae", size=12, channels=3).eval(), images(4, 3, 12)
    z = method.encode(x)
    assert method.code_dim == M * 9
    assert z.shape == (4, M * 9)
    grid = method.nearest(method.encoder(x))
    assert torch.equal(z.view(4, M, 3, 3), method.codebook[grid].permute(0, 3, 1, 2))
    assert torch.equal(method.decode(z), method.reconstruct(x))
    assert torch.equal(method.indices(x), grid)


def test_vectors_are_the_positions_of_a_grid():
    z = torch.randn(2, 3, 4, 5)
    assert torch.equal(flat_vectors(z).view(2, 4, 5, 3)[1, 2, 3], z[1, :, 2, 3])


@pytest.mark.parametrize(("counts", "value"), [([5, 5, 5, 5], 4), ([0, 9, 0], 1), ([1, 1, 2, 0], 2**1.5)])
def test_perplexity_is_the_exponential_of_the_entropy(counts, value):
    assert perplexity(torch.tensor(counts)).item() == pytest.approx(value)


# -- loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 8])
def test_loss_is_the_normalised_one_on_the_scale_of_the_squared_error(n):
    method, x = build("vq-vae", channels=3, commitment=0.7).eval(), images(n, 3)  # eval: n must not matter to the nets
    method.pixel_variance.fill_(0.083)
    z = method.encoder(x)
    e = method.embed(method.nearest(z))
    losses = method.objective(x, z, e)
    y = method.decode(e.flatten(1))
    published = (x - y).square().mean() / 0.083 + 0.7 * (z - e).square().mean()
    torch.testing.assert_close(losses["total"], 3 * 64 * 0.083 * published)
    torch.testing.assert_close(losses["reconstruction"], (x - y).square().sum() / n)
    torch.testing.assert_close(losses["commitment"], (z - e).square().sum() / (n * M * 4))
    twice = method.objective(x.repeat(2, 1, 1, 1), z.repeat(2, 1, 1, 1), e.repeat(2, 1, 1, 1))
    torch.testing.assert_close(twice, losses)  # no term grows with the batch


@pytest.mark.parametrize("commitment", [0.0, 0.25])
def test_gradients_pass_straight_through_the_choice_of_codes(commitment):
    method, x = model(commitment=commitment), images()
    method.pixel_variance.fill_(0.5)
    z = torch.randn(8, M, 2, 2, requires_grad=True)
    e = method.embed(method.nearest(z))
    z_q = e.clone().requires_grad_()
    reconstruction = (x - method.decode(z_q.flatten(1))).square().sum() / 8
    (wanted,) = torch.autograd.grad(reconstruction, z_q)
    (got,) = torch.autograd.grad(method.objective(x, z, e)["total"], z)
    torch.testing.assert_close(got, wanted + commitment * 64 * 0.5 * 2 * (z - e).detach() / z.numel())


def test_loss_gives_codes_no_gradient():
    method, x = model(), images()
    z, e = torch.randn(2, 8, M, 2, 2).unbind()
    e.requires_grad_()
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(method.objective(x, z, e)["total"], e)


def test_pixel_variance_is_that_of_all_training_images():
    method, x = model(), torch.rand(70, 1, 8, 8) ** 3
    first = phase_of(method)
    assert isinstance(first, Fit)
    assert method.pixel_variance == 1
    first.fit(iter(x.split(32)))
    torch.testing.assert_close(method.pixel_variance, x.var(correction=0))


# -- codebook -----------------------------------------------------------------------------------------------------


def test_codebook_follows_its_vectors_by_moving_averages():
    method, z, chosen = model(decay=0.9), torch.randn(20, M), torch.randint(12, (20,))
    method.counts.copy_(torch.rand(16) * 5)
    before = book(method)
    used = method.update_codebook(z, chosen)
    total = sum(0.9 * before["counts"][k] + 0.1 * (chosen == k).sum() for k in range(16))
    for k in range(16):
        n = 0.9 * before["counts"][k] + 0.1 * (chosen == k).sum()
        m = 0.9 * before["sums"][k] + 0.1 * z[chosen == k].sum(0)
        smoothed = (n + 1e-5) / (total + 16 * 1e-5) * total
        torch.testing.assert_close(method.codebook[k], m / smoothed)
        torch.testing.assert_close(method.counts[k], n)
        assert used[k] == (chosen == k).sum()


def test_codebook_settles_on_the_means_of_its_clusters():
    method, centres = model(codes=2), torch.tensor([[3.0] * M, [-3.0] * M])
    method.replace_codes(torch.tensor([True, True]), centres, torch.tensor(1.0))
    for _ in range(600):
        z = centres.repeat(20, 1) + 0.5 + 0.1 * torch.randn(40, M)
        method.update_codebook(z, method.nearest(z.T[None, :, None])[0, 0])
    torch.testing.assert_close(method.codebook.sort(0).values, centres.flip(0) + 0.5, atol=0.05, rtol=0)


def test_codebook_is_consistent_from_the_start():
    method = model()
    assert torch.equal(method.codebook, method.sums)
    assert (method.counts == 1).all()
    before = method.codebook.clone()
    method.update_codebook(
        torch.zeros(0, M), torch.zeros(0, dtype=torch.long)
    )  # nothing chosen: averages fade, codes stay
    torch.testing.assert_close(method.codebook, before)
    assert {"codebook", "counts", "sums", "pixel_variance"} <= dict(method.named_buffers()).keys()
    assert not {"codebook", "sums"} & dict(method.named_parameters()).keys()


def test_first_step_places_the_codes_on_encoder_outputs():
    method, x = model(decay=1 - 1e-7), images()  # the averages hardly move
    z = flat_vectors(copy.deepcopy(method).encoder(x))
    method.update(itertools.repeat(x), handle(method, phase="train"), 0)
    distance, nearest = (method.codebook[:, None] - z[None]).abs().amax(2).min(1)
    assert distance.max() < 1e-5
    assert len(set(nearest.tolist())) == 16  # distinct ones
    torch.testing.assert_close(method.counts, torch.ones(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(method.sums, method.codebook, atol=1e-4, rtol=0)


def test_later_steps_do_not_place_them_again():
    method = model()
    opt = handle(method, phase="train")
    method.codebook += 100
    method.sums += 100
    method.update(Stream(), opt, 1)
    assert method.codebook.min() > 50
    assert opt.steps == {"ae": 1}


def test_fewer_vectors_than_codes_are_used_evenly():
    method, z = model(), torch.randn(5, M)
    method.replace_codes(torch.ones(16, dtype=torch.bool), z, torch.tensor(1.0))
    assert sorted(rows_in(method.codebook, z).bincount().tolist()) == [3, 3, 3, 3, 4]


def test_place_moves_the_chosen_codes_only_and_consistently():
    method, z, which = model(), torch.randn(40, M), torch.arange(16) % 3 == 0
    before = book(method)
    method.replace_codes(which, z, torch.tensor(2.5))
    after = book(method)
    for name in before:
        assert torch.equal(before[name][~which], after[name][~which])
    rows_in(after["codebook"][which], z)
    assert (after["counts"][which] == 2.5).all()
    torch.testing.assert_close(after["sums"], after["codebook"] * after["counts"][:, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("step", "moves"), [(3, False), (4, True), (5, False), (8, True)])
def test_hardly_used_codes_are_moved_now_and_then(step, moves):
    method = model(decay=1 - 1e-7)
    method.codebook[:4] = method.sums[:4] = 1e3  # never the nearest
    method.counts[:] = 10.0
    method.counts[:2] = 0.05  # below 3 % of the mean
    method.counts[2:4] = 0.6  # above
    mean = method.counts.mean()
    method.update(Stream(), handle(method, phase="train"), step, reseed_every=4)
    assert (method.codebook[:2].abs().max() < 100) == moves
    if moves:
        torch.testing.assert_close(method.counts[:2], mean.expand(2), rtol=1e-4, atol=0)
    assert (method.counts[4:] > 9).all()
    assert (method.codebook[2:4].abs() > 1e3).all()  # left alone: M / N of an untouched code


@pytest.mark.parametrize(("reseeds", "steps", "wanted"), [(5, 100, [20, 40, 60, 80]), (5, 3, [1, 2]), (0, 100, [])])
def test_moves_of_unused_codes_are_spread_over_the_budget(reseeds, steps, wanted, monkeypatch):
    method, placed = model(reseeds=reseeds), []
    monkeypatch.setattr(VQVAE, "replace_codes", lambda self, mask, z, count: placed.append(len(mask)))
    monkeypatch.setattr(VQVAE, "update_codebook", lambda self, z, chosen: torch.ones(16))
    monkeypatch.setattr(VQVAE, "objective", lambda self, x, z, e: {"total": z.sum()})
    phase, opt, seen = method.phases(Budget(steps, 8))[1], Idle(), []
    for step in range(steps):
        count = len(placed)
        phase.update(Stream(2, 1, 8, 8), opt, step)
        seen += [step] if len(placed) > count else []
    assert seen == [0, *wanted]  # step 0 is the start of the codebook


class Idle:
    """Optimizers that stay where they are."""

    def minimise(self, name, loss):
        pass


def test_evaluation_leaves_the_codebook_alone():
    method = model().eval()
    before = book(method)
    with torch.no_grad():
        method.reconstruct(images())
        method.diagnostics(images())
        method.sample(3)
    assert same(before, book(method))


# -- phases -------------------------------------------------------------------------------------------------------


def test_phases_and_their_budgets():
    phases = model(prior_share=0.5).phases(Budget(30, 8))
    assert [p.name for p in phases] == ["variance", "train", "prior"]
    assert [p.steps for p in phases[1:]] == [30, 15]
    assert model().phases(Budget(30, 8))[2].steps == 30


def test_owners_learning_rates_and_betas():
    method = model()
    ae, prior = phase_of(method, "train").optimizers()["ae"], phase_of(method, "prior").optimizers()["prior"]
    assert set(ae.parameters) == {*method.encoder.parameters(), *method.decoder.parameters()}
    assert set(prior.parameters) == set(method.pixelcnn.parameters())
    assert (ae.lr, ae.betas, prior.lr, prior.betas) == (2e-4, (0.9, 0.999), 3e-4, (0.9, 0.999))
    config = VQVAEConfig()
    assert (config.codes, config.commitment, config.decay) == (512, 0.25, 0.99)
    assert VQVAE.tuning_grid == {"commitment": (0.1, 0.25, 1.0)}


def test_each_phase_steps_its_own_networks():
    method, batches = model(), Stream()
    spy = Spy(method, handle(method, phase="train"))
    logs = method.update(batches, spy, 0)
    assert spy.seen == [("ae", {"encoder", "decoder"})]
    assert batches.drawn == 1
    assert logs.keys() >= {"reconstruction", "commitment", "perplexity", "used_codes", "rms_code"}
    spy, before = Spy(method, handle(method, phase="prior")), {k: v.clone() for k, v in method.named_buffers()}
    logs = method.prior_update(grids_of(8), spy, 0)
    assert spy.seen == [("prior", {"pixelcnn"})]
    assert logs.keys() == {"nll"}
    assert all(torch.equal(before[k], v) for k, v in method.named_buffers())  # what its inputs were computed from


def test_codebook_moves_after_the_step_toward_what_was_quantised():
    method, x = model(), images()
    opt, seen = handle(method, phase="train"), {}
    update_codebook = method.update_codebook
    method.update_codebook = lambda z, chosen: (
        seen.update(z=z, chosen=chosen, e=method.codebook.clone()) or update_codebook(z, chosen)
    )
    twin = copy.deepcopy(method)
    method.update(itertools.repeat(x), opt, 1)
    z = twin.encoder(x)
    torch.testing.assert_close(seen["z"], flat_vectors(z))
    assert torch.equal(seen["chosen"], twin.nearest(z).flatten())
    assert torch.equal(seen["e"], twin.codebook)


def test_prior_trains_on_the_index_grids_of_the_images():
    method, x = model().eval(), images(6)
    grid = phase_of(method, "prior").inputs(x)
    assert grid.shape == (6, 2, 2)
    assert torch.equal(grid.long(), method.indices(x))
    assert grid.dtype == torch.int32  # uint8 would be taken for images, and scaled
    rows = Rows(grid)
    batch = next(Batches(rows, 5, 0, "prior", CPU))
    assert batch.dtype == torch.int32
    torch.testing.assert_close(method.nll(grid), cross_entropy(method.pixelcnn(grid.long()), grid.long()))


class Rows:
    """Grids as the harness keeps them."""

    def __init__(self, grid):
        self.grid = grid

    def __len__(self):
        return len(self.grid)

    def take(self, indices):
        return self.grid[torch.from_numpy(indices)]


def test_nll_starts_near_the_uniform_one_and_falls_far_below():
    method, batches = build("vq-vae", width=0.125, prior_layers=2), grids_of(32)
    opt = handle(method, lr_factor=10.0, phase="prior")
    losses = [method.prior_update(batches, opt, step)["nll"].item() for step in range(60)]
    assert losses[0] == pytest.approx(math.log(512), abs=0.7)
    assert losses[-1] < 1.0  # what is left to know is log(2) / 4


def test_prior_draws_grids_in_raster_order_and_embeds_them():
    method = model().eval()
    z = method.prior(5, torch.Generator().manual_seed(1))
    uniform = torch.rand(5, 2, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(z, method.embed(method.pixelcnn.sample(uniform)).flatten(1))
    first = method.prior(3, torch.Generator().manual_seed(1))
    assert torch.equal(first, z[:3])  # a sample does not depend on how many are drawn with it
    rows_in(flat_vectors(z.view(5, M, 2, 2)), method.codebook)
    with torch.no_grad():
        assert torch.equal(method.sample(5, torch.Generator().manual_seed(1)), method.decode(z))


def test_diagnostics_count_codes_and_measures_the_prior():
    method, x = model().eval(), images(20)
    method.replace_codes(torch.ones(16, dtype=torch.bool), flat_vectors(method.encoder(x)), torch.tensor(1.0))
    figures, grid = method.diagnostics(x), method.indices(x)
    ratio = grid.flatten().bincount(minlength=16) / grid.numel()
    assert figures["used_codes"] == len(grid.unique()) > 1
    torch.testing.assert_close(figures["perplexity"], torch.prod(ratio**-ratio))
    torch.testing.assert_close(figures["nll"], cross_entropy(method.pixelcnn(grid), grid))


# -- networks and knobs -------------------------------------------------------------------------------------------


def test_networks_have_the_published_sizes_and_scale_with_width():
    method = build("vq-vae", 28, 1, width=1.0, latent_dim=64)
    shapes = [tuple(p.shape) for p in method.encoder.parameters() if p.dim() == 4]
    block = [(32, 128, 3, 3), (128, 32, 1, 1)]
    assert shapes == [(64, 1, 4, 4), (128, 64, 4, 4), (128, 128, 3, 3), *block, *block, (64, 128, 1, 1)]
    shapes = [tuple(p.shape) for p in method.decoder.parameters() if p.dim() == 4]
    assert shapes == [(128, 64, 3, 3), *block, *block, (128, 128, 4, 4), (128, 64, 4, 4), (1, 64, 3, 3)]
    assert method.encoder(images(2, 1, 28)).shape == (2, 64, 7, 7)
    assert method.codebook.shape == (512, 64)
    assert method.pixelcnn.embedding.weight.shape == (512, 128)
    assert len(method.pixelcnn.layers) == 13
    assert [p.shape[0] for p in method.pixelcnn.head.parameters()] == [512, 512, 512, 512]
    assert sum(isinstance(layer, BatchNorm2d) for layer in method.modules()) == 3
    half = build("vq-vae", 28, 1, width=0.5, latent_dim=64)
    assert half.pixelcnn.embedding.weight.shape == (512, 64)
    assert half.encoder(images(2, 1, 28)).shape == (2, 64, 7, 7)


@pytest.mark.parametrize(
    "knobs",
    [{"codes": 0}, {"commitment": -1.0}, {"decay": 1.0}, {"decay": -0.1}, {"reseeds": -1}, {"prior_layers": 0},
     {"prior_share": 0.0}, {"lr": -1.0}],
)  # fmt: skip
def test_knobs_out_of_range_are_errors(knobs):
    with pytest.raises(ValueError, match=next(iter(knobs))):
        VQVAEConfig(**knobs)


def test_training_uses_many_codes():
    method = build("vq-vae", size=12, width=0.125, codes=32, prior_layers=1)
    shapes = torch.eye(12)[torch.randperm(12)][None, None] + torch.rand(64, 1, 12, 12) * 0.3
    opt, phase = handle(method, lr_factor=5.0, phase="train"), method.phases(Budget(80, 64))[1]
    logs = [phase.update(itertools.repeat(shapes.clamp(max=1)), opt, step) for step in range(80)]
    assert logs[-1]["reconstruction"] < logs[0]["reconstruction"] / 2
    assert logs[-1]["perplexity"] > 8
