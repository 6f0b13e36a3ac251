"""Actions of groups on tensors, by the layout language, written for these networks alone."""

from __future__ import annotations

import math
import re

import torch

GRID = ("height", "width", "length")


def factors(group):
    return [f.strip() for f in re.split(r"\s+x\s+", group.strip())]


def parse(layout):
    axes, _, values = layout.partition(":")
    return axes.split(), values.strip() or None


def axis_sizes(inputs, layouts):
    size = {}
    for k, t in inputs.items():
        words, _ = parse(layouts[k])
        assert len(words) == t.dim(), (k, words, t.shape)
        for w, n in zip(words, t.shape, strict=False):
            if w.isdigit():
                assert int(w) == n, (k, w, n)
            else:
                assert size.setdefault(w, n) == n or w in ("channel", "features"), (k, w, n, size)
    return size


def rand_orth(d, gen, proper=None):
    q, r = torch.linalg.qr(torch.randn(d, d, generator=gen, dtype=torch.float64))
    q = q * torch.sign(torch.diagonal(r))
    want = proper if proper is not None else bool(torch.rand(1, generator=gen) < 0.5)
    if (torch.det(q) > 0) != want:
        q = q.clone()
        q[:, 0] = -q[:, 0]
    return q


def rand_lorentz(gen):
    R = torch.eye(4, dtype=torch.float64)
    R[1:, 1:] = rand_orth(3, gen, True)
    n = torch.randn(3, generator=gen, dtype=torch.float64)
    n = n / n.norm()
    y = 0.2 + 0.7 * float(torch.rand(1, generator=gen))
    B = torch.eye(4, dtype=torch.float64)
    B[0, 0] = math.cosh(y)
    B[0, 1:] = B[1:, 0] = math.sinh(y) * n
    B[1:, 1:] += (math.cosh(y) - 1) * torch.outer(n, n)
    L = R @ B
    g = torch.diag(torch.tensor([1.0, -1, -1, -1], dtype=torch.float64))
    assert torch.allclose(L.T @ g @ L, g, atol=1e-10)
    return L


def sample(group, sizes, gen, only=None):
    """A random group element; `only`: the factor that moves, the rest stay put."""
    el = {"R": None, "t": None, "perm": {}, "shift": {}, "turn": 0, "flip": False}
    for f in factors(group):
        if only is not None and f != only:
            continue
        m = re.fullmatch(r"(S?[EO])\((\d)\)", f)
        if m:
            kind, d = m.group(1), int(m.group(2))
            el["R"] = rand_orth(d, gen, True if kind.startswith("S") else None)
            if kind.endswith("E"):
                el["t"] = 2 * torch.randn(d, generator=gen, dtype=torch.float64)
        elif f == "SO+(1,3)":
            el["R"] = rand_lorentz(gen)
        elif m := re.fullmatch(r"S\((\w+)\)", f):
            n = sizes[m.group(1)]
            el["perm"][m.group(1)] = torch.randperm(n, generator=gen)
        elif m := re.fullmatch(r"(\d+)T\((\d)\)", f):
            for w in GRID:
                if w in sizes:
                    step = int(m.group(1))
                    assert sizes[w] % step == 0
                    el["shift"][w] = step * int(torch.randint(0, sizes[w] // step, (1,), generator=gen))
        elif f in ("C4", "D4"):
            el["turn"] = int(torch.randint(0, 4, (1,), generator=gen))
            el["flip"] = f == "D4" and bool(torch.rand(1, generator=gen) < 0.5)
        else:
            raise ValueError(f)
    return el


def act(x, layout, el):
    words, values = parse(layout)
    assert len(words) == x.dim(), (layout, tuple(x.shape))
    for ax, w in enumerate(words):
        if w in ("vector", "point", "pseudovector") and el["R"] is not None:
            R = el["R"].to(x.dtype)
            if w == "pseudovector":
                R = R * torch.det(R).round()
            x = torch.tensordot(x, R, dims=([ax], [1])).movedim(-1, ax)
            if w == "point" and el["t"] is not None:
                x = x + el["t"].to(x.dtype).view([-1 if i == ax else 1 for i in range(x.dim())])
        elif w in el["perm"]:
            x = x.index_select(ax, el["perm"][w])
        elif el["shift"].get(w):
            x = torch.roll(x, el["shift"][w], ax)
    if "height" in words and (el["turn"] or el["flip"]):
        h, w = words.index("height"), words.index("width")
        if el["flip"]:
            x = x.flip(w)
        x = torch.rot90(x, el["turn"], (h, w))
    if values in el["perm"]:
        x = torch.argsort(el["perm"][values])[x]
    return x


def as_dict(out):
    return out if isinstance(out, dict) else {"out": out}


def out_layouts(case):
    return case.out_layouts if isinstance(case.out_layouts, dict) else {"out": case.out_layouts}


def to64(inp):
    return {k: v.double() if v.is_floating_point() else v for k, v in inp.items()}


def breakage(model, case, inp, draws=4, seed=0):
    """Largest relative error over random elements (each factor alone, then all at once), per factor."""
    gen = torch.Generator().manual_seed(1000 + seed)
    inp = to64(inp)
    sizes = axis_sizes(inp, case.in_layouts)
    lay = out_layouts(case)
    fs = factors(case.group)
    errs = {}
    with torch.no_grad():
        ref = as_dict(model(**inp))
        assert set(ref) == set(lay), (set(ref), set(lay))
        for only in fs + ([None] if len(fs) > 1 else []):
            worst = 0.0
            for _ in range(draws):
                el = sample(case.group, sizes, gen, only)
                got = as_dict(model(**{k: act(v, case.in_layouts[k], el) for k, v in inp.items()}))
                for k in lay:
                    want = act(ref[k], lay[k], el)
                    e = float((got[k] - want).abs().max() / ref[k].abs().max().clamp_min(1e-12))
                    worst = max(worst, e if math.isfinite(e) else float("inf"))
            errs[only or "all"] = worst
    return errs
