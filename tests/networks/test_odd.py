"""The odd models misbehave as their docstrings say."""

from __future__ import annotations

import math

import pytest
import torch

from .odd import ODD, points
from .truth import call, flatten, measure

F64 = torch.float64
VERDICTS = ("PASS or ERROR", "PASS", "NOT PASS", "FAIL", "NEEDS_ATTENTION", "ERROR")
ROTATED = torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])


def model(name: str) -> torch.nn.Module:
    return ODD[name].build().double()


def error(name: str, **options: object) -> float:
    return max(measure(model(name), ODD[name], **options).values())  # type: ignore[arg-type]


def named(verdict: str) -> list[str]:
    return [name for name in ODD if (ODD[name].build().__doc__ or "").startswith(verdict)]


def test_every_docstring_begins_with_a_verdict() -> None:
    for name, case in ODD.items():
        doc = case.build().__doc__ or ""
        assert doc.startswith(VERDICTS), name
        assert "\n" not in doc.strip(), name


# FlipsTraining is right only when its flags are restored, and PythonNumber is no tensor.
@pytest.mark.parametrize("name", sorted({*named("PASS")} - {"FlipsTraining", "PythonNumber"}))
def test_models_to_pass_are_exact(name: str) -> None:
    assert error(name) < 1e-12


# An auditor has to say these are vacuous: they do pass a plain comparison.
@pytest.mark.parametrize("name", named("NEEDS_ATTENTION"))
def test_vacuous_models_pass_a_plain_comparison(name: str) -> None:
    assert error(name) < 1e-12


RAISE = {"RaisesOnReflection", "ChangingKeys"}
# Only its dtype is wrong: rounding to bf16 stays below.
COARSE = {"DtypeFollowsHeight"}


@pytest.mark.parametrize("name", sorted({*named("FAIL")} - RAISE - COARSE))
def test_models_to_fail_have_large_errors(name: str) -> None:
    assert error(name) > 1e-2


@pytest.mark.parametrize("name", ["AlwaysNaN", "NaNAfterRotation", "InfiniteEnergy"])
def test_errors_that_are_not_finite(name: str) -> None:
    assert error(name) == math.inf


def test_raises_on_improper_elements_alone() -> None:
    assert error("RaisesOnReflection", drawn=("rotation", "translation")) < 1e-12
    with pytest.raises(ValueError, match="left-handed"):
        error("RaisesOnReflection", drawn=("inversion",))


@pytest.mark.parametrize("name", ["NaNAfterRotation", "ShapeFollowsHeight", "DtypeFollowsHeight"])
def test_sound_as_given_and_wrong_when_turned(name: str) -> None:
    x = points(0)["x"]
    before, after = model(name)(x), model(name)(x @ ROTATED)
    assert before.isfinite().all()
    changed = before.shape != after.shape or before.dtype != after.dtype
    assert changed or after.isnan().any()


def test_keys_change() -> None:
    x = points(0)["x"]
    assert set(model("ChangingKeys")(x)) == {"energy", "forces"}
    assert set(model("ChangingKeys")(x @ ROTATED)) == {"energy"}


def test_always_raises() -> None:
    with pytest.raises(ValueError, match="does not work"):
        call(model("Raises"), points(0), F64)


@pytest.mark.parametrize("name", ["MutatesInput", "MutatesInputAndFails"])
def test_input_is_mutated(name: str) -> None:
    x = points(0)["x"]
    model(name)(x)
    assert not torch.equal(x, points(0)["x"])


