"""One pass per image set: what is embedded, how often, and that the validation score looks at nothing else."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import metrics
from benchmark.core.errors import FlexbenchError
from benchmark.data import open_dataset
from benchmark.evaluation import diagnostics, evaluator
from benchmark.evaluation.evaluator import ALL, DISTANCES, VALIDATION, floors, generate, reconstruct, score
from benchmark.evaluation.features import NetworkSpace, feature_space
from benchmark.evaluation.references import ImageSet, References
from benchmark.evaluation.scores import prd
from benchmark.method import DataSpec
from benchmark.metrics import METRICS, Metric
from benchmark.registry import Registry

N = 70  # enough for all training images to be searched


class Projection(nn.Module):
    """uint8 [B, 3, H, W] -> 16 fixed random projections."""

    def __init__(self):
        super().__init__()
        weight = torch.randn(3 * 64, 16, generator=torch.Generator().manual_seed(0))
        self.register_buffer("weight", weight)

    def forward(self, x):
        return x.float().flatten(1) @ self.weight / 255


class Counting(NetworkSpace):
    """Notes how many images it embeds."""

    def __init__(self):
        super().__init__("projection", {"seed": 0}, Projection, 50, "cpu")
        self.embedded = []

    def embed(self, images):
        self.embedded.append(len(images))
        return super().embed(images)


@pytest.fixture(scope="module")
def dataset():
    return open_dataset("digits")


@pytest.fixture
def model():
    torch.manual_seed(0)
    cls = Registry().get("vae")
    return cls(DataSpec("digits", 1, 8), cls.Config(latent_dim=4, width=0.05)).eval()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, dataset):
    monkeypatch.setenv("FLEXBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prd, "precision_recall", partial(prd.precision_recall, runs=2))  # 50 take seconds


def test_a_second_model_embeds_no_real_image(dataset, model):
    space = Counting()
    score(model, References(dataset, N, space), 0)
    # generated, reconstructed, test, validation, two sets of training images, copies; then all training images
    assert sorted(space.embedded) == [N] * 7 + [len(dataset.train)]
    space.embedded.clear()
    score(model, References(dataset, N, space), 0)
    assert space.embedded == [N, N]  # generated and reconstructed


def test_copies_are_told_from_held_out_images(dataset):
    """The paper's pair, Gen-Tr, sees a part of the training images and misses most copies; all of them are searched."""
    references = References(dataset, 200, Counting())
    scores = {score.family: score for score in floors(references)}
    for kind in ("pms", "ims"):
        held_out, copies = scores[f"{kind}_ratio_val"], scores[f"{kind}_ratio_copy"]
        assert copies.value == 1 > held_out.value + 3 * held_out.se
        assert scores[f"{kind}_copy_all"].value < 0.5 * scores[f"{kind}_val_all"].value
        assert scores[f"{kind}_copy_tr"].value > 2 * scores[f"{kind}_copy_all"].value


def test_the_validation_score_is_the_one_of_the_whole_evaluation(dataset, model):
    space = Counting()
    (alone,) = score(model, References(dataset, N, space), 0, VALIDATION)
    assert sorted(space.embedded) == [N, N]  # generated and validation: no test image
    whole = {score.family: score for score in score(model, References(dataset, N, space), 0)}
    assert alone == whole["gen_fd_val"]


def test_a_small_evaluation_does_not_search_all_training_images(dataset, model):
    space = Counting()
    scores = score(model, References(dataset, 40, space), 0)
    assert max(space.embedded) == 40
    assert {score.family for score in scores}.isdisjoint({"pms_gen_all", "ims_ratio_gen", "pms_val_all"})


def test_fewer_validation_images_than_generated_ones(dataset, model):
    """The first generated images are the same however many follow."""
    n = len(dataset.val) + 30
    references = References(dataset, n, Counting())
    (alone,) = score(model, references, 0, VALIDATION)
    assert alone.n_images == len(dataset.val) < references.n
    whole = {score.family: score for score in score(model, references, 0)}
    assert alone == whole["gen_fd_val"]


def test_without_validation_images_there_is_no_score(dataset, model):
    references = References(dataset, N, Counting())
    references.val = ImageSet(references.val.images[:1], references.space, real=True)
    with pytest.raises(FlexbenchError, match="no validation images"):
        score(model, references, 0, VALIDATION)


