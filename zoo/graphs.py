"""Graphs: message passing over edge lists in batches, graph transformers on adjacency matrices, geometric graphs."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from .case import Inputs, Network, gathered, generator, mlp, normal

# Message passing over batches of graphs


class Message(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = mlp(2 * width + 2, width, width)

    def forward(self, h: torch.Tensor, w: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return self.mlp(torch.cat([h[edges[0]], h[edges[1]], w], -1))


class SumOver(nn.Module):
    """Sums messages at their receivers: [edges, c] -> [n, c]."""

    def forward(self, m: torch.Tensor, receiver: torch.Tensor, n: int) -> torch.Tensor:
        return gathered(m, receiver, n)


class GraphNorm(nn.Module):
    """Mean and deviation over the nodes of each graph."""

    eps = 0.1

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, h: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        graphs = int(batch.max()) + 1
        count = gathered(torch.ones_like(h), batch, graphs)
        h = h - (gathered(h, batch, graphs) / count)[batch]
        variance = (gathered(h.square(), batch, graphs) / count)[batch]
        return h * (variance + self.eps).rsqrt() * self.weight + self.bias


class Structure(nn.Module):
    """Adds an encoding of each node's degree."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(32, width)

    def forward(self, h: torch.Tensor, receiver: torch.Tensor) -> torch.Tensor:
        degree = torch.bincount(receiver, minlength=len(h)).clamp_max(31)
        return h + 0.3 * self.embedding(degree)


