"""Shorthands for audits of the test networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import equicheck
from networks import Case


def audit_case(
    case: Case,
    model: Any = None,
    *,
    samples: int = 3,
    prepare: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
    **options: Any,
) -> equicheck.Report:
    """Audit a case's network, or a variant of it, on the case's first samples."""
    inputs = [{name: prepare(value) for name, value in case.inputs(seed).items()} for seed in range(samples)]
    return equicheck.audit(
        case.build() if model is None else model,
        inputs,
        group=case.group,
        in_layouts=case.in_layouts,
        out_layouts=case.out_layouts,
        **options,
    )


def floating(dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    """Cast floating tensors and leave the others."""
    return lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor


def modes(report: equicheck.Report) -> set[str]:
    """Return the failure modes that were found."""
    return {finding.mode for finding in report.findings}


def pull(x: torch.Tensor) -> torch.Tensor:
    """Return a healthy vector per point: the pull of its neighbours, equivariant under E(3)."""
    difference = x[None] - x[:, None]
    return (torch.exp(-difference.square().sum(-1) / 4)[..., None] * difference).sum(1)


class Pull(nn.Module):
    """``pull`` with one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.strength * pull(x)


def clouds(count: int, nodes: int = 5, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Return random points, centred off the origin."""
    random = torch.Generator().manual_seed(7)
    return [(torch.randn(nodes, 3, generator=random, dtype=torch.float64) + 1).to(dtype) for _ in range(count)]


#: The symmetry of ``pull``.
SPACE: dict[str, Any] = {
    "group": "E(3) x S(nodes)",
    "in_layouts": "nodes point",
    "out_layouts": "nodes vector",
}
#: Few calls: enough to see a plain mistake.
FEW: dict[str, Any] = {"transforms": 8}
