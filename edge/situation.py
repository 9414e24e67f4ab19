"""What a gateway knows at one moment, for who stands beside it: the facts of its page and of `/status.json`.

Moments are Unix seconds of the gateway's clock, which may be wrong (`clock_synchronised`); ages are seconds of boot time, which
are right whatever that clock says.
"""

from dataclasses import dataclass

from wire.alarm import Kind, State, Status, Withheld

SOCKET = "status.sock"
"""Unix socket in the data directory, where a running gateway gives `/status.json` to its own tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A quantity of a sensor, in `unit`.

    `value` is the newest usable one (QARTOD flag 1, 2 or 3, in `qc`), however old; None when none is known since the start. `fresh`: it
    is not older than the sensor's alarms allow. `at_least`: the water has reached the sensor and stands there or higher.
    `refused_age_s`: since then quality control has refused what came. `thresholds`: of local levels 1 to 3, `descending` those of
    a `low` rule. `trend_per_h` where a rule keeps one. `recent`: age and value of the last hour, oldest first.
    """

    quantity: str
    unit: str
    value: float | None
    qc: int | None
    age_s: float | None
    fresh: bool
    at_least: bool
    refused_age_s: float | None
    thresholds: tuple[float | None, float | None, float | None]
    descending: bool
    trend_per_h: float | None
    recent: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a sensor gives nothing usable now: the `kind` of a driver's error, what it said, for how long."""

    kind: str
    detail: str
    since_s: float
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorNow:
    """`missed`: attempts without a usable value since the start."""

    id: str
    driver: str
    out_of_service: bool
    missed: int
    trouble: Trouble | None
    measures: tuple[Measure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StationNow:
    """`level`: the highest local level at which an alarm of a level, a rate or a silence stands; 0 for none."""

    id: str
    name: str
    river: str | None
    commune: str
    level: int
    sensors: tuple[SensorNow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An alarm that is not NORMAL. `where` and `what` are French. `withheld`: it tells nobody, and why; `by` whose doing that
    was (a person, or the rule that suppresses it), `until_s` the end of a shelf."""

    occurrence: str
    reference: str
    where: str
    what: str
    station: str | None
    sensor: str | None
    rule: str
    kind: Kind
    state: State
    level: int
    data_lost: bool
    since_s: float
    acknowledged_by: str | None
    acknowledged_s: float | None
    withheld: Withheld | None
    withheld_by: str | None
    until_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """`boot_s` and `wall_s`: when it was so. `siren`: it sounds, None where there is none. `linked`: to central's broker, None
    where there is none. `waiting`: readings that wait for central's receipt, none given for `unconfirmed_s`. `in_memory`: readings
    that the disk does not take. `exercise_s`: when the last step was of an exercise alarm that stands, None where none does (Unix s).
    `health`: what the gateway says of itself each minute, by the names of docs/wire.md."""

    gateway: str
    status: Status
    boot_s: float
    wall_s: float
    started_s: float
    clock_synchronised: bool
    stations: tuple[StationNow, ...]
    alarms: tuple[Standing, ...]
    siren: bool | None
    linked: bool | None
    waiting: int
    unconfirmed_s: float
    in_memory: int
    exercise_s: float | None
    health: dict[str, float]
