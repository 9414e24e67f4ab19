"""Winsen MH-Z19, MH-Z19B, MH-Z19C and MH-Z14A CO2 sensors on a UART, 9600 8N1; 3.3 V levels, 5 V supply.

Source: Winsen, MH-Z19B and MH-Z14A user's manuals. Byte 4 of a reading less 40 is the inner temperature of an MH-Z19, several
degrees above the air's; Winsen does not document it (esphome, components/mhz19/mhz19.cpp). Warm-up lasts 3 min (B) or 1 min.
The sensor takes the lowest value of each day for 400 ppm unless `abc_off`.
"""

from typing import Literal

from pydantic import Field as Constraint

from edge.sensors import _winsen as winsen
from edge.sensors.base import Driver, Field, FrameError, Identify, Options, Sheet

ABC, ZERO, SPAN, RANGE = 0x79, 0x87, 0x88, 0x99
_REPLIES = {ABC: "abc", ZERO: "zero_calibration", SPAN: "span_calibration", RANGE: "set_range"}
_ANSWERED = bytes((winsen.READ, *_REPLIES))
_ON = 0xA0
_TEMPERATURE_OFFSET = 40


class Mhz19Options(Options):
    """`range_ppm`: the full scale that the sensor is set to, at which it stays when the air has more."""

    model: Literal["MH-Z19", "MH-Z19B", "MH-Z19C", "MH-Z14A"] = "MH-Z19B"
    range_ppm: int = Constraint(default=5000, ge=1000, le=65535)


def decode(frame: bytes, options: Mhz19Options) -> list[Field]:
    """One frame of 9 bytes -> `co2` in ppm and, of an MH-Z19, the inner `temperature` in degC; or a `reply`.

    Raises FrameError: `header length checksum`; `warming_up` at 0 ppm; `saturated` at full scale, `out_of_range` beyond (the
    sensor is set to another range).
    """
    payload = winsen.data(frame, _ANSWERED)
    if frame[1] != winsen.READ:
        return winsen.reply(_REPLIES[frame[1]], payload)
    co2 = int.from_bytes(payload[:2], "big")
    if co2 == 0:
        raise FrameError("warming_up", "0 ppm: nothing is measured yet")
    if co2 >= options.range_ppm:
        kind: Literal["saturated", "out_of_range"] = "saturated" if co2 == options.range_ppm else "out_of_range"
        raise FrameError(kind, f"{co2} ppm, the range ends at {options.range_ppm} ppm (option range_ppm)")
    fields = [Field("co2", co2, "ppm")]
    if payload[2] and options.model != "MH-Z14A":
        fields.append(Field("temperature", payload[2] - _TEMPERATURE_OFFSET, "degC"))
    return fields


def read_co2() -> bytes:
    """Ask for a reading."""
    return winsen.command(winsen.READ)


def abc_on() -> bytes:
    """Take the lowest value of each day for 400 ppm."""
    return winsen.command(ABC, _ON)


def abc_off() -> bytes:
    """Trust the calibration: for places whose air never gets down to 400 ppm."""
    return winsen.command(ABC)


def zero_calibration() -> bytes:
    """Take the air of the last 20 minutes for 400 ppm."""
    return winsen.command(ZERO)


def span_calibration(ppm: int) -> bytes:
    """Take the air of the last 20 minutes for `ppm`, at least 1000. Raises ValueError below."""
    if not 1000 <= ppm <= 0xFFFF:
        raise ValueError(f"span is {ppm} ppm, expected 1000 to 65535")
    return winsen.command(SPAN, *ppm.to_bytes(2, "big"))


def set_range(ppm: int) -> bytes:
    """Full scale: 2000, 5000 or 10000 ppm, in the last two data bytes (the manual prints it in the first two, where sensors do
    not take it: ESPEasy, P049). Raises ValueError for another."""
    if ppm not in (2000, 5000, 10000):
        raise ValueError(f"range is {ppm} ppm, expected 2000, 5000 or 10000")
    return winsen.command(RANGE, 0, 0, 0, *ppm.to_bytes(2, "big"))


def recognise(frame: bytes) -> list[Field]:
    """Read a command back (see Driver.recognise)."""
    body = winsen.commanded(frame)
    if not body:
        return []
    code, value = body[0], body[1]
    if code == SPAN:
        return [Field("command", "span_calibration", ""), Field("ppm", int.from_bytes(body[1:3], "big"), "ppm")]
    if code == RANGE:
        return [Field("command", "set_range", ""), Field("ppm", int.from_bytes(body[4:6], "big"), "ppm")]
    name = {
        (winsen.READ, 0): "read_co2",
        (ABC, _ON): "abc_on",
        (ABC, 0): "abc_off",
        (ZERO, 0): "zero_calibration",
    }.get((code, value))
    if name is None:
        raise FrameError("format", f"command {code:02X} {value:02X} is unknown")
    return [Field("command", name, "")]


DRIVER = Driver(
    name="mhz19",
    title="Winsen MH-Z19, MH-Z19B, MH-Z19C, MH-Z14A CO2 sensors (UART)",
    link="poll",
    quantities=("co2",),
    options=Mhz19Options,
    decode=decode,
    framer=lambda _options: winsen.framer(_ANSWERED),
    request=lambda _options: read_co2(),
    identify=Identify(requests=(read_co2(),), reply_s=0.5),
    source="Winsen, MH-Z19B user's manual; MH-Z14A user's manual; esphome, components/mhz19/mhz19.cpp",
    sheet=Sheet(
        wiring="5 V supply (150 mA peaks), 3.3 V levels: TX and RX may go to a Pi's pins.",
        limits="To `range_ppm` (2000, 5000 or 10000). Warm-up 3 min (B) or 1 min; that time's values are none.",
        faults="It takes the lowest of each day for 400 ppm: in tunnels and stables switch that off (command "
        "`abc_off`). At full scale it is saturated, no value. Zero it only in outdoor air, after 20 min "
        "of it.",
        options='model = "MH-Z19B", range_ppm = 5000',
    ),
    commands={
        function.__name__: function
        for function in (read_co2, abc_on, abc_off, zero_calibration, span_calibration, set_range)
    },
    recognise=recognise,
)
