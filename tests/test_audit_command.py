"""``equicheck init``, ``audit``, ``merge`` and ``parity`` as their users meet them: processes, files, a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest

ONNX = Path(__file__).parents[1] / "crates/equicheck-onnx/tests/data"

MODELS = '''
"""Factories of small networks, and what can go wrong instead."""
import time

import torch
from torch import nn


class Network(nn.Module):
    def __init__(self, bug: float = 0.0) -> None:
        super().__init__()
        self.bug = bug
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.weight = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 1))

    def forward(self, pos, charge):
        between = pos[:, None] - pos[None]
        pair = self.weight(between.square().sum(-1, keepdim=True)) * charge[:, None, None] * charge[None, :, None]
        forces = (between * pair).sum(1) + self.bug * pos.tanh()
        return {"energy": pair.sum(), "forces": forces}


def healthy(dtype):
    return Network().to(dtype)


def broken(dtype):
    return Network(1.0).to(dtype)


def slightly(dtype):
    return Network(1e-4).to(dtype)


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(100, 6)

    def forward(self, numbers, mask):
        rows = self.rows(numbers)
        return rows[:, :3], rows.argmax(-1)


def larger_table(dtype):
    return Table().to(dtype)


def without_dtype():
    return Network()


def raises(dtype):
    raise RuntimeError("no weights here")


def no_model(dtype):
    return 3


class Slow(Network):
    def forward(self, pos, charge):
        open("ready", "w").close()
        time.sleep(0.02)
        return super().forward(pos, charge)


def slow(dtype):
    return Slow().to(dtype)


module = Network()
'''

AUDIT = """
spec_version = 1
group = "O(3) x S(nodes)"

[model]
python = "models:{factory}"

[inputs.pos]
layout = "nodes vector"
generate = {{ kind = "normal", shape = ["nodes", 3], dtype = "float32" }}

[inputs.charge]
layout = "nodes"
generate = {{ kind = "uniform", shape = ["nodes"], dtype = "float32", low = 0.5, high = 1.5 }}

[outputs]
energy = ""
forces = "nodes vector"

[sizes]
nodes = [4, 6]

[run]
samples = 3
transforms = 8
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(MODELS)
    write(tmp_path, "healthy")
    return tmp_path


def write(folder: Path, factory: str, text: str = AUDIT) -> None:
    (folder / "equicheck.toml").write_text(text.format(factory=factory))


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "equicheck", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )


def failed(result: subprocess.CompletedProcess[str]) -> str:
    """Return the message of a command that could not run."""
    assert result.returncode == 3, result.stdout + result.stderr
    assert result.stdout == ""
    assert "panicked" not in result.stderr
    return result.stderr


def session(folder: Path, arguments: list[str], answers: list[tuple[str, str]]) -> tuple[int, str]:
    """Run a command on a terminal and answer its questions; return status and screen."""
    parent, child = pty.openpty()

    def take_terminal() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "equicheck", *arguments],
        cwd=folder,
        stdin=child,
        stdout=child,
        stderr=child,
        env={**os.environ, "TERM": "xterm"},  # a progress bar needs to know how to move the cursor
        start_new_session=True,
        preexec_fn=take_terminal,  # so that Ctrl-C is a signal
    )
    os.close(child)
    screen, seen = "", 0
    deadline = time.monotonic() + 120
    waiting = list(answers)
    try:
        while time.monotonic() < deadline:
            if select.select([parent], [], [], 0.1)[0]:
                try:
                    read = os.read(parent, 4096)
                except OSError:  # the other side is gone
                    break
                if not read:
                    break
                screen += read.decode()
            if waiting and (found := screen.find(waiting[0][0], seen)) >= 0:
                seen = found + len(waiting[0][0])
                os.write(parent, (waiting.pop(0)[1] + "\n").encode())
        status = process.wait(timeout=30)
    finally:
        process.kill()
        os.close(parent)
    assert not waiting, f"never asked: {waiting}\n{screen}"
    return status, screen.replace("\r\n", "\n")


# ----------------------------------------------------------------------------------------------------------------------
# Statuses


