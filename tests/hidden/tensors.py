"""Points whose hidden features are tensors written by hand: flat, transposed, of rank 2, harmonics, pairs."""

from __future__ import annotations

import torch
from torch import nn

from .case import Mix, cloud, entry, mlp
from .clouds import CLOUD, EUCLID, POINTS, Pair, differences, pairs, radial

FREE: dict[str, str | None] = {"x": "nodes vector"}


class FlatLinear(nn.Module):
    """[n, before * 3] -> [n, after * 3]."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(after, before))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oi,nik->nok", self.weight, v.unflatten(1, (-1, 3))).flatten(1)


class FlatGate(nn.Module):
    def forward(self, v: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return v * torch.sigmoid(gate).repeat_interleave(3, 1)


@entry("flat_vectors", "point-cloud", EUCLID, POINTS, {"s": "nodes channel", "v": "nodes (5 vector)"}, CLOUD)
class FlatVectors(nn.Module):
    """Vectors as [nodes, 3 * channels], components fastest."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.radial = mlp(6, 8, 5)
        self.linears = nn.ModuleList(FlatLinear(5, 5) for _ in range(3))
        self.gates = nn.ModuleList(mlp(13, 8, 5) for _ in range(3))
        self.gate = FlatGate()

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        s = self.embedding(h)
        d, r2 = differences(x)
        v = torch.einsum("ijc,ijk->ick", self.radial(radial(r2)), d).flatten(1) / 5
        for linear, gate in zip(self.linears, self.gates, strict=True):
            v = v + linear(v)
            lengths = v.unflatten(1, (5, 3)).square().sum(-1)
            v = self.gate(v, gate(torch.cat([s, lengths / (1 + lengths)], 1)))
        return {"s": s + v.square().mean(1, keepdim=True), "v": v}


class Blocks(nn.Module):
    """[n, 6 + 5 * 3]: scalars, then vectors, components slowest."""

    def __init__(self) -> None:
        super().__init__()
        self.scalars = mlp(11, 12, 11)
        self.vectors = nn.Linear(5, 5, bias=False)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        s, v = f[:, :6], f[:, 6:].unflatten(1, (3, 5))
        out, gate = self.scalars(torch.cat([s, v.square().sum(1)], 1)).split([6, 5], 1)
        return torch.cat([out, (gate.tanh()[:, None] * self.vectors(v)).flatten(1)], 1)


class Spread(nn.Module):
    """Adds to each node's features those of the others, weighed by distance."""

    def __init__(self) -> None:
        super().__init__()
        self.width = nn.Parameter(torch.zeros(1))

    def forward(self, f: torch.Tensor, r2: torch.Tensor) -> torch.Tensor:
        return f + torch.softmax(-r2[..., 0] * (1 + self.width.tanh()), 1) @ f


@entry("scalars_then_vectors", "point-cloud", EUCLID, POINTS, "nodes channel", CLOUD)
class ScalarsThenVectors(nn.Module):
    """One tensor holds scalars and vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 11)
        self.blocks = nn.ModuleList(Blocks() for _ in range(3))
        self.spread = Spread()
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        _, r2 = differences(x)
        s, weights = self.embedding(h).split([6, 5], 1)
        f = torch.cat([s, ((x - x.mean(0))[:, :, None] * weights[:, None]).flatten(1)], 1)
        for block in self.blocks:
            f = f + block(self.spread(f, r2))
        return self.head(f[:, :6])


class Directions(nn.Module):
    """[3, n, c] -> [3, n, c]: channels mixed, lengths squashed."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(5, 5, bias=False)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        v = self.mix(v)
        return v / (1 + v.square().sum((0, 2), keepdim=True)).sqrt()


@entry("components_first", "point-cloud", EUCLID, POINTS, "vector nodes channel", CLOUD)
class ComponentsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 5)
        self.layers = nn.ModuleList(Directions() for _ in range(3))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        d, r2 = differences(x)
        v = torch.einsum("ijk,jc->kic", d / (1 + r2), self.embedding(h))
        for layer in self.layers:
            v = v + layer(v)
            v = v - 0.3 * torch.einsum("ij,kjc->kic", torch.exp(-r2[..., 0]), v) / 3
        return v


