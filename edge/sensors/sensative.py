"""Sensative sensors on LoRaWAN: Strips (reports behind a history number) and Square-Comfort and Square-Air (outputs
whose size stands in their type).

Sources: Sensative, "Strips LoRa payload" and Square codecs in actility/device-catalog@53ef3f3388: vendors/sensative.
Averages come under names of their own: they are no reading of now. The CO2 of Square-Air is inferred from a VOC sensor,
hence `co2_equivalent`.
"""

import struct
from dataclasses import dataclass
from typing import Any

from edge.sensors._lorawan import UplinkOptions, plausible, reply
from edge.sensors.base import Driver, Field, FrameError, Sheet

_DATA, _HISTORY = 1, 2
_STRIPS_COMMAND = 11
_SQUARE_STATUS = (2, 3, 4, 5, 6, 7, 8, 12, 15, 21, 22, 23, 24)
_STATUS = ("ok", "bad setting", "bad payload length", "value not accepted", "unknown command")
_EMPTY, _CHECK_IN = 0, 110


@dataclass(frozen=True, slots=True)
class _Report:
    """Its values, one struct code each: (code, name, unit, divisor)."""

    parts: tuple[tuple[str, str, str, float], ...]

    @property
    def layout(self) -> str:
        return ">" + "".join(code for code, *_ in self.parts)


def _one(code: str, name: str, unit: str, divisor: float = 1) -> _Report:
    return _Report(((code, name, unit, divisor),))


_TEMPERATURE = ("h", "air_temperature", "Cel", 10)
_AVERAGE_TEMPERATURE = ("h", "average_temperature", "degC", 10)
_HUMIDITY = ("B", "relative_humidity", "%RH", 2)
_DOOR = ("?", "door", "", 1)
_STRIPS = {
    _EMPTY: _Report(()),
    1: _one("B", "battery_level", "%EL"),
    2: _Report((_TEMPERATURE,)),
    3: _one("B", "temperature_alarm", ""),
    4: _Report((_AVERAGE_TEMPERATURE,)),
    5: _one("B", "average_temperature_alarm", ""),
    6: _Report((_HUMIDITY,)),
    7: _one("H", "illuminance", "lx"),
    8: _one("H", "illuminance", "lx"),
    9: _Report((_DOOR,)),
    10: _one("?", "door_alarm", ""),
    11: _one("?", "tamper", ""),
    12: _one("?", "tamper_alarm", ""),
    13: _one("B", "flood", "%"),
    14: _one("?", "flood_alarm", ""),
    15: _one("?", "foil_alarm", ""),
    16: _one("?", "user_switch_alarm", ""),
    17: _one("H", "door_count", "1"),
    18: _one("?", "presence", ""),
    19: _one("H", "proximity", "1"),
    20: _one("H", "close_proximity", "1"),
    21: _one("?", "close_proximity_alarm", ""),
    22: _one("B", "disinfect_alarm", "1"),
    80: _Report((_HUMIDITY, _TEMPERATURE)),
    81: _Report((_HUMIDITY, _AVERAGE_TEMPERATURE)),
    82: _Report((_DOOR, _TEMPERATURE)),
    _CHECK_IN: _one("8s", "check_in", ""),
    112: _one("H", "capacitance_flood", "1"),
    113: _one("H", "capacitance_pad", "1"),
    114: _one("H", "capacitance_end", "1"),
}

_SQUARE = {
    0x00: ("temperature_alarm", "1", 1),
    0x01: ("iaq_alarm", "1", 1),
    0x10: ("average_humidity", "%RH", 100),
    0x11: ("average_illuminance", "lx", 1),
    0x21: ("battery_level", "%EL", 1),
    0x27: ("run_in_status", "1", 1),
    0x28: ("stabilisation_status", "1", 1),
    0x29: ("iaq_accuracy", "1", 1),
    0x30: ("air_temperature", "Cel", 100),
    0x31: ("average_temperature", "degC", 100),
    0x33: ("relative_humidity", "%RH", 100),
    0x35: ("illuminance", "lx", 1),
    0x38: ("iaq", "1", 1),
    0x39: ("co2_equivalent", "ppm", 1),
    0x3A: ("air_pressure", "hPa", 100),
    0x3B: ("breath_voc_equivalent", "ppm", 100),
    0x3C: ("static_iaq", "1", 1),
}
"""Outputs of Square-Comfort and Square-Air by the low six bits of their head, of which three tell the size."""
_SQUARE_SIZE = (1, 1, 2, 4)
_AGE_SIZE = (0, 1, 2, 4)


