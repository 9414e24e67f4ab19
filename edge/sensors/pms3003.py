"""Plantower PMS3003 (G3) particle sensor on a UART, 9600 8N1, output only; 3.3 V levels, 5 V for the fan.

Source: Plantower, PMS3003 data manual. A frame has 24 bytes with 9 words: 1-3 and 4-6 PM1, PM2.5, PM10 (factory calibration,
atmosphere), 7-9 reserved.
"""

from edge.sensors import _plantower as plantower
from edge.sensors.base import Driver, Field, Options, Sheet

DATA = 20


class Pms3003Options(Options):
    """It needs none: it takes no commands."""


def decode(frame: bytes, options: Pms3003Options) -> list[Field]:
    """One frame -> `pm1 pm2_5 pm10` in ug/m3 (atmosphere) and the same as `_cf1`.

    Raises FrameError: `header length checksum`; `warming_up` for a frame of zeros.
    """
    del options
    payload = plantower.data(frame, DATA)
    plantower.warmed_up(payload)
    return plantower.masses(payload)


DRIVER = Driver(
    name="pms3003",
    title="Plantower PMS3003 particle sensor (UART, active)",
    link="stream",
    quantities=("pm1", "pm2_5", "pm10"),
    options=Pms3003Options,
    decode=decode,
    framer=lambda _options: plantower.framer(DATA),
    source="Plantower, PMS3003 data manual",
    sheet=Sheet(
        wiring="5 V supply for the fan, 3.3 V levels. SET open or high.",
        limits="0 to 500 ug/m3. Takes no commands: it runs on, whatever `period_s` says.",
        faults="All zeros: it starts. Too high in humid air.",
    ),
)
