"""docs/sensors.md is what the drivers say, and every stanza in it can be used."""

import tomllib
from pathlib import Path

import pytest

from common.clock import Clock
from edge import drivers, sheets
from edge.calibration import reckoned_sound
from edge.config import load
from edge.errors import ConfigError
from edge.sensors.base import Driver
from edge.transports.build import build

_SERVER = '[[network_server]]\nname = "lorawan"\ndriver = "chirpstack_v4"\nurl = "mqtt://127.0.0.1:1883"\n'
_STATION = '[[station]]\nid = "s"\nname = "Essai"\ncommune = "61031"\nlat = 50.5\nlon = 5.2\n'
_AIR = '[[station.sensor]]\nid = "air-temp"\ndriver = "xy_md02"\nport = "/dev/unused"\n'


def whole(driver: Driver) -> str:
    """Its stanza in a configuration that has what it refers to."""
    stanza = sheets.stanza(driver)
    gateway = '[gateway]\nid = "gw-test-01"\ndata_dir = "unused"\n'
    if driver.link == "modem":
        return gateway + stanza + _STATION + _AIR
    server = _SERVER if driver.link == "payload" else ""
    return gateway + server + _STATION + _AIR + stanza


def test_the_page_is_what_the_drivers_say() -> None:
    assert sheets.PAGE.read_text(encoding="utf-8") == sheets.page(), "run: python -m edge.sheets"


@pytest.mark.parametrize("name", drivers.names())
def test_a_stanza_of_the_page_loads_and_builds(tmp_path: Path, name: str) -> None:
    driver = drivers.find(name)
    path = tmp_path / "edge.toml"
    path.write_text(whole(driver))
    config = load(path)
    transports = build(config, Clock(), lambda _: None)
    assert all(reckoned_sound(s) is None or s.air is not None for s in config.station[0].sensor)
    named = tomllib.loads(sheets.stanza(driver))
    if driver.link == "modem":
        assert name in {server["driver"] for server in named.get("network_server", named.get("modem"))}
    else:
        assert named["station"]["sensor"][0]["driver"] == name
    assert len(transports) == 2


@pytest.mark.parametrize("name", drivers.names())
def test_a_sheet_says_all_that_a_technician_asks(name: str) -> None:
    facts = sheets.sheet(drivers.find(name))
    for text in (facts.wiring, facts.limits, facts.faults):
        assert text
        assert text.endswith((".", ")"))


def test_a_driver_without_a_sheet_is_named() -> None:
    bare = Driver(
        name="bare",
        title="",
        link="stream",
        quantities=(),
        options=drivers.find("a02yyuw").options,
        decode=lambda *_: [],
    )
    with pytest.raises(ConfigError, match="driver bare has no sheet"):
        sheets.sheet(bare)
