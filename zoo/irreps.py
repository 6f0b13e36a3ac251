"""Irreps of O(3): a network of e3nn as NequIP has it, and a tensor field network with its couplings by hand."""

from __future__ import annotations

import e3nn
import numpy as np
import torch
from e3nn import o3
from torch import nn

from .case import Inputs, Network, bumps, generator, mlp, normal

HIDDEN = "6x0e+4x1o+2x2e"
WIDTH = 28

# e3nn


class VectorsIn(nn.Module):
    """Scalars [n, 4] and vectors [n, 2, 3] side by side, as irreps 4x0e+2x1o."""

    def forward(self, h: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.cat([h, v.flatten(1)], -1)


class Linear(nn.Module):
    def __init__(self, before: str = HIDDEN, after: str = HIDDEN) -> None:
        super().__init__()
        self.linear = o3.Linear(before, after)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        return self.linear(f)


class TensorProduct(nn.Module):
    """Messages: neighbours' features times harmonics, weighted by distance."""

    def __init__(self) -> None:
        super().__init__()
        self.product = o3.FullyConnectedTensorProduct(HIDDEN, "0e+1o+2e", HIDDEN, shared_weights=False)
        self.radial = mlp(4, 8, self.product.weight_numel)

    def forward(self, f: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        n = len(x)
        d = x[:, None] - x[None]
        r2 = d.square().sum(-1)
        harmonics = o3.spherical_harmonics([0, 1, 2], d / (1 + r2[..., None]), False, "component")
        sent = f[None].expand(n, n, -1)
        return self.product(sent, harmonics, self.radial(bumps(r2))).mean(1)


class GateScalars(nn.Module):
    """A smooth function of scalars; other irreps times a sigmoid of the scalars before them."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(6, 6)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        s, v, t = f[:, :6], f[:, 6:18].unflatten(1, (4, 3)), f[:, 18:].unflatten(1, (2, 5))
        g = torch.sigmoid(self.gates(s))[..., None]
        return torch.cat([nn.functional.silu(s), (v * g[:, :4]).flatten(1), (t * g[:, 4:]).flatten(1)], -1)


class IrrepsNorm(nn.Module):
    """Divides by the root mean square over all, and has one weight per irrep."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(12))

    def spread(self) -> torch.Tensor:
        return self.weight.repeat_interleave(torch.tensor([1] * 6 + [3] * 4 + [5] * 2))

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        return f * (f.square().mean(-1, keepdim=True) + 1e-3).rsqrt() * self.spread()


class Copies(nn.Module):
    """Mixes the four vectors of a node, each with a number of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1, 4, 1))

    def vectors(self, v: torch.Tensor) -> torch.Tensor:
        return (v.unflatten(1, (4, 3)) * self.factor).flatten(1)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        return torch.cat([f[:, :6], self.vectors(f[:, 6:18]), f[:, 18:]], -1)


class IrrepsLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = IrrepsNorm()
        self.first = Linear()
        self.product = TensorProduct()
        self.copies = Copies()
        self.gate = GateScalars()
        self.second = Linear()

    def forward(self, f: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        m = self.product(self.first(self.norm(f)), x)
        return f + self.second(self.gate(self.copies(m)))


class IrrepsNet(nn.Module):
    """Energies and magnetic or electric vectors per atom, as irreps 0e+1o, and a quadrupole 2e."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = VectorsIn()
        self.embedding = Linear("4x0e+2x1o", HIDDEN)
        self.layers = nn.ModuleList(IrrepsLayer() for _ in range(3))
        self.atoms = Linear(HIDDEN, "0e+1o")
        self.whole = Linear(HIDDEN, "2e")

    def forward(self, x: torch.Tensor, h: torch.Tensor, v: torch.Tensor) -> dict[str, torch.Tensor]:
        f = self.embedding(self.vectors(h, v))
        for layer in self.layers:
            f = layer(f, x)
        return {"atoms": self.atoms(f), "quadrupole": self.whole(f).sum(0)}


def irreps_net() -> nn.Module:
    """Without e3nn's compilation, which takes longer than all calls here."""
    before = e3nn.get_optimization_defaults()
    e3nn.set_optimization_defaults(jit_script_fx=False, optimize_einsums=False)
    try:
        return IrrepsNet()
    finally:
        e3nn.set_optimization_defaults(**before)


def spins(seed: int) -> Inputs:
    random = generator(seed + 51)
    n = (6, 8, 7)[seed % 3]
    return {"x": 1.2 * normal(random, n, 3) + 0.3, "h": normal(random, n, 4), "v": normal(random, n, 2, 3)}


IRREPS = Network(
    "e3nn, 3 layers as in NequIP",
    irreps_net,
    "E(3) x S(nodes)",
    {"x": "nodes point", "h": "nodes features", "v": "nodes channel vector"},
    {"atoms": "nodes 1x0e+1x1o", "quadrupole": "1x2e"},
    spins,
    seeds=(0,),
)
IRREPS.healthy("irreps")


@IRREPS.bug(
    "irreps_yzx",
    "component-order",
    "vectors",
    respected="SO(2) @ (1,1,1) x T(3) x S(nodes)",
    severity="vectors enter as y, z, x, the order of harmonics elsewhere",
)
class OrderedVectors(VectorsIn):
    def forward(self, h: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return super().forward(h, v[..., [1, 2, 0]])


@IRREPS.bug(
    "irreps_copies_last",
    "component-order",
    "layers.1.copies",
    respected="T(3) x S(nodes)",
    severity="one layer takes the copies of vectors to be the last index",
)
class CopiesLast(Copies):
    def vectors(self, v: torch.Tensor) -> torch.Tensor:
        return (v.unflatten(1, (3, 4)).mT * self.factor).mT.flatten(1)


@IRREPS.bug(
    "irreps_silu_one_copy",
    "nonequivariant-nonlinearity",
    "layers.1.gate",
    respected="T(3) x S(nodes)",
    severity="one of four vectors goes through SiLU component by component, in the middle layer",
)
class LeakyGate(GateScalars):
    def forward(self, f: torch.Tensor) -> torch.Tensor:
        f = super().forward(f)
        return torch.cat([f[:, :9], nn.functional.silu(12 * f[:, 9:12]), f[:, 12:]], -1)


@IRREPS.bug(
    "irreps_batchnorm",
    "batch-norm",
    "layers.0.norm",
    respected="T(3) x S(nodes)",
    severity="gross; running statistics of each component of flattened irreps",
)
class FlatBatchNorm(nn.BatchNorm1d):
    def __init__(self) -> None:
        super().__init__(WIDTH)


@IRREPS.bug(
    "irreps_weight_per_component",
    "custom-layer-bug",
    "layers.2.norm",
    respected="T(3) x S(nodes)",
    severity="weights of one norm differ by 1e-3 among the components of an irrep",
    verdict="NEEDS_ATTENTION",
)
class ComponentWeights(IrrepsNorm):
    def spread(self) -> torch.Tensor:
        wave = torch.sin(torch.arange(float(WIDTH), dtype=self.weight.dtype))
        return super().spread() * (1 + 1e-3 * wave)


@IRREPS.bug(
    "irreps_tf32",
    "low-precision",
    "layers.1.first",
    also_right=("layers.1.first.linear",),
    least=1e-5,
    respected="T(3) x S(nodes)",
    severity="inputs of one linear map are rounded to ten bits of mantissa, as on tensor cores",
    verdict="NEEDS_ATTENTION",
)
class TensorCoreLinear(Linear):
    def forward(self, f: torch.Tensor) -> torch.Tensor:
        mantissa, exponent = torch.frexp(f.detach())
        rounded = torch.ldexp(torch.round(mantissa * 2**11) / 2**11, exponent)
        return super().forward(f + (rounded - f).detach())


# A tensor field network with couplings by hand


def symmetric_basis(dtype: torch.dtype) -> torch.Tensor:
    """Orthonormal symmetric matrices without trace [5, 3, 3]: xy, yz, 3 zz - 1, xz, xx - yy."""
    q = torch.zeros(5, 3, 3, dtype=dtype)
    for k, (i, j) in ((0, (0, 1)), (1, (1, 2)), (3, (0, 2))):
        q[k, i, j] = q[k, j, i] = 0.5**0.5
    q[2] = torch.diag(torch.tensor([-1.0, -1.0, 2.0], dtype=dtype)) / 6**0.5
    q[4] = torch.diag(torch.tensor([1.0, -1.0, 0.0], dtype=dtype)) / 2**0.5
    return q


class Harmonics(nn.Module):
    """Harmonics of degree two of vectors: [n, n, 3] -> [n, n, 5]."""

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ijx,kxy,ijy->ijk", u, symmetric_basis(u.dtype), u)


class Couple(nn.Module):
    """Couples degrees two and one to one: [n, n, 5], [n, c, 3] -> [n, n, c, 3]."""

    def forward(self, y: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ijk,kxy,jcy->ijcx", y, symmetric_basis(v.dtype), v)


class Axial(nn.Module):
    """Axial vectors that directions and vectors make: cross products of both."""

    def forward(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.linalg.cross(u[:, :, None].expand(*u.shape[:2], v.shape[1], 3), v[None].expand(len(u), -1, -1, -1))


class FieldLayer(nn.Module):
    """Scalars [n, c], polar vectors [n, c, 3] and axial ones [n, c, 3]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.radial = mlp(4, 8, 5 * width)
        self.harmonics = Harmonics()
        self.couple = Couple()
        self.axial = Axial()
        self.update = mlp(3 * width, 2 * width, 3 * width)

    def forward(
        self, s: torch.Tensor, v: torch.Tensor, a: torch.Tensor, u: torch.Tensor, r2: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        w = self.radial(bumps(r2)).unflatten(-1, (5, -1))
        s1 = s + (w[:, :, 0] * s[None]).mean(1)
        v1 = v + (w[:, :, 1, :, None] * u[:, :, None] * s[None, ..., None]).mean(1)
        v1 = v1 + (w[:, :, 2, :, None] * self.couple(self.harmonics(u), v)).mean(1)
        a1 = a + (w[:, :, 3, :, None] * self.axial(u, v)).mean(1)
        v1 = v1 + (w[:, :, 4, :, None] * self.axial(u, a)).mean(1)
        x, y, z = self.update(torch.cat([s1, v1.square().sum(-1), a1.square().sum(-1)], -1)).chunk(3, -1)
        return s1 + x, v1 * torch.tanh(y)[..., None], a1 * torch.tanh(z)[..., None]


class FieldNet(nn.Module):
    """An energy, polar and axial vectors per node, a handedness, and a tensor per node that is not symmetric."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Linear(4, width)
        self.layers = nn.ModuleList(FieldLayer(width) for _ in range(3))
        self.energy = nn.Linear(width, 1)
        self.force = nn.Parameter(torch.empty(1, width))
        self.moment = nn.Parameter(torch.empty(1, width))

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        d = x[:, None] - x[None]
        r2 = d.square().sum(-1)
        u = 2 * d / (1 + r2[..., None])
        s = self.embedding(h)
        v = a = s.new_zeros(*s.shape, 3)
        for layer in self.layers:
            s, v, a = layer(s, v, a, u, r2)
        force, moment = torch.einsum("ncx,dc->nx", v, self.force), torch.einsum("ncx,dc->nx", a, self.moment)
        return {
            "energy": self.energy(s).sum(),
            "force": force,
            "moment": moment,
            "handedness": (v[:, 0] * a[:, 1]).sum(),
            "tensor": (v[:, 1, :, None] * force[:, None]).flatten(1),
        }


def labelled(seed: int) -> Inputs:
    random = generator(seed + 55)
    n = (7, 6, 9)[seed % 3]
    return {"x": 1.2 * normal(random, n, 3) - 0.5, "h": normal(random, n, 4)}


FIELD_OUT = {
    "energy": "",
    "force": "nodes vector",
    "moment": "nodes pseudovector",
    "handedness": "pseudoscalar",
    "tensor": "nodes @tensor",
}


BOTH_INDICES = {"tensor": lambda g: np.kron(g.matrix, g.matrix)}
FIELD = Network(
    "tensor field network with couplings by hand, 3 layers",
    FieldNet,
    "E(3) x S(nodes)",
    {"x": "nodes point", "h": "nodes features"},
    FIELD_OUT,
    labelled,
    {"representations": BOTH_INDICES},
)
FIELD.healthy("tensor_field")


@FIELD.bug(
    "tensor_field_harmonic_factor",
    "custom-layer-bug",
    "layers.1.harmonics",
    respected="O(2) @ (0,0,1) x T(3) x S(nodes)",
    severity="one of five harmonics, 3 zz - 1, has the factor of another normalisation",
)
class WrongFactor(Harmonics):
    def forward(self, u: torch.Tensor) -> torch.Tensor:
        y = super().forward(u)
        return y * torch.tensor([1, 1, 3**0.5, 1, 1], dtype=y.dtype)


@FIELD.bug(
    "tensor_field_coupling_sign",
    "custom-layer-bug",
    "layers.2.couple",
    respected="T(3) x S(nodes)",
    severity="one wrong sign among the coefficients that couple degrees two and one",
)
class WrongSign(Couple):
    def forward(self, y: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q = symmetric_basis(v.dtype)
        q[3, 2, 0] = -q[3, 2, 0]
        return torch.einsum("ijk,kxy,jcy->ijcx", y, q, v)


@FIELD.bug(
    "tensor_field_axial_of_axial",
    "parity",
    "layers.1.axial",
    respected="SE(3) x S(nodes)",
    broken=("force", "moment", "handedness", "tensor"),
    severity="1e-5 of a polar vector is added to axial ones in one layer; the energy changes in second order only",
    verdict="NEEDS_ATTENTION",
)
class MixedParity(Axial):
    def forward(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return super().forward(u, v) + 1e-5 * v[None]


FIELD.misdeclared(
    "tensor_field_moment_as_vector",
    "wrong-declaration",
    out_layouts={**FIELD_OUT, "moment": "nodes vector"},
    repair={"out_layouts": FIELD_OUT},
    respected="SE(3) x S(nodes)",
    broken=("moment",),
    severity="one of five outputs: a magnetic moment declared a polar vector",
)
FIELD.misdeclared(
    "tensor_field_handedness_as_scalar",
    "wrong-declaration",
    out_layouts={**FIELD_OUT, "handedness": ""},
    repair={"out_layouts": FIELD_OUT},
    respected="SE(3) x S(nodes)",
    broken=("handedness",),
    severity="one of five outputs: a pseudoscalar declared invariant",
)
FIELD.misdeclared(
    "tensor_field_one_index",
    "wrong-output-transform",
    options={"representations": {"tensor": lambda g: np.kron(g.matrix, np.eye(3))}},
    repair={"representations": BOTH_INDICES},
    respected="T(3) x S(nodes)",
    broken=("tensor",),
    severity="one of five outputs: the user's representation turns one index of two",
)
