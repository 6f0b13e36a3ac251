"""docs/layouts.md lists every group and word, and each of its examples runs."""

from __future__ import annotations

import doctest
import re
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import equicheck

PAGE = Path(__file__).parent.parent / "docs" / "layouts.md"
ONE = r"`([^`]+)`"
EXAMPLE = re.compile(rf"{ONE} under {ONE}, shape ([\d ]+)(?:, with {ONE}, shape ([\d ]+))?")


class Row(NamedTuple):
    table: str
    cells: list[str]
    layout: str
    group: str
    shape: tuple[int, ...]
    beside: str | None
    beside_shape: tuple[int, ...]


def numbers(text: str | None) -> tuple[int, ...]:
    return tuple(int(word) for word in (text or "").split())


def read() -> list[Row]:
    """Return the rows of all tables."""
    rows = []
    table = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            table = line[3:]
        if not line.startswith("| ") or set(line) <= set("|- ") or line.endswith("| example |"):
            continue
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        found = EXAMPLE.fullmatch(cells[-1])
        assert found, f"no example: {line}"
        layout, group, shape, beside, beside_shape = found.groups()
        rows.append(Row(table, cells, layout, group, numbers(shape), beside, numbers(beside_shape)))
    return rows


ROWS = read()


def functions() -> dict[str, Any]:
    """Run the page's section on functions, and return those that it defines."""
    text = PAGE.read_text().split("## Your own representations")[1]
    samples = [torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    names = {"np": np, "equicheck": equicheck, "samples": samples}
    # A line of fences ends an example's output.
    test = doctest.DocTestParser().get_doctest(text.replace("```", ""), names, "layouts.md", None, None)
    assert len(test.examples) > 3
    said: list[str] = []
    result = doctest.DocTestRunner().run(test, out=said.append, clear_globs=False)
    assert result.failed == 0, "".join(said)
    return {
        name: value
        for name, value in test.globs.items()
        if name not in names and name not in ("report", "__builtins__")
    }


@pytest.fixture(scope="module")
def representations() -> dict[str, Any]:
    return functions()


def test_the_functions_on_the_page_run(representations: dict[str, Any]) -> None:
    assert all(callable(function) for function in representations.values())
    used = set(re.findall(r"@([a-z]+)\b", " ".join(row.layout for row in ROWS)))
    assert used == set(representations)


def tensor(layout: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return values that the layout can stand for."""
    random = torch.Generator().manual_seed(5)
    if ":" in layout:
        first = -1 if "|" in layout else 0
        return (torch.arange(prod(shape)) % 5 + first).reshape(shape)
    values = torch.randn(shape, generator=random)
    if "charge" in layout or "phase" in layout:
        return torch.complex(values, torch.randn(shape, generator=random))
    return values / values.norm(dim=-1, keepdim=True) if "quaternion" in layout else values


def test_both_tables_were_read() -> None:
    tables = [row.table for row in ROWS]
    assert tables.count("Groups") > 25
    assert tables.count("Words") > 30


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.layout} under {row.group}" for row in ROWS])
def test_an_example_runs(row: Row, representations: dict[str, Any]) -> None:
    """The tensor moves as the table says, and a linear model is equivariant, on inputs at the edge too."""
    used = {name: function for name, function in representations.items() if f"@{name}" in row.layout}
    assert equicheck.describe(row.group, row.layout, row.shape, representations=used) != "not moved"
    layouts: dict[str, Any] = {"x": row.layout.split(" ~")[0]}
    sample = {"x": tensor(row.layout, row.shape)}
    out_layout = row.layout
    if row.beside:
        name = "cell" if "cell" in row.layout else "beside"
        layouts[name] = row.beside
        sample[name] = tensor(row.beside, row.beside_shape)
    if ":" in row.layout:
        out_layout = row.layout.split(":")[0] + "channel"

    def model(x: torch.Tensor, beside: torch.Tensor | None = None, cell: torch.Tensor | None = None) -> torch.Tensor:
        if ":" in row.layout:
            assert beside is not None
            return 3 * beside[x.clamp(min=0)] * (x >= 0)[..., None]
        if "point" in row.layout or "fractional" in row.layout:  # affine
            if cell is not None:  # means are not defined modulo a lattice
                return x + 2.25 * (cell if "mod" in row.layout else torch.eye(3, dtype=x.dtype))[0]
            return 1.25 * x - 0.25 * x.mean(0, keepdim=True)
        return 3 * x

    report = equicheck.audit(
        model,
        # Two: an output that is the same for all inputs is no evidence.
        [sample, {name: value.flip(0) for name, value in sample.items()}],
        group=row.group,
        in_layouts=layouts,
        out_layouts=out_layout,
        domain="periodic",
        rapidity=1.0,
        representations=used,
        transforms=8,
        stress=True,
        cutoff=1.0,
    )
    assert report.verdict == "PASS", report.outputs["output"].reason
    assert report.findings == [], report
    outcomes = {found["outcome"] for found in report.stress["rows"]}
    assert outcomes <= {"holds", "not_judged", "not_applicable"}, report
    if report.composition["status"] == "ran":
        assert {found["outcome"] for found in report.composition["rows"]} == {"holds"}, report


def first_cells(table: str) -> str:
    return "\n".join(row.cells[0] for row in ROWS if row.table == table)


def test_every_word_is_listed() -> None:
    with pytest.raises(equicheck.SpecificationError) as caught:
        equicheck.describe("O(3)", "§", (3,))
    known = re.search(r"known words: (.*)", str(caught.value))
    assert known
    listed = first_cells("Words")
    for word in known[1].split(", "):
        assert f"`{word}" in listed, word


def test_every_group_is_listed() -> None:
    with pytest.raises(equicheck.SpecificationError) as caught:
        equicheck.describe("§", "vector", (3,))
    known = re.search(r"available: (.*)", str(caught.value))
    assert known
    listed = first_cells("Groups")
    names = re.findall(r"S?[A-Z]+\+?\([\w,]+\)|\bScale\b|\bZ2\b|\b[CD]n\b|\bOh\b|generated", known[1])
    assert len(names) > 12
    for name in names:
        assert f"`{name}" in listed, name


def test_plain_words_do_not_move() -> None:
    plain = [row.cells[0].strip("`") for row in ROWS if row.table == "Words" and row.cells[2] == "not at all"]
    assert len(plain) > 8
    for word in plain:
        layout = {"a name and !": "bins!", "a number": "3"}.get(word.replace("`", ""), word)
        if word != "trivial":
            assert equicheck.describe("O(3)", layout, (3,)) == "not moved"


def test_the_page_quotes_what_describe_says() -> None:
    quoted = re.search(r">>> (equicheck\.describe\(.*\))\n(.*)\n", PAGE.read_text())
    assert quoted
    assert repr(eval(quoted[1], {"equicheck": equicheck})) == quoted[2]
