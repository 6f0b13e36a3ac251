"""Frames, canonicalisation, averages over groups; the plane, phases, crystals."""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn

from .case import NODES, Inputs, Mix, cloud, entry, generator, mlp, normal, rows
from .clouds import CLOUD, EUCLID, POINTS, ConstantVector, Pair, differences, pairs, radial, within


class PointNet(nn.Module):
    """Coordinates and features, no symmetry but that of the set: [..., n, 3], [..., n, 4] -> [..., n, after]."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.local = mlp(7, 8, 8)
        self.head = mlp(16, 8, after)

    def forward(self, y: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        f = self.local(torch.cat([y, h], -1))
        return self.head(torch.cat([f, f.mean(-2, keepdim=True).expand_as(f)], -1))


class GramSchmidt(nn.Module):
    """Two equivariant vectors and their cross product: rows of [3, 3], proper."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = mlp(4, 8, 2)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        a, b = torch.einsum("nc,nk->ck", self.weights(h), x - x.mean(0))
        a = a / a.norm()
        b = b - (a @ b) * a
        b = b / b.norm()
        return torch.stack([a, b, torch.linalg.cross(a, b)])


@entry("gram_schmidt", "point-cloud", "SE(3) x S(nodes)", POINTS, "nodes vector", CLOUD)
class GramSchmidtFrame(nn.Module):
    """A frame of the whole cloud; any network inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.frame = GramSchmidt()
        self.net = PointNet(3)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        frame = self.frame(x, h)
        return self.net((x - x.mean(0)) @ frame.T, h) @ frame


@entry("local_frames", "point-cloud", "SE(3) x S(nodes)", POINTS, "nodes vector", CLOUD)
class LocalFrames(nn.Module):
    """A frame per node [n, 3, 3]; what neighbours send is turned from theirs into its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = mlp(14, 8, 2)
        self.embedding = nn.Linear(4, 6)
        self.messages = nn.ModuleList(mlp(18, 12, 6) for _ in range(3))
        self.head = nn.Linear(6, 3)

    def frames(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        d, r2 = differences(x)
        a, b = torch.einsum("ijc,ijk->cik", self.weights(pairs(h, radial(r2))), d)
        a = a / a.norm(dim=1, keepdim=True)
        b = b - (a * b).sum(1, keepdim=True) * a
        b = b / b.norm(dim=1, keepdim=True)
        return torch.stack([a, b, torch.linalg.cross(a, b)], 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        frames = self.frames(x, h)
        d, _ = differences(x)
        local = torch.einsum("iak,ijk->ija", frames, d)
        turn = torch.einsum("iak,jbk->ijab", frames, frames)
        f = self.embedding(h)
        for message in self.messages:
            sent = f[None].expand(len(x), -1, -1).clone()
            turned = torch.einsum("ijab,jb->ija", turn, f[:, :3])
            sent[..., :3] = turned
            f = f + message(torch.cat([pairs(f), local, sent[..., :3]], -1)).mean(1)
        return torch.einsum("iak,ia->ik", frames, self.head(f))


class PrincipalFrames(nn.Module):
    """All frames along the principal axes: [frames, 3, 3]; of both hands, or proper."""

    def __init__(self, proper: bool) -> None:
        super().__init__()
        signs = list(itertools.product((1.0, -1.0), repeat=3))
        self.register_buffer("signs", torch.tensor(signs))
        self.proper = proper

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(0)
        _, axes = torch.linalg.eigh(x.T @ x)
        frames = axes.T[None] * self.signs.to(x.dtype)[:, :, None]
        return frames[torch.linalg.det(frames) > 0] if self.proper else frames


class FrameAverage(nn.Module):
    def __init__(self, proper: bool) -> None:
        super().__init__()
        self.frames = PrincipalFrames(proper)
        self.net = PointNet(3)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        frames = self.frames(x)
        local = torch.einsum("fak,nk->fna", frames, x - x.mean(0))
        out = self.net(local, h.expand(len(frames), -1, -1))
        return torch.einsum("fak,fna->nk", frames, out) / len(frames)


@entry("frame_averaging", "point-cloud", EUCLID, POINTS, "nodes vector", CLOUD)
def frame_averaging() -> nn.Module:
    return FrameAverage(proper=False)


@entry("frame_averaging_proper", "point-cloud", "SE(3) x S(nodes)", POINTS, "nodes vector", CLOUD)
def frame_averaging_proper() -> nn.Module:
    return FrameAverage(proper=True)


@entry("sign_invariant_axes", "point-cloud", EUCLID, POINTS, "nodes channel", CLOUD)
class SignInvariant(nn.Module):
    """Coordinates along principal axes, made invariant to their signs one by one: f(v) + f(-v)."""

    def __init__(self) -> None:
        super().__init__()
        self.one = mlp(5, 8, 6)
        self.all = mlp(18, 8, 4)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(0)
        y = (x @ torch.linalg.eigh(x.T @ x)[1])[..., None]
        wide = h[:, None].expand(-1, 3, -1)
        return self.all((self.one(torch.cat([y, wide], -1)) + self.one(torch.cat([-y, wide], -1))).flatten(1))


@entry(
    "group_average",
    "point-cloud",
    "C4 @ (0,0,1) x S(nodes)",
    {"x": "nodes vector", "h": "nodes features"},
    "nodes vector",
    CLOUD,
)
class GroupAverage(nn.Module):
    """One network without symmetry, called for each element of a group."""

    def __init__(self) -> None:
        super().__init__()
        turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        self.register_buffer("elements", torch.stack([torch.linalg.matrix_power(turn, k) for k in range(4)]))
        self.net = PointNet(3)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return sum(self.net(x @ g.to(x).T, h) @ g.to(x) for g in self.elements) / 4


@entry(
    "anisotropic_c4v",
    "point-cloud",
    "C4v @ (0,0,1) x S(nodes)",
    {"x": "nodes vector", "h": "nodes features"},
    "nodes vector",
    CLOUD,
)
class AboutAnAxis(nn.Module):
    """The axis is special: components along it and across it go their own ways; quartic in the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = mlp(7, 8, 3)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        plane, along = x[:, :2], x[:, 2:]
        quartic = (plane**4).sum(1, keepdim=True) / 10
        w = self.weights(torch.cat([plane.square().sum(1, keepdim=True), quartic, along, h], 1))
        return torch.cat([w[:, :1] * plane + w[:, 1:2] * plane**3 / 5, w[:, 2:]], 1)


class Polar(nn.Module):
    """Vectors [n, 3] -> length, polar angle, azimuth: no linear action."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        r = v.norm(dim=-1)
        return torch.stack([r, torch.acos(v[..., 2] / r), torch.atan2(v[..., 1], v[..., 0])], -1)


class FromPolar(nn.Module):
    def forward(self, p: torch.Tensor) -> torch.Tensor:
        r, theta, phi = p.unbind(-1)
        return torch.stack([r * theta.sin() * phi.cos(), r * theta.sin() * phi.sin(), r * theta.cos()], -1)


class Rescale(nn.Module):
    """Acts on the length alone."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = mlp(5, 8, 1)

    def forward(self, p: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return torch.cat([1 + self.mlp(torch.cat([p[..., :1], h], -1)).tanh(), p[..., 1:]], -1)


@entry("polar", "point-cloud", EUCLID, POINTS, "nodes vector", CLOUD)
class PolarNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.scale, self.decode = Polar(), Rescale(), FromPolar()

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return self.decode(self.scale(self.encode(x - x.mean(0)), h))


# --- the plane -------------------------------------------------------------------------------------------------------

FLAT = cloud(dimension=2)


class ComplexLayer(nn.Module):
    """Frequencies 0, 1, 2 as complex channels [n, c]: products add them."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.ParameterList([nn.Parameter(torch.zeros(5, 5)) for _ in range(2)])
        self.gate = mlp(10, 8, 10)

    def forward(self, one: torch.Tensor, two: torch.Tensor) -> Pair:
        one, two = one @ self.mix[0].to(one.dtype), two @ self.mix[1].to(one.dtype)
        gates = torch.sigmoid(self.gate(torch.cat([one.abs().square(), two.abs().square()], 1))).chunk(2, 1)
        new = gates[0] * (one + two * one.conj()), gates[1] * (two + one * one)
        size = (1 + new[0].abs().square() + new[1].abs().square()).rsqrt()
        return new[0] * size, new[1] * size


@entry("complex_plane", "point-cloud", "SE(2) x S(nodes)", POINTS, "nodes vector", FLAT)
class ComplexPlane(nn.Module):
    """As harmonic networks: the plane as complex numbers, channels by frequency."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 5)
        self.layers = nn.ModuleList(ComplexLayer() for _ in range(3))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        z = torch.view_as_complex((x - x.mean(0)).contiguous())[:, None] * self.embedding(h)
        w = z.square().mean(0) * torch.ones_like(z)
        for layer in self.layers:
            z, w = layer(z, w)
        return torch.view_as_real(z.sum(1))


@entry("egnn_plane", "point-cloud", "E(2) x S(nodes)", POINTS, {"x": "nodes point", "area": ""}, FLAT)
class EgnnPlane(nn.Module):
    """Points of the plane, edges by a cutoff."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.messages = nn.ModuleList(mlp(22, 12, 9) for _ in range(3))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.embedding(h)
        edges = within(x, 2.5)
        for message in self.messages:
            d = x[edges[0]] - x[edges[1]]
            r2 = d.square().sum(-1, keepdim=True)
            m = message(torch.cat([h[edges[0]], h[edges[1]], radial(r2)], 1))
            h = h + rows(m[:, 1:], edges[0], len(x)) / 3
            x = x + rows(m[:, :1] * d, edges[0], len(x)) / 10
        centred = x - x.mean(0)
        return {"x": x, "area": torch.linalg.det(centred.T @ centred)}


@entry(
    "angles_in_the_plane",
    "point-cloud",
    "SO(2) x S(nodes)",
    {"x": "nodes vector", "h": "nodes features"},
    "nodes vector",
    FLAT,
)
class PlaneAngles(nn.Module):
    """Angles as numbers; their differences are taken, and their sines and cosines used."""

    def __init__(self) -> None:
        super().__init__()
        self.message = mlp(11, 8, 2)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        angle, r = torch.atan2(x[:, 1], x[:, 0]), x.norm(dim=1)
        relative = angle[:, None] - angle
        shape = torch.stack([relative.cos(), relative.sin(), r[None].expand_as(relative)], -1)
        turn, scale = self.message(torch.cat([pairs(h), shape], -1)).mean(1).unbind(-1)
        angle, r = angle + turn, r * scale
        return torch.stack([r * angle.cos(), r * angle.sin()], 1)


class PhaseGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(5))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        size = z.abs()
        return z * torch.sigmoid(size + self.bias) / (1 + size)


def states(seed: int) -> Inputs:
    random = generator(seed)
    n = NODES[seed % 3]
    return {"z": torch.complex(normal(random, n, 4), normal(random, n, 4))}


@entry(
    "phases",
    "point-cloud",
    "U(1) x S(nodes)",
    {"z": "nodes channel charge^1"},
    ("nodes channel charge^1", "channel charge^2"),
    states,
)
class Phases(nn.Module):
    """Complex linear maps without offset, gates by moduli."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.zeros(2, 5, k)) for k in (4, 5, 5)])
        self.gates = nn.ModuleList(PhaseGate() for _ in range(3))

    def forward(self, z: torch.Tensor) -> Pair:
        for weight, gate in zip(self.weights, self.gates, strict=True):
            z = gate(z @ torch.complex(*weight).T)
            z = z + 0.3 * z.mean(0)
        return z, (z * z).mean(0)


# --- crystals --------------------------------------------------------------------------------------------------------


def crystal(seed: int) -> Inputs:
    random = generator(seed)
    n = NODES[seed % 3]
    cell = 4 * torch.eye(3) + 0.3 * normal(random, 3, 3)
    return {"f": normal(random, n, 3) / 3, "cell": cell.to(torch.get_default_dtype()), "h": normal(random, n, 4)}


@entry(
    "crystal", "point-cloud", EUCLID,
    {"f": "nodes fractional(cell)", "cell": "3 vector", "h": "nodes features"}, {"energy": "", "v": "nodes vector"},
    crystal,
)  # fmt: skip
class Crystal(nn.Module):
    """Fractional coordinates, 27 images of every pair: [n, n, 27, 3]."""

    def __init__(self) -> None:
        super().__init__()
        images = torch.tensor(list(itertools.product((-1.0, 0, 1), repeat=3)))
        self.register_buffer("images", images)
        self.embedding = nn.Linear(4, 8)
        self.filters = nn.ModuleList(mlp(6, 8, 8) for _ in range(2))
        self.head = nn.Linear(8, 1)
        self.direction = mlp(6, 8, 1)

    def forward(self, f: torch.Tensor, cell: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        d = f[:, None] - f
        d = (d - d.detach().round())[:, :, None] + self.images
        d = d @ cell
        basis = radial(d.square().sum(-1, keepdim=True))
        basis = basis * (d.detach().square().sum(-1, keepdim=True) > 1e-8)
        h = self.embedding(h)
        for layer in self.filters:
            h = h + torch.tanh(torch.einsum("ijmc,jc->ic", layer(basis) * basis[..., :1], h))
        return {"energy": self.head(h).sum(), "v": (self.direction(basis) * basis[..., :1] * d).sum((1, 2))}


@entry("frame_with_offset", "point-cloud", "SE(3) x S(nodes)", POINTS, "nodes vector", CLOUD)
class FrameWithOffset(nn.Module):
    """A constant vector that a frame of differences never sees, then local coordinates without symmetry."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = ConstantVector()
        self.frame = GramSchmidt()
        self.mix = Mix(3, 3, -1)
        self.net = PointNet(3)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        x = self.shift(x)
        frame = self.frame(x, h)
        local = self.mix((x - x.mean(0)) @ frame.T)
        return self.net(local * math.sqrt(2), h) @ frame
