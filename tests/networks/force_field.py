"""A pair potential whose forces are the gradient of its energy, taken inside forward; its bugs."""

from __future__ import annotations

import torch
from torch import nn

from .case import Bug, Case, Inputs, KeepFirst, generator, mlp, seeded

CUTOFF = 4.0


class Distance(nn.Module):
    """Euclidean length of [..., 3]."""

    def forward(self, difference: torch.Tensor) -> torch.Tensor:
        return difference.square().sum(-1).sqrt()


class PairEnergy(nn.Module):
    """Sum over pairs of a network of both charges and the distance, smooth at the cutoff."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = mlp(4, 16, 1)
        self.distance = Distance()
        self.reach: nn.Module = KeepFirst()
        self.extra: nn.Module = KeepFirst()

    def forward(self, positions: torch.Tensor, charges: torch.Tensor) -> torch.Tensor:
        """positions: [..., nodes, 3]; charges: [nodes]; the energy of each leading index."""
        first, second = torch.triu_indices(len(charges), len(charges), 1)
        difference = positions[..., first, :] - positions[..., second, :]
        length = self.distance(difference)
        a, b = charges[first].expand_as(length), charges[second].expand_as(length)
        features = torch.stack([a + b, a * b, torch.exp(-length), length / CUTOFF], -1)
        reach = self.reach(length, difference)
        inside = torch.clamp(1 - (reach / CUTOFF).square(), min=0).pow(3)
        energy = (5 * self.pair(features).squeeze(-1) * inside).sum(-1)
        return self.extra(energy, positions, charges)


class ForceField(nn.Module):
    """Energy and forces. It differentiates inside forward, so a caller under ``torch.no_grad()``
    has to enable gradients; it also sets ``requires_grad`` on the tensor that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = PairEnergy()
        self.force_output: nn.Module = KeepFirst()

    def forward(self, positions: torch.Tensor, charges: torch.Tensor) -> dict[str, torch.Tensor]:
        positions.requires_grad_(True)
        energy = self.energy(positions, charges)
        (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
        return {
            "energy": energy,
            "forces": self.force_output(-gradient, positions, charges, self.energy),
        }


class Planted(nn.Module):
    """A mistake of adjustable size."""

    def __init__(self, severity: float) -> None:
        super().__init__()
        self.severity = severity


class ExternalField(Planted):
    """A uniform field along z acts on the charges. The net charge is not zero."""

    def forward(self, energy: torch.Tensor, positions: torch.Tensor, charges: torch.Tensor) -> torch.Tensor:
        return energy + self.severity * (charges * positions[..., 2]).sum(-1)


class Confinement(Planted):
    """A harmonic confinement about the lab's origin."""

    def forward(self, energy: torch.Tensor, positions: torch.Tensor, charges: torch.Tensor) -> torch.Tensor:
        return energy + self.severity * 0.3 * positions.square().sum((-1, -2))


class TripleProduct(Planted):
    """A pseudoscalar, the handedness of three weighted dipoles, is added to the energy."""

    def forward(self, energy: torch.Tensor, positions: torch.Tensor, charges: torch.Tensor) -> torch.Tensor:
        centred = positions - positions.mean(-2, keepdim=True)
        spread = centred.square().sum(-1)
        weights = torch.stack([charges.expand_as(spread), spread, charges * spread], -2)
        handed = torch.linalg.det(weights @ centred)
        return energy * (1 + self.severity * torch.tanh(handed / 10))


class BoxCutoff(Planted):
    """The cutoff compares the largest component (a box), not the length (a ball)."""

    def forward(self, length: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
        return length + self.severity * (difference.abs().amax(-1) - length)


class ForceComponent(Planted):
    """The z component of the forces has the wrong sign (at severity 1; a wrong factor below)."""

    def forward(
        self,
        forces: torch.Tensor,
        positions: torch.Tensor,
        charges: torch.Tensor,
        energy: nn.Module,
    ) -> torch.Tensor:
        return forces * forces.new_tensor([1, 1, 1 - 2 * self.severity])


class LabDifferences(Planted):
    """Forces by central differences along the lab's axes; the error grows as the step squared."""

    def forward(
        self,
        forces: torch.Tensor,
        positions: torch.Tensor,
        charges: torch.Tensor,
        energy: nn.Module,
    ) -> torch.Tensor:
        step = 2 * self.severity**0.5
        size = positions.numel()
        shifts = step * torch.eye(size, dtype=positions.dtype).view(size, *positions.shape)
        difference = energy(positions + shifts, charges) - energy(positions - shifts, charges)
        return -(difference / (2 * step)).view_as(positions)


def molecule(seed: int) -> Inputs:
    """5, 7 or 9 charged nodes, no two closer than 0.8, off the origin."""
    random = generator(seed)
    nodes = (5, 7, 9)[seed % 3]
    placed: list[torch.Tensor] = []
    while len(placed) < nodes:
        trial = 1.3 * torch.randn(3, generator=random)
        if all((trial - other).norm() > 0.8 for other in placed):
            placed.append(trial)
    positions = torch.stack(placed) + torch.randn(3, generator=random)
    charges = torch.randn(nodes, generator=random) + 0.5
    return {"positions": positions, "charges": charges}


def build() -> ForceField:
    with seeded(41):
        return ForceField().eval()


def planted(module: str, defect: type[Planted], severity: float) -> ForceField:
    model = build()
    parent, _, slot = module.rpartition(".")
    setattr(model.get_submodule(parent), slot, defect(severity))
    return model.eval()


def bug(name: str, module: str, defect: type[Planted], factors: tuple[str, ...], output: str) -> Bug:
    return Bug(name, lambda s: planted(module, defect, s), factors, output, module)


POLAR = ("rotation", "inversion")

CASES = [
    Case(
        name="force_field",
        build=build,
        inputs=molecule,
        group="E(3) x S(nodes)",
        in_layouts={"positions": "nodes point", "charges": "nodes"},
        out_layouts={"energy": "", "forces": "nodes vector"},
        bugs={
            found.name: found
            for found in (
                bug("external_field", "energy.extra", ExternalField, POLAR, "forces"),
                bug("confinement", "energy.extra", Confinement, ("translation",), "forces"),
                bug("triple_product", "energy.extra", TripleProduct, ("inversion",), "energy"),
                bug("box_cutoff", "energy.reach", BoxCutoff, ("rotation",), "energy"),
                bug("force_component", "force_output", ForceComponent, ("rotation",), "forces"),
                bug("lab_differences", "force_output", LabDifferences, ("rotation",), "forces"),
            )
        },
    )
]