class Virtual(nn.Module):
    """What all nodes of a graph are told: the mean over them."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, h: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        graphs = int(batch.max()) + 1
        mean = gathered(h, batch, graphs) / gathered(torch.ones_like(h), batch, graphs)
        return h + torch.tanh(self.linear(mean))[batch]


class GraphLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.structure = Structure(width)
        self.message = Message(width)
        self.aggregate = SumOver()
        self.norm = GraphNorm(width)
        self.update = nn.Linear(2 * width, width)
        self.virtual = Virtual(width)

    def forward(self, h: torch.Tensor, w: torch.Tensor, edges: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        h = self.structure(h, edges[0])
        m = self.aggregate(self.message(h, w, edges), edges[0], len(h))
        h = h + torch.relu(self.norm(self.update(torch.cat([h, m], -1)), batch))
        return self.virtual(h, batch)


class GraphNet(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, width)
        self.layers = nn.ModuleList(GraphLayer(width) for _ in range(3))
        self.nodes = nn.Linear(width, 3)
        self.graphs = mlp(width, width, 2)

    def forward(
        self, h: torch.Tensor, edges: torch.Tensor, w: torch.Tensor, batch: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        h = self.embedding(h)
        for layer in self.layers:
            h = layer(h, w, edges, batch)
        return {"nodes": self.nodes(h), "graphs": self.graphs(gathered(h, batch, int(batch.max()) + 1))}


def several(seed: int) -> Inputs:
    """Two or three graphs with edges inside each, in a random order."""
    random = generator(seed + 40)
    sizes = [(5, 6), (4, 7, 3), (6, 5)][seed % 3]
    batch = torch.cat([torch.full((n,), k) for k, n in enumerate(sizes)])
    dense = torch.rand(len(batch), len(batch), generator=random) < 0.5
    near = (dense | dense.T) & (batch[:, None] == batch) & ~torch.eye(len(batch), dtype=torch.bool)
    edges = near.nonzero().T
    edges = edges[:, torch.randperm(edges.shape[1], generator=random)]
    return {
        "h": normal(random, len(batch), 4),
        "edges": edges,
        "w": normal(random, edges.shape[1], 2),
        "batch": batch,
    }


GRAPHS = Network(
    "message passing over batches of graphs, 3 layers with virtual nodes",
    GraphNet,
    "S(nodes) x S(edges)",
    {"h": "nodes features", "edges": "2 edges : nodes", "w": "edges features", "batch": "nodes"},
    {"nodes": "nodes classes", "graphs": "graphs channel"},
    several,
    {"segments": {"nodes": "batch"}},
)
GRAPHS.healthy("graph_batches")


@GRAPHS.bug(
    "graph_recurrent_aggregation",
    "permutation",
    "layers.1.aggregate",
    respected="S(nodes)",
    severity="messages enter one after the other, in the order of the edge list; nodes may be renumbered",
)
class InOrder(SumOver):
    def forward(self, m: torch.Tensor, receiver: torch.Tensor, n: int) -> torch.Tensor:
        total = list(m.new_zeros(n, m.shape[1]))
        for message, node in zip(m, receiver.tolist(), strict=True):
            total[node] = 0.8 * total[node] + message
        return torch.stack(total)


@GRAPHS.bug(
    "graph_first_node",
    "permutation",
    "layers.1.virtual",
    respected="S(edges)",
    severity="one of eight channels of the virtual node is that of each graph's first node",
)
class FirstNode(Virtual):
    def forward(self, h: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        graphs = int(batch.max()) + 1
        mean = gathered(h, batch, graphs) / gathered(torch.ones_like(h), batch, graphs)
        first = h[torch.stack([(batch == k).nonzero()[0, 0] for k in range(graphs)])]
        told = torch.cat([mean[:, :5], first[:, 5:6], mean[:, 6:]], -1)
        return h + torch.tanh(self.linear(told))[batch]


@GRAPHS.bug(
    "graph_index_embedding",
    "positional-encoding",
    "layers.1.structure",
    also_right=("layers.1.structure.embedding",),
    respected="S(edges)",
    severity="a table of embeddings by number of the node, where degrees were meant",
)
class IndexEmbedding(Structure):
    def forward(self, h: torch.Tensor, receiver: torch.Tensor) -> torch.Tensor:
        return h + 0.3 * self.embedding(torch.arange(len(h)))


@GRAPHS.bug(
    "graph_norm_over_batch",
    "batch-cross-talk",
    "layers.1.norm",
    evidence="batch",
    respected="S(nodes) x S(edges)",
    severity="statistics over the nodes of all graphs; no permutation shows it",
    verdict="NEEDS_ATTENTION",
)
class NormOverAll(GraphNorm):
    def forward(self, h: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        return super().forward(h, torch.zeros_like(batch))


@GRAPHS.bug(
    "graph_norm_drifts",
    "state-drift",
    "layers.2.norm",
    evidence="calls",
    respected="S(nodes) x S(edges)",
    severity="a running variance that is updated in eval mode too",
    verdict="NEEDS_ATTENTION",
)
class DriftingNorm(GraphNorm):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_var", torch.ones(8))

    def forward(self, h: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        self.running_var.lerp_(h.detach().square().mean(0), 0.1)
        return h * (self.running_var + 1e-3).rsqrt() * self.weight + self.bias


@GRAPHS.bug(
    "graph_unseeded_sampling",
    "nondeterminism",
    "layers.1.aggregate",
    evidence="calls",
    respected=None,
    severity="a tenth of the messages is left out, by a numpy generator that is made anew in each call",
    verdict="NEEDS_ATTENTION",
)
class Sampled(SumOver):
    def forward(self, m: torch.Tensor, receiver: torch.Tensor, n: int) -> torch.Tensor:
        keep = torch.from_numpy(np.random.default_rng().random(len(m)) < 0.9)
        return gathered(m * keep[:, None], receiver, n)


def equal(seed: int) -> Inputs:
    """Rings with edges to the next, second and third on both sides: all nodes are alike, and all their edges are."""
    random = generator(seed + 44)
    sizes = [(7, 8), (9, 7), (8, 10)][seed % 3]
    kinds = normal(random, 6, 2)
    h = normal(random, 1, 4).expand(sum(sizes), -1).clone()
    edges, w = [], []
    for start, n in ((0, sizes[0]), sizes):
        for k, step in enumerate((1, 2, 3, -1, -2, -3)):
            edges.append(torch.stack([torch.arange(n), (torch.arange(n) + step) % n]) + start)
            w.append(kinds[k].expand(n, -1))
    order = torch.randperm(6 * sum(sizes), generator=random)
    batch = torch.cat([torch.full((n,), k) for k, n in enumerate(sizes)])
    return {"h": h, "edges": torch.cat(edges, 1)[:, order], "w": torch.cat(w)[order], "batch": batch}


@GRAPHS.but(inputs=equal, architecture="message passing over batches of rings, 3 layers").bug(
    "graph_norm_of_equal_nodes",
    "rounding-amplification",
    "layers.1.norm",
    evidence="single",
    least=1e-3,
    most=1e-4,
    respected="S(nodes) x S(edges)",
    severity="nodes that are alike deviate from their mean by rounding alone, and that is divided by its size",
    verdict="NEEDS_ATTENTION",
)
class SharpNorm(GraphNorm):
    eps = 1e-7


# Graph transformers: features and an adjacency matrix


class HeatEncoding(nn.Module):
    """How much of a walk returns after some times, from the Laplacian's spectrum: [n, n] -> [n, 4]."""

    def forward(self, adjacency: torch.Tensor) -> torch.Tensor:
        values, vectors = torch.linalg.eigh(laplacian(adjacency))
        times = torch.tensor([0.3, 1.0, 2.0, 4.0], dtype=values.dtype)
        return vectors.square() @ torch.exp(-values[:, None] * times)


