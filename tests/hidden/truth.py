"""An action of the groups that is independent of the engine, for the words that the networks here use."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .case import Entry, Inputs, generator

GRIDS = {"1": ("length",), "2": ("height", "width"), "3": ("depth", "height", "width")}

#: Rows and columns of xx, yy, zz, yz, xz, xy.
VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


@dataclass
class Element:
    """Acts on points as ``matrix @ x + translation``, then on everything else by what it is called."""

    matrix: torch.Tensor | None = None
    translation: torch.Tensor | None = None
    permutations: dict[str, torch.Tensor] = field(default_factory=dict)
    shifts: dict[str, int] = field(default_factory=dict)
    turns: int = 0
    flip: bool = False
    phase: float = 0.0
    sign: float = 1.0
    scale: float = 1.0


def normal(random: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=random, dtype=torch.float64)


def orthogonal(n: int, random: torch.Generator) -> torch.Tensor:
    q, r = torch.linalg.qr(normal(random, n, n))
    return q * r.diagonal().sign()


def rotation(n: int, random: torch.Generator) -> torch.Tensor:
    q = orthogonal(n, random)
    q[0] *= torch.linalg.det(q).sign()
    return q


def lorentz(random: torch.Generator, proper: bool) -> torch.Tensor:
    rapidity = 0.8 * torch.rand(1, generator=random).item()
    boost = torch.eye(4, dtype=torch.float64)
    boost[0, 0] = boost[1, 1] = math.cosh(rapidity)
    boost[0, 1] = boost[1, 0] = math.sinh(rapidity)
    turns = [torch.block_diag(torch.ones(1, 1), rotation(3, random)) for _ in range(2)]
    matrix = turns[0] @ boost @ turns[1]
    if not proper:
        time, space = (1 - 2 * torch.randint(2, (2,), generator=random)).double()
        matrix = torch.diag(torch.stack([time, space, space, space])) @ matrix
    return matrix


def turn(k: int, mirrored: bool) -> torch.Tensor:
    """About z by k right angles, after y -> -y."""
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][k]
    matrix = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    return matrix @ torch.diag(torch.tensor([1.0, -1, 1], dtype=torch.float64)) if mirrored else matrix


def draw(entry: Entry, inputs: Inputs, random: torch.Generator) -> Element:
    """A random element of the entry's group, for inputs of these sizes."""
    element = Element()
    sizes = lengths(entry, inputs)

    def integer(high: int) -> int:
        return int(torch.randint(high, (1,), generator=random))

    for factor in entry.group.split(" x "):
        if match := re.fullmatch(r"(S|)([OE])\((\d)\)", factor):
            special, kind, n = match[1], match[2], int(match[3])
            element.matrix = rotation(n, random) if special else orthogonal(n, random)
            if kind == "E":
                element.translation = 1.5 * normal(random, n)
        elif match := re.fullmatch(r"S\((\w+)\)", factor):
            name = match[1]
            segments = entry.options.get("segments", {}).get(name)
            order = torch.randperm(sizes[name], generator=random)
            if segments is not None:  # each segment's rows stay among themselves
                label = inputs[segments]
                order = order[torch.argsort(label[order], stable=True)]
            element.permutations[name] = order
        elif match := re.fullmatch(r"(\d*)T\((\d)\)(?: @ (\w+))?", factor):
            step = int(match[1] or 1)
            axes = (match[3],) if match[3] else GRIDS[match[2]]
            element.shifts = {axis: step * integer(20) for axis in axes}
        elif factor in ("C4", "D4"):
            element.turns, element.flip = integer(4), factor == "D4" and bool(integer(2))
        elif factor in ("C4 @ (0,0,1)", "C4v @ (0,0,1)"):
            element.matrix = turn(integer(4), factor.startswith("C4v") and bool(integer(2)))
        elif factor in ("SO+(1,3)", "O(1,3)"):
            element.matrix = lorentz(random, factor != "O(1,3)")
        elif factor == "U(1)":
            element.phase = 6.28 * torch.rand(1, generator=random).item()
        elif factor == "Scale":
            element.scale = 0.5 + torch.rand(1, generator=random).item()
        elif factor == "Z2":
            element.sign = 1.0 - 2.0 * integer(2)
        else:
            raise ValueError(f"no group `{factor}` here")
    return element


def words(layout: str) -> tuple[list[str], str | None]:
    """The words of a layout, a flattened axis being one, and the axis that values are positions along."""
    axes, _, values = layout.partition(" : ")
    return re.findall(r"\([^)]*\)|\S+", axes.replace("(cell)", "")), values or None


