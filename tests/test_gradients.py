"""The gradient stage on torch models: healthy ones raise no alarm, planted bugs are named."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import equicheck
import gradient_networks

NODES = 5
CHANNELS = 4


def sample(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points in space and features of each of them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(NODES, 3, generator=generator), torch.randn(NODES, CHANNELS, generator=generator)


def vectors(seed: int) -> torch.Tensor:
    """Channels of vectors at each node."""
    return torch.randn(NODES, CHANNELS, 3, generator=torch.Generator().manual_seed(seed))


def check(model: Any, inputs: Any = sample, **options: Any) -> equicheck.Report:
    """Audit with gradients, few pairs."""
    given = {
        "group": "E(3) x S(nodes)",
        "in_layouts": ("nodes point", "nodes features"),
        "samples": 2,
        "transforms": 3,
        "gradients": True,
    } | options
    return equicheck.audit(model, inputs, **given)


def check_vectors(model: Any, **options: Any) -> equicheck.Report:
    """The same on vectors under rotations."""
    layouts = {"in_layouts": "nodes channel vector", "out_layouts": "nodes channel vector"}
    return check(model, vectors, **({"group": "O(3)"} | layouts | options))


def rows(report: equicheck.Report, **wanted: Any) -> list[dict[str, Any]]:
    """Rows of the gradient stage with these values."""
    assert report.gradients["status"] == "ran", report.gradients
    return [row for row in report.gradients["rows"] if all(row[key] == value for key, value in wanted.items())]


def modes(report: equicheck.Report) -> list[str]:
    """The failure modes that were found."""
    return [finding.mode for finding in report.findings]


class Energy(nn.Module):
    """A pair potential with learned features: energy, and forces as its gradient."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.edge = nn.Sequential(nn.Linear(2 * CHANNELS + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.out = nn.Linear(width, 1)

    def distances(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, None] - x[None]).square().sum(-1, keepdim=True)

    def energy(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        n = len(x)
        r2 = self.distances(x)
        pairs = torch.cat([z[:, None].expand(n, n, -1), z[None].expand(n, n, -1), r2], -1)
        return self.out((self.edge(pairs) * torch.exp(-r2)).sum(1)).sum()

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        x.requires_grad_()
        energy = self.energy(x, z)
        (slope,) = torch.autograd.grad(energy, x, create_graph=True)
        return {"energy": energy, "forces": -slope}


FIELD = {"energy": "", "forces": "nodes vector"}


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_force_field_passes(seed: int) -> None:
    torch.manual_seed(seed)
    report = check(Energy(), out_layouts=FIELD, seed=seed)
    assert report.verdict == "PASS", str(report)
    assert {row["outcome"] for row in rows(report)} <= {"holds", "not_applicable", "not_judged"}
    # Every input and every parameter tensor that has a path, in both precisions.
    judged = {(row["check"], row["output"], row["target"]) for row in rows(report, outcome="holds")}
    for output in FIELD:
        assert ("input", output, "0") in judged
        assert ("parameter", output, "edge.0.weight") in judged
        assert ("derivative", output, "0") in judged
    for row in rows(report, check="input", outcome="holds"):
        assert row["max_relative_f64"] < 1e-12 < row["max_relative"] < 1e-4
    assert "Gradient equivariance error" in str(report)
    assert "RESULT: PASS" in str(report).split("GRADIENT TEST")[1]


@pytest.mark.parametrize("seed", range(20))
def test_a_healthy_vector_network_raises_no_alarm(seed: int) -> None:
    torch.manual_seed(seed)
    report = check_vectors(Gated(), seed=seed, precision="both" if seed % 2 else "as_is")
    assert report.verdict == "PASS", str(report)
    assert not report.findings


class Gated(nn.Module):
    """Mixes channels of vectors, gated by their norms."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.gate = nn.Sequential(nn.Linear(CHANNELS, 8), nn.ReLU(), nn.Linear(8, CHANNELS))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        mixed = self.mix(v.transpose(-1, -2)).transpose(-1, -2)
        return mixed * torch.sigmoid(self.gate(v.square().sum(-1)))[..., None]


def test_a_path_that_is_cut_at_x_or_at_its_image_alone_is_a_gradient_of_zero() -> None:
    class Cut(Gated):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return super().forward(v if v[0, 0, 0] > 0 else v.detach())

    torch.manual_seed(0)
    (row,) = rows(check_vectors(Cut()), check="input", mode="eval")
    assert (row["outcome"], row["max_relative_f64"]) == ("violated", pytest.approx(1.0, abs=0.5))


def test_invariant_inputs_pass() -> None:
    mlp = nn.Sequential(nn.Linear(CHANNELS, 8), nn.Tanh(), nn.Linear(8, 2))
    report = check(
        mlp,
        lambda seed: sample(seed)[1],
        group="S(nodes)",
        in_layouts="nodes features",
        out_layouts="nodes channel",
    )
    assert report.verdict == "PASS", str(report)
    assert rows(report, check="input", outcome="holds")


class _WrongCube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x.square().sum(-1, keepdim=True)

    @staticmethod
    def backward(ctx: Any, w: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return w * x.square() * 3  # right for single numbers, not for vectors


class Cube(nn.Module):
    """A custom function after a channel mix."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.mix = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.function = function

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.function(self.mix(v.transpose(-1, -2)).transpose(-1, -2))


def test_a_wrong_backward_is_named() -> None:
    report = check_vectors(Cube(_WrongCube.apply))
    assert report.verdict == "FAIL"
    assert report.outputs["output"].verdict == "PASS"
    (finding,) = [f for f in report.findings if f.mode == "wrong-backward"]
    assert finding.severity == "High"
    assert "by `input`" in finding.evidence[0]
    assert "`mix.weight`" in finding.evidence[0]
    # The function is called between modules.
    assert (finding.location, finding.class_) == ("(root)", f"{__name__}.Cube")
    assert rows(report, check="derivative", target="input")[0]["outcome"] == "violated"


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return (4 * x).round() / 4

    @staticmethod
    def backward(_ctx: Any, w: torch.Tensor) -> torch.Tensor:
        return w


def test_straight_through_rounding_of_invariants_is_a_note() -> None:
    class Quantised(Gated):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            scale = _Round.apply(torch.sigmoid(self.gate(v.square().sum(-1))))
            return v * scale[..., None]

    torch.manual_seed(0)
    report = check_vectors(Quantised())
    assert report.verdict == "PASS", str(report)
    (finding,) = report.findings
    assert (finding.mode, finding.severity) == ("detached-gradient", "Low")


def test_a_detached_edge_vector_is_a_note() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(0.7))

        def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            edges = x[:, None] - x[None]
            unit = edges.detach()
            return (unit * torch.exp(-self.weight * edges.square().sum(-1, keepdim=True))).sum(1)

    report = check(Detached(), out_layouts="nodes vector")
    assert report.verdict == "PASS", str(report)
    assert modes(report) == ["detached-gradient"]
    assert "by `0`" in report.findings[0].evidence[0]
    assert report.findings[0].location == "(root)"


