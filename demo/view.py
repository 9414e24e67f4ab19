"""One moment of the demo, ready to be shown, and the lines that say what has just happened."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from common.clock import BRUSSELS
from demo.messages import Told
from demo.scenario import Station
from wire.alarm import AlarmEvent, State

_TREND_S = 900.0


def clock_time(wall_s: float, form: str = "%H:%M:%S") -> str:
    """Unix seconds as Belgian time of day."""
    return datetime.fromtimestamp(wall_s, BRUSSELS).strftime(form)


@dataclass(slots=True)
class StationView:
    """A station: what its sensor has said (Unix s, value), and how its rule stands."""

    station: Station
    points: Sequence[tuple[float, float]] = ()
    state: State = "NORMAL"
    level: int = 0

    @property
    def value(self) -> float | None:
        return self.points[-1][1] if self.points else None

    @property
    def trend_per_h(self) -> float | None:
        """Over the last quarter of an hour; None before there is one."""
        if not self.points:
            return None
        at, value = self.points[-1]
        before = next((p for p in reversed(self.points) if p[0] <= at - _TREND_S), None)
        return None if before is None else (value - before[1]) / (at - before[0]) * 3600


@dataclass(slots=True)
class GatewayView:
    """A gateway: its link ("up", "down" as central knows it, "cut" when it is the demo that cut it), how many readings and
    alarm events wait for central's receipt, its siren (None: it has none)."""

    id: str
    link: str = "down"
    journal: int = 0
    untold: int = 0
    siren: bool | None = None


@dataclass(slots=True)
class View:
    """Everything on the screen. `progress` 0 to 1 of the window; `left_s` real seconds."""

    wall_s: float
    played_s: float
    begins_s: float
    ends_s: float
    left_s: float
    scale: float
    phase: str
    page: str
    stations: list[StationView] = field(default_factory=list)
    gateways: list[GatewayView] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)

    @property
    def progress(self) -> float:
        return min(max((self.wall_s - self.begins_s) / (self.ends_s - self.begins_s), 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Line:
    """Something that happened, in one line."""

    wall_s: float
    topic: str
    text: str

    def __str__(self) -> str:
        return f"{clock_time(self.wall_s)}  {self.topic:<8} {self.text}"


def alarm_text(event: AlarmEvent) -> str:
    """An alarm event in a few words."""
    value = f", {event.value:.4g} {event.unit}" if event.value is not None else ""
    level = f" level {event.level}" if event.level else ""
    notified = "".join(f" {n.channel} to {n.to} {n.result}" for n in event.notified)
    return f"{event.rule}: {event.transition}{level}{value}{notified}"
