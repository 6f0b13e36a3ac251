"""Tables of users and items, hypergraphs, graphs with tensors on nodes, and padded batches of jets."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from .case import Inputs, Network, Pair, gathered, generator, mlp, normal

# Ratings of items by users


class Ranks(nn.Module):
    """Where each rating stands among those of its user, from 0 to 1; 0 where there is none."""

    def forward(self, ratings: torch.Tensor, rated: torch.Tensor) -> torch.Tensor:
        order = ratings.masked_fill(~rated, torch.inf).argsort(1)
        place = order.argsort(1).to(ratings.dtype)
        return torch.where(rated, (place + 1) / rated.sum(1, keepdim=True), 0.0)


class Profile(nn.Module):
    """What an item shows of itself to users."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(items))


class Popularity(nn.Module):
    """Means of messages over the users that rated: [users, items, c] -> [items, c]."""

    def forward(self, m: torch.Tensor, rated: torch.Tensor) -> torch.Tensor:
        seen = rated[..., None].to(m.dtype)
        return (m * seen).sum(0) / seen.sum(0)


class Temper(nn.Module):
    """Scales scores, by head."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads))

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        return scores * self.weight[:, None, None]


class Preferences(nn.Module):
    """Users look at the items that they rated: [users, c] -> [users, c]."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.keyvalue = nn.Linear(width, 2 * width)
        self.by_rating = nn.Linear(2, heads)
        self.heads = heads

    def scores(self, users: torch.Tensor, keys: torch.Tensor, told: torch.Tensor, rated: torch.Tensor) -> torch.Tensor:
        q, k = (t.unflatten(-1, (self.heads, -1)).transpose(0, 1) for t in (self.query(users), keys))
        return q @ k.mT / k.shape[-1] ** 0.5 + self.by_rating(told).movedim(-1, 0)

    def forward(
        self, users: torch.Tensor, items: torch.Tensor, told: torch.Tensor, rated: torch.Tensor, temper: nn.Module
    ) -> torch.Tensor:
        keys, values = self.keyvalue(items).chunk(2, -1)
        scores = temper(self.scores(users, keys, told, rated)).masked_fill(~rated, -torch.inf)
        mixed = torch.softmax(scores, -1) @ values.unflatten(-1, (self.heads, -1)).transpose(0, 1)
        return mixed.transpose(0, 1).flatten(1)


class TableLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.profile = Profile(width)
        self.message = mlp(2 * width + 2, width, width)
        self.popularity = Popularity()
        self.temper = Temper()
        self.preferences = Preferences(width)
        self.update_items = nn.GRUCell(width, width)
        self.update_users = nn.GRUCell(width, width)

    def forward(self, users: torch.Tensor, items: torch.Tensor, told: torch.Tensor, rated: torch.Tensor) -> Pair:
        size = (len(users), len(items), -1)
        shown = self.profile(items)
        m = self.message(torch.cat([users[:, None].expand(size), shown[None].expand(size), told], -1))
        items = self.update_items(self.popularity(m, rated), items)
        users = self.update_users(self.preferences(users, items, told, rated, self.temper), users)
        return users, items


