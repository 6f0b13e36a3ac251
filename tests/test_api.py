"""``equicheck.audit`` as a caller sees it: samples, outputs, options, reports, odd tensors."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import equicheck
from audits import FEW, SPACE, Pull, audit_case, clouds, modes, pull
from equicheck import Args
from networks import CASES

FORCE_FIELD = next(case for case in CASES if case.name == "force_field")
GROUP = SPACE["group"]
XS = clouds(3)


def audit(model: Any, inputs: Any = XS, **options: Any) -> equicheck.Report:
    """Audit with few calls; under SPACE unless told otherwise."""
    return equicheck.audit(model, inputs, **(SPACE | FEW | options))


def inputs_of(report: equicheck.Report) -> dict[str, str | None]:
    """Return layouts of the inputs, by the names that the report uses."""
    return {row["name"]: row["layout"] for row in report.transforms if row["role"] == "input"}


def numpy_pull(x: np.ndarray) -> np.ndarray:
    difference = x[None] - x[:, None]
    weight = np.exp(-(difference**2).sum(-1) / 4)
    return np.asarray((weight[..., None] * difference).sum(1))


# Samples.


class Data:
    """As torch_geometric's: keys(), item access, attributes kept in a store of its own."""

    _store: dict[str, Any]

    def __init__(self, **store: Any) -> None:
        self.__dict__["_store"] = store

    def keys(self) -> list[str]:
        return [key for key, value in self._store.items() if value is not None]

    def __getitem__(self, key: str) -> Any:
        return self._store[key]

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["_store"][key]
        except KeyError:
            raise AttributeError(key) from None

    def __setattr__(self, key: str, value: Any) -> None:
        self._store[key] = value

    def __copy__(self) -> Data:
        return Data(**self._store)


class Record:
    """A plain object with attributes."""

    def __init__(self, pos: torch.Tensor, charge: torch.Tensor) -> None:
        self.pos = pos
        self.charge = charge
        self.name = "water"


CHARGE = torch.arange(1.0, 6.0)


def charged(pos: torch.Tensor, charge: torch.Tensor) -> torch.Tensor:
    return charge[:, None] * pull(pos)


def unpacked(data: Any) -> torch.Tensor:
    assert data.name == "water"  # what is no tensor is the sample's own
    return charged(data.pos, data.charge)