@pytest.mark.parametrize("name", ["StateDrift", "HiddenDrift", "NoiseInEval", "RandomScale", "FlipsTraining"])
def test_second_call_differs(name: str) -> None:
    used = model(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first, second = (used(points(0)["x"]).clone() for _ in range(2))
    assert (first - second).abs().max() > 1e-3


def test_drifting_counter_can_be_restored_and_the_hidden_one_not() -> None:
    used = model("StateDrift")
    state = {name: value.clone() for name, value in used.state_dict().items()}
    first = used(points(0)["x"])
    used.load_state_dict(state)
    assert torch.equal(first, used(points(0)["x"]))
    assert not model("HiddenDrift").state_dict()


def test_equal_seeds_hide_a_random_scale_but_not_noise() -> None:
    def seeded_error(name: str) -> float:
        inner = model(name)

        def run(**inputs: torch.Tensor) -> torch.Tensor:
            torch.manual_seed(5)
            return inner(**inputs)

        return max(measure(run, ODD[name]).values())  # type: ignore[arg-type]

    with torch.random.fork_rng(devices=[]):
        assert seeded_error("RandomScale") < 1e-12
        assert seeded_error("NoiseInEval") > 1e-2


def test_cache_answers_with_an_older_result() -> None:
    used = model("CachesByShape")
    x = points(0)["x"]
    assert torch.equal(used(x), used(2 * x))


def test_output_tensor_is_reused() -> None:
    used = model("ReusesOutput")
    x = points(0)["x"]
    first = used(x)
    assert first.data_ptr() == used(2 * x).data_ptr()


def test_flags_gradients_and_generator_are_left_changed() -> None:
    flips, backward = model("FlipsTraining"), model("BackwardInside")
    flips(points(0)["x"])
    assert flips.training
    backward(points(0)["x"])
    assert all(parameter.grad is not None for parameter in backward.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        state = torch.get_rng_state()
        model("SeedsGlobally")(points(0)["x"])
        assert not torch.equal(state, torch.get_rng_state())
    x = points(0)["x"]
    model("RequiresGradOnInput")(x)
    assert x.requires_grad


def test_detached_input_has_no_gradient_path() -> None:
    x = points(0)["x"].requires_grad_(True)
    assert not model("DetachesInput")(x).requires_grad


def test_sizes() -> None:
    def size(name: str) -> float:
        return float(call(model(name), points(0), F64).norm())

    assert 1e-5 < size("SmallAndBroken") < 1e-3
    assert 1e4 < size("LargeAndRight") < 1e6
    large = measure(ODD["LargeAndRight"].build(), ODD["LargeAndRight"], dtype=torch.float32)
    assert large["output"] < 1e-6


def test_offset_hides_an_error_of_the_size_of_the_spread() -> None:
    assert 1e-5 < error("LargeOffset") < 1e-2
    values = [float(call(model("LargeOffset"), points(seed), F64)) for seed in (0, 3, 6, 9)]
    absolute = error("LargeOffset") * 1e4
    assert absolute > 0.1 * (max(values) - min(values))


def test_clamp_is_reached_by_large_clouds_alone() -> None:
    assert error("ClampsLargeInputs", samples=4) < 1e-12
    assert error("ClampsLargeInputs", samples=5) > 1e-2


def test_copy_is_exact_as_point_and_broken_as_vector() -> None:
    x = points(0)["x"]
    assert torch.equal(model("CopiesInput")(x), x)
    assert error("CopyDeclaredVector", drawn=("rotation",)) < 1e-12
    assert error("CopyDeclaredVector", drawn=("translation",)) > 1e-2


def test_nested_outputs_are_named_by_path() -> None:
    healthy = ODD["NestedOutput"]
    found = flatten(call(model("NestedOutput"), points(0), F64), healthy.out_layouts)
    assert set(found) == {"energy", "aux.0.mean"}
    broken = measure(model("NestedBroken"), ODD["NestedBroken"])
    assert broken["energy"] < 1e-12
    assert broken["aux.0.mean"] > 1e-2


def test_outputs_that_are_no_tensors() -> None:
    assert isinstance(call(model("NotATensor"), points(0), F64), str)
    assert isinstance(call(model("PythonNumber"), points(0), F64), float)


@pytest.mark.parametrize(("name", "dtype"), [("AlwaysDouble", F64), ("AlwaysHalf", torch.half)])
def test_output_dtype_does_not_follow_the_input(name: str, dtype: torch.dtype) -> None:
    assert ODD[name].build()(points(0)["x"]).dtype == dtype
    assert model(name)(points(0)["x"].double()).dtype == dtype


def test_half_outputs_have_one_error_in_both_precisions() -> None:
    case = ODD["AlwaysHalf"]
    single = measure(case.build(), case, dtype=torch.float32)["output"]
    double = measure(case.build().double(), case)["output"]
    assert 1e-4 < single < 1e-2
    assert 0.5 < single / double < 2
