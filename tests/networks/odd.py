"""Models that misbehave. The docstring of each says what an auditor must say.

It begins with the verdict (PASS, FAIL, NEEDS_ATTENTION), with "NOT PASS" where either of the last
two is right, or with "ERROR" where the audit cannot run and has to end in one clear message.
``ODD`` maps the name of each to its case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from .case import Case, Inputs, generator

POINTS: dict[str, str | None] = {"x": "nodes point"}
FORCES = "nodes vector"


def points(seed: int) -> Inputs:
    """5, 7 or 9 points off the origin in a standard orientation.

    The first bond points along +z, and the first four points are right-handed.
    """
    random = generator(seed)
    x = torch.randn((5, 7, 9)[seed % 3], 3, generator=random, dtype=torch.float64)
    z = (x[1] - x[0]) / (x[1] - x[0]).norm()
    y = torch.linalg.cross(z, torch.randn(3, generator=random, dtype=torch.float64))
    y = y / y.norm()
    x = x @ torch.stack([torch.linalg.cross(y, z), y, z]).T
    if handedness(x) < 0:
        x[:, 0] = -x[:, 0]
    return {"x": (x + torch.randn(3, generator=random, dtype=torch.float64)).float()}


def charged_points(seed: int) -> Inputs:
    sample = points(seed)
    return {**sample, "charges": torch.randn(len(sample["x"]), generator=generator(seed + 500))}


def points_of_two_sizes(seed: int) -> Inputs:
    """The same; every fifth cloud is 20 times as large."""
    return {"x": points(seed)["x"] * (20 if seed % 5 == 4 else 1)}


def handedness(x: torch.Tensor) -> torch.Tensor:
    return torch.linalg.det(x[1:4] - x[0])


def kernel(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    difference = x[None] - x[:, None]
    return difference, torch.exp(-difference.square().sum(-1) / 4)


def pull(x: torch.Tensor) -> torch.Tensor:
    """A healthy vector for each point: the pull of its neighbours."""
    difference, strength = kernel(x)
    return (strength[..., None] * difference).sum(1)


def tension(x: torch.Tensor) -> torch.Tensor:
    """A healthy scalar."""
    return kernel(x)[1].sum()


# Models whose call goes wrong.


class Raises(nn.Module):
    """ERROR: the call on the sample as given raises; its message is quoted."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("this model does not work")


class RaisesOnReflection(nn.Module):
    """FAIL: the call raises for improper elements only, under permutation or rotation never."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if handedness(x) < 0:
            raise ValueError("left-handed input")
        return pull(x)


class AlwaysNaN(nn.Module):
    """FAIL: the output is NaN on both sides, so no comparison is possible."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pull(x) * torch.nan


class NaNAfterRotation(nn.Module):
    """FAIL: the output is finite on the samples as given and NaN after half of all rotations."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height = x[1, 2] - x[0, 2]
        return pull(x) * (1 + 0 * height.sqrt())


class InfiniteEnergy(nn.Module):
    """FAIL: infinite on both sides; their difference is NaN, not a small number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return tension(x) / 0.0


class ShapeFollowsHeight(nn.Module):
    """FAIL: the number of rows depends on the orientation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pull(x)[x[:, 2] > x[0, 2]]


class DtypeFollowsHeight(nn.Module):
    """FAIL: the dtype of the output depends on the orientation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = pull(x)
        return y if x[1, 2] > x[0, 2] else y.to(torch.bfloat16)


class NotATensor(nn.Module):
    """ERROR: the output is a string: there is nothing to compare."""

    def forward(self, x: torch.Tensor) -> str:
        return f"energy {float(tension(x.detach())):.3f}"


# Models with state, side effects or randomness.


class MutatesInput(nn.Module):
    """PASS, with a note: the input is centred in place; fresh copies keep the audit right."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x -= x.mean(0)
        return pull(x)


class MutatesInputAndFails(nn.Module):
    """FAIL: broken, and it scales its input in place: repeated use of a tensor would mislead."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x *= 2
        return torch.tanh(pull(x / 2) * 3)


class StateDrift(nn.Module):
    """NOT PASS: the output depends on how many calls came before; the buffer is restored."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return pull(x) * (1 + 0.1 * self.calls)


class CountsCalls(nn.Module):
    """PASS: a buffer counts the calls, no output depends on it; it is restored afterwards."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return pull(x)


class HiddenDrift(nn.Module):
    """NOT PASS: as ``StateDrift``, but the counter is a plain attribute that no snapshot sees."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return pull(x) * (1 + 0.1 * self.calls)


class CachesByShape(nn.Module):
    """NOT PASS: the first result for a shape is returned for all later inputs of that shape."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[torch.Size, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape not in self.cache:
            self.cache[x.shape] = pull(x).detach()
        return self.cache[x.shape]


