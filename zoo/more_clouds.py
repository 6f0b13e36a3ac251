"""More point clouds: PointNet++, vector perceptrons with attention, local frames, denoisers, particles in time."""

from __future__ import annotations

import time

import torch
from torch import nn

from .case import Inputs, Network, Pair, bumps, cloud, generator, mlp, normal, pairs

# PointNet++: sampled centres, balls around them, and back to the points


class Farthest(nn.Module):
    """Numbers of `count` points, each the farthest from those before; the first is the farthest from the centroid."""

    def first(self, x: torch.Tensor) -> torch.Tensor:
        return (x - x.mean(0)).square().sum(-1).argmax()

    def forward(self, x: torch.Tensor, count: int) -> torch.Tensor:
        chosen = [self.first(x)]
        nearest = (x - x[chosen[0]]).square().sum(-1)
        for _ in range(count - 1):
            chosen.append(nearest.argmax())
            nearest = nearest.minimum((x - x[chosen[-1]]).square().sum(-1))
        return torch.stack(chosen)


class Ball(nn.Module):
    """Points around each centre: functions of distance [k, n, 4], and weights [k, n] that vanish at the radius."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius

    def forward(self, centres: torch.Tensor, x: torch.Tensor) -> Pair:
        r2 = (centres[:, None] - x[None]).square().sum(-1)
        return bumps(r2), (1 - r2 / self.radius**2).clamp_min(0).square()


class Abstraction(nn.Module):
    def __init__(self, before: int, after: int, radius: float) -> None:
        super().__init__()
        self.sample = Farthest()
        self.ball = Ball(radius)
        self.mlp = mlp(before + 4, 12, after)

    def forward(self, x: torch.Tensor, f: torch.Tensor) -> Pair:
        centres = x[self.sample(x, len(x) // 2)]
        functions, weights = self.ball(centres, x)
        sent = self.mlp(torch.cat([f.expand(len(centres), -1, -1), functions], -1))
        return centres, (sent * weights[..., None]).amax(1)


class Propagation(nn.Module):
    """Features of centres at the points, weighted by distance."""

    def forward(self, x: torch.Tensor, centres: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        weights = 1 / (0.1 + (x[:, None] - centres[None]).square().sum(-1))
        return weights @ f / weights.sum(1, keepdim=True)


class PointNetPlus(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, 8)
        self.down = nn.ModuleList([Abstraction(8, 8, 2.2), Abstraction(8, 8, 3.5)])
        self.up = Propagation()
        self.merge = mlp(16, 12, 3)
        self.shape = mlp(8, 8, 2)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.embedding(h)
        near, f = self.down[0](x, h)
        far, g = self.down[1](near, f)
        back = self.up(x, far, g)
        return {"parts": self.merge(torch.cat([h, back], -1)), "shape": self.shape(g.mean(0))}


PLUS = Network(
    "PointNet++, 2 levels of farthest points",
    PointNetPlus,
    "E(3) x S(points)",
    {"x": "points point", "h": "points features"},
    {"parts": "points classes", "shape": "classes"},
    cloud((16, 13, 18), spread=0.9),
)
PLUS.healthy("pointnet_plus")


@PLUS.bug(
    "pointnet_plus_first_point",
    "permutation",
    "down.0.sample",
    also_right=("down.0",),
    respected="E(3)",
    severity="gross; centres are sampled starting from the first point of the file",
)
class FromFirst(Farthest):
    def first(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor(0)


@PLUS.bug(
    "pointnet_plus_ball_query",
    "neighbour-cap",
    "down.0.ball",
    respected="E(3)",
    severity="a ball holds the first five points by number, as of a query that is cut",
)
class CappedBall(Ball):
    def __init__(self) -> None:
        super().__init__(2.2)

    def forward(self, centres: torch.Tensor, x: torch.Tensor) -> Pair:
        functions, weights = super().forward(centres, x)
        return functions, weights * ((weights > 0).cumsum(1) <= 5)


@PLUS.bug(
    "pointnet_plus_absolute",
    "translation-leak",
    "down.1.ball",
    respected="O(3) x S(points)",
    severity="gross; one of four functions is of the place of a point and not of its place in the ball",
)
class AbsoluteBall(Ball):
    def __init__(self) -> None:
        super().__init__(3.5)

    def forward(self, centres: torch.Tensor, x: torch.Tensor) -> Pair:
        functions, weights = super().forward(centres, x)
        place = torch.exp(-x.square().sum(-1) / 8).expand(len(centres), -1)
        return torch.cat([functions[..., :2], place[..., None], functions[..., 3:]], -1), weights


@PLUS.bug(
    "pointnet_plus_random_centres",
    "randomness",
    "down.0.sample",
    evidence="calls",
    respected=None,
    severity="gross; centres are a random half of the points, in eval mode too",
    verdict="NEEDS_ATTENTION",
)
class RandomHalf(nn.Module):
    def forward(self, x: torch.Tensor, count: int) -> torch.Tensor:
        return torch.randperm(len(x))[:count]


# Geometric vector perceptrons with attention


class VectorMap(nn.Module):
    """Mixes channels of vectors [n, c, 3]."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.einsum("dc,ncx->ndx", self.weight, v)


