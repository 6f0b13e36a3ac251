"""Networks that are healthy by construction, of kinds that `networks` lacks, and what an audit has to be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from networks import CASES
from networks.case import generator, mlp, seeded
from networks.precision import far_from_origin

Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Healthy:
    """A network, its inputs by seed, and the arguments of ``equicheck.audit``."""

    name: str
    build: Callable[[], Any]
    inputs: Callable[[int], Inputs]
    arguments: dict[str, Any] = field(default_factory=dict)


class C4Network(nn.Module):
    """A group CNN by hand (Cohen and Welling 2016): lifting, a group convolution, a regular field and logits."""

    def __init__(self, fields: int = 4) -> None:
        super().__init__()
        self.lift = nn.Parameter(torch.randn(fields, 1, 3, 3) / 3)
        self.group = nn.Parameter(torch.randn(fields, fields, 4, 3, 3) / (6 * fields**0.5))
        self.head = nn.Linear(fields, 3)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        fields = len(self.lift)
        # Filter g is the filter of the identity turned by g.
        lifted = torch.stack([torch.rot90(self.lift, g, (2, 3)) for g in range(4)], 1).flatten(0, 1)
        x = torch.relu(functional.conv2d(image, lifted, padding=1))
        # The turned filter reads the channels of g^-1 h.
        turned = [torch.rot90(self.group, g, (3, 4)).roll(g, 2) for g in range(4)]
        weight = torch.stack(turned, 1).reshape(4 * fields, 4 * fields, 3, 3)
        x = torch.relu(functional.conv2d(x, weight, padding=1))
        pooled = x.unflatten(1, (fields, 4)).amax(2).mean((2, 3))
        return {"features": x, "logits": self.head(pooled)}


class PeriodicNetwork(nn.Module):
    """A convolutional network on a torus: a map of the same size, and a scalar."""

    def __init__(self) -> None:
        super().__init__()
        circular: dict[str, Any] = {"kernel_size": 3, "padding": 1, "padding_mode": "circular"}
        self.layers = nn.Sequential(
            nn.Conv2d(2, 8, **circular), nn.SiLU(), nn.Conv2d(8, 8, **circular), nn.SiLU(), nn.Conv2d(8, 1, **circular)
        )

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        density = self.layers(image)
        return {"density": density, "mass": density.mean((1, 2, 3))}


class LorentzNetwork(nn.Module):
    """Invariants and one vector of particles, from scalar products of their momenta (t, x, y, z)."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = mlp(2, 16, 2)
        self.score = nn.Linear(1, 1)

    def forward(self, momenta: torch.Tensor) -> dict[str, torch.Tensor]:
        metric = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=momenta.dtype)
        products = (momenta * metric) @ momenta.T
        mass = products.diagonal()
        features = torch.stack([products.abs().add(1).log(), (mass[:, None] * mass).abs().add(1).log()], -1)
        message, weight = self.pair(features).unbind(-1)
        return {
            "score": self.score(message.mean().reshape(1))[0],
            "momentum": (functional.softplus(weight)[..., None] * momenta[None]).mean((0, 1)),
        }


class GraphNetwork(nn.Module):
    """Energies of the graphs of a batch and forces on their nodes; edges within graphs, summed by label."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 8)
        self.message = mlp(17, 16, 8)
        self.update = mlp(16, 16, 8)
        self.readout = mlp(8, 16, 1)
        self.push = mlp(17, 16, 1)

    def forward(
        self, pos: torch.Tensor, kind: torch.Tensor, edge_index: torch.Tensor, batch: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        source, target = edge_index
        difference = pos[target] - pos[source]
        length = difference.square().sum(-1, keepdim=True)
        h = self.embed(kind)
        features = torch.cat([h[source], h[target], length], -1)
        h = h + self.update(torch.cat([h, torch.zeros_like(h).index_add(0, target, self.message(features))], -1))
        graphs = int(batch.max()) + 1
        energy = torch.zeros(graphs, dtype=pos.dtype).index_add(0, batch, self.readout(h).squeeze(-1))
        force = functional.softplus(self.push(features)) * difference / (1 + length)
        return {"energy": energy, "forces": torch.zeros_like(pos).index_add(0, target, force)}


class VectorNeurons(nn.Module):
    """Vector neurons (Deng et al. 2021): linear maps over channels, a nonlinearity along a learned direction."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.first = nn.Linear(2, channels, bias=False)
        self.direction = nn.Linear(channels, channels, bias=False)
        self.second = nn.Linear(channels, 2, bias=False)

    def forward(self, points: torch.Tensor) -> dict[str, torch.Tensor]:
        centred = points - points.mean(0)
        far = centred.norm(dim=1, keepdim=True) * centred
        x = self.first(torch.stack([centred, far], -1))
        d = self.direction(x)
        along = (x * d).sum(1, keepdim=True) / (d.square().sum(1, keepdim=True) + 1e-3)
        x = torch.where(along >= 0, x, x - 0.8 * along * d)
        y = self.second(x)
        return {"vectors": y.transpose(1, 2), "norms": y.square().sum(1)}


