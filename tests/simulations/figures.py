"""The figures of docs/methodology.md: one audit of each kind of network, with defaults.

python -m simulations.figures      (from tests/)
"""

from __future__ import annotations

import sys

import torch

import equicheck

from .models import HEALTHY

SHOWN = ("c4_network", "periodic_network", "lorentz_network", "graph_network", "irreps_network")


def main() -> int:
    torch.set_num_threads(1)
    print("| network | output | pairs | max relative f32 | noise f32 | max relative f64 | noise f64 | share at most |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for model in HEALTHY:
        if model.name not in SHOWN:
            continue
        report = equicheck.audit(model.build(), [model.inputs(k) for k in range(10)], **model.arguments, budget=600)
        for output in report.outputs.values():
            row = output.factors[0]
            double = output.float64
            share = f"{'= ' if row['bound'] == 'exact' else ''}{row['share_bound']:.2%}"
            print(
                f"| {model.name} | `{output.name}` | {row['pairs']} | {output.max_relative:.1e} | {output.noise:.1e} "
                f"| {double['max_relative']:.1e} | {double['noise']:.1e} | {share} |"
            )
        assert report.verdict == "PASS", report
    return 0


if __name__ == "__main__":
    sys.exit(main())
