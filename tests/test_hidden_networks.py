"""The networks that declare nothing are what they say, by an action of our own; no engine takes part."""

from __future__ import annotations

import pytest
import torch

from hidden import truth
from hidden.case import generator
from hidden_networks import BUGS, FAMILIES, HEALTHY, LAYERS, network

pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_network_is_equivariant_to_rounding(name: str) -> None:
    entry = HEALTHY[name]
    assert truth.error(entry, entry.build(0), elements=2) < entry.tolerance


@pytest.mark.parametrize("name", HEALTHY)
def test_inputs_and_outputs_move_as_they_are_declared(name: str) -> None:
    """Or equivariance would be no news: what transforms changes, and outputs depend on what moves."""
    entry = HEALTHY[name]
    inputs, random, model = entry.inputs(0), generator(1), entry.build(0)
    elements = [truth.draw(entry, inputs, random) for _ in range(4)]
    moved = [{key: truth.act(entry.in_layouts[key], x, g, inputs) for key, x in inputs.items()} for g in elements]
    assert any(not torch.equal(x, inputs[key]) for other in moved for key, x in other.items())
    outputs = truth.outputs(entry.out_layouts, model(**inputs))
    others = truth.outputs(entry.out_layouts, model(**entry.inputs(3)))  # as many nodes, other values
    for key, (layout, y) in outputs.items():
        assert y.isfinite().all()
        assert y.shape != others[key][1].shape or not torch.allclose(y, others[key][1])
        # A larger group has larger words: what is moved at all is moved by one of four elements.
        changes = max((truth.act(layout, y, g, inputs) - y).abs().max().item() for g in elements)
        assert changes == 0 or changes > 1e-6, (key, changes)


def test_the_catalogue_is_wide() -> None:
    assert len(HEALTHY) >= 40
    assert {entry.kind for entry in HEALTHY.values()} == {"point-cloud", "graph", "set", "image", "Lorentz"}
    for entry in HEALTHY.values():
        # torch alone, from which no layout can be read.
        assert {type(module).__module__.split(".")[0] for module in entry.build(0).modules()} <= {"torch", "hidden"}


FAMILY = pytest.mark.parametrize("family", FAMILIES)


@FAMILY
def test_a_family_is_healthy_unless_a_bug_is_planted(family: str) -> None:
    entry = FAMILIES[family].entry
    assert truth.error(entry, network(family).model, elements=2) < entry.tolerance
    # What stands in place of a healthy module is wrong by nothing but the bug.
    for bug in BUGS[family]:
        model = network(family, bug, strength=0).model
        assert truth.error(entry, model, samples=1, elements=1) < entry.tolerance


@FAMILY
def test_a_bug_breaks_a_family_wherever_it_is_planted_and_in_proportion(family: str) -> None:
    entry = FAMILIES[family].entry

    def error(bug: str, at: int, strength: float) -> float:
        return truth.error(entry, network(family, bug, at, strength).model, samples=1, elements=1)

    for number, bug in enumerate(BUGS[family]):
        at = (0, LAYERS - 1)[number % 2]
        assert error(bug, at, 1) > 1e-6, (bug, at)
        assert 5 < error(bug, 3, 1e-3) / error(bug, 3, 1e-4) < 20, bug


@FAMILY
def test_what_is_to_be_blamed_is_a_module_of_the_family(family: str) -> None:
    assert network(family).expected is None
    for bug in (BUGS[family][0], BUGS[family][-2], "container"):
        model, _, expected = network(family, bug, 5)
        (paths, kind) = expected
        assert kind == ("functional" if bug == "container" else "module")
        for path in paths:
            module = model.get_submodule(path)
            assert path.startswith("layers.5")
            # One cannot say of what no module inside a module sees whether it is its code or a child.
            assert not list(module.children()) or kind == "functional"
    with pytest.raises(ValueError, match="from 0 to 7"):
        network(family, "container", 8)
    with pytest.raises(ValueError, match="no bug"):
        network(family, "gravity")
