"""The alarms of a level sensor, from its values to the transitions, on the measured floods of Dead Run as bad instruments give them."""

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count, pairwise

import pytest

from common.clock import BRUSSELS
from demo import series
from edge.config import EdgeConfig
from edge.qc import SensorQc
from edge.qualify import qualify
from edge.rules import AlarmState, Transition, observe, tick
from edge.sample import Sample
from edge.sensors.base import Field, FrameError
from edge.watch import Watchlist

LEVELS = (0.55, 0.80, 1.20)
DEADBAND = 0.05
PERIOD_S = 300
LULL_S = 3600.0
# As a technician writes it: delays are the defaults.
CONFIG = EdgeConfig.model_validate(
    {
        "gateway": {"id": "gw-test-01", "data_dir": "unused"},
        "station": [
            {
                "id": "run", "name": "Essai", "commune": "61031", "lat": 50.5, "lon": 5.2,
                "sensor": [{"id": "level", "driver": "modbus_level_probe", "port": "unused", "period_s": PERIOD_S}],
                "rule": [
                    {"id": "high", "kind": "high", "sensor": "level", "quantity": "water_level", "levels": LEVELS,
                     "deadband": DEADBAND},
                    {"id": "rise", "kind": "rise", "sensor": "level", "quantity": "water_level", "levels": [0.30]},
                ],
            }
        ],
    }
)  # fmt: skip
DEAD = math.nan
"""The device does not answer."""

Points = list[tuple[float, float]]


def at(text: str) -> float:
    return datetime.fromisoformat(f"2018-{text}").replace(tzinfo=UTC).timestamp()


def run(begin: str = "05-31T00:00", end: str = "06-20T00:00") -> Points:
    return [(t, v) for t, v in series.river().points if at(begin) <= t <= at(end)]


class Played:
    """A series that was played: what was usable of it, what happened, how it ended. `step_s`: how wrong the wall clock is."""

    def __init__(self, points: Points, step_s: Callable[[float], float] = lambda _: 0.0) -> None:
        begin = points[0][0]
        watched = Watchlist(CONFIG, datetime.fromtimestamp(begin, BRUSSELS).date()).sensors["run/level"]
        checks, ids = SensorQc(watched.sensor), count()
        self.usable: Points = []
        self.done: list[Transition] = []
        self.states: dict[str, AlarmState] = {}
        before = begin
        for t, value in points:
            for second in range(round(before) + 60, round(t), 60):
                self._take(tick(watched.rules, self.states, second, lambda: str(next(ids))))
            fields = () if value is DEAD else (Field("water_level", value, "m"),)
            error = FrameError("timeout", "no answer") if value is DEAD else None
            sample = Sample("run", "level", t + step_s(t), t, fields, (), error)
            _, observations = qualify(watched.sensor, sample, checks)
            for observation in observations:
                if observation.bound is not None:
                    self.usable.append((t, observation.bound))
                self._take(observe(watched.rules, self.states, observation, lambda: str(next(ids))))
            before = t

    def _take(self, outcome: tuple[dict[str, AlarmState], list[Transition]]) -> None:
        self.states, done = outcome
        self.done += done

    def of(self, *names: str) -> Iterator[Transition]:
        return (t for t in self.done if t.rule in names)

    def told(self, *names: str) -> list[tuple[str, str, int]]:
        return [(t.rule, t.transition, t.level) for t in self.of(*names)]

    def unfounded(self) -> list[Transition]:
        """Steps down of the level without an hour of usable values, all of them below what was left."""
        times = [t for t, _ in self.usable]
        found = []
        for t in self.of("high"):
            if t.transition in ("clear", "deescalate"):
                hour = self.usable[bisect_left(times, t.boot_s - LULL_S) : bisect_right(times, t.boot_s)]
                gaps = [b - a for (a, _), (b, _) in pairwise(hour)]
                if max(v for _, v in hour) >= LEVELS[t.level] - DEADBAND or max(gaps) >= 3.25 * PERIOD_S:
                    found.append(t)
        return found


def spikes(points: Points) -> Points:
    """Every fifth hour one value too high or too low, as insects, waves and rain give them."""
    chance = random.Random(1)
    return [(t, v + chance.choice((0.4, 1.0, 5.0, -0.15)) if i % 60 == 30 else v) for i, (t, v) in enumerate(points)]


