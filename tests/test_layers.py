"""The layer-wise stage: what every module call does, and where symmetry is lost."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn

import equicheck
import layer_networks

VECTORS: dict[str, Any] = {"group": "O(3) x S(nodes)", "in_layouts": "nodes vector", "out_layouts": "nodes vector"}
QUICK: dict[str, Any] = {"samples": 3, "transforms": 4}


def clouds(seed: int) -> torch.Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(seed))


class Mix(nn.Module):
    """A linear map of channels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(before, after) / before**0.5)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nci,cd->ndi", v, self.weight)


class NormTanh(nn.Module):
    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v * torch.tanh(v.norm(dim=-1, keepdim=True))


class Tanh(nn.Module):
    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return torch.tanh(v)


class Net(nn.Module):
    """Vectors [nodes, 3] -> [nodes, 3]; ``code`` says between which layers components are scaled one by one."""

    def __init__(self, depth: int = 4, code: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = Mix(1, 8)
        self.linears = nn.ModuleList(Mix(8, 8) for _ in range(depth))
        self.activations = nn.ModuleList(NormTanh() for _ in range(depth))
        self.last = Mix(8, 1)
        self.code = code

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v = self.first((x - x.mean(0, keepdim=True))[:, None])
        for k, (linear, activation) in enumerate(zip(self.linears, self.activations, strict=True)):
            v = activation(linear(v))
            if self.code == k:
                v = v * v.new_tensor([1.0, 1.01, 1.0])
        return self.last(v)[:, 0]


HIDDEN = {"first": {"out": "nodes channel vector"}}


def audited(model: nn.Module, **options: Any) -> equicheck.Report:
    return equicheck.audit(model, clouds, **(VECTORS | QUICK | {"hidden_layouts": HIDDEN} | options))


def verdicts(report: equicheck.Report) -> dict[str, str]:
    assert report.layers["status"] == "ran", report.layers
    return {row["location"]: row["verdict"] for row in report.layers["rows"]}


def test_a_healthy_network_has_no_break() -> None:
    report = audited(Net())
    assert report.verdict == "PASS"
    assert report.first_break is None
    assert set(verdicts(report).values()) <= {"ok", "not_known"}
    assert verdicts(report)["activations.2"] == "ok"
    rows = {row["location"]: row for row in report.layers["rows"]}
    assert rows["linears.1"]["own_error"] < 1e-14
    assert rows["linears.1"]["outputs"][0]["layout"] == ["nodes channel vector", "inferred"]
    assert rows["first"]["outputs"][0]["layout"] == ["nodes channel vector", "declared"]
    assert rows["activations.0"]["kind"] == "nonlinearity"


@pytest.mark.parametrize("depth", range(4))
def test_a_module_that_breaks_is_named(depth: int) -> None:
    model = Net()
    model.activations[depth] = Tanh()
    report = audited(model)
    found = report.first_break
    assert found is not None
    assert (found.location, found.call, found.kind, found.confidence) == (f"activations.{depth}", 0, "module", "high")
    assert found.between is None
    assert found.source is not None
    assert found.source.partition(":")[0] == __file__
    assert found.own_error is not None
    assert found.own_error > 0.01
    assert found.remaining < 1e-10
    assert verdicts(report)[f"activations.{depth}"] == "breaks"
    assert verdicts(report)["linears.0"] == "ok"
    if depth < 3:
        assert verdicts(report)["activations.3"] == "inherits"


@pytest.mark.parametrize(("code", "between"), [(1, ("activations.1", "linears.2")), (3, ("activations.3", "last"))])
def test_code_of_a_containers_own_forward_is_bracketed_by_calls(code: int, between: tuple[str, str]) -> None:
    found = audited(Net(code=code)).first_break
    assert found is not None
    assert (found.location, found.kind, found.between) == ("(root)", "functional", between)


def test_two_causes_are_both_named() -> None:
    model = Net()
    model.activations[0] = Tanh()
    model.activations[2] = Tanh()
    report = audited(model)
    assert [found.location for found in report.breaks] == ["activations.0", "activations.2"]


def test_a_weak_cause_behind_a_strong_one_is_named_too() -> None:
    class Weak(NormTanh):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return super().forward(v) + 0.02 * torch.tanh(v)

    model = Net()
    model.activations[0] = Tanh()
    model.activations[2] = Weak()
    report = audited(model)
    assert [found.location for found in report.breaks] == ["activations.0", "activations.2"]
    assert report.breaks[-1].remaining < 1e-10


def test_state_is_put_back_before_every_pass() -> None:
    class Grows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.calls: torch.Tensor

        def forward(self, v: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return v * self.calls

    model = Net(depth=2)
    model.activations[0] = Grows()
    report = audited(model)
    (row,) = [row for row in report.layers["rows"] if row["location"] == "activations.0"]
    assert row["propagated_error"] < 1e-14
    assert row["own_error"] < 1e-14
    assert row["noise"] < 1e-14


def test_where_all_behind_a_break_is_invariant_another_place_would_mend_it_too() -> None:
    class Lengths(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).square().sum(-1)

    model = Lengths(depth=2)
    model.activations[0] = Tanh()
    found = audited(model, out_layouts="nodes").first_break
    assert found is not None
    assert (found.location, found.confidence) == ("activations.0", "medium")


def test_a_break_is_looked_for_under_elements_that_permute_nothing_first() -> None:
    class Ramp(nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            rows = torch.arange(len(v), dtype=v.dtype)[:, None, None]
            return v * (1 + rows) + 0.01 * torch.tanh(v)

    model = Net(depth=2)
    model.activations[0] = Ramp()
    found = audited(model).first_break
    assert found is not None
    assert (found.location, found.factor) == ("activations.0", "O(3)")


class Bias(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tensor([1.0, 2.0, 3.0], dtype=x.dtype)


class Cancels(nn.Module):
    """A bias, and a network that takes differences."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = Bias()
        self.net = Net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(self.bias(x))


CANCELS = {"bias": "nodes vector", "net.first": {"out": "nodes channel vector"}}


def test_what_is_restored_later_is_no_break() -> None:
    report = audited(Cancels(), hidden_layouts=CANCELS)
    assert report.verdict == "PASS"
    assert report.first_break is None
    assert verdicts(report)["bias"] == "restored_later"


def test_what_is_restored_later_is_no_part_of_a_break_behind_it() -> None:
    model = Cancels()
    model.net.activations[1] = Tanh()
    report = audited(model, hidden_layouts=CANCELS)
    assert [found.location for found in report.breaks] == ["net.activations.1"]
    assert report.breaks[0].confidence == "high"


class Forces(nn.Module):
    """Energy by invariants of differences, and forces by differentiation inside; ``skew`` breaks a module."""

    def __init__(self, skew: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.mix = Mix(1, 8)
        self.skew = Skew(skew)
        self.head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = x.requires_grad_()
        v = self.skew(self.mix((x - x.mean(0, keepdim=True))[:, None]))
        energy = self.head(torch.tanh(v.square().sum(-1))).sum()
        return {"energy": energy, "forces": -torch.autograd.grad(energy, x, create_graph=True)[0]}


class Skew(nn.Module):
    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        return v * (1 + self.size * v.new_tensor([1.0, 0.0, 0.0]))


def test_models_that_differentiate_inside_are_mended_with_their_graph() -> None:
    options = {
        "out_layouts": {"energy": "", "forces": "nodes vector"},
        "hidden_layouts": {"mix": "nodes channel vector"},
    }
    healthy = audited(Forces(), **options)
    assert healthy.verdict == "PASS"
    assert healthy.first_break is None
    found = audited(Forces(0.1), **options).first_break
    assert found is not None
    assert (found.location, found.kind) == ("skew", "module")
    assert found.remaining < 1e-10


def test_a_module_that_is_called_several_times_is_numbered_and_mended_as_one() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first = Mix(1, 8)
            self.again = nn.ModuleList([Mix(8, 8), Tanh()])
            self.last = Mix(8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            v = self.first(x[:, None])
            for _ in range(3):
                v = self.again[1](self.again[0](v))
            return self.last(v)[:, 0]

    report = audited(Shared())
    assert report.first_break is not None
    assert (report.first_break.location, report.first_break.call) == ("again.1", 0)
    assert report.first_break.remaining < 1e-10
    calls = [(row["location"], row["call"]) for row in report.layers["rows"]]
    assert calls[1:5] == [("again.0", 0), ("again.1", 0), ("again.0", 1), ("again.1", 1)]


def test_arguments_by_keyword_and_in_containers_are_replayed() -> None:
    class Pair(nn.Module):
        def forward(self, tensors: dict[str, torch.Tensor], *, scale: float) -> tuple[torch.Tensor, dict[str, Any]]:
            return tensors["v"] * scale, {"norm": [tensors["w"].norm(dim=-1)]}

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            v, rest = self.pair(tensors={"v": x, "w": x}, scale=2.0)
            return v * rest["norm"][0][:, None]

    report = audited(Outer(), hidden_layouts=None)
    (row,) = report.layers["rows"]
    assert [leaf["name"] for leaf in row["inputs"]] == ["tensors.v", "tensors.w"]
    assert [leaf["name"] for leaf in row["outputs"]] == ["0", "1.norm.0"]
    assert row["outputs"][1]["layout"] == ["nodes", "inferred"]
    assert row["own_error"] is not None
    assert row["verdict"] == "ok"


def test_what_reads_other_state_than_its_arguments_is_said() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kept = torch.zeros(3)

        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return v + self.kept

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.reads = Reads()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.reads.kept = x.mean(0)
            y = self.reads(x)
            self.reads.kept = torch.zeros(3)
            return y

    (row,) = audited(Outer(), hidden_layouts=None).layers["rows"]
    assert row["note"] == "reads state that is not its argument: not judged alone"
    assert row["own_error"] is None


def test_the_model_is_left_as_it_was() -> None:
    model = Net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    call = nn.Module.__call__
    audited(model)
    assert nn.Module.__call__ is call
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_compiled_model_is_looked_into_as_it_was() -> None:
    torch.compiler.reset()
    model = Net(depth=2)
    model.activations[1] = Tanh()
    compiled = audited(torch.compile(model, backend="eager"), samples=2, transforms=2)
    plain = audited(model, samples=2, transforms=2)
    assert compiled.first_break is not None
    assert compiled.first_break.location == "activations.1"
    assert compiled.first_break.source == plain.first_break.source
    assert compiled.layers["rows"] == plain.layers["rows"]


def test_a_budget_that_cuts_the_pairs_leaves_time_for_layers() -> None:
    class Slow(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.005)
            return super().forward(x)

    model = Slow()
    model.activations[1] = Tanh()
    report = audited(model, budget=4.0, samples=50, transforms=50)
    assert report.plan["stop"] == "budget"
    assert report.first_break is not None
    assert report.first_break.location == "activations.1"


def test_without_a_module_the_stage_says_so() -> None:
    model = Net()
    report = equicheck.audit(lambda x: model(x), clouds, **VECTORS, **QUICK)
    assert report.layers["status"] == "not_run"
    assert "module=" in report.layers["reason"]
    assert equicheck.audit(lambda x: model(x), clouds, module=model, **VECTORS, **QUICK).layers["status"] == "ran"
    assert audited(model, layers=False).layers == {"status": "not_run", "reason": "layers=False"}


@pytest.mark.parametrize(
    ("layouts", "message"),
    [
        ({"linear.0": "nodes channel vector"}, "no module `linear.0` is called; the nearest is `linears.0`"),
        ({"first": {"out": "nodes chanel vectr"}}, "`first`: "),
        ({"first": {"both": "nodes"}}, 'layouts for "in" and "out"'),
        ({"first": {"in.y": "nodes channel vector"}}, '`first` has no tensor `y` at "in": it has `v`'),
        ({"first": {"out": 3}}, "no layout"),
        ({"first": {"out": "nodes vector"}}, "first"),
        ([1], "expected a dict"),
    ],
)
def test_wrong_hidden_layouts_are_one_clear_error(layouts: Any, message: str) -> None:
    with pytest.raises(equicheck.SpecificationError) as error:
        audited(Net(), hidden_layouts=layouts)
    assert message in str(error.value)


def test_what_takes_no_part_in_a_break_uses_up_no_place_among_the_causes() -> None:
    class Shifts(nn.Module):
        """Code that shifts what it gives to a module, nine times; differences are taken behind."""

        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.ModuleList(nn.Identity() for _ in range(9))
            self.net = Net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for step in self.steps:
                x = step(x + x.new_tensor([0.1, 0.2, 0.3]))
            return self.net(x)

    model = Shifts()
    model.net.activations[1] = Tanh()
    hidden = {f"steps.{k}": "nodes vector" for k in range(9)}
    report = audited(model, hidden_layouts=hidden | {"net.first": {"out": "nodes channel vector"}})
    assert [found.location for found in report.breaks] == ["net.activations.1"]


def images(seed: int) -> torch.Tensor:
    return torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


IMAGES: dict[str, Any] = {
    "group": "C4",
    "in_layouts": "batch channel height width",
    "out_layouts": "batch channel height width",
}


class Copy(nn.Module):
    """A plain network; its code treats the second of the copies in another way."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.before = nn.Conv2d(1, 3, 3, padding=1)
        self.after = nn.Conv2d(3, 1, 3, padding=1)
        self.copy = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.before(x))
        return self.after(h * 1.1 if self.copy == 1 else h)


class Copies(nn.Module):
    """It is called on turned copies, which come in another order over T x."""

    def __init__(self) -> None:
        super().__init__()
        self.one = Copy()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros_like(x)
        for k in range(4):
            self.one.copy = k
            y = y + self.one(x.rot90(k, (-2, -1))).rot90(-k, (-2, -1))
        return y


def test_calls_that_come_in_another_order_are_mended_each_by_its_own() -> None:
    report = equicheck.audit(Copies(), images, **IMAGES, **QUICK)
    assert {(found.location, found.kind) for found in report.breaks} == {("one", "functional")}
    assert report.breaks[-1].remaining < 1e-10


def test_calls_are_told_apart_although_their_entries_are_permuted_too() -> None:
    class Frames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            quarter = x.new_tensor([[0.0, -1.0], [1.0, 0.0]])
            y, turn = torch.zeros_like(x), torch.eye(2, dtype=x.dtype)
            for _ in range(4):
                y = y + self.net(x @ turn.T) @ turn
                turn = quarter @ turn
            return y

    report = equicheck.audit(
        Frames(),
        lambda seed: torch.randn(5, 2, generator=torch.Generator().manual_seed(seed)),
        group="C4 x S(nodes)",
        in_layouts="nodes vector",
        out_layouts="nodes vector",
        **QUICK,
    )
    assert report.verdict == "PASS"
    assert all(row["propagated_error"] < 1e-12 for row in report.layers["rows"])


def test_whole_numbers_are_no_gap_in_what_is_known() -> None:
    class Order(nn.Module):
        def forward(self, v: torch.Tensor) -> torch.Tensor:
            return torch.arange(len(v)).flip(0)

    class Numbered(Net):
        def __init__(self) -> None:
            super().__init__(depth=2)
            self.order = Order()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            v = self.first((x - x.mean(0, keepdim=True))[:, None])
            v = self.activations[0](self.linears[0](v))
            self.order(v)
            return self.last(v * v.new_tensor([1.0, 1.01, 1.0]))[:, 0]

    found = audited(Numbered()).first_break
    assert found is not None
    assert (found.location, found.kind, found.confidence) == ("(root)", "functional", "high")
    assert found.between == ("order", "last")


@pytest.mark.heavy
@pytest.mark.parametrize("bug", layer_networks.BUGS)
def test_a_bug_in_an_e3nn_network_is_located(bug: str) -> None:
    network = layer_networks.e3nn_network(bug, 5, strength=1e-3)
    report = equicheck.audit(network.model, **network.options, **QUICK)
    assert report.first_break is not None
    assert report.first_break.location == network.expected
    assert len(report.breaks) == 1


@pytest.mark.heavy
def test_a_healthy_e3nn_network_has_no_break() -> None:
    network = layer_networks.e3nn_network(lmax=4)
    report = equicheck.audit(network.model, **network.options, **QUICK)
    assert report.verdict == "PASS"
    assert report.first_break is None
    assert "breaks" not in verdicts(report).values()
