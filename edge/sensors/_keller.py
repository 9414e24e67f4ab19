"""KELLER pressure probes of Series 30: what their channels are, and what the drivers of the two protocols make of them.

Source: KELLER, Description of the communication protocol for Series 30 and Series 40 pressure transmitters (Class.Group 5.20
and 5.21): chapters 4.9 (registers), 5.9 (channels, status) and 6.3 (error values).
"""

import math
import struct
from typing import Literal

from pydantic import Field as Constraint

from edge.sensors.base import Field, FrameError, Options

CHANNELS = {"CH0": 0, "P1": 1, "P2": 2, "T": 3, "TOB1": 4, "TOB2": 5, "ConTc": 10, "ConRaw": 11}
"""Channel numbers. CH0 is calculated by the probe (P1 - P2, if so set), TOB1 and TOB2 are the pressure sensors' temperatures."""

_TEMPERATURES = ("TOB1", "T", "TOB2")
_ENDS = {16: (-0x8000, 0x7FFF), 32: (-0x80000000, 0x7FFFFFFF)}


class KellerOptions(Options):
    """`compensation` says how the air's pressure is taken off the water's, for a level: by the probe's `vent` tube (gauge probes,
    such as 26Y), by `p2`, a barometer in the head, by the probe itself in `ch0`; `none`: P1 is absolute, and there is no level.

    The level is that over the membrane by `density_kg_m3` and `gravity_m_s2`, plus `datum_m`, the membrane above the gauge zero.
    """

    compensation: Literal["none", "vent", "p2", "ch0"] = "none"
    density_kg_m3: float = Constraint(default=1000.0, ge=900, le=1200)
    gravity_m_s2: float = Constraint(default=9.81, ge=9.7, le=9.9)
    datum_m: float = 0.0

    def needs(self) -> set[str]:
        """The channels without which there is no level."""
        return {"none": set[str](), "vent": {"P1"}, "p2": {"P1", "P2"}, "ch0": {"CH0"}}[self.compensation]


def from_float(data: bytes) -> float:
    """A float32, to the digits that it has. Raises FrameError: `sensor_fault` for NaN, `saturated` for an infinity."""
    (value,) = struct.unpack(">f", data)
    if math.isnan(value):
        raise FrameError("sensor_fault", "not a number: the channel is in error or not there")
    if math.isinf(value):
        raise FrameError("saturated", f"{value:+}: beyond what the sensor can measure")
    return float(f"{value:.7g}")


def from_integer(data: bytes, channel: str) -> float:
    """A word of 16 or 32 bits -> bar or Cel. Raises FrameError: `saturated` at either end, which also means an error."""
    value, bits = int.from_bytes(data, "big", signed=True), 8 * len(data)
    if value in _ENDS[bits]:
        raise FrameError("saturated", f"{value}: beyond what the sensor can measure, or its error")
    return value / (100_000 if bits == 32 and channel in ("CH0", "P1", "P2") else 100)


def fields(values: dict[str, float], options: KellerOptions) -> list[Field]:
    """Channels in bar and Cel -> `water_pressure` in hPa (P1, or P2 alone), `air_pressure` in hPa (P2, when it is the barometer),
    `water_temperature` in Cel (the first of TOB1, T, TOB2), `water_level` in m where it is compensated; the rest by its name.
    """
    names = {"P1": "water_pressure"} if "P1" in values else {"P2": "water_pressure"}
    if options.compensation == "p2":
        names["P2"] = "air_pressure"
    names |= {
        name: "water_temperature"
        for name in _TEMPERATURES
        if name in values and "water_temperature" not in names.values()
    }
    found = [_field(name, names.get(name), value) for name, value in values.items()]
    if options.compensation != "none" and options.needs() <= values.keys():
        found.append(Field("water_level", _level(values, options), "m"))
    return found


def _field(channel: str, quantity: str | None, value: float) -> Field:
    if quantity in ("water_pressure", "air_pressure"):
        return Field(quantity, round(value * 1000, 5), "hPa")
    if channel in _TEMPERATURES:
        return Field(quantity or channel.lower(), value, "Cel")
    return Field(channel.lower(), value, {"P1": "bar", "P2": "bar", "CH0": ""}.get(channel, "mS/cm"))


def _level(values: dict[str, float], options: KellerOptions) -> float:
    over_air = {
        "vent": lambda: values["P1"],
        "p2": lambda: values["P1"] - values["P2"],
        "ch0": lambda: values["CH0"],
    }[options.compensation]()
    # To 0.1 mm: finer is rounding noise, which no probe measures.
    return round(options.datum_m + over_air * 100_000 / (options.density_kg_m3 * options.gravity_m_s2), 4)
