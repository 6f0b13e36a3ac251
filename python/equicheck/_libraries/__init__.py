"""What equivariant libraries say themselves about the tensors that their modules take and return.

One file per library; none is imported before the library is. What a library says is a claim, not a fact: a module
may be wrong about itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ._reading import Layouts

#: Root package of a class -> the file here that reads it.
_READERS = {
    "e3nn": "e3nn",
    "cuequivariance": "cuequivariance",
    "cuequivariance_torch": "cuequivariance",
    "escnn": "escnn",
    "nequip": "nequip",
    "mace": "mace",
    "lgatr": "lgatr",
}


def layouts(module: Any) -> Layouts | None:
    """The layouts of what a module takes and returns, as far as its library tells.

    Args:
        module: an ``nn.Module``; of a library's class, of a subclass, or with a library's irreps as attributes.

    Returns:
        ``{"in": {PARAMETER: LAYOUT}, "out": {PATH: LAYOUT}}``, or None if nothing is known. PARAMETER is the name of
        an argument of ``forward``, and where that is a dict ``NAME.KEY``. PATH is ``""`` for one tensor, ``"0"``,
        ``"1"`` and so on for tuples, the key for dicts. A leading ``...`` stands for axes of which nothing is said,
        nodes and edges among them. A tensor is missing where the library says nothing of it, or what the layout
        language cannot.
    """
    names = [
        name
        for base in type(module).__mro__
        if (root := base.__module__.partition(".")[0]) in sys.modules and (name := _READERS.get(root))
    ]
    # Users' own modules carry e3nn's irreps as attributes.
    if "e3nn" in sys.modules:
        names.append("e3nn")
    for name in dict.fromkeys(names):
        read: Callable[[Any], Layouts | None] = import_module(f"{__name__}.{name}").layouts
        found = read(module)
        if found is not None:
            return found if found["in"] or found["out"] else None
    return None
