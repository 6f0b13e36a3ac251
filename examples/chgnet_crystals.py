"""Crystals for the CHGNet audits: real structures, built from published lattice constants, rattled.

A perfect crystal is a poor test input: its own symmetry forces forces, parts of the stress and
differences between magnetic moments to zero, so that a wrong answer can hide behind them.
Each structure is therefore displaced by a stated amount, generic and reproducible.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

DISPLACEMENT = 0.1
"""Standard deviation of the Gaussian displacement of every Cartesian coordinate, in angstrom."""

STRAIN = 0.02
"""Standard deviation of every entry of the strain (not only the symmetric part) of the cell."""


def perfect_crystals() -> dict[str, Atoms]:
    """The structures before rattling, by name; 4 to 10 atoms, lengths in angstrom."""
    return {
        # Layered oxide, R-3m, rhombohedral primitive cell: 4 atoms.
        "LiCoO2": crystal(
            ["Li", "Co", "O"],
            [(0, 0, 0.5), (0, 0, 0), (0, 0, 0.2398)],
            spacegroup=166,
            cellpar=[2.816, 2.816, 14.054, 90, 90, 120],
            primitive_cell=True,
        ),
        # Rutile-type pyrolusite, P4_2/mnm, a magnetic oxide: 6 atoms.
        "MnO2": crystal(
            ["Mn", "O"],
            [(0, 0, 0), (0.3046, 0.3046, 0)],
            spacegroup=136,
            cellpar=[4.398, 4.398, 2.873, 90, 90, 90],
        ),
        # Rock salt, Fm-3m, conventional cell, no d electrons: 8 atoms.
        "NaCl": bulk("NaCl", "rocksalt", a=5.64, cubic=True),
        # Haematite, R-3c, rhombohedral primitive cell, a magnetic oxide: 10 atoms.
        "Fe2O3": crystal(
            ["Fe", "O"],
            [(0, 0, 0.3553), (0.3059, 0, 0.25)],
            spacegroup=167,
            cellpar=[5.038, 5.038, 13.772, 90, 90, 120],
            primitive_cell=True,
        ),
    }


def rattled_crystals(seed: int = 0) -> dict[str, Atoms]:
    """The structures with cell and positions displaced by `STRAIN` and `DISPLACEMENT`, by name."""
    generator = np.random.default_rng(seed)
    rattled = {}
    for name, perfect in perfect_crystals().items():
        strain = np.eye(3) + STRAIN * generator.standard_normal((3, 3))
        positions = perfect.positions @ strain
        positions += DISPLACEMENT * generator.standard_normal(positions.shape)
        # Only species, positions and cell: nothing that `ase.spacegroup` attaches is kept.
        rattled[name] = Atoms(numbers=perfect.numbers, positions=positions, cell=perfect.cell.array @ strain, pbc=True)
    return rattled
