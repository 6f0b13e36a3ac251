"""Write wigner.json: reference values for the Wigner-D matrices and the irreps notation.

    python make_wigner.py > wigner.json        (about three minutes)

Needs e3nn 0.6, torch, spherical 1.1.4, scipy, mpmath and numpy; equicheck is not used.

Four sources give D^l(R) for each rotation, in e3nn's real basis:

mpmath     the definition, by projection at 40 digits: Y(R x) = D(R) Y(x), therefore
           D(R) = integral over the sphere of Y(R x) Y(x)^T, with a quadrature that is exact for
           the products. Y is assembled from `mpmath.spherharm`. This is the value stored.
scipy      the same projection in double precision with `scipy.special.sph_harm_y`.
spherical  complex Wigner matrices by a recursion, brought to the real basis by the unitary U.
e3nn       `Irrep.D_from_angles`, with torch's default dtype set to float64 (e3nn's generators
           follow the default dtype, whatever its input). The angles come from the 40-digit
           rotation: `D_from_matrix` takes an arccos, which loses half of the digits near a pole
           (its deviation, 9e-9 at 1e-9 from a pole, is printed). Away from the poles the two are checked to agree.

e3nn's basis: real spherical harmonics with y as the polar axis and z where the azimuth is zero, no
Condon-Shortley sign, m = -l..l, so that l = 1 is (x, y, z). With standard axes (X, Y, Z) = (z, x, y)
and Y_lm the standard complex harmonic (with the Condon-Shortley sign):

    m = 0: Y_l0;   m > 0: sqrt(2) (-1)^m Re Y_lm;   m < 0: sqrt(2) (-1)^m Im Y_l|m|

Since Y_l,-m = (-1)^m conj(Y_lm), the real harmonics are U times the complex ones, with

    U[0, 0] = 1;   m > 0: U[m, m] = (-1)^m / sqrt(2),       U[m, -m] = 1 / sqrt(2)
                          U[-m, m] = -i (-1)^m / sqrt(2),   U[-m, -m] = i / sqrt(2)

Numbers are stored as integers in units of 1e-15, and the double precision sources as their
difference from the stored value, which keeps the file small.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

import mpmath
import numpy as np
import quaternionic
import scipy.special
import spherical
import torch
from e3nn import o3

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
mpmath.mp.dps = 40

L_MAX = 12
UNIT = 1e-15
ALL = list(range(L_MAX + 1))
SOME = [1, 2, 3, 5, 8, 12]


def about(axis, angle) -> list:
    """Unit quaternion (w, x, y, z) of a turn about `axis`, at 40 digits."""
    axis = [mpmath.mpf(a) for a in axis]
    norm = mpmath.sqrt(sum(a * a for a in axis))
    half = mpmath.mpf(angle) / 2
    return [mpmath.cos(half)] + [mpmath.sin(half) * a / norm for a in axis]


def times(p: list, q: list) -> list:
    """Product of two quaternions."""
    a, b, c, d = p
    e, f, g, h = q
    return [
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    ]


def unit(*q) -> list:
    norm = mpmath.sqrt(sum(mpmath.mpf(c) ** 2 for c in q))
    return [mpmath.mpf(c) / norm for c in q]


def matrix(q: list) -> mpmath.matrix:
    """Active rotation matrix of a unit quaternion."""
    w, x, y, z = q
    return mpmath.matrix(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


PI = mpmath.pi
TINY = mpmath.mpf("1e-9")
X, Y, Z, GENERIC = (1, 0, 0), (0, 1, 0), (0, 0, 1), (3, -2, 5)
ROTATIONS = {
    "generic": (unit(3, -5, 2, 7), ALL),
    "generic, second": (unit(11, 2, 13, -6), SOME),
    "generic, third": (unit(-2, 9, -4, 1), SOME),
    "identity": (unit(1, 0, 0, 0), SOME),
    "about y by 1.1": (about(Y, "1.1"), SOME),
    "about y by pi": (unit(0, 0, 1, 0), SOME),
    "about x by pi": (unit(0, 1, 0, 0), SOME),
    "about z by pi": (unit(0, 0, 0, 1), SOME),
    "about a generic axis by pi": (about(GENERIC, PI), SOME),
    "about x by pi/2": (about(X, PI / 2), SOME),
    "cyclic permutation of the axes": (unit(1, 1, 1, 1), SOME),
    "1e-9 from the identity": (about(GENERIC, TINY), SOME),
    "1e-9 from a turn about y": (times(about(X, TINY), about(Y, "2.3")), SOME),
    "1e-9 from turning y over": (times(about(X, PI - TINY), about(Y, "-0.7")), SOME),
    "1e-9 from pi about a generic axis": (about(GENERIC, PI - TINY), SOME),
    "1e-4 from a turn about y": (times(about(Z, "1e-4"), about(Y, "-1.9")), SOME),
}


def angles(rotation: mpmath.matrix) -> list:
    """e3nn's (alpha, beta, gamma): R = R_y(alpha) R_x(beta) R_y(gamma); gamma = 0 at the poles."""
    sine = mpmath.hypot(rotation[0, 1], rotation[2, 1])
    beta = mpmath.atan2(sine, rotation[1, 1])
    if sine < mpmath.mpf("1e-30"):
        return [mpmath.atan2(-rotation[2, 0], rotation[0, 0]), beta, mpmath.mpf(0)]
    alpha = mpmath.atan2(rotation[0, 1], rotation[2, 1])
    return [alpha, beta, mpmath.atan2(rotation[1, 0], -rotation[1, 2])]


