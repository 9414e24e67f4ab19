"""Bytes that a gateway without a broker writes per reading: what wears an SD card.

    .venv/bin/python -m benchmarks.journal --image      # as root
    .venv/bin/python -m benchmarks.journal --directory /var/tmp

Two loads, the real edge process with MB7389s on ptys and an [mqtt] address where nobody answers: one sensor at 5 readings a
second, and 20 sensors with one reading a minute each. `write_bytes` of /proc/PID/io (proc(5): bytes that the process caused to
be sent to the storage layer) is divided by the readings that the journal holds more of.
It counts pages made dirty, so a real file system is needed: on tmpfs it stays 0, and the benchmark refuses to run. `--image`
mounts a new ext4 with a journal from a file in the directory, which is what a Raspberry Pi has. On an ext4 without a journal the
page of the inode table is charged to the process too, where otherwise the kernel's jbd2 thread writes it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import Program, Spread, finish, machine, ours, spread, table, usage, wait_until
from benchmarks.edge import EDGE, Sensor
from edge.emulators.pty import PtyDevice
from tests import servers

IN_MEMORY = {"tmpfs", "ramfs"}

ANOTHER = """
[[station.sensor]]
id = "level-{number}"
driver = "maxbotix"
port = "{port}"
period_s = 0
options = {{ model = "MB7389" }}
"""


class Load(NamedTuple):
    """`sensors` with a reading every `interval_s` each, spread; at most `limit` bytes a reading."""

    name: str
    sensors: int
    interval_s: float
    seconds: float
    limit: int


LOADS = (
    Load("1 sensor, 5 readings/s", 1, 0.2, 120, 200),
    Load("20 sensors, 1 reading/min each", 20, 60, 240, 700),
)


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`, from /proc/self/mountinfo."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == number:
            return fields[fields.index("-") + 1]
    return "unknown"


def has_journal(path: Path) -> bool:
    """Whether an ext4 file system there writes its metadata by way of a jbd2 journal."""
    device = path.stat().st_dev
    name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    return any(Path("/proc/fs/jbd2").glob(f"{name}-*"))


@contextmanager
def image(directory: Path) -> Iterator[Path]:
    """A new ext4 with a journal, mounted from a file in `directory`; needs root."""
    file, mounted = directory / "ext4.img", directory / "ext4"
    mounted.mkdir()
    with file.open("wb") as f:
        f.truncate(256 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "has_journal", file], check=True)
    subprocess.run(["mount", "-o", "loop", file, mounted], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)


def journaled(home: Path) -> int:
    """Readings in the journal's segments."""
    return sum(path.read_bytes().count(b' ["r",') for path in (home / "data" / "journal").glob("*.log"))


def config(
    home: Path, sensors: Sequence[PtyDevice], broker: int, more: str = "", *, watched: bool | None = None
) -> Path:
    """An edge.toml of a gateway with these sensors, at one station. Only one alone is `watched` if nothing is said of it: a silence
    of a minute is none here."""
    base, _, rule = EDGE.partition("[[station.rule]]")
    text = base.format(data=home / "data", broker=broker, port=sensors[0].path)
    text += "".join(ANOTHER.format(number=i, port=s.path) for i, s in enumerate(sensors[1:], 2))
    if len(sensors) == 1 if watched is None else watched:
        text += "[[station.rule]]" + rule
    path = home / "edge.toml"
    path.write_text(text + more)
    return path


def plugged(home: Path, count: int, interval_s: float) -> list[Sensor]:
    """Sensors that run, each with a frame every `interval_s`, spread over that."""
    sensors = []
    for i in range(count):
        sensor = Sensor(home / f"tty{i}", interval_s, first_s=i * interval_s / count)
        sensor.start()
        sensors.append(sensor)
    return sensors


def round_(home: Path, load: Load, warm_s: float) -> tuple[float, float, int]:
    """Bytes a reading on the storage layer, bytes a reading in files, readings."""
    home.mkdir()
    sensors = plugged(home, load.sensors, load.interval_s)
    path = config(home, sensors, servers.free_port())
    program = Program([ours("maillages-edge"), "run", "-c", path], home / "log")
    try:
        wait_until(lambda: journaled(home) > 5, 90, "the first readings", program)
        time.sleep(warm_s)
        before, count, size = usage(program.pid).write_bytes, journaled(home), file_bytes(home)
        time.sleep(load.seconds)
        after, more = usage(program.pid).write_bytes, journaled(home) - count
        grown = file_bytes(home) - size
    finally:
        program.stop()
        for sensor in sensors:
            sensor.stop()
    expected = load.sensors * load.seconds / load.interval_s
    assert more > expected * 0.9, f"{more} readings in {load.seconds} s"
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
    parser.add_argument("--seconds", type=float, help="counted in a round (default 120 and 240)")
    parser.add_argument("--load", type=int, choices=(1, 2), help="one of the two only")
    parser.add_argument("--image", action="store_true", help="on a new ext4 with a journal, mounted there from a file")
    options = parser.parse_args()
    kind = file_system(options.directory)
    if kind in IN_MEMORY:
        sys.exit(f"{options.directory} is on {kind}, which writes nothing: give a --directory on a real file system")
    where = machine("maillages")
    rows: list[list[str]] = []
    figures: dict[str, Spread] = {}
    for load in LOADS if options.load is None else LOADS[options.load - 1 : options.load]:
        measured = load if options.seconds is None else load._replace(seconds=options.seconds)
        results = []
        with ExitStack() as stack:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="maillages-bench-", dir=options.directory))
            directory = stack.enter_context(image(Path(name))) if options.image else Path(name)
            where["file system"] = f"{file_system(directory)} with{'' if has_journal(directory) else 'out'} a journal"
            for i in range(options.rounds):
                results.append(round_(directory / str(i), measured, options.warm))
                print(f"  {load.name}: {results[-1][0]:.0f} bytes a reading, {results[-1][2]} readings", flush=True)
        written, grown = spread([r[0] for r in results]), spread([r[1] for r in results])
        rows.append([f"written to storage: {load.name}", written.text(), f"<= {load.limit}"])
        rows.append([f"of it kept in the journal: {load.name}", grown.text(), ""])
        figures[load.name] = written
    print()
    table(["bytes a reading, without a broker", "median (lowest to highest)", "limit"], rows)
    finish(
        "journal",
        where,
        {"rounds": options.rounds, "write_bytes_per_reading": {name: s.json(0) for name, s in figures.items()}},
    )


if __name__ == "__main__":
    main()
