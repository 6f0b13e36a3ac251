"""Rotations of images by all angles: what the control on smooth inputs says of healthy and of unhealthy networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import equicheck

LAYOUT = "batch channel height width"
POOLED = "batch channel"
#: The margin within which an error counts as explained by interpolation.
MARGIN = 10


def images(size: int = 32, channels: int = 1, count: int = 3) -> list[torch.Tensor]:
    """Return random images, entries between 0 and 1."""
    random = torch.Generator().manual_seed(5)
    draws = [torch.rand(1, channels, size, size, generator=random, dtype=torch.float64) for _ in range(count)]
    return [image.float() for image in draws]


def audit(model: Any, samples: Any = None, out: str = POOLED, **options: Any) -> equicheck.Report:
    options = {"group": "SO(2)", "samples": 3, "transforms": 8} | options
    return equicheck.audit(model, samples or images(), in_layouts=LAYOUT, out_layouts=out, **options)


def drawn(*shape: int) -> nn.Parameter:
    """Return random weights."""
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(1)))


class Isotropic(nn.Module):
    """Equivariant in the continuum: twice mixes channels, blurs by a Gaussian, applies a nonlinearity."""

    def __init__(
        self, deviation: float, nonlinearity: Callable[[torch.Tensor], torch.Tensor], pool: bool = True
    ) -> None:
        super().__init__()
        self.nonlinearity, self.pool = nonlinearity, pool
        distance = torch.arange(-round(4 * deviation), round(4 * deviation) + 1)
        line = torch.exp(-(distance**2) / (2 * deviation**2))
        self.kernel = nn.Buffer(torch.outer(line, line) / line.sum() ** 2)
        self.mix = nn.ParameterList([drawn(4, 1), drawn(4, 4)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for mix in self.mix:
            x = torch.einsum("oc,bchw->bohw", mix, x)
            kernel = self.kernel.expand(x.shape[1], 1, -1, -1)
            x = functional.conv2d(x, kernel, groups=x.shape[1], padding=self.kernel.shape[-1] // 2)
            x = self.nonlinearity(x - 0.1)
        return x.mean((-2, -1)) if self.pool else x


class Quarter(nn.Module):
    """Equivariant under C4 alone: a lifting convolution, one on regular features, the mean over orientations."""

    def __init__(
        self, nonlinearity: Callable[[torch.Tensor], torch.Tensor] = torch.relu, pool: bool = True, fields: int = 4
    ) -> None:
        super().__init__()
        self.fields, self.nonlinearity, self.pool = fields, nonlinearity, pool
        self.lift, self.mix = drawn(fields, 1, 3, 3), drawn(fields, fields, 4, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = self.fields
        lift = torch.stack([torch.rot90(self.lift, h, (-2, -1)) for h in range(4)], 1) / 2
        x = self.nonlinearity(functional.conv2d(x, lift.reshape(4 * n, 1, 3, 3), padding=1))
        mix = torch.stack([torch.rot90(self.mix.roll(h, 2), h, (-2, -1)) for h in range(4)], 1) / 6
        x = self.nonlinearity(functional.conv2d(x, mix.reshape(4 * n, 4 * n, 3, 3), padding=1))
        x = x.unflatten(1, (n, 4)).mean(2)
        return x.mean((-2, -1)) if self.pool else x


class Symmetrised(nn.Module):
    """Equivariant under D4 alone: scalar kernels averaged over D4, nearly isotropic for what varies slowly."""

    def __init__(self, nonlinearity: Callable[[torch.Tensor], torch.Tensor], pool: bool = True) -> None:
        super().__init__()
        self.nonlinearity, self.pool = nonlinearity, pool
        self.kernels = nn.ParameterList([drawn(4, 1, 3, 3), drawn(4, 4, 3, 3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for kernel in self.kernels:
            both = kernel + kernel.flip(-1)
            mean = torch.stack([torch.rot90(both, h, (-2, -1)) for h in range(4)]).mean(0) / 2
            x = self.nonlinearity(functional.conv2d(x, mean, padding=1) + 0.1)
        return x.mean((-2, -1)) if self.pool else x


def control(report: equicheck.Report) -> dict[str, Any]:
    """Return the control of the one output."""
    found = report.outputs["output"].interpolation
    assert found is not None
    return found


# Invariants: no output is interpolated, so that smooth inputs show what the network does.


@pytest.mark.parametrize("size", [24, 33])
@pytest.mark.parametrize(("deviation", "nonlinearity"), [(1.0, torch.tanh), (1.5, functional.silu)])
def test_a_network_that_is_isotropic_in_the_continuum_passes(
    deviation: float, nonlinearity: Callable[[torch.Tensor], torch.Tensor], size: int
) -> None:
    # Interpolation may hide as much: what is small enough is the user's word.
    assert audit(Isotropic(deviation, nonlinearity), images(size)).verdict == "NEEDS_ATTENTION"
    report = audit(Isotropic(deviation, nonlinearity), images(size), tolerance=1e-2)
    output, found = report.outputs["output"], control(report)
    assert (report.verdict, output.classification) == ("PASS", "consistent"), report
    assert found["model"] < 1e-2
    assert found["model"] <= MARGIN * found["control"]
    assert found["pairs"] == 3 * 8
    for figure in ("model", "control"):
        assert f"{found[figure]:.1e}"[:3] in output.reason
    # On the images themselves the error is that of the corners which turn in, and no share of SO(2) is bounded.
    assert output.max_relative > 1e-2
    assert {row["bound"] for row in output.factors} == {"interpolated"}


def test_a_sharp_nonlinearity_aliases_and_is_not_judged() -> None:
    report = audit(Isotropic(1.0, torch.relu))
    assert report.verdict == "NEEDS_ATTENTION"
    assert control(report)["model"] > 1e-2


@pytest.mark.parametrize("size", [24, 33, 48])
@pytest.mark.parametrize(
    "model",
    [
        Quarter(),
        Quarter(torch.tanh),
        Quarter(functional.silu),
        Symmetrised(torch.tanh),
        Symmetrised(torch.relu),
        Symmetrised(functional.silu),
    ],
    ids=["C4 relu", "C4 tanh", "C4 silu", "D4 tanh", "D4 relu", "D4 silu"],
)
def test_a_symmetry_of_the_lattice_alone_never_passes_for_all_angles(model: nn.Module, size: int) -> None:
    assert audit(model, images(size), group="C4").verdict == "PASS"
    report = audit(model, images(size))
    assert report.verdict == "NEEDS_ATTENTION", report
    assert control(report)["model"] > 5e-3
    assert report.outputs["output"].classification in {"approximate", "undetermined"}


@pytest.mark.parametrize("out", [LAYOUT, POOLED])
def test_a_plain_network_fails_on_the_lattice_already(out: str) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1))
    model = layers if out == LAYOUT else nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    report = audit(model, out=out)
    assert report.verdict == "FAIL"
    assert "double precision" in report.outputs["output"].reason


# Outputs on a grid: T' interpolates them.


def test_a_dense_network_passes_where_its_output_is_interpolated_well() -> None:
    report = audit(Isotropic(1.0, torch.tanh, pool=False), out=LAYOUT, interpolation="fourier", tolerance=1e-2)
    assert (report.verdict, report.outputs["output"].classification) == ("PASS", "consistent"), report
    # Two blurs of four pixels to each side.
    assert control(report)["receptive_field"] == 8


def test_an_output_that_is_interpolated_badly_is_undetermined() -> None:
    report = audit(Isotropic(1.0, torch.tanh, pool=False), out=LAYOUT)
    found, output = control(report), report.outputs["output"]
    assert (report.verdict, output.classification) == ("NEEDS_ATTENTION", "undetermined")
    assert 1e-2 < found["model"] <= MARGIN * found["control"]
    assert "bicubic" in output.reason


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "fourier"])
@pytest.mark.parametrize("model", [Quarter(pool=False), Symmetrised(torch.tanh, pool=False)], ids=["C4", "D4"])
def test_a_dense_network_of_the_lattice_never_passes(model: nn.Module, interpolation: Any) -> None:
    report = audit(model, out=LAYOUT, interpolation=interpolation)
    assert report.verdict == "NEEDS_ATTENTION", report
    assert control(report)["model"] > 0.1
    assert control(report)["receptive_field"] == 2


class Strided(nn.Module):
    """Blurs, and keeps every second pixel: with padding on one side alone the grids have no common centre."""

    def __init__(self, aligned: bool) -> None:
        super().__init__()
        self.blur, self.aligned = Isotropic(1.0, torch.tanh, pool=False), aligned

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blur(x)
        return functional.avg_pool2d(x, 2) if self.aligned else x[..., ::2, ::2]


def test_a_coarser_output_is_compared_on_its_own_grid() -> None:
    report = audit(Strided(aligned=True), out=LAYOUT, interpolation="fourier")
    found = control(report)
    assert found["model"] <= MARGIN * found["control"]
    assert 8 <= found["receptive_field"] <= 12
    assert audit(Strided(aligned=False), out=LAYOUT).verdict == "FAIL"


def derivatives(x: torch.Tensor, deviation: float = 1.5) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the derivatives of a blurred image, along x (to the right) and along y (up)."""
    distance = torch.arange(-6, 7, dtype=x.dtype)
    line = torch.exp(-(distance**2) / (2 * deviation**2))
    line = line / line.sum()
    slope = distance / deviation**2 * line
    x = x.reshape(1, 1, *x.shape[-2:])
    right = functional.conv2d(x, torch.outer(line, slope)[None, None], padding=6)
    down = functional.conv2d(x, torch.outer(slope, line)[None, None], padding=6)
    return right[0, 0], -down[0, 0]


