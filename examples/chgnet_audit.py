"""Audits of CHGNet (PyPI `chgnet`, pretrained weights 0.3.0) as an ASE calculator.

    equicheck run examples/chgnet_audit.py:audit

Outputs: `energy` (eV, whole cell), `energies` (eV, one per atom), `forces` (eV/angstrom), `stress`
(eV/angstrom^3, 3 x 3), `magmoms` (Bohr magnetons; magnitudes, hence scalars). CHGNet computes in
float32 whatever its parameters are: its graph converter casts fractional coordinates and lattice.
Neighbours within 6 angstrom (3 for bond angles), both with smooth cutoffs.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import numpy as np
import torch
from chgnet.model.dynamics import CHGNetCalculator

import equicheck
from chgnet_crystals import rattled_crystals

PROPERTIES = ["energy", "energies", "forces", "stress", "magmoms"]
TRANSFORMS = 20
"""Group elements per crystal; a call takes about 0.1 s on one thread."""


class PositiveVolumeCalculator(CHGNetCalculator):  # type: ignore[misc]
    """CHGNet with its stress divided by the volume of the cell, not by the cell's determinant.

    The determinant is negative when the three lattice vectors are left-handed.
    """

    def calculate(
        self,
        atoms: Any = None,
        properties: Any = None,
        system_changes: Any = None,
        task: Any = "efsm",
    ) -> None:
        super().calculate(atoms, properties, system_changes, task)
        if np.linalg.det(atoms.cell.array) < 0:
            self.results["stress"] = -self.results["stress"]


def calculator(kind: type[CHGNetCalculator] = CHGNetCalculator) -> CHGNetCalculator:
    """The pretrained model on one CPU thread, with the energy of each atom switched on."""
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):  # chgnet announces itself on standard output
        return kind(use_device="cpu", return_site_energies=True)


def run(calculator: CHGNetCalculator, group: str, **options: Any) -> equicheck.Report:
    """Audits `calculator` on the rattled crystals."""
    return equicheck.audit_calculator(
        calculator,
        list(rattled_crystals().values()),
        group=group,
        properties=PROPERTIES,
        transforms=TRANSFORMS,
        budget=float("inf"),  # the same plan on a busy machine
        **options,
    )


def audit() -> equicheck.Report:
    """CHGNet under E(3): FAIL, status 1, because of the stress alone.

    A reflection makes the lattice vectors left-handed; CHGNet 0.4.2 divides the stress by the
    cell's determinant, so it comes out with the wrong sign (relative error 2 for half of E(3)).
    Finite differences of CHGNet's own energy confirm that the sign is wrong.
    """
    return run(calculator(), "E(3) x S(nodes)")


def audit_proper() -> equicheck.Report:
    """CHGNet under SE(3), rotations and translations without reflections: PASS, status 0."""
    return run(calculator(), "SE(3) x S(nodes)")


def audit_positive_volume() -> equicheck.Report:
    """The stress corrected, under E(3): PASS, status 0. `audit` found the one thing to fix."""
    return run(calculator(PositiveVolumeCalculator), "E(3) x S(nodes)")


def audit_cell_left_unrotated() -> equicheck.Report:
    """A mistake of the user: atoms rotated inside a fixed cell. FAIL, status 1.

    A different crystal results. SE(3) and the same calculator as in `audit_proper`, so that the
    cell is the only difference.
    """
    return run(calculator(), "SE(3) x S(nodes)", in_layouts={"cell": None})
