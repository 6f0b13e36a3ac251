"""An independent measurement of equivariance errors, on scipy's rotations and numpy alone.

It knows the few layout words that the cases of this folder use, and nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import nn

from .case import Case, Inputs, parts

Array = NDArray[np.float64]

# Axis words that no element moves.
PLAIN = {"features", "channel", "classes", "batch", "heads", "edges"}

# Symmetric traceless matrices S with x S x the real harmonics of degree 2 in the order
# m = -2 ... 2 about the y axis (xz, xy, yy - (xx + zz) / 2, yz, zz - xx), each of norm 1: the
# basis of e3nn.
_HALF, _SIXTH = 0.5**0.5, 6**-0.5
DEGREE_2 = np.array(
    [
        [[0, 0, _HALF], [0, 0, 0], [_HALF, 0, 0]],
        [[0, _HALF, 0], [_HALF, 0, 0], [0, 0, 0]],
        [[-_SIXTH, 0, 0], [0, 2 * _SIXTH, 0], [0, 0, -_SIXTH]],
        [[0, 0, 0], [0, 0, _HALF], [0, _HALF, 0]],
        [[-_HALF, 0, 0], [0, 0, 0], [0, 0, _HALF]],
    ]
)


@dataclass(frozen=True)
class Element:
    """x -> matrix x + shift, and node i of the result is node order[i] of the input."""

    matrix: Array
    shift: Array
    order: NDArray[np.int64]


def draw(random: np.random.Generator, nodes: int, spread: float, drawn: Iterable[str]) -> Element:
    """An element that is random in the parts ``drawn`` and the identity in the others."""
    matrix, shift, order = np.eye(3), np.zeros(3), np.arange(nodes)
    for part in drawn:
        if part == "rotation":
            matrix = matrix @ Rotation.random(random_state=random).as_matrix()
        elif part == "inversion":
            # Alone it always acts; with others it is a coin toss, so that both components of O(3)
            # are drawn.
            only = set(drawn) == {"inversion"}
            matrix = matrix if not only and random.random() < 0.5 else -matrix
        elif part == "translation":
            shift = spread * random.standard_normal(3)
        elif part == "permutation":
            while nodes > 1 and (order == np.arange(nodes)).all():
                order = random.permutation(nodes)
        else:
            raise ValueError(f"no such part of a group: {part}")
    return Element(matrix, shift, order)


def degree_2(matrix: Array) -> Array:
    """The 5 x 5 matrix by which e3nn's irrep of degree 2, even, transforms."""
    turned = np.einsum("ij,mjk,lk->mil", matrix, DEGREE_2, matrix)
    return np.einsum("nij,mij->nm", DEGREE_2, turned)


def irreps_matrix(word: str, matrix: Array) -> Array:
    """Block-diagonal matrix of a direct sum such as ``4x0e+2x1o+1x2e`` (degrees 0, 1 and 2)."""
    sign = np.sign(np.linalg.det(matrix))
    proper = matrix * sign
    blocks: list[Array] = []
    for term in word.split("+"):
        found = re.fullmatch(r"(\d+)x([012])([eo])", term)
        if found is None:
            raise ValueError(f"unknown layout word {word!r}")
        count, degree, parity = found.groups()
        block = (np.eye(1), proper, degree_2(proper))[int(degree)]
        blocks += [block * (sign if parity == "o" else 1.0)] * int(count)
    size = sum(len(block) for block in blocks)
    full, at = np.zeros((size, size)), 0
    for block in blocks:
        full[at : at + len(block), at : at + len(block)] = block
        at += len(block)
    return full


def act(array: NDArray[Any], layout: str | None, element: Element) -> NDArray[Any]:
    """The element's action on a tensor of this layout."""
    if layout is None:
        return array
    axes, _, values = layout.partition(":")
    words = axes.split()
    if len(words) != array.ndim:
        raise ValueError(f"layout {layout!r} does not fit shape {array.shape}")
    if values.strip() == "nodes":
        # Node order[i] moves to i.
        array = np.argsort(element.order)[array]
    elif values:
        raise ValueError(f"layout {layout!r}: unknown values")
    for axis, word in enumerate(words):
        if word == "nodes":
            # Skipped where nodes stay in place: an output may have fewer rows than there are nodes.
            if (np.diff(element.order) != 1).any():
                array = np.take(array, element.order, axis)
            continue
        if word in PLAIN or word.isdigit():
            continue
        if word in ("vector", "point"):
            matrix = element.matrix
        elif word == "pseudovector":
            matrix = element.matrix * np.linalg.det(element.matrix)
        else:
            matrix = irreps_matrix(word, element.matrix)
        array = np.moveaxis(np.tensordot(matrix, array, (1, axis)), 0, axis)
        if word == "point":
            array = array + element.shift.reshape([-1] + [1] * (array.ndim - axis - 1))
    return array


