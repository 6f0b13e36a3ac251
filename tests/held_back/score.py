"""Audits the held-back networks, and says where the layer stage saw symmetry lost.

    python tests/held_back/score.py [--seed 0]

No rule or threshold of the engine was chosen by them. ``verify.py`` checks that they are what they say. What is right:
the module whose own code holds the fault is the one break that is named, as ``module`` or ``functional``; a healthy
network passes and has no break.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter

import heldback
import torch

import equicheck


def audited(case: heldback.Case) -> equicheck.Report:
    def double(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.double() if tensor.is_floating_point() else tensor

    return equicheck.audit(
        case.build(torch.float64),
        [{name: double(tensor) for name, tensor in sample.items()} for sample in case.inputs()],
        group=case.group,
        in_layouts=case.in_layouts,
        out_layouts=case.out_layouts,
        domain="periodic" if "T(" in case.group else None,
        precision="as_is",
        samples=3,
        transforms=4,
        gradients=False,
    )


def said(case: heldback.Case, report: equicheck.Report) -> str:
    breaks = report.breaks
    if case.truth is None:
        return "healthy" if report.verdict == "PASS" and not breaks else "false alarm"
    paths = case.truth["paths"]
    if not breaks:
        return "none"
    if breaks[0].kind == "bracket":
        return "bracket"
    if breaks[0].location not in paths:
        return "wrong"
    return "right" if {found.location for found in breaks} <= set(paths) else "and more"


def score(title: str, cases: list[heldback.Case]) -> bool:
    tally: Counter[str] = Counter()
    seconds = []
    for case in cases:
        began = time.perf_counter()
        report = audited(case)
        seconds.append(time.perf_counter() - began)
        verdict = said(case, report)
        tally[verdict] += 1
        if verdict not in ("healthy", "right"):
            places = "; ".join(f"{found.location} {found.kind} {found.confidence}" for found in report.breaks)
            print(f"{case.name}: {verdict}: {case.truth and case.truth['paths']} was to be named; {places}")
    print(f"{title}: {dict(tally)}; median {statistics.median(seconds):.2f} s, longest {max(seconds):.1f} s")
    return tally["false alarm"] == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the injected faults")
    options = parser.parse_args()
    torch.set_num_threads(1)
    healthy = score("healthy networks and planted bugs", heldback.CASES)
    score("injected faults", heldback.injections(options.seed))
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
