"""From what a device said to what counts: calibration by time of measurement, the air's temperature, tilt."""

import itertools
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.clock import Clock
from common.config import faults
from edge import rules
from edge.alarm_log import AlarmLog
from edge.calibration import (
    Air,
    Around,
    calibrated,
    compensated,
    in_force,
    recalibrated,
    reckoned_sound,
    speed_of_sound,
)
from edge.config import Calibration, EdgeConfig, HighRule, Sensor
from edge.errors import ConfigError
from edge.gateway import Gateway
from edge.journal import Journal
from edge.qc import SensorQc
from edge.qualify import Qualified, qualify
from edge.rules import Observation, SensorRules
from edge.sample import Sample
from edge.sensors.base import Field, FrameError
from edge.service import stations
from edge.transports.build import build
from tests import servers

MAY, JUNE = datetime(2026, 5, 4, 8, 30, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)


def entry(begin: Any, offset: float = 0.0, slope: float = 1.0, quantity: str = "water_level") -> dict[str, Any]:
    return {"quantity": quantity, "from": begin, "by": "J. Dupont", "offset": offset, "slope": slope}


def sensor(**values: Any) -> Sensor:
    driver = {"id": "level-1", "driver": "jsn_sr04t", "port": "unused", "level": {"mounting_height_m": 4.0}}
    return Sensor.model_validate(driver | values)


def sample(
    *fields: Field, side: tuple[Field, ...] = (), error: FrameError | None = None, at: datetime = JUNE
) -> Sample:
    return Sample("s", "level-1", at.timestamp(), 100.0, fields, side, error)


def qualified(
    sensor: Sensor, sample: Sample, around: Around | None = None
) -> tuple[list[Qualified], list[Observation]]:
    return qualify(sensor, sample, SensorQc(sensor), around)


def distance(metres: float) -> Field:
    return Field("water_distance", metres, "m")


# ---------------------------------------------------------------------- calibration


def test_the_entry_in_force_when_it_was_measured_is_applied_and_what_was_measured_can_be_had_back() -> None:
    history = sensor(calibration=[entry(MAY, 0.03), entry(JUNE, -0.02, 1.01)])
    said = {
        at: qualified(history, sample(distance(1.5), at=at))[0][0]
        for at in (MAY - timedelta(seconds=1), MAY, JUNE - timedelta(milliseconds=1), JUNE)
    }
    assert [reading.value for reading in said.values()] == [2.5, 2.53, 2.53, 2.505]
    assert (said[JUNE].value + 0.02) / 1.01 == pytest.approx(2.5, abs=1e-8)
    assert said[JUNE].measured == distance(1.5)


def test_the_water_in_the_blind_zone_is_calibrated_too() -> None:
    blind = sample(error=FrameError("blind_zone", "", at_most_m=0.25))
    (observation,) = qualified(sensor(calibration=[entry(MAY, 0.1)]), blind)[1]
    assert (observation.quantity, observation.value, observation.at_least) == ("water_level", None, 3.85)


DATES = st.lists(st.integers(0, 10_000), unique=True, min_size=1, max_size=6).map(sorted)
NUMBERS = st.floats(-1e5, 1e5, allow_nan=False)


@given(DATES, st.integers(-10, 10_010), NUMBERS, st.floats(0.1, 10), NUMBERS)
def test_each_moment_has_one_entry_and_gives_back_what_was_measured(
    begins: list[int], at_s: int, measured: float, slope: float, offset: float
) -> None:
    history = [
        Calibration.model_validate(entry(datetime.fromtimestamp(begin, UTC), offset + i, slope))
        for i, begin in enumerate(begins)
    ]
    found = in_force(history, "water_level", at_s)
    assert found is (history[sum(begin <= at_s for begin in begins) - 1] if at_s >= begins[0] else None)
    assert in_force(history, "water_temperature", at_s) is None
    published = calibrated(history, "water_level", measured, at_s)
    if found is None:
        assert published == measured
    else:
        assert (published - found.offset) / found.slope == pytest.approx(measured, abs=1e-7)
    again = recalibrated(history, "water_level", published, at_s, 10_010)
    assert again == pytest.approx(calibrated(history, "water_level", measured, 10_010), abs=1e-6)