def flatten(output: Any, layouts: Any, path: str = "") -> dict[str, tuple[torch.Tensor, str]]:
    """Outputs that have a layout, by path (a single one is called "output")."""
    if layouts is None:
        return {}
    if isinstance(layouts, str):
        return {path or "output": (output, layouts)}
    found: dict[str, tuple[torch.Tensor, str]] = {}
    for name, layout in layouts.items() if isinstance(layouts, Mapping) else enumerate(layouts):
        if isinstance(name, int) or isinstance(output, Mapping):
            part = output[name]
        else:
            part = getattr(output, name)
        found |= flatten(part, layout, f"{path}.{name}" if path else str(name))
    return found


def call(model: nn.Module, inputs: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """One call on fresh leaf tensors; floating inputs in ``dtype``."""
    fresh = {}
    for name, value in inputs.items():
        tensor = torch.as_tensor(value)
        fresh[name] = tensor.to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)
    return model(**fresh)


def spread(inputs: Inputs, layouts: Mapping[str, str | None]) -> float:
    """Root mean square distance of the points from their centre; 1 without points."""
    for name, layout in layouts.items():
        if layout and "point" in layout.split():
            x = inputs[name].double().numpy()
            return float(np.sqrt(np.square(x - x.mean(0)).sum(-1).mean()))
    return 1.0


def size_of_nodes(inputs: Inputs, layouts: Mapping[str, str | None]) -> int:
    for name, layout in layouts.items():
        if layout and "nodes" in layout.split():
            return inputs[name].shape[layout.split().index("nodes")]
    return 1


def relative(actual: Array, expected: Array, least: float) -> float:
    """Norm of the difference over that of ``expected``, or over ``least`` if that is larger."""
    if actual.shape != expected.shape or not np.isfinite([actual, expected]).all():
        return math.inf
    error = float(np.linalg.norm(actual - expected))
    return error / max(float(np.linalg.norm(expected)), least) if error else 0.0


def measure(
    model: nn.Module,
    case: Case,
    *,
    drawn: tuple[str, ...] | None = None,
    samples: int = 6,
    elements: int = 10,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    share: float = 1.0,
) -> dict[str, float]:
    """Largest relative error of each output over samples and random elements.

    model: the case's network or a variant of it, already in ``dtype``. Transformations and
    differences are computed in f64 whatever the dtype. drawn: parts of the group to draw, all of
    them by default. share: the denominator is the larger of the transformed output's norm and this
    share of the median norm over the base inputs. A shape that differs or a value that is not
    finite counts as infinite.
    """
    random = np.random.default_rng(seed)
    drawn = parts(case.group) if drawn is None else drawn
    in_layouts = case.in_layouts
    bases = [case.inputs(k) for k in range(samples)]
    clean = [
        {
            name: (tensor.detach().double().numpy(), layout)
            for name, (tensor, layout) in flatten(call(model, x, dtype), case.out_layouts).items()
        }
        for x in bases
    ]
    least = {name: share * float(np.median([np.linalg.norm(y[name][0]) for y in clean])) for name in clean[0]}
    worst = dict.fromkeys(least, 0.0)
    for x, y in zip(bases, clean, strict=True):
        scale = spread(x, in_layouts)
        for _ in range(elements):
            element = draw(random, size_of_nodes(x, in_layouts), scale, drawn)
            moved = {
                name: act(
                    (value.double() if value.is_floating_point() else value).numpy(),
                    in_layouts[name],
                    element,
                )
                for name, value in x.items()
            }
            got = flatten(call(model, moved, dtype), case.out_layouts)
            for name, (base, layout) in y.items():
                expected = act(base, layout, element)
                actual = got[name][0].detach().double().numpy()
                worst[name] = max(worst[name], relative(actual, expected, least[name]))
    return worst