def test_generated_images_depend_on_the_seed_only(model):
    assert np.array_equal(generate(model, 600, 3), generate(model, 600, 3))
    assert np.array_equal(generate(model, 600, 3)[:500], generate(model, 500, 3))
    assert not np.array_equal(generate(model, 5, 3), generate(model, 5, 4))


def test_every_scope_gives_the_same_values_and_computes_only_what_it_needs(dataset, model):
    space = Counting()
    whole = {score.family: score for score in score(model, References(dataset, N, space), 3)}
    space.embedded.clear()
    distances = score(model, References(dataset, N, space), 3, DISTANCES)
    assert [s.family for s in distances] == ["rec_fd", "gen_fd", "gen_fd_val", "prior_mismatch"]
    assert all(s == whole[s.family] for s in distances)
    assert space.embedded == [N, N]
    with pytest.raises(FlexbenchError, match=r"unknown scope 'distance'\. Did you mean 'distances'"):
        score(model, References(dataset, N, space), 3, "distance")


def test_the_prior_mismatch_is_that_of_the_diagnostics_and_not_computed_again(dataset, model, monkeypatch):
    figures = diagnostics.diagnostics(model, dataset.train, 3)

    def only(**options):
        found = score(model, References(dataset, N, feature_space("pixels")), 3, DISTANCES, **options)
        return next(s for s in found if s.family == "prior_mismatch")

    assert only().value == figures["prior_mismatch"] and only().n_images == len(dataset.train)
    monkeypatch.setattr(diagnostics, "_mismatch", None)
    assert only(diagnostics=figures).value == figures["prior_mismatch"]


def test_generated_images_are_scored_as_the_model_that_made_them(dataset, model):
    references = References(dataset, N, Counting())
    whole = {score.family: score for score in score(model, references, 0)}
    more = np.concatenate([generate(model, N, 0), references.val.images])  # only the first N are scored
    images = score(more, references)
    assert all(s == whole[s.family] for s in images)
    assert {f for f in whole if f not in {s.family for s in images}} == {
        f for f in whole if f.startswith("rec_") or "_rec_" in f or f == "prior_mismatch"
    }
    for wrong in (references.test.images[:-1], references.test.images / 255, references.test.images.repeat(2, axis=2)):
        with pytest.raises(FlexbenchError, match=r"generated images must be uint8 \[70 or more, 1, 8, 8\], got"):
            score(wrong, references)


def test_every_built_in_metric_has_its_row(dataset, model):
    """On images, where all training images are searched, nothing that is declared is missing."""
    found = {s.family for s in score(model, References(dataset, N, Counting()), 0)}
    assert found == set(METRICS)
    pixels = {s.family for s in score(model, References(dataset, N, feature_space("pixels")), 0)}
    assert pixels == {family for family in METRICS if not family.startswith("ims_")}


# --- metrics that users add --------------------------------------------------------------------------------------


@pytest.fixture
def added(monkeypatch):
    """`metrics.register`; what a test adds is removed again."""
    for name in ("METRICS", "_origins", "_derived"):
        value = getattr(metrics, name)
        monkeypatch.setitem(vars(metrics), name, type(value)(value))
    monkeypatch.setattr(evaluator, "METRICS", metrics.METRICS)
    return metrics.register


def brightness(images, references):
    return float(images.images.mean())


def rows_of(model, dataset, space, scope=ALL):
    return {s.family: s for s in score(model, References(dataset, N, space), 0, scope)}


def test_a_metric_is_a_function_of_images(dataset, model, added):
    space = Counting()
    before = rows_of(model, dataset, space)
    space.embedded.clear()
    added(Metric("brightness", "mean pixel", compute=brightness, floor="real_brightness", of_features=False), "a.py")
    added(Metric("spread", "spread", subject="reconstructed", compute=lambda i, r: (i.features.std(), 0.5)), "a.py")
    rows = rows_of(model, dataset, space)
    assert space.embedded == [N, N]  # what is embedded is what was embedded before
    assert {f: rows[f] for f in before} == before and len(rows) == len(before) + 3
    plain, spread, floor = (rows[f] for f in ("brightness", "spread", "real_brightness"))
    assert (plain.metric, plain.value) == ("brightness", generate(model, N, 0).mean())
    assert (plain.n_images, plain.se, plain.space, plain.fingerprint) == (N, None, None, None)
    features = space.embed(reconstruct(model, References(dataset, N, space).test.images))
    assert (spread.metric, spread.value, spread.se) == ("spread@projection", float(features.std()), 0.5)
    assert floor.value == References(dataset, N, space).train_a.images.mean()
    assert set(rows_of(model, dataset, space, DISTANCES)).isdisjoint({"brightness", "spread"})


