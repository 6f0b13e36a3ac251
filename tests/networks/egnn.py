"""An E(n)-equivariant graph network (after Satorras, Hoogeboom and Welling, 2021) and its bugs."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from .case import Bug, Case, Inputs, KeepFirst, generator, like, mlp, rms, seeded

FEATURES, HIDDEN = 4, 16


class EGNNLayer(nn.Module):
    """Messages from squared distances; nodes move along the differences to their neighbours."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.message = mlp(2 * hidden + 1, hidden, hidden)
        self.move = mlp(hidden, hidden, 1)
        self.update = mlp(2 * hidden, hidden, hidden)

    def forward(
        self, h: torch.Tensor, x: torch.Tensor, edges: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        receiver, sender = edges
        difference = x[receiver] - x[sender]
        squared = difference.square().sum(-1, keepdim=True)
        # The logarithm keeps distant pairs from saturating the network.
        pair = torch.cat([h[receiver], h[sender], torch.log1p(squared)], -1)
        message = self.message(pair) * weight[:, None]
        degree = torch.zeros_like(h[:, :1]).index_add(0, receiver, torch.ones_like(squared))
        total = torch.zeros_like(h).index_add(0, receiver, message)
        moved = torch.zeros_like(x).index_add(0, receiver, difference * self.move(message))
        return h + self.update(torch.cat([h, total], -1)), moved / degree.clamp(min=1)


class UnitWeights(nn.Module):
    """Every edge counts once."""

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(x[edges[0], 0])


class EGNN(nn.Module):
    """Energy, and either the moved coordinates or the displacement alone.

    h: [nodes, 4] invariant features; x: [nodes, 3] positions; edges: [2, edges] receiver and sender
    positions along nodes, or None for all ordered pairs.
    """

    def __init__(self, output: str, layers: int = 2) -> None:
        super().__init__()
        self.output = output
        self.embed = nn.Linear(FEATURES, HIDDEN)
        self.node_input: nn.Module = KeepFirst()
        self.edge_weight: nn.Module = UnitWeights()
        self.layers = nn.ModuleList(EGNNLayer(HIDDEN) for _ in range(layers))
        self.vector_output: nn.Module = KeepFirst()
        self.readout = mlp(HIDDEN, HIDDEN, 1)

    def forward(self, h: torch.Tensor, x: torch.Tensor, edges: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        if edges is None:
            edges = (~torch.eye(len(x), dtype=torch.bool)).nonzero().T
        features = h
        h = self.node_input(self.embed(h), x)
        weight = self.edge_weight(x, edges)
        displacement = torch.zeros_like(x)
        for layer in self.layers:
            h, moved = layer(h, x + displacement, edges, weight)
            displacement = displacement + 5 * moved
        displacement = self.vector_output(displacement, features, x)
        energy = self.readout(h).sum()
        if self.output == "coordinates":
            return {"energy": energy, "coordinates": x + displacement}
        return {"energy": energy, "displacement": displacement}


class Planted(nn.Module):
    """A mistake of adjustable size."""

    def __init__(self, severity: float) -> None:
        super().__init__()
        self.severity = severity


class AbsoluteCoordinates(Planted):
    """Positions are used as if they were invariant node features."""

    def __init__(self, severity: float) -> None:
        super().__init__(severity)
        self.mix = nn.Linear(3, HIDDEN, bias=False)

    def forward(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return h + self.severity * 0.3 * self.mix(x)


class DistanceFromOrigin(Planted):
    """The distance from the lab's origin, not from the cloud's centre, is a node feature."""

    def forward(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return h + self.severity * 0.3 * x.square().sum(-1, keepdim=True).sqrt()


class MisplacedSelfMask(Planted):
    """The mask that removes self pairs is shifted by one: it hits the pairs (i, i + 1)."""

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        hit = edges[1] == (edges[0] + 1) % len(x)
        return 1 - self.severity * hit.to(x.dtype)


class NeighbourCap(Planted):
    """Neighbours beyond the third, counted in the order of storage, are dropped."""

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return 1 - self.severity * (edges[1] > 3).to(x.dtype)


class SortedEdges(Planted):
    """Edges are taken for sorted: those whose sender is stored first count for more."""

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return 1 + self.severity * (edges[1] < edges[0]).to(x.dtype)


class HeightDifference(Planted):
    """The z component of the edge vector is used as an invariant edge feature."""

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return 1 + self.severity * torch.tanh(x[edges[0], 2] - x[edges[1], 2])


class CrossProduct(Planted):
    """A cross product of two polar vectors is added to a polar vector."""

    def forward(self, d: torch.Tensor, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        axial = torch.linalg.cross(d, x - x.mean(0))
        return d + self.severity * like(axial, d)


class ComponentwiseTanh(Planted):
    """A pointwise nonlinearity on the components of a vector."""

    def forward(self, d: torch.Tensor, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        scale = rms(d)
        return d + self.severity * (scale * torch.tanh(3 * d / scale) - d)


class ComponentwiseLayerNorm(Planted):
    """Plain LayerNorm over the three components of a vector."""

    def __init__(self, severity: float) -> None:
        super().__init__(severity)
        self.norm = nn.LayerNorm(3)

    def forward(self, d: torch.Tensor, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return d + self.severity * (rms(d) * self.norm(d) - d)


class ComponentSign(Planted):
    """The z component has the wrong sign (at severity 1; a wrong factor below)."""

    def forward(self, d: torch.Tensor, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return d * d.new_tensor([1, 1, 1 - 2 * self.severity])


class SpecialDirection(Planted):
    """A special case for one lab direction, as in code that avoids a pole.

    The inputs have their dipole along +y; the special case begins where the dipole is within 37
    degrees of a direction 127 degrees away: only large rotations reach it, one in ten of all. The
    inversion alone misses it.
    """

    def forward(self, d: torch.Tensor, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        along = dipole(h, x)
        cosine = torch.dot(along / along.norm(), along.new_tensor([0.8, -0.6, 0.0]))
        return d * (1 + 4 * self.severity * (torch.relu(cosine - 0.8) / 0.2).square())


def dipole(h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (h[:, :1] * (x - x.mean(0))).sum(0)


def cloud(seed: int) -> Inputs:
    """5, 7 or 9 nodes off the origin, stored with their dipole along +y."""
    random = generator(seed)
    nodes = (5, 7, 9)[seed % 3]
    h = torch.randn(nodes, FEATURES, generator=random, dtype=torch.float64)
    x = torch.randn(nodes, 3, generator=random, dtype=torch.float64)
    first = dipole(h, x)
    # An orthonormal frame whose second axis is the dipole becomes the lab frame.
    y = first / first.norm()
    z = torch.linalg.cross(y, torch.randn(3, generator=random, dtype=torch.float64))
    z = z / z.norm()
    x = x @ torch.stack([torch.linalg.cross(y, z), y, z]).T
    x = x + torch.randn(3, generator=random, dtype=torch.float64)
    return {"h": h.float(), "x": x.float()}


def graph(seed: int) -> Inputs:
    """The same clouds with a directed edge list that is neither symmetric nor complete."""
    sample = cloud(seed)
    nodes = len(sample["x"])
    random = generator(seed + 1000)
    # A ring keeps every node connected; half of the other ordered pairs are drawn.
    keep = torch.rand(nodes, nodes, generator=random) < 0.5
    ring = torch.arange(nodes)
    keep[ring, (ring + 1) % nodes] = True
    keep.fill_diagonal_(False)
    edges = keep.nonzero().T
    order = torch.randperm(edges.shape[1], generator=random)
    return {**sample, "edges": edges[:, order].contiguous()}


def build(output: str) -> EGNN:
    with seeded(11):
        model = EGNN(output)
    # PyTorch's initial weights are small; larger ones make every part matter to the outputs.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("weight"):
                weight.mul_(1.6)
    return model.eval()


def planted(output: str, slot: str, defect: type[Planted], severity: float) -> EGNN:
    model = build(output)
    with seeded(12):
        setattr(model, slot, defect(severity))
    return model.eval()


def bug(output: str, name: str, slot: str, defect: type[Planted], factors: tuple[str, ...]) -> Bug:
    """Bugs before the last step show in the energy, the others in the vector output."""
    shown = output if slot == "vector_output" else "energy"
    return Bug(name, partial(planted, output, slot, defect), factors, shown, slot)


def bugs(output: str, table: dict[str, tuple[str, type[Planted], tuple[str, ...]]]) -> dict[str, Bug]:
    return {name: bug(output, name, *rest) for name, rest in table.items()}


POLAR = ("rotation", "inversion")

CASES = [
    Case(
        name="egnn",
        build=lambda: build("coordinates"),
        inputs=cloud,
        group="E(3) x S(nodes)",
        in_layouts={"h": "nodes features", "x": "nodes point"},
        out_layouts={"energy": "", "coordinates": "nodes point"},
        bugs=bugs(
            "coordinates",
            {
                "absolute_coordinates": (
                    "node_input",
                    AbsoluteCoordinates,
                    ("translation", *POLAR),
                ),
                "distance_from_origin": ("node_input", DistanceFromOrigin, ("translation",)),
                "misplaced_self_mask": ("edge_weight", MisplacedSelfMask, ("permutation",)),
                "neighbour_cap": ("edge_weight", NeighbourCap, ("permutation",)),
                "cross_product": ("vector_output", CrossProduct, ("inversion",)),
                "componentwise_tanh": ("vector_output", ComponentwiseTanh, ("rotation",)),
                "componentwise_layer_norm": (
                    "vector_output",
                    ComponentwiseLayerNorm,
                    ("rotation",),
                ),
                "component_sign": ("vector_output", ComponentSign, ("rotation",)),
                "special_direction": ("vector_output", SpecialDirection, ("rotation",)),
            },
        ),
    ),
    Case(
        name="egnn_edges",
        build=lambda: build("displacement"),
        inputs=graph,
        group="E(3) x S(nodes)",
        in_layouts={"h": "nodes features", "x": "nodes point", "edges": "2 edges : nodes"},
        out_layouts={"energy": "", "displacement": "nodes vector"},
        bugs=bugs(
            "displacement",
            {
                "sorted_edges": ("edge_weight", SortedEdges, ("permutation",)),
                "height_difference": ("edge_weight", HeightDifference, POLAR),
                "cross_product": ("vector_output", CrossProduct, ("inversion",)),
                "component_sign": ("vector_output", ComponentSign, ("rotation",)),
            },
        ),
    ),
]
