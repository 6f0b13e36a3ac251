"""What libraries say of their modules is read, and true: by Wigner matrices and permutations that are not ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from typing import Any

import pytest
import torch
from e3nn import nn as e3nn_nn
from e3nn import o3
from scipy.spatial.transform import Rotation
from torch import nn

from equicheck._libraries import layouts

#: Of one module in f64: 1e4 roundings, some of them of sums over a few hundred paths.
ROUNDING = 1e-12
ALL = o3.Irreps("4x0e+2x0o+3x1o+1x1e+2x2e")
SCALARS = o3.Irreps("4x0e+2x0o")
BLOCKS = o3.Irreps("3x0e+2x1o+2x2e")


@pytest.fixture(autouse=True)
def _double(double_precision: None) -> None:
    torch.manual_seed(0)


def wigner(word: str, turn: torch.Tensor) -> torch.Tensor | None:
    """The matrix of a word under an element of O(3); None for the identity."""
    if word == "channel":
        return None
    if word == "vector":
        return turn
    if word.startswith("ir_mul("):
        parts = [
            torch.kron(irrep.D_from_matrix(turn), torch.eye(mul)) for mul, irrep in o3.Irreps(word[len("ir_mul(") : -1])
        ]
        return torch.block_diag(*parts)
    return o3.Irreps(word).D_from_matrix(turn)


def moved(tensor: torch.Tensor, layout: str, turn: torch.Tensor) -> torch.Tensor:
    words = layout.split()
    assert words[0] == "..."
    for axis, word in enumerate(reversed(words[1:])):
        matrix = wigner(word, turn)
        if matrix is not None:
            tensor = (tensor.transpose(-1, -1 - axis) @ matrix.T).transpose(-1, -1 - axis)
    return tensor


def by_path(value: Any) -> dict[str, torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return {"": value}
    if isinstance(value, dict):
        return value
    return {str(place): part for place, part in enumerate(value)}


def error(module: nn.Module, arguments: dict[str, Any], turn: torch.Tensor, fixed: Collection[str] = ()) -> float:
    """The largest relative error of the outputs whose layout was read; all arguments but ``fixed`` are moved."""
    found = layouts(module)
    assert found is not None
    with torch.no_grad():
        before = by_path(module(**arguments))
        after = by_path(
            module(
                **{
                    name: value if name in fixed else moved(value, found["in"][name], turn)
                    for name, value in arguments.items()
                }
            )
        )
    wrong = 0.0
    known = {path: layout for path, layout in found["out"].items() if path in before}
    assert known
    for path, layout in known.items():
        expected = moved(before[path], layout, turn)
        wrong = max(wrong, ((after[path] - expected).norm() / expected.norm()).item())
    return wrong


def turns() -> list[torch.Tensor]:
    """Rotations of scipy's, and one with a reflection."""
    proper = [torch.tensor(matrix) for matrix in Rotation.random(2, random_state=3).as_matrix()]
    return [*proper, -proper[0]]


def trained(norm: e3nn_nn.BatchNorm) -> e3nn_nn.BatchNorm:
    with torch.no_grad():
        for tensor in (norm.running_mean, norm.bias):
            tensor.normal_()
        for tensor in (norm.running_var, norm.weight):
            tensor.uniform_(0.5, 2)
    return norm.eval()


def product() -> o3.TensorProduct:
    instructions = [(0, 0, 0, "uvu", True), (1, 0, 1, "uvu", True), (2, 2, 0, "uvv", True)]
    return o3.TensorProduct("2x0e+2x1o+2x2e", "1x0e+1x1o+2x2e", "2x0e+2x1o", instructions, shared_weights=False)


class Named(nn.Module):
    """A user's module: irreps by the names of arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.irreps_node_input = o3.Irreps("2x0e+1x1o")
        self.edge_attr_irreps = o3.Irreps("1x0e+1x1o")
        self.irreps_out = o3.Irreps("2x1o")
        self.product = o3.FullyConnectedTensorProduct(self.irreps_node_input, self.edge_attr_irreps, self.irreps_out)

    def forward(self, node_input: torch.Tensor, edge_attr: torch.Tensor) -> torch.Tensor:
        return self.product(node_input, edge_attr)


class Subclass(o3.Linear):
    def forward(self, these: torch.Tensor) -> torch.Tensor:
        return super().forward(these)


class One(nn.Module):
    """A user's module of one argument."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = o3.Linear(ALL, "2x1o")
        self.irreps_in, self.irreps_out = ALL, o3.Irreps("2x1o")

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return self.linear(h)


def harmonics(irreps_in: str) -> o3.SphericalHarmonics:
    return o3.SphericalHarmonics([1, 2, 3], normalize=True, irreps_in=irreps_in)


