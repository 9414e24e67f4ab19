"""Cayenne Low Power Payload: channel, type, value, big-endian, again and again until the payload ends.

Sources: myDevices, Cayenne LPP 2.0 (IPSO object id - 3200 = type); the types that ElectronicCats/CayenneLPP adds
(src/CayenneLPP.h). A payload names no medium: `channels` says which quantity a channel is.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import Field as Constraint
from pydantic import field_validator

from edge.sensors.base import Driver, Field, FrameError, Options, Sheet
from wire.quantities import QUANTITIES


@dataclass(frozen=True, slots=True)
class Type:
    """One LPP data type: its parts are (name, bytes, divisor); a single part has no name."""

    code: int
    name: str
    unit: str
    parts: tuple[tuple[str, int, int], ...]
    signed: bool = False

    @property
    def size(self) -> int:
        return sum(size for _, size, _ in self.parts)


def _axes(divisor: int) -> tuple[tuple[str, int, int], ...]:
    return tuple((axis, 2, divisor) for axis in "xyz")


_TYPES = (
    Type(0x00, "digital_in", "", (("", 1, 1),)),
    Type(0x01, "digital_out", "", (("", 1, 1),)),
    Type(0x02, "analog_in", "", (("", 2, 100),), signed=True),
    Type(0x03, "analog_out", "", (("", 2, 100),), signed=True),
    Type(0x64, "generic", "", (("", 4, 1),)),
    Type(0x65, "luminosity", "lx", (("", 2, 1),)),
    Type(0x66, "presence", "", (("", 1, 1),)),
    Type(0x67, "temperature", "degC", (("", 2, 10),), signed=True),
    Type(0x68, "humidity", "%RH", (("", 1, 2),)),
    Type(0x71, "accelerometer", "g", _axes(1000), signed=True),
    Type(0x73, "pressure", "hPa", (("", 2, 10),)),
    Type(0x74, "voltage", "V", (("", 2, 100),)),
    Type(0x75, "current", "A", (("", 2, 1000),)),
    Type(0x76, "frequency", "Hz", (("", 4, 1),)),
    Type(0x78, "percentage", "%", (("", 1, 1),)),
    Type(0x79, "altitude", "m", (("", 2, 1),), signed=True),
    Type(0x7A, "load", "kg", (("", 3, 1000),), signed=True),
    Type(0x7D, "concentration", "ppm", (("", 2, 1),)),
    Type(0x80, "power", "W", (("", 2, 1),)),
    Type(0x82, "distance", "m", (("", 4, 1000),)),
    Type(0x83, "energy", "kWh", (("", 4, 1000),)),
    Type(0x84, "direction", "deg", (("", 2, 1),)),
    Type(0x85, "unixtime", "s", (("", 4, 1),)),
    Type(0x86, "gyrometer", "deg/s", _axes(100), signed=True),
    Type(0x87, "colour", "", (("red", 1, 1), ("green", 1, 1), ("blue", 1, 1))),
    Type(0x88, "gps", "", (("latitude", 3, 10_000), ("longitude", 3, 10_000), ("altitude", 3, 100)), signed=True),
    Type(0x8E, "switch", "", (("", 1, 1),)),
)
_BY_CODE = {kind.code: kind for kind in _TYPES}
_BY_NAME = {kind.name: kind for kind in _TYPES}

_FACTORS = {
    ("degC", "Cel"): 1,
    ("%RH", "%RH"): 1,
    ("%", "%RH"): 1,
    ("%", "%EL"): 1,
    ("hPa", "hPa"): 1,
    ("V", "V"): 1,
    ("m", "m"): 1,
    ("m", "mm"): 1000,
    ("ppm", "ppm"): 1,
}
"""From a type's unit to a quantity's. Types without a unit (analog, generic, digital) are taken as sent in the quantity's own."""


class CayenneLppOptions(Options):
    """`channels`: which quantity of the table a channel is. A channel that is not named is health of the sensor."""

    channels: dict[int, str] = Constraint(default_factory=dict)

    @field_validator("channels")
    @classmethod
    def _known(cls, channels: dict[int, str]) -> dict[int, str]:
        for channel, quantity in channels.items():
            if not 0 <= channel <= 255:
                raise ValueError(f"channel {channel}: expected 0 to 255")
            if quantity not in QUANTITIES:
                raise ValueError(
                    f"channel {channel}: quantity {quantity!r} is unknown, expected one of {', '.join(QUANTITIES)}"
                )
        return channels


