"""Graph networks: edge lists, adjacency matrices, attention, virtual nodes, spectra, several graphs at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .case import NODES, Inputs, entry, generator, mlp, normal, rows

GRAPH: dict[str, str | None] = {"h": "nodes features", "edges": "2 edges : nodes"}


def graph(
    density: float = 0.4, attributes: int = 0, features: int = 4, matrix: bool = False
) -> Callable[[int], Inputs]:
    """``h`` [n, features]; directed ``edges`` [2, e] in random order, at least a cycle; or ``a`` [n, n], symmetric."""

    def inputs(seed: int) -> Inputs:
        random = generator(seed)
        n = NODES[seed % 3]
        h = normal(random, n, features)
        joined = torch.rand(n, n, generator=random) < density
        joined[torch.arange(n), (torch.arange(n) + 1) % n] = True
        joined.fill_diagonal_(False)
        if matrix:
            weights = normal(random, n, n).abs() * joined
            return {"h": h, "a": weights + weights.T}
        edges = joined.nonzero().T
        edges = edges[:, torch.randperm(edges.shape[1], generator=random)].contiguous()
        made = {"h": h, "edges": edges}
        if attributes:
            made["w"] = normal(random, edges.shape[1], attributes)
        return made

    return inputs


def softmax_by(values: torch.Tensor, index: torch.Tensor, count: int) -> torch.Tensor:
    """Softmax over the rows with the same index."""
    weights = (values - values.max()).exp()
    return weights / rows(weights, index, count)[index]


class GcnLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, h: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return a @ self.linear(h)


@entry(
    "gcn_dense", "graph", "S(nodes)", {"h": "nodes features", "a": "nodes nodes"}, "nodes channel", graph(matrix=True)
)
class Gcn(nn.Module):
    """Normalised adjacency matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.layers = nn.ModuleList(GcnLayer() for _ in range(4))

    def forward(self, h: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        a = a + torch.eye(len(a), dtype=a.dtype)
        scale = a.sum(1).rsqrt()
        a = scale[:, None] * a * scale
        h = self.embedding(h)
        for layer in self.layers:
            h = torch.relu(layer(h, a)) + h
        return h


class GinLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.zeros(1))
        self.mlp = mlp(8, 12, 8)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, h: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        received = rows(h[edges[1]], edges[0], len(h))
        return torch.relu(self.norm(self.mlp((1 + self.own) * h + received) / 3))


@entry("gin", "graph", "S(nodes)", GRAPH, {"graph": "channel", "nodes": "nodes channel"}, graph())
class Gin(nn.Module):
    """Edge list; layers collected and read out."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.layers = nn.ModuleList(GinLayer() for _ in range(4))
        self.head = nn.Linear(32, 5)

    def forward(self, h: torch.Tensor, edges: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.embedding(h)
        kept = []
        for layer in self.layers:
            h = layer(h, edges)
            kept.append(h)
        return {"graph": self.head(torch.cat(kept, 1).sum(0)), "nodes": h}


class GatLayer(nn.Module):
    """Four heads [edges, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)
        self.receiver, self.sender = nn.Linear(8, 4), nn.Linear(8, 4)
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, h: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        receiver, sender = edges
        value = self.linear(h)
        weights = self.activation(self.receiver(value)[receiver] + self.sender(value)[sender])
        weights = softmax_by(weights, receiver, len(h))
        return rows((weights[..., None] * value[sender].unflatten(1, (4, 2))).flatten(1), receiver, len(h))