def image(channels: int, seed: int) -> Inputs:
    return {"image": torch.randn(1, channels, 12, 12, generator=generator(seed))}


def momenta(seed: int) -> Inputs:
    space = torch.randn(5 + seed % 3, 3, generator=generator(seed))
    energy = (space.square().sum(1) + 1).sqrt()
    return {"momenta": torch.cat([energy[:, None], space], 1)}


def graphs(seed: int) -> Inputs:
    random = generator(seed)
    sizes = (4 + seed % 3, 6, 5)
    batch = torch.cat([torch.full((n,), g) for g, n in enumerate(sizes)])
    same = (batch[:, None] == batch) & ~torch.eye(len(batch), dtype=torch.bool)
    return {
        "pos": 1.5 * torch.randn(len(batch), 3, generator=random),
        "kind": torch.randint(0, 4, (len(batch),), generator=random),
        "edge_index": same.nonzero().T.contiguous(),
        "batch": batch,
    }


def points(seed: int) -> Inputs:
    return {"points": torch.randn(10 + seed % 4, 3, generator=generator(seed))}


def _built(kind: type[nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        with seeded(3):
            return kind().eval()

    return build


#: Ten healthy models and more.
HEALTHY = [
    *(
        Healthy(
            case.name,
            case.build,
            case.inputs,
            {"group": case.group, "in_layouts": case.in_layouts, "out_layouts": case.out_layouts}
            | ({"factory": case.factory} if case.factory else {}),
        )
        for case in (*CASES, far_from_origin())
    ),
    Healthy(
        "c4_network",
        _built(C4Network),
        lambda seed: image(1, seed),
        {
            "group": "C4",
            "in_layouts": {"image": "batch channel height width"},
            "out_layouts": {"features": "batch 4*regular height width", "logits": "batch classes"},
        },
    ),
    Healthy(
        "periodic_network",
        _built(PeriodicNetwork),
        lambda seed: image(2, seed),
        {
            "group": "T(2)",
            "in_layouts": {"image": "batch channel height width"},
            "out_layouts": {"density": "batch channel height width", "mass": "batch"},
            "domain": "periodic",
        },
    ),
    Healthy(
        "lorentz_network",
        _built(LorentzNetwork),
        momenta,
        {
            "group": "SO+(1,3) x S(particles)",
            "in_layouts": {"momenta": "particles vector"},
            "out_layouts": {"score": "", "momentum": "vector"},
            "rapidity": 1.0,
        },
    ),
    Healthy(
        "graph_network",
        _built(GraphNetwork),
        graphs,
        {
            "group": "E(3) x S(nodes)",
            "in_layouts": {"pos": "nodes point", "kind": "nodes", "edge_index": "2 edges : nodes", "batch": "nodes"},
            "out_layouts": {"energy": "graphs", "forces": "nodes vector"},
            "segments": {"nodes": "batch"},
        },
    ),
    Healthy(
        "vector_neurons",
        _built(VectorNeurons),
        points,
        {
            "group": "E(3) x S(nodes)",
            "in_layouts": {"points": "nodes point"},
            "out_layouts": {"vectors": "nodes channel vector", "norms": "nodes channel"},
        },
    ),
]
