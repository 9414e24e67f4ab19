"""LoRaWAN level and water leak sensors of many vendors under one name; each has a driver of its own too: Terabee,
Teneo, Dingtek, enginko, Pepperl+Fuchs WILSEN, Ellenex, Netvox, Watteco, MClimate, Browan."""

from edge.sensors._lorawan_misc import MiscOptions, decode
from edge.sensors.base import Driver

DRIVER = Driver(
    name="lorawan_level_misc",
    title="Level and water leak sensors of many vendors, found by model (LoRaWAN)",
    link="payload",
    quantities=(
        "water_distance",
        "water_level",
        "air_temperature",
        "relative_humidity",
        "air_pressure",
        "battery_voltage",
        "battery_level",
    ),
    options=MiscOptions,
    decode=decode,
    source="The drivers of the vendors",
)
