"""The networks with layers to be blamed are what they say, by Wigner matrices and permutations of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from e3nn import o3

from layer_networks import BUGS, LAYERS, LayerNetwork, e3nn_message_network, e3nn_network, generator, irreps

E3NN = pytest.mark.parametrize("build", [e3nn_network, e3nn_message_network])
#: Of one call of eight layers in f64, whose errors grow by a small factor per layer: 1e4 roundings.
ROUNDING = 1e-12


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    """e3nn rounds Wigner matrices to the default dtype; to compile what is called twice takes longer than the calls."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.jit.optimized_execution(False):
        yield
    torch.set_default_dtype(before)


def e3nn_error(network: LayerNetwork, lmax: int, build: Callable[..., LayerNetwork]) -> float:
    """The largest relative error over the samples, each under one element of the group, in f64."""
    random = generator(5)
    model = network.options["factory"](torch.float64)
    wrong = 0.0
    for sample in network.options["inputs"]:
        sample = {name: value.double() if value.is_floating_point() else value for name, value in sample.items()}
        angles = 6 * torch.rand(3, generator=random, dtype=torch.float64)
        inversion = torch.tensor(1)
        rotation = -o3.angles_to_matrix(*angles)
        wigner = irreps(lmax).D_from_angles(*angles, inversion)
        if build is e3nn_network:
            order = torch.randperm(len(sample["x"]), generator=random)
            moved = {"x": (sample["x"] @ wigner.T)[order]}
        else:
            positions = sample["positions"]
            order = torch.randperm(len(positions), generator=random)
            moved = {
                "positions": (positions @ rotation.T + torch.tensor([1.0, 2.0, 3.0]))[order],
                "attributes": sample["attributes"][order],
                "edges": order.argsort()[sample["edges"]],
            }
        with torch.no_grad():
            expected = (model(**sample) @ wigner.T)[order]
            wrong = max(wrong, ((model(**moved) - expected).norm() / expected.norm()).item())
    return wrong


@E3NN
@pytest.mark.parametrize("lmax", [1, 2, 3, 4])
def test_a_healthy_network_is_equivariant_to_rounding(build: Callable[..., LayerNetwork], lmax: int) -> None:
    network = build(lmax=lmax)
    assert network.expected is None
    assert e3nn_error(network, lmax, build) < ROUNDING


@E3NN
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_breaks_it_wherever_it_is_planted_and_in_proportion(build: Callable[..., LayerNetwork], bug: str) -> None:
    for at in (0, LAYERS - 1):
        network = build(bug, at)
        assert network.expected in dict(network.model.named_modules())
        assert e3nn_error(network, 2, build) > 1e-3
    small, smaller = (e3nn_error(build(bug, strength=strength), 2, build) for strength in (1e-5, 1e-6))
    assert 9 < small / smaller < 11
    # What stands in place of the healthy module is wrong by nothing but the bug.
    assert e3nn_error(build(bug, strength=0), 2, build) < ROUNDING
