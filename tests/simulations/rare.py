"""Are violations found that only a small share of the group shows, and does the report's bound cover that share?

    python -m simulations.rare [--audits 200]      (from tests/)

The model is wrong where a direction that turns with the input lies in a cap around z that covers the given share of the
sphere: that share of SO(3) violates, whatever the input. Prints how often the violation was found, how often it had to
be by the number of elements drawn, and how often the bound of the report was below the truth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch

import equicheck


def rarely_wrong(share: float, size: float = 0.5) -> Callable[[torch.Tensor], torch.Tensor]:
    """A vector-valued function of points whose output is bent in a share of the orientations."""

    def model(x: torch.Tensor) -> torch.Tensor:
        direction = x[1] - x[0]
        inside = direction[2] / direction.norm() > 1 - 2 * share
        vector = (x - x.mean(0)).square().sum(1) @ (x - x.mean(0))
        return torch.where(inside, vector + size * vector.norm() * torch.tensor([0.0, 0.0, 1.0]).to(x), vector)

    return model


def audited(share: float, seed: int, samples: int, transforms: int) -> equicheck.Report:
    inputs = [torch.randn(6, 3, generator=torch.Generator().manual_seed(1000 * seed + k)) for k in range(samples)]
    # Samples whose own orientation is in the cap would be wrong everywhere else: draw those that are not.
    inputs = [x if (x[1] - x[0])[2] < 0 else x * torch.tensor([1.0, 1.0, -1.0]) for x in inputs]
    return equicheck.audit(
        rarely_wrong(share),
        inputs,
        group="SO(3)",
        in_layouts="nodes! vector",
        out_layouts="vector",
        seed=seed,
        transforms=transforms,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audits", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'share':>6} {'pairs':>6} {'found':>7} {'expected':>9} {'bound below the share':>22}")
    wrong = 0
    for share in (0.08, 0.01):
        for samples, transforms in [(3, 8), (10, 10), (10, 30)]:
            found = missed = 0
            for seed in range(options.audits):
                report = audited(share, seed, samples, transforms)
                row = report.outputs["output"].factors[0]
                found += row["exceeding"] > 0
                missed += row["share_bound"] < share
            pairs = samples * transforms
            expected = 1 - (1 - share) ** pairs
            rates = found / options.audits, missed / options.audits
            print(f"{share:>6.0%} {pairs:>6} {rates[0]:>7.1%} {expected:>9.1%} {rates[1]:>22.1%}")
            sys.stdout.flush()
            deviation = 5 * (expected * (1 - expected) / options.audits) ** 0.5
            wrong += abs(rates[0] - expected) > deviation + 1e-9
            wrong += rates[1] > 0.05 + 5 * (0.05 * 0.95 / options.audits) ** 0.5
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