def said_of(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        sensor(**values)
    return "\n".join(faults(caught.value))


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ([entry(MAY, slope=0)], "slope: Input should be greater than 0, found 0"),
        ([entry(MAY, slope=-1)], "slope: Input should be greater than 0, found -1"),
        ([entry(MAY, slope=math.inf)], "slope: Input should be a finite number"),
        ([entry(MAY), entry(MAY, 1)], "stands after 2026-05-04T08:30:00+00:00, expected later dates, each once"),
        ([entry(JUNE), entry(MAY)], "water_level from 2026-05-04T08:30:00+00:00 stands after 2026-06-01"),
        ([entry(datetime(2026, 5, 4))], "from: Input should have timezone info"),  # noqa: DTZ001
        ([entry(MAY, quantity="water_distance")], "found water_distance, expected water_level"),
        ([entry(MAY, quantity="water_levle")], "water_levle"),
        ([entry(MAY) | {"by": ""}], "by: String should have at least 1 character"),
        ([{"quantity": "water_level", "from": MAY}], "by: missing"),
    ],
)
def test_a_history_that_cannot_be_meant_is_refused(history: list[dict[str, Any]], said: str) -> None:
    assert said in said_of(calibration=history)


def test_entries_of_two_quantities_may_begin_at_one_moment() -> None:
    assert len(sensor(calibration=[entry(MAY), entry(MAY, quantity="water_temperature")]).calibration) == 2


# ---------------------------------------------------------------------- the air


def test_a_distance_is_corrected_for_the_air_and_only_then_becomes_a_level() -> None:
    # At 0 degrees sound is slower than the 340 m/s that the board reckons with: the water is nearer than it says.
    (reading,), _ = qualified(sensor(), sample(distance(2.0)), Around(0, 340.0, 0.0))
    assert reading.value == pytest.approx(4.0 - 2.0 * 331.3 / 340, abs=1e-4)
    assert (reading.qc, reading.measured) == (1, distance(2.0))


def test_without_fresh_air_the_distance_stays_as_it_was_said_and_is_suspect() -> None:
    (reading,), (observation,) = qualified(sensor(), sample(distance(2.0)), Around(0, 340.0, None))
    assert (reading.value, reading.qc) == (2.0, 3)
    assert (observation.value, observation.qc) == (2.0, 3)


def test_a_failed_value_stays_failed_without_fresh_air() -> None:
    narrow = sensor(gross_range={"water_level": {"fail": [0, 1]}})
    assert qualified(narrow, sample(distance(2.0)), Around(0, 340.0, None))[0][0].qc == 4


@given(st.floats(0.2, 10), st.floats(-30, 45), st.floats(-30, 45))
def test_warmer_air_means_water_farther_away_and_the_formula_goes_back(metres: float, a: float, b: float) -> None:
    cold, warm = sorted((a, b))
    near, far = (compensated(metres, Around(0, 340.0, cel))[0] for cel in (cold, warm))
    assert near <= far
    assert far / speed_of_sound(warm) * 340.0 == pytest.approx(metres)


def test_the_speed_of_sound_is_the_textbooks() -> None:
    assert [round(speed_of_sound(cel), 1) for cel in (-20, 0, 20)] == [318.9, 331.3, 343.2]


AGES = st.floats(0, 1000)


@given(st.lists(st.tuples(AGES, st.floats(-300, 100), st.sampled_from([1, 2, 3, 4])), max_size=8), AGES, AGES)
def test_the_air_is_the_newest_good_reading_or_nothing(
    noted: list[tuple[float, float, int]], boot_s: float, max_age_s: float
) -> None:
    air = Air()
    for at, cel, qc in noted:
        air.note("s/air", at, cel, qc)
    assert air.at("s/other", boot_s, max_age_s) is None
    good = [(at, cel) for at, cel, qc in noted if qc in (1, 2) and -60 <= cel <= 80]
    newest = max((at for at, _ in good), default=None)
    if newest is None or abs(boot_s - newest) > max_age_s:
        assert air.at("s/air", boot_s, max_age_s) is None
    else:
        assert air.at("s/air", boot_s, max_age_s) == [cel for at, cel in good if at == newest][-1]


# ---------------------------------------------------------------------- tilt

FLAG = Field("tilted", True, "")


