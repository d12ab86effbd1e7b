"""VAE+Flow: D. P. Kingma, T. Salimans, R. Jozefowicz, X. Chen, I. Sutskever, M. Welling, "Improved Variational
Inference with Inverse Autoregressive Flow", NeurIPS 2016. https://arxiv.org/abs/1606.04934

    (mu, s, h) = E(x),   z_0 = mu + s eps,   z_t = g_t z_{t-1} + (1 - g_t) m_t,   g_t = sigmoid(s_t + 1.5)
    (m_t, s_t) = autoregressive net_t(z_{t-1}, h):  entry j sees h and the coordinates before j only
    log q(z_T|x) = - sum_j [ eps_j^2 / 2 + log s_j + sum_t log g_tj ] - m/2 log 2 pi
    L = mean_b [ ||x - Dec(z_T)||^2 / (2 s_x^2) + w beta (log q(z_T|x) - log p(z_T)) ],   p = N(0, I)

The flow makes the posterior flexible. The prior stays N(0, I), so samples do not pass through the flow. Every second
step of the flow uses the coordinates in reverse order. Its masks are reversed; the vectors are not permuted. Codes are
z_T for eps = 0, which differs slightly from the posterior mean.

Choices: there are T = 4 steps of two-layer networks (MADE) with 320 units and a context of 128 values, both times
`width`. The KL term is warmed up (w rises from 0 to 1) in place of free bits. The optimizer is Adam, as for all models
of the suite, in place of Adamax.

Deviations: there is no weight normalisation with data-dependent initialisation, and no EMA of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid, softplus

from benchmark.method import DataSpec
from benchmark.networks import build_decoder, build_encoder, initialise, scaled

from .annealed_vae import AnnealedVAE, AnnealedVAEConfig

GATE_BIAS = 1.5  # makes the flow start near the identity; the article adds 1 or 2
DIAGNOSTIC_SAMPLES = 10  # posterior samples per image in `diagnostics`


@dataclass(frozen=True)
class VAEFlowConfig(AnnealedVAEConfig):
    flow_steps: int = 4  # T, number of autoregressive steps
    flow_units: int = 320  # hidden units of the network of each step, times width
    context: int = 128  # size of the context that the encoder passes to every step, times width

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(0, "flow_steps")
        self.require(1, "flow_units", "context")


class VAEFlow(AnnealedVAE):
    """VAE whose posterior is a Gaussian followed by inverse autoregressive flow steps; the prior is N(0, I)."""

    name = "vae-flow"
    title = "VAE+Flow"
    paper = "Kingma et al., NeurIPS 2016"
    year = 2016
    url = "https://arxiv.org/abs/1606.04934"
    Config = VAEFlowConfig
    config: VAEFlowConfig

    def __init__(self, data: DataSpec, config: VAEFlowConfig):
        super().__init__(data, config)
        context, units = scaled(config.context, config.width), scaled(config.flow_units, config.width)
        order = torch.arange(config.latent_dim)
        orders = [order.flip(0) if t % 2 else order for t in range(config.flow_steps)]
        self.flow = nn.ModuleList(AutoregressiveNet(o, context, units) for o in orders)

    def build_autoencoder(self) -> tuple[nn.Module, nn.Module]:
        c, d = self.config, self.data
        encoder = build_encoder(d.channels, d.size, 2 * c.latent_dim + scaled(c.context, c.width), c.width)
        return encoder, build_decoder(d.channels, d.size, c.latent_dim, c.width)

    def encoder_outputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and standard deviation of z_0, [B, m] each, and the context h, [B, H]."""
        m = self.config.latent_dim
        mean, raw, context = self.encoder(x).float().tensor_split((m, 2 * m), dim=1)
        return mean, 1e-6 + softplus(raw), context

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of z_0, before the flow, each [B, m]."""
        mean, std, _ = self.encoder_outputs(x)
        return mean, std

    def apply_flow(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return z_T [B, m] for z_0 [B, m], and the log of |det dz_T/dz_0| split over the coordinates, [B, m]."""
        log_det = torch.zeros_like(z)
        for net in self.flow:
            shift, scale = net(z, context)
            gate = scale + GATE_BIAS
            z = gate.sigmoid() * z + (-gate).sigmoid() * shift
            log_det = log_det + logsigmoid(gate)
        return z, log_det

    def sample_with_log_ratio(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return a sample z_T and log q(z_T|x) - log p(z_T) split over the coordinates, [B, m] each."""
        mean, std, context = self.encoder_outputs(x)
        eps = torch.randn_like(std)
        z, log_det = self.apply_flow(mean + std * eps, context)
        return z, (z.square() - eps.square()) / 2 - std.log() - log_det

    def sample_with_kl(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        z, log_ratio = self.sample_with_log_ratio(x)
        return z, {"kl": log_ratio.sum(1)}

    def encode(self, x: Tensor) -> Tensor:
        mean, _, context = self.encoder_outputs(x)
        return self.apply_flow(mean, context)[0]

    def sample_posterior(self, x: Tensor) -> Tensor:
        return self.sample_with_log_ratio(x)[0]

    def diagnostics(self, x: Tensor) -> dict[str, Tensor]:
        """Return an estimate of the KL, and the number of coordinates that contribute more than 0.01 nats to it."""
        kl = torch.stack([self.sample_with_log_ratio(x)[1].mean(0) for _ in range(DIAGNOSTIC_SAMPLES)]).mean(0)  # [m]
        return {"kl": kl.sum(), "active_dims_kl": (kl > 0.01).sum()}


class AutoregressiveNet(nn.Module):
    """MADE (Germain et al., ICML 2015) with context: z [B, m], h [B, H] -> shift and scale, [B, m] each.

    `order` [m] holds the position of each coordinate, 0 to m - 1. Entry j of the outputs depends on h and on the
    coordinates before j in this order. A hidden unit of degree d sees the first d coordinates. Units of degree 0 see
    only the context, so that shift and scale of the first coordinate can depend on the image. The degrees are spread
    evenly over the units.
    """

    def __init__(self, order: Tensor, context: int, units: int):
        super().__init__()
        degree = torch.arange(units) * len(order) // units
        self.first = MaskedLinear(degree[:, None] > order)
        self.context = nn.Linear(context, units)
        self.rest = nn.Sequential(
            nn.ELU(), MaskedLinear(degree[:, None] >= degree),
            nn.ELU(), MaskedLinear((order[:, None] >= degree).repeat(2, 1)),
        )  # fmt: skip
        initialise(nn.Sequential(self.first, self.context, *self.rest), nn.init.xavier_uniform_)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        return self.rest(self.first(z) + self.context(context)).float().chunk(2, dim=1)


class MaskedLinear(nn.Linear):
    """A dense layer whose output i sees input j only if mask[i, j] is true; mask [outputs, inputs]."""

    mask: Tensor

    def __init__(self, mask: Tensor):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight * self.mask, self.bias)
