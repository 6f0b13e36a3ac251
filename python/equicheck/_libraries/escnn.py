"""escnn: ``in_type`` and ``out_type`` of its equivariant modules (read from escnn-atompaint 1.1.0).

Arguments and results are ``GeometricTensor``, whose values are its attribute ``tensor``.
"""

from __future__ import annotations

from typing import Any

from .. import _words
from .._equicheck import SpecificationError
from ._reading import Layouts, collected, parameters


def layouts(module: Any) -> Layouts | None:
    """The layouts of an ``EquivariantModule``."""
    before, after = getattr(module, "in_type", None), getattr(module, "out_type", None)
    names = parameters(module)
    inputs = {f"{names[0]}.tensor": _layout(before)} if names else {}
    # A module that restricts the group has an output of another group, by words that mean something else.
    same = getattr(before, "gspace", None) == getattr(after, "gspace", None)
    return collected(inputs, {"tensor": _layout(after) if before is None or same else None})


def _layout(field_type: Any) -> str | None:
    try:
        return _words.layout_text(field_type)
    except SpecificationError:  # a continuous group, or a representation without a word
        return None