class ReusesOutput(nn.Module):
    """PASS: every call writes to one tensor; outputs have to be copied before the next call."""

    def __init__(self) -> None:
        super().__init__()
        self.out = torch.empty(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.out.shape != x.shape or self.out.dtype != x.dtype:
            self.out = torch.empty(x.shape, dtype=x.dtype)
        return self.out.copy_(pull(x).detach())


class NoiseInEval(nn.Module):
    """NOT PASS: noise is drawn in eval mode too; even the identity fails with other seeds."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pull(x) + 0.1 * torch.randn_like(x)


class RandomScale(nn.Module):
    """NOT PASS: random in eval mode; exact when seeds are equal, and only then."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pull(x) * (1 + 0.5 * torch.rand((), dtype=x.dtype))


class SeedsGlobally(nn.Module):
    """PASS: it seeds the global generator; the generator's state is restored afterwards."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return pull(x) * (1 + torch.rand((), dtype=x.dtype))


class FlipsTraining(nn.Module):
    """PASS in eval mode: it turns itself to training after its dropout; flags are restored."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dropout(pull(x))
        self.train()
        return y


class BackwardInside(nn.Module):
    """PASS: it calls backward inside forward; gradients of its parameter are left as they were."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        leaf = x.detach().clone().requires_grad_(True)
        (self.strength * tension(leaf)).backward()
        assert leaf.grad is not None
        return -leaf.grad


class RequiresGradOnInput(nn.Module):
    """PASS: it sets ``requires_grad`` on its input; fails on a tensor that is not a leaf."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not x.is_leaf:
            raise RuntimeError("the input has to be a leaf")
        x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(tension(x), x, create_graph=True)
        return -gradient


class DetachesInput(nn.Module):
    """PASS: exact; in a gradient test "no gradient path", which is not a failure."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pull(x.detach())


# Audits that could not have failed, and sizes.


class ConstantOutput(nn.Module):
    """NEEDS_ATTENTION, vacuous: the scalar is the same for all inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0 * tension(x) + 2.5


class ConstantVector(nn.Module):
    """FAIL: a constant vector does not rotate, whatever the input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(x) + 0 * x


class ZeroOutput(nn.Module):
    """NEEDS_ATTENTION, vacuous: all outputs are zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0 * pull(x)


class CopiesInput(nn.Module):
    """NEEDS_ATTENTION, vacuous: the output is a copy of the input, bit for bit."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


class CopyDeclaredVector(nn.Module):
    """FAIL: the same copy with the output declared as vectors; it translates."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


class IgnoresPositions(nn.Module):
    """NEEDS_ATTENTION, vacuous: only the charges count, so no rotation was ever tested."""

    def forward(self, x: torch.Tensor, charges: torch.Tensor) -> torch.Tensor:
        return charges.square().sum()


class IgnoresCharges(nn.Module):
    """PASS: an input that only permutations move is ignored; the positions carry all factors."""

    def forward(self, x: torch.Tensor, charges: torch.Tensor) -> torch.Tensor:
        return pull(x)


class SmallAndBroken(nn.Module):
    """FAIL: outputs of about 1e-4 whose absolute error is small and whose relative error is 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1e-4 * pull(x).abs()


class LargeAndRight(nn.Module):
    """PASS: outputs of about 1e5 whose absolute error in f32 is large for rounding alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1e5 * pull(x)


class LargeOffset(nn.Module):
    """NOT PASS: an energy offset of -1e4 makes a plain error small; its spread tells."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height = torch.tanh(x[:, 2] - x[:, 2].mean()).square().sum()
        return -1e4 + tension(x) + height


class ClampsLargeInputs(nn.Module):
    """FAIL: components are clamped at 12, which every fifth sample reaches and no other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(0)
        return torch.clamp(centred, -12, 12)


class OneBadNode(nn.Module):
    """FAIL: the output of the point farthest from the centre alone is broken."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = pull(x)
        far = (x - x.mean(0)).square().sum(-1).argmax()
        flip = torch.ones_like(y)
        flip[far, 2] = -1
        return y * flip


# Outputs of other kinds.


class AlwaysDouble(nn.Module):
    """PASS, with a note: f64 outputs from f32 inputs; the error is that of f32 all the same."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pull(x).double()


class AlwaysHalf(nn.Module):
    """NOT PASS: outputs are rounded to f16 in both precisions: 1e-4 and more of rounding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pull(x).half()


@dataclass
class Prediction:
    energy: torch.Tensor
    forces: torch.Tensor
    name: str = "prediction"


class DataclassOutput(nn.Module):
    """PASS: outputs "energy" and "forces" are found by field name."""

    def forward(self, x: torch.Tensor) -> Prediction:
        return Prediction(tension(x), pull(x))


class Pair(NamedTuple):
    energy: torch.Tensor
    forces: torch.Tensor


class NamedTupleOutput(nn.Module):
    """PASS: outputs "energy" and "forces" are found by field name."""

    def forward(self, x: torch.Tensor) -> Pair:
        return Pair(tension(x), pull(x))


class TupleOutput(nn.Module):
    """PASS: outputs "0" and "1"."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return tension(x), pull(x)


class NestedOutput(nn.Module):
    """PASS: outputs "energy" and "aux.0.mean"; "aux.1" and "extra" are listed as not audited."""

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {
            "energy": tension(x),
            "aux": ({"mean": pull(x).square().sum(-1)[:, None] * pull(x)}, x[:, 2]),
            "extra": x.mean(0),
        }


class NestedBroken(nn.Module):
    """FAIL: "aux.0.mean" is broken, "energy" is exact."""

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {"energy": tension(x), "aux": ({"mean": torch.tanh(3 * pull(x))}, None)}


class MixedOutput(nn.Module):
    """PASS: beside "forces" it returns a string, a number and None, which are not audited."""

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        return {"forces": pull(x), "units": "eV / A", "points": len(x), "stress": None}


class PythonNumber(nn.Module):
    """PASS or ERROR: the energy is a Python float; taken as a scalar, or one clear message."""

    def forward(self, x: torch.Tensor) -> float:
        return float(tension(x.detach()))


class ChangingKeys(nn.Module):
    """FAIL: the key of an output is missing after half of all rotations."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        result = {"energy": tension(x)}
        if x[1, 2] > x[0, 2]:
            result["forces"] = pull(x)
        return result


def case(
    model: Callable[[], nn.Module],
    out_layouts: Any = FORCES,
    *,
    group: str = "E(3) x S(nodes)",
    inputs: Callable[[int], Inputs] = points,
    in_layouts: dict[str, str | None] = POINTS,
) -> Case:
    return Case(
        name=model.__name__,
        build=lambda: model().eval(),
        inputs=inputs,
        group=group,
        in_layouts=in_layouts,
        out_layouts=out_layouts,
    )


CHARGED: dict[str, str | None] = {**POINTS, "charges": "nodes"}
BOTH = {"energy": "", "forces": FORCES}

ODD: dict[str, Case] = {
    found.name: found
    for found in (
        case(Raises),
        # Standard orientations are those of the order of storage, so nodes stay in place.
        case(RaisesOnReflection, group="E(3)"),
        case(AlwaysNaN),
        case(NaNAfterRotation, group="E(3)"),
        case(InfiniteEnergy, ""),
        case(ShapeFollowsHeight, group="E(3)"),
        case(DtypeFollowsHeight, group="E(3)"),
        case(NotATensor, ""),
        case(MutatesInput),
        case(MutatesInputAndFails),
        case(StateDrift),
        case(CountsCalls),
        case(HiddenDrift),
        case(CachesByShape),
        case(ReusesOutput),
        case(NoiseInEval),
        case(RandomScale),
        case(SeedsGlobally),
        case(FlipsTraining),
        case(BackwardInside),
        case(RequiresGradOnInput),
        case(DetachesInput),
        case(ConstantOutput, ""),
        case(ConstantVector),
        case(ZeroOutput),
        case(CopiesInput, "nodes point"),
        case(CopyDeclaredVector),
        case(IgnoresPositions, "", inputs=charged_points, in_layouts=CHARGED),
        case(IgnoresCharges, inputs=charged_points, in_layouts=CHARGED),
        case(SmallAndBroken),
        case(LargeAndRight),
        case(LargeOffset, ""),
        case(ClampsLargeInputs, inputs=points_of_two_sizes),
        case(OneBadNode),
        case(AlwaysDouble),
        case(AlwaysHalf),
        case(DataclassOutput, BOTH),
        case(NamedTupleOutput, BOTH),
        case(TupleOutput, ("", FORCES)),
        case(NestedOutput, {"energy": "", "aux": ({"mean": FORCES}, None)}),
        case(NestedBroken, {"energy": "", "aux": ({"mean": FORCES}, None)}),
        case(MixedOutput, {"forces": FORCES}),
        case(PythonNumber, ""),
        case(ChangingKeys, BOTH, group="E(3)"),
    )
}
