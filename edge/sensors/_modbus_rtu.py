"""Modbus RTU frames, pure: requests to send and replies to read (Modbus Application Protocol V1.1b3; Serial Line V1.02)."""

import struct
from dataclasses import dataclass

from edge.sensors import _crc
from edge.sensors.base import FrameError

READS = (3, 4)
WRITE_SINGLE = 6
WRITE_MULTIPLE = 16

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server device failure",
    5: "acknowledge, still working",
    6: "server device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target failed to respond",
}


def crc16(data: bytes | bytearray) -> bytes:
    """The two CRC bytes as sent, low byte first (Serial Line V1.02, 6.2.2)."""
    return _crc.crc16(data, 0xFFFF).to_bytes(2, "little")


def seal(body: bytes) -> bytes:
    """A body (unit, function, data) with its CRC."""
    return body + crc16(body)


def read_request(unit: int, function: int, register: int, count: int) -> bytes:
    """Read `count` registers from `register` by function 3 (holding) or 4 (input)."""
    return seal(struct.pack(">BBHH", unit, function, register, count))


def write_single(unit: int, register: int, value: int) -> bytes:
    """Write one register (function 6). The reply is the same bytes."""
    return seal(struct.pack(">BBHH", unit, WRITE_SINGLE, register, value & 0xFFFF))


def write_multiple(unit: int, register: int, values: tuple[int, ...]) -> bytes:
    """Write consecutive registers (function 16)."""
    words = b"".join(struct.pack(">H", value & 0xFFFF) for value in values)
    return seal(struct.pack(">BBHHB", unit, WRITE_MULTIPLE, register, len(values), len(words)) + words)


@dataclass(frozen=True, slots=True)
class Request:
    """What a master asked: registers from `register` on, with the `values` to write (none for a read)."""

    unit: int
    function: int
    register: int
    count: int
    values: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Registers:
    """The reply to a read: register contents as unsigned words."""

    unit: int
    function: int
    words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """The reply to a write of `count` registers from `register` on."""

    unit: int
    function: int
    register: int
    count: int


def parse_reply(frame: bytes) -> Registers | Written:
    """Read one whole RTU reply. Raises FrameError: `length`, `crc`, `exception` or `format`."""
    if len(frame) < 5:
        raise FrameError("length", f"{len(frame)} bytes, a reply has at least 5")
    unit, function = frame[0], frame[1]
    if function & 0x80:
        _check(frame, 5)
        raise FrameError("exception", f"code {frame[2]}: {EXCEPTIONS.get(frame[2], 'not in the standard')}")
    if function in READS:
        _check(frame, 5 + frame[2])
        if frame[2] == 0 or frame[2] % 2:
            raise FrameError("format", f"{frame[2]} bytes of data, expected whole 16-bit registers")
        return Registers(unit, function, struct.unpack(f">{frame[2] // 2}H", frame[3:-2]))
    if function in (WRITE_SINGLE, WRITE_MULTIPLE):
        _check(frame, 8)
        register, last = struct.unpack(">HH", frame[2:6])
        return Written(unit, function, register, last if function == WRITE_MULTIPLE else 1)
    if crc16(frame[:-2]) != frame[-2:]:
        raise FrameError("crc", f"CRC {frame[-2:].hex().upper()} does not fit, and function {function} is none we use")
    raise FrameError("format", f"function {function}, expected 3, 4, 6 or 16")


def parse_request(frame: bytes) -> Request | None:
    """Read one whole RTU request; None when it is none (then `parse_reply` says what is wrong with it, if it is no reply).

    A reply to function 6 is its request.
    """
    if len(frame) < 8 or crc16(frame[:-2]) != frame[-2:]:
        return None
    unit, function, register, last = struct.unpack(">BBHH", frame[:6])
    # A reply as long as a read request would have three data bytes, which no reply has.
    if len(frame) == 8 and function in READS and frame[2] != 3:
        return Request(unit, function, register, last)
    if len(frame) == 8 and function == WRITE_SINGLE:
        return Request(unit, function, register, 1, (last,))
    if function == WRITE_MULTIPLE and len(frame) == 9 + 2 * last and frame[6] == 2 * last:
        return Request(unit, function, register, last, struct.unpack(f">{last}H", frame[7:-2]))
    return None


def _check(frame: bytes, expected: int) -> None:
    if len(frame) < expected:
        raise FrameError("length", f"{len(frame)} bytes of {expected}")
    computed = crc16(frame[: expected - 2])
    if frame[expected - 2 : expected] != computed:
        raise FrameError(
            "crc", f"CRC {frame[expected - 2 : expected].hex().upper()}, computed {computed.hex().upper()}"
        )
    if len(frame) > expected:
        raise FrameError("length", f"{len(frame) - expected} bytes after a whole frame of {expected}")
