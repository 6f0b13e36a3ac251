"""The command line; ``python -m equicheck`` and the console script."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from ._equicheck import Report, command


def load(target: str) -> Report:
    """Calls the function that ``FILE.py:FUNCTION`` or ``package.module:FUNCTION`` names; it returns a report."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise ValueError(f"`{target}`: expected FILE.py:FUNCTION or package.module:FUNCTION")
    if place.endswith(".py"):
        path = Path(place).resolve()
        if not path.is_file():
            raise FileNotFoundError(f"no file `{place}`")
        # Like `python FILE.py`: the file's neighbours can be imported.
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"`{place}` cannot be loaded as a module")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, "")
        module = importlib.import_module(place)
    function: Any = getattr(module, name, None)
    if not callable(function):
        raise AttributeError(f"`{place}` has no function `{name}`")
    report = function()
    if not isinstance(report, Report):
        raise TypeError(f"`{target}` returned {type(report).__name__}, not an equicheck.Report")
    return report


def main() -> None:
    """Runs the command and exits by the table of docs/exit-status.md."""
    sys.exit(command(["equicheck", *sys.argv[1:]], load))


if __name__ == "__main__":
    main()
