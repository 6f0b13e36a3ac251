"""The networks of tests/networks: healthy ones pass as exact, planted bugs never pass."""

from __future__ import annotations

from typing import Any

import pytest

from audits import audit_case
from networks import CASES, Bug, Case

BY_CASE = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
BY_BUG = pytest.mark.parametrize(
    ("case", "bug"),
    [pytest.param(case, bug, id=f"{case.name}-{bug.name}") for case in CASES for bug in case.bugs.values()],
)
SEVERITIES = (1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
# One call of this network takes 5 ms, and each of the copies that probes of rounding need 200.
SLOW = "irreps_network"
# Shows under one rotation in twelve: more elements are needed to see it under rotations alone.
RARE: dict[str, dict[str, Any]] = {"special_direction": {"samples": 3, "transforms": 120}}


@BY_CASE
def test_a_healthy_network_passes_as_exact(case: Case) -> None:
    report = audit_case(case, samples=6, transforms=12)
    assert report.verdict == "PASS", report
    for output in report.outputs.values():
        # "consistent" would mean that the comparison in double precision did not take place.
        assert output.classification == "exact"
        assert output.float64["status"] == "available"
        assert output.level in ("perfect", "excellent")
        assert all(row["exceeding"] == 0 and row["pairs"] > 0 for row in output.factors)
    assert report.findings == []


@pytest.mark.parametrize("case", [case for case in CASES if case.factory], ids=lambda case: case.name)
def test_a_factory_removes_the_floor_of_rounded_constants(case: Case) -> None:
    for output in audit_case(case, factory=case.factory, transforms=6).outputs.values():
        assert output.classification == "exact"
        assert output.float64["constants"] == 0
        assert output.violation < 1e-13


@BY_BUG
def test_a_bug_is_judged_by_its_measured_size(case: Case, bug: Bug) -> None:
    for severity in SEVERITIES:
        plan: dict[str, Any] = {"samples": 2, "transforms": 6}
        if case.name == SLOW:
            plan["samples"] = 1
            # No double precision is needed to see what is far above rounding.
            plan["precision"] = "as_is" if severity >= 1e-3 else "both"
        report = audit_case(case, bug.build(severity), **plan)
        output = report.outputs[bug.output]
        assert report.verdict != "PASS", severity
        assert output.verdict != "PASS", severity
        # The boundary: broken from 1e-2 up, whatever the severity is called.
        expected = "FAIL" if output.violation >= 1e-2 else "NEEDS_ATTENTION"
        assert output.verdict == expected, (severity, output.violation)
        assert (output.classification == "broken") == (expected == "FAIL")
    # The last severity, 1e-6: small in every output, so that the whole report needs attention.
    assert report.verdict == "NEEDS_ATTENTION"


@BY_BUG
def test_a_large_bug_fails_under_its_factors_alone(case: Case, bug: Bug) -> None:
    report = audit_case(case, bug.build(0.3), **RARE.get(bug.name, {"transforms": 18}))
    assert report.verdict == "FAIL"
    output = report.outputs[bug.output]
    assert output.verdict == "FAIL"
    assert output.classification == "broken"
    exceeding = {row["factor"]: row["exceeding"] for row in output.factors}
    assert exceeding["joint"] > 0
    if case.group == "S(nodes)":  # one factor: nothing acts alone
        assert set(exceeding) == {"joint"}
        return
    turned = "rotation" in bug.factors
    reflected = turned or "inversion" in bug.factors
    broken = {
        "O(3)": reflected,
        "O(3), det +1": turned,
        "O(3), det -1": reflected,
        "T(3)": "translation" in bug.factors,
        "S(nodes)": "permutation" in bug.factors,
    }
    del exceeding["joint"]
    assert {factor: count > 0 for factor, count in exceeding.items()} == broken
