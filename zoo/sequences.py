"""Sequences: convolutions and attention on the circle, complex signals, signals with a unit, poses."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .case import Inputs, Network, generator, mlp, normal

# Dilated convolutions on the circle


class Halve(nn.Module):
    """Means of neighbours, at each place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + x.roll(1, -1)) / 2


class DilatedBlock(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, padding_mode="circular")
        self.norm = nn.GroupNorm(1, width)
        self.halve = Halve()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.halve(torch.relu(self.norm(self.conv(x))))


class DilatedNet(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Conv1d(3, width, 1)
        self.blocks = nn.Sequential(*(DilatedBlock(width, d) for d in (1, 2, 4, 1)))
        self.head = nn.Conv1d(width, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embedding(x)))


def signals(seed: int) -> Inputs:
    return {"x": normal(generator(seed + 2), 2, 3, (16, 20, 24)[seed % 3])}


DILATED = Network(
    "dilated convolutions on the circle, 4 blocks",
    DilatedNet,
    "T(1)",
    {"x": "batch channel length"},
    "batch channel length",
    signals,
    {"domain": "periodic"},
)
DILATED.healthy("dilated_circle")


@DILATED.bug(
    "dilated_causal_padding",
    "padding-boundary",
    "blocks.2.conv",
    respected=None,
    severity="eight places at the start of the sequence alone: zeros before it",
)
class Causal(nn.Conv1d):
    def __init__(self) -> None:
        super().__init__(8, 8, 3, dilation=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.pad(x, (8, 0)))


@DILATED.bug(
    "dilated_batchnorm_in_training",
    "batch-norm",
    "blocks.2.norm",
    evidence="batch",
    respected="T(1)",
    severity="no symmetry is lost: in train mode statistics mix the entries of a batch, as batch norm means to",
    verdict="PASS",
    options={"mode": "train"},
)
def batch_norm() -> nn.Module:
    return nn.BatchNorm1d(8)


@DILATED.bug(
    "dilated_decimation",
    "striding-aliasing",
    "blocks.1.halve",
    respected="2T(1)",
    severity="odd shifts alone, one of eight channels: every other sample is dropped and repeated",
)
class Decimate(Halve):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        held = x[:, 3:4, ::2].repeat_interleave(2, -1)
        return torch.cat([super().forward(x[:, :3]), held, super().forward(x[:, 4:])], 1)


# Attention on the circle, biased by how far apart places are


class CircleBias(nn.Module):
    """A bias for each pair of places, a function of their distance on the circle: [n, n]."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(8))

    def forward(self, n: int) -> torch.Tensor:
        d = torch.arange(n)[:, None] - torch.arange(n)
        return self.table[(d % n).minimum(-d % n).clamp_max(7)]


class CircleAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.bias = CircleBias()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.q(x) @ self.k(x).mT / x.shape[-1] ** 0.5 + 2 * self.bias(x.shape[-2])
        return torch.softmax(scores, -1) @ self.v(x)


class CircleBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = CircleAttention(width)
        self.feed = mlp(width, 2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm(x))
        return x + self.feed(x)


class CircleTransformer(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(3, width)
        self.blocks = nn.Sequential(*(CircleBlock(width) for _ in range(3)))
        self.head = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embedding(x)))


def places(seed: int) -> Inputs:
    return {"x": normal(generator(seed + 81), (8, 12, 10)[seed % 3], 3)}


CIRCLE = Network(
    "transformer on the circle, 3 blocks, biases by distance",
    CircleTransformer,
    "T(1)",
    {"x": "length features"},
    "length channel",
    places,
    {"domain": "periodic"},
)
CIRCLE.healthy("circle_transformer")


@CIRCLE.bug(
    "circle_bias_of_eight",
    "size-dependence",
    "blocks.1.attention.bias",
    respected=None,
    severity="lengths other than eight alone: the table of biases has a period of its own",
)
class BiasOfEight(CircleBias):
    def forward(self, n: int) -> torch.Tensor:
        d = torch.arange(n)[:, None] - torch.arange(n)
        return self.table[d % 8]


# Complex signals up to a phase


class ComplexLinear(nn.Module):
    """Real and imaginary parts of the matrix are two parameters."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.real = nn.Parameter(torch.empty(after, before))
        self.imaginary = nn.Parameter(torch.empty(after, before))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z @ torch.complex(self.real, self.imaginary).T


class ModSoft(nn.Module):
    """Bounds the modulus, and leaves the phase."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z / (1 + z.real.square() + z.imag.square()).sqrt()


class ComplexBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = ComplexLinear(width, width)
        self.act = ModSoft()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z + self.act(self.linear(z))


class ComplexNet(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.embedding = ComplexLinear(3, width)
        self.blocks = nn.ModuleList(ComplexBlock(width) for _ in range(3))
        self.signal = ComplexLinear(width, 2)
        self.power = nn.Linear(width, 2)

    def forward(self, z: torch.Tensor) -> dict[str, torch.Tensor]:
        z = self.embedding(z)
        for block in self.blocks:
            z = block(z)
        power = z.real.square() + z.imag.square()
        return {"signal": self.signal(z), "power": self.power(power.mean(0))}


def waves(seed: int) -> Inputs:
    random = generator(seed + 91)
    n = (10, 14, 12)[seed % 3]
    return {"z": torch.complex(normal(random, n, 3), normal(random, n, 3))}


COMPLEX = Network(
    "complex network, 3 blocks",
    ComplexNet,
    "U(1)",
    {"z": "time channel charge^1"},
    {"signal": "time channel charge^1", "power": "channel"},
    waves,
)
COMPLEX.healthy("complex_signal")


@COMPLEX.bug(
    "complex_split_tanh",
    "nonequivariant-nonlinearity",
    "blocks.1.act",
    respected="C4 in U(1)",
    severity="real and imaginary part each on their own, so that multiples of i pass",
)
class SplitTanh(nn.Module):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.complex(torch.tanh(2 * z.real), torch.tanh(2 * z.imag))


class ConjugateLinear(ComplexLinear):
    """Demodulates: what it gives has the opposite phase."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return super().forward(z).conj().resolve_conj()