class Attention(nn.Module):
    """Over all nodes, with a bias for neighbours."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.slope = nn.Parameter(torch.zeros(heads))
        self.out = nn.Linear(width, width)

    def mask(self, n: int) -> torch.Tensor:
        return torch.zeros(n, n)

    def forward(self, h: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        n, heads = len(h), len(self.slope)
        q, k, v = self.qkv(h).view(n, 3, heads, -1).permute(1, 2, 0, 3)
        scores = q @ k.mT / q.shape[-1] ** 0.5 + self.slope[:, None, None] * adjacency
        mixed = torch.softmax(scores + self.mask(n).to(h.dtype), -1) @ v
        return self.out(mixed.transpose(0, 1).flatten(1))


class TransformerLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, h: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        h = h + self.attention(self.norm(h), adjacency)
        return h + self.feed(h)


class GraphTransformer(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.encoding = HeatEncoding()
        self.embedding = nn.Linear(8, width)
        self.layers = nn.ModuleList(TransformerLayer(width) for _ in range(3))
        self.head = nn.Linear(width, 2)

    def forward(self, h: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        h = self.embedding(torch.cat([h, self.encoding(adjacency)], -1))
        for layer in self.layers:
            h = layer(h, adjacency)
        return self.head(h)


def laplacian(adjacency: torch.Tensor) -> torch.Tensor:
    return torch.diag(adjacency.sum(1)) - adjacency


def weighted(sizes: tuple[int, ...]) -> object:
    def inputs(seed: int) -> Inputs:
        random = generator(seed + 9)
        n = sizes[seed % len(sizes)]
        weights = normal(random, n, n).square() * (normal(random, n, n) > 0)
        return {"h": normal(random, n, 4), "adjacency": weights + weights.T}

    return inputs


TRANSFORMER = Network(
    "graph transformer, 3 layers",
    GraphTransformer,
    "S(nodes)",
    {"h": "nodes features", "adjacency": "nodes nodes"},
    "nodes classes",
    weighted((9, 12, 21)),  # type: ignore[arg-type]
)
TRANSFORMER.healthy("graph_transformer")


@TRANSFORMER.bug(
    "graph_laplacian_eigenvectors",
    "discontinuity",
    "encoding",
    respected=None,
    severity="eigenvectors with the signs that LAPACK happens to give",
)
class Eigenvectors(nn.Module):
    def forward(self, adjacency: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigh(laplacian(adjacency))[1][:, 1:5]


@TRANSFORMER.bug(
    "graph_attention_in_chunks",
    "size-dependence",
    "layers.1.attention",
    respected=None,
    severity="above 16 nodes alone: attention within chunks of 16",
)
class ChunkedAttention(Attention):
    def mask(self, n: int) -> torch.Tensor:
        chunk = torch.arange(n) // 16
        return torch.where(chunk[:, None] == chunk, 0.0, -torch.inf)


# Geometric graphs whose edges carry directions


class EdgeGate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = mlp(2 * width + 1, width, width)

    def forward(self, h: torch.Tensor, along: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return self.mlp(torch.cat([h[edges[0]], h[edges[1]], along], -1))


class BondGraph(nn.Module):
    """Positions, and a direction on each edge such as a bond's dipole."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, width)
        self.gates = nn.ModuleList(EdgeGate(width) for _ in range(3))
        self.updates = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.weight = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor, edges: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        h = self.embedding(h)
        d = x[edges[0]] - x[edges[1]]
        along = (d * u).sum(-1, keepdim=True) / (1 + d.square().sum(-1, keepdim=True))
        for gate, update in zip(self.gates, self.updates, strict=True):
            m = gate(h, along, edges)
            h = h + torch.tanh(update(gathered(m, edges[0], len(h))))
        return gathered(self.weight(m) * d, edges[0], len(x))


def bonds(seed: int) -> Inputs:
    random = generator(seed + 70)
    n = (7, 9, 6)[seed % 3]
    near = torch.rand(n, n, generator=random) < 0.4
    edges = (near & ~torch.eye(n, dtype=torch.bool)).nonzero().T
    return {
        "x": normal(random, n, 3),
        "h": normal(random, n, 4),
        "edges": edges,
        "u": normal(random, edges.shape[1], 3),
    }


BONDS = Network(
    "message passing with directions on edges, 3 layers",
    BondGraph,
    "E(3) x S(nodes)",
    {"x": "nodes point", "h": "nodes features", "edges": "2 edges : nodes", "u": "edges vector"},
    "nodes vector",
    bonds,
)
BONDS.healthy("bond_graph")
BONDS.misdeclared(
    "bond_directions_not_turned",
    "untransformed-input",
    in_layouts={**BONDS.in_layouts, "u": "edges 3"},
    repair={"in_layouts": BONDS.in_layouts},
    respected="T(3) x S(nodes)",
    severity="gross; directions on edges are declared plain",
)
