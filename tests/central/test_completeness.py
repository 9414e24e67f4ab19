"""What a station should have measured and what is stored: days in Belgium, gaps with their times, on real databases."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from central import completeness, config
from central.completeness import CompletenessWriter, bounds
from central.db import Database
from central.holding import Holding
from central.ranges import Gap, Ranges
from central.registry import Registry
from central.store.base import Reading, Series
from central.store.embedded import Embedded
from common.clock import Clock
from tests.central.test_cli_views import run
from wire.station import Stations

GW, HUY = "gw-huy-01", "h-huy"
DAY = date(2026, 7, 14)
LEVEL = Series("water_level", {"gateway": GW, "station": HUY, "sensor": "level-1"})
DESCRIBED = {
    "stations": [
        {
            "id": HUY, "name": "Huy", "commune": "61031", "lat": 50.5, "lon": 5.2,
            "sensors": [
                {"id": "level-1", "driver": "maxbotix", "quantities": [
                    {"quantity": "water_level", "period_s": 60}, {"quantity": "rainfall", "period_s": 0}]}
            ],
        }
    ]
}  # fmt: skip


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class Central:
    def __init__(self, state_at: Path | str, data: Path, now: str) -> None:
        self.now = unix(now)
        self.clock = Clock(boottime=lambda: self.now, walltime=lambda: self.now)
        self.db = Database(state_at)
        self.db.open()
        stations = (config.Station(id=HUY, gateway=GW, commune="61031", name="Huy"),)
        self.registry = Registry(stations, Holding(self.db))
        self.registry.publish(GW, Stations.model_validate(DESCRIBED))
        self.ranges = Ranges(self.db, self.clock, {GW}.__contains__)
        self.store = Embedded(data / "store.db")
        self.store.setup()

    def measured(self, start_s: float, count: int, period_s: float = 60) -> None:
        self.store.write([Reading(LEVEL, 0.0, 1, round((start_s + i * period_s) * 1000)) for i in range(count)])

    def day(self, of: date = DAY) -> completeness.StationDay:
        self.ranges.save()
        (found,) = completeness.of_stations(self.store, self.registry, self.ranges, [HUY], [of], self.now)
        return found


@pytest.fixture
def central(tmp_path: Path, state_at: Path | str):
    made = Central(state_at, tmp_path, "2026-07-14T23:00")
    yield made
    made.store.close()
    made.db.close()


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-07-14", 24), ("2026-10-25", 25)])
def test_a_day_is_as_long_as_it_is_in_belgium(day: str, hours: int) -> None:
    start_s, end_s = bounds(date.fromisoformat(day))
    assert end_s - start_s == hours * 3600
    assert start_s % 3600 == 0, "hours of the ranges and days agree"


def test_what_was_expected_and_is_not_stored_is_missing(central: Central) -> None:
    central.measured(bounds(DAY)[0], 1400)
    central.ranges.add(GW, "j", 1, 1400, newest_ms=round(bounds(DAY)[0] * 1000), thinned=25)
    found = central.day()
    assert (found.expected, found.stored, found.missing, found.thinned) == (1440, 1400, 40, 25)


def test_a_running_day_expects_what_is_due_by_now(central: Central) -> None:
    central.now = bounds(DAY)[0] + 3600
    assert central.day()[3:] == (60, 0, 60, 0)
    assert central.day(date(2026, 7, 15))[3:] == (0, 0, 0, 0)


def test_more_than_expected_of_one_quantity_hides_no_lack_of_another(central: Central) -> None:
    rain = Series("rainfall", {"gateway": GW, "station": HUY, "sensor": "level-1"})
    central.store.write([Reading(rain, 0.2, 1, round(bounds(DAY)[0] * 1000) + i) for i in range(50)])
    central.measured(bounds(DAY)[0], 1430)
    assert central.day()[3:6] == (1490, 1480, 10)


def test_a_gap_lies_between_the_hours_of_its_neighbours_and_repeats_are_counted(central: Central) -> None:
    at = unix("2026-07-14T10:30") * 1000
    central.ranges.add(GW, "j", 1, 100, newest_ms=round(at))
    central.ranges.save()
    central.ranges.add(GW, "j", 91, 100, newest_ms=round(at))
    central.ranges.add(GW, "j", 151, 200, newest_ms=round(at) + 3 * 3_600_000)
    central.ranges.save()
    (gap,) = completeness.gaps(central.ranges, GW, *bounds(DAY))
    assert gap.gap == Gap("j", 101, 150)
    assert (gap.after_s, gap.before_s) == (unix("2026-07-14T10:00"), unix("2026-07-14T14:00"))
    assert completeness.gaps(central.ranges, GW, *bounds(date(2026, 7, 13))) == []
    assert completeness.gateway_day(central.ranges, GW, DAY).duplicate == 10


def test_it_is_written_once_however_often_it_is_counted(central: Central) -> None:
    writer = CompletenessWriter(central.store, central.registry, central.ranges, central.clock)
    writer.write()
    central.measured(bounds(DAY)[0], 10)
    central.now += 600
    assert writer.write() == central.now + 3600
    rows = central.store.dump("completeness", 0, 2**42)
    assert [r.tags for r in rows] == [{"station": HUY}] * 2, "a day with nothing before yesterday is not made up"
    start_s = bounds(date(2026, 7, 15))[0]
    today = central.store.dump("completeness", round(start_s * 1000), 2**42)
    assert len(today) == 1
    assert set(today[0].fields) == {"expected", "stored", "missing", "thinned"}
    assert central.store.series("completeness", {}, "stored", round(bounds(DAY)[0] * 1000), round(start_s * 1000)) == [
        (round(bounds(DAY)[0] * 1000), 10)
    ]


def test_the_command_lists_days_and_gaps_beside_a_running_central(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    central = Central(data / "central.db", data, "2026-07-14T23:00")
    start_s = bounds(DAY)[0]
    central.measured(start_s, 1390)
    central.ranges.add(GW, "j", 1, 1000, newest_ms=round(start_s * 1000) + 60_000_000)
    central.ranges.add(GW, "j", 1051, 1440, newest_ms=round(start_s * 1000) + 80_000_000)
    central.ranges.save()
    file = tmp_path / "central.toml"
    file.write_text(
        f'data_dir = "{data}"\n[mqtt]\nhost = "127.0.0.1"\n[[station]]\nid = "{HUY}"\ngateway = "{GW}"\n'
        'commune = "61031"\nname = "Huy"\n'
    )
    period = ("--from", "2026-07-14", "--to", "2026-07-14", "-c", str(file))
    done = run("completeness", *period, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["stations"][0]["missing"] == 50
    assert (said["gaps"][0]["first"], said["gaps"][0]["last"]) == (1001, 1050)
    table = run("completeness", *period)
    assert "96.53 %" in table.stdout
    central.store.close()
    central.db.close()
