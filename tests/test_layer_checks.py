"""What is looked at of a layer beside its activations: generic inputs, permutations, batches turned in part."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import equicheck

QUICK: dict[str, Any] = {"samples": 2, "transforms": 4}
VECTORS: dict[str, Any] = {"group": "O(3) x S(nodes)", "in_layouts": "nodes vector", "out_layouts": "nodes vector"}


def clouds(seed: int) -> torch.Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(seed))


class Outer(nn.Module):
    """One layer, and code before it."""

    def __init__(self, layer: nn.Module, before: Any = lambda x: x) -> None:
        super().__init__()
        self.layer = layer
        self.before = before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.before(x))


def looked(report: equicheck.Report, location: str = "layer") -> dict[str, Any]:
    assert report.layers["status"] == "ran", report.layers
    (row,) = [row for row in report.layers["rows"] if row["location"] == location]
    return dict(row)


def errors(row: dict[str, Any]) -> dict[str, float | None]:
    return {check["under"]: check["error"] for check in row["checks"]}


class ChannelLinear(nn.Module):
    """Vectors by channel [nodes, 2, 3] -> [nodes, 3]; ``skew`` is a weight that tells components apart."""

    def __init__(self, skew: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.7, -1.2]))
        self.skew = nn.Parameter(torch.tensor([0.0, 0.0, skew]))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nci,c->ni", v, self.weight) + self.skew * v[:, 1]


def with_an_empty_channel(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x, torch.zeros_like(x)], 1)


@pytest.mark.parametrize("skew", [0.0, 0.1])
def test_a_wrong_weight_behind_a_channel_that_is_zero_shows_on_generic_inputs(skew: float) -> None:
    report = equicheck.audit(
        Outer(ChannelLinear(skew), with_an_empty_channel),
        clouds,
        **VECTORS,
        hidden_layouts={"layer": {"in": "nodes channel vector"}},
        **QUICK,
    )
    row = looked(report)
    assert report.verdict == "PASS"
    assert report.first_break is None
    assert row["kind"] == "linear"
    assert row["verdict"] == "ok"
    assert row["own_error"] < 1e-14
    found = errors(row)
    assert set(found) == {"permutations", "generic_inputs"}
    assert found["permutations"] == 0.0
    assert found["generic_inputs"] is not None
    if skew == 0.0:
        assert found["generic_inputs"] < 1e-14
        assert row["note"] is None
    else:
        assert found["generic_inputs"] > 0.01
        assert row["note"].startswith("equivariant on these activations, not on generic inputs: error ")
        assert row["note"] in report.to_text()
    assert "weight sharing pattern" in report.to_text()
    assert "generic inputs" in report.to_text()


def test_where_generic_inputs_have_no_image_that_is_said() -> None:
    class LogNorm(nn.Module):
        def forward(self, r: torch.Tensor) -> torch.Tensor:
            return torch.log(r)

    report = equicheck.audit(
        Outer(LogNorm(), lambda x: x.norm(dim=-1)),
        clouds,
        group="O(3) x S(nodes)",
        in_layouts="nodes vector",
        out_layouts="nodes",
        hidden_layouts={"layer": {"in": "nodes"}},
        **QUICK,
    )
    row = looked(report)
    assert errors(row) == {"permutations": 0.0}, "nothing turns a scalar"
    assert row["note"] is None

    class Signed(LogNorm):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return v * (1 - v.square().sum(-1, keepdim=True)).sqrt()

    report = equicheck.audit(
        Outer(Signed(), lambda x: 0.99 * x / x.norm(dim=-1, keepdim=True)),
        clouds,
        **VECTORS,
        hidden_layouts={"layer": {"in": "nodes vector"}},
        **QUICK,
    )
    row = looked(report)
    assert report.verdict == "PASS"
    assert errors(row)["generic_inputs"] is None
    assert row["note"] == "could not be checked on generic inputs"


class Attention(nn.Module):
    """Nodes attend to each other; a ``bias`` by position tells them apart."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.query, self.key, self.value = (nn.Linear(4, 4) for _ in range(3))
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).T / 2 + self.bias * torch.arange(len(x), dtype=x.dtype)
        return torch.softmax(scores, -1) @ self.value(x)


class Pool(nn.Module):
    """The mean over nodes, or the first of them."""

    def __init__(self, bug: bool) -> None:
        super().__init__()
        self.bug = bug

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[0] if self.bug else x.mean(0)


