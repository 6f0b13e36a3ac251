"""Several pairs in one call of the model: ``batch=``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import equicheck

CLOUDS: dict[str, Any] = {
    "group": "E(3) x S(nodes)",
    "in_layouts": "batch nodes point",
    "out_layouts": "batch nodes vector",
    "transforms": 12,
    "layers": False,
}


#: Entries by call, of all models: a model's own attributes are put back.
SIZES: list[int] = []


class Counted(nn.Module):
    """Tells the number of entries of each call."""

    def forward(self, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        SIZES.append(len(x))
        return self.of(x, *rest)

    def of(self, x: torch.Tensor, *rest: Any) -> torch.Tensor:
        raise NotImplementedError


class Forces(Counted):
    """[batch, nodes, 3] -> [batch, nodes, 3]; `bent` of them do not turn along."""

    def __init__(self, bent: float = 0.0) -> None:
        super().__init__()
        self.bent = bent
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.weight = nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, 1))

    def of(self, x: torch.Tensor, *_: Any) -> torch.Tensor:
        between = x[:, :, None] - x[:, None]
        forces = (between * self.weight(between.square().sum(-1, keepdim=True))).sum(2)
        return forces + self.bent * torch.tanh(forces)


class Images(Counted):
    """[batch, 2, height, width] -> [batch, 4] under quarter turns; with `skew` kernels that do not turn."""

    def __init__(self, skew: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            kernel = torch.randn(4, 2, 3, 3)
        turned = torch.stack([torch.rot90(kernel, k, (2, 3)) for k in range(4)]).mean(0)
        self.kernel = nn.Parameter(turned + skew * kernel)
        self.norm = nn.BatchNorm2d(4)

    def of(self, x: torch.Tensor, *_: Any) -> torch.Tensor:
        h = torch.relu(self.norm(nn.functional.conv2d(x, self.kernel, padding=1)))
        return h.square().mean((-1, -2))


IMAGES: dict[str, Any] = {
    "group": "C4",
    "in_layouts": "batch channel height width",
    "out_layouts": "batch channel",
    "layers": False,
}


def drawn(*shape: int, count: int = 3) -> list[torch.Tensor]:
    return [torch.randn(*shape, generator=torch.Generator().manual_seed(k)) for k in range(count)]


def clouds(count: int = 3, batch: int = 1) -> list[torch.Tensor]:
    return drawn(batch, 5, 3, count=count)


def vectors(model: Any, batch: int = 8, layout: str = "batch vector", **options: Any) -> equicheck.Report:
    plan: dict[str, Any] = {"in_layouts": layout, "out_layouts": "batch vector", "transforms": 12, "layers": False}
    return equicheck.audit(model, options.pop("inputs", drawn(2, 3)), group="O(3)", batch=batch, **(plan | options))


def answer(report: equicheck.Report) -> Any:
    """Return what must not depend on how the model is called."""
    outputs = {name: (output.classification, output.verdict) for name, output in report.outputs.items()}
    return report.verdict, outputs, [(f.mode, f.severity, f.location) for f in report.findings]


def remarks(report: equicheck.Report) -> list[str]:
    return [note for note in report.notes if note.startswith("batch=")]


def refused(report: equicheck.Report, why: str) -> None:
    """Assert that every pair was a call of its own, and that the report says why."""
    assert report.plan["calls_by_purpose"]["audit"] == report.plan["pairs"]
    assert "batch" not in report.plan
    [note] = remarks(report)
    assert note.startswith("batch=8 was not used, each pair is a call of its own: ")
    assert why in note
    assert " ".join(note.split()) in " ".join(report.to_text().split())


@pytest.mark.parametrize("precision", ["both", "as_is", "float64"])
@pytest.mark.parametrize(
    ("network", "bug", "inputs", "options"),
    [(Forces, 0.02, clouds(), CLOUDS), (Images, 0.1, drawn(1, 2, 8, 8, count=12), IMAGES)],
    ids=["forces", "images"],
)
def test_the_answer_does_not_depend_on_the_number_of_pairs_per_call(
    network: Any, bug: float, inputs: Any, options: dict[str, Any], precision: Any
) -> None:
    for model in (network(), network(bug)):
        model.eval()
        single = equicheck.audit(model, inputs, **options, precision=precision)
        SIZES.clear()
        shared = equicheck.audit(model, inputs, **options, precision=precision, batch=8)
        assert not remarks(shared), shared.notes
        assert answer(shared) == answer(single)
        assert shared.plan["batch"] == 8
        assert shared.plan["pairs"] == single.plan["pairs"]
        # Each probed sample's identity is alone.
        calls = shared.plan["calls_by_purpose"]
        assert calls["audit"] <= 3 + 2 + (single.plan["pairs"] - 3) / 8
        assert max(SIZES) == 8
        assert len(SIZES) == shared.plan["calls"]
        if precision == "both":
            assert calls["float64 audit"] == calls["audit"]
    assert shared.verdict != "PASS"
    worst, same = (r.outputs["output"].worst for r in (single, shared))
    assert worst is not None
    assert same is not None
    assert (worst["sample"], worst["index"]) == (same["sample"], same["index"])


def test_equal_plans_give_equal_reports() -> None:
    def audit(batch: int) -> str:
        record = json.loads(equicheck.audit(Forces(0.02), clouds(), **CLOUDS, batch=batch).to_json())
        record.pop("timings", None)
        return json.dumps(record)

    first = audit(6)
    assert audit(json.loads(first)["plan"]["batch"]) == first
    # The default is what it always was.
    assert "batch" not in json.loads(audit(1))["plan"]


def test_entries_that_see_each_other_share_no_call() -> None:
    images = drawn(2, 2, 8, 8)
    report = equicheck.audit(Images(), images, **IMAGES, mode="train", batch=8)
    refused(report, "entries of a batch influence each other in output `output`")
    healthy = equicheck.audit(Images().eval(), images, **IMAGES, batch=8)
    assert not remarks(healthy)

    class Normalised(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / x.square().mean().sqrt()

    refused(vectors(Normalised()), "entries of a batch influence each other in output `output`")


def test_a_batch_that_is_larger_than_what_was_compared_is_compared_too() -> None:
    def large(x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0) if len(x) > 8 else x

    report = vectors(large)
    refused(report, "in a call on several inputs output `output` differs from calls on one by")
    assert answer(report) == answer(vectors(large, batch=1))


def test_state_and_random_numbers_keep_calls_apart() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return x * (1 + 0.1 * self.calls)

    refused(vectors(Counting()), "the model keeps state between calls, which changes its outputs")

    def noisy(x: torch.Tensor) -> torch.Tensor:
        return x * (1 + 0.1 * torch.rand(len(x), 1))

    refused(vectors(noisy), "the model draws random numbers")


def test_layouts_say_where_entries_lie() -> None:
    def scaled(x: torch.Tensor) -> torch.Tensor:
        return x * x.square().sum(-1, keepdim=True)

    def mean(x: torch.Tensor) -> torch.Tensor:
        return x.mean(0)

    def along(x: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
        return x * (x @ axis)[:, None]

    refused(vectors(scaled, layout="entries! vector", out_layouts="entries! vector"), "no input has a `batch` axis")
    refused(vectors(mean, out_layouts="vector"), "output `output` has no axis that is `batch` alone")
    flat = {"layout": "(batch 2) vector", "out_layouts": "(batch 2) vector", "inputs": drawn(4, 3)}
    refused(vectors(scaled, **flat), "`batch` is no axis of its own in input `input`")
    pairs = [(x, torch.ones(3)) for x in drawn(2, 3)]
    refused(
        vectors(along, inputs=pairs, in_layouts=("batch vector", "vector")),
        "the group moves input `1`, which has no `batch` axis",
    )
    graphs = [{"x": x, "graph": torch.tensor([0, 0, 0, 1, 1])} for x in drawn(5, 3)]
    report = equicheck.audit(
        lambda x, graph: x * (1 + graph[:, None]),
        graphs,
        group="SO(3) x S(nodes)",
        in_layouts={"x": "nodes vector", "graph": "nodes"},
        out_layouts="nodes vector",
        segments={"nodes": "graph"},
        transforms=6,
        batch=8,
    )
    refused(report, "batches of graphs that `segments` describes are not put together")


def test_inputs_without_a_batch_axis_are_those_of_the_sample() -> None:
    class Weighted(Counted):
        def of(self, x: torch.Tensor, *rest: Any) -> torch.Tensor:
            return x * rest[0] * x.square().sum(-1, keepdim=True)

    for weights in ([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]):
        inputs = [(x, torch.tensor(w)) for x, w in zip(drawn(2, 3), weights, strict=True)]
        report = vectors(Weighted(), inputs=inputs, in_layouts=("batch vector", ""))
        assert report.verdict == "PASS", report
        assert not remarks(report)
        # Samples of one weight share calls, others do not.
        calls = report.plan["calls_by_purpose"]["audit"]
        full = 3 + -(-(report.plan["pairs"] - 3) // 8)
        assert (calls == full) == (len(set(weights)) == 1)


def test_arguments_that_are_no_tensors_must_be_equal() -> None:
    class Powers(Counted):
        def of(self, x: torch.Tensor, *rest: Any) -> torch.Tensor:
            return x * x.square().sum(-1, keepdim=True) ** rest[0]

    def calls(powers: list[int]) -> int:
        samples = [equicheck.Args(x, power) for x, power in zip(drawn(2, 3), powers, strict=True)]
        report = vectors(Powers(), inputs=samples, in_layouts=equicheck.Args("batch vector", None))
        assert report.verdict == "PASS", report
        assert not remarks(report)
        return int(report.plan["calls_by_purpose"]["audit"])

    assert calls([1, 1, 1]) < calls([1, 2, 3])


def test_calls_on_several_inputs_that_fail_are_said() -> None:
    def small(x: torch.Tensor) -> torch.Tensor:
        if len(x) > 8:
            raise ValueError("at most 8 entries")
        return x * x.square().sum(-1, keepdim=True)

    report = vectors(small)
    refused(report, "the model raises in a call on 8 inputs: ValueError: at most 8 entries")
    assert answer(report) == answer(vectors(small, batch=1))


def test_a_wrong_size_says_what_to_give() -> None:
    for wrong in (0, -1, 1.5, "many"):
        with pytest.raises(equicheck.SpecificationError, match="`batch`: expected a whole number of at least 1"):
            vectors(Forces(), batch=wrong)  # type: ignore[arg-type]


MODEL = """
import torch
from torch import nn


class Cubes(nn.Module):
    def forward(self, x):
        return x * x.square().sum(-1, keepdim=True)


def build(dtype):
    return Cubes().to(dtype)
"""

FILE = """
spec_version = 1
group = "O(3)"

[model]
python = "model:build"

[inputs.x]
layout = "batch vector"
generate = { kind = "normal", shape = [1, 3] }

[outputs]
output = "batch vector"

[run]
samples = 3
transforms = 12
batch = 4
"""


def test_the_command_takes_the_size_from_its_file_or_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "equicheck.toml").write_text(FILE)

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "equicheck", "audit", *arguments],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    done = command("--format", "json", "--output", "report.json", "--no-layers")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "report.json").read_text())["plan"]["batch"] == 4
    wrong = command("--batch", "0")
    assert wrong.returncode == 3
    assert "give the number of pairs per call, 1 or more, or `auto` to find it by timing" in wrong.stderr
    assert "batch=6 of them share a call" in " ".join(command("--plan", "--batch", "6").stdout.split())
