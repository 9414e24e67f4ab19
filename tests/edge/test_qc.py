"""Quality control: against ioos_qc on measured series, what it promises whatever comes in, and the cases that matter."""

import csv
import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import FlatLine, GrossRange, Rate, Sensor, Spike
from edge.qc import FlatLineTest, RateTest, SensorQc, SeriesQc, SpikeTest, aggregate, gross_range, history_s
from edge.qualify import Qualified, qualify
from edge.rules import Observation
from edge.sample import Sample
from edge.sensors.base import Field

ROOT = Path(__file__).parents[2]
REFERENCE = json.loads((Path(__file__).parent / "ioos_flags.json").read_text(encoding="utf-8"))
RIVER = "demo/replay/usgs_01589330_deadrun_2018-06_5min.csv"
H = 3600.0

Points = list[tuple[float, float]]


def measured(path: str, time: str, column: str, where: dict[str, str]) -> Points:
    """Unix s and value, in order; rows without a value are left out."""
    with (ROOT / path).open(encoding="utf-8") as file:
        return sorted(
            (datetime.fromisoformat(row[time]).timestamp(), float(row[column]))
            for row in csv.DictReader(file)
            if row[column] and all(row[key] == value for key, value in where.items())
        )


def river() -> Points:
    return measured(RIVER, "time_utc", "gage_height_m", {})


def sensor(**more: Any) -> Sensor:
    return Sensor.model_validate({"id": "s", "driver": "x", "port": "unused", **more})


def flags(quantity: str, points: Points, **more: Any) -> list[int]:
    series = SeriesQc(sensor(**more), quantity)
    return [series.judge(t, v).flag for t, v in points]


# ---------------------------------------------------------------------- against ioos_qc


def ours(case: dict[str, Any], points: Points) -> list[int]:
    limits = {key: case[key] for key in case.keys() - {"test", "file", "time", "column", "where", "flags"}}
    match case["test"]:
        case "gross_range":
            span = GrossRange.model_validate(limits)
            return [gross_range(value, span) for _, value in points]
        case "spike":
            spike = SpikeTest(Spike.model_validate(limits))
            return [*[spike.flag(t, v) for t, v in points][1:], 2]  # each tells of the one before
        case "rate":
            rate = RateTest(Rate.model_validate(limits))
            return [rate.flag(t, v) for t, v in points]
        case "flat_line":
            flat = FlatLineTest(FlatLine.model_validate(limits))
            return [flat.flag(t, v) for t, v in points]
    raise AssertionError(case["test"])


def differences(case: dict[str, Any], points: Points) -> list[tuple[int, int, int]]:
    theirs = [flag for flag, count in case["flags"] for _ in range(count)]
    return [(i, a, b) for i, (a, b) in enumerate(zip(ours(case, points), theirs, strict=True)) if a != b]


@pytest.mark.parametrize(
    "case",
    REFERENCE["cases"],
    ids=lambda c: "-".join(
        [c["test"], c["column"], *c["where"].values(), str(c.get("suspect_s", c.get("change", c.get("suspect"))))]
    ),
)
def test_our_flags_are_those_of_ioos_qc(case: dict[str, Any]) -> None:
    points = measured(case["file"], case["time"], case["column"], case["where"])
    found = differences(case, points)
    if case["test"] == "rate":
        assert found[0] == (0, 2, 1), "the first has no neighbour: not evaluated, where ioos_qc says good"
        found = found[1:]
    if case["test"] == "spike":
        far = [
            i
            for i in range(1, len(points) - 1)
            if max(points[i][0] - points[i - 1][0], points[i + 1][0] - points[i][0]) > H
        ]
        assert [i for i, mine, _ in found] == [i for i, mine, _ in found if i in far and mine == 2]
        return
    assert found == []


def test_the_reference_shows_every_flag_of_every_test() -> None:
    shown: dict[str, set[int]] = {}
    for case in REFERENCE["cases"]:
        shown.setdefault(case["test"], set()).update(flag for flag, _ in case["flags"])
    assert shown == {"gross_range": {1, 3, 4}, "spike": {1, 2, 3, 4}, "rate": {1, 3}, "flat_line": {1, 3, 4}}


# ---------------------------------------------------------------------- whatever comes in

QUANTITIES = ("water_level", "pm2_5", "relative_humidity", "air_temperature", "rainfall", "co2")
values = st.one_of(
    st.integers(-2, 40).map(lambda n: n / 4), st.just(0.0), st.sampled_from((-9998.0, 7999.0)), st.floats(-1e9, 1e9)
)
waits = st.sampled_from((0.1, 1.0, 29.0, 30.0, 60.0, 900.0, 3600.0, 5 * H, 13 * H))


@st.composite
def series(draw: st.DrawFn) -> Points:
    t, points = draw(st.floats(0, 1e6)), []
    for wait, value in draw(st.lists(st.tuples(waits, values), max_size=40)):
        t += wait
        points.append((t, value))
    return points


