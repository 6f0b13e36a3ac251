"""A callable as the engine sees it. Frameworks refine :class:`Adapter`; none of them computes anything."""

from __future__ import annotations

import platform
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from . import _trees
from ._equicheck import Buffer, SpecificationError
from ._tensors import device_tensor, host


class Unavailable(Exception):
    """A capability that this model does not offer, with the reason."""


class Samples:
    """Test samples: given, or drawn by a function of a seed. Each is fetched once and kept."""

    def __init__(self, inputs: Any, layouts: Any) -> None:
        self._layouts = layouts
        self._generate: Callable[[int], Any] | None = None
        if isinstance(inputs, list):
            if not inputs:
                raise SpecificationError("inputs: the list of samples is empty")
            self._given: list[Any] = list(inputs)
        elif callable(inputs) and not _trees.is_tensor(inputs) and _trees.children(inputs) is None:
            self._generate = inputs
            self._given = []
        else:
            self._given = [inputs]
        self._known: dict[int, Any] = {}
        self.declared = _trees.match_inputs(self.sample(0), layouts)

    def count(self) -> int | None:
        """How many there are; None when they are generated."""
        return None if self._generate is not None else len(self._given)

    def sample(self, index: int) -> Any:
        """The sample as the user gave it."""
        if self._generate is None:
            return self._given[index]
        if index not in self._known:
            self._known[index] = self._generate(index)
        return self._known[index]

    def tensors(self, index: int) -> list[Any]:
        """Its tensors in host memory, in the order of the specification."""
        sample = self.sample(index)
        try:
            names = [name for name, _ in _trees.match_inputs(sample, self._layouts)]
        except SpecificationError as error:
            raise SpecificationError(f"sample {index}: {error}") from None
        if names != [name for name, _ in self.declared]:
            first = ", ".join(name for name, _ in self.declared)
            raise SpecificationError(
                f"sample {index} has the tensors {', '.join(names)}, sample 0 has {first}: all must agree"
            )
        leaves = [leaf for _, leaf in _trees.leaves(_trees.as_args(sample)) if _trees.is_tensor(leaf)]
        result = []
        for name, leaf in zip(names, leaves, strict=True):
            try:
                result.append(host(leaf))
            except TypeError as error:
                raise SpecificationError(f"input `{name}` of sample {index}: {error}") from None
        return result

    def arguments(self, index: int, tensors: list[Any]) -> tuple[_trees.Args, list[Any]]:
        """The call's arguments with these tensors in place of the sample's own, and the fresh tensors."""
        fresh: list[Any] = []

        def place(_path: str, template: Any) -> Any:
            buffer = tensors[len(fresh)]
            fresh.append(device_tensor(template, buffer))
            return fresh[-1]

        arguments = _trees.replace(_trees.as_args(self.sample(index)), place)
        return arguments, fresh


class Adapter:
    """Any callable on arrays. Numpy's and Python's generators are reset; there is no state to protect."""

    framework = "numpy"

    def __init__(self, function: Callable[..., Any], samples: Samples, declared: _trees.Layouts, name: str) -> None:
        self.function = function
        self.samples = samples
        self.declared = declared
        self.name = name

    def __enter__(self) -> Adapter:
        self._generators = (random.getstate(), np.random.get_state())
        return self

    def __exit__(self, *_: object) -> None:
        random.setstate(self._generators[0])
        np.random.set_state(self._generators[1])

    def info(self) -> dict[str, Any]:
        """Fields of the report's model section."""
        return {
            "name": self.name,
            "framework": self.framework,
            "parameters": None,
            "dtype": "",
            "device": "cpu",
            "mode": "as_is",
        }

    def environment(self) -> dict[str, str]:
        """Versions and threads: what decides a report's figures beside the plan."""
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        for package in ("torch", "jax", "e3nn", "escnn", "torch_geometric", "ase", "chgnet"):
            module = sys.modules.get(package)
            if module is not None and hasattr(module, "__version__"):
                versions[package] = str(module.__version__)
        return versions

    def forward(
        self, sample: int, buffers: list[Buffer], reset_generators: bool, restore_state: bool
    ) -> tuple[list[tuple[str, bool, Any | None]], list[Any]]:
        """One call: leaves of the output (path, positional, tensor in host memory) and the inputs afterwards."""
        arguments, fresh = self.samples.arguments(sample, buffers)
        if restore_state:
            self.restore_state()
        if reset_generators:
            self.reset_generators()
        returned = self.call(arguments)
        found = _trees.output_leaves(returned, self.declared)
        outputs = [(name, positional, self._host(name, t)) for name, positional, t in found]
        return outputs, [host(tensor) for tensor in fresh]

    def _host(self, name: str, tensor: Any) -> Any | None:
        """An output in host memory; None for what is no tensor, or one that nobody declared and that has no such form."""
        try:
            return None if tensor is None else host(tensor)
        except TypeError as error:
            if any(name == output and layout is not None for output, layout in self.declared):
                raise TypeError(f"output `{name}`: {error}") from None
            return None

    def call(self, arguments: _trees.Args) -> Any:
        """The model itself."""
        return self.function(*arguments.args, **arguments.kwargs)

    def reset_generators(self) -> None:
        """All random generators to one fixed state."""
        random.seed(0)
        np.random.seed(0)

    def restore_state(self) -> None:
        """Buffers to what they were before the audit."""

    def double(self) -> Adapter:
        """The same function in double precision: its inputs decide."""
        return self

    def state(self) -> list[tuple[str, bool, Any]]:
        """Floating tensors: name, whether trained, values."""
        raise Unavailable("a plain function has no state that can be read")

    def with_state(self, values: list[tuple[int, Buffer]]) -> Adapter:
        """A copy with other values for the tensors of `state`, by position."""
        raise Unavailable("a plain function has no state that can be written")
