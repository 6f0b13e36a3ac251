"""The networks with layers to be blamed are what they say, by Wigner matrices and permutations of our own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from e3nn import o3
from torch import nn

import equicheck
import layer_networks
from layer_networks import BUGS, LAYERS, LayerNetwork, e3nn_message_network, e3nn_network, generator, irreps

# Long, and about other people's layers.
pytestmark = pytest.mark.heavy
E3NN = pytest.mark.parametrize("build", [e3nn_network, e3nn_message_network])
#: Of one call of eight layers in f64, whose errors grow by a small factor per layer: 1e4 roundings.
ROUNDING = 1e-12


@pytest.fixture(autouse=True)
def _double(double_precision: None) -> Iterator[None]:
    """e3nn rounds Wigner matrices to the default dtype; to compile what is called twice takes longer than the calls."""
    with torch.jit.optimized_execution(False):
        yield


@cache
def healthy(build: Callable[..., LayerNetwork], lmax: int = 2) -> tuple[nn.Module, list[dict[str, torch.Tensor]]]:
    """The network in f64, and its inputs."""
    options = build(lmax=lmax).options
    inputs = [
        {name: value.double() if value.is_floating_point() else value for name, value in sample.items()}
        for sample in options["inputs"]
    ]
    return options["factory"](torch.float64), inputs


def e3nn_error(model: nn.Module, inputs: list[dict[str, torch.Tensor]], lmax: int = 2) -> float:
    """The largest relative error over the samples, each under one element of the group."""
    random = generator(5)
    wrong = 0.0
    for sample in inputs:
        angles = 6 * torch.rand(3, generator=random, dtype=torch.float64)
        rotation = -o3.angles_to_matrix(*angles)
        wigner = irreps(lmax).D_from_angles(*angles, torch.tensor(1))
        order = torch.randperm(len(next(iter(sample.values()))), generator=random)
        if "x" in sample:
            moved = {"x": (sample["x"] @ wigner.T)[order]}
        else:
            moved = {
                "positions": (sample["positions"] @ rotation.T + torch.tensor([1.0, 2.0, 3.0]))[order],
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
    assert e3nn_error(*healthy(build, lmax), lmax) < ROUNDING


@E3NN
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_breaks_it_wherever_it_is_planted_and_in_proportion(build: Callable[..., LayerNetwork], bug: str) -> None:
    model, inputs = healthy(build)

    def error(at: int, strength: float) -> float:
        right = model.layers[at]
        model.layers[at] = deepcopy(right)
        try:
            layer_networks.plant(model.layers[at], bug, strength, seed=1)
            return e3nn_error(model.eval().double(), inputs)
        finally:
            model.layers[at] = right

    for at in (0, LAYERS - 1):
        assert error(at, 1) > 1e-3
    assert 9 < error(3, 1e-5) / error(3, 1e-6) < 11
    # What stands in place of the healthy module is wrong by nothing but the bug.
    assert error(3, 0) < ROUNDING


@E3NN
def test_the_culprit_is_a_module_of_the_network(build: Callable[..., LayerNetwork]) -> None:
    assert build().expected is None
    model, _ = network = build("linear", 5)
    assert network.expected == "layers.5.linear"
    assert type(model.get_submodule(network.expected)) is nn.Linear
    assert build("container").expected == "layers.3"
    with pytest.raises(ValueError, match="say which"):
        build(at=3)
    with pytest.raises(ValueError, match="from 0 to 7"):
        build("bias", 8)


def escnn_error(network: LayerNetwork) -> float:
    """The largest relative error over the samples under a quarter turn, in f64."""
    model, options = network
    # A copy: escnn shares bases of kernels among models, and the next one would get them in f64.
    model = deepcopy(model).double()
    field_type: Any = options["out_layouts"]
    quarter = field_type.gspace.fibergroup.element(1)
    matrix = torch.from_numpy(field_type.representation(quarter)).double()
    wrong = 0.0
    for sample in options["inputs"]:
        x = sample["x"].double()
        with torch.no_grad():
            expected = torch.einsum("ij,bjhw->bihw", matrix, model(x).rot90(1, (2, 3)))
            wrong = max(wrong, ((model(x.rot90(1, (2, 3))) - expected).norm() / expected.norm()).item())
    return wrong


def test_the_healthy_network_of_escnn_is_equivariant_to_rounding() -> None:
    network = layer_networks.escnn_network()
    assert network.expected is None
    assert escnn_error(network) < ROUNDING
    # Its own kernels are rounded to single precision.
    assert 1e-9 < escnn_error(layer_networks.escnn_network(rounded=True)) < 1e-5


def test_what_escnn_says_has_the_names_that_a_pass_has() -> None:
    network = layer_networks.escnn_network("nonlinearity", 2)
    report = equicheck.audit(network.model, **network.options, samples=1, transforms=2, precision="as_is")
    found = Counter(tuple(leaf["layout"]) for row in report.layers["rows"] for leaf in row["outputs"])
    fields = "batch 2*regular+3*irrep(1) height width"
    # The module of the bug is no module of escnn: its output has the layout that fits.
    assert set(found) == {(fields, "library"), (fields, "model"), (fields, "inferred")}
    assert found[fields, "library"] > 20
    assert report.first_break is not None
    assert report.first_break.location == network.expected


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_breaks_that_of_escnn(bug: str) -> None:
    for at in (0, LAYERS - 1):
        network = layer_networks.escnn_network(bug, at)
        assert network.expected in dict(network.model.named_modules())
        assert escnn_error(network) > 1e-3
    small, smaller = (escnn_error(layer_networks.escnn_network(bug, strength=size)) for size in (1e-5, 1e-6))
    # Planted in single precision, so that the smaller is known to a tenth at best.
    assert 5 < small / smaller < 20


def vector_error(network: LayerNetwork) -> float:
    model, options = network
    turn = -o3.rand_matrix()
    wrong = 0.0
    for sample in options["inputs"]:
        positions, attributes = sample["positions"].double(), sample["attributes"].double()
        order = torch.randperm(len(positions))
        with torch.no_grad():
            expected = torch.einsum("ij,njc->nic", turn, model.double()(positions, attributes))[order]
            found = model((positions @ turn.T + 2)[order], attributes[order])
        wrong = max(wrong, ((found - expected).norm() / expected.norm()).item())
    return wrong


def test_the_network_in_plain_torch_is_equivariant_to_rounding_and_each_bug_breaks_it() -> None:
    torch.manual_seed(0)
    assert vector_error(layer_networks.vector_network()) < ROUNDING
    for bug in BUGS:
        for at in (0, LAYERS - 1):
            network = layer_networks.vector_network(bug, at)
            assert network.expected in dict(network.model.named_modules())
            assert vector_error(network) > 1e-3
        assert vector_error(layer_networks.vector_network(bug, strength=0)) < ROUNDING
