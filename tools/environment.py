"""Make the checkout's virtual environment, and bring it up to date with a list of requirements.

    python3 tools/environment.py tools/requirements-test.txt

Standard library only, since it runs before anything is installed. It uses pip once, to install uv,
and uv for the rest: PyTorch's files are some gigabytes, which uv fetches and unpacks in parallel.
A stamp in the environment holds a digest of the list, so that a second call costs nothing.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / "python"
#: Dependencies that no package gets.
OVERRIDES = ROOT / "tools" / "overrides.txt"
STAMP = VENV / "equicheck-requirements"


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a command with no standard input; raise if it fails."""
    subprocess.run([*map(str, command)], check=True, stdin=subprocess.DEVNULL, env=env)


def output(*command: str | Path) -> str:
    """Return what a command prints, or nothing if it cannot run."""
    try:
        done = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def uv_environment() -> dict[str, str]:
    """Return the environment for uv, with pip's settings added, which uv does not read itself."""
    env = dict(os.environ)
    settings: dict[str, str] = {}
    # `pip config list` prints lines such as global.index-url='...'; :env: is the environment.
    for line in output(PYTHON, "-m", "pip", "config", "list").splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section == ":env:" or (section in {"global", "install"} and name not in settings):
            settings[name] = " ".join(value.strip("'\"").replace("\\n", " ").split())
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "cert": "SSL_CERT_FILE",
        "default-timeout": "UV_HTTP_TIMEOUT",
    }
    for name, variable in names.items():
        if settings.get(name):
            # Several values are separated by commas in UV_FIND_LINKS, by blanks elsewhere.
            value = settings[name].replace(" ", ",") if name == "find-links" else settings[name]
            env.setdefault(variable, value)
    return env


def main(lists: list[str]) -> int:
    """Create the environment if need be and install the pinned lists in it."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (*(ROOT / name for name in lists), OVERRIDES):
        digest.update(path.read_bytes())
    wanted = digest.hexdigest()
    installed = STAMP.read_text().split() if STAMP.exists() else []
    if wanted in installed and output(PYTHON, "--version"):
        return 0

    if output(PYTHON, "-c", "import sys; print(sys.version)") != sys.version.strip():
        print(f"creating {VENV} with Python {sys.version.split()[0]}", flush=True)
        installed = []
        try:
            venv.create(VENV, clear=True, with_pip=True)
        except subprocess.CalledProcessError:
            print(
                f"{sys.executable} cannot create a virtual environment with pip; "
                "install its venv and ensurepip modules (on Debian: the package python3-venv)",
                file=sys.stderr,
            )
            return 1
    STAMP.unlink(missing_ok=True)
    if not output(BIN / "uv", "--version"):
        run(PYTHON, "-m", "pip", "install", "--quiet", "--constraint", ROOT / lists[0], "uv")
    command: list[str | Path] = [BIN / "uv", "pip", "install", "--python", PYTHON, "--override", OVERRIDES]
    for name in lists:
        command += ["--requirement", ROOT / name]
    run(*command, env=uv_environment())
    # Later lists contain the earlier ones, so the digests add up.
    STAMP.write_text("\n".join([*installed, wanted]) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed with status {error.returncode}: {' '.join(map(str, error.cmd))}")