BY_NAME = {"pos": "nodes point", "charge": "nodes"}
BY_PLACE = ("nodes point", "nodes")
FORMS: dict[str, tuple[Any, Any, Any, list[str]]] = {
    "tensor": (pull, lambda x: x, "nodes point", ["input"]),
    "tuple": (charged, lambda x: (x, CHARGE), BY_PLACE, ["0", "1"]),
    "dict": (charged, lambda x: {"charge": CHARGE, "pos": x}, BY_NAME, ["charge", "pos"]),
    "args": (
        charged,
        lambda x: Args(x, charge=CHARGE),
        Args("nodes point", charge="nodes"),
        ["0", "charge"],
    ),
    "args, layouts by name": (
        charged,
        lambda x: Args(x, charge=CHARGE),
        {"0": "nodes point", "charge": "nodes"},
        ["0", "charge"],
    ),
    "one dict": (
        lambda sample: charged(**sample),
        lambda x: Args({"pos": x, "charge": CHARGE}),
        Args(BY_NAME),
        ["0.pos", "0.charge"],
    ),
    "one list": (
        lambda sample: charged(*sample),
        lambda x: Args([x, CHARGE]),
        Args(["nodes point", "nodes"]),
        ["0.0", "0.1"],
    ),
    "data": (
        unpacked,
        lambda x: Data(pos=x, charge=CHARGE, y=None, name="water"),
        BY_NAME,
        ["pos", "charge"],
    ),
    "object": (unpacked, lambda x: Record(x, CHARGE), BY_NAME, ["pos", "charge"]),
    "data among others": (
        lambda data, scale: scale * unpacked(data),
        lambda x: (Data(pos=x, charge=CHARGE, name="water"), 2.0),
        (BY_NAME, None),
        ["0.pos", "0.charge"],
    ),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_forms_of_a_sample(form: str) -> None:
    model, make, layouts, names = FORMS[form]
    report = audit(model, [make(x) for x in XS], in_layouts=layouts)
    # Tensors in each other's place would raise, or leave the charges behind when nodes move.
    assert report.verdict == "PASS", report
    assert report.outputs["output"].classification == "exact"
    assert list(inputs_of(report)) == names
    assert report.plan["samples"] == len(XS)
    # The other layouts were used, not guessed: with nodes declared plain the charges stay behind.
    if "charge" in str(names):
        broken = json.loads(json.dumps(layouts).replace('"nodes"', '"5"')) if form == "dict" else None
        if broken:
            assert audit(model, [make(x) for x in XS], in_layouts=broken).verdict == "FAIL"


def test_the_users_own_object_is_left_alone() -> None:
    given = Data(pos=XS[0], charge=CHARGE, name="water")
    before = dict(given._store)
    seen = []

    def model(data: Data) -> torch.Tensor:
        seen.append(data)
        data.cache = data.pos  # models write to their batch
        return unpacked(data)

    audit(model, given, in_layouts=BY_NAME)
    assert all(data is not given and isinstance(data, Data) for data in seen)
    assert given._store.keys() == before.keys()
    assert all(given._store[key] is before[key] for key in before)


def test_a_named_tuple_is_one_argument() -> None:
    class Graph(NamedTuple):
        pos: torch.Tensor
        charge: torch.Tensor

    def model(graph: Graph) -> torch.Tensor:
        return charged(graph.pos, graph.charge)

    report = audit(model, [Graph(x, CHARGE) for x in XS], in_layouts=Graph(*BY_PLACE))  # type: ignore[arg-type]
    assert report.verdict == "PASS"
    assert list(inputs_of(report)) == ["pos", "charge"]


def test_a_function_of_a_seed_gives_samples() -> None:
    asked = []

    def generate(seed: int) -> torch.Tensor:
        asked.append(seed)
        return clouds(seed + 1)[seed]

    report = audit(Pull(), generate, samples=4)
    assert report.plan["samples"] == 4
    assert sorted(set(asked)) == [0, 1, 2, 3]
    assert len(asked) == 4  # each once: a generator may be slow, or random


def test_one_sample_is_one_with_a_note() -> None:
    report = audit(Pull(), XS[0])
    assert report.plan["samples"] == 1
    assert any("one test sample" in note for note in report.notes)
    assert audit(Pull(), XS, samples=2).plan["samples"] == 2


def test_none_is_not_transformed() -> None:
    report = audit(charged, [(x, CHARGE) for x in XS], in_layouts=("nodes point", None))
    assert report.verdict == "FAIL"  # the charges stay while the nodes move
    assert inputs_of(report)["1"] is None
    assert modes(report) == {"permutation"}
    scale = torch.tensor(2.0)
    report = audit(lambda x, s: s * pull(x), [(x, scale) for x in XS], in_layouts=("nodes point", None))
    assert report.verdict == "PASS"


def test_arguments_that_are_no_tensors_pass_by_identity() -> None:
    token = object()
    labels = np.array(["C", "H", "H", "H", "H"])

    def model(x: torch.Tensor, token_: object, labels_: object, flag: bool) -> torch.Tensor:
        assert token_ is token
        assert labels_ is labels
        assert flag is True
        return pull(x)

    report = audit(model, [(x, token, labels, True) for x in XS], in_layouts=("nodes point", None, None, None))
    assert report.verdict == "PASS"


ERRORS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "missing name": (
        {"x": XS[0], "h": CHARGE},
        {"in_layouts": {"x": "nodes point"}},
        "input `h` has no layout: add it to in_layouts (None if it is not transformed)",
    ),
    "extra name": (
        {"x": XS[0], "h": CHARGE},
        {"in_layouts": {"x": "nodes point", "h": "nodes", "q": ""}},
        "in_layouts names `q`, which the sample does not have; it has: x, h",
    ),
    "missing attribute": (
        Data(pos=XS[0], charge=CHARGE),
        {"in_layouts": {"pos": "nodes point"}},
        "input `charge` has no layout: add it to in_layouts (None if it is not transformed)",
    ),
    "missing entry": (
        (XS[0], CHARGE),
        {"in_layouts": ("nodes point",)},
        "input `1` has no layout: add it to in_layouts (None if it is not transformed)",
    ),
    "dict for a tensor": (
        XS[0],
        {"in_layouts": {"x": "nodes point"}},
        "in_layouts: the sample is one tensor, so its layout is one string",
    ),
    "string for a tuple": (
        (XS[0], CHARGE),
        {"in_layouts": "nodes point"},
        "in_layouts: the sample holds several tensors (0, 1): give their layouts in the same structure",
    ),
    "no string": (
        (XS[0], CHARGE),
        {"in_layouts": ("nodes point", 3)},
        "layout of input `1`: expected a string or None, not int",
    ),
    "layout of no tensor": (
        (XS[0], "text"),
        {"in_layouts": ("nodes point", "nodes")},
        "in_layouts: input `1` is a str, not a numerical tensor: give None as its layout",
    ),
    "no tensor": (("text",), {"in_layouts": (None,)}, "the sample holds no tensor"),
    "no sample": ([], {}, "inputs: the list of samples is empty"),
    "samples differ": (
        [{"x": XS[0]}, {"x": XS[0], "h": CHARGE}],
        {"in_layouts": {"x": "nodes point"}},
        "sample 1: input `h` has no layout: add it to in_layouts (None if it is not transformed)",
    ),
    "sparse": (
        (XS[0], torch.eye(5).to_sparse()),
        {"in_layouts": ("nodes point", None)},
        "input `1` of sample 0: a torch.sparse_coo tensor is not supported: pass its dense parts (indices, values)",
    ),
    "option samples": (
        XS,
        {"samples": 0},
        "`samples`: expected a whole number of at least 1, not 0",
    ),
    "option transforms": (
        XS,
        {"transforms": 2.5},
        "`transforms`: expected a whole number of at least 1, not 2.5",
    ),
    "option seed": (
        XS,
        {"seed": -1},
        "`seed`: expected a whole number from 0 to 2**64 - 1, not -1",
    ),
    "option factory": (XS, {"factory": 3}, "`factory`: expected a function dtype -> model"),
    "option budget": (XS, {"budget": 0}, "`budget`: a positive number of seconds is needed"),
    "option mode": (XS, {"mode": "test"}, '`mode`: `test` is none of "eval", "train", "as_is"'),
    "option precision": (
        XS,
        {"precision": "half"},
        '`precision`: `half` is none of "both", "as_is", "float64"',
    ),
    "option translation_scale": (
        XS,
        {"translation_scale": -1.0},
        "`translation_scale`: a positive, finite length is needed",
    ),
    "option levels": (
        XS,
        {"levels": {"good": 1.0}},
        "`levels`: `good` is none of perfect, excellent, approximate",
    ),
    "option levels, order": (
        XS,
        {"levels": (1e-2, 1e-4, 1e-6)},
        "`levels`: perfect <= excellent <= approximate are needed, all positive",
    ),
    "option tolerance": (
        XS,
        {"tolerance": {"forces": 1e-3}},
        "`tolerance`: no output `forces` has a layout; outputs: output",
    ),
    "option method": (XS, {"method": "energy"}, "`method`: Pull has no method `energy`"),
    "option module": (
        XS,
        {"module": Pull()},
        "`module`: the model is an nn.Module itself; `module=` is for callables",
    ),
    "no function": (
        XS,
        {"representations": {"r": None}},
        "`representations`: `r`: expected a function of an Element that returns a matrix, not None",
    ),
}


