"""A small message-passing network on e3nn's irreps, O(3)-equivariant with parity, and its bugs."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import torch
from e3nn import o3
from e3nn.nn import FullyConnectedNet, Gate
from torch import nn

from .case import Bug, Case, Inputs, KeepFirst, generator, like, rms, seeded

ATTRIBUTES = 4
HARMONICS = o3.Irreps("1x0e+1x1o+1x2e")
HIDDEN = o3.Irreps("6x0e+3x1o+1x2e")
NODES_OUT = o3.Irreps("4x0e+2x1o+1x2e")
GRAPH_OUT = o3.Irreps("2x0e+1x1o")
RADIAL = 6


class Harmonics(nn.Module):
    """Spherical harmonics of degrees 0 to 2 of the edges' directions."""

    def forward(self, difference: torch.Tensor) -> torch.Tensor:
        return o3.spherical_harmonics(HARMONICS, difference, True, normalization="component")


class Convolution(nn.Module):
    """Tensor product of the neighbours' features with the harmonics, weighed by the distance."""

    def __init__(self, irreps_in: o3.Irreps, irreps_out: o3.Irreps) -> None:
        super().__init__()
        self.own = o3.Linear(irreps_in, irreps_out)
        self.product = o3.FullyConnectedTensorProduct(irreps_in, HARMONICS, irreps_out, shared_weights=False)
        self.radial = FullyConnectedNet([RADIAL, 16, self.product.weight_numel], torch.nn.functional.silu)

    def forward(
        self,
        h: torch.Tensor,
        edges: torch.Tensor,
        harmonics: torch.Tensor,
        distance: torch.Tensor,
    ) -> torch.Tensor:
        receiver, sender = edges
        message = self.product(h[sender], harmonics, self.radial(distance))
        own = self.own(h)
        return own + torch.zeros_like(own).index_add(0, receiver, message) / len(h) ** 0.5


class IrrepsNetwork(nn.Module):
    """positions [nodes, 3], attributes [nodes, 4] -> features of nodes and of the graph.

    nodes: [nodes, 15], irreps 4x0e+2x1o+1x2e; graph: [5], irreps 2x0e+1x1o; e3nn's basis.
    """

    def __init__(self) -> None:
        super().__init__()
        silu = torch.nn.functional.silu
        self.gate = Gate("6x0e", [silu], "4x0e", [torch.sigmoid], "3x1o+1x2e")
        self.node_input: nn.Module = KeepFirst()
        self.harmonics: nn.Module = Harmonics()
        self.first = Convolution(o3.Irreps(f"{ATTRIBUTES}x0e"), self.gate.irreps_in)
        self.hidden: nn.Module = KeepFirst()
        self.second = Convolution(HIDDEN, NODES_OUT)
        self.node_output: nn.Module = KeepFirst()
        self.readout = o3.Linear(NODES_OUT, GRAPH_OUT)

    def forward(self, positions: torch.Tensor, attributes: torch.Tensor) -> dict[str, torch.Tensor]:
        edges = (~torch.eye(len(positions), dtype=torch.bool)).nonzero().T
        difference = positions[edges[0]] - positions[edges[1]]
        length = difference.square().sum(-1, keepdim=True).sqrt()
        harmonics = self.harmonics(difference)
        centres = torch.arange(RADIAL, dtype=length.dtype) * 0.8
        distance = torch.exp(-(length - centres).square())
        h = self.node_input(attributes, positions)
        h = self.hidden(self.gate(self.first(h, edges, harmonics, distance)))
        nodes = self.node_output(self.second(h, edges, harmonics, distance))
        return {"nodes": nodes, "graph": self.readout(nodes).sum(0)}


class Planted(nn.Module):
    """A mistake of adjustable size."""

    def __init__(self, severity: float) -> None:
        super().__init__()
        self.severity = severity


