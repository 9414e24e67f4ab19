"""Writes docs/faults.md from the report of the fault tests: `python tests/system/faults_table.py JUNIT_XML MARKDOWN`."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

HEAD = """# Faults that the chain survives

Written by `scripts/faults{option}` on {date}; do not edit. Real processes, serial bytes on ptys, Mosquitto and InfluxDB.

{machine}

*Taken*: readings that the gateway journaled (what counts from then on). *Lost*: taken and not in InfluxDB at the end.
*Doubled*: one frame stored at two times. *Invented*: stored and never sent by a device. *Discarded*: frames that the kernel or
the process still held when a gateway ended, with the age of the oldest (at most 100 ms); they are never stored later.
*Unread*: frames that a device sent while no gateway read.

| fault | duration | taken | lost | doubled | invented | discarded | unread | result |
|---|---|--:|--:|--:|--:|--:|--:|---|
"""

NOTES = """
Durations with `--full`: half-open link 25 s; broker and link away 10 min; adapter pulled 3 times, 30 s beyond the alarm; disks
full 2 min; gateway stopped 40 s. Without: 10 s, 20 s, once 1 s, 5 s, 4 s.

Readings that a gateway holds in memory because its disk is full are not taken yet: one that is killed then loses them.

InfluxDB 1.6.7 answers every write with an error after its disk was full, until a person restarts it; readings wait for that
at central's broker and on the gateways.
"""


def version(*command: str) -> str:
    """The first line that a program says of its version."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def machine() -> str:
    system = (
        dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
        .get("PRETTY_NAME", "")
        .strip('"')
    )
    return (
        f"{system}, Linux {platform.release()}, {platform.machine()}, {os.cpu_count()} processors; "
        f"Python {platform.python_version()}; {version('mosquitto', '-h')}; {version('influxd', 'version')}."
    )


def row(case: ET.Element) -> str:
    said = {p.get("name", ""): p.get("value", "") for p in case.iter("property")}
    failed = next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), None)
    discarded = said.get("discarded", "")
    if discarded not in ("", "0"):
        discarded += f" ({said['oldest_ms']} ms)"
    cells = [
        said.get("fault", case.get("name", "").removeprefix("test_").replace("_", " ")),
        said.get("duration", ""),
        *(said.get(name, "") for name in ("taken", "lost", "doubled", "invented")),
        discarded,
        said.get("unread", ""),
        {"failure": "**failed**", "error": "**failed**", "skipped": "skipped"}.get(failed or "", "survived"),
    ]
    return "| " + " | ".join(cells) + " |\n"


def main(results: Path, table: Path) -> None:
    cases = ET.parse(results).getroot().iter("testcase")  # noqa: S314 - pytest wrote it just now
    option = " --full" if os.environ.get("MAILLAGES_FULL") else ""
    head = HEAD.format(option=option, date=f"{datetime.now(UTC):%Y-%m-%d}", machine=machine())
    table.write_text(head + "".join(row(case) for case in cases) + NOTES)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
