"""What a test network declares: inputs, group, layouts, and the bugs that can be planted in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import nn

Inputs = dict[str, torch.Tensor]

# The parts that the groups of this folder are made of; "inversion" is minus the identity, so that
# O(3) is rotation x inversion and each part can be drawn alone.
PARTS = {
    "SO(3)": ("rotation",),
    "O(3)": ("rotation", "inversion"),
    "SE(3)": ("rotation", "translation"),
    "E(3)": ("rotation", "inversion", "translation"),
    "T(3)": ("translation",),
}


def parts(group: str) -> tuple[str, ...]:
    """The parts of a product such as ``E(3) x S(nodes)``."""
    found: list[str] = []
    for factor in group.split(" x "):
        found += ("permutation",) if factor.startswith("S(") else PARTS[factor]
    return tuple(found)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What is built within has this precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@dataclass(frozen=True)
class Bug:
    """One way to get a network wrong.

    build: severity -> the network with the bug; the relative error of ``output`` is about the
        severity (within a factor 30), and vanishes with it.
    factors: the parts of the group (see ``PARTS``) that break ``output`` when drawn alone; every
        other part leaves ``output`` right.
    output: the output that shows it most; others may show it too.
    module: qualified name of the module whose forward holds the mistake.
    """

    name: str
    build: Callable[[float], nn.Module]
    factors: tuple[str, ...]
    output: str
    module: str

    @property
    def factor(self) -> str:
        """The first of the parts that the bug breaks."""
        return self.factors[0]


@dataclass(frozen=True)
class Case:
    """A healthy network with everything that an audit of it has to be told.

    build: the network in f32, in eval mode, the same at every call.
    inputs: seed -> keyword arguments of one call, in f32.
    factory: dtype -> the same network with its constants computed in that dtype; None where
        ``build().double()`` is as good.
    floor: largest relative error of ``build().double()`` that rounding explains.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    group: str
    in_layouts: dict[str, str | None]
    out_layouts: Any
    bugs: dict[str, Bug] = field(default_factory=dict)
    factory: Callable[[torch.dtype], nn.Module] | None = None
    floor: float = 1e-12


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the global generator inside the block and restores it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with SiLU between them (none after the last)."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class KeepFirst(nn.Module):
    """Returns its first argument: what stands where a bug can be planted."""

    def forward(self, value: torch.Tensor, *_: Any) -> torch.Tensor:
        return value


def rms(value: torch.Tensor) -> torch.Tensor:
    """Root mean square over all entries."""
    return value.square().mean().sqrt()


def like(term: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """``term`` scaled to the norm of ``reference``."""
    return term * (reference.norm() / term.norm())
