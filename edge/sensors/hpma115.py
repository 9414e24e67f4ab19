"""Honeywell HPMA115S0 and HPMA115C0 particle sensors on a UART, 9600 8N1; 3.3 V levels, 5 V for the fan.

Source: Honeywell, HPM Series data sheet 32322550 issue F, tables 4 to 7. To the sensor `68 | length | command | data | sum`,
from it `40 | length | command | data | sum`, or A5 A5 (accepted) or 96 96 (refused); the length counts command and data, the
sum is the two's complement of the sum of all before it. After power-up it sends by itself, 32 bytes `42 4D 00 1C` a second.
"""

from typing import Literal

from edge.sensors import _plantower as plantower
from edge.sensors._framing import ScanFramer, Step, head
from edge.sensors.base import Driver, Field, FrameError, Identify, Options, Sheet

TO_SENSOR, FROM_SENSOR = 0x68, 0x40
ACCEPTED, REFUSED = b"\xa5\xa5", b"\x96\x96"
START, STOP, READ, SET_COEFFICIENT, READ_COEFFICIENT, STOP_AUTO_SEND, AUTO_SEND = 1, 2, 4, 8, 0x10, 0x20, 0x40
AUTO_DATA = 28

_STANDARD: tuple[str, ...] = ("pm2_5", "pm10")
_COMPACT: tuple[str, ...] = ("pm1", "pm2_5", "pm4", "pm10")
# Length and command of an answer: the quantities in its words.
_ANSWERS: dict[tuple[int, int], tuple[str, ...]] = {
    (5, READ): _STANDARD,
    (13, READ): _COMPACT,
    (2, READ_COEFFICIENT): (),
}
_COMMANDS = {
    START: "start_measurement",
    STOP: "stop_measurement",
    READ: "read",
    SET_COEFFICIENT: "set_adjustment_coefficient",
    READ_COEFFICIENT: "read_adjustment_coefficient",
    STOP_AUTO_SEND: "stop_auto_send",
    AUTO_SEND: "start_auto_send",
}

_cut_sent = plantower.cut(AUTO_DATA)
_begins = head(
    plantower.BEGINS,
    *((word[:1], word[1:]) for word in (ACCEPTED, REFUSED)),
    *(tuple(bytes((byte,)) for byte in (FROM_SENSOR, *answer)) for answer in _ANSWERS),
)


class Hpma115Options(Options):
    """`model` decides what the words of a frame sent unasked are; an answer shows it by its length."""

    model: Literal["HPMA115S0", "HPMA115C0"] = "HPMA115S0"


def _sum(body: bytes | bytearray) -> int:
    return -sum(body) & 0xFF


def _check(frame: bytes | bytearray) -> FrameError | None:
    if frame[-1] != _sum(frame[:-1]):
        return FrameError("checksum", f"sum {frame[-1]:02X}, computed {_sum(frame[:-1]):02X}")
    return None


def _cut(buffer: bytearray) -> Step | None:
    if buffer[0] == plantower.HEAD[0]:
        return _cut_sent(buffer)
    if buffer[0] != FROM_SENSOR:
        return (2, bytes(buffer[:2])) if len(buffer) >= 2 else None
    if len(buffer) < 3 or len(buffer) < buffer[1] + 3:
        return None
    size = buffer[1] + 3
    if error := _check(buffer[:size]):
        return 1, error
    return size, bytes(buffer[:size])


def decode(frame: bytes, options: Hpma115Options) -> list[Field]:
    """One frame -> `pm2_5 pm10` in ug/m3, of a compact sensor `pm1 pm2_5 pm4 pm10`; or a `reply`.

    Raises FrameError: `header length checksum`; `exception` when the sensor refused a command; `warming_up` for zeros.
    """
    if frame == ACCEPTED:
        return [Field("reply", "ack", "")]
    if frame == REFUSED:
        raise FrameError("exception", "the sensor refused the command")
    if frame[:2] == plantower.HEAD:
        payload = plantower.data(frame, AUTO_DATA)
        found = plantower.words(payload)
        compact = options.model == "HPMA115C0"
        names, values = (_COMPACT, found[:4]) if compact else (_STANDARD, found[1:3])
    else:
        names, payload = _answer(frame)
        if not names:
            return [Field("reply", "adjustment_coefficient", ""), Field("coefficient", payload[0], "1")]
        values = plantower.words(payload)[: len(names)]
    plantower.warmed_up(payload)
    return [Field(name, value, "ug/m3") for name, value in zip(names, values, strict=True)]


