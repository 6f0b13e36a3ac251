"""``equicheck.audit_calculator``: any ASE calculator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._audit import audit
from ._equicheck import Report, SpecificationError
from ._tensors import DTYPES

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
#: Arrays that ASE fills in where a structure does not hold them.
DEFAULT_ARRAYS = {
    "tags": "get_tags",
    "momenta": "get_momenta",
    "masses": "get_masses",
    "initial_magmoms": "get_initial_magnetic_moments",
    "initial_charges": "get_initial_charges",
}
#: Arguments of the calculator as a function that are no arrays of a structure.
OWN_NAMES = frozenset(("structure", "order", "cell"))


class Structure:
    """A structure as an argument that is no tensor: whatever is not transformed comes from it."""

    __slots__ = ("atoms",)

    def __init__(self, atoms: Any) -> None:
        self.atoms = atoms.copy()


class CalculatorModel:
    """A calculator as a function of positions, atomic numbers, the cell and all arrays per atom.

    Positions and cell are in Angstrom, rows of the cell are lattice vectors; energies in eV,
    forces in eV/Angstrom, stress as a symmetric 3 x 3 tensor in eV/Angstrom^3.
    """

    def __init__(self, calculator: Any, properties: Sequence[str]) -> None:
        self.calculator = calculator
        self.properties = properties
        self.__qualname__ = type(calculator).__name__

    def __call__(
        self,
        structure: Structure,
        cell: np.ndarray | None = None,
        order: np.ndarray | None = None,
        **arrays: np.ndarray,
    ) -> dict[str, Any]:
        """Properties of the structure with these arrays in place of its own; atoms come in ``order``."""
        from ase.stress import voigt_6_to_full_3x3_stress

        full: Any = voigt_6_to_full_3x3_stress  # ase is not fully typed

        atoms = structure.atoms.copy()
        # Inputs that were changed at random are no order.
        if order is not None and np.array_equal(np.sort(order), np.arange(len(atoms))):
            # Takes arrays that are no numbers and the atoms that constraints name along.
            atoms = atoms[order]
        for name, values in arrays.items():
            atoms.arrays[name] = np.array(values)
        if cell is not None:
            atoms.cell[:] = cell
        # ASE answers from memory when atoms moved by less than 1e-15, as a probe of rounding does.
        _forget(self.calculator)
        atoms.calc = self.calculator
        results: dict[str, Any] = {}
        for name in self.properties:
            value = self.calculator.get_property(name, atoms)
            if name == "stress" and np.shape(value) == (6,):
                value = full(value)
            results[name] = value if np.ndim(value) == 0 else np.array(value)
        return results


def _forget(calculator: Any) -> None:
    if hasattr(calculator, "reset"):
        calculator.reset()
    elif isinstance(getattr(calculator, "results", None), dict):
        calculator.results.clear()


@contextmanager
def _kept(calculator: Any) -> Iterator[None]:
    """Puts the calculator's attributes and its last results back."""
    attributes = dict(getattr(calculator, "__dict__", {}))
    results = attributes.get("results")
    before = dict(results) if isinstance(results, dict) else {}
    try:
        yield
    finally:
        if attributes:
            # All of them: neighbour lists and the like belong to the atoms of the last results.
            vars(calculator).clear()
            vars(calculator).update(attributes)
        if isinstance(results, dict):
            results.clear()
            results.update(before)


def _layout(name: str, values: np.ndarray) -> str:
    """Of an array per atom: vectors are three floating values."""
    floating = values.dtype.kind == "f"
    if floating and values.shape[1:] == (3,):
        return "nodes pseudovector" if name in {"initial_magmoms", "magmoms"} else "nodes vector"
    return " ".join(["nodes", *(str(size) for size in values.shape[1:])])


def _arrays(structures: Sequence[Any]) -> dict[str, list[np.ndarray]]:
    """Numerical arrays per atom beside positions and numbers, of all structures."""
    found: dict[str, list[np.ndarray]] = {}
    for name in dict.fromkeys(name for a in structures for name in a.arrays):
        if name in {"positions", "numbers"}:
            continue
        without = [i for i, a in enumerate(structures) if name not in a.arrays]
        if without and name not in DEFAULT_ARRAYS:
            raise SpecificationError(
                f"atoms: structure {without[0]} has no array `{name}`, others have: give it to all of them or to none"
            )
        values = [
            np.array(a.arrays[name] if name in a.arrays else getattr(a, DEFAULT_ARRAYS[name])()) for a in structures
        ]
        if all(v.dtype.name in DTYPES for v in values):
            if name in OWN_NAMES:
                raise SpecificationError(f"atoms: rename the array `{name}`, the name is taken")
            found[name] = values
    return found


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
    """Audits an ASE calculator: positions, numbers, cell and arrays per atom transform together.

    Args:
        calc: the calculator. Its attributes and last results are put back.
        atoms: one ``ase.Atoms`` or a list of them. Rattle symmetric structures: their symmetry
            forces forces and stress to zero, and a zero cannot fail a test.
        group: of positions (``point``), cell (``3 vector``) and atoms (``nodes``).
        properties: ASE property names; default: energy, forces and, if all atoms are periodic in
            three directions, stress, as far as the calculator implements them.
        in_layouts: overrides by input: ``positions``, ``cell``, ``numbers``, and whatever else is
            in ``atoms.arrays`` (``tags``, ``initial_magmoms``). There, three floating values per
            atom are a ``vector`` unless said otherwise, magnetic moments a ``pseudovector``.
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
    # Boxes around isolated structures turn with them.
    boxed = periodic[0] or any(a.cell.array.any() for a in structures)
    if boxed:
        layouts["cell"] = "3 vector"
    arrays = _arrays(structures)
    layouts.update((name, _layout(name, values[0])) for name, values in arrays.items())
    ordered = any(a.constraints or a.arrays.keys() - arrays.keys() - {"positions", "numbers"} for a in structures)
    if ordered:
        layouts["order"] = "nodes"
    for name, layout in (in_layouts or {}).items():
        if name not in layouts:
            raise SpecificationError(f"in_layouts names `{name}`; the inputs are {', '.join(layouts)}")
        layouts[name] = layout
    samples = []
    for i, structure in enumerate(structures):
        sample: dict[str, Any] = {
            "positions": np.array(structure.positions, dtype=np.float64),
            "numbers": np.array(structure.numbers, dtype=np.int64),
            "structure": Structure(structure),
        }
        if boxed:
            sample["cell"] = np.array(structure.cell.array, dtype=np.float64)
        sample.update((name, values[i]) for name, values in arrays.items())
        if ordered:
            sample["order"] = np.arange(len(structure), dtype=np.int64)
        samples.append(sample)
    outputs = {name: (out_layouts or {}).get(name, PROPERTIES.get(name)) for name in properties}
    model = CalculatorModel(calc, properties)
    with _kept(calc):
        return audit(model, samples, group=group, in_layouts=layouts, out_layouts=outputs, **options)
