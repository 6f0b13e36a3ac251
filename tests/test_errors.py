"""Malformed groups, layouts and shapes, as a Python caller meets them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import equicheck
from audits import SPACE, clouds, pull

CALLS = []


def never(*_: Any, **__: Any) -> torch.Tensor:
    """Fail the test if the model is called: what is malformed is known before."""
    CALLS.append(1)
    raise AssertionError("the model was called")


def error(**options: Any) -> str:
    CALLS.clear()
    with pytest.raises(equicheck.SpecificationError) as caught:
        equicheck.audit(never, **({"inputs": clouds(1)} | SPACE | options))
    assert not CALLS
    return str(caught.value)


# The text is shown with the wrong word marked under it.
MARKED = {
    "unknown group": ({"group": "SO(3) x Q(4)"}, "group", "SO(3) x Q(4)", "Q"),
    "group without a dimension": ({"group": "SO"}, "group", "SO", "SO"),
    "word of a layout": (
        {"in_layouts": "nodes pont"},
        "layout of input `input`",
        "nodes pont",
        "pont",
    ),
    "irrep": (
        {"out_layouts": {"y": "nodes 2x1x"}},
        "layout of output `y`",
        "nodes 2x1x",
        "x",  # where a parity belongs
    ),
    "values of no axis": (
        {"in_layouts": "nodes point : edges"},
        "layout of input `input`",
        "nodes point : edges",
        "edges",
    ),
}


@pytest.mark.parametrize("case", list(MARKED))
def test_the_wrong_word_is_marked(case: str) -> None:
    options, subject, text, word = MARKED[case]
    lines = error(**options).splitlines()
    assert lines[0].startswith(f"{subject}: ")
    assert lines[1] == f"    {text}"
    assert re.fullmatch(r" *\^+", lines[2])
    assert lines[1][lines[2].index("^") : len(lines[2])] == word


def test_a_slip_gets_the_nearest_word() -> None:
    assert "`point`" in error(in_layouts="nodes pont")
    assert "`vector`" in error(out_layouts="nodes vectr")


def test_permutations_name_their_axis() -> None:
    message = error(group="E(3) x S(4)")
    assert "S(4)" in message
    assert "axis" in message


SHAPES = {
    "too few axes": ({"in_layouts": "nodes channel point"}, r"input `input`.*\[5, 3\]"),
    "wrong size": ({"in_layouts": "nodes 4"}, r"input `input`.*\[5, 3\]"),
    "vector of size 4": (
        {"inputs": torch.zeros(5, 4)},
        r"input `input`: layout `nodes point` does not fit shape \[5, 4\]",
    ),
    "irreps of another dimension": (
        {"group": "O(3)", "in_layouts": "nodes! 2x1o", "out_layouts": ""},
        r"input `input`.*\[5, 3\]",
    ),
    "axis that no input has": (
        {"group": "E(3) x S(atoms)", "in_layouts": "nodes! point", "out_layouts": ""},
        r"the group permutes `atoms`, but no input's layout has an axis `atoms`",
    ),
    "integers as points": (
        {"inputs": torch.zeros(5, 3, dtype=torch.int64)},
        r"int64 values cannot be turned",
    ),
    "floats as positions": (
        {
            "inputs": (torch.zeros(5, 3), torch.zeros(2, 4)),
            "in_layouts": ("nodes point", "2 edges : nodes"),
        },
        r"values are positions, and float32 values are no integers",
    ),
}


@pytest.mark.parametrize("case", list(SHAPES))
def test_tensors_that_do_not_fit(case: str) -> None:
    options, pattern = SHAPES[case]
    assert re.search(pattern, error(**options))


def test_an_axis_of_two_lengths() -> None:
    with pytest.raises(equicheck.SpecificationError, match="`nodes` has length 5 in input `0` and 4 in input `1`"):
        equicheck.audit(
            lambda x, h: pull(x),
            (torch.zeros(5, 3), torch.zeros(4)),
            **(SPACE | {"in_layouts": ("nodes point", "nodes")}),
        )


def test_a_factor_that_moves_nothing() -> None:
    with pytest.raises(equicheck.SpecificationError) as caught:
        equicheck.audit(lambda x: pull(x), clouds(1), **(SPACE | {"in_layouts": "nodes vector"}))
    message = str(caught.value)
    assert message.startswith("factor `T(3)` of the group moves no input")
    assert "`point`" in message
    assert "`O(3) x S(nodes)`" in message  # the group that would fit


OUTPUTS = {
    "too few axes": ("nodes channel vector", r"output `output`.*\[5, 3\]"),
    "wrong size": ("nodes 2x1o", r"output `output`.*\[5, 3\]"),
    "another number of nodes": ("vector nodes", r"output `output`"),
}


@pytest.mark.parametrize("case", list(OUTPUTS))
def test_outputs_that_do_not_fit(case: str) -> None:
    layout, pattern = OUTPUTS[case]
    with pytest.raises(equicheck.SpecificationError, match=pattern):
        equicheck.audit(lambda x: pull(x), clouds(1), **(SPACE | {"out_layouts": layout}))


@pytest.mark.parametrize("group", [3, None, ["E(3)"]])
def test_a_group_is_text(group: Any) -> None:
    with pytest.raises((TypeError, equicheck.SpecificationError), match=r"str|text|string"):
        equicheck.audit(never, clouds(1), **(SPACE | {"group": group}))


def test_plain_axes_of_the_size_of_space_are_remarked_on() -> None:
    report = equicheck.audit(
        lambda x, v: pull(x),
        (clouds(1)[0], torch.ones(5, 3)),
        group="E(3) x S(nodes)",
        in_layouts=("nodes point", "nodes 3"),
        out_layouts="nodes vector",
        transforms=8,
    )
    assert "input `1`: `3` is plain: did you mean `vector`?" in report.notes
    assert "did you mean `vector`?" in str(report)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"inputs": None}, "a list of samples, or a function seed -> sample, not None"),
        ({"inputs": 3}, "not 3"),
        ({"inputs": (cloud for cloud in clouds(2))}, "a generator can be read once"),
        ({"inputs": torch.utils.data.DataLoader(clouds(2))}, "a DataLoader can be read once"),
        ({"segments": "batch"}, '`segments`: expected a dict from permuted axis to input, such as {"nodes": "batch"}'),
        ({"segments": {"nodes": 3}}, "not {'nodes': 3}"),
        ({"progress": 3}, "`progress`: expected a function"),
    ],
)
def test_arguments_of_another_kind_say_what_is_expected(options: dict[str, Any], said: str) -> None:
    assert said in error(**options)