def decode(frame: bytes, options: CayenneLppOptions) -> list[Field]:
    """One whole payload -> a field per value with its channel, under the type's name and unit; with a channel of
    `channels`, under the quantity's. Types of several parts give a dict. An empty payload has no fields.

    Raises FrameError: `length` for a value cut short; `format` for a type that is not known (its length is not either, and a
    payload that only looks like LPP shows so) and for a named channel whose values cannot be that quantity. No part of
    such a payload is believed.
    """
    fields = []
    at = 0
    while at < len(frame):
        if at + 2 > len(frame):
            raise FrameError("length", f"channel {frame[at]} without a type at byte {at}")
        channel, code = frame[at], frame[at + 1]
        kind = _BY_CODE.get(code)
        if kind is None:
            raise FrameError("format", f"type {code:02X} at byte {at + 1} is unknown")
        value = frame[at + 2 : at + 2 + kind.size]
        if len(value) < kind.size:
            raise FrameError("length", f"channel {channel}: {len(value)} bytes of {kind.size} for {kind.name}")
        fields.append(Field(kind.name, _value(kind, value), kind.unit, channel))
        at += 2 + kind.size
    return _mapped(fields, options.channels)


def _value(kind: Type, data: bytes) -> float | int | dict[str, float | int]:
    values = {}
    for name, size, divisor in kind.parts:
        raw = int.from_bytes(data[:size], "big", signed=kind.signed)
        data = data[size:]
        values[name] = raw if divisor == 1 else raw / divisor
    return values.get("", values)


def _mapped(fields: list[Field], channels: dict[int, str]) -> list[Field]:
    """A channel may carry several types; those that cannot be its quantity stay as they are, but one must fit."""
    mapped, fitting = [], set()
    for field in fields:
        quantity = QUANTITIES.get(channels.get(field.channel, "")) if field.channel is not None else None
        if quantity is not None and not isinstance(field.value, dict):
            factor = 1 if field.unit == "" else _FACTORS.get((field.unit, quantity.unit))
            if factor is not None:
                fitting.add(field.channel)
                value = field.value if factor == 1 else field.value * factor
                field = Field(quantity.name, value, quantity.unit, field.channel)
        mapped.append(field)
    for field in fields:
        if field.channel in channels and field.channel not in fitting:
            raise FrameError(
                "format",
                f"channel {field.channel} sends {field.name} in {field.unit}, which is no {channels[field.channel]}",
            )
    return mapped


def encode(fields: Iterable[Field]) -> bytes:
    """Fields under LPP type names, each with its channel -> a payload. Raises ValueError for an unknown type, no channel,
    or a value that does not fit its bytes."""
    payload = bytearray()
    for field in fields:
        kind = _BY_NAME.get(field.name)
        if kind is None:
            raise ValueError(f"type {field.name!r} is unknown, expected one of {', '.join(_BY_NAME)}")
        if field.channel is None or not 0 <= field.channel <= 255:
            raise ValueError(f"{field.name}: channel is {field.channel}, expected 0 to 255")
        payload += bytes((field.channel, kind.code))
        for name, size, divisor in kind.parts:
            value = field.value[name] if name else field.value
            try:
                payload += round(value * divisor).to_bytes(size, "big", signed=kind.signed)
            except OverflowError:
                raise ValueError(f"{field.name}: {value} {field.unit} does not fit {size} bytes") from None
    return bytes(payload)


DRIVER = Driver(
    name="cayenne_lpp",
    title="Cayenne LPP payloads, of any node",
    link="payload",
    quantities=(),
    options=CayenneLppOptions,
    decode=decode,
    source="myDevices, Cayenne LPP 2.0; ElectronicCats/CayenneLPP, src/CayenneLPP.h",
    sheet=Sheet(
        wiring="By the node.",
        limits="A payload names channels, no medium: `channels` says which quantity each is. An unknown type "
        "ends the payload.",
        faults="Milesight payloads look like it and are not.",
        options='channels = { 1 = "air_temperature" }',
    ),
    commands={"encode": encode},
)
