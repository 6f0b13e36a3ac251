"""Does a model respect the symmetry that it claims: ``f(T x) = T' f(x)`` for every ``T`` in a group?

>>> report = equicheck.audit(model, {"h": h, "x": x}, group="E(3) x S(nodes)",
...                          in_layouts={"h": "nodes features", "x": "nodes point"},
...                          out_layouts={"energy": "", "forces": "nodes vector"})
>>> print(report)
"""

from __future__ import annotations

from ._ase import audit_calculator
from ._audit import audit, merge
from ._custom import CustomAction
from ._equicheck import (
    Break,
    Comparison,
    Element,
    EquicheckError,
    EquicheckWarning,
    Finding,
    ModelError,
    OutputReport,
    Report,
    SpecificationError,
    __version__,
    compare,
)
from ._trees import Args
from ._words import describe

__all__ = [
    "Args",
    "Break",
    "Comparison",
    "CustomAction",
    "Element",
    "EquicheckError",
    "EquicheckWarning",
    "Finding",
    "ModelError",
    "OutputReport",
    "Report",
    "SpecificationError",
    "__version__",
    "audit",
    "audit_calculator",
    "compare",
    "describe",
    "merge",
]
