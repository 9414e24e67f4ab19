"""Writes docs/faults.md from the rows of the fault tests: `python tests/faults/table.py DIRECTORY_OF_ROWS MARKDOWN`."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

HEAD = """# Faults that the chain survives

Written by `scripts/faults` on {date}; do not edit. Real processes, serial bytes on ptys, Mosquitto and InfluxDB.

{machine}

*Injected*: readings that the devices sent (or frames, messages). *Unread*: of these, sent while no gateway read (its first start is
among that, and a process that gets no processor for a second), or still in the kernel or the process when it was killed (mostly at
most 100 ms of them, never a second); never stored later as fresh. *Lost*: taken by the gateway and not in the database at the end.
*Doubled*: one frame stored at two times, or a person told twice. *False*: stored and never sent. *Missed*: alarms due that reached
nobody. *Recovery*: the longest time from the end of the fault until central had receipted all from before it and a reading from after
it, or until the alarm was told. *Form*: `full` durations, or the `short` ones of CI.

| | fault | duration | form | injected | unread | lost | doubled | false | alarms | missed | recovery | result |
|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|
"""

PEERS_HEAD = """
## Beside other systems

Theirs was measured once by us, not in this run, on a machine of 2 processors with Python 3.11.7, all of it on 127.0.0.1:
thingsboard-gateway 3.8.5 from PyPI (tb-mqtt-client 1.13.13; storage `sqlite`, QoS 1, custom serial connector on a pty), Mosquitto
2.0.11 of Debian 12.

| | fault | theirs | ours, in the table above |
|---|---|---|---|
"""


class Peer(NamedTuple):
    """What another system made of a fault."""

    number: int
    fault: str
    theirs: str


PEERS = (
    Peer(
        1,
        "broker killed (-9) with 300 messages that it had acknowledged",
        "Mosquitto, `persistence true` and Debian's other defaults: 300 of 300 lost, and the subscription",
    ),
    Peer(
        2,
        "link half-open for 25 s, then a TCP reset",
        "ThingsBoard gateway: 118 of 500 lost (its issue 2157), 0 doubled",
    ),
    Peer(
        3,
        "link half-open for 20 s, then the gateway killed (-9)",
        "ThingsBoard gateway: 98 lost, which it had deleted without an acknowledgement, and 13 while it was down",
    ),
    Peer(
        5,
        "serial device gone for 6 s, back under the same path",
        "ThingsBoard gateway: 0 of 12 later readings; the process stays up, no alarm",
    ),
    Peer(
        6,
        "a frame `123.5` that pauses for 1.6 s in its middle",
        "ThingsBoard gateway: two false readings, 12.0 and 3.5",
    ),
    Peer(7, "values `0.0` and `0`", "ThingsBoard gateway: both dropped"),
    Peer(
        11,
        "what writes to the database is away, 1500 messages meanwhile",
        "Mosquitto, defaults, persistent session: 1500 acknowledged, 500 of them lost",
    ),
)

NOTES = """
## What it does not survive

- What a gateway holds in memory because its disk takes nothing (20,000 readings, then the oldest go) is not taken yet: one that is
  ended then loses it.
- A card that becomes read-only keeps what was synced: what a power cut takes (at most 30 s) is lost with it. Alarms go on, by siren,
  central and modem; readings wait in memory and are lost with the restart that a new card needs.
- InfluxDB 1.6.7 answers every write with an error after its disk was full, until a person restarts it; readings wait for that at
  central's broker and on the gateways.
- A page of the journal that is destroyed is lost with its readings, if central did not have them: their numbers are announced.
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


def shown(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:g}{unit}"


def row(of: dict[str, Any]) -> str:
    cells = [
        f"F{of['number']}" if of["number"] else "",
        of["fault"],
        of["duration"],
        "full" if of["full"] else "short",
        *(shown(of[name]) for name in ("injected", "unread", "lost", "doubled", "invented")),
        *((shown(of["alarms"]), shown(of["missed"])) if of["alarms"] else ("", "")),
        shown(of["recovery_s"], " s"),
        "survived" if of["survived"] else "**failed**",
    ]
    return "| " + " | ".join(cells) + " |\n"


def beside(peer: Peer, rows: list[dict[str, Any]]) -> str:
    ours = [of for of in rows if of["number"] == peer.number and of["injected"] is not None]
    if not ours:
        return ""
    total = {name: sum(of[name] or 0 for of in ours) for name in ("injected", "unread", "lost", "doubled", "invented")}
    taken = total["injected"] - total["unread"]
    said = f"{total['lost']} of {taken} lost, " if ours[0]["lost"] is not None else f"of {taken}: "
    said += f"{total['doubled']} doubled, {total['invented']} false"
    return f"| F{peer.number} | {peer.fault} | {peer.theirs} | {said} |\n"


def main(directory: Path, table: Path) -> None:
    rows = [json.loads(path.read_text()) for path in directory.glob("*.json")]
    rows.sort(key=lambda of: (of["number"] or 99, of["file"], of["fault"]))
    text = HEAD.format(date=f"{datetime.now(UTC):%Y-%m-%d}", machine=machine())
    text += "".join(row(of) for of in rows)
    text += PEERS_HEAD + "".join(beside(peer, rows) for peer in PEERS) + NOTES
    table.write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