def quadrature() -> list:
    """Points (standard axes) and weights, exact for products of two harmonics up to L_MAX."""
    points = []
    for k in range(L_MAX + 1):
        start = mpmath.mpf(float(np.polynomial.legendre.leggauss(L_MAX + 1)[0][k]))
        if 2 * k == L_MAX:
            start = mpmath.mpf(0)
        node = mpmath.findroot(lambda c: mpmath.legendre(L_MAX + 1, c), start) if start else start
        slope = (L_MAX + 1) * mpmath.legendre(L_MAX, node) / (1 - node**2)
        weight = 2 / ((1 - node**2) * slope**2)
        turns = 2 * L_MAX + 1
        for j in range(turns):
            azimuth = 2 * PI * (j + mpmath.mpf("0.3")) / turns
            sine = mpmath.sqrt(1 - node**2)
            point = mpmath.matrix([sine * mpmath.cos(azimuth), sine * mpmath.sin(azimuth), node])
            points.append((point, weight * 2 * PI / turns))
    return points


POINTS = quadrature()
CYCLE = mpmath.matrix([[0, 0, 1], [1, 0, 0], [0, 1, 0]])  # (X, Y, Z) = (z, x, y)


def real_rows(harmonic, points: list, number) -> list[list]:
    """e3nn's real harmonics, one list per degree of [2l+1][points], from a complex `harmonic`."""
    polar = [mpmath.atan2(mpmath.hypot(p[0], p[1]), p[2]) for p in points]
    azimuth = [mpmath.atan2(p[1], p[0]) for p in points]
    root2 = number(mpmath.sqrt(2))
    table = []
    for l in ALL:
        rows = [None] * (2 * l + 1)
        for m in range(l + 1):
            values = [harmonic(l, m, number(t), number(a)) for t, a in zip(polar, azimuth)]
            if m == 0:
                rows[l] = [v.real for v in values]
            else:
                rows[l + m] = [root2 * (-1) ** m * v.real for v in values]
                rows[l - m] = [root2 * (-1) ** m * v.imag for v in values]
        table.append(rows)
    return table


def rotated(rotation: mpmath.matrix) -> list:
    standard = CYCLE * rotation * CYCLE.T
    return [standard * p for p, _ in POINTS]


SCALE = 10**34  # fixed point: sums of products of Python integers are fast and exact


def fixed(table: list) -> list:
    return [np.array([[int(mpmath.nint(v * SCALE)) for v in row] for row in rows], dtype=object) for rows in table]


def by_mpmath(rotation: mpmath.matrix, base: list) -> list[np.ndarray]:
    """D^l as integers in units of 1e-15."""
    left = fixed(real_rows(mpmath.spherharm, rotated(rotation), mpmath.mpf))
    out = []
    for a, b in zip(left, base):
        product = (a @ b.T) * 10**15
        out.append(np.vectorize(lambda v: int(mpmath.nint(mpmath.mpf(v) / SCALE**2)))(product))
    return out


def by_scipy(rotation: mpmath.matrix) -> list[np.ndarray]:
    weights = np.array([float(w) for _, w in POINTS])
    right = real_rows(scipy.special.sph_harm_y, [p for p, _ in POINTS], float)
    left = real_rows(scipy.special.sph_harm_y, rotated(rotation), float)
    return [np.array(a) * weights @ np.array(b).T for a, b in zip(left, right)]


def unitary(l: int) -> np.ndarray:
    u = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)
    u[l, l] = 1
    for m in range(1, l + 1):
        u[l + m, l + m] = (-1) ** m / 2**0.5
        u[l + m, l - m] = 1 / 2**0.5
        u[l - m, l + m] = -1j * (-1) ** m / 2**0.5
        u[l - m, l - m] = 1j / 2**0.5
    return u


def by_spherical(q: list) -> list[np.ndarray]:
    """Y_lm(R x) = sum over n of D_mn(R) Y_ln(x), for the D of `spherical` 1.x."""
    w, x, y, z = (float(c) for c in q)
    wigner = spherical.Wigner(L_MAX)
    flat = wigner.D(quaternionic.array([w, z, x, y]))
    out = []
    for l in ALL:
        start, n = wigner.Dindex(l, -l, -l), 2 * l + 1
        complex_d = flat[start : start + n * n].reshape(n, n)
        real = unitary(l) @ complex_d @ unitary(l).conj().T
        assert np.abs(real.imag).max() < 1e-13
        out.append(real.real)
    return out


