"""Every kind of group on small networks: healthy ones, and the same with one mistake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import equicheck
from equicheck import SpecificationError

PLAN: dict[str, Any] = {"samples": 2, "transforms": 8}


def draw(*shape: int, count: int = 2, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Return random tensors."""
    random = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=random, dtype=torch.float64).to(dtype) for _ in range(count)]


def verdict(model: Any, inputs: Any, group: Any, in_layouts: Any, out_layouts: Any, **options: Any) -> equicheck.Report:
    return equicheck.audit(
        model, inputs, group=group, in_layouts=in_layouts, out_layouts=out_layouts, **(PLAN | options)
    )


# Images.


class RotationNetwork(nn.Module):
    """C4-equivariant: a lifting convolution, then one from regular features to regular features.

    Channels are field by field, four rotations each. ``bug`` leaves out one turn of the second kernel.
    """

    def __init__(self, fields: int = 2, bug: bool = False) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.bug = bug
        self.fields = fields
        self.lift = nn.Parameter(torch.randn(fields, 1, 3, 3, generator=random))
        self.mix = nn.Parameter(torch.randn(fields, fields, 4, 3, 3, generator=random) / 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        n = self.fields
        lifting = torch.stack([torch.rot90(self.lift, h, (-2, -1)) for h in range(4)], 1)
        x = nn.functional.conv2d(image, lifting.reshape(4 * n, 1, 3, 3), padding=1).tanh()
        turns = [0, 1, 2, 2] if self.bug else [0, 1, 2, 3]
        kernels = [torch.rot90(self.mix.roll(h, 2), turns[h], (-2, -1)) for h in range(4)]
        kernel = torch.stack(kernels, 1).reshape(4 * n, 4 * n, 3, 3)
        return nn.functional.conv2d(x, kernel, padding=1)


@pytest.mark.parametrize(("bug", "expected"), [(False, "PASS"), (True, "FAIL")])
def test_a_group_convolution(bug: bool, expected: str) -> None:
    report = verdict(
        RotationNetwork(bug=bug), draw(1, 1, 7, 7), "C4", "batch channel height width", "batch 2*regular height width"
    )
    assert report.verdict == expected


def test_the_order_of_regular_channels_matters() -> None:
    class Reversed(RotationNetwork):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image).unflatten(1, (2, 4)).flip(2).flatten(1, 2)

    layouts = ("batch channel height width", "batch 2*regular height width")
    assert verdict(Reversed(), draw(1, 1, 7, 7), "C4", *layouts).verdict == "FAIL"


def test_pooled_regular_channels() -> None:
    class Pooled(RotationNetwork):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image).mean((-2, -1))

    for bug, expected in ((False, "PASS"), (True, "FAIL")):
        report = verdict(Pooled(bug=bug), draw(1, 1, 7, 7), "C4", "batch channel height width", "batch 2*regular")
        assert report.verdict == expected


class Convolutions(nn.Module):
    """Two 3 x 3 convolutions, the first with a stride."""

    def __init__(self, padding: str, stride: int = 1) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first = nn.Conv2d(2, 4, 3, stride, padding=1, padding_mode=padding)
            self.second = nn.Conv2d(4, 2, 3, padding=1, padding_mode=padding)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(image).tanh())


@pytest.mark.parametrize(
    ("padding", "stride", "group", "expected"),
    [
        ("circular", 1, "T(2)", "PASS"),
        ("zeros", 1, "T(2)", "FAIL"),
        ("circular", 2, "2T(2)", "PASS"),
        ("zeros", 2, "2T(2)", "FAIL"),
    ],
)
def test_shifts_of_a_periodic_image(padding: str, stride: int, group: str, expected: str) -> None:
    layout = "batch channel height width"
    report = verdict(Convolutions(padding, stride), draw(1, 2, 8, 8), group, layout, layout, domain="periodic")
    assert report.verdict == expected
    grids = {"padding-boundary", "translation-leak"}
    fixes = [finding.fix for finding in report.findings if finding.mode in grids]
    assert all("circular" in fix and "coordinates" not in fix for fix in fixes), fixes
    assert bool(fixes) == (expected == "FAIL")


def test_a_stride_breaks_odd_shifts() -> None:
    def pooled(image: torch.Tensor) -> torch.Tensor:
        return Convolutions("circular", 2)(image).square().mean((-2, -1))

    for group, expected in (("2T(2)", "PASS"), ("T(2)", "FAIL")):
        report = verdict(
            pooled, draw(1, 2, 8, 8), group, "batch channel height width", "batch channel", domain="periodic"
        )
        assert report.verdict == expected


