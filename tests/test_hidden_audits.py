"""Audits of networks that declare nothing: a sample of what ``hidden_audits.py`` and ``injections.py`` run in full."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import equicheck
from hidden_audits import audited, outcome
from hidden_networks import HEALTHY, network
from injections import Fault, inject, injection
from injections import outcome as score

#: Of each kind some, and the ones that lose symmetry in between.
SAMPLE = (
    "cancelling_offset", "gram_schmidt", "frame_averaging", "scalars_then_vectors", "line_graph", "gat",
    "spectral_signs", "patches", "c4_average", "c4_flattened", "four_vector_channels",
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.mark.parametrize("name", SAMPLE)
def test_of_a_healthy_network_no_break_is_named(name: str) -> None:
    entry = HEALTHY[name]
    report, _ = audited(entry.audited_model(), entry.audit_options(2))
    assert isinstance(report, equicheck.Report), report
    assert report.verdict == "PASS"
    assert report.layers["status"] == "ran"
    assert report.breaks == []


@pytest.mark.parametrize(
    ("family", "bug"),
    [
        ("channels", "leak"),
        ("flat", "nonlinearity"),
        ("gnn", "order"),
        ("set_transformer", "norm"),
        ("cnn", "padding"),
        ("c4", "kernel"),
        ("lorentz", "bias"),
    ],
)
def test_a_planted_bug_is_located(family: str, bug: str) -> None:
    model, options, expected = network(family, bug, 2, strength=0.1, samples=2)
    report, _ = audited(model, options)
    assert isinstance(report, equicheck.Report), report
    assert outcome(report, *expected) == "right"


def test_random_faults_are_located() -> None:
    found = []
    for number in range(10):
        made = injection(number)
        report, _ = audited(made.model, made.entry.audit_options(2))
        found.append((str(made), score(report, made) if isinstance(report, equicheck.Report) else report))
    # One of ten may lie in a basis of the network's own.
    assert sum(word == "right" for _, word in found) >= 9, found


@pytest.mark.parametrize(
    ("name", "path"),
    [
        # A stretched basis, its last module and one inside.
        ("skewed_basis", "back"),
        ("skewed_basis", "mixes.0"),
        # Symmetric matrices by their upper triangles.
        ("upper_triangles", "layers.1"),
        # Called on turned copies, which come in another order over T x.
        ("group_average", "net.local.1"),
        ("group_average", "net.local.2"),
    ],
)
def test_a_fault_behind_a_basis_of_the_networks_own_is_located(name: str, path: str) -> None:
    entry = HEALTHY[name]
    model = entry.audited_model()
    inject(model.get_submodule(path), 0, Fault("scale", 1.0, 1.0, -1, 3))
    report, _ = audited(model, entry.audit_options(2))
    assert isinstance(report, equicheck.Report), report
    assert [found.location for found in report.breaks] == [path]
    assert report.breaks[0].kind != "bracket"


def test_stretched_components_are_said_to_be() -> None:
    entry = HEALTHY["skewed_basis"]
    report, _ = audited(entry.audited_model(), entry.audit_options(2))
    assert isinstance(report, equicheck.Report), report
    rows = {row["location"]: row for row in report.layers["rows"]}
    assert rows["there"]["verdict"] == "anisotropic_basis"
    assert rows["there"]["outputs"][0]["layout"] == ["nodes axis1! basis#(vector)", "inferred"]
    # Upper triangles are written by the code of the root: the first module is given them.
    entry = HEALTHY["upper_triangles"]
    report, _ = audited(entry.audited_model(), entry.audit_options(2))
    assert isinstance(report, equicheck.Report), report
    rows = {row["location"]: row for row in report.layers["rows"]}
    assert rows["layers.0"]["outputs"][0]["layout"] == ["nodes axis1! basis#(scalar+1x2e)", "inferred"]
    assert rows["layers.0"]["verdict"] == "ok"


class Masked(nn.Module):
    def forward(self, scores: torch.Tensor, off: torch.Tensor) -> torch.Tensor:
        return scores.masked_fill(off, float("-inf"))


class MaskedAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mask = Masked()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        off = torch.eye(x.shape[-2], dtype=torch.bool)
        return torch.softmax(self.mask(-torch.cdist(x, x), off), -1) @ x


@pytest.mark.parametrize("nodes", [6, 20])
def test_infinities_of_a_mask_are_left_alone(nodes: int) -> None:
    layout = "batch nodes! vector"
    options = {"inputs": [torch.randn(2, nodes, 3)], "group": "O(3)", "in_layouts": layout, "out_layouts": layout}
    report, _ = audited(MaskedAttention(), options)
    assert isinstance(report, equicheck.Report), report
    assert report.verdict == "PASS"
    (row,) = report.layers["rows"]
    assert row["verdict"] == "not_known"


class TurnedCopies(nn.Module):
    """A plain network on images, averaged over quarter turns by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return sum(self.one(x.rot90(k, (-2, -1))).rot90(-k, (-2, -1)) for k in range(4))


def test_calls_on_turned_images_are_told_apart_by_place() -> None:
    torch.manual_seed(0)
    layout = "batch channel height width"
    options = {"inputs": [torch.randn(2, 1, 8, 8)], "group": "C4", "in_layouts": layout, "out_layouts": layout}
    report, _ = audited(TurnedCopies(), options)
    assert isinstance(report, equicheck.Report), report
    # Turned pixels hold the same numbers: only where they are says which call is which.
    assert {row["verdict"] for row in report.layers["rows"]} == {"not_moved"}
