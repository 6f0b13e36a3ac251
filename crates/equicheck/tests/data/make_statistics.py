"""Write statistics.json: reference values for the summaries and confidence bounds.

    python make_statistics.py > statistics.json        (a second)

Needs scipy and numpy; equicheck is not used.
"""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaln
from scipy.stats import binomtest

TRIALS = [1, 2, 10, 50, 2500, 20000]
ALPHAS = [0.05, 0.01, 0.05 / 7]
# Fixed, skewed and unsorted; no ties, and lengths on both sides of every rounding of a position.
VALUES = [3.25, 0.5, 1e-3, 17.0, 2.0, 0.25, 8.0, 4.75, 1.125, 6.5, 0.0625]
SHARES = [0.0, 0.05, 0.25, 0.5, 0.9, 0.95, 0.999, 1.0]


def upper(k: int, n: int, alpha: float) -> float:
    """Upper end of the one-sided exact interval."""
    interval = binomtest(k, n, alternative="less").proportion_ci(1 - alpha, method="exact")
    return float(interval.high)


def sequence(k: int, n: int, alpha: float) -> float:
    """Where the mixture martingale B(1 + k, 1 + n - k) / (p^k (1 - p)^(n - k)) reaches 1 / alpha above k / n."""
    if k == n:
        return 1.0

    def excess(p: float) -> float:
        return float(betaln(1 + k, 1 + n - k) - k * np.log(p) - (n - k) * np.log1p(-p) + np.log(alpha))

    return float(brentq(excess, max(k / n, 1e-300), 1 - 1e-15, xtol=1e-16, rtol=8.9e-16))


def main() -> None:
    bounds = [
        {"k": k, "n": n, "alpha": alpha, "upper": upper(k, n, alpha)}
        for n in TRIALS
        for k in sorted({0, 1, n // 100, n // 10, n // 2, n - 1, n} & set(range(n + 1)))
        for alpha in ALPHAS
    ]
    sequences = [{**case, "upper": sequence(case["k"], case["n"], case["alpha"])} for case in bounds]
    summaries = [
        {
            "values": VALUES[:length],
            "mean": float(np.mean(VALUES[:length])),
            "standard_deviation": float(np.std(VALUES[:length], ddof=1)),
            "quantiles": [float(np.quantile(VALUES[:length], share)) for share in SHARES],
        }
        for length in [2, 3, 4, 10, 11]
    ]
    document = {
        "made_by": "make_statistics.py",
        "versions": {package: version(package) for package in ["scipy", "numpy"]},
        "shares": SHARES,
        "summaries": summaries,
        "clopper_pearson": bounds,
        "confidence_sequence": sequences,
    }
    print(json.dumps(document, separators=(",", ":")).replace(",{", ",\n{"))


if __name__ == "__main__":
    main()
