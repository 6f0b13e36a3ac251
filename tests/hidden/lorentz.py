"""Four-vectors (t, x, y, z) under Lorentz transformations."""

from __future__ import annotations

import torch
from torch import nn

from .case import NODES, Inputs, Mix, entry, generator, mlp, normal

#: (t, x, y, z), signature + - - -.
METRIC = (1.0, -1.0, -1.0, -1.0)
PARTICLES: dict[str, str | None] = {"p": "particles vector", "h": "particles features"}
PROPER = "SO+(1,3) x S(particles)"
# Boosts by a rapidity below 1 enlarge roundings by less than e^2 per product.
ROUNDING = 1e-9


def particles(seed: int) -> Inputs:
    """``p`` [n, 4] with masses of about one, ``h`` [n, 3]."""
    random = generator(seed)
    n = NODES[seed % 3]
    momentum = normal(random, n, 3)
    energy = (0.5 + normal(random, n, 1).square() + momentum.square().sum(1, keepdim=True)).sqrt()
    return {"p": torch.cat([energy, momentum], 1), "h": normal(random, n, 3)}


def dot(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Minkowski products along the last axis."""
    return (p * q * p.new_tensor(METRIC)).sum(-1)


def squash(x: torch.Tensor) -> torch.Tensor:
    return x.sign() * torch.log1p(x.abs())


class LorentzBlock(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.message = mlp(2 * width + 2, width, width)
        self.gate, self.shift = nn.Linear(width, 1), nn.Linear(width, 1)
        self.update = mlp(2 * width, width, width)

    def forward(self, h: torch.Tensor, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n = len(h)
        d = p[:, None] - p
        inner = torch.stack([squash(dot(d, d)), squash(dot(p[:, None], p))], -1)
        m = self.message(torch.cat([h[:, None].expand(n, n, -1), h[None].expand(n, n, -1), inner], -1))
        m = m * torch.sigmoid(self.gate(m))
        p = p + 0.1 * (self.shift(m) * d).mean(1)
        return h + self.update(torch.cat([h, m.mean(1)], 1)), p


@entry(
    "lorentznet", "Lorentz", PROPER, PARTICLES, {"h": "particles channel", "p": "particles vector"}, particles, ROUNDING
)
class LorentzNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, 8)
        self.blocks = nn.ModuleList(LorentzBlock() for _ in range(3))

    def forward(self, p: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.embedding(h)
        for block in self.blocks:
            h, p = block(h, p)
        return {"h": h, "p": p}


class FourGate(nn.Module):
    """[n, c, 4] scaled by functions of its products."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp(5, 8, 5)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v * torch.sigmoid(self.mlp(squash(dot(v, v))))[..., None]


@entry(
    "four_vector_channels",
    "Lorentz",
    "O(1,3) x S(particles)",
    PARTICLES,
    ("vector", "particles channel"),
    particles,
    ROUNDING,
)
class FourVectorChannels(nn.Module):
    """Linear maps over channels and gates; reflections of space and time too."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Linear(3, 5)
        self.mixes = nn.ModuleList(Mix(5, 5) for _ in range(3))
        self.gates = nn.ModuleList(FourGate() for _ in range(3))
        self.last = Mix(5, 1)

    def forward(self, p: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        v = self.weights(h)[..., None] * p[:, None]
        for mix, gate in zip(self.mixes, self.gates, strict=True):
            v = v + gate(mix(v - 0.5 * v.mean(0)))
        return self.last(v).mean((0, 1)), squash(dot(v, v))


class PairLayer(nn.Module):
    """[n, n, c]: rows, columns, diagonal, all."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.linear = nn.Linear(5 * before, after)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        n = len(t)
        diagonal = t.diagonal(dim1=0, dim2=1).T
        parts = [
            t, t.transpose(0, 1), t.mean(0, keepdim=True).expand_as(t), diagonal[:, None].expand(n, n, -1),
            t.mean((0, 1)).expand_as(t),
        ]  # fmt: skip
        return torch.relu(self.linear(torch.cat(parts, -1)))


@entry("pelican", "Lorentz", "O(1,3) x S(particles)", {"p": "particles vector"}, {"score": "", "p": "vector"},
       lambda seed: {"p": particles(seed)["p"]}, ROUNDING)  # fmt: skip
class Pelican(nn.Module):
    """All products at once, then a network of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(PairLayer(1, 6), PairLayer(6, 6), PairLayer(6, 5))
        self.score, self.weights = nn.Linear(5, 1), nn.Linear(5, 1)

    def forward(self, p: torch.Tensor) -> dict[str, torch.Tensor]:
        t = self.layers(squash(dot(p[:, None], p))[..., None])
        return {"score": self.score(t).mean(), "p": (self.weights(t.mean(1)) * p).sum(0)}


class LorentzAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (Mix(4, 4) for _ in range(3))
        self.scalar = nn.Linear(4, 4)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        q, k = self.query(v), self.key(v)
        weights = squash(torch.einsum("icm,jcm,m->ij", q, k, v.new_tensor(METRIC))).softmax(-1)
        v = v + torch.einsum("ij,jcm->icm", weights, self.value(v))
        return v * torch.sigmoid(self.scalar(squash(dot(v, v))))[..., None]


@entry(
    "lorentz_attention",
    "Lorentz",
    PROPER,
    PARTICLES,
    {"p": "particles vector", "mass": "particles"},
    particles,
    ROUNDING,
)
class LorentzTransformer(nn.Module):
    """Logits are products of four-vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Linear(3, 4)
        self.layers = nn.ModuleList(LorentzAttention() for _ in range(3))
        self.last = Mix(4, 1)

    def forward(self, p: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        v = self.weights(h)[..., None] * p[:, None]
        for layer in self.layers:
            v = layer(v)
        p = self.last(v)[:, 0]
        return {"p": p, "mass": squash(dot(p, p))}


class FieldStrength(nn.Module):
    """Rank 2 [n, c, 4, 4]: products by the metric, acting on four-vectors [n, c, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.mix = Mix(5, 5, 1), Mix(5, 5, 1), Mix(5, 5, 1)

    def forward(self, f: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        metric = torch.diag(f.new_tensor(METRIC))
        f = self.left(f) + self.right(f) @ metric @ f
        size = squash(torch.einsum("icmn,icmn,m,n->ic", f, f, metric.diagonal(), metric.diagonal()))
        f = f / (1 + size.square())[..., None, None]
        v = v + self.mix((f @ metric @ v[..., None])[..., 0]) / (1 + size.abs())[..., None]
        return f, v


@entry(
    "field_strength",
    "Lorentz",
    PROPER,
    PARTICLES,
    ("particles channel vector vector", "particles channel vector"),
    particles,
    ROUNDING,
)
class FieldStrengths(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Linear(3, 5)
        self.layers = nn.ModuleList(FieldStrength() for _ in range(2))

    def forward(self, p: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        v = torch.tanh(self.weights(h))[..., None] * p[:, None]
        total = p.mean(0)
        f = v[..., None] * total - total[:, None] * v[..., None, :]
        f = f / (1 + squash(dot(p, p)).abs())[:, None, None, None]
        for layer in self.layers:
            f, v = layer(f, v)
        return f, v


@entry(
    "covector_gradient", "Lorentz", PROPER, PARTICLES, {"action": "", "k": "particles covector"}, particles, ROUNDING
)
class CovectorGradient(nn.Module):
    """An invariant, and its gradient: a covector."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(7, 12, 1)

    def forward(self, p: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        p = p.detach().requires_grad_()
        n = len(p)
        inner = dot(p[:, None], p)[..., None]
        inner = inner / (1 + inner.square()).sqrt()
        action = self.body(torch.cat([h[:, None].expand(n, n, -1), h[None].expand(n, n, -1), inner], -1)).mean()
        return {"action": action, "k": torch.autograd.grad(action, p, create_graph=True)[0]}
