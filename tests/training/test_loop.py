"""Training, resuming and exporting, on toy models that use every part of the contract."""

import copy
import itertools
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from baselines.vae import VAE
from benchmark.core.errors import DivergedError, FlexbenchError, Interrupted
from benchmark.core.files import read_json, read_jsonl
from benchmark.data.batches import Batches, CachedRows
from benchmark.jobs.config import JobConfig, TrainConfig
from benchmark.method import Fit, Method, Train
from benchmark.networks import BatchNorm1d, noise
from benchmark.optim import Optimizers, adam
from benchmark.training import loop
from benchmark.training.callbacks import Callbacks, Schedule
from benchmark.training.checkpoint import checkpoints, export_weights, import_weights, save_checkpoint
from benchmark.training.loop import train

CPU, STEPS, BATCH, PIXELS, DIM = torch.device("cpu"), 10, 4, 64, 3


class Toy(Method):
    """A tiny VAE that draws from every global generator, with batch norm."""

    name = "toy"

    def build_autoencoder(self):
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, DIM), BatchNorm1d(DIM))
        return encoder, nn.Sequential(nn.Linear(DIM, PIXELS), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))

    def loss(self, x):
        z = self.encode(x) + 0.1 * torch.randn(len(x), DIM) + 0.1 * np.random.randn() + 0.1 * random.random()
        error = (self.decode(z) - x).square().sum((1, 2, 3)).mean()
        return {"total": error + z.square().sum(1).mean(), "reconstruction": error}


class Staged(Toy):
    """An auto-encoder, a fit that writes buffers, and a second stage on frozen codes."""

    name = "staged"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.flow = nn.Linear(DIM, DIM)
        self.register_buffer("code_mean", torch.zeros(DIM))
        self.register_buffer("code_std", torch.ones(DIM))

    def optimizers(self):
        return {"main": adam(self.encoder, self.decoder)}

    def phases(self, budget):
        return [
            Train("autoencoder", budget.steps, self.optimizers, self.update),
            Fit("moments", self.fit),
            Train("flow", budget.steps, lambda: {"flow": adam(self.flow, lr=1e-2)}, self.flow_update, self.encode),
        ]

    def fit(self, images):
        z = torch.cat([self.encode(x) for x in images]) + 0.01 * torch.randn(DIM)
        self.code_mean.copy_(z.mean(0))
        self.code_std.copy_(z.std(0))

    def flow_update(self, batches, opt, step):
        z = next(batches)
        loss = (self.flow(torch.randn_like(z)) * self.code_std + self.code_mean - z).square().mean()
        opt.minimise("flow", loss)
        return {"flow": loss}

    def prior(self, n, generator=None):
        return self.flow(noise(n, DIM, self.device, generator)) * self.code_std + self.code_mean


class Averaged(Toy):
    name = "averaged"
    ema_decay = 0.9


class Adversarial(Toy):
    """Three critic steps on fresh batches per step of the auto-encoder."""

    name = "adversarial"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.critic = nn.Linear(DIM, 1)

    def optimizers(self):
        return {"ae": adam(self.encoder, self.decoder), "critic": adam(self.critic, betas=(0.0, 0.9))}

    def update(self, batches, opt, step):
        losses = self.loss(next(batches))
        opt.minimise("ae", losses["total"] + self.critic(self.encode(next(batches))).mean())
        for _ in range(3):
            critic = -self.critic(self.encode(next(batches)).detach()).mean()
            opt.minimise("critic", critic)
        return losses | {"critic": critic}


class Diverging(Toy):
    """Its loss is NaN from step 7 on."""

    name = "diverging"

    def update(self, batches, opt, step):
        loss = self.loss(next(batches))["total"]
        opt.minimise("main", loss * float("nan") if step >= 7 else loss)
        return {"total": loss}