def sentinels(points: Points) -> Points:
    """Every hour a value that stands for none, of loggers, Modbus registers and floats."""
    none = (9999.0, -9999.0, 7999.0, 65535.0, -999.9, math.inf)
    return [(t, none[i // 12 % len(none)] if i % 12 == 6 else v) for i, (t, v) in enumerate(points)]


def noise(points: Points) -> Points:
    """A surface that ripples by two centimetres."""
    chance = random.Random(1)
    return [(t, round(v + chance.uniform(-0.02, 0.02), 3)) for t, v in points]


def dropouts(points: Points) -> Points:
    """Two polls of five fail, one after the other."""
    return [(t, DEAD if i % 5 in (0, 1) else v) for i, (t, v) in enumerate(points)]


FLOODS = (("06-03T12:00", "06-03T22:05", 60), ("06-10T12:00", "06-10T22:10", 5), ("06-11T04:00", "06-11T10:15", 60))


@pytest.mark.parametrize("bad", [list, spikes, sentinels, noise, dropouts])
def test_the_floods_are_announced_once_each_however_bad_the_instrument_is(bad: Callable[[Points], Points]) -> None:
    played = Played(bad(run()))
    for begin, crest, minutes in FLOODS:
        raises = [
            t for t in played.of("high", "rise") if at(begin) <= t.boot_s <= at(crest) and t.transition == "raise"
        ]
        assert sorted(t.rule for t in raises) == ["high", "rise"]
        assert min(t.boot_s for t in raises) <= at(crest) - minutes * 60
        clears = [t for t in played.of("high", "rise") if raises[0].boot_s <= t.boot_s <= at(crest)]
        assert "clear" not in [t.transition for t in clears], "no clear in a lull"
    assert sum(t.transition == "raise" for t in played.of("high")) == 3
    spans = [(at(begin), at(crest) + 8 * 3600) for begin, crest, _ in FLOODS]
    beside = [t for t in played.done if not any(begin <= t.boot_s <= end for begin, end in spans)]
    # On 2 June it rose by 0.29 m in an hour: there the ripples may decide.
    assert {(t.rule, t.level) for t in beside} <= {("rise", 1), ("rise", 0)}
    assert len(beside) <= 2, "nothing chatters"
    assert played.unfounded() == []


def test_steps_of_the_wall_clock_change_no_transition() -> None:
    points = run("06-03T12:00", "06-04T12:00")
    stepped = Played(points, lambda t: 3600.0 if at("06-03T18:15") < t < at("06-03T20:30") else -7200.0)
    assert stepped.done == Played(points).done
    assert stepped.told("high")


@pytest.mark.parametrize("silent", [False, True])
def test_a_sensor_torn_away_at_the_crest_leaves_its_alarm_standing(silent: bool) -> None:
    torn, back = at("06-03T21:40"), at("06-04T14:00")
    points = [(t, DEAD if torn <= t < back else v) for t, v in run("06-03T12:00", "06-04T18:00")]
    played = Played([p for p in points if p[1] is not DEAD] if silent else points)
    away = [t for t in played.done if torn <= t.boot_s < back]
    lost = [("run-level-stale", "raise", 3)]
    assert [(t.rule, t.transition, t.level) for t in away if t.rule != "run-level-comm-fail"] == lost
    assert away[-1].boot_s - torn <= 3 * PERIOD_S
    assert min(t.boot_s for t in played.of("high") if t.transition == "clear") >= back + LULL_S
    assert played.unfounded() == []


def test_a_value_that_is_frozen_at_the_crest_ends_no_alarm_of_the_level_and_is_found_out_after_a_day() -> None:
    torn = at("06-03T21:40")
    played = Played([(t, 1.655 if t >= torn else v) for t, v in run("06-03T12:00", "06-05T12:00")])
    after = [t for t in played.done if t.boot_s >= torn]
    assert [(t.rule, t.transition, t.level) for t in after] == [("rise", "clear", 0), ("run-level-stale", "raise", 3)]
    assert played.states["high"].data_lost


def test_a_lull_of_three_hours_over_the_first_threshold_ends_no_alarm_of_the_level() -> None:
    """The flood of 3 June, held for three hours at its first shoulder."""
    stop, hold_s = at("06-03T19:40"), 3 * 3600.0
    points = run("06-03T12:00", "06-04T12:00")
    still = [(stop + s, 0.62) for s in range(PERIOD_S, round(hold_s), PERIOD_S)]
    points = [p for p in points if p[0] <= stop] + still + [(t + hold_s, v) for t, v in points if t > stop]
    played = Played(points)
    lull = [t for t in played.of("high") if stop < t.boot_s <= stop + hold_s]
    assert [(t.rule, t.transition, t.level) for t in lull] == [("high", "deescalate", 1)]
    assert [step for step in played.told("high") if step[1] == "escalate"][-1] == ("high", "escalate", 3)


def test_an_ice_jam_is_one_alarm() -> None:
    """Ice heaps up below the gauge: the water stands 1 m higher within two hours, for two days, with a surface that heaves, and
    goes in twenty minutes when the jam breaks."""
    chance = random.Random(1)
    begin = at("06-14T00:00")

    def stage(s: float) -> float:
        rise_s, hold_s, break_s = 7200.0, 48 * 3600.0, 1200.0
        if s < 6 * 3600:
            return 0.2
        s -= 6 * 3600
        part = min(1.0, s / rise_s) if s < rise_s + hold_s else max(0.0, 1 - (s - rise_s - hold_s) / break_s)
        return 0.2 + part + (chance.uniform(-0.03, 0.03) if part else 0.0)

    played = Played([(begin + s, round(stage(s), 3)) for s in range(0, 72 * 3600, PERIOD_S)])
    assert [step for step in played.told("high") if step[1] == "raise"] == [("high", "raise", 1)]
    assert [step for step in played.told("rise") if step[1] != "clear"] == [("rise", "raise", 1)]
    assert len(played.told("high")) <= 6, "no chatter"
    assert played.unfounded() == []


def test_a_wave_that_takes_the_sensor_with_its_first_value_is_an_alarm_of_that_level() -> None:
    """The one value above counts for nothing by itself, but nothing comes behind it."""
    begin = at("06-01T00:00")
    quiet = [(begin + i * PERIOD_S, 0.2) for i in range(20)]
    wave = begin + 20 * PERIOD_S
    played = Played([*quiet, (wave, 2.4), *((wave + i * PERIOD_S, DEAD) for i in range(1, 5))])
    assert played.told("high") == []
    assert played.told("run-level-stale") == [("run-level-stale", "raise", 3)]
    again = Played([*quiet, (wave, 2.4), (wave + PERIOD_S, 2.6)])
    assert again.told("high") == [("high", "raise", 3)]