def _answer(frame: bytes) -> tuple[tuple[str, ...], bytes]:
    if frame[:1] != bytes((FROM_SENSOR,)):
        raise FrameError("header", f"begins with {frame[:2].hex().upper() or 'nothing'}, expected 40, A5A5 or 424D")
    if len(frame) < 3 or len(frame) != frame[1] + 3:
        raise FrameError("length", f"{len(frame)} bytes, expected {frame[1] + 3 if len(frame) > 1 else 'at least 5'}")
    names = _ANSWERS.get((frame[1], frame[2]))
    if names is None:
        raise FrameError("header", f"answer {frame[2]:02X} of length {frame[1]}, which is none of the sensor's")
    if error := _check(frame):
        raise error
    return names, frame[3:-1]


def _command(code: int, *values: int) -> bytes:
    frame = bytes((TO_SENSOR, 1 + len(values), code, *values))
    return frame + bytes((_sum(frame),))


def read() -> bytes:
    """Ask for a reading."""
    return _command(READ)


def start_measurement() -> bytes:
    """Start the fan."""
    return _command(START)


def stop_measurement() -> bytes:
    """Stop the fan, which spares it."""
    return _command(STOP)


def start_auto_send() -> bytes:
    """Send a reading every second."""
    return _command(AUTO_SEND)


def stop_auto_send() -> bytes:
    """Send a reading only when asked."""
    return _command(STOP_AUTO_SEND)


def set_adjustment_coefficient(percent: int) -> bytes:
    """The customer's correction, 30 to 200 %; 100 leaves the values as they are. Raises ValueError outside."""
    if not 30 <= percent <= 200:
        raise ValueError(f"adjustment coefficient is {percent}, expected 30 to 200")
    return _command(SET_COEFFICIENT, percent)


def read_adjustment_coefficient() -> bytes:
    """Ask for the customer's correction."""
    return _command(READ_COEFFICIENT)


def recognise(frame: bytes) -> list[Field]:
    """Read a command back (see Driver.recognise)."""
    if len(frame) < 4 or frame[0] != TO_SENSOR or len(frame) != frame[1] + 3:
        return []
    if error := _check(frame):
        raise error
    name = _COMMANDS.get(frame[2])
    if name is None or frame[1] != (2 if frame[2] == SET_COEFFICIENT else 1):
        raise FrameError("format", f"command {frame[2]:02X} of length {frame[1]} is unknown")
    return [Field("command", name, ""), *(Field("percent", value, "1") for value in frame[3:-1])]


DRIVER = Driver(
    name="hpma115",
    title="Honeywell HPMA115S0, HPMA115C0 particle sensors (UART)",
    link="poll",
    quantities=("pm1", "pm2_5", "pm4", "pm10"),
    options=Hpma115Options,
    decode=decode,
    framer=lambda _options: ScanFramer(_cut, _begins),
    setup=lambda _options: (stop_auto_send(), start_measurement()),
    request=lambda _options: read(),
    identify=Identify(requests=(read(),), reply_s=0.5),
    source="Honeywell, HPM Series data sheet 32322550 issue F",
    sheet=Sheet(
        wiring="5 V supply, 3.3 V levels.",
        limits="0 to 1000 ug/m3; the C0 also gives PM1 and PM4. The fan runs all the time.",
        faults="All zeros: it starts. 96 96 is a refused command.",
        options='model = "HPMA115S0"',
    ),
    commands={
        function.__name__: function
        for function in (
            read,
            start_measurement,
            stop_measurement,
            start_auto_send,
            stop_auto_send,
            set_adjustment_coefficient,
            read_adjustment_coefficient,
        )
    },
    recognise=recognise,
)