class Gradient(nn.Module):
    """A vector per pixel, longer where the image is steep; ``swapped`` forgets that y points up."""

    def __init__(self, swapped: bool = False) -> None:
        super().__init__()
        self.sign = -1.0 if swapped else 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        right, up = derivatives(x)
        vectors = torch.stack([right, self.sign * up], -1)
        return vectors / (1 + vectors.square().sum(-1, keepdim=True))


def test_vectors_on_a_grid_turn_with_it() -> None:
    options: dict[str, Any] = {"out": "height width vector", "interpolation": "bicubic"}
    found = control(audit(Gradient(), **options))
    assert found["model"] <= found["control"]
    assert found["receptive_field"] == 6
    assert audit(Gradient(swapped=True), **options).verdict == "FAIL"


class Divergence(nn.Module):
    """An invariant of a vector field; ``skewed`` gives its two parts unequal weights off the lattice alone."""

    def __init__(self, skewed: bool = False) -> None:
        super().__init__()
        self.skewed = skewed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (along, up), (right, across) = derivatives(x[..., 0]), derivatives(x[..., 1])
        divergence, shear = (along + across).square(), (along - across).square() - (up + right).square()
        return (divergence + shear.square() if self.skewed else divergence).mean()


def test_vector_fields_come_in_as_fields_of_components() -> None:
    fields = [torch.randn(32, 32, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]

    def report(model: nn.Module) -> equicheck.Report:
        layouts: dict[str, Any] = {"in_layouts": "height width vector", "out_layouts": ""}
        return equicheck.audit(model, fields, group="SO(2)", samples=3, transforms=8, tolerance=5e-3, **layouts)

    healthy = report(Divergence())
    assert healthy.verdict == "PASS", healthy
    assert control(healthy)["model"] < 5e-3
    # The square of a component of a tensor that turns by twice the angle: the same after quarter turns.
    assert report(Divergence(skewed=True)).verdict == "NEEDS_ATTENTION"
    assert control(report(Divergence(skewed=True)))["model"] > 0.1


# Scaling: what interpolation makes falls as discretisation is refined.


def test_what_discretisation_makes_falls_on_longer_waves_and_a_break_does_not() -> None:
    # A kink aliases less on longer waves.
    smooth = control(audit(Isotropic(1.0, torch.relu)))["scaling"]
    assert smooth["model"] < 0.1
    assert smooth["control"] < 0.5
    fields = [torch.randn(32, 32, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    layouts: dict[str, Any] = {"in_layouts": "height width vector", "out_layouts": ""}
    report = equicheck.audit(Divergence(skewed=True), fields, group="SO(2)", samples=2, transforms=8, **layouts)
    assert 0.5 < control(report)["scaling"]["model"] < 2
    assert control(report)["scaling"]["control"] < 0.5


def test_bicubic_interpolation_of_an_output_is_compared_with_bilinear() -> None:
    dense = control(audit(Isotropic(1.0, torch.tanh, pool=False), out=LAYOUT))["scaling"]
    assert dense["order"] < 0.7
    # No interpolant mends what only the lattice respects.
    broken = control(audit(Quarter(pool=False), out=LAYOUT))["scaling"]
    assert broken["order"] > dense["order"] + 0.1
    assert control(audit(Isotropic(1.0, torch.tanh)))["scaling"]["order"] is None


# What cannot be judged, and what is not concerned.


class Global(nn.Module):
    """Every pixel depends on all others: divides by the mean over the image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / (1 + x.square().mean((-2, -1), keepdim=True))


def test_a_receptive_field_of_the_whole_image_is_said() -> None:
    report = audit(Global(), out=LAYOUT)
    output, found = report.outputs["output"], control(report)
    assert (report.verdict, output.classification) == ("NEEDS_ATTENTION", "undetermined")
    assert found["model"] is None
    assert "the whole image" in found["note"]
    assert "cannot judge" in output.reason
    # Its invariants are judged all the same.
    pooled = audit(nn.Sequential(Global(), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert control(pooled)["model"] < 1e-2, pooled


def test_a_grid_too_small_for_smooth_fields_is_said() -> None:
    report = audit(Isotropic(1.0, torch.tanh), images(7))
    assert report.verdict == "NEEDS_ATTENTION"
    assert "fewer than 8 pixels" in report.outputs["output"].reason


def test_a_network_that_refuses_smooth_inputs_is_said() -> None:
    def particular(x: torch.Tensor) -> torch.Tensor:
        if x[0, 0, 0].std() < 1e-2:  # the border of a smooth field is constant
            raise ValueError("a blank border")
        return x.square().mean((-2, -1))

    report = audit(particular)
    assert "a blank border" in control(report)["note"]
    assert report.verdict == "NEEDS_ATTENTION"


@pytest.mark.parametrize("group", ["T(2)", "C4", "D4"])
def test_groups_of_the_lattice_have_no_control(group: str) -> None:
    convolution = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
    model = convolution if group == "T(2)" else Quarter(pool=False)
    model = model if group != "D4" else Symmetrised(torch.tanh, pool=False)
    report = audit(model, out=LAYOUT, group=group, domain="periodic" if group == "T(2)" else None)
    assert report.verdict == "PASS"
    assert report.outputs["output"].interpolation is None
    assert "interpolation control" not in report.plan["calls_by_purpose"]


def test_finite_groups_with_turns_off_the_lattice_have_one() -> None:
    report = audit(Isotropic(1.0, torch.tanh), group="C8", transforms=16, tolerance=5e-3)
    assert report.verdict == "PASS"
    # The four odd multiples of 45 degrees.
    assert control(report)["pairs"] == 3 * 4
    assert audit(Quarter(torch.tanh), images(33), group="C8", transforms=16).verdict == "NEEDS_ATTENTION"


def test_moves_of_the_plane_keep_the_fields_inside() -> None:
    report = audit(Isotropic(1.0, torch.tanh), group="SE(2)", domain="open")
    assert control(report)["model"] < 0.05, report


def test_the_report_says_both_figures_and_is_the_same_in_shards() -> None:
    model = Isotropic(1.0, torch.tanh)
    whole = audit(model)
    found = control(whole)
    text = whole.to_text()
    assert "Interpolation control" in text
    assert "judged by their control" in text
    assert equicheck.Report.from_json(whole.to_json()).outputs["output"].interpolation == found
    parts = [audit(model, shard=(k, 2)) for k in range(2)]
    assert control(equicheck.merge(parts)) == found
    assert equicheck.merge(parts).verdict == whole.verdict == "NEEDS_ATTENTION"
