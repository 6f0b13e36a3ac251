"""NequIP: ``irreps_in`` and ``irreps_out`` by key of the dict that its modules pass on (read from nequip 0.19.1).

No test installs it: compared by hand with what ``AtomwiseLinear`` of that version does.
"""

from __future__ import annotations

from typing import Any

from ._reading import Layouts, collected, irreps, parameters

#: Positions are said to be 1o; under translations they are points.
_POSITIONS = "pos"


def layouts(module: Any) -> Layouts | None:
    """The layouts of a ``GraphModuleMixin``, and of other modules by e3nn's names."""
    before, after = getattr(module, "irreps_in", None), getattr(module, "irreps_out", None)
    names = parameters(module)
    if not isinstance(before, dict) or not isinstance(after, dict) or not names:
        return None
    return collected(
        {f"{names[0]}.{key}": irreps(value) for key, value in before.items() if key != _POSITIONS},
        {key: irreps(value) for key, value in after.items() if key != _POSITIONS},
    )
