"""Four-vectors (t, x, y, z): LorentzNet, and a network of masses and spins of jets."""

from __future__ import annotations

import torch
from torch import nn

from .case import Inputs, Network, generator, mlp, normal, pairs


def minkowski(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """t t' - x x' - y y' - z z' over the last axis."""
    return p[..., 0] * q[..., 0] - (p[..., 1:] * q[..., 1:]).sum(-1)


def squash(x: torch.Tensor) -> torch.Tensor:
    """A logarithm of both signs."""
    return torch.sign(x) * torch.log1p(x.abs())


class Products(nn.Module):
    """Invariants of all pairs of momenta: [n, 4] -> [n, n, 2]."""

    def forward(self, p: torch.Tensor) -> torch.Tensor:
        d = p[:, None] - p[None]
        return squash(torch.stack([minkowski(p[:, None], p[None]), minkowski(d, d)], -1))


class LorentzLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.products = Products()
        self.message = mlp(2 * width + 2, width, width)
        self.weight = nn.Linear(width, 1)
        self.update = mlp(2 * width, width, width)

    def forward(self, h: torch.Tensor, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        m = self.message(pairs(h, self.products(p)))
        p = p + 0.1 * torch.einsum("ijk,jl->il", torch.tanh(self.weight(m)), p)
        return h + self.update(torch.cat([h, m.mean(1)], -1)), p


class Volume(nn.Module):
    """A jet's last invariants, of four sums of momenta [4, 4]: the size of their determinant."""

    def forward(self, sums: torch.Tensor) -> torch.Tensor:
        return squash(torch.linalg.det(sums).square())


class Momenta(nn.Module):
    """What a network says of momenta, with upper index."""

    def forward(self, p: torch.Tensor) -> torch.Tensor:
        return p


class LorentzNet(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, width)
        self.layers = nn.ModuleList(LorentzLayer(width) for _ in range(3))
        self.weights = nn.Linear(width, 4)
        self.volume = Volume()
        self.score = mlp(width + 1, width, 2)
        self.momenta = Momenta()

    def forward(self, p: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.embedding(h)
        for layer in self.layers:
            h, p = layer(h, p)
        sums = torch.softmax(self.weights(h), 0).T @ p
        volume = self.volume(sums)
        return {"score": self.score(torch.cat([h.mean(0), volume[None]])), "p": self.momenta(p)}


def jet(seed: int) -> Inputs:
    """Particles of masses about one."""
    random = generator(seed + 33)
    n = (6, 8, 7)[seed % 3]
    k = normal(random, n, 3)
    mass = 0.5 + normal(random, n, 1).abs()
    return {
        "p": torch.cat([(k.square().sum(-1, keepdim=True) + mass.square()).sqrt(), k], -1),
        "h": normal(random, n, 3),
    }


LORENTZ = Network(
    "LorentzNet, 3 layers",
    LorentzNet,
    "O(1,3) x S(particles)",
    {"p": "particles vector", "h": "particles features"},
    {"score": "classes", "p": "particles vector"},
    jet,
)
LORENTZ.healthy("lorentz_net")


@LORENTZ.bug(
    "lorentz_energies",
    "lab-frame-constant",
    "layers.1.products",
    respected="O(3) x S(particles)",
    severity="differences of energies, in the laboratory's frame, take the place of one invariant in one layer",
)
class Energies(Products):
    def forward(self, p: torch.Tensor) -> torch.Tensor:
        d = p[:, None] - p[None]
        return squash(torch.stack([minkowski(p[:, None], p[None]), 2 * d[..., 0].abs()], -1))


@LORENTZ.bug(
    "lorentz_signed_volume",
    "parity",
    "volume",
    respected="SO+(1,3) x S(particles)",
    broken=("score",),
    severity="one of two outputs sees the sign of a determinant of four momenta",
)
class SignedVolume(Volume):
    def forward(self, sums: torch.Tensor) -> torch.Tensor:
        return 3 * torch.sign(torch.linalg.det(sums)) + super().forward(sums)


@LORENTZ.bug(
    "lorentz_float32_products",
    "low-precision",
    "layers.1.products",
    least=1e-9,
    respected="S(particles)",
    severity="computed in single precision inside, also in a network in double precision",
    verdict="PASS",
)
class SingleProducts(Products):
    def forward(self, p: torch.Tensor) -> torch.Tensor:
        return super().forward(p.float()).to(p.dtype)


class LowerMomenta(nn.Module):
    """Momenta with lower index, as gradients have them."""

    def forward(self, p: torch.Tensor) -> torch.Tensor:
        return p * torch.tensor([1, -1, -1, -1], dtype=p.dtype)


def lowered() -> nn.Module:
    net = LorentzNet()
    net.momenta = LowerMomenta()
    return net


LORENTZ.but(make=lowered).misdeclared(
    "lorentz_lower_index",
    "wrong-declaration",
    also_right=("momenta",),
    respected="O(3) x S(particles)",
    broken=("p",),
    severity="boosts and one of two outputs alone: an index that is down, declared up",
    repair={"out_layouts": {"score": "classes", "p": "particles covector"}},
)


def fast(seed: int) -> Inputs:
    """Particles of mass 0.5 with momenta of about 300."""
    given = jet(seed)
    k = 300 * given["p"][:, 1:] / given["p"][:, 1:].norm(dim=-1, keepdim=True)
    k = k * (1 + 0.2 * given["h"][:, :1].tanh())
    energy = (k.square().sum(-1, keepdim=True) + 0.25).sqrt()
    return {"p": torch.cat([energy, k], -1), "h": given["h"]}


class Masses(nn.Module):
    """Squares of the masses of particles, from products of nearby numbers."""

    def forward(self, p: torch.Tensor) -> torch.Tensor:
        return minkowski(p, p)[:, None]


class JetNet(nn.Module):
    """DeepSets of masses, and weights for a jet's axis."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.masses = Masses()
        self.local = mlp(4, width, width)
        self.context = nn.Linear(width, width)
        self.weights = mlp(width, width, 1)

    def forward(self, p: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        f = self.local(torch.cat([h, squash(self.masses(p))], -1))
        f = torch.relu(f + self.context(f.mean(0)))
        return (torch.softmax(self.weights(f), 0) * p).sum(0)


JETS = Network(
    "DeepSets of masses, jet axis",
    JetNet,
    "SO+(1,3) x S(particles)",
    {"p": "particles vector", "h": "particles features"},
    "vector",
    fast,
)
JETS.rounding(
    "jet_masses_cancel",
    "numerical-precision",
    least=1e-4,
    severity="exact in double precision; small masses are differences of large squares",
    verdict="NEEDS_ATTENTION",
)
