"""Models that misbehave: the verdict that each docstring promises, and what is left behind."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import equicheck
from audits import audit_case, modes
from networks.odd import ODD

PLAN: dict[str, Any] = {"samples": 6, "transforms": 12}
RAISED = {"Raises": equicheck.ModelError, "NotATensor": equicheck.SpecificationError}
ALLOWED = {
    "PASS or ERROR": {"PASS"},  # a Python number is taken as a scalar
    "PASS": {"PASS"},
    "NOT PASS": {"FAIL", "NEEDS_ATTENTION"},
    "FAIL": {"FAIL"},
    "NEEDS_ATTENTION": {"NEEDS_ATTENTION"},
}


def bits(value: Any) -> Any:
    """Return a tensor or generator state as bytes."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.detach().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, tuple):
        return tuple(bits(item) for item in value)
    return value


def surroundings() -> dict[str, Any]:
    """Return everything global that an audit may touch."""
    return {
        "torch generator": bits(torch.get_rng_state()),
        "numpy generator": bits(np.random.get_state()),
        "python generator": random.getstate(),
        "threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def belongings(model: nn.Module) -> dict[str, Any]:
    """Return everything of a module, values by their bits and objects by their identity."""
    found: dict[str, Any] = {"tree": [(name, id(child)) for name, child in model.named_modules()]}
    for name, child in model.named_modules():
        plain = set(vars(child)) - {"_parameters", "_buffers", "_modules", "training"}
        found[f"{name} training"] = child.training
        found[f"{name} hooks"] = [(key, list(vars(child)[key] or ())) for key in sorted(plain) if "hook" in key]
        found[f"{name} plain"] = {
            key: (id(vars(child)[key]), bits(copy.copy(vars(child)[key]))) for key in plain if not key.startswith("_")
        }
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    for name, tensor in tensors:
        gradient = tensor.grad
        found[name] = (id(tensor), tensor.data_ptr(), tensor.requires_grad, bits(tensor))
        found[f"{name} gradient"] = None if gradient is None else (id(gradient), bits(gradient))
    return found


def prepared(name: str) -> nn.Module:
    """Build the model with gradients, hooks and mixed train flags, whose loss would show."""
    model = ODD[name].build()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    model.register_forward_hook(lambda module, inputs, output: None)
    model.register_forward_pre_hook(lambda module, inputs: None)
    model.train()
    for child in model.children():
        child.eval()
    return model


@pytest.fixture(autouse=True)
def _seeds() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


@pytest.mark.parametrize("name", list(ODD))
def test_every_model_gets_its_verdict_and_stays_as_it_was(name: str) -> None:
    model = prepared(name)
    torch.rand(3), np.random.rand(3), random.random()  # generators somewhere in their streams
    before, around = belongings(model), surroundings()
    if name in RAISED:
        with pytest.raises(RAISED[name]) as caught:
            audit_case(ODD[name], model, **PLAN)
        assert model.__doc__ is not None
        assert model.__doc__.startswith("ERROR")
        assert str(caught.value)
    else:
        report = audit_case(ODD[name], model, **PLAN)
        expected = next(v for k, v in ALLOWED.items() if (model.__doc__ or "").startswith(k))
        assert report.verdict in expected, report
        # An exception of our own among the reasons why something was not probed.
        assert not any(text in str(report.notes) for text in ("IndexError", "KeyError", "TypeError"))
    # A dict by parts: the assertion says which one changed.
    after = belongings(model)
    for part, value in before.items():
        assert after[part] == value, part
    assert after.keys() == before.keys()
    now = surroundings()
    for part, value in around.items():
        assert now[part] == value, part


def audit(name: str, **options: Any) -> equicheck.Report:
    return audit_case(ODD[name], **(PLAN | options))


def finding(report: equicheck.Report, mode: str) -> equicheck.Finding:
    found = [finding for finding in report.findings if finding.mode == mode]
    assert found, report
    return found[0]


# Calls that go wrong.


def test_a_model_that_raises_is_an_error_that_quotes_it() -> None:
    with pytest.raises(
        equicheck.ModelError,
        match=r"^the model fails on sample 0 as it was given: ValueError: this model does not"
        " work$",
    ) as caught:
        audit("Raises")
    # The model's own exception, with the traceback that leads into it.
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.__cause__.__traceback__ is not None


BROKEN_CALLS = {
    "RaisesOnReflection": "the model raises on a transformed input: ValueError: left-handed input",
    "AlwaysNaN": "the output is not finite on an input as it was given",
    "NaNAfterRotation": "the output is not finite on a transformed input",
    "InfiniteEnergy": "the output is not finite on an input as it was given",
    "ShapeFollowsHeight": "the shape changes from [",
    "DtypeFollowsHeight": "the type changes from float32 to bfloat16",
}


@pytest.mark.parametrize("name", list(BROKEN_CALLS))
def test_a_call_that_breaks_says_how(name: str) -> None:
    report = audit(name)
    output = report.outputs["output"]
    assert output.classification == "broken"
    assert output.level == "broken"
    assert output.max_relative == float("inf")
    assert output.reason.startswith(BROKEN_CALLS[name])
    broken = finding(report, "broken-call")
    assert (broken.location, broken.severity) == ("output `output`", "High")
    assert broken.message.startswith(BROKEN_CALLS[name])
    # A figure that is not finite survives JSON.
    again = equicheck.Report.from_json(report.to_json())
    assert again.outputs["output"].max_relative == float("inf")


def test_a_reflection_that_raises_leaves_rotations_unharmed() -> None:
    rows = {row["factor"]: row for row in audit("RaisesOnReflection").outputs["output"].factors}
    assert rows["O(3), det +1"]["exceeding"] == 0
    assert rows["O(3), det -1"]["exceeding"] == rows["O(3), det -1"]["pairs"] > 0


def test_an_output_that_is_no_tensor_is_an_error() -> None:
    with pytest.raises(
        equicheck.SpecificationError,
        match=r"^`out_layouts`: output `output` has a layout but is not",
    ):
        audit("NotATensor")


def test_a_missing_output_fails() -> None:
    report = audit("ChangingKeys")
    assert report.outputs["forces"].classification == "broken"
    assert "`forces`" in finding(report, "broken-call").message


# State, side effects, randomness.


@pytest.mark.parametrize("name", ["MutatesInput", "MutatesInputAndFails"])
def test_writing_to_an_input_is_found(name: str) -> None:
    case = ODD[name]
    inputs = case.inputs(0)
    given = inputs["x"].clone()
    model = case.build()
    report = equicheck.audit(
        model,
        [inputs],
        group=case.group,
        in_layouts=case.in_layouts,
        out_layouts=case.out_layouts,
        transforms=12,
    )
    mutation = finding(report, "input-mutation")
    assert (mutation.location, mutation.severity) == ("input `x`", "Low")
    assert torch.equal(inputs["x"], given)  # the user's own tensor never reached the model
    # With inputs carried from call to call, the wrong one would be judged right or the right wrong.
    expected = "exact" if name == "MutatesInput" else "broken"
    assert report.outputs["output"].classification == expected


def test_other_models_do_not_write_to_inputs() -> None:
    assert "input-mutation" not in modes(audit("RequiresGradOnInput"))


def test_a_buffer_that_drifts_is_found() -> None:
    report = audit("StateDrift")
    assert modes(report) == {"state-drift"}
    output = report.outputs["output"]
    # Restored before each call, the model is exact: 0.1 per call would break it.
    assert output.classification == "exact"
    assert output.repeatability["seeded"] == 0
    # The fourth call against the first: (1 + 0.1 * 4) / (1 + 0.1) - 1, or less of a larger scale.
    assert 0.1 < output.repeatability["drift"] < 0.28


def test_a_counter_without_effect_is_no_finding() -> None:
    report = audit("CountsCalls")
    assert report.findings == []
    assert report.outputs["output"].repeatability["drift"] == 0


def test_noise_is_found_by_calls_without_equal_seeds() -> None:
    report = audit("NoiseInEval")
    found = finding(report, "randomness")
    assert found.severity == "Medium"
    assert "equal seeds" in found.message
    repeat = report.outputs["output"].repeatability
    assert repeat["seeded"] == 0
    assert repeat["unseeded"] > 1e-3


def test_randomness_that_equal_seeds_hide_is_no_pass() -> None:
    report = audit("RandomScale")
    output = report.outputs["output"]
    assert output.verdict == "PASS"  # between calls of equal seeds there is no error
    assert output.repeatability["unseeded"] > 1e-3
    assert report.verdict == "NEEDS_ATTENTION"
    assert modes(report) == {"randomness"}


def test_a_model_that_seeds_itself_is_deterministic() -> None:
    report = audit("SeedsGlobally")
    assert report.findings == []
    assert report.outputs["output"].repeatability["unseeded"] == 0


def test_dropout_is_off_in_each_call() -> None:
    report = audit("FlipsTraining")
    assert report.outputs["output"].classification == "exact"
    assert audit("FlipsTraining", mode="train").verdict != "PASS"


def test_outputs_are_copied_before_the_next_call() -> None:
    report = audit("ReusesOutput")
    output = report.outputs["output"]
    assert output.classification == "exact"
    # Read late, every f(x) would be the last one, equal for all samples.
    assert output.max_absolute > 0
    assert report.findings == []


# Audits that could not have failed.


VACUOUS = {
    "ConstantOutput": "does not change when the inputs that `O(3)` moves",
    "ZeroOutput": "does not change when the inputs that `O(3)` moves",
    "IgnoresPositions": "does not change when the inputs that `O(3)` moves",
    "CopiesInput": "is a bit-for-bit copy of input `x`",
}


@pytest.mark.parametrize("name", list(VACUOUS))
def test_a_vacuous_test_says_why(name: str) -> None:
    report = audit(name)
    output = report.outputs["output"]
    assert output.classification == "undetermined"
    assert output.reason.startswith("vacuous: ")
    assert VACUOUS[name] in output.reason
    assert modes(report) == {"vacuous-test"}
    assert finding(report, "vacuous-test").severity == "Medium"


def test_one_input_that_is_ignored_makes_nothing_vacuous() -> None:
    report = audit("IgnoresCharges")
    assert report.outputs["output"].classification == "exact"
    assert all(row["vacuous"] is None for row in report.outputs["output"].vacuity)


def test_a_copy_with_a_wrong_layout_fails() -> None:
    report = audit("CopyDeclaredVector")
    assert modes(report) == {"wrong-declaration"}
    found = finding(report, "wrong-declaration")
    assert "point" in found.message
    assert report.breaks == []


def test_a_constant_vector_fails_under_rotations_alone() -> None:
    rows = {row["factor"]: row["exceeding"] for row in audit("ConstantVector").outputs["output"].factors}
    assert rows["O(3)"] > 0
    assert rows["T(3)"] == rows["S(nodes)"] == 0


# Sizes.


def test_small_outputs_are_judged_by_their_size() -> None:
    output = audit("SmallAndBroken").outputs["output"]
    assert output.max_absolute < 1e-2
    assert output.violation > 0.5


def test_large_outputs_are_judged_by_their_size() -> None:
    output = audit("LargeAndRight").outputs["output"]
    assert output.max_absolute > 1e-2
    assert output.level == "perfect"


def test_an_offset_hides_nothing() -> None:
    output = audit("LargeOffset").outputs["output"]
    assert output.scale == pytest.approx(1e4, rel=0.05)
    assert output.max_absolute / output.scale < 1e-3  # what a plain relative error would show
    assert output.violation > 0.1


def test_a_bug_of_large_inputs_is_named_by_its_sample() -> None:
    output = audit("ClampsLargeInputs").outputs["output"]
    assert output.worst is not None
    assert output.worst["sample"] == 4
    assert audit("ClampsLargeInputs", samples=4).verdict == "PASS"


def test_one_bad_node_is_judged_by_itself() -> None:
    output = audit("OneBadNode").outputs["output"]
    assert output.worst is not None
    assert output.worst["block"].startswith("row ")
    # Averaged over the set it would be smaller.
    assert output.max_relative > 1.9


# Other outputs.


def test_a_half_precision_output_never_passes() -> None:
    report = audit("AlwaysHalf")
    output = report.outputs["output"]
    assert output.float64["status"] == "void"
    assert 2.0**-15 < output.float64["effective_precision"] < 2.0**-8
    assert "low-precision" in modes(report)


def test_a_double_output_of_a_single_model_is_judged_as_single() -> None:
    report = audit("AlwaysDouble")
    assert next(row for row in report.transforms if row["role"] == "output")["dtype"] == "float64"
    output = report.outputs["output"]
    assert output.classification == "exact"
    assert 1e-8 < output.max_relative < 1e-6
    assert output.level == "perfect"


NAMES = {
    "DataclassOutput": (["energy", "forces"], ["name"]),
    "NamedTupleOutput": (["energy", "forces"], []),
    "TupleOutput": (["0", "1"], []),
    "NestedOutput": (["energy", "aux.0.mean"], ["extra", "aux.1"]),
    "MixedOutput": (["forces"], ["units", "points"]),
    "PythonNumber": (["output"], []),
}


@pytest.mark.parametrize("name", list(NAMES))
def test_outputs_are_named_by_path(name: str) -> None:
    audited, left_out = NAMES[name]
    report = audit(name)
    assert list(report.outputs) == audited
    assert sorted(report.not_audited) == sorted(left_out)
    assert all(output.classification == "exact" for output in report.outputs.values())


def test_outputs_are_judged_apart() -> None:
    report = audit("NestedBroken")
    assert report.outputs["energy"].verdict == "PASS"
    assert report.outputs["energy"].classification == "exact"
    assert report.outputs["aux.0.mean"].verdict == "FAIL"
    (found,) = report.findings
    assert [effect.split(":")[0] for effect in found.effects] == ["output `aux.0.mean`"]


def test_a_backward_inside_leaves_no_gradient_where_there_was_none() -> None:
    model = ODD["BackwardInside"].build()
    audit_case(ODD["BackwardInside"], model, **PLAN)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_global_switches_are_put_back() -> None:
    class Reckless(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert torch.get_default_dtype() == torch.float32 or x.dtype == torch.float64
            assert torch.is_grad_enabled()
            torch.set_default_dtype(torch.float64)
            torch.set_grad_enabled(False)
            torch.set_num_threads(2)
            random.seed(1), np.random.seed(1), torch.manual_seed(1)
            return x * x.square().sum()

    around = surroundings()
    case = ODD["MutatesInput"]
    report = equicheck.audit(
        Reckless(), case.inputs(0), group="O(3)", in_layouts={"x": "nodes! vector"},
        out_layouts="nodes! vector", transforms=8,
    )  # fmt: skip
    assert report.verdict == "PASS"
    assert surroundings() == around


@pytest.mark.parametrize("raising", ["forward", "generator", "progress"])
def test_the_model_is_restored_when_the_audit_ends_early(raising: str) -> None:
    """An exception in the middle of the audit, from three places."""
    case = ODD["StateDrift"]
    model = case.build()
    torch.rand(3)
    before, around = belongings(model), surroundings()
    calls = {"n": 0}

    def stop(*_: Any) -> None:
        calls["n"] += 1
        if calls["n"] == 30:
            raise KeyboardInterrupt

    inputs: list[Any] | Callable[[int], Any] = [case.inputs(seed) for seed in range(3)]
    progress = None
    if raising == "forward":
        handle = model.register_forward_pre_hook(stop)
    elif raising == "progress":
        progress = stop
    else:
        calls["n"] = 28

        def generate(seed: int) -> Any:
            stop()
            return case.inputs(seed)

        inputs = generate
    before = belongings(model)
    with pytest.raises(KeyboardInterrupt):
        equicheck.audit(
            model,
            inputs,
            group=case.group,
            in_layouts=case.in_layouts,
            out_layouts=case.out_layouts,
            progress=progress,
        )
    assert belongings(model) == before
    assert surroundings() == around
    if raising == "forward":
        handle.remove()
