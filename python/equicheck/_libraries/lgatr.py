"""L-GATr: scalars and, in its slim variant, Lorentz vectors (read from lgatr 2.0.0).

The layout language has no word for multivectors, whose 16 components hold antisymmetric tensors. No test
installs it: compared by hand with what ``LGATrSlim`` of that version does under boosts; its layers were not run alone.
"""

from __future__ import annotations

from typing import Any

from ._reading import INVARIANT, Layouts, collected, parameters

#: Layers have channels last, networks components.
_VECTORS = {"layers": "... vector channel", "nets": "... channel vector"}


def layouts(module: Any) -> Layouts | None:
    """The layouts of the arguments called ``vectors`` and ``scalars``, and of the two results of the same kinds."""
    place = next((c.__module__ for c in type(module).__mro__ if c.__module__.partition(".")[0] == "lgatr"), "")
    vectors = _VECTORS.get(place.split(".")[1] if "." in place else "")
    names = parameters(module)
    inputs: dict[str, str | None] = {}
    for name in names:
        if name.partition("_")[0] == "scalars" or name == "additional_qk_features_s":
            inputs[name] = INVARIANT
        elif name.partition("_")[0] == "vectors":
            inputs[name] = vectors
    if not inputs or vectors is None or "QKV" in type(module).__name__:  # which has six results
        return collected(inputs, {})
    slim = any(name.partition("_")[0] == "vectors" for name in names)
    return collected(inputs, {"0": vectors if slim else None, "1": INVARIANT})
