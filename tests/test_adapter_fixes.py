"""What the adapters protect, copy and refuse, beside the verdicts."""

from __future__ import annotations

import json
import random
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import weight_norm

import equicheck
from audits import pull

GROUP = "E(3) x S(nodes)"
PLAN: dict[str, Any] = {"transforms": 5, "samples": 2}
LAYOUTS = {"in_layouts": "nodes point", "out_layouts": "nodes vector"}


def clouds(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)).to(dtype) for seed in range(2)]


def audit(model: Any, inputs: Any = None, **options: Any) -> equicheck.Report:
    given = {"group": GROUP, **LAYOUTS, **PLAN, **options}
    return equicheck.audit(model, clouds() if inputs is None else inputs, **given)


class Scaled(nn.Module):
    """A healthy map times a buffer; the buffer adds a constant vector, which breaks rotations."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=dtype))
        self.register_buffer("third", torch.tensor(1 / 3, dtype=dtype))
        self.register_buffer("offset", torch.zeros(3, dtype=dtype))
        self.register_buffer("count", torch.tensor(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pull(x) * self.weight * self.third * self.count + self.offset


def test_a_factory_takes_over_buffers_that_were_set() -> None:
    model = Scaled()
    model.offset.fill_(1e-4)
    model.count.fill_(5)
    report = audit(model, factory=Scaled)
    assert report.outputs["output"].classification == "approximate", report
    # The double-precision copy has the offset too: it is no rounding.
    assert report.outputs["output"].violation > 1e-5


def test_a_factory_keeps_its_more_exact_constants() -> None:
    from equicheck._torch import _copy_state

    model, exact = Scaled(), Scaled(torch.float64)
    model.count.fill_(7)
    _copy_state(model, exact)
    assert exact.third.item() == 1 / 3
    assert exact.count.item() == 7
    model.third.mul_(1 + 1e-6)
    _copy_state(model, exact)
    assert exact.third.item() == model.third.item()


def test_batch_norm_statistics_reach_the_factory_model() -> None:
    class Net(nn.Module):
        def __init__(self, dtype: torch.dtype = torch.float32) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(1, dtype=dtype)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.norm(x.square().sum(-1, keepdim=True))

    from equicheck._torch import _copy_state

    model, exact = Net(), Net(torch.float64)
    for _ in range(3):
        model(torch.randn(20, 3))
    _copy_state(model, exact)
    for name, buffer in model.named_buffers():
        assert torch.equal(dict(exact.named_buffers())[name], buffer.to(torch.float64).to(buffer.dtype)), name


class Counts(nn.Module):
    """Writes to a buffer, in several ways, and depends on it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result = pull(x) * self.weight * (1 + self.calls)
        if self.how == "in place":
            self.calls += 1
        elif self.how == "data":
            self.calls.data.add_(1)
        else:
            self.calls = self.calls + 1
        return result


@pytest.mark.parametrize("how", ["in place", "data", "replaced"])
@pytest.mark.parametrize("precision", ["both", "float64"])
def test_a_callable_around_a_module_starts_each_call_alike(how: str, precision: Any) -> None:
    net = Counts(how)
    direct = audit(net, precision=precision)
    around = audit(lambda x: net(x), module=net, precision=precision)
    assert direct.outputs["output"].classification == around.outputs["output"].classification
    # Only drift is wrong with it: errors are those of rounding.
    assert around.outputs["output"].max_relative < 1e-5
    assert net.calls.item() == 0


def states() -> tuple[Any, ...]:
    numpy = np.random.get_state()
    return random.getstate(), numpy[1].tobytes(), numpy[2], torch.get_rng_state().numpy().tobytes()


def test_generated_samples_are_distinct_and_repeat_and_cost_nothing() -> None:
    drawn: list[torch.Tensor] = []

    def draw(_: int) -> torch.Tensor:
        drawn.append(torch.randn(5, 3) + random.random() + np.random.rand())
        return drawn[-1]

    torch.manual_seed(5)
    before = states()
    audit(pull, draw)
    assert states() == before
    first = list(drawn)
    assert not torch.equal(first[0], first[1])
    drawn.clear()
    torch.manual_seed(6)
    audit(pull, draw)
    assert all(torch.equal(a, b) for a, b in zip(first, drawn, strict=True))


def test_everything_in_a_module_is_put_back() -> None:
    class Messy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recent: deque[int] = deque([1], maxlen=2)
            self.nested = {"a": [{"b": {1, 2}}]}
            self.table = np.arange(3.0)
            self.last: torch.Tensor | None = None
            self.child = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.recent.append(3)
            self.nested["a"][0]["b"].add(len(self.nested["a"]))
            self.nested["a"].append({"b": {9}})
            self.table += 1
            leaked = self.last is not None
            self.last = x
            self.added = 1
            self.child.register_forward_hook(lambda *_: None)
            self.register_forward_pre_hook(lambda *_: None)
            assert len(self.child._forward_hooks) == 1
            return pull(x) * (2 if leaked else 1)

    model = Messy()
    recent, nested, table = model.recent, model.nested, model.table
    report = audit(model)
    assert report.outputs["output"].max_relative < 1e-5, report
    assert model.recent is recent
    assert list(recent) == [1]
    assert model.nested is nested
    assert nested == {"a": [{"b": {1, 2}}]}
    assert model.table is table
    assert table.tolist() == [0, 1, 2]
    assert model.last is None
    assert not hasattr(model, "added")
    assert not model._forward_pre_hooks
    assert not model.child._forward_hooks


