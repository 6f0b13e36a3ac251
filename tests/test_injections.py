"""Random faults break what they are put into, stay where they are, and are scored by what is said of them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import injections
from hidden import truth
from hidden_networks import HEALTHY
from injections import Fault, Injection, inject, injection

pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.mark.parametrize("number", range(8))
def test_a_fault_breaks_its_network_by_its_module_alone(number: int) -> None:
    made = injection(number)
    assert truth.error(made.entry, made.model, elements=2) > 10 * made.entry.tolerance
    assert made.path in made.accepted
    # The same number, the same fault; its class and place are those of the healthy network.
    assert str(injection(number)) == str(made)
    healthy = made.entry.build(0)
    assert {p: type(m) for p, m in made.model.named_modules()} == {p: type(m) for p, m in healthy.named_modules()}
    assert [p for p, m in made.model.named_modules() if "forward" in vars(m)] == [made.path]
    del made.model.get_submodule(made.path).forward
    assert truth.error(made.entry, made.model, elements=2) < made.entry.tolerance


@pytest.mark.parametrize("kind", injections.FAULTS)
def test_copies_in_double_precision_have_the_fault_too(kind: str) -> None:
    fault = Fault(kind, 1.0, 1.0, -1, 5)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4)).float()
    inject(model[0], 0, fault)
    copy = deepcopy(model).double()
    x = torch.randn(2, 3)
    wrong = copy(x)
    # It is bound to the copy, whose weights are other ones than the original's.
    with torch.no_grad():
        copy[0].weight.zero_()
        copy[0].bias.zero_()
        expected = copy[1](fault(torch.zeros(2, 4)))
    assert torch.equal(copy(x), expected)
    assert not torch.equal(wrong, expected)
    assert model(x.float()).dtype == torch.float32
    torch.testing.assert_close(model(x.float()).double(), wrong, rtol=1e-5, atol=1e-5)


def test_faults_depend_on_shapes_alone() -> None:
    for kind in injections.FAULTS:
        fault = Fault(kind, 0.1, 1.0, -1, 3)
        one, other = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
        # An affine function of the values, entry by entry.
        middle = fault((one + other) / 2)
        torch.testing.assert_close(middle, (fault(one) + fault(other)) / 2)
        assert not torch.equal(fault(one), one)
        assert torch.equal(fault(one), fault(one))


def test_a_fault_in_what_nobody_sees_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def error(*arguments: Any, **_: Any) -> float:
        drawn.append(arguments)
        return 1.0 if len(drawn) == 3 else 0.0

    monkeypatch.setattr(truth, "error", error)
    assert injection(0).drawn >= 3
    assert len(drawn) == 3


class Pair(NamedTuple):
    one: torch.Tensor
    two: torch.Tensor


def test_trees_of_tensors_are_changed_in_one_place() -> None:
    class Tree(nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return {"a": [x, Pair(x + 1, torch.arange(3))], "b": x + 2}

    tree = Tree()
    inject(tree, 1, lambda y: y * 0)
    x = torch.ones(3)
    found = tree(x)
    assert found["a"][0] is x
    assert isinstance(found["a"][1], Pair)
    assert [t.sum().item() for t in injections.tensors(found)] == [3, 0, 9]


def test_networks_are_chosen_by_name_or_kind() -> None:
    assert {injection(number, pattern="Lorentz").entry.kind for number in range(4)} == {"Lorentz"}
    assert injection(0, pattern="tensor_field").entry is HEALTHY["tensor_field"]


def report(*found: tuple[str, str, tuple[str, str] | None]) -> Any:
    breaks = [SimpleNamespace(location=where, kind=kind, between=between) for where, kind, between in found]
    return SimpleNamespace(first_break=breaks[0] if breaks else None, breaks=breaks)


START, END = "the start of its forward", "the end of its forward"


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ([], "none"),
        ([("1", "module", None)], "right"),
        ([("1", "module", None), ("1", "module", None)], "right"),
        ([("1", "module", None), ("2", "module", None)], "and more"),
        ([("2", "module", None), ("1", "module", None)], "wrong"),
        ([("1", "functional", ("1.0", END))], "neighbour"),  # a leaf has no code between calls
        ([("(root)", "functional", ("0", "1"))], "neighbour"),
        ([("(root)", "bracket", ("0", "2"))], "bracket"),
        ([("(root)", "bracket", (START, "1"))], "bracket"),
        ([("(root)", "bracket", (START, "0"))], "wrong"),
        ([("(root)", "bracket", ("1", END))], "wrong"),
        ([("2", "bracket", (START, END))], "wrong"),
    ],
)
def test_a_score_says_what_was_found(found: Any, word: str) -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    entry = replace(HEALTHY["deepsets"], inputs=lambda _: {"input": torch.ones(4)})
    fault = Fault("noise", 1.0, 1.0, -1, 0)
    made = Injection(0, entry, model, "1", fault, frozenset({"1"}), inside=False, drawn=1)
    assert injections.outcome(report(*found), made) == word
    assert f"{word:>10}" in injections.table([(made, word)])
