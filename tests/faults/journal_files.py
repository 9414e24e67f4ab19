"""The files of a gateway's journal, while no gateway runs: read, and changed as power cuts, cards and reboots change them."""

import json
import zlib
from pathlib import Path
from typing import Any

EARLIER_BOOT = "00000000-0000-0000-0000-00000000b007"


def line(record: list[Any]) -> bytes:
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def reboot(data: Path) -> None:
    """Make the boot that wrote the newest segment another one than the present. In place, which a full disk allows."""
    path = max((data / "journal").glob("*.log"))
    records = [json.loads(text[9:]) for text in path.read_bytes().split(b"\n")[:-1]]
    for record in records:
        if record[0] == "b":
            record[2] = EARLIER_BOOT
        elif record[0] == "h" and record[1]["boot"][1]:
            record[1]["boot"][1] = EARLIER_BOOT
    with path.open("r+b") as file:
        file.write(b"".join(map(line, records)))
