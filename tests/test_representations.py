"""``@name``: representations by functions of an ``Element``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from e3nn import o3

import equicheck
from audits import clouds, pull
from equicheck import Element, SpecificationError

FEW: dict[str, Any] = {"transforms": 8}
POINTS = torch.randn(30, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def harmonics(x: torch.Tensor) -> torch.Tensor:
    return o3.spherical_harmonics([2], x, normalize=False)


def wigner(element: Element) -> torch.Tensor:
    """Return D of l = 2 by what it does to e3nn's harmonics: accurate at the poles of Euler angles too."""
    R = torch.as_tensor(element.matrix)
    return (torch.linalg.pinv(harmonics(POINTS)) @ harmonics(POINTS @ R.T)).T


def quadrupole(x: torch.Tensor) -> torch.Tensor:
    return harmonics(x).sum(0)


def broken(x: torch.Tensor) -> torch.Tensor:
    return quadrupole(x) * torch.tensor([1, 1, 1, 1, 1.02], dtype=x.dtype)


def audit(function: Any, model: Any = quadrupole, *, layout: str = "@D", **options: Any) -> equicheck.Report:
    given: dict[str, Any] = {
        "group": "O(3)",
        "in_layouts": "6 vector",
        "out_layouts": layout,
        "representations": {"D": function} if function is not None else None,
        **FEW,
        **options,
    }
    return equicheck.audit(model, clouds(3, nodes=6), **given)


@pytest.mark.parametrize(
    ("model", "verdict", "classification"), [(quadrupole, "PASS", "exact"), (broken, "FAIL", "broken")]
)
def test_the_irrep_as_a_function_gives_the_report_of_the_irrep(
    model: Callable[[torch.Tensor], torch.Tensor], verdict: str, classification: str
) -> None:
    own, irrep = audit(wigner, model), audit(None, model, layout="2e")
    ours, theirs = own.outputs["output"], irrep.outputs["output"]
    assert (own.verdict, ours.classification) == (irrep.verdict, theirs.classification) == (verdict, classification)
    for figure in ("mean_relative", "max_relative", "mean_absolute", "scaled_max", "scale"):
        assert getattr(ours, figure) == pytest.approx(getattr(theirs, figure), rel=1e-6), figure
    assert ours.symmetry_type == "Equivariant"
    words = [row["description"] for row in own.transforms]
    assert words[1] == "axis 0 transformed by `@D`, a user's own representation of dimension 5"


def by_angles(element: Element) -> torch.Tensor:
    return o3.Irrep("2e").D_from_matrix(torch.as_tensor(element.matrix))


def test_digits_lost_near_a_pole_are_no_violation() -> None:
    """E3nn goes through Euler angles, which lose up to half the digits near their poles."""
    report = audit(by_angles)
    assert report.verdict == "PASS", str(report)
    assert report.outputs["output"].classification in ("exact", "consistent")


def test_single_precision_is_said_and_is_not_exact() -> None:
    report = audit(lambda g: wigner(g).float())
    output = report.outputs["output"]
    assert (report.verdict, output.classification) == ("PASS", "consistent"), str(report)
    assert "follows the laws of the group to" in " ".join(report.notes)
    assert output.float64["status"] == "unavailable"
    # Nor does it hide a violation.
    assert audit(lambda g: wigner(g).float(), broken).verdict == "FAIL"
    assert not any("follows the laws" in note for note in audit(wigner).notes)
    # What is exact in single precision is exact.
    signs = audit(lambda g: torch.eye(3) * float(g.determinant), lambda x: torch.linalg.cross(x[0], x[1]) @ x[2:5])
    assert signs.outputs["output"].classification != "consistent"


def no_representation(element: Element) -> Any:
    D = wigner(element)
    D[0, 0] = D[0, 0] + 0.1 * (1 - D[0, 0])
    return D


def raising(element: Element) -> Any:
    raise ValueError("no such thing")


def raising_late(element: Element) -> Any:
    if element.determinant < 0:
        raise ValueError("no such thing")
    return wigner(element)


def another_shape(element: Element) -> Any:
    return wigner(element) if element.is_identity else np.eye(3)


