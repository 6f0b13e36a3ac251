"""Models that draw random numbers inside: equal seeds, transformed draws, laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import equicheck
from audits import audit_case, clouds, modes
from networks.denoising import CASE, step
from networks.truth import measure

TRANSFORM: dict[str, Any] = {"randomness": "transform", "noise_layouts": "nodes vector", "transforms": 6}
LAW: dict[str, Any] = {"randomness": "distribution", "transforms": 4}
NODES: dict[str, Any] = {"group": "S(nodes)", "in_layouts": "nodes channel", "out_layouts": "nodes channel"}


class Dropped(nn.Module):
    """A network on each node, with dropout."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.SiLU(), nn.Dropout(p), nn.Linear(16, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def audit(model: Any, *, samples: int = 2, **options: Any) -> equicheck.Report:
    return equicheck.audit(model, clouds(samples), **{"transforms": 6, **NODES, **options})


def refused(model: Any, **options: Any) -> str:
    with pytest.raises(equicheck.SpecificationError) as error:
        audit(model, **options)
    return str(error.value)


# ----------------------------------------------------------------------------------------------------------------------
# The denoising step is what it claims to be, by a measurement that uses nothing of equicheck.


def test_the_mean_of_the_step_is_equivariant() -> None:
    mean = {"mean": CASE.out_layouts["mean"]}
    case = type(CASE)(CASE.name, CASE.build, CASE.inputs, CASE.group, CASE.in_layouts, mean)
    assert measure(step().double(), case, samples=2, elements=3)["mean"] < 1e-12


@pytest.mark.parametrize(("drift", "stretch"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.5)])
def test_the_noise_of_the_step_has_the_stated_law(drift: float, stretch: float) -> None:
    x = CASE.inputs(0)
    noise = []
    model = step(sigma=1.0, drift=drift, stretch=stretch)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model.network.requires_grad_(False)
        for _ in range(2000):
            out = model(**x)
            noise.append((out["x"] - out["mean"]).numpy())
    values = np.array(noise)
    nodes = values.shape[1]
    np.testing.assert_allclose(values.mean(0), np.tile([0, 0, drift], (nodes, 1)), atol=0.12)
    # Without its centre, noise of variance 1 has variance 1 - 1 / nodes.
    expected = (1 - 1 / nodes) * np.array([1, 1, (1 + stretch) ** 2])
    np.testing.assert_allclose(values.var(0).mean(0), expected, rtol=0.08)


# ----------------------------------------------------------------------------------------------------------------------
# fixed


def test_equal_seeds_do_not_judge_a_step_and_say_what_does() -> None:
    report = audit_case(CASE, transforms=4, precision="as_is")
    assert report.verdict == "NEEDS_ATTENTION"
    assert report.outputs["mean"].verdict == "PASS"
    assert report.outputs["x"].classification == "undetermined"
    assert 'randomness="transform"' in report.outputs["x"].reason
    (finding,) = report.findings
    assert finding.mode == "randomness"
    assert 'randomness="transform"' in finding.fix
    assert 'randomness="distribution"' in finding.fix


# ----------------------------------------------------------------------------------------------------------------------
# transform


def test_transformed_draws_make_a_healthy_step_exact() -> None:
    report = audit_case(CASE, **TRANSFORM)
    assert report.verdict == "PASS", report
    for output in report.outputs.values():
        assert output.classification == "exact"
        assert output.float64["status"] == "available"
        assert output.violation < 1e-13
    assert report.findings == []
    (row,) = [row for row in report.transforms if row["role"] == "noise"]
    assert (row["name"], row["layout"], row["shape"], row["dtype"]) == (
        "draw 0 (normal)",
        "nodes vector",
        [5, 3],
        "float32",
    )
    assert report.plan["randomness"] == "transform"


@pytest.mark.parametrize("bug", CASE.bugs.values(), ids=lambda bug: bug.name)
def test_transformed_draws_show_a_lab_frame_by_its_size(bug: Any) -> None:
    report = audit_case(CASE, bug.build(0.3), **TRANSFORM)
    assert report.outputs["x"].verdict == "FAIL"
    assert report.outputs["mean"].classification == "exact"
    exceeding = {row["factor"]: row["exceeding"] > 0 for row in report.outputs["x"].factors}
    assert (exceeding["O(3)"], exceeding["T(3)"], exceeding["S(nodes)"]) == (True, False, False)
    # Far below what any law would show.
    assert audit_case(CASE, bug.build(1e-5), **TRANSFORM).outputs["x"].classification == "approximate"


