"""Samples, layouts and outputs as trees of tensors with paths.

A tensor is whatever has a shape and speaks DLPack (torch, numpy, JAX); everything else passes by identity.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ._equicheck import SpecificationError
from ._words import layout_text

Layouts = list[tuple[str, str | None]]


class Args:
    """Arguments of one call: ``Args(*a, **kw)`` is the sample that gives ``model(*a, **kw)``.

    Needed where a tuple or dict would be ambiguous: a single dict argument is ``Args({"pos": pos})``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        parts = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        return f"Args({', '.join(parts)})"


def is_tensor(value: Any) -> bool:
    """Whether it is a tensor of some framework (numpy scalars are not)."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufc"  # text and objects pass as they are
    return hasattr(value, "__dlpack__") and hasattr(value, "shape") and not isinstance(value, np.generic)


def is_value(value: Any) -> bool:
    """Whether an output is read as a tensor: numbers are."""
    return is_tensor(value) or isinstance(value, (bool, int, float, complex, np.generic))


def is_named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _join(path: str, step: object) -> str:
    return f"{path}.{step}" if path else str(step)


def _attributes(value: Any) -> dict[str, Any] | None:
    """Attributes of an object that carries tensors (PyG ``Data``); None if it carries none."""
    keys = getattr(value, "keys", None)
    if callable(keys) and hasattr(value, "__getitem__"):
        found = {str(k): value[k] for k in keys()}
    elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        found = {k: v for k, v in vars(value).items() if not k.startswith("_")}
    else:
        return None
    return found if any(is_tensor(v) for v in found.values()) else None


def children(value: Any) -> list[tuple[str, Any]] | None:
    """Steps and values below a node; None for a leaf."""
    if isinstance(value, Args):
        return [(str(i), a) for i, a in enumerate(value.args)] + list(value.kwargs.items())
    if is_tensor(value):
        return None
    if isinstance(value, Mapping):
        return [(str(k), v) for k, v in value.items()]
    if is_named_tuple(value):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return [(str(i), v) for i, v in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    attributes = _attributes(value)
    return None if attributes is None else list(attributes.items())


def _below(value: Any, above: frozenset[int]) -> list[tuple[str, Any]] | None:
    """``children``, except that an object inside itself is a leaf. ``above``: ids on the way from the root."""
    return None if id(value) in above else children(value)


def leaves(value: Any, path: str = "", above: frozenset[int] = frozenset()) -> Iterator[tuple[str, Any]]:
    """Paths and values of all leaves."""
    below = _below(value, above)
    if below is None:
        yield path, value
        return
    above |= {id(value)}
    for step, child in below:
        yield from leaves(child, _join(path, step), above)


def replace(
    value: Any,
    function: Callable[[str, Any], Any],
    path: str = "",
    above: frozenset[int] = frozenset(),
    leaf: Callable[[Any], bool] = is_tensor,
) -> Any:
    """The same tree with ``function(path, tensor)`` for tensors (or what ``leaf`` says); containers are new, the rest
    is shared."""
    if leaf(value):
        return function(path, value)
    below = _below(value, above)
    if below is None or not any(leaf(found) for _, found in leaves(value, path, above)):
        return value
    above |= {id(value)}
    new = {step: replace(child, function, _join(path, step), above, leaf) for step, child in below}
    if isinstance(value, Args):
        given = list(new.values())[: len(value.args)]
        return Args(*given, **{k: new[k] for k in value.kwargs})
    result: Any
    if isinstance(value, Mapping):
        try:
            result = copy.copy(value)
            for child, key in zip(new.values(), list(value.keys()), strict=True):
                result[key] = child
        except TypeError:  # an immutable mapping
            return dict(zip(value.keys(), new.values(), strict=True))
        return result
    if is_named_tuple(value):
        return type(value)(*new.values())
    if isinstance(value, (tuple, list)):
        return type(value)(new.values())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        result = copy.copy(value)
        for step, child in new.items():
            object.__setattr__(result, step, child)
        return result
    result = copy.copy(value)
    for step, child in new.items():
        if child is not getattr(value, step, None):
            setattr(result, step, child)
    return result


def rest(sample: Any) -> list[tuple[str, type, Any]]:
    """All leaves but the tensors, to be compared: path, type, and the value if it cannot change, else the identity."""
    plain = (type(None), bool, int, float, complex, str, bytes)
    return [
        (path, type(leaf), None if is_tensor(leaf) else leaf if isinstance(leaf, plain) else id(leaf))
        for path, leaf in leaves(as_args(sample))
    ]


def as_args(sample: Any) -> Args:
    """A sample as the arguments of one call."""
    if isinstance(sample, Args):
        return sample
    if is_tensor(sample):
        return Args(sample)
    if isinstance(sample, tuple) and not is_named_tuple(sample):
        return Args(*sample)
    if isinstance(sample, dict):
        return Args(**sample)
    return Args(sample)


def name_of(sample: Any, path: str) -> str:
    """How a user calls the tensor at ``path`` of the arguments."""
    if is_tensor(sample):
        return "input"
    if isinstance(sample, Args | dict) or (isinstance(sample, tuple) and not is_named_tuple(sample)):
        return path
    # One object with tensor attributes: its attributes' names.
    return path.removeprefix("0.")


def _text(layout: Any, where: str) -> str | None:
    if layout is None:
        return None
    try:
        text = layout_text(layout)
    except SpecificationError as error:
        raise SpecificationError(f"layout of {where}: {error}") from None
    if text is not None:
        return text
    raise SpecificationError(f"layout of {where}: expected a string or None, not {type(layout).__name__}")


def _steps(layout: Any) -> dict[str, Any] | None:
    if isinstance(layout, Mapping):
        return {str(k): v for k, v in layout.items()}
    if isinstance(layout, Args):
        return dict(children(layout) or [])
    if type(layout).__name__ in {"Irreps", "Irrep"}:
        return None
    if isinstance(layout, (tuple, list)):
        return {str(i): v for i, v in enumerate(layout)}
    return None


def match_inputs(sample: Any, layouts: Any) -> Layouts:
    """Layouts of all tensors of a sample, in its order; ``layouts`` mirrors the sample."""
    result: Layouts = []
    if is_tensor(sample):
        if _steps(layouts) is not None:
            raise SpecificationError("in_layouts: the sample is one tensor, so its layout is one string")
        return [("input", _text(layouts, "the input"))]
    args = as_args(sample)
    single = name_of(sample, "0.x") == "x"
    tree: Any = {"0": layouts} if single else layouts

    def walk(value: Any, layout: Any, path: str, above: frozenset[int]) -> None:
        name = name_of(sample, path)
        if is_tensor(value):
            if _steps(layout) is not None:
                raise SpecificationError(f"in_layouts: input `{name}` is one tensor, so its layout is one string")
            result.append((name, _text(layout, f"input `{name}`")))
            return
        below = _below(value, above)
        if below is None:
            if layout:
                raise SpecificationError(
                    f"in_layouts: input `{name}` is a {type(value).__name__}, not a numerical tensor: "
                    "give None as its layout"
                )
            return
        if layout is None:
            below_here = leaves(value, path, above)
            result.extend((name_of(sample, p), None) for p, leaf in below_here if is_tensor(leaf))
            return
        steps = _steps(layout)
        label = f"input `{name}`" if path and not (single and path == "0") else "the sample"
        if steps is None:
            raise SpecificationError(
                f"in_layouts: {label} holds several tensors ({', '.join(s for s, _ in below)}): "
                "give their layouts in the same structure"
            )
        if is_named_tuple(value) and all(step.isdigit() for step in steps):
            steps = {value._fields[int(k)]: v for k, v in steps.items() if int(k) < len(value._fields)}
        above |= {id(value)}
        known = [step for step, _ in below]
        for step in steps:
            if step not in known:
                raise SpecificationError(
                    f"in_layouts names `{step}`, which {label} does not have; it has: {', '.join(known)}"
                )
        for step, child in below:
            if step in steps:
                walk(child, steps[step], _join(path, step), above)
            elif any(is_tensor(leaf) for _, leaf in leaves(child, "", above)):
                missing = name_of(sample, _join(path, step))
                raise SpecificationError(
                    f"input `{missing}` has no layout: add it to in_layouts (None if it is not transformed)"
                )

    walk(args, tree, "", frozenset())
    if not result:
        raise SpecificationError("the sample holds no tensor")
    return result


def flatten_outputs(layouts: Any, path: str = "") -> Layouts:
    """Declared outputs by path."""
    steps = _steps(layouts)
    if steps is None:
        name = path or "output"
        return [(name, _text(layouts, f"output `{name}`"))]
    return [entry for step, child in steps.items() for entry in flatten_outputs(child, _join(path, step))]


def output_leaves(value: Any, declared: Layouts) -> list[tuple[str, bool, Any | None]]:
    """Leaves of what a model returned: path, whether its last step is a position that must be declared, and the
    tensor (None for what is none). Python and numpy numbers count as tensors."""
    names = {name for name, _ in declared}
    left_out = {name for name, layout in declared if layout is None}
    result: list[tuple[str, bool, Any | None]] = []

    def walk(value: Any, path: str, positional: bool, above: frozenset[int]) -> None:
        if path in left_out:
            positional = False
            if is_tensor(value):
                result.append((path, False, value))
            return
        if value is None:
            return
        if is_tensor(value):
            result.append((path or "output", positional, value))
            return
        if is_value(value):
            result.append((path or "output", positional, np.asarray(value)))
            return
        below = _below(value, above)
        if below is None:
            result.append((path or "output", False, None))
            return
        above |= {id(value)}
        if is_named_tuple(value) and any(
            name == _join(path, i) or name.startswith(_join(path, i) + ".") for i in range(len(value)) for name in names
        ):
            below = [(str(i), v) for i, v in enumerate(value)]
        # Below an entry of a dict that nobody declared, a list asks for nothing.
        asked = not path or positional or any(name.startswith(path + ".") for name in names)
        by_position = isinstance(value, (tuple, list)) and asked
        for step, child in below:
            walk(child, _join(path, step), by_position, above)

    walk(value, "", False, frozenset())
    return result


def torch_module() -> Any:
    """torch if somebody imported it, else None: equicheck itself never does."""
    return sys.modules.get("torch")