class TensorProduct(nn.Module):
    """Rank 2 [n, c, 3, 3] with itself: matrix products, trace, antisymmetric part apart."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left, self.right = Mix(width, width, 1), Mix(width, width, 1)
        self.symmetric, self.skew, self.trace = (Mix(width, width, 1) for _ in range(3))

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        t = t / (1 + t.square().sum((1, 2, 3), keepdim=True)).sqrt()
        t = self.left(t) @ self.right(t) + t
        trace = t.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None] * torch.eye(3, dtype=t.dtype) / 3
        turned = t.transpose(-1, -2)
        return self.symmetric((t + turned) / 2 - trace) + self.skew((t - turned) / 2) + self.trace(trace)


@entry("rank_two", "point-cloud", EUCLID, POINTS, {"t": "nodes channel vector vector", "energy": ""}, CLOUD)
class RankTwo(nn.Module):
    """As TensorNet: [nodes, channels, 3, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.radial = mlp(14, 12, 5)
        self.products = nn.ModuleList(TensorProduct(5) for _ in range(3))
        self.head = mlp(5, 8, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        d, r2 = differences(x)
        w = self.radial(pairs(h, radial(r2)))
        t = torch.einsum("ijc,ijk,ijl->ickl", w, d, d) / 20
        for product in self.products:
            t = t + product(t)
        return {"t": t, "energy": self.head(t.square().sum((-1, -2))).sum()}


#: Orthonormal symmetric traceless matrices, in an order of our own: zz, xy, xx - yy, xz, yz.
QUADRUPOLES = torch.tensor(
    [
        [[-1, 0, 0], [0, -1, 0], [0, 0, 2]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 0]],
        [[1, 0, 0], [0, -1, 0], [0, 0, 0]],
        [[0, 0, 1], [0, 0, 0], [1, 0, 0]],
        [[0, 0, 0], [0, 0, 1], [0, 1, 0]],
    ],
    dtype=torch.float64,
)
QUADRUPOLES = QUADRUPOLES / QUADRUPOLES.flatten(1).norm(dim=1)[:, None, None]

Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class DegreeLinear(nn.Module):
    """[n, c], [n, c, 3], [n, c, 5]: a linear map for each degree."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.zero = nn.Linear(before, after)
        self.one, self.two = Mix(before, after), Mix(before, after)

    def forward(self, features: Triple) -> Triple:
        a, b, c = features
        return self.zero(a), self.one(b), self.two(c)


class DegreeProduct(nn.Module):
    """Clebsch-Gordan products up to degree 2, by matrices."""

    def forward(self, features: Triple, others: Triple) -> Triple:
        q = QUADRUPOLES.to(features[0].dtype)
        (a, v, t), (b, w, u) = features, others
        left, right = torch.einsum("nci,ikl->nckl", t, q), torch.einsum("nci,ikl->nckl", u, q)
        scalar = a * b + (v * w).sum(-1) + (t * u).sum(-1)
        vector = a[..., None] * w + b[..., None] * v + torch.einsum("nckl,ncl->nck", left, w)
        product = a[..., None] * u + b[..., None] * t
        product = product + torch.einsum("nck,ncl,ikl->nci", v, w, q)
        product = product + torch.einsum("nckm,ncml,ikl->nci", left, right, q)
        return scalar / 3, vector / 3, product / 3


class DegreeGate(nn.Module):
    def forward(self, features: Triple) -> Triple:
        a, v, t = features
        gate = torch.sigmoid(a)[..., None]
        small = (1 + v.square().sum(-1, keepdim=True) + t.square().sum(-1, keepdim=True)).rsqrt()
        return torch.tanh(a), v * gate * small, t * gate * small


class Harmonics(nn.Module):
    def forward(self, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return d, torch.einsum("ijk,ijl,mkl->ijm", d, d, QUADRUPOLES.to(d.dtype))


class DegreeConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.radial = mlp(6, 8, 12)
        self.harmonics = Harmonics()

    def forward(self, x: torch.Tensor, s: torch.Tensor) -> Triple:
        d, r2 = differences(x)
        one, two = self.harmonics(d / (1 + r2))
        a, b, c = (self.radial(radial(r2)) * s[None].repeat(1, 1, 3)).chunk(3, -1)
        return a.mean(1), torch.einsum("ijc,ijk->ick", b, one) / 5, torch.einsum("ijc,ijk->ick", c, two) / 5


@entry("tensor_field", "point-cloud", EUCLID, POINTS, ("nodes channel", "nodes channel vector"), CLOUD)
class TensorField(nn.Module):
    """Degrees 0, 1, 2 by hand, degree 2 in a basis of no library; tuples between modules."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 4)
        self.convolution = DegreeConvolution()
        self.linears = nn.ModuleList(DegreeLinear(4, 4) for _ in range(3))
        self.product, self.gate = DegreeProduct(), DegreeGate()

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Pair:
        features = start = self.convolution(x, self.embedding(h))
        for linear in self.linears:
            features = self.gate(linear(self.product(features, start)))
        return features[:2]


class Flattened(nn.Module):
    """A module on triples as one on [n, c * 9]: per channel 1 + 3 + 5."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *features: torch.Tensor) -> torch.Tensor:
        split = [f.unflatten(1, (-1, 9)).split([1, 3, 5], -1) for f in features]
        a, v, t = self.inner(*((a[..., 0], v, t) for a, v, t in split))
        return torch.cat([a[..., None], v, t], -1).flatten(1)


@entry("harmonics_flat", "point-cloud", EUCLID, POINTS, "nodes channel", CLOUD)
class HarmonicsFlat(nn.Module):
    """The same features as one tensor [nodes, channels * 9]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 4)
        self.convolution = DegreeConvolution()
        self.linears = nn.ModuleList(Flattened(DegreeLinear(4, 4)) for _ in range(2))
        self.product, self.gate = Flattened(DegreeProduct()), Flattened(DegreeGate())
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        a, v, t = self.convolution(x, self.embedding(h))
        f = torch.cat([a[..., None], v, t], -1).flatten(1)
        for linear in self.linears:
            f = f + self.gate(linear(self.product(f, f)))
        return self.norm(f.unflatten(1, (4, 9))[..., 0])


