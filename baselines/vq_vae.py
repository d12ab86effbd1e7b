"""VQ-VAE: A. van den Oord, O. Vinyals, K. Kavukcuoglu, "Neural Discrete Representation Learning", NeurIPS 2017.
https://arxiv.org/abs/1711.00937

    L = mean ||x - Dec(z_q)||^2 + beta D Var(x) mean (z_e - sg[e])^2,   z_e = E(x),   z_q = z_e + sg[e - z_e]
    N_k <- g N_k + (1 - g) n_k,   M_k <- g M_k + (1 - g) sum_(i -> k) z_e,i,   e_k = M_k / N_k

E gives a grid of S/4 x S/4 vectors; e is the codebook vector nearest to each, and gradients pass straight through the
choice. The codebook follows the vectors that chose it by moving averages (counts smoothed by 1e-5), not by gradient.
A second phase fits a gated PixelCNN to the index grids of the training images; it is the prior. For what takes plain
vectors, a code is the quantised grid, flattened.

L is D Var(x) times the usual mean squared error / Var(x) + beta mean (z_e - sg[e])^2, so that the reconstruction has
the suite's scale; all means are over batch, positions and channels. Var(x), the variance of all training pixels, is
measured before training.

Choices: the size d of a vector is `latent_dim` (published: 64). The networks are the trunk of the shared ones with two
residual blocks in place of the dense layers. The codebook starts as vectors of the first batch, and codes that are
hardly used (below 3 % of the mean count) are moved to vectors of the current one from time to time: with random vectors
few codes are ever used. The PixelCNN has 13 layers of 128 channels (times `width`) and gets as many steps as the
auto-encoder (published: 50 to 100 epochs); its last state is used, since no held-out images are at hand to choose a
better one. Without dense layers this is a smaller model than the others: `flexbench table cost` shows by how much.
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
DEAD = 0.03  # share of the mean count below which a code is moved


@dataclass(frozen=True)
class VQVAEConfig(MethodConfig):
    codes: int = 512  # K, vectors in the codebook
    commitment: float = 0.25  # beta, pull of the encoder toward its codes
    decay: float = 0.99  # g of the codebook's moving averages
    reseeds: int = 20  # how often, evenly over the training, hardly used codes are moved; 0: never
    prior_channels: int = 128  # channels of the PixelCNN, times width
    prior_layers: int = 12  # 3x3 layers of the PixelCNN, after the 7x7 one
    prior_share: float = 1.0  # steps of the PixelCNN for each one of the auto-encoder
    lr: float = 2e-4  # of encoder and decoder
    lr_prior: float = 3e-4  # of the PixelCNN

    def __post_init__(self) -> None:
        self.require(1, "codes", "prior_channels", "prior_layers")
        self.require(0, "commitment", "decay", "reseeds", "lr", "lr_prior")
        self.require(0, "prior_share", above=True)
        if self.decay >= 1:
            raise ValueError(f"decay is {self.decay}; it must be below 1")


class VQVAE(Method):
    """Discrete latent grid with a codebook learned by moving averages; the prior is a PixelCNN fitted afterwards."""

    name = "vq-vae"
    title = "VQ-VAE"
    paper = "van den Oord et al., NeurIPS 2017"
    year = 2017
    url = "https://arxiv.org/abs/1711.00937"
    images_only = "its code is a grid of positions, and a vector has none"
    tuning_grid = {"commitment": (0.1, 0.25, 1.0)}
    Config = VQVAEConfig

    def __init__(self, data: DataSpec, config: VQVAEConfig):
        super().__init__(data, config)
        channels, hidden = scaled(config.prior_channels, config.width), scaled(512, config.width)
        self.pixelcnn = PixelCNN(config.codes, channels, hidden, config.prior_layers)
        codebook = torch.randn(config.codes, config.latent_dim)
        self.register_buffer("codebook", codebook)  # e, [K, d]
        self.register_buffer("counts", torch.ones(config.codes))  # N, [K]
        self.register_buffer("sums", codebook.clone())  # M, [K, d]
        self.register_buffer("pixel_variance", torch.ones(()))  # Var(x); 1 until it is measured

    def build_autoencoder(self) -> tuple[nn.Module, nn.Module]:
        """x -> z_e [B, d, S/4, S/4], and flat z_q [B, d (S/4)^2] -> x."""
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
        """Images [B, C, S, S] -> index grids [B, S/4, S/4]."""
        return self.nearest(self.encoder(x))

    def nearest(self, z: Tensor) -> Tensor:
        """Vectors [B, d, H, W] -> indices [B, H, W] of the codes at the least squared distance, in full precision."""
        with torch.autocast(z.device.type, enabled=False):
            # ||z - e||^2 without ||z||^2, which is the same for all codes
            distance = self.codebook.square().sum(1) - 2 * vectors(z) @ self.codebook.T  # [BHW, K]
        return distance.argmin(1).unflatten(0, (len(z), *z.shape[2:]))

    def embed(self, grid: Tensor) -> Tensor:
        """Index grids [B, H, W] -> codebook vectors [B, d, H, W]."""
        return self.codebook[grid].permute(0, 3, 1, 2)

    def encode(self, x: Tensor) -> Tensor:
        return self.embed(self.indices(x)).flatten(1)

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        shape = (n, self.data.size // 4, self.data.size // 4)
        where = self.device if generator is None else "cpu"
        uniform = torch.rand(shape, generator=generator, device=where).to(self.device)
        return self.embed(self.pixelcnn.draw(uniform)).flatten(1)

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """How many codes the images use, evenly (perplexity), and the PixelCNN's nats per position on them."""
        grid = self.indices(x)
        counts = grid.flatten().bincount(minlength=self.config.codes)
        return {"used_codes": (counts > 0).sum(), "perplexity": perplexity(counts), "nll": self.nll(grid)}

    # -- training ----------------------------------------------------------------------------------------------------

    def phases(self, budget: Budget) -> list[Train | Fit]:
        """Variance of the pixels, auto-encoder and codebook, PixelCNN."""
        c = self.config
        every = max(1, budget.steps // c.reseeds) if c.reseeds else None
        prior_steps = max(1, round(c.prior_share * budget.steps))
        return [
            Fit("variance", self.measure_variance),
            Train("train", budget.steps, self.optimizers, partial(self.update, reseed_every=every)),
            Train("prior", prior_steps, self.prior_optimizers, self.update_prior, lambda x: self.indices(x).int()),
        ]

    def measure_variance(self, images: Iterator[Tensor]) -> None:
        """Var(x) over all pixels of all images."""
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
            self.place(torch.ones_like(self.counts, dtype=torch.bool), vectors(z), count=1.0)
        grid = self.nearest(z)
        losses = self.objective(x, z, self.embed(grid))
        opt.minimise("ae", losses["total"])

        used = self.follow(vectors(z), grid.flatten())
        if reseed_every and step > 0 and step % reseed_every == 0:
            self.place(self.counts < DEAD * self.counts.mean(), vectors(z), count=self.counts.mean())
        usage = {"perplexity": perplexity(used), "used_codes": (used > 0).sum()}
        return losses | usage | {"rms_code": rms(z)}

    def objective(self, x: Tensor, z: Tensor, e: Tensor) -> dict[str, Tensor]:
        """L of images x, encoder outputs z and their codes e, the latter two [B, d, H, W]."""
        straight_through = z + (e - z).detach()
        error = squared_error(x, self.decode(straight_through.flatten(1)))
        commitment = (z - e.detach()).square().mean()
        total = error + self.config.commitment * self.data.pixels * self.pixel_variance * commitment
        return {"total": total, "reconstruction": error, "commitment": commitment}

    @torch.no_grad()
    def follow(self, z: Tensor, chosen: Tensor) -> Tensor:
        """Move the codebook toward the vectors z [n, d] that chose its codes [n]. Returns how many chose each, [K]."""
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
    def place(self, which: Tensor, z: Tensor, count: float | Tensor) -> None:
        """Move the codes of the mask `which` [K] to random ones of the vectors z [n, d], as if chosen `count` times."""
        order = torch.randperm(len(z), device=z.device)
        picked = z[order[torch.arange(len(which), device=z.device) % len(z)]]  # [K, d], distinct where n >= K
        self.codebook.copy_(torch.where(which[:, None], picked, self.codebook))
        self.counts.copy_(torch.where(which, count, self.counts))
        self.sums.copy_(torch.where(which[:, None], picked * count, self.sums))

    # -- the prior's phase -------------------------------------------------------------------------------------------

    def prior_optimizers(self) -> dict[str, OptimizerSpec]:
        """Of the PixelCNN alone."""
        return {"prior": adam(self.pixelcnn, lr=self.config.lr_prior)}

    def update_prior(self, batches: Iterator[Tensor], opt: Optimizers, step: int) -> dict[str, Tensor]:
        """One step of the PixelCNN on index grids."""
        nll = self.nll(next(batches))
        opt.minimise("prior", nll)
        return {"nll": nll}

    def nll(self, grid: Tensor) -> Tensor:
        """Cross-entropy of index grids [B, H, W] under the PixelCNN, in nats per position. Scalar."""
        return nn.functional.cross_entropy(self.pixelcnn(grid).float(), grid.long())


class Residual(nn.Module):
    """x [B, C, H, W] plus a correction through a 3x3 and a 1x1 convolution."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.correction = initialise(
            nn.Sequential(
                nn.ReLU(), nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
            ),
            nn.init.xavier_uniform_,
        )

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + self.correction(x)


def build_grid_encoder(channels: int, outputs: int, width: float) -> nn.Sequential:
    """x [B, C, S, S] -> [B, outputs, S/4, S/4]: the convolutions of the shared encoder, then two residual blocks."""
    c1, c2, hidden = scaled(64, width), scaled(128, width), scaled(32, width)
    net = nn.Sequential(
        nn.Conv2d(channels, c1, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(c1, c2, 4, stride=2, padding=1), BatchNorm2d(c2), nn.ReLU(),
        nn.Conv2d(c2, c2, 3, padding=1), Residual(c2, hidden), Residual(c2, hidden),
        nn.Conv2d(c2, outputs, 1),
    )  # fmt: skip
    return initialise(net, nn.init.xavier_uniform_)


def build_grid_decoder(channels: int, side: int, inputs: int, width: float) -> nn.Sequential:
    """[B, inputs * side^2] -> x [B, C, 4 side, 4 side] in [0, 1]: residual blocks, then the shared decoder's end."""
    c1, c2, hidden = scaled(64, width), scaled(128, width), scaled(32, width)
    net = nn.Sequential(
        nn.Unflatten(1, (inputs, side, side)),
        nn.Conv2d(inputs, c2, 3, padding=1), Residual(c2, hidden), Residual(c2, hidden), nn.ReLU(),
        nn.ConvTranspose2d(c2, c2, 4, stride=2, padding=1), BatchNorm2d(c2), nn.ReLU(),
        nn.ConvTranspose2d(c2, c1, 4, stride=2, padding=1), BatchNorm2d(c1), nn.ReLU(),
        nn.Conv2d(c1, channels, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip
    return initialise(net, nn.init.xavier_uniform_)


def vectors(grid: Tensor) -> Tensor:
    """[B, d, H, W] -> [B H W, d], detached, in full precision."""
    return grid.detach().float().permute(0, 2, 3, 1).flatten(0, 2)


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of counts [K]: K where all are equal, 1 where only one is not zero. Scalar."""
    p = counts / counts.sum()
    return torch.special.entr(p).sum().exp()
