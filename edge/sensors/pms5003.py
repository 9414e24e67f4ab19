"""Plantower PMS5003, PMS7003, PMSA003 and PMS1003 particle sensors on a UART, 9600 8N1; 3.3 V levels, 5 V for the fan.

Source: Plantower, PMS5003 series data manual V2.3. A frame has 32 bytes with 13 words: 1-3 and 4-6 PM1, PM2.5, PM10 (factory
calibration, atmosphere), 7-12 particles larger than 0.3, 0.5, 1, 2.5, 5, 10 um in 0.1 L, 13 version and error code.
"""

from edge.sensors import _plantower as plantower
from edge.sensors.base import Driver, Field, FrameError, Identify, Sheet

DATA = 28


def decode(frame: bytes, options: plantower.PmsOptions) -> list[Field]:
    """One frame -> `pm1 pm2_5 pm10` in ug/m3 (atmosphere), the same as `_cf1`, `n0_3` ... `n10` in 1/cm3; or a `reply`.

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
        *plantower.counts(payload, "n0_3", "n0_5", "n1_0", "n2_5", "n5_0", "n10"),
    ]


def _described(frame: bytes) -> list[Field] | None:
    """For `scan`: each count holds those of the larger sizes, which the words of a PMS5003T in their place do not."""
    try:
        fields = decode(frame, plantower.PmsOptions())
    except FrameError as error:
        return [Field("error", error.kind, "")] if error.kind == "warming_up" else None
    counts = [field.value for field in fields if field.name.startswith("n")]
    return fields if counts == sorted(counts, reverse=True) else None


DRIVER = Driver(
    name="pms5003",
    title="Plantower PMS5003, PMS7003, PMSA003 particle sensors (UART, active or query mode)",
    link="stream",
    quantities=("pm1", "pm2_5", "pm10"),
    options=plantower.PmsOptions,
    decode=decode,
    framer=lambda _options: plantower.framer(DATA, plantower.REPLY),
    setup=plantower.setup,
    request=plantower.request,
    duty=plantower.DUTY,
    identify=Identify(requests=(plantower.passive_read(),), describe=_described),
    source="Plantower, PMS5003 series data manual V2.3",
    sheet=Sheet(
        wiring="5 V supply for the fan, 3.3 V levels. Pin SET open or high; low puts it to sleep. RESET open.",
        limits="0 to 500 ug/m3 (more with less accuracy). Outdoor (atmospheric) values are published. Sleeps "
        "between readings from `period_s` 100 s on; 30 s after waking nothing counts.",
        faults="All zeros: it starts. A non-zero error byte is a fault. Too high in humid air. Insects and dust "
        "in the inlet.",
        options='mode = "active"',
    ),
    commands=dict(plantower.COMMANDS),
    recognise=plantower.recognise,
)
