"""Networks that are right on ordinary inputs and wrong on inputs at the edge.

The docstring of each says on which stress inputs, and how.
"""

from __future__ import annotations

import torch
from torch import nn

CUTOFF = 2.5


def pairs(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Differences and distances of all ordered pairs of distinct points."""
    n = len(x)
    off = ~torch.eye(n, dtype=torch.bool)
    difference = (x[:, None] - x[None])[off]
    return difference, difference.norm(dim=-1)


class Frame(nn.Module):
    """A vector in the frame of the first three points; a fixed axis stands in where they lie on a line."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = x[1] - x[0]
        a = a / a.norm()
        b = x[2] - x[0]
        b = b - (a @ b) * a
        if b.norm() < 1e-3 * (x[2] - x[0]).norm():
            b = torch.tensor([1.0, 0.0, 0.0]).to(x)
            b = b - (a @ b) * a
        b = b / b.norm()
        return a + 0.5 * b + torch.exp(-pairs(x)[1]).sum() * torch.linalg.cross(a, b)


class UnitOrUp(nn.Module):
    """Directions of vectors; up for those without one."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        length = v.norm(dim=-1, keepdim=True)
        up = torch.tensor([0.0, 0.0, 1.0]).to(v)
        return torch.where(length > 0, v / length.clamp(min=1e-30), up)


class HardCutoff(nn.Module):
    """Counts pairs, smoothly weighed, up to a distance at which their weight is not zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, distance = pairs(x)
        return (torch.exp(-distance / 4) * (distance < CUTOFF)).sum() + 0.1 * torch.exp(-distance).sum()


class SoftCutoff(nn.Module):
    """The same with an envelope that vanishes at the cutoff: right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, distance = pairs(x)
        envelope = 0.5 * (1 + torch.cos(torch.pi * distance / CUTOFF)) * (distance < CUTOFF)
        return (torch.exp(-distance / 4) * envelope).sum() + 0.1 * torch.exp(-distance).sum()


class GramDistances(nn.Module):
    """Distances by x^2 + y^2 - 2 x y, which cancels far from the origin; right in exact arithmetic."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        square = x.square().sum(-1)
        squared = square[:, None] + square - 2 * x @ x.T
        return torch.exp(-squared.clamp(min=0) / 4).sum()


class Differences(nn.Module):
    """The same by differences: right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-(x[:, None] - x[None]).square().sum(-1) / 4).sum()


class PairBranch(nn.Module):
    """For two points a formula of its own, along the first axis."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        distance = pairs(x)[1]
        if len(x) == 2:
            distance = (x[1] - x[0])[:1].abs().expand(2)
        return torch.exp(-distance / 4).sum()


class RaisesOffAxis(nn.Module):
    """Points on a line must lie along z."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        difference, distance = pairs(x)
        if torch.linalg.matrix_rank(difference, rtol=1e-3) == 1 and difference[:, :2].abs().max() > 0:
            raise ValueError("a linear molecule must lie along z")
        return torch.exp(-distance).sum()


class UnitVectors(nn.Module):
    """Sums of unit vectors: no number where two points coincide."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = len(x)
        difference, distance = pairs(x)
        weighed = torch.exp(-distance)[:, None] * difference / distance[:, None]
        return weighed.reshape(n, n - 1, 3).sum(1)
