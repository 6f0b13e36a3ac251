"""The simulations, few audits each: healthy models are left alone, violations are found, bounds hold."""

from __future__ import annotations

import pytest

from simulations import detection, healthy, models, rare


@pytest.mark.parametrize("model", models.HEALTHY, ids=lambda model: model.name)
def test_healthy_models_raise_no_alarm(model: models.Healthy) -> None:
    counts, alarms = healthy.verdicts(model, range(5000, 5002), samples=3, transforms=8)
    assert counts["PASS"] == 2, alarms


@pytest.mark.parametrize("distance", [1.0, 2000.0])
def test_violations_far_below_single_precision_are_seen(distance: float) -> None:
    dipole = {size: detection.audited(size, distance, seed=1).outputs["dipole"] for size in (0.0, 1e-8, 1e-3, 0.1)}
    classes = {size: output.classification for size, output in dipole.items()}
    assert classes == {0.0: "exact", 1e-8: "approximate", 1e-3: "approximate", 0.1: "broken"}
    if distance > 1:
        assert dipole[0.0].scaled_max > 1e-5


def test_a_rare_violation_is_found_or_its_share_is_not_excluded() -> None:
    for share in (0.08, 0.01):
        for seed in range(6):
            report = rare.audited(share, seed, samples=5, transforms=10)
            row = report.outputs["output"].factors[0]
            assert report.verdict == "FAIL" or row["exceeding"] == 0
            assert row["share_bound"] >= share
            if report.verdict == "PASS":
                assert "of SO(3) violates, at 95 % confidence" in " ".join(str(report).split())
