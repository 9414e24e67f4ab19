"""XY-MD02 (SHT20) air temperature and humidity by Modbus RTU on RS485, 9600 8N1, factory address 1.

Register map: e-tinkers/Modbus-RTU, examples/SHT20/README.md, verified there on devices (the seller's PDF has wrong CRCs).
Limits: Sensirion SHT20 data sheet (temperature range; relative humidity's transfer function runs from -6 to 119 %).
"""

from typing import Literal

from pydantic import field_validator

from edge.sensors import _modbus_rtu as rtu
from edge.sensors.base import Driver, Field, FrameError, Identify, ModbusRead, Options, Sheet

TEMPERATURE, HUMIDITY = 0x0001, 0x0002
ADDRESS, BAUD_RATE, TEMPERATURE_OFFSET, HUMIDITY_OFFSET = 0x0101, 0x0102, 0x0103, 0x0104

_MEASURED = {
    "temperature": ("air_temperature", "Cel", -40.0, 125.0),
    "humidity": ("relative_humidity", "%RH", -6.0, 119.0),
}
# The vendor's parameters: divisor and unit.
_PARAMETERS = {
    "address": (1, "1"),
    "baud_rate": (1, "Bd"),
    "temperature_offset": (10, "Cel"),
    "humidity_offset": (10, "%RH"),
}


class XyMd02Options(Options):
    """`unit`: Modbus address. `scale`: 10, or 100 on a firmware that sends hundredths. `words`: what the registers of a
    reply are, in order; the gateway reads temperature and humidity in one request."""

    unit: int = 1
    scale: Literal[10, 100] = 10
    words: tuple[str, ...] = ("temperature", "humidity")

    @field_validator("unit")
    @classmethod
    def _address(cls, unit: int) -> int:
        if not 1 <= unit <= 247:
            raise ValueError("expected a Modbus address from 1 to 247")
        return unit

    @field_validator("words")
    @classmethod
    def _known(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        known = [*_MEASURED, *_PARAMETERS]
        for word in words:
            if word not in known:
                raise ValueError(f"word {word!r} is unknown, expected {', '.join(known)}")
        return words


def decode(frame: bytes, options: XyMd02Options) -> list[Field]:
    """One whole RTU reply -> `air_temperature` in Cel, `relative_humidity` in %RH; a confirmed write gives `reply` first.

    Raises FrameError: `length crc exception format`; `out_of_range` beyond what the sensor can measure (a wrong `scale`
    shows so).
    """
    reply = rtu.parse_reply(frame)
    if isinstance(reply, rtu.Written):
        return [
            Field("reply", "write_ok", ""),
            Field("register", reply.register, "1"),
            Field("count", reply.count, "1"),
        ]
    if len(reply.words) != len(options.words):
        raise FrameError(
            "length", f"{len(reply.words)} registers, expected {len(options.words)} ({', '.join(options.words)})"
        )
    return [_field(name, word, options.scale) for name, word in zip(options.words, reply.words, strict=True)]


def _field(name: str, word: int, scale: int) -> Field:
    if name in ("address", "baud_rate"):
        return Field(name, word, _PARAMETERS[name][1])
    signed = word - 0x10000 if word & 0x8000 else word
    if name in _PARAMETERS:
        divisor, unit = _PARAMETERS[name]
        return Field(name, signed / divisor, unit)
    quantity, unit, lowest, highest = _MEASURED[name]
    value = signed / scale
    if not lowest <= value <= highest:
        raise FrameError("out_of_range", f"{quantity} {value} {unit}, the sensor measures {lowest} to {highest}")
    return Field(quantity, value, unit)


def read_temperature(unit: int = 1) -> bytes:
    """Read the temperature alone."""
    return rtu.read_request(unit, 4, TEMPERATURE, 1)


def read_humidity(unit: int = 1) -> bytes:
    """Read the humidity alone."""
    return rtu.read_request(unit, 4, HUMIDITY, 1)


def read_both(unit: int = 1) -> bytes:
    """Read temperature and humidity of one moment."""
    return rtu.read_request(unit, 4, TEMPERATURE, 2)


def read_address(unit: int = 1) -> bytes:
    """Read the device's address back."""
    return rtu.read_request(unit, 3, ADDRESS, 1)


def set_address(address: int, unit: int = 1) -> bytes:
    """Give the device another address."""
    return rtu.write_single(unit, ADDRESS, address)


def set_baud_rate(baud_rate: int, unit: int = 1) -> bytes:
    """9600, 14400 or 19200 Bd."""
    return rtu.write_single(unit, BAUD_RATE, baud_rate)


def set_temperature_offset(offset: float, unit: int = 1) -> bytes:
    """Correction in Cel, added by the device."""
    return rtu.write_single(unit, TEMPERATURE_OFFSET, round(offset * 10))


def set_humidity_offset(offset: float, unit: int = 1) -> bytes:
    """Correction in %RH, added by the device."""
    return rtu.write_single(unit, HUMIDITY_OFFSET, round(offset * 10))


def set_address_and_baud_rate(address: int, baud_rate: int, unit: int = 1) -> bytes:
    """Both at once."""
    return rtu.write_multiple(unit, ADDRESS, (address, baud_rate))


def recognise(frame: bytes) -> list[Field]:
    """Read a request back (see Driver.recognise)."""
    request = rtu.parse_request(frame)
    if request is None:
        return []
    name = {
        (4, TEMPERATURE, 1): "read_temperature",
        (4, HUMIDITY, 1): "read_humidity",
        (4, TEMPERATURE, 2): "read_both",
        (3, ADDRESS, 1): "read_address",
        (6, ADDRESS, 1): "set_address",
        (6, BAUD_RATE, 1): "set_baud_rate",
        (6, TEMPERATURE_OFFSET, 1): "set_temperature_offset",
        (6, HUMIDITY_OFFSET, 1): "set_humidity_offset",
        (16, ADDRESS, 2): "set_address_and_baud_rate",
    }.get((request.function, request.register, request.count))
    return [
        Field("command", name or ("write" if request.values else "read"), ""),
        Field("function", request.function, "1"),
        Field("register", request.register, "1"),
        Field("count", request.count, "1"),
        *(Field("written", value, "1") for value in request.values),
    ]


DRIVER = Driver(
    name="xy_md02",
    title="XY-MD02 air temperature and humidity (Modbus RTU)",
    link="modbus",
    quantities=("air_temperature", "relative_humidity"),
    options=XyMd02Options,
    decode=decode,
    reads=lambda _options: (ModbusRead(function=4, register=TEMPERATURE, count=2),),
    identify=Identify(variants=({}, {"scale": 100})),
    source="e-tinkers/Modbus-RTU, examples/SHT20/README.md; Sensirion SHT20 data sheet",
    sheet=Sheet(
        wiring="RS485, A and B, supply as on its case (most 5 to 30 V). Factory address 1.",
        limits="-40 to 125 °C, 0 to 100 %RH. Not rainproof: hang it in a radiation shield.",
        faults="30 °C read as 305: a firmware with hundredths, `scale = 100`. About 1 K too warm when asked "
        "every second. The seller's paper has wrong checksums.",
        options="unit = 1",
    ),
    commands={
        function.__name__: function
        for function in (
            read_temperature,
            read_humidity,
            read_both,
            read_address,
            set_address,
            set_baud_rate,
            set_temperature_offset,
            set_humidity_offset,
            set_address_and_baud_rate,
        )
    },
    recognise=recognise,
)
