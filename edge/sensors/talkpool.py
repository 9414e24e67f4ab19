"""Talkpool OY1110 (temperature, humidity), OY1210 (with CO2) and OY1700 (with particles) on LoRaWAN: 12-bit temperature
and humidity in three bytes, then words, big-endian.

Source: Talkpool OY1110, OY1210 and OY1700 reference manuals; TheThingsNetwork/lorawan-devices: vendor/talkpool.
"""

import struct

from edge.sensors._lorawan import UplinkOptions, plausible, sized
from edge.sensors.base import Driver, Field, FrameError, Sheet

_DATA, _GROUPED = 2, 3
_WORDS = {
    "OY1210": (("co2", "ppm"),),
    "OY1700": (("pm1", "ug/m3"), ("pm2_5", "ug/m3"), ("pm10", "ug/m3")),
}
"""What follows the three bytes, by model. An OY1110 has nothing; a group of its values begins with the newest."""


class TalkpoolOptions(UplinkOptions):
    models = ("OY1110", "OY1210", "OY1700")


def decode(frame: bytes, options: TalkpoolOptions) -> list[Field]:
    """One payload of a `model` -> `air_temperature` in Cel, `relative_humidity` in %RH, and OY1210 `co2` in ppm, OY1700
    `pm1`, `pm2_5`, `pm10` in ug/m3.

    Raises FrameError: `unknown_port`, `length`, `implausible` when nothing else is left.
    """
    words = next((words for model, words in _WORDS.items() if options.named(model)), ())
    if not words:
        if options.port(_DATA, _GROUPED) == _GROUPED:
            frame = frame[1:]
        if not frame or len(frame) % 3:
            raise FrameError("length", f"{len(frame)} bytes, expected groups of 3")
        return plausible(_climate(frame))
    options.port(_DATA)
    sized(frame, 3 + 2 * len(words))
    values = struct.unpack(f">{len(words)}H", frame[3:])
    return plausible(
        [*_climate(frame), *(Field(name, value, unit) for (name, unit), value in zip(words, values, strict=True))]
    )


def _climate(three: bytes) -> list[Field]:
    temperature, humidity = three[0] << 4 | three[2] >> 4, three[1] << 4 | three[2] & 0x0F
    return [
        Field("air_temperature", (temperature - 800) / 10, "Cel"),
        Field("relative_humidity", (humidity - 250) / 10, "%RH"),
    ]


DRIVER = Driver(
    name="talkpool",
    title="Talkpool OY1110, OY1210 and OY1700 air sensors (LoRaWAN)",
    link="payload",
    quantities=("air_temperature", "relative_humidity", "co2", "pm1", "pm2_5", "pm10"),
    options=TalkpoolOptions,
    decode=decode,
    source="Talkpool reference manuals; TheThingsNetwork/lorawan-devices, vendor/talkpool",
    sheet=Sheet(
        wiring="In shade; OY1700 with its inlet free.",
        limits="By model: OY1110 temperature and humidity, OY1210 CO2, OY1700 particles.",
        faults="Humidity of more than 100 % (109 % was seen) is no value.",
        options='model = "OY1700"',
    ),
)
