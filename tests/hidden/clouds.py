"""Points in space and in the plane: scalars and vectors per node, pair or edge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .case import Inputs, Mix, cloud, entry, mlp, rows

Pair = tuple[torch.Tensor, torch.Tensor]

EUCLID = "E(3) x S(nodes)"
POINTS: dict[str, str | None] = {"x": "nodes point", "h": "nodes features"}
CLOUD = cloud()


def pairs(h: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
    """[n, c] -> [n, n, 2 c + ...]."""
    n = len(h)
    return torch.cat([h[:, None].expand(n, n, -1), h[None].expand(n, n, -1), *more], -1)


def differences(x: torch.Tensor) -> Pair:
    """x_i - x_j [n, n, dimension] and squares of their lengths [n, n, 1]."""
    d = x[:, None] - x[None]
    return d, d.square().sum(-1, keepdim=True)


def radial(r2: torch.Tensor, count: int = 6) -> torch.Tensor:
    """[..., 1] -> [..., count], smooth at 0."""
    return torch.exp(-r2 / (0.5 + torch.arange(count, dtype=r2.dtype)).square())


def within(x: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Pairs nearer than the cutoff, each way: [2, edges], in the order of the nodes' numbers."""
    near = torch.cdist(x.detach(), x.detach()) < cutoff
    return (near & ~torch.eye(len(x), dtype=torch.bool)).nonzero().T


class EgnnLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.message = mlp(2 * width + 1, width, width)
        self.shift = mlp(width, width, 1)
        self.update = mlp(2 * width, width, width)

    def forward(self, h: torch.Tensor, x: torch.Tensor) -> Pair:
        d, r2 = differences(x)
        m = self.message(pairs(h, torch.exp(-r2 / 4)))
        x = x + (d / (1 + r2) * self.shift(m)).mean(1)
        return h + self.update(torch.cat([h, m.mean(1)], -1)), x


@entry("egnn", "point-cloud", EUCLID, POINTS, {"h": "nodes channel", "x": "nodes point"}, CLOUD)
class Egnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.layers = nn.ModuleList(EgnnLayer(8) for _ in range(4))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.embedding(h)
        for layer in self.layers:
            h, x = layer(h, x)
        return {"h": h, "x": x}


