"""Networks in plain PyTorch that declare nothing about their hidden tensors."""

from __future__ import annotations

from . import clouds, frames, graphs, images, lorentz, sets, tensors, unusual
from .case import ENTRIES, Entry, Inputs

__all__ = [
    "ENTRIES",
    "Entry",
    "Inputs",
    "clouds",
    "frames",
    "graphs",
    "images",
    "lorentz",
    "sets",
    "tensors",
    "unusual",
]
