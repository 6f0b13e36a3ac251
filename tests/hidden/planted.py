"""Networks of eight layers in plain torch, a family each, with one bug planted at a chosen depth.

A bug of a module takes the place of its class: the module stays a leaf at its path, returns what it should plus
``strength`` times what is wrong, and keeps its parameters. ``"container"`` is a bug in the layer's own forward, between
two of its modules. Families that move space, and their bugs: ``"nonlinearity"`` (tanh of each component), ``"linear"``
(components permuted), ``"norm"`` (LayerNorm over components), ``"bias"`` (a constant vector), ``"sign"`` (of one
component), ``"channel"`` (the moduli of one channel's components), ``"half"`` (one component in bfloat16), ``"leak"``
(coordinates themselves, where differences or products are due), ``"order"`` (weights by position in the list). On sets
and images what is wrong depends on the position along the axis that the group moves, in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from networks.case import seeded

from .case import Entry, Inputs, Mix, cloud, drawn, mlp, rows
from .clouds import differences, pairs, within
from .graphs import graph
from .images import GroupConv, Lift, images
from .lorentz import METRIC, PARTICLES, PROPER, ROUNDING, dot, particles, squash
from .sets import elements

LAYERS = 8
#: Where a bug is planted unless told otherwise: errors have layers before and after it.
DEPTH = 3

Wrong = Callable[..., torch.Tensor]
Pair = tuple[torch.Tensor, torch.Tensor]


def ramp(y: torch.Tensor, axis: int) -> torch.Tensor:
    """-1 to 1 along an axis, so that it can be multiplied."""
    shape = [1] * y.dim()
    shape[axis] = -1
    return torch.linspace(-1, 1, y.shape[axis], dtype=y.dtype).view(shape)


def first(y: torch.Tensor, axis: int, count: int = 1) -> torch.Tensor:
    """1 at the first ``count`` positions along an axis, else 0."""
    return (ramp(y, axis) < torch.linspace(-1, 1, y.shape[axis], dtype=y.dtype)[count]).to(y.dtype)


def components(axis: int, channel: int | None) -> dict[str, Wrong]:
    """What can be wrong with vectors whose components, and channels, lie along these axes."""
    made: dict[str, Wrong] = {
        "nonlinearity": lambda y, *_: torch.tanh(2 * y),
        "linear": lambda y, *_: y.roll(1, axis),
        "norm": lambda y, *_: (y - y.mean(axis, keepdim=True)) / (1e-5 + y.var(axis, keepdim=True)).sqrt(),
        "bias": lambda y, *_: y + 0.3 * (ramp(y, axis) + 0.4),
        "sign": lambda y, *_: y * (1 - 2 * first(y, axis)),
        "half": lambda y, *_: y + first(y, axis) * (y.bfloat16().to(y.dtype) - y),
    }
    if channel is not None:
        made["parity"] = lambda y, *_: torch.linalg.cross(y, y.roll(1, channel), dim=axis)
        made["channel"] = lambda y, *_: y + first(y, channel) * (y.abs() - y)
    return made


def positions(axis: int, channel: int) -> dict[str, Wrong]:
    """What can be wrong with features of elements or pixels along an axis."""
    return {
        "nonlinearity": lambda y, *_: torch.tanh(y * (1 + 0.5 * ramp(y, axis))),
        "leak": lambda y, *_: y + ramp(y, axis),
        "norm": lambda y, *_: y - (y * first(y, axis, 3)).sum(axis, keepdim=True) / 3,
        "sign": lambda y, *_: y * (1 - 2 * first(y, axis)),
        "half": lambda y, *_: y + first(y, axis, y.shape[axis] // 2) * (y.bfloat16().to(y.dtype) - y),
        "channel": lambda y, *_: y + first(y, channel) * (y * ramp(y, axis) - y),
    }


def plant(module: nn.Module, wrong: Wrong, strength: float) -> None:
    """Lets the (first) result of a module be wrong by ``strength * (wrong(y, *arguments) - y)``."""
    kind: Any = type(module)

    def forward(self: nn.Module, *arguments: torch.Tensor) -> Any:
        right = kind.forward(self, *arguments)
        y = right[0] if isinstance(right, tuple) else right
        y = y + strength * (wrong(y, *arguments) - y)
        return (y, *right[1:]) if isinstance(right, tuple) else y

    module.__class__ = type(f"Wrong{kind.__name__}", (kind,), {"forward": forward, "__module__": __name__})


class Layer(nn.Module):
    """``strength``: of what the layer's own forward does wrong between two modules, along ``axis``."""

    axis = -1

    def __init__(self) -> None:
        super().__init__()
        self.strength = 0.0

    def between(self, y: torch.Tensor) -> torch.Tensor:
        return y * (1 + self.strength * ramp(y, self.axis)) if self.strength else y