E3NN: dict[str, tuple[Any, dict[str, tuple[int, ...]]]] = {
    "Linear": (lambda: o3.Linear(ALL, ALL, biases=True), {"features": (5, 4, ALL.dim)}),
    "Linear, weights given": (
        lambda: o3.Linear("2x0e+3x1o", "1x0e+2x1o", shared_weights=False),
        {"features": (5, 11), "weight": (5, 8)},
    ),
    "subclass": (lambda: Subclass(ALL, ALL), {"these": (5, ALL.dim)}),
    "TensorProduct": (product, {"x": (5, 18), "y": (5, 14), "weight": (5, 8)}),
    "FullyConnectedTensorProduct": (
        lambda: o3.FullyConnectedTensorProduct(ALL, "1x0e+1x1o+1x2e", ALL),
        {"x": (5, ALL.dim), "y": (5, 9)},
    ),
    "ElementwiseTensorProduct": (
        lambda: o3.ElementwiseTensorProduct("2x0e+3x1o", "2x1o+3x1e"),
        {"x": (5, 11), "y": (5, 15)},
    ),
    "FullTensorProduct": (lambda: o3.FullTensorProduct("2x0e+1x1o", "1x1o+1x2e"), {"x": (5, 5), "y": (5, 8)}),
    "FullTensorProductv2": (
        lambda: o3.FullTensorProductv2("2x0e+1x1o", "1x1o+1x2e"),
        {"input1": (5, 5), "input2": (5, 8)},
    ),
    "TensorSquare": (lambda: o3.TensorSquare("2x0e+2x1o"), {"x": (5, 8)}),
    "SphericalHarmonics": (lambda: harmonics("1o"), {"x": (5, 3)}),
    "SphericalHarmonics, axial": (lambda: harmonics("1e"), {"x": (5, 3)}),
    "Gate": (
        lambda: e3nn_nn.Gate("4x0e+2x0o", [torch.relu, torch.tanh], "5x0o", [torch.tanh], "3x1o+2x2e"),
        {"features": (5, 30)},
    ),
    "Activation": (lambda: e3nn_nn.Activation(SCALARS, [torch.relu, torch.tanh]), {"features": (5, 6)}),
    "Activation of odd by even": (lambda: e3nn_nn.Activation(SCALARS, [None, torch.abs]), {"features": (5, 6)}),
    "NormActivation": (lambda: e3nn_nn.NormActivation(BLOCKS, torch.sigmoid), {"features": (5, 19)}),
    "BatchNorm": (lambda: trained(e3nn_nn.BatchNorm(ALL)), {"input": (5, ALL.dim)}),
    "Dropout": (lambda: e3nn_nn.Dropout(ALL, 0.5).eval(), {"x": (5, ALL.dim)}),
    "Extract": (lambda: e3nn_nn.Extract(BLOCKS, ["2x2e", "3x0e"], [(2,), (0,)]), {"x": (5, 19)}),
    "Extract, one": (lambda: e3nn_nn.Extract(BLOCKS, ["2x1o"], [(1,)]), {"x": (5, 19)}),
    "ExtractIr": (lambda: e3nn_nn.ExtractIr(BLOCKS, "1o"), {"x": (5, 19)}),
    "Identity": (lambda: e3nn_nn.Identity(ALL, ALL), {"features": (5, ALL.dim)}),
    "FullyConnectedNet": (lambda: e3nn_nn.FullyConnectedNet([4, 8, 3], torch.nn.functional.silu), {"input": (5, 4)}),
    "Norm": (lambda: o3.Norm(BLOCKS), {"features": (5, 19)}),
    "a user's, by names": (Named, {"node_input": (5, 5), "edge_attr": (5, 4)}),
    "a user's, of one argument": (One, {"h": (5, ALL.dim)}),
}


@pytest.mark.parametrize("name", E3NN)
def test_what_e3nn_says_is_read_and_true(name: str) -> None:
    build, shapes = E3NN[name]
    module = build()
    found = layouts(module)
    assert found is not None
    assert set(shapes) <= set(found["in"])
    arguments = {argument: torch.randn(shape) for argument, shape in shapes.items()}
    for turn in turns():
        assert error(module, arguments, turn) < ROUNDING


def test_the_parts_of_a_gate_are_read() -> None:
    gate = e3nn_nn.Gate("4x0e", [torch.relu], "3x0e", [torch.sigmoid], "3x1o")
    assert layouts(gate) == {"in": {"features": "... 7x0e+3x1o"}, "out": {"": "... 4x0e+3x1o"}}
    shortcut = layouts(gate.sc)
    assert shortcut is not None
    assert shortcut["out"] == {"0": "... 4x0e", "1": "... 3x0e", "2": "... 3x1o"}


