"""Quality control in the gateway's data path: over restarts, across the sensors of a station, and in its health."""

import csv
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from common.clock import Clock
from edge.alarm_log import AlarmLog
from edge.config import EdgeConfig
from edge.gateway import Gateway, NoUplink
from edge.journal import Journal, NewRow, Row
from edge.sample import Sample
from edge.sensors.base import Field
from tests import servers
from wire.alarm import AlarmEvent
from wire.senml import Record

CONFIG = EdgeConfig.model_validate(
    {
        "gateway": {"id": "gw-test-01", "data_dir": "unused"},
        "station": [
            {
                "id": "huy", "name": "Essai", "commune": "61031", "lat": 50.5, "lon": 5.2,
                "sensor": [
                    {"id": "level", "driver": "maxbotix", "port": "unused", "level": {"mounting_height_m": 5.0}},
                    {"id": "dust", "driver": "sds011", "port": "unused", "period_s": 150},
                    {"id": "climate", "driver": "xy_md02", "port": "unused"},
                ],
                "rule": [
                    {"id": "pm10-day", "kind": "high", "sensor": "dust", "quantity": "pm10", "mean_h": 24,
                     "levels": [50, 70, 150], "deadband": 5},
                    {"id": "pm10-now", "kind": "high", "sensor": "dust", "quantity": "pm10", "levels": [1000]},
                ],
            }
        ],
    }
)  # fmt: skip
BONFIRE = "demo/replay/sensorcommunity_aberdeen_2018-11_sds011.csv"