def test_means_and_deviations_are_no_part_of_what_is_transformed() -> None:
    def scaled(x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(0)
        size = centred.square().sum(-1, keepdim=True)
        return centred + torch.normal(0.2 * centred, 0.1 * size)

    def shifted(x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0) + torch.empty_like(x).normal_(0.3, 0.5)

    options: dict[str, Any] = {
        "group": "E(3) x S(nodes)",
        "in_layouts": "nodes point",
        "out_layouts": "nodes vector",
        "randomness": "transform",
        "noise_layouts": "nodes vector",
    }
    assert audit(scaled, **options).outputs["output"].classification == "exact"
    # A mean of 0.3 in each component is a direction of the lab.
    assert audit(shifted, **options).verdict == "FAIL"


def test_a_dropout_mask_moves_with_its_nodes() -> None:
    torch.manual_seed(0)
    model = Dropped()
    options = {"mode": "train", "randomness": "transform"}
    report = audit(model, noise_layouts="nodes channel", **options)
    assert report.verdict == "PASS", report
    assert report.outputs["output"].classification == "exact"
    assert report.findings == []
    # Left as it is, it belongs to positions: the model has no part in that.
    assert audit(model, noise_layouts=[None], **options).verdict == "FAIL"
    assert model.training


def draws(operation: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: x.exp() + operation(x)


GENERATOR = torch.Generator()


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: torch.rand(x.shape),
        lambda x: torch.rand_like(x),
        lambda x: torch.empty_like(x).uniform_(-1, 1),
        lambda x: torch.randn(x.shape, generator=GENERATOR),
        lambda x: torch.randn(x.shape, dtype=torch.float32) * x,
        lambda x: torch.bernoulli(x.sigmoid()),
        lambda x: torch.randint(0, 9, x.shape).to(x.dtype),
        lambda x: torch.empty_like(x).exponential_(),
        lambda x: torch.poisson(x.abs()),
        lambda x: torch.distributions.Normal(x, x.exp()).rsample(),
        lambda x: torch.nn.functional.dropout(x, 0.3),
        lambda x: torch.normal(x, 1.0),
    ],
)
def test_every_kind_of_draw_moves(operation: Callable[[torch.Tensor], torch.Tensor]) -> None:
    report = audit(draws(operation), randomness="transform", noise_layouts="nodes channel")
    # A draw that was asked for in single precision is no loss of the model's.
    assert report.verdict == "PASS", report
    assert report.outputs["output"].classification == "exact"


def test_draws_that_differ_are_said_in_words() -> None:
    def rejecting(x: torch.Tensor) -> torch.Tensor:
        return x + (torch.randn_like(x) if x[0, 0] > 0.8 else torch.rand_like(x) + torch.rand_like(x))

    report = audit(rejecting, randomness="transform", noise_layouts="nodes channel", samples=1)
    assert report.verdict == "FAIL"
    assert "the random draws on the transformed input are others" in report.outputs["output"].reason
    assert "distribution" in report.outputs["output"].reason


def test_what_does_not_fit_is_refused_with_the_list_of_draws() -> None:
    model = Dropped().train()
    options = {"mode": "train", "randomness": "transform"}
    for layouts in (None, [], ["nodes channel"] * 2, "nodes channel channel", "channel nodes"):
        message = refused(model, noise_layouts=layouts, **options)
        assert message.startswith("`noise_layouts`: "), message
        assert "0: bernoulli [5, 16]" in message
    assert "did you mean `channel`" in refused(model, noise_layouts=["nodes chanel"], **options)
    assert "entry 1 is a int" in refused(model, noise_layouts=[None, 3], **options)
    assert 'mode="eval" turns dropout off' in refused(model, noise_layouts="nodes channel", randomness="transform")


def test_a_layout_must_leave_the_law_of_the_draw_as_it_is() -> None:
    space = {"group": "E(3) x S(nodes)", "in_layouts": "nodes point", "out_layouts": "nodes point"}
    noisy = draws(torch.randn_like)
    message = refused(noisy, randomness="transform", noise_layouts="nodes point", **space)
    assert "no orthogonal action" in message
    # The components of a mask are no vector.
    message = refused(draws(torch.rand_like), randomness="transform", noise_layouts="nodes vector", **space)
    assert "changes the law of draws that are not Gaussian" in message


