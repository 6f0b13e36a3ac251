"""Random faults in random modules of the healthy networks, and how many of them an audit locates.

    python tests/injections.py [--count 200] [--seed 0] [-k NAME_OR_KIND] [--only NUMBERS] [-v]

A fault changes what a module returns: constant noise is added, entries are scaled by constants or set to zero, one
position along an axis changes its sign. What it does depends on the shape of the tensor alone, never on its values. A
fault that leaves the outputs of the model equivariant (it acts on channels, or behind it everything cancels), by the
action of ``hidden.truth``, is drawn again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import os
import statistics
import sys
import time
import types
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import equicheck
from hidden import truth
from hidden_audits import audited, details, said
from hidden_networks import HEALTHY, Entry

FAULTS = ("noise", "scale", "zero", "sign")
STRENGTHS = (1.0, 0.1, 0.01)
#: The error that counts as a break, in units of what rounding explains in a healthy network.
BROKEN = 100.0
#: What can be said of a fault, from right to wrong.
OUTCOMES = ("right", "and more", "bracket", "neighbour", "wrong", "none", "crash")

Change = Callable[[torch.Tensor], torch.Tensor]


def each(value: Any, function: Change) -> Any:
    """A tree of tuples, lists, dicts and dataclasses with ``function(tensor)`` for its floating tensors, in order."""
    if isinstance(value, torch.Tensor):
        return function(value) if value.is_floating_point() or value.is_complex() else value
    if isinstance(value, dict):
        return {key: each(child, function) for key, child in value.items()}
    if isinstance(value, (tuple, list)):
        children = [each(child, function) for child in value]
        return type(value)(*children) if hasattr(value, "_fields") else type(value)(children)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: each(getattr(value, name), function) for name in names})
    return value


def tensors(value: Any) -> list[torch.Tensor]:
    """The floating tensors of a tree, in order."""
    found: list[torch.Tensor] = []
    each(value, lambda tensor: found.append(tensor) or tensor)
    return found


@dataclasses.dataclass(frozen=True)
class Call:
    """A module's call: number of calls that ended before it, what it returned, whether others were made inside."""

    path: str
    order: int
    returned: list[torch.Tensor]
    inside: bool


def traced(model: nn.Module, inputs: dict[str, torch.Tensor]) -> list[Call]:
    """The calls of all modules but the root, in the order in which they end."""
    calls: list[Call] = []
    begun: list[int] = []

    def before(*_: Any) -> None:
        begun.append(len(calls))

    def after(path: str, _module: nn.Module, _arguments: Any, returned: Any) -> None:
        calls.append(Call(path, len(calls), tensors(returned), begun.pop() != len(calls)))

    hooks = []
    for path, module in model.named_modules():
        if path:
            hooks.append(module.register_forward_pre_hook(before))
            hooks.append(module.register_forward_hook(functools.partial(after, path)))
    try:
        model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


@dataclasses.dataclass(frozen=True)
class Fault:
    """kind: see ``FAULTS``; size: of the tensor's entries; axis: of the sign, counted from the last."""

    kind: str
    strength: float
    size: float
    axis: int
    seed: int

    def __call__(self, y: torch.Tensor) -> torch.Tensor:
        random = torch.Generator().manual_seed(self.seed)
        if self.kind == "noise":
            noise = torch.randn(y.shape, generator=random, dtype=torch.float64)
            return y + (self.strength * self.size * noise).to(y.dtype)
        if self.kind == "scale":
            factor = 2 * torch.rand(y.shape, generator=random, dtype=torch.float64) - 1
        elif self.kind == "zero":
            factor = -(torch.rand(y.shape, generator=random, dtype=torch.float64) < 0.2).double()
        else:
            factor = torch.zeros(y.shape, dtype=torch.float64)
            position = int(torch.randint(y.shape[self.axis], (1,), generator=random))
            factor.select(self.axis, position).fill_(-2)
        return y * (1 + self.strength * factor).to(y.dtype)


def inject(module: nn.Module, leaf: int, fault: Change) -> None:
    """Changes a leaf of what a module returns, in place: its class and its place in the model stay as they are."""
    own = type(module).forward

    @functools.wraps(own)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        numbers = itertools.count()
        return each(own(self, *args, **kwargs), lambda y: fault(y) if next(numbers) == leaf else y)

    module.forward = types.MethodType(forward, module)


@dataclasses.dataclass(frozen=True)
class Injection:
    """A model with a fault.

    accepted: the module that has it, and those that return the very same tensor.
    inside: whether other modules are called inside it: then it is the module's own code that is wrong.
    drawn: faults drawn before one was found that breaks the model.
    """

    number: int
    entry: Entry
    model: nn.Module
    path: str
    fault: Fault
    accepted: frozenset[str]
    inside: bool
    drawn: int

    def __str__(self) -> str:
        return f"#{self.number} {self.entry.name} {self.path} {self.fault.kind} {self.fault.strength:g}"


