"""PyTorch models as the engine sees them. Imported only when torch is in use."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils.dlpack import from_dlpack

from . import _trees
from ._equicheck import Buffer, SpecificationError
from ._model import Adapter, Samples, Unavailable
from ._tensors import host


def unwrapped(module: nn.Module) -> nn.Module:
    """The module behind wrappers that only distribute or compile."""
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        elif hasattr(module, "_orig_mod") and isinstance(module._orig_mod, nn.Module):
            module = module._orig_mod
        else:
            return module


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    """Attributes that are no parameters, buffers, modules or hooks."""
    if isinstance(module, torch.jit.ScriptModule):
        return {}
    internal = set(nn.Module().__dict__)
    return {key: value for key, value in vars(module).items() if key not in internal}


def _tensors_in(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif depth < 3 and isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _tensors_in(item, f"{path}.{i}", depth + 1)
    elif depth < 3 and isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors_in(item, f"{path}.{key}", depth + 1)


def state_tensors(module: nn.Module) -> list[tuple[str, bool, torch.Tensor]]:
    """All tensors of a module, each once: name, whether a parameter, tensor. Plain tensor attributes count."""
    seen: set[int] = set()
    result = []

    def add(name: str, trained: bool, tensor: torch.Tensor) -> None:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            result.append((name, trained, tensor))

    for name, parameter in module.named_parameters():
        add(name, True, parameter)
    for name, buffer in module.named_buffers():
        add(name, False, buffer)
    for prefix, child in module.named_modules():
        for key, value in _plain_attributes(child).items():
            for name, tensor in _tensors_in(value, f"{prefix}.{key}" if prefix else key):
                add(name, False, tensor)
    return result


def cast_to_double(module: nn.Module) -> None:
    """Parameters, buffers and floating tensor attributes to double precision, in place."""
    with warnings.catch_warnings():
        # Parameters of a copied ScriptModule are no leaves, which torch's own cast then remarks on.
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
        module.double()
    for _, _, tensor in state_tensors(module):
        if tensor.is_floating_point() and tensor.dtype != torch.float64:
            tensor.data = tensor.data.double()
        elif tensor.is_complex() and tensor.dtype != torch.complex128:
            tensor.data = tensor.data.to(torch.complex128)


class _Kept:
    """One tensor as it was before the audit."""

    def __init__(self, name: str, tensor: torch.Tensor) -> None:
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            raise SpecificationError(
                f"the model's parameter `{name}` is not initialised: call the model once before the audit"
            )
        if tensor.is_inference():
            raise SpecificationError(
                f"the model's tensor `{name}` was made under torch.inference_mode() and cannot be put back after a "
                "call: build the model outside of it"
            )
        self.tensor = tensor
        self.data = tensor.data
        self.values = tensor.detach().clone()
        self.grad = tensor.grad if tensor.is_leaf else None
        self.grad_values = None if self.grad is None else self.grad.detach().clone()
        self.requires_grad = tensor.requires_grad
        self.version = tensor._version

    def changed(self) -> bool:
        return self.tensor._version != self.version or self.tensor.data_ptr() != self.data.data_ptr()

    def restore(self, thoroughly: bool) -> None:
        if self.changed() or (thoroughly and not _same_bits(self.tensor, self.values)):
            if self.tensor.data_ptr() != self.data.data_ptr() or self.tensor.dtype != self.data.dtype:
                self.tensor.data = self.data
            self.tensor.data.copy_(self.values)
            self.version = self.tensor._version
        if not self.tensor.is_leaf:
            return
        if self.tensor.grad is not self.grad:
            self.tensor.grad = self.grad
        if self.grad is not None and self.grad_values is not None and thoroughly:
            self.grad.data.copy_(self.grad_values)
        if self.tensor.requires_grad != self.requires_grad:
            self.tensor.requires_grad_(self.requires_grad)


def _same_bits(tensor: torch.Tensor, values: torch.Tensor) -> bool:
    if tensor.dtype != values.dtype or tensor.shape != values.shape:
        return False
    if tensor.device.type == "meta" or tensor.numel() == 0:
        return True
    a, b = tensor.detach().contiguous(), values.contiguous()
    try:
        return bool(torch.equal(a.view(torch.uint8), b.view(torch.uint8)))
    except RuntimeError:  # 0-dimensional tensors have no byte view
        return bool(torch.equal(a.reshape(1).view(torch.uint8), b.reshape(1).view(torch.uint8)))


class ModuleState:
    """Everything of a module that a call may change, and how to put it back."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.modules = list(module.modules())
        self.kept = [_Kept(name, tensor) for name, _, tensor in state_tensors(module)]
        self.registers: list[tuple[dict[str, Any], dict[str, Any]]] = [
            (register, dict(register))
            for child in self.modules
            if not isinstance(child, torch.jit.ScriptModule)
            for register in (child._parameters, child._buffers, child._modules)
        ]
        self.attributes = [(child, _plain_attributes(child)) for child in self.modules]
        self.containers = [
            (value, copy.copy(value))
            for _, attributes in self.attributes
            for value in attributes.values()
            if type(value) in (list, dict, set)
        ]
        self.training = [child.training for child in self.modules]

    def set_mode(self, training: bool | None) -> None:
        """eval, train, or as it was."""
        for child, was in zip(self.modules, self.training, strict=True):
            wanted = was if training is None else training
            if child.training != wanted:
                child.training = wanted

    def restore(self, thoroughly: bool = False) -> None:
        """Values, identities and gradients; at the end also what version counters cannot see, and plain attributes."""
        for register, before in self.registers:
            if len(register) != len(before) or any(register.get(k) is not v for k, v in before.items()):
                register.clear()
                register.update(before)
        for kept in self.kept:
            kept.restore(thoroughly)
        if not thoroughly:
            return
        for container, before in self.containers:
            if container != before if type(container) is set else not _same_items(container, before):
                container.clear()
                container.extend(before) if isinstance(container, list) else container.update(before)
        for child, attributes in self.attributes:
            if isinstance(child, torch.jit.ScriptModule):
                continue
            now = _plain_attributes(child)
            for key in now.keys() - attributes.keys():
                vars(child).pop(key)
            for key, value in attributes.items():
                if now.get(key) is not value:
                    vars(child)[key] = value
        self.set_mode(None)


