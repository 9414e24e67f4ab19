"""Plantower PMS5003T particle sensor with temperature and humidity on a UART, 9600 8N1; 3.3 V levels, 5 V for the fan.

Source: Plantower, PMS5003T data manual. As the PMS5003's frame, but words 11 and 12 are temperature (signed) and relative
humidity in tenths instead of the counts above 5 and 10 um.
"""

from edge.sensors import _plantower as plantower
from edge.sensors.base import Driver, Field, Identify, Sheet

DATA = 28


def decode(frame: bytes, options: plantower.PmsOptions) -> list[Field]:
    """One frame -> `pm1 pm2_5 pm10` in ug/m3 (atmosphere), the same as `_cf1`, `n0_3` ... `n2_5` in 1/cm3,
    `air_temperature` in Cel, `relative_humidity` in %RH; or a `reply`.

    Raises FrameError: `header length checksum format`; `warming_up` for a frame of zeros; `sensor_fault` with its error code;
    `inconsistent` for a mass without any particle.
    """
    del options
    payload = plantower.data(frame, DATA, plantower.REPLY)
    if len(payload) == plantower.REPLY - 2:
        return plantower.reply(payload)
    plantower.warmed_up(payload)
    plantower.healthy(payload)
    return [
        *plantower.masses(payload),
        *plantower.counts(payload, "n0_3", "n0_5", "n1_0", "n2_5"),
        Field("air_temperature", int.from_bytes(payload[20:22], "big", signed=True) / 10, "Cel"),
        Field("relative_humidity", int.from_bytes(payload[22:24], "big") / 10, "%RH"),
    ]


DRIVER = Driver(
    name="pms5003t",
    title="Plantower PMS5003T particle, temperature and humidity sensor (UART, active or query mode)",
    link="stream",
    quantities=("pm1", "pm2_5", "pm10", "air_temperature", "relative_humidity"),
    options=plantower.PmsOptions,
    decode=decode,
    framer=lambda _options: plantower.framer(DATA, plantower.REPLY),
    setup=plantower.setup,
    request=plantower.request,
    duty=plantower.DUTY,
    identify=Identify(requests=(plantower.passive_read(),)),
    source="Plantower, PMS5003T data manual",
    sheet=Sheet(
        wiring="As the PMS5003: 5 V supply, 3.3 V levels, SET open or high.",
        limits="As the PMS5003, with temperature and humidity of the air inside, some degrees too warm.",
        faults="As the PMS5003. Its temperature is no reference for others.",
        options='mode = "active"',
    ),
    commands=dict(plantower.COMMANDS),
    recognise=plantower.recognise,
)