def features(seed: int) -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bug", [False, True])
@pytest.mark.parametrize(
    ("build", "output", "kind"), [(Attention, "nodes channel", "attention"), (Pool, "channel", "pooling")]
)
def test_attention_and_pooling_are_looked_at_under_permutations(build: Any, output: str, kind: str, bug: bool) -> None:
    report = equicheck.audit(
        Outer(build(bug)), features, group="S(nodes)", in_layouts="nodes channel", out_layouts=output, **QUICK
    )
    row = looked(report)
    assert row["kind"] == kind
    found = errors(row)["permutations"]
    assert found is not None
    assert row["own_error"] == found
    if bug:
        assert found > 0.01
        assert report.first_break is not None
        assert report.first_break.location == "layer"
    else:
        assert found < 1e-14
        assert row["verdict"] == "ok"


def test_a_layer_that_is_not_equivariant_under_permutations_alone_is_restored_later() -> None:
    class Ramp(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.arange(len(x), dtype=x.dtype)[:, None]

    class Cancels(Outer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) - torch.arange(len(x), dtype=x.dtype)[:, None]

    report = equicheck.audit(
        Cancels(Ramp()),
        features,
        group="S(nodes)",
        in_layouts="nodes channel",
        out_layouts="nodes channel",
        hidden_layouts={"layer": "nodes channel"},
        **QUICK,
    )
    assert report.first_break is None
    assert looked(report)["verdict"] == "restored_later"


class CentredNorm(nn.Module):
    """Over the batch: each vector's length by the usual one; with ``bug``, its distance from the mean vector."""

    def __init__(self, bug: bool) -> None:
        super().__init__()
        self.bug = bug

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        away = v - v.mean(0, keepdim=True) if self.bug else v
        return away / away.square().sum(-1, keepdim=True).mean(0, keepdim=True).sqrt()


@pytest.mark.parametrize("bug", [False, True])
def test_a_normalisation_over_a_batch_takes_invariant_statistics(bug: bool) -> None:
    report = equicheck.audit(
        Outer(CentredNorm(bug)), clouds, group="O(3)", in_layouts="batch vector", out_layouts="batch vector", **QUICK
    )
    row = looked(report)
    assert row["kind"] == "normalisation"
    assert row["own_error"] < 1e-14, "turned together, the mean turns along"
    found = errors(row)["entries_turned_apart"]
    assert found is not None
    assert row["verdict"] == "ok"
    if bug:
        assert found > 0.01
        assert row["note"].startswith("mixes entries of the batch, which turn each other: error ")
    else:
        assert found < 1e-14
        assert row["note"] is None


def test_batch_statistics_of_vector_components_break() -> None:
    report = equicheck.audit(
        Outer(nn.BatchNorm1d(3)),
        clouds,
        group="O(3)",
        in_layouts="batch vector",
        out_layouts="batch vector",
        mode="train",
        **QUICK,
    )
    row = looked(report)
    assert row["kind"] == "normalisation"
    assert row["own_error"] > 0.01
    assert row["verdict"] == "breaks"
    assert report.first_break is not None
    assert report.first_break.location == "layer"


def test_generic_inputs_that_rounding_reaches_further_on_are_judged_by_it() -> None:
    class Ripple(nn.Module):
        """Smooth at length 1, and rough elsewhere."""

        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return v * (1 + torch.sin(1e6 * (v.square().sum(-1, keepdim=True) - 1).square()))

    report = equicheck.audit(
        Outer(Ripple(), lambda x: x / x.norm(dim=-1, keepdim=True)),
        clouds,
        **VECTORS,
        hidden_layouts={"layer": {"in": "nodes vector"}},
        **QUICK,
    )
    row = looked(report)
    found = errors(row)["generic_inputs"]
    assert found is not None
    assert found > 1e-13, "far beyond the rounding of its activations"
    assert row["note"] is None


def test_components_that_happen_to_be_zero_stay_so_among_generic_inputs() -> None:
    class Takes(nn.Module):
        def forward(self, v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            return v * w[:, :1] + w[:, 1:]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Takes()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # A length, and a vector that is zero as yet: all of it looks invariant.
            return self.layer(x, torch.cat([x.norm(dim=-1, keepdim=True), torch.zeros_like(x)], -1))

    report = equicheck.audit(
        Model(),
        clouds,
        group="O(3)",
        in_layouts="nodes! vector",
        out_layouts="nodes! vector",
        hidden_layouts={"layer": {"in.v": "nodes! vector"}},
        **QUICK,
    )
    row = looked(report)
    found = errors(row)["generic_inputs"]
    assert found is not None
    assert found < 1e-13
    assert row["note"] is None


def sized(sizes: tuple[float, ...]) -> list[torch.Tensor]:
    """Clouds of these sizes."""
    return [size * clouds(k) / clouds(k).norm() for k, size in enumerate(sizes)]


class Large(nn.Module):
    """Wrong on large inputs alone."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v + torch.tanh(v) if v.square().sum() > 100 else 2 * v


def test_a_layer_is_looked_at_on_a_second_sample() -> None:
    report = equicheck.audit(Outer(Large()), sized((1.0, 20.0)), **VECTORS, samples=2, transforms=4)
    row = looked(report)
    assert row["verdict"] == "breaks"
    assert row["propagated_error"] > 0.01


def test_what_breaks_on_a_later_sample_is_looked_for_in_the_worst_pair_of_the_plan() -> None:
    report = equicheck.audit(Outer(Large()), sized((1.0, 1.0, 1.0, 20.0)), **VECTORS, samples=4, transforms=4)
    assert report.first_break is not None
    assert report.first_break.location == "layer"


def test_layers_meet_reflections_whatever_the_seed() -> None:
    class Handed(nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return v + 0.1 * torch.linalg.cross(v, v.roll(1, 0))

    options = VECTORS | {"group": "O(3)", "in_layouts": "nodes! vector", "out_layouts": "nodes! vector"}
    for seed in range(6):
        report = equicheck.audit(Outer(Handed()), clouds, **options, samples=1, transforms=4, seed=seed)
        assert looked(report)["own_error"] > 0.01


def test_a_layer_whose_output_changes_its_shape_is_not_judged() -> None:
    class Above(nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return v[v[:, 0] > 0]

    class Model(Outer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 0 * self.layer(x).sum()

    report = equicheck.audit(
        Model(Above()), clouds, **VECTORS, hidden_layouts={"layer": {"out": "rows! vector"}}, **QUICK
    )
    row = looked(report)
    assert row["verdict"] == "cannot_judge"


def test_of_what_is_not_judged_alone_nothing_is_checked_alone() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = 0.0

        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return v * self.scale

    class Model(Outer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.layer.scale = 2.0
            y = self.layer(x)
            self.layer.scale = 1.0
            return y

    report = equicheck.audit(Model(Reads()), clouds, **VECTORS, **QUICK)
    row = looked(report)
    assert "reads state" in row["note"]
    assert row["checks"] == []
    assert row["local_error"] is None


class Stretch(nn.Module):
    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v * torch.tanh(v.norm(dim=-1, keepdim=True))


def test_of_a_container_there_is_no_local_error() -> None:
    report = equicheck.audit(
        Outer(nn.Sequential(Stretch(), Stretch())),
        clouds,
        **VECTORS,
        hidden_layouts={"layer.0": "nodes vector"},
        **QUICK,
    )
    assert looked(report, "layer.1")["local_error"] < 1e-8
    assert looked(report)["local_error"] is None


def test_of_zeros_nothing_is_said() -> None:
    class Zero(nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return 0 * v

    class Model(Outer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.layer(x)

    hidden = {"layer": "nodes vector"}
    row = looked(equicheck.audit(Model(Zero()), clouds, **VECTORS, hidden_layouts=hidden, **QUICK))
    assert (row["verdict"], row["note"]) == ("undetermined", "its output is zero")
    assert row["local_error"] is None


def test_what_transforms_by_nothing_in_a_healthy_model_is_not_known() -> None:
    class Scrambles(nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return torch.tanh(v @ v.new_tensor([[1.0, 0.4], [0.2, -0.7], [-0.5, 0.3]]))

    class Model(Outer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x + 0 * self.layer(x).sum()

    report = equicheck.audit(Model(Scrambles()), clouds, **VECTORS, **QUICK)
    assert report.outputs["output"].verdict == "PASS", str(report)
    row = looked(report)
    assert (row["verdict"], row["note"]) == ("not_known", "its output transforms by no layout that was tried")
