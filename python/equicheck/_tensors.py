"""Tensors of the frameworks to and from host memory, by DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._equicheck import Buffer
from ._trees import torch_module

#: Element types that the engine reads.
DTYPES = frozenset(
    [
        "bool",
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    ]
)


def host(tensor: Any) -> Any:
    """The same values as something in host memory with ``__dlpack__``, detached from any graph.

    Raises:
        TypeError: a sparse tensor, or an element type that the engine does not read.
    """
    torch = torch_module()
    dtype = getattr(tensor, "dtype", None)
    name = dtype.name if isinstance(dtype, np.dtype) else str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise TypeError(f"{name} values are not supported: convert them to {', '.join(sorted(DTYPES))}")
    if torch is not None and isinstance(tensor, torch.Tensor):
        if tensor.layout is not torch.strided:
            raise TypeError(f"a {tensor.layout} tensor is not supported: pass its dense parts (indices, values)")
        return tensor.detach().to("cpu").resolve_conj().resolve_neg()
    if isinstance(tensor, np.ndarray):
        # DLPack cannot say big-endian, read-only or negative strides; a copy says none of them.
        native = tensor.dtype.newbyteorder("=")
        plain = tensor.flags.writeable and tensor.dtype == native and min(tensor.strides, default=0) >= 0
        return tensor if plain else np.array(tensor, dtype=native, copy=True, order="C")
    return tensor


def device_tensor(template: Any, buffer: Buffer) -> Any:
    """A fresh tensor of the template's framework, on its device, that takes the buffer over."""
    torch = torch_module()
    if torch is not None and isinstance(template, torch.Tensor):
        tensor = torch.from_dlpack(buffer)
        if template.device.type != "cpu":
            tensor = tensor.to(template.device)
        return tensor.requires_grad_() if template.requires_grad and tensor.is_floating_point() else tensor
    if isinstance(template, np.ndarray):
        array = np.from_dlpack(buffer)
        return array if array.flags.writeable else array.copy()
    module = type(template).__module__.split(".")[0]
    if module in {"jax", "jaxlib"}:
        import jax.numpy as jnp

        return jnp.from_dlpack(buffer)
    return type(template).from_dlpack(buffer)
