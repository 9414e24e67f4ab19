"""The gateway's own page: real process, real HTTP, a real browser with no network but the gateway.

Screenshots are written to the directory MAILLAGES_ARTEFACTS, or to the test's own.
"""

import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from edge.emulators.relay import RelayBoard
from tests import servers
from tests.system.test_chain import Program
from tests.system.test_page import CONTRAST, SCREENS, SOUND, STRUCTURE, Look, browser, keep

__all__ = ["browser"]

pytestmark = pytest.mark.system

HOSTILE = '</title><script>alert(1)</script>"><img src=x onerror=alert(2)>\u202e'

EDGE = """
[gateway]
id = "gw-huy-01"
data_dir = "{tmp}/edge"
[clock]
trust = "always"
[mqtt]
host = "127.0.0.1"
port = {nobody}
[page]
listen = "127.0.0.1:{page}"
[[station]]
id = "hoyoux-huy"
name = '''{name}'''
commune = "61031"
lat = 50.5
lon = 5.2
river = "Hoyoux"
[[station.sensor]]
id = "level-1"
driver = "maxbotix"
port = "{tmp}/ttyLEVEL"
period_s = 0
options = {{ model = "MB7389" }}
level = {{ mounting_height_m = 5.0 }}
stale_after_s = 3
[[station.sensor]]
id = "dust-1"
driver = "sds011"
port = "{tmp}/ttyNOTHING"
period_s = 60
[[station.rule]]
id = "hoyoux-high"
kind = "high"
sensor = "level-1"
quantity = "water_level"
levels = [1.2, 1.8, 2.3]
deadband = 0.05
[outputs.siren]
port = "{tmp}/ttySIREN"
min_level = 2
"""


class Shed:
    """A gateway process with a level sensor, a siren and a dust sensor that is not there."""

    def __init__(self, tmp_path: Path, name: str = "Huy, pont du Hoyoux") -> None:
        self.port = servers.free_port()
        self.distance_m = 4.4
        self.config = tmp_path / "edge.toml"
        self.config.write_text(EDGE.format(tmp=tmp_path, nobody=servers.free_port(), page=self.port, name=name))
        self.log = tmp_path / "edge.log"
        self.level = Mb7389(
            tmp_path / "ttyLEVEL", "hoyoux-huy/level-1", lambda _: self.distance_m, clock=Clock(), log=DeviceLog()
        )
        self.siren = RelayBoard(tmp_path / "ttySIREN")
        self.edge = Program("maillages-edge", self.config, self.log)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def get(self, path: str = "/", method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            return answer, answer.read()

    def status(self) -> dict[str, Any]:
        return json.loads(self.get("/status.json")[1])

    def measure(self) -> dict[str, Any]:
        return self.status()["stations"][0]["sensors"][0]["measures"][0]


@contextlib.contextmanager
def shed(tmp_path: Path, name: str = "Huy, pont du Hoyoux") -> Iterator[Shed]:
    made = Shed(tmp_path, name)
    with contextlib.ExitStack() as ends:
        for device in (made.level, made.siren):
            device.start()
            ends.callback(device.stop)
        made.edge.start()
        ends.callback(made.edge.kill9)
        servers.wait_until(lambda: servers.accepts(made.port), 30, "the page")
        servers.wait_until(lambda: made.measure()["value"] is not None, 30, "a reading")
        yield made


@pytest.mark.parametrize("screen", SCREENS)
def test_what_stands_is_shown_calm_alarm_and_silence(tmp_path: Path, browser: Browser, screen: str) -> None:
    with shed(tmp_path) as here, Look(browser, screen) as look:
        page = look.page
        page.goto(here.url)
        card = page.locator("#station-hoyoux-huy")
        expect(card.locator(".badge")).to_contain_text("Sous les seuils")
        expect(card).to_contain_text("0,60 m")
        expect(page.locator("#alarms")).to_contain_text("Aucune alarme en cours")
        expect(page.locator("#sensors")).to_contain_text("port série absent")
        expect(page.locator("#health")).to_contain_text("ABSENTE")
        keep(page, tmp_path, f"{screen}-local-calm")

        here.distance_m = 2.6  # 2.40 m
        servers.wait_until(lambda: here.siren.on(1), 10, "siren on")
        expect(card).to_have_class(re.compile("level-3"), timeout=20_000)  # without a reload: the script asks
        expect(page).to_have_title(re.compile(r"^\(3\) "))
        expect(card.locator(".alarm")).to_contain_text("SANS RÉPONSE")
        expect(page.locator(".tiles")).to_contain_text("La sirène sonne")
        keep(page, tmp_path, f"{screen}-local-alarm")
        found = page.evaluate(STRUCTURE)
        assert found.pop("title")
        assert found.pop("inline") == 2, "its one style and its one script"
        assert found == {k: v for k, v in SOUND.items() if k != "inline"}
        assert page.evaluate(CONTRAST) == []

        here.level.unplug()
        expect(card.locator(".badge")).to_contain_text("PLUS DE MESURE", timeout=30_000)
        expect(card).to_contain_text("dernière valeur connue")
        keep(page, tmp_path, f"{screen}-local-silent")
        assert look.hosts == {f"127.0.0.1:{here.port}"}
        assert look.complaints == []
        assert here.edge.terminate() == 0
        expect(page.locator("#lost")).to_contain_text("LA PASSERELLE NE RÉPOND PLUS", timeout=30_000)
        keep(page, tmp_path, f"{screen}-local-lost")