def _same_items(container: Any, before: Any) -> bool:
    if len(container) != len(before):
        return False
    if isinstance(container, list):
        return all(a is b for a, b in zip(container, before, strict=True))
    return all(container.get(key) is value for key, value in before.items())


class _Generators:
    """States of all random generators."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        initialised = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self.cuda = torch.cuda.get_rng_state_all() if initialised else None
        self.numpy = np.random.get_state()
        self.python = random.getstate()

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state_all(self.cuda)
        np.random.set_state(self.numpy)
        random.setstate(self.python)


class TorchAdapter(Adapter):
    """A torch module, or a callable on torch tensors with the module behind it, if it was named."""

    framework = "torch"

    def __init__(
        self,
        function: Callable[..., Any],
        module: nn.Module | None,
        samples: Samples,
        declared: _trees.Layouts,
        name: str,
        *,
        mode: str = "eval",
        method: str | None = None,
        factory: Callable[[torch.dtype], Any] | None = None,
        default_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(function, samples, declared, name)
        self.module = module
        self.mode = mode
        #: Name of the audited method when the function is the module's own; None for another callable.
        self.method = method
        self.factory = factory
        self.default_dtype = default_dtype
        self.training = {"eval": False, "train": True, "as_is": None}[mode]
        self.protected = None if module is None else ModuleState(module)
        #: Other data for the module's tensors during a call, for callables that hold the module themselves: tensor,
        #: data, and the data's values to restore.
        self.swapped: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def __enter__(self) -> TorchAdapter:
        self._before = _Generators()
        self._default_dtype = torch.get_default_dtype()
        self._grad = torch.is_grad_enabled()
        self._threads = torch.get_num_threads()
        return self

    def __exit__(self, *_: object) -> None:
        if self.protected is not None:
            self.protected.restore(thoroughly=True)
        torch.set_default_dtype(self._default_dtype)
        torch.set_grad_enabled(self._grad)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        self._before.restore()

    def info(self) -> dict[str, Any]:
        info = super().info()
        info["mode"] = self.mode
        if self.module is not None:
            tensors = list(self.module.parameters())
            floating = [t for t in tensors if t.is_floating_point()]
            info["parameters"] = sum(t.numel() for t in tensors)
            if floating:
                counts: dict[str, int] = {}
                for tensor in floating:
                    key = str(tensor.dtype).removeprefix("torch.")
                    counts[key] = counts.get(key, 0) + tensor.numel()
                info["dtype"] = max(counts, key=lambda key: counts[key])
                info["device"] = str(floating[0].device)
        return info

    def environment(self) -> dict[str, str]:
        environment = super().environment()
        environment["torch"] = torch.__version__
        environment["torch threads"] = str(torch.get_num_threads())
        if torch.backends.cuda.matmul.allow_tf32:
            environment["tf32"] = "allowed"
        return environment

    def call(self, arguments: _trees.Args) -> Any:
        if self.protected is not None:
            self.protected.set_mode(self.training)
        default = torch.get_default_dtype()
        held = [(tensor, tensor.data) for tensor, _, _ in self.swapped]
        try:
            for tensor, other, _ in self.swapped:
                tensor.data = other
            if self.default_dtype is not None:
                torch.set_default_dtype(self.default_dtype)
            # Force fields differentiate inside their forward, whatever the caller's own mode is.
            with torch.inference_mode(False), torch.enable_grad():
                return self.function(*arguments.args, **arguments.kwargs)
        finally:
            torch.set_default_dtype(default)
            for tensor, own in held:
                tensor.data = own
            if self.protected is not None:
                self.protected.set_mode(None)
                if held:
                    for kept in self.protected.kept:
                        kept.version = kept.tensor._version

    def reset_generators(self) -> None:
        super().reset_generators()
        torch.manual_seed(0)

    def restore_state(self) -> None:
        if self.protected is not None:
            self.protected.restore()
        for _, data, values in self.swapped:
            data.copy_(values)

    def _copied(self) -> nn.Module:
        """A copy of the module as it was before the audit."""
        assert self.module is not None
        assert self.protected is not None
        self.protected.restore(thoroughly=True)
        return copy.deepcopy(self.module)

    def _of(self, module: nn.Module, default_dtype: torch.dtype | None) -> TorchAdapter:
        """The same audit of another module of the same kind."""
        function = module if self.method in (None, "forward") else getattr(module, self.method or "forward")
        return TorchAdapter(
            function,
            module,
            self.samples,
            self.declared,
            self.name,
            mode=self.mode,
            method=self.method,
            default_dtype=default_dtype,
        )

    def _swapping(self, values: dict[int, torch.Tensor], default_dtype: torch.dtype | None) -> TorchAdapter:
        """The same callable, with other data in the module's tensors (by position) during each call."""
        assert self.module is not None
        other = TorchAdapter(
            self.function,
            self.module,
            self.samples,
            self.declared,
            self.name,
            mode=self.mode,
            default_dtype=default_dtype,
        )
        own = dict(self._swapped_by_position())
        own.update(values)
        tensors = state_tensors(self.module)
        other.swapped = [(tensors[index][2], data.clone(), data) for index, data in own.items()]
        return other

    def _swapped_by_position(self) -> Iterator[tuple[int, torch.Tensor]]:
        if self.module is None or not self.swapped:
            return
        position = {id(tensor): index for index, (_, _, tensor) in enumerate(state_tensors(self.module))}
        for tensor, _, values in self.swapped:
            yield position[id(tensor)], values

    def double(self) -> TorchAdapter:
        if self.factory is not None:
            return self._from_factory(self.factory)
        if self.module is None:
            return TorchAdapter(
                self.function, None, self.samples, self.declared, self.name,
                mode=self.mode, default_dtype=torch.float64,
            )
        if self.method is None:
            assert self.protected is not None
            self.protected.restore(thoroughly=True)
            values = {
                index: tensor.detach().double() if tensor.is_floating_point() else tensor.detach().to(torch.complex128)
                for index, (_, _, tensor) in enumerate(state_tensors(self.module))
                if tensor.is_floating_point() or tensor.is_complex()
            }
            return self._swapping(values, torch.float64)
        module = self._copied()
        cast_to_double(module)
        return self._of(module, torch.float64)

    def _from_factory(self, factory: Callable[[torch.dtype], Any]) -> TorchAdapter:
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            built = factory(torch.float64)
        finally:
            torch.set_default_dtype(default)
        if not isinstance(built, nn.Module):
            if not callable(built):
                raise Unavailable(f"factory(torch.float64) returned {type(built).__name__}, not a model")
            return TorchAdapter(
                built, None, self.samples, self.declared, self.name, mode=self.mode, default_dtype=torch.float64
            )
        if self.module is not None:
            assert self.protected is not None
            self.protected.restore(thoroughly=True)
            _copy_parameters(self.module, built)
        other = self._of(built, torch.float64)
        other.method = self.method or "forward"
        return other

    def state(self) -> list[tuple[str, bool, Any]]:
        if self.module is None:
            raise Unavailable("the module behind the callable is not known: pass it as `module=`")
        # Thoroughly: tensors that calls added (caches) would shift the positions that `with_state` takes.
        if self.protected is not None:
            self.protected.restore(thoroughly=True)
        swapped = dict(self._swapped_by_position())
        return [
            (name, trained, host(swapped.get(index, tensor)))
            for index, (name, trained, tensor) in enumerate(state_tensors(self.module))
        ]

    def with_state(self, values: list[tuple[int, Buffer]]) -> TorchAdapter:
        if self.module is None:
            raise Unavailable("the module behind the callable is not known: pass it as `module=`")
        tensors = state_tensors(self.module)
        new = {index: from_dlpack(buffer).to(tensors[index][2].device) for index, buffer in values}
        if self.method is None:
            return self._swapping(new, self.default_dtype)
        module = self._copied()
        copied = state_tensors(module)
        for index, data in new.items():
            copied[index][2].data = data
        return self._of(module, self.default_dtype)


