"""Molecules and crystals: SchNet with forces, PaiNN, a network of angles, a lattice network with a cell."""

from __future__ import annotations

import torch
from torch import nn

from .case import Inputs, Network, Pair, bumps, generator, mlp, normal


def numbered(nodes: tuple[int, ...] = (6, 9, 7), spread: float = 1.3) -> object:
    """Atoms at x [n, 3], off the origin, of kinds z [n]."""

    def inputs(seed: int) -> Inputs:
        random = generator(seed + 23)
        n = nodes[seed % len(nodes)]
        return {"x": spread * normal(random, n, 3) + 0.4, "z": torch.randint(5, (n,), generator=random)}

    return inputs


# SchNet


class Distances(nn.Module):
    """Lengths of x_i - x_j [n, n], smooth at 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x[:, None] - x[None]).square().sum(-1) + 1e-4).sqrt()


class Envelope(nn.Module):
    """Goes to zero smoothly at the cutoff."""

    def __init__(self, cutoff: float = 4.0) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        t = (r / self.cutoff).clamp_max(1)
        return (1 - t).square() * (1 + 2 * t)


class Filter(nn.Module):
    """Weights of channels by distance: [n, n] -> [n, n, c]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.mlp = mlp(6, width, width)

    def expand(self, r: torch.Tensor) -> torch.Tensor:
        return torch.exp(-2 * (r[..., None] - 0.7 * torch.arange(6, dtype=r.dtype)).square())

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        return self.mlp(self.expand(r))