@pytest.mark.parametrize(
    "side",
    [
        FLAG,
        Field("tilt", 21, "deg"),
        Field("acceleration", {"x": 0.0, "y": 0.5, "z": -0.87}, "g"),
        Field("accelerometer", {"x": 0.0, "y": 0.0, "z": 1.0}, "g"),
    ],
)
def test_a_distance_measured_askew_is_no_value_and_the_rules_hear_of_none(side: Field) -> None:
    judged = sensor(tilt={"upright": [0, 0, -1]})
    readings, (observation,) = qualified(judged, sample(distance(1.5), side=(side,)))
    assert readings == []
    assert (observation.bound, observation.comm_ok) == (None, True)


@pytest.mark.parametrize(
    "side",
    [
        Field("tilted", False, ""),
        Field("tilt", 20, "deg"),
        Field("acceleration", {"x": 0.0, "y": 0.1, "z": -1.0}, "g"),
        Field("acceleration", {"x": 0.0, "y": 0.0, "z": 0.0}, "g"),
    ],
)
def test_one_that_hangs_as_it_should_is_a_value(side: Field) -> None:
    (reading,), _ = qualified(sensor(tilt={"upright": [0, 0, -1]}), sample(distance(1.5), side=(side,)))
    assert reading.value == 2.5


@pytest.mark.parametrize("value", ["north", 12.0, [1, 2, 3], {"x": 1.0}])
def test_what_a_device_calls_tilt_or_acceleration_but_is_none_harms_nothing(value: Any) -> None:
    side = (Field("acceleration", value, "g"), Field("tilt", value, ""))
    assert len(qualified(sensor(tilt={"upright": [0, 0, -1]}), sample(distance(1.5), side=side))[0]) == 1


def test_acceleration_is_judged_only_where_upright_is_known() -> None:
    askew = Field("acceleration", {"x": 1.0, "y": 0.0, "z": 0.0}, "g")
    assert len(qualified(sensor(), sample(distance(1.5), side=(askew,)))[0]) == 1


def test_the_other_values_of_a_tilted_device_stay() -> None:
    air = Field("air_temperature", 25.7, "Cel")
    (reading,), (heard, lost) = qualified(sensor(), sample(distance(2.1), air, side=(FLAG,)))
    assert (reading.series, reading.value) == ("s/level-1/air_temperature", 25.7)
    assert (heard.quantity, lost.quantity, lost.value) == ("air_temperature", None, None)
    assert len(qualified(sensor(), sample(air, side=(FLAG,)))[1]) == 1


def test_a_blind_zone_seen_askew_is_no_water_at_the_sensor() -> None:
    blind = FrameError("blind_zone", "", (FLAG,), at_most_m=0.25)
    (observation,) = qualified(sensor(), sample(side=(FLAG,), error=blind))[1]
    assert observation.bound is None


@given(st.lists(st.tuples(st.floats(0.3, 4), st.booleans()), min_size=1, max_size=12))
def test_no_distance_measured_askew_clears_or_raises_anything(said: list[tuple[float, bool]]) -> None:
    rule = HighRule(id="high", kind="high", sensor="level-1", quantity="water_level", levels=(1.0, 2.0))
    watched = SensorRules((rule,), stale_after_s=1e9)
    states: dict[str, rules.AlarmState] = {}
    for metres, askew in said:
        before = states.get("high")
        side = (Field("tilted", askew, ""),)
        for observation in qualified(sensor(), sample(distance(metres), side=side))[1]:
            after, done = rules.observe(watched, states, observation, itertools.count().__str__)
            states |= after
            if askew:
                assert done == []
        if askew and before is not None:
            assert (states["high"].state, states["high"].level) == (before.state, before.level)


# ---------------------------------------------------------------------- the data path

CONFIG = {
    "gateway": {"id": "gw-test-01", "data_dir": "unused"},
    "station": [
        {
            "id": "s", "name": "Essai", "commune": "61031", "lat": 50.5, "lon": 5.2,
            "sensor": [
                {
                    "id": "level-1", "driver": "jsn_sr04t", "port": "/dev/unused0", "level": {"mounting_height_m": 4.0},
                    "air": {"sensor": "air", "max_age_s": 600}, "calibration": [entry(MAY, 0.5)],
                },
                {"id": "air", "driver": "xy_md02", "port": "/dev/unused1"},
            ],
        }
    ],
}  # fmt: skip


