"""The frame that Plantower's particle sensors send, and that Winsen and Honeywell took over: `42 4D | length | data | sum`.

Source: Plantower, PMS5003 series data manual V2.3, appendices I and II. All words are big-endian; the length counts data and
sum; the sum is that of all bytes before it. A command has 7 bytes, `42 4D | command | 2 data bytes | sum`; its confirmation
is a frame with two bytes of data, the command and its lower data byte.
"""

import struct
from typing import Literal

from edge.sensors._framing import Cut, ScanFramer, Step, head
from edge.sensors.base import Duty, Field, FrameError, Options

HEAD = b"BM"
BEGINS = (b"B", b"M")
"""See `_framing.head`."""
REPLY = 4
"""Length field of a confirmation."""
COMMAND_BYTES = 7

MODE, READ, SLEEP = 0xE1, 0xE2, 0xE4
_COMMANDS = {
    (MODE, 0): "passive_mode",
    (MODE, 1): "active_mode",
    (READ, 0): "passive_read",
    (SLEEP, 0): "sleep",
    (SLEEP, 1): "wake",
}


class PmsOptions(Options):
    """`mode`: `active` has the sensor send by itself, about once a second; `query` on request (Plantower's passive mode)."""

    mode: Literal["active", "query"] = "active"


def _fault(frame: bytes | bytearray, lengths: tuple[int, ...]) -> FrameError | None:
    if frame[:2] != HEAD:
        return FrameError("header", f"begins with {frame[:2].hex().upper() or 'nothing'}, expected 424D")
    if len(frame) < 4:
        return FrameError("length", f"{len(frame)} bytes, a frame has at least 8")
    length = int.from_bytes(frame[2:4], "big")
    if length not in lengths:
        return FrameError("header", f"length field {length}, expected {' or '.join(map(str, lengths))}")
    if len(frame) != 4 + length:
        return FrameError("length", f"{len(frame)} bytes, expected {4 + length}")
    found, computed = int.from_bytes(frame[-2:], "big"), sum(frame[:-2]) & 0xFFFF
    if found != computed:
        return FrameError("checksum", f"sum {found:04X}, computed {computed:04X}")
    return None


def cut(*lengths: int) -> Cut:
    """A Cut for frames whose length field is one of `lengths`."""

    def one(buffer: bytearray) -> Step | None:
        if len(buffer) < 4:
            return None
        size = 4 + int.from_bytes(buffer[2:4], "big")
        if size - 4 not in lengths:
            frame = bytes(buffer[:4])  # what is wrong shows here; a length from noise would copy 64 KiB for each header
        elif len(buffer) < size:
            return None
        else:
            frame = bytes(buffer[:size])
        if error := _fault(frame, lengths):
            return 1, error
        return size, frame

    return one


def framer(*lengths: int) -> ScanFramer:
    """A framer of frames whose length field is one of `lengths`."""
    return ScanFramer(cut(*lengths), head(BEGINS))


def data(frame: bytes, *lengths: int) -> bytes:
    """The data of a whole frame. Raises FrameError: `header length checksum`."""
    if error := _fault(frame, lengths):
        raise error
    return frame[4:-2]


def words(payload: bytes) -> tuple[int, ...]:
    """Data as words."""
    return struct.unpack(f">{len(payload) // 2}H", payload)


def warmed_up(payload: bytes) -> None:
    """Raises FrameError `warming_up` when all data are zero. A zero beside anything else (a version byte) is a value."""
    if not any(payload):
        raise FrameError("warming_up", "all data are zero: the fan or laser is not up yet")


def healthy(payload: bytes) -> None:
    """Raises FrameError `sensor_fault` when the last byte of a 32-byte frame's data, the error code, is not zero."""
    if payload[-1]:
        raise FrameError(
            "sensor_fault", f"the sensor reports error code {payload[-1]:02X}", (Field("error_code", payload[-1], "1"),)
        )


def masses(payload: bytes) -> list[Field]:
    """Words 1 to 3, by the factory's calibration particle (`_cf1`), and 4 to 6, in the atmosphere, which count outdoors."""
    found = words(payload)
    return [
        *(
            Field(name, value, "ug/m3")
            for name, value in zip(("pm1_cf1", "pm2_5_cf1", "pm10_cf1"), found[:3], strict=True)
        ),
        *(Field(name, float(value), "ug/m3") for name, value in zip(("pm1", "pm2_5", "pm10"), found[3:6], strict=True)),
    ]


def counts(payload: bytes, *names: str) -> list[Field]:
    """Particles larger than 0.3 um, 0.5 um, ... from word 7 on, sent per 0.1 L.

    Raises FrameError `inconsistent` for a mass without any particle.
    """
    found = words(payload)
    if found[6] == 0 and any(found[:6]):
        raise FrameError("inconsistent", f"mass {max(found[:6])} ug/m3 and no particle above 0.3 um")
    return [Field(name, value / 100, "1/cm3") for name, value in zip(names, found[6:], strict=False)]


def reply(payload: bytes) -> list[Field]:
    """What a confirmation confirms. Raises FrameError `format`."""
    name = _COMMANDS.get((payload[0], payload[1]))
    if name is None:
        raise FrameError("format", f"confirmation of {payload.hex().upper()}, which is no command")
    return [Field("reply", name, "")]


def _command(command: int, value: int) -> bytes:
    body = HEAD + struct.pack(">BH", command, value)
    return body + struct.pack(">H", sum(body))


def passive_mode() -> bytes:
    """Send a data frame only when asked."""
    return _command(MODE, 0)


def active_mode() -> bytes:
    """Send data frames by itself."""
    return _command(MODE, 1)


def passive_read() -> bytes:
    """Ask for one data frame."""
    return _command(READ, 0)


def sleep() -> bytes:
    """Stop fan and laser."""
    return _command(SLEEP, 0)


def wake() -> bytes:
    """Start fan and laser; values are good 30 s later."""
    return _command(SLEEP, 1)


COMMANDS = {function.__name__: function for function in (passive_mode, active_mode, passive_read, sleep, wake)}


def recognise(frame: bytes) -> list[Field]:
    """Read a 7-byte command back (see Driver.recognise)."""
    if frame[:2] != HEAD or len(frame) != COMMAND_BYTES or frame[2] < MODE:
        return []
    found, computed = int.from_bytes(frame[5:], "big"), sum(frame[:5])
    if found != computed:
        raise FrameError("checksum", f"sum {found:04X}, computed {computed:04X}")
    name = _COMMANDS.get((frame[2], int.from_bytes(frame[3:5], "big")))
    if name is None:
        raise FrameError("format", f"command {frame[2:5].hex().upper()} is unknown")
    return [Field("command", name, "")]


def setup(options: PmsOptions) -> tuple[bytes, ...]:
    """What is sent when the port opens: wake first, then the mode."""
    return wake(), passive_mode() if options.mode == "query" else active_mode()


def request(options: PmsOptions) -> bytes:
    """What is sent every period: a query in query mode, nothing (no bytes) in active mode."""
    return passive_read() if options.mode == "query" else b""


DUTY = Duty(wake=setup, sleep=lambda _options: (sleep(),), warm_up_s=30)
"""Values are stable from 30 s after waking on (series data manual V2.3). Waking sets the mode too: the manual does not say that
it outlives sleep."""
