"""`station_status` on a real embedded store: silent stations are there, first, and zero is a value."""

from pathlib import Path

import pytest

from central import config
from central.alarms.log import AlarmLog
from central.db import Database
from central.holding import Holding
from central.registry import Registry
from central.status import minute, rows
from central.store.base import Point, Series
from central.store.embedded import Embedded
from common.clock import Clock
from wire.station import Stations

NOW = 1_780_000_000.0
CLOCK = Clock(walltime=lambda: NOW)


def described(station: str) -> dict:
    quantity = {"quantity": "water_level", "period_s": 60, "thresholds": [1.2, 1.8, None]}
    sensor = {"id": "level-1", "driver": "maxbotix", "quantities": [quantity]}
    return {"id": station, "name": station, "commune": "61031", "lat": 50.5, "lon": 5.2, "sensors": [sensor]}


def test_a_silent_sensor_does_not_hide_behind_a_live_one_of_its_station(tmp_path: Path) -> None:
    db = Database(tmp_path / "central.db")
    db.open()
    registry = Registry((config.Station(id="h", gateway="gw-1", commune="61031", name="h"),), Holding(db))
    info = described("h")
    info["sensors"] = [{**info["sensors"][0], "id": name} for name in ("level-1", "level-2", "level-3")]
    registry.publish("gw-1", Stations.model_validate({"stations": [info]}))
    store = Embedded(tmp_path / "store.db")
    store.setup()
    for sensor, age_s in (("level-1", 10), ("level-2", 900), ("level-3", 20)):
        tags = {"gateway": "gw-1", "station": "h", "sensor": sensor}
        store.write([Point(Series("water_level", tags), {"value": 0.5, "qc": 1}, round((NOW - age_s) * 1000))])
    (point,) = rows(store, registry, AlarmLog(db), CLOCK)
    assert (point.fields["online"], point.fields["age_s"]) == (0, 900.0)
    store.close()
    db.close()


def test_silent_stations_come_first_and_zero_is_a_value(tmp_path: Path) -> None:
    db = Database(tmp_path / "central.db")
    db.open()
    names = ("a-alive", "b-silent", "c-never", "d-unknown", "e-failing")
    stations = tuple(config.Station(id=n, gateway="gw-1", commune="61031", name=n) for n in names)
    registry = Registry(stations, Holding(db))
    registry.publish("gw-1", Stations.model_validate({"stations": [described(n) for n in names if n != "d-unknown"]}))
    store = Embedded(tmp_path / "store.db")
    store.setup()

    def put(station: str, age_s: float, value: float, qc: int = 1) -> None:
        tags = {"gateway": "gw-1", "station": station, "sensor": "level-1"}
        store.write([Point(Series("water_level", tags), {"value": value, "qc": qc}, round((NOW - age_s) * 1000))])

    put("a-alive", 2400, 0.0)
    put("a-alive", 1510, 0.5)
    put("a-alive", 10, 0.0)
    put("b-silent", 1000, 2.0)
    put("e-failing", 1000, 1.0)
    put("e-failing", 10, 99.0, qc=4)
    points = rows(store, registry, AlarmLog(db), CLOCK)
    by_station = {dict(p.series.tags)["station"]: p.fields for p in points}
    assert set(by_station) == set(names)
    assert [p.fields["online"] for p in points] == [0, 0, 0, 0, 1]
    alive = by_station["a-alive"]
    assert (alive["value"], alive["age_s"], alive["trend_per_h"], alive["threshold_2"]) == (0.0, 10.0, -1.2, 1.8)
    assert "threshold_3" not in alive
    assert by_station["b-silent"]["age_s"] == 1000.0
    assert "value" not in by_station["c-never"]
    assert by_station["e-failing"]["value"] == 1.0, "a failed value (flag 4) is no sign of life"
    store.write(points)
    store.close()
    db.close()


def test_a_rising_level_is_projected_and_what_does_not_rise_is_not(tmp_path: Path) -> None:
    db = Database(tmp_path / "central.db")
    db.open()
    names = ("rising", "falling", "silent")
    stations = tuple(
        config.Station(id=n, gateway="gw-1", commune="61031", name=n, downstream=("61072",)) for n in names
    )
    registry = Registry(stations, Holding(db))
    registry.publish("gw-1", Stations.model_validate({"stations": [described(n) for n in names]}))
    store = Embedded(tmp_path / "store.db")
    store.setup()
    for station, values in (("rising", (0.6, 0.9)), ("falling", (0.9, 0.6))):
        for age_s, value in zip((1510, 10), values, strict=True):
            tags = {"gateway": "gw-1", "station": station, "sensor": "level-1"}
            store.write([Point(Series("water_level", tags), {"value": value, "qc": 1}, round((NOW - age_s) * 1000))])
    points = minute(store, registry, AlarmLog(db), CLOCK)
    status = {dict(p.series.tags)["station"]: p.fields for p in points if p.series.measurement == "station_status"}
    assert status["rising"]["next_threshold"] == 1.2
    assert status["rising"]["next_level_s"] == pytest.approx(0.3 / 0.72 * 3600)
    assert (status["rising"]["downstream"], status["rising"]["unanswered"]) == ("61072", 0)
    assert "next_level_s" not in status["falling"]
    assert "acked_by" not in status["rising"], "no alarm is open"
    ahead = [p for p in points if p.series.measurement == "projection"]
    assert len({p.series for p in ahead}) == len(ahead) == 3 * 7, (
        "a point of its own for each: none is ever overwritten"
    )
    drawn = {p.time_ms: p.fields.get("value") for p in ahead if dict(p.series.tags)["station"] == "rising"}
    assert drawn[round(NOW * 1000) + 3_600_000] == pytest.approx(0.9 + 0.72)
    for station in ("falling", "silent"):
        mine = [p.fields for p in ahead if dict(p.series.tags)["station"] == station]
        assert mine == [{"holds": 0}] * 7, "what was drawn a minute ago is taken back"
    store.write(points)
    store.close()
    db.close()