def spinor(element: Element) -> np.ndarray[Any, Any]:
    """Return the spin-1/2 matrix of a turn, real form: right up to the sign."""
    c = element.lie_algebra()
    assert c is not None
    angle = float(np.linalg.norm(c))
    w, (x, y, z) = np.cos(angle / 2), np.sin(angle / 2) * c / max(angle, 1e-300)
    return np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (
            lambda g: wigner(g.inverse()),
            {"model": lambda x: torch.roll(quadrupole(x), 1)},
            "no representation of `O.3.`.*the reverse order holds",
        ),
        (no_representation, {}, "the matrix of a product g h"),
        (lambda g: -wigner(g), {}, "its matrix for the identity is not the identity matrix"),
        (lambda g: 0 * wigner(g), {}, "its matrix for the identity is not the identity matrix"),
        (spinor, {"group": "SO(3)", "model": lambda x: quadrupole(x)[:4]}, "up to the sign, as for spinors"),
        (raising, {}, "`@D`: raises ValueError: no such thing, for identity"),
        (raising_late, {}, "raises ValueError: no such thing, for .*inversion|mirror"),
        (another_shape, {}, r"returns shape \[3, 3\] for .*, and \[5, 5\] for the identity"),
        (lambda g: wigner(g)[:3], {}, r"returns shape \[3, 5\] for identity: a square matrix is needed"),
        (lambda g: wigner(g)[0], {}, r"returns shape \[5\] for identity: a square matrix"),
        (lambda g: np.eye(4), {}, r"`@D` needs length 4, axis 0 has 5"),
        (lambda g: "matrix", {}, "returns no matrix of numbers but str 'matrix', for identity"),
        (lambda g: None, {}, "returns None, for identity"),
        (lambda g: wigner(g).to(torch.complex128), {}, "returns complex values"),
        (lambda g: wigner(g) * float("nan"), {}, "entries that are not finite"),
        (wigner, {"out_layouts": "@quadrupole"}, "no representation `@quadrupole` is given.*given: @D"),
        (wigner, {"out_layouts": "@Dd"}, "did you mean `@D`"),
        (wigner, {"out_layouts": "2e"}, "`representations`: no layout uses `@D`"),
        (wigner, {"representations": {}}, "no representation `@D` is given.*representations="),
        (wigner, {"representations": {"@D": wigner}}, "`@` stands before it in layouts alone"),
        (wigner, {"representations": {"D": np.eye(5)}}, "`D`: expected a function of an Element"),
        (wigner, {"representations": [wigner]}, "expected a dict of functions"),
    ],
)
def test_slips_are_blamed_on_the_representation(function: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecificationError, match=f"(?s){message}"):
        audit(function, **options)


