"""The action of groups on tensors, by layouts: independent of equicheck's, for the words that the zoo uses.

Beside the groups of docs/layouts.md there are a few for subgroups that a broken network still respects:
``SO(2) @ (a,b,c)`` and ``O(2) @ (a,b,c)`` (turns about an axis of space, mirrors that contain it), ``C4 in U(1)``
(multiples of i), and ``SO(3)``, ``O(3)`` on 4-vectors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from .case import Inputs

GRIDS = {1: ("length",), 2: ("height", "width")}
PLAIN = {"channel", "features", "time", "heads", "classes", "nodes", "edges", "graphs", "batch"}
VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


@dataclass
class Element:
    """What acts on points as ``matrix @ x + translation``; what the group does not hold is the identity."""

    matrix: torch.Tensor | None = None
    translation: torch.Tensor | None = None
    orders: dict[str, torch.Tensor] = field(default_factory=dict)
    shifts: dict[str, int] = field(default_factory=dict)
    turns: int = 0
    flip: bool = False
    planar: bool = False
    phase: float = 0.0
    sign: float = 1.0
    scale: float = 1.0

    @property
    def plane(self) -> torch.Tensor:
        """The matrix on vectors of the plane, of a quarter turn after y -> -y."""
        c, s = [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)][self.turns]
        matrix = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        return matrix @ torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64)) if self.flip else matrix

    @property
    def determinant(self) -> float:
        """-1 for reflections."""
        if self.planar:
            return -1.0 if self.flip else 1.0
        return 1.0 if self.matrix is None else torch.linalg.det(self.matrix).sign().item()


def random_normal(random: torch.Generator, *shape: int) -> torch.Tensor:
    """In double precision."""
    return torch.randn(shape, generator=random, dtype=torch.float64)


def rotation(n: int, random: torch.Generator) -> torch.Tensor:
    """Haar measure on SO(n)."""
    q, r = torch.linalg.qr(random_normal(random, n, n))
    q = q * r.diagonal().sign()
    q[0] *= torch.linalg.det(q).sign()
    return q


def about(axis: tuple[float, ...], angle: float, mirror: bool) -> torch.Tensor:
    """Rodrigues' formula, after a mirror that contains the axis if asked."""
    u = torch.tensor(axis, dtype=torch.float64)
    u = u / u.norm()
    k = torch.tensor([[0, -u[2], u[1]], [u[2], 0, -u[0]], [-u[1], u[0], 0]], dtype=torch.float64)
    matrix = torch.eye(3, dtype=torch.float64) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k
    if mirror:
        v = torch.linalg.cross(u, torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64))
        v = v / v.norm()
        matrix = matrix @ (torch.eye(3, dtype=torch.float64) - 2 * torch.outer(v, v))
    return matrix


def boosted(random: torch.Generator, proper: bool) -> torch.Tensor:
    """An element of SO+(1,3), or of O(1,3), with rapidity up to 1."""
    eta = torch.rand(1, generator=random, dtype=torch.float64).item()
    boost = torch.eye(4, dtype=torch.float64)
    boost[0, 0] = boost[3, 3] = math.cosh(eta)
    boost[0, 3] = boost[3, 0] = math.sinh(eta)
    one = torch.ones(1, 1, dtype=torch.float64)
    left, right = (torch.block_diag(one, rotation(3, random)) for _ in range(2))
    matrix = left @ boost @ right
    if not proper:
        time, space = (1 - 2 * torch.randint(2, (2,), generator=random)).double()
        matrix = torch.diag(torch.stack([time, space, space, space])) @ matrix
    return matrix


