"""VQ-VAE: A. van den Oord, O. Vinyals, K. Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS 2017.
https://arxiv.org/abs/1711.00937

    L = mean ||x - Dec(z_q)||^2 + beta D Var(x) mean (z_e - sg[e])^2,   z_e = E(x),   z_q = z_e + sg[e - z_e]
    N_k <- g N_k + (1 - g) n_k,   M_k <- g M_k + (1 - g) sum_(i -> k) z_e,i,   e_k = M_k / N_k

E gives a grid of S/4 x S/4 vectors. e is the nearest codebook vector of each of them; the gradient estimator is
straight through. The codebook is learned by exponential moving averages of the vectors that chose each code (counts
smoothed by 1e-5), not by gradient. A second phase fits a gated PixelCNN to the index grids of the training images; it
is the prior. Where the suite needs plain vectors, a code is the flattened quantised grid.

The usual objective is mean squared error / Var(x) + beta mean (z_e - sg[e])^2. L is this objective times D Var(x). Then
its first term is the suite's squared error. All means are over batch, positions and channels. Var(x), the variance of
all training pixels, is measured before training.

Choices: the size d of a vector is `latent_dim` (paper: 64). The networks are the convolutions of the shared networks,
with two residual blocks in place of the dense layers. The codebook starts as vectors of the first batch. Rarely used
codes (count below 3 % of the mean count) are periodically replaced by vectors of the current batch, because few codes
are ever used if the codebook starts at random. The PixelCNN has 13 layers of 128 channels (times `width`). It gets as
many steps as the auto-encoder (paper: 50 to 100 epochs), and its last state is used: a model sees no validation images,
so it cannot choose an earlier state. Without dense layers, this model is smaller than the others; `flexbench table
cost` shows by how much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmark.losses import rms, squared_error
from benchmark.method import Budget, DataSpec, Fit, Method, MethodConfig, Train
from benchmark.networks import BatchNorm2d, initialise, scaled
from benchmark.optim import Optimizers, OptimizerSpec, adam

from .pixelcnn import PixelCNN

EPSILON = 1e-5  # smooths the counts of the codes
RARELY_USED = 0.03  # a code is replaced if its count is below this fraction of the mean count


@dataclass(frozen=True)
class VQVAEConfig(MethodConfig):
    codes: int = 512  # K, number of vectors in the codebook
    commitment: float = 0.25  # beta, weight of the commitment term
    decay: float = 0.99  # g, decay of the codebook's moving averages
    reseeds: int = 20  # number of times, evenly spaced, that rarely used codes are replaced; 0: never
    prior_channels: int = 128  # channels of the PixelCNN, times width
    prior_layers: int = 12  # number of 3x3 layers of the PixelCNN, after the 7x7 layer
    prior_share: float = 1.0  # steps of the PixelCNN per step of the auto-encoder
    lr: float = 2e-4  # learning rate of encoder and decoder
    lr_prior: float = 3e-4  # learning rate of the PixelCNN

    def __post_init__(self) -> None:
        self.require(1, "codes", "prior_channels", "prior_layers")
        self.require(0, "commitment", "decay", "reseeds", "lr", "lr_prior")
        self.require(0, "prior_share", above=True)
        if self.decay >= 1:
            raise ValueError(f"decay is {self.decay}; it must be below 1")


class VQVAE(Method[VQVAEConfig]):
    """Discrete latent grid with a codebook learned by moving averages; the prior is a PixelCNN, trained afterwards."""

    name = "vq-vae"
    title = "VQ-VAE"
    paper = "van den Oord et al., NeurIPS 2017"
    year = 2017
    url = "https://arxiv.org/abs/1711.00937"
    images_only = "its code is a grid of positions, and a vector has none"
    tuning_grid = {"commitment": (0.1, 0.25, 1.0)}
    Config = VQVAEConfig

    codebook: Tensor  # e, [K, d]
    counts: Tensor  # N, [K]
    sums: Tensor  # M, [K, d]
    pixel_variance: Tensor  # Var(x), scalar; 1 until it is measured

    def __init__(self, data: DataSpec, config: VQVAEConfig):
        super().__init__(data, config)
        channels, hidden = scaled(config.prior_channels, config.width), scaled(512, config.width)
        self.pixelcnn = PixelCNN(config.codes, channels, hidden, config.prior_layers)
        codebook = torch.randn(config.codes, config.latent_dim)
        self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.ones(config.codes))
        self.register_buffer("sums", codebook.clone())
        self.register_buffer("pixel_variance", torch.ones(()))

    def build_autoencoder(self) -> tuple[nn.Module, nn.Module]:
        """Return the encoder, x -> z_e [B, d, S/4, S/4], and the decoder, flat z_q [B, d (S/4)^2] -> x."""
        c, d = self.config, self.data
        return (
            build_grid_encoder(d.channels, c.latent_dim, c.width),
            build_grid_decoder(d.channels, d.size // 4, c.latent_dim, c.width),
        )

    # -- codes -------------------------------------------------------------------------------------------------------

    @property
    def code_dim(self) -> int:
        return self.config.latent_dim * (self.data.size // 4) ** 2

    def indices(self, x: Tensor) -> Tensor:
        """Map images [B, C, S, S] to index grids [B, S/4, S/4]."""
        return self.nearest(self.encoder(x))

    def nearest(self, z: Tensor) -> Tensor:
        """Return the indices [B, H, W] of the codes nearest to vectors [B, d, H, W], computed in full precision."""
        with torch.autocast(z.device.type, enabled=False):
            # ||z - e||^2 without ||z||^2, which is the same for all codes
            distance = self.codebook.square().sum(1) - 2 * flat_vectors(z) @ self.codebook.T  # [BHW, K]
        return distance.argmin(1).unflatten(0, (len(z), *z.shape[2:]))

    def embed(self, grid: Tensor) -> Tensor:
        """Map index grids [B, H, W] to codebook vectors [B, d, H, W]."""
        return self.codebook[grid].permute(0, 3, 1, 2)

    def encode(self, x: Tensor) -> Tensor:
        return self.embed(self.indices(x)).flatten(1)

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        shape = (n, self.data.size // 4, self.data.size // 4)
        device = self.device if generator is None else "cpu"
        uniform = torch.rand(shape, generator=generator, device=device).to(self.device)
        return self.embed(self.pixelcnn.sample(uniform)).flatten(1)

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """Return the number of codes in use, their perplexity, and the PixelCNN's NLL per position."""
        grid = self.indices(x)
        counts = grid.flatten().bincount(minlength=self.config.codes)
        return {"used_codes": (counts > 0).sum(), "perplexity": perplexity(counts), "nll": self.nll(grid)}

    # -- training ----------------------------------------------------------------------------------------------------

    def phases(self, budget: Budget) -> list[Train | Fit]:
        """Return three phases: variance of the pixels, auto-encoder with codebook, PixelCNN."""
        c = self.config
        reseed_every = max(1, budget.steps // c.reseeds) if c.reseeds else None
        prior_steps = max(1, round(c.prior_share * budget.steps))
        return [
            Fit("variance", self.measure_variance),
            Train("train", budget.steps, self.optimizers, partial(self.update, reseed_every=reseed_every)),
            Train("prior", prior_steps, self.prior_optimizers, self.prior_update, lambda x: self.indices(x).int()),
        ]

    def measure_variance(self, images: Iterator[Tensor]) -> None:
        """Measure Var(x) over all pixels of all images."""
        sums = torch.zeros(3, dtype=torch.double)  # of 1, x and x^2
        for x in images:
            x = x.cpu().double()
            sums += torch.stack([torch.tensor(float(x.numel())).double(), x.sum(), x.square().sum()])
        self.pixel_variance.copy_(sums[2] / sums[0] - (sums[1] / sums[0]) ** 2)

    def optimizers(self) -> dict[str, OptimizerSpec]:
        return {"ae": adam(self.encoder, self.decoder, lr=self.config.lr)}

    def update(
        self, batches: Iterator[Tensor], opt: Optimizers, step: int, reseed_every: int | None = None
    ) -> Mapping[str, Tensor]:
        x = next(batches)
        z = self.encoder(x).float()  # [B, d, H, W]
        if step == 0:
            self.replace_codes(torch.ones_like(self.counts, dtype=torch.bool), flat_vectors(z), z.new_ones(()))
        grid = self.nearest(z)
        losses = self.objective(x, z, self.embed(grid))
        opt.minimise("ae", losses["total"])

        used = self.update_codebook(flat_vectors(z), grid.flatten())
        if reseed_every and step > 0 and step % reseed_every == 0:
            self.replace_codes(self.counts < RARELY_USED * self.counts.mean(), flat_vectors(z), self.counts.mean())
        usage = {"perplexity": perplexity(used), "used_codes": (used > 0).sum()}
        return losses | usage | {"rms_code": rms(z)}

    def objective(self, x: Tensor, z: Tensor, e: Tensor) -> dict[str, Tensor]:
        """Return L and its terms, given images x, encoder outputs z and their codes e, both [B, d, H, W]."""
        straight_through = z + (e - z).detach()
        reconstruction = squared_error(x, self.decode(straight_through.flatten(1)))
        commitment = (z - e.detach()).square().mean()
        total = reconstruction + self.config.commitment * self.data.pixels * self.pixel_variance * commitment
        return {"total": total, "reconstruction": reconstruction, "commitment": commitment}

    @torch.no_grad()
    def update_codebook(self, z: Tensor, chosen: Tensor) -> Tensor:
        """Move the codebook toward the vectors z [n, d] that chose codes [n]. Return the number of choices, [K]."""
        g = self.config.decay
        member = (chosen[:, None] == torch.arange(self.config.codes, device=z.device)).float()  # [n, K]
        used = member.sum(0)
        self.counts.lerp_(used, 1 - g)
        with torch.autocast(z.device.type, enabled=False):
            self.sums.lerp_(member.T @ z, 1 - g)
        total = self.counts.sum()
        smoothed = (self.counts + EPSILON) / (total + self.config.codes * EPSILON) * total
        self.codebook.copy_(self.sums / smoothed[:, None])
        return used

    @torch.no_grad()
    def replace_codes(self, mask: Tensor, z: Tensor, count: Tensor) -> None:
        """Replace the codes in `mask` [K] by random vectors of z [n, d], and set their counts to the scalar `count`."""
        order = torch.randperm(len(z), device=z.device)
        picked = z[order[torch.arange(len(mask), device=z.device) % len(z)]]  # [K, d], distinct where n >= K
        self.codebook.copy_(torch.where(mask[:, None], picked, self.codebook))
        self.counts.copy_(torch.where(mask, count, self.counts))
        self.sums.copy_(torch.where(mask[:, None], picked * count, self.sums))

    # -- the prior -------------------------------------------------------------------------------------------------

    def prior_optimizers(self) -> dict[str, OptimizerSpec]:
        """Return the optimizer of the second phase, for the PixelCNN alone."""
        return {"prior": adam(self.pixelcnn, lr=self.config.lr_prior)}

    def prior_update(self, batches: Iterator[Tensor], opt: Optimizers, step: int) -> dict[str, Tensor]:
        """Do one step of the PixelCNN on index grids."""
        nll = self.nll(next(batches))
        opt.minimise("prior", nll)
        return {"nll": nll}

    def nll(self, grid: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of index grids [B, H, W] under the PixelCNN, in nats per position."""
        return nn.functional.cross_entropy(self.pixelcnn(grid).float(), grid.long())


class Residual(nn.Module):
    """A residual block: x [B, C, H, W] plus the output of a 3x3 and a 1x1 convolution."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.correction = initialise(
            nn.Sequential(
                nn.ReLU(), nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
            ),
            nn.init.xavier_uniform_,
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.correction(x)


def build_grid_encoder(channels: int, outputs: int, width: float) -> nn.Sequential:
    """Return the encoder, x [B, C, S, S] -> [B, outputs, S/4, S/4].

    It has the convolutions of the shared encoder, then two residual blocks.
    """
    c1, c2, hidden = scaled(64, width), scaled(128, width), scaled(32, width)
    net = nn.Sequential(
        nn.Conv2d(channels, c1, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(c1, c2, 4, stride=2, padding=1), BatchNorm2d(c2), nn.ReLU(),
        nn.Conv2d(c2, c2, 3, padding=1), Residual(c2, hidden), Residual(c2, hidden),
        nn.Conv2d(c2, outputs, 1),
    )  # fmt: skip
    return initialise(net, nn.init.xavier_uniform_)


def build_grid_decoder(channels: int, side: int, inputs: int, width: float) -> nn.Sequential:
    """Return the decoder, [B, inputs * side^2] -> x [B, C, 4 side, 4 side] in [0, 1].

    It has two residual blocks, then the convolutions of the shared decoder.
    """
    c1, c2, hidden = scaled(64, width), scaled(128, width), scaled(32, width)
    net = nn.Sequential(
        nn.Unflatten(1, (inputs, side, side)),
        nn.Conv2d(inputs, c2, 3, padding=1), Residual(c2, hidden), Residual(c2, hidden), nn.ReLU(),
        nn.ConvTranspose2d(c2, c2, 4, stride=2, padding=1), BatchNorm2d(c2), nn.ReLU(),
        nn.ConvTranspose2d(c2, c1, 4, stride=2, padding=1), BatchNorm2d(c1), nn.ReLU(),
        nn.Conv2d(c1, channels, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip
    return initialise(net, nn.init.xavier_uniform_)


def flat_vectors(grid: Tensor) -> Tensor:
    """Return the vectors of a grid [B, d, H, W] as [B H W, d], detached, in full precision."""
    return grid.detach().float().permute(0, 2, 3, 1).flatten(0, 2)


def perplexity(counts: Tensor) -> Tensor:
    """Return exp of the entropy of counts [K], a scalar: K if all are equal, 1 if only one is not zero."""
    p = counts / counts.sum()
    return torch.special.entr(p).sum().exp()
