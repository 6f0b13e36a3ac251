"""Irreps in the orders of other libraries than e3nn: ``ir_mul(...)`` and ``yzx(...)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.special import sph_harm_y

import equicheck
from audits import clouds


def about_z(l: int, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:  # noqa: E741 - the degree
    """Return scipy's harmonics of directions (n, 3), made real, without the sign (-1)^m: (n, 2l+1), m = -l..l."""
    polar, azimuth = np.arccos(x[:, 2] / np.linalg.norm(x, axis=1)), np.arctan2(x[:, 1], x[:, 0])
    columns = []
    for m in range(-l, l + 1):
        values = sph_harm_y(l, abs(m), polar, azimuth) * (-1) ** m
        columns.append(values.real if m == 0 else np.sqrt(2) * (values.real if m > 0 else values.imag))
    return np.stack(columns, axis=1)


def test_scipy_made_real_is_what_the_page_says() -> None:
    x = np.array([[0.3, -0.5, 0.8], [1.0, 2.0, -0.5]])
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    X, Y, Z = unit.T
    np.testing.assert_allclose(about_z(1, x) * np.sqrt(4 * np.pi / 3), np.stack([Y, Z, X], 1), atol=1e-14)
    second = np.sqrt(3) * np.stack([X * Y, Y * Z, (3 * Z**2 - 1) / np.sqrt(12), X * Z, (X**2 - Y**2) / 2], 1)
    np.testing.assert_allclose(about_z(2, x) * np.sqrt(4 * np.pi / 5), second, atol=1e-14)


@pytest.mark.parametrize("copies_last", [False, True])
def test_scipys_harmonics(copies_last: bool) -> None:
    """Degrees up to 4, several copies of each: one per point."""
    degrees = [0, 1, 2, 3, 4]

    def model(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        # Times the length, or the one of degree 0 would be constant.
        blocks = [about_z(degree, x) * np.linalg.norm(x, axis=1, keepdims=True) for degree in degrees]
        return np.concatenate([(block.T if copies_last else block).ravel() for block in blocks])

    irreps = "+".join(f"6x{degree}{'eo'[degree % 2]}" for degree in degrees)
    given = [x.double().numpy() for x in clouds(3, nodes=6)]
    options: dict[str, Any] = {"group": "O(3)", "in_layouts": "6 vector", "transforms": 12}
    right = f"ir_mul(yzx({irreps}))" if copies_last else f"yzx({irreps})"
    assert equicheck.audit(model, given, out_layouts=right, **options).verdict == "PASS"
    for wrong in (irreps, f"ir_mul({irreps})", f"yzx({irreps})", f"ir_mul(yzx({irreps}))"):
        if wrong != right:
            assert equicheck.audit(model, given, out_layouts=wrong, **options).verdict == "FAIL", wrong


def transposed(model: Callable[[torch.Tensor], torch.Tensor], irreps: o3.Irreps) -> Any:
    """Return the model with each block of its output as (2l+1, multiplicity), as cuEquivariance has it."""

    def arranged(x: torch.Tensor) -> torch.Tensor:
        y = model(x)
        blocks = [
            y[..., part].unflatten(-1, (term.mul, term.ir.dim)).transpose(-1, -2).flatten(-2)
            for part, term in zip(irreps.slices(), irreps, strict=True)
        ]
        return torch.cat(blocks, -1)

    return arranged


def test_blocks_are_judged_apart() -> None:
    """An e3nn layer with its output transposed: figures as before, and the block at fault is named."""
    irreps = o3.Irreps("3x0e+4x1o+2x2e")
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        product = o3.FullyConnectedTensorProduct("1x1o", "1x0e+1x1o", irreps)
    finally:
        torch.set_default_dtype(torch.float32)

    def layer(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = product(x, torch.cat([x.norm(dim=-1, keepdim=True), x.flip(0)], -1)).detach()
        return result

    def broken(x: torch.Tensor) -> torch.Tensor:
        y = layer(x)
        y[:, 3 + 4] = 1.3 * y[:, 3 + 4]  # one component of the second vector
        return y

    options: dict[str, Any] = {"group": "O(3)", "in_layouts": "4 vector", "transforms": 12}
    given = clouds(3, nodes=4, dtype=torch.float64)
    for model, verdict in ((layer, "PASS"), (broken, "FAIL")):
        plain = equicheck.audit(model, given, out_layouts=f"4 {irreps}", **options)
        own = equicheck.audit(transposed(model, irreps), given, out_layouts=f"4 ir_mul({irreps})", **options)
        assert (plain.verdict, own.verdict) == (verdict, verdict), str(own)
        ours, theirs = own.outputs["output"], plain.outputs["output"]
        if verdict == "FAIL":
            assert ours.max_relative == pytest.approx(theirs.max_relative, rel=1e-6)
            assert ours.worst is not None
            assert theirs.worst is not None
            assert theirs.worst["block"].startswith("4x1o")
            assert ours.worst["block"].startswith("ir_mul(4x1o)")
    assert equicheck.audit(layer, given, out_layouts=f"4 ir_mul({irreps})", **options).verdict == "FAIL"
