"""Write the models that the tests run, and what they must give.

    python make_models.py

Needs torch, onnx and onnxscript, as tools/requirements-test.txt has them. Beside each NAME.onnx stands NAME.json with
inputs and outputs: those of torch for exported modules, else those of the reference implementation of the standard
(onnx.reference). Values beside a model are in files of their own.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

HERE = Path(__file__).resolve().parent
FLOAT, DOUBLE, HALF = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16
INT64, INT32, BOOL = TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL


class EGNN(nn.Module):
    """E(n)-equivariant graph network (Satorras et al., 2021): new positions and one invariant per graph.

    ``leak`` adds absolute coordinates to the features: the planted bug.
    """

    def __init__(self, features=4, hidden=16, layers=2, leak=0.0):
        super().__init__()
        self.leak = leak
        self.embed = nn.Linear(features, hidden)
        self.edge = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * hidden + 1, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
            for _ in range(layers)
        )
        self.coordinate = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)) for _ in range(layers)
        )
        self.node = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden)) for _ in range(layers)
        )
        self.readout = nn.Linear(hidden, 1)

    def forward(self, pos, features, edges):
        h = self.embed(features) + self.leak * pos[:, :1]
        x = pos
        i, j = edges[0], edges[1]
        for edge, coordinate, node in zip(self.edge, self.coordinate, self.node, strict=True):
            difference = x[i] - x[j]
            squared = (difference**2).sum(-1, keepdim=True)
            message = edge(torch.cat([h[i], h[j], squared], -1))
            shift = difference / (1 + squared) * coordinate(message)
            x = x + torch.zeros_like(x).index_add(0, i, shift)
            gathered = torch.zeros_like(h).index_add(0, i, message)
            h = h + node(torch.cat([h, gathered], -1))
        return x, self.readout(h).sum()


class Circular(nn.Module):
    """Convolutions with circular padding, and the mean over the picture."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")
        self.second = nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular")

    def forward(self, image):
        fields = self.second(torch.tanh(self.first(image)))
        return {"fields": fields, "mean": fields.mean((2, 3))}


class Embedding(nn.Module):
    """Integers and booleans in, an integer out."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 6)
        self.out = nn.Linear(6, 3)

    def forward(self, numbers, mask):
        rows = torch.where(mask[:, None], self.table(numbers), torch.zeros(()))
        scores = self.out(rows)
        return scores, scores.argmax(-1)


def entry(name, value):
    """One tensor as JSON: its name, numpy's name of its type, shape and values."""
    value = np.asarray(value)
    flat = value.astype(np.float64 if value.dtype.kind == "f" else value.dtype).reshape(-1)
    return {"name": name, "dtype": str(value.dtype), "shape": list(value.shape), "values": flat.tolist()}


def record(name, cases):
    """Write NAME.json."""
    lines = [
        {"inputs": [entry(*pair) for pair in inputs], "outputs": [entry(*pair) for pair in outputs]}
        for inputs, outputs in cases
    ]
    (HERE / f"{name}.json").write_text(json.dumps(lines) + "\n")


def exported(name, module, samples, input_names, output_names, dynamic, opset=18):
    """Export a module and record what torch gives on the samples."""
    module = module.eval()
    path = HERE / f"{name}.onnx"
    program = torch.onnx.export(
        module,
        samples[0],
        input_names=input_names,
        output_names=output_names,
        dynamic_shapes=dynamic,
        opset_version=opset,
        dynamo=True,
        verbose=False,
    )
    program.save(path)
    trim(path)
    cases = []
    for sample in samples:
        with torch.no_grad():
            result = module(*sample)
        if isinstance(result, dict):
            result = tuple(result.values())
        results = result if isinstance(result, tuple) else (result,)
        inputs = [(n, v.numpy()) for n, v in zip(input_names, sample, strict=True)]
        cases.append((inputs, [(n, v.numpy()) for n, v in zip(output_names, results, strict=True)]))
    record(name, cases)


