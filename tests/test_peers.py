"""What e3nn's own assertion gets wrong, and what an audit says of the same model.

``e3nn.util.test.assert_equivariant`` compares absolute differences with a fixed tolerance, on one
random input by default.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from e3nn import o3
from torch import nn

import equicheck
from audits import modes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    from e3nn.util.test import assert_equivariant

IRREPS = "4x0e+4x1o"


class Mixed(nn.Module):
    """A healthy tensor product of [nodes, 4x0e+4x1o] with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.product = o3.FullyConnectedTensorProduct(IRREPS, IRREPS, IRREPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(x, x)


class AllNaN(Mixed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * torch.nan


class AllZero(Mixed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 0


class SmallAndBroken(Mixed):
    """Outputs of about 1e-4 with a nonlinearity on the components of vectors."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1e-4 * torch.tanh(super().forward(x))


class BreaksWhenLarge(Mixed):
    """Components are clamped at 30, which inputs of unit size never reach."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.clamp(x, -30, 30))


class LargeAndRight(Mixed):
    """Outputs of about 1e5, right up to the rounding of f32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 1e5


def features(seed: int, size: float = 1.0) -> torch.Tensor:
    return size * torch.randn(5, 16, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _seeds() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


def passes_in_e3nn(model: nn.Module) -> bool:
    try:
        assert_equivariant(model, irreps_in=[IRREPS], irreps_out=[IRREPS], args_in=[features(0)])
    except AssertionError:
        return False
    return True


def audit(
    model: nn.Module,
    inputs: Any = None,
    **options: Any,
) -> equicheck.Report:
    samples: list[Any] | Callable[[int], Any] = [features(seed) for seed in range(4)] if inputs is None else inputs
    return equicheck.audit(
        model,
        samples,
        group="O(3)",
        in_layouts=f"batch {IRREPS}",
        out_layouts=f"batch {IRREPS}",
        **({"transforms": 8} | options),
    )


def test_both_pass_a_healthy_model() -> None:
    model = Mixed()
    assert passes_in_e3nn(model)
    report = audit(model)
    assert report.verdict == "PASS"
    assert report.outputs["output"].classification == "exact"


def test_nan_everywhere() -> None:
    model = AllNaN()
    assert passes_in_e3nn(model)
    report = audit(model)
    assert report.verdict == "FAIL"
    assert modes(report) == {"broken-call"}


def test_zero_everywhere() -> None:
    model = AllZero()
    assert passes_in_e3nn(model)
    report = audit(model)
    assert report.verdict == "NEEDS_ATTENTION"
    assert modes(report) == {"vacuous-test"}


def test_small_outputs() -> None:
    model = SmallAndBroken()
    assert passes_in_e3nn(model)
    report = audit(model)
    assert report.verdict == "FAIL"
    output = report.outputs["output"]
    assert output.max_absolute < 1e-2
    assert output.violation > 0.05


def test_a_bug_of_large_inputs() -> None:
    model = BreaksWhenLarge()
    assert passes_in_e3nn(model)
    assert audit(model).verdict == "PASS"  # on small inputs it is right
    samples = [features(seed, size=20.0 if seed == 2 else 1.0) for seed in range(4)]
    report = audit(model, samples)
    assert report.verdict == "FAIL"
    worst = report.outputs["output"].worst
    assert worst is not None
    assert worst["sample"] == 2


def test_large_outputs() -> None:
    model = LargeAndRight()
    assert not passes_in_e3nn(model)
    report = audit(model)
    assert report.verdict == "PASS", report
    output = report.outputs["output"]
    assert output.max_absolute > 1e-3  # what e3nn compares with its tolerance
    assert output.max_relative < 1e-5


class WrongBackward(torch.autograd.Function):
    """The identity; its gradient drops one component."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        kept = torch.ones_like(gradient)
        kept[..., 2] = 0
        return gradient * kept


class BrokenGradient(nn.Module):
    """The energy is invariant; its gradient, the forces, is not equivariant."""

    def energy(self, x: torch.Tensor) -> torch.Tensor:
        x = WrongBackward.apply(x)
        return torch.exp(-(x[None] - x[:, None]).square().sum(-1)).sum()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x.requires_grad_(True)
        energy = self.energy(x)
        (gradient,) = torch.autograd.grad(energy, x)
        return {"energy": energy, "forces": -gradient}


def test_a_broken_gradient() -> None:
    """e3nn looks at the forward pass alone; forces that a model returns are outputs like others."""
    model = BrokenGradient()
    positions = [torch.randn(5, 3) for _ in range(4)]
    assert_equivariant(
        lambda x: model.energy(x).reshape(1),
        irreps_in=["cartesian_points"],
        irreps_out=["0e"],
        args_in=[positions[0]],
    )
    report = equicheck.audit(
        model,
        positions,
        group="E(3)",
        in_layouts="nodes! point",
        out_layouts={"energy": "", "forces": "nodes! vector"},
        transforms=8,
    )
    assert report.verdict == "FAIL"
    assert report.outputs["energy"].verdict == "PASS"
    assert report.outputs["forces"].verdict == "FAIL"
