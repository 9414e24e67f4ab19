"""MaxBotix MB7389 HRXL-MaxSonar-WRMT: `R` and the distance in mm, four digits, CR, about 6 times a second.

Source: MaxBotix HRXL-MaxSonar-WR data sheet (serial output; 300 mm at or inside the blind zone, 5000 mm without a target).
"""

from collections.abc import Callable
from pathlib import Path

from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.sensor import SensorDevice

_BLIND_MM = 300
_NO_TARGET_MM = 5000


class Mb7389(SensorDevice):
    """`distance_m(wall_s)` is the true distance to the water in metres, None where nothing reflects."""

    def __init__(
        self,
        path: Path,
        sensor: str,
        distance_m: Callable[[float], float | None],
        *,
        clock: Clock,
        log: DeviceLog,
        interval_s: float = 1 / 6,
    ) -> None:
        super().__init__(path, clock, log, interval_s)
        self.sensor = sensor
        self.distance_m = distance_m

    def measure(self) -> None:
        distance = self.distance_m(self.clock.wall())
        mm = _NO_TARGET_MM if distance is None else min(max(round(distance * 1000), _BLIND_MM), _NO_TARGET_MM)
        values = {"water_distance": mm / 1000} if _BLIND_MM < mm < _NO_TARGET_MM else {}
        self.send(b"R%04d\r" % mm, self.sensor, values)
