"""The score of an audit, of audits that were made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import equicheck

VECTORS: dict[str, Any] = {"group": "O(3) x S(nodes)", "in_layouts": "nodes vector", "out_layouts": "nodes vector"}
QUICK: dict[str, Any] = {"samples": 3, "transforms": 8}


def clouds(seed: int) -> torch.Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(seed))


class Gate(nn.Module):
    """Vectors, scaled by a function of their length."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(1, 1)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        gated: torch.Tensor = v * torch.tanh(self.scale(v.norm(dim=-1, keepdim=True)))
        return gated


class Net(nn.Module):
    """Vectors to vectors; with ``bug`` a componentwise activation follows."""

    def __init__(self, bug: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate = Gate()
        self.act = nn.Tanh() if bug else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.act(self.gate(x - x.mean(0, keepdim=True)))
        return out


def audit(bug: bool = False, **options: Any) -> equicheck.Report:
    return equicheck.audit(Net(bug), clouds, **VECTORS, **QUICK, **options)


def overall(report: equicheck.Report) -> float:
    assert report.quality is not None
    score: float = report.quality["overall"]
    return score


def scores(report: equicheck.Report) -> dict[str, float]:
    assert report.quality is not None
    return {dimension["name"]: dimension["score"] for dimension in report.quality["dimensions"]}


def raises(report: equicheck.Report, name: str) -> list[str]:
    assert report.quality is not None
    (own,) = [dimension for dimension in report.quality["dimensions"] if dimension["name"] == name]
    advice: list[str] = own["raise"]
    return advice


@pytest.mark.parametrize("bug", [False, True])
def test_a_complete_audit_is_worth_three_and_less_without_layers(bug: bool) -> None:
    complete = audit(bug, stress=True, gradients=True)
    assert complete.verdict == ("FAIL" if bug else "PASS")
    assert 3.0 <= overall(complete) <= 5.0
    without = audit(bug, stress=True, gradients=True, layers=False)
    assert overall(without) < overall(complete)
    assert scores(without)["error_analysis"] < scores(complete)["error_analysis"]
    # Where nothing is wrong there is nothing to locate.
    diagnosis = scores(without)["issue_diagnosis"], scores(complete)["issue_diagnosis"]
    assert diagnosis[0] < diagnosis[1] if bug else diagnosis == (5.0, 5.0)
    assert any("`layers=True`" in advice for advice in raises(without, "error_analysis"))
    assert not any("`layers=True`" in advice for advice in raises(complete, "error_analysis"))


def test_what_raises_it_does() -> None:
    plain = audit()
    assert any("`stress=True`" in advice for advice in raises(plain, "test_thoroughness"))
    assert any("`gradients=True`" in advice for advice in raises(plain, "error_analysis"))
    better = audit(stress=True, gradients=True)
    for name in ("test_thoroughness", "error_analysis"):
        assert scores(better)[name] > scores(plain)[name]


def test_it_is_reproducible_and_written() -> None:
    report = audit()
    assert audit().quality == report.quality
    assert equicheck.Report.from_json(report.to_json()).quality == report.quality
    assert f"- Overall: {overall(report):.1f} of 5 (" in str(report)
    assert "## AUDIT QUALITY" in report.to_markdown()
