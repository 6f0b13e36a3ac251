"""Outputs that depend on earlier calls, on chance or on the rest of the batch: where that comes in."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

import equicheck

CHANNELS = 4


def squares(v: torch.Tensor) -> torch.Tensor:
    return v.square().sum(-1, keepdim=True)


class Mix(nn.Module):
    """Vectors [..., channels, 3], mixed and gated."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(CHANNELS) + 0.3 * torch.randn(CHANNELS, CHANNELS))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        v = torch.einsum("oc,...cx->...ox", self.weight, v)
        return v / (1 + squares(v)).sqrt()


class Running(Mix):
    """Divides by a running mean that is updated in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(()))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.mean.mul_(0.9).add_(0.1 * squares(v).mean())
        return super().forward(v) / self.mean


class Counting(Mix):
    def __init__(self) -> None:
        super().__init__()
        self.calls = itertools.count()

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return super().forward(v) * (1 + 1e-3 * (next(self.calls) % 3))


class Noisy(Mix):
    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return super().forward(v) * (1 + 1e-2 * torch.rand(()))


class Mean(Mix):
    """Divides by what is typical of all that it is given."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return super().forward(v) / squares(v).mean().sqrt()


class Outer(nn.Module):
    """Two children, and in the second kind of network code of its own behind them."""

    def __init__(self, first: nn.Module, second: nn.Module, divides: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.divides = first, second, divides

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        v = self.second(self.first(v))
        return v / squares(v).mean().sqrt() if self.divides else v


def audit(model: nn.Module, **options: Any) -> equicheck.Report:
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randn(3, 5, CHANNELS, 3, generator=random) for _ in range(2)]
    layout = f"batch nodes {CHANNELS} vector"
    return equicheck.audit(
        model, inputs, **{"group": "O(3)", "in_layouts": layout, "out_layouts": layout, "transforms": 3} | options
    )


@pytest.mark.parametrize(
    ("bug", "mode", "on"),
    [
        (Running, "state-drift", "earlier calls"),
        (Counting, "nondeterminism", "chance"),
        (Noisy, "randomness", "random numbers"),
        (Mean, "batch-cross-talk", "rest of the batch"),
    ],
)
def test_the_module_that_depends_on_it_is_named(bug: type[nn.Module], mode: str, on: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Mix(), Outer(Mix(), bug()), Mix())
    report = audit(model)
    finding = next(finding for finding in report.findings if finding.mode == mode)
    assert (finding.location, finding.class_) == ("1.second", f"{__name__}.{bug.__name__}"), str(report)
    assert finding.evidence[0] == "seen in output `output`"
    (found,) = [found for found in report.inquiries["dependences"] if found["on"].replace("_", " ") == on]
    assert (found["fault"]["location"], found["fault"]["kind"]) == ("1.second", "module")


def test_code_of_a_container_that_depends_on_the_batch_is_its_own() -> None:
    torch.manual_seed(0)
    report = audit(nn.Sequential(Mix(), Outer(Mix(), Mix(), divides=True)))
    (finding,) = report.findings
    assert (finding.mode, finding.location) == ("batch-cross-talk", "1")
    (found,) = report.inquiries["dependences"]
    assert found["fault"]["kind"] == "functional"


def test_masks_of_infinities_hide_no_difference() -> None:
    class Scores(nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            scores = torch.einsum("bicx,bjcx->bij", v, v) * (1 + 1e-2 * torch.rand(()))
            return scores.masked_fill(torch.eye(v.shape[1], dtype=torch.bool), -torch.inf)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores, self.softmax = Scores(), nn.Softmax(-1)

        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return torch.einsum("bij,bjcx->bicx", self.softmax(self.scores(v)), v)

    torch.manual_seed(0)
    report = audit(nn.Sequential(Mix(), Attention()))
    assert [found["fault"]["location"] for found in report.inquiries["dependences"]] == ["1.scores"]


def test_what_follows_inherits_it() -> None:
    torch.manual_seed(0)
    report = audit(nn.Sequential(Mix(), Mean(), Mix(), Mean()))
    assert [found["fault"]["location"] for found in report.inquiries["dependences"]] == ["1"]
    assert report.findings[0].location == "1"


@pytest.mark.parametrize(("bug", "place"), [(Mean, "1.second"), (Mix, None)])
def test_graphs_of_a_batch_that_see_each_other_do_so_in_a_module(bug: type[nn.Module], place: str | None) -> None:
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(1)
    samples = [
        {"v": torch.randn(9, CHANNELS, 3, generator=random), "graph": torch.tensor(graph)}
        for graph in ([0, 0, 0, 1, 1, 2, 2, 2, 2], [0, 0, 1, 1, 1, 1, 1, 2, 2])
    ]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(Mix(), Outer(Mix(), bug()))

        def forward(self, v: torch.Tensor, graph: torch.Tensor) -> torch.Tensor:
            return self.layers(v)

    report = equicheck.audit(
        Network(),
        samples,
        group="O(3) x S(nodes)",
        in_layouts={"v": f"nodes {CHANNELS} vector", "graph": "nodes"},
        out_layouts=f"nodes {CHANNELS} vector",
        segments={"nodes": "graph"},
        transforms=3,
    )
    if place is None:
        assert report.verdict == "PASS", str(report)
        assert "dependences" not in report.inquiries
    else:
        assert [finding.location for finding in report.findings if finding.mode == "batch-cross-talk"] == [
            f"layers.{place}"
        ]
