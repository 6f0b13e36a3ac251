"""What ``equicheck template`` writes runs as it is, and sees a bug that is put into it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODELS = '''
"""Networks of a user's own."""
import numpy as np
import torch


class Messages(torch.nn.Module):
    """Sums over edges, which hold a weight each."""

    def forward(self, pos, edge_index, edge_attr):
        source, target = edge_index
        between = pos[source] - pos[target]
        weight = edge_attr.sum(-1, keepdim=True)
        moved = torch.zeros_like(pos).index_add(0, target, between * weight)
        return {"moved": moved, "total": (between.square().sum(-1) * weight[:, 0]).sum()}


def messages(dtype):
    return Messages().to(dtype)


class Broken(Messages):
    def forward(self, pos, edge_index, edge_attr):
        found = super().forward(pos, edge_index, edge_attr)
        return {**found, "moved": found["moved"].tanh()}


def broken(dtype):
    return Broken().to(dtype)


def by_position(dtype):
    return lambda x, v: (x + v, x.square().sum())


def spread():
    return lambda x: ((x - x.mean(0)) ** 2).sum()


def pixels(dtype):
    return torch.nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular").to(dtype)


def masses(dtype):
    def mass(p):
        total = p.sum(0)
        return total[0] ** 2 - total[1:].square().sum()
    return mass
