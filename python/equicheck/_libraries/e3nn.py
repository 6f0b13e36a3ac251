"""e3nn: ``irreps_in``, ``irreps_out`` and their kin (read from e3nn 0.6.0)."""

from __future__ import annotations

from typing import Any

from ._reading import INVARIANT, Layouts, collected, irreps, is_irreps, parameters

#: The output's irreps, by the names that e3nn's own models and those built on it give them.
_OUTPUTS = ("irreps_out", "irreps_output", "irreps_node_output")


def layouts(module: Any) -> Layouts | None:
    """The layouts of a module of e3nn's, or of one that carries irreps under e3nn's names."""
    names = parameters(module)
    classes = {base.__name__ for base in type(module).__mro__ if base.__module__.partition(".")[0] == "e3nn"}
    if names and classes & {"FullyConnectedNet", "_Layer"}:
        return {"in": {names[0]: INVARIANT}, "out": {"": INVARIANT}}
    return collected(_inputs(module, names, classes), _outputs(module, classes))


def _inputs(module: Any, names: list[str], classes: set[str]) -> dict[str, str | None]:
    # irreps_node_input says what node_input is; MACE turns the name round.
    found = {
        name: irreps(getattr(module, f"irreps_{name}", None)) or irreps(getattr(module, f"{name}_irreps", None))
        for name in names
    }
    own = getattr(module, "irreps_in", None)
    if own is None and classes & {"BatchNorm", "Dropout"}:
        own = getattr(module, "irreps", None)
    pair = [getattr(module, f"irreps_in{number}", None) for number in (1, 2)]
    # In a user's module, `irreps_in` may be any one of several arguments.
    if is_irreps(own, "e3nn") and names and (classes or len(names) == 1):
        found[names[0]] = irreps(own)
    elif len(names) >= 2 and all(is_irreps(one, "e3nn") for one in pair):
        found |= dict(zip(names, map(irreps, pair), strict=False))
    if classes:
        # Weights of paths from irreps to equal irreps, and biases of scalars.
        found |= {name: INVARIANT for name in names[1:] if name in ("weight", "bias")}
    return found


def _outputs(module: Any, classes: set[str]) -> dict[str, str | None]:
    several = getattr(module, "irreps_outs", None)
    if isinstance(several, tuple):
        found = {str(place): irreps(part) for place, part in enumerate(several)}
        if len(several) == 1:  # a tensor or a tuple of one: `squeeze_out` is not kept
            found[""] = irreps(several[0])
        return found
    if classes & {"BatchNorm", "Dropout"}:
        return {"": irreps(getattr(module, "irreps", None))}
    return {"": next(filter(None, (irreps(getattr(module, name, None)) for name in _OUTPUTS)), None)}