def injection(number: int, seed: int = 0, pattern: str = "") -> Injection:
    """The fault of this number; double precision must be torch's default."""
    random = torch.Generator().manual_seed(1_000_003 * seed + number)
    kinds = {entry.kind for entry in HEALTHY.values()}
    # What is in single precision inside has an error by itself, and tensors inside of vmap have no values.
    entries = [e for e in HEALTHY.values() if e.dtype == torch.float64 and e.name != "functional_transforms"]
    entries = [entry for entry in entries if pattern in (entry.kind if pattern in kinds else entry.name)]

    def pick(values: Any) -> Any:
        return values[int(torch.randint(len(values), (1,), generator=random))]

    # As often as a fault can be harmless: a module may have nothing but invariants behind it.
    for drawn in range(1000):
        entry = pick(entries)
        model = entry.build(0)
        inputs = entry.inputs(0)
        calls = [call for call in traced(model, inputs) if any(y.numel() for y in call.returned)]
        call = pick(calls)
        leaf = pick([k for k, y in enumerate(call.returned) if y.numel()])
        y = call.returned[leaf]
        size = y.detach().abs().square().mean().sqrt().item()
        axis = -1 - int(torch.randint(max(y.dim(), 1), (1,), generator=random))
        fault = Fault(pick(FAULTS), pick(STRENGTHS), size, axis, int(torch.randint(2**31, (1,), generator=random)))
        if fault.kind == "sign" and y.dim() == 0:
            continue
        inject(model.get_submodule(call.path), leaf, fault)
        error = truth.error(entry, model, samples=2, elements=2)
        if not BROKEN * entry.tolerance < error < float("inf"):
            continue
        again = traced(model, inputs)
        own = [other for other in again if other.path == call.path]
        same = {id(other.returned[leaf]) for other in own}
        accepted = {other.path for other in again if any(id(y) in same for y in other.returned)}
        return Injection(number, entry, model, call.path, fault, frozenset(accepted), call.inside, drawn + 1)
    raise RuntimeError(f"no fault breaks any of {len(entries)} networks")


def above(location: str, path: str) -> bool:
    """Whether a module is another, or holds it."""
    return location in ("(root)", path) or path.startswith(f"{location}.")


def contains(found: equicheck.Break, made: Injection) -> bool:
    """Whether what was said to lie between two calls holds the module that has the fault."""
    if not above(found.location, made.path) or found.between is None:
        return False
    order: dict[str, int] = {}
    own: list[int] = []
    numbers: Counter[str] = Counter()
    for call in traced(made.model, made.entry.inputs(0)):
        number = numbers[call.path]
        numbers[call.path] += 1
        order[f"{call.path} (call {number})" if number else call.path] = call.order
        if call.path == made.path:
            own.append(call.order)
    # The start and the end of a forward are no calls.
    before, after = (order.get(name) for name in found.between)
    return any((before is None or before < k) and (after is None or k <= after) for k in own)


def outcome(report: equicheck.Report, made: Injection) -> str:
    """What was said of a fault, as one of ``OUTCOMES``."""
    found = report.first_break
    if found is None:
        return "none"
    # The code of a module that calls others is its own, whichever way it is called.
    kinds = ("module", "functional") if made.inside else ("module",)
    if found.location in made.accepted and found.kind in kinds:
        # One place, by all of its calls.
        return "right" if {other.location for other in report.breaks} <= made.accepted else "and more"
    if found.kind == "bracket":
        return "bracket" if contains(found, made) else "wrong"
    return "neighbour" if found.kind == "functional" and above(found.location, made.path) else "wrong"


def table(results: list[tuple[Injection, str]]) -> str:
    """Counts by kind of network and fault."""
    lines = [f"{'':24}" + "".join(f"{name:>10}" for name in OUTCOMES)]
    groups: dict[str, Counter[str]] = {}
    for made, said_of_it in results:
        for name in (made.entry.kind, made.fault.kind, f"strength {made.fault.strength:g}", "all"):
            groups.setdefault(name, Counter())[said_of_it] += 1
    kinds = dict.fromkeys(entry.kind for entry in HEALTHY.values())
    for name in (*kinds, *FAULTS, *(f"strength {strength:g}" for strength in STRENGTHS), "all"):
        if name in groups:
            lines.append(f"{name:24}" + "".join(f"{groups[name][outcome]:10d}" for outcome in OUTCOMES))
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-k", default="", help="part of a network's name, or a kind of networks")
    parser.add_argument("--only", default="", help="numbers of faults, with commas between")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("-v", action="store_true", help="all rows of all layers")
    chosen = parser.parse_args(arguments)
    os.environ["RUST_BACKTRACE"] = "1" if chosen.v else "0"
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    numbers = [int(number) for number in chosen.only.split(",")] if chosen.only else range(chosen.count)
    results: list[tuple[Injection, str]] = []
    drawn, seconds, forwards, replays = 0, [], [], []
    began = time.perf_counter()
    for number in numbers:
        made = injection(number, chosen.seed, chosen.k)
        drawn += made.drawn
        report, took = audited(made.model, made.entry.audit_options(chosen.samples))
        if isinstance(report, str):
            results.append((made, "crash"))
            print(f"{made}: crash: {report}", flush=True)
            continue
        word = outcome(report, made)
        results.append((made, word))
        seconds.append(took)
        calls = report.plan["calls_by_purpose"]
        forwards.append(calls.get("layers", 0))
        replays.append(calls.get("replays of modules", 0))
        if word != "right" or chosen.v:
            where = "own code" if made.inside else "leaf"
            told = "; ".join(said(report)) or f"{report.verdict}, layers {report.layers['status']}"
            print(f"{made} ({where}): {word}: {told}", flush=True)
        if chosen.v:
            details(report)
    print(table(results))
    located = sum(word in ("right", "and more") for _, word in results)
    print(f"{located} of {len(results)} located; {drawn} drawn; {time.perf_counter() - began:.0f} s in all")
    if seconds:
        print(
            f"an audit: median {statistics.median(seconds):.2f} s, longest {max(seconds):.1f} s; layers: median"
            f" {statistics.median(forwards):g} forwards, {statistics.median(replays):g} replays of modules"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
