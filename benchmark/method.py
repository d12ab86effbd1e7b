"""The contract between a model and the harness.

A model is one subclass of `Method` in one file. It overrides only what its paper defines:

    class MyAE(Method[MyConfig]):
        name, title, paper, year = "my-ae", "My AE", "Somebody et al., Venue 2026", 2026
        Config = MyConfig                        # a frozen dataclass that extends MethodConfig

        def loss(self, x):                       # x [B, C, S, S] in [0, 1]
            return {"total": ..., "reconstruction": ..., "regulariser": ...}

Adversarial methods override `optimizers` and `update`. Methods with a second stage or a fitted density override
`phases`. The harness takes care of devices, precision, checkpoints, logging, seeds and scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from .networks import build_decoder, build_encoder, noise
from .optim import Optimizers, OptimizerSpec, adam


@dataclass(frozen=True)
class DataSpec:
    """The facts about the data that a model may use when it is built."""

    name: str  # name of the dataset
    channels: int  # C: 1 or 3 for images; for vectors, the number of values in a vector
    size: int  # S: side in pixels, a multiple of 4; 1 for vectors, which are [B, D, 1, 1] and unbounded

    @property
    def pixels(self) -> int:
        """D = C * S * S, the number of values of one image."""
        return self.channels * self.size**2

    @property
    def is_vector(self) -> bool:
        """Whether the data are vectors: images of one pixel with one channel per value."""
        return self.size == 1

    @property
    def is_large_colour(self) -> bool:
        """Whether the data are colour images of 64x64 pixels or more."""
        return self.channels == 3 and self.size >= 64


def weight_for(data: DataSpec, grey: float, small_colour: float, large_colour: float) -> float:
    """Return the loss weight for this kind of data, given the weights that a paper uses for three kinds of images.

    The rule: colour images take `large_colour` from 64x64 pixels on, and `small_colour` below. Grey images take `grey`,
    which is the weight for 28x28 = 784 pixels; smaller ones take it times pixels / 784. Vectors count as grey images
    with one pixel per value.
    """
    if data.channels == 1 or data.is_vector:
        return grey * min(1.0, data.pixels / 784)
    return large_colour if data.is_large_colour else small_colour


@dataclass(frozen=True)
class MethodConfig:
    """Knobs that every model has.

    Subclass it as a frozen dataclass. Give each further knob a default and a trailing comment; the comment becomes the
    knob's description on the model's card.
    """

    latent_dim: int = 32  # m, size of the latent code
    width: float = 1.0  # factor on the number of channels and units of every network

    def require(self, minimum: float, *names: str, above: bool = False) -> None:
        """Raise ValueError if a knob is below `minimum`; with `above=True`, also if it is equal.

        A knob that is None passes. Call it in `__post_init__`.
        """
        for name in names:
            value = getattr(self, name)
            if value is not None and (value < minimum or (above and value == minimum)):
                raise ValueError(f"{name} is {value}; it must be {'greater than' if above else 'at least'} {minimum}")


ConfigT = TypeVar("ConfigT", bound=MethodConfig)


@dataclass(frozen=True)
class Budget:
    """Outer steps and batch size, equal for all models. An outer step is one call of `Method.update`."""

    steps: int  # outer updates
    batch_size: int  # images per batch


Update = Callable[[Iterator[Tensor], Optimizers, int], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Train:
    """A phase of gradient steps.

    `update(batches, opt, step)` does one outer step and returns scalars to log.

    `inputs` maps images [B, C, S, S] to the tensors that the phase trains on, for example frozen codes or index grids.
    The harness applies it once to every training image, in eval mode, when the phase begins; `batches` then draws from
    the result. `inputs` may depend only on weights and buffers that the phase leaves unchanged, batch-norm averages
    included, because a resumed run computes it again.
    """

    name: str
    steps: int
    optimizers: Callable[[], Mapping[str, OptimizerSpec]]
    update: Update
    inputs: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Fit:
    """A closed-form or scikit-learn fit on the training images. It runs once, in eval mode.

    `fit(images)` gets an iterator over all training images in order, as batches [B, C, S, S]. It must write its result
    into buffers of the method. Then sampling needs torch alone, and one safetensors file holds the whole model.
    """

    name: str
    fit: Callable[[Iterator[Tensor]], None]


class Method(nn.Module, Generic[ConfigT]):
    """A generative auto-encoder. The defaults give a deterministic one with prior N(0, I); only `loss` is abstract.

    `Method[MyConfig]` tells a type checker the type of `self.config`; a plain `Method` works too. A subclass of a model
    with a config of its own declares `config: ItsConfig` in its body.

    The class attributes describe the model:
    `name` is typed on the command line, `title` is printed; `paper`, `year` and `url` cite the source.
    `version` must be raised when a change of the code changes the numbers.
    `ema_decay` turns on an exponential moving average (EMA) of the weights; it replaces them for sampling and export.
    `ema_modules` limits the EMA to some submodules.
    `tuning_grid` maps one knob to three values. It is for a knob that the sources leave open or disagree about;
    `flexbench tune` compares the values on the validation split.
    `images_only` is the reason why the model cannot be trained on vectors; it is empty if it can.

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
    ema_modules: ClassVar[tuple[str, ...]] = ()  # names of submodules; empty: all
    tuning_grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    images_only: ClassVar[str] = ""
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    config: ConfigT

    def __init__(self, data: DataSpec, config: ConfigT):
        super().__init__()
        self.data, self.config = data, config
        self.encoder, self.decoder = self.build_autoencoder()

    def build_autoencoder(self) -> tuple[nn.Module, nn.Module]:
        """Return the encoder (m outputs) and the decoder (m inputs). Override it for other sizes or networks."""
        c, d = self.config, self.data
        return (
            build_encoder(d.channels, d.size, c.latent_dim, c.width),
            build_decoder(d.channels, d.size, c.latent_dim, c.width),
        )

    # -- the model -----------------------------------------------------------------------------------------------

    @property
    def code_dim(self) -> int:
        """Number of values in one code: m, unless the latent space is not a plain vector."""
        return self.config.latent_dim

    def encode(self, x: Tensor) -> Tensor:
        """Map images [B, C, S, S] in [0, 1] to codes [B, code_dim], deterministically."""
        return self.encoder(x)

    def sample_posterior(self, x: Tensor) -> Tensor:
        """Return one sample of q(z|x) per image, codes [B, code_dim]. A deterministic encoder returns `encode(x)`."""
        return self.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """Map codes [B, code_dim] to images [B, C, S, S] in [0, 1]."""
        return self.decoder(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Map images to images in [0, 1], deterministically."""
        return self.decode(self.encode(x))

    def prior(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n codes [n, code_dim] from the prior. With a (CPU) generator they are the same on every device."""
        return noise(n, self.config.latent_dim, self.device, generator)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Return n generated images [n, C, S, S] in [0, 1]."""
        return self.decode(self.prior(n, generator))

    def diagnostics(self, x: Tensor) -> Mapping[str, Tensor]:
        """Return scalars that tell whether the trained model is sound. x are training images [N, C, S, S]; eval mode.

        N is about 1,000. The harness measures the RMS and the active dimensions of the codes and the distance between
        prior and codes for every model. Add only the diagnostics of this model: KL, code usage, effective sample size.
        """
        return {}

    # -- training ------------------------------------------------------------------------------------------------

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        """Return the scalars of one batch. "total" is minimised; all are logged.

        It is abstract, unless `update` is overridden.
        """
        raise NotImplementedError(f"{type(self).__name__} must define loss, or optimizers and update")  # abstract

    def optimizers(self) -> dict[str, OptimizerSpec]:
        """Return the optimizers of the default phase: one Adam for all parameters, named "main"."""
        return {"main": adam(self)}

    def update(self, batches: Iterator[Tensor], opt: Optimizers, step: int) -> Mapping[str, Tensor]:
        """Do one outer step and return scalars to log. Every next(batches) is a fresh batch.

        The default minimises the "total" of `loss` on one batch with optimizer "main".
        """
        losses = self.loss(next(batches))
        opt.minimise("main", losses["total"])
        return losses

    def phases(self, budget: Budget) -> list[Train | Fit]:
        """Return the phases of training in order; their names must differ. Default: one `Train` over the budget."""
        return [Train("train", budget.steps, self.optimizers, self.update)]

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device