def test_a_metric_of_the_model_and_one_that_does_not_apply(dataset, model, added):
    def codes(trained, references):
        return trained.method.config.latent_dim, None, 5

    added(
        Metric("codes", "latent size", subject="model", compute=codes, of_features=False, scopes=(DISTANCES,)), "a.py"
    )
    added(Metric("nothing", "never there", compute=lambda images, references: None), "a.py")
    rows = rows_of(model, dataset, feature_space("pixels"))
    assert (rows["codes"].value, rows["codes"].n_images) == (4, 5) and "nothing" not in rows
    assert rows_of(model, dataset, feature_space("pixels"), DISTANCES)["codes"] == rows["codes"]
    assert "codes" not in {s.family for s in score(generate(model, N, 0), References(dataset, N, Counting()))}


def test_random_draws_of_a_metric_follow_the_seed(dataset, model, added):
    added(Metric("draw", "random", compute=lambda i, r: (torch.rand(()), np.random.rand())), "a.py")
    first, second = (rows_of(model, dataset, feature_space("pixels"))["draw"] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "compute, text",
    [
        (lambda i, r: "much", "'bad' must return a number or"),
        (lambda i, r: (1, 2, 3, 4), "'bad' must return a number or"),
        (lambda i, r: 1 / 0, "'bad' failed: ZeroDivisionError"),
    ],
)
def test_a_metric_that_fails_is_named(dataset, model, added, compute, text):
    added(Metric("bad", "bad", compute=compute), "a.py")
    with pytest.raises(FlexbenchError, match=text):
        rows_of(model, dataset, feature_space("pixels"))


def test_a_family_belongs_to_one_origin(added):
    mine = Metric("mine", "mine", "higher", compute=brightness, floor="real_mine", control="copy_mine")
    added(mine, "a.py")
    added(mine, "a.py")
    assert metrics.METRICS["real_mine"].subject == "training" and metrics.METRICS["copy_mine"].subject == "copies"
    assert metrics.METRICS["real_mine"].better == "higher" and metrics.METRICS["mine"].table == metrics.FURTHER
    own = Metric("real_mine", "my own floor", subject="validation", compute=brightness)
    added(own, "a.py")
    added(mine, "a.py")
    assert metrics.METRICS["real_mine"] is own
    for family in ("mine", "real_mine", "gen_fd"):
        with pytest.raises(
            FlexbenchError, match=rf"metric '{family}' of b\.py is already defined by (a\.py|flexbench)"
        ):
            added(Metric(family, "", compute=brightness), "b.py")
    with pytest.raises(FlexbenchError, match=r"'idle' of a\.py has no compute"):
        added(Metric("idle", ""), "a.py")


def test_the_key_of_added_metrics_follows_the_file(added, tmp_path):
    assert metrics.added_key() == ""
    file, keys = tmp_path / "mine.py", []
    for text in ("a = 1", "a = 1", "a = 2"):
        file.write_text(text)
        added(Metric("mine", "mine", compute=brightness), str(file))
        keys.append(metrics.added_key())
    assert keys[0] == keys[1] != keys[2] and all(keys)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"family": "My Score"}, "cannot name a metric"),
        ({"subject": "generatd"}, "Did you mean 'generated'"),
        ({"better": "more"}, "must be 'lower', 'higher' or None"),
        ({"table": 1}, "column heading"),
        ({"table": 7, "column": "x"}, "a table of 1, 2, 3, 4"),
    ],
)
def test_a_bad_declaration_is_refused(options, text):
    with pytest.raises(FlexbenchError, match=text):
        Metric(**({"family": "mine", "title": "mine"} | options))
