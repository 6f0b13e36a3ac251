"""Checks everything that a specimen claims, by code that knows nothing of equicheck.

    python -m zoo.truth [PART OF A NAME ...]

One line per specimen; exit status 1 if any claim is wrong. For a bug: it shows, and as strongly as stated; its healthy
twin with the same weights has nothing of it; to put the twin's module in the place of the faulty one alone heals the
network; the subgroup that is said to be respected is.
"""

from __future__ import annotations

import copy
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from . import HEALTHY, SPECIMENS, Specimen
from .actions import act, distance, draw, outputs
from .case import Inputs, default_dtype, generator

Declared = dict[str, Any]

#: In double precision.
ROUNDING = 1e-10


def cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """Fresh copies of the inputs; floating and complex ones in this precision."""
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64

    def one(x: torch.Tensor) -> torch.Tensor:
        return x.to(complex_dtype if x.is_complex() else dtype if x.is_floating_point() else x.dtype, copy=True)

    return {name: one(x) for name, x in inputs.items()}


def call(specimen: Specimen, net: nn.Module, inputs: Inputs, dtype: torch.dtype = torch.float64) -> Any:
    """One call, from equal states of the generators and of the network."""
    keeps = not specimen.training and specimen.mode != "state-drift"  # a call leaves it as it is
    state = {} if keeps else {name: tensor.clone() for name, tensor in net.named_buffers()}
    if specimen.training:
        net.train()
    torch.manual_seed(5)
    with default_dtype(dtype):
        value = net(**cast(inputs, dtype))
    if state:
        net.load_state_dict(state, strict=False)
    if specimen.training:
        net.eval()
    return value


def errors(
    specimen: Specimen,
    net: nn.Module,
    declared: Declared,
    group: str | None = None,
    dtype: torch.dtype = torch.float64,
    seeds: tuple[int, ...] | None = None,
) -> dict[str, float]:
    """The largest relative error of f(T x) = T' f(x), by output; NaN is infinite."""
    worst: dict[str, float] = {}
    for seed in specimen.seeds if seeds is None else seeds:
        random = generator(1000 + seed)
        with default_dtype(torch.float64):
            inputs = specimen.inputs(seed)
        before = outputs(declared["out_layouts"], call(specimen, net, inputs, dtype))
        for _ in range(specimen.elements):
            g = draw(declared, inputs, random, group)
            moved = {name: act(declared["in_layouts"][name], x, g, inputs, declared) for name, x in inputs.items()}
            after = outputs(declared["out_layouts"], call(specimen, net, moved, dtype))
            for name, (layout, value) in before.items():
                if layout is None:
                    continue
                value = value.detach().to(torch.complex128 if value.is_complex() else torch.float64)
                expected = act(layout, value, g, inputs, declared)
                found = after[name][1].detach().to(expected.dtype)
                error = distance(layout, found, expected) / max(expected.norm().item(), 1e-30)
                worst[name] = max(worst.get(name, 0.0), error if math.isfinite(error) else math.inf)
    return worst


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors of an output."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for v in (value.values() if isinstance(value, dict) else value) for t in tensors(v)]


def difference(a: Any, b: Any) -> float:
    """The largest relative difference of two outputs."""
    pairs = zip(tensors(a), tensors(b), strict=True)
    return max(((x - y).norm() / y.norm().clamp_min(1e-30)).item() for x, y in pairs)


# Each measure: (specimen, network in double precision, declaration) -> a number, near 0 where nothing is wrong.


def symmetry(specimen: Specimen, net: nn.Module, declared: Declared) -> float:
    return max(errors(specimen, net, declared).values())


def single(specimen: Specimen, net: nn.Module, declared: Declared) -> float:
    return max(errors(specimen, copy.deepcopy(net).float(), declared, dtype=torch.float32).values())


