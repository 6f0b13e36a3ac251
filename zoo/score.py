"""What audits say of the zoo, against the truth.

    python -m zoo.score [NAME_OR_MODE ...] [--samples 3] [--transforms 8] [--no-twins] [--held-back | --all]

A bug is detected if the verdict is the right one (of any kind but PASS where that is not right), located if every break
named, or without one the first finding's module, is at the faulty module or where an expert would look too, and its
mode named if the first finding has it. Healthy networks and repaired twins count as false alarms where they do not
pass.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from typing import Any

import torch

import equicheck

from . import HEALTHY, SPECIMENS, Specimen


def audited(specimen: Specimen, repaired: bool, plan: dict[str, Any]) -> tuple[equicheck.Report | str, float]:
    """The report, or what was raised, and seconds."""
    build = specimen.repaired if repaired else specimen.build
    began = time.perf_counter()
    try:
        report: equicheck.Report | str = equicheck.audit(
            build(), specimen.samples(), factory=build, **plan | specimen.declaration(repaired)
        )
    except Exception as error:
        report = f"{type(error).__name__}: {error}"
    return report, time.perf_counter() - began


def located(report: equicheck.Report, specimen: Specimen) -> bool | None:
    """Whether the breaks are where the fault is; None where no place is named, and no forward shows the fault."""
    places = [found.location for found in report.breaks]
    # What breaks no symmetry is located by what was found.
    places = places or [found.location for found in report.findings[:1] if found.class_ is not None]
    places = [place.replace("(root)", "") for place in places]
    right = {place for place in (specimen.location, *specimen.also_right) if place is not None}
    if specimen.location is None:
        return set(places) <= right
    if specimen.evidence != "symmetry" and not places:
        return None
    return bool(places) and set(places) <= right


def main(arguments: list[str]) -> int:
    """Scores the chosen specimens, prints a line for what is not right, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chosen", nargs="*", help="parts of names, or modes; all without")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--transforms", type=int, default=8)
    parser.add_argument("--no-twins", action="store_true", help="leave out the repaired twins")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--held-back", action="store_true", help="the held-back part alone, which is left out without")
    part.add_argument("--all", action="store_true", help="both parts")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    every = [
        s
        for s in SPECIMENS.values()
        if (chosen.all or s.held_back == chosen.held_back)
        and (not chosen.chosen or any(p in s.name or p == s.mode for p in chosen.chosen))
    ]
    if not every:
        parser.error(f"nothing in the zoo is called {' or '.join(chosen.chosen)}")
    plan = {"samples": chosen.samples, "transforms": chosen.transforms}
    tally: Counter[str] = Counter()
    by_mode: dict[str, Counter[str]] = defaultdict(Counter)
    seconds = []
    for specimen in every:
        healthy = specimen.mode == HEALTHY
        report, spent = audited(specimen, False, plan)
        seconds.append(spent)
        said = []
        if not healthy:
            by_mode[specimen.mode]["of"] += 1
        if isinstance(report, str):
            tally["crashes"] += 1
            said.append(report)
        elif healthy:
            alarm = report.verdict != "PASS" or report.breaks
            tally["false alarms"] += bool(alarm)
            said.extend([f"{report.verdict} {[f.mode for f in report.findings]}"] if alarm else [])
        else:
            place = located(report, specimen)
            first = report.findings[0].mode if report.findings else None
            counts = {
                "detected": report.verdict == specimen.verdict
                or {report.verdict, specimen.verdict}.isdisjoint({"PASS"}),
                "verdict": report.verdict == specimen.verdict,
                "located": place is True,
                "named": first == specimen.mode,
            }
            tally["without a place"] += place is None
            for what, right in counts.items():
                tally[what] += right
                by_mode[specimen.mode][what] += right
            if not counts["verdict"]:
                said.append(f"{report.verdict}, not {specimen.verdict}")
            if place is False:
                named = [(b.location, b.kind, b.confidence) for b in report.breaks]
                said.append(f"breaks {named}, not {specimen.location}")
            if not counts["named"]:
                said.append(f"found {[f.mode for f in report.findings]}")
        if not healthy and not chosen.no_twins:
            twin, spent = audited(specimen, True, plan)
            seconds.append(spent)
            # Where nothing is repaired, the specimen is healthy but for its inputs.
            repaired = specimen.mend is not None or specimen.repair
            if repaired and (isinstance(twin, str) or twin.verdict != "PASS"):
                tally["false alarms"] += 1
                said.append(
                    f"twin: {twin if isinstance(twin, str) else (twin.verdict, [f.mode for f in twin.findings])}"
                )
        tally["healthy" if healthy else "bugs"] += 1
        if said:
            print(f"{specimen.name:34s} {specimen.mode:27s} {'; '.join(said)}", flush=True)
    print(f"\n{'mode':28s} {'of':>3s} detected located named")
    for mode, counts in sorted(by_mode.items()):
        print(f"{mode:28s} {counts['of']:3d} {counts['detected']:8d} {counts['located']:7d} {counts['named']:5d}")
    print(f"\n{dict(tally)}; {sum(seconds):.0f} s, the longest {max(seconds, default=0):.1f} s")
    return 1 if tally["crashes"] or tally["false alarms"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
