"""Write finite.json: reference values for finite groups and their representations.

    python make_escnn.py > finite.json        (about a minute)

Needs escnn (`pip install --no-deps escnn-atompaint==1.1.0`, with lie_learn, joblib, cloudpickle, requests, pymanopt,
autograd, torch, numpy < 2), spglib and scipy; equicheck is not used.

planar        escnn's C_n and D_n for n = 1..12: the elements in its order (a number of turns, or flip and turns), its
              multiplication table, the action on the plane of `rot2dOnR2(n)` and `flipRot2dOnR2(n)` with their default
              axis, and the matrices `representation(g)` of the regular representation, of quotients and of all irreps.
              Of D_n's quotients by D_m, the axes 0, 1 and n/m - 1. For n = 1, `flipRot2dOnR2` has the fibre
              group C_2, whose two elements it takes for D_1's.
crystal       the point group of the symmorphic space groups in spglib's database, in the standard setting: rotations
              in lattice coordinates, made Cartesian with a along x and c along z (b along y for the cubic, tetragonal
              and orthorhombic ones, and 120 degrees from a for the hexagonal ones).
scipy         `Rotation.create_group` with the axis z.

A permutation matrix is stored as the row that holds the 1 of each column.
"""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
import scipy
import spglib
from escnn import group, gspaces
from scipy.spatial.transform import Rotation

# Number, symbol in the standard setting, and the axis that our names take.
SPACE_GROUPS = [
    (1, "1", "z"), (2, "-1", "z"), (3, "2", "y"), (6, "m", "y"), (10, "2/m", "y"), (16, "222", "z"),
    (25, "mm2", "z"), (47, "mmm", "z"), (75, "4", "z"), (81, "-4", "z"), (83, "4/m", "z"), (89, "422", "z"),
    (99, "4mm", "z"), (111, "-42m", "z"), (115, "-4m2", "z"), (123, "4/mmm", "z"), (143, "3", "z"),
    (147, "-3", "z"), (149, "312", "z"), (150, "321", "z"), (156, "3m1", "z"), (157, "31m", "z"),
    (162, "-31m", "z"), (164, "-3m1", "z"), (168, "6", "z"), (174, "-6", "z"), (175, "6/m", "z"),
    (177, "622", "z"), (183, "6mm", "z"), (187, "-6m2", "z"), (189, "-62m", "z"), (191, "6/mmm", "z"),
    (195, "23", "z"), (200, "m-3", "z"), (207, "432", "z"), (215, "-43m", "z"), (221, "m-3m", "z"),
]  # fmt: skip


def rounded(matrix) -> list:
    return (np.round(np.asarray(matrix, dtype=float), 15) + 0.0).tolist()


def columns(matrix) -> list:
    """The row of the 1 in each column of a permutation matrix."""
    rows = matrix.argmax(axis=0)
    exact = np.zeros_like(matrix)
    exact[rows, np.arange(len(rows))] = 1.0
    assert np.abs(matrix - exact).max() < 1e-6
    return rows.tolist()


def planar(n: int, flips: bool) -> dict:
    g = group.dihedral_group(n) if flips else group.cyclic_group(n)
    elements = list(g.elements)
    number = {e: i for i, e in enumerate(elements)}
    space = gspaces.flipRot2dOnR2(n) if flips else gspaces.rot2dOnR2(n)
    fibre = list(space.fibergroup.elements)
    assert len(fibre) == len(elements)
    representations = {"regular": [columns(g.regular_representation(e)) for e in elements]}
    for m in (m for m in range(1, n + 1) if n % m == 0):
        subgroups = {f"C{m}": (None, m) if flips else m}
        if flips:
            for axis in sorted({0, 1 % (n // m), n // m - 1}):
                subgroups[f"D{m},{axis}" if axis else f"D{m}"] = (axis, m)
        for text, subgroup in subgroups.items():
            quotient = g.quotient_representation(subgroup)
            representations[f"quotient({text})"] = [columns(quotient(e)) for e in elements]
    for irrep in g.irreps():
        name = f"irrep({','.join(str(i) for i in irrep.id)})"
        representations[name] = [rounded(irrep(e)) for e in elements]
    return {
        "group": g.name,
        "elements": [e.to("int") for e in elements],
        "table": [[number[a @ b] for b in elements] for a in elements],
        "base": [rounded(space.basespace_action(e)) for e in fibre],
        "representations": representations,
    }


def crystal(number: int, symbol: str, axis: str) -> dict:
    hall = next(h for h in range(1, 531) if spglib.get_spacegroup_type(h).number == number)
    rotations = spglib.get_symmetry_from_database(hall)["rotations"]
    lattice = np.eye(3)
    if 143 <= number <= 194:
        lattice = np.array([[1, -0.5, 0], [0, np.sqrt(3) / 2, 0], [0, 0, 1]])
    inverse = np.linalg.inv(lattice)
    matrices = {tuple(np.ravel(rounded(lattice @ r @ inverse))) for r in rotations}
    space = spglib.get_spacegroup_type(hall)
    return {
        "name": symbol,
        "schoenflies": space.schoenflies.split("^")[0],
        "axis": [float(axis == c) for c in "xyz"],
        "matrices": [np.reshape(m, (3, 3)).tolist() for m in sorted(matrices)],
    }


names = ["I", "O", "T", "C5", "C7", "D2", "D5", "D6", "D7"]
print(
    json.dumps(
        {
            "versions": {
                "escnn-atompaint": version("escnn-atompaint"),
                "spglib": spglib.__version__,
                "scipy": scipy.__version__,
            },
            "planar": [planar(n, flips) for flips in (False, True) for n in range(1, 13)],
            "crystal": [crystal(*row) for row in SPACE_GROUPS],
            "scipy": [{"name": name, "matrices": rounded(Rotation.create_group(name).as_matrix())} for name in names],
        },
        separators=(",", ":"),
    )
)
