"""Write tensors.json: reference values for Voigt matrices, quaternions, planar irreps and lattices.

    python make_tensors.py > tensors.json        (a minute)

Needs ase, escnn 1.1 (as `escnn-atompaint`, its fork for current Python), scipy and numpy; equicheck is not used.

voigt        Column by column: a unit six-vector becomes a 3 x 3 tensor s by `ase.stress`, then m s m^T, and back. ASE's
             strain functions add the identity; m (1 + e) m^T - 1 = m e m^T for the orthogonal m used here.
quaternions  `scipy.spatial.transform.Rotation`: canonical quaternions of rotations, and products q_m q.
planar       escnn: `o2_group().irrep(1, k)`, the trivial irrep(0, 0), and the matrix by which
             `flipRot2dOnR2(-1, axis)` acts on the plane, for several axes.
lattices     ASE: fractional coordinates by `Cell`, minimum images by `find_mic`.
"""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
from ase.cell import Cell
from ase.geometry import find_mic
from ase.stress import (
    full_3x3_to_voigt_6_strain,
    full_3x3_to_voigt_6_stress,
    voigt_6_to_full_3x3_strain,
    voigt_6_to_full_3x3_stress,
)
from escnn import gspaces
from escnn.group import o2_group
from scipy.spatial.transform import Rotation

RNG = np.random.default_rng(7)
FREQUENCIES = 5


def voigt() -> list[dict]:
    cases = []
    for sign in [1, -1, 1]:
        m = sign * Rotation.random(rng=RNG).as_matrix()
        stress = [full_3x3_to_voigt_6_stress(m @ voigt_6_to_full_3x3_stress(e) @ m.T) for e in np.eye(6)]
        strain = [full_3x3_to_voigt_6_strain(m @ voigt_6_to_full_3x3_strain(e) @ m.T) for e in np.eye(6)]
        cases.append(
            {"m": m.tolist(), "stress": np.transpose(stress).tolist(), "strain": np.transpose(strain).tolist()}
        )
    return cases


def quaternions() -> list[dict]:
    fixed = [[0, 0, 0], [np.pi, 0, 0], [0, -np.pi, 0], [0, 0, np.pi - 1e-9], [1e-12, 0, 0], [0, np.pi / 2, 0]]
    rotations = [Rotation.from_rotvec(v) for v in fixed]
    rotations += [Rotation.random(rng=RNG) for _ in range(10)]
    cases = []
    for rotation in rotations:
        orientation = Rotation.random(rng=RNG)
        turned = rotation * orientation
        cases.append(
            {
                "m": rotation.as_matrix().tolist(),
                "wxyz": rotation.as_quat(canonical=True, scalar_first=True).tolist(),
                "orientation": orientation.as_quat(scalar_first=True).tolist(),
                "turned": turned.as_quat(scalar_first=True).tolist(),
                "orientation_xyzw": orientation.as_quat().tolist(),
                "turned_xyzw": turned.as_quat().tolist(),
            }
        )
    return cases


def planar() -> list[dict]:
    group = o2_group(FREQUENCIES)
    cases = []
    for axis in [None, 0.0, 0.4]:
        space = gspaces.flipRot2dOnR2(-1, FREQUENCIES, **({} if axis is None else {"axis": axis}))
        for flip in [0, 1]:
            for angle in [0.0, np.pi / 2, 0.3, 2.0, -1.1]:
                element = group.element((flip, angle), "radians")
                cases.append(
                    {
                        "axis": np.pi / 2 if axis is None else axis,
                        "flip": flip,
                        "base": np.array(space.basespace_action(element)).tolist(),
                        "trivial": group.irrep(0, 0)(element).tolist(),
                        "irreps": [group.irrep(1, k)(element).tolist() for k in range(FREQUENCIES)],
                    }
                )
    return cases


def lattices() -> list[dict]:
    cells = {
        "cubic": np.eye(3) * 4.0,
        "fcc": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 1.8,
        "hexagonal": np.array([[2.5, 0, 0], [-1.25, 1.25 * 3**0.5, 0], [0, 0, 6.7]]),
        "skewed": np.array([[1.0, 0, 0], [5.3, 1.1, 0], [-7.2, 3.4, 0.9]]),
        "left-handed": RNG.normal(size=(3, 3)) * [[1], [3], [9]],
        "long": np.array([[40.0, 0, 0], [0.4, 1.0, 0], [39.0, 0.3, 1.0]]),
    }
    cases = []
    for name, cell in cells.items():
        points = RNG.normal(size=(12, 3)) * 10
        wrapped, lengths = find_mic(points, cell)
        cases.append(
            {
                "name": name,
                "cell": cell.tolist(),
                "points": points.tolist(),
                "fractional": Cell(cell).scaled_positions(points).tolist(),
                "wrapped": wrapped.tolist(),
                "lengths": lengths.tolist(),
            }
        )
    return cases


def escnn_version() -> str:
    for package in ["escnn", "escnn-atompaint"]:
        try:
            return f"{package} {version(package)}"
        except ModuleNotFoundError:
            pass
    raise SystemExit("escnn is not installed")


def main() -> None:
    document = {
        "made_by": "make_tensors.py",
        "versions": {p: version(p) for p in ["ase", "scipy", "numpy"]} | {"escnn": escnn_version()},
        "voigt": voigt(),
        "quaternions": quaternions(),
        "planar": planar(),
        "lattices": lattices(),
    }
    print(json.dumps(document, separators=(",", ":")).replace(",{", ",\n{"))


if __name__ == "__main__":
    main()
