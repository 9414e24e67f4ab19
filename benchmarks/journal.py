"""Bytes that a gateway without a broker writes per reading, at 5 readings a second: what wears an SD card.

    .venv/bin/python -m benchmarks.journal [--directory /var/tmp]

The real edge process with an MB7389 on a pty and an [mqtt] address where nobody answers. `write_bytes` of /proc/PID/io (proc(5):
bytes that the process caused to be sent to the storage layer) is divided by the readings that the journal holds more of.
It counts pages made dirty, so a real file system is needed: on tmpfs it stays 0, and the benchmark refuses to run.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import Program, finish, machine, ours, spread, table, usage, wait_until
from benchmarks.edge import EDGE, Sensor
from tests import servers

LIMIT = 500
IN_MEMORY = {"tmpfs", "ramfs"}


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`, from /proc/self/mountinfo."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == number:
            return fields[fields.index("-") + 1]
    return "unknown"


def journaled(home: Path) -> int:
    """Lines of the journal's segments."""
    return sum(path.read_bytes().count(b"\n") for path in (home / "data" / "journal").glob("*.log"))


def round_(home: Path, warm_s: float, seconds: float, interval_s: float) -> tuple[float, float, int]:
    """Bytes a reading on the storage layer, bytes a reading in files, readings."""
    home.mkdir()
    sensor = Sensor(home / "tty", interval_s)
    sensor.start()
    config = home / "edge.toml"
    config.write_text(EDGE.format(data=home / "data", broker=servers.free_port(), port=sensor.path))
    program = Program([ours("maillages-edge"), "run", "-c", config], home / "log")
    try:
        wait_until(lambda: journaled(home) > 5, 30, "the first readings", program)
        time.sleep(warm_s)
        before, lines, size = usage(program.pid).write_bytes, journaled(home), file_bytes(home)
        time.sleep(seconds)
        after, more = usage(program.pid).write_bytes, journaled(home) - lines
        grown = file_bytes(home) - size
    finally:
        program.stop()
        sensor.stop()
    assert more > seconds / interval_s * 0.9, f"{more} readings in {seconds} s"
    return (after - before) / more, grown / more, more


def file_bytes(home: Path) -> int:
    return sum(path.stat().st_size for path in (home / "data" / "journal").iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--directory", type=Path, default=Path("/var/tmp"), help="on a real file system (default %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm", type=float, default=10, help="seconds before the count")
    parser.add_argument("--seconds", type=float, default=60, help="counted in a round")
    parser.add_argument("--rate", type=float, default=5, help="readings a second")
    options = parser.parse_args()
    kind = file_system(options.directory)
    if kind in IN_MEMORY:
        sys.exit(f"{options.directory} is on {kind}, which writes nothing: give a --directory on a real file system")
    where = machine("maillages") | {"file system": kind}
    results = []
    with tempfile.TemporaryDirectory(prefix="maillages-bench-", dir=options.directory) as name:
        for i in range(options.rounds):
            results.append(round_(Path(name) / str(i), options.warm, options.seconds, 1 / options.rate))
            print(f"  round: {results[-1][0]:.0f} bytes a reading, {results[-1][2]} readings", flush=True)
    written, grown = spread([r[0] for r in results]), spread([r[1] for r in results])
    print()
    table(
        ["measured, without a broker", "median (lowest to highest)", "limit"],
        [
            ["written to storage, bytes a reading", written.text(), f"<= {LIMIT}"],
            ["of it kept in the journal, bytes a reading", grown.text(), ""],
        ],
    )
    figures = {"rounds": options.rounds, "seconds": options.seconds, "readings_per_s": options.rate}
    finish(
        "journal",
        where,
        figures | {"write_bytes_per_reading": written.json(0), "file_bytes_per_reading": grown.json(0)},
    )


if __name__ == "__main__":
    main()
