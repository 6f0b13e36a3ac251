"""``equicheck.audit_calculator``: any ASE calculator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._audit import audit
from ._equicheck import Report, SpecificationError

#: ASE property -> layout of what the calculator gives for it.
PROPERTIES: dict[str, str] = {
    "energy": "",
    "energies": "nodes",
    "forces": "nodes vector",
    "stress": "vector vector",
    "dipole": "vector",
    "charges": "nodes",
    "magmoms": "nodes",
}
#: Audited when nothing is said, if the calculator implements them.
DEFAULT_PROPERTIES = ("energy", "forces", "stress")


class CalculatorModel:
    """A calculator as a function of positions, atomic numbers and (if periodic) the cell.

    Positions and cell are in Angstrom, rows of the cell are lattice vectors; energies in eV, forces in eV/Angstrom,
    stress as a symmetric 3 x 3 tensor in eV/Angstrom^3.
    """

    def __init__(self, calculator: Any, atoms: Any, properties: Sequence[str]) -> None:
        self.calculator = calculator
        self.atoms = atoms
        self.properties = properties

    def __call__(
        self, positions: np.ndarray, numbers: np.ndarray, pbc: tuple[bool, ...], cell: np.ndarray | None = None, **kept: Any
    ) -> dict[str, Any]:
        from ase import Atoms
        from ase.stress import voigt_6_to_full_3x3_stress

        full: Any = voigt_6_to_full_3x3_stress  # ase is not fully typed

        atoms: Any = Atoms(numbers=numbers, positions=positions, cell=cell, pbc=pbc)
        for name, values in kept.items():
            if name in {"initial_magmoms", "initial_charges"}:
                atoms.set_array(name, values)
        # ASE answers from memory when atoms moved by less than 1e-15, which a probe of rounding does.
        self.calculator.reset()
        atoms.calc = self.calculator
        results: dict[str, Any] = {}
        for name in self.properties:
            value = self.calculator.get_property(name, atoms)
            if name == "stress" and np.shape(value) == (6,):
                value = full(value)
            results[name] = value if np.ndim(value) == 0 else np.array(value)
        return results


def audit_calculator(
    calc: Any,
    atoms: Any,
    *,
    group: str = "E(3) x S(nodes)",
    properties: Sequence[str] | None = None,
    in_layouts: Mapping[str, str | None] | None = None,
    out_layouts: Mapping[str, str | None] | None = None,
    **options: Any,
) -> Report:
    """Audits an ASE calculator: positions, atomic numbers and, if periodic, the cell transform together.

    Args:
        calc: the calculator.
        atoms: one ``ase.Atoms`` or a list of them. Rattle symmetric structures: their symmetry forces forces and
            stress to zero, and a zero cannot fail a test.
        group: of positions (``point``), cell (``3 vector``) and atoms (``nodes``).
        properties: ASE property names; default: energy, forces and, if all atoms are periodic in three directions,
            stress, as far as the calculator implements them.
        in_layouts: overrides by input: ``positions``, ``cell``, ``numbers``, ``initial_magmoms``, ``initial_charges``.
        out_layouts: overrides by property.
        **options: as for :func:`equicheck.audit`.
    """
    structures = list(atoms) if isinstance(atoms, (list, tuple)) else [atoms]
    if not structures:
        raise SpecificationError("atoms: the list is empty")
    periodic = [bool(a.pbc.any()) for a in structures]
    if len(set(periodic)) > 1:
        raise SpecificationError("atoms: give periodic and isolated structures to two audits, their inputs differ")
    implemented = list(getattr(calc, "implemented_properties", DEFAULT_PROPERTIES))
    if properties is None:
        bulk = all(bool(a.pbc.all()) for a in structures)
        properties = [p for p in DEFAULT_PROPERTIES if p in implemented and (p != "stress" or bulk)]
    for name in properties:
        if name not in PROPERTIES and name not in (out_layouts or {}):
            raise SpecificationError(
                f"property `{name}` has no known layout: give it in out_layouts; known: {', '.join(PROPERTIES)}"
            )
    layouts: dict[str, str | None] = {"positions": "nodes point", "numbers": "nodes"}
    if periodic[0]:
        layouts["cell"] = "3 vector"
    extra = [name for name in ("initial_magmoms", "initial_charges") if all(a.has(name) for a in structures)]
    layouts.update(dict.fromkeys(extra, "nodes"))
    for name, layout in (in_layouts or {}).items():
        if name not in layouts:
            raise SpecificationError(f"in_layouts names `{name}`; the inputs are {', '.join(layouts)}")
        layouts[name] = layout
    samples = []
    for structure in structures:
        sample: dict[str, Any] = {
            "positions": np.array(structure.positions, dtype=np.float64),
            "numbers": np.array(structure.numbers, dtype=np.int64),
            "pbc": tuple(bool(p) for p in structure.pbc),
        }
        if periodic[0]:
            sample["cell"] = np.array(structure.cell.array, dtype=np.float64)
        sample.update({name: np.array(structure.arrays[name]) for name in extra})
        samples.append(sample)
    outputs = {name: (out_layouts or {}).get(name, PROPERTIES.get(name)) for name in properties}
    model = CalculatorModel(calc, structures[0], properties)
    model.__qualname__ = type(calc).__name__  # type: ignore[attr-defined]
    return audit(model, samples, group=group, in_layouts=layouts, out_layouts=outputs, **options)
