"""One pass per image set: what is embedded, how often, and that the validation score looks at nothing else."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.core.errors import FlexbenchError
from benchmark.data import open_dataset
from benchmark.evaluation.evaluator import ImageSet, References, generate, score_method, score_validation
from benchmark.evaluation.features import NetworkSpace
from benchmark.method import DataSpec
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


def test_a_second_model_embeds_no_real_image(dataset, model):
    space = Counting()
    score_method(model, References(dataset, N, space), 0)
    # generated, reconstructed, test, validation, two sets of training images, copies; then all training images
    assert sorted(space.embedded) == [N] * 7 + [len(dataset.train)]
    space.embedded.clear()
    score_method(model, References(dataset, N, space), 0)
    assert space.embedded == [N, N]  # generated and reconstructed


def test_copies_are_told_from_held_out_images(dataset):
    """The paper's pair, Gen-Tr, sees a part of the training images and misses most copies; all of them are searched."""
    references = References(dataset, 200, Counting())
    scores = {score.family: score for score in references.floor()}
    for kind in ("pms", "ims"):
        held_out, copies = scores[f"{kind}_ratio_val"], scores[f"{kind}_ratio_copy"]
        assert copies.value == 1 > held_out.value + 3 * held_out.se
        assert scores[f"{kind}_copy_all"].value < 0.5 * scores[f"{kind}_val_all"].value
        assert scores[f"{kind}_copy_tr"].value > 2 * scores[f"{kind}_copy_all"].value


def test_the_validation_score_is_the_one_of_the_whole_evaluation(dataset, model):
    space = Counting()
    (alone,) = score_validation(model, References(dataset, N, space), 0)
    assert sorted(space.embedded) == [N, N]  # generated and validation: no test image
    whole = {score.family: score for score in score_method(model, References(dataset, N, space), 0)}
    assert alone == whole["gen_fd_val"]


def test_a_small_evaluation_does_not_search_all_training_images(dataset, model):
    space = Counting()
    scores = score_method(model, References(dataset, 40, space), 0)
    assert max(space.embedded) == 40
    assert {score.family for score in scores}.isdisjoint({"pms_gen_all", "ims_ratio_gen", "pms_val_all"})


def test_fewer_validation_images_than_generated_ones(dataset, model):
    """The first generated images are the same however many follow."""
    n = len(dataset.val) + 30
    references = References(dataset, n, Counting())
    (alone,) = score_validation(model, references, 0)
    assert alone.n_images == len(dataset.val) < references.n
    whole = {score.family: score for score in score_method(model, references, 0)}
    assert alone == whole["gen_fd_val"]


def test_without_validation_images_there_is_no_score(dataset, model):
    references = References(dataset, N, Counting())
    references.val = ImageSet(references.val.images[:1], references.space, real=True)
    with pytest.raises(FlexbenchError, match="no validation images"):
        score_validation(model, references, 0)


def test_generated_images_depend_on_the_seed_only(model):
    assert np.array_equal(generate(model, 600, 3), generate(model, 600, 3))
    assert np.array_equal(generate(model, 600, 3)[:500], generate(model, 500, 3))
    assert not np.array_equal(generate(model, 5, 3), generate(model, 5, 4))