def draw(declared: dict[str, Any], inputs: Inputs, random: torch.Generator, group: str | None = None) -> Element:
    """A random element of the group, of these sizes."""
    g = Element()
    sizes: dict[str, int] = {}
    for name, layout in declared["in_layouts"].items():
        if layout is not None:
            sizes |= dict(zip(words(layout)[0], inputs[name].shape, strict=False))

    def integer(high: int) -> int:
        return int(torch.randint(high, (1,), generator=random))

    def reflected(matrix: torch.Tensor) -> torch.Tensor:
        return (
            matrix * (1 - 2 * integer(2))
            if len(matrix) % 2
            else matrix
            @ torch.diag(torch.tensor([1.0 - 2 * integer(2)] + [1.0] * (len(matrix) - 1), dtype=torch.float64))
        )

    for factor in (group or declared["group"]).split(" x "):
        if match := re.fullmatch(r"(S?)([OE])\((\d)\)", factor):
            n = int(match[3])
            g.matrix = rotation(n, random) if match[1] else reflected(rotation(n, random))
            if match[2] == "E":
                g.translation = 1.5 * random_normal(random, n)
        elif match := re.fullmatch(r"(S?)O\(2\) @ \((.*)\)", factor):
            axis = tuple(float(a) for a in match[2].split(","))
            angle = 6.2832 * torch.rand(1, generator=random, dtype=torch.float64).item()
            g.matrix = about(axis, angle, not match[1] and bool(integer(2)))
        elif match := re.fullmatch(r"S\((\w+)\)", factor):
            name = match[1]
            order = torch.randperm(sizes[name], generator=random)
            if label := declared.get("segments", {}).get(name):  # rows of a segment stay among themselves
                order = order[torch.argsort(inputs[label][order], stable=True)]
            g.orders[name] = order
        elif match := re.fullmatch(r"(\d*)T\((\d)\)(?: @ (\w+))?", factor):
            n, axes = int(match[2]), (match[3],) if match[3] else GRIDS.get(int(match[2]), ())
            if axes and axes[0] in sizes:
                g.shifts = {axis: int(match[1] or 1) * (1 + integer(11)) for axis in axes}
            else:
                g.translation = 1.5 * random_normal(random, n)
        elif factor == "C2":
            g.planar, g.turns = True, 2 * integer(2)
        elif factor in ("C4", "D4"):
            g.planar, g.turns, g.flip = True, integer(4), factor == "D4" and bool(integer(2))
        elif factor in ("O", "Oh"):
            g.matrix = torch.eye(3, dtype=torch.float64)[torch.randperm(3, generator=random)]
            g.matrix = g.matrix * (1 - 2 * torch.randint(2, (3,), generator=random)).double()
            g.matrix = g.matrix * torch.linalg.det(g.matrix).sign() if factor == "O" else g.matrix
        elif factor in ("SO+(1,3)", "O(1,3)"):
            g.matrix = boosted(random, factor != "O(1,3)")
        elif factor == "U(1)":
            g.phase = 6.2832 * torch.rand(1, generator=random, dtype=torch.float64).item()
        elif match := re.fullmatch(r"C(\d) in U\(1\)", factor):
            g.phase = 2 * math.pi / int(match[1]) * integer(int(match[1]))
        elif factor == "Scale":
            g.scale = 0.5 + torch.rand(1, generator=random, dtype=torch.float64).item()
        elif factor == "Z2":
            g.sign = 1.0 - 2.0 * integer(2)
        else:
            raise ValueError(f"no group `{factor}` here")
    return g


def words(layout: str) -> tuple[list[str], str | None]:
    """The words of a layout, one per axis, and the axis that its values are positions along."""
    axes, _, values = layout.partition(" : ")
    return axes.split(), values or None


def matrix_of(word: str, g: Element, representations: dict[str, Callable[[Any], Any]]) -> torch.Tensor | None:
    """The matrix that acts on the axis of this word, None if it is another kind of word."""
    if word.startswith("@"):
        space = torch.eye(3, dtype=torch.float64) if g.matrix is None else g.matrix
        seen = SimpleNamespace(matrix=(g.plane if g.planar else space).numpy())
        return torch.tensor(representations[word[1:]](seen), dtype=torch.float64)
    if g.planar:
        return g.plane if word in ("vector", "point") else None
    m = g.matrix
    if word in ("vector", "point"):
        return torch.eye(1, dtype=torch.float64) if m is None else m
    if m is not None and word == "pseudovector":
        return g.determinant * m
    if m is not None and word == "covector":
        return torch.linalg.inv(m).T
    if m is not None and re.fullmatch(r"(yzx\(|ir_mul\()?\d*x?\d[eo].*", word):
        return irreps_matrix(word, m)
    return None


def irreps_matrix(word: str, m: torch.Tensor) -> torch.Tensor:
    """Block diagonal by e3nn's Wigner matrices; ``ir_mul`` has the copies last, ``yzx`` another order of l = 1."""
    from e3nn import o3

    inner = word[word.index("(") + 1 : -1] if "(" in word else word
    blocks = []
    for mul, ir in o3.Irreps(inner):
        d = ir.D_from_matrix(m)
        if word.startswith("yzx"):
            assert ir.l <= 1, word
            d = d[[1, 2, 0]][:, [1, 2, 0]] if ir.l else d
        one = torch.eye(mul, dtype=torch.float64)
        blocks.append(torch.kron(d, one) if word.startswith("ir_mul") else torch.kron(one, d))
    return torch.block_diag(*blocks)


