"""Small networks with one planted bug each, whose truth is known, and healthy networks; see ``zoo.case``."""

from __future__ import annotations

from . import (
    clouds,
    graphs,
    held_clouds,
    held_graphs,
    held_images,
    held_irreps,
    held_sequences,
    images,
    irreps,
    lorentz,
    molecules,
    sequences,
    sets,
)
from .case import HEALTHY, MODES, SPECIMENS, Specimen

__all__ = [
    "HEALTHY",
    "MODES",
    "SPECIMENS",
    "Specimen",
    "clouds",
    "graphs",
    "held_clouds",
    "held_graphs",
    "held_images",
    "held_irreps",
    "held_sequences",
    "images",
    "irreps",
    "lorentz",
    "molecules",
    "sequences",
    "sets",
]