@pytest.mark.parametrize(
    ("factory", "status", "verdict"),
    [
        ("healthy", 0, "PASS"),
        ("without_dtype", 0, "PASS"),
        ("module", 0, "PASS"),
        ("broken", 1, "FAIL"),
        ("slightly", 2, "NEEDS_ATTENTION"),
    ],
)
def test_the_verdict_decides_the_status(folder: Path, factory: str, status: int, verdict: str) -> None:
    write(folder, factory)
    result = command(folder, "audit", "--output", "report.json")
    assert result.returncode == status, result.stderr
    assert result.stdout == f"OVERALL VERDICT: {verdict} (report in report.json)\n"
    report = json.loads((folder / "report.json").read_text())
    assert report["plan"]["samples"] == 3
    if verdict == "PASS":  # by double precision, which the factory builds
        assert {row["classification"] for row in report["outputs"].values()} == {"exact"}
    if status == 2:
        assert command(folder, "audit", "--allow-attention", "--samples", "1", "--transforms", "4").returncode == 0


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("raises", "RuntimeError: no weights here"),
        ("no_model", "returned int, which cannot be called"),
        ("missing", "has no function `missing`"),
    ],
)
def test_a_factory_that_gives_no_model_exits_with_3(folder: Path, factory: str, said: str) -> None:
    write(folder, factory)
    message = failed(command(folder, "audit"))
    last = message.strip().splitlines()[-1]
    assert last.startswith(f"equicheck: `models:{factory}` failed: ")
    assert said in last
    if factory == "raises":
        assert "in raises" in message, "where it was raised"


def test_inputs_that_the_call_would_reorder_are_refused(folder: Path) -> None:
    """The model is given its arguments by position: none of the names is a parameter's."""
    with (folder / "models.py").open("a") as models:
        models.write(
            "\n\nclass Distances(nn.Module):\n    def forward(self, pairs, unused):\n"
            "        return sum((a - b).square().sum() for a in pairs.values() for b in pairs.values())\n"
            "\n\ndef distances(dtype):\n    return Distances()\n"
        )

    def declare(*names: str) -> None:
        made = 'layout = "3 vector"\ngenerate = { kind = "normal", shape = [3, 3] }\n'
        inputs = "".join(f'[inputs."{name}"]\n{made}' for name in names)
        text = 'spec_version = 1\ngroup = "SO(3)"\n[model]\npython = "models:distances"\n'
        (folder / "equicheck.toml").write_text(text + inputs + '[outputs]\noutput = ""\n')

    declare("g.x", "other", "g.y")
    assert "one after another: g.x, g.y, other" in failed(command(folder, "audit"))
    declare("1", "0")
    assert "listed from 0 on: not 1, 0" in failed(command(folder, "audit"))
    declare("g.x", "g.y", "other")
    assert command(folder, "audit", "--samples", "3", "--transforms", "8").returncode == 0


def test_wrong_usage_exits_with_3(folder: Path) -> None:
    assert "--no-such-flag" in failed(command(folder, "audit", "--no-such-flag"))
    assert "expected I/N" in failed(command(folder, "audit", "--shard", "4/4"))
    assert "no unit of time: s, min or h" in failed(command(folder, "audit", "--budget", "soon"))
    assert "cannot read `missing.toml`" in failed(command(folder, "audit", "missing.toml"))
    assert "for ONNX models" in failed(command(folder, "audit", "--backend", "tract"))
    assert "onnxruntime" in failed(command(folder, "audit", "--backend", "onyx"))