def calls(specimen: Specimen, net: nn.Module, declared: Declared) -> float:
    """The second call, or the third, against the first; state-drift and nondeterminism with equal seeds too."""
    net = copy.deepcopy(net).train(specimen.training)
    inputs = cast(specimen.inputs(0), torch.float64)
    seen = []
    with default_dtype(torch.float64):
        for _ in range(3):
            if specimen.mode != "randomness":
                torch.manual_seed(5)
            seen.append(net(**inputs))
    return max(difference(seen[1], seen[0]), difference(seen[2], seen[0]))


def batch(specimen: Specimen, net: nn.Module, declared: Declared) -> float:
    """Each entry alone, or each graph, against itself in the batch."""
    worst = 0.0
    for seed in specimen.seeds:
        inputs = specimen.inputs(seed)
        together = outputs(declared["out_layouts"], call(specimen, net, inputs))
        for one, rows in entries(inputs, declared):
            alone = outputs(declared["out_layouts"], call(specimen, net, one))
            for name, (layout, value) in alone.items():
                assert layout is not None
                expected = together[name][1][rows[layout.split()[0]]]
                worst = max(worst, difference(value, expected))
    return worst


def entries(inputs: Inputs, declared: Declared) -> list[tuple[Inputs, dict[str, torch.Tensor]]]:
    """Each entry as inputs of its own, and the rows that it has in the whole, by the name of the first axis."""
    if "segments" not in declared:
        count = max(len(x) for name, x in inputs.items() if (declared["in_layouts"][name] or "").startswith("batch"))
        made = []
        for k in range(count):
            one = {
                n: x[k : k + 1] if (declared["in_layouts"][n] or "")[:5] == "batch" else x for n, x in inputs.items()
            }
            made.append((one, {"batch": torch.tensor([k])}))
        return made
    label = inputs["batch"]
    made = []
    for graph in label.unique():
        nodes = (label == graph).nonzero()[:, 0]
        keep = (label[inputs["edges"][0]] == graph).nonzero()[:, 0]
        number = torch.full((len(label),), -1)
        number[nodes] = torch.arange(len(nodes))
        one = {
            "h": inputs["h"][nodes],
            "edges": number[inputs["edges"][:, keep]],
            "w": inputs["w"][keep],
            "batch": torch.zeros_like(nodes),
        }
        made.append((one, {"nodes": nodes, "graphs": graph[None]}))
    return made


def vacuous(specimen: Specimen, net: nn.Module, declared: Declared) -> float:
    """1 if outputs do not change when the inputs that the group moves do."""
    inputs = specimen.inputs(0)
    g = draw(declared, inputs, generator(3))
    moved = {n for n, x in inputs.items() if not torch.equal(act(declared["in_layouts"][n], x, g, inputs, declared), x)}
    assert moved, "the group moves no input"
    other = {n: x + torch.randn_like(x) if n in moved and x.is_floating_point() else x for n, x in inputs.items()}
    before, after = call(specimen, net, inputs), call(specimen, net, other)
    change = max((x - y).norm().item() for x, y in zip(tensors(before), tensors(after), strict=True))
    return float(change < 1e-12)


def parameters(specimen: Specimen, net: nn.Module, declared: Declared) -> float:
    assert specimen.location is not None
    net = copy.deepcopy(net)
    with torch.no_grad():
        for p in net.get_submodule(specimen.location).parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator(p.numel()), dtype=torch.float64)
    return symmetry(specimen, net, declared)


def scalar(specimen: Specimen, net: nn.Module, inputs: Inputs) -> torch.Tensor:
    """The outputs under fixed random weights."""
    with default_dtype(torch.float64), torch.enable_grad():
        values = tensors(net(**inputs))
    random = generator(11)
    return sum((v * torch.randn(v.shape, generator=random, dtype=torch.float64)).sum() for v in values)  # type: ignore[return-value]