def test_an_input_without_a_path_is_no_failure() -> None:
    class NoPath(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(0.7))

        def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return (self.weight * (x - x.mean(0)).detach()).square().sum() + z.sin().sum()

    report = check(NoPath(), out_layouts="")
    (row,) = rows(report, check="input", target="0")
    assert row["outcome"] == "not_applicable"
    assert "no gradient path" in row["reason"]
    assert rows(report, check="parameter", target="weight")[0]["outcome"] == "holds"
    assert report.verdict == "PASS", str(report)


def test_clipping_single_components_breaks_the_gradient() -> None:
    class Clipped(Gated):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            mixed = self.mix(v.transpose(-1, -2)).transpose(-1, -2)
            if mixed.requires_grad:
                mixed.register_hook(lambda w: w.clamp(-0.1, 0.1))
            return mixed * torch.sigmoid(self.gate(v.square().sum(-1)))[..., None]

    report = check_vectors(Clipped())
    assert report.verdict == "FAIL"
    assert rows(report, check="linearity", outcome="violated")
    (finding,) = [f for f in report.findings if f.mode == "wrong-backward"]
    assert any("clips" in line for line in finding.evidence)


class Biased(nn.Module):
    """Vectors with a bias that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.bias = nn.Parameter(torch.zeros(CHANNELS, 3))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return self.mix(v.transpose(-1, -2)).transpose(-1, -2) + self.bias


def test_a_vector_bias_at_zero_is_unstable() -> None:
    report = check_vectors(Biased())
    assert report.outputs["output"].verdict == "PASS"
    assert report.verdict == "FAIL"
    assert rows(report, check="input")[0]["outcome"] == "holds"
    assert [row["target"] for row in rows(report, check="parameter", outcome="violated")] == ["bias"]
    (finding,) = report.findings
    assert finding.mode == "unstable-parameters"
    assert "`bias`" in finding.message
    assert finding.location == "(root)"


def test_an_unstable_parameter_is_at_the_module_that_holds_it() -> None:
    model = nn.Sequential(Gated(), nn.Sequential(Gated(), Biased()))
    (finding,) = check_vectors(model).findings
    assert (finding.mode, finding.location, finding.class_) == ("unstable-parameters", "1.1", f"{__name__}.Biased")


def test_frozen_parameters_are_not_judged() -> None:
    model = Biased()
    model.bias.requires_grad_(False)
    report = check_vectors(model)
    assert report.verdict == "PASS", str(report)
    (row,) = rows(report, target="bias")
    assert row["outcome"] == "not_applicable"
    assert "frozen" in row["reason"]
    assert not model.bias.requires_grad


def test_the_loss_of_the_user_is_audited() -> None:
    torch.manual_seed(0)

    def loss(returned: dict[str, torch.Tensor]) -> torch.Tensor:
        return returned["energy"] + returned["forces"].square().sum()

    report = check(Energy(), out_layouts=FIELD, loss=loss)
    assert report.verdict == "PASS", str(report)
    assert rows(report, output="loss", check="input", outcome="holds")

    report = check(Energy(), out_layouts=FIELD, loss=lambda returned: returned["forces"].abs().sum())
    assert report.verdict == "FAIL"
    assert {row["output"] for row in rows(report, outcome="violated")} == {"loss"}


def test_a_loss_must_be_one_number() -> None:
    report = check(Energy(), out_layouts=FIELD, loss=lambda returned: returned["forces"])
    assert any("one entry" in row["reason"] for row in rows(report, output="loss"))
    with pytest.raises(equicheck.SpecificationError, match="gradients=True"):
        check(Energy(), out_layouts=FIELD, loss=lambda returned: returned["energy"], gradients=False)
    with pytest.raises(equicheck.SpecificationError, match="expected a function"):
        check(Energy(), out_layouts=FIELD, loss=3)


def test_the_model_is_left_as_it_was() -> None:
    class Counting(Gated):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(CHANNELS)
            self.drop = nn.Dropout(0.5)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, v: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            scale = self.drop(self.norm(self.gate(v.square().sum(-1))))
            return v * scale[..., None]

    model = Counting()
    model.train()
    model.drop.eval()
    model.mix.weight.requires_grad_(False)
    model.gate[0].weight.grad = torch.full_like(model.gate[0].weight, 0.25)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grads = {
        name: (p.requires_grad, None if p.grad is None else p.grad.clone()) for name, p in model.named_parameters()
    }
    flags = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    check_vectors(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert torch.equal(torch.get_rng_state(), state)
    for name, parameter in model.named_parameters():
        asked, grad = grads[name]
        assert parameter.requires_grad == asked
        assert (parameter.grad is None) == (grad is None)
        assert grad is None or torch.equal(parameter.grad, grad)


def test_without_gradients_nothing_is_differentiated() -> None:
    report = check(Energy(), out_layouts=FIELD, gradients=False)
    assert report.gradients == {"status": "not_run", "reason": "gradients=True runs it"}
    assert "not run (gradients=True runs it)" in str(report)


def test_a_numpy_function_cannot_be_differentiated() -> None:
    import numpy as np

    report = equicheck.audit(
        lambda v: 2 * v,
        np.ones((4, 3)),
        group="O(3)",
        in_layouts="nodes vector",
        out_layouts="nodes vector",
        transforms=3,
        gradients=True,
    )
    assert report.gradients["status"] == "not_run"
    assert "torch" in report.gradients["reason"]


class _WrongTwice(torch.autograd.Function):
    """A right backward whose own backward lacks a term."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x.square().sum(-1).square()

    @staticmethod
    def backward(ctx: Any, w: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return w[..., None] * x * (4 * x.square().sum(-1, keepdim=True)).detach()


def test_a_wrong_double_backward_is_found() -> None:
    report = check_vectors(_WrongTwice.apply, out_layouts="nodes channel")
    assert report.outputs["output"].verdict == "PASS"
    assert {row["outcome"] for row in rows(report, check="derivative")} == {"holds"}
    assert rows(report, check="second_order", outcome="violated")
    (finding,) = report.findings
    assert finding.mode == "wrong-backward"
    assert "second order" in finding.location


def test_the_second_order_of_a_healthy_force_field_holds() -> None:
    torch.manual_seed(0)
    report = check(Energy(), out_layouts=FIELD)
    assert {row["output"] for row in rows(report, check="second_order", outcome="holds")} == set(FIELD)


def test_a_gradient_that_is_no_number_at_coincident_points_is_found() -> None:
    class Distances(Energy):
        def distances(self, x: torch.Tensor) -> torch.Tensor:
            off = ~torch.eye(len(x), dtype=torch.bool)
            r = (x[:, None] - x[None])[off].norm(dim=-1) + (x[:, None] - x[None])[off].square().sum(-1).sqrt()
            return torch.zeros(len(x), len(x), 1, dtype=x.dtype).masked_scatter(off[..., None], r)

        def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return self.energy(x, z)

    torch.manual_seed(0)
    report = check(Distances(), out_layouts="")
    assert report.verdict == "PASS", str(report)
    assert modes(report) == ["nan-gradient"]
    assert any("NaN at coincident nodes" in line for line in report.findings[0].evidence)


def test_a_gradient_that_is_no_number_is_at_the_module_with_the_singular_point() -> None:
    class Lengths(nn.Module):
        def forward(self, d: torch.Tensor) -> torch.Tensor:
            return d.square().sum(-1).sqrt()

    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.lengths, self.sum = nn.Identity(), Lengths(), nn.Identity()

        def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            i, j = torch.triu_indices(len(x), len(x), 1)
            return self.sum(self.lengths(self.scale(x[i] - x[j]))).sum() + z.sin().sum()

    report = check(Pairs(), out_layouts="")
    assert report.verdict == "PASS", str(report)
    (finding,) = report.findings
    assert (finding.mode, finding.location) == ("nan-gradient", "lengths")


def test_a_gradient_that_is_no_number_on_the_samples_fails() -> None:
    class Diagonal(Energy):
        """The square root of a distance of zero, multiplied by zero."""

        def distances(self, x: torch.Tensor) -> torch.Tensor:
            return super().distances(x).sqrt() * (1 - torch.eye(len(x), dtype=x.dtype))[..., None]

        def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return self.energy(x, z)

    torch.manual_seed(0)
    report = check(Diagonal(), out_layouts="")
    assert report.verdict == "FAIL", str(report)
    (finding,) = report.findings
    assert (finding.mode, finding.severity) == ("nan-gradient", "High")
    assert finding.location == "(root)"


def faults(report: equicheck.Report) -> list[tuple[str, str]]:
    """Places and kinds, over all rows."""
    found = {(fault["location"], fault["kind"]) for row in rows(report) for fault in row.get("faults", [])}
    return sorted(found)


@pytest.mark.parametrize("bug", gradient_networks.BUGS)
@pytest.mark.parametrize(
    "at",
    [3, pytest.param(0, marks=pytest.mark.heavy), pytest.param(gradient_networks.LAYERS - 1, marks=pytest.mark.heavy)],
)
def test_what_is_wrong_with_gradients_alone_is_located(bug: str, at: int) -> None:
    network = gradient_networks.network(bug, at)
    report = equicheck.audit(network.model, **network.options)
    assert report.outputs["output"].verdict == "PASS", str(report)
    assert not report.breaks
    kind = "functional" if bug == "container" else "module"
    assert faults(report) == [(network.expected, kind)], str(report)
    assert [finding.location for finding in report.findings] == [network.expected]
    assert f"Arises in {'' if kind == 'module' else 'code of the forward of '}{network.expected}" in str(report)


def test_right_gradients_of_many_layers_have_no_fault() -> None:
    network = gradient_networks.network()
    report = equicheck.audit(network.model, **network.options)
    assert report.verdict == "PASS", str(report)
    assert not report.findings
    assert not faults(report)


def test_two_gradient_faults_are_both_named() -> None:
    network = gradient_networks.network("detached", 2)
    network.model.layers[5] = gradient_networks.network("detached", 5).model.layers[5]
    (finding,) = (report := equicheck.audit(network.model, **network.options)).findings
    assert faults(report) == [("layers.2.act", "module"), ("layers.5.act", "module")]
    assert any("`layers.5.act`" in line for line in finding.evidence)


def test_a_clip_that_only_large_gradients_meet_is_located() -> None:
    class Clip(nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            v = v * 1
            if v.requires_grad:
                v.register_hook(lambda w: w.clamp(-50, 50))
            return v

    class Scale(nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return 1000 * v

    torch.manual_seed(0)
    report = check_vectors(nn.Sequential(Gated(), Clip(), Scale()))
    assert report.verdict == "FAIL"
    assert faults(report) == [("1", "module")]
    assert any("is not linear" in line for line in report.findings[0].evidence)


class Clip(nn.Module):
    """Clips the components of a gradient."""

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        v = v * 1
        if v.requires_grad:
            v.register_hook(lambda w: w.clamp(-0.05, 0.05))
        return v


class Mix(nn.Module):
    """Channels of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(CHANNELS) + 0.1 * torch.randn(CHANNELS, CHANNELS))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.einsum("oc,ncx->nox", self.weight, v)


def test_right_modules_are_not_at_fault_in_single_precision() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(*(Mix() for _ in range(12)), Clip())
    report = check_vectors(layers, precision="as_is")
    assert faults(report) == [("12", "module")]


def test_a_statistic_that_is_detached_is_not_at_fault_where_something_else_is() -> None:
    class Counted(Mix):
        def forward(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
            return super().forward(v), v.square().mean().detach()

    class Network(nn.Module):
        def __init__(self, *, clips: bool) -> None:
            super().__init__()
            self.first, self.last = Counted(), Clip() if clips else Mix()

        def forward(self, v: torch.Tensor) -> torch.Tensor:
            v, size = self.first(v)
            return self.last(v if isinstance(self.last, Clip) else v * size)

    torch.manual_seed(0)
    assert faults(check_vectors(Network(clips=True))) == [("last", "module")]
    # The statistic is what is detached.
    assert faults(check_vectors(Network(clips=False))) == [("first", "module")]


class _Halves(torch.autograd.Function):
    """Half of the square of each length, whose backward no longer knows of the vectors."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(v)
        return v.square().sum(-1) / 2

    @staticmethod
    def backward(ctx: Any, w: torch.Tensor) -> torch.Tensor:
        (v,) = ctx.saved_tensors
        return w[..., None] * v.detach()


def test_a_backward_without_a_second_order_is_located() -> None:
    class Halves(nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return _Halves.apply(v)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.halves, self.gate = Halves(), Gated()

        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return self.gate(v * torch.sigmoid(self.halves(v))[..., None])

    torch.manual_seed(0)
    assert faults(check_vectors(Network())) == [("halves", "module")]


def test_a_container_is_not_at_fault_for_what_could_not_be_judged_in_it() -> None:
    class Softmax(nn.Module):
        """Of scores that are masked by infinities, with a gradient that is cut."""

        def forward(self, scores: torch.Tensor) -> torch.Tensor:
            return torch.softmax(scores.detach() / 2 + scores / 2, -1)

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.softmax = Softmax()

        def forward(self, v: torch.Tensor) -> torch.Tensor:
            scores = torch.einsum("icx,jcx->ij", v, v).masked_fill(torch.eye(len(v), dtype=torch.bool), -torch.inf)
            return torch.einsum("ij,jcx->icx", self.softmax(scores), v)

    torch.manual_seed(0)
    report = check_vectors(nn.Sequential(Gated(), Attention()))
    assert modes(report) == ["detached-gradient"]
    assert faults(report) == []
    assert report.findings[0].location.startswith("output")


def test_drift_of_the_third_gradient_is_found() -> None:
    calls = [0]

    def every_third(w: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return w * (1.1 if calls[0] % 3 == 0 else 1.0)

    class Third(Gated):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            mixed = self.mix(v.transpose(-1, -2)).transpose(-1, -2)
            if mixed.requires_grad:
                mixed.register_hook(every_third)
            return mixed

    report = check_vectors(Third())
    assert "gradient-drift" in modes(report)


class Dropped(nn.Module):
    """Gated vectors with dropout on gates, which is healthy, or on components, which is not."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.gated = Gated()
        self.drop = nn.Dropout(0.4)
        self.where = where

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        v = self.gated(v)
        if self.where == "components":
            return self.drop(v)
        return v * self.drop(torch.ones_like(v[..., :1]))


@pytest.mark.parametrize("group", ["O(3)", "O(3) x S(nodes)", "S(nodes)"])
def test_healthy_dropout_raises_no_alarm(group: str) -> None:
    torch.manual_seed(0)
    report = check_vectors(Dropped("channels"), group=group)
    assert report.verdict == "PASS", str(report)
    trained = rows(report, mode="train")
    assert {row["outcome"] for row in trained} == {"holds"}
    assert {row["check"] for row in trained} == {"input", "parameter"}


@pytest.mark.parametrize("group", ["O(3)", "O(3) x S(nodes)"])
def test_dropout_of_components_is_found_in_train_mode(group: str) -> None:
    torch.manual_seed(0)
    report = check_vectors(Dropped("components"), group=group)
    assert report.outputs["output"].verdict == "PASS"
    assert report.verdict == "FAIL"
    assert {row["outcome"] for row in rows(report, mode="eval")} == {"holds"}
    assert rows(report, mode="train", check="input", outcome="violated")


def test_batch_statistics_are_audited_in_train_mode() -> None:
    class Normalised(Gated):
        def __init__(self, bad: bool) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(CHANNELS)
            self.bad = bad

        def forward(self, v: torch.Tensor) -> torch.Tensor:
            if self.bad:
                return self.norm(v)  # means over components
            return v * self.norm(self.gate(v.square().sum(-1)))[..., None]

    torch.manual_seed(0)
    assert check_vectors(Normalised(False)).verdict == "PASS"
    report = check_vectors(Normalised(True))
    assert report.outputs["output"].verdict == "PASS"
    assert rows(report, mode="train", check="input", outcome="violated")


def test_a_model_without_randomness_is_audited_once() -> None:
    report = check_vectors(Gated())
    assert not rows(report, mode="train")
    assert any("same as in eval mode" in note for note in report.notes)


def test_forces_that_are_nearly_the_derivative_of_the_energy_are_found() -> None:
    class Nearly(Energy):
        def forward(self, x: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
            returned = super().forward(x, z)
            return {"energy": returned["energy"], "forces": 1.03 * returned["forces"]}

    torch.manual_seed(0)
    report = check(Nearly(), out_layouts=FIELD)
    assert report.verdict == "NEEDS_ATTENTION"
    (row,) = rows(report, check="claim")
    assert (row["output"], row["target"], row["outcome"]) == ("forces", "energy", "violated")
    assert modes(report) == ["wrong-backward"]
    assert rows(check(Energy(), out_layouts=FIELD), check="claim")[0]["outcome"] == "holds"


def test_forces_along_a_path_that_is_cut_fail() -> None:
    class Cut(Energy):
        """Half of the way from the positions to the energy is cut: forces agree with the backward, and are wrong."""

        def distances(self, x: torch.Tensor) -> torch.Tensor:
            return (super().distances(x) + super().distances(x).detach()) / 2

    torch.manual_seed(0)
    report = check(Cut(), out_layouts=FIELD)
    assert report.verdict == "FAIL"
    (row,) = rows(report, check="claim")
    assert (row["output"], row["target"], row["outcome"], row["verdict"]) == ("forces", "energy", "violated", "FAIL")
    (finding,) = report.findings
    assert (finding.mode, finding.severity) == ("detached-gradient", "High")
    assert "`forces`" in finding.evidence[0]


class _WrongInSingle(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(_ctx: Any, w: torch.Tensor) -> torch.Tensor:
        return 2 * w if w.dtype == torch.float64 else 2.1 * w


def test_a_backward_that_is_wrong_in_single_precision_alone_is_found() -> None:
    torch.manual_seed(0)
    report = check_vectors(Cube(_WrongInSingle.apply))
    assert report.verdict == "NEEDS_ATTENTION"
    assert set(modes(report)) == {"wrong-backward"}
    assert all("own precision" in finding.location for finding in report.findings)


def test_a_backward_that_is_wrong_in_single_precision_alone_is_located() -> None:
    class Twice(nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return _WrongInSingle.apply(v)

    torch.manual_seed(0)
    report = check_vectors(nn.Sequential(Gated(), nn.Sequential(Twice(), Gated())))
    assert report.verdict == "NEEDS_ATTENTION"
    assert faults(report) == [("1.0", "module")]
    assert report.findings[0].location == "1.0"
    assert "own precision" in report.findings[0].evidence[0]


def healthy(
    model: Any, inputs: Callable[[int], torch.Tensor], group: str, layouts: tuple[str, str], **more: Any
) -> None:
    """Audit a model that must pass, with gradients that were judged in both precisions."""
    report = check(model, inputs, group=group, in_layouts=layouts[0], out_layouts=layouts[1], **more)
    assert report.verdict == "PASS", str(report)
    (row,) = rows(report, check="input")
    assert row["outcome"] == "holds"
    assert row["max_relative_f64"] < 1e-11


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Callable[[int], torch.Tensor]:
    """Gaussian samples."""
    return lambda seed: torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_boosts_need_the_transpose_and_not_the_inverse() -> None:
    def model(p: torch.Tensor) -> torch.Tensor:
        mass = p[..., 0].square() - p[..., 1:].square().sum(-1)
        return p * torch.tanh(mass)[..., None]

    healthy(model, normal(4, 4), "SO+(1,3)", ("particles! vector", "particles! vector"), rapidity=1.0)


def test_dilations_need_the_transpose_and_not_the_inverse() -> None:
    healthy(lambda x: x.square() + x * x.norm(), normal(6), "Scale", ("entries! scale^1", "entries! scale^2"))


def test_complex_tensors_are_pairs_of_reals() -> None:
    inputs = normal(6, dtype=torch.complex64)
    healthy(lambda z: z * z.abs().square() + z * 1j, inputs, "U(1)", ("entries! charge^1", "entries! charge^1"))


def test_a_sign_that_the_forward_chooses_enters_the_gradient() -> None:
    def axis(x: torch.Tensor) -> torch.Tensor:
        vector = torch.linalg.eigh(x.T @ x)[1][:, -1]
        return vector * torch.sign(vector[vector.abs().argmax()])

    healthy(axis, normal(6, 3), "O(3)", ("nodes! vector", "vector ~ sign"))


def test_images_are_judged_on_the_lattice() -> None:
    kernel = torch.tensor([[0.1, 0.2, 0.1], [0.2, -0.5, 0.2], [0.1, 0.2, 0.1]])

    def model(x: torch.Tensor) -> torch.Tensor:
        padded = nn.functional.pad(x[None, None], (1, 1, 1, 1), mode="circular")
        return torch.tanh(nn.functional.conv2d(padded, kernel[None, None].to(x.dtype)))[0, 0]

    healthy(model, normal(6, 6), "D4", ("height width", "height width"))
    healthy(model, normal(6, 6), "T(2)", ("height width", "height width"), domain="periodic")


def test_dropout_inside_a_kernel_is_not_judged_under_permutations() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.keys = nn.Linear(CHANNELS, CHANNELS)

        def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            k = self.keys(z)[None, None]
            p = 0.5 if self.training else 0.0
            return nn.functional.scaled_dot_product_attention(k, k, z[None, None], dropout_p=p)[0, 0] + x.square().sum()

    torch.manual_seed(0)
    report = check(
        Attention(), group="S(nodes)", in_layouts=("nodes a!", "nodes features"), out_layouts="nodes features"
    )
    assert report.verdict == "PASS", str(report)
    assert {row["outcome"] for row in rows(report, mode="train")} <= {"not_judged", "holds"}


def test_gradients_are_judged_by_their_own_rounding() -> None:
    """A ripple that the output hardly shows is most of the gradient, and makes noise of the inputs' rounding."""

    def rippled(v: torch.Tensor) -> torch.Tensor:
        return v * (1 + 1e-5 * torch.sin(3e4 * v.square().sum(-1, keepdim=True)))

    report = check_vectors(rippled)
    assert report.outputs["output"].verdict == "PASS"
    (row,) = rows(report, check="input")
    assert row["outcome"] == "amplified"
    assert row["noise"] > 1e-3


def test_drift_of_the_third_equal_call_in_a_row_is_found() -> None:
    last: list[Any] = [None, 0]

    def third_in_a_row(w: torch.Tensor) -> torch.Tensor:
        given = w.numpy().tobytes()
        last[:] = [given, last[1] + 1 if given == last[0] else 1]
        return w * (1.1 if last[1] == 3 else 1.0)

    class Third(Gated):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            mixed = self.mix(v.transpose(-1, -2)).transpose(-1, -2)
            if mixed.requires_grad:
                mixed.register_hook(third_in_a_row)
            return mixed

    assert "gradient-drift" in modes(check_vectors(Third()))


def test_steps_are_taken_only_where_forward_and_backward_hold() -> None:
    model = Biased()
    assert rows(check_vectors(model), check="step")
    with torch.no_grad():
        model.bias.fill_(0.5)
    report = check_vectors(model)
    assert rows(report, check="parameter", target="bias", outcome="violated")
    assert not rows(report, check="step"), "the forward breaks as it is"
    report = check_vectors(Cube(_WrongCube.apply))
    assert rows(report, check="parameter", outcome="violated")
    assert not rows(report, check="step"), "the backward is wrong"


def test_without_double_precision_nothing_is_said_of_the_second_order() -> None:
    report = check_vectors(lambda v: v * v.square().sum(-1, keepdim=True), precision="as_is")
    assert rows(report, check="derivative", outcome="holds")
    assert not rows(report, check="second_order")


def test_what_merely_looks_like_the_derivative_of_a_scalar_is_no_claim() -> None:
    def model(x: torch.Tensor, z: torch.Tensor) -> dict[str, torch.Tensor]:
        away = x - x.mean(0)
        r2 = away.square().sum(-1, keepdim=True)
        # Vectors that are no forces; charges in proportion to the derivative by the features.
        return {"energy": (0.1 * r2 + z.square() / 2).sum(), "flow": away * (1 + r2), "charges": 0.97 * z}

    layouts = {"energy": "", "flow": "nodes vector", "charges": "nodes features"}
    assert not rows(check(model, out_layouts=layouts), check="claim")


def test_where_the_forward_is_no_number_the_gradient_is_not_to_blame() -> None:
    class Inverse(Energy):
        def distances(self, x: torch.Tensor) -> torch.Tensor:
            off = ~torch.eye(len(x), dtype=torch.bool)
            r = 1 / (x[:, None] - x[None])[off].square().sum(-1)
            return torch.zeros(len(x), len(x), 1, dtype=x.dtype).masked_scatter(off[..., None], r)

        def energy(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return self.distances(x).sum() + z.sum()

        def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return self.energy(x, z)

    report = check(Inverse(), out_layouts="")
    assert not rows(report, check="finite", outcome="not_finite")
    assert "nan-gradient" not in modes(report)


def test_double_precision_that_the_model_drops_proves_nothing_of_gradients() -> None:
    def single(v: torch.Tensor) -> torch.Tensor:
        low = v.float()
        return (low * torch.tanh(low.square().sum(-1, keepdim=True))).to(v.dtype)

    report = check_vectors(single)
    (row,) = rows(report, check="input")
    assert row["outcome"] == "holds"
    assert row["max_relative_f64"] is None
    assert all(row["max_relative_f64"] is None for row in rows(report, check="derivative"))


def test_labels_of_a_floating_type_have_no_derivative_by_differences() -> None:
    table = torch.randn(10, CHANNELS, generator=torch.Generator().manual_seed(0))

    def model(x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return (z[..., None] * table.to(x.dtype)[z.long()]).sum() + (x - x.mean(0)).square().sum()

    def labelled(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return sample(seed)[0], torch.tensor([1.0, 6.0, 6.0, 8.0, 1.0])

    report = check(model, labelled, in_layouts=("nodes point", "nodes"), out_layouts="")
    assert rows(report, check="derivative", target="0", outcome="holds")
    assert not rows(report, check="derivative", target="1")


def test_an_output_up_to_a_phase_is_not_differentiated() -> None:
    def state(x: torch.Tensor) -> torch.Tensor:
        return torch.complex(x, x.square()) * torch.exp(1j * x.sum().round())

    report = check(state, normal(5), group="S(nodes)", in_layouts="nodes", out_layouts="nodes ~ phase")
    assert report.gradients["status"] == "ran"
    (row,) = rows(report, check="input")
    assert row["outcome"] == "not_applicable"
    assert "up to a phase" in row["reason"]


def test_a_budget_that_backwards_use_up_cuts_the_pairs_of_gradients() -> None:
    class Slow(Gated):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            mixed = self.mix(v.transpose(-1, -2)).transpose(-1, -2)
            if mixed.requires_grad:
                mixed.register_hook(lambda _: time.sleep(0.02))
            return mixed

    report = check_vectors(Slow(), budget=0.4)
    assert any("pairs for the gradients of `output`" in note for note in report.notes), report.notes
