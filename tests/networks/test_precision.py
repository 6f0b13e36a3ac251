"""The networks at the edge of rounding have the errors that they claim."""

from __future__ import annotations

import pytest
import torch

from . import precision
from .truth import call, measure


def worst(model: torch.nn.Module, case: precision.Case, **options: object) -> float:
    return max(measure(model, case, **options).values())  # type: ignore[arg-type]


def test_far_cloud_is_healthy_and_coarse() -> None:
    case = precision.far_from_origin()
    assert worst(case.build(), case, dtype=torch.float32, samples=20, elements=20) > 3e-5
    # Also where the denominator hardly has a floor, as for an auditor that judges each sample.
    strict = worst(case.build(), case, dtype=torch.float32, samples=20, elements=20, share=1e-3)
    assert strict < 1e-4
    assert worst(case.build().double(), case) < 1e-12


def test_small_parity_bug_is_below_the_rounding_of_the_far_cloud() -> None:
    far = precision.far_from_origin()
    rounding = worst(far.build(), far, dtype=torch.float32, samples=20, elements=20)
    case = precision.small_parity_bug()
    for dtype in (torch.float32, torch.float64):
        assert 8e-6 < worst(case.build().to(dtype), case, dtype=dtype) < rounding / 2
    alone = measure(case.build().double(), case, drawn=("rotation", "translation", "permutation"))
    assert max(alone.values()) < 1e-12
    hidden = precision.hidden_parity_bug()
    assert 8e-6 < worst(hidden.build().double(), hidden) < rounding / 2


@pytest.mark.parametrize("name", ["inner_float", "two_branches"])
def test_inner_f32_keeps_the_f64_error_at_f32_rounding(name: str) -> None:
    case = getattr(precision, name)()
    assert 1e-9 < worst(case.build().double(), case) < case.floor


def response(case: precision.Case, size: float) -> float:
    """Change of the energy over that of a healthy f64 network, inputs moved by ``size``."""
    sample = {name: value.double() for name, value in case.inputs(0).items()}
    step = torch.randn(sample["positions"].shape, generator=torch.Generator().manual_seed(1))
    moved = {**sample, "positions": sample["positions"] + size * step.double()}

    def change(model: torch.nn.Module) -> float:
        after, before = (call(model, x, torch.float64)["energy"].detach() for x in (moved, sample))
        return float(after - before)

    return change(case.build().double()) / change(precision.build().double())


def test_response_to_tiny_changes_tells_an_inner_cast() -> None:
    # Rounding of the energy itself is about 1e-3 of so small a change.
    tiny = 2.0**-40
    assert abs(response(precision.small_parity_bug(), tiny) - 1) < 0.1
    assert response(precision.inner_float(), tiny) == 0
    # Half as much again comes from the branch that rounds; it is silent, the other is not.
    assert abs(response(precision.two_branches(), tiny) - 1) < 0.1
    assert abs(response(precision.two_branches(), 1e-2) - 1.5) < 1e-2


def test_inner_half_has_one_error_in_both_precisions() -> None:
    case = precision.inner_half()
    single = worst(case.build(), case, dtype=torch.float32)
    double = worst(case.build().double(), case)
    assert single > 1e-4
    assert abs(single / double - 1) < 0.1


def test_inner_float_raises_after_double() -> None:
    case = precision.inner_float_raises()
    assert worst(case.build(), case, dtype=torch.float32) < 1e-6
    with pytest.raises(RuntimeError, match="dtype"):
        call(case.build().double(), case.inputs(0), torch.float64)


def test_rounded_constants_set_the_floor_in_f64() -> None:
    case = precision.rounded_constants()
    assert case.factory is not None
    assert 1e-9 < worst(case.build().double(), case) < 2e-7
    assert worst(case.factory(torch.float64), case) < 1e-12
    narrow = dict(case.build().named_parameters())
    for name, parameter in case.factory(torch.float64).named_parameters():
        assert torch.equal(parameter.float(), narrow[name]), name
    broken = precision.rounded_constants(3e-7)
    assert broken.factory is not None
    assert 3e-7 < worst(broken.factory(torch.float64), broken) < 1e-6
