"""The command line; ``python -m equicheck`` and the console script."""

from __future__ import annotations

import sys

from . import _host
from ._equicheck import command


def main() -> None:
    """Runs the command and exits by the table of docs/exit-status.md."""
    sys.exit(command(["equicheck", *sys.argv[1:]], _host))


if __name__ == "__main__":
    main()
