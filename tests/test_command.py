"""The command in a process of its own: ``python -m equicheck`` and the console script."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

import equicheck

AUDITS = '''
"""Audits of three functions, and what can go wrong instead."""
import os
import sys
import time

import numpy as np

import equicheck
from neighbour import turn  # beside this file


def audit(function, **options):
    random = np.random.default_rng(0)
    samples = [random.normal(size=(4, 3)) for _ in range(3)]
    return equicheck.audit(function, samples, group="O(3)", in_layouts="4 vector",
                           out_layouts="4 vector", transforms=16, **options)


def passes():
    print("printed by the audit")
    return audit(turn)


def fails():
    return audit(np.tanh)


def attention():
    return audit(lambda x: x + 1e-4 * np.tanh(x))


def asserts():
    audit(np.tanh).raise_for_failure()


def asserts_attention():
    attention().raise_for_failure(on="NEEDS_ATTENTION")


def raises():
    raise ValueError("no such data set")


def specification():
    return equicheck.audit(np.tanh, np.ones(3), group="Q(3)", in_layouts="vector", out_layouts="")


def model_raises():
    def model(x):
        raise ZeroDivisionError("inside the model")
    return audit(model)


def exits():
    sys.exit(0)


def interrupted():
    raise KeyboardInterrupt


def interrupted_inside():
    def model(x):
        raise KeyboardInterrupt
    return audit(model)


def returns_nothing():
    pass


def returns_a_verdict():
    return "PASS"


def waits():
    def model(x):
        open("ready", "w").close()
        time.sleep(0.05)
        return x
    return audit(model, budget=float("inf"), samples=3)


needs_an_argument = lambda x: x
not_a_function = 3
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "audits.py").write_text(AUDITS)
    (tmp_path / "neighbour.py").write_text("def turn(x):\n    return x * (x**2).sum()\n")
    (tmp_path / "broken.py").write_text("def audit(:\n")
    return tmp_path


def command(
    folder: Path, *arguments: str, program: tuple[str, ...] = (sys.executable, "-m", "equicheck")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*program, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("function", "status", "verdict"),
    [
        ("passes", 0, "PASS"),
        ("fails", 1, "FAIL"),
        ("attention", 2, "NEEDS_ATTENTION"),
        ("asserts", 1, "FAIL"),
        ("asserts_attention", 2, "NEEDS_ATTENTION"),
    ],
)
def test_the_verdict_decides_the_status(folder: Path, function: str, status: int, verdict: str) -> None:
    result = command(folder, "run", f"audits.py:{function}")
    assert result.returncode == status, result.stderr
    assert f"OVERALL VERDICT: {verdict}\n" in result.stdout
    assert result.stderr == ""
    allowed = command(folder, "run", f"audits.py:{function}", "--allow-attention")
    assert allowed.returncode == (0 if status == 2 else status)
    assert f"OVERALL VERDICT: {verdict}\n" in allowed.stdout  # the report is the same


def test_a_module_and_a_path_elsewhere(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert command(folder, "run", "audits:passes").returncode == 0
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert command(elsewhere, "run", f"{folder / 'audits.py'}:passes").returncode == 0


def test_the_console_script_is_the_same_command(folder: Path) -> None:
    script = shutil.which("equicheck", path=sysconfig.get_path("scripts"))
    assert script is not None
    result = command(folder, "run", "audits.py:fails", program=(script,))
    assert result.returncode == 1, result.stderr
    assert command(folder, "run", "audits.py:raises", program=(script,)).returncode == 3
    version = command(folder, "--version", program=(script,))
    assert (version.returncode, version.stdout) == (0, f"equicheck {equicheck.__version__}\n")


COULD_NOT_RUN = {
    "audits.py:raises": "ValueError: no such data set",
    "audits.py:specification": "SpecificationError",
    "audits.py:model_raises": "ZeroDivisionError: inside the model",
    # Leaving with 0 is no report: it must not look like a pass.
    "audits.py:exits": "SystemExit",
    "audits.py:returns_nothing": "returned NoneType, not an equicheck.Report",
    "audits.py:returns_a_verdict": "returned str, not an equicheck.Report",
    "audits.py:needs_an_argument": "TypeError",
    "audits.py:not_a_function": "has no function `not_a_function`",
    "audits.py:missing": "has no function `missing`",
    "nowhere.py:passes": "no file `nowhere.py`",
    "nowhere:passes": "No module named 'nowhere'",
    "broken.py:audit": "SyntaxError",
    "audits.py": "names no function",
    "audits.py:": "names no function",
    ":passes": "names no function",
}


@pytest.mark.parametrize("target", list(COULD_NOT_RUN))
def test_what_could_not_run_exits_with_3(folder: Path, target: str) -> None:
    result = command(folder, "run", target)
    assert result.returncode == 3
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("equicheck: ")
    assert COULD_NOT_RUN[target] in last
    assert "panicked" not in result.stderr


def test_an_exception_shows_where_it_was_raised(folder: Path) -> None:
    result = command(folder, "run", "audits.py:raises")
    assert 'audits.py", line' in result.stderr
    assert "in raises" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("audit",),
        ("run",),
        ("run", "audits.py:passes", "--format", "html"),
        ("run", "audits.py:passes", "--fast"),
        ("run", "audits.py:passes", "--output", "report.pdf"),
        ("run", "audits.py:passes", "--output", "none/report.txt"),
        ("show", "missing.json"),
        ("show", "audits.py"),
    ],
)
def test_wrong_usage_exits_with_3(folder: Path, arguments: tuple[str, ...]) -> None:
    result = command(folder, *arguments)
    assert result.returncode == 3
    assert result.stdout == ""  # `passes` prints: it did not run
    assert result.stderr


@pytest.mark.parametrize("function", ["interrupted", "interrupted_inside"])
def test_an_interruption_exits_with_130(folder: Path, function: str) -> None:
    result = command(folder, "run", f"audits.py:{function}")
    assert result.returncode == 130
    assert result.stderr == "equicheck: interrupted\n"


def test_a_signal_exits_with_130(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "equicheck", "run", "audits.py:waits"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A background job of a shell may have interrupts turned off, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 60
        while not (folder / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (folder / "ready").exists()
        os.kill(process.pid, signal.SIGINT)
        sent = time.monotonic()
        _, errors = process.communicate(timeout=30)
        assert time.monotonic() - sent < 5
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, errors
    assert errors == "equicheck: interrupted\n"


def test_formats(folder: Path) -> None:
    text = command(folder, "run", "audits.py:fails", "--format", "text").stdout
    assert text.startswith("MODEL EQUIVARIANCE AUDIT REPORT\n===")
    markdown = command(folder, "run", "audits.py:fails", "--format", "markdown").stdout
    assert markdown.startswith("# MODEL EQUIVARIANCE AUDIT REPORT\n")
    as_json = command(folder, "run", "audits.py:fails", "--format", "json").stdout
    assert json.loads(as_json)["verdict"] == "FAIL"
    assert equicheck.Report.from_json(as_json).verdict == "FAIL"


def test_output_goes_to_the_file(folder: Path) -> None:
    for name, start in (("r.txt", "MODEL"), ("r.md", "# MODEL"), ("r.json", "{")):
        result = command(folder, "run", "audits.py:fails", "--output", name)
        assert result.returncode == 1
        assert result.stdout == f"OVERALL VERDICT: FAIL (report in {name})\n"
        assert (folder / name).read_text().startswith(start)
    odd = command(folder, "run", "audits.py:fails", "--output", "r.log", "--format", "json")
    assert odd.returncode == 1
    assert json.loads((folder / "r.log").read_text())["verdict"] == "FAIL"


def test_show_repeats_a_saved_report(folder: Path) -> None:
    saved = command(folder, "run", "audits.py:attention", "--output", "saved.json")
    assert saved.returncode == 2
    shown = command(folder, "show", "saved.json")
    assert shown.returncode == 2
    assert shown.stdout == str(equicheck.Report.from_json((folder / "saved.json").read_text()))
    assert command(folder, "show", "saved.json", "--allow-attention").returncode == 0
    again = command(folder, "show", "saved.json", "--format", "json")
    assert again.stdout == (folder / "saved.json").read_text()
    (folder / "saved.json").write_text("{}")
    assert command(folder, "show", "saved.json").returncode == 3


def test_help_prints_the_table_of_statuses(folder: Path) -> None:
    for arguments in (("--help",), ("run", "--help"), ("show", "--help")):
        result = command(folder, *arguments)
        assert result.returncode == 0
        assert result.stderr == ""
        for status in ("0", "1", "2", "3", "130"):
            assert any(line.split()[:1] == [status] for line in result.stdout.splitlines())


def test_two_runs_write_equal_bytes(folder: Path) -> None:
    for name in ("a.json", "b.json"):
        command(folder, "run", "audits.py:attention", "--output", name)

    def without_timings(name: str) -> dict[str, object]:
        record = json.loads((folder / name).read_text())
        record.pop("timings", None)
        return dict(record)

    assert without_timings("a.json") == without_timings("b.json")


def test_explain_shows_the_page_of_each_mode(folder: Path) -> None:
    listed = command(folder, "explain")
    assert listed.returncode == 0, listed.stderr
    assert "- parity: " in listed.stdout
    page = command(folder, "explain", "Parity")
    assert page.returncode == 0, page.stderr
    for heading in ("parity\n======", "SYMPTOM:", "CAUSE:", "HOW IT IS RECOGNISED:", "FIX:", "VERIFY:"):
        assert heading in page.stdout
    wrong = command(folder, "explain", "pariti")
    assert (wrong.returncode, wrong.stdout) == (3, "")
    assert "did you mean `parity`?" in wrong.stderr


def test_compare_says_whether_a_change_helped(folder: Path) -> None:
    for name in ("passes", "attention", "fails"):
        command(folder, "run", f"audits.py:{name}", "--output", f"{name}.json")
    helped = command(folder, "compare", "fails.json", "attention.json")
    assert helped.returncode == 0, helped.stderr
    assert "Verdict: FAIL -> NEEDS_ATTENTION\n" in helped.stdout
    assert helped.stdout.endswith("\nRESULT: no regression\n")
    spoilt = command(folder, "compare", "passes.json", "attention.json", "--output", "comparison.json")
    assert spoilt.returncode == 1
    assert spoilt.stdout == "RESULT: REGRESSION (comparison in comparison.json)\n"
    assert json.loads((folder / "comparison.json").read_text())["regressed"] is True
    assert command(folder, "compare", "passes.json", "passes.json").returncode == 0
    assert command(folder, "compare", "passes.json", "missing.json").returncode == 3

    reports = {name: equicheck.Report.from_json((folder / f"{name}.json").read_text()) for name in ("passes", "fails")}
    comparison = equicheck.compare(reports["passes"], reports["fails"])
    assert comparison.regressed
    assert comparison.verdict == {"before": "PASS", "after": "FAIL"}
    assert comparison.to_text() == str(comparison) == command(folder, "compare", "passes.json", "fails.json").stdout
    assert json.loads(comparison.to_json())["regressions"] == comparison.regressions
    assert [row["trend"] for row in comparison.outputs] == ["worse"]
    back = equicheck.compare(reports["fails"], reports["passes"])
    assert not back.regressed
    assert repr(back) == "<equicheck.Comparison no regression, FAIL -> PASS>"


def test_audits_that_asked_otherwise_are_not_compared(folder: Path) -> None:
    command(folder, "run", "audits.py:passes", "--output", "a.json")
    text = (folder / "a.json").read_text()
    (folder / "b.json").write_text(text.replace('"group": "O(3)"', '"group": "SO(3)"', 1))
    result = command(folder, "compare", "a.json", "b.json")
    assert (result.returncode, result.stdout) == (3, "")
    assert "the group is `O(3)` before and `SO(3)` after" in result.stderr
    with pytest.raises(ValueError, match="cannot be compared"):
        equicheck.compare(*(equicheck.Report.from_json((folder / name).read_text()) for name in ("a.json", "b.json")))
