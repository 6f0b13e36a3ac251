"""cuEquivariance's torch modules: ``irreps_in``, ``irreps_out``, in the order that each is built with.

Read from cuequivariance and cuequivariance-torch 0.13.0. Copies come first or last (``mul_ir``, ``ir_mul``); irreps of
SO(3) and SU(2), which have no parity, have no word. No test installs it: compared by hand with what linear layers,
products, norms and harmonics of that version do.
"""

from __future__ import annotations

from typing import Any

from ._reading import INVARIANT, Layouts, collected, irreps, parameters

_AXES = {"mul_ir": "... {}", "ir_mul": "... ir_mul({})"}


def layouts(module: Any) -> Layouts:
    """The layouts of a module of cuEquivariance's; empty where its order of copies is not kept."""
    names = parameters(module)
    kinds = {base.__name__ for base in type(module).__mro__ if base.__module__.partition(".")[0] in _ROOTS}
    inputs: dict[str, str | None] = {}
    outputs: dict[str, str | None] = {}
    if "SphericalHarmonics" in kinds:
        # Polynomials of a vector: their parity is that of the degree.
        inputs = {names[0]: "... 1x1o"}
        outputs = {"": "... " + "+".join(f"1x{degree}{'eo'[degree % 2]}" for degree in module.ls)}
    elif "FullyConnectedTensorProductConv" in kinds:
        inputs = {
            "src_features": _of(module.in_irreps, module.layout),
            "edge_sh": _of(module.sh_irreps, module.layout),
            **dict.fromkeys(("edge_emb", "src_scalars", "dst_scalars", "edge_envelope"), INVARIANT),
        }
        outputs = {"": _of(module.out_irreps, module.layout)}
    elif "BatchNorm" in kinds:
        own = _of(module.irreps, module.layout)
        inputs, outputs = {names[0]: own}, {"": own}
    elif kinds:
        for place, end in enumerate(("in",) if hasattr(module, "irreps_in") else ("in1", "in2")):
            if place < len(names):
                order = getattr(getattr(module, f"transpose_{end}", None), "source", None)
                inputs[names[place]] = _of(getattr(module, f"irreps_{end}", None), order)
        if "weight" in names:
            inputs["weight"] = INVARIANT
        order = getattr(getattr(module, "transpose_out", None), "target", None)
        outputs = {"": _of(getattr(module, "irreps_out", None), order)}
    return collected(inputs, outputs) or {"in": {}, "out": {}}


_ROOTS = ("cuequivariance", "cuequivariance_torch")


def _of(value: Any, order: Any) -> str | None:
    axes = _AXES.get(getattr(order, "name", ""))
    return irreps(value, "cuequivariance", axes) if axes else None
