"""Audits the networks of ``hidden_networks``: one line each; what the layer stage should have said and did not.

python tests/hidden_audits.py                    # the healthy ones
python tests/hidden_audits.py -k egnn -v         # those whose name contains it, in detail
python tests/hidden_audits.py --bugs --depths 0,3,7 [--families painn,gnn] [--strength 1]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch

import equicheck
from hidden_networks import BUGS, FAMILIES, HEALTHY, LAYERS, network

#: As much of a plan as an end-to-end verdict needs here.
PLAN: dict[str, Any] = {"samples": 3, "transforms": 4, "gradients": False}


#: Rows without a layout that a line names.
SHOWN = 4


def audited(model: Any, options: dict[str, Any]) -> tuple[equicheck.Report | str, float]:
    """A report, or how the engine failed, and the seconds that it took."""
    began = time.perf_counter()
    double = all(p.dtype == torch.float64 for p in model.parameters())
    plan = PLAN | {"precision": "as_is" if double else "both"}
    try:
        report: equicheck.Report | str = equicheck.audit(model, **(plan | options))
    except KeyboardInterrupt:
        raise
    except BaseException:  # the run goes on, after a panic too, which is no Exception
        report = traceback.format_exc(limit=-1).strip().splitlines()[-1]
    return report, time.perf_counter() - began


def counts(report: equicheck.Report) -> str:
    """Forwards and replays of the layer stage."""
    calls = report.plan["calls_by_purpose"]
    return f"{calls.get('layers', 0):3d} fw {calls.get('replays of modules', 0):4d} rp"


def unknown(report: equicheck.Report) -> tuple[list[str], int]:
    """Rows whose output has no known layout, and how many rows there are."""
    rows = report.layers.get("rows", [])
    return [
        row["location"] + (f"#{row['call']}" if row["call"] else "")
        for row in rows
        if row["verdict"] in ("not_known", "undetermined", "cannot_judge")
    ], len(rows)


def said(report: equicheck.Report) -> list[str]:
    """Breaks, in short."""
    return [
        f"{found.location}#{found.call} {found.kind} {found.confidence} left {found.remaining:.0e}"
        + (f" between {found.between}" if found.between else "")
        for found in report.breaks
    ]


def details(report: equicheck.Report) -> None:
    """The rows of the layer stage."""
    for name, output in report.outputs.items():
        print(f"    output {name}: {output.verdict} {output.classification} {output.violation:.1e}")
    for row in report.layers.get("rows", []):
        layouts = ", ".join(f"{leaf['shape']} {' / '.join(leaf['layout'] or ['?'])}" for leaf in row["outputs"])
        errors = " ".join("     -  " if e is None else f"{e:8.1e}" for e in (row["own_error"], row["propagated_error"]))
        print(f"    {row['location']}#{row['call']:<2} {row['verdict']:14} {errors}  {layouts}  {row['note'] or ''}")
    for note in report.layers.get("notes", []):
        print(f"    note: {note}")


def healthy(pattern: str, verbose: bool, samples: int) -> int:
    """Audits healthy networks; the number of those of which a break was named, or that did not pass."""
    alarms = known = total = 0
    kinds = {entry.kind for entry in HEALTHY.values()}
    seconds: list[float] = []
    for entry in HEALTHY.values():
        if pattern not in (entry.kind if pattern in kinds else entry.name):
            continue
        report, took = audited(entry.audited_model(), entry.audit_options(samples))
        if isinstance(report, str):
            alarms += 1
            print(f"{entry.name:24} CRASH {report}", flush=True)
            continue
        seconds.append(took)
        missing, count = unknown(report)
        known, total = known + count - len(missing), total + count
        wrong = bool(report.breaks) or report.verdict != "PASS" or report.layers["status"] != "ran"
        alarms += wrong
        line = f"{entry.name:24} {report.verdict:4.4} {took:4.1f} s {counts(report)} "
        line += f" known {count - len(missing):3d}/{count:<3d}"
        if report.breaks:
            line += f"  BREAK {'; '.join(said(report))}"
        if missing:
            line += f"  not: {' '.join(missing[:SHOWN])}" + (f" (+{len(missing) - SHOWN})" if missing[SHOWN:] else "")
        print(line, flush=True)
        if verbose:
            details(report)
        elif wrong:
            print(
                f"    {[(name, output.reason) for name, output in report.outputs.items() if output.verdict != 'PASS']}"
            )
            print(f"    {report.layers.get('reason', '')}")
    if seconds:
        print(
            f"{len(seconds)} networks, {alarms} with a break or without PASS; layouts known in {known} of {total} rows;"
            f" median {statistics.median(seconds):.2f} s, longest {max(seconds):.1f} s"
        )
    return alarms


def outcome(report: equicheck.Report, accepted: tuple[str, ...], kind: str) -> str:
    """How what was said compares with the module that is to be blamed."""
    found = report.first_break
    if found is None:
        return "none"
    if found.location in accepted and found.kind == kind:
        return "right" if {other.location for other in report.breaks} <= set(accepted) else "and more"
    if found.kind == "bracket":
        return "bracket"
    if found.location in accepted:
        return "other kind"
    return "neighbour" if found.kind == "functional" else "wrong"


def bugs(families: list[str], kinds: list[str], depths: list[int], strength: float, samples: int, verbose: bool) -> int:
    """Audits planted bugs; the number of those that were not located. A line per family and bug, a word per depth."""
    tally: dict[str, Counter[str]] = {family: Counter() for family in families}
    seconds: list[float] = []
    for family in families:
        for bug in BUGS[family]:
            if kinds and bug not in kinds:
                continue
            line, wrong = f"{family:16} {bug:13}", []
            for depth in depths:
                model, options, expected = network(family, bug, depth, strength, samples=samples)
                assert expected is not None
                report, took = audited(model, options)
                seconds.append(took)
                if isinstance(report, str):
                    word, what = "crash", [report]
                else:
                    word, what = outcome(report, *expected), said(report)
                    if word == "none":
                        what = [f"{report.verdict}, layers {report.layers['status']}"]
                tally[family][word] += 1
                line += f"  {depth}: {word}"
                if word != "right":
                    wrong.append(f"    {depth}: {expected[0][0]} {expected[1]} was to be named; {'; '.join(what)}")
                    if verbose and not isinstance(report, str):
                        print(*wrong[-1:], sep="\n")
                        details(report)
            print("\n".join([line, *wrong]), flush=True)
    total = sum(tally.values(), Counter())
    for name, counted in [*tally.items(), ("all", total)]:
        print(f"{name:16} {counted['right']:3d} of {counted.total():3d} right  {dict(counted)}")
    if seconds:
        print(f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.1f} s")
    return total.total() - total["right"]


def listed(text: str, known: Iterable[str]) -> list[str]:
    """Names with commas between; all where there are none."""
    names = [name for name in text.split(",") if name]
    if unknown_names := [name for name in names if name not in known]:
        raise SystemExit(f"no `{unknown_names[0]}`; there are {', '.join(known)}")
    return names or list(known)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", default="", help="part of a name, or a kind")
    parser.add_argument("-v", action="store_true", help="all rows of all layers")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--bugs", action="store_true", help="planted bugs, and not the healthy networks")
    parser.add_argument("--depths", default="0,3,7", help="layers of the bugs, 0 to 7, or `all`")
    parser.add_argument("--families", default="", help=", ".join(FAMILIES))
    parser.add_argument("--kinds", default="", help="of bugs: " + ", ".join(dict.fromkeys(sum(BUGS.values(), ()))))
    parser.add_argument("--strength", type=float, default=1.0)
    chosen = parser.parse_args(arguments)
    os.environ["RUST_BACKTRACE"] = "1" if chosen.v else "0"
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    if chosen.bugs:
        depths = range(LAYERS) if chosen.depths == "all" else [int(depth) for depth in chosen.depths.split(",")]
        kinds = listed(chosen.kinds, dict.fromkeys(sum(BUGS.values(), ())))
        families = listed(chosen.families, FAMILIES)
        return min(bugs(families, kinds, list(depths), chosen.strength, chosen.samples, chosen.v), 1)
    return min(healthy(chosen.k, chosen.v, chosen.samples), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
