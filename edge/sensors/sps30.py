"""Sensirion SPS30 particle sensor on a UART (SHDLC), 115200 8N1; 5 V supply, pin SEL left open.

Source: Sensirion, SPS30 data sheet version 1.0 (March 2020), section 5. To the sensor `7E | 00 | command | length | data | sum
| 7E`, from it `7E | 00 | command | state | length | data | sum | 7E`. The sum is the complement of the low byte of the sum of
what stands between the 7E. In between, sum included, 7E, 7D, 11, 13 travel as 7D and the byte with bit 5 inverted. The sensor
speaks when asked; it has a new value every second. Start-up takes 8 s in dusty air, 30 s in clean.
"""

import math
import struct
from typing import Literal

from edge.sensors._framing import ScanFramer, Step, head
from edge.sensors.base import Driver, Duty, Field, FrameError, Identify, Options, Sheet

FLAG, ESCAPE = 0x7E, 0x7D
ADDRESS = 0x00
_ESCAPED = frozenset((FLAG, ESCAPE, 0x11, 0x13))
_BODY_BYTES = 4 + 255 + 1
_FRAME_BYTES = 2 + 2 * _BODY_BYTES

START, STOP, READ, SLEEP, WAKE, CLEAN = 0x00, 0x01, 0x03, 0x10, 0x11, 0x56
INTERVAL, INFO, VERSION, STATUS, RESET = 0x80, 0xD0, 0xD1, 0xD2, 0xD3
_REPLIES = {
    START: "start_measurement",
    STOP: "stop_measurement",
    READ: "read_measurement",
    SLEEP: "sleep",
    WAKE: "wake",
    CLEAN: "fan_cleaning",
    INTERVAL: "auto_clean_interval",
    INFO: "device_info",
    VERSION: "version",
    STATUS: "status",
    RESET: "reset",
}
_FORMATS = {"float": b"\x01\x03", "uint16": b"\x01\x05"}
_INFO = {"product_type": b"\x00", "serial_number": b"\x03"}
_VALUES = (
    ("pm1", "ug/m3"),
    ("pm2_5", "ug/m3"),
    ("pm4", "ug/m3"),
    ("pm10", "ug/m3"),
    ("n0_5", "1/cm3"),
    ("n1_0", "1/cm3"),
    ("n2_5", "1/cm3"),
    ("n4_0", "1/cm3"),
    ("n10", "1/cm3"),
    ("typical_size", "um"),
)
_FLOATS, _WORDS = 4 * len(_VALUES), 2 * len(_VALUES)

_FLAGGED = 0x80
_NOT_ALLOWED = 0x43
_STATES = {
    0x01: "wrong data length",
    0x02: "unknown command",
    0x03: "no access right",
    0x04: "illegal parameter",
    0x28: "internal function argument out of range",
    _NOT_ALLOWED: "command not allowed in this state",
}
_FAULTS = {21: "fan_speed_fault", 5: "laser_fault", 4: "fan_fault"}
"""Bits of the status register."""


class Sps30Options(Options):
    """`output_format`: how the sensor is told to send; an answer shows it by its length. `uint16` cuts the fractions off."""

    output_format: Literal["float", "uint16"] = "float"


def _sum(body: bytes) -> int:
    return ~sum(body) & 0xFF


def _stuff(body: bytes) -> bytes:
    return b"".join(bytes((ESCAPE, byte ^ 0x20)) if byte in _ESCAPED else bytes((byte,)) for byte in body)


def _unstuff(stuffed: bytes) -> bytes:
    """Raises FrameError `format` for an escape of nothing that needs one."""
    if ESCAPE not in stuffed:
        return stuffed
    head, *rest = stuffed.split(bytes((ESCAPE,)))
    body = bytearray(head)
    for part in rest:
        if not part or part[0] ^ 0x20 not in _ESCAPED:
            raise FrameError("format", f"escape 7D {part[:1].hex().upper()}, expected 7D and 5E, 5D, 31 or 33")
        body.append(part[0] ^ 0x20)
        body += part[1:]
    return bytes(body)


def _answer(frame: bytes) -> bytes:
    """Command, state, length and data of a whole answer, checked. Raises FrameError: `header tail format length checksum`."""
    if frame[:1] != bytes((FLAG,)):
        raise FrameError("header", f"begins with {frame[:1].hex().upper() or 'nothing'}, expected 7E")
    if len(frame) < 2 or frame[-1] != FLAG:
        raise FrameError("tail", f"last byte {frame[-1]:02X}, expected 7E")
    body = _unstuff(frame[1:-1])
    if len(body) < 5:
        raise FrameError("length", f"{len(body)} bytes between 7E and 7E, expected at least 5")
    if len(body) != 5 + body[3]:
        raise FrameError("length", f"{len(body) - 5} bytes of data, {body[3]} declared")
    if body[-1] != _sum(body[:-1]):
        raise FrameError("checksum", f"sum {body[-1]:02X}, computed {_sum(body[:-1]):02X}")
    return body[1:-1]


