"""Networks of our own with known symmetry, each with planted bugs of adjustable size.

``CASES`` is the registry. ``precision`` holds networks at the edge of rounding, ``odd`` models that
misbehave, ``truth`` an independent measurement of all of them.
"""

from __future__ import annotations

from . import deepsets, egnn, force_field, irreps_network, set_attention
from .case import Bug, Case, parts

CASES: list[Case] = [
    *egnn.CASES,
    *deepsets.CASES,
    *set_attention.CASES,
    *irreps_network.CASES,
    *force_field.CASES,
]

__all__ = ["CASES", "Bug", "Case", "parts"]
