"""Symmetries by the user's own functions."""

from __future__ import annotations

import contextlib
import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import _trees
from ._equicheck import Buffer, SpecificationError
from ._model import Generators, Samples
from ._tensors import device_tensor, host

#: Elements that are kept; others are drawn again from their key.
KEPT = 256


class CustomAction:
    """A symmetry by functions, as in a test loop: ``f(input(x, T))`` against ``output(f(x), T)``.

    >>> def rotation(rng):
    ...     q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    ...     q = q * np.sign(np.diag(r))
    ...     return torch.as_tensor(q * np.sign(np.linalg.det(q)))
    >>> action = CustomAction(rotation, input=lambda x, T: x @ T.T, output=lambda y, T: y @ T.T)
    >>> equicheck.audit(model, x, group=action)

    With ``inverse``, ``identity`` or ``compose`` the functions are held against the laws of a group before the model is
    audited: a slip in the test is then not taken for one of the model.

    Args:
        sample: ``sample()`` or ``sample(rng)`` returns a random element ``T``, of any type. ``rng`` is a numpy
            ``Generator``; without it python's, numpy's and torch's global generators are seeded, and put back after.
        input: ``input(x, T)`` returns ``T x``: ``x`` is a sample in the structure in which it was given (a tensor, a
            tuple, a dict, ``Args``, an object), in double precision, and so is what is returned.
        output: ``output(y, T)`` does the same to what the model returns.
        inverse: ``inverse(T)``.
        identity: the identity element, or a function that returns it.
        compose: ``compose(T, S)`` is the element that acts as ``S`` first, then ``T``: for matrices ``T @ S``.

    Floating tensors and arrays in ``T`` are cast to double precision too, and torch's default type is double inside all
    functions. Arguments of the model that are no tensors stay as they are.
    """

    def __init__(
        self,
        sample: Callable[..., Any],
        input: Callable[[Any, Any], Any],  # noqa: A002 - the word that a test loop uses
        output: Callable[[Any, Any], Any],
        inverse: Callable[[Any], Any] | None = None,
        identity: Any = None,
        compose: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        functions = {"sample": sample, "input": input, "output": output}
        optional = {"inverse": inverse, "compose": compose}
        for name, function in {**functions, **{n: f for n, f in optional.items() if f is not None}}.items():
            if not callable(function):
                raise SpecificationError(f"CustomAction: `{name}`: expected a function, not {function!r}")
        self.sample = sample
        self.input = input
        self.output = output
        self.inverse = inverse
        self.identity = identity
        self.compose = compose

    def __repr__(self) -> str:
        name = getattr(self.sample, "__name__", "")
        return f"CustomAction({name})" if name.isidentifier() else "CustomAction"


class Host:
    """A custom action as the engine sees it: elements by key, tensors by position. It computes nothing itself."""

    def __init__(self, action: CustomAction, samples: Samples, declared: _trees.Layouts) -> None:
        self.action = action
        self.samples = samples
        self.declared = declared
        #: The function that is running: what an exception is about.
        self.doing = ""
        self._drawn: OrderedDict[int, Any] = OrderedDict()
        self._takes_generator = _needs_argument(action.sample)
        samples.keep_returned = True

    def info(self) -> tuple[str, bool, bool, bool]:
        """Name, and whether identity, inverse and compose are known."""
        known = (self.action.identity, self.action.inverse, self.action.compose)
        return (repr(self.action), known[0] is not None, known[1] is not None, known[2] is not None)

    def describe(self, element: tuple[str, int, int]) -> str:
        """The element as it prints, cut short."""
        text = " ".join(repr(self._element(element)).split())
        return text if len(text) <= 300 else text[:297] + "..."

    def act_on_inputs(self, element: tuple[str, int, int], sample: int, buffers: list[Buffer]) -> list[Any]:
        """``input(x, T)``: its tensors in host memory, in the order of the specification."""
        given: list[tuple[str, Any]] = []

        def place(path: str, template: Any) -> Any:
            given.append((path, device_tensor(template, buffers[len(given)])))
            return given[-1][1]

        x = _trees.replace(self.samples.sample(sample), place)
        returned = self._call("input(x, T)", self.action.input, x, self._element(element))
        found = [(path, leaf) for path, leaf in _trees.leaves(returned) if _trees.is_tensor(leaf)]
        self._check([path for path, _ in given], [path for path, _ in found])
        return [host(_like(tensor, leaf)) for (_, tensor), (_, leaf) in zip(given, found, strict=True)]

    def act_on_outputs(self, element: tuple[str, int, int], names: list[str], buffers: list[Buffer]) -> list[Any]:
        """``output(y, T)``: the audited tensors in host memory, in the order of ``names``."""
        given: dict[str, Any] = {}

        def place(path: str, template: Any) -> Any:
            name = path or "output"
            if name not in names:
                return _double(template) if _trees.is_tensor(template) else template
            if _trees.is_tensor(template):
                given[name] = device_tensor(template, buffers[names.index(name)])
            else:
                given[name] = np.from_dlpack(buffers[names.index(name)])[()].item()
            return given[name]

        y = _trees.replace(self.samples.returned, place, leaf=_trees.is_value)
        for name in names:
            if name not in given:
                raise SpecificationError(f"output `{name}` is in a named tuple: name its fields in out_layouts")
        returned = self._call("output(y, T)", self.action.output, y, self._element(element))
        leaves = _trees.output_leaves(returned, self.declared)
        found = {name: leaf for name, _, leaf in leaves if leaf is not None}
        self._check(names, [name for name in names if name in found] or list(found))
        return [host(_like(given[name], found[name])) for name in names]

    def _check(self, given: list[str], found: list[str]) -> None:
        if given == found:
            return

        def words(paths: list[str]) -> str:
            if not paths:
                return "no tensor"
            return ", ".join(f"`{path}`" if path not in ("", "output") else "one tensor" for path in paths)

        raise SpecificationError(
            f"it was given {words(given)} and returned {words(found)}: return the structure that is given"
        )

    def _element(self, element: tuple[str, int, int]) -> Any:
        kind, first, second = element
        if kind == "identity":
            identity = self.action.identity
            return _wide(self._call("identity()", identity) if callable(identity) else identity)
        if kind == "inverse":
            assert self.action.inverse is not None
            return _wide(self._call("inverse(T)", self.action.inverse, self._draw(first)))
        if kind == "product":
            assert self.action.compose is not None
            return _wide(self._call("compose(T, S)", self.action.compose, self._draw(first), self._draw(second)))
        return self._draw(first)

    def _draw(self, key: int) -> Any:
        if key in self._drawn:
            self._drawn.move_to_end(key)
            return self._drawn[key]
        generators = Generators()
        try:
            # numpy's global generator takes 32 bits.
            Generators.seed(key % 2**32)
            if self._takes_generator:
                drawn = self._call("sample(rng)", self.action.sample, np.random.default_rng(key))
            else:
                drawn = self._call("sample()", self.action.sample)
        finally:
            generators.restore()
        self._drawn[key] = _wide(drawn)
        if len(self._drawn) > KEPT:
            self._drawn.popitem(last=False)
        return self._drawn[key]

    def _call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        self.doing = name
        with double_by_default():
            return function(*arguments)


def _needs_argument(function: Callable[..., Any]) -> bool:
    """Whether ``sample`` takes a generator: it cannot be called without arguments, or its first one is ``rng``."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # compiled functions may not tell
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return bool(positional) and (positional[0].default is inspect.Parameter.empty or positional[0].name == "rng")


@contextlib.contextmanager
def double_by_default() -> Iterator[None]:
    """Constants that the user's functions make are double too; nothing is recorded for gradients."""
    torch = _trees.torch_module()
    if torch is None:
        yield
        return
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_default_dtype(default)


def _kind(tensor: Any) -> str:
    """``float``, ``complex``, or the type's own name."""
    name = str(tensor.dtype).removeprefix("torch.")
    for kind in ("complex", "bfloat", "float"):
        if name.startswith(kind):
            return kind.removeprefix("b")
    return "int" if "int" in name else name


def _cast(tensor: Any, name: str) -> Any:
    torch = _trees.torch_module()
    if torch is not None and isinstance(tensor, torch.Tensor):
        return tensor.detach().to(getattr(torch, name))
    return tensor.astype(name)


def _double(tensor: Any) -> Any:
    target = {"float": "float64", "complex": "complex128"}.get(_kind(tensor))
    return tensor if target is None else _cast(tensor, target)


def _wide(element: Any) -> Any:
    """An element with its floating tensors in double precision."""
    return _trees.replace(element, lambda _, tensor: _double(tensor))


def _like(given: Any, tensor: Any) -> Any:
    """Integers in the type of what was given; other types are the user's to keep."""
    if _trees.is_tensor(given) and _kind(given) == _kind(tensor) == "int":
        return _cast(tensor, str(given.dtype).removeprefix("torch."))
    return tensor
