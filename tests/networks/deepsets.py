"""DeepSets (after Zaheer et al., 2017): a per-set and a per-element output, and its bugs."""

from __future__ import annotations

import torch
from torch import nn

from .case import Bug, Case, Inputs, KeepFirst, generator, like, mlp, seeded

FEATURES, HIDDEN, CLASSES = 6, 16, 4
LARGEST = 9


class MeanPool(nn.Module):
    """The mean over the set, repeated for each element."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(0, keepdim=True).expand_as(x)


class EquivariantLayer(nn.Module):
    """Each element with itself and with the pooled set."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.own = nn.Linear(width, width)
        self.pool: nn.Module = MeanPool()
        self.others = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.nn.functional.silu(self.own(x) + self.others(self.pool(x)))


class DeepSets(nn.Module):
    """x: [nodes, 6] -> set [4] and elements [nodes, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = mlp(FEATURES, HIDDEN, HIDDEN)
        self.element_input: nn.Module = KeepFirst()
        self.layers = nn.ModuleList(EquivariantLayer(HIDDEN) for _ in range(2))
        self.element_head = nn.Linear(HIDDEN, 8)
        self.element_output: nn.Module = KeepFirst()
        self.set_head = mlp(HIDDEN, HIDDEN, CLASSES)
        self.set_output: nn.Module = KeepFirst()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.element_input(self.embed(x))
        for layer in self.layers:
            h = layer(h)
        return {
            "set": self.set_output(self.set_head(h.sum(0)), h),
            "elements": self.element_output(self.element_head(h)),
        }


class Planted(nn.Module):
    """A mistake of adjustable size."""

    def __init__(self, severity: float) -> None:
        super().__init__()
        self.severity = severity


class PositionEncoding(Planted):
    """The sinusoidal encoding of a sequence model, added to the elements of a set."""

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        nodes, width = h.shape
        rate = torch.exp(-torch.arange(0, width, 2, dtype=h.dtype) / width * 4)
        angle = torch.arange(nodes, dtype=h.dtype)[:, None] * rate
        return h + self.severity * torch.cat([angle.sin(), angle.cos()], -1)


class RunningMean(Planted):
    """The pooled value is the mean over the elements so far."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = torch.arange(1, len(x) + 1, dtype=x.dtype)[:, None]
        running = x.cumsum(0) / count
        mean = x.mean(0, keepdim=True).expand_as(x)
        return mean + self.severity * (running - mean)


class PositionalAffine(Planted):
    """A normalisation whose learned scale has one entry for each position of the set."""

    def __init__(self, severity: float) -> None:
        super().__init__(severity)
        self.scale = nn.Parameter(torch.randn(LARGEST, HIDDEN))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h * (1 + self.severity * self.scale[: len(h)])


class BadChannel(Planted):
    """One output channel in eight depends on the position."""

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        ramp = torch.zeros_like(y)
        ramp[:, 3] = torch.linspace(-1, 1, len(y), dtype=y.dtype)
        return y + self.severity * like(ramp, y)


class FirstElement(Planted):
    """The first element is read out as if it were a class token."""

    def forward(self, y: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return y + self.severity * like(h[0, :CLASSES], y)


def sets(seed: int) -> Inputs:
    """5, 7 or 9 elements."""
    nodes = (5, 7, LARGEST)[seed % 3]
    return {"x": torch.randn(nodes, FEATURES, generator=generator(seed))}


def build() -> DeepSets:
    with seeded(21):
        return DeepSets().eval()


def planted(module: str, defect: type[Planted], severity: float) -> DeepSets:
    model = build()
    parent, _, slot = module.rpartition(".")
    with seeded(22):
        setattr(model.get_submodule(parent), slot, defect(severity))
    return model.eval()


def bug(name: str, module: str, defect: type[Planted], output: str) -> Bug:
    return Bug(name, lambda s: planted(module, defect, s), ("permutation",), output, module)


CASES = [
    Case(
        name="deepsets",
        build=build,
        inputs=sets,
        group="S(nodes)",
        in_layouts={"x": "nodes features"},
        out_layouts={"set": "classes", "elements": "nodes channel"},
        bugs={
            found.name: found
            for found in (
                bug("position_encoding", "element_input", PositionEncoding, "elements"),
                bug("running_mean", "layers.1.pool", RunningMean, "elements"),
                bug("positional_affine", "element_input", PositionalAffine, "set"),
                bug("bad_channel", "element_output", BadChannel, "elements"),
                bug("first_element", "set_output", FirstElement, "set"),
            )
        },
    )
]
