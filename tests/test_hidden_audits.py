"""Audits of networks that declare nothing: a sample of what ``hidden_audits.py`` and ``injections.py`` run in full."""

from __future__ import annotations

import pytest

import equicheck
from hidden_audits import audited, outcome
from hidden_networks import HEALTHY, network
from injections import injection
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
