"""Networks of eight layers whose forward is right, and whose gradient is wrong at a chosen depth.

``network(bug, at)`` returns a ``LayerNetwork``. Kinds of bug:

- ``"detached"``: the norms that a gate reads are detached;
- ``"backward"``: a custom function whose backward is another one's;
- ``"rounding"``: norms are rounded, and the backward takes no notice;
- ``"second order"``: a custom backward that is right, and is itself no longer differentiable by its inputs;
- ``"clip"``: a hook clips the components of a gradient;
- ``"parameter"``: a custom function that is right but for the gradient by its weight;
- ``"container"``: norms are detached in the forward of the layer, between its children.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from layer_networks import LAYERS, LayerNetwork, culprit
from networks.case import generator

CHANNELS = 4
NODES = 5
BUGS = ("detached", "backward", "rounding", "second order", "clip", "parameter", "container")


def squares(v: torch.Tensor) -> torch.Tensor:
    return v.square().sum(-1)


class _Shrunk(torch.autograd.Function):
    """v / sqrt(1 + |v|^2) by its derivative with the factor held fast."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(v)
        return v / (1 + squares(v)[..., None]).sqrt()

    @staticmethod
    def backward(ctx: Any, w: torch.Tensor) -> torch.Tensor:
        (v,) = ctx.saved_tensors
        return w / (1 + squares(v)[..., None]).sqrt()


class _Squares(torch.autograd.Function):
    """Half of |v|^2, whose backward forgets that it depends on v."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(v)
        return squares(v) / 2

    @staticmethod
    def backward(ctx: Any, w: torch.Tensor) -> torch.Tensor:
        (v,) = ctx.saved_tensors
        return w[..., None] * v.detach()


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return (8 * x).round() / 8

    @staticmethod
    def backward(_ctx: Any, w: torch.Tensor) -> torch.Tensor:
        return w


class _Mixed(torch.autograd.Function):
    """Channels mixed; twice the gradient by the weight."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(v, weight)
        return torch.einsum("oc,ncx->nox", weight, v)

    @staticmethod
    def backward(ctx: Any, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        v, weight = ctx.saved_tensors
        return torch.einsum("oc,nox->ncx", weight, w), 2 * torch.einsum("nox,ncx->oc", w, v)


class Mix(nn.Module):
    def __init__(self, random: torch.Generator) -> None:
        super().__init__()
        weight = torch.eye(CHANNELS) + 0.4 * torch.randn(CHANNELS, CHANNELS, generator=random)
        self.weight = nn.Parameter(weight)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oc,ncx->nox", self.weight, v)


class WrongMix(Mix):
    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return _Mixed.apply(v, self.weight)


class Act(nn.Module):
    """Vectors [n, channels, 3] by a gate of their norms, and no longer than 1."""

    def __init__(self, random: torch.Generator, bug: str) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(CHANNELS, CHANNELS, generator=random))
        self.bug = bug

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        if self.bug == "clip" and v.requires_grad:
            v = v * 1
            v.register_hook(lambda w: w.clamp(-0.02, 0.02))
        s = squares(v)
        if self.bug == "detached":
            s = s.detach()
        elif self.bug == "rounding":
            s = _Rounded.apply(s)
        elif self.bug == "second order":
            s = 2 * _Squares.apply(v)
        v = v * torch.sigmoid(s @ self.gate.T)[..., None]
        if self.bug == "backward":
            return _Shrunk.apply(v)
        return v / (1 + squares(v)[..., None]).sqrt()


class Layer(nn.Module):
    """A residual layer with messages from all nodes."""

    def __init__(self, random: torch.Generator, bug: str) -> None:
        super().__init__()
        self.mix: nn.Module = (WrongMix if bug == "parameter" else Mix)(random)
        self.act = Act(random, bug)
        self.out = Mix(random)
        self.detaches = bug == "container"

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        # Far and near nodes are told apart by what stays when all move alike.
        s = squares(v[:, None] - v[None]).mean(-1)
        if self.detaches:
            s = s.detach()
        messages = torch.einsum("ij,jcx->icx", torch.exp(-s), self.mix(v)) / len(v)
        return v + self.out(self.act(messages))


class Network(nn.Module):
    """[nodes, channels, 3] -> the energy, and its derivative."""

    def __init__(self, bug: str | None, at: int, seed: int = 0) -> None:
        super().__init__()
        random = generator(seed)
        self.layers = nn.ModuleList(Layer(random, bug if bug and at == k else "") for k in range(LAYERS))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            v = layer(v)
        return v


def network(bug: str | None = None, at: int = 3) -> LayerNetwork:
    """O(3) and the nodes' order; nothing of what is wrong shows in a forward."""
    if bug is not None and bug not in BUGS:
        raise ValueError(f"no bug `{bug}`; there are {', '.join(BUGS)}")
    random = generator(1)
    inside = {"container": "", "parameter": "mix"}.get(bug or "", "act")
    return LayerNetwork(
        Network(bug, at),
        {
            "inputs": [torch.randn(NODES, CHANNELS, 3, generator=random) for _ in range(2)],
            "group": "O(3) x S(nodes)",
            "in_layouts": f"nodes {CHANNELS} vector",
            "out_layouts": f"nodes {CHANNELS} vector",
            "transforms": 4,
            "gradients": True,
        },
        None if bug is None else culprit(f"layers.{at}", inside),
    )