def _copy_parameters(source: nn.Module, target: nn.Module) -> None:
    """Trained values from one module into another of the same architecture; constants stay the target's own."""
    own = dict(target.named_parameters())
    given = dict(source.named_parameters())
    for name, parameter in own.items():
        if name not in given or given[name].shape != parameter.shape:
            raise Unavailable(f"factory(torch.float64) built another architecture: parameter `{name}` does not match")
        with torch.no_grad():
            parameter.copy_(given[name])
    missing = given.keys() - own.keys()
    if missing:
        raise Unavailable(
            f"factory(torch.float64) built another architecture: it has no parameter `{sorted(missing)[0]}`"
        )


def make(
    model: Any,
    samples: Samples,
    declared: _trees.Layouts,
    *,
    module: Any,
    factory: Any,
    method: str,
    mode: str,
) -> TorchAdapter:
    """The adapter for a module or a callable."""
    if isinstance(model, nn.Module):
        if module is not None and unwrapped(module) is not unwrapped(model):
            raise SpecificationError("`module`: the model is an nn.Module itself; `module=` is for callables")
        inner = unwrapped(model)
        name = type(inner).__name__
        if method != "forward" and not callable(getattr(inner, method, None)):
            raise SpecificationError(f"`method`: {name} has no method `{method}`")
        # A compiled model is audited as it was given; state belongs to the module inside.
        function = model if method == "forward" else getattr(inner, method)
        return TorchAdapter(
            function, inner, samples, declared, name, mode=mode, method=method, factory=factory
        )
    if module is None and isinstance(getattr(model, "__self__", None), nn.Module):
        # A bound method: its module is known, and a copy's method can be taken.
        owner, bound = model.__self__, model.__name__
        if getattr(owner, bound, None) == model:
            return make(owner, samples, declared, module=None, factory=factory, method=bound, mode=mode)
    if module is not None and not isinstance(module, nn.Module):
        raise SpecificationError(f"`module`: expected an nn.Module, not {type(module).__name__}")
    if method != "forward":
        raise SpecificationError("`method` is for an nn.Module; pass the bound method itself as the model")
    name = getattr(model, "__qualname__", type(model).__name__)
    behind = None if module is None else unwrapped(module)
    return TorchAdapter(model, behind, samples, declared, name, mode=mode, factory=factory)