def trim(path):
    """Drop what only debuggers read: stack traces, with paths of the machine that exported."""
    model = onnx.load(path, load_external_data=False)

    def clean(nodes):
        for node in nodes:
            node.ClearField("doc_string")
            del node.metadata_props[:]
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    clean(attribute.g.node)

    del model.metadata_props[:]
    for function in model.functions:
        clean(function.node)
        del function.metadata_props[:]
    graph = model.graph
    del graph.metadata_props[:]
    clean(graph.node)
    for value in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        del value.metadata_props[:]
        value.ClearField("doc_string")
    path.write_bytes(model.SerializeToString(deterministic=True))


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def build(nodes, inputs, outputs, initializers=(), opset=18, domains=(), functions=(), ir=8, name="graph"):
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), list(initializers))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=list(functions))
    model.producer_name, model.producer_version = "equicheck", "1"
    return model


def written(name, model, samples=(), check=True):
    """Write a model, and record what the reference implementation gives on the samples."""
    if check:
        onnx.checker.check_model(model, full_check=True)
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    if samples:
        reference = ReferenceEvaluator(model)
        outputs = [output.name for output in model.graph.output]
        cases = []
        for sample in samples:
            results = reference.run(None, sample)
            cases.append((list(sample.items()), list(zip(outputs, results, strict=True))))
        record(name, cases)


def networks(rng):
    """Modules of torch."""
    nodes, edges = torch.export.Dim("nodes", min=2), torch.export.Dim("edges", min=2)

    def graph(count):
        pos = torch.from_numpy(rng.normal(size=(count, 3)).astype(np.float32))
        features = torch.from_numpy(rng.normal(size=(count, 4)).astype(np.float32))
        pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
        return pos, features, torch.tensor(pairs, dtype=torch.int64).T.contiguous()

    names = ["pos", "features", "edges"], ["x", "energy"]
    dynamic = {"pos": {0: nodes}, "features": {0: nodes}, "edges": {1: edges}}
    for name, leak in [("egnn", 0.0), ("egnn_leak", 0.3)]:
        torch.manual_seed(1)
        exported(name, EGNN(leak=leak), [graph(5), graph(7)], *names, dynamic)

    torch.manual_seed(2)
    images = [torch.from_numpy(rng.normal(size=(b, 1, 6, 6)).astype(np.float32)) for b in (2, 3)]
    batch = {"image": {0: torch.export.Dim("batch", min=2)}}
    exported("circular", Circular(), [(image,) for image in images], ["image"], ["fields", "mean"], batch)

    torch.manual_seed(3)
    pairs = [(torch.tensor(n), torch.tensor(m)) for n, m in [([1, 9, 3], [True, False, True]), ([4, 4], [False, True])]]
    length = torch.export.Dim("length", min=2)
    lengths = {"numbers": {0: length}, "mask": {0: length}}
    exported("embedding", Embedding(), pairs, ["numbers", "mask"], ["scores", "best"], lengths)

    torch.manual_seed(4)
    linear = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    rows = [(torch.from_numpy(rng.normal(size=(b, 4)).astype(np.float32)),) for b in (2, 5)]
    exported("external", linear, rows, ["input"], ["output"], ({0: torch.export.Dim("batch", min=2)},))
    model = onnx.load(HERE / "external.onnx")
    (HERE / "external.data").unlink(missing_ok=True)
    onnx.save(model, HERE / "external.onnx", save_as_external_data=True, location="external.data", size_threshold=0)