class Recording(Toy):
    """Keeps every batch and the weights before every step."""

    name = "recording"
    extra_draws = 0

    def update(self, batches, opt, step):
        self.weights = [*getattr(self, "weights", []), copy.deepcopy(self.state_dict())]
        torch.rand(self.extra_draws)
        np.random.rand(self.extra_draws)
        x = next(batches)
        self.batches = [*getattr(self, "batches", []), x]
        losses = self.loss(x)
        opt.minimise("main", losses["total"])
        return losses


class Crash(Exception):
    """Stands for a process that is killed: nothing is saved."""


ROWS = CachedRows(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)))
RESUMABLE = [Toy, Staged, Averaged, Adversarial]


def job(method, seed=0, steps=STEPS, precision="fp32", **knobs):
    return JobConfig(
        model=method.name, dataset="random", data={"name": "random", "channels": 1, "size": 8}, latent_dim=DIM,
        seed=seed, train=TrainConfig(steps, BATCH, 0.05, 5.0, precision),
        method={"latent_dim": DIM, "width": 0.05, **knobs},
    )  # fmt: skip


def go(method, folder, *, stop_at=None, crash_at=None, config=None, report=None, snapshot=None, **schedule):
    """Train in `folder`; stop_at and crash_at count the steps of this call over all phases. Returns the method."""
    folder.mkdir(exist_ok=True)
    count = itertools.count(1)

    def stop():
        n = next(count)
        if n == crash_at:
            raise Crash
        return n == stop_at

    given = {name: call for name, call in (("report", report), ("snapshot", snapshot)) if call}
    callbacks = Callbacks(Schedule(**schedule), log_every=3, stop=stop, **given)
    return train(config or job(method), method, ROWS, folder, CPU, callbacks)