class VectorGate(nn.Module):
    """Scales vectors by a sigmoid of scalars."""

    def forward(self, v: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return v * torch.sigmoid(gate)[..., None]


class Perceptron(nn.Module):
    def __init__(self, scalars: int, vectors: int) -> None:
        super().__init__()
        self.hidden = VectorMap(vectors, vectors)
        self.out = VectorMap(vectors, vectors)
        self.scalars = nn.Linear(scalars + vectors, scalars)
        self.gates = nn.Linear(scalars, vectors)
        self.gate = VectorGate()

    def forward(self, s: torch.Tensor, v: torch.Tensor) -> Pair:
        hidden = self.hidden(v)
        length = (hidden.square().sum(-1) + 1e-4).sqrt()
        s = self.scalars(torch.cat([s, length], -1))
        return torch.relu(s), self.gate(self.out(hidden), self.gates(s))


class Lengths(nn.Module):
    """Distances of pairs [n, n], smooth at zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x[:, None] - x[None]).square().sum(-1) + 1e-4).sqrt()


class Fade(nn.Module):
    """Weights of pairs by distance, which vanish smoothly at 3."""

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        t = (r / 3).clamp_max(1)
        return (1 - t).square() * (1 + 2 * t)


class VectorAttention(nn.Module):
    """Attention by scalars, scalar products and distances; its weights fade with distance."""

    def __init__(self, scalars: int, vectors: int) -> None:
        super().__init__()
        self.lengths = Lengths()
        self.fade = Fade()
        self.logits = mlp(2 * scalars + vectors + 1, scalars, 1)
        self.send = nn.Linear(scalars, scalars)
        self.vectors = VectorMap(vectors, vectors)
        self.along = nn.Linear(scalars, vectors)

    def forward(self, x: torch.Tensor, s: torch.Tensor, v: torch.Tensor) -> Pair:
        r = self.lengths(x)
        both = torch.einsum("icx,jcx->ijc", v, v) / 3
        weights = torch.exp(torch.tanh(self.logits(pairs(s, both, r[..., None]))[..., 0])) * self.fade(r)
        weights = weights * (1 - torch.eye(len(x), dtype=x.dtype))
        weights = weights / (1 + weights.sum(1, keepdim=True))
        d = (x[:, None] - x[None]) / (1 + r[..., None])
        ahead = torch.einsum("ij,jc,ijx->icx", weights, self.along(s), d)
        return s + weights @ self.send(s), v + torch.einsum("ij,jcx->icx", weights, self.vectors(v)) + ahead


class PerceptronNet(nn.Module):
    def __init__(self, scalars: int = 8, vectors: int = 4) -> None:
        super().__init__()
        self.scalars = nn.Linear(4, scalars)
        self.vectors = VectorMap(2, vectors)
        self.attentions = nn.ModuleList(VectorAttention(scalars, vectors) for _ in range(3))
        self.perceptrons = nn.ModuleList(Perceptron(scalars, vectors) for _ in range(3))
        self.logits = nn.Linear(scalars, 3)
        self.shift = VectorMap(vectors, 1)

    def forward(self, x: torch.Tensor, h: torch.Tensor, u: torch.Tensor) -> dict[str, torch.Tensor]:
        s, v = self.scalars(h), self.vectors(u)
        for attention, perceptron in zip(self.attentions, self.perceptrons, strict=True):
            s, v = attention(x, s, v)
            ds, dv = perceptron(s, v)
            s, v = s + ds, v + dv
        return {"logits": self.logits(s), "shift": self.shift(v)[:, 0]}


PERCEPTRONS = Network(
    "geometric vector perceptrons with attention, 3 layers",
    PerceptronNet,
    "E(3) x S(nodes)",
    {"x": "nodes point", "h": "nodes features", "u": "nodes channel vector"},
    {"logits": "nodes classes", "shift": "nodes vector"},
    cloud((7, 9, 8), u=(2, 3)),
)
PERCEPTRONS.healthy("vector_perceptrons")
PERCEPTRONS.misdeclared(
    "vector_perceptrons_shift_as_point",
    "wrong-declaration",
    out_layouts={"logits": "nodes classes", "shift": "nodes point"},
    repair={"out_layouts": PERCEPTRONS.out_layouts},
    respected="O(3) x S(nodes)",
    broken=("shift",),
    severity="one of two outputs: displacements are declared positions",
)


@PERCEPTRONS.bug(
    "vector_perceptrons_clipped",
    "nonequivariant-nonlinearity",
    "perceptrons.1.gate",
    respected="Oh x T(3) x S(nodes)",
    severity="long vectors alone: components are clipped at one in the middle layer",
)
class ClippedGate(VectorGate):
    def forward(self, v: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return super().forward(v, gate).clamp(-1, 1)


@PERCEPTRONS.bug(
    "vector_perceptrons_component_scale",
    "unstable-parameters",
    "perceptrons.1.hidden",
    evidence="parameters",
    respected="E(3) x S(nodes)",
    severity="exact as long as the logarithms of scales of single components are zero, as at the start of training",
    options={"gradients": True},
)
class ScaledMap(VectorMap):
    def __init__(self) -> None:
        super().__init__(4, 4)
        self.zero_scale = nn.Parameter(torch.zeros(4, 3))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return super().forward(v) * self.zero_scale.exp()


def coincident(seed: int) -> Inputs:
    """Two of the points are at one place."""
    given = cloud((7, 9, 8), u=(2, 3))(seed)
    return given | {"x": torch.cat([given["x"][:1], given["x"][:1], given["x"][2:]])}


@PERCEPTRONS.bug(
    "vector_perceptrons_coincident",
    "nan-gradient",
    "attentions.1.lengths",
    evidence="nan",
    probe=coincident,
    respected="E(3) x S(nodes)",
    severity="points at one place alone: the root of their distance's square has no derivative at 0",
    verdict="PASS",
    options={"gradients": True},
)
class BareLengths(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        eye = torch.eye(len(x), dtype=x.dtype)
        return ((x[:, None] - x[None]).square().sum(-1) + eye).sqrt() * (1 - eye)


@PERCEPTRONS.bug(
    "vector_perceptrons_hard_cutoff",
    "discontinuity",
    "attentions.2.fade",
    evidence="jump",
    least=1e-4,
    most=1e-6,
    respected="E(3) x S(nodes)",
    severity="no symmetry is lost: the last layer's attention is to all that are nearer than 2.4, with equal weight",
    verdict="PASS",
    options={"stress": True, "cutoff": (2.4**2 - 1e-4) ** 0.5},
)
class Within(nn.Module):
    def forward(self, r: torch.Tensor) -> torch.Tensor:
        return (r < 2.4).to(r.dtype)


# Local frames, complete: what is seen in a frame is a scalar, and turned back a vector


class PairFrames(nn.Module):
    """Three vectors of each pair of centred points, as rows [n, n, 3, 3]: along it, across it, and across both."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d = x[:, None] - x[None]
        a = d * (1 + d.square().sum(-1, keepdim=True)).rsqrt()
        b = torch.linalg.cross(x[:, None].expand_as(d), x[None].expand_as(d))
        b = b * (1 + b.square().sum(-1, keepdim=True)).rsqrt()
        return torch.stack([a, b, torch.linalg.cross(a, b)], -2)


class FrameLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.frames = PairFrames()
        self.message = mlp(2 * width + 10, width, width)
        self.back = nn.Linear(width, 3)
        self.update = nn.Linear(2 * width, width)

    def forward(self, h: torch.Tensor, v: torch.Tensor, x: torch.Tensor) -> Pair:
        frames = self.frames(x)
        seen = torch.einsum("ijax,jx->ija", frames, v)
        own = torch.einsum("ijax,ix->ija", frames, x)
        r2 = (x[:, None] - x[None]).square().sum(-1)
        m = self.message(pairs(h, torch.tanh(seen), torch.tanh(own), bumps(r2)))
        v = v + torch.einsum("ijax,ija->ix", frames, self.back(m)) / len(x)
        return h + torch.tanh(self.update(torch.cat([h, m.mean(1)], -1))), v


class FrameNet(nn.Module):
    """An energy and vectors of nodes, or an energy and the forces that belong to it."""

    def __init__(self, width: int = 8, forces: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, width)
        self.layers = nn.ModuleList(FrameLayer(width) for _ in range(3))
        self.energy = mlp(width, width, 1)
        self.forces = forces

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.forces and not x.requires_grad:
            x = x.detach().requires_grad_()
        centred = x - x.mean(0)
        h, v = self.embedding(h), torch.zeros_like(x)
        for layer in self.layers:
            h, v = layer(h, v, centred)
        energy = self.energy(h).sum()
        if self.forces:
            return {"energy": energy, "forces": -torch.autograd.grad(energy, x, create_graph=True)[0]}
        return {"energy": energy, "drift": v}


LOCAL = Network(
    "network of complete local frames, as in ClofNet, 3 layers",
    FrameNet,
    "SE(3) x S(nodes)",
    {"x": "nodes point", "h": "nodes features"},
    {"energy": "", "drift": "nodes vector"},
    cloud((6, 8, 7)),
)
LOCAL.healthy("local_frames")


@LOCAL.bug(
    "local_frames_bfloat16",
    "low-precision",
    "layers.1.frames",
    least=1e-5,
    respected="O x T(3) x S(nodes)",
    severity="positions are rounded to bfloat16 before the frames of one layer, as under autocast",
    verdict="NEEDS_ATTENTION",
)
class BrainFrames(PairFrames):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.bfloat16().to(x.dtype))


