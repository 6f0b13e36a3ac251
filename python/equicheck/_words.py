"""What users have at hand, in the words of the layout and group languages."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from . import _equicheck, _representations
from ._equicheck import Element, SpecificationError

_IRREP = re.compile(r"irrep_(\d+)(?:,(\d+))?")
#: escnn's name of a quotient by the turns C_m in C_n, by a subgroup of D_n.
_QUOTIENT = re.compile(r"quotient\[(?:(\d+)|\((None|\d+), ?(\d+)\))\]")
_AXES = {0: "", 2: " height width", 3: " depth height width"}


def describe(
    group: Any,
    layout: Any,
    shape: Sequence[int],
    *,
    domain: Literal["periodic", "open"] | None = None,
    representations: Mapping[str, Callable[[Element], Any]] | None = None,
) -> str:
    """Says in words how a tensor is transformed, as the table at the top of a report does.

    >>> equicheck.describe("E(3) x S(nodes)", "nodes point", (5, 3))
    'axis 0 permuted with `nodes`; axis 1 turned and translated as a point (g v + t)'

    Args:
        group: such as ``"E(3) x S(nodes)"``.
        layout: one word per axis, such as ``"nodes point"``, or whatever ``audit`` takes as a layout.
        shape: the tensor's.
        domain: what lies beyond the edge of a grid; as in ``audit``.
        representations: functions for ``@name`` in the layout; as in ``audit``.

    Raises:
        SpecificationError: the group or layout is wrong, or the layout does not fit the shape.
    """
    text = layout_text(layout)
    if text is None:
        raise SpecificationError(f"layout: expected a string, not {type(layout).__name__}")
    functions = _representations.functions(representations)
    return _equicheck.describe(group_text(group), text, tuple(shape), domain, functions)


def layout_text(layout: Any) -> str | None:
    """A layout as text: a string, e3nn's ``Irreps``, escnn's ``FieldType``; None for anything else."""
    if isinstance(layout, str):
        return layout
    if type(layout).__name__ in {"Irreps", "Irrep"}:
        return str(layout)
    if hasattr(layout, "representations") and hasattr(layout, "gspace"):
        return _field_type(layout)
    return None


def _field_type(field_type: Any) -> str:
    """``batch 4*regular+2*irrep(1) height width`` for a field type on the plane."""
    dimension = getattr(field_type.gspace, "dimensionality", 2)
    if dimension not in _AXES:
        raise SpecificationError(f"field type: fields on a space of dimension {dimension} have no layout")
    group = getattr(field_type.gspace, "fibergroup", None)
    if getattr(group, "continuous", False):
        raise SpecificationError(
            f"field type: `{group}` is continuous, and field types of finite groups alone are read: write the layout"
        )
    runs: list[tuple[str, int]] = []
    for representation in field_type.representations:
        word = _representation(str(representation.name))
        if runs and runs[-1][0] == word:
            runs[-1] = (word, runs[-1][1] + 1)
        else:
            runs.append((word, 1))
    if not runs:
        raise SpecificationError("field type: it holds no representation")
    channels = "+".join(word if count == 1 else f"{count}*{word}" for word, count in runs)
    return f"batch {channels}{_AXES[dimension]}"


def _representation(name: str) -> str:
    """The word for a representation by its name in escnn."""
    if name in ("regular", "trivial"):
        return name
    if irrep := _IRREP.fullmatch(name):
        numbers = [int(number) for number in irrep.groups() if number is not None]
        return f"irrep({','.join(map(str, numbers))})" if any(numbers) else "trivial"
    if quotient := _QUOTIENT.fullmatch(name):
        cyclic, axis, turns = quotient.groups()
        if axis in (None, "None"):
            return f"quotient(C{cyclic or turns})"
        return f"quotient(D{turns})" if axis == "0" else f"quotient(D{turns},{axis})"
    raise SpecificationError(
        f"field type: the representation `{name}` has no word in the layout language (regular, irreps and quotients "
        "of Cn and Dn have): audit under its parts, or write the layout"
    )


def group_text(group: Any) -> Any:
    """A list of generator matrices as ``generated(...)``; anything else as it is."""
    if isinstance(group, str):
        return group
    if not isinstance(group, (list, tuple)):
        raise SpecificationError(
            f"group: expected a string such as 'E(3) x S(nodes)', a list of matrices or a CustomAction, not "
            f"{type(group).__name__}"
        )
    if not group:
        raise SpecificationError("group: the list of generators is empty")
    return f"generated({', '.join(_matrix(k, matrix) for k, matrix in enumerate(group))})"


def _matrix(k: int, value: Any) -> str:
    if isinstance(value, str):
        raise SpecificationError("group: a list holds matrices; a group in words is one string: 'E(3) x S(nodes)'")
    expected = f"group: generator {k}: expected a square matrix of finite numbers"
    try:
        value = value.detach().cpu() if hasattr(value, "detach") else value
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise SpecificationError(expected) from None
    if matrix.ndim == 1 and matrix.size:
        raise SpecificationError(
            f'{expected}, not a list of numbers: permutations name their axis, as in "generated(nodes: [1, 0, 2])"'
        )
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not all(map(math.isfinite, matrix.flat)):
        raise SpecificationError(f"{expected}, not of shape {matrix.shape}")
    rows = (f"[{', '.join(repr(float(entry)) for entry in row)}]" for row in matrix)
    return f"[{', '.join(rows)}]"


def with_up_to(declared: list[tuple[str, str | None]], up_to: Mapping[str, str] | None) -> list[tuple[str, str | None]]:
    """Layouts of outputs with ``~ sign`` after those that are defined up to it."""
    up_to = {} if up_to is None else up_to
    if not isinstance(up_to, Mapping):
        raise SpecificationError('`up_to`: expected a dict such as {"output": "sign"}')
    names = [name for name, layout in declared if layout is not None]
    for name in up_to:
        if name not in names:
            raise SpecificationError(f"`up_to`: no output `{name}` has a layout; outputs: {', '.join(names)}")
    result: list[tuple[str, str | None]] = []
    for name, layout in declared:
        if layout is not None and name in up_to:
            if "~" in layout:
                raise SpecificationError(f"`up_to`: the layout of output `{name}` says it already: `{layout}`")
            layout = f"{layout} ~ {up_to[name]}".strip()
        result.append((name, layout))
    return result