class House:
    """A gateway with its journal, which can be stopped and opened again."""

    def __init__(self, tmp_path: Path, config: Any, clock: Clock) -> None:
        self.clock = clock
        self.journal = Journal(tmp_path / "journal", clock)
        self.alarms = AlarmLog(tmp_path / "alarms.db")
        self.gateway = Gateway(EdgeConfig.model_validate(config), clock, self.journal, self.alarms)
        self.journal.open()
        self.gateway.recover(self.alarms.open())
        self.gateway.start()

    def say(self, sensor_id: str, field: Field, ago_s: float = 0) -> None:
        wall, boot = self.clock.wall() - ago_s, self.clock.boot() - ago_s
        self.gateway.post(Sample("s", sensor_id, wall, boot, (field,)))

    def close(self) -> list[tuple[str, float, int]]:
        """What was taken in all."""
        self.gateway.stop()
        rows = [(row.series, row.value, row.qc) for row in self.journal.since(0)]
        self.journal.close()
        self.alarms.close()
        return rows


@pytest.fixture
def clock() -> Clock:
    return Clock(trust="always")


def changed(history: list[dict[str, Any]]) -> dict[str, Any]:
    station = CONFIG["station"][0]  # type: ignore[index]
    level, air = station["sensor"]
    return CONFIG | {"station": [station | {"sensor": [level | {"calibration": history}, air]}]}


def test_another_calibration_changes_no_reading_that_was_taken(tmp_path: Path, clock: Clock) -> None:
    first = House(tmp_path, CONFIG, clock)
    first.say("air", Field("air_temperature", 20.0, "Cel"))
    first.say("level-1", distance(2.0))
    compensated_m = 2.0 * speed_of_sound(20.0) / 340.0
    expected = ("s/level-1/water_level", pytest.approx(4.5 - compensated_m, abs=1e-4), 1)
    assert first.close() == [("s/air/air_temperature", 20.0, 1), expected]

    again = House(tmp_path, changed([entry(MAY, 0.5), entry(datetime.now(UTC) - timedelta(seconds=1), 1.5)]), clock)
    again.say("level-1", distance(2.0))  # the air is known from the journal
    again.say("level-1", distance(2.0), ago_s=60)  # a record that the device kept, from before the new entry
    newer = ("s/level-1/water_level", pytest.approx(5.5 - compensated_m, abs=1e-4), 1)
    assert again.close() == [("s/air/air_temperature", 20.0, 1), expected, newer, expected]


def test_a_new_calibration_is_no_rise_of_the_water(tmp_path: Path, clock: Clock) -> None:
    def config(*history: dict[str, Any]) -> dict[str, Any]:
        station = changed(list(history))["station"][0]
        level, air = station["sensor"]
        rule = {"id": "rise", "kind": "rise", "sensor": "level-1", "quantity": "water_level", "levels": [0.3]}
        return CONFIG | {"station": [station | {"sensor": [level | {"air": None}, air], "rule": [rule]}]}

    before = House(tmp_path, config(), clock)
    for minutes in range(50, 10, -2):
        before.say("level-1", distance(2.0), ago_s=60 * minutes)
    assert {value for _, value, _ in before.close()} == {2.0}
    after = House(tmp_path, config(entry(datetime.now(UTC) - timedelta(minutes=10), 1.0, 1.1)), clock)
    for minutes in range(9, 4, -1):
        after.say("level-1", distance(2.0), ago_s=60 * minutes)
    servers.wait_until(lambda: after.journal.head == 25, 10, "all readings")
    after.say("level-1", distance(2.0))
    servers.wait_until(lambda: after.journal.head == 26, 10, "the next, which is judged after the last was")
    assert after.alarms.unreceipted() == []
    newer = after.close()[-6:]
    assert {value for _, value, _ in newer} == {3.2}
    assert {flag for _, _, flag in newer} <= {1, 2}  # nor a spike


def test_stale_air_makes_the_level_suspect_and_invents_nothing(tmp_path: Path, clock: Clock) -> None:
    house = House(tmp_path, CONFIG, clock)
    house.say("air", Field("air_temperature", 20.0, "Cel"), ago_s=601)
    house.say("level-1", distance(2.0))
    assert house.close()[1] == ("s/level-1/water_level", 2.5, 3)


def test_a_clock_that_was_never_set_has_the_newest_calibration(tmp_path: Path) -> None:
    class Unset(Clock):
        def synchronised(self) -> bool:
            return False

    house = House(tmp_path, changed([entry(datetime.now(UTC) + timedelta(days=365), 1.5)]), Unset())
    house.say("level-1", distance(2.0))
    assert house.close() == [("s/level-1/water_level", 3.5, 3)]


