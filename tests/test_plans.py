"""Which pairs an audit evaluates: whole groups, shards, early ends, what is announced."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import equicheck
from audits import FEW, SPACE, audit_case, clouds, pull
from networks import CASES

CASE = next(case for case in CASES if case.name == "force_field")
XS = clouds(3)


def figures(report: equicheck.Report) -> dict[str, Any]:
    """Everything but what the shards did more often, calls, and what is asked of a broken model: there the first shard
    has its own pairs alone to go by."""
    record = json.loads(report.to_json())
    for key in ("calls", "calls_by_purpose"):
        del record["plan"][key]
    if record["verdict"] != "PASS":
        for key in ("inquiries", "findings", "recommendations", "quality"):
            del record[key]
    return record


@pytest.mark.parametrize("count", [2, 5])
def test_shards_merge_into_the_report_of_the_whole(count: int, tmp_path: Path) -> None:
    bug = CASE.bugs["reflected"] if "reflected" in CASE.bugs else next(iter(CASE.bugs.values()))
    for model in (None, bug.build(1e-3)):
        whole = audit_case(CASE, model, transforms=6)
        shards = [audit_case(CASE, model, transforms=6, shard=(i, count)) for i in range(count)]
        assert sum(shard.plan["pairs"] for shard in shards) == whole.plan["pairs"]
        assert figures(equicheck.merge(reversed(shards))) == figures(whole)
        paths = [tmp_path / f"{i}.json" for i in range(count)]
        for shard, path in zip(shards, paths, strict=True):
            shard.save(path)
        assert figures(equicheck.merge(paths)) == figures(whole)
        assert f"shard 1 of {count}" in shards[1].notes[0]


def test_what_cannot_be_merged_is_said() -> None:
    whole = equicheck.audit(pull, XS, **SPACE, **FEW)
    shards = [equicheck.audit(pull, XS, **SPACE, **FEW, shard=(i, 2)) for i in range(2)]
    other = equicheck.audit(pull, XS, **SPACE, **FEW, shard=(1, 2), seed=1)
    for reports, message in [
        ([], "there are no shards"),
        ([shards[0]], "shard 1 of 2 is missing"),
        ([shards[0], other], "the seed differs"),
        ([*shards, shards[0]], "shard 0 of 2 is given twice"),
        ([whole], "report 0 is of a whole audit"),
    ]:
        with pytest.raises(ValueError, match=message):
            equicheck.merge(reports)
    for wrong in [(2, 2), (-1, 2), (0, 0), 3, ("a", 2), (0, 1, 2)]:
        with pytest.raises(equicheck.SpecificationError, match="`shard`: expected"):
            equicheck.audit(pull, XS, **SPACE, shard=wrong)
    with pytest.raises(equicheck.SpecificationError, match="cannot know what the others find"):
        equicheck.audit(pull, XS, **SPACE, shard=(0, 2), early_stop=True)


def test_an_early_end_comes_when_the_answer_is_known() -> None:
    options: dict[str, Any] = {"group": "SO(3)", "in_layouts": "nodes vector", "out_layouts": "nodes vector"}

    def bent(x: torch.Tensor) -> torch.Tensor:
        return x + 0.1 * torch.tanh(x)

    healthy = equicheck.audit(pull, XS, **options, transforms=300, early_stop=True)
    assert healthy.verdict == "PASS"
    assert healthy.plan["stop"] == "early"
    assert healthy.plan["pairs"] < healthy.plan["planned_pairs"]
    row = healthy.outputs["output"].factors[0]
    assert row["bound"] == "confidence_sequence"
    assert row["share_bound"] <= 0.05
    broken = equicheck.audit(bent, XS, **options, transforms=300, early_stop=True)
    assert broken.verdict == "FAIL"
    assert broken.plan["stop"] == "early"
    assert broken.plan["pairs"] <= 150
    patient = equicheck.audit(pull, XS, **options, transforms=100)
    assert patient.plan["stop"] == "completed"
    assert patient.outputs["output"].factors[0]["bound"] == "clopper_pearson"


def turned(x: torch.Tensor) -> torch.Tensor:
    """Right under half turns only: a quarter turn takes the first channel elsewhere."""
    return x * (1 + 0.1 * torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize(("group", "order"), [("C4", 4), ("D6", 12), ("C4 x Z2", None)])
def test_every_element_of_a_small_group_is_tried_once(group: str, order: int | None) -> None:
    layout = "nodes! sign vector" if "Z2" in group else "nodes! vector"
    shape = (3, 2, 2) if "Z2" in group else (3, 2)
    xs = [torch.randn(shape, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    report = equicheck.audit(
        lambda x: x * x.square().sum((-1), keepdim=True), xs, group=group, in_layouts=layout, out_layouts=layout
    )
    rows = {row["factor"]: row for row in report.outputs["output"].factors}
    assert report.verdict == "PASS"
    if order is not None:
        assert rows["joint"]["pairs"] == order * len(xs)
    for name, row in rows.items():
        assert (row["bound"], row["share_bound"]) == ("exact", 0), name
    if group == "C4":
        report = equicheck.audit(turned, xs, group=group, in_layouts=layout, out_layouts=layout)
        row = report.outputs["output"].factors[0]
        # Wrong under the quarter turns, right under the identity and the half turn.
        assert (row["bound"], row["share_bound"], row["exceeding"]) == ("exact", 0.5, 4)
        assert "50 % of C4 violates, averaged over the samples" in " ".join(report.to_text().split())


def test_the_plan_is_announced_with_its_cost(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="equicheck"):
        report = equicheck.audit(pull, XS, **SPACE, **FEW)
    (message,) = caplog.messages
    assert message.startswith(f"{report.plan['planned_pairs']} pairs (sample, transformation) planned, about ")
    caplog.clear()
    equicheck.audit(pull, XS, **SPACE, **FEW)
    assert not caplog.messages


def test_the_worst_pair_can_be_replayed() -> None:
    def shifted(x: torch.Tensor) -> torch.Tensor:
        return pull(x) + torch.tensor([0.1, 0.0, 0.0])

    report = equicheck.audit(shifted, XS, **SPACE, **FEW)
    replay = report.replay()
    assert replay is not None
    (x,), (moved,) = ([torch.as_tensor(t) for t in replay[side].values()] for side in ("inputs", "transformed"))
    assert torch.equal(x, XS[replay["sample"]])
    returned = torch.as_tensor(replay["returned"])
    assert torch.equal(shifted(moved).double(), returned)
    worst = report.outputs["output"]
    error = (returned - torch.as_tensor(replay["expected"])).norm().item()
    assert error <= worst.max_absolute * (1 + 1e-12)
    # T' f(x): lengths of the vectors are kept, in whatever order.
    before = shifted(x).double().norm(dim=1).sort().values
    assert torch.allclose(torch.as_tensor(replay["expected"]).norm(dim=1).sort().values, before, atol=1e-6)
    assert isinstance(replay["element"], str)
    replay["expected"] += 1  # the caller's own
    assert equicheck.Report.from_json(report.to_json()).replay() is None
    with pytest.raises(ValueError, match="no output `energy` was audited; outputs: output"):
        report.replay("energy")


def test_a_model_that_raises_can_be_replayed_too() -> None:
    def fragile(x: torch.Tensor) -> torch.Tensor:
        if x[0, 0] < 0:
            raise RuntimeError("left of the origin")
        return pull(x)

    report = equicheck.audit(fragile, [x.abs() for x in XS], **SPACE, **FEW)
    replay = report.replay("output")
    assert report.verdict == "FAIL"
    assert replay is not None
    assert replay["returned"] is None


def test_errors_under_boosts_are_also_pulled_back() -> None:
    layouts: dict[str, Any] = {"in_layouts": "particles! vector", "out_layouts": "particles! vector"}
    momenta = [torch.randn(4, 4, generator=torch.Generator().manual_seed(k)).abs() for k in range(3)]
    fast = equicheck.audit(lambda p: p * 2 + 0.01, momenta, group="SO+(1,3)", **layouts, transforms=20)
    output = fast.outputs["output"]
    assert output.pulled_back is not None
    # A constant is stretched by T, and by its inverse when pulled back: neither is the other.
    assert output.pulled_back > 1e-3
    assert output.pulled_back != output.max_relative
    healthy = equicheck.audit(lambda p: p * 2, momenta, group="SO+(1,3)", **layouts, transforms=20)
    assert healthy.outputs["output"].pulled_back is not None
    assert healthy.outputs["output"].pulled_back < 1e-4
    assert "Max relative error pulled back by T'^-1" in healthy.to_text()
    assert equicheck.audit(pull, XS, **SPACE, **FEW).outputs["output"].pulled_back is None


def test_grids_may_end_in_different_ways() -> None:
    torch.manual_seed(0)
    circular = torch.nn.Conv1d(1, 2, 3, padding=1, padding_mode="circular")
    valid = torch.nn.Conv1d(1, 2, 3)

    def model(ring: torch.Tensor, line: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"ring": circular(ring), "line": torch.nn.functional.pad(valid(line), (1, 1))}

    inputs = {"ring": torch.randn(1, 1, 12), "line": torch.randn(1, 1, 12)}
    layouts: dict[str, Any] = {
        "in_layouts": dict.fromkeys(inputs, "batch channel length"),
        "out_layouts": dict.fromkeys(inputs, "batch channel length"),
    }
    options: dict[str, Any] = {"group": "T(1)", "transforms": 20, **layouts}
    right = equicheck.audit(model, inputs, domain={"ring": "periodic", "line": "open"}, **options)
    assert right.outputs["ring"].verdict == "PASS"
    assert "(periodic domain)" in right.transforms[0]["description"]
    assert "(open domain)" in right.transforms[1]["description"]
    wrong = equicheck.audit(model, inputs, domain={"ring": "periodic", "line": "periodic"}, **options)
    assert wrong.outputs["line"].verdict == "FAIL"
    with pytest.raises(equicheck.SpecificationError, match="no input or output `lime`"):
        equicheck.audit(model, inputs, domain={"lime": "open"}, **options)


def test_every_note_is_said_once() -> None:
    weight = torch.nn.Parameter(torch.tensor(2.0))
    report = equicheck.audit(lambda x: weight * pull(x), XS, **SPACE, **FEW)
    assert any("was not probed" in note for note in report.notes)
    assert len(set(report.notes)) == len(report.notes)
