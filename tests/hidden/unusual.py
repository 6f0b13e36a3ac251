"""Code that calls modules, stores features or takes derivatives in unusual ways, and groups that few networks have."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from .case import NODES, Inputs, Mix, cloud, entry, generator, mlp, normal
from .clouds import CLOUD, EUCLID, POINTS, Pair, differences, pairs, radial
from .graphs import graph
from .images import circular, images

Optional = torch.Tensor | None


class ChunkMessages(nn.Module):
    """Messages to some of the nodes: [chunk, n, ...]."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp(14, 8, 9)

    def forward(self, some: torch.Tensor, x: torch.Tensor, hs: torch.Tensor, h: torch.Tensor) -> Pair:
        d = some[:, None] - x
        shape = (len(some), len(x), -1)
        both = torch.cat([hs[:, None].expand(shape), h.expand(shape), radial(d.square().sum(-1, keepdim=True))], -1)
        m = self.mlp(both)
        return (m[..., :1] * d).mean(1), m[..., 1:].mean(1)


@entry("chunked_rows", "point-cloud", EUCLID, POINTS, ("nodes vector", "nodes channel"), CLOUD)
class Chunked(nn.Module):
    """Four nodes at a time, as where memory is short: the last chunk is smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = ChunkMessages()
        self.last = mlp(8, 8, 5)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Pair:
        found = [self.messages(some, x, hs, h) for some, hs in zip(x.split(4), h.split(4), strict=True)]
        v, m = (torch.cat(part) for part in zip(*found, strict=True))
        return v, self.last(m)


class Energy(nn.Module):
    """Of one node among all: x [3], positions [n, 3] -> a number."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp(6, 8, 1)

    def forward(self, one: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(radial((one - x).square().sum(-1, keepdim=True))).sum()


@entry(
    "functional_transforms",
    "point-cloud",
    EUCLID,
    {"x": "nodes point"},
    {"energy": "", "forces": "nodes vector"},
    cloud(features=0),
)
class FunctionalTransforms(nn.Module):
    """vmap over the nodes, and the gradient of that, by torch.func."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = Energy()
        self.scale = mlp(1, 4, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        def total(x: torch.Tensor) -> torch.Tensor:
            return torch.vmap(self.energy, in_dims=(0, None))(x, x).sum()

        forces, energy = torch.func.grad_and_value(total)(x)
        return {"energy": self.scale(energy[None])[0], "forces": -forces}


@entry(
    "jacobian_inside", "point-cloud", "O(3) x S(nodes)", {"x": "nodes vector"}, "nodes vector vector", cloud(features=0)
)
class JacobianInside(nn.Module):
    """Derivatives of a hidden vector field by autograd, then a module again."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.mix = mlp(1, 8, 4), Mix(4, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        v = torch.tanh(self.gate(x.square().sum(-1, keepdim=True) / 3))[..., None] * x[:, None]
        rows = [torch.autograd.grad(v[:, c, k].sum(), x, create_graph=True)[0] for c in range(4) for k in range(3)]
        jacobian = torch.stack(rows, 1).unflatten(1, (4, 3))
        return self.mix(jacobian).sum(1)


class InPlace(nn.Module):
    """Writes to what it is given, and returns it with something that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = Mix(5, 5)

    def forward(self, v: torch.Tensor, name: str, *, unused: Optional = None) -> tuple[torch.Tensor, str, None, float]:
        v = v.clone()
        v += self.mix(v)
        v /= (1 + v.square().sum((1, 2), keepdim=True)).sqrt()
        return v, name.upper(), None, 0.5


@entry("written_in_place", "point-cloud", EUCLID, POINTS, "nodes channel vector", CLOUD)
class WrittenInPlace(nn.Module):
    """Tensors that change after a module has returned them; results that are no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 5)
        self.layers = nn.ModuleList(InPlace() for _ in range(3))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        v = self.embedding(h)[..., None] * (x - x.mean(0))[:, None]
        for k, layer in enumerate(self.layers):
            v, _, _, factor = layer(v, f"layer {k}", unused=None)
            v -= factor * v.mean(0)
        return v


class Step(NamedTuple):
    h: torch.Tensor
    x: torch.Tensor
    v: torch.Tensor


class NBodyLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.message, self.speed, self.update = mlp(17, 12, 9), nn.Linear(8, 1), mlp(16, 8, 8)

    def forward(self, step: Step) -> Step:
        d, r2 = differences(step.x)
        m = self.message(pairs(step.h, torch.exp(-r2 / 4)))
        v = self.speed(step.h) * step.v + (m[..., :1] * d / (1 + r2)).mean(1)
        return Step(step.h + self.update(torch.cat([step.h, m[..., 1:].mean(1)], 1)), step.x + 0.3 * v, v)


@entry(
    "n_body", "point-cloud", EUCLID, {"x": "nodes point", "v": "nodes vector", "h": "nodes features"},
    ("nodes point", "nodes vector"), cloud(v=(3,)),
)  # fmt: skip
class NBody(nn.Module):
    """Positions and velocities of the same shape; named tuples between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(5, 8)
        self.layers = nn.Sequential(*(NBodyLayer() for _ in range(3)))

    def forward(self, x: torch.Tensor, v: torch.Tensor, h: torch.Tensor) -> Pair:
        h = self.embedding(torch.cat([h, v.norm(dim=1, keepdim=True)], 1))
        last = self.layers(Step(h, x, v))
        return last.x, last.v


def trajectory(seed: int) -> Inputs:
    random = generator(seed)
    return {"x": normal(random, 5, NODES[seed % 3], 3).cumsum(0)}


@entry("trajectories", "point-cloud", EUCLID, {"x": "time nodes point"}, ("nodes channel", "nodes vector"), trajectory)
class Trajectories(nn.Module):
    """[time, nodes, ...]: a recurrent network over invariants of each node's path."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(4, 8, num_layers=2)
        self.weights = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> Pair:
        steps = x.diff(dim=0)
        centre = x[1:] - x[1:].mean(1, keepdim=True)
        others = torch.cdist(x[1:], x[1:]).mean(-1)
        inner = torch.stack([steps.norm(dim=-1), centre.norm(dim=-1), (steps * centre).sum(-1), others], -1)
        hidden, last = self.recurrent(inner)
        return last[-1], torch.einsum("nt,tnk->nk", self.weights(hidden[-1]), steps)


def padded(seed: int) -> Inputs:
    """Three clouds of 4 to 9 points, padded to nine with zeros."""
    random = generator(seed)
    sizes = torch.randint(4, 10, (3,), generator=random)
    sizes[0] = 9
    mask = torch.arange(9) < sizes[:, None]
    keep = mask[..., None]
    return {"x": normal(random, 3, 9, 3) * keep, "h": normal(random, 3, 9, 4) * keep, "mask": mask}


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.weights = nn.Linear(8, 1)

    def forward(self, h: torch.Tensor, x: torch.Tensor, mask: torch.Tensor) -> Pair:
        h = h + self.attention(h, h, h, key_padding_mask=~mask)[0]
        w = torch.tanh(self.weights(h)) * mask[..., None]
        return h, x + w * x + (w * x).sum(1, keepdim=True) * mask[..., None] / 5


@entry(
    "masked_batch", "point-cloud", "O(3) x S(nodes)",
    {"x": "batch nodes vector", "h": "batch nodes features", "mask": "batch nodes"},
    ("batch vector", "batch nodes vector"), padded,
)  # fmt: skip
class MaskedBatch(nn.Module):
    """Clouds of different sizes in one tensor; attention of torch's own with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(5, 8)
        self.layers = nn.ModuleList(Masked() for _ in range(3))

    def forward(self, x: torch.Tensor, h: torch.Tensor, mask: torch.Tensor) -> Pair:
        h = self.embedding(torch.cat([h, x.square().sum(-1, keepdim=True)], -1))
        for layer in self.layers:
            h, x = layer(h, x, mask)
        return x.sum(1), x


def complexes(seed: int) -> Inputs:
    random = generator(seed)
    n, m = NODES[seed % 3], (9, 6, 13)[seed % 3]
    return {"x": normal(random, n, 3), "h": normal(random, n, 4), "y": normal(random, m, 3) + 1}


@entry(
    "two_clouds", "point-cloud", "E(3) x S(atoms) x S(sites)",
    {"x": "atoms point", "h": "atoms features", "y": "sites point"},
    {"atoms": "atoms vector", "sites": "sites channel"}, complexes,
)  # fmt: skip
class TwoClouds(nn.Module):
    """Messages between two clouds, each permuted by itself: [atoms, sites, c]."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.back = mlp(10, 8, 6), mlp(12, 8, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        d = x[:, None] - y
        near = radial(d.square().sum(-1, keepdim=True))
        sites = self.there(torch.cat([h[:, None].expand(-1, len(y), -1), near], -1)).mean(0)
        weights = self.back(torch.cat([sites.expand(len(x), -1, -1), near], -1))
        return {"atoms": (weights * d).mean(1), "sites": sites}