def act(layout: str | None, x: torch.Tensor, g: Element, inputs: Inputs, declared: dict[str, Any]) -> torch.Tensor:
    """T x by its layout."""
    if layout is None:
        return x
    axes, values = words(layout)
    if values is not None and values in g.orders:
        x = torch.argsort(g.orders[values])[x]
    axis, grid = 0, {}
    for word in axes:
        if word == "pseudoscalar":
            x = x * g.determinant
            continue
        if word == "sign":
            x = x * g.sign
            continue
        if match := re.fullmatch(r"scale\^(-?\d+)", word):
            x = x * g.scale ** int(match[1])
            continue
        if match := re.fullmatch(r"charge\^(-?\d+)", word):
            x = x * torch.exp(torch.tensor(1j * int(match[1]) * g.phase, dtype=torch.complex128))
            continue
        if word in g.orders:
            x = x.index_select(axis, g.orders[word])
        elif word in g.shifts:
            x = x.roll(g.shifts[word], axis)
        elif word == "regular" and g.planar:
            x = x.roll(g.turns, axis)
        elif word == "fractional(cell)":
            if g.translation is not None:
                cell = inputs["cell"] if g.matrix is None else inputs["cell"] @ g.matrix.T
                x = x + g.translation @ torch.linalg.inv(cell)
        elif word == "voigt":
            x = voigt(x.movedim(axis, -1), g.matrix).movedim(-1, axis)
        elif word == "quaternion":
            x = (x.movedim(axis, -1) @ left_multiplication(g.matrix).T).movedim(-1, axis)
        elif (matrix := matrix_of(word, g, declared.get("representations", {}))) is not None:
            if len(matrix) == 3 and x.shape[axis] == 4:  # space within space and time
                matrix = torch.block_diag(torch.ones(1, 1, dtype=torch.float64), matrix)
            x = (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis) if len(matrix) > 1 else x
            if word == "point" and g.translation is not None:
                x = x + g.translation.view([-1 if k == axis else 1 for k in range(x.dim())])
        elif word in ("height", "width", "length"):
            grid[word] = axis
        elif not (
            word in PLAIN
            or f"S({word})" in declared["group"]
            or word.endswith("!")
            or word.isdigit()
            or g.matrix is None
        ):
            raise ValueError(f"no word `{word}` here")
        axis += 1
    if g.planar and "height" in grid:
        x = x.flip(grid["height"]) if g.flip else x  # y points against height
        x = x.rot90(g.turns, (grid["height"], grid["width"]))
    return x


def voigt(x: torch.Tensor, m: torch.Tensor | None) -> torch.Tensor:
    """Turns symmetric tensors, xx yy zz yz xz xy: [..., 6]."""
    if m is None:
        return x
    i, j = VOIGT
    full = x.new_zeros(*x.shape[:-1], 3, 3)
    full[..., i, j] = full[..., j, i] = x
    return (m @ full @ m.T)[..., i, j]


def left_multiplication(m: torch.Tensor | None) -> torch.Tensor:
    """The matrix [4, 4] that multiplies quaternions (w, x, y, z) by that of the rotation m from the left."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = (0.0, 0.0, 0.0, 1.0) if m is None else Rotation.from_matrix(m.numpy()).as_quat()
    rows = [[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]]
    return torch.tensor(rows, dtype=torch.float64)


def outputs(layouts: Any, value: Any) -> dict[str, tuple[str | None, torch.Tensor]]:
    """Layouts and tensors by name, for a tensor, tuple or dict."""
    if isinstance(layouts, str):
        return {"output": (layouts, value)}
    keys = list(layouts) if isinstance(layouts, dict) else range(len(layouts))
    return {str(key): (layouts[key], value[key]) for key in keys}


def distance(layout: str, found: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference; of quaternions up to their signs, row by row."""
    difference = found - expected
    if "quaternion" in layout:
        other = found + expected
        return torch.minimum(difference.norm(dim=-1), other.norm(dim=-1)).norm().item()
    return difference.norm().item()