def _cut(buffer: bytearray) -> Step | None:
    end = buffer.find(FLAG, 1, _FRAME_BYTES)
    if end == 1:  # the end of one frame, the beginning of the next
        return 1, b""
    if end < 0:
        if len(buffer) < _FRAME_BYTES:
            return None
        return 1, FrameError("overflow", f"no 7E within {_FRAME_BYTES} bytes")
    frame = bytes(buffer[: end + 1])
    try:
        _answer(frame)
    except FrameError as error:
        return 1, error
    return end + 1, frame


def decode(frame: bytes, options: Sps30Options) -> list[Field]:
    """One answer -> `pm1 pm2_5 pm4 pm10` in ug/m3, `n0_5` ... `n10` in 1/cm3, `typical_size` in um; or a `reply`, its `state`
    and what it says.

    Raises FrameError: `header tail format length checksum`; `exception` for a command refused, `sensor_state` when it does not
    fit the state (measurement not started); `sensor_fault` when fan or laser are reported; `no_data` when there is no new value
    yet; `warming_up` for ten zeros; `implausible` for what is no number or negative.
    """
    del options
    body = _answer(frame)
    command, state, data = body[0], body[1], body[3:]
    code = state & ~_FLAGGED
    if code:
        raise FrameError(
            "sensor_state" if code == _NOT_ALLOWED else "exception",
            f"command {command:02X} answered with {code:02X}: {_STATES.get(code, 'not in the data sheet')}",
        )
    if command != READ:
        return _reply(command, state, data)
    if state & _FLAGGED:
        raise FrameError("sensor_fault", "the sensor reports a fault of fan or laser", (Field("state", state, "1"),))
    if not data:
        raise FrameError("no_data", "no new value since the last reading")
    if len(data) not in (_FLOATS, _WORDS):
        raise FrameError("length", f"{len(data)} bytes of values, expected {_FLOATS} or {_WORDS}")
    if not any(data):
        raise FrameError("warming_up", "all values are zero: the sensor is starting")
    return [Field(name, value, unit) for (name, unit), value in zip(_VALUES, _values(data), strict=True)]


def _values(data: bytes) -> list[float]:
    if len(data) == _WORDS:
        *found, size_nm = struct.unpack(">10H", data)
        return [*found, size_nm / 1000]
    floats = struct.unpack(">10f", data)
    for (name, unit), value in zip(_VALUES, floats, strict=True):
        if not math.isfinite(value) or value < 0:
            raise FrameError("implausible", f"{name} {value} {unit}")
    return [float(f"{value:.7g}") for value in floats]  # the digits that a 4-byte float holds


def _reply(command: int, state: int, data: bytes) -> list[Field]:
    name = _REPLIES.get(command)
    if name is None:
        raise FrameError("format", f"answer to command {command:02X}, which is none of the sensor's")
    fields = [Field("reply", name, ""), Field("state", state, "1")]
    if not data:
        return fields
    sizes = {INTERVAL: 4, VERSION: 7, STATUS: 5}
    if command in sizes and len(data) != sizes[command]:
        raise FrameError("length", f"{len(data)} bytes of {name}, expected {sizes[command]}")
    if command == INTERVAL:
        fields.append(Field("interval", int.from_bytes(data, "big"), "s"))
    elif command == INFO:
        fields.append(Field("text", data.rstrip(b"\0").decode("latin-1"), ""))
    elif command == VERSION:
        fields += [
            Field("firmware", f"{data[0]}.{data[1]}", ""),
            Field("hardware", data[3], "1"),
            Field("shdlc", f"{data[5]}.{data[6]}", ""),
        ]
    elif command == STATUS:
        status = int.from_bytes(data[:4], "big")
        fields.append(Field("status", status, "1"))
        fields += [Field(fault, bool(status >> bit & 1), "") for bit, fault in _FAULTS.items()]
    else:
        raise FrameError("length", f"{len(data)} bytes in the answer to {name}, which has none")
    return fields


def _command(code: int, data: bytes = b"") -> bytes:
    body = bytes((ADDRESS, code, len(data))) + data
    return bytes((FLAG,)) + _stuff(body + bytes((_sum(body),))) + bytes((FLAG,))


def start_measurement_float() -> bytes:
    """Start fan and laser; values as floats."""
    return _command(START, _FORMATS["float"])


def start_measurement_uint16() -> bytes:
    """Start fan and laser; values as whole numbers (firmware 2.0 and later)."""
    return _command(START, _FORMATS["uint16"])


def stop_measurement() -> bytes:
    """Stop fan and laser."""
    return _command(STOP)


def read_measurement() -> bytes:
    """Ask for the newest values."""
    return _command(READ)


def sleep() -> bytes:
    """Switch nearly everything off, the interface too; only when the measurement is stopped."""
    return _command(SLEEP)


def wake() -> bytes:
    """Leave sleep. The sleeping interface needs a byte FF first, at most 100 ms before."""
    return _command(WAKE)


def fan_cleaning() -> bytes:
    """Blow the fan free for 10 s; no new values meanwhile."""
    return _command(CLEAN)


