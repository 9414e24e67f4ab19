"""Running means, BelAQI and smog thresholds: by the published tables, on measured series, and whatever comes in."""

import csv
import math
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.air import BELAQI_DAILY, BELAQI_HOURLY, SMOG, Means, RunningMeans, belaqi, indicators, smog

ROOT = Path(__file__).parents[2]
H = 3600.0


def run(points: list[tuple[float, float]], period_s: float = 60.0) -> list[Means]:
    means = RunningMeans(period_s)
    return [found for t, v in points if (found := means.add(t, v))]


def constant(value: float, hours: float, every_s: float = 60.0, from_s: float = 0.0) -> list[tuple[float, float]]:
    return [(from_s + i * every_s, value) for i in range(math.ceil(hours * H / every_s) + 1)]


def measured(path: str, value: str, **where: str) -> list[tuple[float, float]]:
    with (ROOT / path).open(encoding="utf-8") as file:
        return sorted(
            (datetime.fromisoformat(row["time_utc"]).timestamp(), float(row[value]))
            for row in csv.DictReader(file)
            if all(row[key] == wanted for key, wanted in where.items())
        )


def test_a_steady_day_has_each_mean_as_soon_as_three_quarters_are_there() -> None:
    found = run(constant(12.0, 30))
    assert [m.end_s / H for m in found] == list(range(1, 31))
    assert [m.h1 for m in found] == [12.0] * 30
    assert next(m.end_s / H for m in found if m.h8 is not None) == 6
    assert next(m.end_s / H for m in found if m.h24 is not None) == 18
    assert next(m.end_s / H for m in found if m.max_h8 is not None) == 6 + 17
    assert {m.h24 for m in found} == {None, 12.0}


@pytest.mark.parametrize(("minutes", "valid"), [(44, False), (45, True), (60, True)])
def test_an_hour_needs_45_minutes(minutes: int, valid: bool) -> None:
    points = [(60.0 * i, 5.0) for i in range(minutes)]
    assert run([*points, (H, 5.0)])[0].h1 == (5.0 if valid else None)


@pytest.mark.parametrize(("hours", "valid"), [(5, False), (6, True)])
def test_eight_hours_need_six(hours: int, valid: bool) -> None:
    points = constant(5.0, 8)
    silent = [p for p in points if not H <= p[0] < (9 - hours) * H]
    assert (run(silent)[-1].h8 is not None) == valid


def test_an_outage_empties_the_means_and_a_long_one_all_of_them() -> None:
    short = run(constant(5.0, 24) + constant(5.0, 1, from_s=27 * H))
    at_27 = next(m for m in short if m.end_s == 27 * H)
    assert (at_27.h1, at_27.h8, at_27.h24) == (None, None, 5.0)
    long = run(constant(5.0, 24) + constant(5.0, 1, from_s=1000 * H))
    at_1000 = next(m for m in long if m.end_s == 1000 * H)
    assert (at_1000.h1, at_1000.h8, at_1000.h24, at_1000.max_h8) == (None, None, None, None)


def test_a_burst_of_frames_weighs_no_more_than_its_time() -> None:
    calm = [(60.0 * i, 10.0) for i in range(60)]
    burst = [(1800 + i / 10, 100.0) for i in range(1, 300)]  # ten a second, for half a minute
    assert run(sorted([*calm, *burst, (H, 10.0)]))[0].h1 == pytest.approx(10 + 90 * 30 / 3600, rel=0.02)


@pytest.mark.parametrize("every_s", [1.0, 148.0, 1200.0, H])
def test_a_sensor_covers_its_hour_at_its_own_period(every_s: float) -> None:
    assert run(constant(7.0, 26, every_s), max(every_s, 60.0))[-1].h24 == pytest.approx(7.0)


times = st.lists(st.tuples(st.sampled_from((0.0, -60.0, 1.0, 60.0, 900.0, 4000.0, 30 * H)), st.floats(0, 1000)))


@given(times)
def test_means_lie_between_what_was_measured_and_depend_on_nothing_later(steps: list[tuple[float, float]]) -> None:
    t, points = 1e6, []
    for wait, value in steps:
        t += wait
        points.append((t, value))
    found = run(points)
    assert [m.end_s for m in found] == sorted({m.end_s for m in found})
    for cut in range(len(points)):
        part = run(points[:cut])
        assert found[: len(part)] == part
    values = [v for _, v in points]
    for m in found:
        for mean in (m.h1, m.h8, m.h24, m.max_h8):
            assert mean is None or min(values) - 1e-9 <= mean <= max(values) + 1e-9


