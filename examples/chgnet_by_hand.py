"""The errors of CHGNet under SE(3) and E(3) with numpy alone, to check what equicheck reports.

    python chgnet_by_hand.py [figures.json]

Per output: norms of the whole tensor of each sample; a relative error divides by
max(||T'f(x)||, 1e-3 * median over the crystals of ||f(x)||).
"""

from __future__ import annotations

import contextlib
import json
import sys

import numpy as np
from ase import Atoms
from chgnet.model.dynamics import CHGNetCalculator

from chgnet_crystals import rattled_crystals

OUTPUTS = ("energy", "energies", "forces", "stress", "magmoms")
ELEMENTS = 20  # group elements per crystal


def predict(calculator, atoms):
    calculator.reset()  # ASE returns stored results for equal structures otherwise
    calculator.calculate(atoms)
    return {name: np.asarray(calculator.results[name], dtype=np.float64) for name in OUTPUTS}


def measure(calculator, crystals, proper, rng):
    clean = [predict(calculator, atoms) for atoms in crystals]
    floor = {n: 1e-3 * np.median([np.linalg.norm(f[n]) for f in clean]) for n in OUTPUTS}
    rows = {name: [] for name in OUTPUTS}
    for atoms, f in ((a, f) for a, f in zip(crystals, clean, strict=True) for _ in range(ELEMENTS)):
        q, r = np.linalg.qr(rng.standard_normal((3, 3)))
        q = q * np.sign(np.diag(r))  # Haar measure on O(3)
        q = q * np.linalg.det(q) if proper else q
        shift = atoms.positions.std() * rng.standard_normal(3)
        p = rng.permutation(len(atoms))
        moved = Atoms(
            numbers=atoms.numbers[p],
            positions=(atoms.positions @ q.T + shift)[p],
            cell=atoms.cell.array @ q.T,
            pbc=True,
        )
        expected = f | {"energies": f["energies"][p], "magmoms": f["magmoms"][p]}
        expected |= {"forces": f["forces"][p] @ q.T, "stress": q @ f["stress"] @ q.T}
        for name, value in predict(calculator, moved).items():
            error, size = np.linalg.norm(value - expected[name]), np.linalg.norm(expected[name])
            rows[name].append((error, error / max(size, floor[name])))
    return {
        name: dict(
            zip(
                ("mean_absolute", "mean_relative", "max_absolute", "max_relative"),
                (*np.mean(pairs, axis=0), *np.max(pairs, axis=0)),
                strict=True,
            )
        )
        for name, pairs in rows.items()
    }


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # chgnet announces itself on standard output
        calculator = CHGNetCalculator(use_device="cpu", return_site_energies=True)
    crystals, rng = list(rattled_crystals().values()), np.random.default_rng(1)
    groups = {"SE(3)": True, "E(3)": False}
    figures = {g: measure(calculator, crystals, proper, rng) for g, proper in groups.items()}
    for group, outputs in figures.items():
        for name, row in outputs.items():
            print(f"{group:6}{name:9}", *(f"{key} {value:.2e} " for key, value in row.items()))
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