def test_shifts_along_one_axis() -> None:
    ramp = torch.linspace(0, 1, 6)
    layout = "height width"
    for factor, expected in ((ramp[:, None], "PASS"), (ramp, "FAIL")):
        report = verdict(
            lambda image, factor=factor: image * factor.to(image.dtype),
            draw(6, 6),
            "T(1) @ width",
            layout,
            layout,
            domain="periodic",
        )
        assert report.verdict == expected


def test_turns_between_pixels_are_never_a_pass_and_never_a_failure_by_themselves() -> None:
    layout = "channel height width"
    report = verdict(torch.tanh, draw(1, 11, 11), "SO(2)", layout, layout)
    assert report.verdict == "NEEDS_ATTENTION"


def test_coordinates_in_an_image_network() -> None:
    layout = "channel height width"
    ramp = torch.linspace(-2, 2, 11)
    report = verdict(lambda image: image + ramp.to(image.dtype), draw(1, 11, 11), "SO(2)", layout, layout)
    assert report.verdict == "FAIL"


# Space and time.


class Jets(nn.Module):
    """An invariant of particles from the pairs' products in a metric."""

    def __init__(self, metric: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("metric", torch.tensor(metric))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, momenta: torch.Tensor) -> torch.Tensor:
        products = (momenta * self.metric) @ momenta.T
        return self.net(products[..., None] / 8).mean((0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("time", "expected"), [(1.0, "PASS"), (-1.0, "FAIL")])
def test_lorentz_invariance(time: float, expected: str, dtype: torch.dtype) -> None:
    model = Jets([time, -1, -1, -1]).to(dtype)
    report = verdict(
        model, draw(5, 4, dtype=dtype), "SO+(1,3) x S(particles)", "particles vector", "channel", rapidity=1.0
    )
    assert report.verdict == expected


def test_a_gradient_is_a_covector() -> None:
    metric = torch.tensor([1.0, -1, -1, -1])

    def gradient(momenta: torch.Tensor) -> torch.Tensor:
        return 2 * momenta * metric.to(momenta.dtype)

    for word, expected in (("covector", "PASS"), ("vector", "FAIL")):
        report = verdict(gradient, draw(3, 4), "SO+(1,3)", "nodes vector", f"nodes {word}", rapidity=1.0)
        assert report.verdict == expected


def test_a_covector_pairs_with_a_vector_under_shears() -> None:
    # Its powers are no finite group.
    shears = [[[1, 0.25], [0, 1]]]
    inputs = [dict(zip("vw", pair, strict=True)) for pair in zip(draw(3, 2), draw(4, 2), strict=True)]
    for broken, expected in ((False, "PASS"), (True, "FAIL")):

        def model(v: torch.Tensor, w: torch.Tensor, broken: bool = broken) -> torch.Tensor:
            return (w @ (w if broken else v).T).tanh()

        layouts = {"v": "nodes vector", "w": "channel covector"}
        report = verdict(model, inputs, shears, layouts, "channel features")
        assert report.verdict == expected


@pytest.mark.parametrize(
    ("group", "weights", "expected"),
    [
        ("Oh", (1, 1, 1), "PASS"),
        ("Oh", (1, 1, 2), "FAIL"),
        ("D4 @ (0,0,1)", (1, 1, 2), "PASS"),
        ("D4 @ (0,0,1)", (1, 2, 1), "FAIL"),
        ("D4 @ (1,0,0)", (2, 1, 1), "PASS"),
        ("O(3)", (1, 1, 1), "FAIL"),
    ],
)
def test_point_groups_on_vectors(group: str, weights: tuple[int, int, int], expected: str) -> None:
    weight = torch.tensor(weights)
    report = verdict(lambda v: weight * v**3, draw(4, 3), group, "nodes vector", "nodes vector")
    assert report.verdict == expected


def frame(pair: torch.Tensor) -> torch.Tensor:
    """Return the right-handed orthonormal frame of two vectors, as columns."""
    a = pair[0] / pair[0].norm()
    b = pair[1] - (pair[1] @ a) * a
    b = b / b.norm()
    return torch.stack([a, b, torch.linalg.cross(a, b)], 1)


def quaternion(matrix: torch.Tensor) -> torch.Tensor:
    """Return a unit quaternion (w, x, y, z) of a rotation matrix: the best column of 4 q q^T."""
    trace = matrix.trace()
    part = matrix - matrix.T
    vector = torch.stack([part[2, 1], part[0, 2], part[1, 0]])
    corner = matrix + matrix.T + (1 - trace) * torch.eye(3, dtype=matrix.dtype)
    outer = torch.cat([torch.cat([(1 + trace)[None], vector])[None], torch.cat([vector[:, None], corner], 1)])
    column = outer[outer.diagonal().argmax()]
    return column / column.norm()


def test_an_orientation_as_a_quaternion() -> None:
    for inverse, expected in ((False, "PASS"), (True, "FAIL")):

        def model(pair: torch.Tensor, inverse: bool = inverse) -> torch.Tensor:
            turn = frame(pair)
            return quaternion(turn.T if inverse else turn)

        assert verdict(model, draw(2, 3), "SO(3)", "2 vector", "quaternion", transforms=16).verdict == expected


def principal_axis(x: torch.Tensor) -> torch.Tensor:
    """Return the direction in which the points spread most, its sign as it comes."""
    x = x - x.mean(0)
    return torch.linalg.eigh(x.T @ x).eigenvectors[:, -1]


#: A cloud much longer than wide: its axis is well defined.
CLOUDS = [cloud * torch.tensor([3.0, 1.0, 0.3]) for cloud in draw(7, 3)]


def test_a_sign_that_rounding_flips_is_no_noise() -> None:
    def axis(points: torch.Tensor) -> torch.Tensor:
        # The last bit of the first coordinate decides the sign.
        bit = points[0, 0].view(torch.int32 if points.dtype == torch.float32 else torch.int64) & 1
        return principal_axis(points) * (1 - 2 * bit)

    report = verdict(axis, CLOUDS, "O(3)", "nodes vector", "vector ~ sign")
    assert report.verdict == "PASS"
    assert report.outputs["output"].noise < 1e-4


@pytest.mark.parametrize("options", [{"out_layouts": "vector ~ sign"}, {"up_to": {"output": "sign"}}])
def test_an_eigenvector_up_to_its_sign(options: dict[str, Any]) -> None:
    group, layouts = "E(3) x S(nodes)", {"in_layouts": "nodes point", "out_layouts": "vector"} | options
    report = verdict(principal_axis, CLOUDS, group, **layouts)
    assert report.verdict == "PASS"
    assert report.outputs["output"].layout == "vector ~ sign"
    broken = verdict(lambda x: principal_axis(x).abs(), CLOUDS, group, **layouts)
    assert broken.verdict == "FAIL"


def test_an_eigenvector_without_that_clause_fails() -> None:
    report = verdict(principal_axis, CLOUDS, "E(3) x S(nodes)", "nodes point", "vector", transforms=16)
    assert report.verdict == "FAIL"


# Weights, signs, phases, permutations.

MODELS: dict[str, tuple[str, str, str, Callable[..., Any], Callable[..., Any], torch.dtype]] = {
    "an odd function": (
        "Z2",
        "channel sign",
        "channel sign",
        lambda x: x**3 - x,
        lambda x: x**3 - x.relu(),
        torch.float32,
    ),
    "an even function": ("Z2", "channel sign", "channel", torch.abs, torch.relu, torch.float32),
    "a phase": (
        "U(1)",
        "channel charge^1",
        "channel charge^1",
        lambda z: z * z.abs().tanh(),
        lambda z: torch.complex(z.real.tanh(), z.imag.tanh()),
        torch.complex64,
    ),
    "a doubled phase": (
        "U(1)",
        "channel charge^1",
        "channel charge^2",
        lambda z: z * z,
        lambda z: z * z.conj(),
        torch.complex64,
    ),
    "a square under dilations": (
        "Scale",
        "channel scale^1",
        "channel scale^2",
        torch.square,
        lambda x: x.abs() ** 1.5,
        torch.float32,
    ),
    "a cyclic permutation": (
        "generated(nodes: [1, 2, 3, 0])",
        "nodes channel",
        "nodes channel",
        lambda x: x.roll(1, 0).tanh() - 2 * x,
        lambda x: x.roll(1, 0).tanh() - 2 * x.flip(0),
        torch.float32,
    ),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_weights_signs_phases_and_permutations(name: str) -> None:
    group, in_layouts, out_layouts, healthy, broken, dtype = MODELS[name]
    inputs = draw(4, 3, dtype=dtype) if "nodes" in in_layouts else draw(4, dtype=dtype)
    if dtype.is_complex:
        inputs = [torch.complex(*(part.real for part in draw(4, dtype=dtype))) for _ in range(2)]
    assert verdict(healthy, inputs, group, in_layouts, out_layouts).verdict == "PASS"
    assert verdict(broken, inputs, group, in_layouts, out_layouts).verdict == "FAIL"


def test_a_representation_that_half_the_elements_leave_as_it_is() -> None:
    # Whatever is drawn first: a turn, which does not move the sign of the reflection, is no reason to call it vacuous.
    for seed in range(6):
        report = verdict(lambda x: 3 * x, draw(1, 3, count=1), "D4", "batch 3*irrep(1,0)", "batch 3*sign", seed=seed)
        assert report.verdict == "PASS"


# Options, and what other libraries' objects say.


def test_words_and_numbers_out_of_range() -> None:
    def audit(**options: Any) -> None:
        verdict(torch.tanh, draw(6, 6), "T(2)", "height width", "height width", **options)

    with pytest.raises(SpecificationError, match=r"`domain`"):
        audit()
    with pytest.raises(SpecificationError, match="did you mean `periodic`"):
        audit(domain="periodical")
    with pytest.raises(SpecificationError, match="did you mean `bicubic`"):
        audit(domain="periodic", interpolation="bicubik")
    with pytest.raises(SpecificationError, match="`domain`: expected a word, not 3"):
        audit(domain=3)
    for rapidity in (0.0, 9.0, float("nan")):
        with pytest.raises(SpecificationError, match="`rapidity`: a number above 0 and up to 5"):
            audit(domain="periodic", rapidity=rapidity)


def test_rapidity_is_that_of_the_boosts() -> None:
    seen: list[float] = []

    def energies(momenta: torch.Tensor) -> torch.Tensor:
        seen.append(float(momenta.abs().max()))
        return (momenta * momenta.new_tensor([1.0, -1, -1, -1]) * momenta).sum(-1)

    rest = torch.tensor([[1.0, 0, 0, 0], [2.0, 0, 0, 0]])
    largest = {}
    for rapidity in (0.5, 2.0):
        seen.clear()
        verdict(energies, rest, "SO+(1,3)", "nodes vector", "nodes", rapidity=rapidity, transforms=20)
        largest[rapidity] = max(seen)
    # A particle at rest gets the energy m cosh(rapidity).
    assert 2 < largest[0.5] <= 2 * np.cosh(0.5) * (1 + 1e-6) < largest[2.0]


def test_up_to_names_an_output() -> None:
    def audit(up_to: Any, out_layouts: str = "vector") -> None:
        verdict(principal_axis, CLOUDS, "E(3)", "nodes point", out_layouts, up_to=up_to)

    with pytest.raises(SpecificationError, match="no output `axis` has a layout; outputs: output"):
        audit({"axis": "sign"})
    with pytest.raises(SpecificationError, match="`~ sign`, `~ phase` and `~ S\\(axis\\)` are"):
        audit({"output": "scale"})
    with pytest.raises(SpecificationError, match="says it already"):
        audit({"output": "sign"}, "vector ~ sign")
    with pytest.raises(SpecificationError, match="expected a dict"):
        audit("sign")


def test_generators_of_any_array_type() -> None:
    quarter = [[0, -1], [1, 0]]
    groups = [[quarter], [np.array(quarter)], [torch.tensor(quarter, dtype=torch.float32, requires_grad=True)]]
    texts = {verdict(lambda v: 2 * v, draw(3, 2), group, "nodes vector", "nodes vector").group for group in groups}
    assert texts == {"generated([[0, -1], [1, 0]])"}


def test_generators_keep_their_last_bit() -> None:
    c, s = float(np.cos(2 * np.pi / 5)), float(np.sin(2 * np.pi / 5))
    report = verdict(lambda v: 2 * v, draw(3, 2), [[[c, -s], [s, c]]], "nodes vector", "nodes vector")
    assert report.group == f"generated([[{c!r}, {-s!r}], [{s!r}, {c!r}]])"


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ([], "the list of generators is empty"),
        ([[1, 0, 2]], "permutations name their axis"),
        ([[[1, 0]]], r"not of shape \(1, 2\)"),
        ([[[1, float("nan")], [0, 1]]], "finite numbers"),
        (["C4"], "a group in words is one string"),
        ([[["a"]]], "expected a square matrix"),
    ],
)
def test_generators_that_are_none(group: Any, message: str) -> None:
    with pytest.raises(SpecificationError, match=message):
        verdict(torch.tanh, draw(3, 2), group, "nodes vector", "nodes vector")