def test_bonfire_night_exceeds_the_information_threshold_for_fine_dust_and_the_alert_for_pm10() -> None:
    path = "demo/replay/sensorcommunity_aberdeen_2018-11_sds011.csv"
    for sensor in ("5331", "8554", "8733"):
        fine = run(measured(path, "pm25_ugm3", sensor=sensor), 150)
        coarse = run(measured(path, "pm10_ugm3", sensor=sensor), 150)
        pm2_5 = max(m.h24 for m in fine if m.h24 is not None)
        pm10 = max(m.h24 for m in coarse if m.h24 is not None)
        assert SMOG["pm2_5"][0] < pm2_5 < SMOG["pm2_5"][1]
        assert SMOG["pm10"][1] < pm10 < SMOG["pm10"][2]
        assert smog({"pm2_5": pm2_5, "pm10": pm10}) == 2


def test_the_gaps_of_a_reference_station_make_no_mean() -> None:
    path = "tests/replay/openaq_2019-05_antwerp_paris_london_hourly.csv"
    for station, days in (("BETR801", 1), ("FR04014", 65)):
        points = measured(path, "value", location=station, parameter="no2")
        value = {round(t / H): v for t, v in points}
        valid = 0
        for m in run(points, H):
            last_24 = [value[h] for h in range(round(m.end_s / H) - 24, round(m.end_s / H)) if h in value]
            expected = sum(last_24) / len(last_24) if len(last_24) >= 18 else None
            assert m.h24 == pytest.approx(expected)
            valid += m.h24 is not None
        assert days * 24 <= valid < len(points), station


# IRCEL-CELINE, November 2022: each bound belongs to the index below it.
@pytest.mark.parametrize("bounds", [BELAQI_HOURLY, BELAQI_DAILY])
@pytest.mark.parametrize("quantity", ["pm2_5", "pm10", "no2", "o3"])
def test_each_bound_is_the_end_of_its_index(bounds: dict[str, tuple[float, ...]], quantity: str) -> None:
    assert len(bounds[quantity]) == 9
    assert list(bounds[quantity]) == sorted(bounds[quantity])
    for index, bound in enumerate(bounds[quantity], 1):
        assert belaqi({quantity: bound}, bounds) == index
        assert belaqi({quantity: bound + 0.001}, bounds) == index + 1
    assert belaqi({quantity: 0.0}, bounds) == 1


def test_the_index_is_that_of_the_worst_substance_and_none_without_any() -> None:
    assert belaqi({"pm2_5": 3.0, "pm10": 81.0, "no2": None}, BELAQI_HOURLY) == 7
    assert belaqi({"pm2_5": None, "co2": 400.0}, BELAQI_HOURLY) is None
    assert belaqi({}, BELAQI_DAILY) is None


@pytest.mark.parametrize(
    ("pm10", "pm2_5", "reached"),
    [(49.9, 34.9, 0), (50, None, 1), (10, 35, 1), (70, 35, 2), (10, 50, 2), (149, 500, 2), (150, 0, 3), (None, None, None)],
)  # fmt: skip
def test_the_smog_thresholds(pm10: float | None, pm2_5: float | None, reached: int | None) -> None:
    assert smog({"pm10": pm10, "pm2_5": pm2_5}) == reached


def test_what_a_sensor_tells_of_its_air() -> None:
    means = {"pm2_5": Means(H, 12.3456, None, 34.9, None), "o3": Means(H, 31.0, 99.0, 5.0, 100.0)}
    assert indicators(means) == {
        "pm2_5_mean_1h": 12.346,
        "pm2_5_mean_24h": 34.9,
        "o3_mean_1h": 31.0,
        "o3_mean_8h": 99.0,
        "o3_mean_24h": 5.0,
        "belaqi_hourly_indicative": 4,
        "belaqi_daily_indicative": 7,
        "smog_indicative": 0,
    }
    assert indicators({"pm10": Means(H, None, None, None, None)}) == {}
