"""AE+GMM: the plain baseline of P. Ghosh, M. S. M. Sajjadi, A. Vergari, M. Black, B. Schoelkopf, "From Variational to
Deterministic Autoencoders", ICLR 2020. https://arxiv.org/abs/1903.12436

    L = mean ||x - Dec(E(x))||^2 + lambda sum ||W||^2,   W: kernels of the decoder
    then p(z) = sum_k w_k N(z; m_k, S_k), K = 10 full covariances, fitted by EM to the codes of all training images

The authors' code penalises the kernels of the decoder's transposed convolutions, the output layer among them, and on
CelebA also those of its dense layers; never biases or batch norm. (Of vectors the decoder is dense, and all of it is
penalised.) It averages the error over D pixels (MNIST padded to 32x32: D = 1024), so that its lambda of 1e-7 (MNIST,
CelebA) or 1e-6 (CIFAR-10) is D times that on the squared error.
`lambda_scale` multiplies it; with 0 this is the auto-encoder without any penalty, which the code has too.
Grey images smaller than 28x28 get MNIST's weights times their share of 784 pixels.

EM as in the code: k-means start, at most 2000 iterations, until the mean log-likelihood gains less than 1e-3.
Choices: codes are standardised for EM, and their covariances have a floor of 1e-4 of the variance of each dimension,
because codes that do not fill their space would leave a covariance singular.
Deviations: the networks and the constant Adam rate of 2e-4 are the suite's, for all models; the code has 5e-4 (CelebA:
1e-3), halves it on a plateau and keeps the best of its checkpoints on validation data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from benchmark.losses import rms, squared_error
from benchmark.method import Budget, DataSpec, Fit, Method, MethodConfig, Train, weight_for
from benchmark.networks import noise
from benchmark.optim import OptimizerSpec, adam

FLOOR = 1e-4  # of the variances of standardised codes


@dataclass(frozen=True)
class AEGMMConfig(MethodConfig):
    lambda_scale: float = 1.0  # factor on the published weight lambda of the decoder's kernels; 0: no penalty
    components: int = 10  # K of the mixture
    lr: float = 2e-4  # of encoder and decoder

    def __post_init__(self) -> None:
        self.require(0, "lambda_scale", "lr")
        self.require(1, "components")


class AEGMM(Method):
    """Deterministic auto-encoder; after training, a Gaussian mixture fitted to its codes is the prior."""

    name = "ae-gmm"
    title = "AE+GMM"
    paper = "Ghosh et al., ICLR 2020"
    year = 2020
    url = "https://arxiv.org/abs/1903.12436"
    tuning_grid = {"lambda_scale": (1.0, 30.0, 1000.0)}
    Config = AEGMMConfig

    def __init__(self, data: DataSpec, config: AEGMMConfig):
        super().__init__(data, config)
        k, m = config.components, config.latent_dim
        self.lambda_ = config.lambda_scale * weight_for(data, 1024 * 1e-7, 3072 * 1e-6, 12288 * 1e-7)
        self.register_buffer("weights", torch.full((k,), 1 / k))  # until it is fitted, the mixture is N(0, I)
        self.register_buffer("means", torch.zeros(k, m))
        self.register_buffer("factors", torch.eye(m).repeat(k, 1, 1))  # lower Cholesky factors of the covariances

    def optimizers(self) -> dict[str, OptimizerSpec]:
        return {"main": adam(self, lr=self.config.lr)}

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        z = self.encode(x)
        error, penalties = squared_error(x, self.decode(z)), self.penalties(z)
        return {"total": error + sum(penalties.values()), "reconstruction": error, **penalties, "rms_code": rms(z)}

    def penalties(self, z: Tensor) -> dict[str, Tensor]:
        """Weighted terms that join the squared error, given codes z [B, m]."""
        return {"decoder_penalty": self.lambda_ * sum(w.square().sum() for w in self.decoder_kernels())}

    def decoder_kernels(self) -> Iterator[Tensor]:
        """The weights that the penalty is about."""
        dense = (nn.Linear,) if self.data.like_celeba or self.data.is_vector else ()
        for layer in self.decoder:
            if isinstance(layer, (nn.ConvTranspose2d, nn.Conv2d, *dense)):
                yield layer.weight

    def phases(self, budget: Budget) -> list[Train | Fit]:
        return [*super().phases(budget), Fit("gmm", self.fit_mixture)]

    @torch.no_grad()
    def fit_mixture(self, images: Iterator[Tensor]) -> None:
        """EM on the codes of all training images, in double precision; the result goes into the buffers."""
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        z = torch.cat([self.encode(x).double().cpu() for x in images])  # [N, m]
        center, spread = z.mean(0), z.std(0, correction=0).clamp(min=1e-6)
        mixture = GaussianMixture(
            self.config.components, max_iter=2000, tol=1e-3, reg_covar=FLOOR, init_params="kmeans", random_state=0
        )
        with threadpool_limits(1, user_api="openmp"):  # k-means adds up in the order in which its threads end
            mixture.fit(((z - center) / spread).numpy())
        self.weights.copy_(torch.from_numpy(mixture.weights_))
        self.means.copy_(center + spread * torch.from_numpy(mixture.means_))
        self.factors.copy_(spread[:, None] * torch.linalg.cholesky(torch.from_numpy(mixture.covariances_)))

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        where = self.device if generator is None else "cpu"
        component = torch.multinomial(self.weights.to(where), n, replacement=True, generator=generator)  # [n]
        eps = noise(n, self.config.latent_dim, self.device, generator)
        draws = self.means[:, None] + eps @ self.factors.mT  # [K, n, m], one from every component
        return draws[component.to(self.device), torch.arange(n, device=self.device)]

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) of codes [B, m] under the mixture, [B]."""
        parts = MultivariateNormal(self.means, scale_tril=self.factors)
        return MixtureSameFamily(Categorical(self.weights), parts).log_prob(z.float())

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """Smallest weight of a component, and nats per dimension that the mixture gives to the codes."""
        density = self.log_density(self.encode(x)).mean() / self.config.latent_dim
        return {"smallest_weight": self.weights.min(), "log_density_per_dim": density}
