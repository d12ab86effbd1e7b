"""AE+GMM: the plain baseline of P. Ghosh, M. S. M. Sajjadi, A. Vergari, M. Black, B. Schoelkopf, "From Variational to
Deterministic Autoencoders", ICLR 2020. https://arxiv.org/abs/1903.12436

    L = mean ||x - Dec(E(x))||^2 + lambda sum ||W||^2,   W: kernels of the decoder
    then p(z) = sum_k w_k N(z; m_k, S_k), K = 10 full covariances, fitted by EM to the codes of all training images

The authors' code regularises the kernels of the decoder's transposed convolutions, including the output layer, and on
CelebA also the kernels of its dense layers; it never regularises biases or batch norm. (For vectors the decoder is
dense, and all its kernels are regularised.) It averages the error over D pixels (MNIST padded to 32x32: D = 1024). For
the squared error, its lambda of 1e-7 (MNIST, CelebA) or 1e-6 (CIFAR-10) is therefore multiplied by D. `lambda_scale` is
a further factor. At 0 there is no regulariser; the authors' code also has this variant. Grey images smaller than 28x28
get the weight of MNIST times pixels / 784.

EM is as in the authors' code: k-means start, at most 2000 iterations, until the mean log-likelihood gains less than
1e-3.

Choices: codes are standardised for EM, and 1e-4 is added to the diagonal of each covariance. Otherwise unused
dimensions make a covariance singular.

Deviations: the networks and the constant Adam rate of 2e-4 are the suite's, as for all models. The authors' code has a
rate of 5e-4 (CelebA: 1e-3), halves it on a plateau, and keeps the checkpoint that is best on validation data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from benchmark.losses import rms, squared_error
from benchmark.method import Budget, DataSpec, Fit, Method, MethodConfig, Train, weight_for
from benchmark.networks import noise
from benchmark.optim import OptimizerSpec, adam

COVARIANCE_FLOOR = 1e-4  # added to the variances of standardised codes


@dataclass(frozen=True)
class AEGMMConfig(MethodConfig):
    lambda_scale: float = 1.0  # factor on the published weight lambda of the decoder's kernels; 0: no regulariser
    components: int = 10  # K, number of components of the mixture
    lr: float = 2e-4  # learning rate of encoder and decoder

    def __post_init__(self) -> None:
        self.require(0, "lambda_scale", "lr")
        self.require(1, "components")


class AEGMM(Method[AEGMMConfig]):
    """Deterministic auto-encoder; after training, a Gaussian mixture fitted to its codes is the prior."""

    name = "ae-gmm"
    title = "AE+GMM"
    paper = "Ghosh et al., ICLR 2020"
    year = 2020
    url = "https://arxiv.org/abs/1903.12436"
    tuning_grid = {"lambda_scale": (1.0, 30.0, 1000.0)}
    Config = AEGMMConfig

    decoder: nn.Sequential
    weights: Tensor  # of the mixture, [K]
    means: Tensor  # [K, m]
    factors: Tensor  # lower Cholesky factors of the covariances, [K, m, m]

    def __init__(self, data: DataSpec, config: AEGMMConfig):
        super().__init__(data, config)
        k, m = config.components, config.latent_dim
        published = weight_for(data, grey=1024 * 1e-7, small_colour=3072 * 1e-6, large_colour=12288 * 1e-7)
        self.lambda_ = config.lambda_scale * published
        self.register_buffer("weights", torch.full((k,), 1 / k))  # before the fit, the mixture is N(0, I)
        self.register_buffer("means", torch.zeros(k, m))
        self.register_buffer("factors", torch.eye(m).repeat(k, 1, 1))

    def optimizers(self) -> dict[str, OptimizerSpec]:
        return {"main": adam(self, lr=self.config.lr)}

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        z = self.encode(x)
        reconstruction, regularisers = squared_error(x, self.decode(z)), self.regularisers(z)
        total = reconstruction + sum(regularisers.values())
        return {"total": total, "reconstruction": reconstruction, **regularisers, "rms_code": rms(z)}

    def regularisers(self, z: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms that the loss adds to the squared error, given codes z [B, m]."""
        norms = reduce(torch.add, (kernel.square().sum() for kernel in self.decoder_kernels()))
        return {"decoder_regulariser": self.lambda_ * norms}

    def decoder_kernels(self) -> Iterator[Tensor]:
        """Yield the weights that are regularised."""
        with_dense = self.data.is_large_colour or self.data.is_vector
        for layer in self.decoder:
            if isinstance(layer, (nn.ConvTranspose2d, nn.Conv2d)) or (with_dense and isinstance(layer, nn.Linear)):
                yield layer.weight

    def phases(self, budget: Budget) -> list[Train | Fit]:
        return [*super().phases(budget), Fit("gmm", self.fit_mixture)]

    @torch.no_grad()
    def fit_mixture(self, images: Iterator[Tensor]) -> None:
        """Fit the mixture to the codes of all training images by EM, in double precision. Store it in the buffers."""
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        z = torch.cat([self.encode(x).double().cpu() for x in images])  # [N, m]
        center, spread = z.mean(0), z.std(0, correction=0).clamp(min=1e-6)
        settings = {"max_iter": 2000, "tol": 1e-3, "reg_covar": COVARIANCE_FLOOR, "init_params": "kmeans"}
        mixture = GaussianMixture(self.config.components, random_state=0, **settings)
        # k-means adds in the order in which threads finish: with several threads its result is not reproducible.
        with threadpool_limits(1, user_api="openmp"):
            mixture.fit(((z - center) / spread).numpy())
        self.weights.copy_(torch.from_numpy(mixture.weights_))
        self.means.copy_(center + spread * torch.from_numpy(mixture.means_))
        self.factors.copy_(spread[:, None] * torch.linalg.cholesky(torch.from_numpy(mixture.covariances_)))

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        device = self.device if generator is None else "cpu"
        component = torch.multinomial(self.weights.to(device), n, replacement=True, generator=generator)  # [n]
        eps = noise(n, self.config.latent_dim, self.device, generator)
        samples = self.means[:, None] + eps @ self.factors.mT  # [K, n, m], one from every component
        return samples[component.to(self.device), torch.arange(n, device=self.device)]

    def log_density(self, z: Tensor) -> Tensor:
        """Return log p(z) of codes [B, m] under the mixture, [B]."""
        components = MultivariateNormal(self.means, scale_tril=self.factors)
        return MixtureSameFamily(Categorical(self.weights), components).log_prob(z.float())

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """Return the smallest weight of a component, and the mean log density of the codes in nats per dimension."""
        density = self.log_density(self.encode(x)).mean() / self.config.latent_dim
        return {"smallest_weight": self.weights.min(), "log_density_per_dim": density}
