"""escnn for groups of the plane, without lie_learn, which it imports for SO(3) alone (see tools/overrides.txt)."""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def _unavailable(*_: Any, **__: Any) -> Any:
    raise ImportError("SO(3) in escnn needs lie_learn, which is not installed")


if find_spec("lie_learn") is None:
    for _name in ("lie_learn", "lie_learn.representations", "lie_learn.representations.SO3"):
        sys.modules[_name] = ModuleType(_name)
    _wigner: Any = ModuleType("lie_learn.representations.SO3.wigner_d")
    _wigner.wigner_D_matrix = _unavailable
    sys.modules[_wigner.__name__] = _wigner

with warnings.catch_warnings():
    # On py3nj, for SO(3), and on backslashes in strings.
    warnings.simplefilter("ignore")
    from escnn import gspaces
    from escnn import nn as enn

__all__ = ["enn", "gspaces"]
