"""Which sign of CHGNet's stress is right when the lattice vectors are left-handed?

    python chgnet_stress_sign.py

The trace of the stress is (dE/ds) / (volume) for a cell scaled by (1 + s); here by central
differences of CHGNet's own energy, for a crystal and for the same crystal with two lattice vectors
exchanged (no atom moves). Nothing of equicheck is used. Exits 0 if the sign is wrong for the
left-handed cell alone, which is what `chgnet_audit.py` documents.
"""

from __future__ import annotations

import contextlib
import sys

import numpy as np
from chgnet.model.dynamics import CHGNetCalculator

from chgnet_crystals import rattled_crystals

STEP = 0.01


def evaluate(calculator, atoms):
    calculator.reset()
    calculator.calculate(atoms)
    return float(calculator.results["energy"]), float(np.trace(calculator.results["stress"]))


def scaled(atoms, factor):
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array * factor, scale_atoms=True)
    return copy


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        calculator = CHGNetCalculator(use_device="cpu")
    as_documented = True
    for name, right in rattled_crystals().items():
        left = right.copy()
        left.set_cell(right.cell.array[[1, 0, 2]], scale_atoms=False)
        for atoms in (right, left):
            determinant = np.linalg.det(atoms.cell.array)
            difference = (
                evaluate(calculator, scaled(atoms, 1 + STEP))[0] - evaluate(calculator, scaled(atoms, 1 - STEP))[0]
            ) / (2 * STEP * abs(determinant))
            trace = evaluate(calculator, atoms)[1]
            print(
                f"{name:7} det(cell) {determinant:8.2f}  trace of the stress in eV/angstrom^3: "
                f"by differences {difference:+.5f}, CHGNet {trace:+.5f}"
            )
            agrees = abs(trace - difference) < 0.5 * abs(difference)
            as_documented = as_documented and agrees == (determinant > 0)
    raise SystemExit(0 if as_documented else 1)
