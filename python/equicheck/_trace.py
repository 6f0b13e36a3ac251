"""Module calls inside a torch model: recorded, replayed and interfered with. What it means is decided elsewhere."""

from __future__ import annotations

import functools
import inspect
import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.dlpack import from_dlpack

from . import _trees
from ._equicheck import Buffer
from ._gradients import Pull
from ._libraries import layouts
from ._tensors import DTYPES, host

ROOT = "(root)"

#: Path of a leaf, position of its tensor, its layout by the library.
Leaf = tuple[str, int, str | None]
#: Path, number, parent, class, source, began, ended, inputs, outputs.
Call = tuple[str, int, int | None, str, str | None, int, int, list[Leaf], list[Leaf]]

#: Path, number, operations.
Performed = tuple[str, int, list[str]]


class _Acted(torch.autograd.Function):
    """An engine's linear (or affine) action as a differentiable operation, to any order."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, action: Any, how: str) -> torch.Tensor:
        ctx.action, ctx.how = action, how
        return from_dlpack(getattr(action, how)(host(tensor))).to(tensor.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        how = "linear" if ctx.how == "transpose" else "transpose"
        return _Acted.apply(gradients[0], ctx.action, how), None, None


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation of torch in the module call that makes it, casts with the type that they give."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tracer = tracer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name == "_to_copy" and isinstance(returned, torch.Tensor):
            name = f"cast {str(args[0].dtype).removeprefix('torch.')} {str(returned.dtype).removeprefix('torch.')}"
        # Derivatives that a model takes of itself are no operations of its own.
        if not name.endswith("_backward"):
            self._tracer.note(name)
        return returned


class Replayable:
    """A module call that can be made again."""

    def __init__(
        self, module: Callable[..., Any], arguments: dict[str, Any], parameters: inspect.Signature | None
    ) -> None:
        self.module = module
        self.arguments = arguments
        self.parameters = parameters
        self.generator = torch.get_rng_state()


def _signature(module: nn.Module) -> inspect.Signature | None:
    if "forward" in vars(module):
        return _signature_of(module.forward)
    signature = _signature_of(type(module).forward)
    if signature is None:
        return None
    _, *parameters = signature.parameters.values()  # without self
    return signature.replace(parameters=parameters)


@functools.lru_cache(maxsize=4096)
def _signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # compiled code
        return None


def _named(signature: inspect.Signature | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by the names of parameters; by position where there are none."""
    names: list[str] = []
    if signature is not None:
        for name, parameter in signature.parameters.items():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                names.append(name)
            elif parameter.kind is parameter.VAR_POSITIONAL:
                names += [f"{name}.{k}" for k in range(len(args) - len(names))]
    names += [str(k) for k in range(len(names), len(args))]
    return dict(zip(names, args, strict=False)) | kwargs


def _source(module: nn.Module) -> str | None:
    """Where the forward of a module's class is defined."""
    code = getattr(inspect.unwrap(type(module).forward), "__code__", None)
    # Typed at a prompt, generated, or compiled.
    if code is None or code.co_filename.startswith("<"):
        return None
    return f"{code.co_filename}:{code.co_firstlineno}"


def _class_name(module: nn.Module) -> str:
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        return f"torch.jit.{module.original_name}"
    return f"{kind.__module__}.{kind.__qualname__}"


