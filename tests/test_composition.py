"""The composition of batches: entries alone, in another order, among others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import equicheck
from audits import audit_case, modes
from networks import Case, batches

KINDS = ("alone", "reordered", "other_neighbours")


def audit(case: Case, **options: Any) -> equicheck.Report:
    return audit_case(case, **({"samples": 3, "transforms": 6} | batches.options(case) | options))


def rows(report: equicheck.Report, output: str = "output") -> dict[str, dict[str, Any]]:
    assert report.composition["status"] == "ran", report.composition
    return {row["kind"]: row for row in report.composition["rows"] if row["output"] == output}


def entries(model: Any, x: Any, **options: Any) -> equicheck.Report:
    """Audit a model of batches of vectors."""
    plan = {"group": "O(3)", "in_layouts": "batch vector", "out_layouts": "batch vector", "transforms": 6}
    return equicheck.audit(model, x, **(plan | options))


def vectors(count: int = 3, batch: int = 4, width: int = 3) -> list[torch.Tensor]:
    return [torch.randn(batch, width, generator=torch.Generator().manual_seed(k)) for k in range(count)]


@pytest.mark.parametrize("precision", ["both", "as_is", "float64"])
@pytest.mark.parametrize("case", batches.HEALTHY.values(), ids=lambda case: case.name)
def test_entries_of_healthy_networks_do_not_see_each_other(case: Case, precision: str) -> None:
    report = audit(case, precision=precision)
    assert report.verdict == "PASS", report
    assert report.findings == []
    for output in report.outputs:
        found = rows(report, output)
        assert tuple(found) == KINDS
        assert all(row["outcome"] == "holds" and row["batches"] > 0 for row in found.values()), report
        assert all((row["max_relative_f64"] is None) == (precision == "as_is") for row in found.values())


@pytest.mark.parametrize("case", batches.MIXED.values(), ids=lambda case: case.name)
def test_entries_that_see_each_other_are_found(case: Case) -> None:
    report = audit(case)
    # The declared symmetry holds; only the composition tells.
    assert all(output.verdict == "PASS" for output in report.outputs.values()), report
    assert report.verdict == "NEEDS_ATTENTION"
    [finding] = report.findings
    assert (finding.mode, finding.severity) == ("batch-cross-talk", "Medium")
    output = next(iter(report.outputs))
    found = rows(report, output)
    assert found["alone"]["outcome"] == found["other_neighbours"]["outcome"] == "violated"
    # Statistics over the batch do not know its order.
    assert found["reordered"]["outcome"] == "holds"
    assert found["alone"]["max_relative_f64"] > 1e-2
    # Nodes that no mean over the batch reaches.
    if "displacement" in report.outputs:
        assert {row["outcome"] for row in rows(report, "displacement").values()} == {"holds"}


def test_a_place_in_the_batch_shows_when_it_is_reordered() -> None:
    class Place(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (1 + 0.1 * torch.arange(len(x)).to(x))[:, None]

    found = rows(entries(Place(), vectors()))
    assert found["reordered"]["outcome"] == "violated"


def test_a_small_dependence_is_no_rounding() -> None:
    class Leak(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (1 + 1e-6 * x.square().sum())

    report = entries(Leak(), vectors())
    assert rows(report)["alone"]["outcome"] == "violated"
    assert modes(report) == {"batch-cross-talk"}


def test_sums_in_another_order_are_no_cross_talk() -> None:
    """Kernels for one row and for many add up in different orders."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 512)).eval()
    x = [torch.randn(33, 4, 512)]
    layouts: dict[str, Any] = {"in_layouts": "batch nodes channel", "out_layouts": "batch nodes channel"}
    for precision in ("both", "as_is"):
        report = entries(model, x, group="S(nodes)", precision=precision, **layouts)
        assert report.findings == []
        assert rows(report)["alone"]["outcome"] == "holds", report


def test_in_train_mode_statistics_of_the_batch_are_meant() -> None:
    case = batches.HEALTHY["cnn"]
    report = audit(case, mode="train")
    [finding] = report.findings
    assert (finding.mode, finding.severity) == ("batch-norm", "Low")
    assert any("batch-cross-talk" in effect for effect in finding.effects)
    assert report.verdict == "PASS"


def test_samples_of_one_entry_are_joined() -> None:
    for running in (True, False):
        case = batches.image_case("single", batches.built(batches.CNN, running), batch=1)
        # A sample that has no other is joined with a changed copy of itself.
        for options in ({}, {"samples": 1}):
            assert rows(audit(case, **options))["alone"]["outcome"] == ("holds" if running else "violated")


def test_attention_over_the_wrong_axis_shows_on_one_sample_of_one_entry() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 6, 8)
    for batch_first in (True, False):
        attention = nn.MultiheadAttention(8, 2, batch_first=batch_first).eval()

        def model(x: torch.Tensor, attention: nn.MultiheadAttention = attention) -> torch.Tensor:
            return attention(x, x, x)[0]

        layouts: dict[str, Any] = {"in_layouts": "batch nodes channel", "out_layouts": "batch nodes channel"}
        report = entries(model, x, group="S(nodes)", **layouts)
        assert rows(report)["alone"]["outcome"] == ("holds" if batch_first else "violated"), report


