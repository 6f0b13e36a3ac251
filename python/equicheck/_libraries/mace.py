"""MACE: irreps of its blocks, which hold features as [nodes, channel, irreps] between them (read from mace 0.3.16).

No test installs it: compared by hand with what readouts, embeddings, interactions and products of that version do,
under e3nn 0.6. With cuEquivariance's order of copies they were not run.
"""

from __future__ import annotations

from typing import Any

from . import layouts as read
from ._reading import INVARIANT, Layouts, collected, irreps, parameters

_NOTHING: Layouts = {"in": {}, "out": {}}


def layouts(module: Any) -> Layouts | None:
    """The layouts of one of MACE's blocks; None for modules of other kinds."""
    kinds = {base.__name__ for base in type(module).__mro__ if base.__module__.partition(".")[0] == "mace"}
    names = parameters(module)
    # With cuEquivariance the same attributes may stand for tensors in its order.
    plain = getattr(getattr(module, "cueq_config", None), "layout_str", "mul_ir") == "mul_ir"
    if "InteractionBlock" in kinds:
        if not plain:
            return _NOTHING
        residual = any("Residual" in kind for kind in kinds)
        return collected(
            {name: irreps(getattr(module, f"{name}_irreps", None)) for name in names},
            {"0": _channels(module.irreps_out), "1": irreps(module.hidden_irreps) if residual else None},
        )
    if "reshape_irreps" in kinds:
        if not plain:
            return _NOTHING
        return collected({names[0]: irreps(module.irreps)}, {"": _channels(module.irreps)})
    if "EquivariantProductBasisBlock" in kinds:
        contraction = read(module.symmetric_contractions) if plain else None
        after = (read(module.linear) or _NOTHING)["out"].get("")
        features = next(iter((contraction or _NOTHING)["in"].values()), None)
        # cuEquivariance's contraction takes them flattened.
        features = features if features and "channel" in features else None
        return collected({"node_feats": features, "sc": after, "node_attrs": INVARIANT}, {"": after})
    if "SymmetricContraction" in kinds:
        return collected({names[0]: _channels(module.irreps_in), names[1]: INVARIANT}, {"": irreps(module.irreps_out)})
    if any(kind.endswith(("ReadoutBlock", "NodeEmbeddingBlock")) for kind in kinds):
        ends = [getattr(module, name, getattr(module, "linear", None)) for name in ("linear_1", "linear_2")]
        first, last = (read(end) or _NOTHING for end in ends)
        return collected({names[0]: next(iter(first["in"].values()), None)}, {"": last["out"].get("")})
    return None


def _channels(value: Any) -> str | None:
    """``... channel 1x0e+1x1o`` for ``16x0e+16x1o``: copies on an axis of their own."""
    copies = {mul for mul, _ in value}
    if len(copies) != 1:
        return None
    return irreps(type(value)([(1, irrep) for _, irrep in value]), axes="... channel {}")
