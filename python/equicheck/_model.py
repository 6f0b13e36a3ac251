"""A callable as the engine sees it. Frameworks refine :class:`Adapter`; none of them computes anything."""

from __future__ import annotations

import platform
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import _trees
from ._equicheck import Buffer, SpecificationError
from ._tensors import device_tensor, host

#: A random draw: kind, whether standard Gaussian, shape, and the values where they were recorded.
Draw = tuple[str, bool, tuple[int, ...], Any]


class Unavailable(Exception):
    """A capability that this model does not offer, with the reason."""


class Generators:
    """States of all random generators: python's, numpy's and, if somebody imported it, torch's."""

    def __init__(self) -> None:
        self._python = random.getstate()
        self._numpy = np.random.get_state()
        torch = _trees.torch_module()
        self._torch = None if torch is None else torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if _cuda_runs(torch) else None

    @staticmethod
    def seed(value: int) -> None:
        """Puts all of them to one state."""
        random.seed(value)
        np.random.seed(value)
        torch = _trees.torch_module()
        if torch is not None:
            # `torch.manual_seed` would also leave a seed for devices that nobody uses yet.
            torch.default_generator.manual_seed(value)
            if _cuda_runs(torch):
                torch.cuda.manual_seed_all(value)
            if torch.backends.mps.is_available():
                torch.mps.manual_seed(value)

    def restore(self) -> None:
        """Back to the states at construction."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch = _trees.torch_module()
        if self._torch is not None:
            torch.set_rng_state(self._torch)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)


def _cuda_runs(torch: Any) -> bool:
    return torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()


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
        elif inputs is None or isinstance(inputs, (bool, int, float, complex, str, bytes)):
            raise SpecificationError(
                f"inputs: expected a sample (a tensor, or a tuple, dict or object of tensors), a list of samples, or a "
                f"function seed -> sample, not {inputs!r}"
            )
        elif isinstance(inputs, Iterator) or (
            hasattr(inputs, "dataset") and hasattr(inputs, "__iter__") and not _trees.is_tensor(inputs)
        ):
            raise SpecificationError(
                f"inputs: a {type(inputs).__name__} can be read once, and samples are needed again: give a list, such "
                "as list(itertools.islice(loader, 50))"
            )
        else:
            self._given = [inputs]
        self._known: dict[int, Any] = {}
        #: Whether what the model returns first is kept: custom actions act on the whole of it.
        self.keep_returned = False
        self.returned: Any = None
        #: The user's loss, of what the model returns.
        self.loss: Callable[[Any], Any] | None = None
        self.declared = _trees.match_inputs(self.sample(0), layouts)

    def count(self) -> int | None:
        """How many there are; None when they are generated."""
        return None if self._generate is not None else len(self._given)

    def sample(self, index: int) -> Any:
        """The sample as the user gave it."""
        if self._generate is None:
            return self._given[index]
        if index not in self._known:
            # Functions that ignore their seed draw distinct samples too, and the same ones each time.
            generators = Generators()
            try:
                Generators.seed(index)
                self._known[index] = self._generate(index)
            finally:
                generators.restore()
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
    """Any callable on arrays. Random generators are reset; there is no state to protect."""

    framework = "numpy"

    def __init__(self, function: Callable[..., Any], samples: Samples, declared: _trees.Layouts, name: str) -> None:
        self.function = function
        self.samples = samples
        self.declared = declared
        self.name = name

    def __enter__(self) -> Adapter:
        self._generators = Generators()
        return self

    def __exit__(self, *_: object) -> None:
        self._generators.restore()

    def info(self) -> dict[str, Any]:
        """Fields of the report's model section."""
        return {
            "name": self.name,
            "framework": self.framework,
            "parameters": None,
            "dtype": "",
            "device": "cpu",
            "mode": "as_is",
            "computes_in": "",
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
        if self.samples.keep_returned:
            # Copies of the model share the samples, so it does not matter which is called first.
            self.samples.returned = _trees.replace(returned, lambda _, t: t.detach() if hasattr(t, "detach") else t)
            self.samples.keep_returned = False
        found = _trees.output_leaves(returned, self.declared)
        outputs = [(name, positional, self._host(name, t)) for name, positional, t in found]
        return outputs, [host(tensor) for tensor in fresh]

    def shares_arguments(self, first: int, second: int) -> bool:
        """Whether two samples differ in nothing but their tensors."""
        return _trees.rest(self.samples.sample(first)) == _trees.rest(self.samples.sample(second))

    def check_draws(self) -> None:
        """Raises ``Unavailable`` where random draws cannot be recorded."""
        raise Unavailable(
            "random draws are recorded in torch models alone, not in a plain function's: pass the noise as an input "
            'with a layout of its own, or use randomness="distribution"'
        )

    def forward_with_draws(
        self,
        sample: int,
        buffers: list[Buffer],
        reset_generators: bool,
        restore_state: bool,
        replayed: list[tuple[str, Buffer]] | None,
    ) -> tuple[list[tuple[str, bool, Any | None]], list[Any], list[Draw], list[str]]:
        """`forward` with random draws recorded, or replayed by kind and values: what it returns, the draws that were
        made, and operations that drew out of reach."""
        raise NotImplementedError

    def pullback(
        self,
        sample: int,
        buffers: list[Buffer],
        reset_generators: bool,
        restore_state: bool,
        cotangents: list[tuple[str, Buffer]] | None,
        parameters: bool,
        directions: list[Buffer | None] | None,
        replayed: list[tuple[str, Buffer]] | None,
    ) -> tuple[list[tuple[str, bool, Any | None]], list[Any | None], list[tuple[str, str, Any | None]]]:
        """One call and its backward: leaves of the output, gradients by input (None: no path), and by parameter: name,
        ``"values"``, ``"no path"`` or ``"frozen"``, values. Without cotangents the user's loss is differentiated."""
        raise Unavailable("the host cannot differentiate a model: gradients are taken of torch models")

    def train_mode(self) -> Adapter:
        """The same model in train mode."""
        raise Unavailable("a plain function has no train mode")

    def eval_mode(self) -> Adapter:
        """The same model in eval mode."""
        raise Unavailable("a plain function has no eval mode")

    def _host(self, name: str, tensor: Any) -> Any | None:
        """An output in host memory; None for what is no tensor, or undeclared and without such a form."""
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
        Generators.seed(0)

    def restore_state(self) -> None:
        """Buffers to what they were before the audit."""

    def double(self) -> Adapter:
        """The same function in double precision: its inputs decide."""
        return self

    def check_tracing(self) -> None:
        """Raises ``Unavailable`` where nothing can look inside."""
        raise Unavailable("layers are seen in torch modules alone, not in a plain function")

    def trace(
        self,
        sample: int,
        buffers: list[Buffer],
        reset_generators: bool,
        restore_state: bool,
        patches: list[tuple[Any, ...]],
        limit: int,
        keep: bool,
    ) -> tuple[list[Any], list[Any], list[tuple[str, bool, Any | None]], bool]:
        """One call with every module call in it: calls, distinct tensors, outputs, whether it differentiates."""
        raise NotImplementedError

    def replay(self, position: int, buffers: list[Buffer]) -> list[Any]:
        """A module call of the pass that was kept, again."""
        raise NotImplementedError

    def replay_pullback(
        self,
        position: int,
        buffers: list[Buffer],
        cotangents: list[tuple[str, Buffer]],
        parameters: bool,
        directions: list[Buffer | None] | None,
    ) -> tuple[list[str], list[Any | None], list[tuple[str, str, Any | None]]]:
        """The same differentiated: names of the outputs that carry a gradient; gradients by input and by parameter."""
        raise NotImplementedError

    def forget(self) -> None:
        """The pass that was kept is let go."""

    def state(self) -> list[tuple[str, bool, Any]]:
        """Floating tensors: name, whether trained, values."""
        raise Unavailable("a plain function has no state that can be read")

    def with_state(self, values: list[tuple[int, Buffer]]) -> Adapter:
        """A copy with other values for the tensors of `state`, by position."""
        raise Unavailable("a plain function has no state that can be written")
