"""A station: its place, its sensors, its rules."""

from typing import Self

from pydantic import Field, model_validator

from common.config import unique
from edge.config.base import Strict
from edge.config.rules import StationRule
from edge.config.sensors import Sensor
from wire.ids import Id


class Station(Strict):
    id: Id
    name: str
    commune: str = Field(pattern=r"^\d{5}$", description="NIS code")
    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    river: str | None = None
    sensor: tuple[Sensor, ...] = Field(min_length=1)
    rule: tuple[StationRule, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [s.id for s in self.sensor]
        unique(ids, "sensor id")
        unique([r.id for r in self.rule], "rule id")
        for rule in self.rule:
            if rule.sensor not in ids:
                raise ValueError(f"rule {rule.id}: sensor {rule.sensor!r} is unknown, expected one of {', '.join(ids)}")
            # None that is itself suppressed: two that suppress each other would tell nobody of anything.
            others = [r.id for r in self.rule if r.id != rule.id and r.suppressed_by is None]
            if rule.suppressed_by is not None and rule.suppressed_by not in others:
                raise ValueError(
                    f"rule {rule.id}: suppressed_by {rule.suppressed_by!r}, expected another rule of the station that is not"
                    f" suppressed itself: {', '.join(others) or 'none'}"
                )
        for sensor in self.sensor:
            others = [name for name in ids if name != sensor.id]
            if sensor.air is not None and sensor.air.sensor not in others:
                raise ValueError(
                    f"sensor {sensor.id}: air.sensor {sensor.air.sensor!r} is unknown, expected one of {', '.join(others) or 'none'}"
                )
        return self
