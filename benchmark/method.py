"""The contract between a model and the harness: the method tells the story, the harness does the rest.

A model is one subclass of `Method` in one file. It overrides only what its paper defines:

    class MyAE(Method):
        name, title, paper, year = "my-ae", "My AE", "Somebody et al., Venue 2026", 2026
        Config = MyConfig                        # a frozen dataclass that extends MethodConfig

        def loss(self, x):                       # x [B, C, S, S] in [0, 1]
            return {"total": ..., "reconstruction": ..., "penalty": ...}

Adversarial methods override `optimizers` and `update`; methods with a second stage or a fitted density
override `phases`. Devices, precision, checkpoints, logging, seeds and scores are not a method's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .networks import build_decoder, build_encoder, noise
from .optim import Optimizers, OptimizerSpec, adam


@dataclass(frozen=True)
class DataSpec:
    """What a model may know of its data before it sees any."""

    name: str  # dataset, e.g. "mnist"
    channels: int  # C: 1 or 3; of vectors, how many numbers they have
    size: int  # S: side in pixels, a multiple of 4; 1 for vectors, which are [B, D, 1, 1] with values of any size

    @property
    def pixels(self) -> int:
        """D = C * S * S, the number of values of one image."""
        return self.channels * self.size**2

    @property
    def is_vector(self) -> bool:
        """Vectors are images of one pixel, with a channel for each number."""
        return self.size == 1

    @property
    def like_celeba(self) -> bool:
        """Colour images of 64x64 or more."""
        return self.channels == 3 and self.size >= 64


def weight_for(data: DataSpec, mnist: float, cifar10: float, celeba: float) -> float:
    """Of a loss weight that a paper gives for three datasets, the one for this kind of image.

    Grey images take MNIST's, times their share of 784 pixels if they are smaller; so do vectors, whose numbers count
    as pixels. Colour ones take CelebA's from 64x64 on.
    """
    if data.channels == 1 or data.is_vector:
        return mnist * min(1.0, data.pixels / 784)
    return celeba if data.like_celeba else cifar10


@dataclass(frozen=True)
class MethodConfig:
    """Knobs that every model has. Subclass it, frozen, and give each further knob a default and a trailing comment."""

    latent_dim: int = 32  # m, size of the latent code
    width: float = 1.0  # scales the base sizes 64 / 128 / 1024 of every network

    def require(self, minimum: float, *names: str, above: bool = False) -> None:
        """For `__post_init__`: ValueError if a knob is below `minimum` (or equal to it, with `above`); None passes."""
        for name in names:
            value = getattr(self, name)
            if value is not None and (value < minimum or (above and value == minimum)):
                raise ValueError(f"{name} is {value}; it must be {'greater than' if above else 'at least'} {minimum}")


@dataclass(frozen=True)
class Budget:
    """What every model of a comparison may spend."""

    steps: int  # outer updates
    batch_size: int  # images per batch


Update = Callable[[Iterator[Tensor], Optimizers, int], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Train:
    """A phase of gradient steps. `update(batches, opt, step)` does one and returns scalars to log.

    `inputs` maps images [B, C, S, S] to what the phase trains on (frozen latents, code grids). It is applied
    once to every training image, in eval mode, when the phase begins, and `batches` then draws from the result. It
    must depend only on what the phase leaves alone, batch-norm averages included: a resumed run computes it again.
    """

    name: str
    steps: int
    optimizers: Callable[[], Mapping[str, OptimizerSpec]]
    update: Update
    inputs: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Fit:
    """A closed-form or scikit-learn fit on the training images, run once, in eval mode.

    `fit(images)` gets an iterable over all training images in order, as batches [B, C, S, S]; it must write its
    result into buffers of the method, so that sampling is torch and one safetensors file is the whole model.
    """

    name: str
    fit: Callable[[Iterator[Tensor]], None]


class Method(nn.Module):
    """A generative auto-encoder. The defaults make a plain one with prior N(0, I); `loss` is the only abstract member.

    Class attributes describe it: `name` (as typed), `title` (as printed), `paper`, `year`, `url`; `version` is raised
    when a change of the code changes the numbers; `ema_decay` turns on an average of the weights that replaces them
    for sampling and export, `ema_modules` limits it to some of the networks. `tuning_grid` maps one knob, which the
    sources leave open or disagree about, to the three values that `flexbench tune` compares on the validation split;
    `images_only` says why the model makes no sense on vectors that are no images, where it does not.

    Logged losses may have any name. Three names have one meaning in all models, and shared figures draw them:
    `reconstruction`, the squared error of an image or vector, summed over its values; `distance`, a critic's estimate
    of the Wasserstein distance of prior and codes; `distance_per_rms`, the same over the root mean square of the codes.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    year: ClassVar[int | None] = None
    url: ClassVar[str] = ""
    version: ClassVar[int] = 1
    ema_decay: ClassVar[float | None] = None
    ema_modules: ClassVar[tuple[str, ...]] = ()  # names of the submodules that `ema_decay` is about; empty: all
    tuning_grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    images_only: ClassVar[str] = ""
    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(self, data: DataSpec, config: MethodConfig):
        super().__init__()
        self.data, self.config = data, config
        self.encoder, self.decoder = self.build_autoencoder()

    def build_autoencoder(self) -> tuple[nn.Module, nn.Module]:
        """The shared encoder (m outputs) and decoder (m inputs); override for other sizes or own nets."""
        c, d = self.config, self.data
        return (
            build_encoder(d.channels, d.size, c.latent_dim, c.width),
            build_decoder(d.channels, d.size, c.latent_dim, c.width),
        )

    # -- what the model is ---------------------------------------------------------------------------------------

    @property
    def code_dim(self) -> int:
        """Numbers in one code: m, unless the model's latent space is not a plain vector."""
        return self.config.latent_dim

    def encode(self, x: Tensor) -> Tensor:
        """Images [B, C, S, S] in [0, 1] -> codes [B, code_dim], deterministic."""
        return self.encoder(x)

    def sample_posterior(self, x: Tensor) -> Tensor:
        """Images -> codes [B, code_dim] as training sees them: a draw of q(z|x) where the encoder is stochastic."""
        return self.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """Codes [B, code_dim] -> images [B, C, S, S] in [0, 1]."""
        return self.decoder(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Images -> images in [0, 1], deterministic."""
        return self.decode(self.encode(x))

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n codes [n, code_dim] from the model's prior. With a (CPU) generator the draw is the same on every device."""
        return noise(n, self.config.latent_dim, self.device, generator)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n generated images [n, C, S, S] in [0, 1]."""
        return self.decode(self.prior(n, generator))

    def diagnostics(self, x: Tensor) -> Mapping[str, Tensor]:
        """Scalars that tell whether the trained model is sound, in eval mode, from training images x [N, C, S, S].

        N is about 1,000. RMS and active dimensions of the codes and the distance between prior and codes are
        measured for every model; name here only what is this model's own (KL, code usage, effective sample size).
        """
        return {}

    # -- how it is trained ---------------------------------------------------------------------------------------

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Scalars of one batch; "total" is minimised, the others are logged. Abstract for single-optimizer methods."""
        raise NotImplementedError(f"{type(self).__name__} must define loss, or optimizers and update")  # abstract

    def optimizers(self) -> dict[str, OptimizerSpec]:
        """The optimizers of the default phase: one Adam over everything, named "main"."""
        return {"main": adam(self)}

    def update(self, batches: Iterator[Tensor], opt: Optimizers, step: int) -> Mapping[str, Tensor]:
        """One step; by default, minimise "main" on the loss of a batch. Every next(batches) is a fresh one."""
        losses = self.loss(next(batches))
        opt.minimise("main", losses["total"])
        return losses

    def phases(self, budget: Budget) -> list[Train | Fit]:
        """What happens in order; phase names must differ. Default: one `Train` over the whole budget."""
        return [Train("train", budget.steps, self.optimizers, self.update)]

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return next(self.parameters()).device
