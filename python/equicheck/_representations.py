"""Representations by the user's own functions: ``@name`` in layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ._custom import double_by_default
from ._equicheck import Element, SpecificationError
from ._tensors import host
from ._trees import is_tensor

#: What the engine calls.
Functions = dict[str, Callable[[Element], Any]]


def functions(representations: Mapping[str, Any] | None) -> Functions:
    """The functions by name, each made to return a tensor in host memory."""
    representations = {} if representations is None else representations
    expected = 'expected a dict of functions such as {"name": function}'
    if not isinstance(representations, Mapping):
        raise SpecificationError(f"`representations`: {expected}, not a {type(representations).__name__}")
    result: Functions = {}
    for name, function in representations.items():
        if not isinstance(name, str):
            raise SpecificationError(f"`representations`: {expected}; {name!r} is no string")
        if not callable(function):
            raise SpecificationError(
                f"`representations`: `{name}`: expected a function of an Element that returns a matrix, not "
                f"{_short(function)}"
            )
        result[name] = _returning_tensor(function)
    return result


def _returning_tensor(function: Callable[[Element], Any]) -> Callable[[Element], Any]:
    def matrix(element: Element) -> Any:
        with double_by_default():
            value = function(element)
        if value is None:
            raise SpecificationError("returns None")
        if is_tensor(value):
            return host(value)
        try:
            return host(np.asarray(value, dtype=np.float64))
        except (TypeError, ValueError):
            raise SpecificationError(
                f"returns no matrix of numbers but {type(value).__name__} {_short(value)}"
            ) from None

    return matrix


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."
