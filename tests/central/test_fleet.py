"""`maillages-central fleet`: another process, beside a central that has the state and the store open."""

import json
from pathlib import Path

import pytest

from central.db import Database
from central.holding import Holding
from central.store.base import Point, Series
from central.store.embedded import Embedded
from common.clock import Clock
from tests.central.test_cli_views import run
from wire.station import GatewayStatus, QuantityInfo, SensorInfo, StationInfo, Stations

STATION = '[[station]]\nid = "huy"\nname = "Huy"\ngateway = "gw-1"\ncommune = "61031"\n'
NONE = (None, None, None)


@pytest.fixture
def config(tmp_path: Path):
    """A gateway that sends half of what it promises, and one that was registered and never heard."""
    path = tmp_path / "central.toml"
    other = STATION.replace('"huy"', '"wanze"').replace("gw-1", "gw-2")
    path.write_text(
        f'data_dir = "{tmp_path}"\n[store]\nkind = "embedded"\n[mqtt]\nhost = "127.0.0.1"\n{STATION}{other}'
    )
    clock, db, store = Clock(), Database(tmp_path / "central.db"), Embedded(tmp_path / "store.db")
    db.open()
    store.setup()
    holding, now = Holding(db), clock.wall()
    quantities = (
        QuantityInfo(quantity="water_level", period_s=3600, thresholds=NONE),
        QuantityInfo(quantity="battery_voltage", period_s=86400, thresholds=NONE),
    )
    sensor = SensorInfo(id="level", driver="maxbotix", quantities=quantities, calibration=())
    station = StationInfo(id="huy", name="Huy", commune="61031", lat=50.5, lon=5.2, sensors=(sensor,))
    holding.set_stations("gw-1", Stations(stations=(station,)))
    holding.set_status("gw-1", GatewayStatus(online=True, boot="b", version="0.1.0", since="x"), now - 7200)
    where = {"gateway": "gw-1", "station": "huy", "sensor": "level", "commune": "61031"}
    hours = range(1, 13)
    points = [
        Point(Series("water_level", where), {"value": 1.0, "qc": 1}, round((now - 3600 * h) * 1000)) for h in hours
    ]
    points.append(Point(Series("battery_voltage", where), {"value": 3.6, "qc": 1}, round((now - 60) * 1000)))
    health = {"journal_depth": 4.0, "certificate_days": 200.0}
    points.append(Point(Series("gateway_health", {"gateway": "gw-1"}), health, round((now - 30) * 1000)))
    store.write(points)
    yield path
    store.close()
    db.close()


def test_all_gateways_stand_in_one_table(config: Path) -> None:
    shown = run("fleet", "-c", str(config))
    assert shown.returncode == 1, "one was never heard"
    head, first, second = shown.stdout.splitlines()
    assert head.split()[:3] == ["gateway", "state", "version"]
    assert first.split()[:3] == ["gw-1", "online", "0.1.0"]
    assert "200 d" in first
    assert "52.0 %" in first, "13 of the 25 readings of a day"
    assert "huy/level 3.6 V" in first
    assert second.split() == ["gw-2", "never", "heard", "-", "-", "-", "-", "-", "-", "none"]


def test_json_has_the_same(config: Path) -> None:
    one, two = json.loads(run("fleet", "-c", str(config), "--json").stdout)
    assert (one["gateway"], one["online"], one["waiting"], one["batteries"]) == ("gw-1", True, 4, ["huy/level 3.6 V"])
    assert one["completeness"] == pytest.approx(13 / 25)
    assert one["seen"] is not None
    assert (two["gateway"], two["online"], two["seen"], two["completeness"]) == ("gw-2", None, None, None)