class Named:
    """Stands for an object of escnn's with a name."""

    def __init__(self, name: str) -> None:
        self.name = name


class GSpace:
    def __init__(self, dimensionality: int, continuous: bool = False) -> None:
        self.dimensionality = dimensionality
        self.fibergroup = type("Group", (), {"continuous": continuous, "__str__": lambda self: "SO(2)"})()


class FieldType:
    """What equicheck reads of escnn's ``FieldType``."""

    def __init__(self, *names: str, dimensionality: int = 2, continuous: bool = False) -> None:
        self.representations = [Named(name) for name in names]
        self.gspace = GSpace(dimensionality, continuous)


def test_field_types() -> None:
    inputs = draw(1, 1, 7, 7)
    model = RotationNetwork()
    report = verdict(model, inputs, "C4", FieldType("irrep_0"), FieldType("regular", "regular"))
    assert report.verdict == "PASS"
    assert report.outputs["output"].layout == "batch 2*regular height width"
    broken = verdict(RotationNetwork(bug=True), inputs, "C4", FieldType("irrep_0"), FieldType("regular", "regular"))
    assert broken.verdict == "FAIL"


@pytest.mark.parametrize(
    ("group", "field_type", "shape", "words"),
    [
        ("C4", FieldType("irrep_0", "irrep_1", "irrep_1", "quotient[2]"), (1, 7, 9, 9), "irrep(1)"),
        ("D4", FieldType("irrep_0,0", "irrep_1,1", "quotient[(0, 2)]"), (1, 5, 9, 9), "irrep(1,1)"),
        ("D4", FieldType("quotient[(None, 2)]"), (1, 4, 9, 9), "quotient(C2)"),
        ("C4", FieldType("regular", dimensionality=0), (1, 4), "regular"),
    ],
)
def test_names_of_representations(group: str, field_type: FieldType, shape: tuple[int, ...], words: str) -> None:
    assert words in equicheck.describe(group, field_type, shape)


