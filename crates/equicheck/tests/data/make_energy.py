"""Write energy.json: reference values for the energy distance and its permutation test.

    python make_energy.py > energy.json        (a second)

Needs scipy and numpy; equicheck is not used.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from itertools import combinations

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance


def squared(first: np.ndarray, second: np.ndarray) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| over all pairs."""
    return float(2 * cdist(first, second).mean() - cdist(first, first).mean() - cdist(second, second).mean())


def exact_p(first: np.ndarray, second: np.ndarray) -> float:
    """Share of all splits of the pooled sample whose distance is at least that of the given one."""
    pooled, n = np.concatenate([first, second]), len(first)
    observed = squared(first, second)
    distances = []
    for chosen in combinations(range(2 * n), n):
        rest = [k for k in range(2 * n) if k not in chosen]
        distances.append(squared(pooled[list(chosen)], pooled[rest]))
    return float(np.mean(np.array(distances) >= observed - 1e-12))


def main() -> None:
    random = np.random.default_rng(20130801)
    cases = []
    for n, dimension, shift, stretch in [
        (5, 1, 0.0, 1.0),
        (5, 1, 1.0, 1.0),
        (5, 1, 3.0, 1.0),
        (6, 3, 0.0, 1.0),
        (6, 3, 1.0, 1.0),
        (6, 3, 0.0, 5.0),
        (40, 1, 0.5, 1.0),
        (40, 20, 0.2, 2.0),
    ]:
        first = random.standard_normal((n, dimension))
        second = stretch * random.standard_normal((n, dimension)) + shift
        case = {
            "first": first.tolist(),
            "second": second.tolist(),
            "squared": squared(first, second),
            # scipy knows one dimension, and takes the root.
            "scipy": energy_distance(first[:, 0], second[:, 0]) if dimension == 1 else None,
            "p": exact_p(first, second) if n <= 6 else None,
        }
        cases.append(case)
    versions = {package: version(package) for package in ["scipy", "numpy"]}
    document = {"made_by": "make_energy.py", "versions": versions, "cases": cases}
    print(json.dumps(document, separators=(",", ":")).replace(",{", ",\n{"))


if __name__ == "__main__":
    main()
