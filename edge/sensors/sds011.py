"""Nova SDS011 particle sensor (PM2.5, PM10) on a UART, 9600 8N1.

Source: Nova Fitness, Laser Dust Sensor Control Protocol V1.3. A frame from the sensor has 10 bytes,
`AA | C0 data or C5 reply | 6 bytes | sum | AB`; one to it 19, `AA B4 | 13 bytes | device id | sum | AB`. The sum is the low
byte of the sum of what stands between the second byte and it. The laser lives 8,000 hours (data sheet V1.3), so the sensor sleeps
between readings that are far apart, and its values count from 30 s after waking.
"""

from typing import Annotated, Literal

from pydantic import StringConstraints

from edge.sensors._framing import ScanFramer, Step, head
from edge.sensors.base import Driver, Duty, Field, FrameError, Identify, Options, Sheet

HEAD, TAIL = 0xAA, 0xAB
DATA, REPLY, COMMAND = 0xC0, 0xC5, 0xB4
FRAME_BYTES, COMMAND_BYTES = 10, 19
PEGGED = 9999  # tenths of ug/m3: the end of the sensor's scale

MODE, QUERY_DATA, SET_ID, SLEEP, FIRMWARE, PERIOD = 2, 4, 5, 6, 7, 8
_OPS = ("query", "set")
_MODES = ("active", "query")
_SLEEP = ("sleep", "work")
ANY = "FFFF"


class Sds011Options(Options):
    """`mode`: `active` has the sensor send once a second, `query` on request. `device_id` four hex digits, FFFF for any."""

    mode: Literal["active", "query"] = "active"
    device_id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{4}$")] = ANY


def _sum(body: bytes | bytearray) -> int:
    return sum(body) & 0xFF


def _check(frame: bytes | bytearray) -> FrameError | None:
    """Tail and sum of 10 bytes that begin with AA and a known second byte."""
    # A sensor confirms "sleep" with the tail FF (kenohassler/sds011-rs, src/message.rs).
    asleep = frame[1:5] == bytes((REPLY, SLEEP, 1, 0))
    if frame[9] != TAIL and not (asleep and frame[9] == 0xFF):
        return FrameError("tail", f"last byte {frame[9]:02X}, expected {TAIL:02X}")
    if frame[8] != _sum(frame[2:8]):
        return FrameError("checksum", f"sum {frame[8]:02X}, computed {_sum(frame[2:8]):02X}")
    return None


_begins = head((bytes((HEAD,)), bytes((DATA, REPLY))))


def _cut(buffer: bytearray) -> Step | None:
    if len(buffer) < FRAME_BYTES:
        return None
    if error := _check(buffer[:FRAME_BYTES]):
        return 1, error
    return FRAME_BYTES, bytes(buffer[:FRAME_BYTES])


def decode(frame: bytes, options: Sds011Options) -> list[Field]:
    """One frame of 10 bytes -> `pm2_5` and `pm10` in ug/m3 and `device_id`; or the fields of a reply, `reply` first.

    Raises FrameError: `header length tail checksum format`; `warming_up` for a frame of zeros; `saturated` when a value
    stands at the end of the scale (999.9), `out_of_range` beyond. The device id stays usable then.
    """
    del options
    if not frame or frame[0] != HEAD or (len(frame) > 1 and frame[1] not in (DATA, REPLY)):
        raise FrameError("header", f"begins with {frame[:2].hex().upper() or 'nothing'}, expected AAC0 or AAC5")
    if len(frame) != FRAME_BYTES:
        raise FrameError("length", f"{len(frame)} bytes, expected {FRAME_BYTES}")
    if error := _check(frame):
        raise error
    device = Field("device_id", frame[6:8].hex().upper(), "")
    if frame[1] == REPLY:
        return [*_reply(frame), device]
    pm2_5, pm10 = int.from_bytes(frame[2:4], "little"), int.from_bytes(frame[4:6], "little")
    if pm2_5 == pm10 == 0:
        raise FrameError("warming_up", "both values are zero: the fan or laser is not up yet", (device,))
    for name, value in (("pm2_5", pm2_5), ("pm10", pm10)):
        if value >= PEGGED:
            kind: Literal["saturated", "out_of_range"] = "saturated" if value == PEGGED else "out_of_range"
            raise FrameError(kind, f"{name} {value / 10} ug/m3, the scale ends at {PEGGED / 10}", (device,))
    return [Field("pm2_5", pm2_5 / 10, "ug/m3"), Field("pm10", pm10 / 10, "ug/m3"), device]