@entry("gat", "graph", "S(nodes) x S(edges)", GRAPH, "nodes channel", graph())
class Gat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.layers = nn.ModuleList(GatLayer() for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))

    def forward(self, h: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        h = self.embedding(h)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = norm(h + torch.nn.functional.elu(layer(h, edges)))
        return h


@entry("gat_nodes_only", "graph", "S(nodes)", GRAPH, "nodes channel", graph())
def gat_nodes_only() -> nn.Module:
    return Gat()


class EdgeNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.edge = mlp(24, 12, 8)
        self.node = nn.GRUCell(8, 8)

    def forward(self, h: torch.Tensor, w: torch.Tensor, edges: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        w = w + self.edge(torch.cat([h[edges[0]], h[edges[1]], w], 1))
        index = edges[0][:, None].expand_as(w)
        received = h.new_zeros(len(h), 8).scatter_reduce(0, index, w, "amax", include_self=False)
        return self.node(received, h), w


@entry(
    "edge_features", "graph", "S(nodes) x S(edges)", GRAPH | {"w": "edges features"},
    ("nodes channel", "edges channel"), graph(attributes=3),
)  # fmt: skip
class EdgeFeatures(nn.Module):
    """Features of edges too, maxima over neighbours, gated updates."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes, self.links = nn.Linear(4, 8), nn.Linear(3, 8)
        self.layers = nn.ModuleList(EdgeNetwork() for _ in range(3))

    def forward(self, h: torch.Tensor, edges: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h, w = self.nodes(h), self.links(w)
        for layer in self.layers:
            h, w = layer(h, w, edges)
        return h, w


class VirtualNode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp(8, 12, 8)

    def forward(self, h: torch.Tensor, token: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        token = token + self.mlp(token + h.mean(0, keepdim=True))
        return h + token, token


@entry("virtual_node", "graph", "S(nodes)", GRAPH, {"nodes": "nodes channel", "token": "channel"}, graph())
class GinVirtual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.token = nn.Parameter(torch.zeros(1, 8))
        self.layers = nn.ModuleList(GinLayer() for _ in range(3))
        self.virtual = nn.ModuleList(VirtualNode() for _ in range(3))

    def forward(self, h: torch.Tensor, edges: torch.Tensor) -> dict[str, torch.Tensor]:
        h, token = self.embedding(h), self.token
        for layer, virtual in zip(self.layers, self.virtual, strict=True):
            h, token = virtual(layer(h, edges), token)
        return {"nodes": h, "token": token[0]}


class GraphAttention(nn.Module):
    """Attention of all with all [heads, n + 1, n + 1], biased by distances in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, h: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(h)).view(len(h), 3, 2, 4).permute(1, 2, 0, 3)
        return self.out(((q @ k.mT / 2 + bias).softmax(-1) @ v).permute(1, 0, 2).flatten(1))


@entry(
    "graph_transformer",
    "graph",
    "S(nodes)",
    {"h": "nodes features", "a": "nodes nodes"},
    ("nodes channel", "channel"),
    graph(matrix=True),
)
class GraphTransformer(nn.Module):
    """A token in front of the nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.token = nn.Parameter(torch.zeros(1, 8))
        self.hops = nn.Parameter(torch.zeros(2, 4))
        self.layers = nn.ModuleList(GraphAttention() for _ in range(3))
        self.feed = nn.ModuleList(mlp(8, 16, 8) for _ in range(3))

    def forward(self, h: torch.Tensor, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = a / a.sum(1).max()
        powers = torch.stack([torch.linalg.matrix_power(a, k) for k in range(1, 5)])
        bias = torch.nn.functional.pad(torch.einsum("hk,kij->hij", self.hops, powers), (1, 0, 1, 0))
        h = torch.cat([self.token, self.embedding(h)])
        for layer, feed in zip(self.layers, self.feed, strict=True):
            h = h + layer(h, bias)
            h = h + feed(h)
        return h[1:], h[0]


class Order2(nn.Module):
    """Linear maps of [c, n, n] that commute with permutations, then a nonlinearity: some of Maron's fifteen."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(6 * before, after, 1)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        n = t.shape[-1]
        eye = torch.eye(n, dtype=t.dtype)
        diagonal = t.diagonal(dim1=1, dim2=2)
        parts = [
            t,
            t.transpose(1, 2),
            torch.diag_embed(diagonal),
            t.mean(2, keepdim=True).expand_as(t),
            t.mean(1, keepdim=True).expand_as(t),
            diagonal.mean(1)[:, None, None] * eye,
        ]
        return torch.relu(self.linear(torch.cat(parts)[None])[0])


@entry(
    "invariant_graph_network",
    "graph",
    "S(nodes)",
    {"h": "nodes features", "a": "nodes nodes"},
    "channel nodes",
    graph(matrix=True),
)
class Ign(nn.Module):
    """Channels first: [c, n, n]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Order2(5, 8), Order2(8, 8), Order2(8, 6))

    def forward(self, h: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        t = self.layers(torch.cat([a[None], torch.diag_embed(h.T)]))
        return t.mean(2) + t.diagonal(dim1=1, dim2=2)


class MatrixBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.skip = (nn.Conv2d(6, 6, 1) for _ in range(3))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        product = torch.tanh(self.left(t)) @ torch.tanh(self.right(t)) / t.shape[-1]
        return torch.tanh(self.skip(t) + product)


@entry(
    "matrix_products", "graph", "S(nodes)", {"h": "nodes features", "a": "nodes nodes"}, "channel", graph(matrix=True)
)
class Ppgn(nn.Module):
    """[1, c, n, n] multiplied as matrices; invariant."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv2d(5, 6, 1)
        self.layers = nn.Sequential(*(MatrixBlock() for _ in range(3)))
        self.head = nn.Linear(12, 3)

    def forward(self, h: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        t = self.layers(self.start(torch.cat([a[None], torch.diag_embed(h.T)])[None]))[0]
        return self.head(torch.cat([t.diagonal(dim1=1, dim2=2).sum(1), t.sum((1, 2))]))


class SignNet(nn.Module):
    """Eigenvectors [n, k], each up to its sign."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.all = mlp(2, 8, 6), mlp(18, 8, 6)

    def forward(self, vectors: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        values = values.expand_as(vectors)
        both = [self.one(torch.stack([s * vectors, values], -1)) for s in (1, -1)]
        return self.all((both[0] + both[1]).flatten(1))


@entry(
    "spectral_signs",
    "graph",
    "S(nodes)",
    {"h": "nodes features", "a": "nodes nodes"},
    "nodes channel",
    graph(matrix=True),
)
class Spectral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.signs = SignNet()
        self.mlp = mlp(10, 8, 5)

    def forward(self, h: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        values, vectors = torch.linalg.eigh(torch.diag(a.sum(1)) - a)
        return self.mlp(torch.cat([h, self.signs(vectors[:, 1:4], values[1:4])], 1))


class Chebyshev(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(24, 8)

    def forward(self, h: torch.Tensor, laplacian: torch.Tensor) -> torch.Tensor:
        first = laplacian @ h
        return self.linear(torch.cat([h, first, 2 * laplacian @ first - h], 1))


@entry(
    "chebyshev_pooling", "graph", "S(nodes)", {"h": "nodes features", "a": "nodes nodes"}, "channel", graph(matrix=True)
)
class ChebyshevPooling(nn.Module):
    """The four nodes of the highest score are kept, in the order of scores: invariant rows."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.first, self.second = Chebyshev(), Chebyshev()
        self.score = nn.Linear(8, 1)
        self.head = nn.Linear(32, 5)

    def forward(self, h: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        laplacian = a / a.sum(1).max()
        h = torch.tanh(self.first(self.embedding(h), laplacian))
        score, kept = self.score(h)[:, 0].topk(4)
        h = torch.tanh(self.second(h[kept] * torch.sigmoid(score)[:, None], laplacian[kept][:, kept]))
        return self.head(h.flatten())


def several(seed: int) -> Inputs:
    """Three graphs behind each other, edges within each."""
    random = generator(seed)
    sizes = ((3, 5, 4), (6, 2, 3), (5, 6, 2))[seed % 3]
    batch = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    n = len(batch)
    joined = (torch.rand(n, n, generator=random) < 0.7) & (batch[:, None] == batch)
    return {"h": normal(random, n, 4), "edges": joined.nonzero().T.contiguous(), "batch": batch}


@entry(
    "several_graphs", "graph", "S(nodes)", GRAPH | {"batch": "nodes"}, ("graphs channel", "nodes channel"), several,
    segments={"nodes": "batch"},
)  # fmt: skip
class SeveralGraphs(nn.Module):
    """Pooled by graph: [graphs, c], and spread again."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.layers = nn.ModuleList(GinLayer() for _ in range(3))
        self.pooled = nn.ModuleList(mlp(8, 8) for _ in range(3))

    def forward(self, h: torch.Tensor, edges: torch.Tensor, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.embedding(h)
        pooled = rows(h, batch, 3)
        for layer, pool in zip(self.layers, self.pooled, strict=True):
            h = layer(h, edges)
            pooled = pooled + pool(rows(h, batch, 3))
            h = h + torch.tanh(pooled)[batch]
        return pooled, h


class Exchangeable(nn.Module):
    """[users, items, c]: own entry, means of row, column, all."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.linear = nn.Linear(4 * before, after)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        means = [t.mean(axes, keepdim=True).expand_as(t) for axes in (0, 1, (0, 1))]
        return torch.relu(self.linear(torch.cat([t, *means], -1)))


def table(seed: int) -> Inputs:
    return {"t": normal(generator(seed), (7, 9, 11)[seed % 3], (10, 6, 5)[seed % 3], 3)}


@entry(
    "exchangeable_table",
    "graph",
    "S(users) x S(items)",
    {"t": "users items features"},
    ("users channel", "items channel"),
    table,
)
class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(Exchangeable(3, 8), Exchangeable(8, 8), Exchangeable(8, 4))

    def forward(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        t = self.layers(t)
        return t.mean(1), t.mean(0)
