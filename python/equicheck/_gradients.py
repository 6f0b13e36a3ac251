"""Gradients of a torch model: what autograd is asked for. What to differentiate, and what to make of it, is not decided
here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ._model import Unavailable
from ._tensors import host


class Pull:
    """Differentiates what the model returned, inside its call.

    ``cotangents``: by output path; None for the user's loss. ``leaves``: the call's input tensors. ``directions``: by
    input, for the second order. ``found``: the tensors of what is returned, by path. ``named``: the parameters that
    gradients are wanted of.
    """

    def __init__(
        self,
        leaves: list[torch.Tensor],
        named: list[tuple[str, nn.Parameter]],
        found: Callable[[Any], dict[str, Any]],
        loss: Callable[[Any], Any] | None,
        cotangents: list[tuple[str, torch.Tensor]] | None,
        directions: list[torch.Tensor | None] | None,
    ) -> None:
        self.leaves = leaves
        self.named = named
        self.found = found
        self.loss = loss
        self.cotangents = cotangents
        self.directions = directions
        #: Names of the outputs that carry a gradient.
        self.carrying: list[str] = []
        #: By input.
        self.inputs: list[torch.Tensor | None] = [None] * len(leaves)
        #: Name, ``"values"``, ``"no path"`` or ``"frozen"``, values.
        self.by_parameter: list[tuple[str, str, torch.Tensor | None]] = []

    def __call__(self, returned: Any) -> Any:
        outputs, weights = self._differentiated(returned)
        floating = [k for k, leaf in enumerate(self.leaves) if leaf.requires_grad]
        trained = [parameter for _, parameter in self.named if parameter.requires_grad]
        targets = [self.leaves[k] for k in floating] + trained
        found: list[torch.Tensor | None] = [None] * len(targets)
        if outputs and targets:
            if self.directions is None:
                found = list(torch.autograd.grad(outputs, targets, weights, allow_unused=True))
            else:
                found = self._second(outputs, weights, targets, floating)
        for k, gradient in zip(floating, found, strict=False):
            self.inputs[k] = _dense(gradient)
        rest = iter(found[len(floating) :])
        for name, parameter in self.named:
            if not parameter.requires_grad:
                self.by_parameter.append((name, "frozen", None))
                continue
            gradient = _dense(next(rest))
            self.by_parameter.append((name, "no path" if gradient is None else "values", gradient))
        return returned

    def _differentiated(self, returned: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Tensors to differentiate, and their cotangents; nothing where no gradient path leads."""
        if self.cotangents is None:
            if self.loss is None:
                raise Unavailable("no loss was given")
            value = self.loss(returned)
            if not isinstance(value, torch.Tensor) or value.numel() != 1 or value.is_complex():
                kind = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
                raise TypeError(f"`loss` must return a real tensor with one entry, not {kind}")
            return ([value], [torch.ones_like(value)]) if value.requires_grad else ([], [])
        tensors = self.found(returned)
        outputs, weights = [], []
        for name, cotangent in self.cotangents:
            tensor = tensors.get(name)
            if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
                self.carrying.append(name)
                outputs.append(tensor)
                weights.append(cotangent.to(device=tensor.device, dtype=tensor.dtype).reshape(tensor.shape))
        return outputs, weights

    def _second(
        self,
        outputs: list[torch.Tensor],
        weights: list[torch.Tensor],
        targets: list[torch.Tensor],
        floating: list[int],
    ) -> list[torch.Tensor | None]:
        """Gradients of the first gradient's inner product with the directions."""
        assert self.directions is not None
        along = [(k, u) for k in floating if (u := self.directions[k]) is not None]
        leaves = [self.leaves[k] for k, _ in along]
        first = torch.autograd.grad(outputs, leaves, weights, create_graph=True, allow_unused=True)
        pairs = [
            (gradient, u.to(device=gradient.device, dtype=gradient.dtype))
            for (_, u), gradient in zip(along, first, strict=True)
            if gradient is not None and gradient.requires_grad
        ]
        if not pairs:
            return [None] * len(targets)
        gradients, directions = zip(*pairs, strict=True)
        return list(torch.autograd.grad(gradients, targets, directions, allow_unused=True))


def as_leaves(tensors: list[torch.Tensor], cloned: bool) -> list[torch.Tensor]:
    """Which tensors gradients are taken with respect to: floating ones, which are made to ask for a gradient."""
    for tensor in tensors:
        if tensor.is_floating_point() or tensor.is_complex():
            tensor.requires_grad_()
    # A model that writes to its inputs may not do so to leaves.
    return [tensor.clone() if cloned and tensor.requires_grad else tensor for tensor in tensors]


def _dense(gradient: torch.Tensor | None) -> torch.Tensor | None:
    if gradient is not None and gradient.layout is not torch.strided:
        return gradient.to_dense()
    return gradient


def hosted(gradient: torch.Tensor | None) -> Any:
    """In host memory."""
    return None if gradient is None else host(gradient.contiguous())