def lengths(entry: Entry, inputs: Inputs) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, layout in entry.in_layouts.items():
        if layout is not None:
            found.update(zip(words(layout)[0], inputs[name].shape, strict=False))
    return found


def act(layout: str | None, x: torch.Tensor, g: Element, inputs: Inputs) -> torch.Tensor:
    """T x by its layout."""
    if layout is None:
        return x
    axes, values = words(layout)
    if values is not None:
        x = torch.argsort(g.permutations[values])[x] if values in g.permutations else x
    axis = 0
    for word in axes:
        if word.startswith("("):
            inner = word[1:-1].split()
            n = 2 if g.turns or g.matrix is None else len(g.matrix)
            shape = [int(w) if w.isdigit() else n if w in ("vector", "point") else -1 for w in inner]
            apart = x.unflatten(axis, shape)
            for k, w in enumerate(inner):
                apart = on_axis(w, apart, axis + k, g, inputs)
            x = apart.flatten(axis, axis + len(inner) - 1)
        elif word == "pseudoscalar":
            x = x * torch.linalg.det(g.matrix)
            continue
        elif word == "sign":
            x = x * g.sign
            continue
        elif word.startswith("scale^"):
            x = x * g.scale ** int(word[6:])
            continue
        elif word.startswith("charge^"):
            angle = torch.tensor(int(word[7:]) * g.phase, dtype=torch.float64)
            x = x * torch.exp(1j * angle)
            continue
        else:
            x = on_axis(word, x, axis, g, inputs)
        axis += 1
    if g.turns or g.flip:
        h, w = (axes.index(name) if name in axes else None for name in ("height", "width"))
        if h is not None and w is not None:
            x = x.flip(h) if g.flip else x  # y -> -y, before the turn
            x = x.rot90(g.turns, (h, w))
    return x


def on_axis(word: str, x: torch.Tensor, axis: int, g: Element, inputs: Inputs) -> torch.Tensor:
    def by(matrix: torch.Tensor) -> torch.Tensor:
        return (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)

    if word in g.permutations:
        return x.index_select(axis, g.permutations[word])
    if word in g.shifts:
        return x.roll(g.shifts[word], axis)
    if word == "regular":
        return x.roll(g.turns, axis)
    matrix = g.matrix
    if matrix is None and word in ("vector", "point"):
        matrix = turn(g.turns, False)[:2, :2]
    if word == "voigt":
        assert matrix is not None
        i, j = VOIGT
        full = x.new_zeros(*x.movedim(axis, -1).shape[:-1], 3, 3)
        full[..., i, j] = full[..., j, i] = x.movedim(axis, -1)
        return (matrix @ full @ matrix.T)[..., i, j].movedim(-1, axis)
    if word in ("vector", "point", "pseudovector", "covector"):
        assert matrix is not None
        if word == "pseudovector":
            return by(torch.linalg.det(matrix) * matrix)
        if word == "covector":
            return by(torch.linalg.inv(matrix).T)
        moved = by(matrix)
        if word == "point" and g.translation is not None:
            shape = [1] * x.dim()
            shape[axis] = -1
            moved = moved + g.translation.view(shape)
        return moved
    if word == "fractional":
        assert g.translation is not None
        return x + g.translation @ torch.linalg.inv(inputs["cell"])
    return x


def outputs(layouts: Any, value: Any) -> dict[str, tuple[str, torch.Tensor]]:
    """Layouts and tensors by path, for a tensor, tuple or dict."""
    if isinstance(layouts, str):
        return {"output": (layouts, value)}
    keys = list(layouts) if isinstance(layouts, dict) else range(len(layouts))
    return {str(key): (layouts[key], value[key]) for key in keys}


def error(entry: Entry, model: nn.Module, samples: int = 2, elements: int = 3, seed: int = 0) -> float:
    """The largest relative error of any output; NaN is infinite."""
    random = generator(7 + seed)
    worst = 0.0
    for k in range(samples):
        inputs = entry.inputs(seed + k)
        before = outputs(entry.out_layouts, model(**{name: value.clone() for name, value in inputs.items()}))
        for _ in range(elements):
            g = draw(entry, inputs, random)
            moved = {name: act(entry.in_layouts[name], value, g, inputs) for name, value in inputs.items()}
            after = outputs(entry.out_layouts, model(**moved))
            for name, (layout, value) in before.items():
                expected = act(layout, value.detach(), g, inputs)
                found = after[name][1].detach()
                if not (found.isfinite().all() and expected.isfinite().all()):
                    return math.inf
                worst = max(worst, ((found - expected).norm() / expected.norm().clamp_min(1e-30)).item())
    return worst