@pytest.mark.parametrize(
    ("field_type", "message"),
    [
        (FieldType("irrep_0|irrep_1"), r"layout of the input: field type: the representation `irrep_0\|irrep_1`"),
        (FieldType("regular", continuous=True), r"`SO\(2\)` is continuous"),
        (FieldType(), "it holds no representation"),
        (FieldType("regular", dimensionality=4), "dimension 4"),
    ],
)
def test_field_types_without_a_layout(field_type: FieldType, message: str) -> None:
    with pytest.raises(SpecificationError, match=message):
        verdict(RotationNetwork(), draw(1, 1, 7, 7), "C4", field_type, "batch 2*regular height width")


def test_describe() -> None:
    text = equicheck.describe("E(3) x S(nodes)", "nodes point", (5, 3))
    assert text == "axis 0 permuted with `nodes`; axis 1 turned and translated as a point (g v + t)"
    with pytest.raises(SpecificationError, match="does not fit shape"):
        equicheck.describe("E(3)", "nodes point", (5,))
    with pytest.raises(SpecificationError, match="expected a string, not int"):
        equicheck.describe("E(3)", 3, (5,))


@pytest.mark.parametrize("group", [None, 3, b"SO(3)"])
def test_a_group_of_another_type_is_an_error(group: Any) -> None:
    with pytest.raises(equicheck.SpecificationError, match="group: expected a string such as"):
        equicheck.audit(torch.tanh, torch.randn(3), group=group, in_layouts="vector", out_layouts="vector")


def test_an_output_in_steps_is_not_vacuous_because_one_sample_does_not_change() -> None:
    samples = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (5, 6, 7, 8, 9)]
    options: dict[str, Any] = {"group": "O(3) x S(nodes)", "in_layouts": "nodes vector", "out_layouts": ": nodes"}
    report = equicheck.audit(lambda x: x.norm(dim=-1).argmax(), samples, **options, transforms=8)
    assert report.verdict == "PASS", report
    constant = equicheck.audit(lambda x: torch.tensor(0), samples, **options, transforms=8)
    assert constant.verdict != "PASS"
