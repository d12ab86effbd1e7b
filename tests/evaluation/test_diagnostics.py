"""Health figures: known clouds give known numbers."""

import numpy as np
import pytest
import torch

from benchmark.evaluation.diagnostics import diagnostics, prior_mismatch, sliced_wasserstein


class Codes:
    """Stands for a method: codes are the images' first pixels, the prior is given."""

    device, code_dim = torch.device("cpu"), 4

    def __init__(self, dim=4, scale=1.0, prior=None):
        self.dim, self.scale = dim, scale
        self.draw = prior or (lambda n, g: scale * torch.randn(n, dim, generator=g))

    def eval(self):
        return self

    def encode(self, x):
        return self.scale * torch.special.ndtri(x.flatten(1)[:, : self.dim] * 0.98 + 0.01)  # uniform -> nearly normal

    def sample_posterior(self, x):
        return self.encode(x)

    def prior(self, n, generator):
        return self.draw(n, generator)

    def diagnostics(self, x):
        return {"images": torch.tensor(len(x))}


class Uniform:
    """Random images, as a split gives them."""

    def __len__(self):
        return 3000

    def take(self, indices):
        return np.random.default_rng(0).integers(0, 256, (3000, 1, 4, 4)).astype(np.uint8)[indices]


def test_equal_clouds_match_at_any_scale():
    for scale in (1.0, 50.0):
        figures = diagnostics(Codes(scale=scale), Uniform(), 0)
        assert figures["prior_mismatch"] < 0.08
        assert figures["rms_code"] == pytest.approx(0.96 * scale, rel=0.05)
        assert figures["active_dims"] == 4
        assert figures["images"] == 1000


def test_a_prior_elsewhere_and_a_dead_dimension_are_seen():
    def prior(n, generator):
        return torch.zeros(n, 4)

    class Dead(Codes):
        def encode(self, x):
            return super().encode(x) * torch.tensor([1.0, 1.0, 1.0, 0.01])

    figures = diagnostics(Dead(prior=prior), Uniform(), 0)
    assert figures["prior_mismatch"] > 0.5
    assert figures["active_dims"] == 3


def test_the_prior_is_compared_with_draws_of_the_posterior_and_not_its_means():
    class Stochastic(Codes):
        """A collapsed posterior: all means are 0, and draws have the prior's distribution."""

        def encode(self, x):
            return torch.zeros(len(x), 4) + 1e-3 * x.flatten(1)[:, :4]

        def sample_posterior(self, x):
            return torch.randn(len(x), 4)

    mismatch = diagnostics(Stochastic(), Uniform(), 0)["prior_mismatch"]
    assert mismatch < 0.08
    assert prior_mismatch(Stochastic(), Uniform(), 0) == mismatch  # what snapshots record


def test_it_is_a_function_of_the_seed():
    assert diagnostics(Codes(), Uniform(), 3) == diagnostics(Codes(), Uniform(), 3)
    assert diagnostics(Codes(), Uniform(), 3) != diagnostics(Codes(), Uniform(), 4)


def test_sliced_distance_of_shifted_clouds_is_their_mean_projected_shift():
    a, shift = torch.randn(500, 3), torch.tensor([2.0, 0.0, 0.0])
    axes = torch.randn(100_000, 3)
    expected = 2 * (axes[:, 0] / axes.norm(dim=1)).abs().mean()  # a shift moves every projection by its own part
    assert sliced_wasserstein(a, a + shift, directions=4000).item() == pytest.approx(expected.item(), rel=0.03)
    assert sliced_wasserstein(a, a[torch.randperm(500)]) == 0