@entry("egnn_tied", "point-cloud", EUCLID, POINTS, "nodes vector", CLOUD)
class EgnnTied(nn.Module):
    """One layer called four times; what it moved is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.layer = EgnnLayer(8)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        start, h = x, self.embedding(h)
        for _ in range(4):
            h, x = self.layer(h, x)
        return x - start


class EdgeMessage(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = mlp(2 * width + 6, width, width)

    def forward(self, h: torch.Tensor, r2: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return self.mlp(torch.cat([h[edges[0]], h[edges[1]], radial(r2)], -1))


class Builder(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return within(x, 2.5)


@entry("egnn_cutoff", "point-cloud", EUCLID, POINTS, {"x": "nodes point", "energy": ""}, CLOUD)
class EgnnCutoff(nn.Module):
    """Makes its edges itself, in a module: their order follows the numbers of the nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = Builder()
        self.embedding = nn.Linear(4, 8)
        self.messages = nn.ModuleList(EdgeMessage(8) for _ in range(3))
        self.shifts = nn.ModuleList(nn.Linear(8, 1) for _ in range(3))
        self.updates = nn.ModuleList(mlp(16, 8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        edges, h = self.edges(x), self.embedding(h)
        for message, shift, update in zip(self.messages, self.shifts, self.updates, strict=True):
            d = x[edges[0]] - x[edges[1]]
            r2 = d.square().sum(-1, keepdim=True)
            m = message(h, r2, edges)
            x = x + rows(shift(m) * d / (1 + r2), edges[0], len(x))
            h = h + update(torch.cat([h, rows(m, edges[0], len(x))], -1))
        return {"x": x, "energy": h.square().sum()}


class PainnMessage(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scalar = mlp(width, width, 3 * width)
        self.filter = nn.Linear(6, 3 * width)

    def forward(self, s: torch.Tensor, v: torch.Tensor, d: torch.Tensor, r2: torch.Tensor, edges: torch.Tensor) -> Pair:
        receiver, sender = edges
        a, b, c = (self.scalar(s)[sender] * self.filter(radial(r2))).chunk(3, -1)
        unit = d / (1 + r2)
        vectors = b[:, None] * v[sender] + c[:, None] * unit[..., None]
        return rows(a, receiver, len(s)) / 3, rows(vectors, receiver, len(s)) / 3


class PainnUpdate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.left = nn.Linear(width, width, bias=False)
        self.right = nn.Linear(width, width, bias=False)
        self.mlp = mlp(2 * width, width, 3 * width)

    def forward(self, s: torch.Tensor, v: torch.Tensor) -> Pair:
        left, right = self.left(v), self.right(v)
        length = (right.square().sum(1) + 1e-3).sqrt()
        a, b, c = self.mlp(torch.cat([s, length], -1)).chunk(3, -1)
        return a + c * (left * right).sum(1), b[:, None] * left


@entry("painn", "point-cloud", EUCLID, POINTS, {"s": "nodes channel", "v": "nodes vector channel"}, CLOUD)
class Painn(nn.Module):
    """Vectors [nodes, 3, channel]; edges by a cutoff."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, width)
        self.messages = nn.ModuleList(PainnMessage(width) for _ in range(3))
        self.updates = nn.ModuleList(PainnUpdate(width) for _ in range(3))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        edges = within(x, 3.0)
        d = x[edges[0]] - x[edges[1]]
        r2 = d.square().sum(-1, keepdim=True)
        s, v = self.embedding(h), x.new_zeros(len(x), 3, 8)
        for message, update in zip(self.messages, self.updates, strict=True):
            ds, dv = message(s, v, d, r2, edges)
            s, v = s + ds, v + dv
            ds, dv = update(s, v)
            s, v = s + ds, v + dv
        return {"s": s, "v": v}


class ContinuousFilter(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inside = nn.Linear(width, width, bias=False)
        self.filter = mlp(6, width, width)
        self.outside = mlp(width, width, width)

    def forward(self, h: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
        return self.outside(torch.einsum("ijc,jc->ic", self.filter(basis), self.inside(h)))


@entry("schnet_forces", "point-cloud", EUCLID, POINTS, {"energy": "", "forces": "nodes vector"}, CLOUD)
class Schnet(nn.Module):
    """Invariants alone, and forces by differentiation inside."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.interactions = nn.ModuleList(ContinuousFilter(8) for _ in range(3))
        self.head = mlp(8, 8, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        x = x.requires_grad_()
        _, r2 = differences(x)
        basis = radial(r2) * (1 - torch.eye(len(x), dtype=x.dtype))[..., None]
        h = self.embedding(h)
        for interaction in self.interactions:
            h = h + interaction(h, basis) / 3
        energy = self.head(h).sum()
        return {"energy": energy, "forces": -torch.autograd.grad(energy, x, create_graph=True)[0]}


@entry("egnn_forces", "point-cloud", EUCLID, POINTS, {"energy": "", "forces": "nodes vector"}, CLOUD)
class EgnnForces(nn.Module):
    """Vectors inside, and forces by differentiation; the energy is a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Egnn()
        self.head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        x = x.detach().requires_grad_()
        out = self.body(x, h)
        energy = self.head(out["h"]).sum() + (out["x"] - out["x"].mean(0)).square().sum()
        (gradient,) = torch.autograd.grad(energy, x, create_graph=True)
        return {"energy": energy, "forces": -gradient}


class Gvp(nn.Module):
    """Scalars [n, a], vectors [n, c, 3] -> the same."""

    def __init__(self, before: tuple[int, int], after: tuple[int, int]) -> None:
        super().__init__()
        middle = max(before[1], after[1])
        self.down = Mix(before[1], middle)
        self.up = Mix(middle, after[1])
        self.scalars = nn.Linear(before[0] + middle, after[0])
        self.gates = nn.Linear(after[0], after[1])

    def forward(self, features: Pair) -> Pair:
        s, v = features
        hidden = self.down(v)
        s = self.scalars(torch.cat([s, (hidden.square().sum(-1) + 1e-6).sqrt()], -1))
        return torch.relu(s), self.up(hidden) * torch.sigmoid(self.gates(s))[..., None]


class GvpNorm(nn.Module):
    def __init__(self, scalars: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(scalars)

    def forward(self, features: Pair) -> Pair:
        s, v = features
        return self.norm(s), v / (1e-3 + v.square().sum(-1, keepdim=True).mean(-2, keepdim=True)).sqrt()


@entry("gvp", "point-cloud", EUCLID, POINTS, ("nodes channel", "nodes vector"), CLOUD)
class GvpNetwork(nn.Module):
    """Tuples between modules; nearest neighbours by distance."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.messages = nn.ModuleList(Gvp((22, 1 if k == 0 else 6), (8, 5)) for k in range(3))
        self.norms = nn.ModuleList(GvpNorm(8) for _ in range(3))
        self.last = Gvp((8, 5), (6, 1))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Pair:
        near = torch.cdist(x, x).topk(5, largest=False).indices[:, 1:]
        d = x[near] - x[:, None]
        s, v = self.embedding(h), None
        for message, norm in zip(self.messages, self.norms, strict=True):
            scalars = torch.cat([s[:, None].expand(-1, 4, -1), s[near], radial(d.square().sum(-1, keepdim=True))], -1)
            vectors = d[:, :, None] if v is None else torch.cat([d[:, :, None], v[near]], 2)
            ds, dv = message((scalars, vectors))
            s, v = norm((s + ds.mean(1), dv.mean(1) if v is None else v + dv.mean(1)))
        s, v = self.last((s, v))
        return s, v[:, 0]


class VnRelu(nn.Module):
    """[c, 3, n] -> [c, 3, n]: the part against a learned direction is cut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.direction = Mix(width, width, 0)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        k = self.direction(v)
        inner = (v * k).sum(1, keepdim=True)
        return torch.where(inner >= 0, v, v - inner * k / (1e-6 + k.square().sum(1, keepdim=True)))


class VnPool(nn.Module):
    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.cat([v, v.mean(2, keepdim=True).expand_as(v)], 0)


@entry(
    "vector_neurons", "point-cloud", "O(3) x S(nodes)", {"x": "nodes vector"}, ("channel vector", "nodes channel"),
    cloud(features=0),
)  # fmt: skip
class VectorNeurons(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Mix(3, 8, 0), VnRelu(8), VnPool(), Mix(16, 8, 0), VnRelu(8), VnPool(), Mix(16, 5, 0), VnRelu(5)
        )
        self.frame = Mix(5, 3, 0)

    def forward(self, x: torch.Tensor) -> Pair:
        d = x - x.mean(0)
        v = torch.stack([x.T, d.T, (d * d.norm(dim=-1, keepdim=True)).T])
        v = self.layers(v)
        inside = torch.einsum("cin,bin->ncb", v, self.frame(v))
        return v.mean(2), inside.flatten(1)


@dataclass
class State:
    s: torch.Tensor
    v: torch.Tensor


class StateLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = Mix(5, 5)
        self.gate = mlp(13, 8, 13)

    def forward(self, state: State) -> State:
        v = self.mix(state.v - state.v.mean(0))
        s, gate = self.gate(torch.cat([state.s, v.square().sum(-1)], -1)).split([8, 5], -1)
        return State(state.s + s, state.v + gate.tanh()[..., None] * v)


@entry("dataclasses", "point-cloud", EUCLID, POINTS, ("nodes channel", "nodes channel point"), CLOUD)
class Dataclasses(nn.Module):
    """Modules return dataclasses; vector features that translations move as points."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.layers = nn.ModuleList(StateLayer() for _ in range(3))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Pair:
        state = State(self.embedding(h), x[:, None].expand(-1, 5, -1))
        for layer in self.layers:
            state = layer(state)
        return state.s, state.v


class DictLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = mlp(17, 8, 9)

    def forward(self, features: dict[str, Any], *, geometry: dict[str, torch.Tensor]) -> dict[str, Any]:
        h, (v,) = features["h"], features["more"]
        w = self.weights(pairs(h, torch.exp(-geometry["r2"])))
        v = v + (
            w[..., :1] * geometry["d"] + 0.3 * torch.linalg.cross(geometry["d"], v[None].expand_as(geometry["d"]))
        ).mean(1)
        return {"h": h + w[..., 1:].mean(1), "more": [v]}


@entry("dicts_chiral", "point-cloud", "SE(3) x S(nodes)", POINTS, {"h": "nodes channel", "v": "nodes vector"}, CLOUD)
class Dicts(nn.Module):
    """Dicts and lists between modules, keyword arguments; cross products of polar vectors: no reflections."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.layers = nn.ModuleList(DictLayer() for _ in range(3))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        d, r2 = differences(x)
        features: dict[str, Any] = {"h": self.embedding(h), "more": [torch.zeros_like(x)]}
        for layer in self.layers:
            features = layer(features, geometry={"d": d, "r2": r2})
        return {"h": features["h"], "v": features["more"][0]}


class Reader(nn.Module):
    """Reads the geometry that its parent left with it."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: Pair | None = None
        self.mlp = mlp(17, 8, 9)

    def forward(self, h: torch.Tensor) -> Pair:
        assert self.cache is not None
        d, r2 = self.cache
        w = self.mlp(pairs(h, torch.exp(-r2)))
        return h + w[..., 1:].mean(1), (w[..., :1] * d).mean(1)


@entry("cached_geometry", "point-cloud", EUCLID, POINTS, "nodes point", CLOUD)
class CachedGeometry(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.readers = nn.ModuleList(Reader() for _ in range(3))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        h = self.embedding(h)
        for reader in self.readers:
            reader.cache = differences(x)
            h, step = reader(h)
            reader.cache = None
            x = x + step
        return x


@entry("functional", "point-cloud", EUCLID, POINTS, "nodes vector", CLOUD)
class Functional(nn.Module):
    """All geometry in the forward of the root; modules see invariants alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.radial = nn.ModuleList(mlp(17, 8, 10) for _ in range(3))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        d, r2 = differences(x)
        h = self.embedding(h)
        v = torch.zeros_like(x)
        for layer in self.radial:
            inner = (v[:, None] * d).sum(-1, keepdim=True)
            m = layer(pairs(h, torch.exp(-r2) + torch.tanh(inner)))
            v = v + torch.einsum("ij,ijk->ik", m[..., 0], d / (1 + r2)) / 5 + 0.1 * (m[..., 1] @ v)
            h = torch.nn.functional.layer_norm(h + m[..., 2:].mean(1), (8,))
        return v * h.norm(dim=-1, keepdim=True)


class ConstantVector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 + self.offset


@entry("cancelling_offset", "point-cloud", EUCLID, POINTS, "nodes vector", CLOUD)
class CancellingOffset(nn.Module):
    """A constant vector is added, and what follows takes differences."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = ConstantVector()
        self.body = EgnnTied()

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return self.body(self.shift(x), h)


@entry("cancelling_channels", "point-cloud", EUCLID, POINTS, "nodes vector", CLOUD)
class CancellingChannels(nn.Module):
    """Each channel of vectors gets an offset of its own, and is then centred over the nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 5)
        self.offset = nn.Parameter(torch.zeros(5, 3))
        self.first = Mix(5, 8)
        self.second = Mix(8, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        v = self.first(self.embedding(h).tanh()[..., None] * (x - x.mean(0))[:, None] + self.offset)
        v = v - v.mean(0)
        return self.second(v / (1 + v.square().sum(-1, keepdim=True)).sqrt())[:, 0]


class Attention(nn.Module):
    """Invariant weights over nodes, heads [n, n, 4]; values are scalars and vectors."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.distance = mlp(6, 8, heads)
        self.out = nn.Linear(width, width)
        self.mix = Mix(heads, heads)
        self.heads = heads

    def forward(self, s: torch.Tensor, v: torch.Tensor, basis: torch.Tensor) -> Pair:
        n = len(s)
        q, k, value = (f(s).view(n, self.heads, -1) for f in (self.query, self.key, self.value))
        logits = torch.einsum("ihc,jhc->hij", q, k) + self.distance(basis).permute(2, 0, 1)
        logits = logits + torch.einsum("ihk,jhk->hij", v, v)
        weights = logits.softmax(-1)
        s = s + self.out(torch.einsum("hij,jhc->ihc", weights, value).flatten(1))
        return s, v + self.mix(torch.einsum("hij,jhk->ihk", weights, v) - v)


@entry("vector_attention", "point-cloud", EUCLID, POINTS, {"s": "nodes channel", "v": "nodes heads vector"}, CLOUD)
class VectorAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.start = nn.Linear(4, 4)
        self.layers = nn.ModuleList(Attention(8) for _ in range(3))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        _, r2 = differences(x)
        s = self.embedding(h)
        v = self.start(h)[..., None] * (x - x.mean(0))[:, None]
        for layer in self.layers:
            s, v = layer(s, v, radial(r2))
        return {"s": s, "v": v}


class Rounded(nn.Module):
    """An invariant in single precision, as mixed-precision code has it."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp(8, 8, 8)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        parameters = {name: value.float() for name, value in self.mlp.named_parameters()}
        return torch.func.functional_call(self.mlp, parameters, (h.float(),)).to(h.dtype)


# What is rounded to single precision is invariant, so that its input differs by 1e-16 and rounds otherwise seldom.
@entry("mixed_precision", "point-cloud", EUCLID, POINTS, "nodes point", CLOUD, tolerance=1e-5, dtype=torch.float32)
class MixedPrecision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.first = EgnnLayer(8)
        self.rounded = Rounded()
        self.second = EgnnLayer(8)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        h, x = self.first(self.embedding(h), x)
        return self.second(self.rounded(h), x)[1]


def two_clouds(seed: int) -> Inputs:
    return {name: torch.stack([value, 0.7 * value.flip(0)]) for name, value in CLOUD(seed).items()}


@entry(
    "flattened_batch", "point-cloud", EUCLID, {"x": "batch nodes point", "h": "batch nodes features"},
    ("batch channel", "batch nodes vector"), two_clouds,
)  # fmt: skip
class FlattenedBatch(nn.Module):
    """Modules see [batch * nodes, channels]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.mix = nn.ModuleList(Mix(c, 5) for c in (1, 5, 5))
        self.gates = nn.ModuleList(mlp(13, 8, 13) for _ in range(3))
        self.head = nn.Linear(8, 6)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Pair:
        b, n, _ = x.shape
        s = self.embedding(h.flatten(0, 1))
        v = (x - x.mean(1, keepdim=True)).reshape(b * n, 1, 3)
        for mix, gate in zip(self.mix, self.gates, strict=True):
            v = mix(v)
            ds, g = gate(torch.cat([s, v.square().sum(-1)], -1)).split([8, 5], -1)
            v = v * g.sigmoid()[..., None]
            v = (v.view(b, n, 5, 3) - v.view(b, n, 5, 3).mean(1, keepdim=True)).flatten(0, 1)
            s = s + ds
        return self.head(s).view(b, n, -1).mean(1), v.view(b, n, 5, 3).sum(2)


@entry("vector_token", "point-cloud", "O(3) x S(nodes)", {"x": "nodes vector", "h": "nodes features"}, "vector", CLOUD)
class VectorToken(nn.Module):
    """A virtual node is put behind the others: scalars [n + 1, 8], vectors [n + 1, 5, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.token = nn.Parameter(torch.zeros(1, 8))
        self.layers = nn.ModuleList(StateLayer() for _ in range(2))
        self.reader = Mix(5, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        s = torch.cat([self.embedding(h), self.token])
        x = torch.cat([x, x.mean(0, keepdim=True)])
        state = State(s, x[:, None] * s[:, :5, None])
        for layer in self.layers:
            state = layer(state)
        return self.reader(state.v)[-1, 0]