def result(folder):
    """All that a run leaves, except times."""

    def timeless(value):
        if isinstance(value, list):
            return [timeless(v) for v in value]
        return {k: timeless(v) for k, v in value.items() if k != "seconds"} if isinstance(value, dict) else value

    weights = {name: value.numpy().tobytes() for name, value in load_file(folder / "model.safetensors").items()}
    return weights, timeless(read_jsonl(folder / "train.jsonl")), timeless(read_json(folder / "training.json"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The results of uninterrupted runs, by class."""
    folder = tmp_path_factory.mktemp("whole")
    for method in RESUMABLE:
        go(method, folder / method.name)
    return {method: result(folder / method.name) for method in RESUMABLE}


def damage(path):
    path.write_bytes(path.read_bytes()[:-100])


# -- snapshots ----------------------------------------------------------------------------------------------------


class Fitted(Averaged):
    """Averaged weights, and a fit after training that draws from a global generator."""

    name = "fitted"

    def __init__(self, data, config):
        super().__init__(data, config)
        self.register_buffer("fitted", torch.zeros(DIM))

    def phases(self, budget):
        return [*super().phases(budget), Fit("fit", self.fit)]

    def fit(self, images):
        self.fitted.copy_(torch.cat([self.encode(x) for x in images]).mean(0) + torch.randn(DIM))


def snapshots(method, folder, every, **how):
    """Train with snapshots; returns (step, weights, accounts) of each."""
    taken = []

    def snapshot(twin, step, accounts):
        assert not twin.training
        torch.rand(3), np.random.rand(3)
        taken.append((step, {k: v.clone() for k, v in twin.state_dict().items()}, accounts))

    go(method, folder, score_every=every, snapshot=snapshot, **how)
    return taken


@pytest.mark.parametrize("method", RESUMABLE)
def test_snapshots_leave_the_run_alone(method, whole, tmp_path):
    taken = snapshots(method, tmp_path, 3)
    assert [step for step, *_ in taken] == [3, 6, 9]  # in the last phase of training alone; the end is no snapshot
    assert result(tmp_path) == whole[method]


@pytest.mark.parametrize("method", [Toy, Averaged, Fitted])
def test_a_snapshot_is_what_a_shorter_run_ends_with(method, tmp_path):
    taken = snapshots(method, tmp_path / "long", 4)
    assert [step for step, *_ in taken] == [4, 8]
    for step, weights, accounts in taken:
        short = go(method, tmp_path / f"{step}", config=job(method, steps=step)).state_dict()
        assert weights.keys() == short.keys()
        assert all(torch.equal(weights[name], short[name]) for name in short)
        spent = [{k: v for k, v in a.items() if k != "seconds"} for a in accounts]
        assert spent == result(tmp_path / f"{step}")[2]["phases"]


def test_a_snapshot_that_fails_costs_a_warning(whole, tmp_path, caplog):
    def snapshot(twin, step, accounts):
        raise FlexbenchError("the images are not finite")

    go(Toy, tmp_path, score_every=4, snapshot=snapshot)
    assert result(tmp_path) == whole[Toy]
    assert caplog.text.count("the run goes on: FlexbenchError: the images are not finite") == 2


def test_a_resumed_run_takes_the_snapshots_that_are_left(tmp_path):
    with pytest.raises(Crash):
        snapshots(Toy, tmp_path, 3, crash_at=7, checkpoint_steps=4)
    assert [step for step, *_ in snapshots(Toy, tmp_path, 3)] == [6, 9]


# -- resuming -----------------------------------------------------------------------------------------------------

CUTS = [(method, cut) for method in RESUMABLE for cut in (1, 3, 5, 9, 10)]
CUTS += [(Staged, cut) for cut in (11, 15, 19, 20)]  # the second stage: first step, middle, last two


@pytest.mark.parametrize(("method", "cut"), CUTS)
def test_stopped_and_resumed_equals_uninterrupted(method, cut, whole, tmp_path):
    with pytest.raises(Interrupted):
        go(method, tmp_path, stop_at=cut)
    go(method, tmp_path)
    assert result(tmp_path) == whole[method]


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize(("method", "cut"), CUTS)
def test_killed_and_resumed_equals_uninterrupted(method, cut, every, whole, tmp_path):
    with pytest.raises(Crash):
        go(method, tmp_path, crash_at=cut, checkpoint_steps=every)
    go(method, tmp_path, checkpoint_steps=every)
    assert result(tmp_path) == whole[method]


def test_stopped_at_every_step_equals_uninterrupted(whole, tmp_path):
    for _ in range(2 * STEPS):
        with pytest.raises(Interrupted):
            go(Staged, tmp_path, stop_at=1)
    go(Staged, tmp_path)
    assert result(tmp_path) == whole[Staged]


def test_killed_in_a_fit_equals_uninterrupted(whole, tmp_path, monkeypatch):
    def crash(self, images):
        self.code_mean.fill_(7)
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Staged, "fit", crash)
        go(Staged, tmp_path)
    go(Staged, tmp_path)
    assert result(tmp_path) == whole[Staged]


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints_are_passed_over(damaged, whole, tmp_path, caplog):
    with pytest.raises(Crash):
        go(Staged, tmp_path, crash_at=18, checkpoint_steps=2)
    for path in checkpoints(tmp_path / "checkpoint")[:damaged]:
        damage(path)
    go(Staged, tmp_path)
    assert result(tmp_path) == whole[Staged]
    assert caplog.text.count("is damaged") == damaged


def test_a_run_that_starts_anew_after_damage_keeps_its_own_checkpoints(tmp_path, caplog):
    with pytest.raises(Crash):
        go(Toy, tmp_path, crash_at=9, checkpoint_steps=2)
    for path in checkpoints(tmp_path / "checkpoint"):
        damage(path)
    with pytest.raises(Interrupted):
        go(Toy, tmp_path, stop_at=3)
    caplog.set_level("INFO")
    go(Toy, tmp_path)
    assert "resumed at step 3" in caplog.text


def test_only_the_two_newest_checkpoints_are_kept(tmp_path):
    with pytest.raises(Crash):
        go(Staged, tmp_path, crash_at=15, checkpoint_steps=1)
    assert [path.name[:12] for path in checkpoints(tmp_path / "checkpoint")] == ["02-000000004", "02-000000003"]


def test_rows_written_after_the_checkpoint_are_not_duplicated(tmp_path):
    with pytest.raises(Crash):
        go(Toy, tmp_path, crash_at=9, checkpoint_steps=4)
    assert [row["step"] for row in read_jsonl(tmp_path / "train.jsonl")] == [3, 6, 9]
    with pytest.raises(Interrupted):
        go(Toy, tmp_path, stop_at=1)  # from the checkpoint of step 8
    assert [row["step"] for row in read_jsonl(tmp_path / "train.jsonl")] == [3, 6, 9]
    go(Toy, tmp_path)
    assert [row["step"] for row in read_jsonl(tmp_path / "train.jsonl")] == [3, 6, 9, 10]


def test_a_checkpoint_of_other_phases_is_refused(tmp_path):
    with pytest.raises(Interrupted):
        go(Toy, tmp_path, stop_at=2)
    with pytest.raises(FlexbenchError, match=r"stands in phase 'train'.* autoencoder, moments, flow\. .*--force"):
        go(Staged, tmp_path)


# -- what a run leaves --------------------------------------------------------------------------------------------


def test_the_log_holds_mean_losses_and_the_account_what_was_spent(tmp_path):
    method = go(Recording, tmp_path)
    rows, account = read_jsonl(tmp_path / "train.jsonl"), read_json(tmp_path / "training.json")
    assert [(row["phase"], row["step"], row["of"], row["images"]) for row in rows] == [
        ("train", step, STEPS, step * BATCH) for step in (3, 6, 9, 10)
    ]
    torch.manual_seed(0)
    method.train().load_state_dict(method.weights[-1])
    loop.seed_everything(loop.derive(0, "noise", "train", STEPS - 1))
    assert rows[-1]["loss/total"] == method.loss(method.batches[-1])["total"].item()
    (phase,) = account["phases"]
    assert (phase["name"], phase["steps"], phase["images"]) == ("train", STEPS, STEPS * BATCH)
    assert phase["optimizer_steps"] == {"main": STEPS}
    assert account["parameters"] == 2 * PIXELS * DIM + PIXELS + DIM + 2 * DIM


def test_the_account_counts_every_batch_and_optimizer_step(whole):
    (phase,) = whole[Adversarial][2]["phases"]
    assert phase["images"] == 5 * STEPS * BATCH
    assert phase["optimizer_steps"] == {"ae": STEPS, "critic": 3 * STEPS}


@pytest.mark.parametrize("method", RESUMABLE)
def test_the_exported_file_is_the_whole_model(method, tmp_path):
    trained = go(method, tmp_path)
    torch.manual_seed(99)
    fresh = import_weights(job(method).build(method), tmp_path / "model.safetensors")
    a, b = (m.sample(5, torch.Generator().manual_seed(1)) for m in (trained, fresh))
    assert torch.equal(a, b)
    assert torch.equal(trained.encode(ROWS.tensor / 255), fresh.encode(ROWS.tensor / 255))


def test_equal_weights_make_equal_files(tmp_path):
    method = job(Toy).build(Toy)
    for i in range(8):
        export_weights(method, tmp_path / str(i))
    assert len({(tmp_path / str(i)).read_bytes() for i in range(8)}) == 1


def test_a_fit_writes_its_result_into_the_exported_buffers(tmp_path):
    method = go(Staged, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    with torch.no_grad():
        z = method.encode(ROWS.tensor / 255)
    torch.testing.assert_close(weights["code_std"], z.std(0))
    assert weights["code_std"].std() > 0


def test_weights_of_another_model_are_refused(tmp_path):
    go(Toy, tmp_path)
    with pytest.raises(FlexbenchError, match="does not hold the weights of this model"):
        import_weights(job(Staged).build(Staged), tmp_path / "model.safetensors")


def test_the_average_of_the_weights_is_what_is_exported(tmp_path):
    method = go(Recording, tmp_path / "plain")
    states = [*method.weights[1:], method.state_dict()]  # after each step
    expected = {name: value.clone() for name, value in method.weights[0].items()}
    for step, state in enumerate(states, start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        for name, _ in method.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * state[name]
    expected |= dict(method.named_buffers())

    averaged = go(Averaged, tmp_path / "averaged")
    exported = load_file(tmp_path / "averaged" / "model.safetensors")
    assert exported.keys() == expected.keys()
    for name, value in exported.items():
        torch.testing.assert_close(value, expected[name])
        assert torch.equal(value, averaged.state_dict()[name])
    assert not torch.equal(exported["encoder.1.weight"], states[-1]["encoder.1.weight"])


def test_export_is_in_eval_mode(tmp_path):
    assert not go(Toy, tmp_path).training


# -- random draws -------------------------------------------------------------------------------------------------


def batch(k, seed=0, phase="train", size=BATCH):
    return next(Batches(ROWS, size, seed, phase, CPU, drawn=k))


def test_a_batch_is_a_function_of_seed_phase_and_number():
    stream = Batches(ROWS, BATCH, 0, "train", CPU)
    drawn = list(itertools.islice(stream, 5))
    assert stream.drawn == 5
    assert all(torch.equal(x, batch(k)) for k, x in enumerate(drawn))
    others = [batch(0, seed=1), batch(0, phase="flow"), *drawn[1:]]
    assert not any(torch.equal(drawn[0], x) for x in others)


def test_batches_are_images_in_the_unit_interval():
    x = batch(0)
    assert (x.shape, x.dtype) == ((BATCH, 1, 8, 8), torch.float32)
    assert ((x * 255).round() / 255 == x).all()
    assert x.max() <= 1


def test_batches_are_drawn_uniformly_with_replacement():
    rows = CachedRows(torch.arange(20))
    stream = Batches(rows, 50, 0, "train", CPU)
    counts = torch.bincount(torch.cat([next(stream) for _ in range(400)]), minlength=20)
    chi_squared = ((counts - 1000) ** 2 / 1000).sum()  # 19 degrees of freedom
    assert 4 < chi_squared < 50
    assert len(batch(0, size=50)) == 50 > len(ROWS)


def test_a_draw_inside_a_step_changes_neither_data_nor_first_weights(tmp_path, monkeypatch):
    plain = go(Recording, tmp_path / "plain")
    monkeypatch.setattr(Recording, "extra_draws", 3)
    other = go(Recording, tmp_path / "other")
    assert all(torch.equal(a, b) for a, b in zip(plain.batches, other.batches, strict=True))
    assert all(torch.equal(plain.weights[0][name], value) for name, value in other.weights[0].items())
    assert not torch.equal(plain.weights[1]["encoder.1.weight"], other.weights[1]["encoder.1.weight"])


def test_the_seed_changes_weights_data_and_noise(tmp_path):
    a, b = (go(Recording, tmp_path / str(s), config=job(Recording, seed=s)) for s in (0, 1))
    assert not torch.equal(a.batches[0], b.batches[0])
    assert not torch.equal(a.weights[0]["encoder.1.weight"], b.weights[0]["encoder.1.weight"])


def test_what_watches_a_run_does_not_change_it(whole, tmp_path):
    torch.manual_seed(5)
    rows = []
    go(Staged, tmp_path, checkpoint_seconds=0.0, report=rows.append)
    assert result(tmp_path) == whole[Staged]
    assert rows == read_jsonl(tmp_path / "train.jsonl")


# -- failures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("watch", [{}, {"checkpoint_steps": 1}, {"checkpoint_steps": 5}])
def test_a_diverged_run_says_where_and_saves_no_bad_state(watch, tmp_path):
    for _ in range(2):  # the second time from the checkpoint
        with pytest.raises(DivergedError) as caught:
            go(Diverging, tmp_path, **watch)
        assert (caught.value.phase, caught.value.step, caught.value.loss) == ("train", 7, "main")
    assert not (tmp_path / "model.safetensors").exists()
    for path in checkpoints(tmp_path / "checkpoint"):
        state = torch.load(path, weights_only=True)
        assert state["progress"]["step"] <= 7
        assert all(value.isfinite().all() for value in state["method"].values())


def test_a_stop_right_after_the_bad_step_saves_nothing(tmp_path):
    with pytest.raises(DivergedError):
        go(Diverging, tmp_path, stop_at=8)
    assert checkpoints(tmp_path / "checkpoint") == []


def test_a_gradient_that_is_not_finite_is_noticed(tmp_path):
    class Rooted(Toy):
        """Its last loss is finite, but not the gradient of it."""

        name = "rooted"

        def update(self, batches, opt, step):
            loss = self.loss(next(batches))["total"]
            root = (0 * self.encoder[1].weight).sum().sqrt() if step == STEPS - 1 else 0
            opt.minimise("main", loss + root)
            return {"total": loss}

    with pytest.raises(DivergedError):
        go(Rooted, tmp_path, checkpoint_steps=STEPS)
    assert checkpoints(tmp_path / "checkpoint") == []


def test_phases_of_one_name_are_refused(tmp_path):
    class Twice(Toy):
        name = "twice"

        def phases(self, budget):
            return 2 * super().phases(budget)

    with pytest.raises(FlexbenchError, match="two phases of a model have the same name: train, train"):
        go(Twice, tmp_path)


def test_a_method_without_a_loss_says_what_it_must_define(tmp_path):
    class Empty(Method):
        name = "empty"

    with pytest.raises(NotImplementedError, match="Empty must define loss, or optimizers and update"):
        go(Empty, tmp_path)


# -- cost and precision -------------------------------------------------------------------------------------------


def test_flops_of_a_linear_model_follow_the_formula(whole):
    product = 2 * BATCH * PIXELS * DIM  # of one dense layer
    # The first layer's input needs no gradient: forward and weight. The second: forward, weight and input.
    (toy,) = whole[Toy][2]["phases"]
    assert toy["flops_per_step"] == 2 * product + 3 * product
    flow = whole[Staged][2]["phases"][2]
    assert flow["flops_per_step"] == 2 * (2 * BATCH * DIM * DIM)
    # The critic's own steps: encode without backward, then one dense layer of one output, forward and weight.
    (adversarial,) = whole[Adversarial][2]["phases"]
    critic, encode = 2 * BATCH * DIM, product
    assert adversarial["flops_per_step"] == (5 * product) + (2 * encode + 2 * critic) + 3 * (encode + 2 * critic)


@pytest.mark.parametrize("method", RESUMABLE)
def test_counting_flops_does_not_change_the_result(method, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "flops_of_one_step", lambda *_: 0)
    go(method, tmp_path)
    assert result(tmp_path)[:2] == whole[method][:2]


def test_bf16_trains_near_fp32_and_stays_finite(tmp_path):
    ends = {}
    for precision in ("fp32", "bf16"):
        config = job(VAE, steps=20, precision=precision)
        go(VAE, tmp_path / precision, config=config)
        rows = read_jsonl(tmp_path / precision / "train.jsonl")
        weights = load_file(tmp_path / precision / "model.safetensors")
        assert all(value.isfinite().all() for value in weights.values())
        assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}
        ends[precision] = rows[-1]["loss/total"], weights["encoder.0.weight"]
    assert ends["bf16"][0] == pytest.approx(ends["fp32"][0], rel=0.1)
    assert not torch.equal(ends["bf16"][1], ends["fp32"][1])


def test_bf16_sees_the_weights_that_the_same_update_has_moved(tmp_path):
    config = job(VAE, precision="bf16")
    method, x = config.build(VAE), torch.rand(4, 1, 8, 8)
    run = loop.TrainingRun(config, method, None, tmp_path, CPU, Callbacks())
    opt = Optimizers({"main": adam(method, lr=0.1)})
    with run.autocast():
        before = method.encoder(x)
        opt.minimise("main", before.float().square().sum())
        assert not torch.equal(method.encoder(x), before)


def test_checkpoint_names_sort_by_phase_and_step(tmp_path):
    for phase, step in ((0, 9), (0, 10), (1, 2), (1, 100)):
        save_checkpoint(tmp_path, phase, step, {"step": step})
    assert [path.name[:12] for path in checkpoints(tmp_path)] == ["01-000000100", "01-000000002"]