class Squash(nn.Module):
    """Vectors with components along ``axis`` to below length one."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v / (1 + v.square().sum(self.axis, keepdim=True)).sqrt()


class VectorNorm(nn.Module):
    """Mean square length over all but the first axis, removed."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v / (1e-2 + v.square().flatten(1).mean(1).view(-1, *[1] * (v.dim() - 1))).sqrt()


class Weighted(nn.Module):
    """Sum over senders: [n, m, ...] and weights [n, m, ...] -> [n, ...]."""

    def forward(self, values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return (values * weights).mean(1)


def uneven(_: torch.Tensor, values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """``Weighted`` whose weights depend on the senders' numbers."""
    return (values * weights * (1 + ramp(values, 1))).mean(1)


# --- points ----------------------------------------------------------------------------------------------------------


class Geometry(nn.Module):
    """Positions -> squared distances, differences."""

    def forward(self, x: torch.Tensor) -> Pair:
        d, r2 = differences(x)
        return torch.exp(-r2 / 4), d / (1 + r2)


def absolute(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return y + 0.5 * x[:, None, :1]


class EgnnLayer(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.geometry = Geometry()
        self.message = mlp(17, 8, 8)
        self.weigh = nn.Linear(8, 1)
        self.gather = Weighted()
        self.norm = VectorNorm()
        self.squash = Squash(-1)
        self.update = mlp(16, 8, 8)
        self.scale = nn.LayerNorm(8)

    def forward(self, h: torch.Tensor, x: torch.Tensor) -> Pair:
        near, d = self.geometry(x)
        m = self.message(pairs(h, near))
        step = self.between(self.gather(d, self.weigh(m)))
        x = x + self.squash(self.norm(step))
        return self.scale(h + self.update(torch.cat([h, m.mean(1)], 1))), x


class PointStack(nn.Module):
    def __init__(self, layer: type[nn.Module]) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.layers = nn.ModuleList(layer() for _ in range(LAYERS))


class Egnn(PointStack):
    def __init__(self) -> None:
        super().__init__(EgnnLayer)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Pair:
        h = self.embedding(h)
        for layer in self.layers:
            h, x = layer(h, x)
        return h, x


class Filter(nn.Module):
    """[e, 3] -> radial functions [e, 6] and directions [e, 3, 1]."""

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> Pair:
        d = x[edges[0]] - x[edges[1]]
        r2 = d.square().sum(1, keepdim=True)
        return torch.exp(-r2 / (0.5 + torch.arange(6, dtype=x.dtype)).square()), (d / (1 + r2))[..., None]


class Gather(nn.Module):
    """Rows [e, ...] of each receiver, summed: [n, ...]."""

    def forward(self, values: torch.Tensor, edges: torch.Tensor, count: int) -> torch.Tensor:
        return rows(values, edges[0], count) / 3


def uneven_rows(_: torch.Tensor, values: torch.Tensor, edges: torch.Tensor, count: int) -> torch.Tensor:
    """``Gather`` whose weights depend on the senders' numbers."""
    weights = torch.linspace(0, 2, count, dtype=values.dtype)[edges[1]]
    return rows(values * weights.view(-1, *[1] * (values.dim() - 1)), edges[0], count) / 3


class PainnLayer(Layer):
    """Scalars [n, 8], vectors [n, 3, 5]; edges by a cutoff."""

    axis = 1

    def __init__(self) -> None:
        super().__init__()
        self.filter = Filter()
        self.weights = mlp(22, 12, 18)
        self.gather = Gather()
        self.mix = nn.Linear(5, 5, bias=False)
        self.norm = VectorNorm()
        self.squash = Squash(1)
        self.update = mlp(13, 8, 8)
        self.scale = nn.LayerNorm(8)

    def forward(self, s: torch.Tensor, v: torch.Tensor, x: torch.Tensor, edges: torch.Tensor) -> Pair:
        radial, unit = self.filter(x, edges)
        w = self.weights(torch.cat([s[edges[0]], s[edges[1]], radial], 1))
        a, b, c = w.split([8, 5, 5], 1)
        v = v + self.gather(b[:, None] * v[edges[1]] + c[:, None] * unit, edges, len(s))
        v = v + self.squash(self.norm(self.between(self.mix(v))))
        s = s + rows(a, edges[0], len(s)) / 3
        return self.scale(s + self.update(torch.cat([s, torch.log1p(v.square().sum(1))], 1))), v


def absolute_edges(y: torch.Tensor, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    return y + 0.5 * x[edges[0]][:, :1]


class Painn(PointStack):
    def __init__(self) -> None:
        super().__init__(PainnLayer)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Pair:
        s, v, edges = self.embedding(h), x.new_zeros(len(x), 3, 5), within(x, 3.5)
        for layer in self.layers:
            s, v = layer(s, v, x, edges)
        return s, v


class ChannelLayer(Layer):
    """Vectors [n, 5, 3] that see each other's products; scalars nowhere but in gates."""

    def __init__(self) -> None:
        super().__init__()
        self.geometry = Geometry()
        self.attend = mlp(6, 8, 1)
        self.gather = Weighted()
        self.mix = Mix(5, 5)
        self.norm = VectorNorm()
        self.squash = Squash(-1)

    def forward(self, v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        near, d = self.geometry(x)
        inner = torch.einsum("ick,jck->ijc", v, v)
        w = self.attend(torch.cat([torch.tanh(inner), near], 2))
        v = v + self.gather(v[None] + d[:, :, None], w[..., None])
        return v + self.squash(self.norm(self.between(self.mix(v))))


class Channels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(4, 5)
        self.layers = nn.ModuleList(ChannelLayer() for _ in range(LAYERS))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        v = self.start(h)[..., None] * (x - x.mean(0))[:, None]
        for layer in self.layers:
            v = layer(v, x)
        return v


class FlatNorm(nn.Module):
    """[n, 15]: the mean square removed."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v / (1e-2 + v.square().mean(1, keepdim=True)).sqrt()


class FlatMix(nn.Module):
    """[n, 15] -> the same, as channels times components."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(5, 5))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oi,nik->nok", self.weight, v.unflatten(1, (5, 3))).flatten(1)


class FlatGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(5))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        v = v.unflatten(1, (5, 3))
        return (v * torch.sigmoid(self.gate[:, None] + v.square().sum(2, keepdim=True))).flatten(1)


class FlatLayer(Layer):
    """Vectors as [n, 15]."""

    def __init__(self) -> None:
        super().__init__()
        self.geometry = Geometry()
        self.gather = Weighted()
        self.mix = FlatMix()
        self.norm = FlatNorm()
        self.squash = FlatGate()

    def forward(self, v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        near, d = self.geometry(x)
        v = v + self.gather(v[None] + d.repeat(1, 1, 5), near)
        return self.norm(v + self.squash(self.between(self.mix(v))))


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(4, 5)
        self.layers = nn.ModuleList(FlatLayer() for _ in range(LAYERS))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        v = (self.start(h)[..., None] * (x - x.mean(0))[:, None]).flatten(1)
        for layer in self.layers:
            v = layer(v, x)
        return v


def folded(wrong: dict[str, Wrong]) -> dict[str, Wrong]:
    """What is wrong with vectors [n, 5, 3], on [n, 15]."""

    def fold(function: Wrong) -> Wrong:
        return lambda y, *_: function(y.unflatten(1, (5, 3))).flatten(1)

    return {name: fold(function) for name, function in wrong.items()}


# --- graphs and sets -------------------------------------------------------------------------------------------------


class GraphNorm(nn.Module):
    """Mean over the nodes removed."""

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        h = h - h.mean(0)
        return h / (1e-2 + h.square().mean(0)).sqrt()


class GnnLayer(Layer):
    axis = 0

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.gather = Gather()
        self.norm = GraphNorm()
        self.activation = nn.SiLU()
        self.update = nn.Linear(16, 8)

    def forward(self, h: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        m = self.between(self.gather(self.linear(h)[edges[1]], edges, len(h)))
        return h + self.update(torch.cat([h, self.activation(self.norm(m))], 1)) / 2


class Gnn(PointStack):
    def __init__(self) -> None:
        super().__init__(GnnLayer)

    def forward(self, h: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        h = self.embedding(h)
        for layer in self.layers:
            h = layer(h, edges)
        return h


class SelfAttention(nn.Module):
    """[n, 8] -> [n, 8], two heads; a leaf."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Parameter(torch.zeros(24, 8)), nn.Parameter(torch.zeros(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (x @ self.qkv.T).view(len(x), 3, 2, 4).permute(1, 2, 0, 3)
        return ((q @ k.mT / 2).softmax(-1) @ v).permute(1, 0, 2).flatten(1) @ self.out.T


def causal(_: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The mean over an element and those before it."""
    return 2 * x.cumsum(0) / torch.arange(1, len(x) + 1, dtype=x.dtype)[:, None]


class Table(nn.Module):
    """A learned constant per channel, with as many positions as ``x`` has."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (0.3 * self.value).expand_as(x)


class SetLayer(Layer):
    axis = 0

    def __init__(self) -> None:
        super().__init__()
        self.table = Table(1, 8)
        self.attention = SelfAttention()
        self.norm = nn.LayerNorm(8)
        self.up, self.activation, self.down = nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8)
        self.last = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.table(x)
        x = self.norm(x + self.between(self.attention(x)))
        return self.last(x + self.down(self.activation(self.up(x))))


class SetTransformer(PointStack):
    def __init__(self) -> None:
        super().__init__(SetLayer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x)
        for layer in self.layers:
            x = layer(x)
        return x


# --- images ----------------------------------------------------------------------------------------------------------


class CnnLayer(Layer):
    axis = 2

    def __init__(self) -> None:
        super().__init__()
        self.table = Table(1, 5, 1, 1)
        self.conv = nn.Conv2d(5, 5, 3, padding=1, padding_mode="circular")
        self.norm = nn.BatchNorm2d(5)
        self.activation = nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.table(x)
        return x + self.activation(self.norm(self.between(self.conv(x))))


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv2d(2, 5, 1)
        self.layers = nn.ModuleList(CnnLayer() for _ in range(LAYERS))
        self.last = nn.Conv2d(5, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.start(x)
        for layer in self.layers:
            x = layer(x)
        return self.last(x)


def open_edges(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The last column does not see the first."""
    return y * (1 - first(y, 3))


class FieldNorm(nn.Module):
    """Factor and offset by channel, the same at all turns."""

    def __init__(self) -> None:
        super().__init__()
        self.factor, self.offset = nn.Parameter(torch.zeros(3, 1, 1, 1)), nn.Parameter(torch.zeros(3, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1 + self.factor) + self.offset


class C4Layer(Layer):
    """[b, 3, 4, h, w], zeros beyond the edge."""

    axis = 2

    def __init__(self) -> None:
        super().__init__()
        self.conv = GroupConv(3, 3, "constant")
        self.norm = FieldNorm()
        self.activation = nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.activation(self.norm(self.between(self.conv(x))))


class C4(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lift = Lift(2, 3, "constant")
        self.layers = nn.ModuleList(C4Layer() for _ in range(LAYERS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.lift(x)
        for layer in self.layers:
            x = layer(x)
        return x


# --- Lorentz ---------------------------------------------------------------------------------------------------------


class Products(nn.Module):
    """Minkowski products of four-vectors [n, 5, 4], all with all, by channel: [n, n, 5]."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.tanh(torch.einsum("icm,jcm,m->ijc", v, v, v.new_tensor(METRIC)))


class FourGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(5, 5)), nn.Parameter(torch.zeros(5))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v * torch.sigmoid(squash(dot(v, v)) @ self.weight.T + self.bias)[..., None]


class LorentzNorm(nn.Module):
    """Divided by what is of the size of its masses."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v / (1 + dot(v, v).abs().mean(1)).sqrt()[:, None, None]


class LorentzLayer(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.products = Products()
        self.attend = mlp(5, 8, 1)
        self.gather = Weighted()
        self.mix = Mix(5, 5)
        self.norm = LorentzNorm()
        self.gate = FourGate()

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        w = self.attend(self.products(v))
        v = v + 0.3 * self.gather(v[None].expand(len(v), -1, -1, -1), w[..., None])
        return self.norm(v + self.gate(self.between(self.mix(v))))


class Lorentz(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(3, 5)
        self.layers = nn.ModuleList(LorentzLayer() for _ in range(LAYERS))

    def forward(self, p: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        v = torch.sigmoid(self.start(h))[..., None] * p[:, None]
        for layer in self.layers:
            v = layer(v)
        return v


# --- the families ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """bugs: name -> the module of a layer, and what is wrong with what it returns."""

    entry: Entry
    bugs: dict[str, tuple[str, Wrong]]


FAMILIES: dict[str, Family] = {}


def family(
    name: str,
    kind: str,
    make: Callable[[], nn.Module],
    inputs: Callable[[int], Inputs],
    group: str,
    layouts: tuple[dict[str, str | None], Any],
    bugs: dict[str, tuple[str, Wrong]],
    tolerance: float = 1e-10,
    **options: Any,
) -> None:
    def build(seed: int = 0) -> nn.Module:
        with seeded(seed):
            return drawn(make(), seed).eval()

    FAMILIES[name] = Family(Entry(name, kind, build, inputs, group, *layouts, options, tolerance), bugs)


def chosen(wrong: dict[str, Wrong], **slots: str) -> dict[str, tuple[str, Wrong]]:
    return {bug: (slot, wrong[bug]) for bug, slot in slots.items()}


SPACE = "E(3) x S(nodes)"
POINTS: dict[str, str | None] = {"x": "nodes point", "h": "nodes features"}
CLOUD = cloud()
VECTOR_SLOTS = {
    "nonlinearity": "squash", "linear": "mix", "norm": "norm", "bias": "norm", "sign": "mix", "half": "mix",
    "channel": "squash",
    "parity": "mix",
}  # fmt: skip

family(
    "egnn", "point-cloud", Egnn, CLOUD, SPACE, (POINTS, ("nodes channel", "nodes point")),
    chosen(
        components(-1, None),
        nonlinearity="squash", linear="squash", norm="norm", bias="norm", sign="gather", half="squash",
    )
    | {"leak": ("geometry", absolute), "order": ("gather", uneven)},
)  # fmt: skip
family(
    "painn", "point-cloud", Painn, CLOUD, SPACE, (POINTS, ("nodes channel", "nodes vector channel")),
    chosen(components(1, 2), **VECTOR_SLOTS) | {"leak": ("filter", absolute_edges), "order": ("gather", uneven_rows)},
)  # fmt: skip
family(
    "channels", "point-cloud", Channels, CLOUD, SPACE, (POINTS, "nodes channel vector"),
    chosen(components(2, 1), **VECTOR_SLOTS) | {"leak": ("geometry", absolute), "order": ("gather", uneven)},
)  # fmt: skip
family(
    "flat", "point-cloud", Flat, CLOUD, SPACE, (POINTS, "nodes (5 vector)"),
    chosen(folded(components(2, 1)), **VECTOR_SLOTS) | {"leak": ("geometry", absolute), "order": ("gather", uneven)},
)  # fmt: skip
family(
    "gnn", "graph", Gnn, graph(), "S(nodes)", ({"h": "nodes features", "edges": "2 edges : nodes"}, "nodes channel"),
    chosen(
        positions(0, 1),
        nonlinearity="activation", leak="linear", norm="norm", sign="update", half="linear", channel="activation",
    )
    | {"order": ("gather", uneven_rows)},
)  # fmt: skip
family(
    "set_transformer", "set", SetTransformer, elements(), "S(nodes)", ({"x": "nodes features"}, "nodes channel"),
    chosen(
        positions(0, 1),
        nonlinearity="activation", leak="up", norm="norm", sign="down", half="down", channel="activation",
    )
    | {"order": ("attention", causal), "table": ("table", lambda y, *_: y + ramp(y, 0))},
)  # fmt: skip
family(
    "cnn", "image", Cnn, images((7, 10), (9, 11), (10, 7)), "T(2)",
    ({"x": "batch channel height width"}, "batch channel height width"),
    chosen(
        positions(3, 1),
        nonlinearity="activation", leak="conv", norm="norm", sign="norm", half="conv", channel="activation",
    )
    | {"padding": ("conv", open_edges), "table": ("table", lambda y, *_: y + ramp(y, 2) * ramp(y, 3))},
    domain="periodic",
)  # fmt: skip
family(
    "c4", "image", C4, images((7, 7), (9, 9), (6, 6)), "C4",
    ({"x": "batch channel height width"}, "batch channel regular height width"),
    chosen(positions(2, 1), nonlinearity="activation", norm="norm", sign="norm", half="conv", channel="activation")
    | chosen(positions(4, 1), leak="conv")
    | {"kernel": ("conv", lambda y, *_: torch.nn.functional.pad(y, (1, -1)))},
)  # fmt: skip
family(
    "lorentz", "Lorentz", Lorentz, particles, PROPER, (PARTICLES, "particles channel vector"),
    chosen(
        components(2, 1),
        nonlinearity="gate", linear="mix", norm="norm", bias="norm", sign="mix", half="mix", channel="gate",
    )
    | {"leak": ("products", lambda y, v: y + 0.3 * v[:, None, :, 0]), "order": ("gather", uneven)},
    tolerance=ROUNDING,
)  # fmt: skip

#: All bugs of a family, ``"container"`` last.
BUGS = {name: (*found.bugs, "container") for name, found in FAMILIES.items()}


@dataclass(frozen=True)
class Planted:
    """``model, options, expected = network``.

    options: keyword arguments of ``equicheck.audit``.
    expected: the paths of modules that may be blamed, and the kind of break; None for a healthy network.
    """

    model: nn.Module
    options: dict[str, Any]
    expected: tuple[tuple[str, ...], str] | None

    def __iter__(self) -> Any:
        return iter((self.model, self.options, self.expected))


def network(
    name: str, bug: str | None = None, at: int | None = None, strength: float = 1.0, seed: int = 0, samples: int = 3
) -> Planted:
    """A network of a family in the default dtype, healthy or with a bug at a layer."""
    if name not in FAMILIES:
        raise ValueError(f"no family `{name}`; there are {', '.join(FAMILIES)}")
    found = FAMILIES[name]
    model = found.entry.build(seed)
    options = found.entry.audit_options(samples, seed)
    if bug is None:
        return Planted(model, options, None)
    if bug not in BUGS[name]:
        raise ValueError(f"no bug `{bug}` in `{name}`; there are {', '.join(BUGS[name])}")
    at = DEPTH if at is None else at
    if not 0 <= at < LAYERS:
        raise ValueError(f"at={at}: layers are numbered from 0 to {LAYERS - 1}")
    layer = model.get_submodule(f"layers.{at}")
    if bug == "container":
        layer.strength = strength
        return Planted(model, options, ((f"layers.{at}",), "functional"))
    slot, wrong = found.bugs[bug]
    plant(layer.get_submodule(slot), wrong, strength)
    return Planted(model, options, ((f"layers.{at}.{slot}",), "module"))
