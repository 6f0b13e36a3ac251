"""The keys of audit files are the parameters of `equicheck.audit`, by the committed JSON Schema."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import equicheck

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "equicheck.schema.json").read_text(encoding="utf-8"))

#: Functions and objects, which a file cannot hold.
FUNCTIONS = {"representations", "factory", "module", "loss", "progress"}


def keys(schema: dict, *path: str) -> set[str]:
    """Keys of the table at a path; `*` stands for any name."""
    options = schema.get("anyOf", [schema])
    if not path:
        tables = [option["properties"] for option in options if "properties" in option]
        assert len(tables) == 1
        return set(tables[0])
    step, *rest = path
    if step == "*":
        below = [option["additionalProperties"] for option in options if option.get("additionalProperties")]
    else:
        below = [option["properties"][step] for option in options if step in option.get("properties", {})]
    assert len(below) == 1
    return keys(below[0], *rest)


def test_every_parameter_is_a_key_and_every_option_a_parameter():
    parameters = set(inspect.signature(equicheck.audit).parameters)
    top, model, run = keys(SCHEMA), keys(SCHEMA, "model"), keys(SCHEMA, "run")
    inputs, outputs = keys(SCHEMA, "inputs", "*"), keys(SCHEMA, "outputs", "*")

    assert run <= parameters
    assert top - {"spec_version", "outputs", "sizes", "run"} <= parameters
    assert model & parameters == {"method", "mode"}

    # Layouts stand with the tensor that they are of, and so does what else is said of one tensor.
    assert {"layout", "domain"} <= inputs
    assert {"layout", "domain", "tolerance", "up_to"} == outputs
    of_tensors = {"in_layouts", "out_layouts", "up_to", "tolerance", "domain"}
    assert of_tensors <= parameters

    said = run | (top & parameters) | (model & parameters) | of_tensors
    assert parameters - said == FUNCTIONS
    assert not FUNCTIONS & (top | model | run | inputs | outputs)


def test_words_are_those_of_python():
    words = {
        "mode": ("model", {"eval", "train", "as_is"}),
        "precision": ("run", {"both", "as_is", "float64"}),
        "interpolation": ("run", {"bilinear", "bicubic", "fourier"}),
        "randomness": ("run", {"fixed", "transform", "distribution"}),
    }
    for key, (table, expected) in words.items():
        (properties,) = [
            option["properties"] for option in SCHEMA["properties"][table]["anyOf"] if "properties" in option
        ]
        (given,) = [option["enum"] for option in properties[key]["anyOf"] if "enum" in option]
        assert set(given) == expected, key
        annotation = str(inspect.signature(equicheck.audit).parameters[key].annotation)
        assert all(f'"{word}"' in annotation or f"'{word}'" in annotation for word in given), key
