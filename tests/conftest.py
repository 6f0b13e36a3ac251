"""What all Python tests share: one thread, and no test that quietly does not run."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ALLOWED_SKIPS = HERE / "allowed_skips.txt"

with contextlib.suppress(ImportError):  # absent where the package is tested with numpy alone
    import torch

    # On two cores the second thread waits more than it works, and sums differ from run to run.
    torch.set_num_threads(1)


@pytest.fixture
def double_precision() -> Iterator[None]:
    """Networks are built in double precision."""
    from networks.case import default_dtype

    with default_dtype(torch.float64):
        yield


def allowed_skips() -> dict[str, str]:
    """Return the tests that may be skipped, by node id, each with its reason."""
    allowed = {}
    for number, line in enumerate(ALLOWED_SKIPS.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            node, separator, reason = line.partition("  # ")
            if not separator or not reason.strip():
                raise pytest.UsageError(f"{ALLOWED_SKIPS.name}, line {number}: say why: NODE_ID, two blanks, # REASON")
            allowed[node.strip()] = reason.strip()
    return allowed


def pytest_configure(config: pytest.Config) -> None:
    """Read the list of allowed skips once."""
    config.stash[SKIPS] = allowed_skips()


SKIPS = pytest.StashKey[dict[str, str]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of tests/integration as heavy."""
    for item in items:
        if item.path.is_relative_to(HERE / "integration"):
            item.add_marker(pytest.mark.heavy)


def forbid_skip(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    """Turn a skip, and an expected failure too, into a failure unless it is on the list."""
    if not report.skipped or report.nodeid in config.stash[SKIPS]:
        return
    reason = report.longrepr
    if isinstance(reason, tuple):  # file, line, message
        reason = reason[2]
    kind = "skipped"
    if hasattr(report, "wasxfail"):
        kind, reason = "expected to fail", report.wasxfail
        del report.wasxfail  # with it, pytest would not count the failure in its exit status
    report.outcome = "failed"
    report.longrepr = (
        f"{report.nodeid} was {kind} ({reason}). "
        f"A test that does not run counts as failed unless tests/{ALLOWED_SKIPS.name} lists it."
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Apply the rule on skips to a test."""
    report = yield
    forbid_skip(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Apply the rule on skips to a whole module."""
    report = yield
    forbid_skip(report, collector.config)
    return report
