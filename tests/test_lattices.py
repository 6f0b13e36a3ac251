"""Crystals, and outputs that are defined up to a phase or to the order of their rows, on small networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import equicheck
from audits import modes
from equicheck import SpecificationError

TAU = 2 * torch.pi
CRYSTAL = {"frac": "nodes fractional(cell)", "cell": "3 vector"}
ATOMS = {"pos": "nodes point mod cell", "cell": "3 vector"}


def crystal(seed: int, nodes: int = 6) -> dict[str, torch.Tensor]:
    """Return fractional coordinates and a skewed cell."""
    random = torch.Generator().manual_seed(seed)
    return {
        "frac": torch.rand(nodes, 3, generator=random),
        "cell": 4 * torch.eye(3) + torch.randn(3, 3, generator=random),
    }


def atoms(seed: int, nodes: int = 6) -> dict[str, torch.Tensor]:
    """Return the same crystal by Cartesian coordinates, some of them in other cells."""
    own = crystal(seed, nodes)
    random = torch.Generator().manual_seed(seed + 100)
    images = torch.randint(-1, 2, (nodes, 3), generator=random)
    return {"pos": (own["frac"] + images) @ own["cell"], "cell": own["cell"]}


class Denoiser(nn.Module):
    """A step of a crystal's fractional coordinates, wrapped into the cell, from differences and the cell's metric."""

    def __init__(self, bug: str = "") -> None:
        super().__init__()
        self.bug = bug
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.weight = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 1))

    def step(self, frac: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        """Return the step alone."""
        pair = TAU * (frac[None] - frac[:, None])
        # The metric of the lattice does not turn; its vectors as columns would.
        metric = cell.mT @ cell if self.bug == "transposed" else cell @ cell.mT
        chord = 1 - pair.cos()
        features = torch.cat([((chord @ metric) * chord).sum(-1, keepdim=True) / 50, pair.cos()], -1)
        if self.bug == "absolute":
            features = features + (TAU * frac).sin()[:, None, :1]
        step = (self.weight(features) * pair.sin()).mean(1)
        return step + 0.1 * frac.square() if self.bug == "leak" else step

    def forward(self, frac: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        return (frac + self.step(frac, cell)) % 1.0


class Mover(Denoiser):
    """The same for Cartesian coordinates, wrapped into a cell."""

    def forward(self, pos: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        frac = pos @ cell.inverse()
        frac = frac + self.step(frac, cell)
        if self.bug == "unwrapped":
            return frac @ cell
        if self.bug == "another cell":  # of the same lattice
            cell = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, -2, 1]], dtype=cell.dtype) @ cell
            frac = frac @ torch.tensor([[1.0, 0, 0], [-1, 1, 0], [-2, 2, 1]], dtype=cell.dtype)
        if self.bug == "box":
            return (frac @ cell) % cell.diagonal()
        return (frac % 1.0) @ cell


def audit(model: Any, inputs: Any, group: str, in_layouts: Any, out_layouts: Any, **options: Any) -> equicheck.Report:
    options = {"transforms": 12} | options
    return equicheck.audit(model, inputs, group=group, in_layouts=in_layouts, out_layouts=out_layouts, **options)


@pytest.mark.parametrize("group", ["T(3)", "SE(3)", "E(3) x S(nodes)"])
@pytest.mark.parametrize("bug", ["", "transposed", "absolute", "leak"])
def test_a_denoiser_of_fractional_coordinates(bug: str, group: str) -> None:
    report = audit(Denoiser(bug), [crystal(seed) for seed in range(3)], group, CRYSTAL, "nodes fractional(cell)")
    # Translations do not see whether the cell turns.
    expected = "FAIL" if bug in ("absolute", "leak") or (bug and group != "T(3)") else "PASS"
    assert report.verdict == expected, report.outputs["output"].reason
    if bug in ("absolute", "leak"):
        assert "translation-leak" in modes(report)


def test_what_is_wrapped_is_not_compared_without_the_clause() -> None:
    report = audit(Denoiser(), [crystal(seed) for seed in range(3)], "T(3)", CRYSTAL, "nodes vector")
    assert report.verdict == "FAIL"


@pytest.mark.parametrize("group", ["T(3)", "SE(3) x S(nodes)"])
@pytest.mark.parametrize("bug", ["", "unwrapped", "another cell", "box", "leak"])
def test_points_modulo_the_lattice(bug: str, group: str) -> None:
    report = audit(Mover(bug), [atoms(seed) for seed in range(3)], group, ATOMS, "nodes point mod cell")
    expected = "FAIL" if bug in ("box", "leak") else "PASS"
    assert report.verdict == expected, report.outputs["output"].reason
    assert report.outputs["output"].layout == "nodes point mod cell"


def test_a_wrapped_output_is_no_point() -> None:
    report = audit(Mover(), [atoms(seed) for seed in range(3)], "SE(3)", ATOMS, "nodes point")
    assert report.verdict == "FAIL"


def test_fractional_coordinates_on_the_edge_are_no_noise() -> None:
    """Rounding throws them to the other side."""
    sample = crystal(1)
    sample["frac"][:3] = torch.tensor([0.0, 1 - 2**-24, 0.5])
    out = "nodes fractional(cell)"
    report = audit(lambda frac, cell: frac.flip(0) % 1.0, [sample, crystal(2)], "T(3)", CRYSTAL, out)
    assert report.verdict == "PASS", report.outputs["output"].reason
    assert report.outputs["output"].noise < 1e-5
    assert not modes(report)


@pytest.mark.parametrize("group", ["T(3)", "O(3)"])
def test_points_on_the_edge_of_the_cell_are_no_noise(group: str) -> None:
    """Turned, too: there the edge is that of the turned cell."""
    sample = crystal(1)
    sample["frac"][:2] = torch.tensor([0.0, 0.0, 0.5])
    sample = {"pos": sample["frac"] @ sample["cell"], "cell": sample["cell"]}

    def wrapped(pos: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        return ((pos @ cell.inverse()).flip(0) % 1.0) @ cell

    report = audit(wrapped, [sample, atoms(2)], group, ATOMS, "nodes point mod cell")
    assert report.verdict == "PASS", report.outputs["output"].reason
    assert report.outputs["output"].noise < 1e-5
    assert not modes(report)


def test_the_scale_of_translations_is_that_of_the_points() -> None:
    """Ten times the cell, ten times the way, whatever the fractional coordinates."""
    scales = []
    for size in (1.0, 10.0):
        samples = [crystal(seed) for seed in range(3)]
        for sample in samples:
            sample["cell"] = size * sample["cell"]
        report = audit(lambda frac, cell: frac, samples, "T(3)", CRYSTAL, "nodes fractional(cell)")
        scales.append(report.plan["translation_scale"])
    assert 9.99 < scales[1] / scales[0] < 10.01
    assert 0.5 < scales[0] < 4


def test_batches_of_structures() -> None:
    class Batched(nn.Module):
        def __init__(self, bug: bool = False) -> None:
            super().__init__()
            self.bug = bug
            self.inner = Denoiser()

        def forward(self, frac: torch.Tensor, cell: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
            cells = cell[:1].expand_as(cell) if self.bug else cell
            result = torch.zeros_like(frac)
            for k in range(len(cell)):
                result[batch == k] = self.inner(frac[batch == k], cells[k])
            return result

    def sample(seed: int) -> dict[str, torch.Tensor]:
        first, second = crystal(seed, 4), crystal(seed + 50, 5)
        order = torch.tensor([0, 4, 1, 5, 6, 2, 7, 3, 8])
        return {
            "frac": torch.cat([first["frac"], second["frac"]])[order],
            "cell": torch.stack([first["cell"], second["cell"]]),
            "batch": torch.tensor([0] * 4 + [1] * 5)[order],
        }

    inputs = [sample(seed) for seed in range(3)]
    layouts = {"frac": "nodes fractional(cell)", "cell": "graphs 3 vector", "batch": "nodes"}
    group, out = "SE(3) x S(nodes)", "nodes fractional(cell)"
    report = audit(Batched(), inputs, group, layouts, out, segments={"nodes": "batch"})
    assert report.verdict == "PASS", report.outputs["output"].reason
    with pytest.raises(SpecificationError, match=r"holds 2 cells, and nothing says which.*one structure per sample"):
        audit(Batched(), inputs, group, layouts, out)
    # Padded batches: the layouts share an axis.
    dense = [
        {name: torch.stack([crystal(seed)[name], crystal(seed + 50)[name]]) for name in ("frac", "cell")}
        for seed in range(3)
    ]

    def stacked(frac: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        inner = Denoiser().to(frac.dtype)
        return torch.stack([inner(f, c) for f, c in zip(frac, cell, strict=True)])

    layouts = {"frac": "batch nodes fractional(cell)", "cell": "batch 3 vector"}
    assert audit(stacked, dense, "SE(3)", layouts, "batch nodes fractional(cell)").verdict == "PASS"
    swapped: Callable[..., torch.Tensor] = lambda frac, cell: stacked(frac, cell.flip(0)) + frac.square()  # noqa: E731
    assert audit(swapped, dense, "SE(3)", layouts, "batch nodes fractional(cell)").verdict == "FAIL"


def test_cells_that_hold_no_lattice() -> None:
    def refused(cell: Any, group: str = "SE(3)", layout: str | None = "3 vector") -> str:
        sample = crystal(0) | {"cell": cell}
        layouts = {"frac": "nodes fractional(cell)", "cell": layout}
        with pytest.raises(SpecificationError) as caught:
            audit(lambda frac, cell: (frac @ cell.inverse()) % 1, sample, group, layouts, "nodes fractional(cell)")
        return str(caught.value)

    assert "the cell is singular" in refused(torch.ones(3, 3))
    assert "the cell is not finite" in refused(torch.full((3, 3), torch.nan))
    assert "shape (n, n)" in refused(torch.ones(3), "T(3)", None)
    assert "write `3 vector`" in refused(torch.eye(3), layout="3 3")
    assert "write `3 vector`" in refused(torch.eye(3), layout=None)
    assert "lattice vectors are real" in refused(torch.eye(3) + 0j)
    assert "the cell is 2 x 2, and `T(3)` acts in dimension 3" in refused(torch.eye(2), "T(3)", None)


def test_a_lattice_that_is_no_input() -> None:
    def refused(layouts: Any, out_layouts: str = "nodes") -> str:
        with pytest.raises(SpecificationError) as caught:
            audit(lambda frac, cell: frac, crystal(0), "T(3)", layouts, out_layouts)
        return str(caught.value)

    assert "did you mean `cell`?" in refused({"frac": "nodes fractional(cel)", "cell": None})
    assert "layout of output `output`: no input `box`" in refused(CRYSTAL, "nodes point mod box")
    assert "inputs: frac, cell" in refused(CRYSTAL, "nodes point mod box")


def test_names_with_dots_and_objects() -> None:
    def model(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return Denoiser().to(batch["frac"].dtype)(batch["frac"], batch["cell"])

    layouts = {"batch": {"frac": "nodes fractional(batch.cell)", "cell": "3 vector"}}
    inputs = [{"batch": crystal(seed)} for seed in range(3)]
    report = audit(model, inputs, "SE(3)", layouts, "nodes fractional(batch.cell)")
    assert report.verdict == "PASS"


def test_plain_cells_are_not_asked_about() -> None:
    layouts = {"frac": "nodes fractional(cell)", "cell": "3 3"}
    report = audit(Denoiser(), [crystal(seed) for seed in range(3)], "T(3)", layouts, "nodes fractional(cell)")
    assert report.verdict == "PASS"
    assert not any("did you mean `vector`" in note for note in report.notes)


def test_complex_coordinates_are_refused() -> None:
    with pytest.raises(SpecificationError, match="coordinates in a lattice are real"):
        audit(lambda frac, cell: frac + 0j, crystal(0), "T(3)", CRYSTAL, "nodes fractional(cell)")


# Phases.


def hermitian(seed: int, nodes: int = 5) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    matrix = torch.randn(nodes, nodes, generator=random) + 1j * torch.randn(nodes, nodes, generator=random)
    return matrix + matrix.mH


def ground_state(matrix: torch.Tensor) -> torch.Tensor:
    """Return an eigenvector with whatever phase LAPACK gives it, and one more that its first entry decides."""
    vector = torch.linalg.eigh(matrix).eigenvectors[:, 0]
    return vector * torch.exp(1j * 7 * matrix[0, -1].real)


@pytest.mark.parametrize("options", [{"out_layouts": "nodes ~ phase"}, {"up_to": {"output": "phase"}}])
def test_a_state_up_to_its_phase(options: dict[str, Any]) -> None:
    inputs = [hermitian(seed) for seed in range(3)]
    options = {"out_layouts": "nodes"} | options
    report = audit(ground_state, inputs, "S(nodes)", "nodes nodes", **options)
    assert report.verdict == "PASS", report.outputs["output"].reason
    assert report.outputs["output"].layout == "nodes ~ phase"
    broken = audit(lambda m: ground_state(m).real + 0j, inputs, "S(nodes)", "nodes nodes", **options)
    assert broken.verdict == "FAIL"
    strict = audit(ground_state, inputs, "S(nodes)", "nodes nodes", "nodes")
    assert strict.verdict == "FAIL"


@pytest.mark.parametrize("clause", ["sign", "phase"])
@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_the_notes_tell_the_chance_level(clause: str, size: int) -> None:
    """What is quoted is what random vectors are off by."""
    random = torch.Generator().manual_seed(2)

    def draw() -> torch.Tensor:
        return torch.view_as_complex(torch.randn(20000, size, 2, generator=random, dtype=torch.float64))

    u, v = draw(), draw()
    if clause == "sign":
        u, v = u.real, v.real
    u, v = u / u.norm(dim=-1, keepdim=True), v / v.norm(dim=-1, keepdim=True)
    overlap = (u.conj() * v).sum(-1)
    chance = (u - v * (overlap / overlap.abs()).conj()[:, None]).abs().square().sum(-1).mean().sqrt()
    inputs = [hermitian(seed, size) for seed in range(2)]
    model = ground_state if clause == "phase" else lambda m: torch.linalg.eigh(m.real + m.real.T).eigenvectors[:, 0]
    report = audit(model, inputs, "S(nodes)", "nodes nodes", f"nodes ~ {clause}")
    (note,) = [note for note in report.notes if "is compared up to" in note]
    assert ("parity" in note) == (clause == "sign")
    assert abs(float(note.split("off by ")[1].split(" ")[0]) - float(chance)) < 0.02, note


def test_a_phase_of_real_values_is_refused() -> None:
    with pytest.raises(SpecificationError, match="float32 values are not complex: write `~ sign`"):
        audit(lambda m: m.real.sum(0), hermitian(0), "S(nodes)", "nodes nodes", "nodes ~ phase")


def test_what_a_sign_or_phase_hides_is_vacuous() -> None:
    """Under the inversion alone an axis up to its sign stays what it is: nothing was tested."""
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randn(5, 3, generator=random) for _ in range(2)]
    report = audit(lambda v: v.sum(0), inputs, "Ci", "nodes vector", "vector ~ sign")
    assert report.verdict == "NEEDS_ATTENTION"
    assert "leaves the output as it is" in report.outputs["output"].reason
    assert audit(lambda v: v.sum(0), inputs, "Ci", "nodes vector", "vector").verdict == "PASS"


# Rows in no definite order.


def bonds(points: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return each node and its nearest neighbours, sorted by the nodes' numbers, and the vectors between them."""
    distance = (points[None] - points[:, None]).norm(dim=-1)
    near = distance.argsort(dim=1).argsort(dim=1)
    source, target = torch.nonzero((near > 0) & (near < 4), as_tuple=True)
    return {"index": torch.stack([source, target]), "vectors": points[target] - points[source]}


