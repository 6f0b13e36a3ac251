"""Rounding and violations told apart, with no constant that separates them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import nn

import equicheck
from audits import FEW, SPACE, Pull, audit_case, clouds, floating, modes, pull
from equicheck import _torch
from networks import CASES, precision

EGNN = next(case for case in CASES if case.name == "egnn")


def test_a_healthy_error_is_larger_than_the_error_of_a_bug() -> None:
    """One threshold on the error would get one of the two wrong."""
    case = precision.far_from_origin()
    healthy = audit_case(case, samples=20, transforms=20)
    assert healthy.verdict == "PASS", healthy
    rounding = max(output.max_relative for output in healthy.outputs.values())
    assert rounding > 3e-5
    assert all(output.classification == "exact" for output in healthy.outputs.values())

    bug = audit_case(precision.small_parity_bug(), samples=20, transforms=20)
    assert bug.verdict == "NEEDS_ATTENTION"
    dipole = bug.outputs["dipole"]
    assert dipole.max_relative < rounding
    assert dipole.classification == "approximate"
    assert dipole.violation == pytest.approx(1e-5, rel=0.01)  # twice its severity
    assert bug.outputs["energy"].classification == "exact"
    assert modes(bug) == {"parity"}


def test_a_bug_hidden_by_rounding_is_found() -> None:
    report = audit_case(precision.hidden_parity_bug(), samples=6, transforms=12)
    dipole = report.outputs["dipole"]
    assert dipole.max_relative > 2 * dipole.violation  # rounding covers it
    assert report.verdict == "NEEDS_ATTENTION"
    assert dipole.classification == "approximate"
    assert dipole.violation == pytest.approx(1e-5, rel=0.01)
    assert modes(report) == {"parity", "numerical-precision"}  # far from the origin


@pytest.mark.parametrize(
    ("name", "roundoff"),
    [("inner_float", 2.0**-24), ("two_branches", 2.0**-24), ("inner_half", 2.0**-11)],
)
def test_precision_dropped_inside_voids_the_comparison(name: str, roundoff: float) -> None:
    report = audit_case(getattr(precision, name)(), **FEW)
    for output in report.outputs.values():
        assert output.float64["status"] == "void"
        assert output.float64["input"] == "positions"
        # A unit in the last place of what is kept, as far as an estimate by powers of two goes.
        assert roundoff / 16 < output.float64["effective_precision"] < roundoff * 16
        assert output.classification != "exact"
    assert "low-precision" in modes(report)
    assert "void: the model drops precision inside" in str(report)


def test_a_half_precision_cast_inside_never_passes() -> None:
    report = audit_case(precision.inner_half(), **FEW)
    assert report.verdict == "NEEDS_ATTENTION"
    assert all(output.level == "approximate" for output in report.outputs.values())


def test_an_inner_cast_does_not_hide_a_large_bug() -> None:
    report = audit_case(precision.inner_float(0.1), **FEW)
    assert report.verdict == "FAIL"
    assert report.outputs["dipole"].classification == "broken"


def test_a_copy_that_cannot_be_called_is_no_failure_of_the_model() -> None:
    report = audit_case(precision.inner_float_raises(), **FEW)
    assert report.verdict == "PASS"
    for output in report.outputs.values():
        assert output.classification == "consistent"
        assert output.float64["status"] == "unavailable"
        assert re.search("RuntimeError.*dtype", output.float64["reason"])
    assert "not available: RuntimeError: mat1 and mat2 must have the same dtype" in str(report)


def test_constants_rounded_to_f32_explain_a_small_error() -> None:
    case = precision.rounded_constants()
    report = audit_case(case, samples=6, transforms=12)
    assert report.verdict == "PASS"
    for output in report.outputs.values():
        assert output.classification == "exact"
        assert output.violation > 1e-9  # far above the rounding of f64
        assert output.violation < 10 * output.float64["constants"]
    built = audit_case(case, factory=case.factory, samples=6, transforms=12)
    assert built.verdict == "PASS"
    for output in built.outputs.values():
        assert output.classification == "exact"
        assert output.violation < 1e-13
        assert output.float64["constants"] == 0


class Tangents(nn.Module):
    """A vector at each point of the sphere, in a basis of its tangent plane that is chosen anyhow, and a leak."""

    def __init__(self, leak: float) -> None:
        super().__init__()
        self.leak = leak

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        helper = torch.zeros_like(u).scatter_(-1, u.abs().argmin(-1, keepdim=True), 1.0)
        a = torch.linalg.cross(helper, u)
        a = a / a.norm(dim=-1, keepdim=True)
        b = torch.linalg.cross(u, a)
        mean = u.mean(0)
        return (a @ mean)[:, None] * a + (b @ mean)[:, None] * b + self.leak * torch.tanh(u)


def on_the_sphere(leak: float, dtype: torch.dtype) -> equicheck.Report:
    random = torch.Generator().manual_seed(0)
    u = nn.functional.normalize(torch.randn(9, 3, generator=random, dtype=dtype), dim=-1)
    group, layout = "SO(3) x S(nodes)", "nodes vector"
    return equicheck.audit(Tangents(leak), {"u": u}, group=group, in_layouts={"u": layout}, out_layouts=layout)


def test_points_lie_on_a_sphere_no_better_than_their_precision_says() -> None:
    given = on_the_sphere(0.0, torch.float32)
    assert (given.verdict, given.outputs["output"].classification) == ("PASS", "exact"), given
    assert given.outputs["output"].float64["constants"] > 1e-9
    # A leak that is larger than that is one.
    assert on_the_sphere(1e-3, torch.float32).outputs["output"].classification == "approximate"


def test_constants_and_a_bug_cannot_always_be_told_apart() -> None:
    case = precision.rounded_constants(2e-6)
    report = audit_case(case, samples=6, transforms=12)
    dipole = report.outputs["dipole"]
    assert report.verdict == "NEEDS_ATTENTION"
    assert dipole.classification == "undetermined"
    floor = dipole.float64["constants"]
    assert 10 * floor < dipole.violation < 100 * floor
    assert "factory=" in dipole.reason
    assert modes(report) == {"numerical-precision"}
    # Built in f64, the bug shows, also a smaller one that the constants covered.
    for severity in (2e-6, 3e-7):
        case = precision.rounded_constants(severity)
        report = audit_case(case, factory=case.factory, samples=6, transforms=12)
        assert report.verdict == "NEEDS_ATTENTION"
        assert report.outputs["dipole"].classification == "approximate"
        assert report.outputs["dipole"].violation == pytest.approx(2 * severity, rel=0.01)


def test_a_bug_beyond_what_constants_explain_needs_no_factory() -> None:
    report = audit_case(precision.rounded_constants(3e-5), samples=6, transforms=12)
    assert report.outputs["dipole"].classification == "approximate"
    assert modes(report) == {"parity"}


@pytest.mark.parametrize("severity", [0, 1e-6])
def test_a_model_in_f64_is_compared_with_itself(severity: float) -> None:
    model = EGNN.bugs["cross_product"].build(severity).double() if severity else None
    model = EGNN.build().double() if model is None else model
    report = audit_case(EGNN, model, prepare=floating(torch.float64), **FEW)
    output = report.outputs["coordinates"]
    assert report.verdict == ("NEEDS_ATTENTION" if severity else "PASS")
    assert output.classification == ("approximate" if severity else "exact")
    # Its raw error is the error in double precision: nothing ran twice.
    assert output.float64["max_relative"] == output.max_relative
    assert "float64 audit" not in report.plan["calls_by_purpose"]


def test_as_is_runs_nothing_in_double_precision() -> None:
    report = audit_case(EGNN, precision="as_is", **FEW)
    assert report.verdict == "PASS"
    for output in report.outputs.values():
        assert output.float64 == {"status": "not_requested"}
        assert output.classification == "consistent"
    assert not any("float64" in purpose for purpose in report.plan["calls_by_purpose"])


def test_float64_audits_the_copy_alone() -> None:
    far = precision.far_from_origin()
    report = audit_case(far, precision="float64", **FEW)
    assert report.verdict == "PASS"
    assert {row["dtype"] for row in report.transforms} == {"float64"}
    # f32 rounding, 1e-5 here, is nowhere: not even the inputs are rounded to it after a turn.
    assert max(output.max_relative for output in report.outputs.values()) < 1e-11
    model = far.build()
    before = [parameter.clone() for parameter in model.parameters()]
    audit_case(far, model, precision="float64", **FEW)
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, old)


def test_float64_of_a_model_that_has_none_is_an_error() -> None:
    def factory(dtype: torch.dtype) -> torch.nn.Module:
        raise RuntimeError(f"no model in {dtype}")

    with pytest.raises(equicheck.SpecificationError, match=r"no model in torch\.float64"):
        equicheck.audit(Pull(), clouds(3), precision="float64", factory=factory, **SPACE)


def test_a_factory_of_another_function_is_no_reference() -> None:
    class Other(Pull):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * self.strength * pull(x)

    report = equicheck.audit(Pull(), clouds(3), factory=lambda dtype: Other(), **SPACE, **FEW)
    output = report.outputs["output"]
    assert output.float64["status"] == "unavailable"
    assert "computes another function" in output.float64["reason"]
    assert output.classification == "consistent"


def test_a_factory_takes_over_the_trained_parameters() -> None:
    model = Pull()
    with torch.no_grad():
        model.strength.fill_(0.3)
    report = equicheck.audit(model, clouds(3), factory=lambda dtype: Pull().to(dtype), **SPACE, **FEW)
    # Were the factory's own strength of 1.5 used, the two precisions would differ by a factor of 5.
    assert report.outputs["output"].classification == "exact"


@pytest.mark.parametrize(("dtype", "roundoff"), [(torch.bfloat16, 2.0**-8), (torch.float16, 2.0**-11)])
def test_levels_grow_with_the_roundoff_of_low_precision(dtype: torch.dtype, roundoff: float) -> None:
    samples = clouds(4, dtype=dtype)
    report = equicheck.audit(Pull().to(dtype), samples, **SPACE, **FEW)
    output = report.outputs["output"]
    factor = roundoff / 2.0**-24
    bounds = equicheck.Report.from_json(report.to_json())
    levels = re.search(r"perfect below (\S+), excellent below (\S+),", str(bounds))
    assert levels is not None
    assert float(levels[1]) == pytest.approx(1e-6 * factor, rel=0.01)
    assert float(levels[2]) == pytest.approx(1e-4 * factor, rel=0.01)
    # Above the bound for f32, and a pass.
    assert output.max_relative > 1e-4
    assert report.verdict == "PASS", report
    assert output.classification == "exact"
    assert output.float64["max_relative"] < 1e-13


class Mixed(torch.nn.Module):
    """Weights pulls by a small network of scalar products, which autocast computes from rounded coordinates."""

    def __init__(self, inside: torch.dtype | None = None, bias: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weigh = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.SiLU(), torch.nn.Linear(16, 1))
        self.inside = inside
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        difference = x[None] - x[:, None]
        with nullcontext() if self.inside is None else torch.autocast("cpu", self.inside):
            centred = x - x.mean(0)
            weight = self.weigh((centred @ centred.mT)[..., None])
        return (weight.to(x) * difference).sum(1) + self.bias * torch.tensor([1.0, 0.0, 0.0]).to(x)


@pytest.mark.parametrize("where", ["around", "inside", "disabled"])
def test_autocast_counts_as_the_type_that_it_computes_in(where: str) -> None:
    model = Mixed(torch.bfloat16 if where == "inside" else None)
    entered = torch.autocast.__enter__
    with torch.autocast("cpu", torch.bfloat16, enabled=where != "disabled") if where != "inside" else nullcontext():
        report = equicheck.audit(model, clouds(4), **SPACE, **FEW)
    assert torch.autocast.__enter__ is entered
    output = report.outputs["output"]
    assert report.verdict == "PASS", report
    assert output.classification == "exact"
    if where == "disabled":
        assert output.max_relative < 1e-5
        assert "computing in" not in str(report)
        return
    # bfloat16 has eight bits: no level of single precision would do.
    assert output.max_relative > 1e-3
    assert output.noise > 1e-4
    assert "computing in bfloat16" in str(report)


def test_autocast_hides_no_violation() -> None:
    # Smaller than the rounding of bfloat16, and nothing in double precision hides it.
    report = equicheck.audit(Mixed(torch.bfloat16, bias=1e-3), clouds(4), **SPACE, **FEW)
    output = report.outputs["output"]
    assert output.classification == "approximate"
    assert report.verdict == "NEEDS_ATTENTION"


@pytest.fixture
def tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.usefixtures("tf32")
def test_tf32_counts_where_it_is_used() -> None:
    for device, wanted in [("cuda", "tf32"), ("cpu", "")]:
        with _torch._Autocast(device) as watch:
            pass
        assert watch.coarsest() == wanted
    with _torch._Autocast("cuda") as watch, torch.autocast("cpu", torch.float16, enabled=False):
        pass
    assert watch.coarsest() == "tf32"
    with _torch._Autocast("cuda") as watch, torch.autocast("cpu", torch.bfloat16):
        pass
    assert watch.coarsest() == "bfloat16"
