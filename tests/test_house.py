"""The rules of the house, each shown to bite."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


house = load("house")


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """Return an empty suite under our conftest.py, with a list that allows one skip."""
    pytester.makeconftest((TESTS / "conftest.py").read_text())
    pytester.path.joinpath("allowed_skips.txt").write_text(
        "# comment\ntest_one.py::test_listed  # needs a machine that we do not have\n"
    )
    return pytester


ONE = """
    import pytest

    @pytest.mark.skip(reason="away")
    def test_listed(): ...

    def test_passes(): ...
"""


def test_a_listed_skip_is_a_skip(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_one=ONE)
    suite.runpytest().assert_outcomes(passed=1, skipped=1)


@pytest.mark.parametrize(
    "body",
    [
        "@pytest.mark.skip(reason='lazy')\ndef test_other(): ...",
        "@pytest.mark.skipif(True, reason='lazy')\ndef test_other(): ...",
        "def test_other(): pytest.skip('lazy')",
        "def test_other(): pytest.importorskip('no_such_module_at_all')",
        "@pytest.fixture\ndef lazy(): pytest.skip('lazy')\ndef test_other(lazy): ...",
        "@pytest.mark.xfail(reason='lazy')\ndef test_other(): assert False",
        "@pytest.mark.xfail(run=False, reason='lazy')\ndef test_other(): ...",
    ],
)
def test_any_other_skip_is_a_failure(suite: pytest.Pytester, body: str) -> None:
    suite.makepyfile(test_one=ONE, test_two=f"import pytest\n{body}\n")
    result = suite.runpytest()
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 1
    assert (outcomes["passed"], outcomes["skipped"]) == (1, 1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*test_two.py::test_other was *allowed_skips.txt*"])


def test_a_module_that_skips_itself_is_a_failure(suite: pytest.Pytester) -> None:
    suite.makepyfile(test_two="import pytest\npytest.importorskip('no_such_module_at_all')\n")
    result = suite.runpytest()
    result.assert_outcomes(errors=1)
    assert result.ret != pytest.ExitCode.OK


def test_a_skip_is_listed_with_its_reason(suite: pytest.Pytester) -> None:
    suite.path.joinpath("allowed_skips.txt").write_text("test_one.py::test_listed\n")
    suite.makepyfile(test_one=ONE)
    result = suite.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*allowed_skips.txt, line 1: say why*"])


def test_sizes_of_committed_files() -> None:
    size = (ROOT / "Makefile").stat().st_size
    assert not list(house.too_large([ROOT / "Makefile"], size))
    assert len(list(house.too_large([ROOT / "Makefile"], size - 1))) == 1


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("MIT/Apache-2.0", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only AND MIT", False),
        ("(MIT OR Apache-2.0) AND LGPL-2.1-or-later", False),
        ("Apache-2.0 WITH Classpath-exception-2.0", False),
        ("MIT OR", False),
        ("(MIT", False),
        ("MIT Apache-2.0", False),
        ("", False),
    ],
)
def test_licences(expression: str, allowed: bool) -> None:
    assert house.licence_allowed(expression) is allowed
    package = {"name": "x", "version": "1.0.0", "license": expression, "source": "registry"}
    assert bool(list(house.licences([package]))) is not allowed


def workspace(version: str, requirement: str) -> dict[str, Any]:
    inner = {"name": "inner", "version": version, "dependencies": []}
    outer = {
        "name": "outer",
        "version": version,
        "dependencies": [{"name": "inner", "req": requirement}],
    }
    return {"packages": [inner, outer]}


DYNAMIC = 'dynamic = ["version"]\n'


@pytest.mark.parametrize(
    ("requirement", "changelog", "pyproject", "problem"),
    [
        ("^0.2.0", "## [Unreleased]\n- New.\n## [0.1.0]\n", DYNAMIC, None),
        ("^0.2.0", "## [Unreleased]\n## [0.2.0]\n- New.\n", DYNAMIC, None),
        ("^0.1.0", "## [Unreleased]\n- New.\n", DYNAMIC, "inner is asked for as ^0.1.0"),
        (
            "^0.2.0",
            "## [Unreleased]\n## [0.1.0]\n- Old.\n",
            DYNAMIC,
            "nothing is said of version 0.2.0",
        ),
        ("^0.2.0", "## [Unreleased]\n## [0.10.0]\n", DYNAMIC, "releases 0.10.0"),
        ("^0.2.0", "## [0.2.0]\n- New.\n", DYNAMIC, "first section"),
        ("^0.2.0", "## [Unreleased]\n- New.\n", 'version = "0.2.0"\n', "must be dynamic"),
    ],
)
def test_versions(requirement: str, changelog: str, pyproject: str, problem: str | None) -> None:
    problems = list(house.versions(workspace("0.2.0", requirement), changelog, pyproject))
    if problem is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert problem in problems[0]


def test_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("[a](page.md#top) [b](#here) [c](mailto:nobody) `[d](gone.md)`\n")
    assert list(house.links([page])) == []
    page.write_text("[a](gone.md)\n")
    assert list(house.links([page])) == ["page.md: the link gone.md leads nowhere"]


def test_a_run_stops_at_the_first_failed_stage(tmp_path: Path) -> None:
    """Run tools/stage.py in a project of its own, since it works in the checkout it lies in."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "stage.py").write_text((ROOT / "tools" / "stage.py").read_text())
    (tmp_path / "Makefile").write_text(
        "check-good:\n\t@echo fine\ncheck-bad:\n\t@echo the reason; exit 7\ncheck-late:\n\t@touch late\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}

    def run(*stages: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(tools / "stage.py"), "test", *stages]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    failed = run("good", "bad", "late")
    assert failed.returncode == 1
    assert "the reason" in failed.stdout
    assert "late" in failed.stdout.split("not run")[0].splitlines()[-1]
    assert not (tmp_path / "late").exists()

    passed = run("good", "late")
    assert passed.returncode == 0
    assert (tmp_path / "late").exists()
    assert (tmp_path / "target" / "stages" / "test" / "good.log").read_text() == "fine\n"