def test_what_the_function_raised_is_the_cause() -> None:
    for function in (raising, raising_late):
        with pytest.raises(SpecificationError) as caught:
            audit(function)
        assert isinstance(caught.value.__cause__, ValueError)
    # A wrong shape is nobody's exception.
    with pytest.raises(SpecificationError) as caught:
        audit(another_shape)
    assert caught.value.__cause__ is None
    with pytest.raises(SpecificationError) as caught:
        equicheck.describe("O(3)", "@D", (5,), representations={"D": raising})
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_failure_at_any_call_ends_the_audit() -> None:
    """Before the laws are tried, while they are, and long after: among the pairs and in the probes."""
    calls = 0
    failing = 0

    def counting(element: Element) -> Any:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise ValueError(f"call {calls}")
        return wigner(element)

    audit(counting)
    total = calls
    assert total > 100
    for failing in (1, 3, 10, total // 2, total - 1, total):
        calls = 0
        with pytest.raises(SpecificationError, match=f"raises ValueError: call {failing}, for "):
            audit(counting)


def test_an_interruption_ends_the_audit() -> None:
    def interrupting(element: Element) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(interrupting)


def test_copies_and_sums() -> None:
    """``2*@D+vector+@D``: every part by its own matrix, in inputs too, and the part at fault is named."""

    def model(x: torch.Tensor) -> torch.Tensor:
        quadrupoles = harmonics(x)
        return torch.cat([quadrupoles[0], quadrupoles[1], x[2], quadrupoles.sum(0)])

    def outer(x: torch.Tensor) -> torch.Tensor:
        mixed = model(x)
        mixed[10] = mixed[10] * 1.1
        return mixed

    report = audit(wigner, model, layout="2*@D+vector+@D")
    assert report.verdict == "PASS", str(report)
    report = audit(wigner, outer, layout="2*@D+vector+@D")
    worst = report.outputs["output"].worst
    assert report.verdict == "FAIL"
    assert worst is not None
    assert "vector" in worst["block"]
    words = equicheck.describe("O(3)", "(channel! 4*@D+scalar) 3", (42, 3), representations={"D": wigner})
    assert "0..20 (4*@D) transformed by `@D`" in words
    assert "20..21 (scalar) not moved" in words


def test_an_input_by_a_function_of_several_factors() -> None:
    """A charge of `Z2` times an axial vector that dilates: one function of all of the element."""

    def rho(g: Element) -> Any:
        assert g.matrix is not None
        return (g.sign * g.scale**2 * g.determinant * g.matrix).tolist()

    def model(b: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.linalg.cross(b, v.expand_as(b))

    given = [{"b": b, "v": b.sum(0) + 1} for b in clouds(3)]
    for factor, verdict in ((1.0, "PASS"), (2.0, "FAIL")):
        report = equicheck.audit(
            lambda b, v, factor=factor: model(b, v) * b.norm() ** (factor - 1),
            given,
            group="O(3) x Z2 x Scale",
            in_layouts={"b": "nodes @b", "v": "vector"},
            out_layouts="nodes @c",
            representations={"b": rho, "c": lambda g: g.determinant * np.asarray(rho(g))},
            transforms=12,
        )
        assert report.verdict == verdict, str(report)
        assert {row["factor"] for row in report.outputs["output"].factors} >= {"O(3)", "Z2", "Scale"}


def test_permutations_of_pairs() -> None:
    """Unordered pairs of nodes, samples of different sizes."""

    def pairs(n: int) -> list[tuple[int, int]]:
        return [(i, j) for i in range(n) for j in range(i)]

    def rho(g: Element) -> Any:
        p = g.permutation("nodes")
        index = {pair: k for k, pair in enumerate(pairs(len(p)))}
        matrix = np.zeros((len(index), len(index)))
        for (i, j), k in index.items():
            matrix[k, index[(max(p[i], p[j]), min(p[i], p[j]))]] = 1
        return matrix

    def distances(x: torch.Tensor) -> torch.Tensor:
        i, j = torch.tensor(pairs(len(x))).T
        return (x[i] - x[j]).norm(dim=-1)

    def ordered(x: torch.Tensor) -> torch.Tensor:
        i, _ = torch.tensor(pairs(len(x))).T
        return distances(x) * (1 + 0.1 * i)

    for model, verdict in ((distances, "PASS"), (ordered, "FAIL")):
        report = equicheck.audit(
            model,
            [clouds(1, nodes=n)[0] for n in (4, 6, 5)],
            group="E(3) x S(nodes)",
            in_layouts="nodes point",
            out_layouts="@pairs",
            representations={"pairs": rho},
            transforms=12,
        )
        assert report.verdict == verdict, str(report)
    assert report.outputs["output"].symmetry_type == "Equivariant"


def test_where_all_holds_under_the_inverse_that_is_said() -> None:
    report = audit(lambda g: wigner(g.inverse()))
    (finding,) = report.findings
    assert (report.verdict, finding.mode) == ("FAIL", "wrong-output-transform")
    assert "`@D` of the inverse" in finding.message


def test_boosts_need_no_orthogonal_matrix() -> None:
    def rho(g: Element) -> Any:
        return np.kron(g.matrix, g.matrix)

    def model(p: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ni,nj->ij", p, p).flatten()

    given = [torch.randn(5, 4, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    options: dict[str, Any] = {"group": "SO+(1,3)", "in_layouts": "5 vector", "transforms": 12, "rapidity": 1.0}
    report = equicheck.audit(model, given, out_layouts="@tensor", representations={"tensor": rho}, **options)
    assert report.verdict == "PASS", str(report)
    # The transpose of a boost is the boost itself: the turns tell.
    with pytest.raises(SpecificationError, match="the reverse order holds"):
        equicheck.audit(model, given, out_layouts="@tensor", representations={"tensor": lambda g: rho(g).T}, **options)


def test_a_representation_that_nothing_moves() -> None:
    """The trivial one as an input: its factor moves nothing, which is an error of the specification."""
    with pytest.raises(SpecificationError, match="moves no input"):
        audit(lambda g: np.eye(3), lambda x: x, layout="6 @D", in_layouts="6 @D")


def test_a_custom_action_takes_none() -> None:
    action = equicheck.CustomAction(lambda: 1.0, lambda x, T: x, lambda y, T: y)
    with pytest.raises(SpecificationError, match="`representations` are for groups by name"):
        equicheck.audit(pull, clouds(1), group=action, representations={"D": wigner})


def elements(group: str, layout: str, shape: tuple[int, ...]) -> list[Element]:
    """Return the elements that a function is asked for."""
    seen: list[Element] = []

    def keep(element: Element) -> Any:
        seen.append(element)
        return np.eye(2)

    equicheck.describe(group, layout, shape, representations={"keep": keep})
    return seen


def test_elements() -> None:
    seen = elements("E(3) x S(nodes) x Z2 x U(1) x Scale", "nodes @keep", (4, 2))
    identity = seen[0]
    assert identity.is_identity
    assert str(identity) == repr(identity) == "identity"
    turn = next(g for g in seen if str(g).startswith("rotation"))
    R = turn.matrix
    assert R is not None
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-14)
    assert turn.determinant == 1.0
    c = turn.lie_algebra()
    assert c is not None
    skew = np.array([[0, -c[2], c[1]], [c[2], 0, -c[0]], [-c[1], c[0], 0]])
    np.testing.assert_allclose(torch.linalg.matrix_exp(torch.as_tensor(skew)), R, atol=1e-12)
    shift = next(g for g in seen if str(g).startswith("translation"))
    swap = next(g for g in seen if "permutation" in str(g))
    assert sorted(swap.permutation("nodes")) == [0, 1, 2, 3]
    assert (swap.permutation("nodes").dtype, R.dtype) == (np.int64, np.float64)
    with pytest.raises(KeyError, match="it permutes nodes"):
        swap.permutation("edges")
    assert [g.sign for g in seen if "sign flip" in str(g)] == [-1.0]
    assert any(g.phase > 0 for g in seen)
    assert any(g.scale > 1 for g in seen)
    # The product acts as one after the other, whatever the order of the factors.
    x = np.array([0.3, -1.0, 2.0])
    for g, h in ((turn, shift), (shift, turn), (turn, turn)):
        product = g @ h
        assert product == g.compose(h)
        assert product.matrix is not None
        assert product.translation is not None
        assert g.matrix is not None
        assert g.translation is not None
        assert h.matrix is not None
        assert h.translation is not None
        then = g.matrix @ (h.matrix @ x + h.translation) + g.translation
        np.testing.assert_allclose(product.matrix @ x + product.translation, then, atol=1e-14)
    assert (swap @ swap.inverse()).is_identity
    assert hash(turn) == hash(turn @ identity)
    assert turn == turn @ identity
    assert turn != shift
    assert turn != 1
    R[0] = 7  # a copy
    assert turn.matrix is not None
    assert turn.matrix[0, 0] != 7
    with pytest.raises(ValueError, match="one group on equal axes"):
        turn @ elements("SO(2)", "@keep", (2,))[0]
    with pytest.raises(TypeError):
        turn @ 2  # type: ignore[operator]
    flat = elements("S(nodes)", "nodes @keep", (4, 2))[1]
    assert flat.matrix is None
    assert flat.translation is None
    assert flat.lie_algebra() is None
    assert "x'[i] = x[p[i]]" in (Element.permutation.__doc__ or "")
    shifted = elements("T(1) @ width", "height width @keep", (4, 4, 2))
    assert {g.shift("width") for g in shifted} == {0.0, 1.0}