def test_single_graphs_are_joined() -> None:
    for name, case in (batches.HEALTHY | batches.MIXED).items():
        if not name.endswith(("graph_network", "all_graphs")):
            continue
        samples = []
        for seed in range(2):
            inputs = case.inputs(seed)
            kept = inputs["batch"] == 0
            edges = (inputs["edges"] < int(kept.sum())).all(0)
            samples.append(
                {
                    "z": inputs["z"][kept],
                    "pos": inputs["pos"][kept],
                    "edges": inputs["edges"][:, edges],
                    "weight": inputs["weight"][edges],
                    "batch": inputs["batch"][kept],
                    "scale": inputs["scale"][:1],
                }
            )
        report = equicheck.audit(
            case.build(),
            samples,
            group=case.group,
            in_layouts=case.in_layouts,
            out_layouts=case.out_layouts,
            transforms=6,
            **batches.options(case),
        )
        expected = "holds" if name in batches.HEALTHY else "violated"
        assert rows(report, "energy")["alone"]["outcome"] == expected


def test_models_for_batches_alone_are_not_judged_alone() -> None:
    class AtLeastTwo(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) < 2:
                raise ValueError("expected more than one entry")
            return x * x.square().sum(-1, keepdim=True)

    report = entries(AtLeastTwo(), vectors())
    found = rows(report)
    assert found["alone"]["outcome"] == "not_judged"
    assert found["alone"]["reason"] == "the model raises: ValueError: expected more than one entry"
    assert found["reordered"]["outcome"] == found["other_neighbours"]["outcome"] == "holds"
    assert report.verdict == "PASS"


def test_sizes_that_are_fixed_elsewhere_are_not_judged() -> None:
    def model(x: torch.Tensor, batch: torch.Tensor, graphs: int) -> torch.Tensor:
        return torch.zeros(graphs).to(x).index_add(0, batch, x.square().sum(-1))

    batch = torch.tensor([0, 0, 1, 1])
    report = equicheck.audit(
        model,
        [equicheck.Args(x, batch, 2) for x in vectors(2)],
        group="O(3) x S(nodes)",
        in_layouts=("nodes vector", "nodes", None),
        out_layouts="graphs",
        segments={"nodes": "1"},
        transforms=6,
    )
    found = rows(report)
    assert found["alone"]["outcome"] == "not_judged"
    assert "shape [2]" in found["alone"]["reason"]
    assert found["reordered"]["outcome"] == "holds"
    assert report.verdict == "PASS"


def test_random_models_are_not_taken_for_mixing() -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (1 + 0.1 * torch.rand(len(x), 1, dtype=x.dtype))

    report = entries(Noisy(), vectors())
    assert "batch-cross-talk" not in modes(report), report


NOT_APPLICABLE = {
    "no axis": (
        {"in_layouts": "nodes vector", "out_layouts": "nodes vector"},
        "no input has a `batch` axis, and no `segments=` are given",
    ),
    "no output": (
        {"out_layouts": "... vector"},
        "no output has one entry per entry of `batch`",
    ),
}


@pytest.mark.parametrize("name", NOT_APPLICABLE)
def test_what_is_not_applicable_says_why(name: str) -> None:
    layouts, why = NOT_APPLICABLE[name]
    report = entries(lambda x: x * x.square().sum(-1, keepdim=True), vectors(), **layouts)
    assert report.composition == {"status": "not_run", "reason": f"not applicable: {why}"}


def test_an_input_that_might_belong_to_entries_is_in_the_way() -> None:
    def model(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x * weight[:, None]

    samples = [(x, torch.rand(4)) for x in vectors()]
    report = entries(model, samples, in_layouts=("batch vector", None))
    assert report.composition["status"] == "not_run"
    assert "the layout of input `1` does not say what its 4 entries are" in report.composition["reason"]
    report = entries(model, samples, in_layouts=("batch vector", "batch"))
    assert {row["outcome"] for row in rows(report).values()} == {"holds"}


def test_outputs_modulo_a_lattice_are_not_judged_in_the_wrong_cell() -> None:
    def model(x: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        return x + len(x) * torch.tensor([1.0, 0.0, 0.0])

    inputs = {"x": torch.rand(3, 4, 3), "cell": 5 * torch.eye(3).expand(3, 3, 3).contiguous()}
    report = equicheck.audit(
        model,
        inputs,
        group="T(3)",
        in_layouts={"x": "batch nodes! point mod cell", "cell": "batch 3 vector"},
        out_layouts="batch nodes! point mod cell",
        transforms=8,
    )
    rows = report.composition["rows"]
    assert rows
    assert not any(row["outcome"] == "holds" for row in rows)