class Tracer:
    """Stands in for ``nn.Module.__call__`` while a model runs."""

    def __init__(self, root: nn.Module, patches: list[tuple[Any, ...]], limit: int, keep: bool) -> None:
        self._root = root
        self._names = {id(module): name or ROOT for name, module in root.named_modules()}
        self._patches: dict[tuple[str, int], list[tuple[Any, ...]]] = {}
        for kind, path, number, *rest in patches:
            self._patches.setdefault((path, number), []).append((kind, *rest))
        self._limit = limit
        self._keep = keep
        self._thread = threading.get_ident()
        self._counts: dict[str, int] = {}
        self._above: list[int] = []
        self._clock = 0
        self._seen: dict[tuple[int, int | None], tuple[weakref.ref[torch.Tensor], int]] = {}
        self._held = 0
        self.calls: list[Call] = []
        #: Shape, type, values.
        self.tensors: list[tuple[list[int], str, torch.Tensor | None]] = []
        self.kept: list[Replayable] = []
        #: By module call: names of the operations in it, but for those in modules that it calls.
        self.operations: list[dict[str, None]] = []
        self.differentiates = False

    def run(self, function: Callable[..., Any], arguments: _trees.Args, names: list[str], declared: Any) -> Any:
        """Calls the model itself; ``names`` are those of the tensors among its arguments."""
        own = nn.Module.__call__
        engine = torch.autograd._engine_run_backward  # type: ignore[attr-defined]

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            name = self._names.get(id(module))
            # What code generators make is part of the module that had it made.
            generated = isinstance(module, torch.fx.GraphModule)
            if name is None or name == ROOT or generated or threading.get_ident() != self._thread:
                return own(module, *args, **kwargs)
            return self._call(lambda *a, **k: own(module, *a, **k), module, name, args, kwargs)

        def differentiate(*args: Any, **kwargs: Any) -> Any:
            self.differentiates = True
            return engine(*args, **kwargs)

        nn.Module.__call__ = call  # type: ignore[method-assign]
        torch.autograd._engine_run_backward = differentiate  # type: ignore[attr-defined]
        try:
            given = [t for _, t in _trees.leaves(arguments) if _trees.is_tensor(t)]
            inputs: list[Leaf] = [
                (n, self._see(t), None) for n, t in zip(names, given, strict=True) if isinstance(t, torch.Tensor)
            ]
            self._begin(ROOT, 0, _class_name(self._root), _source(self._root), inputs)
            if self._keep:
                self.kept.append(Replayable(function, {}, None))
            returned = function(*arguments.args, **arguments.kwargs)
            found = [(n, t) for n, _, t in _trees.output_leaves(returned, declared) if isinstance(t, torch.Tensor)]
            self._end(0, [(n, self._see(t), None) for n, t in found])
            return returned
        finally:
            nn.Module.__call__ = own  # type: ignore[method-assign]
            torch.autograd._engine_run_backward = engine  # type: ignore[attr-defined]

    def _begin(self, path: str, number: int, kind: str, source: str | None, inputs: list[Leaf]) -> int:
        parent = self._above[-1] if self._above else None
        self.calls.append((path, number, parent, kind, source, self._clock, -1, inputs, []))
        self._clock += 1
        self._above.append(len(self.calls) - 1)
        self.operations.append({})
        return len(self.calls) - 1

    def note(self, operation: str) -> None:
        """Called for each operation, where they are recorded."""
        if self._above:
            self.operations[self._above[-1]][operation] = None

    def performed(
        self, function: Callable[..., Any], arguments: _trees.Args, names: list[str], declared: Any
    ) -> list[Performed]:
        """Calls the model and tells which operations each module call consists of."""
        with _Recorder(self):
            self.run(function, arguments, names, declared)
        calls = zip(self.calls, self.operations, strict=True)
        return [(path, number, list(found)) for (path, number, *_), found in calls]

    def _end(self, position: int, outputs: list[Leaf]) -> None:
        self.calls[position] = (*self.calls[position][:6], self._clock, self.calls[position][7], outputs)
        self._clock += 1
        self._above.pop()

    def _call(
        self,
        function: Callable[..., Any],
        module: nn.Module,
        path: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        number = self._counts.get(path, 0)
        self._counts[path] = number + 1
        signature = _signature(module)
        known = layouts(module) or {}
        patches = self._patches.get((path, number), [])
        if patches:
            args, kwargs = self._patched_arguments(signature, args, kwargs, patches)
        arguments = _named(signature, args, kwargs)
        inputs = self._leaves(arguments, known.get("in", {}))
        position = self._begin(path, number, _class_name(module), _source(module), inputs)
        if self._keep:
            held = _trees.replace(arguments, lambda _, t: self._copy_of(t))
            self.kept.append(Replayable(function, held, signature))
        try:
            returned = function(*args, **kwargs)
        except BaseException:
            self._end(position, [])
            raise
        if patches:
            returned = _trees.replace(returned, _placing(patches, False))
        self._end(position, self._leaves(returned, known.get("out", {})))
        return returned

    def _copy_of(self, tensor: Any) -> Any:
        """The values that were recorded, in the tensor's place; it itself where there are none."""
        if not isinstance(tensor, torch.Tensor):
            return tensor
        values = self.tensors[self._see(tensor)][2]
        if values is None:
            return tensor
        return values.detach().requires_grad_() if tensor.requires_grad and values.is_floating_point() else values

    def _leaves(self, value: Any, known: dict[str, str]) -> list[Leaf]:
        found = [(path, leaf) for path, leaf in _trees.leaves(value) if isinstance(leaf, torch.Tensor)]
        return [(path, self._see(leaf), known.get(path)) for path, leaf in found]

    def _see(self, tensor: torch.Tensor) -> int:
        """Position of a tensor as it is now: written to, it is another one."""
        version = None if tensor.is_inference() else tensor._version
        seen = self._seen.get((id(tensor), version))
        if seen is not None and seen[0]() is tensor:
            return seen[1]
        name = str(tensor.dtype).removeprefix("torch.")
        size = tensor.numel() * tensor.element_size()
        values = None
        # Within torch.func's transformations a tensor stands for several, whose values cannot be read.
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        strided = name in DTYPES and tensor.layout is torch.strided and not wrapped
        if strided and self._held + size <= self._limit:
            values = tensor.detach().clone()
            self._held += size
        self.tensors.append((list(tensor.shape), name, values))
        self._seen[id(tensor), version] = (weakref.ref(tensor), len(self.tensors) - 1)
        return len(self.tensors) - 1

    def _patched_arguments(
        self,
        signature: inspect.Signature | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        patches: list[tuple[Any, ...]],
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        names = list(_named(signature, args, kwargs))[: len(args)]

        place = _placing(patches, True)
        new = _trees.replace(dict(zip(names, args, strict=True)) | kwargs, place)
        return tuple(new[name] for name in names), {key: new[key] for key in kwargs}


def _placing(patches: list[tuple[Any, ...]], inputs: bool) -> Callable[[str, Any], Any]:
    """What patches make of the tensors that go into a module, or come out of it."""

    def place(path: str, tensor: Any) -> Any:
        for kind, *rest in patches:
            if kind == "overwrite":
                into, leaf, values = rest
                if into == inputs and leaf == path:
                    return _overwritten(tensor, values)
            else:
                for leaf, action in rest[0 if inputs else 1]:
                    if leaf == path:
                        return _Acted.apply(tensor, action, "apply")
        return tensor

    return place


def _overwritten(tensor: torch.Tensor, buffer: Buffer) -> torch.Tensor:
    """Other values; the graph stays that of the tensor, for models that differentiate inside."""
    values = from_dlpack(buffer).to(tensor.device, tensor.dtype)
    if tensor.requires_grad and bool(tensor.isfinite().all()):
        return values + (tensor - tensor.detach())
    return values


def again(call: Replayable, tensors: list[Buffer]) -> list[torch.Tensor]:
    """Makes a module call again with other values for its tensor arguments; the tensors that it returns."""

    def asking(template: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.requires_grad_() if template.requires_grad and tensor.is_floating_point() else tensor

    returned = _made_again(call, tensors, asking)
    return [leaf for _, leaf in _trees.leaves(returned) if isinstance(leaf, torch.Tensor)]


def pulled(
    call: Replayable,
    tensors: list[Buffer],
    cotangents: list[tuple[str, torch.Tensor]],
    named: list[tuple[str, nn.Parameter]],
    directions: list[torch.Tensor | None] | None,
) -> Pull:
    """Makes it again and differentiates what it returns by its own arguments and parameters."""
    leaves: list[torch.Tensor] = []

    def asking(_: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
        leaves.append(tensor)
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return tensor
        # A module that writes to its arguments may not do so to leaves.
        return tensor.requires_grad_().clone()

    def found(returned: Any) -> dict[str, Any]:
        return dict(_trees.leaves(returned))

    returned = _made_again(call, tensors, asking)
    pull = Pull(leaves, named, found, None, cotangents, directions)
    pull(returned)
    return pull


def _made_again(
    call: Replayable, tensors: list[Buffer], asking: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> Any:
    values = iter(tensors)

    def place(_: str, template: Any) -> Any:
        if not isinstance(template, torch.Tensor):
            return template
        # In memory as it was: the order of its strides decides in which order sums are taken.
        return asking(template, torch.empty_like(template, requires_grad=False).copy_(from_dlpack(next(values))))

    torch.set_rng_state(call.generator)
    arguments = _trees.replace(call.arguments, place)
    args: list[Any] = []
    if call.parameters is not None:
        for name, parameter in call.parameters.parameters.items():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                if name not in arguments:
                    break
                args.append(arguments.pop(name))
            elif parameter.kind is parameter.VAR_POSITIONAL:
                rest = [key for key in arguments if key.startswith(f"{name}.")]
                args += [arguments.pop(key) for key in rest]
    for key in [key for key in arguments if key.isdigit()]:
        args.append(arguments.pop(key))
    return call.module(*args, **arguments)
