"""More graphs and molecules: attention on edges with pooling, crystals in a field, chains of atoms."""

from __future__ import annotations

import torch
from torch import nn

from .case import Inputs, Network, bumps, gathered, generator, mlp, normal

# Attention on edges, isomorphism layers, pooling by the best nodes, and a readout by a recurrent query


class EdgeSoftmax(nn.Module):
    """Softmax over the edges that enter the same node: [edges, heads]."""

    def forward(self, logits: torch.Tensor, receiver: torch.Tensor, n: int) -> torch.Tensor:
        e = torch.exp(torch.clamp(logits, -9, 9))
        return e / gathered(e, receiver, n)[receiver]


class Fetch(nn.Module):
    """Rows of nodes, for edges."""

    def forward(self, h: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return h[index]


class GraphAttention(nn.Module):
    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.fetch = Fetch()
        self.send = nn.Linear(width, width)
        self.score = nn.Linear(2 * width + 2, heads)
        self.softmax = EdgeSoftmax()

    def forward(self, h: torch.Tensor, w: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        n = len(h)
        sender = self.fetch(h, edges[1])
        logits = nn.functional.silu(self.score(torch.cat([h[edges[0]], sender, w], -1)))
        weights = self.softmax(logits, edges[0], n)
        sent = self.send(sender).unflatten(-1, (weights.shape[1], -1))
        return h + torch.tanh(gathered((weights[..., None] * sent).flatten(1), edges[0], n))


class Collect(nn.Module):
    """Sums what neighbours send: [edges, c] -> [n, c]."""

    def forward(self, m: torch.Tensor, receiver: torch.Tensor, n: int) -> torch.Tensor:
        return gathered(m, receiver, n)


class Isomorphism(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.collect = Collect()
        self.eps = nn.Parameter(torch.empty(1))
        self.mlp = mlp(width, 2 * width, width)

    def forward(self, h: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.mlp((1 + self.eps) * h + self.collect(h[edges[1]], edges[0], len(h))))


class BestHalf(nn.Module):
    """Keeps the better half of the nodes of each graph, gated by their scores: [n, c] -> [n, c]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def kept(self, score: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        same = batch[:, None] == batch
        better = (same & (score[None] > score[:, None])).sum(1)
        return better < (same.sum(1) + 1) // 2

    def forward(self, h: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        score = self.score(h)[:, 0]
        return h * (torch.sigmoid(score) * self.kept(score, batch))[:, None]


class RecurrentQuery(nn.Module):
    """Set2Set: a recurrent cell asks the nodes of each graph three times."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.cell = nn.GRUCell(width, width)

    def start(self, h: torch.Tensor, graphs: int) -> torch.Tensor:
        return h.new_zeros(graphs, h.shape[1])

    def forward(self, h: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        graphs = int(batch.max()) + 1
        state = self.start(h, graphs)
        taken = torch.zeros_like(state)
        for _ in range(3):
            state = self.cell(taken, state)
            e = torch.exp((h * state[batch]).sum(-1, keepdim=True))
            taken = gathered(e * h, batch, graphs) / gathered(e, batch, graphs)
        return torch.cat([state, taken], -1)


class PooledNet(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, width)
        self.attention = GraphAttention(width)
        self.first = Isomorphism(width)
        self.pool = BestHalf(width)
        self.coarse = nn.ModuleList(Isomorphism(width) for _ in range(2))
        self.query = RecurrentQuery(width)
        self.nodes = nn.Linear(width, 2)
        self.graphs = nn.Linear(2 * width, 3)

    def forward(
        self, h: torch.Tensor, edges: torch.Tensor, w: torch.Tensor, batch: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        h = self.first(self.attention(self.embedding(h), w, edges), edges)
        coarse = self.pool(h, batch)
        for layer in self.coarse:
            coarse = layer(coarse, edges)
        h = h + coarse
        return {"nodes": self.nodes(h), "graphs": self.graphs(self.query(h, batch))}


def batches(seed: int) -> Inputs:
    """Trees with a few edges more, two or three in a batch; each edge in both directions, in a random order."""
    random = generator(seed + 140)
    sizes = [(6, 5), (7, 4, 5), (5, 8)][seed % 3]
    pairs, start = [], 0
    for n in sizes:
        for k in range(1, n):
            pairs.append((start + k, start + int(torch.randint(k, (1,), generator=random))))
        pairs += [(start + k, start + (k + 3) % n) for k in range(n - 1)]
        start += n
    both = sorted({(a, b) for i, j in pairs if i != j for a, b in ((i, j), (j, i))})
    edges = torch.tensor(both).T[:, torch.randperm(len(both), generator=random)]
    batch = torch.cat([torch.full((n,), k) for k, n in enumerate(sizes)])
    return {
        "h": normal(random, len(batch), 3),
        "edges": edges,
        "w": normal(random, edges.shape[1], 2),
        "batch": batch,
    }


POOLED = Network(
    "graph attention with pooling by scores and a recurrent readout",
    PooledNet,
    "S(nodes) x S(edges)",
    {"h": "nodes features", "edges": "2 edges : nodes", "w": "edges features", "batch": "nodes"},
    {"nodes": "nodes classes", "graphs": "graphs channel"},
    batches,
    {"segments": {"nodes": "batch"}},
)
POOLED.healthy("pooled_graphs")
POOLED.misdeclared(
    "pooled_graphs_edges_not_renumbered",
    "untransformed-input",
    in_layouts={**POOLED.in_layouts, "edges": "2 edges"},
    repair={"in_layouts": POOLED.in_layouts},
    respected="S(edges)",
    severity="gross; nodes are renumbered, and the list of edges keeps the old numbers",
)


@POOLED.bug(
    "pooled_graphs_last_message",
    "permutation",
    "coarse.1.collect",
    respected="S(nodes)",
    severity="a node keeps the last message of the list alone, as of a write where a sum was meant",
)
class LastMessage(Collect):
    def forward(self, m: torch.Tensor, receiver: torch.Tensor, n: int) -> torch.Tensor:
        last = torch.full((n,), -1).scatter_reduce(0, receiver, torch.arange(len(m)), "amax")
        return m[last] * (last >= 0)[:, None]


@POOLED.bug(
    "pooled_graphs_three_edges",
    "neighbour-cap",
    "attention.softmax",
    respected="S(nodes)",
    severity="nodes with more than three edges alone: attention is to the first three of the list",
)
class FirstThree(EdgeSoftmax):
    def forward(self, logits: torch.Tensor, receiver: torch.Tensor, n: int) -> torch.Tensor:
        before = (receiver[:, None] == receiver).tril(-1).sum(1)
        e = torch.exp(torch.clamp(logits, -9, 9)) * (before < 3)[:, None]
        return e / gathered(e, receiver, n)[receiver]


@POOLED.bug(
    "pooled_graphs_fetch_backward",
    "wrong-backward",
    "attention.fetch",
    evidence="derivative",
    most=1e-6,
    respected="S(nodes) x S(edges)",
    severity="forward exact; in the backward of an index the last edge overwrites what others add",
    options={"gradients": True},
)
class OverwritingFetch(Fetch):
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, h, index):
            ctx.save_for_backward(index)
            ctx.count = len(h)
            return h[index]

        @staticmethod
        def backward(ctx, grad):
            (index,) = ctx.saved_tensors
            last = torch.full((ctx.count,), -1).scatter_reduce(0, index, torch.arange(len(index)), "amax")
            return grad[last] * (last >= 0)[:, None], None

    def forward(self, h: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return self.Function.apply(h, index)


@POOLED.bug(
    "pooled_graphs_best_of_all",
    "batch-cross-talk",
    "pool",
    evidence="batch",
    respected="S(nodes) x S(edges)",
    severity="the better half of the nodes of all graphs of a batch, and not of each",
    verdict="NEEDS_ATTENTION",
)
class BestOfAll(BestHalf):
    def kept(self, score: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        return super().kept(score, torch.zeros_like(batch))


@POOLED.bug(
    "pooled_graphs_query_remembers",
    "state-drift",
    "query",
    evidence="calls",
    respected="S(nodes) x S(edges)",
    severity="the recurrent readout starts from where the call before ended",
    verdict="NEEDS_ATTENTION",
)
class RememberingQuery(RecurrentQuery):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero_state", torch.zeros(8))

    def start(self, h: torch.Tensor, graphs: int) -> torch.Tensor:
        return self.zero_state.expand(graphs, -1)

    def forward(self, h: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        out = super().forward(h, batch)
        self.zero_state = out[:, :8].detach().mean(0)
        return out


@POOLED.bug(
    "pooled_graphs_fresh_generator",
    "nondeterminism",
    "first",
    evidence="calls",
    respected=None,
    severity="noise of 1e-3 from a generator that each call makes anew and seeds from the operating system",
    verdict="NEEDS_ATTENTION",
)
class FreshNoise(Isomorphism):
    def __init__(self) -> None:
        super().__init__(8)

    def forward(self, h: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        random = torch.Generator()
        random.seed()
        return super().forward(h, edges) + 1e-3 * torch.randn(h.shape, generator=random, dtype=h.dtype)


# Crystals with lists of edges across the cell, in an electric field


class ContinuousFilter(nn.Module):
    """Filters of distance on edges, with an envelope that vanishes at 3: [edges, 3] -> [edges, c]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = mlp(4, width, width)

    def forward(self, d: torch.Tensor) -> torch.Tensor:
        r2 = d.square().sum(-1)
        return self.mlp(bumps(r2)) * (1 - r2 / 9).clamp_min(0).square()[:, None]


class CrystalConv(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.filter = ContinuousFilter(width)
        self.send = nn.Linear(width, width)
        self.update = mlp(width, width, width)

    def forward(self, h: torch.Tensor, d: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        m = self.filter(d) * self.send(h)[edges[1]]
        return h + torch.tanh(self.update(gathered(m, edges[0], len(h))))


class Response(nn.Module):
    """What a field adds to the dipoles of atoms whose polarisabilities are tensors: [n, 3, 3], [3] -> [n, 3]."""

    def forward(self, tensor: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nxy,y->nx", tensor, field)


class FieldCrystal(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, width)
        self.convs = nn.ModuleList(CrystalConv(width) for _ in range(3))
        self.anisotropy = nn.Linear(2 * width, 1)
        self.isotropy = nn.Linear(width, 1)
        self.charge = nn.Linear(2 * width, 1)
        self.response = Response()
        self.energy = mlp(width + 1, width, 1)

    def forward(
        self,
        x: torch.Tensor,
        cell: torch.Tensor,
        z: torch.Tensor,
        edges: torch.Tensor,
        offsets: torch.Tensor,
        field: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        d = x[edges[1]] + offsets @ cell - x[edges[0]]
        h = self.embedding(z)
        for conv in self.convs:
            h = conv(h, d, edges)
        both = torch.cat([h[edges[0]], h[edges[1]]], -1)
        fade = (1 - d.square().sum(-1, keepdim=True) / 9).clamp_min(0).square()
        own = gathered(self.charge(both) * fade * d, edges[0], len(h))
        outer = (self.anisotropy(both) * fade)[..., None] * d[:, :, None] * d[:, None]
        tensor = gathered(outer, edges[0], len(h)) + self.isotropy(h)[..., None] * torch.eye(3, dtype=x.dtype)
        dipole = own + self.response(tensor, field)
        work = (dipole * field).sum(-1, keepdim=True)
        return {"energy": self.energy(torch.cat([h, work], -1)).sum(), "dipole": dipole.sum(0)}


def listed(seed: int) -> Inputs:
    """Skewed cells of side about 3.2 with four to six atoms, and all edges shorter than 3, across the cell too."""
    random = generator(seed + 150)
    n = (5, 4, 6)[seed % 3]
    cell = 3.2 * torch.eye(3) + 0.3 * normal(random, 3, 3)
    f = torch.rand(n, 3, generator=random, dtype=torch.float64).to(cell.dtype)
    x = f @ cell
    ticks = torch.arange(-2, 3)
    shifts = torch.cartesian_prod(ticks, ticks, ticks)
    d = x[None, :, None] + (shifts.to(cell.dtype) @ cell)[None, None] - x[:, None, None]
    r2 = d.square().sum(-1)
    i, j, k = ((r2 < 9) & (r2 > 1e-6)).nonzero().T
    order = torch.randperm(len(i), generator=random)
    return {
        "x": x,
        "cell": cell,
        "z": torch.randint(4, (n,), generator=random),
        "edges": torch.stack([i, j])[:, order],
        "offsets": shifts[k][order].to(cell.dtype),
        "field": normal(random, 3),
    }


IN_FIELD = Network(
    "crystal with a list of edges, in a field, 3 convolutions",
    FieldCrystal,
    "E(3) x S(atoms) x S(edges)",
    {
        "x": "atoms point",
        "cell": "3 vector",
        "z": "atoms",
        "edges": "2 edges : atoms",
        "offsets": "edges 3",
        "field": "vector",
    },
    {"energy": "", "dipole": "vector"},
    listed,
)
IN_FIELD.healthy("crystal_in_field")
IN_FIELD.misdeclared(
    "crystal_field_not_turned",
    "untransformed-input",
    in_layouts={**IN_FIELD.in_layouts, "field": "3"},
    repair={"in_layouts": IN_FIELD.in_layouts},
    respected="T(3) x S(atoms) x S(edges)",
    severity="gross; an electric field is declared plain, while positions and cell turn",
)


@IN_FIELD.bug(
    "crystal_in_field_diagonal",
    "custom-layer-bug",
    "response",
    respected="Oh x T(3) x S(atoms) x S(edges)",
    severity="an index too many in an `einsum`: of each tensor the diagonal alone meets the field",
)
class DiagonalResponse(Response):
    def forward(self, tensor: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nxx,x->nx", tensor, field)


# Chains of atoms: bonds, angles between bonds, and torsions, along the chain


class BondLengths(nn.Module):
    """Lengths of bonds along the atoms of a chain, [n, 3] -> [n]; the last is 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad((x[1:] - x[:-1]).square().sum(-1).sqrt(), (0, 1))


class BondAngles(nn.Module):
    """A function of the angle between two bonds that follow each other: [n - 2]."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a * b).sum(-1) / ((a.square().sum(-1) * b.square().sum(-1)) + 1e-4).sqrt()


class Torsions(nn.Module):
    """Cosine of the angle about the middle one of three bonds, and how far they are from a plane: [n - 3, 2]."""

    def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        p, q = torch.linalg.cross(a, b), torch.linalg.cross(b, c)
        size = ((p.square().sum(-1) + 1e-2) * (q.square().sum(-1) + 1e-2)).sqrt()
        volume = (p * c).sum(-1)
        return torch.stack([(p * q).sum(-1) / size, volume.square() / (1 + volume.square())], -1)


class Chain(nn.Module):
    """A recurrent network along the chain, in both directions; an energy, and a vector from weighted bonds."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, width)
        self.lengths = BondLengths()
        self.angles = BondAngles()
        self.torsions = Torsions()
        self.mix = nn.Linear(width + 4, width)
        self.recurrent = nn.GRU(width, width, bidirectional=True)
        self.energy = mlp(2 * width, width, 1)
        self.weight = nn.Linear(2 * width, 1)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        b = x[1:] - x[:-1]
        angles = nn.functional.pad(self.angles(b[:-1], b[1:]), (1, 1))
        torsions = nn.functional.pad(self.torsions(b[:-2], b[1:-1], b[2:]), (0, 0, 1, 2))
        features = torch.cat([self.embedding(z), self.lengths(x)[:, None], angles[:, None], torsions], -1)
        h = self.recurrent(torch.tanh(self.mix(features)))[0]
        return {"energy": self.energy(h).sum(), "reach": (self.weight(h[1:]) * b).sum(0)}


def chains(seed: int) -> Inputs:
    """Atoms that follow each other at distances of about one."""
    random = generator(seed + 160)
    n = (7, 9, 6)[seed % 3]
    step = normal(random, n, 3)
    step = step / step.norm(dim=-1, keepdim=True) * (1 + 0.2 * torch.tanh(normal(random, n, 1)))
    return {"x": step.cumsum(0), "z": torch.randint(4, (n,), generator=random)}


CHAIN = Network(
    "recurrent network along a chain of atoms, by bonds, angles and torsions",
    Chain,
    "E(3)",
    {"x": "time point", "z": "time"},
    {"energy": "", "reach": "vector"},
    chains,
)
CHAIN.healthy("chain")


@CHAIN.bug(
    "chain_signed_torsions",
    "parity",
    "torsions",
    respected="SE(3)",
    severity="1e-3 of the sine of torsions, whose sign a mirror changes, beside their cosine",
    verdict="NEEDS_ATTENTION",
)
class SignedTorsions(Torsions):
    def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        volume = (torch.linalg.cross(a, b) * c).sum(-1)
        even = super().forward(a, b, c)
        return torch.stack([even[:, 0] + 1e-3 * torch.tanh(volume), even[:, 1]], -1)


@CHAIN.bug(
    "chain_padded_lengths",
    "nan-gradient",
    "lengths",
    evidence="nan",
    respected="E(3)",
    severity="forward exact; the last atom is bonded to itself, and the root of 0 is masked after it is taken",
    options={"gradients": True},
)
class PaddedLengths(BondLengths):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        r2 = (torch.cat([x[1:], x[-1:]]) - x).square().sum(-1)
        return torch.where(r2 > 0, r2.sqrt(), 0.0)


@CHAIN.bug(
    "chain_detached_angles",
    "detached-gradient",
    "angles",
    evidence="derivative",
    most=1e-6,
    respected="E(3)",
    severity="forward exact; angles go through an array without a graph",
    verdict="PASS",
    options={"gradients": True},
)
class ArrayAngles(BondAngles):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(super().forward(a, b).detach().numpy().copy())