def operators(rng):
    """Operator sets, and what exporters seldom write."""

    def floats(*shape):
        return rng.normal(size=shape).astype(np.float32)

    # One small network in several operator sets.
    for opset, ir in [(9, 4), (11, 6), (13, 7), (17, 8), (21, 10), (23, 11)]:
        nodes = [
            helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="first", transB=1),
            helper.make_node("Sigmoid", ["y"], ["s"], name="gate"),
            helper.make_node("Mul", ["y", "s"], ["z"], name="swish"),
            helper.make_node("MatMul", ["z", "v"], ["out"], name="last"),
        ]
        held = [tensor("w", floats(5, 3)), tensor("b", floats(5)), tensor("v", floats(5, 2))]
        model = build(nodes, [value("x", FLOAT, ["n", 3])], [value("out", FLOAT, ["n", 2])], held, opset=opset, ir=ir)
        written(f"opset{opset}", model, [{"x": floats(2, 3)}, {"x": floats(4, 3)}])

    # A default that one backend has wrong: a constant of a shape is float, and zero.
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], name="shape"),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"], name="zeros"),
        helper.make_node("Constant", [], ["half"], name="half", value_float=0.3),
        helper.make_node("Add", ["zeros", "half"], ["halves"], name="halves"),
        helper.make_node("Add", ["x", "halves"], ["y"], name="sum"),
    ]
    model = build(nodes, [value("x", FLOAT, ["n", 3])], [value("y", FLOAT, ["n", 3])])
    written("zeros", model, [{"x": floats(2, 3)}])

    # Integers of every kind that the engine has.
    nodes = [
        helper.make_node("Cast", ["a"], ["a32"], name="a", to=INT32),
        helper.make_node("Cast", ["b"], ["b32"], name="b", to=INT32),
        helper.make_node("Cast", ["c"], ["c32"], name="c", to=INT32),
        helper.make_node("Add", ["a32", "b32"], ["ab"], name="ab"),
        helper.make_node("Add", ["ab", "c32"], ["abc"], name="abc"),
        helper.make_node("Add", ["abc", "d"], ["sum"], name="sum"),
        helper.make_node("Greater", ["sum", "d"], ["more"], name="more"),
        helper.make_node("Cast", ["c"], ["wide"], name="wide", to=TensorProto.UINT8),
    ]
    kinds = [("a", TensorProto.UINT8, np.uint8), ("b", TensorProto.INT8, np.int8), ("c", BOOL, np.bool_)]
    sample = {name: np.array([1, 0, 1]).astype(dtype) for name, _, dtype in kinds} | {
        "d": np.array([5, -7, 0], dtype=np.int32)
    }
    model = build(
        nodes,
        [*(value(name, kind, [3]) for name, kind, _ in kinds), value("d", INT32, [3])],
        [value("sum", INT32, [3]), value("more", BOOL, [3]), value("wide", TensorProto.UINT8, [3])],
    )
    written("integers", model, [sample])

    # Branches and a loop: subgraphs with constants of their own, which see what is around them.
    def branch(name, scale):
        return helper.make_graph(
            [
                helper.make_node("Constant", [], [f"{name}_c"], name=f"{name}_c", value_float=scale),
                helper.make_node("Mul", ["x", f"{name}_c"], [name], name=name),
            ],
            name,
            [],
            [value(name, FLOAT, ["n"])],
        )

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], name="total", keepdims=0),
        helper.make_node("Constant", [], ["zero"], name="zero", value_float=0.0),
        helper.make_node("Greater", ["total", "zero"], ["positive"], name="positive"),
        helper.make_node(
            "If", ["positive"], ["y"], name="branch", then_branch=branch("then", 1.7), else_branch=branch("else", -0.3)
        ),
    ]
    model = build(nodes, [value("x", FLOAT, ["n"])], [value("y", FLOAT, ["n"])])
    written("branch", model, [{"x": floats(3) + 2}, {"x": floats(3) - 2}])

    body = helper.make_graph(
        [
            helper.make_node("Mul", ["carried", "factor"], ["scaled"], name="scaled"),
            helper.make_node("Add", ["scaled", "x"], ["next"], name="next"),
            helper.make_node("Identity", ["go"], ["go_on"], name="go_on"),
        ],
        "body",
        [value("turn", INT64, []), value("go", BOOL, []), value("carried", FLOAT, [3])],
        [value("go_on", BOOL, []), value("next", FLOAT, [3])],
        [tensor("factor", np.float32(0.7))],
    )
    nodes = [helper.make_node("Loop", ["turns", "go_first", "x"], ["y"], name="loop", body=body)]
    held = [tensor("turns", np.array(4, dtype=np.int64)), tensor("go_first", np.array(True))]
    model = build(nodes, [value("x", FLOAT, [3])], [value("y", FLOAT, [3])], held)
    written("loop", model, [{"x": floats(3)}])

    # Half precision throughout, and inside.
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
        helper.make_node("Tanh", ["y"], ["z"], name="tanh"),
    ]
    held = [tensor("w", floats(4, 2).astype(np.float16))]
    model = build(nodes, [value("x", HALF, ["n", 4])], [value("z", HALF, ["n", 2])], held)
    written("half", model, [{"x": floats(3, 4).astype(np.float16)}])
    nodes = [
        helper.make_node("Cast", ["x"], ["short"], name="short", to=HALF),
        helper.make_node("Cast", ["short"], ["long"], name="long", to=FLOAT),
        helper.make_node("Mul", ["long", "w"], ["y"], name="product"),
    ]
    model = build(nodes, [value("x", FLOAT, [4])], [value("y", FLOAT, [4])], [tensor("w", floats(4))])
    written("half_inside", model, [{"x": floats(4)}])

    # The standard asks for scales in single precision.
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["y"], name="resize", mode="linear"),
        helper.make_node("Mul", ["y", "w"], ["z"], name="product"),
    ]
    held = [tensor("scales", np.array([1, 1, 1.5, 2], dtype=np.float32)), tensor("w", floats(1, 2, 1, 1))]
    model = build(nodes, [value("x", FLOAT, [1, 2, 4, 4])], [value("z", FLOAT, [1, 2, 6, 8])], held)
    written("resize", model, [{"x": floats(1, 2, 4, 4)}])

    # Copies of pixels, by a shape in single precision that is computed.
    nodes = [
        helper.make_node("Mul", ["half_scales", "two"], ["scales"], name="scales"),
        helper.make_node("Resize", ["x", "", "scales"], ["y"], name="resize", mode="nearest"),
        helper.make_node("Resize", ["y", "", "fixed"], ["z"], name="again", mode="nearest"),
    ]
    held = [
        tensor("half_scales", np.array([0.5, 0.5, 1, 1.5], dtype=np.float32)),
        tensor("two", np.array(2, dtype=np.float32)),
        tensor("fixed", np.array([1, 1, 2, 1], dtype=np.float32)),
    ]
    model = build(nodes, [value("x", FLOAT, [1, 2, 3, 3])], [value("z", FLOAT, [1, 2, 12, 9])], held)
    written("resize_nearest", model, [{"x": floats(1, 2, 3, 3)}])

    # Defined in single precision alone.
    nodes = [helper.make_node("Celu", ["x"], ["y"], name="bend", alpha=0.7)]
    written("celu", build(nodes, [value("x", FLOAT, [4])], [value("y", FLOAT, [4])]), [{"x": floats(4)}])

    # Attributes that tract does not heed, by the test cases of the standard.
    nodes = [helper.make_node("Swish", ["x"], ["y"], name="gate", alpha=0.5)]
    model = build(nodes, [value("x", FLOAT, [4])], [value("y", FLOAT, [4])], opset=24, ir=11)
    written("swish", model, [{"x": floats(4)}])
    held = [tensor("w", floats(1, 12, 3)), tensor("r", floats(1, 12, 4))]
    nodes = [helper.make_node("GRU", ["x", "w", "r"], ["", "y"], name="back", hidden_size=4, direction="reverse")]
    model = build(nodes, [value("x", FLOAT, ["n", 1, 3])], [value("y", FLOAT, [1, 1, 4])], held)
    written("gru_reverse", model, [{"x": floats(3, 1, 3)}])

    # Functions that backends have in single precision alone, where their parts are not: over all their branches.
    nodes = [
        helper.make_node("Erf", ["x"], ["erf"], name="erf"),
        helper.make_node("Gelu", ["x"], ["gelu"], name="gelu"),
        helper.make_node("Gelu", ["x"], ["gelu_tanh"], name="gelu_tanh", approximate="tanh"),
        helper.make_node("Sigmoid", ["x"], ["sigmoid"], name="sigmoid"),
        helper.make_node("HardSwish", ["x"], ["hard_swish"], name="hard_swish"),
        helper.make_node("LeakyRelu", ["x"], ["leaky"], name="leaky", alpha=0.25),
        helper.make_node("Selu", ["x"], ["selu"], name="selu"),
        helper.make_node("Elu", ["x"], ["elu"], name="elu", alpha=0.5),
        helper.make_node("Softplus", ["x"], ["softplus"], name="softplus"),
    ]
    outputs = ["erf", "gelu", "gelu_tanh", "sigmoid", "hard_swish", "leaky", "selu", "elu", "softplus"]
    model = build(nodes, [value("x", FLOAT, ["n"])], [value(n, FLOAT, ["n"]) for n in outputs], opset=20, ir=9)
    steps = np.concatenate([np.linspace(-7, 7, 57), [-0.5, 0.5, 1e-3, -1e-8, 0]]).astype(np.float32)
    written("functions", model, [{"x": steps}])
    for flags in ({}, {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}):
        name = "gemm_turned" if flags else "gemm"
        shapes = ((4, 2), (3, 4)) if flags else ((2, 4), (4, 3))
        nodes = [helper.make_node("Gemm", ["a", "b", "c"], ["y"], name="product", **flags)]
        held = [tensor("b", floats(*shapes[1])), tensor("c", floats(3))]
        model = build(nodes, [value("a", FLOAT, list(shapes[0]))], [value("y", FLOAT, [2, 3])], held)
        written(name, model, [{"a": floats(*shapes[0])}])

    # Another function in double precision: single precision overflows.
    nodes = [
        helper.make_node("Exp", ["x"], ["large"], name="power"),
        helper.make_node("Reciprocal", ["large"], ["y"], name="inverse"),
    ]
    model = build(nodes, [value("x", FLOAT, [2])], [value("y", FLOAT, [2])])
    written("overflow", model, [{"x": np.array([90, 100], dtype=np.float32)}])

    # Both backends compute its coordinates in single precision, whatever they are given.
    nodes = [helper.make_node("GridSample", ["x", "grid"], ["y"], name="sample")]
    ports = [value("x", FLOAT, [1, 1, 4, 4]), value("grid", FLOAT, [1, 3, 3, 2])]
    model = build(nodes, ports, [value("y", FLOAT, [1, 1, 3, 3])])
    written("grid_sample", model, [{"x": floats(1, 1, 4, 4), "grid": floats(1, 3, 3, 2) / 2}])

    # Normalisations, whose inside has a precision of its own.
    nodes = [
        helper.make_node("LayerNormalization", ["x", "g", "b"], ["y"], name="layer", axis=-1),
        helper.make_node("GroupNormalization", ["y", "gg", "gb"], ["z"], name="group", num_groups=2),
    ]
    held = [tensor("g", floats(5)), tensor("b", floats(5)), tensor("gg", floats(4)), tensor("gb", floats(4))]
    model = build(nodes, [value("x", FLOAT, ["n", 4, 5])], [value("z", FLOAT, ["n", 4, 5])], held, opset=21, ir=10)
    written("norms", model, [{"x": floats(2, 4, 5)}])

    # A normalisation in its parts, which tract makes one operator of single precision.
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"], name="square"),
        helper.make_node("ReduceMean", ["square", "axes"], ["mean"], name="mean"),
        helper.make_node("Add", ["mean", "epsilon"], ["shifted"], name="shifted"),
        helper.make_node("Sqrt", ["shifted"], ["size"], name="size"),
        helper.make_node("Reciprocal", ["size"], ["inverse"], name="inverse"),
        helper.make_node("Mul", ["x", "inverse"], ["y"], name="product"),
    ]
    held = [tensor("axes", np.array([-1], dtype=np.int64)), tensor("epsilon", np.array(1e-5, dtype=np.float32))]
    model = build(nodes, [value("x", FLOAT, [2, 5])], [value("y", FLOAT, [2, 5])], held)
    written("norm_parts", model, [{"x": floats(2, 5)}])

    # Random numbers: with and without a seed.
    for name, seed in [("random", {}), ("random_seeded", {"seed": 3.0})]:
        nodes = [
            helper.make_node("RandomNormal", [], ["noise"], name="noise", shape=[3], **seed),
            helper.make_node("Add", ["x", "noise"], ["y"], name="sum"),
        ]
        written(name, build(nodes, [value("x", FLOAT, [3])], [value("y", FLOAT, [3])]))

    # A function of the file's own.
    function = helper.make_function(
        "local",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"], name="sum")],
        [helper.make_opsetid("", 18)],
    )
    nodes = [helper.make_node("Twice", ["x"], ["y"], name="twice", domain="local")]
    model = build(nodes, [value("x", FLOAT, [3])], [value("y", FLOAT, [3])], domains=["local"], functions=[function])
    written("function", model, [{"x": floats(3)}])

    # An operator that nobody has, one that tract lacks, an old file that lists its parameters among its inputs.
    nodes = [
        helper.make_node("Relu", ["x"], ["h"], name="relu"),
        helper.make_node("Frobnicate", ["h"], ["y"], name="f"),
    ]
    written("unknown", build(nodes, [value("x", FLOAT, [3])], [value("y", FLOAT, [3])]), check=False)
    nodes = [helper.make_node("Det", ["x"], ["y"], name="/volume/det")]
    model = build(nodes, [value("x", FLOAT, ["n", 3, 3])], [value("y", FLOAT, ["n"])])
    written("det", model, [{"x": floats(2, 3, 3)}])
    nodes = [helper.make_node("Add", ["x", "w"], ["y"], name="sum")]
    old = build(
        nodes,
        [value("x", FLOAT, [3]), value("w", FLOAT, [3])],
        [value("y", FLOAT, [3])],
        [tensor("w", floats(3))],
        opset=9,
        ir=3,
    )
    (HERE / "old.onnx").write_bytes(old.SerializeToString(deterministic=True))
    x = floats(3)
    record("old", [([("x", x)], [("y", x + numpy_helper.to_array(old.graph.initializer[0]))])])