def test_options_that_do_not_go_together() -> None:
    assert "none of" in refused(Dropped(), randomness="transfrom")
    assert 'randomness="transform"' in refused(Dropped(), noise_layouts="nodes channel")
    custom = equicheck.CustomAction(lambda rng: rng.permutation(5), input=lambda x, p: x[p], output=lambda y, p: y[p])
    with pytest.raises(equicheck.SpecificationError, match="custom action has none"):
        equicheck.audit(Dropped(), clouds(1), group=custom, randomness="transform")


def test_draws_of_plain_functions_are_not_recorded() -> None:
    generator = np.random.default_rng(0)

    def noisy(x: np.ndarray) -> np.ndarray:
        return x + generator.standard_normal(x.shape)

    samples = [cloud.numpy() for cloud in clouds(1)]
    with pytest.raises(equicheck.SpecificationError, match="not available: random draws are recorded in torch"):
        equicheck.audit(noisy, samples, randomness="transform", noise_layouts="nodes channel", **NODES)


def test_draws_of_numpy_inside_a_torch_model_are_left_to_equal_seeds() -> None:
    def noisy(x: torch.Tensor) -> torch.Tensor:
        return x.exp() + torch.randn_like(x) * np.random.rand()

    report = audit(noisy, randomness="transform", noise_layouts="nodes channel")
    assert report.outputs["output"].verdict != "FAIL"
    (finding,) = report.findings
    assert finding.mode == "randomness"
    assert "not recorded" in finding.message


@pytest.mark.parametrize("size", [0.3, 1e-3])
def test_numbers_of_a_generator_that_nobody_seeds_are_no_rounding(size: float) -> None:
    generator = np.random.default_rng(0)

    def noisy(x: torch.Tensor) -> torch.Tensor:
        return x + size * torch.from_numpy(generator.standard_normal(x.shape)).to(x)

    report = audit(noisy)
    assert report.verdict == "NEEDS_ATTENTION"
    # Equal calls explain what moves by a unit in the last place seem to do.
    assert [finding.mode for finding in report.findings] == ["nondeterminism"]
    assert "with the same input and equal seeds differ" in report.findings[0].message


# ----------------------------------------------------------------------------------------------------------------------
# distribution


def test_laws_of_a_healthy_step_agree() -> None:
    report = audit_case(CASE, **LAW)
    assert report.verdict == "PASS", report
    output = report.outputs["x"]
    assert output.classification == "consistent"
    assert output.violation == 0
    law = output.distribution
    assert law is not None
    assert law["draws"] >= 50
    assert law["detectable"] < 1
    assert {test["statistic"] for test in law["tests"]} == {"values", "second_moments"}
    assert {test["factor"] for test in law["tests"]} == {"joint", "O(3)", "T(3)", "S(nodes)"}
    # What does not vary is compared call by call.
    assert report.outputs["mean"].classification == "exact"
    assert report.outputs["mean"].distribution is None
    assert report.findings == []
    assert equicheck.Report.from_json(report.to_json()).to_text() is not None


@pytest.mark.parametrize(("bias", "shown"), [("drift", "the mean over draws moves"), ("stretch", "the spread")])
def test_laws_show_a_lab_frame(bias: str, shown: str) -> None:
    report = audit_case(CASE, step(**{bias: 0.6}), **LAW)
    output = report.outputs["x"]
    assert output.verdict == "FAIL", report
    assert shown in output.reason
    assert modes(report) == {"random-law"}
    (finding,) = report.findings
    assert any(line.startswith("differs under") and "O(3)" in line for line in finding.evidence)
    assert any(line.startswith("no difference") and "S(nodes)" in line for line in finding.evidence)


