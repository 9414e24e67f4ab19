"""MaxBotix MB7389 HRXL-MaxSonar-WRMT, the range finder of the demo."""

from collections.abc import Callable
from pathlib import Path

from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.maxbotix import INTERVAL_S, MaxBotix


class Mb7389(MaxBotix):
    """`distance_m(wall_s)` is the true distance to the water in metres, None where nothing reflects."""

    def __init__(
        self,
        path: Path,
        sensor: str,
        distance_m: Callable[[float], float | None],
        *,
        clock: Clock,
        log: DeviceLog,
        interval_s: float = INTERVAL_S,
    ) -> None:
        def truth(wall_s: float) -> dict[str, float]:
            distance = distance_m(wall_s)
            return {} if distance is None else {"water_distance": distance}

        super().__init__(path, sensor, truth, "MB7389", clock=clock, log=log, interval_s=interval_s)