def _reply(frame: bytes) -> list[Field]:
    command, op, value = frame[2], frame[3], frame[4]
    if command == SET_ID:
        return [Field("reply", "set_id", "")]
    if command == FIRMWARE:
        return [
            Field("reply", "firmware", ""),
            Field("year", op, "1"),
            Field("month", value, "1"),
            Field("day", frame[5], "1"),
        ]
    if command == PERIOD:
        return [Field("reply", "working_period", ""), _named("op", _OPS, op), Field("minutes", value, "1")]
    if command == MODE:
        return [Field("reply", "reporting_mode", ""), _named("op", _OPS, op), _named("mode", _MODES, value)]
    if command == SLEEP:
        return [Field("reply", "sleep", ""), _named("op", _OPS, op), _named("mode", _SLEEP, value)]
    raise FrameError("format", f"reply to command {command:02X}, which has none")


def _named(name: str, values: tuple[str, ...], index: int) -> Field:
    if index >= len(values):
        raise FrameError("format", f"{name} {index}, expected 0 or 1")
    return Field(name, values[index], "")


def _command(command: int, op: int = 0, value: int = 0, *, device_id: str = ANY, tail: bytes = b"") -> bytes:
    body = bytes((command, op, value)).ljust(13 - len(tail), b"\0") + tail + bytes.fromhex(device_id)
    return bytes((HEAD, COMMAND)) + body + bytes((_sum(body), TAIL))


def set_active_mode(device_id: str = ANY) -> bytes:
    """Send a data frame every second."""
    return _command(MODE, 1, 0, device_id=device_id)


def set_query_mode(device_id: str = ANY) -> bytes:
    """Send a data frame only when asked."""
    return _command(MODE, 1, 1, device_id=device_id)


def query_reporting_mode(device_id: str = ANY) -> bytes:
    """Ask which of the two it is in."""
    return _command(MODE, device_id=device_id)


def query_data(device_id: str = ANY) -> bytes:
    """Ask for one data frame."""
    return _command(QUERY_DATA, device_id=device_id)


def set_id(new_id: str, device_id: str = ANY) -> bytes:
    """Give a sensor another id (four hex digits)."""
    return _command(SET_ID, device_id=device_id, tail=bytes.fromhex(new_id))


def sleep(device_id: str = ANY) -> bytes:
    """Stop fan and laser; a sleeping sensor answers no query."""
    return _command(SLEEP, 1, 0, device_id=device_id)


def wake(device_id: str = ANY) -> bytes:
    """Start fan and laser."""
    return _command(SLEEP, 1, 1, device_id=device_id)


def query_sleep(device_id: str = ANY) -> bytes:
    """Ask whether it sleeps or works."""
    return _command(SLEEP, device_id=device_id)


def set_working_period(minutes: int, device_id: str = ANY) -> bytes:
    """0: work without pause. 1 to 30: work 30 s in every so many minutes. Raises ValueError outside."""
    if not 0 <= minutes <= 30:
        raise ValueError(f"working period is {minutes} min, expected 0 to 30")
    return _command(PERIOD, 1, minutes, device_id=device_id)


def query_working_period(device_id: str = ANY) -> bytes:
    """Ask for the working period."""
    return _command(PERIOD, device_id=device_id)


def firmware_version(device_id: str = ANY) -> bytes:
    """Ask for the firmware's date."""
    return _command(FIRMWARE, device_id=device_id)


