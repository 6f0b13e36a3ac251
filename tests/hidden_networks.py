"""Networks in plain PyTorch whose hidden tensors nobody describes: healthy ones, and those with a planted bug."""

from __future__ import annotations

from hidden import ENTRIES as HEALTHY
from hidden import Entry
from hidden.planted import BUGS, FAMILIES, LAYERS, Planted, network

__all__ = ["BUGS", "FAMILIES", "HEALTHY", "LAYERS", "Entry", "Planted", "network"]