def slope_error(value: Callable[[Inputs], torch.Tensor], inputs: Inputs, name: str, gradient: torch.Tensor) -> float:
    """A gradient along random directions of one input, against central differences of sixth order of the value."""
    worst, step = 0.0, 1e-3
    for k in range(3):
        along = torch.randn(gradient.shape, generator=generator(50 + k), dtype=torch.float64)

        def moved(t: float, along: torch.Tensor = along) -> float:
            return value(inputs | {name: inputs[name] + t * along}).item()

        differences = sum(w * (moved(n * step) - moved(-n * step)) for n, w in ((1, 45), (2, -9), (3, 1)))
        expected, found = differences / (60 * step), (gradient * along).sum().item()
        worst = max(worst, abs(expected - found) / max(abs(expected), abs(found), 1e-30))
    return worst


def derivative(specimen: Specimen, net: nn.Module, declared: Declared) -> float:
    """With respect to each input that the declaration moves."""
    worst = 0.0
    for seed in specimen.seeds[:2]:
        inputs = cast(specimen.inputs(seed), torch.float64)
        for name, x in inputs.items():
            if x.is_floating_point() and declared["in_layouts"][name] is not None:
                leaf = x.clone().requires_grad_()
                (gradient,) = torch.autograd.grad(scalar(specimen, net, inputs | {name: leaf}), leaf)
                worst = max(worst, slope_error(lambda moved: scalar(specimen, net, moved), inputs, name, gradient))
    return worst


def claim(specimen: Specimen, net: nn.Module, declared: Declared) -> float:
    """``forces`` against the negative gradient of ``energy``."""
    worst = 0.0
    for seed in specimen.seeds[:2]:
        inputs = cast(specimen.inputs(seed), torch.float64)
        gradient = -call(specimen, net, inputs)["forces"].detach()
        worst = max(worst, slope_error(lambda moved: call(specimen, net, moved)["energy"], inputs, "x", gradient))
    return worst


def nan(specimen: Specimen, net: nn.Module, declared: Declared) -> float:
    inputs = cast((specimen.probe or specimen.inputs)(0), torch.float64)
    leaf = inputs["x"].requires_grad_()
    value = scalar(specimen, net, inputs)
    assert value.isfinite(), "the outputs at the probe are not finite"
    (gradient,) = torch.autograd.grad(value, leaf)
    return float(not gradient.isfinite().all())


def jump(specimen: Specimen, net: nn.Module, declared: Declared) -> float:
    """The change of the outputs between a pair just nearer and just farther than the cutoff."""
    cutoff = specimen.options["cutoff"]
    inputs = cast(specimen.inputs(0), torch.float64)
    d = inputs["x"][1] - inputs["x"][0]
    seen = []
    for side in (-1e-9, 1e-9):
        x = inputs["x"].clone()
        x[1] = x[0] + d / d.norm() * (cutoff + side)
        seen.append(call(specimen, net, inputs | {"x": x}))
    return difference(*seen)


MEASURES: dict[str, Callable[[Specimen, nn.Module, Declared], float]] = {
    "symmetry": symmetry,
    "single": single,
    "calls": calls,
    "batch": batch,
    "vacuous": vacuous,
    "parameters": parameters,
    "derivative": derivative,
    "claim": claim,
    "nan": nan,
    "jump": jump,
}

#: Bugs of these kinds leave the symmetry of outputs as it is, in double precision.
SYMMETRIC = ("batch", "vacuous", "single", "parameters", "derivative", "nan", "jump")


def check(specimen: Specimen) -> tuple[str, list[str]]:
    """A line about the specimen, and what is wrong with its claims."""
    wrong: list[str] = []
    # To look for a good order of contractions takes longer here than any order.
    with default_dtype(torch.float64), torch.backends.opt_einsum.flags(enabled=False):
        line = _check(specimen, lambda ok, what: None if ok else wrong.append(what))
    return line, wrong


