"""What tests of models share: small models, their optimizers, and a record of who moves when."""

import torch

from benchmark.losses import squared_error
from benchmark.method import Budget, DataSpec, Method
from benchmark.optim import Optimizers, adam
from benchmark.registry import Registry

M = 4


def build(name, size=8, channels=1, width=0.0625, latent_dim=M, **knobs):
    """A small untrained model, by name or class, in train mode."""
    cls = Registry().get(name) if isinstance(name, str) else name
    return cls(DataSpec("random", channels, size), cls.Config(latent_dim=latent_dim, width=width, **knobs)).train()


def phase_of(method, name=None):
    """A phase by name, or the first one."""
    phases = method.phases(Budget(10, 8))
    return phases[0] if name is None else next(p for p in phases if p.name == name)


def handle(method, lr_factor=1.0, phase=None):
    """Optimizers of a training phase, the first one unless named."""
    return Optimizers(phase_of(method, phase).optimizers(), lr_factor)


def images(n=8, channels=1, size=8):
    """Random images."""
    return torch.rand(n, channels, size, size)


def moved(method, action):
    """The networks of which any bit changed while `action` ran; every weight of such a one must have changed.

    Biases need not: the last one of a Wasserstein critic adds a constant, which has no gradient.
    """
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    action()
    changed = {name for name, p in method.named_parameters() if not torch.equal(p, before[name])}
    networks = {name.split(".")[0] for name in changed}
    weights = {name for name, p in before.items() if name.split(".")[0] in networks and p.dim() > 1}
    assert weights <= changed
    return networks


class Stream:
    """Endless random batches; `drawn` counts them."""

    def __init__(self, *shape):
        self.shape, self.drawn = shape or (8, 1, 8, 8), 0

    def __next__(self):
        self.drawn += 1
        return torch.rand(self.shape)


class Spy:
    """Passes on to real optimizers and notes what each step moves."""

    def __init__(self, method, opt):
        self.method, self.opt, self.seen = method, opt, []

    def minimise(self, name, loss):
        self.seen.append((name, moved(self.method, lambda: self.opt.minimise(name, loss))))


class PlainAE(Method):
    """Squared error only."""

    name = "plain"
    betas = (0.9, 0.999)

    def optimizers(self):
        return {"main": adam(self, betas=self.betas)}

    def loss(self, x):
        error = squared_error(x, self.reconstruct(x))
        return {"total": error, "reconstruction": error}


def reconstructions(name, per_update=1, **knobs):
    """Reconstruction losses of five updates from the same first weights and on the same batches for them."""
    torch.manual_seed(0)
    method = build(name, **knobs)
    own = torch.rand(5, 8, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    batches = iter([x if k == 0 else torch.rand_like(x) for x in own for k in range(per_update)])
    opt = handle(method, lr_factor=5.0)
    losses = [method.update(batches, opt, step)["reconstruction"].item() for step in range(5)]
    assert next(batches, None) is None
    return losses
