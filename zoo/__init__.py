"""Small networks with one planted bug each, whose truth is known, and healthy networks; see ``zoo.case``."""

from __future__ import annotations

from . import (
    clouds,
    extra_fields,
    extra_points,
    graphs,
    images,
    irreps,
    later_fields,
    later_graphs,
    later_points,
    lorentz,
    molecules,
    more_clouds,
    more_graphs,
    more_images,
    more_irreps,
    more_sequences,
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
    "extra_fields",
    "extra_points",
    "graphs",
    "images",
    "irreps",
    "later_fields",
    "later_graphs",
    "later_points",
    "lorentz",
    "molecules",
    "more_clouds",
    "more_graphs",
    "more_images",
    "more_irreps",
    "more_sequences",
    "sequences",
    "sets",
]
