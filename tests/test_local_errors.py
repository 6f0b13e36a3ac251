"""Local errors of layers, against Lie derivatives written down by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from e3nn.o3._wigner import so3_generators
from torch import nn

import equicheck

Array = npt.NDArray[np.float64]
QUICK: dict[str, Any] = {"samples": 2, "transforms": 3}
#: ``X v = e x v`` for e along x, y, z.
TURNS = [np.cross(e, np.eye(3)).T for e in np.eye(3)]
WEIGHT = np.array([[1.0, 0.3, -0.2], [0.1, 0.8, 0.5], [-0.4, 0.2, 1.1]])


def local_errors(model: nn.Module, inputs: list[torch.Tensor], **options: Any) -> dict[str, float | None]:
    report = equicheck.audit(model, inputs, **(QUICK | options))
    assert report.layers["status"] == "ran", report.layers
    return {row["location"]: row["local_error"] for row in report.layers["rows"]}


class TwoLayers(nn.Module):
    """y = W tanh(x), componentwise: neither layer is equivariant."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Tanh()
        self.lin = nn.Linear(3, 3, bias=False)
        self.lin.weight = nn.Parameter(torch.tensor(WEIGHT, dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lin(self.act(x))


def vectors() -> list[torch.Tensor]:
    return [torch.randn(3, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]


def two_layers_by_hand(x: Array) -> dict[str, float]:
    """Of tanh: diag(1 - tanh^2) X x - X tanh(x); of W: [W, X] h."""
    h, w = np.tanh(x), WEIGHT.astype(np.float32).astype(np.float64)
    act = [(1 - h**2) * (turn @ x) - turn @ h for turn in TURNS]
    lin = [(w @ turn - turn @ w) @ h for turn in TURNS]

    def figure(derivatives: list[Array], output: Array) -> float:
        return float(np.sqrt(np.mean([np.sum(d**2) for d in derivatives])) / np.linalg.norm(output))

    return {"act": figure(act, h), "lin": figure(lin, w @ h)}


def test_two_layers_have_the_local_errors_that_are_derived_by_hand() -> None:
    assert np.allclose(TURNS[2] @ [1.0, 2.0, 3.0], [-2.0, 1.0, 0.0]), "about z, x turns towards y"
    inputs = vectors()
    found = local_errors(
        TwoLayers(), inputs, group="O(3)", in_layouts="vector", out_layouts="vector", hidden_layouts={"act": "vector"}
    )
    wanted = two_layers_by_hand(inputs[0].double().numpy())
    assert found == pytest.approx(wanted, rel=1e-8)
    # The same by differences of the conjugated maps, since of a user's own matrices no derivative is known.
    by_matrix = local_errors(
        TwoLayers(),
        inputs,
        group="O(3)",
        in_layouts="@own",
        out_layouts="@own",
        hidden_layouts={"act": "@own"},
        representations={"own": lambda g: g.matrix},
    )
    assert by_matrix == pytest.approx(found, rel=1e-6)


def test_turns_of_irreps_and_shifts_of_points_are_generators_too() -> None:
    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.square()

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.square = Square()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.square(x)

    inputs = vectors()
    x = inputs[0].double().numpy()
    shifts = local_errors(Outer(), inputs, group="T(3)", in_layouts="point", out_layouts="point", translation_scale=0.5)
    derivatives = [(2 * x - 1) * 0.5 * e for e in np.eye(3)]
    wanted = np.sqrt(np.mean([np.sum(d**2) for d in derivatives])) / np.linalg.norm(x**2)
    assert shifts == {"square": pytest.approx(wanted, rel=1e-8)}
    x = np.linspace(-0.5, 1.5, 5).astype(np.float32).astype(np.float64)
    inputs = [torch.tensor(x, dtype=torch.float32), torch.ones(5)]
    turns = local_errors(Outer(), inputs, group="O(3)", in_layouts="2e", out_layouts="2e")
    generators = so3_generators(2).double().numpy()
    derivatives = [2 * x * (turn @ x) - turn @ x**2 for turn in generators]
    wanted = np.sqrt(np.mean([np.sum(d**2) for d in derivatives])) / np.linalg.norm(x**2)
    # e3nn has its generators in single precision.
    assert turns == {"square": pytest.approx(wanted, rel=1e-6)}


def worst(derivatives: list[Array], output: Array) -> float:
    """Root mean square over generators of the largest error: of the whole, or of a pixel over the usual one's size."""

    def largest(derivative: Array) -> float:
        whole = np.linalg.norm(derivative) / np.linalg.norm(output)
        sizes = np.maximum(np.linalg.norm(output) / np.sqrt(output[0].size), np.linalg.norm(output, axis=0))
        return float(max(whole, np.max(np.linalg.norm(derivative, axis=0) / sizes)))

    return float(np.sqrt(np.mean([largest(d) ** 2 for d in derivatives])))


class Image(nn.Module):
    """A convolution of 3 x 3 pixels and a nonlinearity."""

    def __init__(self, padding: str) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(5)
        self.conv = nn.Conv2d(2, 3, 3, padding=1, padding_mode=padding, bias=False)
        self.conv.weight = nn.Parameter(torch.randn(3, 2, 3, 3, generator=random) / 4)
        self.act = nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.conv(x[None]))[0]


HIDDEN = {"conv": {"in": "batch channel height width", "out": "batch channel height width"}}


def test_shifts_of_a_torus_by_parts_of_a_pixel() -> None:
    """A convolution commutes with them; a nonlinearity makes waves that the grid cannot hold."""
    model = Image("circular")
    random = torch.Generator().manual_seed(1)
    inputs = [torch.randn(2, 8, 8, generator=random) for _ in range(2)]
    layouts = dict.fromkeys(("in_layouts", "out_layouts"), "channel height width")
    found = local_errors(
        model,
        inputs,
        group="T(2)",
        domain="periodic",
        hidden_layouts=HIDDEN | {"act": HIDDEN["conv"]["out"]},
        **layouts,
    )
    assert found["conv"] is not None
    assert found["conv"] < 1e-8
    with torch.no_grad():
        before = model.double().conv(inputs[0].double()[None])[0].numpy()

    def slope(values: Array, axis: int) -> Array:
        waves = np.fft.fftfreq(8)
        waves[4] = 0  # the highest is read as a cosine
        shape = (8, 1) if axis == 1 else (1, 8)
        moved = np.fft.fft(values, axis=axis) * (2j * np.pi * waves).reshape(shape)
        return np.asarray(np.fft.ifft(moved, axis=axis).real)

    h = np.tanh(before)
    wanted = worst([(1 - h**2) * slope(before, axis) - slope(h, axis) for axis in (1, 2)], h)
    assert wanted > 0.01
    assert found["act"] == pytest.approx(wanted, rel=1e-6)


def test_turns_of_an_image_by_cubic_interpolation() -> None:
    """At a pixel the derivative of Keys' interpolant is the central difference of its neighbours."""
    model = Image("zeros")
    random = torch.Generator().manual_seed(2)
    inside = torch.zeros(20, 20)
    inside[6:14, 6:14] = 1
    inputs = [torch.randn(2, 20, 20, generator=random) * inside for _ in range(2)]
    layouts = dict.fromkeys(("in_layouts", "out_layouts"), "channel height width")
    found = local_errors(
        model, inputs, group="SO(2)", domain="open", hidden_layouts=HIDDEN | {"act": HIDDEN["conv"]["out"]}, **layouts
    )

    def turn(values: Array) -> Array:
        """-(velocity . gradient), with y against the row index."""
        rows, columns = np.meshgrid(np.arange(20) - 9.5, np.arange(20) - 9.5, indexing="ij")
        padded = np.pad(values, ((0, 0), (1, 1), (1, 1)))
        along_row = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
        along_column = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
        return np.asarray(columns * along_row - rows * along_column)

    conv = model.double().conv
    with torch.no_grad():
        x = inputs[0].double().numpy()
        before = conv(torch.tensor(x)[None])[0].numpy()
        moved = conv(torch.tensor(turn(x))[None])[0].numpy()
    # Where the four neighbours of a source on either side of a pixel are inside.
    seen = np.s_[:, 2:-2, 2:-2]
    wanted = worst([(moved - turn(before))[seen]], before[seen])
    assert found["conv"] == pytest.approx(wanted, rel=1e-6)
    h = np.tanh(before)
    assert found["act"] == pytest.approx(worst([((1 - h**2) * turn(before) - turn(h))[seen]], h[seen]), rel=1e-6)


def test_healthy_layers_have_none_beyond_rounding_and_pixels_at_the_edge_do_not_count() -> None:
    class Laplacian(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
            kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
            self.conv.weight = nn.Parameter(kernel[None, None])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x)

    rows, columns = torch.meshgrid(torch.arange(16.0) - 7.5, torch.arange(16.0) - 7.5, indexing="ij")
    inputs = [(a * rows**2 + columns**2 + rows * columns)[None, None] for a in (0.5, 2.0)]
    found = local_errors(
        Laplacian(),
        inputs,
        group="SO(2)",
        domain="open",
        in_layouts="batch channel height width",
        out_layouts="batch channel height width",
    )
    # Quadratic images are interpolated exactly; padding makes the edge another image.
    assert found["conv"] is not None
    assert found["conv"] < 1e-7


def test_a_layer_without_a_derivative_says_so() -> None:
    class Steps(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.floor(x * 2**16) / 2**16

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = Steps()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.steps(x)

    report = equicheck.audit(Outer(), vectors(), group="O(3)", in_layouts="vector", out_layouts="vector", **QUICK)
    (row,) = report.layers["rows"]
    assert row["local_error"] is None
    assert "no local error: two steps of its derivative differ by" in row["note"]


def test_the_column_appears_where_there_are_some_and_old_reports_are_read() -> None:
    inputs = vectors()
    layouts = {"in_layouts": "vector", "out_layouts": "vector", "hidden_layouts": {"act": "vector"}}
    report = equicheck.audit(TwoLayers(), inputs, group="O(3)", **layouts, **QUICK)
    assert "local error" in report.to_text()
    finite = equicheck.audit(TwoLayers(), inputs, group="Oh", **layouts, **QUICK)
    assert "local error" not in finite.to_text()
    record = json.loads(report.to_json())
    for row in record["layers"]["rows"]:
        del row["local_error"], row["checks"]
    del record["layers"]["left_out"]
    assert "local error" not in equicheck.Report.from_json(json.dumps(record)).to_text()