def recognise(frame: bytes) -> list[Field]:
    """Read a 19-byte command back (see Driver.recognise)."""
    if frame[:2] != bytes((HEAD, COMMAND)):
        return []
    if len(frame) != COMMAND_BYTES:
        raise FrameError("length", f"{len(frame)} bytes, a command has {COMMAND_BYTES}")
    if frame[-1] != TAIL:
        raise FrameError("tail", f"last byte {frame[-1]:02X}, expected {TAIL:02X}")
    if frame[17] != _sum(frame[2:17]):
        raise FrameError("checksum", f"sum {frame[17]:02X}, computed {_sum(frame[2:17]):02X}")
    command, op, value = frame[2:5]
    device_id = frame[15:17].hex().upper()
    arguments: list[Field] = []
    name = {
        (MODE, 0, 0): "query_reporting_mode",
        (MODE, 1, 0): "set_active_mode",
        (MODE, 1, 1): "set_query_mode",
        (QUERY_DATA, 0, 0): "query_data",
        (SLEEP, 0, 0): "query_sleep",
        (SLEEP, 1, 0): "sleep",
        (SLEEP, 1, 1): "wake",
        (FIRMWARE, 0, 0): "firmware_version",
        (PERIOD, 0, 0): "query_working_period",
    }.get((command, op, value))
    if command == PERIOD and op == 1 and value <= 30:
        name, arguments = "set_working_period", [Field("minutes", value, "1")]
    elif command == SET_ID:
        name, arguments = "set_id", [Field("new_id", frame[13:15].hex().upper(), "")]
    if name is None:
        raise FrameError("format", f"command {command:02X} {op:02X} {value:02X} is unknown")
    return [Field("command", name, ""), *arguments, Field("device_id", device_id, "")]


def setup(options: Sds011Options) -> tuple[bytes, ...]:
    """What is sent when the port opens: wake first (asleep it hears nothing else), then the mode, then no pauses."""
    mode = set_query_mode if options.mode == "query" else set_active_mode
    return wake(options.device_id), mode(options.device_id), set_working_period(0, options.device_id)


def request(options: Sds011Options) -> bytes:
    """What is sent every period: a query in query mode, nothing (no bytes) in active mode."""
    return query_data(options.device_id) if options.mode == "query" else b""


DRIVER = Driver(
    name="sds011",
    title="Nova SDS011 particle sensor (UART, active or query mode)",
    link="stream",
    quantities=("pm2_5", "pm10"),
    options=Sds011Options,
    decode=decode,
    framer=lambda _options: ScanFramer(_cut, _begins),
    setup=setup,
    request=request,
    # Waking alone: mode and working period stay in its memory, which wears with each writing.
    duty=Duty(
        wake=lambda options: (wake(options.device_id),),
        sleep=lambda options: (sleep(options.device_id),),
        warm_up_s=30,
    ),
    identify=Identify(requests=(firmware_version(), query_sleep())),
    life="the laser lives 8,000 h (data sheet V1.3): 11 months without rest",
    source="Nova Fitness, Laser Dust Sensor Control Protocol V1.3",
    sheet=Sheet(
        wiring="5 V supply for the fan, 3.3 V levels: TX and RX may go to a Pi's pins, TX to RX and RX to TX. "
        "Its USB stick is a CH340.",
        limits="0 to 999.9 ug/m3, particles from 0.3 um.",
        faults="Above 70 to 80 % humidity it reads too high (no heater). Slowly falling towards 0: fan or inlet "
        "clogged. Two sticks have one USB id: name ports by path.",
        options='mode = "active"',
    ),
    commands={
        function.__name__: function
        for function in (
            set_active_mode,
            set_query_mode,
            query_reporting_mode,
            query_data,
            set_id,
            sleep,
            wake,
            query_sleep,
            set_working_period,
            query_working_period,
            firmware_version,
        )
    },
    recognise=recognise,
)
