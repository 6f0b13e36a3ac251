"""The stress stage: inputs at the edge, derived from the samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import equicheck
from audits import SPACE, Pull, audit_case, clouds, modes
from networks import CASES, Case, batches, edge_cases

ENERGY: dict[str, Any] = {"group": "E(3) x S(nodes)", "in_layouts": "nodes point", "out_layouts": ""}


def stressed(model: nn.Module, inputs: Any = None, **options: Any) -> equicheck.Report:
    given = clouds(3, nodes=6) if inputs is None else inputs
    return equicheck.audit(model, given, **(ENERGY | {"transforms": 8, "stress": True} | options))


def rows(report: equicheck.Report) -> dict[str, dict[str, Any]]:
    return {row["kind"]: row for row in report.stress["rows"]}


def outcomes(report: equicheck.Report) -> dict[str, str]:
    return {kind: row["outcome"] for kind, row in rows(report).items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_healthy_networks_hold_under_stress(case: Case) -> None:
    report = audit_case(case, samples=3, transforms=6, stress=True, cutoff=1.5)
    assert report.verdict == "PASS", report
    assert report.findings == []
    found = outcomes(report)
    assert set(found.values()) <= {"holds", "not_judged"}, report
    for kind, row in rows(report).items():
        if row["outcome"] == "not_judged":
            assert (case.name, kind) in {
                # Nothing is left for permutations to do, ...
                ("deepsets", "one_node"),
                ("set_attention", "one_node"),
                # ... and directions of zero length are no numbers.
                ("force_field", "coincident"),
            }, row
        elif kind != "across_cutoff":
            assert row["max_relative_f64"] is not None, row
            assert row["elements"] > 0


@pytest.mark.parametrize("case", batches.HEALTHY.values(), ids=lambda case: case.name)
def test_healthy_networks_on_batches_hold_under_stress(case: Case) -> None:
    report = audit_case(case, samples=2, transforms=6, stress=True, **batches.options(case))
    assert report.verdict == "PASS", report
    assert report.findings == []
    assert set(outcomes(report).values()) <= {"holds", "not_judged", "not_applicable"}, report


def only_finding(report: equicheck.Report) -> equicheck.Finding:
    # Stress inputs change no verdict.
    assert report.verdict == "PASS", report
    [finding] = report.findings
    assert finding.severity == "Low"
    return finding


def test_a_frame_without_a_third_direction_is_a_chart_singularity() -> None:
    report = stressed(edge_cases.Frame(), group="SE(3)", out_layouts="vector")
    found = outcomes(report)
    for kind in ("collinear", "along_y", "along_z"):
        assert found[kind] == "violated", report
    assert found["planar"] == found["far_from_origin"] == "holds"
    assert found["coincident"] == found["one_node"] == "not_judged"
    finding = only_finding(report)
    assert finding.mode == "chart-singularity"
    assert "collinear, along the y axis, along the last axis" in finding.message
    assert rows(report)["collinear"]["max_relative_f64"] > 1e-2


def test_a_stand_in_for_the_direction_of_zero_is_a_chart_singularity() -> None:
    layouts = {"group": "O(3) x S(nodes)", "in_layouts": "nodes vector", "out_layouts": "nodes vector"}
    report = stressed(edge_cases.UnitOrUp(), **layouts)
    assert outcomes(report)["zero_vectors"] == "violated"
    assert only_finding(report).mode == "chart-singularity"


def test_a_hard_cutoff_is_a_discontinuity() -> None:
    report = stressed(edge_cases.HardCutoff(), cutoff=edge_cases.CUTOFF)
    found = rows(report)
    assert found["across_cutoff"]["outcome"] == "discontinuous"
    assert found["across_cutoff"]["max_relative"] > 1e-2
    assert found["below_cutoff"]["outcome"] == found["above_cutoff"]["outcome"] == "holds"
    # Exactly there each rounding chooses a side.
    assert found["at_cutoff"]["outcome"] == "discontinuous"
    assert only_finding(report).mode == "discontinuity"


@pytest.mark.parametrize("precision", ["both", "as_is", "float64"])
def test_an_envelope_is_continuous(precision: str) -> None:
    report = stressed(edge_cases.SoftCutoff(), cutoff=edge_cases.CUTOFF, precision=precision)
    assert outcomes(report)["across_cutoff"] == "holds"
    assert report.findings == []


def test_the_cutoff_must_be_given() -> None:
    row = rows(stressed(edge_cases.HardCutoff()))["at_cutoff"]
    assert row["outcome"] == "not_applicable"
    assert row["reason"].endswith("give `cutoff=`")
    with pytest.raises(equicheck.SpecificationError, match="`cutoff`: it is for the stress stage"):
        stressed(edge_cases.HardCutoff(), cutoff=2.0, stress=False)
    with pytest.raises(equicheck.SpecificationError, match="`cutoff`: a positive, finite distance"):
        stressed(edge_cases.HardCutoff(), cutoff=-1.0)


def test_distances_that_cancel_amplify_rounding_and_differences_do_not() -> None:
    report = stressed(edge_cases.GramDistances())
    row = rows(report)["far_from_origin"]
    assert row["outcome"] == "amplified", report
    assert row["max_relative"] > 1e-3 > 1e-6 > row["max_relative_f64"]
    assert only_finding(report).mode == "rounding-amplification"
    healthy = stressed(edge_cases.Differences())
    assert outcomes(healthy)["far_from_origin"] == "holds"
    assert healthy.findings == []


def test_what_the_inputs_lose_themselves_is_not_the_models_fault() -> None:
    class Sharp(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            difference = x[None] - x[:, None]
            return (torch.sin(20 * difference.norm(dim=-1, keepdim=True)) * difference).sum(1)

    report = stressed(Sharp(), **SPACE)
    far = rows(report)["far_from_origin"]
    assert far["outcome"] == "holds"
    assert far["max_relative"] > 1e-4
    assert "the inputs' own rounding" in far["reason"]
    assert report.findings == []


def test_a_branch_for_two_nodes_is_a_size_dependence() -> None:
    report = stressed(edge_cases.PairBranch())
    assert outcomes(report)["two_nodes"] == "violated"
    assert only_finding(report).mode == "size-dependence"


def test_raising_under_the_group_alone_is_found_and_raising_anyway_is_not_judged() -> None:
    report = stressed(edge_cases.RaisesOffAxis())
    found = rows(report)
    assert found["along_z"]["outcome"] == "raises"
    assert "a linear molecule must lie along z" in found["along_z"]["reason"]
    assert found["collinear"]["outcome"] == "not_judged"
    assert found["collinear"]["reason"].startswith("the model raises on this input as it is: ValueError")
    assert only_finding(report).mode == "chart-singularity"


def test_what_is_no_number_anyway_is_not_judged() -> None:
    report = stressed(edge_cases.UnitVectors(), out_layouts="nodes vector")
    row = rows(report)["coincident"]
    assert (row["outcome"], row["reason"]) == ("not_judged", "the model gives NaN on this input as it is")
    assert report.findings == []


def test_a_model_that_is_wrong_anyway_gets_no_second_finding() -> None:
    class Wrong(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0].square().sum()

    report = stressed(Wrong())
    assert "violated" in outcomes(report).values()
    assert not modes(report) & {"chart-singularity", "size-dependence", "discontinuity"}


def test_unless_asked_for_the_stage_does_not_run() -> None:
    report = stressed(Pull(), stress=False, **SPACE)
    assert report.stress == {"status": "not_run", "reason": "stress=True runs it"}
    assert "STRESS INPUTS:\n--------------\n- Inputs: not run (stress=True runs it)" in report.to_text()


def test_a_custom_action_has_nothing_to_derive_from() -> None:
    action = equicheck.CustomAction(
        sample=lambda: torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0],
        input=lambda x, T: x @ T.T.to(x),
        output=lambda y, T: y @ T.T.to(y),
    )
    report = equicheck.audit(Pull(), clouds(2), group=action, transforms=6, stress=True)
    assert report.stress["status"] == "not_run"
    assert "custom action" in report.stress["reason"]
    assert report.composition["status"] == "not_run"


def test_equal_seeds_give_equal_rows_and_files_keep_them() -> None:
    first, second = (stressed(Pull(), **SPACE) for _ in range(2))
    assert first.to_json() == second.to_json()
    again = equicheck.Report.from_json(first.to_json())
    assert again.stress == first.stress
    assert again.to_text() == equicheck.Report.from_json(second.to_json()).to_text()


def test_the_stage_leaves_the_other_figures_as_they_are() -> None:
    plain = stressed(Pull(), stress=False, **SPACE).outputs["output"]
    beside = stressed(Pull(), **SPACE).outputs["output"]
    assert plain.relative == beside.relative
    assert (plain.noise, plain.scale, plain.float64) == (beside.noise, beside.scale, beside.float64)


def test_a_spent_budget_ends_the_stage() -> None:
    report = stressed(Pull(), budget=1e-6, **SPACE)
    assert set(outcomes(report).values()) == {"not_judged"}
    assert rows(report)["collinear"]["reason"] == "the time budget left no time for it: raise `budget`"


@pytest.mark.parametrize(
    ("offset", "precision", "outcome"),
    [(0.0, "as_is", "discontinuous"), (3000.0, "both", "discontinuous"), (3000.0, "as_is", "not_judged")],
)
def test_continuity_at_the_cutoff_is_claimed_only_where_it_was_crossed(
    offset: float, precision: Any, outcome: str
) -> None:
    def hard(x: torch.Tensor) -> torch.Tensor:
        distance = (x[None] - x[:, None]).norm(dim=-1)
        return torch.where(distance < 5, torch.exp(-distance / 5), 0 * distance).sum()

    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)) + offset
    options: dict[str, Any] = {"group": "SO(3)", "in_layouts": "nodes! point", "out_layouts": "", "transforms": 8}
    report = equicheck.audit(hard, x, **options, precision=precision, stress=True, cutoff=5.0)
    (row,) = (row for row in report.stress["rows"] if row["kind"] == "across_cutoff")
    assert row["outcome"] == outcome, row