def auto_clean_interval() -> bytes:
    """Ask for the interval of automatic cleaning."""
    return _command(INTERVAL, b"\x00")


def set_auto_clean_interval(seconds: int) -> bytes:
    """Interval of automatic cleaning, 0 for never; a week (604800 s) when new. Raises ValueError outside 32 bits."""
    if not 0 <= seconds < 2**32:
        raise ValueError(f"interval is {seconds} s, expected 0 to {2**32 - 1}")
    return _command(INTERVAL, b"\x00" + seconds.to_bytes(4, "big"))


def device_info(which: Literal["product_type", "serial_number"] = "product_type") -> bytes:
    """Ask who it is."""
    return _command(INFO, _INFO[which])


def version() -> bytes:
    """Ask for the versions of firmware, hardware and protocol."""
    return _command(VERSION)


def status(clear: bool = False) -> bytes:
    """Ask for the status register; and clear it."""
    return _command(STATUS, bytes((clear,)))


def reset() -> bytes:
    """Restart; the measurement is stopped then."""
    return _command(RESET)


def recognise(frame: bytes) -> list[Field]:
    """Read a command back (see Driver.recognise)."""
    if len(frame) < 6 or frame[0] != FLAG or frame[-1] != FLAG or FLAG in frame[1:-1]:
        return []
    try:
        body = _unstuff(frame[1:-1])
    except FrameError:
        return []
    if len(body) < 4 or len(body) != 4 + body[2]:
        return []
    fields = _commanded(body[1], body[3:-1])
    if fields and body[-1] != _sum(body[:-1]):
        raise FrameError("checksum", f"sum {body[-1]:02X}, computed {_sum(body[:-1]):02X}")
    return fields


def _commanded(code: int, data: bytes) -> list[Field]:
    """What a command says; nothing when its data do not fit (an answer may look like a command of another length)."""
    bare = {STOP, READ, SLEEP, WAKE, CLEAN, VERSION, RESET}
    if code == START:
        return [Field("command", f"start_measurement_{name}", "") for name, value in _FORMATS.items() if value == data]
    if code == INFO:
        which = [name for name, value in _INFO.items() if value == data]
        return [Field("command", "device_info", ""), Field("which", which[0], "")] if which else []
    if code == INTERVAL and data[:1] == b"\x00" and len(data) == 5:
        return [Field("command", "set_auto_clean_interval", ""), Field("seconds", int.from_bytes(data, "big"), "s")]
    if code == STATUS and data in (b"\x00", b"\x01"):
        return [Field("command", "status", ""), Field("clear", data == b"\x01", "")]
    if (code == INTERVAL and data == b"\x00") or (code in bare and not data):
        return [Field("command", _REPLIES[code], "")]
    return []


def setup(options: Sps30Options) -> tuple[bytes, ...]:
    """What is sent when the port opens: wake (a sensor that is awake refuses it, which does no harm), then start."""
    start = start_measurement_uint16 if options.output_format == "uint16" else start_measurement_float
    return b"\xff" + wake(), start()


def _described(frame: bytes) -> list[Field]:
    """For `scan`: the serial number. Waking, which one that is awake refuses, only opens the interface: fan and laser stay off."""
    try:
        fields = decode(frame, Sps30Options())
    except FrameError:
        return []
    return [Field("serial_number", field.value, "") for field in fields if field.name == "text"]


DRIVER = Driver(
    name="sps30",
    title="Sensirion SPS30 particle sensor (UART, SHDLC)",
    link="poll",
    quantities=("pm1", "pm2_5", "pm4", "pm10"),
    options=Sps30Options,
    decode=decode,
    framer=lambda _options: ScanFramer(_cut, head((bytes((FLAG,)),))),
    baudrate=115200,
    setup=setup,
    request=lambda _options: read_measurement(),
    duty=Duty(wake=setup, sleep=lambda _options: (stop_measurement(), sleep()), warm_up_s=30),
    life="the sensor lives more than ten years (data sheet)",
    identify=Identify(
        requests=(b"\xff" + wake(),), details=(device_info("serial_number"),), reply_s=0.3, describe=_described
    ),
    source="Sensirion, SPS30 data sheet version 1.0, March 2020",
    sheet=Sheet(
        wiring="5 V supply, pin SEL left open (to ground is I2C). TX and RX of 3.3 V. Cable below 20 cm or shielded.",
        limits="0 to 1000 ug/m3. Start-up takes 8 s in dusty air, 30 s in clean; from `period_s` 90 s on it "
        "sleeps. It cleans its fan once a week.",
        faults="Silence: SEL is grounded, or TX and RX are swapped. The status says fan or laser failure. The "
        "data sheet's example of a product type has a wrong checksum.",
    ),
    commands={
        function.__name__: function
        for function in (
            start_measurement_float,
            start_measurement_uint16,
            stop_measurement,
            read_measurement,
            sleep,
            wake,
            fan_cleaning,
            auto_clean_interval,
            set_auto_clean_interval,
            device_info,
            version,
            status,
            reset,
        )
    },
    recognise=recognise,
)