def _check(specimen: Specimen, need: Callable[[bool, str], None]) -> str:
    net, twin = specimen.build(torch.float64), specimen.repaired(torch.float64)
    wrong, right = specimen.declaration(), specimen.declaration(repaired=True)
    measure = MEASURES[specimen.evidence]
    _sane(specimen, net, twin, need)
    if specimen.mode == HEALTHY:
        found = symmetry(specimen, net, wrong)
        need(found < specimen.most, f"healthy, with an error of {found:.1e}")
        need(_responds(specimen, net), "an output does not respond to the inputs")
        rough = single(specimen, net, wrong)
        return f"{found:.0e} in double, {rough:.0e} in single precision"

    by_output = errors(specimen, net, wrong) if specimen.evidence in ("symmetry", *SYMMETRIC) else {}
    found = max(by_output.values()) if specimen.evidence == "symmetry" else measure(specimen, net, wrong)
    mended = measure(specimen, twin, right) if specimen.mend or specimen.repair else 0.0
    need(found >= specimen.least, f"the bug shows with {found:.1e} alone, not {specimen.least:.0e}")
    need(mended <= specimen.most, f"the twin has {mended:.1e}, more than {specimen.most:.0e}")
    line = f"{found:.0e}, twin {mended:.0e}"
    if specimen.verdict == "FAIL" and specimen.evidence == "symmetry":
        need(found >= 1e-2, f"FAIL is for errors above 1e-2, not {found:.1e}")
    if specimen.location is not None:
        faulty = net.get_submodule(specimen.location)
        net.set_submodule(specimen.location, twin.get_submodule(specimen.location))
        healed = measure(specimen, net, wrong)
        net.set_submodule(specimen.location, faulty)
        need(healed <= specimen.most, f"the twin's module at {specimen.location} does not heal: {healed:.1e}")
        line += f", healed {healed:.0e}"
    if specimen.evidence in SYMMETRIC:
        left = max(by_output.values())
        need(left < ROUNDING, f"outputs break the symmetry too: {left:.1e}")
    if specimen.respected is not None and not (specimen.evidence in SYMMETRIC and specimen.respected == specimen.group):
        under = max(errors(specimen, net, wrong, group=specimen.respected).values())
        need(under < ROUNDING, f"does not hold under {specimen.respected}: {under:.1e}")
        line += f", under {specimen.respected} {under:.0e}"
    if specimen.evidence == "symmetry":
        broken = tuple(name for name, error in by_output.items() if error > ROUNDING)
        left = largest(specimen)
        need(
            left == (apart(specimen.respected) if specimen.respected else []),
            f"what holds is {' x '.join(left) or None}",
        )
        need(broken == (specimen.broken or tuple(by_output)), f"the outputs that break are {broken}")
    if specimen.mode == "train-eval-difference":
        training = not specimen.training
        other = max(errors(_moded(specimen, training), net, wrong).values())
        need(other < ROUNDING, f"it breaks in {'train' if training else 'eval'} mode too: {other:.1e}")
    if specimen.mode == "size-dependence":
        by_size = [max(errors(specimen, net, wrong, seeds=(seed,)).values()) for seed in specimen.seeds]
        need(min(by_size) < ROUNDING, f"it breaks at all sizes: {by_size}")
    return line


def _moded(specimen: Specimen, training: bool) -> Specimen:
    from dataclasses import replace

    return replace(specimen, options=specimen.options | {"mode": "train" if training else "eval"})


def _responds(specimen: Specimen, net: nn.Module) -> bool:
    a, b = specimen.inputs(0), specimen.inputs(len(specimen.seeds))
    same = all(a[name].shape == b[name].shape for name in a)
    b = b if same else {n: x + 0.1 * torch.randn_like(x) if x.is_floating_point() else x for n, x in a.items()}
    pairs = zip(tensors(call(specimen, net, a)), tensors(call(specimen, net, b)), strict=True)
    return all((x - y).norm() > 1e-6 * y.norm() and y.norm() > 1e-6 for x, y in pairs)


