"""What the benchmarks share: the programs under test, figures of a process from /proc, tables, and the closing JSON line."""

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Program:
    """A process with its output in a log, ended by its own id."""

    def __init__(self, command: Sequence[str | Path], log: Path, **popen: Any) -> None:
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen([str(c) for c in command], stdout=out, stderr=out, **popen)

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """RuntimeError with the end of its log when it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"ended with {self._process.returncode}:\n{self._log.read_text()[-2000:]}")

    def terminate(self) -> None:
        self._process.terminate()

    def stop(self) -> None:
        self.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def ours(name: str) -> Path:
    """A program of this project, of the environment that runs the benchmark."""
    return Path(sys.executable).with_name(name)


class Usage(NamedTuple):
    """Of one process: CPU seconds (user and system) of all its threads so far, resident memory now, bytes written so far."""

    cpu_s: float
    rss: int
    write_bytes: int


def usage(pid: int) -> Usage:
    proc = Path(f"/proc/{pid}")
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    io = dict(line.split(": ") for line in (proc / "io").read_text().splitlines())
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, int(fields[21]) * _PAGE, int(io["write_bytes"]))


def children(pid: int) -> list[int]:
    """All descendants of a process."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *children(child)]
    return found


class Spread(NamedTuple):
    """Of several rounds."""

    median: float
    low: float
    high: float

    def text(self, form: str = ",.0f") -> str:
        return f"{self.median:{form}} ({self.low:{form}} to {self.high:{form}})"

    def json(self, digits: int = 3) -> list[float]:
        return [round(x, digits) for x in self]


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value with at least `percent` of all at or below it."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def wait_until(condition: Any, timeout_s: float, what: str, *programs: Program) -> None:
    """Poll; TimeoutError naming `what`, RuntimeError when one of the programs has ended."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        for program in programs:
            program.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(0.05)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


def machine(*packages: str) -> dict[str, Any]:
    """Where and when: CPU, cores, load before the run, kernel, Python, versions of `packages`."""
    model = next(
        (x.partition(": ")[2] for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")),
        platform.machine(),
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def tool_version(*command: str) -> str:
    """The first word with a digit and a dot of what the program says of itself."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = (done.stdout + done.stderr).split()
    return next((w.strip(",") for w in words if any(c.isdigit() for c in w) and "." in w), "unknown")


def finish(benchmark: str, where: dict[str, Any], figures: dict[str, Any]) -> None:
    """The closing line of JSON, after a line about the machine."""
    print()
    print(", ".join(f"{k} {v}" for k, v in where.items()))
    print(json.dumps({"benchmark": benchmark, **figures, "machine": where}))
