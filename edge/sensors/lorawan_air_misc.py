"""LoRaWAN air sensors of many vendors under one name; each has a driver of its own too: Talkpool, uRADMonitor, Sting
Pengy, Netvox, Tektelic, Browan, MClimate, Teneo, River City, Watteco."""

from edge.sensors._lorawan_misc import MiscOptions, decode
from edge.sensors.base import Driver, Sheet

DRIVER = Driver(
    name="lorawan_air_misc",
    title="Air sensors of many vendors, found by model (LoRaWAN)",
    link="payload",
    quantities=(
        "air_temperature",
        "relative_humidity",
        "air_pressure",
        "pm1",
        "pm2_5",
        "pm10",
        "co2",
        "o3_ppm",
        "no2_ppm",
        "battery_voltage",
        "battery_level",
    ),
    options=MiscOptions,
    decode=decode,
    source="The drivers of the vendors",
    sheet=Sheet(
        wiring="As the vendor's own driver says, on this page.",
        limits="As the vendor's own driver. `model` finds it.",
        faults="An unknown model is refused at start or with the first payload.",
        options='model = "Talkpool OY1700"',
    ),
)
