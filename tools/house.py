"""Check what compilers and tests do not see: sizes of committed files, licences, versions, links.

    python3 tools/house.py

Prints one line per problem and exits 1 if there is any. Standard library only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 500_000  # bytes of a committed file

# Licences that a dependency may have: they ask for no more than to be named in a binary
# distribution, so the result can be given under MIT OR Apache-2.0. Read a new one before adding it.
ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}


def output(*command: str) -> str:
    """Return what a command prints; raise if it fails."""
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def metadata(*options: str) -> dict[str, Any]:
    """Return what cargo knows of the workspace."""
    result: dict[str, Any] = json.loads(output("cargo", "metadata", "--format-version=1", *options))
    return result


def committed() -> list[Path]:
    """Return the files that git tracks, staged ones included."""
    return [ROOT / name for name in output("git", "ls-files", "-z").split("\0") if name]


def too_large(files: list[Path], largest: int = LARGEST) -> Iterator[str]:
    """Yield a problem for each file of more than `largest` bytes."""
    for file in files:
        if file.is_file() and (size := file.stat().st_size) > largest:
            yield f"{file.relative_to(ROOT)}: {size} bytes, more than {largest}: generate it"


def licence_allowed(expression: str) -> bool:
    """Return whether ALLOWED alone meets an SPDX expression (or its old form, MIT/Apache-2.0)."""
    tokens = re.findall(r"[()]|[\w.+-]+", expression.replace("/", " OR "))

    def either() -> bool:
        value = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            value = both() or value  # both() first: it consumes its tokens in any case
        return value

    def both() -> bool:
        value = single()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = single() and value
        return value

    def single() -> bool:
        name = tokens.pop(0)
        if name == "(":
            value = either()
            if tokens.pop(0) != ")":
                raise IndexError
            return value
        if tokens and tokens[0] == "WITH":
            name = f"{name} {tokens.pop(0)} {tokens.pop(0)}"
        return name in ALLOWED

    try:
        return either() and not tokens
    except IndexError:  # malformed
        return False


def licences(packages: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a problem for each dependency whose licence is missing or not allowed."""
    for package in packages:
        expression = package["license"] or ""
        if package["source"] is not None and not licence_allowed(expression):
            stated = f"licence {expression}" if expression else "no SPDX licence"
            name = f"{package['name']} {package['version']}"
            yield f"{name}: {stated}: not in ALLOWED of tools/house.py"


def release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, for comparison."""
    return tuple(int(part) for part in re.split(r"[.+-]", version)[:3])


def versions(workspace: dict[str, Any], changelog: str, pyproject: str) -> Iterator[str]:
    """Yield a problem wherever the version of the workspace's crates is contradicted."""
    packages = {package["name"]: package for package in workspace["packages"]}
    found = {package["version"] for package in packages.values()}
    if len(found) != 1:
        yield f"Cargo.toml: the crates have different versions: {', '.join(sorted(found))}"
        return
    version = found.pop()
    for package in packages.values():
        for dependency in package["dependencies"]:
            name, asked = dependency["name"], dependency["req"]
            if name in packages and asked != f"^{version}":
                yield f"Cargo.toml: {name} is asked for as {asked}, its version is {version}"
    if not re.search(r'^dynamic = \[.*"version".*\]', pyproject, re.MULTILINE):
        yield "pyproject.toml: the version must be dynamic, so that it is the one of Cargo.toml"

    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    titles = [match[1] if (match := re.match(r"\[(.+?)\]", section)) else "" for section in sections]
    if not titles or titles[0] != "Unreleased":
        yield "CHANGELOG.md: the first section must be ## [Unreleased]"
        return
    newest = titles[1] if len(titles) > 1 else "0.0.0"
    if release(newest) > release(version):
        yield f"CHANGELOG.md: releases {newest}, and Cargo.toml has {version}"
    elif release(newest) < release(version) and not re.search(r"^- ", sections[0], re.MULTILINE):
        yield f"CHANGELOG.md: nothing is said of version {version}"


def links(files: list[Path]) -> Iterator[str]:
    """Yield a problem for each relative link of a Markdown file that leads nowhere."""
    for file in files:
        if file.suffix != ".md" or not file.is_file():
            continue
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            path = target.partition("#")[0]
            if path and ":" not in path and not (file.parent / path).exists():
                yield f"{file.relative_to(ROOT)}: the link {target} leads nowhere"


def main() -> int:
    """Run every check, print the problems, return the exit status."""
    files = committed()
    packages: list[dict[str, Any]] = metadata()["packages"]
    workspace = metadata("--no-deps")
    changelog, pyproject = (
        (ROOT / "CHANGELOG.md").read_text(),
        (ROOT / "pyproject.toml").read_text(),
    )
    checks: dict[str, Callable[[], Iterator[str]]] = {
        f"sizes of {len(files)} files": lambda: too_large(files),
        f"licences of {len(packages) - len(workspace['packages'])} crates": lambda: licences(packages),
        "versions": lambda: versions(workspace, changelog, pyproject),
        "links": lambda: links(files),
    }
    problems = 0
    for name, check in checks.items():
        found = list(check())
        problems += len(found)
        print(f"{name}: {'FAILED' if found else 'ok'}")
        for problem in found:
            print(f"  {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
