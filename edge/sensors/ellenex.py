"""Ellenex PLS2-L level sensor on LoRaWAN. Its level is a raw number: what it stands for is on the device's data sheet.

Source: TheThingsNetwork/lorawan-devices: vendor/ellenex/pls2-l.js (the manufacturer's),
fPort 15; actility/device-catalog: vendors/ellenex, the same payload on fPort 1.
"""

import struct

from edge.sensors._lorawan import UplinkOptions, sized
from edge.sensors.base import Driver, Field, Sheet


class EllenexOptions(UplinkOptions):
    """`scale_mm`: millimetres of water for one count of the raw level; without it there is no `water_level`."""

    scale_mm: float | None = None


def decode(frame: bytes, options: EllenexOptions) -> list[Field]:
    """One payload -> `level_raw`, with `scale_mm` also `water_level` in m, and `battery_voltage` in V.

    Raises FrameError: `unknown_port`, `length`.
    """
    options.port(15, 1)
    level, tenths = struct.unpack(">xxxhxxB", sized(frame, 8))
    fields = [Field("level_raw", level, "1"), Field("battery_voltage", tenths / 10, "V")]
    if options.scale_mm is None:
        return fields
    return [Field("water_level", round(level * options.scale_mm / 1000, 6), "m"), *fields]


DRIVER = Driver(
    name="ellenex",
    title="Ellenex PLS2-L level sensor (LoRaWAN)",
    link="payload",
    quantities=("water_level", "battery_voltage"),
    options=EllenexOptions,
    decode=decode,
    source="TheThingsNetwork/lorawan-devices, vendor/ellenex",
    sheet=Sheet(
        wiring="Lower the probe to the bottom; the vent tube ends in dry air.",
        limits="The payload has a raw number: `scale_mm` from the data sheet, else there is no level.",
        faults="A wet vent tube shifts the level.",
        options="scale_mm = 1.0",
    ),
)