def decode(frame: bytes, options: UplinkOptions) -> list[Field]:
    """One payload of a `model` (Strips unless it names a Square) -> `air_temperature` in Cel, `relative_humidity` in
    %RH, `air_pressure` in hPa, `battery_level` in %EL, `illuminance` in lx, alarms, counts. `history` holds older
    samples, each with its `age_s` before this uplink. An empty report, and what comes on another port than data, is a
    `reply`.

    Raises FrameError: `unknown_port`; `length` for a value cut short (then nothing is believed); `format` for an
    unknown type; `exception` for a command that the device refused; `implausible` when nothing else is left.
    """
    if options.named("SQUARE"):
        if options.port(_DATA, *_SQUARE_STATUS) != _DATA:
            return [reply("status")]
        return plausible(_square(frame))
    port = options.port(_DATA, _HISTORY, _STRIPS_COMMAND, 15, 22)
    if port == _STRIPS_COMMAND:
        return _command(frame)
    if port > _HISTORY:
        return [reply("status")]
    return plausible(_strips(frame) if port == _DATA else _strips_history(frame))


def _strips(frame: bytes) -> list[Field]:
    if len(frame) < 3:
        raise FrameError("length", f"{len(frame)} bytes, expected a history number and a report")
    at = 2
    fields: list[Field] = []
    while at < len(frame):
        at, found = _report(frame, at)
        fields += found
    if not fields:
        return [reply("empty"), Field("empty", True, "")]
    return [reply("check_in"), *fields] if fields[0].name == "check_in" else fields


def _report(frame: bytes, at: int) -> tuple[int, list[Field]]:
    kind = frame[at] & 0x7F
    report = _STRIPS.get(kind)
    if report is None:
        raise FrameError("format", f"report {kind} at byte {at} is unknown")
    end = at + 1 + struct.calcsize(report.layout)
    if end > len(frame):
        raise FrameError("length", f"{len(frame) - at - 1} bytes of {end - at - 1} for report {kind}")
    fields = []
    for raw, (_, name, unit, divisor) in zip(
        struct.unpack(report.layout, frame[at + 1 : end]), report.parts, strict=True
    ):
        if name.endswith("temperature_alarm"):
            fields += [Field(f"{side}_{name}", bool(raw & bit), "") for side, bit in (("high", 1), ("low", 2))]
        elif isinstance(raw, bytes):
            fields.append(Field(name, raw.hex().upper(), unit))
        else:
            fields.append(Field(name, raw if divisor == 1 else raw / divisor, unit))
    return end, fields


def _strips_history(frame: bytes) -> list[Field]:
    if len(frame) < 2:
        raise FrameError("length", f"{len(frame)} bytes, expected a history number")
    at = 2
    records: list[dict[str, Any]] = []
    while at < len(frame):
        if at + 5 > len(frame):
            raise FrameError("length", f"{len(frame) - at} bytes, expected an age and a report")
        age_s = int.from_bytes(frame[at : at + 4], "big")
        at, found = _report(frame, at + 4)
        records.append({"age_s": age_s} | {field.name: field.value for field in found})
    return [Field("history", records, "")]


def _command(frame: bytes) -> list[Field]:
    if len(frame) >= 6 and frame[0] == 2:
        return [reply("setting")]
    if len(frame) != 2 or frame[0] != 3 or frame[1] >= len(_STATUS):
        raise FrameError("format", f"{frame.hex().upper()} is no answer to a command")
    if frame[1]:
        raise FrameError("exception", f"the device refused a command: {_STATUS[frame[1]]}")
    return [reply("ok")]


def _square(frame: bytes) -> list[Field]:
    if not frame:
        raise FrameError("length", "0 bytes, expected an output")
    fields: list[Field] = []
    records: list[dict[str, Any]] = []
    at = age_s = 0
    while at < len(frame):
        kind, ages, size = frame[at] & 0x3F, _AGE_SIZE[frame[at] >> 6], _SQUARE_SIZE[frame[at] >> 3 & 3]
        value_at, end = at + 1 + ages, at + 1 + ages + size
        if end > len(frame):
            raise FrameError("length", f"{len(frame) - at - 1} bytes of {ages + size} for output {kind:02X}")
        output = _SQUARE.get(kind)
        if output is None:
            raise FrameError("format", f"output {kind:02X} at byte {at} is unknown")
        age_s += int.from_bytes(frame[at + 1 : value_at], "big")
        raw = int.from_bytes(frame[value_at:end], "big", signed=output[1] != "lx")
        name, unit, divisor = output
        value = raw if divisor == 1 else raw / divisor
        if age_s:
            records.append({"age_s": age_s, name: value})
        else:
            fields.append(Field(name, value, unit))
        at = end
    return [*fields, Field("history", records, "")] if records else fields


DRIVER = Driver(
    name="sensative",
    title="Sensative Strips, Square-Comfort and Square-Air (LoRaWAN)",
    link="payload",
    quantities=("air_temperature", "relative_humidity", "air_pressure", "battery_level"),
    options=UplinkOptions,
    decode=decode,
    source="Sensative, Strips LoRa payload; actility/device-catalog@53ef3f3388: vendors/sensative",
    sheet=Sheet(
        wiring="Strips stick on a flat surface; outdoors under a roof.",
        limits="Averages have names of their own and are no readings of now. Square-Air's CO2 is inferred, so it "
        "is `co2_equivalent`.",
        faults="Ports 11, 15 and 22 carry status, no data.",
        options='model = "Strips"',
    ),
)