@given(st.sampled_from(QUANTITIES), series(), series())
def test_no_flag_depends_on_what_comes_later(quantity: str, points: Points, later: Points) -> None:
    assert flags(quantity, points + later)[: len(points)] == flags(quantity, points)


@given(st.sampled_from(QUANTITIES), series(), st.integers(0, 40))
def test_a_restart_changes_no_flag(quantity: str, points: Points, cut: int) -> None:
    checks = SensorQc(sensor())
    for t, v in points[:cut]:
        checks.remember(t, quantity, v)
    assert [checks.judge(t, [(quantity, v)])[0].flag for t, v in points[cut:]] == flags(quantity, points)[cut:]


@given(st.sampled_from(QUANTITIES[:4]), series(), st.data())
def test_repeated_and_late_readings_change_no_other_flag(quantity: str, points: Points, data: st.DataObject) -> None:
    one = SeriesQc(sensor(), quantity)
    seen: list[int] = []
    for t, v in points:
        seen.append(one.judge(t, v).flag)
        if data.draw(st.booleans()):
            late = data.draw(values)
            verdict = one.judge(t - data.draw(st.sampled_from((0.0, 1.0, 7000.0))), late)
            assert set(verdict.findings) <= {"gross_range"}
    assert seen == flags(quantity, points)


@given(st.sampled_from(QUANTITIES), series())
def test_only_what_cannot_be_and_what_is_stuck_fails(quantity: str, points: Points) -> None:
    one = SeriesQc(sensor(), quantity)
    for t, v in points:
        verdict = one.judge(t, v)
        assert verdict.flag in (1, 2, 3, 4)
        assert verdict.flag != 4 or {"gross_range", "flat_line"} & set(verdict.findings)
        assert (verdict.flag in (3, 4)) == bool(verdict.findings)
        assert v != 0 or verdict.flag != 4, "a zero is a value, however long it lasts"


@given(st.lists(st.tuples(st.sampled_from((60.0, 600.0, 2000.0, 2500.0)), st.integers(0, 3)), max_size=60))
def test_flat_for_as_long_as_all_readings_say(steps: list[tuple[float, int]]) -> None:
    limit = FlatLine(tolerance=1.5, suspect_s=4000, fail_s=6000)
    one, t, run = FlatLineTest(limit), 0.0, []
    for wait, value in steps:
        t += wait
        run = [*run, (t, value)] if wait <= limit.suspect_s / 2 else [(t, value)]
        while max(v for _, v in run) - min(v for _, v in run) >= limit.tolerance:
            run = run[1:]
        flat_s = t - run[0][0]
        assert one.flag(t, value) == (4 if flat_s >= 6000 else 3 if flat_s >= 4000 else 1)


def test_the_state_stays_small() -> None:
    one = FlatLineTest(FlatLine(tolerance=1.0, suspect_s=50_000, fail_s=90_000))
    found = [one.flag(float(t), t * 1e-6) for t in range(20_000)]  # it creeps, and every reading is a new extreme
    assert set(found) == {1}
    assert len(one._low) + len(one._high) < 600
    rate = RateTest(Rate(change=1, within_s=1))
    for t in range(10_000):
        rate.flag(t / 6, 0.0)
    assert len(rate._past) < 15


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -9999.0])
def test_what_is_no_value_gives_no_reading(value: float) -> None:
    checks = SensorQc(sensor(level={"mounting_height_m": 4.2}))
    sample = Sample("a", "s", 0.0, 100.0, (Field("water_distance", value, "m"),))
    readings, observations = qualify(sensor(level={"mounting_height_m": 4.2}), sample, checks)
    assert readings == []
    assert observations == [Observation(boot_s=100.0, quantity=None, value=None, qc=9)], "it answered: no comm_fail"
    assert checks.found == {"water_distance/qc_missing": 1}


# ---------------------------------------------------------------------- the cases that matter


def test_three_real_floods_are_never_failed() -> None:
    found = flags("water_level", river())
    assert set(found) == {1}


def test_the_onset_of_a_flash_flood_is_of_high_interest_and_usable() -> None:
    low = [(60.0 * i, 0.30 + 0.001 * (i % 2)) for i in range(30)]
    wave = [(1800 + 60.0 * i, 0.3 + 0.4 * i) for i in range(1, 8)]  # 2.8 m in seven minutes
    found = flags("water_level", low + wave)
    assert found[30:] == [3] * 7
    single = flags("water_level", [*low, (1860.0, 3.0)])
    assert single[-1] == 3, "one reading that jumps may be the wave: an on-delay, not its flag, tells a spike from it"


def test_a_spike_is_told_one_reading_late_and_rewrites_nothing() -> None:
    checks = SensorQc(sensor())
    levels = [0.50, 0.51, 0.90, 0.52, 0.53]
    given_flags = [checks.judge(300.0 * i, [("water_level", v)])[0].flag for i, v in enumerate(levels)]
    assert given_flags == [1, 1, 3, 3, 1], "the step up and the step down are rates; the spike is not yet known"
    assert checks.found == {"water_level/qc_rate": 2, "water_level/qc_spike": 1}


