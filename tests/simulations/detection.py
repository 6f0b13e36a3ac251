"""From which size on is a violation found, whatever the rounding noise of the model?

    python -m simulations.detection [--seeds 20]      (from tests/)

The network of `networks.precision` is exact in double precision; its noise in single precision is set by how far from
the origin its molecules lie. A pseudovector of relative size 1e-8 ... 1 is added to its dipole. Prints, by noise and
size, the share of audits that see it, and the share that call it broken.
"""

from __future__ import annotations

import argparse
import sys

import torch

import equicheck
from networks import precision

SIZES = [0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
DISTANCES = [1.0, 100.0, 2000.0]


def audited(size: float, distance: float, seed: int, transforms: int = 8) -> equicheck.Report:
    inputs = [precision.molecule(100 * seed + k, distance) for k in range(3)]
    return equicheck.audit(
        precision.build(size),
        inputs,
        group=precision.GROUP,
        in_layouts=precision.IN_LAYOUTS,
        out_layouts=precision.OUT_LAYOUTS,
        seed=seed,
        transforms=transforms,
    )


def curve(distance: float, seeds: int) -> tuple[float, list[tuple[float, float, float]]]:
    """Largest relative error without a violation, and by size: it, share of audits that see it, that say broken."""
    noise = 0.0
    rows = []
    for size in SIZES:
        outputs = [audited(size, distance, seed).outputs["dipole"] for seed in range(seeds)]
        if size == 0.0:
            noise = max(output.scaled_max for output in outputs)
        seen = sum(output.classification in ("approximate", "broken") for output in outputs) / seeds
        broken = sum(output.classification == "broken" for output in outputs) / seeds
        rows.append((size, seen, broken))
    return noise, rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'noise (f32)':>12} {'violation':>10} {'seen':>7} {'broken':>7}")
    wrong = 0
    for distance in DISTANCES:
        noise, rows = curve(distance, options.seeds)
        for size, seen, broken in rows:
            print(f"{noise:>12.1e} {size:>10.0e} {seen:>7.0%} {broken:>7.0%}")
            wrong += (size == 0.0 and seen > 0) or (size >= 1e-7 and seen < 1) or (size < 1e-3 and broken > 0)
        sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