def layers(rng):
    """Vectors whose lengths are bent, which is equivariant, and one whose components are: the planted bug."""

    def floats(*shape):
        return rng.normal(size=shape).astype(np.float32)

    for name, operator, scoped in [("gated", "Neg", False), ("bend", "Tanh", False), ("bend_scoped", "Tanh", True)]:
        # Each node with the modules around it.
        nodes = [
            ("layers.0", helper.make_node("Mul", ["x", "scale"], ["p"], name="first")),
            ("layers.0.act", helper.make_node("Mul", ["p", "p"], ["q"], name="square")),
            ("layers.0.act", helper.make_node("ReduceSum", ["q", "axes"], ["r"], name="sum", keepdims=1)),
            ("layers.0.act", helper.make_node("Sqrt", ["r"], ["s"], name="size")),
            ("layers.0.act", helper.make_node("Sigmoid", ["s"], ["g"], name="gate")),
            ("layers.0.act", helper.make_node("Mul", ["p", "g"], ["h"], name="gated")),
            ("", helper.make_node("Shape", ["x"], ["shape"], name="shape")),
            ("", helper.make_node("Reshape", ["h", "flat"], ["f"], name="flatten")),
            ("", helper.make_node("Reshape", ["f", "shape"], ["u"], name="fold")),
            ("head.bend", helper.make_node(operator, ["u"], ["t"], name="bend")),
            ("", helper.make_node("Add", ["t", "x"], ["y"], name="last")),
            ("", helper.make_node("ReduceSum", ["g"], ["energy"], name="total", keepdims=0)),
        ]
        classes = {"layers.0": "net.Layer", "layers.0.act": "net.Act", "head": "net.Head", "head.bend": "torch.nn.Tanh"}
        for scope, node in nodes if scoped else ():
            inner = scope.split(".")
            around = [".".join(inner[: k + 1]) for k in range(len(inner)) if ".".join(inner[: k + 1]) in classes]
            for key, value_ in [
                ("pkg.torch.onnx.name_scopes", ["", *around, node.name]),
                ("pkg.torch.onnx.class_hierarchy", ["net.Model", *(classes[n] for n in around), "aten.op"]),
            ]:
                node.metadata_props.add(key=key, value=str(value_))
            stack = (
                'File "/src/net.py", line 12, in forward\n    x = f(x)\n  File "/lib/site-packages/torch/x.py", line 3'
            )
            node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=stack)
        held = [
            tensor("scale", np.float32(1.7)),
            tensor("axes", np.array([-1], dtype=np.int64)),
            tensor("flat", np.array([-1], dtype=np.int64)),
        ]
        outputs = [value("y", FLOAT, ["n", 3]), value("energy", FLOAT, [])]
        model = build([node for _, node in nodes], [value("x", FLOAT, ["n", 3])], outputs, held, ir=10)
        written(name, model, [{"x": floats(4, 3)}])

    # A module whose nodes backends make one of, where they may.
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="/block/conv/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "g", "s", "m", "v"], ["n"], name="/block/norm/BatchNormalization"),
        helper.make_node("Relu", ["n"], ["r"], name="/block/act/Relu"),
        helper.make_node("Add", ["r", "r"], ["y"], name="/Add"),
    ]
    held = [tensor("w", floats(3, 2, 3, 3)), *(tensor(name, floats(3)) for name in "bgsm"), tensor("v", floats(3) ** 2)]
    model = build(nodes, [value("x", FLOAT, [1, 2, 5, 5])], [value("y", FLOAT, [1, 3, 5, 5])], held, ir=10)
    written("block", model, [{"x": floats(1, 2, 5, 5)}])


def main():
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    rng = np.random.default_rng(7)
    networks(rng)
    operators(rng)
    layers(np.random.default_rng(8))
    sizes = {p.name: p.stat().st_size for p in sorted(HERE.glob("*.*")) if p.suffix != ".py"}
    print(sum(sizes.values()), "bytes in", len(sizes), "files")


if __name__ == "__main__":
    main()
