"""Run the stages of `make test` one after the other, and say how many minutes each of them took.

    python3 tools/stage.py test fmt clippy rust ...

A stage NAME is the make target `check-NAME`. What it prints goes to `target/stages/RUN/NAME.log`;
while it runs, a line each minute shows that it is alive. The first failure shows its log, then the
table, and ends the run with status 1. With STAGE_ECHO=1 everything is printed as it comes.
Standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEARTBEAT = 60.0  # seconds between signs of life
SHOWN = 400  # lines of a failed stage's log; the whole of it stays in the file


def say(text: str) -> None:
    """Print a line at once, even into a pipe."""
    print(text, flush=True)


def minutes(seconds: float) -> str:
    """Return a duration as it stands in the table."""
    return f"{seconds / 60:6.2f} min"


def last_line(log: Path) -> str:
    """Return the last line that a stage has printed, cut to the width of a terminal."""
    lines = log.read_text(errors="replace").splitlines()
    return next((line.strip()[:100] for line in reversed(lines) if line.strip()), "")


def run_stage(name: str, log: Path) -> int:
    """Run one stage with its output in `log`; return its exit status."""
    make = os.environ.get("MAKE", "make")
    echo = os.environ.get("STAGE_ECHO") == "1"
    # The output goes to a file: no colours in it.
    plain = {"CARGO_TERM_COLOR": "never", "NO_COLOR": "1", "TERM": "dumb"}
    started = time.monotonic()
    finished = threading.Event()

    def heartbeat() -> None:
        while not finished.wait(HEARTBEAT):
            say(f"     {name}: {minutes(time.monotonic() - started).strip()}  {last_line(log)}")

    with log.open("wb") as file:
        # A session of its own, so that an interrupt ends the stage's process tree and nothing else.
        process = subprocess.Popen(
            [make, "--no-print-directory", f"check-{name}"],
            cwd=ROOT,
            env={**os.environ, **plain},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if echo else file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=heartbeat, daemon=True).start()
        try:
            if process.stdout is not None:
                for line in process.stdout:
                    file.write(line)
                    file.flush()
                    sys.stdout.buffer.write(line)
                    sys.stdout.buffer.flush()
            return process.wait()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
        finally:
            finished.set()


def main(run: str, names: list[str]) -> int:
    """Run the stages in order, stop at the first that fails, print the table."""
    logs = ROOT / "target" / "stages" / run
    logs.mkdir(parents=True, exist_ok=True)
    table: list[tuple[str, float, str]] = []
    status = 0
    for number, name in enumerate(names, 1):
        log = logs / f"{name}.log"
        say(f"[{number}/{len(names)}] {name}")
        started = time.monotonic()
        try:
            code = run_stage(name, log)
        except KeyboardInterrupt:
            say(f"     interrupted; log: {log.relative_to(ROOT)}")
            return 130
        seconds = time.monotonic() - started
        result = "ok" if code == 0 else f"FAILED (status {code})"
        table.append((name, seconds, result))
        ending = last_line(log) if code == 0 else ""
        say(f"     {minutes(seconds).strip()}  {result}  {ending}".rstrip())
        if code != 0:
            status = 1
            lines = log.read_text(errors="replace").splitlines()
            if len(lines) > SHOWN:
                say(f"---- {log.relative_to(ROOT)}, the last {SHOWN} of {len(lines)} lines ----")
            else:
                say(f"---- {log.relative_to(ROOT)} ----")
            say("\n".join(lines[-SHOWN:]))
            say("----")
            break
    width = max(len(name) for name in names)
    say(f"\nmake {run}")
    for name, seconds, result in table:
        say(f"  {name:<{width}}  {minutes(seconds)}  {result}")
    for name in names[len(table) :]:
        say(f"  {name:<{width}}  {'-':>10}  not run")
    total = minutes(sum(seconds for _, seconds, _ in table))
    say(f"  {'all':<{width}}  {total}  {'FAILED' if status else 'ok'}")
    return status


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: stage.py RUN STAGE...")
    # A job that is cancelled ends its stage as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
