"""Held-back grids and tensors: optical flow on the torus, bracelets of sensors, charges, shells of directions."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .case import Inputs, Network, generator, mlp, normal

# Optical flow on the torus: costs of displacements, refined by warps of the second frame


def around(before: int, after: int) -> nn.Conv2d:
    """A convolution of three by three that wraps round."""
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="circular")


class Shrinkage(nn.Module):
    """Thresholds Haar wavelets of features; the mean over all four ways to divide pixels into squares."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.empty(width, 1, 1))

    def squares(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0), (0, 1), (1, 0), (1, 1))

    def shrink(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
        waves = torch.stack([a - b + c - d, a + b - c - d, a - b - c + d]) / 2
        waves = waves - torch.tanh(waves / (0.2 + torch.sigmoid(self.level))) * torch.sigmoid(self.level)
        p, q, r = waves.unbind()
        mean = (a + b + c + d) / 2
        y = torch.empty_like(x)
        y[..., ::2, ::2], y[..., ::2, 1::2] = (mean + p + q + r) / 2, (mean - p + q - r) / 2
        y[..., 1::2, ::2], y[..., 1::2, 1::2] = (mean + p - q - r) / 2, (mean - p - q + r) / 2
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shifts = self.squares()
        found = self.shrink(torch.stack([x.roll(s, (-2, -1)) for s in shifts]))
        return torch.stack([y.roll((-i, -j), (-2, -1)) for y, (i, j) in zip(found, shifts, strict=True)]).mean(0)


class Encoder(nn.Module):
    """Features of one frame."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = around(channels, width)
        self.shrinkage = Shrinkage(width)
        self.second = around(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(functional.silu(self.shrinkage(self.first(x))))


class Warp(nn.Module):
    """Reads features at places moved by a flow, linearly between four pixels."""

    def places(self, n: int, moved: torch.Tensor) -> torch.Tensor:
        """Of pixels, in steps of the grid: `moved` is the place of each pixel after it moved."""
        return moved

    def forward(self, f: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        height, width = f.shape[-2:]
        row = self.places(height, torch.arange(height, dtype=f.dtype)[:, None] + flow[:, 1])
        column = self.places(width, torch.arange(width, dtype=f.dtype) + flow[:, 0])
        top, left = row.floor(), column.floor()
        down, right = row - top, column - left
        rows = top.long() % height * width, (top.long() + 1) % height * width
        columns = left.long() % width, (left.long() + 1) % width
        index = torch.stack([i + j for i in rows for j in columns], 1)
        weight = torch.stack([u * v for u in (1 - down, down) for v in (1 - right, right)], 1)
        read = f.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, f.shape[1], -1))
        return (read.view(*f.shape[:2], 4, height, width) * weight[:, None]).sum(2)


class Costs(nn.Module):
    """Scalar products of features with those of nine places near by: [b, c, h, w] twice -> [b, 9, h, w]."""

    def beside(self, f: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        return f.roll((-rows, -columns), (-2, -1))

    def forward(self, f: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        near = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        return torch.stack([(f * self.beside(g, i, j)).sum(1) for i, j in near], 1) / f.shape[1] ** 0.5


class Motion(nn.Module):
    """Features of costs and of the flow so far, pixel by pixel."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.costs = nn.Conv2d(9, width, 1)
        self.flow = nn.Conv2d(2, width, 1)

    def seen(self, flow: torch.Tensor) -> torch.Tensor:
        return flow

    def forward(self, costs: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.costs(costs) + self.flow(self.seen(flow)))


class Refine(nn.Module):
    """One look at the second frame where the flow leads to, and a better flow."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.warp = Warp()
        self.costs = Costs()
        self.motion = Motion(width)
        self.gate = around(2 * width, width)
        self.new = around(2 * width, width)
        self.step = nn.Conv2d(width, 2, 1)

    def forward(
        self, f: torch.Tensor, g: torch.Tensor, flow: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seen = torch.cat([state, self.motion(self.costs(f, self.warp(g, flow)), flow)], 1)
        state = torch.lerp(state, torch.tanh(self.new(seen)), torch.sigmoid(self.gate(seen)))
        return flow + self.step(state), state


class OpticalFlow(nn.Module):
    """The flow from one frame to the next, the next frame carried back, the mean motion and how well it fits."""

    def __init__(self, channels: int = 2, width: int = 6) -> None:
        super().__init__()
        self.encoder = Encoder(channels, width)
        self.context = around(channels, width)
        self.rounds = nn.ModuleList(Refine(width) for _ in range(3))
        self.carry = Warp()
        self.fit = nn.Linear(channels, 1)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> dict[str, torch.Tensor]:
        f, g, state = self.encoder(first), self.encoder(second), torch.tanh(self.context(first))
        flow = torch.zeros_like(f[:, :2])
        for refine in self.rounds:
            flow, state = refine(f, g, flow, state)
        carried = self.carry(second, flow)
        return {
            "flow": flow,
            "carried": carried,
            "motion": flow.mean((-2, -1)),
            "fit": self.fit((carried - first).square().mean((-2, -1)))[:, 0],
        }


def frames(seed: int) -> Inputs:
    """Two frames of a smooth texture that moves."""
    random = generator(seed + 510)
    height, width = ((8, 12), (10, 8), (12, 10))[seed % 3]
    x, noise = normal(random, 2, 2, height, width), normal(random, 2, 2, height, width)
    first = x + x.roll(1, -1) + x.roll(1, -2)
    return {"first": first / 1.5, "second": (first.roll((1, -1), (-2, -1)) + 0.3 * noise) / 1.5}


OPTICAL = Network(
    "optical flow on the torus by costs of displacements and warps, 3 rounds",
    OpticalFlow,
    "T(2)",
    {"first": "batch channel height width", "second": "batch channel height width"},
    {"flow": "batch channel height width", "carried": "batch channel height width", "motion": "batch channel"}
    | {"fit": "batch"},
    frames,
    {"domain": "periodic"},
)
OPTICAL.healthy("held_optical")


@OPTICAL.bug(
    "held_optical_costs_off_frame",
    "padding-boundary",
    "rounds.2.costs",
    respected=None,
    severity="pixels at the border alone: in one of three rounds places beyond the frame cost nothing, as in FlowNet",
)
class CostsOffFrame(Costs):
    def beside(self, f: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        height, width = f.shape[-2:]
        padded = functional.pad(f, (1, 1, 1, 1))
        return padded[..., 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]


@OPTICAL.bug(
    "held_optical_haar_once",
    "striding-aliasing",
    "encoder.shrinkage",
    respected="2T(2)",
    severity="odd shifts alone: wavelets of squares of two by two pixels are thresholded for one division into squares",
)
class HaarOnce(Shrinkage):
    def squares(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0),)


@OPTICAL.bug(
    "held_optical_two_conventions",
    "interpolation",
    "rounds.1.warp",
    respected=None,
    severity="one of four warps: places scaled as with aligned corners are read as without, up to half a pixel off",
)
class TwoConventions(Warp):
    def places(self, n: int, moved: torch.Tensor) -> torch.Tensor:
        scaled = 2 * moved / (n - 1) - 1
        return ((scaled + 1) * n - 1) / 2


@OPTICAL.bug(
    "held_optical_absolute_places",
    "positional-encoding",
    "rounds.1.motion",
    also_right=("rounds.1",),
    respected=None,
    severity="one of three rounds: the net of motions sees where a pixel moves to, and not by how much",
)
class AbsolutePlaces(Motion):
    def seen(self, flow: torch.Tensor) -> torch.Tensor:
        rows, columns = (torch.arange(n, dtype=flow.dtype) for n in flow.shape[-2:])
        start = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))
        return flow + start / 8


# A bracelet of sensors round an arm: spreads in windows, filters along the ring, templates that are looked for


class Spread(nn.Module):
    """Variances of recordings [b, c, n] within five neighbours, by running sums."""

    def centre(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(-1, keepdim=True)

    def window(self, x: torch.Tensor) -> torch.Tensor:
        total = functional.pad(functional.pad(x, (2, 2), mode="circular").cumsum(-1), (1, 0))
        return (total[..., 5:] - total[..., :-5]) / 5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.centre(x)
        return 100 * (self.window(x.square()) - self.window(x).square())


class RingFilter(nn.Module):
    """Gains and delays that are smooth functions of the wave number."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(width, 4))
        self.delay = nn.Parameter(torch.empty(width, 2))

    def back(self, spectrum: torch.Tensor, n: int) -> torch.Tensor:
        return torch.fft.irfft(spectrum, n=n)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        n = h.shape[-1]
        wave = 2 * torch.pi * torch.arange(n // 2 + 1, dtype=h.dtype) / n
        gain = self.gain @ torch.stack([torch.cos(k * wave) for k in range(4)])
        delay = self.delay @ torch.stack([torch.sin(k * wave) for k in (1, 2)])
        return self.back(torch.fft.rfft(h) * torch.complex(gain, delay), n)


class Template(nn.Module):
    """Looks for a template of five samples all round, and puts it where it was found."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.shape = nn.Parameter(torch.empty(width, 5))

    def match(self, h: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        """The spectrum of scalar products at all shifts."""
        return h * shape.conj()

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        n = h.shape[-1]
        shape = torch.fft.rfft(self.shape, n=n)
        scores = torch.fft.irfft(self.match(torch.fft.rfft(h), shape), n=n)
        found = torch.fft.rfft(torch.softmax(2 * scores, -1))
        return 4 * torch.fft.irfft(found * shape, n=n)


class BraceletBlock(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.spread = Spread()
        self.conv = nn.Conv1d(width + channels, width, 3, padding=1, padding_mode="circular")
        self.filter = RingFilter(width)
        self.template = Template(width)
        self.mix = nn.Conv1d(2 * width, width, 1)

    def forward(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        h = h + functional.silu(self.conv(torch.cat([h, self.spread(x)], 1)))
        h = h + self.mix(torch.cat([self.filter(h), self.template(h)], 1))
        return h * torch.rsqrt(0.5 + h.square().mean((1, 2), keepdim=True))


class Bracelet(nn.Module):
    """How active the muscle below each sensor is, the gesture, and the power of the first waves."""

    def __init__(self, channels: int = 3, width: int = 6) -> None:
        super().__init__()
        self.lift = nn.Conv1d(channels, width, 3, padding=1, padding_mode="circular")
        self.blocks = nn.ModuleList(BraceletBlock(channels, width) for _ in range(3))
        self.active = nn.Conv1d(width, 2, 1)
        self.gesture = mlp(2 * width, 8, 4)
        self.waves = nn.Parameter(torch.empty(1, width))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.lift(10 * (x - x.mean(-1, keepdim=True)))
        for block in self.blocks:
            h = block(h, x)
        spectrum = torch.fft.rfft((self.waves @ h)[:, 0], norm="ortho")[:, :4]
        return {
            "active": torch.sigmoid(self.active(h)),
            "gesture": self.gesture(torch.cat([h.mean(-1), h.square().mean(-1)], 1)),
            "waves": torch.log1p(spectrum.real.square() + spectrum.imag.square()),
        }


def recordings(seed: int) -> Inputs:
    """Of about a tenth about a level of one."""
    n = (12, 15, 10)[seed % 3]
    return {"x": 1 + 0.1 * normal(generator(seed + 520), 2, 3, n)}


def lifted(seed: int) -> Inputs:
    """About a level of seven."""
    return {"x": recordings(seed)["x"] + 6}


BRACELET = Network(
    "bracelet of sensors, spreads by running sums, filters and templates along the ring, 3 blocks",
    Bracelet,
    "T(1)",
    {"x": "batch channel length"},
    {"active": "batch channel length", "gesture": "batch classes", "waves": "batch features"},
    recordings,
    {"domain": "periodic"},
)
BRACELET.healthy("held_bracelet")


@BRACELET.but(inputs=lifted).bug(
    "held_bracelet_running_squares",
    "numerical-precision",
    "blocks.1.spread",
    also_right=("blocks.1",),
    evidence="single",
    least=2e-4,
    most=3e-5,
    respected="T(1)",
    severity="exact in double precision; variances of signals on a pedestal from running sums of their squares",
    verdict="NEEDS_ATTENTION",
)
class RunningSquares(Spread):
    def centre(self, x: torch.Tensor) -> torch.Tensor:
        return x


@BRACELET.bug(
    "held_bracelet_even_inverse",
    "size-dependence",
    "blocks.1.filter",
    respected=None,
    severity="odd numbers of sensors alone: an inverse transform of even length, and a zero to fill up, in one block",
)
class EvenInverse(RingFilter):
    def back(self, spectrum: torch.Tensor, n: int) -> torch.Tensor:
        y = torch.fft.irfft(spectrum)
        return functional.pad(y, (0, n - y.shape[-1]))


@BRACELET.bug(
    "held_bracelet_other_conjugate",
    "custom-layer-bug",
    "blocks.1.template",
    also_right=("blocks.1",),
    respected=None,
    severity="two of six templates of one block: the signal's spectrum is conjugated and not the template's",
)
class OtherConjugate(Template):
    def match(self, h: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        right = super().match(h, shape)
        return torch.cat([right[:, :4], right[:, 4:].conj()], 1)


# Charges that are pushed by a field tensor


def lower(p: torch.Tensor) -> torch.Tensor:
    """The index down, of 4-vectors (t, x, y, z)."""
    return p * torch.tensor([1, -1, -1, -1], dtype=p.dtype)


def dot(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return (p * lower(q)).sum(-1)


def tame(x: torch.Tensor) -> torch.Tensor:
    """Grows as a logarithm on both sides."""
    return torch.asinh(x)


def pfaffian(field: torch.Tensor) -> torch.Tensor:
    """The product of the electric and the magnetic field: its sign changes in mirrors of space or time."""
    return field[0, 1] * field[2, 3] - field[0, 2] * field[1, 3] + field[0, 3] * field[1, 2]


class Dual(nn.Module):
    """The dual of a field tensor, made a true tensor by a factor whose sign changes as its own does."""

    def factor(self, field: torch.Tensor) -> torch.Tensor:
        product = pfaffian(field)
        return product * torch.rsqrt(0.1 + product.square())

    def forward(self, field: torch.Tensor) -> torch.Tensor:
        upper = torch.zeros_like(field)
        upper[0, 1], upper[0, 2], upper[0, 3] = field[2, 3], -field[1, 3], field[1, 2]
        upper[2, 3], upper[1, 3], upper[1, 2] = -field[0, 1], field[0, 2], -field[0, 3]
        return self.factor(field) * (upper - upper.T)


class Common(nn.Module):
    """One push for all, of the pushes [n, 4] of each."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.weight = nn.Linear(width, 1)

    def forward(self, pushes: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return (torch.softmax(self.weight(h), 0) * pushes).sum(0)


class Gather(nn.Module):
    """Features and weights from scalar products of all pairs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = mlp(3, width, width + 1)

    def forward(self, p: torch.Tensor, force: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b, c = dot(p[:, None], p), dot(force[:, None], p), dot(force[:, None], force)
        found = self.net(tame(torch.stack([a, b, c], -1)))
        return found[..., 1:].mean(1), torch.tanh(found[..., 0]) / len(p)


class Push(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dual = Dual()
        self.gather = Gather(width)
        self.update = mlp(2 * width + 4, width, width)
        self.strength = nn.Linear(width, 2)
        self.common = Common(width)

    def forward(self, h: torch.Tensor, p: torch.Tensor, field: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        force, other = lower(p) @ field.T, lower(p) @ self.dual(field).T
        message, near = self.gather(p, force)
        strength = (lower(lower(field).T) * field.T).sum() / 2
        seen = torch.stack([dot(p, p), dot(force, force), dot(force, other), strength.expand(len(p))], -1)
        h = h + self.update(torch.cat([h, message, tame(seen)], -1))
        one, two = torch.tanh(self.strength(h)).split(1, -1)
        pushes = one * force + two * other
        bound = 1 / (1 + dot(pushes, pushes).square()[:, None]) ** 0.25
        pushes = pushes * bound
        return h, p + 0.3 * pushes + 0.2 * self.common(pushes, h) + 0.3 * near @ p


class Pusher(nn.Module):
    """Momenta some time later, squares of masses, classes, and the map that moves a test particle's momentum."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, width)
        self.steps = nn.ModuleList(Push(width) for _ in range(3))
        self.classes = mlp(width, width, 3)
        self.share = nn.Linear(width, 1)

    def forward(self, p: torch.Tensor, h: torch.Tensor, field: torch.Tensor) -> dict[str, torch.Tensor]:
        start, h = p, self.embedding(h)
        for step in self.steps:
            h, p = step(h, p, field)
        share = torch.tanh(self.share(h)) / len(h)
        return {
            "p": p,
            "mass": tame(dot(p, p)),
            "classes": self.classes(h.mean(0)),
            "push": lower(0.5 * field + (share * p).T @ start),
        }


def charges(seed: int) -> Inputs:
    """Particles of masses about one in a field of about one."""
    random = generator(seed + 530)
    n = (5, 7, 6)[seed % 3]
    k, half = 0.8 * normal(random, n, 3), 0.6 * normal(random, 4, 4)
    mass = 0.8 + 0.4 * normal(random, n, 1).abs()
    energy = (k.square().sum(-1, keepdim=True) + mass.square()).sqrt()
    return {"p": torch.cat([energy, k], -1), "h": normal(random, n, 3), "field": half - half.T}


PUSH_OUT = {"p": "particles vector", "mass": "particles", "classes": "classes", "push": "vector covector"}
PUSHER = Network(
    "charges pushed by a field tensor and its dual, 3 steps",
    Pusher,
    "O(1,3) x S(particles)",
    {"p": "particles vector", "h": "particles features", "field": "vector vector"},
    PUSH_OUT,
    charges,
)
PUSHER.healthy("held_pusher")
PUSHER.misdeclared(
    "held_pusher_both_up",
    "wrong-declaration",
    out_layouts=PUSH_OUT | {"push": "vector vector"},
    repair={"out_layouts": PUSH_OUT},
    respected="O(3) x S(particles)",
    broken=("push",),
    severity="boosts and one of four outputs alone: a map of momenta, one index of which is down, both declared up",
)


@PUSHER.bug(
    "held_pusher_magnetic_charge",
    "parity",
    "steps.1.dual",
    also_right=("steps.1",),
    respected="SO+(1,3) x S(particles)",
    severity="mirrors alone: in one of three steps the dual field pushes charges as the field does",
)
class MagneticCharge(Dual):
    def factor(self, field: torch.Tensor) -> torch.Tensor:
        return pfaffian(field).square().add(0.1).rsqrt() * pfaffian(field).abs()


@PUSHER.bug(
    "held_pusher_largest_push",
    "nonequivariant-nonlinearity",
    "steps.2.common",
    respected="S(particles)",
    broken=("p", "mass", "push"),
    severity="in the last step the push for all is the largest of all particles, component by component",
)
class LargestPush(Common):
    def forward(self, pushes: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return pushes.amax(0)


# Signals along directions, as a scanner measures them: harmonics of degrees nought to two, coupled by hand

Fields = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def matrix(t: torch.Tensor) -> torch.Tensor:
    """Symmetric, without trace, of coefficients of xz, xy, 2 yy - xx - zz, yz, zz - xx: [..., 5] -> [..., 3, 3]."""
    xz, xy, b, yz, a = (t * 0.5**0.5).unbind(-1)
    b = b / 3**0.5
    return torch.stack([-b - a, xy, xz, xy, 2 * b, yz, xz, yz, a - b], -1).unflatten(-1, (3, 3))


def five(m: torch.Tensor) -> torch.Tensor:
    """Back again; parts of a matrix that are not symmetric or have a trace are left out."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = m.flatten(-2).unbind(-1)
    return 0.5**0.5 * torch.stack([xz + zx, xy + yx, (2 * yy - xx - zz) / 3**0.5, yz + zy, zz - xx], -1)


class Harmonics(nn.Module):
    """Of degrees one and two, of directions [n, 3]."""

    def forward(self, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 3**0.5 * u, 7.5**0.5 * five(u[:, :, None] * u[:, None])


class Density(nn.Module):
    """Weights that make up for directions that lie close to others."""

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        weight = 1 / torch.exp(4 * (u @ u.T - 1)).sum(1)
        return weight / weight.sum()


class Analysis(nn.Module):
    """Coefficients [c], [c, 3] and [c, 5] of signals."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, h: torch.Tensor, weight: torch.Tensor, one: torch.Tensor, two: torch.Tensor) -> Fields:
        a, b, c = (channel(h) * weight[:, None] for channel in self.channels)
        return a.sum(0), b.T @ one, c.T @ two


class Carry(nn.Module):
    """Adds what was kept, one array of a number of copies of each degree, to new coefficients, and keeps their sum."""

    def read(self, kept: torch.Tensor, width: int) -> Fields:
        a, v, t = kept.split([width, 3 * width, 5 * width])
        return a, v.view(width, 3), t.view(width, 5)

    def forward(self, fields: Fields, kept: torch.Tensor) -> Fields:
        return tuple(f + 0.7 * k for f, k in zip(fields, self.read(kept, len(fields[0])), strict=True))  # type: ignore


class Power(nn.Module):
    """Divides each channel by the root of its running power."""

    running_var: torch.Tensor

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.register_buffer("running_var", torch.ones(width))
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        return f * (self.weight * torch.rsqrt(self.running_var + 1e-3))[:, None]


class Buffer(nn.Module):
    """What vectors pass through before they are coupled."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v


class Couple(nn.Module):
    """Products of vectors and matrices without trace."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(width, width))
        self.tensors = nn.Parameter(torch.empty(width, width))

    def forward(self, v: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        full, other = matrix(t), self.vectors @ v
        size = torch.rsqrt(1 + v.square().sum(-1, keepdim=True) + t.square().sum(-1, keepdim=True))
        turned = (full @ other[:, :, None])[..., 0]
        products = v[:, :, None] * other[:, None] + full @ matrix(self.tensors @ t)
        return v + size * turned, t + size * five(products)


class Shape(nn.Module):
    """What no turn changes: [c] five times."""

    def last(self, v: torch.Tensor, full: torch.Tensor) -> torch.Tensor:
        return (v * (full @ v[:, :, None])[..., 0]).sum(-1)

    def forward(self, a: torch.Tensor, v: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        full = matrix(t)
        cube = (full @ full * full).sum((-2, -1))
        return tame(torch.cat([a, v.square().sum(-1), t.square().sum(-1), cube, self.last(v, full)]))


class Shell(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.analysis = Analysis(width)
        self.carry = Carry()
        self.norms = nn.ModuleList(Power(width) for _ in range(2))
        self.buffer = Buffer()
        self.couple = Couple(width)
        self.shape = Shape()
        self.gates = mlp(5 * width, 8, 3 * width)
        self.update = mlp(3 * width, 8, width)

    def forward(
        self, h: torch.Tensor, kept: torch.Tensor, weight: torch.Tensor, one: torch.Tensor, two: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        a, v, t = self.carry(self.analysis(h, weight, one, two), kept)
        v, t = self.couple(self.buffer(self.norms[0](v)), self.norms[1](t))
        b, c, d = self.gates(self.shape(a, v, t)).chunk(3)
        a, v, t = a + b, v * torch.sigmoid(c)[:, None], t * torch.sigmoid(d)[:, None]
        seen = torch.cat([h, a.expand_as(h), (one @ v.T + two @ t.T) / 2], -1)
        return h + torch.tanh(self.update(seen)), torch.cat([a, v.flatten(), t.flatten()])


class ShellNet(nn.Module):
    """The distribution of fibres as harmonics, a tensor of diffusion, a denoised signal and classes of tissue."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.width = width
        self.harmonics = Harmonics()
        self.density = Density()
        self.lift = nn.Linear(2, width)
        self.blocks = nn.ModuleList(Shell(width) for _ in range(3))
        self.signal = nn.Linear(width, 1)
        self.fibres = nn.ParameterList(nn.Parameter(torch.empty(1, width)) for _ in range(3))
        self.diffusion = nn.Linear(width, width, bias=False)
        self.tissue = mlp(3 * width, 8, 3)

    def forward(self, u: torch.Tensor, s: torch.Tensor) -> dict[str, torch.Tensor]:
        one, two = self.harmonics(u)
        weight = self.density(u)
        h = self.lift(s)
        kept = h.new_zeros(9 * self.width)
        for block in self.blocks:
            h, kept = block(h, kept, weight, one, two)
        a, v, t = kept.split([self.width, 3 * self.width, 5 * self.width])
        v, t = v.view(-1, 3), t.view(-1, 5)
        fibres = [w @ f for w, f in zip(self.fibres, (a[:, None], v, t), strict=True)]
        full = matrix((self.fibres[2] @ self.diffusion(t.T).T)[0])
        full = full + torch.eye(3, dtype=t.dtype) * functional.softplus(a.sum()) + v.T @ v / self.width
        powers = torch.cat([a, v.square().sum(-1), t.square().sum(-1)])
        return {
            "fibres": torch.cat([f[0] for f in fibres]),
            "diffusion": full[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
            "signal": self.signal(h)[:, 0],
            "tissue": self.tissue(tame(powers)),
        }


def shells(seed: int) -> Inputs:
    """Signals of two strengths that are weak along a fibre."""
    random = generator(seed + 540)
    n = (12, 15, 10)[seed % 3]
    u, fibre, noise = normal(random, n, 3), normal(random, 3), normal(random, n, 2)
    u, fibre = u / u.norm(dim=-1, keepdim=True), fibre / fibre.norm()
    along = (u @ fibre)[:, None].expand(n, 2)
    strength = torch.tensor([1.0, 2.5], dtype=u.dtype)
    return {"u": u, "s": torch.exp(-strength * along.square()) + 0.3 * along + 0.3 * noise}


SHELLS = Network(
    "signals along directions as harmonics of degrees nought to two, there and back, 3 blocks",
    ShellNet,
    "O(3) x S(points)",
    {"u": "points vector", "s": "points channel"},
    {"fibres": "1x0e+1x1o+1x2e", "diffusion": "voigt", "signal": "points", "tissue": "classes"},
    shells,
)
SHELLS.healthy("held_shells")


@SHELLS.bug(
    "held_shells_read_by_copies",
    "component-order",
    "blocks.2.carry",
    respected="S(points)",
    severity="gross; an array of four copies of each degree is read, in one block, as four times all degrees",
)
class ReadByCopies(Carry):
    def read(self, kept: torch.Tensor, width: int) -> Fields:
        a, v, t = kept.view(width, 9).split([1, 3, 5], 1)
        return a[:, 0], v, t


@SHELLS.bug(
    "held_shells_shared_mean",
    "batch-norm",
    "blocks.1.norms.1",
    respected="S(points)",
    severity="degree two alone: a batch norm of channels, for which five components are samples, takes off their mean",
)
class SharedMean(nn.BatchNorm1d):
    def __init__(self) -> None:
        super().__init__(4, eps=1e-3)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        return super().forward(f[None])[0]


@SHELLS.bug(
    "held_shells_bore",
    "lab-frame-constant",
    "blocks.1.shape",
    also_right=("blocks.1",),
    respected="O(2) @ (0,0,1) x S(points)",
    severity="one of twenty invariants of one block is diffusion along the scanner's bore, which is the z axis",
)
class Bore(Shape):
    def last(self, v: torch.Tensor, full: torch.Tensor) -> torch.Tensor:
        right = super().last(v, full)
        bore = torch.tensor([0.0, 0.0, 1.0], dtype=v.dtype)
        return torch.cat([right[:3], (2 * full[3] @ bore @ bore)[None]])


@SHELLS.bug(
    "held_shells_fixed_point",
    "low-precision",
    "blocks.1.buffer",
    least=1e-5,
    respected="Oh x S(points)",
    severity="vectors of one block pass through integers of sixteen bits, in steps of 2^-11",
    verdict="NEEDS_ATTENTION",
)
class FixedPoint(Buffer):
    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return (2048 * v).round().to(torch.int16).to(v.dtype) / 2048