def test_the_comparison_sees_a_module_that_is_wrong_about_itself() -> None:
    class Biased(o3.Linear):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return super().forward(features) + 0.1

    class Parity(nn.Module):
        irreps_in, irreps_out = o3.Irreps("1x1o"), o3.Irreps("1x1e")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    turned, _, reflected = turns()
    assert error(Biased(ALL, ALL), {"features": torch.randn(5, ALL.dim)}, turned) > 1e-2
    assert error(Parity(), {"x": torch.randn(5, 3)}, turned) < ROUNDING
    assert error(Parity(), {"x": torch.randn(5, 3)}, reflected) > 1


def test_nothing_is_said_of_other_modules() -> None:
    class Undecided(nn.Module):
        irreps_in = o3.Irreps("1x1o")  # of which argument?

        def forward(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return h + x

    class Text(nn.Module):
        irreps_in = irreps_out = "1x1o"

        def forward(self, h: torch.Tensor) -> torch.Tensor:
            return h

    for module in (nn.Linear(3, 3), nn.Sequential(nn.ReLU()), Undecided(), Text()):
        assert layouts(module) is None


def test_parts_of_no_copies_are_left_out() -> None:
    assert layouts(o3.Linear("0x1o+2x0e", "2x0e+0x2e")) == {
        "in": {"features": "... 2x0e", "weight": "... channel", "bias": "... channel"},
        "out": {"": "... 2x0e"},
    }


def test_no_library_is_imported_for_a_plain_module() -> None:
    code = (
        "import sys, torch; from equicheck._libraries import layouts; assert layouts(torch.nn.Linear(3, 3)) is None; "
        "print(sorted({'e3nn', 'escnn', 'mace', 'nequip', 'lgatr', 'cuequivariance'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.heavy
def test_what_escnn_says_is_read_and_true() -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # escnn cannot be built under another
    try:
        from planar_escnn import enn, gspaces

        plane = gspaces.flipRot2dOnR2(4)
        colours = enn.FieldType(plane, 2 * [plane.trivial_repr])
        fields = enn.FieldType(plane, 2 * [plane.regular_repr] + [plane.irrep(1, 1), plane.irrep(1, 0)])
        regular = enn.FieldType(plane, 3 * [plane.regular_repr])
        written = {
            colours: "batch 2*trivial height width",
            fields: "batch 2*regular+irrep(1,1)+irrep(1,0) height width",
            regular: "batch 3*regular height width",
        }

        class Subclass(enn.R2Conv):
            pass

        modules = [
            enn.R2Conv(colours, fields, 5, padding=2),
            Subclass(fields, regular, 3, padding=1),
            enn.IIDBatchNorm2d(fields),
            enn.InnerBatchNorm(regular),
            enn.ReLU(regular),
            enn.NormNonLinearity(fields, "n_sigmoid"),
            enn.GroupPooling(regular),
            enn.SequentialModule(enn.R2Conv(fields, regular, 3, padding=1), enn.ELU(regular)),
        ]
        for module in modules:
            found = layouts(module.eval())
            assert found is not None
            assert found["in"] == {next(iter(found["in"])): written[module.in_type]}
            pooled = "batch 3*trivial height width"
            assert found["out"] == {"tensor": written.get(module.out_type, pooled)}
            x = torch.randn(2, module.in_type.size, 7, 7)
            with torch.no_grad():
                y = module(enn.GeometricTensor(x, module.in_type)).tensor
                for element in plane.fibergroup.elements:
                    turned = module(enn.GeometricTensor(by_grid(module.in_type, element, x), module.in_type)).tensor
                    # In single precision: 1e3 roundings.
                    assert (turned - by_grid(module.out_type, element, y)).norm() < 1e-4 * y.norm()
        narrowed = enn.RestrictionModule(regular, (None, 2))
        assert layouts(narrowed) == {"in": {"input.tensor": written[regular]}, "out": {}}
    finally:
        torch.set_default_dtype(before)


def by_grid(field_type: Any, element: Any, x: torch.Tensor) -> torch.Tensor:
    """The action on a feature map: pixels by torch's flip and quarter turns, channels by the representation."""
    flip, quarters = element.to("radians")
    quarters = round(quarters / (torch.pi / 2)) % 4
    matrix = torch.from_numpy(field_type.representation(element)).to(x)
    # escnn's reflection is about the vertical axis: it turns x round.
    pixels = (x.flip(3) if flip else x).rot90(quarters, (2, 3))
    return torch.einsum("ij,bjhw->bihw", matrix, pixels)
