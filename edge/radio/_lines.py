"""What modems that speak in lines share: how their lines are cut."""

import re

from edge.sensors._framing import Cut, ScanFramer, Step, head
from edge.sensors.base import FrameError

LINE_BYTES = 640
"""Longer than any line: 255 bytes of payload are 510 digits."""

_BEGINS = head((bytes(range(0x20, 0x7F)) + b"\r\n",))
_ENDS = b"\r\n"
_END = re.compile(rb"[\r\n]")


def framer(event: bytes) -> ScanFramer:
    """Frames are lines with their end (CR LF, or LF). `event` begins a line of its own even behind noise."""
    return framer_of(cutter(event))


def framer_of(cut: Cut) -> ScanFramer:
    """As `framer`, with a cut of one's own."""
    return ScanFramer(cut, _BEGINS)


def cutter(event: bytes) -> Cut:
    """As `framer` cuts; for a protocol that has more to say of a line."""

    def cut(buffer: bytearray) -> Step | None:
        if buffer[0] in _ENDS:  # blank lines around answers
            return 1, b""
        end = line_end(buffer)
        if end is None and len(buffer) < LINE_BYTES:
            return None
        if (begin := buffer.find(event, 1, end or LINE_BYTES)) > 0:
            return begin, FrameError("header", f"{shown(buffer[:begin])} before {event.decode('ascii')}")
        if end is None:
            return LINE_BYTES - len(event), FrameError("overflow", f"{LINE_BYTES} bytes without a line end")
        return end, bytes(buffer[:end])

    return cut


def line_end(buffer: bytearray, start: int = 0) -> int | None:
    """Index after the line that begins at `start`, with its end; None while that has not come."""
    found = _END.search(buffer, start, start + LINE_BYTES - 1)
    if found is None:
        return None
    after = found.end()
    if found[0] == b"\n":
        return after
    if len(buffer) == after:
        return None
    return after + 1 if buffer[after] == 0x0A else after


def shown(data: bytes | bytearray) -> str:
    """For a message: at most 40 characters."""
    return repr(data[:40].decode("latin-1"))
