"""How often is a healthy model called anything but PASS?

    python -m simulations.healthy [--seeds 1000] [--samples 3] [--transforms 8]      (from tests/)

Every seed has inputs and elements of its own. Prints a table, and every alarm; exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

import torch

import equicheck

from .models import HEALTHY, Healthy


def verdicts(model: Healthy, seeds: range, samples: int, transforms: int) -> tuple[Counter[str], list[str]]:
    """Verdicts of one audit per seed, and a line for every one that is not PASS."""
    network = model.build()
    counts: Counter[str] = Counter()
    alarms = []
    for seed in seeds:
        inputs = [model.inputs(1000 * seed + k) for k in range(samples)]
        report = equicheck.audit(network, inputs, **model.arguments, seed=seed, transforms=transforms)
        counts[report.verdict] += 1
        if report.verdict != "PASS":
            reasons = [f"{o.name}: {o.reason}" for o in report.outputs.values() if o.verdict != "PASS"]
            reasons += [f"{f.mode}: {f.message}" for f in report.findings]
            alarms.append(f"{model.name}, seed {seed}: {report.verdict}: {'; '.join(reasons)}")
    return counts, alarms


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--transforms", type=int, default=8)
    parser.add_argument("--models", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'model':<20} {'audits':>7} {'PASS':>7} {'NEEDS_ATTENTION':>16} {'FAIL':>5} {'seconds':>8}")
    alarmed = 0
    for model in HEALTHY:
        if options.models and model.name not in options.models:
            continue
        start = time.perf_counter()
        seeds = range(options.first, options.first + options.seeds)
        counts, alarms = verdicts(model, seeds, options.samples, options.transforms)
        seconds = time.perf_counter() - start
        columns = [counts["PASS"], counts["NEEDS_ATTENTION"], counts["FAIL"]]
        print(f"{model.name:<20} {options.seeds:>7} {columns[0]:>7} {columns[1]:>16} {columns[2]:>5} {seconds:>8.0f}")
        for line in alarms:
            print(f"  {line}")
        sys.stdout.flush()
        alarmed += len(alarms)
    return 1 if alarmed else 0


if __name__ == "__main__":
    sys.exit(main())