def test_an_interruption_exits_with_130(folder: Path) -> None:
    write(folder, "slow")
    process = subprocess.Popen(
        [sys.executable, "-m", "equicheck", "audit", "--thorough"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 60
        while not (folder / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, errors) == (130, "equicheck: interrupted\n")


# ----------------------------------------------------------------------------------------------------------------------
# The plan, shards


def test_the_plan_says_what_would_be_done_and_does_not_do_it(folder: Path) -> None:
    write(folder, "broken")
    result = command(folder, "audit", "--plan")
    assert result.returncode == 0, result.stderr
    assert "Group: O(3) x S(nodes)" in result.stdout
    assert "turned" in result.stdout
    pairs = int(result.stdout.split(" pairs")[0].split()[-1])
    done = command(folder, "audit", "--format", "json")
    assert json.loads(done.stdout)["plan"]["planned_pairs"] == pairs


@pytest.mark.heavy
def test_shards_merge_into_the_report_of_the_whole(folder: Path) -> None:
    write(folder, "slightly")
    assert command(folder, "audit", "--output", "whole.json").returncode == 2
    for k in range(2):
        assert command(folder, "audit", "--shard", f"{k}/2", "--output", f"{k}.json").returncode == 2
    merged = command(folder, "merge", "0.json", "1.json", "--output", "merged.json")
    assert merged.returncode == 2, merged.stderr
    whole, joined = (json.loads((folder / name).read_text()) for name in ("whole.json", "merged.json"))
    assert joined["outputs"] == whole["outputs"]
    assert "shard" in failed(command(folder, "merge", "0.json"))
    assert "cannot read `2.json`" in failed(command(folder, "merge", "0.json", "2.json"))


# ----------------------------------------------------------------------------------------------------------------------
# init


def test_elsewhere_than_on_a_terminal_init_leaves_questions(folder: Path) -> None:
    (folder / "equicheck.toml").unlink()
    result = command(folder, "init", "models:healthy")
    assert result.returncode == 0, result.stderr
    assert "answers are open" in result.stdout
    text = (folder / "equicheck.toml").read_text()
    assert "[inputs.pos]" in text
    assert "[inputs.charge]" in text
    message = failed(command(folder, "audit"))
    for path in ("group", "inputs.pos.layout", "inputs.charge.file", "outputs.output"):
        assert path in message, message
    assert "is there already" in failed(command(folder, "init", "models:healthy"))
    assert command(folder, "init", "models:healthy", "--force", "--group", "SO(3)").returncode == 0
    assert 'group = "SO(3)"' in (folder / "equicheck.toml").read_text()


def test_a_python_model_is_described_on_a_terminal(folder: Path) -> None:
    (folder / "equicheck.toml").unlink()
    answers = [
        ("Group: ", "O(4"),  # a slip: it is asked again
        ("Group: ", "O(3) x S(nodes)"),
        ("Input `pos`", "nodes vectr"),
        ("did you mean `vector`?", "nodes vector"),
        ("Values: ", "nodes 3"),
        ("Input `charge`", "nodes"),
        ("Values: ", "nodes"),
        ("Output `output`", ""),
    ]
    status, screen = session(folder, ["init", "models:healthy"], answers)
    assert status == 0, screen
    assert "1 answer is open" in screen
    text = (folder / "equicheck.toml").read_text().replace('output = "?"', 'energy = ""\nforces = "nodes vector"')
    (folder / "equicheck.toml").write_text(text)
    result = command(folder, "audit", "--samples", "3", "--transforms", "8")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_end_of_input_leaves_the_rest_open(folder: Path) -> None:
    (folder / "equicheck.toml").unlink()
    status, screen = session(folder, ["init", "models:healthy"], [("Group: ", "\x04")])
    assert status == 0, screen
    assert 'group = "?"' in (folder / "equicheck.toml").read_text()


def test_an_interruption_at_a_question_writes_nothing(folder: Path) -> None:
    (folder / "equicheck.toml").unlink()
    status, screen = session(folder, ["init", "models:healthy"], [("Group: ", "\x03")])
    assert status == 130, screen
    assert "Traceback" not in screen
    assert not (folder / "equicheck.toml").exists()


def test_paths_are_written_as_seen_from_the_audit_file(folder: Path) -> None:
    (folder / "audits").mkdir()
    shutil.copy(ONNX / "egnn.onnx", folder / "net.onnx")
    for target, line in (
        ("models.py:healthy", 'python = "../models.py:healthy"'),
        ("net.onnx", 'onnx = "../net.onnx"'),
    ):
        result = command(folder, "init", target, "--output", "audits/a.toml", "--force")
        assert result.returncode == 0, result.stderr
        assert line in (folder / "audits" / "a.toml").read_text()


def test_only_errors_of_the_user_s_code_come_with_a_traceback(folder: Path) -> None:
    for arguments in (("init", "models:nosuch"), ("run", "models:nosuch"), ("init", "nowhere.py:f")):
        message = failed(command(folder, *arguments))
        assert "Traceback" not in message
        assert message.startswith("equicheck: ")
    assert "Traceback" in failed(command(folder, "init", "models:raises", "--force"))


def test_a_design_is_held_against_the_model(folder: Path) -> None:
    (folder / "design.toml").write_text(
        'group = "O(3) x S(nodes)"\n[inputs]\npos = "nodes vector"\nspecies = "nodes"\n'
        '[outputs]\nenergy = ""\n[layers]\nweight = "Sequential"\n"weight.1" = "ReLU"\nhead = "Linear"\n'
    )
    result = command(folder, "init", "models:healthy", "--force", "--from-spec", "design.toml")
    assert result.returncode == 2, result.stderr
    contradictions = [line for line in result.stdout.splitlines() if line.startswith("contradiction: ")]
    for part in ("input `species` is declared", "`charge` of the model is not", "a ReLU and is a SiLU", "`head`"):
        assert any(part in line for line in contradictions), result.stdout
    assert len(contradictions) == 4
    text = (folder / "equicheck.toml").read_text()
    assert 'layout = "nodes vector"' in text
    assert 'energy = ""' in text


# ----------------------------------------------------------------------------------------------------------------------
# Damaged files


def test_damaged_files_give_one_clear_error(folder: Path) -> None:
    text = (folder / "equicheck.toml").read_text()
    (folder / "equicheck.toml").write_text(text[: len(text) // 2])
    assert "equicheck.toml" in failed(command(folder, "audit"))
    (folder / "equicheck.toml").write_text(text.replace("samples", "smaples"))
    message = failed(command(folder, "audit"))
    assert "did you mean `samples`?" in message
    np.savez(folder / "x.npz", pos=np.ones((4, 3), np.float32))
    whole = (folder / "x.npz").read_bytes()
    generated = 'generate = { kind = "normal", shape = ["nodes", 3], dtype = "float32" }'
    text = text.replace(generated, 'file = "x.npz"').replace("nodes = [4, 6]", "nodes = 4")
    (folder / "equicheck.toml").write_text(text)
    assert command(folder, "audit").returncode == 0
    at = whole.index(np.ones(3, np.float32).tobytes())
    for damaged in (whole[: len(whole) // 2], whole[:at] + b"\x01" + whole[at + 1 :], b""):
        (folder / "x.npz").write_bytes(damaged)
        assert "x.npz" in failed(command(folder, "audit"))


# ----------------------------------------------------------------------------------------------------------------------
# ONNX


@pytest.fixture
def exported(folder: Path) -> Path:
    """Return the folder, with the healthy network exported to `net.onnx`."""
    script = (
        "import torch, models\n"
        "nodes = torch.export.Dim('nodes', min=2)\n"
        "torch.onnx.export(models.healthy(torch.float32), (torch.randn(5, 3), torch.rand(5)), 'net.onnx',\n"
        "    dynamo=True, input_names=['pos', 'charge'], output_names=['energy', 'forces'],\n"
        "    dynamic_shapes={'pos': {0: nodes}, 'charge': {0: nodes}}, verbose=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_an_export_is_audited_and_compared_with_its_source(exported: Path) -> None:
    text = AUDIT.replace('python = "models:{factory}"', 'onnx = "net.onnx"')
    write(exported, "", text)
    for backend, options in (("tract", ["--inputs", "equicheck.toml"]), ("onnxruntime", [])):
        result = command(exported, "audit", "--backend", backend, "--format", "json")
        assert result.returncode == 0, result.stdout + result.stderr
        assert backend in json.loads(result.stdout)["environment"]
        same = command(exported, "parity", "net.onnx", "models:healthy", "--backend", backend, *options)
        assert same.returncode == 0, same.stdout + same.stderr
        assert "OVERALL VERDICT: PASS" in same.stdout
        assert "Output `forces` of the export" in same.stdout
    assert command(exported, "parity", "net.onnx", "models:broken").returncode == 1
    assert command(exported, "parity", "net.onnx", "models:slightly").returncode == 2
    assert "no weights here" in failed(command(exported, "parity", "net.onnx", "models:raises"))


def test_an_export_that_cannot_be_run_is_not_said_to_differ(folder: Path) -> None:
    """Rows beyond the export's table: its source has them, and the runtime stops."""
    shutil.copy(ONNX / "embedding.onnx", folder / "net.onnx")
    text = (
        'spec_version = 1\ngroup = "S(nodes)"\n[model]\nonnx = "net.onnx"\n'
        '[inputs.numbers]\nlayout = "nodes"\n'
        'generate = { kind = "integers", shape = ["nodes"], dtype = "int64", low = 50, high = 99 }\n'
        '[inputs.mask]\nlayout = "nodes"\n'
        'generate = { kind = "integers", shape = ["nodes"], dtype = "bool", low = 0, high = 2 }\n'
        '[outputs]\nscores = "nodes channel"\nbest = false\n[sizes]\nnodes = 4\n'
    )
    (folder / "equicheck.toml").write_text(text)
    options = ["--inputs", "equicheck.toml", "--backend", "onnxruntime"]
    message = failed(command(folder, "parity", "net.onnx", "models:larger_table", *options))
    for said in ("could not be run on sample 0", "Runtime fails at `Gather`, node `", "--backend tract may run it"):
        assert said in message
    assert "FAIL" not in message


def test_an_onnx_file_is_described_on_a_terminal(folder: Path) -> None:
    shutil.copy(ONNX / "egnn.onnx", folder / "net.onnx")
    answers = [
        ("Group: ", "E(3) x S(nodes)"),
        ("Input `pos`: float32 [", "nodes point"),
        ("Input `features`", "nodes channel"),
        ("Input `edges`: int64 [2, ", "1"),
        ("Output `x`", "nodes point"),
        ("Output `energy`", '""'),
    ]
    status, screen = session(folder, ["init", "net.onnx", "--force"], answers)
    assert status == 0, screen
    assert "`equicheck audit` runs it" in screen
    result = command(folder, "audit", "--samples", "3", "--transforms", "6")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_model_gives_one_clear_error(folder: Path, damage: str) -> None:
    whole = (ONNX / "egnn.onnx").read_bytes()
    flipped = whole[:20] + bytes([whole[20] ^ 0x80]) + whole[21:]
    (folder / "net.onnx").write_bytes({"truncated": whole[:5000], "flipped": flipped, "empty": b""}[damage])
    message = failed(command(folder, "init", "net.onnx", "--force"))
    assert message.startswith("equicheck: ")
    assert "net.onnx" in message


@pytest.mark.heavy
def test_structures_are_read_by_ase(folder: Path) -> None:
    from ase.build import molecule
    from ase.io import write as write_structures

    write_structures(folder / "m.xyz", [molecule(name) for name in ("CH4", "H2O", "C2H6")])
    text = (
        AUDIT.split("[inputs.pos]")[0]
        + (
            '[inputs.pos]\nlayout = "nodes vector"\nfile = "m.xyz"\nkey = "positions"\ndtype = "float32"\n'
            '[inputs.charge]\nlayout = "nodes"\nfile = "m.xyz"\nkey = "numbers"\ndtype = "float32"\n'
        )
        + AUDIT[AUDIT.index("[outputs]") : AUDIT.index("[sizes]")]
        + "[run]\ntransforms = 8\n"
    )
    write(folder, "healthy", text)
    result = command(folder, "audit", "--format", "json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout)["plan"]["samples"] == 3
    (folder / "m.xyz").write_text("3\n\nH 0 0\n")
    assert "m.xyz" in failed(command(folder, "audit"))


@pytest.mark.parametrize("silent", [False, True])
def test_progress_is_shown_on_a_terminal_alone(folder: Path, silent: bool) -> None:
    write(folder, "slow")
    options = ["--no-progress"] if silent else []
    status, screen = session(folder, ["audit", "--samples", "1", "--transforms", "4", *options], [])
    assert status == 0, screen
    assert ("of about" in screen) is not silent
    assert "\x1b" not in command(folder, "audit", "--samples", "1", "--transforms", "4").stderr
