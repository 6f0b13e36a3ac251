"""Write lie.json: reference values for rotations, Lorentz matrices and their logarithms.

    python make_lie.py > lie.json        (seconds)

Needs mpmath, scipy, pylorentz 0.3 and numpy; equicheck is not used.

rotation_vectors  SO(3): matrices of rotation vectors from `scipy.spatial.transform.Rotation`.
rotations         SO(n): the skew matrix goes through `mpmath.expm` at 40 digits and is rounded once. The coordinates
                  are its entries [j, i] for i < j in lexicographic order, angles below pi, so that `scipy.linalg.logm`
                  of the rounded matrix gives them back (checked where no angle is within 1e-3 of pi).
lorentz           SO+(1,3): the 4 x 4 generator, built from its definition (a rotation acts by the cross product, a
                  boost mixes t with the direction), through the same. Coordinates: rotation vector, rapidity vector.
boosts            Four-vectors (E, px, py, pz) before and after an active boost by `pylorentz`. Its `boost` gives the
                  vector as seen from a frame that moves along (x, y, z); the active boost is that along -(x, y, z).
"""

from __future__ import annotations

import json
from importlib.metadata import version

import mpmath
import numpy as np
from pylorentz import Momentum4
from scipy.linalg import logm
from scipy.spatial.transform import Rotation

mpmath.mp.dps = 40
RNG = np.random.default_rng(20)


def exponential(matrix: np.ndarray) -> np.ndarray:
    return np.array(mpmath.expm(mpmath.matrix(matrix.tolist())).tolist(), dtype=float)


def rotation_vectors() -> list[dict]:
    axes = [[1, 0, 0], [0, 0, -1], [3, -2, 5], [-1, 7, 2]]
    angles = [0.0, 1e-12, 1e-5, 0.3, np.pi / 2, 2.5, np.pi - 1e-4, np.pi - 1e-9]
    cases = []
    for axis in axes:
        for angle in angles:
            vector = np.array(axis) / np.linalg.norm(axis) * angle
            rotation = Rotation.from_rotvec(vector)
            cases.append({"vector": vector.tolist(), "matrix": rotation.as_matrix().tolist()})
    return cases


def skew(coordinates: list[float], n: int) -> np.ndarray:
    matrix = np.zeros((n, n))
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    for (i, j), c in zip(pairs, coordinates):
        matrix[j, i], matrix[i, j] = c, -c
    return matrix


def rotations() -> list[dict]:
    cases = []
    for n in [2, 4, 5, 6, 8]:
        for largest in [1e-9, 1.0, 3.0, np.pi - 1e-6]:
            coordinates = RNG.normal(size=n * (n - 1) // 2)
            angle = np.abs(np.linalg.eigvals(skew(coordinates, n))).max()
            coordinates *= largest / angle
            matrix = exponential(skew(coordinates, n))
            if largest < 3.1:
                assert np.abs(logm(matrix) - skew(coordinates, n)).max() < 1e-13
            cases.append({"n": n, "coordinates": coordinates.tolist(), "matrix": matrix.tolist()})
    return cases


def generator(rotation: np.ndarray, rapidity: np.ndarray) -> np.ndarray:
    matrix = np.zeros((4, 4))
    for k in range(3):
        matrix[1:, 1 + k] = np.cross(rotation, np.eye(3)[k])
    matrix[0, 1:] = matrix[1:, 0] = rapidity
    return matrix


def lorentz() -> list[dict]:
    cases = []
    for angle in [0.0, 1e-10, 0.7, 3.0]:
        for rapidity in [0.0, 1e-11, 0.4, 2.0, 5.0]:
            rotation, boost = (v / np.linalg.norm(v) for v in RNG.normal(size=(2, 3)))
            coordinates = np.concatenate([rotation * angle, boost * rapidity])
            matrix = exponential(generator(coordinates[:3], coordinates[3:]))
            cases.append({"coordinates": coordinates.tolist(), "matrix": matrix.tolist()})
    return cases


def boosts() -> list[dict]:
    cases = []
    for rapidity in [1e-3, 0.5, 2.0, 5.0]:
        direction = RNG.normal(size=3)
        direction /= np.linalg.norm(direction)
        momentum = RNG.normal(size=3)
        energy = float(np.sqrt(1 + momentum @ momentum))
        moved = Momentum4(energy, *momentum).boost(*-direction, gamma=np.cosh(rapidity))
        cases.append(
            {
                "rapidity": (direction * rapidity).tolist(),
                "before": [energy, *momentum.tolist()],
                "after": [float(c) for c in (moved.e, moved.p_x, moved.p_y, moved.p_z)],
            }
        )
    return cases


def main() -> None:
    document = {
        "made_by": "make_lie.py",
        "versions": {package: version(package) for package in ["mpmath", "scipy", "pylorentz", "numpy"]},
        "rotation_vectors": rotation_vectors(),
        "rotations": rotations(),
        "lorentz": lorentz(),
        "boosts": boosts(),
    }
    print(json.dumps(document, separators=(",", ":")).replace(",{", ",\n{"))


if __name__ == "__main__":
    main()
