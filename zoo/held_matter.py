"""Matter held back: screws along a robot's arm, tides among haloes, chiral swimmers, charges that equilibrate."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from .case import Inputs, Network, Pair, bumps, generator, mlp, normal, pairs

Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

# A robot's arm: velocities are carried from the base outwards, forces and torques from the tip inwards


class Outwards(nn.Module):
    """Angular and linear velocities [b, j, 3] of links, from rates about the axes of joints."""

    def forward(self, axes: torch.Tensor, rate: torch.Tensor, links: torch.Tensor) -> Pair:
        spin = (axes * rate[..., None]).cumsum(1)
        return spin, torch.linalg.cross(spin, links).cumsum(1)


class Inertia(nn.Module):
    """Momenta of links, whose masses are at their ends: angular ones about the joint, and linear ones."""

    def tensor(self, arm: torch.Tensor) -> torch.Tensor:
        eye = torch.eye(3, dtype=arm.dtype)
        return arm.square().sum(-1)[..., None, None] * eye - arm[..., :, None] * arm[..., None, :]

    def forward(self, links: torch.Tensor, spin: torch.Tensor, v: torch.Tensor, mass: torch.Tensor) -> Pair:
        angular = torch.einsum("bjxy,bjy->bjx", self.tensor(links), spin)
        return mass[..., None] * angular, mass[..., None] * v


class Dual(nn.Module):
    """Antisymmetric tensors [..., 3, 3] as axial vectors, by their entries yz, zx and xy."""

    entries = ((1, 2, 0), (2, 0, 1))

    def forward(self, wedge: torch.Tensor) -> torch.Tensor:
        return wedge[..., self.entries[0], self.entries[1]]


class Inwards(nn.Module):
    """Torques and forces [b, j, 3] that joints bear, from the tip to the base."""

    def forward(self, angular: torch.Tensor, p: torch.Tensor, links: torch.Tensor, load: torch.Tensor) -> Pair:
        def gathered(values: torch.Tensor) -> torch.Tensor:
            return values.flip(1).cumsum(1).flip(1)

        force = gathered(p) / 3 + load[:, None]
        return gathered(angular + 0.5 * torch.linalg.cross(links, force)) / 3, force


class Camera(nn.Module):
    """The direction of the target as it is seen, of length below one: [b, 3]."""

    def seen(self, target: torch.Tensor) -> torch.Tensor:
        return target / (0.1 + target.square().sum(-1, keepdim=True)).sqrt()

    def forward(self, target: torch.Tensor) -> torch.Tensor:
        return self.seen(target)


class ArmLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.outwards = Outwards()
        self.inertia = Inertia()
        self.mass = nn.Linear(width, 1)
        self.dual = Dual()
        self.inwards = Inwards()
        self.camera = Camera()
        self.along = nn.Conv1d(width, width, 3, padding=1)
        self.update = nn.Linear(width + 8, width)
        self.rates = nn.Linear(width, 1)

    def forward(
        self, h: torch.Tensor, rate: torch.Tensor, arm: Pair, borne: Pair, load: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, Pair, Pair]:
        links, axes = arm
        spin, v = (a + 0.3 * b for a, b in zip(self.outwards(axes, rate, links), borne, strict=True))
        angular, p = self.inertia(links, spin, v, 0.3 + torch.sigmoid(self.mass(h)[..., 0]))
        place = links.cumsum(1) - links / 2
        wedge = place[..., :, None] * p[..., None, :]
        angular = angular + 0.3 * self.dual(wedge - wedge.mT)
        u = self.camera(target)[:, None]
        torque, force = self.inwards(angular, p, links, load + 1.5 * u[:, 0])
        dots = ((axes, torque), (links, force), (spin, spin), (v, v), (torque, torque), (u, links), (u, v), (u, force))
        seen = torch.tanh(torch.stack([(a * b).sum(-1) for a, b in dots], -1) / 2)
        h = h + torch.tanh(self.along(h.mT).mT + self.update(torch.cat([h, seen], -1)))
        return h, rate + 0.3 * torch.tanh(self.rates(h)[..., 0]), (spin, v), (torque, force)


class Arm(nn.Module):
    """Efforts of joints, where the tip will be, how it moves and turns, and what the base bears."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(2, width)
        self.layers = nn.ModuleList(ArmLayer(width) for _ in range(3))
        self.effort = nn.Linear(width, 2)

    def forward(
        self,
        base: torch.Tensor,
        links: torch.Tensor,
        axes: torch.Tensor,
        rate: torch.Tensor,
        load: torch.Tensor,
        target: torch.Tensor,
        h: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        h = self.embedding(h)
        borne = (torch.zeros_like(links), torch.zeros_like(links))
        for layer in self.layers:
            h, rate, (spin, v), borne = layer(h, rate, (links, axes), borne, load, target)
        torque, force = borne
        share = torch.sigmoid(self.effort(h))
        effort = share[..., 0] * (axes * torque).sum(-1) + share[..., 1]
        tip = base + links.sum(1) + 0.3 * v[:, -1]
        twist = torch.cat([spin[:, -1], v[:, -1]], -1)
        return {"effort": effort, "tip": tip, "twist": twist, "torque": torque[:, 0], "force": force[:, 0]}


def arms(seed: int) -> Inputs:
    """Two arms of five joints, whose axes are across their links."""
    random = generator(seed + 1103)
    links, axes = normal(random, 2, 5, 3), normal(random, 2, 5, 3)
    links = 0.9 * links / links.norm(dim=-1, keepdim=True)
    axes = torch.linalg.cross(links, axes)
    return {
        "base": normal(random, 2, 3) + 0.7,
        "links": links,
        "axes": axes / axes.norm(dim=-1, keepdim=True),
        "rate": 0.6 * normal(random, 2, 5),
        "load": 0.7 * normal(random, 2, 3),
        "target": normal(random, 2, 3),
        "h": normal(random, 2, 5, 2),
    }


ARM = Network(
    "dynamics of a robot's arm, velocities outwards and forces inwards, 3 layers",
    Arm,
    "E(3)",
    {
        "base": "batch point",
        "links": "batch joints! vector",
        "axes": "batch joints! pseudovector",
        "rate": "batch joints!",
        "load": "batch vector",
        "target": "batch vector",
        "h": "batch joints! features",
    },
    {
        "effort": "batch joints!",
        "tip": "batch point",
        "twist": "batch 1x1e+1x1o",
        "torque": "batch pseudovector",
        "force": "batch vector",
    },
    arms,
)
ARM.healthy("robot_arm")


@ARM.bug(
    "robot_arm_entries_in_rows",
    "component-order",
    "layers.1.dual",
    respected="T(3)",
    severity="one part of torques in one layer: entries of antisymmetric tensors are read row by row, as xy, zx, yz",
)
class RowByRow(Dual):
    entries = ((0, 2, 1), (1, 0, 2))


@ARM.bug(
    "robot_arm_squares_on_diagonal",
    "custom-layer-bug",
    "layers.1.inertia",
    also_right=("layers.1",),
    respected="Oh x T(3)",
    severity="one layer: an einsum does not sum over components, so that squares of each are on the diagonal",
)
class SquaresOnDiagonal(Inertia):
    def tensor(self, arm: torch.Tensor) -> torch.Tensor:
        eye = torch.eye(3, dtype=arm.dtype)
        return torch.einsum("...x,xy->...xy", arm.square(), eye) - arm[..., :, None] * arm[..., None, :]


@ARM.bug(
    "robot_arm_image_plane",
    "chart-singularity",
    "layers.1.camera",
    respected="O(2) @ (0,0,1) x T(3)",
    severity="targets within eleven degrees of the horizon alone: seen as slopes, divided by no less than a fifth",
    elements=24,
)
class ImagePlane(Camera):
    def forward(self, target: torch.Tensor) -> torch.Tensor:
        u = target / target.norm(dim=-1, keepdim=True)
        depth = u[:, 2:].abs().clamp_min(0.2)
        slopes = torch.cat([u[:, :2] / depth, u[:, 2:].sign()], -1)
        size = self.seen(target).norm(dim=-1, keepdim=True)
        return size * slopes / slopes.norm(dim=-1, keepdim=True)


# Haloes of dark matter: soft knots with moments, whose tides turn and stretch haloes


class Friends(nn.Module):
    """Weights [n, n] of haloes nearer than a linking length, which vanish smoothly there."""

    def __init__(self, length: float = 3.0) -> None:
        super().__init__()
        self.length = length

    def place(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor, v: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        y = self.place(x, v)
        r2 = (y[:, None] - y[None]).square().sum(-1)
        near = (1 - r2 / self.length**2).clamp_min(0).square() * (1 - torch.eye(len(x), dtype=x.dtype))
        return near * m / 2


class Knots(nn.Module):
    """Soft clusters: shares of mass, centres, velocities, second moments, and how they spin."""

    def __init__(self, width: int, count: int = 3) -> None:
        super().__init__()
        self.shares = nn.Linear(width, count)

    def streams(self, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return w.T @ v

    def forward(self, h: torch.Tensor, x: torch.Tensor, v: torch.Tensor, m: torch.Tensor) -> tuple[torch.Tensor, ...]:
        parts = m[:, None] * torch.softmax(self.shares(h), -1)
        mass = parts.sum(0)
        w = parts / mass
        centre, stream = w.T @ x, self.streams(v, w)
        d, u = x[:, None] - centre, v[:, None] - stream
        second = torch.einsum("nk,nkx,nky->kxy", w, d, d)
        spin = torch.einsum("nk,nkx->kx", w, torch.linalg.cross(x[:, None].expand_as(u), u))
        return mass / m.sum(), centre, second, spin, w * mass / m[:, None]


class Tides(nn.Module):
    """Potential [n], pull [n, 3] and tidal tensor [n, 3, 3] of all knots, with their quadrupoles."""

    def forward(self, x: torch.Tensor, mass: torch.Tensor, centre: torch.Tensor, second: torch.Tensor) -> Triple:
        d = x[:, None] - centre
        s = (1 + d.square().sum(-1)).rsqrt()
        eye = torch.eye(3, dtype=x.dtype)
        stretch = torch.einsum("kxy,nky->nkx", second, d)
        potential = (mass * (s + 0.5 * (stretch * d).sum(-1) * s**5)).sum(-1)
        pull = -torch.einsum("k,nk,nkx->nx", mass, s**3, d) + torch.einsum("k,nk,nkx->nx", mass, s**5, stretch)
        outer = 3 * s[..., None, None] ** 5 * d[..., :, None] * d[..., None, :]
        tide = torch.einsum("k,nkxy->nxy", mass, outer - s[..., None, None] ** 3 * eye)
        return potential, pull, tide


class Kick(nn.Module):
    """New velocities from old ones, pulls, and what acts across the motion of a halo that spins."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = nn.Linear(width, 3)

    def across(self, v: torch.Tensor, pull: torch.Tensor, spin: torch.Tensor) -> torch.Tensor:
        return torch.linalg.cross(spin, v)

    def forward(self, h: torch.Tensor, v: torch.Tensor, pull: torch.Tensor, spin: torch.Tensor) -> torch.Tensor:
        a, b, c = torch.tanh(self.sizes(h)).split(1, -1)
        v = v * (1 + 0.1 * a) + b * pull + 0.4 * c * self.across(v, pull, spin)
        return v / (1 + v.square().sum(-1, keepdim=True) / 9).sqrt()


class Torque(nn.Module):
    """Tides turn what is not round: the axial vector of the commutator of both tensors."""

    def forward(self, tide: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        c = tide @ shape - shape @ tide
        return torch.stack([c[:, 1, 2], c[:, 2, 0], c[:, 0, 1]], -1)


class HaloLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.friends = Friends()
        self.gossip = nn.Linear(width, width)
        self.knots = Knots(width)
        self.tides = Tides()
        self.kick = Kick(width)
        self.torque = Torque()
        self.update = nn.Linear(width + 7, width)

    def forward(self, h: torch.Tensor, x: torch.Tensor, m: torch.Tensor, motion: Pair) -> tuple[torch.Tensor, ...]:
        v, spin = motion
        w = self.friends(x, v, m)
        h = h + torch.tanh((w @ self.gossip(h)) / (1 + w.sum(1, keepdim=True)))
        drift = (w @ v - w.sum(1, keepdim=True) * v) / (1 + w.sum(1, keepdim=True))
        mass, centre, second, whirl, shares = self.knots(h, x, v, m)
        potential, pull, tide = self.tides(x, mass, centre, second)
        shape = torch.einsum("nk,kxy->nxy", shares, second)
        spin = 0.7 * spin + 0.3 * shares @ whirl + self.torque(tide, shape)
        v = self.kick(h, v, pull + 0.3 * drift, spin)
        t2 = tide @ tide
        dots = (t2, t2 @ tide, tide @ shape)
        traces = [t.diagonal(dim1=-2, dim2=-1).sum(-1) for t in dots]
        dots2 = ((pull, pull), (drift, drift), (spin, spin))
        seen = torch.stack([potential, *traces, *((a * b).sum(-1) for a, b in dots2)], -1)
        h = h + torch.tanh(self.update(torch.cat([h, torch.tanh(seen)], -1)))
        return h, v, spin, tide


class Haloes(nn.Module):
    """How haloes grow, move, spin and are stretched, and where they will meet."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, width)
        self.layers = nn.ModuleList(HaloLayer(width) for _ in range(3))
        self.growth = mlp(width, width, 1)

    def forward(
        self, x: torch.Tensor, v: torch.Tensor, spin: torch.Tensor, m: torch.Tensor, h: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        v = v - v.mean(0)
        h = self.embedding(torch.cat([h, torch.log(m)[:, None]], -1))
        for layer in self.layers:
            h, v, spin, tide = layer(h, x, m, (v, spin))
        growth = self.growth(h)[:, 0]
        meet = torch.softmax(growth, 0) @ (x + 0.5 * v)
        stretch = tide * torch.sigmoid(growth)[:, None, None] + 0.2 * v[:, :, None] * v[:, None]
        return {"growth": growth, "velocity": v, "spin": spin, "stretch": stretch, "meet": meet}


def sky(seed: int) -> Inputs:
    """A box of haloes, whose masses are whole numbers of particles."""
    random = generator(seed + 1217)
    n = (9, 8, 10)[seed % 3]
    return {
        "x": 1.4 * normal(random, n, 3) - 0.5,
        "v": 0.7 * normal(random, n, 3) + 0.3,
        "spin": 0.7 * normal(random, n, 3),
        "m": 1 + normal(random, n).abs().clamp(max=2).round(),
        "h": normal(random, n, 2),
    }


HALOES = Network(
    "haloes, their friends, and tides of soft knots with quadrupoles, 3 layers",
    Haloes,
    "E(3) x S(haloes)",
    {
        "x": "haloes point",
        "v": "haloes vector",
        "spin": "haloes pseudovector",
        "m": "haloes",
        "h": "haloes features",
    },
    {
        "growth": "haloes",
        "velocity": "haloes vector",
        "spin": "haloes pseudovector",
        "stretch": "haloes vector vector",
        "meet": "point",
    },
    sky,
)
HALOES.healthy("haloes")


@HALOES.bug(
    "haloes_bulk_flow",
    "translation-leak",
    "layers.1.knots",
    also_right=("layers.1",),
    respected="O(3) x S(haloes)",
    severity="one layer: the spin of a knot is about the origin, with velocities about the mean of all and not its own",
)
class BulkFlow(Knots):
    def __init__(self) -> None:
        super().__init__(8)

    def streams(self, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return v.mean(0).expand(w.shape[1], 3)


@HALOES.bug(
    "haloes_redshift_space",
    "lab-frame-constant",
    "layers.1.friends",
    respected="O(2) @ (0,0,1) x T(3) x S(haloes)",
    severity="one layer: friends are found in redshift space, with velocities along z added to places",
)
class RedshiftSpace(Friends):
    def place(self, x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        sight = torch.tensor([0.0, 0.0, 1.0], dtype=x.dtype)
        return x + 0.5 * (v @ sight)[:, None] * sight


@HALOES.bug(
    "haloes_heaviest_four",
    "neighbour-cap",
    "layers.2.friends",
    also_right=("layers.2",),
    respected="E(3)",
    severity="haloes with more than four friends alone, in the last layer: the heaviest, of equals the first",
)
class HeaviestFour(Friends):
    def forward(self, x: torch.Tensor, v: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        w = super().forward(x, v, m)
        order = torch.sort(torch.where(w > 0, m, 0 * m), dim=1, descending=True, stable=True).indices
        return w * torch.zeros_like(w).scatter(1, order[:, :4], 1.0)


@HALOES.bug(
    "haloes_binormal",
    "parity",
    "layers.1.kick",
    respected="SE(3) x S(haloes)",
    severity="one of three parts of the kick in one layer: along motion times pull, which is axial",
)
class Binormal(Kick):
    def __init__(self) -> None:
        super().__init__(8)

    def across(self, v: torch.Tensor, pull: torch.Tensor, spin: torch.Tensor) -> torch.Tensor:
        return torch.linalg.cross(v, pull)


# Swimmers in the plane that prefer one sense of turning: angular frequencies one and two, as pairs of real numbers


def times(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Products of complex numbers [..., 2]."""
    real = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1]
    return torch.stack([real, a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]], -1)


def mirrored(a: torch.Tensor) -> torch.Tensor:
    """Their conjugates."""
    return torch.stack([a[..., 0], -a[..., 1]], -1)


class Chiral(nn.Module):
    """Mixes channels [n, c, 2] with weights that scale and turn."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before * 2))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return times(self.weight.unflatten(1, (-1, 2)), z[:, None]).sum(2)


class Encounters(nn.Module):
    """What swimmers get from each other, of both frequencies: twice [n, c, 2]."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.weights = mlp(2 * width + 4, width, 5 * channels)

    def forward(self, s: torch.Tensor, x: torch.Tensor, v: torch.Tensor, q: torch.Tensor) -> Pair:
        d = x[None] - x[:, None]
        r2 = d.square().sum(-1)
        w = torch.tanh(self.weights(pairs(s, bumps(r2)))) * torch.exp(-r2 / 6)[..., None]
        w = w.unflatten(-1, (5, -1))[..., None]
        e = (d / (0.5 + r2[..., None]).sqrt())[:, :, None]
        ones = w[:, :, 0] * e + w[:, :, 1] * v + w[:, :, 2] * times(q[None], mirrored(e))
        twos = w[:, :, 3] * times(e, e) + w[:, :, 4] * times(v[None], e)
        return ones.sum(1) / 3, twos.sum(1) / 3


class Level(nn.Module):
    """Vectors [n, c, 2] over the root of the mean square of their swimmer's."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v * (0.3 + v.square().sum(-1).mean(-1)).rsqrt()[:, None, None]


class Sparse(nn.Module):
    """Makes what is small smaller, for each channel [n, c, 2]."""

    def size(self, q: torch.Tensor) -> torch.Tensor:
        return q.square().sum(-1, keepdim=True)

    def forward(self, q: torch.Tensor) -> torch.Tensor:
        r2 = self.size(q)
        return q * r2 / (0.2 + r2)


class Director(nn.Module):
    """What of vectors [n, c, 2] is along the line in which the swarm is ordered, by its mean of frequency two."""

    def forward(self, v: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        order = q.mean((0, 1))
        order = order * (0.1 + order.square().sum()).rsqrt()
        return (v + times(order.expand_as(v), mirrored(v))) / 2


class SwarmLayer(nn.Module):
    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.encounters = Encounters(width, channels)
        self.ones = Chiral(2 * channels, channels)
        self.twos = Chiral(2 * channels, channels)
        self.level = Level()
        self.sparse = Sparse()
        self.director = Director()
        self.update = nn.Linear(width + 4 * channels, width)

    def forward(self, s: torch.Tensor, x: torch.Tensor, v: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, Pair]:
        ones, twos = self.encounters(s, x, v, q)
        v = self.level(v + self.ones(torch.cat([v, ones], 1)))
        q = 0.5 * q + self.sparse(self.twos(torch.cat([q, twos], 1)))
        v = v + 0.5 * self.director(v, q)
        inner = times(mirrored(q), times(v, v)).flatten(1)
        seen = torch.cat([v.square().sum(-1), q.square().sum(-1), inner], 1)
        return s + torch.tanh(self.update(torch.cat([s, torch.tanh(seen / 2)], 1))), (v, q)


class Swarm(nn.Module):
    """How swimmers turn and move, and their stress on the fluid, four numbers each."""

    def __init__(self, width: int = 8, channels: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, width)
        self.start = Chiral(1, channels)
        self.layers = nn.ModuleList(SwarmLayer(width, channels) for _ in range(3))
        self.swim = Chiral(channels, 2)
        self.turn = mlp(width, width, 2)

    def forward(self, x: torch.Tensor, heading: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        s, v = self.embedding(h), self.start(heading[:, None])
        q = 0.5 * times(v, v)
        for layer in self.layers:
            s, (v, q) = layer(s, x, v, q)
        swim, push = self.swim(v).unbind(1)
        share = torch.tanh(self.turn(s))
        turn = share[:, 0] + times(mirrored(heading), swim)[:, 1]
        stress = torch.einsum("nx,ny->nxy", push, heading) + share[:, 1, None, None] * torch.eye(2, dtype=x.dtype)
        return {"turn": turn, "velocity": swim, "stress": stress.flatten(1)}


def pond(seed: int) -> Inputs:
    """Swimmers with headings."""
    random = generator(seed + 1301)
    n = (7, 9, 8)[seed % 3]
    heading = normal(random, n, 2)
    return {
        "x": 1.4 * normal(random, n, 2) + 0.6,
        "heading": heading / heading.norm(dim=-1, keepdim=True),
        "h": normal(random, n, 3),
    }


def tensor(g: Any) -> np.ndarray:
    """By what a tensor turns, its four numbers row by row."""
    turn = np.asarray(g.matrix)[:2, :2]
    return np.kron(turn, turn)


def tensor_back(g: Any) -> np.ndarray:
    turn = np.asarray(g.matrix)[:2, :2]
    return np.kron(turn, turn.T)


SWARM = Network(
    "swimmers in the plane with a sense of turning, frequencies one and two, 3 layers",
    Swarm,
    "SE(2) x S(swimmers)",
    {"x": "swimmers point", "heading": "swimmers vector", "h": "swimmers features"},
    {"turn": "swimmers", "velocity": "swimmers vector", "stress": "swimmers @tensor"},
    pond,
    options={"representations": {"tensor": tensor}},
)
SWARM.healthy("swimmers")
SWARM.misdeclared(
    "swimmers_second_index_back",
    "wrong-output-transform",
    options={"representations": {"tensor": tensor_back}},
    repair={"representations": {"tensor": tensor}},
    respected="C2 x T(2) x S(swimmers)",
    broken=("stress",),
    severity="one of three outputs: the user's function turns the second index back, as R s R.T seems to say",
)


@SWARM.bug(
    "swimmers_sparse_parts",
    "nonequivariant-nonlinearity",
    "layers.1.sparse",
    respected="C4 x T(2) x S(swimmers)",
    severity="fields of frequency two in one layer: single components are made smaller where they are small",
)
class SparseParts(Sparse):
    def size(self, q: torch.Tensor) -> torch.Tensor:
        return q.square()


@SWARM.bug(
    "swimmers_norm_of_channels",
    "batch-norm",
    "layers.1.level",
    respected="T(2) x S(swimmers)",
    severity="a norm of channels as it comes: components share a running mean, a variance, a weight and an offset",
)
class ChannelsNorm(nn.BatchNorm1d):
    def __init__(self) -> None:
        super().__init__(4)


@SWARM.bug(
    "swimmers_half_angle",
    "discontinuity",
    "layers.1.director",
    respected="T(2) x S(swimmers)",
    severity="one layer: a line is made a direction by half of its angle, which jumps where the angle does",
)
class HalfAngle(Director):
    def forward(self, v: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        order = q.mean((0, 1))
        half = torch.atan2(order[1], order[0]) / 2
        size = (order.square().sum() / (0.1 + order.square().sum())).sqrt()
        length = (0.1 + v.square().sum(-1, keepdim=True)).sqrt()
        return size * length * torch.stack([torch.cos(half), torch.sin(half)])


# Charges that equilibrate: in each round a linear system is solved, and its field felt


class Screening(nn.Module):
    """The interaction of smeared charges by the square of their distance, and its slope."""

    def value(self, r2: torch.Tensor) -> torch.Tensor:
        return (1 + r2).rsqrt()

    def forward(self, r2: torch.Tensor) -> Pair:
        return self.value(r2), -0.5 * (1 + r2) ** -1.5


class Solve(nn.Module):
    """Charges that make the energy least and add up to zero."""

    def forward(self, matrix: torch.Tensor, pull: torch.Tensor) -> torch.Tensor:
        both = torch.linalg.solve(matrix, torch.stack([-pull, torch.ones_like(pull)], -1))
        return both[:, 0] - both[:, 1] * both[:, 0].sum() / both[:, 1].sum()


class Lines(nn.Module):
    """Mixes channels of vectors [n, c, 3]."""

    def __init__(self, before: int = 5, after: int = 4) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return torch.einsum("dc,ncx->ndx", self.weight, u)


class Bonds(nn.Module):
    """Sums of messages over the neighbourhood."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.message = mlp(2 * width + 4, width, width)

    def forward(self, h: torch.Tensor, r2: torch.Tensor) -> torch.Tensor:
        near = torch.exp(-r2 / 4) * (1 - torch.eye(len(h), dtype=h.dtype))
        return (near[..., None] * torch.tanh(self.message(pairs(h, bumps(r2))))).sum(1) / 2


class Round(nn.Module):
    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.bonds = Bonds(width)
        self.wants = nn.Linear(width, 2)
        self.screening = Screening()
        self.solve = Solve()
        self.lines = Lines(channels + 1, channels)
        self.update = nn.Linear(2 * width + channels + 1, width)

    def forward(
        self, h: torch.Tensor, u: torch.Tensor, d: torch.Tensor, field: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        r2 = d.square().sum(-1)
        sums = self.bonds(h, r2)
        pull, hard = self.wants(h + sums).unbind(-1)
        matrix, slope = self.screening(r2)
        q = self.solve(matrix + torch.diag(0.5 + hard.square()), pull)
        felt = field + 2 * torch.einsum("ij,j,ijx->ix", slope, q, d)
        u = torch.tanh(q)[:, None, None] * self.lines(torch.cat([u, felt[:, None]], 1)) + 0.5 * u
        seen = torch.tanh(torch.cat([q[:, None], u.square().sum(-1)], -1))
        h = h + torch.tanh(self.update(torch.cat([h, sums, seen], -1)))
        return h, u, q, 0.5 * (matrix @ q) @ q + pull @ q


class Equilibration(nn.Module):
    """Energy and forces in a field, charges, and how atoms are polarised."""

    def __init__(self, width: int = 8, channels: int = 4, forces: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, width)
        self.rounds = nn.ModuleList(Round(width, channels) for _ in range(3))
        self.energy = mlp(width, width, 1)
        self.polar = Lines(channels, 1)
        self.forces = forces

    def forward(self, x: torch.Tensor, h: torch.Tensor, field: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.forces and not x.requires_grad:
            x = x.detach().requires_grad_()
        h = self.embedding(h)
        d = x[None] - x[:, None]
        u, energy = x.new_zeros(len(x), 4, 3), x.new_zeros(())
        for step in self.rounds:
            h, u, q, electric = step(h, u, d, field)
            energy = energy + 0.5 * electric
        energy = energy + self.energy(h).sum() - (q * ((x - x.mean(0)) @ field)).sum()
        out = {"energy": energy, "charges": q, "polar": self.polar(u)[:, 0]}
        if self.forces:
            (gradient,) = torch.autograd.grad(energy, x, create_graph=True)
            out["forces"] = -gradient
        return out


def salt(seed: int) -> Inputs:
    """Atoms in a field."""
    random = generator(seed + 1409)
    n = (7, 6, 8)[seed % 3]
    return {"x": 1.5 * normal(random, n, 3) + 0.5, "h": normal(random, n, 3), "field": 0.6 * normal(random, 3)}


CHARGES = Network(
    "charges equilibrated by a linear system in each of 3 rounds, energy and forces in a field",
    Equilibration,
    "E(3) x S(atoms)",
    {"x": "atoms point", "h": "atoms features", "field": "vector"},
    {"energy": "", "charges": "atoms", "polar": "atoms vector", "forces": "atoms vector"},
    salt,
)
CHARGES.healthy("equilibrated_charges")


@CHARGES.bug(
    "equilibrated_charges_fixed_matrix",
    "detached-gradient",
    "rounds.1.solve",
    evidence="claim",
    least=1e-4,
    most=1e-6,
    respected="E(3) x S(atoms)",
    severity="forces turn as they must, and miss what one round's matrix adds: it is factorised without a graph",
    options={"gradients": True},
)
class FixedMatrix(Solve):
    def forward(self, matrix: torch.Tensor, pull: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
        freed, one = inverse @ -pull, inverse.sum(1)
        return freed - one * freed.sum() / one.sum()


POLAR = CHARGES.but(
    architecture="charges equilibrated by a linear system in each of 3 rounds, energy in a field",
    make=lambda: Equilibration(forces=False),
    out_layouts={"energy": "", "charges": "atoms", "polar": "atoms vector"},
)


@POLAR.bug(
    "equilibrated_charges_divided_difference",
    "rounding-amplification",
    "rounds.1.screening",
    evidence="single",
    least=1e-4,
    most=1e-5,
    respected="E(3) x S(atoms)",
    severity="one slope in one round is a difference of values 2e-4 apart, divided by that",
    verdict="NEEDS_ATTENTION",
)
class DividedDifference(Screening):
    step = 1e-4

    def forward(self, r2: torch.Tensor) -> Pair:
        rise = self.value(r2 + self.step) - self.value(r2 - self.step)
        return self.value(r2), rise / (2 * self.step)


@CHARGES.bug(
    "equilibrated_charges_adapter",
    "unstable-parameters",
    "rounds.2.lines",
    evidence="parameters",
    respected="E(3) x S(atoms)",
    severity="exact until it is tuned: an adapter of rank two on flattened vectors, its second factor zero at first",
    options={"gradients": True},
)
class Adapted(Lines):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(2, 15))
        self.zero_up = nn.Parameter(torch.zeros(12, 2))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        tuned = u.flatten(1) @ self.down.T @ self.zero_up.T
        return super().forward(u) + tuned.unflatten(1, (4, 3))