def test_laws_of_dropout_agree_and_an_uneven_one_does_not() -> None:
    torch.manual_seed(1)

    class Uneven(Dropped):
        """The first node is spared: its position matters."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            spared = self.layers[3](self.layers[1](self.layers[0](x[:1])))
            return torch.cat([spared, super().forward(x[1:])])

    options: dict[str, Any] = {"mode": "train", "randomness": "distribution"}
    assert audit(Dropped(), **options).verdict == "PASS"
    assert audit(Uneven(), **options).verdict == "FAIL"


def test_a_model_without_randomness_is_compared_call_by_call() -> None:
    report = audit(Dropped(), randomness="distribution")
    assert report.verdict == "PASS"
    assert report.outputs["output"].classification == "exact"
    assert any("no output varies" in note for note in report.notes)


def test_a_custom_action_compares_laws_too() -> None:
    custom = equicheck.CustomAction(lambda rng: rng.permutation(5), input=lambda x, p: x[p], output=lambda y, p: y[p])
    model = Dropped()
    options: dict[str, Any] = {"mode": "train", "randomness": "distribution", "transforms": 4}
    report = equicheck.audit(model, clouds(1), group=custom, **options)
    assert report.outputs["output"].classification == "consistent", report


def test_random_failures_and_shapes_are_failures_in_words() -> None:
    def failing(x: torch.Tensor) -> torch.Tensor:
        if torch.rand(()) < 0.1:
            raise ValueError("unlucky")
        return x + torch.randn_like(x)

    with torch.random.fork_rng(devices=[]):
        report = audit(failing, randomness="distribution")
    assert report.verdict == "FAIL"
    assert "unlucky" in report.outputs["output"].reason

    def infinite(x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x) / (torch.rand(()) > 0.1)

    assert "not finite" in audit(infinite, randomness="distribution").outputs["output"].reason


def test_an_output_up_to_its_sign_has_no_law_here() -> None:
    message = refused(draws(torch.randn_like), randomness="distribution", out_layouts="nodes channel ~ sign")
    assert "projector" in message


@pytest.mark.parametrize(
    ("layout", "group", "clause"),
    [
        ("quaternion", "SO(3)", "up to `sign`"),
        ("vector ~ sign", "SO(3)", "up to `sign`"),
        ("point mod cell", "SE(3)", "modulo a lattice"),
        ("fractional(cell)", "SE(3)", "modulo a lattice"),
    ],
)
def test_laws_of_values_modulo_something_are_refused(layout: str, group: str, clause: str) -> None:
    def model(x: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        y = x.mean(0)
        y = torch.cat([y, y.norm()[None]]) if layout == "quaternion" else y
        return y + 0.1 * torch.randn_like(y)

    inputs = {"x": torch.randn(4, 3), "cell": 5 * torch.eye(3)}
    layouts = {"x": "nodes! point", "cell": "3 vector"}
    with pytest.raises(equicheck.SpecificationError, match=f"is compared {clause}"):
        equicheck.audit(model, inputs, group=group, in_layouts=layouts, out_layouts=layout, randomness="distribution")


def test_one_random_output_that_fails_does_not_fail_the_others() -> None:
    def model(x: torch.Tensor) -> dict[str, torch.Tensor]:
        noise = torch.randn_like(x)
        bad = (x + noise).sum(0) * (torch.nan if x[0, 0] > 0 and noise[0, 0] > 0 else 1.0)
        return {"good": (x - x.mean(0)) + noise, "bad": bad}

    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    x[0] = torch.tensor([-2.0, 0.1, 0.2])
    report = equicheck.audit(
        model,
        x,
        group="SO(3)",
        in_layouts="nodes! vector",
        out_layouts={"good": "nodes! vector", "bad": "vector"},
        randomness="distribution",
    )
    assert report.outputs["bad"].verdict == "FAIL"
    assert report.outputs["good"].verdict == "NEEDS_ATTENTION"
    assert "ended early" in report.outputs["good"].reason
    assert not any("time budget" in note for note in report.notes)


@pytest.mark.parametrize("own", [True, False])
def test_noise_that_the_model_seeds_itself_is_not_random(own: bool) -> None:
    """The same vectors in each call, in the frame of the laboratory: replaying them transformed would hide that."""

    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            generator = torch.Generator().manual_seed(0) if own else None
            return x + torch.randn(x.shape, dtype=x.dtype, generator=generator)

    model = Noisy()
    options = {"group": "O(3) x S(nodes)", "in_layouts": "nodes vector", "out_layouts": "nodes vector"}
    if own:
        assert "seeds its generator itself" in refused(model, **options, **TRANSFORM)
        assert audit(model, **options).verdict == "FAIL"
    else:
        assert audit(model, **options, **TRANSFORM).verdict == "PASS"