class Health(NoUplink):
    """Keeps the gateway's health as central would get it."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def publish_health(self, pack: Sequence[Record]) -> None:
        self.values = {str(record["n"]): float(record["v"]) for record in pack}


class House:
    """A gateway with its journal, on a machine that runs for days."""

    def __init__(self, data: Path, boot_id: str | None = None) -> None:
        self.clock = Clock(trust="always", boottime=lambda: 1e6 + time.clock_gettime(time.CLOCK_BOOTTIME))
        if boot_id:
            self.clock.boot_id = boot_id
        self.journal = Journal(data / "journal", self.clock)
        self.alarms = AlarmLog(data / "alarms.db")
        self.health = Health()
        self.gateway = Gateway(CONFIG, self.clock, self.journal, self.alarms)
        self.gateway.attach(self.health)
        self.journal.open()

    def start(self) -> None:
        self.gateway.recover(self.alarms.open())
        self.gateway.start()

    def say(self, sensor: str, ago_s: float, **values: float) -> None:
        fields = tuple(Field(name, value, "") for name, value in values.items())
        wall_s, boot_s = self.clock.wall() - ago_s, self.clock.boot() - ago_s
        self.gateway.post(Sample("huy", sensor, wall_s, boot_s, fields))

    def taken(self, count: int) -> list[Row]:
        servers.wait_until(lambda: self.journal.head >= count, 10, f"{count} readings")
        return self.journal.rows(1, self.journal.head)

    @staticmethod
    def alarms_of(data: Path) -> list[tuple[int, bytes]]:
        alarms = AlarmLog(data / "alarms.db")
        alarms.open()
        try:
            return alarms.unreceipted()
        finally:
            alarms.close()

    def close(self) -> None:
        self.gateway.stop()
        self.journal.close()
        self.alarms.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("boot_id", [None, "another boot"])
def test_a_level_that_is_stuck_over_a_restart_fails_after_its_day(tmp_path: Path, boot_id: str | None) -> None:
    before = House(tmp_path, boot_id)
    wall, boot = before.clock.wall(), before.clock.boot()
    day = range(25 * 3600, 0, -1800)
    before.journal.append([NewRow("huy/level/water_level", 1.5, 1, wall - ago, boot - ago) for ago in day])
    before.journal.close()

    house = House(tmp_path)
    house.start()
    house.say("level", 0, water_distance=3.5)
    house.say("level", 0, water_distance=3.4)
    rows = house.taken(len(day) + 2)
    house.close()
    assert [(row.value, row.qc) for row in rows[-2:]] == [(1.5, 4), (1.6, 1)], "the first change is believed"


def test_dust_in_the_humid_air_that_another_sensor_of_the_station_measures(house: House) -> None:
    house.start()
    house.say("dust", 4000, pm2_5=9.0, pm10=12.0)
    house.say("climate", 3900, air_temperature=8.0, relative_humidity=96.0)
    house.say("dust", 3800, pm2_5=9.1, pm10=12.0)
    house.say("dust", 1000, pm2_5=9.0, pm10=12.0)
    flags = [(row.series, row.qc) for row in house.taken(8)]
    assert flags == [
        ("huy/dust/pm2_5", 1),
        ("huy/dust/pm10", 1),
        ("huy/climate/air_temperature", 1),
        ("huy/climate/relative_humidity", 1),
        ("huy/dust/pm2_5", 3),
        ("huy/dust/pm10", 3),
        ("huy/dust/pm2_5", 1),  # what was measured 48 minutes ago says nothing of now
        ("huy/dust/pm10", 1),
    ]


def test_a_spike_is_in_health_and_its_flag_stays(house: House) -> None:
    house.start()
    for ago, distance in ((900, 4.0), (600, 4.0), (300, 3.0), (0, 4.0)):
        house.say("level", ago, water_distance=distance)
    house.say("level", 0, water_distance=9999.0, battery_voltage=3.6)
    servers.wait_until(lambda: house.journal.head >= 6, 10, "readings")
    house.gateway._next_health_s = 0.0
    servers.wait_until(lambda: "huy/level/water_level/qc_spike" in house.health.values, 10, "health")
    assert [(row.value, row.qc) for row in house.journal.rows(1, 5)] == [(1, 1), (1, 1), (2, 3), (1, 3), (-9994, 4)]
    assert house.health.values["huy/level/water_level/qc_spike"] == 1
    assert house.health.values["huy/level/water_level/qc_gross_range"] == 1


def bonfire() -> list[tuple[float, float]]:
    """Unix s and PM10 of one sensor, in order."""
    with (Path(__file__).parents[2] / BONFIRE).open(encoding="utf-8") as file:
        return sorted(
            (datetime.fromisoformat(row["time_utc"]).timestamp(), float(row["pm10_ugm3"]))
            for row in csv.DictReader(file)
            if row["sensor"] == "5331"
        )


@pytest.mark.parametrize("restarts", [False, True])
def test_bonfire_night_raises_on_its_mean_of_a_day_over_a_restart_too(tmp_path: Path, restarts: bool) -> None:
    points = bonfire()
    cut = len(points) // 2 if restarts else 0
    if restarts:
        before = House(tmp_path)
        before.start()
        for at, pm10 in points[:cut]:
            before.say("dust", points[-1][0] - at, pm10=pm10)
        before.taken(cut)
        before.close()
    house = House(tmp_path)
    house.start()
    for at, pm10 in points[cut:]:
        house.say("dust", points[-1][0] - at, pm10=pm10)
    house.taken(len(points))
    house.gateway._next_health_s = 0.0
    servers.wait_until(lambda: "huy/dust/pm10_mean_24h" in house.health.values, 10, "health")
    house.close()
    told = [AlarmEvent.model_validate_json(payload) for _, payload in house.alarms_of(tmp_path)]
    assert {(e.rule, e.mean_h, e.data_lost) for e in told} == {("pm10-day", 24, False)}
    # Where the gateway's hours begin decides whether the first mean of 18 hours is already above the second threshold.
    assert [e.transition for e in told] in (["raise"], ["raise", "escalate"])
    assert (told[-1].level, told[-1].threshold) == (2, 70.0)
    assert told[-1].value is not None
    assert 70 <= told[-1].value < 130
    assert house.health.values["huy/dust/smog_indicative"] == 2
    assert house.health.values["huy/dust/belaqi_daily_indicative"] == 10
