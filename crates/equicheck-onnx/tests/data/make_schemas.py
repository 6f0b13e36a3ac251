"""Write ../../src/schemas.txt: which operators of the ONNX standard can compute in double precision.

    python make_schemas.py

Needs the package onnx, whose schemas are the standard's. One line per operator and change: the name, the first version
of the operator set from which the line holds, and one of

    double        every floating-point input and output may be double
    double 1 2    so, but the inputs at these positions must be single precision (scales of Resize)
    outputs 1 2   so, but these outputs are no longer than single precision
    single        what it computes is no longer than single precision
    removed       deprecated
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import defs

SHORT = {"tensor(float)", "tensor(float16)", "tensor(bfloat16)"}
DOUBLE = "tensor(double)"


def short(parameters):
    """Return the positions of parameters that may be short floats and not double."""
    return [k for k, p in enumerate(parameters) if set(p.types) & SHORT and DOUBLE not in p.types]


def judge(schema):
    """Return the rest of the operator's line."""
    if schema.deprecated:
        return "removed"
    inputs, outputs = short(schema.inputs), short(schema.outputs)
    every = [*schema.inputs, *schema.outputs]
    if not any(DOUBLE in p.types for p in every) and (inputs or outputs):
        return "single"
    if inputs and outputs:
        return "single"
    if outputs:
        return "outputs " + " ".join(map(str, outputs))
    return " ".join(["double", *map(str, inputs)])


def main():
    operators = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            operators.setdefault(schema.name, []).append((schema.since_version, judge(schema)))
    lines = [f"# Written by tests/data/make_schemas.py from the schemas of onnx {onnx.__version__}."]
    for name in sorted(operators):
        last = None
        for version, verdict in sorted(operators[name]):
            if verdict != last:
                lines.append(f"{name} {version} {verdict}")
            last = verdict
    target = Path(__file__).resolve().parents[2] / "src" / "schemas.txt"
    target.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
