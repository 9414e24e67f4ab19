"""What a transport hands to the data path: what one sensor said at one moment, or that it said nothing usable."""

from dataclasses import dataclass

from edge.sensors.base import Field, FrameError


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame, poll or period of one sensor.

    `wall_s` (Unix) and `boot_s` are the moment at which the last byte of its frame was read; without a frame, the moment at
    which that was established. `fields` are usable values of the table's quantities; `side` is health (signal, battery,
    device id). With an `error` and no `fields` it is a poll or period without a usable value.
    """

    station: str
    sensor: str
    wall_s: float
    boot_s: float
    fields: tuple[Field, ...] = ()
    side: tuple[Field, ...] = ()
    error: FrameError | None = None

    @property
    def key(self) -> str:
        return f"{self.station}/{self.sensor}"
