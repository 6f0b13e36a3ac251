"""What the networks that declare nothing about their hidden tensors share: their registry, weights, inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from networks.case import default_dtype, generator, mlp, seeded

__all__ = [
    "ENTRIES",
    "NODES",
    "Entry",
    "Inputs",
    "Mix",
    "cloud",
    "default_dtype",
    "drawn",
    "entry",
    "generator",
    "mlp",
    "normal",
    "rows",
]

Inputs = dict[str, torch.Tensor]


#: Nodes of samples 0, 1, 2, 3 = 0, ...; no channel, group or grid of the networks has these sizes.
NODES = (7, 11, 10)


@dataclass(frozen=True)
class Entry:
    """A healthy network with everything that an audit of it has to be told.

    build: seed -> the network, in eval mode and the default dtype.
    inputs: seed -> keyword arguments of one call, in the default dtype.
    options: further keyword arguments of ``equicheck.audit``.
    tolerance: largest relative error in double precision that rounding explains, far above a call's usual 1e-14.
    dtype: the precision to audit it in.
    """

    name: str
    kind: str
    build: Callable[[int], nn.Module]
    inputs: Callable[[int], Inputs]
    group: str
    in_layouts: dict[str, str | None]
    out_layouts: Any
    options: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-10
    dtype: torch.dtype = torch.float64

    def audited_model(self, seed: int = 0) -> nn.Module:
        with default_dtype(self.dtype):
            return self.build(seed)

    def audit_options(self, samples: int = 3, seed: int = 0) -> dict[str, Any]:
        """Keyword arguments of ``equicheck.audit``, inputs included."""
        with default_dtype(self.dtype):
            inputs = [self.inputs(seed + k) for k in range(samples)]
        return {
            "inputs": inputs,
            "group": self.group,
            "in_layouts": self.in_layouts,
            "out_layouts": self.out_layouts,
            **self.options,
        }


#: All healthy networks by name, in the order in which they are defined.
ENTRIES: dict[str, Entry] = {}


def entry(
    name: str,
    kind: str,
    group: str,
    in_layouts: dict[str, str | None],
    out_layouts: Any,
    inputs: Callable[[int], Inputs],
    tolerance: float = 1e-10,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Registers a network, by its class or a function that makes it."""

    def register(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        def build(seed: int = 0) -> nn.Module:
            with seeded(seed):
                return drawn(make(), seed).eval()

        assert name not in ENTRIES, name
        ENTRIES[name] = Entry(name, kind, build, inputs, group, in_layouts, out_layouts, options, tolerance, dtype)
        return make

    return register


def normal(random: torch.Generator, *shape: int) -> torch.Tensor:
    """In the default dtype, and the same in all."""
    return torch.randn(shape, generator=random, dtype=torch.float64).to(torch.get_default_dtype())


def drawn(model: nn.Module, seed: int) -> nn.Module:
    """The model with parameters of the size that keeps signals of order one, zero biases replaced."""
    random = generator(1000 + seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            value = normal(random, *tensor.shape)
            if name.endswith("running_var"):
                value = torch.exp(0.2 * value)
            elif name.endswith("running_mean"):
                value = 0.3 * value
            elif not isinstance(tensor, nn.Parameter):
                continue
            elif tensor.dim() > 1:
                value = value * (tensor.shape[0] / tensor.numel()) ** 0.5
            elif name.endswith("weight"):
                value = 1 + 0.2 * value
            else:
                value = 0.3 * value
            tensor.copy_(value)
    return model


def cloud(
    nodes: tuple[int, ...] = NODES, dimension: int = 3, features: int = 4, **shapes: tuple[int, ...]
) -> Callable[[int], Inputs]:
    """``x`` [nodes, dimension] off the origin; ``h`` [nodes, features] unless 0; others [nodes, *shape]."""

    def inputs(seed: int) -> Inputs:
        random = generator(seed)
        n = nodes[seed % len(nodes)]
        made = {"x": 1.2 * normal(random, n, dimension) + 0.5}
        if features:
            made["h"] = normal(random, n, features)
        return made | {name: normal(random, n, *shape) for name, shape in shapes.items()}

    return inputs


def rows(values: torch.Tensor, index: torch.Tensor, count: int) -> torch.Tensor:
    """Sums of rows with the same index: [edges, ...] -> [count, ...]."""
    return values.new_zeros(count, *values.shape[1:]).index_add(0, index, values)


class Mix(nn.Module):
    """A linear map along one axis, without offset."""

    def __init__(self, before: int, after: int, axis: int = -2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(after, before))
        self.axis = axis

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return (v.movedim(self.axis, -1) @ self.weight.T).movedim(-1, self.axis)
