"""One step of an equivariant diffusion model (after Hoogeboom et al., 2022): it draws its noise inside, and its bugs
are lab-frame biases of that noise."""

from __future__ import annotations

import torch
from torch import nn

from .case import Bug, Case
from .egnn import EGNN, build, cloud


class LabFrame(nn.Module):
    """The noise as it is drawn, biased: ``drift`` along z, and z components larger by ``1 + stretch``."""

    def __init__(self, drift: float = 0.0, stretch: float = 0.0) -> None:
        super().__init__()
        self.drift = drift
        self.stretch = stretch

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        return noise * noise.new_tensor([1, 1, 1 + self.stretch]) + noise.new_tensor([0, 0, self.drift])


class DenoisingStep(nn.Module):
    """x_t -> x_(t-1) = mean(x_t) + sigma * noise, about the centre of mass.

    h: [nodes, 4] invariant features; x: [nodes, 3] positions. ``mean`` draws nothing.
    """

    def __init__(self, network: EGNN, sigma: float, bias: LabFrame) -> None:
        super().__init__()
        self.network = network
        self.sigma = sigma
        self.bias = bias

    def forward(self, h: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = x - x.mean(0)
        mean = x + 0.1 * self.network(h, x)["displacement"]
        mean = mean - mean.mean(0)
        noise = torch.randn_like(x)
        noise = self.bias(noise - noise.mean(0))
        return {"mean": mean, "x": mean + self.sigma * noise}


def step(sigma: float = 0.5, drift: float = 0.0, stretch: float = 0.0) -> DenoisingStep:
    """The network in eval mode, the same at every call."""
    return DenoisingStep(build("displacement"), sigma, LabFrame(drift, stretch)).eval()


POLAR = ("rotation", "inversion")

#: Not among the cases that two equal calls are compared of: the networks draw random numbers.
CASE = Case(
    name="denoising",
    build=step,
    inputs=cloud,
    group="E(3) x S(nodes)",
    in_layouts={"h": "nodes features", "x": "nodes point"},
    out_layouts={"mean": "nodes vector", "x": "nodes vector"},
    bugs={
        "drift": Bug("drift", lambda severity: step(drift=severity), POLAR, "x", "bias"),
        # An inversion leaves the covariance as it is.
        "stretch": Bug("stretch", lambda severity: step(stretch=severity), ("rotation",), "x", "bias"),
    },
)
