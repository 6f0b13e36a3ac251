"""The networks are what they claim to be, by a measurement that uses nothing of equicheck."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from . import CASES, Bug, Case, parts
from .truth import Element, act, degree_2, draw, irreps_matrix, measure, size_of_nodes

BUGS = [pytest.param(case, bug, id=f"{case.name}-{bug.name}") for case in CASES for bug in case.bugs.values()]
# The calls of this network are slow, and each of its bugs acts on most elements.
PLANS: dict[str, dict[str, Any]] = {"irreps_network": {"samples": 3, "elements": 4}}
BY_CASE = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def test_degree_2_is_the_action_on_the_harmonics() -> None:
    random = np.random.default_rng(0)

    def harmonics(v: np.ndarray) -> np.ndarray:
        x, y, z = v
        root = 3**0.5
        return np.array(
            [
                root * x * z,
                root * x * y,
                y * y - (x * x + z * z) / 2,
                root * y * z,
                root / 2 * (z * z - x * x),
            ]
        )

    matrix = draw(random, 1, 1.0, ("rotation",)).matrix
    v = random.standard_normal(3)
    np.testing.assert_allclose(harmonics(matrix @ v), degree_2(matrix) @ harmonics(v), atol=1e-14)
    # Parity: degree 2 even ignores an inversion, degree 1 odd does not, degree 1 even does.
    assert np.allclose(irreps_matrix("1x2e", -matrix), degree_2(matrix))
    assert np.allclose(irreps_matrix("1x1o", -matrix), -matrix)
    assert np.allclose(irreps_matrix("1x1e", -matrix), matrix)


def test_index_values_follow_the_permuted_nodes() -> None:
    element = Element(np.eye(3), np.zeros(3), np.array([2, 0, 1]))
    features, edges = np.array([10.0, 11.0, 12.0]), np.array([[0, 2], [1, 0]])
    moved = act(features, "nodes", element)[act(edges, "2 edges : nodes", element)]
    assert (moved == features[edges]).all()


@BY_CASE
def test_build_is_deterministic_and_leaves_the_generator_alone(case: Case) -> None:
    state = torch.get_rng_state()
    first, second = case.build(), case.build()
    assert torch.equal(state, torch.get_rng_state())
    assert not first.training
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
        assert not a.is_floating_point() or a.dtype == torch.float32
    for name, value in case.inputs(3).items():
        assert torch.equal(value, case.inputs(3)[name])


@BY_CASE
def test_healthy_network_is_exact(case: Case) -> None:
    double = measure(case.build().double(), case)
    assert max(double.values()) < case.floor, double
    # A network at rounding level in f32 as well: its f32 audit is to pass.
    single = measure(case.build(), case, dtype=torch.float32)
    assert max(single.values()) < 1e-5, single


@pytest.mark.parametrize("case", [case for case in CASES if case.factory], ids=lambda c: c.name)
def test_floor_above_rounding_comes_from_constants_in_f32(case: Case) -> None:
    assert case.factory is not None
    assert max(measure(case.factory(torch.float64), case).values()) < 1e-12
    # The factory makes the same network: only constants differ.
    narrow = dict(case.build().named_parameters())
    for name, parameter in case.factory(torch.float64).named_parameters():
        assert torch.equal(parameter.float(), narrow[name]), name


@BY_CASE
def test_every_part_of_the_group_moves_the_inputs(case: Case) -> None:
    random = np.random.default_rng(1)
    for part in parts(case.group):
        sample = {name: value.numpy() for name, value in case.inputs(1).items()}
        nodes = size_of_nodes(case.inputs(1), case.in_layouts)
        element = draw(random, nodes, 1.0, (part,))
        assert any(
            not np.allclose(act(value, case.in_layouts[name], element), value) for name, value in sample.items()
        ), part


@pytest.mark.parametrize(("case", "bug"), BUGS)
def test_error_of_a_bug_follows_its_severity(case: Case, bug: Bug) -> None:
    bug.build(0.3).get_submodule(bug.module)
    large, middle, small = (
        measure(bug.build(severity).double(), case, **PLANS.get(case.name, {}))[bug.output]
        for severity in (0.3, 1e-3, 1e-6)
    )
    assert large > 1e-2
    assert 1e-5 < middle < 1e-2
    assert small > 1e-8
    # Small errors are in proportion.
    assert 0.5 < middle / small / 1e3 < 2


@pytest.mark.parametrize(("case", "bug"), BUGS)
def test_bug_breaks_the_factors_that_it_names_and_no_other(case: Case, bug: Bug) -> None:
    model = bug.build(0.3).double()
    for part in parts(case.group):
        error = measure(model, case, drawn=(part,), **PLANS.get(case.name, {}))[bug.output]
        if part in bug.factors:
            assert error > 1e-2, part
        else:
            assert error < case.floor, part


def test_forces_need_gradients_to_be_enabled() -> None:
    case = next(case for case in CASES if case.name == "force_field")
    model = case.build()
    with torch.no_grad():
        with pytest.raises(RuntimeError):
            model(**case.inputs(0))
        with torch.enable_grad():
            forces = model(**case.inputs(0))["forces"]
    assert forces.isfinite().all()
