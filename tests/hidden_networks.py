"""Networks in plain PyTorch whose hidden tensors nobody describes: healthy ones, and those with a planted bug."""

from __future__ import annotations

from hidden import ENTRIES as HEALTHY
from hidden import Entry

__all__ = ["HEALTHY", "Entry"]