class DistanceFromOrigin(Planted):
    """The distance from the lab's origin is added to the scalar attributes."""

    def forward(self, attributes: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        length = positions.square().sum(-1, keepdim=True).sqrt()
        return attributes + self.severity * 0.3 * length


class WrongHarmonic(Planted):
    """One component of degree 2 has the wrong constant."""

    def forward(self, difference: torch.Tensor) -> torch.Tensor:
        right = o3.spherical_harmonics(HARMONICS, difference, True, normalization="component")
        factor = torch.ones_like(right[0])
        factor[6] += self.severity
        return right * factor


class ComponentwiseTanh(Planted):
    """A pointwise nonlinearity on the components of every irrep."""

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        scale = rms(h)
        return h + self.severity * (scale * torch.tanh(3 * h / scale) - h)


class PlainLayerNorm(Planted):
    """LayerNorm over all components, scalars, vectors and tensors together."""

    def __init__(self, severity: float) -> None:
        super().__init__(severity)
        self.norm = nn.LayerNorm(HIDDEN.dim)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.severity * (self.norm(h) - h)


class VectorBias(Planted):
    """A learned bias on all channels, those of the vectors and tensors included."""

    def __init__(self, severity: float) -> None:
        super().__init__(severity)
        self.bias = nn.Parameter(torch.randn(HIDDEN.dim))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.severity * rms(h) * self.bias


class AxialVector(Planted):
    """The cross product of both 1o outputs is added to the first of them."""

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        first, second = y[:, 4:7], y[:, 7:10]
        axial = like(torch.linalg.cross(first, second), y)
        return torch.cat([y[:, :4], first + self.severity * axial, y[:, 7:]], -1)


class ComponentOrder(Planted):
    """The last output vector is stored as (y, z, x), the order of m = -1, 0, 1 about z."""

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        right = y[:, 7:10]
        wrong = right[:, [1, 2, 0]]
        return torch.cat([y[:, :7], right + self.severity * (wrong - right), y[:, 10:]], -1)


class OrderedReadout(Planted):
    """The output of each node is weighed by its place in storage."""

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-1, 1, len(y), dtype=y.dtype)[:, None]
        return y * (1 + self.severity * ramp)


def molecule(seed: int) -> Inputs:
    """7, 10 or 11 nodes off the origin: none of them the size of an irrep or of a channel axis."""
    random = generator(seed)
    nodes = (7, 10, 11)[seed % 3]
    return {
        "positions": 1.2 * torch.randn(nodes, 3, generator=random) + torch.randn(3, generator=random),
        "attributes": torch.randn(nodes, ATTRIBUTES, generator=random),
    }


@cache
def built(dtype: torch.dtype) -> IrrepsNetwork:
    """The network built under this default dtype. e3nn generates code: a copy is far quicker."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with seeded(51):
            return IrrepsNetwork().eval()
    finally:
        torch.set_default_dtype(before)


def build() -> IrrepsNetwork:
    return deepcopy(built(torch.float32))


def factory(dtype: torch.dtype) -> IrrepsNetwork:
    """The same parameters; Clebsch-Gordan constants computed in ``dtype``."""
    model = deepcopy(built(dtype))
    source = dict(built(torch.float32).named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(source[name])
    return model


def planted(slot: str, defect: type[Planted], severity: float) -> IrrepsNetwork:
    model = build()
    with seeded(52):
        setattr(model, slot, defect(severity))
    return model.eval()


def bug(name: str, slot: str, defect: type[Planted], factors: tuple[str, ...], output: str) -> Bug:
    return Bug(name, lambda s: planted(slot, defect, s), factors, output, slot)


POLAR = ("rotation", "inversion")

CASES = [
    Case(
        name="irreps_network",
        build=build,
        inputs=molecule,
        group="E(3) x S(nodes)",
        in_layouts={"positions": "nodes point", "attributes": "nodes features"},
        out_layouts={"nodes": "nodes 4x0e+2x1o+1x2e", "graph": "2x0e+1x1o"},
        bugs={
            found.name: found
            for found in (
                bug(
                    "distance_from_origin",
                    "node_input",
                    DistanceFromOrigin,
                    ("translation",),
                    "nodes",
                ),
                bug("wrong_harmonic", "harmonics", WrongHarmonic, ("rotation",), "nodes"),
                bug("componentwise_tanh", "hidden", ComponentwiseTanh, ("rotation",), "nodes"),
                bug("plain_layer_norm", "hidden", PlainLayerNorm, POLAR, "nodes"),
                bug("vector_bias", "hidden", VectorBias, POLAR, "graph"),
                bug("axial_vector", "node_output", AxialVector, ("inversion",), "nodes"),
                bug("component_order", "node_output", ComponentOrder, ("rotation",), "nodes"),
                bug("ordered_readout", "node_output", OrderedReadout, ("permutation",), "nodes"),
            )
        },
        factory=factory,
        # e3nn rounds its Clebsch-Gordan constants to the dtype in which the network was built, and
        # ``.double()`` cannot bring them back: the floor is the unit roundoff of f32.
        floor=1e-7,
    )
]