'''

GRAPH = (
    "--group", "SE(3) x S(nodes)", "--input", "pos=nodes point", "--input", "edge_index=2 edges : nodes",
    "--input", "edge_attr=edges features", "--output", "moved=nodes vector", "--output", "total=",
)  # fmt: skip

#: The user's own model and its declaration.
OWN: dict[str, tuple[str, ...]] = {
    "a graph": ("--model", "models:messages", *GRAPH),
    "by position": (
        "--model", "models.py:by_position", "--group", "O(3) x S(nodes)", "--input", "0=nodes vector",
        "--input", "1=nodes vector", "--output", "0=nodes vector", "--output", "1=",
    ),
    "numpy": (
        "--model", "models.py:spread", "--framework", "numpy", "--group", "E(3) x S(nodes)", "--input", "x=nodes point",
        "--output", "output=",
    ),
    "images": (
        "--model", "models:pixels", "--group", "T(2)", "--input", "input=batch channel height width",
        "--output", "output=batch channel height width",
    ),
    "momenta": (
        "--model", "models:masses", "--group", "SO+(1,3) x S(particles)", "--input", "p=particles vector",
        "--output", "output=",
    ),
}  # fmt: skip

#: The small network of the template.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "torch": (),
    "numpy, in the plane": ("--framework", "numpy", "--group", "SE(2) x S(nodes)"),
    "turns by quarters": ("--group", "D4 @ (0,0,1)"),
}

CASES = EXAMPLES | OWN

#: Kinds of templates share how models are imported and inputs drawn: all cases for one of them are enough.
SOME = ("torch", "a graph", "numpy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python(folder, "-m", "equicheck", *arguments)


def write(folder: Path, kind: str, name: str, *options: str) -> str:
    result = command(folder, "template", kind, *options, "-o", name)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"wrote {name}; ")
    assert result.stdout.endswith((" runs it\n", " opens it\n"))
    return (folder / name).read_text(encoding="utf-8")


def run_pytest(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    return python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers", name)


@pytest.mark.parametrize("case", list(CASES))
def test_the_script_passes(folder: Path, case: str) -> None:
    write(folder, "script", "check.py", *CASES[case])
    result = python(folder, "check.py")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "OVERALL VERDICT: PASS\n" in result.stdout


def test_the_script_is_a_target_of_run(folder: Path) -> None:
    write(folder, "script", "check.py")
    result = command(folder, "run", "check.py:audit", "--output", "report.json")
    assert result.returncode == 0, result.stdout + result.stderr
    outputs = json.loads((folder / "report.json").read_text())["outputs"]
    # By double precision, which the factory builds.
    assert {name: row["classification"] for name, row in outputs.items()} == {"energy": "exact", "forces": "exact"}


@pytest.mark.heavy
def test_a_bug_in_the_small_network_fails(folder: Path) -> None:
    text = write(folder, "script", "check.py")
    healthy = "between = x[:, None] - x[None]"
    assert text.count(healthy) == 1
    (folder / "check.py").write_text(text.replace(healthy, "between = (x[:, None] - x[None]).tanh()"))
    result = python(folder, "check.py")
    assert result.returncode == 1, result.stdout + result.stderr
    write(folder, "pytest", "test_check.py")
    tests = (folder / "test_check.py").read_text().replace(healthy, "between = (x[:, None] - x[None]).tanh()")
    (folder / "test_check.py").write_text(tests)
    result = run_pytest(folder, "test_check.py")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "3 failed" in result.stdout


@pytest.mark.parametrize("case", SOME)
def test_the_tests_pass_under_pytest(folder: Path, case: str) -> None:
    text = write(folder, "pytest", "test_check.py", *CASES[case])
    audited = len(re.findall(r'"', re.search(r'parametrize\("output", \[(.*?)\]', text)[1])) // 2  # type: ignore[index]
    result = run_pytest(folder, "test_check.py")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{1 + audited} passed" in result.stdout


def test_the_tests_fail_for_a_broken_model(folder: Path) -> None:
    write(folder, "pytest", "test_check.py", "--model", "models:broken", *GRAPH)
    result = run_pytest(folder, "test_check.py")
    assert result.returncode == 1, result.stdout + result.stderr
    # The whole, and the one output that is wrong.
    assert "2 failed, 1 passed" in result.stdout
    assert "OVERALL VERDICT: FAIL" in result.stdout
    assert re.search(r"FAILED test_check.py::test_output\[moved\]", result.stdout)


@pytest.mark.parametrize("case", [*SOME, "numpy, in the plane", "images", "momenta"])
def test_the_audit_file_passes(folder: Path, case: str) -> None:
    options = CASES[case]
    write(folder, "toml", "equicheck.toml", *options)
    if case in EXAMPLES:  # the file says so
        said = re.search(r"`equicheck template (script.*) -o (network\.py)`", (folder / "equicheck.toml").read_text())
        assert said
        group = [word for k, word in enumerate(options) if "--group" in options[max(k - 1, 0) : k + 1]]
        write(folder, "script", said[2], *said[1].split()[1:], *group)
    result = command(folder, "audit")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "OVERALL VERDICT: PASS\n" in result.stdout


def test_the_audit_file_fails_for_a_broken_model(folder: Path) -> None:
    write(folder, "toml", "equicheck.toml", "--model", "models:broken", *GRAPH)
    assert command(folder, "audit").returncode == 1


def cells(text: str) -> list[dict[str, Any]]:
    """Return the cells of a notebook that is valid as nbformat 4.5 asks."""
    notebook = json.loads(text)
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert set(notebook["metadata"]["kernelspec"]) >= {"name", "display_name"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell["id"])
        of_code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | of_code
        assert cell["metadata"] == {}
        assert all(isinstance(line, str) for line in cell["source"])
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        if cell["cell_type"] == "code":
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
        else:
            assert cell["cell_type"] == "markdown"
    return list(notebook["cells"])


RUN_NOTEBOOK = """
import ast, json, sys
found = json.load(open("check.ipynb", encoding="utf-8"))
names = {"__name__": "__main__"}
for cell in found["cells"]:
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
sys.exit(names["report"].exit_status)
"""


@pytest.mark.parametrize("case", SOME)
def test_the_notebook_s_cells_run(folder: Path, case: str) -> None:
    for cell in cells(write(folder, "notebook", "check.ipynb", *CASES[case])):
        if cell["cell_type"] == "code":
            ast.parse("".join(cell["source"]))
    result = python(folder, "-c", RUN_NOTEBOOK)
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads((folder / "before.json").read_text())["verdict"] == "PASS"


def test_names_are_strings_and_no_code(folder: Path) -> None:
    """What the user writes ends up quoted in Python, TOML and JSON."""
    odd = 'a"b\\c\n\u00e9'
    options = ("--model", "models:messages", "--input", "pos=nodes point", "--output", f"{odd}=nodes vector")
    script = command(folder, "template", "script", *options)
    tree = ast.parse(script.stdout)
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert odd in strings
    notebook = command(folder, "template", "notebook", *options)
    code = ["".join(cell["source"]) for cell in cells(notebook.stdout) if cell["cell_type"] == "code"]
    assert any(odd in {n.value for n in ast.walk(ast.parse(c)) if isinstance(n, ast.Constant)} for c in code)
    # The audit file was read again before it was printed.
    assert command(folder, "template", "toml", *options).returncode == 0


def test_wrong_words_exit_with_3(folder: Path) -> None:
    for options, said in (
        (("--input", "x=nodes pont"), "did you mean `point`?"),
        (("--group", "E(3) x S(atoms)"), "`atoms`"),
        (("--input", "x=nodes vector"), "name yours with --model"),
    ):
        result = command(folder, "template", "pytest", *options)
        assert (result.returncode, result.stdout) == (3, "")
        assert said in result.stderr
