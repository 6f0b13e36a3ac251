"""What is said of planted bugs: the mode of the first finding, where, and what it rests on.

One specimen of the zoo for each kind of evidence; ``python -m zoo.score`` tries all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import equicheck

sys.path.insert(0, str(Path(__file__).parents[1]))

from zoo import SPECIMENS


def audited(name: str) -> equicheck.Report:
    specimen = SPECIMENS[name]
    return equicheck.audit(
        specimen.build(),
        specimen.samples(),
        factory=specimen.build,
        samples=3,
        transforms=8,
        **specimen.declaration(),
    )


#: By specimen: words that the first finding's evidence must hold.
EVIDENCE = {
    "egnn_tanh_step": "and not linearly",
    "vector_neurons_batchnorm": "operation: native_batch_norm",
    "vector_neurons_cross": "operation: linalg_cross",
    "vector_neurons_running_centre": "in train mode",
    "egnn_neighbour_cap": "rows with 4 entries",
    "torus_zero_padding": "towards the border alone",
    "dilated_decimation": "holds under 2T(1)",
    "torus_aligned_corners": "operation: upsample_bilinear2d",
    "set_sinusoidal_offset": "the same place of its input alone",
    "right_angle_odd_size": "of 3 pairs violate",
    "painn_field": "holds under SO(2) @ (0,0,1)",
    "poses_gimbal_lock": "operation: atan2",
    "schnet_half_precision_offsets": "that it feels",
    "graph_laplacian_eigenvectors": "operation: _linalg_eigh",
    "crystal_voigt_order": "xy",
    "right_angle_stride": "of 3 pairs violate",
    "u_net_reflects": "along the border of the grid",
    "pointnet_plus_first_point": "lost at: down.0.sample",
    "pointnet_plus_ball_query": "zero in one order",
    "odd_signal_relu": "and not linearly",
    "particles_expanded_squares": "as far from the origin",
}


@pytest.mark.parametrize("name", EVIDENCE)
def test_bugs_are_named_on_evidence(name: str) -> None:
    specimen = SPECIMENS[name]
    report = audited(name)
    first = report.findings[0]
    assert first.mode == specimen.mode, report
    assert first.location in {specimen.location, *specimen.also_right}
    assert any(EVIDENCE[name] in line for line in first.evidence), first.evidence
    assert first.fix
    assert first.verify
    assert first.fix in report.recommendations
    assert first.effects


@pytest.mark.parametrize(
    ("name", "tensor", "declaration"),
    [
        ("egnn_points_as_vectors", "x", "nodes point"),
        ("lorentz_lower_index", "p", "particles covector"),
        ("crystal_cell_not_turned", "cell", "3 vector"),
        ("complex_conjugate_output", "signal", "time channel charge^-1"),
        ("pooled_graphs_edges_not_renumbered", "edges", "2 edges : nodes"),
        ("mirror_cnn_inverse_flow", "flow", "`@flow` of the inverse"),
    ],
)
def test_where_another_declaration_passes_no_layer_is_blamed(name: str, tensor: str, declaration: str) -> None:
    report = audited(name)
    (finding,) = report.findings
    assert finding.mode == SPECIMENS[name].mode
    assert f"`{tensor}`" in finding.message
    assert declaration in finding.message
    assert report.breaks == []
    (found,) = report.inquiries["alternatives"]
    assert (found["name"], found["holds_as"]) == (tensor, declaration)
    assert found["after"] < 1e-9 < found["before"]


def test_what_passes_because_nothing_is_tested_any_more_is_no_declaration() -> None:
    """A dipole of charges that do not add up to zero: were positions displacements, nothing would move."""
    report = audited("schnet_charged_dipole")
    assert [finding.mode for finding in report.findings] == ["translation-leak"]


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("tensors_by_hand_harmonics_exchanged", "3, 1, 2, 0, 4 in `t`"),
        ("rigid_bodies_scalar_last", "1, 2, 3, 0 in `q`"),
    ],
)
def test_an_order_of_components_that_no_convention_has_is_found(name: str, order: str) -> None:
    first = audited(name).findings[0]
    assert (first.mode, first.location) == ("component-order", SPECIMENS[name].location)
    assert order in first.message


@pytest.mark.heavy
def test_a_backward_that_is_not_linear_is_a_wrong_one() -> None:
    report = audited("particles_clipped_gradient")
    assert {finding.mode for finding in report.findings} == {"wrong-backward"}
    assert "not linear" in report.findings[0].message


def test_one_cause_is_one_finding() -> None:
    """Numbers of nodes shift with what else is in a batch: that is an effect."""
    (finding,) = audited("graph_index_embedding").findings
    assert finding.mode == "positional-encoding"
    places = {"output `nodes`", "output `graphs`", "layers.1.structure.embedding"}
    assert {effect.split(":")[0] for effect in finding.effects} == places
    assert any("batch-cross-talk" in effect for effect in finding.effects)


def test_questions_are_asked_only_of_what_breaks() -> None:
    report = audited("egnn")
    assert report.findings == []
    assert report.inquiries["tried"] == 0
    assert "diagnosis" not in report.plan["calls_by_purpose"]


def test_they_cost_no_more_calls_than_the_pairs() -> None:
    for name in ("tensor_field_coupling_sign", "egnn_box_cutoff"):
        report = audited(name)
        assert 0 < report.plan["calls_by_purpose"]["diagnosis"] <= report.plan["pairs"]