def _sane(specimen: Specimen, net: nn.Module, twin: nn.Module, need: Callable[[bool, str], None]) -> None:
    """What holds of every specimen: names, weights, dtypes, finite outputs."""
    need("equicheck" not in sys.modules or "pytest" in sys.modules, "equicheck was imported")
    names = {name for name, _ in net.named_modules(remove_duplicate=False)}
    for path in (specimen.location, *specimen.also_right):
        need(path is None or path in names, f"no module {path}")
    need(not net.training, "not in eval mode")
    small = specimen.build(torch.float32)
    floats = [(n, t) for n, t in net.state_dict().items() if t.is_floating_point()]
    for name, tensor in floats:
        other = small.state_dict()[name]
        need(other.dtype == torch.float32 and torch.allclose(other.double(), tensor, 1e-6, 1e-6), f"{name} in float32")
    before, after = dict(net.named_parameters()), dict(twin.named_parameters())
    below = f"{specimen.location}."
    for name in {*before, *after}:
        if not name.startswith(below):
            same = name in before and name in after and torch.equal(before[name], after[name])
            need(same, f"the twin has another {name}")
    if specimen.location is not None:
        called: list[int] = []
        hook = net.get_submodule(specimen.location).register_forward_hook(lambda *_: called.append(1))
        values = tensors(call(specimen, net, specimen.inputs(0)))
        hook.remove()
        need(bool(called), f"{specimen.location} is not called")
    else:
        values = tensors(call(specimen, net, specimen.inputs(0)))
    need(all(v.isfinite().all() for v in values), "an output is not finite")


AXES = ("(0,0,1)", "(0,1,0)", "(1,0,0)", "(1,1,1)")
TURNS = ("O", *(f"SO(2) @ {axis}" for axis in AXES))

#: Subgroups of a factor that a broken network may still respect, the larger ones first.
SUBGROUPS = {
    "O(3)": ("SO(3)", "Oh", *(f"O(2) @ {axis}" for axis in AXES), *TURNS),
    "SO(3)": TURNS,
    "O(2)": ("SO(2)", "D4", "C4", "C2"),
    "SO(2)": ("C4", "C2"),
    "T(2)": ("T(1) @ height", "T(1) @ width", "2T(2)", "4T(2)"),
    "T(1)": ("2T(1)", "4T(1)"),
    "D4": ("C4", "C2"),
    "C4": ("C2",),
    "U(1)": ("C4 in U(1)", "C2 in U(1)"),
    "O(1,3)": ("SO+(1,3)", "O(3)", "SO(3)"),
    "SO+(1,3)": ("SO(3)",),
}


def apart(group: str) -> list[str]:
    """The factors of a group, turns and translations apart."""
    return re.sub(r"\b(S?)E\((\d)\)", r"\1O(\2) x T(\2)", group).split(" x ")


def largest(specimen: Specimen) -> list[str]:
    """What is left of the declared group: of each factor itself, or the first of its subgroups that holds."""
    net, declared = specimen.build(torch.float64), specimen.declaration()

    def holds(group: str) -> bool:
        return all(max(errors(specimen, net, declared, group, seeds=(s,)).values()) < ROUNDING for s in specimen.seeds)

    ladders = ((factor, *SUBGROUPS.get(factor, ())) for factor in apart(specimen.group))
    return [group for ladder in ladders for group in [next(filter(holds, ladder), None)] if group]


def main(patterns: list[str]) -> int:
    """Checks all specimens, or those whose name contains one of the patterns."""
    torch.set_num_threads(1)
    failures = 0
    for specimen in SPECIMENS.values():
        if patterns and not any(pattern in specimen.name for pattern in patterns):
            continue
        line, wrong = check(specimen)
        failures += bool(wrong)
        print(f"{specimen.name:34} {specimen.mode:27} {line}")
        for what in wrong:
            print(f"    WRONG: {what}")
    print(f"{failures} specimens whose truth is wrong")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