def conjugated() -> nn.Module:
    net = ComplexNet()
    net.signal = ConjugateLinear(6, 2)
    return net


COMPLEX.but(make=conjugated).misdeclared(
    "complex_conjugate_output",
    "wrong-output-transform",
    also_right=("signal",),
    respected="C2 in U(1)",
    broken=("signal",),
    severity="one of two outputs has the inverse phase of what is declared",
    repair={"out_layouts": {"signal": "time channel charge^-1", "power": "channel"}},
)


# Signals with a unit: what is twice as large goes in, what is twice as large comes out


class Homogeneous(nn.Module):
    """A linear map without offset."""

    def __init__(self, before: int = 8, after: int = 8) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.T


class UnitBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = Homogeneous(width, width)
        self.second = Homogeneous(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(torch.relu(self.first(x)))


class UnitNet(nn.Module):
    """Relative gain and denoised signal of a mixture [time, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = Homogeneous(4, 8)
        self.blocks = nn.ModuleList(UnitBlock(8) for _ in range(3))
        self.signal = Homogeneous(8, 2)
        self.gain = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.embedding(x)
        for block in self.blocks:
            y = block(y)
        relative = y / y.square().mean().sqrt()
        return {"signal": self.signal(y), "gain": torch.sigmoid(self.gain(relative)).mean(0)}


def mixtures(seed: int) -> Inputs:
    return {"x": 0.5 * normal(generator(seed + 15), (9, 13, 11)[seed % 3], 4)}


UNIT = Network(
    "homogeneous network of a signal with a unit, 3 blocks",
    UnitNet,
    "Scale",
    {"x": "time channel scale^1"},
    {"signal": "time channel scale^1", "gain": "channel"},
    mixtures,
)
UNIT.healthy("signal_with_unit")


@UNIT.bug(
    "signal_with_bias",
    "custom-layer-bug",
    "blocks.1.first",
    respected=None,
    severity="one linear map of eight has an offset",
)
class Biased(Homogeneous):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.bias


# Poses


class Attitude(nn.Module):
    """Rotation matrices of quaternions (w, x, y, z): [time, 4] -> [time, 3, 3]."""

    def forward(self, q: torch.Tensor) -> torch.Tensor:
        w, x, y, z = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
        rows = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        return torch.stack([torch.stack(row, -1) for row in rows], -2)


class Quaternion(nn.Module):
    """Multiplies q by the small turn of a rotation vector, from the right."""

    def forward(self, q: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
        p = torch.cat([torch.ones_like(turn[:, :1]), turn / 2], -1)
        p = p / p.norm(dim=-1, keepdim=True)
        a, u, b, v = q[:, :1], q[:, 1:], p[:, :1], p[:, 1:]
        return torch.cat([a * b - (u * v).sum(-1, keepdim=True), a * v + b * u + torch.linalg.cross(u, v)], -1)


class PoseNet(nn.Module):
    """Attitudes and velocities in time; corrects both, as seen from the body."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.attitude = Attitude()
        self.body = nn.Linear(3, width)
        self.filters = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
        self.turn = nn.Linear(width, 3)
        self.quaternion = Quaternion()
        self.push = nn.Linear(width, 3)

    def forward(self, q: torch.Tensor, v: torch.Tensor) -> dict[str, torch.Tensor]:
        frames = self.attitude(q)
        f = self.body(torch.einsum("txb,tx->tb", frames, v)).T
        for conv in self.filters:
            f = f + torch.tanh(conv(f))
        push = torch.einsum("txb,tb->tx", frames, self.push(f.T))
        return {"q": self.quaternion(q, torch.tanh(self.turn(f.T))), "v": v + push}


def poses(seed: int) -> Inputs:
    random = generator(seed + 77)
    n = (9, 12, 10)[seed % 3]
    q = normal(random, n, 4)
    return {"q": q / q.norm(dim=-1, keepdim=True), "v": normal(random, n, 3)}


POSES = Network(
    "filter of poses, as seen from the body",
    PoseNet,
    "SO(3)",
    {"q": "time quaternion", "v": "time vector"},
    {"q": "time quaternion", "v": "time vector"},
    poses,
)
POSES.healthy("poses")


@POSES.bug(
    "poses_gimbal_lock",
    "chart-singularity",
    "attitude",
    respected="SO(2) @ (0,0,1)",
    severity="pitches beyond 72 degrees alone: by Euler angles whose pitch is clamped",
)
class EulerAttitude(Attitude):
    def forward(self, q: torch.Tensor) -> torch.Tensor:
        m = super().forward(q)
        yaw, roll = torch.atan2(m[:, 1, 0], m[:, 0, 0]), torch.atan2(m[:, 2, 1], m[:, 2, 2])
        pitch = torch.asin((-m[:, 2, 0]).clamp(-0.95, 0.95))
        (sa, ca), (sb, cb), (sc, cc) = ((torch.sin(t), torch.cos(t)) for t in (yaw, pitch, roll))
        rows = [
            [ca * cb, ca * sb * sc - sa * cc, ca * sb * cc + sa * sc],
            [sa * cb, sa * sb * sc + ca * cc, sa * sb * cc - ca * sc],
            [-sb, cb * sc, cb * cc],
        ]
        return torch.stack([torch.stack(row, -1) for row in rows], -2)