@entry("sorted_by_distance", "point-cloud", EUCLID, POINTS, ("nodes channel", "vector"), CLOUD)
class SortedByDistance(nn.Module):
    """Nodes are put in the order of their distance to the centre, and back: a recurrent network in between."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(5, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Pair:
        x = x - x.mean(0)
        distance, order = x.norm(dim=1).sort()
        hidden, _ = self.recurrent(torch.cat([distance[:, None], h[order]], 1))
        weights = self.head(hidden)
        return weights[order.argsort()], (weights[:, :1] * x[order]).sum(0)


@entry("farthest_points", "point-cloud", EUCLID, POINTS, ("channel", "vector"), CLOUD)
class FarthestPoints(nn.Module):
    """Four nodes are sampled, the first being the one farthest from the centre: rows of no node's order."""

    def __init__(self) -> None:
        super().__init__()
        self.local, self.pooled = mlp(10, 8, 8), mlp(14, 8, 5)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Pair:
        x = x - x.mean(0)
        kept = [int(x.norm(dim=1).argmax())]
        distance = torch.cdist(x.detach(), x.detach())
        for _ in range(3):
            kept.append(int(distance[kept].amin(0).argmax()))
        d = x[kept][:, None] - x
        r2 = d.square().sum(-1, keepdim=True)
        f = self.local(torch.cat([h.expand(4, -1, -1), radial(r2)], -1)).amax(1)
        near = radial((x[kept][:, None] - x[kept]).square().sum(-1, keepdim=True))
        f = self.pooled(torch.cat([f[None].expand(4, 4, -1), near], -1)).mean(1)
        return f.flatten(), (f[:, :1] * x[kept]).sum(0)


#: Rows and columns of the upper triangle.
UPPER = torch.triu_indices(3, 3)


class UpperTriangle(nn.Module):
    """Symmetric matrices as six numbers [n, c, 6]: linear, but not by orthogonal matrices."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.mix = Mix(before, after)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        full = t.new_zeros(*t.shape[:-1], 3, 3)
        full[..., UPPER[0], UPPER[1]] = t
        full[..., UPPER[1], UPPER[0]] = t
        full = full + 0.3 * full @ full / (1 + full.square().sum((-1, -2), keepdim=True)).sqrt()
        return self.mix(full[..., UPPER[0], UPPER[1]])


@entry("upper_triangles", "point-cloud", EUCLID, POINTS, ("nodes voigt", "nodes channel"), CLOUD)
class UpperTriangles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = mlp(14, 8, 4)
        self.layers = nn.Sequential(UpperTriangle(4, 5), UpperTriangle(5, 5), UpperTriangle(5, 1))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Pair:
        d, r2 = differences(x)
        outer = d[..., UPPER[0]] * d[..., UPPER[1]]
        t = torch.einsum("ijc,ijk->ick", self.weights(pairs(h, radial(r2))), outer) / 10
        t = self.layers(t)[:, 0]
        trace = t[:, [0, 3, 5]].sum(1, keepdim=True)
        return t[:, [0, 3, 5, 4, 2, 1]], trace


class ToSkewed(nn.Module):
    def __init__(self, back: bool) -> None:
        super().__init__()
        self.register_buffer("basis", torch.tensor([[1.0, 0.4, 0.0], [0.0, 1.5, -0.3], [0.2, 0.0, 0.7]]))
        self.back = back

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.linalg.solve(self.basis, v, left=False) if self.back else v @ self.basis


@entry(
    "skewed_basis",
    "point-cloud",
    "O(3) x S(nodes)",
    {"x": "nodes vector", "h": "nodes features"},
    "nodes vector",
    CLOUD,
)
class SkewedBasis(nn.Module):
    """Vectors in a basis that is not orthogonal, between two modules that go there and back."""

    def __init__(self) -> None:
        super().__init__()
        self.there, self.back = ToSkewed(False), ToSkewed(True)
        self.gate = nn.ModuleList(mlp(4, 8, 1) for _ in range(2))
        self.mixes = nn.ModuleList(Mix(3, 3, 1) for _ in range(2))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        v = self.there(torch.stack([x, x - x.mean(0), x * h[:, :1]], 1))
        for gate, mix in zip(self.gate, self.mixes, strict=True):
            v = v + mix(v) * torch.tanh(gate(h))[..., None]
        return self.back(v).sum(1)


@entry("homogeneous", "set", "Scale x S(nodes)", {"x": "nodes channel scale^1"}, ("nodes channel scale^1", "channel"),
       lambda seed: {"x": normal(generator(seed), NODES[seed % 3], 4)})  # fmt: skip
class Homogeneous(nn.Module):
    """ReLU without offsets: numbers with a unit; ratios have none."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8, bias=False),
            nn.ReLU(),
            nn.Linear(8, 8, bias=False),
            nn.LeakyReLU(),
            nn.Linear(8, 5, bias=False),
        )
        self.head = mlp(5, 8, 3)

    def forward(self, x: torch.Tensor) -> Pair:
        x = self.layers(x) + x.mean()
        pooled = x.sum(0)
        return x, self.head(pooled / pooled.norm())


class SparseLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, h: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.sparse.mm(a, self.linear(h)))


@entry(
    "sparse_adjacency",
    "graph",
    "S(nodes)",
    {"h": "nodes features", "edges": "2 edges : nodes"},
    "nodes channel",
    graph(),
)
class SparseAdjacency(nn.Module):
    """The adjacency matrix is a sparse tensor that modules are given."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.layers = nn.ModuleList(SparseLayer() for _ in range(3))

    def forward(self, h: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        n = len(h)
        with torch.sparse.check_sparse_tensor_invariants():
            a = torch.sparse_coo_tensor(edges, h.new_ones(edges.shape[1]) / 3, (n, n)).coalesce()
        h = self.embedding(h)
        for layer in self.layers:
            h = h + layer(h, a)
        return h


@entry(
    "panorama", "image", "T(1) @ width", {"x": "batch channel height width"},
    ("batch channel height width", "batch channel height"),
    images((7, 10), (9, 11), (10, 13)), domain="periodic",
)  # fmt: skip
class Panorama(nn.Module):
    """Periodic along the width alone; height has an edge, and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(c, 5, 3) for c in (3, 5, 5))

    def forward(self, x: torch.Tensor) -> Pair:
        height = torch.linspace(-1, 1, x.shape[2], dtype=x.dtype)[:, None].expand(len(x), 1, *x.shape[2:])
        x = torch.cat([x, height], 1)
        for conv in self.convolutions:
            x = torch.nn.functional.pad(x, (1, 1, 0, 0), mode="circular")
            x = torch.relu(conv(torch.nn.functional.pad(x, (0, 0, 1, 1))))
        return x, x.mean(3)


@entry(
    "volume", "image", "T(3)", {"x": "batch channel depth height width"},
    ("batch channel depth height width", "batch channel"),
    lambda seed: {"x": normal(generator(seed), 1, 2, *((6, 7, 9), (7, 6, 10), (9, 7, 6))[seed % 3])}, domain="periodic",
)  # fmt: skip
class Volume(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(2, 5, 3, padding=1, padding_mode="circular"), nn.SiLU(), nn.GroupNorm(1, 5),
            nn.Conv3d(5, 4, 3, padding=1, padding_mode="circular"),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> Pair:
        x = self.layers(x)
        return x, x.logsumexp((2, 3, 4))


class Squeeze(nn.Module):
    """Channels weighed by their means, [b, c, 1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(5, 3, 1), nn.Conv2d(3, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))


@entry("squeeze_and_pyramid", "image", "4T(2)", {"x": "batch channel height width"}, "batch channel height width",
       images((12, 8), (8, 16), (16, 12)), domain="periodic")  # fmt: skip
class Pyramid(nn.Module):
    """Three resolutions in a dict, joined again by interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.squeeze = circular(2, 5), Squeeze()
        self.down = nn.ModuleList(circular(5, 5, stride=2) for _ in range(2))
        self.lateral = nn.ModuleDict({str(k): nn.Conv2d(5, 3, 1) for k in range(3)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        levels: dict[str, Any] = {"0": self.squeeze(self.start(x))}
        for k, down in enumerate(self.down):
            levels[str(k + 1)] = torch.relu(down(levels[str(k)]))
        out = 0
        for k, level in levels.items():
            out = out + torch.nn.functional.interpolate(
                self.lateral[k](level), scale_factor=2 ** int(k), mode="nearest"
            )
        return out