@pytest.mark.parametrize("case", list(ERRORS))
def test_errors_name_what_is_wrong(case: str) -> None:
    inputs, options, message = ERRORS[case]
    with pytest.raises(equicheck.SpecificationError) as caught:
        audit(Pull(), inputs, **options)
    assert str(caught.value) == message


def test_a_model_that_cannot_be_called() -> None:
    with pytest.raises(equicheck.SpecificationError, match="which cannot be called"):
        audit("model")


def test_errors_have_one_base() -> None:
    assert issubclass(equicheck.SpecificationError, equicheck.EquicheckError)
    assert issubclass(equicheck.ModelError, equicheck.EquicheckError)
    assert issubclass(equicheck.EquicheckWarning, UserWarning)


# Outputs.


def test_a_tuple_output_needs_a_layout_for_each_tensor() -> None:
    def model(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return pull(x), x.mean(0)

    with pytest.raises(equicheck.SpecificationError) as caught:
        audit(model, out_layouts=("nodes vector",))
    assert str(caught.value) == (
        "`out_layouts`: output `1` is an entry of a tuple and has no layout: give one, or None to leave it out"
    )
    report = audit(model, out_layouts=("nodes vector", None))
    assert list(report.outputs) == ["0"]
    assert report.not_audited == ["1"]
    assert "Outputs not audited (returned, but no layout declared): 1" in str(report)


def test_an_output_that_was_not_returned() -> None:
    with pytest.raises(equicheck.SpecificationError) as caught:
        audit(lambda x: {"force": pull(x)}, out_layouts={"forces": "nodes vector"})
    assert str(caught.value) == ("the model returned no output `forces`; it returned `force` [5, 3]")
    with pytest.raises(equicheck.SpecificationError, match=r"^no output has a layout"):
        audit(lambda x: {"force": pull(x)}, out_layouts={"force": None})


def test_entries_of_dicts_may_be_left_out() -> None:
    def model(x: torch.Tensor) -> dict[str, Any]:
        odd = x.to_sparse()
        return MappingProxyType(  # type: ignore[return-value]
            {"forces": pull(x), "first": x[0], "deep": {"list": [x, x]}, "odd": odd}
        )

    report = audit(model, out_layouts={"forces": "nodes vector", "deep": None})
    assert report.verdict == "PASS"
    assert sorted(report.not_audited) == ["deep", "first", "odd"]


def test_a_list_below_an_entry_that_is_left_out_asks_for_nothing() -> None:
    """As transformers' outputs, whose hidden states are a tuple."""

    def model(x: torch.Tensor) -> dict[str, Any]:
        return {"forces": pull(x), "hidden": (x, [x, x]), "more": {"sizes": [1, 2]}}

    report = audit(model, out_layouts={"forces": "nodes vector"})
    assert list(report.outputs) == ["forces"]
    assert sorted(report.not_audited) == [
        "hidden.0",
        "hidden.1.0",
        "hidden.1.1",
        "more.sizes.0",
        "more.sizes.1",
    ]
    # One of them declared: then the others are asked for.
    with pytest.raises(equicheck.SpecificationError, match=r"output `hidden\.1\.0` is an entry"):
        audit(model, out_layouts={"forces": "nodes vector", "hidden": ("nodes point",)})
    with pytest.raises(equicheck.SpecificationError, match=r"output `1\.0` is an entry of a tuple"):
        audit(lambda x: (pull(x), [x]), out_layouts=("nodes vector",))


def test_irreps_objects_are_layouts() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    irreps = o3.Irreps("2x0e+1x1o")
    features = [torch.randn(4, 5, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    linear = o3.Linear(irreps, irreps)
    report = audit(
        lambda x: linear(x[:, :5]),
        features,
        module=linear,
        group="O(3)",
        in_layouts="batch 2x0e+1x1o",
        out_layouts="batch 2x0e+1x1o",
    )
    assert report.verdict == "PASS"
    report = audit(
        lambda v: (v * v).sum() * v,
        [torch.randn(3, generator=torch.Generator().manual_seed(k)) for k in range(3)],
        group="O(3)",
        in_layouts=o3.Irreps("1o"),
        out_layouts=o3.Irreps("1o"),
    )
    assert report.verdict == "PASS"
    assert inputs_of(report) == {"input": "1x1o"}


# Frameworks, modules, methods.


def test_numpy_functions() -> None:
    samples = [x.double().numpy() for x in XS]
    report = audit(numpy_pull, samples)
    assert report.verdict == "PASS"
    assert report.outputs["output"].classification == "exact"
    assert report.transforms[0]["dtype"] == "float64"
    assert audit(lambda x: np.tanh(numpy_pull(x)), samples).verdict == "FAIL"
    # A numpy function of f32 arrays is compared with itself on f64 arrays.
    single = audit(numpy_pull, [x.numpy() for x in XS]).outputs["output"]
    assert single.classification == "exact"
    assert single.violation < 1e-13 < 1e-8 < single.max_relative


@pytest.mark.parametrize("severity", [0.0, 1e-4, 0.3])
def test_two_adapters_give_the_same_figures(severity: float) -> None:
    """Operators alone, so that both frameworks round alike."""

    def function(x: Any) -> Any:
        squared = x[:, 0] * x[:, 0] + x[:, 1] * x[:, 1] + x[:, 2] * x[:, 2]
        return x * squared[:, None] + severity * (x * x)

    samples = clouds(4, dtype=torch.float64)
    layouts = {"group": "O(3) x S(nodes)", "in_layouts": "nodes vector"}
    in_torch = audit(function, samples, **layouts)
    in_numpy = audit(function, [x.numpy() for x in samples], **layouts)
    a, b = (json.loads(report.to_json()) for report in (in_torch, in_numpy))
    assert a["model"]["framework"] == "torch"
    assert b["model"]["framework"] == "numpy"
    assert in_torch.outputs["output"].max_absolute > 0
    for part in ("outputs", "verdict", "findings", "plan", "transforms", "levels"):
        assert a[part] == b[part], part


def test_the_module_behind_a_callable_is_protected_and_copied() -> None:
    class Drifting(Pull):
        calls: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.register_buffer("mix", torch.eye(3) * 1.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            with torch.no_grad():
                self.strength += 0.1
            return self.strength * (pull(x) @ self.mix)

    model = Drifting()
    tensors = {id(t): (t, t.clone(), t.data_ptr()) for t in model.state_dict(keep_vars=True).values()}
    report = audit(lambda x: model(x), module=model)
    output = report.outputs["output"]
    # The matrix product needs equal dtypes: f64 works because the module's tensors are exchanged.
    assert output.classification == "exact"
    assert output.violation < 1e-13
    assert modes(report) == {"state-drift"}
    for tensor, before, pointer in tensors.values():
        assert tensor.data_ptr() == pointer
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before)
    assert all(id(t) in tensors for t in model.state_dict(keep_vars=True).values())
    # Without its module the callable has no f64 form.
    alone = audit(lambda x: model(x)).outputs["output"]
    assert alone.float64["status"] == "unavailable"


class Named(nn.Module):
    """Its energy is a method; its forward must not be called."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_(2 * torch.eye(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def energy(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(pull(x)).square().sum()


def test_a_method_and_a_bound_method() -> None:
    model = Named()
    for report in (
        audit(model, method="energy", out_layouts=""),
        audit(model.energy, out_layouts=""),
        audit(partial(model.energy), module=model, out_layouts=""),
    ):
        assert report.verdict == "PASS"
        # The copy's method, in f64: with the original's the dtypes would not fit.
        assert report.outputs["output"].classification == "exact"
        assert report.outputs["output"].violation < 1e-13


class Switched(nn.Module):
    """Healthy in eval mode; plain noise per component in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Dropout(0.5)
        self.flags: set[bool] = set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        FLAGS.add((self.training, self.inner.training))
        return self.inner(pull(x))


FLAGS: set[tuple[bool, bool]] = set()


@pytest.mark.parametrize(
    ("mode", "flags", "verdict"),
    [
        ("eval", (False, False), "PASS"),
        ("train", (True, True), "NEEDS_ATTENTION"),
        ("as_is", (True, False), "PASS"),
    ],
)
def test_modes(mode: str, flags: tuple[bool, bool], verdict: str) -> None:
    model = Switched().train()
    model.inner.eval()
    FLAGS.clear()
    report = audit(model, mode=mode)
    assert {flags} == FLAGS  # copies in f64 included
    assert report.verdict == verdict
    assert modes(report) == ({"randomness"} if mode == "train" else set())
    assert (model.training, model.inner.training) == (True, False)


def test_wrappers_that_distribute_or_compile() -> None:
    healthy = audit(Pull())
    inner = Pull()
    for wrapped in (nn.DataParallel(inner), torch.compile(inner, backend="eager")):
        report = audit(wrapped)
        assert report.verdict == "PASS"
        assert json.loads(report.to_json())["model"]["name"] == "Pull"
        assert report.outputs["output"].violation == healthy.outputs["output"].violation


def test_a_scripted_model() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against scripting
        scripted = torch.jit.script(Scriptable())
    report = audit(scripted, group="O(3)", in_layouts="nodes! vector", out_layouts="nodes! vector")
    assert report.verdict == "PASS"
    assert report.outputs["output"].classification == "exact"


class Scriptable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x * torch.sigmoid(x.square().sum(-1, keepdim=True))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_forces_from_autograd_under_a_callers_mode(
    context: type[AbstractContextManager[None]],
) -> None:
    model = FORCE_FIELD.build()
    inside = {}
    with context():
        for module in (None, model):
            function = model if module is None else lambda **x: model(**x)
            report = audit_case(FORCE_FIELD, function, module=module, **FEW)
            # "exact": the copy in f64 differentiates too.
            assert report.verdict == "PASS"
            assert report.outputs["forces"].classification == "exact"
        inside = {"grad": torch.is_grad_enabled(), "inference": torch.is_inference_mode_enabled()}
    assert inside == {"grad": False, "inference": context is torch.inference_mode}
    assert not any(parameter.is_inference() for parameter in model.parameters())


def test_a_lazy_model_has_to_be_called_first() -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.LazyLinear(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(pull(x).square().sum(-1, keepdim=True))

    model = Lazy()
    with pytest.raises(equicheck.SpecificationError, match=r"`last\.weight` is not initialised"):
        audit(model, out_layouts="nodes 1")
    model(XS[0])
    assert audit(model, out_layouts="nodes 1").verdict == "PASS"


def test_a_model_made_under_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        model = Pull()
    with pytest.raises(equicheck.SpecificationError, match="`strength` was made under"):
        audit(model)


def test_gradients_are_on_and_inputs_are_leaves() -> None:
    seen = []

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.append((x.is_leaf, x.requires_grad, x.is_contiguous(), torch.is_grad_enabled()))
        return pull(x)

    audit(model, [x.T.contiguous().T.requires_grad_() for x in XS])
    assert set(seen) == {(True, True, True, True)}
    seen.clear()
    audit(model)
    assert set(seen) == {(True, False, True, True)}


# Options.


def test_segments_keep_graphs_together() -> None:
    """Graphs that lie one behind the other: a free permutation would tear them apart."""
    sizes = torch.tensor([3, 2])

    def model(x: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        parts = torch.split(x, torch.bincount(batch).tolist())
        return torch.stack([pull(part).square().sum() for part in parts])

    samples = [(x, torch.repeat_interleave(torch.arange(2), sizes)) for x in XS]
    options = {"in_layouts": ("nodes point", "nodes"), "out_layouts": "graphs"}
    assert audit(model, samples, **options).verdict == "FAIL"
    assert audit(model, samples, segments={"nodes": "1"}, **options).verdict == "PASS"
    with pytest.raises(equicheck.SpecificationError, match="`segments`: no input `batch`"):
        audit(model, samples, segments={"nodes": "batch"}, **options)
    with pytest.raises(equicheck.SpecificationError, match="the group does not permute `edges`"):
        audit(model, samples, segments={"edges": "1"}, **options)


def leaking(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """One output 1e-3 off, the other 1e-5."""
    y = pull(x)
    wrong = torch.tensor([1.0, -1.0, 0.0]).to(y) * y
    return {"coarse": y + 1e-3 * wrong, "fine": y + 1e-5 * wrong}


def test_tolerances() -> None:
    layouts = {"out_layouts": {"coarse": "nodes vector", "fine": "nodes vector"}}
    strict = audit(leaking, **layouts)
    assert [output.verdict for output in strict.outputs.values()] == ["NEEDS_ATTENTION"] * 2
    one = audit(leaking, tolerance=1e-4, **layouts)
    assert one.outputs["coarse"].verdict == "NEEDS_ATTENTION"
    assert one.outputs["fine"].verdict == "PASS"
    assert one.outputs["fine"].classification == "approximate"  # the class stays
    assert "1.0e-4" in one.outputs["fine"].reason
    named = audit(leaking, tolerance={"coarse": 8e-3}, **layouts)
    assert named.outputs["coarse"].verdict == "PASS"
    assert named.outputs["coarse"].tolerance == 8e-3
    assert named.outputs["fine"].verdict == "NEEDS_ATTENTION"
    assert audit(leaking, tolerance=8e-3, **layouts).verdict == "PASS"
    # No tolerance passes what is broken.
    assert audit(lambda x: torch.tanh(x), tolerance=100.0).verdict == "FAIL"


def test_levels() -> None:
    assert audit(Pull()).outputs["output"].level == "perfect"
    strict = audit(Pull(), levels=(1e-9, 1e-8, 1e-2))
    assert strict.outputs["output"].level == "approximate"
    assert strict.verdict == "NEEDS_ATTENTION"
    assert modes(strict) == {"numerical-precision"}  # no module amplifies it
    assert audit(Pull(), levels={"perfect": 1e-9}).outputs["output"].level == "excellent"
    wide = audit(lambda x: leaking(x)["coarse"], levels={"approximate": 1e-2})
    narrow = audit(lambda x: leaking(x)["coarse"], levels={"approximate": 5e-4})
    assert (wide.verdict, narrow.verdict) == ("NEEDS_ATTENTION", "FAIL")


def test_translation_scale() -> None:
    spread = torch.stack([(x - x.mean(0)).square().sum(-1).mean().sqrt() for x in XS]).median()
    assert audit(Pull()).plan["translation_scale"] == pytest.approx(float(spread), rel=1e-6)
    moved = []

    def model(x: torch.Tensor) -> torch.Tensor:
        moved.append(float(x.mean(0).norm()))
        return pull(x)

    report = audit(model, translation_scale=300.0)
    assert report.plan["translation_scale"] == 300.0
    assert max(moved) > 100


def test_sizes_of_the_plan() -> None:
    report = audit(Pull(), samples=np.int64(2), transforms=12)
    rows = {row["factor"]: row["pairs"] for row in report.outputs["output"].factors}
    assert report.plan["samples"] == 2
    # Half of the drawn elements act jointly, the others one factor at a time.
    assert rows["joint"] == 12
    assert rows["O(3)"] + rows["T(3)"] + rows["S(nodes)"] == 12
    assert rows["O(3), det +1"] + rows["O(3), det -1"] == rows["O(3)"]
    assert report.plan["pairs"] == report.plan["planned_pairs"]
    assert report.plan["calls"] == sum(report.plan["calls_by_purpose"].values())


def test_the_calls_are_counted_as_made() -> None:
    calls = 0

    def model(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return pull(x)

    assert audit(model).plan["calls"] == calls


def test_default_size_is_the_one_for_small_models() -> None:
    report = equicheck.audit(numpy_pull, lambda seed: clouds(seed + 1)[seed].numpy(), **SPACE)
    drawn = sum(row["pairs"] for row in report.outputs["output"].factors if "det" not in row["factor"])
    assert report.plan["samples"] == 50
    assert drawn == 50 * 50


def slow(x: torch.Tensor) -> torch.Tensor:
    time.sleep(0.004)
    return pull(x)


def test_a_budget_that_cuts_leaves_the_audit_undetermined() -> None:
    started = time.monotonic()
    report = equicheck.audit(slow, clouds(12), budget=0.5, **SPACE)
    assert time.monotonic() - started < 5
    output = report.outputs["output"]
    assert report.verdict == "NEEDS_ATTENTION"
    assert output.classification == "undetermined"
    assert "budget" in output.reason
    assert report.plan["pairs"] < report.plan["planned_pairs"]
    assert any("time budget ended the audit after" in note for note in report.notes)
    assert "(cut short)" in str(report)


def test_a_budget_that_cuts_does_not_hide_a_broken_model() -> None:
    report = equicheck.audit(lambda x: torch.tanh(slow(x)), clouds(12), budget=0.5, **SPACE)
    assert report.verdict == "FAIL"


def test_an_infinite_budget() -> None:
    assert audit(Pull(), budget=float("inf")).verdict == "PASS"


def test_progress_is_reported_and_cannot_break_an_audit() -> None:
    steps: list[tuple[int, int]] = []
    report = audit(Pull(), progress=lambda done, planned: steps.append((done, planned)))
    pairs = report.plan["pairs"]
    assert steps == [(done, pairs) for done in range(pairs + 1)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broken_progress_callback_costs_the_display_alone() -> None:
    calls = []

    def progress(done: int, planned: int) -> None:
        calls.append(done)
        raise ValueError("broken display")

    assert audit(Pull(), progress=progress).verdict == "PASS"
    assert calls == [0]


# Reports.


def test_equal_seeds_give_equal_bytes() -> None:
    def text(seed: int) -> str:
        return audit(FORCE_FIELD.build(), **force_field, seed=seed).to_json()

    force_field: dict[str, Any] = {
        "inputs": [FORCE_FIELD.inputs(seed) for seed in range(2)],
        "in_layouts": FORCE_FIELD.in_layouts,
        "out_layouts": FORCE_FIELD.out_layouts,
    }
    first = text(1)
    torch.rand(3), np.random.rand(3)  # not of the generators' state
    assert text(1) == first
    other = text(2)
    assert other != first
    a, b = json.loads(first), json.loads(other)
    assert (a["plan"]["seed"], b["plan"]["seed"]) == (1, 2)
    # Other elements were drawn.
    assert a["outputs"]["forces"]["absolute"] != b["outputs"]["forces"]["absolute"]
    assert a["verdict"] == b["verdict"] == "PASS"


def test_json_holds_everything_and_reads_back() -> None:
    report = audit(leaking, out_layouts={"coarse": "nodes vector"})
    text = report.to_json()
    assert "timings" not in json.loads(text)
    again = equicheck.Report.from_json(text)
    assert again.to_json() == text
    assert again.timings is None
    for part in ("verdict", "exit_status", "group", "not_audited", "recommendations", "quality", "notes"):
        assert getattr(again, part) == getattr(report, part)
    for part in ("transforms", "plan", "environment"):
        assert getattr(again, part) == getattr(report, part)
    ours, theirs = report.outputs["coarse"], again.outputs["coarse"]
    for part in (name for name in dir(ours) if not name.startswith("_")):
        assert getattr(theirs, part) == getattr(ours, part), part
    assert [f.evidence for f in again.findings] == [f.evidence for f in report.findings]
    timed = equicheck.Report.from_json(report.to_json(timings=True))
    assert timed.timings == report.timings
    assert report.timings is not None
    assert report.timings["total"] >= report.timings["model"] > 0


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format_version": 99}'])
def test_text_that_is_no_report(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        equicheck.Report.from_json(text)


def test_save(tmp_path: Path) -> None:
    report = audit(Pull())
    for ending, text in (
        (".json", report.to_json()),
        (".txt", report.to_text()),
        (".md", report.to_markdown()),
    ):
        path = tmp_path / f"report{ending}"
        report.save(path)
        assert path.read_text() == text
        report.save(str(path))
    for name in ("report.html", "report", "json"):
        with pytest.raises(ValueError, match=re.escape(f"{name}`: the ending decides the form: .json, .txt or .md")):
            report.save(tmp_path / name)
        assert not (tmp_path / name).exists()
    with pytest.raises(FileNotFoundError):
        report.save(tmp_path / "none" / "report.json")


def test_text_has_the_headings_of_the_template() -> None:
    text = str(audit(Pull()))
    headings = [
        "MODEL EQUIVARIANCE AUDIT REPORT",
        "===============================",
        "Model: Pull",
        "Intended Symmetry: E(3) x S(nodes)",
        "Symmetry Type: Equivariant",
        "END-TO-END TESTS:",
        "-----------------",
        "Test samples: 3",
        "Transformations tested: ",
        "Invariance/Equivariance Error:",
        "- Mean absolute: ",
        "- Max absolute: ",
        "- Mean relative: ",
        "- Max relative: ",
        "- RESULT: PASS",
        "LAYER-WISE ANALYSIS:",
        "--------------------",
        "- Layer: none loses the symmetry",
        "- Error: largest own error ",
        "- Result: PASS",
        "GRADIENT TEST:",
        "--------------",
        "- Gradient equivariance error: not run",
        "- RESULT: not run",
        "IDENTIFIED ISSUES:",
        "------------------",
        "OVERALL VERDICT: PASS",
        "Recommendations:",
        "- ",
    ]
    at = 0
    for heading in headings:
        match = re.search("^" + re.escape(heading), text[at:], re.MULTILINE)
        assert match, heading
        at += match.end()


def test_reprs_say_what_matters() -> None:
    report = audit(lambda x: torch.tanh(3 * x))
    assert repr(report) == "<equicheck.Report FAIL under E(3) x S(nodes) (output: broken FAIL)>"
    assert repr(report.outputs["output"]).startswith("<equicheck.OutputReport output: broken, FAIL,")
    assert repr(report.findings[0]).startswith("<equicheck.Finding undiagnosed at output `output`")
    assert report._repr_markdown_() == report.to_markdown()
    assert repr(Args(1, a="b")) == "Args(1, a='b')"


def test_exit_statuses() -> None:
    assert audit(Pull()).exit_status == 0
    assert audit(lambda x: torch.tanh(x)).exit_status == 1
    assert audit(lambda x: leaking(x)["fine"]).exit_status == 2


def test_raise_for_failure() -> None:
    failed = audit(lambda x: torch.tanh(x))
    for on in ("FAIL", "NEEDS_ATTENTION"):
        with pytest.raises(AssertionError) as caught:
            failed.raise_for_failure(on)  # type: ignore[arg-type]
        assert "OVERALL VERDICT: FAIL" in str(caught.value)
        # The innermost frame is the line of the test that called it.
        last = traceback.extract_tb(caught.value.__traceback__)[-1]
        assert last.filename == __file__
        assert last.line is not None
        assert "raise_for_failure" in last.line

    attention = audit(lambda x: leaking(x)["fine"])
    with pytest.raises(AssertionError, match="OVERALL VERDICT: NEEDS_ATTENTION"):
        attention.raise_for_failure(on="NEEDS_ATTENTION")
    with pytest.warns(equicheck.EquicheckWarning, match="^equivariance audit: NEEDS_ATTENTION") as warned:
        attention.raise_for_failure()
    assert warned[0].filename == __file__
    assert "violation" in str(warned[0].message)

    audit(Pull()).raise_for_failure()
    audit(Pull()).raise_for_failure(on="NEEDS_ATTENTION")
    with pytest.raises(ValueError, match="`on`: `PASS` is neither"):
        audit(Pull()).raise_for_failure("PASS")  # type: ignore[arg-type]


# Odd tensors.


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


ARRAYS = {
    "read-only": read_only,
    "big-endian": lambda x: x.astype(">f8"),
    "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "strided": lambda x: np.repeat(x, 2, 0)[::2],
    "column-major": np.asfortranarray,
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), np.float64, offset=1).reshape(x.shape),
}


@pytest.mark.parametrize("kind", list(ARRAYS))
def test_odd_arrays_have_the_same_values(kind: str) -> None:
    plain = [x.double().numpy() for x in XS]
    odd = [ARRAYS[kind](x) for x in plain]
    assert all((a == b).all() for a, b in zip(odd, plain, strict=True))
    given = [x.copy() for x in odd]

    def model(x: np.ndarray) -> np.ndarray:
        assert x.flags.writeable
        assert x.dtype.isnative
        y = numpy_pull(x)
        x += 1
        return y

    report = audit(model, odd)
    assert report.outputs["output"].absolute == audit(model, plain).outputs["output"].absolute
    assert report.verdict == "PASS"
    assert all((a == b).all() for a, b in zip(odd, given, strict=True))


def test_views_and_expanded_tensors() -> None:
    plain = audit(Pull()).outputs["output"]
    view = audit(Pull(), [x.T.contiguous().T for x in XS]).outputs["output"]
    assert view.absolute == plain.absolute
    slices = audit(Pull(), [torch.stack([x, x + 1])[0] for x in XS]).outputs["output"]
    assert slices.absolute == plain.absolute

    def model(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        weight.mul_(1)  # writing to an expanded tensor raises
        return pull(x) * weight

    weight = torch.full((1, 1), 2.0).expand(5, 3)
    report = audit(model, [(x, weight) for x in XS], in_layouts=("nodes point", "nodes 3"))
    assert report.verdict == "PASS"


def test_tensors_without_axes_and_without_entries() -> None:
    def model(x: torch.Tensor, scale: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        assert scale.shape == ()
        return scale * pull(x).index_add(0, edges[0], x[edges[0]] - x[edges[1]])

    edges = torch.zeros(2, 0, dtype=torch.int64)
    samples = [(x, torch.tensor(3.0), edges) for x in XS]
    layouts = ("nodes point", "", "2 edges : nodes")
    assert audit(model, samples, in_layouts=layouts).verdict == "PASS"
    # Nothing at all: no test, so no pass.
    empty = audit(pull, torch.zeros(0, 3))
    assert empty.verdict == "NEEDS_ATTENTION"
    assert modes(empty) == {"vacuous-test"}
    single = audit(pull, torch.randn(1, 3))  # one node has no neighbours
    assert single.verdict == "NEEDS_ATTENTION"


def test_masks_and_integers_move_with_their_nodes() -> None:
    def model(x: torch.Tensor, mask: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        assert mask.dtype == torch.bool
        assert kind.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
        return pull(x) * mask[:, None] * (1 + kind[:, None])

    mask = torch.tensor([True, False, True, True, False])
    layouts = ("nodes point", "nodes", "nodes")
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        samples = [(x, mask, torch.arange(5).to(dtype)) for x in XS]
        assert audit(model, samples, in_layouts=layouts).verdict == "PASS"
    with pytest.raises(equicheck.SpecificationError, match="int64 values cannot be turned"):
        audit(model, [(torch.ones(5, 3, dtype=torch.int64), mask, mask)], in_layouts=layouts)


def test_indices_are_relabelled() -> None:
    def model(x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x).index_add(0, edges[0], x[edges[1]] - x[edges[0]])

    edges = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 4, 2]])
    samples = [(x, edges) for x in XS]
    right = audit(model, samples, in_layouts=("nodes point", "2 edges : nodes"))
    assert right.verdict == "PASS"
    wrong = audit(model, samples, in_layouts=("nodes point", "2 edges"))
    assert wrong.verdict == "FAIL"
    assert modes(wrong) == {"untransformed-input"}
    assert "2 edges : nodes" in wrong.findings[0].fix
    # Output values that are positions are compared as positions: the nearest neighbour of each.
    nearest = audit(
        lambda x: torch.cdist(x, x).fill_diagonal_(9e9).argmin(-1),
        clouds(3, dtype=torch.float64),
        out_layouts="nodes : nodes",
    )
    assert nearest.verdict == "PASS"
    wrong = audit(
        lambda x: torch.cdist(x, x).fill_diagonal_(9e9).argmin(-1),
        clouds(3, dtype=torch.float64),
        out_layouts="nodes",
    )
    assert wrong.verdict == "FAIL"


def test_complex_tensors() -> None:
    samples = [
        torch.randn(5, 3, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed)) for seed in range(3)
    ]
    options = {"group": "SO(3) x S(nodes)", "in_layouts": "nodes vector"}
    right = audit(lambda x: x * (x * x).sum(-1, keepdim=True), samples, **options)
    assert right.verdict == "PASS"
    assert right.outputs["output"].classification == "exact"
    assert audit(lambda x: x * x, samples, **options).verdict == "FAIL"
    # The imaginary part alone is wrong.
    half = audit(lambda x: torch.complex(x.real, torch.tanh(x.imag)), samples, **options)
    assert half.verdict == "FAIL"


def test_tied_parameters_stay_tied() -> None:
    class Tied(Pull):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3, bias=False)
            self.second = nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert self.first.weight is self.second.weight
            # Untied in a copy, one of the two would move without the other.
            apart = (self.first.weight - self.second.weight).abs().sum()
            return super().forward(x) * (1 + 1e6 * apart) * self.first.weight.sum()

    model = Tied()
    report = audit(model)
    assert report.outputs["output"].classification == "exact"
    assert model.first.weight is model.second.weight


# Interruption.


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Python's own handler, whatever the test runner has installed."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_a_signal_ends_the_audit_within_one_call() -> None:
    sent = threading.Event()
    after = 0

    def model(x: torch.Tensor) -> torch.Tensor:
        nonlocal after
        after += sent.is_set()
        time.sleep(0.01)
        return pull(x)

    def send() -> None:
        sent.set()
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, send)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        equicheck.audit(model, clouds(20), budget=float("inf"), **SPACE)
    timer.join()
    # The call under way, and at most one that began before the signal was delivered.
    assert after <= 1


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_exits_pass_through(exception: type[BaseException]) -> None:
    calls = 0

    def model(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 10:
            raise exception("stop")
        return pull(x)

    with pytest.raises(exception, match="stop"):
        audit(model)
    assert calls == 10


# The package.


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)


def test_torch_is_not_imported() -> None:
    result = run(
        "import sys, numpy as np, equicheck\n"
        "random = np.random.default_rng(0)\n"
        "report = equicheck.audit(lambda x: x * (x**2).sum(-1, keepdims=True),\n"
        "    [random.normal(size=(4, 3)) for _ in range(3)], group='O(3) x S(nodes)',\n"
        "    in_layouts='nodes vector', out_layouts='nodes vector', transforms=8)\n"
        "assert report.verdict == 'PASS', report\n"
        "loaded = {'torch', 'jax', 'ase', 'e3nn'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    assert result.returncode == 0, result.stderr


def test_torch_is_not_needed() -> None:
    """Where torch cannot be imported at all."""
    result = run(
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "import numpy as np, equicheck\n"
        "x = np.random.default_rng(0).normal(size=(4, 3))\n"
        "equicheck.audit(lambda x: x * 2, x, group='O(3)', in_layouts='4 vector',\n"
        "    out_layouts='4 vector', transforms=8)\n"
    )
    assert result.returncode == 0, result.stderr


def test_the_stub_agrees_with_the_extension() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "equicheck._equicheck"],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        cwd=Path(__file__).parent.parent,
    )
    assert result.returncode == 0, result.stdout + result.stderr