def by_e3nn(rotation: mpmath.matrix) -> list[np.ndarray]:
    euler = [torch.tensor(float(a)) for a in angles(rotation)]
    return [o3.Irrep(l, 1).D_from_angles(*euler).numpy() for l in ALL]


def flat(values: np.ndarray) -> list[int]:
    return [int(v) for v in values.ravel()]


def wigner_cases() -> list[dict]:
    base = fixed(
        [
            [[v * w for v, (_, w) in zip(row, POINTS)] for row in rows]
            for rows in real_rows(mpmath.spherharm, [p for p, _ in POINTS], mpmath.mpf)
        ]
    )
    worst = dict.fromkeys(["scipy", "spherical", "e3nn", "e3nn D_from_matrix"], 0)
    cases = []
    for name, (q, degrees) in ROTATIONS.items():
        rotation = matrix(q)
        double = np.array(rotation.tolist(), dtype=float)
        exact = by_mpmath(rotation, base)
        assert np.abs(exact[1] * UNIT - double).max() < 2 * UNIT, "l = 1 is (x, y, z)"
        sources = {
            "scipy": by_scipy(rotation),
            "spherical": by_spherical(q),
            "e3nn": by_e3nn(rotation),
        }
        from_matrix = [o3.Irrep(l, 1).D_from_matrix(torch.tensor(double)).numpy() for l in ALL]
        case = {"name": name, "matrix": double.tolist(), "degrees": degrees}
        case["mpmath"] = [flat(exact[l]) for l in degrees]
        for source, values in sources.items():
            difference = [np.rint(v / UNIT).astype(np.int64) - e for v, e in zip(values, exact)]
            largest = max(int(np.abs(d).max()) for d in difference)
            assert largest < 100, (name, source, largest)
            worst[source] = max(worst[source], largest)
            case[source] = [flat(difference[l]) for l in degrees]
        loss = max(np.abs(v - e * UNIT).max() for v, e in zip(from_matrix, exact))
        if min(1 - abs(double[1, 1]), 1) > 1e-3:
            assert loss < 3e-13, (name, loss)
        worst["e3nn D_from_matrix"] = max(worst["e3nn D_from_matrix"], int(loss / UNIT))
        print(f"{name}: done; e3nn D_from_matrix off by {loss:.1e}", file=sys.stderr)
        cases.append(case)
    print("largest deviation from mpmath, in units of 1e-15:", worst, file=sys.stderr)
    return cases


def irreps_cases() -> list[dict]:
    """Direct sums on O(3), rotations away from the poles and the same times the inversion."""
    cases = []
    for text in ["2x0e+1o+0o+2x1e+2e", "1x3o+2x1o+0x4e+3e", "1y+2y+0y"]:
        for name in ["generic", "generic, second"]:
            for sign in [1.0, -1.0]:
                g = sign * np.array(matrix(ROTATIONS[name][0]).tolist(), dtype=float)
                dense = o3.Irreps(text).D_from_matrix(torch.tensor(g)).numpy()
                values = np.rint(dense / UNIT).astype(np.int64)
                cases.append({"irreps": text, "matrix": g.tolist(), "dense": flat(values)})
    return cases


def notation_cases() -> list[dict]:
    """What e3nn makes of a text: its canonical form and dimension, or null where it refuses."""
    texts = [
        "8x0e+4x1o+2x2e", "8x0e + 4x1o", "0e", "1o+2e", " 8 x 0e ", "0 e", "0x1e", "01x0e",
        "1x0e+1x0e", "1y+2y", "3x12o", "\t2x1e\n+ 0o", "0e++1o", "0e+", "+0e", "3x1", "1e1o",
        "1z", "-1x0e", "8x0e,1o", "x0e", "8x", "e", "x", "+", "8*0e", "1E", "2x3x1o", "1.5x0e",
        "4", "1 0x", "0e 1o", "8X0e", "8×0e", "0e|1o",
    ]  # fmt: skip
    cases = []
    for text in texts:
        try:
            irreps = o3.Irreps(text)
            cases.append({"text": text, "canonical": str(irreps), "dim": irreps.dim})
        except ValueError:
            cases.append({"text": text, "canonical": None, "dim": None})
    return cases


def main() -> None:
    packages = ["e3nn", "torch", "spherical", "scipy", "mpmath", "numpy"]
    document = {
        "made_by": "make_wigner.py",
        "versions": {p: version(p).split("+")[0] for p in packages},
        "unit": UNIT,
        "notation": notation_cases(),
        "irreps": irreps_cases(),
        "wigner": wigner_cases(),
    }
    # One array of numbers per line: compact, and a diff still shows what moved.
    text = json.dumps(document, separators=(",", ":"))
    print(text.replace(',"', ',\n"').replace("],[", "],\n["))


if __name__ == "__main__":
    main()