def test_lazy_parameters_are_refused() -> None:
    with pytest.raises(equicheck.SpecificationError, match="call the model once first"):
        audit(nn.LazyLinear(3))


def test_a_sparse_buffer_is_kept() -> None:
    class Sparse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mix", torch.eye(5).to_sparse())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result = torch.sparse.mm(self.mix, pull(x))
            self.mix._values().mul_(2)
            return result

    model = Sparse()
    audit(model)
    assert torch.equal(model.mix.to_dense(), torch.eye(5))


def test_inference_mode_around_the_audit() -> None:
    model = Scaled()
    with torch.inference_mode():
        report = audit(model, clouds())
        assert torch.is_inference_mode_enabled()
    assert report.verdict == "PASS", report


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_module_that_cannot_be_copied_is_compared_in_double_precision() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = weight_norm(nn.Linear(1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = pull(x)
            return y * self.linear(y.square().sum(-1, keepdim=True))

    model = Net()
    model(clouds()[0])
    with pytest.raises(RuntimeError, match="deepcopy"):
        __import__("copy").deepcopy(model)
    weight = model.linear.weight
    before = weight.detach().clone()
    report = audit(model)
    assert report.verdict == "PASS", report
    assert report.outputs["output"].classification == "exact", report
    assert model.linear.weight is weight
    assert torch.equal(weight, before)
    assert weight.dtype == torch.float32


def test_a_callable_alone_is_called_as_it_is() -> None:
    net = Scaled()
    assert json.loads(audit(lambda x: net(x)).to_json())["model"]["mode"] == "as_is"
    report = audit(lambda x: net(x), module=net)
    assert json.loads(report.to_json())["model"]["mode"] == "eval"


@pytest.mark.parametrize(
    ("option", "value"),
    [("seed", -1), ("seed", 1.5), ("budget", "long"), ("translation_scale", "far"), ("tolerance", "x")],
)
def test_options_that_are_no_numbers_are_named(option: str, value: Any) -> None:
    with pytest.raises(equicheck.SpecificationError, match=f"`{option}`"):
        audit(pull, **{option: value})


def test_an_object_inside_itself_is_no_endless_tree() -> None:
    class Result:
        def __init__(self, y: torch.Tensor) -> None:
            self.y = y
            self.me = self
            self.all = [self]

    report = audit(lambda x: Result(pull(x)), out_layouts={"y": "nodes vector"})
    assert report.outputs["y"].verdict == "PASS", report
    holder = Result(clouds()[0])
    report = audit(lambda r: pull(r.y), [holder], in_layouts={"y": "nodes point"})
    assert report.verdict == "PASS", report


def test_one_object_twice_is_two_outputs() -> None:
    def both(x: torch.Tensor) -> Any:
        result = {"y": pull(x)}
        return result, result

    report = audit(both, out_layouts=({"y": "nodes vector"}, {"y": "nodes vector"}))
    assert set(report.outputs) == {"0.y", "1.y"}


def test_numpy_functions_may_reuse_their_output_or_return_their_input() -> None:
    out = np.empty((5, 3))

    def reuses(x: np.ndarray) -> np.ndarray:
        np.subtract(x, x.mean(0), out=out)
        return out

    samples = [cloud.numpy() for cloud in clouds(torch.float64)]
    assert audit(reuses, samples).verdict == "PASS"
    options = {"group": "O(3) x S(nodes)", "in_layouts": "nodes vector"}
    view = audit(lambda x: x[:], samples, **options).outputs["output"]
    assert view.max_absolute == 0
    assert audit(lambda x: x[::-1], samples, **options).verdict == "FAIL"


def test_copies_do_not_hold_their_parameters_twice() -> None:
    from equicheck import _torch

    model = nn.Linear(3, 3)
    adapter = _torch.make(
        model,
        equicheck._model.Samples(torch.ones(2, 3), "nodes features"),
        [("output", "nodes features")],
        module=None,
        factory=None,
        method="forward",
        mode="eval",
    )
    adapter.call(equicheck.Args(torch.ones(2, 3)))
    copied = adapter.double()
    assert copied.protected is not None
    assert all(kept.values is None for kept in copied.protected.kept if kept.trained)
    assert adapter.protected is not None
    assert all(kept.values is not None for kept in adapter.protected.kept)