def test_a_stuck_level_fails_after_a_day_and_is_well_at_its_first_change() -> None:
    stuck = [(600.0 * i, 1.234) for i in range(200)]
    found = flags("water_level", [*stuck, (120_000.0, 1.250)])
    assert [found.index(3) * 600 / H, found.index(4) * 600 / H] == [12, 24]
    assert found[-1] == 1


@given(st.integers(-2000, 20_000))
def test_a_level_that_flickers_by_a_millimetre_is_not_flat(mm: int) -> None:
    two = mm / 1000, (mm + 1) / 1000
    assert set(flags("water_level", [(3600.0 * i, two[i % 2]) for i in range(30)], rate={"water_level": False})) == {1}


def test_a_dry_bed_is_suspect_and_never_failed() -> None:
    found = flags("water_level", [(600.0 * i, 0.0) for i in range(2000)])
    assert set(found) == {1, 3}
    assert set(flags("rainfall", [(600.0 * i, 0.0) for i in range(2000)])) == {1, 2}


def test_two_equal_readings_on_either_side_of_an_outage_are_not_flat() -> None:
    assert flags("water_level", [(0.0, 1.0), (60.0, 1.0), (30 * H, 1.0), (30 * H + 60, 1.0)]) == [1] * 4


def test_a_test_can_be_set_and_switched_off_by_quantity() -> None:
    stuck = [(600.0 * i, 1.234) for i in range(200)]
    assert set(flags("water_level", stuck, flat_line={"water_level": False})) == {1}
    short = {"water_level": {"tolerance": 0.001, "suspect_s": 1200, "fail_s": 1800}}
    assert flags("water_level", stuck, flat_line=short)[:4] == [1, 1, 3, 4]
    assert flags("water_level", [(0, 1.0), (60, 1.2)]) == [1, 3]
    assert flags("water_level", [(0, 1.0), (60, 1.2)], rate={"water_level": False}) == [1, 1]


def test_frames_that_flicker_by_a_millimetre_have_no_rate() -> None:
    assert set(flags("water_level", [(i / 6, 1.0 + 0.001 * (i % 2)) for i in range(1000)])) == {1}


def test_what_lies_outside_the_range_is_nobodys_neighbour() -> None:
    points = [(0.0, 1.0), (60.0, 7999.0), (120.0, 1.01), (180.0, -500.0), (240.0, 1.0)]
    assert flags("water_level", points) == [1, 4, 1, 4, 1]


def test_rain_is_judged_by_the_hour() -> None:
    points = [(0.0, 50.0), (600.0, 20.0), (1200.0, 30.0), (1800.0, 60.0), (1801.0, 0.2), (1802.0, -0.2)]
    assert flags("rainfall", points) == [2, 1, 3, 4, 1, 4], "an unknown time; 120, 180, 360 mm/h; a tip a second later"


def test_dust_against_itself_and_against_humid_air() -> None:
    checks = SensorQc(sensor())

    def seen(t: float, pm2_5: float, pm10: float, humidity: float | None) -> list[tuple[int, tuple[str, ...]]]:
        return [(v.flag, v.findings) for v in checks.judge(t, [("pm2_5", pm2_5), ("pm10", pm10)], humidity)]

    assert seen(0, 20.0, 30.0, None) == [(1, ())] * 2
    assert seen(60, 30.5, 30.0, 80.0) == [(1, ())] * 2, "within what counters differ by; not yet humid"
    assert seen(120, 40.0, 30.0, None) == [(3, ("pm_order",))] * 2
    assert seen(180, 20.0, 30.0, 81.0) == [(3, ("humidity",))] * 2
    assert seen(240, 40.0, 30.0, 99.0) == [(3, ("pm_order", "humidity"))] * 2
    assert seen(300, 1500.0, 30.0, 99.0)[0][0] == 4, "what cannot be stays a 4"


def test_the_humidity_of_the_sample_itself_comes_first() -> None:
    fields = (Field("pm2_5", 9.0, "ug/m3"), Field("relative_humidity", 60.0, "%RH"))
    sample = Sample("a", "s", 0.0, 100.0, fields)
    readings, _ = qualify(sensor(), sample, SensorQc(sensor()), humidity=95.0)
    assert readings == [Qualified("a/s/pm2_5", 9.0, 1), Qualified("a/s/relative_humidity", 60.0, 1)]


def test_the_worst_flag_wins() -> None:
    assert [aggregate(f) for f in ([], [2], [2, 1], [1, 3, 2], [3, 4, 1])] == [2, 2, 1, 3, 4]


def test_the_past_that_is_wanted_is_that_of_the_longest_test() -> None:
    assert history_s(sensor()) == 36 * H
    assert history_s(sensor(flat_line={"co2": {"tolerance": 1, "suspect_s": 48 * H}})) == 72 * H