@LOCAL.but(
    architecture="network of complete local frames, as in ClofNet, energy and forces",
    make=lambda: FrameNet(forces=True),
    out_layouts={"energy": "", "forces": "nodes vector"},
).bug(
    "local_frames_detached",
    "detached-gradient",
    "layers.1.frames",
    evidence="claim",
    least=1e-4,
    most=1e-6,
    respected="SE(3) x S(nodes)",
    severity="forces turn as they must, and miss a few per cent: one vector of the middle frames is detached",
    options={"gradients": True},
)
class DetachedFrames(PairFrames):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = super().forward(x)
        return torch.cat([frames[..., :1, :].detach(), frames[..., 1:, :]], -2)


# A denoiser of points in the plane, told the time of diffusion


class Size(nn.Module):
    """Divides centred points by the root mean square of their distances from the centroid."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x.square().sum(-1).mean() + 1e-2).rsqrt()


class Density(nn.Module):
    """How many others are near each point, weighted by features: [n, 2], [n, c] -> [n, c]."""

    def forward(self, x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        return torch.exp(-2 * (x[:, None] - x[None]).square().sum(-1)) @ f


class Clock(nn.Module):
    """Features of points and time: [n, c] -> [n, c]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width + 2, width)

    def extra(self, x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        return f

    def forward(self, x: torch.Tensor, f: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        wave = torch.stack([torch.sin(3 * t), torch.cos(3 * t)]).expand(len(f), 2)
        return torch.tanh(self.linear(torch.cat([self.extra(x, f), wave], -1)))


class DenoiserLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.clock = Clock(width)
        self.density = Density()
        self.mix = nn.Linear(2 * width, width)
        self.pull = mlp(2 * width + 4, width, 1)

    def forward(self, x: torch.Tensor, y: torch.Tensor, f: torch.Tensor, t: torch.Tensor) -> Pair:
        f = self.clock(x, f, t)
        f = f + torch.tanh(self.mix(torch.cat([f, self.density(x, f)], -1)))
        d = y[:, None] - y[None]
        r2 = d.square().sum(-1)
        pull = self.pull(pairs(f, bumps(r2))) * d / (1 + r2[..., None])
        return y + pull.mean(1), f


class Guidance(nn.Module):
    """The last step's size, by a learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(1))

    def forward(self, step: torch.Tensor) -> torch.Tensor:
        return step * (2 + self.scale)


class Denoiser(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.size = Size()
        self.embedding = nn.Linear(3, width)
        self.layers = nn.ModuleList(DenoiserLayer(width) for _ in range(3))
        self.guidance = Guidance()

    def forward(self, x: torch.Tensor, h: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        start = y = self.size(x - x.mean(0))
        f = self.embedding(h)
        for layer in self.layers:
            y, f = layer(x, y, f, t)
        return self.guidance(y - start)


def noisy(seed: int) -> Inputs:
    random = generator(seed + 101)
    n = (8, 11, 9)[seed % 3]
    x = 1.2 * normal(random, n, 2) + 0.3
    return {"x": x, "h": normal(random, n, 3), "t": normal(random, 1)[0].abs()}


DENOISER = Network(
    "denoiser of points in the plane, 3 layers",
    Denoiser,
    "E(2) x S(points)",
    {"x": "points point", "h": "points features", "t": None},
    "points vector",
    noisy,
)
DENOISER.healthy("denoiser")


@DENOISER.bug(
    "denoiser_running_scale",
    "train-eval-difference",
    "size",
    respected="C2 x T(2) x S(points)",
    severity="eval mode alone: each axis is divided by a running deviation of its own",
)
class RunningSize(Size):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_var", torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x * (self.running_var + 1e-2).rsqrt()
        self.running_var.lerp_(x.detach().square().mean(0), 0.1)
        return super().forward(x)


@DENOISER.bug(
    "denoiser_raster",
    "interpolation",
    "layers.1.density",
    respected="D4 x S(points)",
    severity="the density goes through pixels of a raster and back, by bilinear weights",
)
class Raster(nn.Module):
    def forward(self, x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        ticks = 0.8 * torch.arange(-12.0, 13.0, dtype=x.dtype)
        tents = (1 - (x[:, None] - ticks[:, None]).abs() / 0.8).clamp_min(0)
        weights = torch.einsum("na,nb->nab", *tents.unbind(-1)).flatten(1)
        return 2 * weights @ (weights.T @ f)


@DENOISER.bug(
    "denoiser_origin",
    "translation-leak",
    "layers.1.clock",
    respected="O(2) x S(points)",
    severity="a leak of 1e-3: one of eight features is told the distance from the origin",
    verdict="NEEDS_ATTENTION",
)
class OriginClock(Clock):
    def __init__(self) -> None:
        super().__init__(8)

    def extra(self, x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
        return torch.cat([f[:, :7], f[:, 7:] + 1e-3 * x.square().sum(-1, keepdim=True).sqrt()], -1)


@DENOISER.bug(
    "denoiser_samples",
    "randomness",
    "guidance",
    evidence="calls",
    respected=None,
    severity="a step of 1e-2 is drawn at random on top of the mean, as samplers do",
    verdict="NEEDS_ATTENTION",
)
class Sampling(Guidance):
    def forward(self, step: torch.Tensor) -> torch.Tensor:
        return super().forward(step) + 1e-2 * torch.randn_like(step)


@DENOISER.bug(
    "denoiser_wall_clock",
    "nondeterminism",
    "guidance",
    evidence="calls",
    respected=None,
    severity="the step's size varies by up to a tenth with the time of day",
    verdict="NEEDS_ATTENTION",
)
class WallClock(Guidance):
    def forward(self, step: torch.Tensor) -> torch.Tensor:
        return super().forward(step) * (1 + 1e-3 * (time.perf_counter_ns() // 100 % 101))


# Particles in time: a differential equation with learned forces


class Separation(nn.Module):
    """Offsets of pairs [n, n, 3] and squares of distances [n, n]."""

    def forward(self, x: torch.Tensor) -> Pair:
        d = x[:, None] - x[None]
        return d, d.square().sum(-1)


class External(nn.Module):
    """Drag: against the motion relative to the mean, by a learned rate."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.empty(1))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return -self.rate.square() * (v - v.mean(0))


class ForceField(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.separation = Separation()
        self.pair = mlp(6, 8, 1)
        self.external = External()

    def forward(self, x: torch.Tensor, v: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        d, r2 = self.separation(x)
        functions = pairs(m[:, None], bumps(r2))
        both = self.pair(functions) + self.pair(functions).transpose(0, 1)
        return (both * d / (1 + r2[..., None])).sum(1) / m[:, None] + self.external(v)


class Spin(nn.Module):
    """Angular momentum about the centre of mass."""

    def forward(self, x: torch.Tensor, v: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        centre = (m[:, None] * x).sum(0) / m.sum()
        return (m[:, None] * torch.linalg.cross(x - centre, v)).sum(0)


class Particles(nn.Module):
    """Four steps of the midpoint rule."""

    def __init__(self) -> None:
        super().__init__()
        self.field = ForceField()
        self.spin = Spin()

    def forward(self, x: torch.Tensor, v: torch.Tensor, m: torch.Tensor) -> dict[str, torch.Tensor]:
        step = 0.15
        for _ in range(4):
            half_x, half_v = x + step / 2 * v, v + step / 2 * self.field(x, v, m)
            x, v = x + step * half_v, v + step * self.field(half_x, half_v, m)
        return {"x": x, "v": v, "spin": self.spin(x, v, m)}


def moving(seed: int) -> Inputs:
    random = generator(seed + 111)
    n = (5, 7, 6)[seed % 3]
    x, v = 1.3 * normal(random, n, 3) + 0.5, normal(random, n, 3)
    return {"x": x, "v": v, "m": 0.5 + normal(random, n).abs()}


PARTICLES = Network(
    "differential equation of particles, 4 steps",
    Particles,
    "E(3) x S(bodies)",
    {"x": "bodies point", "v": "bodies vector", "m": "bodies"},
    {"x": "bodies point", "v": "bodies vector", "spin": "pseudovector"},
    moving,
)
PARTICLES.healthy("particles")
PARTICLES.misdeclared(
    "particles_spin_as_vector",
    "wrong-declaration",
    out_layouts={"x": "bodies point", "v": "bodies vector", "spin": "vector"},
    repair={"out_layouts": PARTICLES.out_layouts},
    respected="SE(3) x S(bodies)",
    broken=("spin",),
    severity="mirrors and one of three outputs alone: an angular momentum declared a polar vector",
)


@PARTICLES.bug(
    "particles_gravity",
    "lab-frame-constant",
    "field.external",
    respected="O(2) @ (0,0,1) x T(3) x S(bodies)",
    broken=("x", "v"),
    severity="a constant pull of 3e-3 along z, which no angular momentum about the centre of mass shows",
    verdict="NEEDS_ATTENTION",
)
class Gravity(External):
    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return super().forward(v) - torch.tensor([0.0, 0.0, 3e-3], dtype=v.dtype)


@PARTICLES.bug(
    "particles_clipped_gradient",
    "wrong-backward",
    "field.separation",
    evidence="derivative",
    most=1e-6,
    respected="E(3) x S(bodies)",
    severity="forward exact; a hook keeps the components of gradients by offsets below 0.1",
    options={"gradients": True},
)
class ClippedSeparation(Separation):
    def forward(self, x: torch.Tensor) -> Pair:
        d, _ = super().forward(x)
        if d.requires_grad:
            d.register_hook(lambda grad: grad.clamp(-0.1, 0.1))
        return d, d.square().sum(-1)


def distant(seed: int) -> Inputs:
    given = moving(seed)
    return given | {"x": given["x"] + 250}


@PARTICLES.but(inputs=distant, out_layouts={"x": "bodies point", "v": "bodies vector", "spin": None}).bug(
    "particles_expanded_squares",
    "numerical-precision",
    "field.separation",
    evidence="single",
    least=4e-4,
    most=1e-4,
    respected="E(3) x S(bodies)",
    severity="exact in double precision; squares of distances as differences of squares of positions, far off",
    verdict="NEEDS_ATTENTION",
)
class Expanded(Separation):
    def forward(self, x: torch.Tensor) -> Pair:
        square = x.square().sum(-1)
        return x[:, None] - x[None], square[:, None] + square - 2 * x @ x.T
