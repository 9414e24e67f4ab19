"""The alarm rules; edge/rules.py judges by them."""

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from edge.config.base import Level, PositiveSeconds, Seconds, Strict, known_quantity
from wire.ids import Id

MEANT = ("pm2_5", "pm10", "no2", "o3")
"""Quantities of which running means are kept: those whose thresholds are set on means."""


_WATER = ("water_level", "water_distance")
_LULL_S = 3600
"""Within the flood of 14 July 2021 the Vesdre at Chaudfontaine fell for two hours before it rose to 6 m."""
_PAUSE_S = 3 * 3600
"""Of a rate: in the flood of 3 June 2018 Dead Run at Franklintown (USGS 01589330) did not rise for two hours, 0.4 m above its first
threshold, and then by 0.7 m in half an hour."""


class DatedLevels(Strict):
    """Thresholds that hold from a day on, by the Belgian calendar, until the next entry's."""

    since: date = Field(alias="from")
    levels: tuple[float, ...] = Field(min_length=1, max_length=3)
    deadband: float | None = Field(default=None, ge=0)


class _RuleBase(Strict):
    """`latching`: an alarm that has returned stays until someone resets it. `suppressed_by`: another rule of the station while
    whose alarm stands this one tells nobody (it is judged and logged all the same)."""

    id: Id
    off_delay_s: Seconds = 0
    on_delay_s: Seconds = 0
    latching: bool = False
    suppressed_by: Id | None = None
    text: str | None = None


class _SensorRule(_RuleBase):
    sensor: Id


class _LevelRule(_SensorRule):
    """`levels`: thresholds of local levels 1, 2, 3 in the quantity's unit, at least one. A level is reached at its threshold
    for `on_delay_s`, left `deadband` before it for `off_delay_s`, which for water is an hour when it is not given (of its rate three
    hours), since a lull in a flood is no all-clear. `dated`: other thresholds from a day on."""

    quantity: str
    levels: tuple[float, ...] = Field(min_length=1, max_length=3)
    deadband: float = Field(default=0, ge=0)
    dated: tuple[DatedLevels, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _lull(cls, rule: Any) -> Any:
        if isinstance(rule, dict) and rule.get("quantity") in _WATER:
            return {"off_delay_s": _PAUSE_S if rule.get("kind") in ("rise", "fall") else _LULL_S} | rule
        return rule

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        known_quantity(self.quantity)
        for key, levels in (("levels", self.levels), *((f"dated {d.since}", d.levels) for d in self.dated)):
            if list(levels) != sorted(set(levels), reverse=self.descending):
                raise ValueError(f"{key}: expected {'descending' if self.descending else 'ascending'} thresholds")
        days = [entry.since for entry in self.dated]
        if days != sorted(set(days)):
            raise ValueError("dated: expected each day once, in order")
        return self

    @property
    def descending(self) -> bool:
        return False

    def on(self, day: date) -> Self:
        """The rule with the thresholds of a day."""
        current = [entry for entry in self.dated if entry.since <= day]
        if not current:
            return self
        deadband = self.deadband if current[-1].deadband is None else current[-1].deadband
        return self.model_copy(update={"levels": current[-1].levels, "deadband": deadband})


class HighRule(_LevelRule):
    """At or above a threshold; left below threshold - `deadband`. With `and_rise_per_h`, a level is reached only while the
    quantity also rises at least so fast (its unit per hour); it is left by the value alone. With `mean_h`, the running mean over
    so many hours is judged, at the end of each hour, when 75 % of it was measured (common/air.py)."""

    kind: Literal["high"]
    and_rise_per_h: float | None = Field(default=None, gt=0)
    mean_h: Literal[1, 8, 24] | None = None

    @model_validator(mode="after")
    def _mean_of_air(self) -> Self:
        if self.mean_h is not None and self.quantity not in MEANT:
            raise ValueError(f"mean_h: expected only with {', '.join(MEANT)}")
        if self.mean_h is not None and self.and_rise_per_h is not None:
            raise ValueError("expected mean_h or and_rise_per_h, not both")
        return self


class _DescendingRule(_LevelRule):
    @property
    def descending(self) -> bool:
        return True


class LowRule(_DescendingRule):
    """At or below a threshold (descending); left above threshold + `deadband`."""

    kind: Literal["low"]


class PowerRule(_DescendingRule):
    """As `low`, of what feeds the sensor: its battery."""

    kind: Literal["power"]
    quantity: str = "battery_voltage"


class RiseRule(_LevelRule):
    """Rise over `window_s`, in the quantity's unit per hour."""

    kind: Literal["rise"]
    window_s: PositiveSeconds = 3600


class FallRule(_LevelRule):
    """Fall over `window_s`, in the quantity's unit per hour, a positive number."""

    kind: Literal["fall"]
    window_s: PositiveSeconds = 3600


class StaleRule(_SensorRule):
    """No valid value for `after_s` (default: the sensor's `stale_after_s`). At the level of the sensor's own level and rate
    alarms when there is one, else `level`."""

    kind: Literal["stale"]
    after_s: PositiveSeconds | None = None
    level: Level = 1


class CommFailRule(_SensorRule):
    """The device or its line fails `errors` times in a row."""

    kind: Literal["comm_fail"]
    errors: int = Field(default=3, ge=1)
    level: Level = 1


class QualityRule(_SensorRule):
    """Of what the sensor said in the last `window_s`, at least the share `failed` is flag 4 or no value; over again below half
    of that. Not judged on fewer than `at_least` observations."""

    kind: Literal["quality"]
    failed: float = Field(default=0.5, gt=0, le=1)
    at_least: int = Field(default=6, ge=1)
    window_s: PositiveSeconds = 3600
    level: Level = 1


StationRule = Annotated[
    HighRule | LowRule | PowerRule | RiseRule | FallRule | StaleRule | CommFailRule | QualityRule,
    Field(discriminator="kind"),
]


class SystemRule(_RuleBase):
    """One of the gateway about itself: `quantity` is a value of its health, reached from `limit` on, or down to it with `below`."""

    kind: Literal["system", "power"]
    quantity: str
    limit: float
    below: bool = False
    deadband: float = 0

    @property
    def levels(self) -> tuple[float, ...]:
        return (self.limit,)


Rule = StationRule | SystemRule
