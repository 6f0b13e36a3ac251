"""PyTorch models as the engine sees them. Imported only when torch is in use."""

from __future__ import annotations

import contextlib
import copy
import operator
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.dlpack import from_dlpack

from . import _gradients, _trace, _trees
from ._draws import Draws
from ._equicheck import Buffer, SpecificationError
from ._model import Adapter, Draw, Samples, Unavailable
from ._tensors import DTYPES, host


def unwrapped(module: nn.Module) -> nn.Module:
    """The module behind wrappers that only distribute or compile."""
    while True:
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            module = module.module
        elif hasattr(module, "_orig_mod") and isinstance(module._orig_mod, nn.Module):
            module = module._orig_mod
        else:
            return module


#: What every module has: parameters, buffers, children, hooks by name.
_INTERNAL = frozenset(vars(nn.Module()))


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    """Attributes that are no parameters, buffers, modules or hooks."""
    if isinstance(module, torch.jit.ScriptModule):
        return {}
    return {key: value for key, value in vars(module).items() if key not in _INTERNAL}


def _tensors_in(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif depth < 3 and isinstance(value, (list, tuple, deque)):
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


def _version(tensor: torch.Tensor) -> int | None:
    """Counts changes in place; None where nothing counts them."""
    return None if tensor.is_inference() else tensor._version


def _address(tensor: torch.Tensor) -> int | None:
    """Where its memory starts; None if it has none of its own (sparse)."""
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return None


def _bytes(tensor: torch.Tensor) -> torch.Tensor | None:
    """A view of a contiguous tensor's memory, for comparisons that NaN and signed zero do not disturb."""
    if tensor.layout is not torch.strided or tensor.device.type == "meta":
        return None
    if tensor.numel() == 0 or not tensor.is_contiguous():
        return None
    try:
        return tensor.detach().reshape(-1).view(torch.uint8)
    except RuntimeError:
        return None


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Dense tensors that hold its values."""
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return [tensor]


def _same_bits(tensor: torch.Tensor, values: torch.Tensor) -> bool:
    if (tensor.dtype, tensor.shape, tensor.layout) != (values.dtype, values.shape, values.layout):
        return False
    for a, b in zip(_parts(tensor.detach()), _parts(values), strict=True):
        if a.shape != b.shape:
            return False
        views = _bytes(a.contiguous()), _bytes(b.contiguous())
        if views[0] is not None and views[1] is not None and not torch.equal(views[0], views[1]):
            return False
    return True


class _Kept:
    """One tensor as it was before the audit."""

    def __init__(self, tensor: torch.Tensor, trained: bool, lean: bool) -> None:
        self.tensor = tensor
        self.trained = trained
        self.data = tensor.data
        self.address = _address(tensor)
        # Of a throw-away copy, parameters are not kept once it is known that calls leave them alone.
        self.values = None if lean and trained else tensor.detach().clone()
        # Writing through `.data` counts as no change: what is small and meant to change is compared.
        self.bytes = None if trained else _bytes(self.data)
        self.bytes_before = None if self.values is None else _bytes(self.values)
        self.grad = tensor.grad if tensor.is_leaf else None
        self.grad_values = None if self.grad is None else self.grad.detach().clone()
        self.requires_grad = tensor.requires_grad
        self.version = _version(tensor)

    def changed(self, thoroughly: bool) -> bool:
        version = _version(self.tensor)
        if version != self.version or _address(self.tensor) != self.address:
            return True
        if self.values is None:
            return False
        if thoroughly or version is None or self.address is None:
            return not _same_bits(self.tensor, self.values)
        if self.bytes is None or self.bytes_before is None:
            return False
        return not torch.equal(self.bytes, self.bytes_before)

    def restore(self, thoroughly: bool) -> bool:
        """Puts it back; returns whether it had changed."""
        changed = self.changed(thoroughly)
        if changed:
            if self.address is None and self.values is not None:
                # Indices and values of a sparse tensor are replaced, not written to.
                self.tensor.data = self.values.clone()
            else:
                if _address(self.tensor) != self.address or self.tensor.dtype != self.data.dtype:
                    self.tensor.data = self.data
                if self.values is not None:
                    self.tensor.data.copy_(self.values)
            self.version = _version(self.tensor)
        if not self.tensor.is_leaf:
            return changed
        if self.tensor.grad is not self.grad:
            self.tensor.grad = self.grad
        if self.grad is not None and self.grad_values is not None and thoroughly:
            self.grad.data.copy_(self.grad_values)
        if self.tensor.requires_grad != self.requires_grad:
            self.tensor.requires_grad_(self.requires_grad)
        return changed


_CONTAINERS = frozenset((dict, OrderedDict, defaultdict, list, deque, set, tuple, np.ndarray))


class _Containers:
    """What dicts, lists, sets and arrays held, to be put back by identity."""

    #: Levels of containers in containers that are followed below a module's attributes.
    DEPTH = 3

    def __init__(self, roots: Iterable[Any], depth: int) -> None:
        self.mappings: list[tuple[dict[Any, Any], list[Any], list[Any]]] = []
        self.sequences: list[tuple[list[Any] | deque[Any], list[Any]]] = []
        self.sets: list[tuple[set[Any], set[Any]]] = []
        self.arrays: list[tuple[np.ndarray, np.ndarray]] = []
        self._seen: set[int] = set()
        for root in roots:
            self._add(root, depth)

    def _add(self, value: Any, depth: int) -> None:
        # Exact types: a subclass may iterate, compare or change in its own way.
        if type(value) not in _CONTAINERS:
            return
        if depth > self.DEPTH or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, np.ndarray):
            if value.flags.writeable:
                self.arrays.append((value, value.copy()))
            return
        inside: Iterable[Any] = value
        if isinstance(value, dict):
            self.mappings.append((value, list(value), list(value.values())))
            inside = value.values()
        elif isinstance(value, (list, deque)):
            self.sequences.append((value, list(value)))
        elif isinstance(value, set):
            self.sets.append((value, set(value)))
        for item in list(inside):
            self._add(item, depth + 1)

    def restore(self) -> None:
        same = operator.is_
        for mapping, keys, values in self.mappings:
            if len(mapping) == len(keys) and (
                not keys or (all(map(same, mapping, keys)) and all(map(same, mapping.values(), values)))
            ):
                continue
            mapping.clear()
            for key, value in zip(keys, values, strict=True):
                mapping[key] = value
        for sequence, items in self.sequences:
            if len(sequence) != len(items) or not all(map(same, sequence, items)):
                sequence.clear()
                sequence.extend(items)
        for members, before in self.sets:
            if members != before:
                members.clear()
                members.update(before)
        for array, copied in self.arrays:
            np.copyto(array, copied)


class ModuleState:
    """Everything of a module that a call may change, and how to put it back.

    ``lean``: without the values of parameters, for throw-away copies whose calls leave them alone.
    """

    def __init__(self, module: nn.Module, lean: bool = False) -> None:
        self.modules = list(module.modules())
        self.kept = [_Kept(tensor, trained, lean) for _, trained, tensor in state_tensors(module)]
        # Attributes, and parameters, buffers, children and hooks by name.
        every = [vars(m) for m in self.modules if not isinstance(m, torch.jit.ScriptModule)]
        own = [d for a in every for key, d in a.items() if key in _INTERNAL and isinstance(d, dict)]
        self.attributes = _Containers([*every, *own], _Containers.DEPTH)
        # A user's own containers are caches that calls share; they are put back at the end alone.
        self.containers = _Containers(every, -1)
        self.training = [child.training for child in self.modules]
        #: Whether a call was seen to write to a parameter.
        self.wrote_parameters = False

    def set_mode(self, training: bool | None) -> None:
        """eval, train, or as it was."""
        for child, was in zip(self.modules, self.training, strict=True):
            wanted = was if training is None else training
            if child.training != wanted:
                child.training = wanted

    def restore(self, thoroughly: bool = False) -> None:
        """Attributes, hooks, values and gradients; at the end also what costs a comparison of all values."""
        self.set_mode(None)
        self.attributes.restore()
        if thoroughly:
            self.containers.restore()
        for kept in self.kept:
            if kept.restore(thoroughly) and kept.trained:
                self.wrote_parameters = True


class _Swapped:
    """Other data for a tensor of the module during calls."""

    def __init__(self, tensor: torch.Tensor, data: torch.Tensor, lean: bool) -> None:
        self.tensor = tensor
        self.data = data
        self.lean = lean
        self.reset()

    def reset(self) -> None:
        """What earlier calls wrote to the data is forgotten."""
        self.working = self.data if self.lean else self.data.clone()


def compiled(function: Any) -> bool:
    """Whether what happens inside is no Python code that can be watched."""
    return isinstance(function, torch.jit.ScriptModule) or hasattr(function, "_orig_mod")


class _Autocast:
    """Sees in which types autocast has single-precision numbers computed during a call, around it or inside."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.types: set[str] = set()

    def __enter__(self) -> _Autocast:
        for device in {"cpu", self.device}:
            with contextlib.suppress(RuntimeError):  # devices without autocast
                if torch.is_autocast_enabled(device):
                    self._add(torch.get_autocast_dtype(device))
        if self.device == "cuda" and torch.backends.cuda.matmul.allow_tf32:
            self.types.add("tf32")
        entered = self._entered = torch.autocast.__enter__

        def enter(context: torch.autocast) -> Any:
            if context._enabled:
                self._add(context.fast_dtype)
            return entered(context)  # type: ignore[no-untyped-call]

        torch.autocast.__enter__ = enter  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        torch.autocast.__enter__ = self._entered  # type: ignore[method-assign]

    def _add(self, dtype: torch.dtype) -> None:
        self.types.add(str(dtype).removeprefix("torch."))

    def coarsest(self) -> str:
        """The type with the fewest digits, if any is coarser than single precision."""
        return next((name for name in ("bfloat16", "float16", "tf32") if name in self.types), "")


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
        protected: ModuleState | None = None,
    ) -> None:
        super().__init__(function, samples, declared, name)
        self.module = module
        self.mode = mode
        #: Name of the audited method when the function is the module's own; None for another callable.
        self.method = method
        self.factory = factory
        self.default_dtype = default_dtype
        self.training = {"eval": False, "train": True, "as_is": None}[mode]
        self.protected = protected
        if protected is None and module is not None:
            self.protected = ModuleState(module)
        #: Other data for the module's tensors during a call, for callables that hold the module themselves.
        self.swapped: list[_Swapped] = []
        self._called = False
        #: What a call was seen to compute single-precision numbers in, where that is coarser.
        self.computes_in = ""
        #: Records or replays random draws during a call.
        self._draws: Draws | None = None
        self._kept: list[_trace.Replayable] = []
        #: What is done with what the model returned, while its state is in place.
        self._after: Callable[[Any], Any] | None = None

    def __enter__(self) -> TorchAdapter:
        super().__enter__()
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
        super().__exit__()

    def info(self) -> dict[str, Any]:
        info = super().info()
        if self.module is not None:
            info["mode"] = self.mode  # of a callable alone nothing is set
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
        info["computes_in"] = self.computes_in
        return info

    def environment(self) -> dict[str, str]:
        environment = super().environment()
        environment["torch"] = torch.__version__
        environment["torch threads"] = str(torch.get_num_threads())
        if torch.backends.cuda.matmul.allow_tf32:
            environment["tf32"] = "allowed"
        return environment

    def check_draws(self) -> None:
        """Torch's random operations are all seen."""

    def forward_with_draws(
        self,
        sample: int,
        buffers: list[Buffer],
        reset_generators: bool,
        restore_state: bool,
        replayed: list[tuple[str, Buffer]] | None,
    ) -> tuple[list[tuple[str, bool, Any | None]], list[Any], list[Draw], list[str]]:
        self._draws = Draws(None if replayed is None else [(kind, from_dlpack(values)) for kind, values in replayed])
        try:
            outputs, after = self.forward(sample, buffers, reset_generators, restore_state)
            return outputs, after, self._draws.made, self._draws.out_of_reach
        finally:
            self._draws = None

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
        given = [from_dlpack(buffer) for buffer in buffers]
        weights = None if cotangents is None else [(name, from_dlpack(w)) for name, w in cotangents]
        along = None if directions is None else [None if u is None else from_dlpack(u) for u in directions]
        draws = None if replayed is None else [(kind, from_dlpack(values)) for kind, values in replayed]
        named = list(self.module.named_parameters()) if self.module is not None and parameters else []

        def attempt(cloned: bool) -> tuple[Any, _gradients.Pull]:
            template, fresh = self.samples.arguments(sample, [tensor.clone() for tensor in given])
            own = _gradients.as_leaves(fresh, cloned)
            arguments = template
            if cloned:
                order = iter(own)
                arguments = _trees.replace(template, lambda _path, _tensor: next(order))
            if restore_state:
                self.restore_state()
            if reset_generators:
                self.reset_generators()
            pull = _gradients.Pull(own, named, self._named_outputs, self.samples.loss, weights, along)
            self._after = pull
            self._draws = None if draws is None else Draws(draws)
            try:
                return self.call(arguments), pull
            finally:
                self._after = None
                self._draws = None

        try:
            returned, pull = attempt(False)
        except RuntimeError as error:
            if "leaf" not in str(error):
                raise
            returned, pull = attempt(True)
        found = _trees.output_leaves(returned, self.declared)
        return (
            [(name, positional, self._host(name, t)) for name, positional, t in found],
            [_gradients.hosted(gradient) for gradient in pull.inputs],
            [(name, state, _gradients.hosted(gradient)) for name, state, gradient in pull.by_parameter],
        )

    def _named_outputs(self, returned: Any) -> dict[str, Any]:
        return {name: tensor for name, _, tensor in _trees.output_leaves(returned, self.declared)}

    def _known(self) -> nn.Module:
        """The module; ``Unavailable`` where only a callable was given."""
        if self.module is None:
            raise Unavailable("the module behind the callable is not known: pass it as `module=`")
        return self.module

    def train_mode(self) -> TorchAdapter:
        return self._in_mode("train")

    def eval_mode(self) -> TorchAdapter:
        return self._in_mode("eval")

    def _in_mode(self, mode: str) -> TorchAdapter:
        self._known()
        other = self._swapping((), self.default_dtype)
        other.method = self.method
        other.mode, other.training = mode, mode == "train"
        return other

    def call(self, arguments: _trees.Args) -> Any:
        watch = contextlib.nullcontext() if self._called or compiled(self.function) else _Autocast(self._device())
        self._called = True
        try:
            with self._running(), watch:
                with self._draws or contextlib.nullcontext():
                    returned = self.function(*arguments.args, **arguments.kwargs)
                return returned if self._after is None else self._after(returned)
        finally:
            if isinstance(watch, _Autocast):
                self.computes_in = watch.coarsest()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Mode, default type and data of the module as they are during a call."""
        if self.protected is not None:
            self.protected.set_mode(self.training)
        default = torch.get_default_dtype()
        held = [(s.tensor, s.tensor.data, s.tensor.grad if s.tensor.is_leaf else None) for s in self.swapped]
        try:
            for swapped in self.swapped:
                if swapped.tensor.is_leaf:
                    swapped.tensor.grad = None  # of another type than the data to come
                swapped.tensor.data = swapped.working
            if self.default_dtype is not None:
                torch.set_default_dtype(self.default_dtype)
            # Force fields differentiate inside their forward, whatever the caller's own mode is.
            with torch.inference_mode(False), torch.enable_grad():
                yield
        finally:
            torch.set_default_dtype(default)
            for swapped, (tensor, own, grad) in zip(self.swapped, held, strict=True):
                swapped.working = tensor.data
                tensor.data = own
                if tensor.is_leaf:
                    tensor.grad = grad
            if self.protected is not None:
                self.protected.set_mode(None)
                # Their own data were elsewhere, so what was counted was not done to them.
                away = {id(tensor) for tensor, _, _ in held}
                for kept in self.protected.kept if away else ():
                    if id(kept.tensor) in away:
                        kept.version = _version(kept.tensor)

    def check_tracing(self) -> None:
        if isinstance(self._known(), torch.jit.ScriptModule):
            raise Unavailable("the model is compiled by torch.jit, and nothing can look inside: audit its source")

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
        assert self.module is not None
        arguments, _ = self.samples.arguments(sample, buffers)
        if restore_state:
            self.restore_state()
        if reset_generators:
            self.reset_generators()
        tracer = _trace.Tracer(self.module, patches, limit, keep)
        names = [name for name, _ in self.samples.declared]
        with self._running():
            returned = tracer.run(self._uncompiled(), arguments, names, self.declared)
        if keep:
            self._kept = tracer.kept
        found = _trees.output_leaves(returned, self.declared)
        outputs = [(name, positional, self._host(name, t)) for name, positional, t in found]
        tensors = [(shape, dtype, None if t is None else host(t)) for shape, dtype, t in tracer.tensors]
        return tracer.calls, tensors, outputs, tracer.differentiates

    def operations(self, sample: int, buffers: list[Buffer]) -> list[_trace.Performed]:
        assert self.module is not None
        arguments, _ = self.samples.arguments(sample, buffers)
        self.restore_state()
        self.reset_generators()
        tracer = _trace.Tracer(self.module, [], 0, False)
        names = [name for name, _ in self.samples.declared]
        with self._running():
            return tracer.performed(self._uncompiled(), arguments, names, self.declared)

    def _uncompiled(self) -> Callable[..., Any]:
        """What is called to look inside: the module as it was before it was compiled."""
        return getattr(self.module, self.method or "forward") if compiled(self.function) else self.function

    def replay(self, position: int, buffers: list[Buffer]) -> list[Any]:
        self.restore_state()
        with self._running():
            return [host(tensor) for tensor in _trace.again(self._kept[position], buffers)]

    def replay_pullback(
        self,
        position: int,
        buffers: list[Buffer],
        cotangents: list[tuple[str, Buffer]],
        parameters: bool,
        directions: list[Buffer | None] | None,
    ) -> tuple[list[str], list[Any | None], list[tuple[str, str, Any | None]]]:
        weights = [(name, from_dlpack(w)) for name, w in cotangents]
        along = None if directions is None else [None if u is None else from_dlpack(u) for u in directions]
        named = list(self._known().named_parameters()) if parameters else []
        self.restore_state()
        with self._running():
            pull = _trace.pulled(self._kept[position], buffers, weights, named, along)
        return (
            pull.carrying,
            [_gradients.hosted(gradient) for gradient in pull.inputs],
            [(name, state, _gradients.hosted(gradient)) for name, state, gradient in pull.by_parameter],
        )

    def forget(self) -> None:
        self._kept = []

    def _device(self) -> str:
        """Type of the device that the module is on."""
        tensors = () if self.module is None else self.module.parameters()
        return next((tensor.device.type for tensor in tensors), "cpu")

    def restore_state(self) -> None:
        if self.protected is not None:
            self.protected.restore()
        for swapped in self.swapped:
            swapped.reset()

    def _lean(self) -> bool:
        """Whether copies can do without a second copy of their parameters: calls were seen to leave them alone."""
        return self._called and self.protected is not None and not self.protected.wrote_parameters

    def _copied(self) -> nn.Module | None:
        """A copy of the module as it was before the audit; None if it cannot be copied or is held by a callable."""
        assert self.module is not None
        assert self.protected is not None
        self.protected.restore(thoroughly=True)
        if self.method is None:
            return None
        try:
            return copy.deepcopy(self.module)
        except Exception:  # tensors with a history (weight_norm, kept activations), locks, open files
            return None

    def _of(self, module: nn.Module, default_dtype: torch.dtype | None) -> TorchAdapter:
        """The same audit of another module of the same kind."""
        method = self.method or "forward"
        return TorchAdapter(
            module if method == "forward" else getattr(module, method),
            module,
            self.samples,
            self.declared,
            self.name,
            mode=self.mode,
            method=method,
            default_dtype=default_dtype,
            protected=ModuleState(module, lean=self._lean()),
        )

    def _swapping(
        self, values: Iterable[tuple[bool, torch.Tensor, torch.Tensor]], default_dtype: torch.dtype | None
    ) -> TorchAdapter:
        """The same callable with other data during each call: whether a parameter, tensor, data."""
        other = TorchAdapter(
            self.function,
            self.module,
            self.samples,
            self.declared,
            self.name,
            mode=self.mode,
            default_dtype=default_dtype,
            protected=self.protected,
        )
        lean = self._lean()
        own = {id(swapped.tensor): swapped for swapped in self.swapped}
        for trained, tensor, data in values:
            own[id(tensor)] = _Swapped(tensor, data, lean and trained)
        other.swapped = [_Swapped(swapped.tensor, swapped.data, swapped.lean) for swapped in own.values()]
        return other

    def double(self) -> TorchAdapter:
        if self.factory is not None:
            return self._from_factory(self.factory)
        if self.module is None:
            return TorchAdapter(
                self.function,
                None,
                self.samples,
                self.declared,
                self.name,
                mode=self.mode,
                default_dtype=torch.float64,
            )
        module = self._copied()
        if module is not None:
            cast_to_double(module)
            return self._of(module, torch.float64)
        values = [
            (trained, tensor, tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64))
            for _, trained, tensor in state_tensors(self.module)
            if tensor.is_floating_point() or tensor.is_complex()
        ]
        return self._swapping(values, torch.float64)

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
                built,
                None,
                self.samples,
                self.declared,
                self.name,
                mode=self.mode,
                default_dtype=torch.float64,
            )
        if self.module is not None:
            assert self.protected is not None
            self.protected.restore(thoroughly=True)
            _copy_state(self.module, built)
        other = self._of(built, torch.float64)
        other.method = self.method or "forward"
        return other

    def state(self) -> list[tuple[str, bool, Any]]:
        module = self._known()
        # Thoroughly: tensors that calls added (caches) would shift the positions that `with_state` takes.
        if self.protected is not None:
            self.protected.restore(thoroughly=True)
        swapped = {id(swapped.tensor): swapped.data for swapped in self.swapped}
        return [(name, trained, host(swapped.get(id(tensor), tensor))) for name, trained, tensor in _readable(module)]

    def with_state(self, values: list[tuple[int, Buffer]]) -> TorchAdapter:
        own = self._known()
        module = self._copied()  # which puts the own one back, too
        tensors = _readable(own)
        new = {index: from_dlpack(buffer).to(tensors[index][2].device) for index, buffer in values}
        if module is not None:
            copied = _readable(module)
            for index, data in new.items():
                copied[index][2].data = data
            return self._of(module, self.default_dtype)
        return self._swapping(
            [(tensors[index][1], tensors[index][2], data) for index, data in new.items()],
            self.default_dtype,
        )


def _readable(module: nn.Module) -> list[tuple[str, bool, torch.Tensor]]:
    """State tensors that the engine can read and write."""
    return [
        (name, trained, tensor)
        for name, trained, tensor in state_tensors(module)
        if tensor.layout is torch.strided and str(tensor.dtype).removeprefix("torch.") in DTYPES
    ]


def _copy_state(source: nn.Module, target: nn.Module) -> None:
    """What was trained or set, from one module into another of the same architecture.

    Constants stay the target's own where they agree to the source's precision: there they are the more exact ones.
    """
    own = dict(target.named_parameters())
    given = dict(source.named_parameters())
    for name, parameter in own.items():
        if name not in given or given[name].shape != parameter.shape:
            raise _another_architecture(f"parameter `{name}` does not match")
        with torch.no_grad():
            parameter.copy_(given[name])
    missing = given.keys() - own.keys()
    if missing:
        raise _another_architecture(f"it has no parameter `{min(missing)}`")
    constants = {name: tensor for name, trained, tensor in state_tensors(target) if not trained}
    for name, trained, tensor in state_tensors(source):
        if trained:
            continue
        constant = constants.get(name)
        if constant is None:
            if name in source.state_dict().keys() - own.keys():
                raise _another_architecture(f"it has no buffer `{name}`")
            continue
        if constant.shape != tensor.shape:
            raise _another_architecture(f"buffer `{name}` does not match")
        if not _agree(tensor, constant):
            constant.data = tensor.detach().to(device=constant.device, dtype=constant.dtype, copy=True)


def _another_architecture(why: str) -> Unavailable:
    return Unavailable(f"factory(torch.float64) built another architecture: {why}")


def _agree(given: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether ``given`` is ``exact`` rounded to its own precision."""
    if (not given.is_floating_point() and not given.is_complex()) or exact.layout is not torch.strided:
        return False
    wide = torch.complex128 if given.is_complex() or exact.is_complex() else torch.float64
    a, b = given.detach().to("cpu", wide), exact.detach().to("cpu", wide)
    if given.layout is not torch.strided:
        return False
    near = (a - b).abs() <= 2 * torch.finfo(given.dtype).eps * b.abs()
    return bool((near | (a == b) | (a.isnan() & b.isnan())).all())


def _refuse_unprotectable(module: nn.Module) -> None:
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            raise SpecificationError(
                f"the model's tensor `{name}` is not initialised (lazy): call the model once first"
            )
    for name, _, tensor in state_tensors(module):
        if tensor.is_inference():
            raise SpecificationError(
                f"the model's tensor `{name}` was made under torch.inference_mode() and cannot be put back after a "
                "call: build the model outside of it"
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
    for given in (model, module):
        if isinstance(given, nn.Module):
            _refuse_unprotectable(given)
    if isinstance(model, nn.Module):
        if module is not None and unwrapped(module) is not unwrapped(model):
            raise SpecificationError("`module`: the model is an nn.Module itself; `module=` is for callables")
        inner = unwrapped(model)
        name = type(inner).__name__
        if method != "forward" and not callable(getattr(inner, method, None)):
            raise SpecificationError(f"`method`: {name} has no method `{method}`")
        # A compiled model is audited as it was given; state belongs to the module inside.
        function = model if method == "forward" else getattr(inner, method)
        return TorchAdapter(function, inner, samples, declared, name, mode=mode, method=method, factory=factory)
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