class Interaction(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.distances = Distances()
        self.filter = Filter(width)
        self.envelope = Envelope()
        self.send = nn.Linear(width, width, bias=False)
        self.update = mlp(width, width, width)

    def forward(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        r = self.distances(x)
        w = self.filter(r) * (self.envelope(r) * (1 - torch.eye(len(x), dtype=x.dtype)))[..., None]
        return h + self.update((w * self.send(h)[None]).sum(1))


class Dipole(nn.Module):
    """Charges that add up to zero, at their places."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.charge = nn.Linear(width, 1)

    def forward(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        q = self.charge(h)
        return ((q - q.mean()) * x).sum(0)


class SchNet(nn.Module):
    """An energy, a dipole, and on demand the forces."""

    def __init__(self, width: int = 8, forces: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, width)
        self.interactions = nn.ModuleList(Interaction(width) for _ in range(3))
        self.atomwise = mlp(width, width, 1)
        self.dipole = Dipole(width)
        self.forces = forces

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.forces and not x.requires_grad:
            x = x.detach().requires_grad_()
        h = self.embedding(z)
        for interaction in self.interactions:
            h = interaction(h, x)
        out = {"energy": self.atomwise(h).sum()}
        if self.forces:
            (gradient,) = torch.autograd.grad(out["energy"], x, create_graph=True)
            return out | {"forces": -gradient}
        return out | {"dipole": self.dipole(h, x)}


SCHNET = Network(
    "SchNet, 3 interactions, energy and dipole",
    SchNet,
    "E(3) x S(atoms)",
    {"x": "atoms point", "z": "atoms"},
    {"energy": "", "dipole": "vector"},
    numbered(),  # type: ignore[arg-type]
)
SCHNET.healthy("schnet")
FORCES = SCHNET.but(
    architecture="SchNet, 3 interactions, energy and forces",
    make=lambda: SchNet(forces=True),
    out_layouts={"energy": "", "forces": "atoms vector"},
)
FORCES.healthy("schnet_forces")


@SCHNET.bug(
    "schnet_charged_dipole",
    "translation-leak",
    "dipole",
    respected="O(3) x S(atoms)",
    broken=("dipole",),
    severity="one of two outputs: charges do not add up to zero, so that the dipole depends on the origin",
)
class ChargedDipole(Dipole):
    def forward(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return (self.charge(h) * x).sum(0)


@SCHNET.bug(
    "schnet_half_precision_offsets",
    "low-precision",
    "interactions.1.distances",
    least=1e-5,
    respected="Oh x T(3) x S(atoms)",
    severity="offsets are rounded to half precision in one layer, component by component",
    verdict="NEEDS_ATTENTION",
)
class HalfDistances(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d = (x[:, None] - x[None]).half().to(x.dtype)
        return (d.square().sum(-1) + 1e-4).sqrt()


@SCHNET.bug(
    "schnet_norm_backward",
    "wrong-backward",
    "interactions.1.distances",
    evidence="derivative",
    most=1e-6,
    respected="E(3) x S(atoms)",
    severity="forward exact; the backward of a norm clips the components of its direction at 0.5",
    options={"gradients": True},
)
class ClippedNorm(nn.Module):
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, d):
            r = (d.square().sum(-1) + 1e-4).sqrt()
            ctx.save_for_backward(d, r)
            return r

        @staticmethod
        def backward(ctx, grad):
            d, r = ctx.saved_tensors
            return grad[..., None] * (d / r[..., None]).clamp(-0.5, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.Function.apply(x[:, None] - x[None])


@SCHNET.bug(
    "schnet_distance_nan",
    "nan-gradient",
    "interactions.0.distances",
    evidence="nan",
    respected="E(3) x S(atoms)",
    severity="forward exact; the root of the zero distance of an atom to itself has no derivative, for all inputs",
    options={"gradients": True},
)
class BareDistances(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, None] - x[None]).square().sum(-1).sqrt()


@SCHNET.but(architecture="SchNet, 3 interactions, for energies with a cutoff").bug(
    "schnet_hard_cutoff",
    "discontinuity",
    "interactions.1.envelope",
    evidence="jump",
    least=1e-3,
    most=1e-6,
    respected="E(3) x S(atoms)",
    severity="no symmetry is lost: one layer's energy jumps where a pair crosses the cutoff",
    verdict="PASS",
    options={"stress": True, "cutoff": (2.5**2 - 1e-4) ** 0.5},
)
class HardEnvelope(Envelope):
    def forward(self, r: torch.Tensor) -> torch.Tensor:
        return super().forward(r) * (r < 2.5)


@FORCES.bug(
    "schnet_detached_filter",
    "detached-gradient",
    "interactions.1.filter",
    evidence="claim",
    least=1e-4,
    most=1e-6,
    respected="E(3) x S(atoms)",
    severity="forces turn as they must, and miss the few per cent that one channel of one layer adds to them",
    options={"gradients": True},
)
class DetachedFilter(Filter):
    def forward(self, r: torch.Tensor) -> torch.Tensor:
        w = super().forward(r)
        return torch.cat([w[..., :2], w[..., 2:3].detach(), w[..., 3:]], -1)


# PaiNN


class PairGeometry(nn.Module):
    """Functions of distance [n, n, 4] and directions [n, n, 3] that vanish at 0."""

    def forward(self, x: torch.Tensor) -> Pair:
        d = x[:, None] - x[None]
        r2 = d.square().sum(-1)
        return bumps(r2), d / (1 + r2[..., None])


class PainnMessage(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.geometry = PairGeometry()
        self.filter = nn.Linear(4, 3 * width)
        self.inner = mlp(width, width, 3 * width)

    def forward(self, s: torch.Tensor, v: torch.Tensor, x: torch.Tensor) -> Pair:
        radial, unit = self.geometry(x)
        a, b, c = (self.filter(radial) * self.inner(s)[None]).chunk(3, -1)
        vectors = b[..., None] * v[None] + c[..., None] * unit[..., None, :]
        return s + a.mean(1), v + vectors.mean(1)


class ChannelMix(nn.Module):
    """Vectors [n, c, 3] mixed among channels."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ncx,dc->ndx", v, self.weight)


class LengthNorm(nn.Module):
    """Divides all vectors of a node by their common length."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v * (v.square().sum((1, 2), keepdim=True) / v.shape[1] + 1e-2).rsqrt()


class PainnUpdate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = LengthNorm()
        self.left = ChannelMix(width)
        self.right = ChannelMix(width)
        self.mlp = mlp(2 * width, width, 3 * width)

    def forward(self, s: torch.Tensor, v: torch.Tensor) -> Pair:
        v = self.norm(v)
        left, right = self.left(v), self.right(v)
        a, b, c = self.mlp(torch.cat([s, (right.square().sum(-1) + 1e-3).sqrt()], -1)).chunk(3, -1)
        return s + a + b * (left * right).sum(-1), v + c[..., None] * left


class Painn(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, width)
        self.messages = nn.ModuleList(PainnMessage(width) for _ in range(3))
        self.updates = nn.ModuleList(PainnUpdate(width) for _ in range(3))
        self.energy = mlp(width, width, 1)
        self.vectors = nn.Parameter(torch.empty(1, width))

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        s = self.embedding(z)
        v = s.new_zeros(*s.shape, 3)
        for message, update in zip(self.messages, self.updates, strict=True):
            s, v = update(*message(s, v, x))
        return {"energy": self.energy(s).sum(), "forces": torch.einsum("ncx,dc->nx", v, self.vectors)}


PAINN = Network(
    "PaiNN, 3 layers",
    Painn,
    "E(3) x S(atoms)",
    {"x": "atoms point", "z": "atoms"},
    {"energy": "", "forces": "atoms vector"},
    numbered(),  # type: ignore[arg-type]
)
PAINN.healthy("painn")


@PAINN.bug(
    "painn_layernorm_vectors",
    "nonequivariant-nonlinearity",
    "updates.1.norm",
    respected="T(3) x S(atoms)",
    severity="gross; layer norm over components and channels alike, with an offset and weights of its own",
)
class VectorLayerNorm(nn.LayerNorm):
    def __init__(self) -> None:
        super().__init__((6, 3))


@PAINN.bug(
    "painn_field",
    "lab-frame-constant",
    "messages.1.geometry",
    respected="O(2) @ (0,0,1) x T(3) x S(atoms)",
    severity="a field of 0.02 along z is added to the directions in one layer",
)
class FieldGeometry(PairGeometry):
    def forward(self, x: torch.Tensor) -> Pair:
        radial, unit = super().forward(x)
        return radial, unit + torch.tensor([0.0, 0.0, 0.02], dtype=x.dtype)


@PAINN.bug(
    "painn_vector_bias",
    "unstable-parameters",
    "updates.1.left",
    evidence="parameters",
    respected="E(3) x S(atoms)",
    severity="exact as long as a bias on vectors is zero, as it is at the start of training",
    options={"gradients": True},
)
class BiasedMix(ChannelMix):
    def __init__(self) -> None:
        super().__init__()
        self.zero_bias = nn.Parameter(torch.zeros(6, 3))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return super().forward(v) + self.zero_bias


# Angles


class Angles(nn.Module):
    """Cosines of the angles at j between i and k: directions [n, n, 3] -> [n, n, n]."""

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return torch.einsum("jix,jkx->jik", u, u)


class AngularLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.angles = Angles()
        self.mlp = mlp(2 * width + 1, width, width)
        self.update = nn.Linear(width, width)

    def forward(self, m: torch.Tensor, u: torch.Tensor, away: torch.Tensor) -> torch.Tensor:
        n = len(u)
        first = m[:, :, None].expand(n, n, n, -1)
        second = m[:, None].expand(n, n, n, -1)
        triples = self.mlp(torch.cat([first, second, self.angles(u)[..., None]], -1))
        keep = away[:, :, None] * away[:, None]
        return m + torch.tanh(self.update((triples * keep[..., None]).mean(2)))


class AngularNet(nn.Module):
    """Messages along pairs, updated by the angles between them."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, width)
        self.start = mlp(2 * width + 4, width, width)
        self.layers = nn.ModuleList(AngularLayer(width) for _ in range(2))
        self.readout = mlp(width, width, 1)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        n = len(x)
        away = 1 - torch.eye(n, dtype=x.dtype)
        d = x[:, None] - x[None]
        r2 = d.square().sum(-1)
        u = d / (r2 + torch.eye(n, dtype=x.dtype)).sqrt()[..., None]
        h = self.embedding(z)
        m = self.start(torch.cat([h[:, None].expand(n, n, -1), h[None].expand(n, n, -1), bumps(r2)], -1))
        for layer in self.layers:
            m = layer(m, u, away)
        return (self.readout(m)[..., 0] * away).sum()


def collinear(seed: int) -> Inputs:
    """Three atoms on a line, as in CO2."""
    x = torch.tensor([[0.0, 0.0, -1.2], [0.0, 0.0, 0.0], [0.0, 0.0, 1.2]])
    return {"x": x, "z": torch.tensor([1, 0, 1])}


ANGULAR = Network(
    "messages updated by angles, as in DimeNet, 2 layers",
    AngularNet,
    "E(3) x S(atoms)",
    {"x": "atoms point", "z": "atoms"},
    "",
    numbered((5, 6, 4)),  # type: ignore[arg-type]
)
ANGULAR.healthy("angular_messages")


@ANGULAR.bug(
    "angular_sine_root",
    "nan-gradient",
    "layers.1.angles",
    evidence="nan",
    probe=collinear,
    respected="E(3) x S(atoms)",
    severity="linear molecules alone: the root in the sine of an angle has no derivative at 0",
    verdict="PASS",
    options={"gradients": True},
)
class SineRoot(Angles):
    def forward(self, u: torch.Tensor) -> torch.Tensor:
        n = len(u)
        cosine = super().forward(u)
        apart = 1 - torch.eye(n, dtype=u.dtype)
        three = apart[:, :, None] * apart[:, None] * apart
        cross = torch.linalg.cross(u[:, :, None].expand(n, n, n, 3), u[:, None].expand(n, n, n, 3))
        sine = torch.where(three > 0, cross.square().sum(-1), 1.0).sqrt()
        return torch.atan2(sine, cosine)


# Crystals


class NearestImage(nn.Module):
    """Offsets of pairs to the nearest image, from fractional coordinates: [n, n, 3]."""

    def forward(self, f: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        d = f[:, None] - f[None]
        return (d - d.round()) @ cell


class Stress(nn.Module):
    """Sums of symmetric products of offsets: xx, yy, zz, yz, xz, xy."""

    rows = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])

    def forward(self, d: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        full = torch.einsum("ij,ijx,ijy->xy", weight, d, d)
        return full[self.rows[0], self.rows[1]]


class UnitSum(nn.Module):
    """Vectors [n, 3] made shorter, smoothly at zero."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v * (1 + v.square().sum(-1, keepdim=True)).rsqrt()


class CrystalLayer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.filter = mlp(4, width, width)
        self.polar = nn.Linear(width, 1)
        self.unit = UnitSum()
        self.update = mlp(width + 1, width, width)

    def forward(self, h: torch.Tensor, d: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        m = self.filter(bumps(d.square().sum(-1))) * h[None] * weight[..., None]
        v = self.unit((self.polar(m) * weight[..., None] * d).sum(1))
        along = v.square().sum(-1, keepdim=True)
        return h + self.update(torch.cat([m.sum(1), along], -1))


class Crystal(nn.Module):
    """Pairs of nearest images; the weight of a pair goes to zero at half of 4."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.images = NearestImage()
        self.embedding = nn.Embedding(5, width)
        self.layers = nn.ModuleList(CrystalLayer(width) for _ in range(3))
        self.energy = nn.Linear(width, 1)
        self.pair = nn.Linear(2 * width, 1)
        self.stress = Stress()

    def forward(self, f: torch.Tensor, cell: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        d = self.images(f, cell)
        r2 = d.square().sum(-1)
        weight = (1 - r2 / 4).clamp_min(0).square() * (1 - torch.eye(len(z), dtype=r2.dtype))
        h = self.embedding(z)
        for layer in self.layers:
            h = layer(h, d, weight)
        n = len(h)
        both = torch.cat([h[:, None].expand(n, n, -1), h[None].expand(n, n, -1)], -1)
        return {"energy": self.energy(h).sum(), "stress": self.stress(d, weight * self.pair(both)[..., 0])}


def crystal(seed: int) -> Inputs:
    """A skewed cell with edges of about 4.5, and eight to twelve atoms; fractions in [0, 1)."""
    random = generator(seed + 31)
    n = (10, 8, 12)[seed % 3]
    cell = 4.5 * torch.eye(3) + 0.25 * normal(random, 3, 3)
    f = torch.rand(n, 3, generator=random, dtype=torch.float64).to(torch.get_default_dtype())
    return {"f": f, "cell": cell, "z": torch.randint(5, (n,), generator=random)}


CRYSTAL = Network(
    "crystal network of nearest images, 3 layers",
    Crystal,
    "SE(3) x S(atoms)",
    {"f": "atoms fractional(cell)", "cell": "3 vector", "z": "atoms"},
    {"energy": "", "stress": "voigt"},
    crystal,
)
CRYSTAL.healthy("crystal")


class CartesianCrystal(Crystal):
    """The same, given positions in space."""

    def forward(self, x: torch.Tensor, cell: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().forward(x @ torch.linalg.inv(cell), cell, z)


def cartesian(seed: int) -> Inputs:
    given = crystal(seed)
    return {"x": given["f"] @ given["cell"], "cell": given["cell"], "z": given["z"]}


CARTESIAN = CRYSTAL.but(
    architecture="crystal network of nearest images, 3 layers, given positions",
    make=CartesianCrystal,
    inputs=cartesian,
    in_layouts={"x": "atoms point", "cell": "3 vector", "z": "atoms"},
)
CARTESIAN.healthy("crystal_positions")
CARTESIAN.misdeclared(
    "crystal_cell_not_turned",
    "untransformed-input",
    in_layouts={**CARTESIAN.in_layouts, "cell": "3 3"},
    repair={"in_layouts": CARTESIAN.in_layouts},
    respected="T(3) x S(atoms)",
    severity="gross; positions turn, and the cell is declared plain",
)


@CRYSTAL.bug(
    "crystal_wraps_without_images",
    "custom-layer-bug",
    "images",
    respected="SO(3) x S(atoms)",
    severity="atoms that a translation carries across the border of the cell alone",
)
class Wrapped(NearestImage):
    def forward(self, f: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        f = f % 1
        return (f[:, None] - f[None]) @ cell


@CRYSTAL.bug(
    "crystal_voigt_order",
    "component-order",
    "stress",
    respected="T(3) x S(atoms)",
    broken=("stress",),
    severity="one of two outputs: shears in the order xy, xz, yz",
)
class OtherOrder(Stress):
    rows = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])


@CRYSTAL.bug(
    "crystal_wrong_unit",
    "vacuous-test",
    "images",
    evidence="vacuous",
    least=1.0,
    respected="SE(3) x S(atoms)",
    severity="offsets in the wrong unit: no pair is near, so that positions have no effect and stress is zero",
    verdict="NEEDS_ATTENTION",
)
class WrongUnit(NearestImage):
    def forward(self, f: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        return 1e3 * super().forward(f, cell)


def perfect(seed: int) -> Inputs:
    """A cube of side 4.2 turned by no symmetry, with atoms on a simple lattice: no atom feels a direction."""
    g = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))[0].to(torch.get_default_dtype())
    ticks = (torch.arange(3, dtype=torch.get_default_dtype())) / 3
    f = torch.cartesian_prod(ticks, ticks, ticks)[torch.randperm(27, generator=g)] + 0.01
    return {"f": f, "cell": 4.2 * turn, "z": torch.full((27,), seed % 5)}


@CRYSTAL.but(inputs=perfect, architecture="crystal network on perfect lattices").bug(
    "crystal_unit_vector_of_zero",
    "rounding-amplification",
    "layers.1.unit",
    evidence="single",
    least=1e-3,
    most=1e-4,
    respected="SE(3) x S(atoms)",
    severity="a vector that symmetry makes zero is divided by its length and 1e-7: rounding, made as large as one",
    verdict="NEEDS_ATTENTION",
)
class UnitOfZero(nn.Module):
    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v / (v.norm(dim=-1, keepdim=True) + 1e-7)
