"""ASE's own calculators, which nobody here wrote, through `audit_calculator`."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.collections import g2
from ase.constraints import FixAtoms

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


def test_results_that_were_there_are_still_there() -> None:
    atoms, calculator = alloys()[0], EMT()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    results = calculator.results
    before = dict(results)
    equicheck.audit_calculator(calculator, [bulk("Ag") * (2, 1, 1)], transforms=3)
    assert calculator.results is results
    assert results.keys() == before.keys()
    assert all(results[key] is before[key] for key in before)
    assert atoms.get_potential_energy() == energy
    # What the calculator keeps beside the results belongs to these atoms too.
    atoms.rattle(0.01, seed=3)
    fresh = atoms.copy()
    fresh.calc = EMT()
    assert atoms.get_potential_energy() == pytest.approx(fresh.get_potential_energy(), rel=1e-12)


class Everything(Calculator):
    """Depends on everything of a structure, each part in its own way."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=(), system_changes=()) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        (fixed,) = atoms.constraints
        free = np.ones(len(atoms))
        free[fixed.index] = 0.5
        label = np.where(atoms.arrays["label"] == "x", 2.0, 1.0)
        weight = free * label * (1 + atoms.get_tags()) * atoms.numbers * atoms.info["charge"]
        moments = atoms.get_initial_magnetic_moments()
        velocities = atoms.arrays["momenta"] / atoms.get_masses()[:, None]
        turned = np.cross(atoms.positions - atoms.positions.mean(0), moments)
        forces = weight[:, None] * (turned * (1 + atoms.arrays["flag"][:, None]) + velocities)
        self.results = {
            "energy": float((forces * velocities).sum() + atoms.arrays["table"].sum(1) @ weight),
            "forces": forces,
        }


def everything() -> Atoms:
    atoms = rattled(g2["CH3CH2OH"])
    random = np.random.default_rng(0)
    count = len(atoms)
    atoms.info["charge"] = 2
    atoms.set_constraint(FixAtoms([1, 4, 5]))
    atoms.set_tags([7 if i in (1, 4) else 0 for i in range(count)])
    atoms.set_array("label", np.array(["x" if i in (1, 4) else "y" for i in range(count)]))
    atoms.set_masses(random.uniform(1, 9, count))
    atoms.set_momenta(random.standard_normal((count, 3)), apply_constraint=False)
    atoms.set_initial_magnetic_moments(random.standard_normal((count, 3)))
    atoms.set_array("table", random.standard_normal((count, 4)))
    atoms.set_array("flag", random.random(count) > 0.5)
    return atoms


def test_all_that_belongs_to_a_structure_comes_along() -> None:
    report = equicheck.audit_calculator(Everything(), everything(), transforms=10)
    assert report.verdict == "PASS", str(report)
    layouts = {row["name"]: row["layout"] for row in report.transforms}
    assert layouts["initial_magmoms"] == "nodes pseudovector"
    assert layouts["momenta"] == "nodes vector"
    wrong = equicheck.audit_calculator(
        Everything(), everything(), transforms=10, in_layouts={"initial_magmoms": "nodes vector"}
    )
    assert wrong.verdict == "FAIL", str(wrong)


def test_an_array_of_some_structures_only_is_named() -> None:
    first, second = alloys()[:2]
    first.set_array("depth", np.arange(4.0))
    with pytest.raises(equicheck.SpecificationError, match="structure 1 has no array `depth`"):
        equicheck.audit_calculator(EMT(), [first, second])
    # Where ASE has a default, that is meant.
    first, second = alloys()[:2]
    first.set_tags([0, 0, 1, 1])
    assert equicheck.audit_calculator(EMT(), [first, second], transforms=3).verdict == "PASS"
