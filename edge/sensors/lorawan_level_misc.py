"""LoRaWAN level and water leak sensors of many vendors under one name; each has a driver of its own too: Terabee,
Teneo, Dingtek, enginko, Pepperl+Fuchs WILSEN, Ellenex, Netvox, Watteco, MClimate, Browan."""

from edge.sensors._lorawan_misc import MiscOptions, decode
from edge.sensors.base import Driver, Sheet

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
    sheet=Sheet(
        wiring="As the vendor's own driver says, on this page.",
        limits="As the vendor's own driver. `model` finds it.",
        faults="An unknown model is refused at start or with the first payload.",
        options='model = "Dingtek DF555"',
    ),
)
