"""Points: a matcher of plane scans, a closure of turbulence, Clifford layers, a judge of grasps."""

from __future__ import annotations

import torch
from torch import nn

from .case import Inputs, Network, Pair, bumps, generator, mlp, normal

Rates3 = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

# Two scans of a plane are laid over each other, by soft matches and weighted turns


class Tidy(nn.Module):
    """Features of returns [n, c], each row to unit deviation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=0.1)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.norm(h)


class Apart(nn.Module):
    """Squares of distances, [n, 2] and [m, 2] -> [n, m]."""

    def forward(self, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return (p[:, None] - q[None]).square().sum(-1)


class Context(nn.Module):
    """What lies round about each return of one scan."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.apart = Apart()
        self.filters = nn.Linear(4, width)
        self.source = nn.Linear(width, width)
        self.update = mlp(2 * width, width, width)

    def forward(self, h: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        weights = torch.tanh(self.filters(bumps(self.apart(p, p))))
        around = torch.einsum("ijc,jc->ic", weights, self.source(h)) / len(p) ** 0.5
        return h + self.update(torch.cat([h, around], -1))


class Matches(nn.Module):
    """How far each return of one scan belongs to each of the other: rows of [n, m] add up to 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.apart = Apart()
        self.queries = nn.Linear(width, width)
        self.keys = nn.Linear(width, width)

    def forward(self, h: Pair, p: Pair) -> torch.Tensor:
        scores = self.queries(h[0]) @ self.keys(h[1]).T / h[0].shape[-1] ** 0.5
        return torch.softmax(scores - 2 * self.apart(*p), -1)


class Fit(nn.Module):
    """The turn [2, 2] and the shift [2] that take points best to their places, by weights [n]."""

    def centre(self, w: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return w @ p / w.sum()

    def forward(self, w: torch.Tensor, p: torch.Tensor, q: torch.Tensor) -> Pair:
        from_, to = self.centre(w, p), self.centre(w, q)
        a, b = p - from_, q - to
        cosine = (w * (a * b).sum(-1)).sum()
        sine = (w * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])).sum()
        unit = torch.stack([cosine, sine]) / torch.hypot(cosine, sine)
        turn = torch.stack([torch.stack([unit[0], -unit[1]]), torch.stack([unit[1], unit[0]])])
        return turn, to - turn @ from_


class Round(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.tidy = Tidy(width)
        self.context = Context(width)
        self.matches = Matches(width)
        self.trust = mlp(2 * width, width, 1)
        self.fit = Fit()

    def forward(self, h: Pair, p: Pair) -> tuple[Pair, Pair, torch.Tensor]:
        g, k = (self.context(self.tidy(a), b) for a, b in zip(h, p, strict=True))
        matches = self.matches((g, k), p)
        found = matches @ k
        trust = torch.sigmoid(self.trust(torch.cat([g, found], -1)))[:, 0]
        turn, shift = self.fit(trust, p[0], matches @ p[1])
        return (g + found, k), (p[0] @ turn.T + shift, p[1]), turn


class ScanMatcher(nn.Module):
    """Lays a source over a target: where its returns come to lie, by which turn, and how well each fits."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(2, width)
        self.layers = nn.ModuleList(Round(width) for _ in range(3))
        self.overlap = mlp(width, width, 1)

    def forward(self, x: torch.Tensor, y: torch.Tensor, hx: torch.Tensor, hy: torch.Tensor) -> dict[str, torch.Tensor]:
        h, p = (self.embedding(hx), self.embedding(hy)), (x, y)
        total = torch.eye(2, dtype=x.dtype)
        for layer in self.layers:
            h, p, turn = layer(h, p)
            total = turn @ total
        return {"aligned": p[0], "turn": total, "sine": total[1, 0], "overlap": self.overlap(h[0])[:, 0]}


def scans(seed: int) -> Inputs:
    """The same room from two places, with returns of their own."""
    random = generator(seed + 611)
    n, m = ((7, 9), (10, 8), (6, 11))[seed % 3]
    room = normal(random, 12, 2) * torch.tensor([1.7, 0.9]).to(torch.get_default_dtype())
    c, s = torch.cos(torch.tensor(0.6 + 0.1 * seed)), torch.sin(torch.tensor(0.6 + 0.1 * seed))
    turn = torch.stack([torch.stack([c, -s]), torch.stack([s, c])]).to(room.dtype)
    x = room[:n] @ turn.T + 0.1 * normal(random, n, 2) + 0.9
    y = room[-m:] + 0.1 * normal(random, m, 2) + 0.7
    return {"x": x, "y": y, "hx": normal(random, n, 2), "hy": normal(random, m, 2)}


SCANS = Network(
    "matcher of plane scans by soft matches and weighted turns, 3 rounds",
    ScanMatcher,
    "E(2) x S(source) x S(target)",
    {"x": "source point", "y": "target point", "hx": "source features", "hy": "target features"},
    {"aligned": "source point", "turn": "vector vector", "sine": "pseudoscalar", "overlap": "source"},
    scans,
)
SCANS.healthy("scan_matcher")
SCANS.misdeclared(
    "scan_matcher_sine_as_number",
    "wrong-declaration",
    out_layouts=SCANS.out_layouts | {"sine": ""},
    repair={"out_layouts": SCANS.out_layouts},
    broken=("sine",),
    respected="SE(2) x S(source) x S(target)",
    severity="one output of four: the sine of the turn changes its sign in a mirror, and is declared a plain number",
)


@SCANS.bug(
    "scan_matcher_beam_numbers",
    "positional-encoding",
    "layers.1.tidy",
    respected="E(2)",
    severity="one round: waves along the number of the beam are added to the features of returns",
)
class BeamNumbers(Tidy):
    def __init__(self) -> None:
        super().__init__(8)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        beam = torch.arange(len(h), dtype=h.dtype)[:, None]
        rates = torch.tensor([1.0, 0.3, 0.1, 0.03], dtype=h.dtype)
        return super().forward(h) + 0.2 * torch.cat([torch.sin(beam * rates), torch.cos(beam * rates)], -1)


@SCANS.bug(
    "scan_matcher_guarded_centre",
    "translation-leak",
    "layers.1.fit",
    respected="O(2) x S(source) x S(target)",
    severity="1e-3: the sum of weights by which centres are divided has a small number added to it",
    verdict="NEEDS_ATTENTION",
)
class GuardedFit(Fit):
    def centre(self, w: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return w @ p / (w.sum() + 3e-3)


@SCANS.bug(
    "scan_matcher_noisier_along_y",
    "lab-frame-constant",
    "layers.1.matches.apart",
    also_right=("layers.1.matches",),
    respected="C2 x T(2) x S(source) x S(target)",
    severity="one round: what is apart along y counts less than what is apart along x, as sensors' noise has it",
)
class NoisierY(Apart):
    def forward(self, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        weights = torch.tensor([1.0, 0.6], dtype=p.dtype)
        return ((p[:, None] - q[None]).square() * weights).sum(-1)


# A closure of turbulence: stresses in a basis of tensors that rates of strain and of rotation span


class Rates(nn.Module):
    """Strain and rotation [n, 3, 3] as seen in a frame that turns at the rate omega, squashed, and axial spins."""

    def forward(self, gradient: torch.Tensor, omega: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        strain = (gradient + gradient.mT) / 2
        trace = strain.diagonal(dim1=-2, dim2=-1).mean(-1)
        strain = strain - trace[:, None, None] * torch.eye(3, dtype=gradient.dtype)
        size = (1 + gradient.square().sum((-2, -1))).sqrt()[:, None, None]
        whirl = (gradient - gradient.mT) / 2
        spin = torch.stack([whirl[:, 2, 1], whirl[:, 0, 2], whirl[:, 1, 0]], -1) + omega
        return strain / size, levi(spin) / size, spin / size[..., 0]


def levi(spin: torch.Tensor) -> torch.Tensor:
    """The antisymmetric tensors [n, 3, 3] that take v to spin x v."""
    return torch.linalg.cross(spin[:, None].expand(-1, 3, 3), torch.eye(3, dtype=spin.dtype).expand(len(spin), 3, 3)).mT


def deviator(t: torch.Tensor) -> torch.Tensor:
    """The symmetric part without its trace."""
    t = (t + t.mT) / 2
    return t - t.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] * torch.eye(3, dtype=t.dtype)


class Basis(nn.Module):
    """Six symmetric tensors without traces, of the stress so far and of both rates: [n, 6, 3, 3]."""

    def forward(self, b: torch.Tensor, s: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        made = (s, s @ w - w @ s, s @ s, w @ w, b @ s + s @ b, b @ w - w @ b)
        return torch.stack([deviator(t) for t in made], 1)


class Invariants(nn.Module):
    """Traces of products, and the helicity of the motion, whose sign is of no interest: [n, 7]."""

    def helicity(self, u: torch.Tensor, spin: torch.Tensor) -> torch.Tensor:
        return (u * spin).sum(-1).square()

    def forward(
        self, b: torch.Tensor, s: torch.Tensor, w: torch.Tensor, u: torch.Tensor, spin: torch.Tensor
    ) -> torch.Tensor:
        products = (s @ s, w @ w, s @ s @ s, w @ w @ s, b @ s, b @ b)
        traces = [p.diagonal(dim1=-2, dim2=-1).sum(-1) for p in products]
        return torch.tanh(torch.stack([*traces, self.helicity(u, spin)], -1))


class Packed(nn.Module):
    """Symmetric tensors [n, c, 3, 3] as xx yy zz yz xz xy: [n, c, 6]."""

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        return t[..., [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


class Unpacked(nn.Module):
    """The way back: [n, 6] -> [n, 3, 3]."""

    order = (0, 5, 4, 5, 1, 3, 4, 3, 2)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        return t[..., self.order].unflatten(-1, (3, 3))


class Weighed(nn.Module):
    """Sums packed tensors [n, c, 6] with weights of each cell [n, c], after a mixture of channels."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.mixture = nn.Parameter(torch.empty(channels, channels))

    def forward(self, weights: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nc,cd,ndk->nk", weights, self.mixture, t)


class Transport(nn.Module):
    """Carries features and stresses from cell to cell, by distance."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scores = nn.Linear(4, 1)
        self.values = nn.Linear(width, width)

    def forward(self, h: torch.Tensor, b: torch.Tensor, x: torch.Tensor) -> Pair:
        r2 = (x[:, None] - x[None]).square().sum(-1)
        weights = torch.softmax(self.scores(bumps(r2))[..., 0] - r2 / 4, -1)
        return h + torch.tanh(self.values(weights @ h)), 0.5 * b + 0.5 * torch.einsum("ij,jxy->ixy", weights, b)


class ClosureLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.transport = Transport(width)
        self.invariants = Invariants()
        self.basis = Basis()
        self.coefficients = mlp(width + 7, width, 6)
        self.packed = Packed()
        self.weighed = Weighed()
        self.unpacked = Unpacked()
        self.update = nn.Linear(width + 7, width)

    def forward(self, h: torch.Tensor, b: torch.Tensor, x: torch.Tensor, u: torch.Tensor, rates: Rates3) -> Pair:
        h, b = self.transport(h, b, x)
        seen = torch.cat([h, self.invariants(b, *rates[:2], u, rates[2])], -1)
        new = self.weighed(self.coefficients(seen), self.packed(self.basis(b, *rates[:2])))
        return h + torch.tanh(self.update(seen)), b + self.unpacked(new)


class Closure(nn.Module):
    """The anisotropy of the stress of each cell, the energy that it makes, and an axial source of vorticity."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = mlp(3, width, width)
        self.rates = Rates()
        self.start = nn.Linear(width, 1)
        self.layers = nn.ModuleList(ClosureLayer(width) for _ in range(3))
        self.share = nn.Linear(width, 2)

    def forward(
        self, x: torch.Tensor, u: torch.Tensor, gradient: torch.Tensor, omega: torch.Tensor, h: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        rates = self.rates(gradient, omega)
        strain, _, spin = rates
        u = u - u.mean(0)
        h = self.embedding(h)
        b = self.start(h)[..., None] * strain
        for layer in self.layers:
            h, b = layer(h, b, x, u, rates)
        share = torch.sigmoid(self.share(h))
        stretched = share[:, :1] * torch.einsum("nxy,ny->nx", b, spin) + share[:, 1:] * spin
        made = (b * strain).sum((-2, -1)) + share[:, 0]
        return {"stress": self.layers[-1].packed(b), "production": made, "source": stretched}


def flow(seed: int) -> Inputs:
    """Cells about a place of shear."""
    random = generator(seed + 733)
    n = (7, 9, 6)[seed % 3]
    shear = normal(random, 3, 3)
    return {
        "x": 1.3 * normal(random, n, 3) - 0.6,
        "u": normal(random, n, 3) + 0.5,
        "gradient": shear + 0.7 * normal(random, n, 3, 3),
        "omega": normal(random, 3),
        "h": normal(random, n, 3),
    }


CLOSURE = Network(
    "closure of turbulence in a basis of tensors, packed as six numbers, 3 layers",
    Closure,
    "E(3) x S(cells)",
    {
        "x": "cells point",
        "u": "cells vector",
        "gradient": "cells vector vector",
        "omega": "pseudovector",
        "h": "cells features",
    },
    {"stress": "cells voigt", "production": "cells", "source": "cells pseudovector"},
    flow,
)
CLOSURE.healthy("turbulence_closure")
CLOSURE.misdeclared(
    "turbulence_closure_frame_stays",
    "untransformed-input",
    in_layouts=CLOSURE.in_layouts | {"omega": "3"},
    repair={"in_layouts": CLOSURE.in_layouts},
    respected="T(3) x S(cells)",
    severity="the rate at which the frame turns is declared three plain numbers",
)


@CLOSURE.bug(
    "turbulence_closure_shears_swapped",
    "component-order",
    "layers.1.unpacked",
    respected="T(3) x S(cells)",
    severity="gross; in one layer shears are written as yz, xz, xy and read as xy, yz, xz",
)
class OtherShears(Unpacked):
    order = (0, 3, 5, 3, 1, 4, 5, 4, 2)


@CLOSURE.bug(
    "turbulence_closure_signed_helicity",
    "parity",
    "layers.1.invariants",
    respected="SE(3) x S(cells)",
    severity="one of seven invariants of one layer: helicity with its sign",
)
class SignedHelicity(Invariants):
    def helicity(self, u: torch.Tensor, spin: torch.Tensor) -> torch.Tensor:
        return (u * spin).sum(-1)


@CLOSURE.bug(
    "turbulence_closure_offset_at_zero",
    "unstable-parameters",
    "layers.1.weighed",
    evidence="parameters",
    respected="E(3) x S(cells)",
    severity="six offsets of packed stresses in one layer, which are zero until they are trained",
    options={"gradients": True},
)
class OffsetWeighed(Weighed):
    def __init__(self) -> None:
        super().__init__()
        self.zero_offset = nn.Parameter(torch.zeros(6))

    def forward(self, weights: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return super().forward(weights, t) + self.zero_offset


# Clifford layers: multivectors of space, by the table of the geometric product


def blades(table: tuple[int, ...], signs: tuple[int, ...]) -> torch.Tensor:
    """The geometric product [8, 8, 8] of blades, given as bits with signs: a_i b_j -> c_k."""
    product = torch.zeros(8, 8, 8)
    for i, a in enumerate(table):
        for j, b in enumerate(table):
            swaps = sum(bin((a >> shift) & b).count("1") for shift in (1, 2))
            k = table.index(a ^ b)
            product[i, j, k] = signs[i] * signs[j] * signs[k] * (-1) ** swaps
    return product


#: 1; e1, e2, e3; e23, e31, e12; e123: the third one of the bivectors is against the order of its bits.
BLADES = (0, 1, 2, 4, 6, 5, 3, 7)
GRADES = (1, 3, 3, 1)


class Geometric(nn.Module):
    """Products of multivectors [..., c, 8], channel by channel."""

    table: torch.Tensor
    signs: tuple[int, ...] = (1, 1, 1, 1, 1, -1, 1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", blades(BLADES, self.signs))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.einsum("...i,...j,ijk->...k", a, b, self.table.to(a.dtype))


class GradeLinear(nn.Module):
    """Mixes channels, with weights of each grade, and an offset of the scalars alone."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before * 4))
        self.bias = nn.Parameter(torch.empty(after))

    def forward(self, m: torch.Tensor) -> torch.Tensor:
        weight = self.weight.unflatten(1, (-1, 4)).repeat_interleave(torch.tensor(GRADES), 2)
        scalar = torch.eye(8, dtype=m.dtype)[0]
        return 2 * torch.einsum("...ci,dci->...di", m, weight) + self.bias[:, None] * scalar


def sizes(m: torch.Tensor) -> torch.Tensor:
    """Squares of grades [..., 8] -> [..., 4]."""
    return torch.stack([part.square().sum(-1) for part in m.split(GRADES, -1)], -1)


class GradeGate(nn.Module):
    """Each grade is multiplied by a function of its size."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.empty(channels, 4))
        self.level = nn.Parameter(torch.empty(channels, 4))

    def forward(self, m: torch.Tensor) -> torch.Tensor:
        gates = torch.sigmoid(self.slope * torch.log1p(sizes(m)) + self.level)
        return m * gates.repeat_interleave(torch.tensor(GRADES), -1)


class CliffordNorm(nn.Module):
    """Over the root of the mean square of all channels of a node."""

    def forward(self, m: torch.Tensor) -> torch.Tensor:
        return m * (0.2 + self.scale(m.square().sum(-1).mean(-1))).rsqrt()[..., None, None]

    def scale(self, squares: torch.Tensor) -> torch.Tensor:
        return squares


class CliffordLayer(nn.Module):
    """Messages are products of multivectors of both ends of a pair and of its offset."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.left = GradeLinear(channels, channels)
        self.right = GradeLinear(channels + 1, channels)
        self.filters = nn.Linear(4, channels)
        self.product = Geometric()
        self.mix = GradeLinear(2 * channels, channels)
        self.gate = GradeGate(channels)
        self.norm = CliffordNorm()

    def forward(self, m: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        n = m.shape[1]
        r2 = d.square().sum(-1)
        edge = nn.functional.pad(d / (1 + r2).sqrt()[..., None], (1, 4))[..., None, :]
        other = self.right(torch.cat([m[:, None].expand(-1, n, -1, -1, -1), edge], -2))
        messages = self.product(self.left(m)[:, :, None].expand_as(other), other)
        sums = torch.einsum("bijc,bijck->bick", self.filters(bumps(r2)), messages) / n
        return self.norm(m + self.gate(self.mix(torch.cat([m, sums], -2))))


class CliffordNetwork(nn.Module):
    """Charges, velocities and magnetic moments to an energy, and a multivector of each node."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.lift = GradeLinear(1, channels)
        self.layers = nn.ModuleList(CliffordLayer(channels) for _ in range(4))
        self.head = GradeLinear(channels, 1)
        self.energy = mlp(4 * channels, 8, 1)

    def forward(
        self, x: torch.Tensor, q: torch.Tensor, v: torch.Tensor, moment: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        m = self.lift(torch.cat([q[..., None], v, moment, torch.zeros_like(q)[..., None]], -1)[..., None, :])
        d = x[:, None] - x[:, :, None]
        for layer in self.layers:
            m = layer(m, d)
        energy = self.energy(torch.log1p(sizes(m)).flatten(-2))[..., 0].sum(1)
        return {"energy": energy, "multivector": self.head(m)[..., 0, :]}


def charged(seed: int) -> Inputs:
    """Three systems of charges that move and have moments."""
    random = generator(seed + 821)
    n = (5, 6, 7)[seed % 3]
    return {
        "x": 1.2 * normal(random, 3, n, 3) + 0.5,
        "q": normal(random, 3, n),
        "v": normal(random, 3, n, 3),
        "moment": normal(random, 3, n, 3),
    }


CLIFFORD = Network(
    "messages by geometric products of multivectors, 4 layers",
    CliffordNetwork,
    "E(3) x S(nodes)",
    {
        "x": "batch nodes point",
        "q": "batch nodes",
        "v": "batch nodes vector",
        "moment": "batch nodes pseudovector",
    },
    {"energy": "batch", "multivector": "batch nodes 1x0e+1x1o+1x1e+1x0o"},
    charged,
)
CLIFFORD.healthy("clifford")


@CLIFFORD.bug(
    "clifford_bits_in_order",
    "custom-layer-bug",
    "layers.1.product",
    also_right=("layers.1",),
    respected="O(2) @ (0,1,0) x T(3) x S(nodes)",
    severity="the table of one layer takes the third pair of axes as e13, all else as e31",
)
class BitsInOrder(Geometric):
    signs = (1, 1, 1, 1, 1, 1, 1, 1)


@CLIFFORD.bug(
    "clifford_relu_in_one_channel",
    "nonequivariant-nonlinearity",
    "layers.2.gate",
    respected="T(3) x S(nodes)",
    severity="components of bivectors of one channel of four are cut smoothly on one side",
)
class SoftBivectors(GradeGate):
    def forward(self, m: torch.Tensor) -> torch.Tensor:
        gated = super().forward(m)
        cut = nn.functional.silu(gated[..., 3:, 4:7])
        last = torch.cat([gated[..., 3:, :4], cut, gated[..., 3:, 7:]], -1)
        return torch.cat([gated[..., :3, :], last], -2)


@CLIFFORD.bug(
    "clifford_norm_of_batch",
    "batch-cross-talk",
    "layers.2.norm",
    evidence="batch",
    respected="E(3) x S(nodes)",
    severity="invariant, but sizes are averaged over all systems of the batch in one layer",
    verdict="NEEDS_ATTENTION",
)
class BatchSizes(CliffordNorm):
    def scale(self, squares: torch.Tensor) -> torch.Tensor:
        return squares.mean(0, keepdim=True)


class Clipped(torch.autograd.Function):
    """Passes values on, and clips each number of the gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, m: torch.Tensor) -> torch.Tensor:
        return m.clone()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0].clamp(-0.1, 0.1)


@CLIFFORD.bug(
    "clifford_clipped_backward",
    "wrong-backward",
    "layers.2.product",
    also_right=("layers.2",),
    evidence="derivative",
    least=1e-4,
    most=1e-6,
    respected="E(3) x S(nodes)",
    severity="forward exact; components of gradients of products beyond a tenth are cut in one layer",
    options={"gradients": True},
)
class ClippedProduct(Geometric):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        clipped: torch.Tensor = Clipped.apply(super().forward(a, b))
        return clipped


# Grasps of a seen surface are judged and moved: each looks at the points in the frame of its own gripper


class Gripper(nn.Module):
    """Right-handed frames of grasps [g, 3, 3], as rows: approach, closing of the fingers, and across both."""

    def direction(self, approach: torch.Tensor) -> torch.Tensor:
        return approach / approach.norm(dim=-1, keepdim=True)

    def forward(self, approach: torch.Tensor, closing: torch.Tensor) -> torch.Tensor:
        a = self.direction(approach)
        c = closing - (closing * a).sum(-1, keepdim=True) * a
        c = c / c.norm(dim=-1, keepdim=True)
        return torch.stack([a, c, torch.linalg.cross(a, c)], 1)


class Surface(nn.Module):
    """Features of points by their neighbours and the normals of both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.message = mlp(2 * width + 8, width, width)
        self.update = nn.Linear(2 * width, width)

    def forward(self, h: torch.Tensor, x: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        d = x[None] - x[:, None]
        r2 = d.square().sum(-1)
        unit = d / (0.3 + r2).sqrt()[..., None]
        mine = torch.einsum("ijx,ix->ij", unit, normals)
        other = torch.einsum("ijx,jx->ij", unit, normals)
        angles = torch.stack([mine, other, normals @ normals.T, mine * other], -1)
        n = len(h)
        both = torch.cat([h[:, None].expand(n, n, -1), h[None].expand(n, n, -1), bumps(r2), angles], -1)
        sums = (torch.tanh(self.message(both)) * torch.exp(-r2 / 4)[..., None]).sum(1)
        return h + torch.tanh(self.update(torch.cat([h, sums], -1)))


class Reach(nn.Module):
    """Weights of points [g, n] by their distances from a grasp, which vanish smoothly at the reach."""

    def __init__(self, reach: float = 3.5) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, d: torch.Tensor) -> torch.Tensor:
        return (1 - d.square().sum(-1) / self.reach**2).clamp_min(0) ** 2


class Look(nn.Module):
    """What a grasp sees [g, c] of points in its frame; a look with the fingers exchanged counts as much."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reach = Reach()
        self.see = mlp(width + 6, 2 * width, width)

    def forward(
        self, h: torch.Tensor, x: torch.Tensor, normals: torch.Tensor, centre: torch.Tensor, frame: torch.Tensor
    ) -> torch.Tensor:
        d = x[None] - centre[:, None]
        weights = self.reach(d)[..., None]
        places = torch.einsum("gax,gnx->gna", frame, d) / self.reach.reach
        facing = torch.einsum("gax,nx->gna", frame, normals)
        kept = h.expand(len(d), -1, -1)
        half = torch.tensor([1.0, -1.0, -1.0], dtype=d.dtype)
        seen = sum(torch.tanh(self.see(torch.cat([kept, places * s, facing * s], -1))) for s in (1.0 + 0 * half, half))
        return (weights * seen).sum(1) / (1 + weights.sum(1))  # type: ignore[no-any-return]


class Rivals(nn.Module):
    """Attention among grasps, by distance."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.Linear(width, width)
        self.keys = nn.Linear(width, width)
        self.values = nn.Linear(width, width)

    def forward(self, g: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
        apart = (centre[:, None] - centre[None]).square().sum(-1)
        scores = self.queries(g) @ self.keys(g).T / g.shape[-1] ** 0.5
        return g + torch.tanh(torch.softmax(scores - apart / 6, -1) @ self.values(g))


class GraspLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.surface = Surface(width)
        self.gripper = Gripper()
        self.look = Look(width)
        self.rivals = Rivals(width)
        self.move = nn.Linear(width, 3)

    def forward(
        self, state: Pair, x: torch.Tensor, normals: torch.Tensor, pose: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    ) -> tuple[Pair, torch.Tensor]:
        h, g = state
        centre, approach, closing = pose
        frame = self.gripper(approach, closing)
        h = self.surface(h, x, normals)
        g = self.rivals(g + self.look(h, x, normals, centre, frame), centre)
        step = 0.3 * torch.tanh(self.move(g))
        return (h, g), centre + torch.einsum("ga,gax->gx", step, frame)


class Grasps(nn.Module):
    """How good grasps are, where they had better be, and the wrench that they would bear."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embedding = nn.Linear(2, width)
        self.opening = nn.Linear(1, width)
        self.layers = nn.ModuleList(GraspLayer(width) for _ in range(3))
        self.score = mlp(width, width, 1)
        self.force = nn.Linear(width, 3)

    def forward(
        self,
        x: torch.Tensor,
        normals: torch.Tensor,
        h: torch.Tensor,
        centre: torch.Tensor,
        approach: torch.Tensor,
        closing: torch.Tensor,
        opening: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        state, middle = (self.embedding(h), self.opening(opening[:, None])), centre
        for layer in self.layers:
            state, middle = layer(state, x, normals, (middle, approach, closing))
        frame = self.layers[0].gripper(approach, closing)
        force = torch.einsum("ga,gax->gx", self.force(state[1]), frame)
        torque = torch.linalg.cross(middle - centre, force)
        return {"score": self.score(state[1])[:, 0], "centre": middle, "force": force, "torque": torque}


def table_top(seed: int) -> Inputs:
    """Points of a bent surface with their normals, and grasps that come from all sides."""
    random = generator(seed + 907)
    n, g = ((10, 6), (12, 8), (9, 7))[seed % 3]
    normals = normal(random, n, 3)
    normals = normals / normals.norm(dim=-1, keepdim=True)
    axes = torch.linalg.qr(normal(random, g, 3, 3))[0]
    return {
        "x": 1.2 * normals + 0.4 * normal(random, n, 3) + 0.8,
        "normals": normals,
        "h": normal(random, n, 2),
        "centre": 0.8 + 0.9 * normal(random, g, 3),
        "approach": axes[:, 0],
        "closing": axes[:, 1] + 0.3 * axes[:, 0],
        "opening": normal(random, g).abs(),
    }


GRASPS = Network(
    "judge of grasps that looks at points in frames of grippers, 3 layers",
    Grasps,
    "SE(3) x S(points) x S(grasps)",
    {
        "x": "points point",
        "normals": "points vector",
        "h": "points features",
        "centre": "grasps point",
        "approach": "grasps vector",
        "closing": "grasps vector",
        "opening": "grasps",
    },
    {"score": "grasps", "centre": "grasps point", "force": "grasps vector", "torque": "grasps pseudovector"},
    table_top,
)
GRASPS.healthy("grasp_judge")


@GRASPS.bug(
    "grasp_judge_steep_pitch",
    "chart-singularity",
    "layers.1.gripper",
    respected="SO(2) @ (0,0,1) x T(3) x S(points) x S(grasps)",
    severity="grasps within thirty degrees of the z axis alone: the pitch of the approach stops at sixty degrees",
)
class SteepPitch(Gripper):
    def direction(self, approach: torch.Tensor) -> torch.Tensor:
        unit = super().direction(approach)
        yaw = torch.atan2(unit[:, 1], unit[:, 0])
        pitch = torch.asin(unit[:, 2].clamp(-0.866, 0.866))
        flat = torch.cos(pitch)
        return torch.stack([flat * torch.cos(yaw), flat * torch.sin(yaw), torch.sin(pitch)], -1)


@GRASPS.bug(
    "grasp_judge_first_six",
    "neighbour-cap",
    "layers.1.look.reach",
    also_right=("layers.1.look",),
    respected="SE(3) x S(grasps)",
    severity="grasps with more than six points in reach alone: the first six by number count in one layer",
)
class FirstSix(Reach):
    def forward(self, d: torch.Tensor) -> torch.Tensor:
        weights = super().forward(d)
        return weights * ((weights > 0).cumsum(-1) <= 6)