class Density(nn.Module):
    """Expansion of the neighbours' density: [n, radial, 9]."""

    def __init__(self) -> None:
        super().__init__()
        self.harmonics = Harmonics()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d, r2 = differences(x)
        one, two = self.harmonics(d)
        y = torch.cat([torch.ones_like(r2), one, two], -1)
        weights = radial(r2) * (1 - torch.eye(len(x), dtype=x.dtype))[..., None]
        return torch.einsum("ijr,ijm->irm", weights, y)


class PowerSpectrum(nn.Module):
    def forward(self, a: torch.Tensor) -> torch.Tensor:
        parts = a.split([1, 3, 5], -1)
        return torch.cat([torch.einsum("irm,iqm->irq", part, part).flatten(1) for part in parts], 1)


@entry("power_spectrum", "point-cloud", EUCLID, POINTS, {"energy": "", "virial": "vector vector"}, CLOUD)
class Descriptor(nn.Module):
    """Descriptors as SOAP's; the virial by differentiation under a strain."""

    def __init__(self) -> None:
        super().__init__()
        self.density, self.spectrum = Density(), PowerSpectrum()
        self.norm = nn.LayerNorm(108)
        self.head = mlp(112, 12, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        strain = torch.zeros(3, 3, dtype=x.dtype, requires_grad=True)
        x = x - x.mean(0)
        moved = x + x @ ((strain + strain.T) / 2)
        energy = self.head(torch.cat([self.norm(self.spectrum(self.density(moved))), h], 1)).sum()
        return {"energy": energy, "virial": torch.autograd.grad(energy, strain, create_graph=True)[0]}


class Triangle(nn.Module):
    """[n, n, c] -> [n, n, c], by way of a third node."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.left, self.right, self.gate = (nn.Linear(width, width) for _ in range(3))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z = self.norm(z)
        mixed = torch.einsum("ikc,kjc->ijc", torch.sigmoid(self.left(z)), self.right(z))
        return torch.sigmoid(self.gate(z)) * mixed / z.shape[0]


class PairVectors(nn.Module):
    """[n, n, c] and [n, n, 3] -> [n, n, 3]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weights = nn.Linear(width, 2)

    def forward(self, z: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        own, through = self.weights(z).tanh().chunk(2, -1)
        return own * u + torch.einsum("ik,kjm->ijm", through[..., 0], u) / len(z)


@entry("pair_tensors", "point-cloud", EUCLID, POINTS, {"z": "nodes nodes channel", "v": "nodes vector"}, CLOUD)
class PairTensors(nn.Module):
    """Pairs all the way, as in structure prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(14, 8)
        self.triangles = nn.ModuleList(Triangle(8) for _ in range(2))
        self.vectors = nn.ModuleList(PairVectors(8) for _ in range(2))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        u, r2 = differences(x)
        z = self.embedding(pairs(h, radial(r2)))
        for triangle, vectors in zip(self.triangles, self.vectors, strict=True):
            z = z + triangle(z)
            u = u + vectors(z, u)
        return {"z": z, "v": u.mean(1)}


class AngleLayer(nn.Module):
    """[n, n - 1, c]: all pairs but the diagonal; each hears of the others at its node."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
        self.angle = mlp(1, 6, 8)

    def forward(self, m: torch.Tensor, cosine: torch.Tensor) -> torch.Tensor:
        weights = self.angle(cosine[..., None])
        return torch.relu(self.own(m) + torch.einsum("iabc,ibc->iac", weights, self.other(m)) / m.shape[1])


@entry("angles", "point-cloud", EUCLID, POINTS, {"energy": "", "v": "nodes vector"}, CLOUD)
class Angles(nn.Module):
    """Messages along bonds that see each other's angles, as DimeNet's; no node with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(14, 8)
        self.layers = nn.ModuleList(AngleLayer() for _ in range(3))
        self.head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        n = len(x)
        off = ~torch.eye(n, dtype=torch.bool)
        d, r2 = differences(x)
        d, r2 = d[off].view(n, n - 1, 3), r2[off].view(n, n - 1, 1)
        m = self.embedding(torch.cat([pairs(h)[off].view(n, n - 1, -1), radial(r2)], -1))
        unit = d / r2.sqrt()
        cosine = unit @ unit.transpose(1, 2)
        for layer in self.layers:
            m = m + layer(m, cosine)
        weights = self.head(m)
        return {"energy": weights.sum(), "v": (weights * d / (1 + r2)).sum(1)}


class BondLayer(nn.Module):
    """Bonds [n (n - 1), c] -> the same, through a table of which bonds meet."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 8)

    def forward(self, m: torch.Tensor, meet: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(torch.cat([m, meet @ m / meet.sum(1, keepdim=True)], 1)))


@entry("line_graph", "point-cloud", EUCLID, POINTS, ("nodes vector", "nodes channel"), CLOUD)
class LineGraph(nn.Module):
    """All pairs but the diagonal as rows of a list, and vectors [edges, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(14, 8)
        self.layers = nn.ModuleList(BondLayer() for _ in range(3))
        self.weights = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Pair:
        n = len(x)
        i, j = (~torch.eye(n, dtype=torch.bool)).nonzero().T
        d = x[i] - x[j]
        r2 = d.square().sum(1, keepdim=True)
        m = self.embedding(torch.cat([h[i], h[j], radial(r2)], 1))
        meet = (j[:, None] == i[None]).to(x.dtype)
        for layer in self.layers:
            m = m + layer(m, meet)
        forces = self.weights(m) * d / (1 + r2)
        return forces.view(n, n - 1, 3).sum(1), m.view(n, n - 1, -1).mean(1)


class Cartesian(nn.Module):
    """[n, 4, 13]: each channel one scalar, a vector and a matrix; channels mixed, then multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.ModuleList(Mix(4, 4, 1) for _ in range(3))
        self.bias = nn.Parameter(torch.zeros(4, 1))

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        a, v, t = (mix(part) for mix, part in zip(self.left, f.split([1, 3, 9], -1), strict=True))
        t = t.unflatten(-1, (3, 3))
        size = (1 + a.square() + v.square().sum(-1, keepdim=True) + t.square().sum((-1, -2))[..., None]).rsqrt()
        product = torch.einsum("nckl,ncl->nck", t, v)
        outer = torch.einsum("nck,ncl->nckl", v, v) + t @ t
        scalar = torch.tanh(a + self.bias) + t.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
        return torch.cat([scalar, product + v, outer.flatten(-2)], -1) * size


@entry("cartesian_stack", "point-cloud", "O(3) x S(nodes)", FREE, ("nodes vector", "nodes channel"), cloud(features=0))
class CartesianStack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.radial = mlp(1, 8, 12)
        self.layers = nn.ModuleList(Cartesian() for _ in range(3))

    def forward(self, x: torch.Tensor) -> Pair:
        a, b, c = self.radial(x.square().sum(-1, keepdim=True) / 5).chunk(3, -1)
        outer = (x[:, :, None] * x[:, None]).flatten(1)
        f = torch.cat([a[..., None], b[..., None] * x[:, None], c[..., None] * outer[:, None] / 3], -1)
        for layer in self.layers:
            f = f + layer(f)
            f = 0.5 * (f + f.mean(0))
        return f[:, 0, 1:4], f[..., 0]


class Axial(nn.Module):
    """Polar and axial vectors [n, c, 3] of each kind, and pseudoscalars [n, c]."""

    def __init__(self) -> None:
        super().__init__()
        self.polar, self.axial = Mix(5, 5), Mix(5, 5)
        self.gate = nn.Linear(5, 5)
        self.odd = nn.Linear(5, 5, bias=False)

    def forward(self, p: torch.Tensor, a: torch.Tensor, o: torch.Tensor) -> Triple:
        p = self.polar(p) + 0.5 * torch.linalg.cross(p, a) + o[..., None] * a
        a = self.axial(a) + 0.5 * torch.linalg.cross(p, p.roll(1, 1))
        o = torch.tanh(self.odd(o) + (p * a).sum(-1))
        gate = torch.sigmoid(self.gate((p * p + a * a).sum(-1)))[..., None]
        size = (1 + p.square().sum((1, 2), keepdim=True) + a.square().sum((1, 2), keepdim=True)).rsqrt()
        return p * gate * size, a * gate * size, o


@entry(
    "axial", "point-cloud", "O(3) x S(nodes)", {"x": "nodes vector", "spin": "nodes pseudovector"},
    {"torque": "nodes pseudovector", "chirality": "pseudoscalar"}, cloud(features=0, spin=(3,)),
)  # fmt: skip
class AxialNetwork(nn.Module):
    """Pseudovectors and pseudoscalars beside vectors, of the same shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.polar, self.axial = Mix(1, 5), Mix(1, 5)
        self.layers = nn.ModuleList(Axial() for _ in range(3))
        self.torque, self.chirality = Mix(5, 1), nn.Linear(5, 1, bias=False)

    def forward(self, x: torch.Tensor, spin: torch.Tensor) -> dict[str, torch.Tensor]:
        p, a = self.polar(x[:, None]), self.axial(spin[:, None])
        o = (p * a).sum(-1)
        for layer in self.layers:
            p, a, o = layer(p - 0.5 * p.mean(0), a, o)
        return {"torque": self.torque(a)[:, 0], "chirality": self.chirality(o).sum()}
