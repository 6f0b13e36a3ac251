"""Samples that are symmetric themselves force outputs to zero: copies that are not are judged beside them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import equicheck
from audits import FEW

LAYOUTS: dict[str, Any] = {
    "group": "E(3) x S(nodes)",
    "in_layouts": "nodes point",
    "out_layouts": {"dipole": "vector", "energy": ""},
}


class Dipole(nn.Module):
    """Vanishes on what has a centre of inversion, whatever its factors per axis."""

    def __init__(self, factors: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.tensor(factors))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        centred = x - x.mean(0)
        weight = torch.exp(-centred.square().sum(-1, keepdim=True) / 4)
        return {"dipole": self.factors * (weight * centred).sum(0), "energy": weight.sum()}


def symmetric(seed: int) -> torch.Tensor:
    """Six points and their images under inversion."""
    half = torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))
    return torch.cat([half, -half]) + 1


@pytest.mark.parametrize("count", [1, 5])
def test_what_vanishes_by_symmetry_is_judged_on_rattled_copies(count: int) -> None:
    samples = [symmetric(seed) for seed in range(count)]
    report = equicheck.audit(Dipole(), samples, **LAYOUTS, **FEW)
    assert report.verdict == "PASS", report
    copies = min(count, 3)
    assert report.plan["samples"] == count
    assert report.plan["rattled"] == copies
    assert any("`dipole` vanishes on the samples by their symmetry" in note for note in report.notes)
    rows = {row["factor"]: row for row in report.outputs["dipole"].factors}
    assert rows["samples as given"]["pairs"] + rows["rattled copies"]["pairs"] == count * 8 + copies * 8
    assert f"Test samples: {count} and {copies} rattled copies" in str(report)

    broken = equicheck.audit(Dipole((1.0, 1.0, 1.1)), samples, **LAYOUTS, **FEW)
    assert broken.verdict == "FAIL"
    assert broken.outputs["energy"].verdict == "PASS"
    rows = {row["factor"]: row for row in broken.outputs["dipole"].factors}
    # Zero is zero under all actions; what is left of it is the rounding of the samples' own symmetry.
    given, rattled = rows["samples as given"]["max_relative_f64"], rows["rattled copies"]["max_relative_f64"]
    assert given < 1e-3
    assert rattled > 1e-2
    assert broken.outputs["dipole"].worst["rattled_from"] is not None
    section = broken.to_text().split("Equivariance Error of dipole:")[1]
    assert "(a rattled copy of" in section.split("Worst case:")[1].split("block")[0]


def test_nothing_is_rattled_without_need() -> None:
    generic = [torch.randn(12, 3, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    for samples in (generic, [symmetric(0), generic[0]], [generic[0], symmetric(0)]):
        report = equicheck.audit(Dipole(), samples, **LAYOUTS, **FEW)
        assert report.plan["rattled"] == 0
        assert report.verdict == "PASS", report


def test_an_output_that_is_zero_everywhere_stays_vacuous() -> None:
    report = equicheck.audit(Dipole((0.0, 0.0, 0.0)), [symmetric(0)], **LAYOUTS, **FEW)
    assert report.plan["rattled"] == 0
    assert report.verdict == "NEEDS_ATTENTION"
    assert "vacuous" in report.outputs["dipole"].reason


def test_unit_quaternions_are_not_rattled() -> None:
    def turned(q: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The dipole of points, by the usual formula for a unit quaternion there and back."""
        w, v = q[0], q[1:]
        centred = x - x.mean(0)
        back = -v.expand_as(x)
        local = centred + 2 * torch.linalg.cross(back, torch.linalg.cross(back, centred) + w * centred)
        weight = torch.exp(-local.square() / 4)
        there = (weight * local).sum(0)
        return there + 2 * torch.linalg.cross(v, torch.linalg.cross(v, there) + w * there)

    q = torch.randn(4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    half = torch.randn(6, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    inputs = {"q": q / q.norm(), "x": torch.cat([half, -half])}
    layouts = {"q": "quaternion", "x": "nodes! point"}
    report = equicheck.audit(turned, inputs, group="SE(3)", in_layouts=layouts, out_layouts="vector", **FEW)
    assert report.plan["rattled"] == 1
    assert report.verdict == "PASS", report