class Recommender(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.ranks = Ranks()
        self.users = nn.Linear(3, width)
        self.items = nn.Linear(4, width)
        self.layers = nn.ModuleList(TableLayer(width) for _ in range(3))
        self.score = nn.Bilinear(width, width, 1)
        self.head = nn.Linear(width, 2)

    def forward(
        self, users: torch.Tensor, items: torch.Tensor, ratings: torch.Tensor, rated: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        told = torch.stack([ratings * rated, self.ranks(ratings, rated)], -1)
        users, items = self.users(users), self.items(items)
        for layer in self.layers:
            users, items = layer(users, items, told, rated)
        size = (len(users), len(items), -1)
        predicted = self.score(users[:, None].expand(size).contiguous(), items[None].expand(size).contiguous())
        return {"ratings": predicted[..., 0], "items": self.head(items)}


def tables(seed: int) -> Inputs:
    """Each user has rated something, and each item is rated."""
    random = generator(seed + 610)
    n, m = ((7, 9), (6, 5), (11, 8))[seed % 3]
    rated = torch.rand(n, m, generator=random) < 0.4
    k = torch.arange(max(n, m))
    rated[k % n, k % m] = True
    return {
        "users": normal(random, n, 3),
        "items": normal(random, m, 4),
        "ratings": normal(random, n, m) * rated,
        "rated": rated,
    }


TABLES = Network(
    "recommender on a table of ratings, 3 layers of gated updates with ranks",
    Recommender,
    "S(users) x S(items)",
    {"users": "users features", "items": "items features", "ratings": "users items", "rated": "users items"},
    {"ratings": "users items", "items": "items channel"},
    tables,
)
TABLES.healthy("recommender")


@TABLES.bug(
    "recommender_recency",
    "permutation",
    "layers.1.preferences",
    respected="S(users)",
    severity="one of two heads lets ratings fade by how many rated items stand behind them in the table",
)
class Recency(Preferences):
    def scores(self, users: torch.Tensor, keys: torch.Tensor, told: torch.Tensor, rated: torch.Tensor) -> torch.Tensor:
        age = rated.flip(1).cumsum(1).flip(1).to(keys.dtype)
        fading = torch.tensor([1.0, 0.0], dtype=keys.dtype)
        return super().scores(users, keys, told, rated) - fading[:, None, None] * age


@TABLES.bug(
    "recommender_item_ids",
    "positional-encoding",
    "layers.1.profile",
    also_right=("layers.1.profile.codes",),
    respected="S(users)",
    severity="a hashed table of item numbers is added in one layer",
)
class HashedIds(Profile):
    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Embedding(5, 8)

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        numbers = (torch.arange(len(items)) * 7 + 3) % 5
        return super().forward(items) + 0.3 * self.codes(numbers)


@TABLES.bug(
    "recommender_mean_of_means",
    "size-dependence",
    "layers.1.popularity",
    respected="S(items)",
    severity="above 8 users alone: means of blocks of 8 are averaged, though blocks hold unequal numbers of ratings",
)
class BlockMeans(Popularity):
    def forward(self, m: torch.Tensor, rated: torch.Tensor) -> torch.Tensor:
        means, filled = [], []
        for block, seen in zip(m.split(8), rated.split(8), strict=True):
            count = seen.sum(0)[:, None]
            means.append((block * seen[..., None]).sum(0) / count.clamp_min(1))
            filled.append((count > 0).to(m.dtype))
        return torch.stack(means).sum(0) / torch.stack(filled).sum(0)


@TABLES.bug(
    "recommender_annealing",
    "state-drift",
    "layers.2.temper",
    evidence="calls",
    respected="S(users) x S(items)",
    severity="a temperature is annealed by a counter of calls, which counts in eval mode too",
    verdict="NEEDS_ATTENTION",
)
class Annealed(Temper):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return super().forward(scores) * (2 - 0.9 ** self.steps.to(scores.dtype))


# Hypergraphs by lists of members


class Roster(nn.Module):
    """Where in the list the members of each hyperedge stand, and which of these places are filled: [edges, k]."""

    def forward(self, edge: torch.Tensor, count: int) -> Pair:
        order = torch.argsort(edge, stable=True)
        sizes = torch.bincount(edge, minlength=count)
        places = torch.arange(int(sizes.max()))
        filled = places < sizes[:, None]
        start = sizes.cumsum(0) - sizes
        return order[(start[:, None] + places).clamp_max(len(edge) - 1)], filled


class Pool(nn.Module):
    """Softmax over the members of each hyperedge: [edges, k, c] -> [edges, c]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, rows: torch.Tensor, filled: torch.Tensor) -> torch.Tensor:
        scores = self.score(torch.tanh(rows))[..., 0].masked_fill(~filled, -torch.inf)
        return (torch.softmax(scores, -1)[..., None] * rows).sum(1)


class Spread(nn.Module):
    """Deviation of the members of each hyperedge from their mean."""

    eps = 1e-2

    def forward(self, rows: torch.Tensor, filled: torch.Tensor) -> torch.Tensor:
        weight = filled[..., None].to(rows.dtype)
        size = weight.sum(1, keepdim=True)
        mean = (rows * weight).sum(1, keepdim=True) / size
        return (((rows - mean).square() * weight / size).sum(1) + self.eps).sqrt()


class Report(nn.Module):
    """What hyperedges report to their members, gated: -> [nodes, c]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * width, width)

    def forward(self, m: torch.Tensor, e: torch.Tensor, node: torch.Tensor, count: int) -> torch.Tensor:
        return gathered(torch.sigmoid(self.gate(torch.cat([m, e], -1))) * e, node, count)


class HyperLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.roster = Roster()
        self.message = mlp(2 * width + 2, width, width)
        self.pool = Pool(width)
        self.spread = Spread()
        self.update_edges = nn.Linear(3 * width, width)
        self.report = Report(width)
        self.update_nodes = nn.Linear(2 * width, width)

    def forward(
        self, h: torch.Tensor, e: torch.Tensor, w: torch.Tensor, node: torch.Tensor, edge: torch.Tensor
    ) -> Pair:
        m = self.message(torch.cat([h[node], e[edge], w], -1))
        place, filled = self.roster(edge, len(e))
        rows = m[place]
        told = torch.cat([e, self.pool(rows, filled), self.spread(rows, filled)], -1)
        e = e + torch.tanh(self.update_edges(told))
        h = h + torch.tanh(self.update_nodes(torch.cat([h, self.report(m, e[edge], node, len(h))], -1)))
        return h, e


class HyperNet(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.nodes = nn.Linear(4, width)
        self.edges = nn.Linear(3, width)
        self.layers = nn.ModuleList(HyperLayer(width) for _ in range(3))
        self.node_head = nn.Linear(width, 3)
        self.edge_head = mlp(width, width, 2)

    def forward(
        self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, node: torch.Tensor, edge: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        h, e = self.nodes(x), self.edges(y)
        for layer in self.layers:
            h, e = layer(h, e, w, node, edge)
        return {"nodes": self.node_head(h), "edges": self.edge_head(e)}


def hypergraph(seed: int) -> Inputs:
    """Hyperedges of one to seven members, in a list without order."""
    random = generator(seed + 710)
    n = (9, 8, 11)[seed % 3]
    sizes = [(1, 7, 3, 2, 5, 4), (6, 1, 4, 2, 3), (2, 5, 1, 3, 7, 4, 6)][seed % 3]
    node = torch.cat([torch.randperm(n, generator=random)[:k] for k in sizes])
    edge = torch.cat([torch.full((k,), number) for number, k in enumerate(sizes)])
    order = torch.randperm(len(node), generator=random)
    return {
        "x": normal(random, n, 4),
        "y": normal(random, len(sizes), 3),
        "w": normal(random, len(node), 2),
        "node": node[order],
        "edge": edge[order],
    }


HYPER = Network(
    "hypergraph network on padded rosters of members, 3 layers",
    HyperNet,
    "S(nodes) x S(edges) x S(members)",
    {
        "x": "nodes features",
        "y": "edges features",
        "w": "members features",
        "node": "members : nodes",
        "edge": "members : edges",
    },
    {"nodes": "nodes classes", "edges": "edges classes"},
    hypergraph,
)
HYPER.healthy("hypergraph")


@HYPER.bug(
    "hypergraph_short_roster",
    "neighbour-cap",
    "layers.1.roster",
    respected="S(nodes) x S(edges)",
    severity="a roster has five places; hyperedges of six and seven lose those members that the list names last",
)
class ShortRoster(Roster):
    def forward(self, edge: torch.Tensor, count: int) -> Pair:
        place, filled = super().forward(edge, count)
        return place[:, :5], filled[:, :5]


@HYPER.bug(
    "hypergraph_deviation_of_one",
    "nan-gradient",
    "layers.1.spread",
    evidence="nan",
    respected="S(nodes) x S(edges) x S(members)",
    severity="forward exact; hyperedges of one member deviate by the root of 0",
    options={"gradients": True},
)
class BareSpread(Spread):
    eps = 0.0


# Currents in a medium: a conductivity tensor at each node of a graph in space


class EdgeShape(nn.Module):
    """Smooth functions of an edge's length: [edges, 4]."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        r2 = (a - b).square().sum(-1, keepdim=True)
        return torch.exp(-r2 / torch.tensor([0.5, 1.5, 4.0, 9.0], dtype=r2.dtype))


class Conductor(nn.Module):
    """Bounds symmetric matrices, by a function of their eigenvalues: s / (1 + s^2)."""

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        return torch.linalg.solve(torch.eye(3, dtype=s.dtype) + s @ s, s)


class Swirl(nn.Module):
    """Adds double cross products of channels: [n, c, 3]."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.zeros(channels, channels))
        self.right = nn.Parameter(torch.zeros(channels, channels))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        a, b = self.left @ v, self.right @ v
        return v + torch.linalg.cross(torch.linalg.cross(a, b), v) / (1 + v.square().sum((-2, -1), keepdim=True))


class MediumLayer(nn.Module):
    def __init__(self, width: int, channels: int = 3) -> None:
        super().__init__()
        self.shape = EdgeShape()
        self.filter = mlp(2 * width + 6, width, 2 * channels)
        self.conductor = Conductor()
        self.swirl = Swirl(channels)
        self.update = nn.Linear(width + 3 * channels, width)

    def forward(
        self, h: torch.Tensor, v: torch.Tensor, x: torch.Tensor, w: torch.Tensor, edges: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        to, source = edges
        d = x[to] - x[source]
        d = d / (1 + d.square().sum(-1, keepdim=True)).sqrt()
        told = torch.cat([h[to], h[source], w, self.shape(x[to], x[source])], -1)
        strength, push = self.filter(told).chunk(2, -1)
        s = gathered(strength[..., None, None] * (d[:, None, :, None] * d[:, None, None]), to, len(h))
        conduct = self.conductor(s)
        v = v + gathered(push[..., None] * d[:, None] + 0.3 * v[source], to, len(h)) / 2
        v = self.swirl(v + (conduct @ v[..., None])[..., 0])
        seen = [conduct.diagonal(dim1=-2, dim2=-1).sum(-1), v.square().sum(-1), (v * v.roll(1, 1)).sum(-1)]
        return h + torch.tanh(self.update(torch.cat([h, *seen], -1))), v, conduct


class Stress(nn.Module):
    """Symmetric matrices as xx, yy, zz, yz, xz, xy."""

    rows, columns = (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)

    def forward(self, s: torch.Tensor) -> torch.Tensor:
        return (0.5 * (s + s.mT))[..., self.rows, self.columns]


class Medium(nn.Module):
    def __init__(self, width: int = 8, channels: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, width)
        self.layers = nn.ModuleList(MediumLayer(width) for _ in range(3))
        self.mix = nn.Linear(channels, 1, bias=False)
        self.weights = nn.Linear(width, channels)
        self.stress = Stress()
        self.edge_head = mlp(2 * width + 2, width, 2)

    def forward(
        self, x: torch.Tensor, h: torch.Tensor, w: torch.Tensor, edges: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        h = self.embedding(h)
        v = h.new_zeros(len(h), self.mix.in_features, 3)
        for layer in self.layers:
            h, v, conduct = layer(h, v, x, w, edges)
        return {
            "flow": self.mix(v.mT)[..., 0],
            "stress": self.stress((self.weights(h)[..., None, None] * conduct).sum(1)),
            "edges": self.edge_head(torch.cat([h[edges[0]], h[edges[1]], w], -1)),
        }


def media(seed: int) -> Inputs:
    """Rings with chords, in both directions, in a random order."""
    random = generator(seed + 810)
    n = (7, 9, 8)[seed % 3]
    near = torch.rand(n, n, generator=random) < 0.25
    near[torch.arange(n), (torch.arange(n) + 1) % n] = True
    edges = ((near | near.T) & ~torch.eye(n, dtype=torch.bool)).nonzero().T
    edges = edges[:, torch.randperm(edges.shape[1], generator=random)]
    return {
        "x": 1.2 * normal(random, n, 3) + 0.5,
        "h": normal(random, n, 4),
        "w": normal(random, edges.shape[1], 2),
        "edges": edges,
    }


MEDIUM = Network(
    "currents in a medium with conductivity tensors on nodes, 3 layers",
    Medium,
    "E(3) x S(nodes) x S(edges)",
    {"x": "nodes point", "h": "nodes features", "w": "edges features", "edges": "2 edges : nodes"},
    {"flow": "nodes vector", "stress": "nodes voigt", "edges": "edges classes"},
    media,
)
MEDIUM.healthy("medium")


@MEDIUM.bug(
    "medium_single_swirl",
    "parity",
    "layers.1.swirl",
    respected="SE(3) x S(nodes) x S(edges)",
    severity="in one of three channels a cross product is added to a polar vector",
)
class SingleSwirl(Swirl):
    def forward(self, v: torch.Tensor) -> torch.Tensor:
        axial = torch.linalg.cross(self.left[:1] @ v, self.right[:1] @ v)
        turned = super().forward(v)
        return torch.cat([turned[:, :2], turned[:, 2:] + 0.1 * axial], 1)


@MEDIUM.bug(
    "medium_midpoints",
    "translation-leak",
    "layers.1.shape",
    respected="O(3) x S(nodes) x S(edges)",
    severity="one of four functions of an edge is that of its midpoint's distance from the origin",
)
class Midpoints(EdgeShape):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        middle = (0.5 * (a + b)).square().sum(-1, keepdim=True)
        return torch.cat([super().forward(a, b)[:, :3], torch.exp(-middle / 9)], -1)


@MEDIUM.bug(
    "medium_frozen_eigenvectors",
    "detached-gradient",
    "layers.1.conductor",
    evidence="derivative",
    most=1e-6,
    respected="E(3) x S(nodes) x S(edges)",
    severity="forward exact; principal axes are taken as constants, so that eigenvalues alone have a gradient",
    verdict="PASS",
    options={"gradients": True},
)
class FrozenAxes(Conductor):
    def forward(self, s: torch.Tensor) -> torch.Tensor:
        axes = torch.linalg.eigh(s.detach())[1]
        values = (axes * (s @ axes)).sum(-2)
        return (axes * (values / (1 + values.square()))[..., None, :]) @ axes.mT


@MEDIUM.bug(
    "medium_other_shears",
    "component-order",
    "stress",
    respected="T(3) x S(nodes) x S(edges)",
    severity="gross, in one of three outputs: shears in the order xy, yz, xz",
    broken=("stress",),
)
class OtherShears(Stress):
    rows, columns = (0, 1, 2, 0, 1, 0), (0, 1, 2, 1, 2, 2)


# Jets in the plane of rapidity and angle, padded to one length


class Share(nn.Module):
    """Each particle's part of the momentum of its jet; 0 for padding."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z / z.sum(-1, keepdim=True)


class Separation(nn.Module):
    """Squared distances of particles: [batch, p, 2] -> [batch, p, p]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, :, None] - x[:, None]).square().sum(-1)


class Density(nn.Module):
    """Momentum near each particle, by smooth weights of distance: -> [batch, p]."""

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        r2 = (x[:, :, None] - x[:, None]).square().sum(-1)
        return (torch.exp(-r2 / 0.5) @ z[..., None])[..., 0]


class SplittingAttention(nn.Module):
    """Over the particles of a jet, with biases by how they would split off each other."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.bias = mlp(4, width, heads)
        self.out = nn.Linear(width, width)
        self.heads = heads

    def forward(self, h: torch.Tensor, z: torch.Tensor, r2: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        softer = torch.minimum(z[:, :, None], z[:, None])
        total = z[:, :, None] + z[:, None] + 0.01
        splitting = [torch.log(r2 + 0.1), torch.log(softer.square() * r2 + 0.01), softer / total, (r2 + 0.1).rsqrt()]
        bias = self.bias(torch.stack(splitting, -1)).movedim(-1, 1)
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q @ k.mT / q.shape[-1] ** 0.5 + bias).masked_fill(~real[:, None, None], -torch.inf)
        return self.out((torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(2))


class JetLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.share = Share()
        self.separation = Separation()
        self.density = Density()
        self.norm = nn.LayerNorm(width)
        self.attention = SplittingAttention(width)
        self.feed = mlp(width + 2, 2 * width, width, nn.GELU)

    def forward(self, h: torch.Tensor, x: torch.Tensor, z: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        z = self.share(z)
        h = h + self.attention(self.norm(h), z, self.separation(x), real)
        return h + self.feed(torch.cat([h, z[..., None], 3 * self.density(x, z)[..., None]], -1))


class JetTransformer(nn.Module):
    """Positions about the axis of each jet; the hardest particle tells where along its own direction others lie."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(6, width)
        self.layers = nn.ModuleList(JetLayer(width) for _ in range(3))
        self.head = mlp(width, width, 3)
        self.moments = nn.Linear(width, 2)
        self.score = nn.Linear(width, 1)

    def forward(
        self, x: torch.Tensor, z: torch.Tensor, kind: torch.Tensor, real: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        z = z * real
        share = (z / z.sum(-1, keepdim=True))[..., None]
        x = (x - (share * x).sum(1, keepdim=True)) * real[..., None]
        hardest = x[torch.arange(len(x)), z.argmax(-1)][:, None]
        along = (x * hardest).sum(-1, keepdim=True) / (0.2 + hardest.square().sum(-1, keepdim=True))
        h = self.embedding(torch.cat([kind, share, along, x.square().sum(-1, keepdim=True)], -1))
        for layer in self.layers:
            h = layer(h, x, z, real)
        first, second = (share * self.moments(h)).split(1, -1)
        twist = torch.stack([x[..., 0].square() - x[..., 1].square(), 2 * x[..., 0] * x[..., 1]], -1)
        return {
            "jet": self.head((share * h).sum(1)),
            "pull": (first * x).sum(1),
            "twist": (second * twist).sum(1),
            "pileup": torch.sigmoid(self.score(h))[..., 0] * real,
        }


def twice(g: Any) -> np.ndarray:
    """How a symmetric matrix without trace, by its components xx and xy, is turned with the plane."""
    m = np.asarray(g.matrix)[:2, :2]
    turned = [m @ basis @ m.T for basis in (np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [1.0, 0.0]]))]
    return np.array([[t[0, 0] for t in turned], [t[0, 1] for t in turned]])


def jets(seed: int) -> Inputs:
    """Three jets of different numbers of particles; padding is at the places left over, of momentum 0."""
    random = generator(seed + 910)
    sizes = [(5, 8, 6), (7, 4, 6), (9, 6, 7)][seed % 3]
    p = max(sizes) + 1
    real = torch.stack([torch.randperm(p, generator=random) < n for n in sizes])
    return {
        "x": normal(random, 3, p, 2) + 2 * normal(random, 3, 1, 2),
        "z": real * torch.exp(0.7 * normal(random, 3, p) + normal(random, 3, 1)),
        "kind": normal(random, 3, p, 3) * real[..., None],
        "real": real,
    }


JET_BATCHES = Network(
    "transformer of padded jets with biases by splittings, 3 layers",
    JetTransformer,
    "E(2) x S(particles)",
    {
        "x": "batch particles point",
        "z": "batch particles",
        "kind": "batch particles features",
        "real": "batch particles",
    },
    {"jet": "batch classes", "pull": "batch vector", "twist": "batch @twice", "pileup": "batch particles"},
    jets,
    {"representations": {"twice": twice}},
)
JET_BATCHES.healthy("jet_batches")
JET_BATCHES.misdeclared(
    "jet_batches_inverse_twist",
    "wrong-output-transform",
    options={"representations": {"twice": lambda g: twice(g).T}},
    repair={"representations": {"twice": twice}},
    respected="D4 x T(2) x S(particles)",
    broken=("twist",),
    severity="one of four outputs; the user's function is that of the inverse, so mirrors and right angles hold",
)


@JET_BATCHES.bug(
    "jet_batches_largest_of_all",
    "batch-cross-talk",
    "layers.1.share",
    evidence="batch",
    respected="E(2) x S(particles)",
    severity="momenta are measured by the largest of the batch in one layer; no element of the group shows it",
    verdict="NEEDS_ATTENTION",
)
class LargestOfAll(Share):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z / z.amax()


@JET_BATCHES.bug(
    "jet_batches_pixels",
    "interpolation",
    "layers.1.density",
    respected="D4 x T(2) x S(particles)",
    severity="densities of one layer by pixels about the axis, filled and read out linearly",
)
class Pixels(Density):
    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        lines = torch.arange(-8, 9, dtype=x.dtype)
        columns, rows = (1 - ((x / 0.9)[..., None] - lines).abs()).clamp_min(0).unbind(-2)
        image = torch.einsum("bp,bpi,bpj->bij", z, columns, rows)
        return torch.einsum("bij,bpi,bpj->bp", image, columns, rows)


@JET_BATCHES.bug(
    "jet_batches_learned_metric",
    "unstable-parameters",
    "layers.1.separation",
    evidence="parameters",
    respected="E(2) x S(particles)",
    severity="exact as long as the logarithms of two learned units, of rapidity and angle, are zero",
    options={"gradients": True},
)
class LearnedMetric(Separation):
    def __init__(self) -> None:
        super().__init__()
        self.zero_units = nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x * torch.exp(self.zero_units))
