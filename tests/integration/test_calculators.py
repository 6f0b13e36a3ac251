"""ASE's own calculators, which nobody here wrote, through `audit_calculator`."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.collections import g2

import equicheck


def rattled(atoms: Atoms, seed: int = 0, deviation: float = 0.1) -> Atoms:
    atoms = atoms.copy()
    atoms.rattle(deviation, seed=seed)
    return atoms


def alloys() -> list[Atoms]:
    """Sheared and rattled cells: nothing is zero by symmetry."""
    cells = []
    for seed, (metal, other) in enumerate([("Cu", "Au"), ("Ag", "Pd"), ("Ni", "Al")]):
        atoms = bulk(metal, "fcc", cubic=True)
        atoms.symbols[0] = other
        strain = np.eye(3) + 0.03 * np.random.default_rng(seed).standard_normal((3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        cells.append(rattled(atoms, seed))
    return cells


def test_effective_medium_theory_is_exact_in_double_precision() -> None:
    report = equicheck.audit_calculator(EMT(), alloys(), transforms=15)
    assert {name: o.classification for name, o in report.outputs.items()} == {
        "energy": "exact",
        "forces": "exact",
        "stress": "exact",
    }, str(report)
    assert report.verdict == "PASS"
    # Positions, cell and stress are all there, and all of them move.
    moved = {row["name"]: row["description"] for row in report.transforms}
    assert "turned" in moved["cell"]
    assert "turned and translated" in moved["positions"]
    assert report.outputs["stress"].layout == "vector vector"


@pytest.mark.parametrize("left_out", ["cell", "positions"])
def test_an_input_that_is_left_unrotated_fails(left_out: str) -> None:
    # Under rotations alone: without positions nothing would move under translations.
    report = equicheck.audit_calculator(
        EMT(), alloys(), group="O(3) x S(nodes)", transforms=10, in_layouts={left_out: None}
    )
    assert report.verdict == "FAIL"
    assert report.exit_status == 1


def test_molecules_have_no_cell_and_no_stress() -> None:
    molecules = [rattled(g2[name], seed) for seed, name in enumerate(["CH3CH2OH", "C2H4", "H2O"])]
    report = equicheck.audit_calculator(LennardJones(sigma=1.2, rc=4.0), molecules, transforms=15)
    assert set(report.outputs) == {"energy", "forces"}
    assert report.verdict == "PASS", str(report)


def test_two_kinds_of_structures_are_two_audits() -> None:
    with pytest.raises(equicheck.SpecificationError, match="periodic and isolated"):
        equicheck.audit_calculator(EMT(), [bulk("Cu"), molecule("H2O")])


def test_a_property_without_layout_is_named() -> None:
    with pytest.raises(equicheck.SpecificationError, match="`hessian` has no known layout"):
        equicheck.audit_calculator(EMT(), alloys(), properties=["energy", "hessian"])


def test_the_calculator_and_the_atoms_are_left_alone() -> None:
    cells = alloys()
    before = [(atoms.positions.copy(), atoms.cell.array.copy()) for atoms in cells]
    equicheck.audit_calculator(EMT(), cells, transforms=5)
    for atoms, (positions, cell) in zip(cells, before, strict=True):
        assert np.array_equal(atoms.positions, positions)
        assert np.array_equal(atoms.cell.array, cell)
        assert atoms.calc is None
