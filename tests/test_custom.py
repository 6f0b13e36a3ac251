"""Custom actions: symmetries by the functions of a test loop."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

import equicheck
from audits import Pull, clouds, pull
from equicheck import CustomAction, SpecificationError

FEW: dict[str, Any] = {"transforms": 8, "samples": 3}


def rotation(rng: np.random.Generator) -> torch.Tensor:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return torch.as_tensor(q * np.sign(np.linalg.det(q)))


def turn(x: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
    return x @ T.T


def product(T: torch.Tensor, S: torch.Tensor) -> torch.Tensor:
    return T @ S


#: All laws stated.
LAWS: dict[str, Any] = {"inverse": lambda T: T.T, "identity": lambda: torch.eye(3), "compose": product}


def rotations(**changed: Any) -> CustomAction:
    return CustomAction(**{"sample": rotation, "input": turn, "output": turn, **LAWS, **changed})


def healthy(x: torch.Tensor) -> torch.Tensor:
    return pull(x)


def broken(x: torch.Tensor) -> torch.Tensor:
    return pull(x) * torch.tensor([1.0, 1.0, 1.5], dtype=x.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("model", "verdict"), [(healthy, "PASS"), (Pull(), "PASS"), (broken, "FAIL")])
def test_the_verdict_is_that_of_the_group(model: Any, verdict: str, dtype: torch.dtype) -> None:
    model = model.to(dtype) if isinstance(model, torch.nn.Module) else model
    inputs = clouds(3, dtype=dtype)
    by_name = equicheck.audit(model, inputs, group="SO(3)", in_layouts="5 vector", out_layouts="5 vector", transforms=8)
    by_functions = equicheck.audit(model, inputs, group=rotations(), transforms=8)
    for report in (by_name, by_functions):
        assert report.verdict == verdict, str(report)
        assert report.outputs["output"].symmetry_type == "Equivariant"
    assert by_functions.outputs["output"].max_relative == pytest.approx(
        by_name.outputs["output"].max_relative, rel=0.5, abs=1e-6
    )
    assert "CustomAction(rotation)" in str(by_functions)


@pytest.mark.parametrize("precision", ["both", "as_is", "float64"])
def test_every_precision(precision: Any) -> None:
    report = equicheck.audit(Pull(), clouds(2), group=rotations(), precision=precision, transforms=8)
    assert report.verdict == "PASS", str(report)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"output": lambda y, T: y @ T}, r"output\(y, T\)` does not follow `compose`.*as if T were its inverse"),
        ({"input": lambda x, T: x @ T}, r"input\(x, T\)` does not follow `compose`.*as if T were its inverse"),
        ({"compose": lambda T, S: S @ T}, "swap its arguments"),
        ({"compose": lambda T, S: T}, r"input\(x, T\)` does not follow `compose`"),
        ({"identity": lambda: -torch.eye(3)}, r"input\(x, identity\(\)\) is not x"),
        ({"inverse": lambda T: T}, r"input\(input\(x, T\), inverse\(T\)\) is not x"),
        ({"output": lambda y, T: y @ T, "compose": None}, None),
        ({"sample": lambda rng: rotation(rng).float()}, "draw and apply T in double precision"),
        ({"input": lambda x, T: x}, "moves no input"),
        ({"input": lambda x, T: x[:2]}, r"`input\(x, T\)`: the shape of `input` changes from \[5, 3\] to \[2, 3\]"),
        ({"output": lambda y, T: (y, T)}, r"`output\(y, T\)`: it was given one tensor and returned `0`, `1`"),
        ({"input": lambda x, T: (x @ T.T).float()}, "given as float64 and returned as float32"),
        ({"output": lambda y, T: y @ T.missing}, r"`output\(y, T\)` raises: AttributeError: .*missing"),
        ({"sample": lambda rng: 1 / 0}, r"`sample\(rng\)` raises: ZeroDivisionError"),
        ({"compose": lambda T: T}, r"`compose\(T, S\)` raises: TypeError"),
    ],
)
def test_slips_in_the_test_are_not_blamed_on_the_model(changed: dict[str, Any], message: str | None) -> None:
    if message is None:
        # Without laws only the model is left to blame.
        assert equicheck.audit(healthy, clouds(2), group=rotations(**changed), **FEW).verdict == "FAIL"
        return
    with pytest.raises(SpecificationError, match=message):
        equicheck.audit(healthy, clouds(2), group=rotations(**changed), **FEW)


def test_what_a_function_raised_is_the_cause() -> None:
    def raising(x: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
        raise ValueError("no such thing")

    with pytest.raises(SpecificationError, match="ValueError: no such thing") as caught:
        equicheck.audit(healthy, clouds(1), group=rotations(input=raising), **FEW)
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_interruption_ends_the_audit() -> None:
    def interrupting(x: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        equicheck.audit(healthy, clouds(1), group=rotations(input=interrupting), **FEW)


def charged(x: torch.Tensor, charge: torch.Tensor, scale: float = 1.0) -> dict[str, Any]:
    return {
        "energy": (charge * x.square().sum(-1)).sum() * scale,
        "aux": {"dipole": charge @ x, "labels": charge > 0},
    }


@pytest.mark.parametrize("output", ["whole", "without aux"])
def test_dicts(output: str) -> None:
    def input_(x: dict[str, Any], T: torch.Tensor) -> dict[str, Any]:
        assert x["scale"] == 2.0
        return {**x, "x": x["x"] @ T.T}

    def output_(y: dict[str, Any], T: torch.Tensor) -> dict[str, Any]:
        assert y["energy"].dtype is torch.float64
        return {"energy": y["energy"], "aux": {**y["aux"], "dipole": y["aux"]["dipole"] @ T.T}}

    sample = {"x": clouds(1)[0], "charge": torch.linspace(-1, 1, 5), "scale": 2.0}
    action = rotations(input=input_, output=output_)
    left_out = {} if output == "whole" else {"out_layouts": {"aux": None}}
    report = equicheck.audit(charged, sample, group=action, transforms=12, **left_out)
    kinds = {name: report.outputs[name].symmetry_type for name in report.outputs}
    if output == "whole":
        assert kinds["energy"] == "Invariant"
        assert kinds["aux.dipole"] == "Equivariant"
        assert report.outputs["aux.dipole"].verdict == "PASS", str(report)
        assert len(kinds) == 3
    else:
        assert kinds == {"energy": "Invariant"}
    assert report.outputs["energy"].verdict == "PASS", str(report)


def test_permutations_relabel_edges() -> None:
    """Features, weights and an edge list, integers of their own type, and a tuple for a sample."""

    def convolve(h: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return h + torch.zeros_like(h).index_add(0, edges[1], h[edges[0]])

    def uneven(h: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return convolve(h, edges) * torch.arange(1, len(h) + 1)[:, None]

    def permute(x: tuple[torch.Tensor, torch.Tensor], T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h, edges = x
        return h[T], torch.argsort(T)[edges]

    action = CustomAction(
        lambda: torch.randperm(6),
        permute,
        lambda y, T: y[T],
        inverse=torch.argsort,
        identity=torch.arange(6),
        compose=lambda T, S: S[T],
    )
    edges = torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]], dtype=torch.int32)
    sample = (torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), edges)
    assert equicheck.audit(convolve, sample, group=action, transforms=12).verdict == "PASS"
    assert equicheck.audit(uneven, sample, group=action, transforms=12).verdict == "FAIL"
    action.compose = lambda T, S: T[S]
    with pytest.raises(SpecificationError, match="swap its arguments"):
        equicheck.audit(convolve, sample, group=action, transforms=12)


def test_a_group_of_two() -> None:
    """Half its elements move nothing, which is no reason to call the test vacuous."""
    action = CustomAction(lambda: random.choice([1.0, -1.0]), lambda x, T: T * x, lambda y, T: y, identity=1.0)
    report = equicheck.audit(lambda x: x.square().sum(), clouds(4), group=action, transforms=12)
    assert report.verdict == "PASS", str(report)
    report = equicheck.audit(lambda x: (x**3).sum(), clouds(4), group=action, transforms=12)
    assert report.verdict == "FAIL", str(report)
    action.output = lambda y, T: T * y
    for seed in range(4):
        report = equicheck.audit(lambda x: (x**3).sum(), clouds(4), group=action, transforms=12, seed=seed)
        assert report.verdict == "PASS", str(report)


def test_numpy_and_a_number_returned() -> None:
    action = CustomAction(
        lambda rng: np.linalg.qr(rng.normal(size=(3, 3)))[0].astype("float64"),
        lambda x, T: x @ T.T,
        lambda y, T: y,
        inverse=np.transpose,
        compose=np.matmul,
    )
    x = np.random.default_rng(3).normal(size=(5, 3))
    assert equicheck.audit(lambda x: float((x**2).sum()), [x, 2 * x], group=action, **FEW).verdict == "PASS"
    assert equicheck.audit(lambda x: float((x**3).sum()), [x, 2 * x], group=action, **FEW).verdict == "FAIL"


def test_draws_are_those_of_the_seed_and_leave_the_generators_alone() -> None:
    drawn: list[tuple[float, float, float]] = []

    def sample() -> torch.Tensor:
        numbers = (random.random(), float(np.random.rand()), float(torch.rand(())))
        drawn.append(numbers)
        return rotation(np.random.default_rng(int(sum(numbers) * 2**40)))

    action = CustomAction(sample, turn, turn)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    reports = [equicheck.audit(healthy, clouds(2), group=action, seed=seed, **FEW) for seed in (1, 1, 2)]
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert torch.get_default_dtype() is torch.float32
    maxima = [report.outputs["output"].max_relative for report in reports]
    assert maxima[0] == maxima[1] != maxima[2]
    assert len(set(drawn)) > 2 * FEW["transforms"]


def test_layouts_have_no_say() -> None:
    for layouts in ({"in_layouts": "5 vector"}, {"out_layouts": "5 vector"}):
        with pytest.raises(SpecificationError, match="says itself how tensors transform"):
            equicheck.audit(healthy, clouds(1), group=rotations(), **layouts)
    report = equicheck.audit(healthy, clouds(2), group=rotations(), in_layouts=None, out_layouts=None, **FEW)
    assert report.verdict == "PASS"
    with pytest.raises(SpecificationError, match="`in_layouts`: layouts are needed"):
        equicheck.audit(healthy, clouds(1), group="SO(3)")
    with pytest.raises(SpecificationError, match="no output `forces`"):
        equicheck.audit(healthy, clouds(1), group=rotations(), tolerance={"forces": 1e-3})
    with pytest.raises(SpecificationError, match="`compose`: expected a function"):
        rotations(compose=torch.eye(3))