def test_the_log_says_once_that_a_device_hangs_askew_and_once_that_it_does_not(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "edge.latest")
    house = House(tmp_path, CONFIG, clock)
    battery = (Field("air_temperature", 20.0, "Cel"),)
    for askew, fields in (
        (True, (distance(2.0),)),
        (False, battery),
        (True, (distance(2.0), *battery)),
        (False, (distance(2.0),)),
    ):
        now = (clock.wall(), clock.boot())
        house.gateway.post(Sample("s", "level-1", *now, fields, (Field("tilted", askew, ""),)))
    house.close()
    said = [record.getMessage() for record in caplog.records if "hangs" in record.getMessage()]
    assert said == ["s/level-1 hangs askew: its distance is not taken", "s/level-1 hangs as it should again"]


def test_health_keeps_what_the_device_said_and_its_tilt(tmp_path: Path, clock: Clock) -> None:
    told: dict[str, float] = {}

    class Ear:
        connected = True

        def wake(self) -> None: ...

        def publish_active(self) -> None: ...

        def publish_health(self, pack: Any) -> None:
            told.update({record["n"]: record["v"] for record in pack})

    config = EdgeConfig.model_validate(CONFIG)
    journal, alarms = Journal(tmp_path / "journal", clock), AlarmLog(tmp_path / "alarms.db")
    gateway = Gateway(config, clock, journal, alarms)
    gateway.attach(Ear())
    journal.open()
    gateway.recover(alarms.open())
    now = (clock.wall(), clock.boot())
    gateway.post(Sample("s", "level-1", *now, (distance(2.0),), (Field("tilted", False, ""),)))
    gateway.post(Sample("s", "level-1", *now, (distance(2.0),), (FLAG,)))
    gateway.start()
    servers.wait_until(lambda: told.get("s/level-1/tilted") == 1, 10, "health")
    gateway.stop()
    journal.close()
    alarms.close()
    assert (told["s/level-1/water_distance"], told["s/level-1/missed"]) == (2.0, 1)


# ---------------------------------------------------------------------- the configuration


def test_the_stations_carry_the_history() -> None:
    (station,) = stations(EdgeConfig.model_validate(CONFIG), MAY.date()).stations
    (told,) = station.sensors[0].calibration
    assert told.model_dump() == {
        "quantity": "water_level", "since": "2026-05-04T08:30:00.000+00:00", "by": "J. Dupont", "offset": 0.5, "slope": 1.0
    }  # fmt: skip


def test_a_calibration_of_what_the_sensor_does_not_measure_is_refused(clock: Clock) -> None:
    wrong = EdgeConfig.model_validate(changed([entry(MAY, quantity="pm10")]))
    with pytest.raises(ConfigError, match="sensor s/level-1: calibration of pm10, expected of one of water_level"):
        build(wrong, clock, lambda _: None)


def test_air_for_a_device_that_compensates_by_itself_is_refused(tmp_path: Path, clock: Clock) -> None:
    station = CONFIG["station"][0]  # type: ignore[index]
    level, air = station["sensor"]
    compensating = {"driver": "maxbotix", "options": {"model": "MB7389"}}
    for driver in ({"driver": "xy_md02"}, {"options": {"model": "JSN-SR04T-V3.3"}}, compensating):
        config = CONFIG | {"station": [station | {"sensor": [level | driver, air]}]}
        with pytest.raises(ConfigError, match=r"sensor level-1: air: found for .*, expected none"):
            House(tmp_path, config, clock)


def test_a_device_reckons_with_the_speed_of_its_maker() -> None:
    air = {"sensor": "air"}
    known = {"MB7060": 344.7, "LV-MaxSonar": 344.7}
    found = {m: reckoned_sound(sensor(driver="maxbotix", options={"model": m}, air=air)) for m in known}
    assert found == known
    assert speed_of_sound(22.5) == pytest.approx(344.7, abs=0.05)  # the temperature that they assume
    assert reckoned_sound(sensor(air=air)) == 340.0
    assert reckoned_sound(sensor()) is None


def test_air_of_an_unknown_sensor_is_refused() -> None:
    station = CONFIG["station"][0]  # type: ignore[index]
    with pytest.raises(ValidationError, match=r"air\.sensor 'air' is unknown, expected one of none"):
        EdgeConfig.model_validate(CONFIG | {"station": [station | {"sensor": [station["sensor"][0]]}]})
