"""What the readers share: names of arguments, and irreps in words."""

from __future__ import annotations

import inspect
from typing import Any

from .. import _words

Layouts = dict[str, dict[str, str]]

#: A tensor that the group does not move.
INVARIANT = "... channel"


def parameters(module: Any) -> list[str]:
    """The names of the arguments of ``forward`` that can be given by position, in order."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, parameter in signature.parameters.items() if parameter.kind in kinds]


def is_irreps(value: Any, library: str) -> bool:
    """Whether this is ``Irreps`` of that library's: e3nn's and cuEquivariance's do not say the same of a tensor."""
    return type(value).__name__ == "Irreps" and type(value).__module__.partition(".")[0] == library


def irreps(value: Any, library: str = "e3nn", axes: str = "... {}") -> str | None:
    """``... 16x0e+4x1o`` for irreps on the last axis; None where there are none, or no word for them.

    Args:
        value: ``Irreps`` of the library; anything else gives None.
        library: whose.
        axes: what the irreps stand in, such as ``... ir_mul({})``.
    """
    if not is_irreps(value, library):
        return None
    text = _words.layout_text(value) or ""
    # A part of no copies says nothing, and a tensor of no components is none.
    parts = [part for part in text.replace(" ", "").split("+") if part and not part.startswith("0x")]
    # cuEquivariance's irreps of SO(3) and SU(2) have no parity: a word would claim one.
    if not parts or not all(part.endswith(("e", "o")) for part in parts):
        return None
    return axes.format("+".join(parts))


def collected(inputs: dict[str, str | None], outputs: dict[str, str | None]) -> Layouts | None:
    """The answer without the tensors that nothing is known about; None if nothing is known at all."""
    found = {
        "in": {name: layout for name, layout in inputs.items() if layout is not None},
        "out": {path: layout for path, layout in outputs.items() if layout is not None},
    }
    return found if found["in"] or found["out"] else None
