r"""Maxim DS18B20 temperature sensor on a 1-Wire bus, read through the kernel: the text of `/sys/bus/w1/devices/28-*/w1_slave`.

Source: Linux, Documentation/w1/slaves/w1_therm.rst; Maxim, DS18B20 data sheet 19-7487. Reading the file starts a conversion
(750 ms) and gives two lines: the nine bytes of the scratchpad with the kernel's verdict on their CRC, and bytes with `t=` in
thousandths of a degree. After `NO` the second line repeats an older reading. The file `temperature` beside it (kernel 5.8 and
later) holds the number alone.
"""

import re
from typing import Literal

from edge.sensors.base import Driver, Field, FrameError, Options, Sheet

POWER_ON_MCEL = 85_000
LOWEST_MCEL, HIGHEST_MCEL = -55_000, 125_000

_BYTES = r"((?:[0-9A-Fa-f]{2} ){9})"
_TEXT = re.compile(rf"{_BYTES}: crc=[0-9A-Fa-f]{{2}} (YES|NO)\n{_BYTES}t=(-?\d{{1,7}})\n?", re.ASCII)
_VERDICT = re.compile(rf"{_BYTES}: crc=[0-9A-Fa-f]{{2}} NO(?:\n|\Z)", re.ASCII)
_NUMBER = re.compile(r"(-?\d{1,7})\n?", re.ASCII)


class Ds18b20Options(Options):
    """`quantity`: what the sensor is in."""

    quantity: Literal["air_temperature", "water_temperature"] = "air_temperature"


def decode(frame: bytes, options: Ds18b20Options) -> list[Field]:
    """The text of one reading -> the temperature in Cel.

    Raises FrameError: `sensor_missing` for no text; `crc` for the verdict NO; `sensor_fault` for a scratchpad of zeros, whose
    CRC is right (data line short-circuited); `no_data` for 85 Cel, the content at power-on; `out_of_range` beyond what the
    sensor can measure; `format` for anything else.
    """
    text = frame.decode("latin-1")
    if not text.strip():
        raise FrameError("sensor_missing", "no text: the sensor is not on the bus")
    if _VERDICT.match(text):
        raise FrameError("crc", "the kernel's verdict on the scratchpad is NO")
    if number := _NUMBER.fullmatch(text):
        return [_temperature(int(number[1]), options)]
    reading = _TEXT.fullmatch(text)
    if reading is None:
        raise FrameError("format", f"{text[:120]!r}, expected the two lines of w1_slave")
    if not any(bytes.fromhex(reading[1])):
        raise FrameError("sensor_fault", "the scratchpad is all zero: the data line is short-circuited")
    return [_temperature(int(reading[4]), options)]


def _temperature(mcel: int, options: Ds18b20Options) -> Field:
    if mcel == POWER_ON_MCEL:
        raise FrameError("no_data", "85 Cel stands in the sensor after power-on: there was no conversion")
    if not LOWEST_MCEL <= mcel <= HIGHEST_MCEL:
        raise FrameError("out_of_range", f"{mcel / 1000} Cel, the sensor measures -55 to 125")
    return Field(options.quantity, mcel / 1000, "Cel")


DRIVER = Driver(
    name="ds18b20",
    title="Maxim DS18B20 temperature sensor (1-Wire, through the kernel)",
    link="file",
    quantities=("air_temperature", "water_temperature"),
    options=Ds18b20Options,
    decode=decode,
    source="Linux, Documentation/w1/slaves/w1_therm.rst; Maxim, DS18B20 data sheet 19-7487",
    sheet=Sheet(
        wiring="Three wires: 3.3 V, ground, data to GPIO 4, with 4.7 kOhm from data to 3.3 V. "
        "`dtoverlay=w1-gpio` in the Pi's boot configuration. No parasitic supply (two wires) on long "
        "lines. The port is the file `/sys/bus/w1/devices/28-.../w1_slave`.",
        limits="-55 to 125 °C, 0.5 °C between -10 and 85 °C. A reading takes 750 ms.",
        faults="85.000 °C is the content at power-up, a failed conversion: no value. All zeros: the data wire is "
        "shorted. The file is gone: no sensor, or no pull-up. Counterfeits read several tenths wrong. "
        "Water in the sheath.",
        options='quantity = "water_temperature"',
    ),
)
