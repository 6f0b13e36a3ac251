"""The zoo's claims about its networks and their bugs, checked by code that knows nothing of equicheck."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from zoo import HEALTHY, MODES, SPECIMENS, truth  # noqa: E402

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("name", SPECIMENS)
def test_truth(name: str) -> None:
    _, wrong = truth.check(SPECIMENS[name])
    assert not wrong


def test_every_mode_is_there() -> None:
    count = Counter(specimen.mode for specimen in SPECIMENS.values())
    assert set(count) == {*MODES, HEALTHY}
    architectures = {mode: {s.architecture for s in SPECIMENS.values() if s.mode == mode} for mode in MODES}
    assert [mode for mode, found in architectures.items() if len(found) < 2] == []
    assert count[HEALTHY] >= 18
    assert count.total() - count[HEALTHY] >= 44


def test_a_wrong_claim_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each field that the checks read, set to something that is not so."""
    from dataclasses import replace

    bug = SPECIMENS["deepsets_argmax_number"]
    claims = {
        "location": ("layers.1.pool", "does not heal"),
        "respected": ("S(nodes)", "does not hold under"),
        "mend": (bug.make, "the twin has"),
        "least": (0.5, "the bug shows with"),
        "broken": (("set",), "the outputs that break"),
        "also_right": (("layers.9",), "no module layers.9"),
    }
    for field, (value, message) in claims.items():
        _, wrong = truth.check(replace(bug, **{field: value}))
        assert any(message in what for what in wrong), field


def test_the_zoo_does_not_import_equicheck() -> None:
    """Whatever the zoo says is independent of what it is to judge; ``score.py`` judges."""
    for file in (ROOT / "zoo").glob("*.py"):
        if file.name == "score.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = getattr(node, "module", None) or ""
            assert not any("equicheck" in name for name in (*names, module)), file.name