CLOUDS = [torch.randn(7, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
BONDS = {"index": "2 edges : nodes ~ S(edges)", "vectors": "edges vector ~ S(edges)"}


@pytest.mark.parametrize("written", ["layouts", "up_to"])
def test_edges_in_any_order(written: str) -> None:
    options: dict[str, Any] = {"out_layouts": BONDS}
    if written == "up_to":
        options["out_layouts"] = {name: text.split(" ~")[0] for name, text in BONDS.items()}
        options["up_to"] = dict.fromkeys(BONDS, "S(edges)")
    group = "E(3) x S(nodes)"
    report = audit(bonds, CLOUDS, group, "nodes point", **options)
    assert report.verdict == "PASS", report
    strict = {name: text.split(" ~")[0] for name, text in BONDS.items()}
    assert audit(bonds, CLOUDS, group, "nodes point", strict).verdict == "FAIL"


def test_one_wrong_edge_shows() -> None:
    def broken(points: torch.Tensor) -> dict[str, torch.Tensor]:
        found = bonds(points)
        return found | {"vectors": torch.cat([found["vectors"][:1].abs(), found["vectors"][1:]])}

    report = audit(broken, CLOUDS, "E(3) x S(nodes)", "nodes point", BONDS)
    assert report.outputs["index"].verdict == "PASS"
    assert report.outputs["vectors"].verdict == "FAIL"
    worst = report.outputs["vectors"].worst
    assert worst is not None
    assert "row" in worst["block"]


def test_both_ends_of_an_edge_go_together() -> None:
    def crossed(points: torch.Tensor) -> torch.Tensor:
        index = bonds(points)["index"]
        # The right ends, each with the wrong beginning.
        return torch.stack([index[0].sort().values, index[1][points[index[1], 0].argsort()]])

    report = audit(crossed, CLOUDS, "E(3) x S(nodes)", "nodes point", "2 edges : nodes ~ S(edges)")
    assert report.verdict == "FAIL"


def test_atoms_of_a_crystal_in_any_order() -> None:
    """Images and order are both left open, as where a structure is generated."""

    def generated(pos: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        moved = Mover().to(pos.dtype)(pos, cell)
        return moved[moved[:, 0].argsort()]

    layout = "bins! point mod cell ~ S(bins)"
    inputs = [atoms(seed) for seed in range(3)]
    assert audit(generated, inputs, "SE(3) x S(nodes)", ATOMS, layout).verdict == "PASS"
    leaking = lambda pos, cell: generated(pos, cell) + 0.1 * pos[0, 0]  # noqa: E731
    assert audit(leaking, inputs, "SE(3) x S(nodes)", ATOMS, layout).verdict == "FAIL"


class Energy(nn.Module):
    """A sum over pairs; ``images`` says whether each pair is taken at its nearest images."""

    def __init__(self, images: bool, fractional: bool) -> None:
        super().__init__()
        self.images, self.fractional = images, fractional

    def forward(self, pos: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        frac = pos if self.fractional else pos @ cell.inverse()
        between = frac[None] - frac[:, None]
        if self.images:
            # Within half the shortest height of the cell, the nearest image is the one of the rounded coordinates.
            between = between - between.round()
        length = (between @ cell).square().sum(-1)
        return torch.exp(-length / 2).sum()


@pytest.mark.parametrize("fractional", [True, False])
@pytest.mark.parametrize("images", [True, False])
def test_atoms_that_cross_the_border_of_the_cell_are_the_same_atoms(images: bool, fractional: bool) -> None:
    samples = [
        {"pos": torch.rand(6, 3, generator=torch.Generator().manual_seed(seed)), "cell": 12.0 * torch.eye(3)}
        for seed in range(2)
    ]
    if not fractional:
        samples = [sample | {"pos": sample["pos"] @ sample["cell"]} for sample in samples]
    layout = "nodes fractional(cell)" if fractional else "nodes point mod cell"
    report = audit(Energy(images, fractional), samples, "T(3)", {"pos": layout, "cell": "3 vector"}, "")
    assert report.verdict == ("PASS" if images else "FAIL"), report
    if not images:
        assert report.outputs["output"].worst["kind"] == "wrapped-translation"


def test_edges_that_are_given_keep_their_images() -> None:
    """The images that edges cross into are data: nothing moves them along with an atom that is wrapped."""

    def energy(frac: torch.Tensor, cell: torch.Tensor, edges: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        between = (frac[edges[1]] + images - frac[edges[0]]) @ cell
        return torch.exp(-between.square().sum(-1)).sum()

    sample = crystal(0) | {"edges": torch.randint(0, 6, (2, 12)), "images": torch.randint(-1, 2, (12, 3)).float()}
    layouts = CRYSTAL | {"edges": "2 edges! : nodes", "images": None}
    assert audit(energy, sample, "SE(3) x S(nodes)", layouts, "").verdict == "PASS"


@pytest.mark.parametrize("declared", [None, "...", "2 edges!"])
def test_edges_that_no_layout_describes_keep_their_images_too(declared: str | None) -> None:
    def energy(frac: torch.Tensor, cell: torch.Tensor, edges: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        between = (frac[edges[1]] + images - frac[edges[0]]) @ cell
        return torch.exp(-between.square().sum(-1)).sum()

    sample = crystal(0) | {"edges": torch.randint(0, 6, (2, 12)), "images": torch.randint(-1, 2, (12, 3)).float()}
    layouts = CRYSTAL | {"edges": declared, "images": None}
    assert audit(energy, sample, "SE(3)", layouts, "").verdict == "PASS"


def test_directions_that_do_not_repeat_are_the_model_s_word() -> None:
    """A slab: periodic along two of its vectors, as an input says that nothing transforms."""

    def energy(frac: torch.Tensor, cell: torch.Tensor, pbc: torch.Tensor) -> torch.Tensor:
        between = frac[None] - frac[:, None]
        between = torch.where(pbc, between - between.round(), between)
        return torch.exp(-(between @ cell).square().sum(-1) / 2).sum()

    sample = {"frac": torch.rand(6, 3), "cell": 12.0 * torch.eye(3), "pbc": torch.tensor([True, True, False])}
    assert audit(energy, sample, "T(3)", CRYSTAL | {"pbc": None}, "").verdict == "PASS"


def test_a_model_without_nearest_images_is_told_so() -> None:
    sample = {"pos": torch.rand(6, 3, generator=torch.Generator().manual_seed(0)), "cell": 12.0 * torch.eye(3)}
    report = audit(Energy(False, True), sample, "T(3)", {"pos": "nodes fractional(cell)", "cell": "3 vector"}, "")
    [finding] = [finding for finding in report.findings if finding.severity == "High"]
    assert finding.mode == "nearest-images"
    assert "nearest images" in finding.fix
