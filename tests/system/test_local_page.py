"""The gateway's own page: real process, real HTTP, a real browser with no network but the gateway.

Screenshots are written to the directory MAILLAGES_ARTEFACTS, or to the test's own.
"""

import contextlib
import http.client
import json
import re
import socket
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
from tests.chain import Program
from tests.disks import small_disk
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


def test_names_that_are_code_are_text(tmp_path: Path, browser: Browser) -> None:
    with shed(tmp_path, HOSTILE) as here, Look(browser, "phone") as look:
        dialogs: list[str] = []
        look.page.on("dialog", lambda d: dialogs.append(d.message))
        here.distance_m = 2.6
        servers.wait_until(lambda: bool(here.status()["alarms"]), 10, "an alarm")
        look.page.goto(here.url)
        expect(look.page.locator("h3")).to_have_text(HOSTILE[:-1])
        assert look.page.locator("img").count() == 0
        assert look.page.evaluate(STRUCTURE)["wide"] == 0
        assert dialogs == []
        assert look.complaints == []


def test_without_script_it_shows_the_same_and_loads_itself_again(tmp_path: Path, browser: Browser) -> None:
    with shed(tmp_path) as here, Look(browser, "phone", script=False) as look:
        look.page.goto(here.url)
        expect(look.page.locator("#station-hoyoux-huy")).to_contain_text("0,60 m")
        assert '<noscript><meta http-equiv="refresh"' in look.page.content()
        look.page.set_viewport_size({"width": 340, "height": 640})
        assert look.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_it_reads_only_and_says_the_same_in_json(tmp_path: Path) -> None:
    with shed(tmp_path) as here:
        answer, body = here.get()
        assert (answer.status, answer.getheader("Cache-Control"), answer.getheader("Set-Cookie")) == (
            200,
            "no-store",
            None,
        )
        policy = answer.getheader("Content-Security-Policy")
        assert policy is not None
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        head, nothing = here.get(method="HEAD")
        assert (head.status, nothing) == (200, b"")
        assert abs(int(head.getheader("Content-Length") or 0) - len(body)) < 200  # some digits later
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
            refused, _ = here.get(method=method)
            assert (refused.status, refused.getheader("Allow")) == (405, "GET, HEAD"), method
        assert here.get("/../../etc/passwd")[0].status == 404
        status = here.status()
        assert status["answered"] is True
        assert status["gateway"] == "gw-huy-01"
        assert (status["siren"], status["linked"], status["alarms"]) == (False, False, [])
        sensors = status["stations"][0]["sensors"]
        assert sensors[0]["measures"][0]["value"] == 0.6
        assert sensors[0]["measures"][0]["thresholds"] == [1.2, 1.8, 2.3]
        assert sensors[1]["trouble"]["kind"] == "port"


def test_half_open_slow_and_huge_requests_shut_out_nobody_and_hold_up_no_siren(tmp_path: Path) -> None:
    with shed(tmp_path) as here, contextlib.ExitStack() as ends:
        target = ("127.0.0.1", here.port)

        def dial(source: str, begin: bytes) -> socket.socket:
            line = socket.create_connection(target, timeout=5, source_address=(source, 0))
            ends.callback(line.close)
            with contextlib.suppress(OSError):
                line.sendall(begin)
            return line

        for i in range(200):
            dial(f"127.0.1.{i % 20 + 1}", b"GET / HTTP/1.1\r\nX-Slow: " if i % 2 else b"")
        assert here.get()[0].status == 200, "from another address"
        for _ in range(200):
            dial("127.0.0.1", b"GET /")
        assert here.get()[0].status == 200, "from the same address"
        huge = dial("127.0.2.1", b"GET /" + b"a" * 100_000)
        answer = received(huge)
        assert answer == b"" or b" 431 " in answer
        for noise in (b"\0\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / SPDY/9\r\n\r\n", b"\r\n\r\n"):
            assert b" 400 " in received(dial("127.0.2.1", noise)), noise
        begin = Clock().boot()
        assert b" 408 " in dripped(dial("127.0.2.2", b"GET / HTTP/1.1\r\n"))
        assert Clock().boot() - begin < 10
        here.distance_m = 2.6
        servers.wait_until(lambda: here.siren.on(1), 5, "siren on, under attack")
        threads = Path(f"/proc/{here.edge.pid}/task")
        assert len(list(threads.iterdir())) < 30
        assert len(list(Path(f"/proc/{here.edge.pid}/fd").iterdir())) < 150


def received(line: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := line.recv(65536):
            parts.append(part)
    return b"".join(parts)


def dripped(line: socket.socket) -> bytes:
    """What is answered to one header byte after another."""
    line.settimeout(0.2)
    while True:
        try:
            return line.recv(4096)
        except TimeoutError:
            line.sendall(b"x")


def test_an_address_in_use_is_said_once_and_the_gateway_alarms(tmp_path: Path) -> None:
    here = Shed(tmp_path)
    with contextlib.ExitStack() as ends:
        squatter = ends.enter_context(socket.create_server(("127.0.0.1", here.port)))
        for device in (here.level, here.siren):
            device.start()
            ends.callback(device.stop)
        here.distance_m = 2.6
        here.edge.start()
        ends.callback(here.edge.kill9)
        servers.wait_until(lambda: here.siren.on(1), 30, "siren on")
        servers.wait_until(lambda: "cannot be had" in here.log.read_text(), 10, "said")
        squatter.close()
        assert here.edge.terminate() == 0
        assert here.log.read_text().count("cannot be had") == 1


def test_a_full_disk_is_shown(tmp_path: Path, browser: Browser) -> None:
    with small_disk(tmp_path / "edge", 4) as disk, shed(tmp_path) as here, Look(browser, "phone") as look:

        def refused() -> bool:
            disk.fill()  # the journal gives its reserve first, which is filled as well
            return bool(here.status()["in_memory"])

        servers.wait_until(refused, 60, "readings in memory")
        look.page.goto(here.url)
        expect(look.page.locator("main > .notice")).to_contain_text("Le disque ne prend plus de mesures")
        here.distance_m = 2.6
        expect(look.page.locator("#station-hoyoux-huy")).to_have_class(re.compile("level-3"), timeout=20_000)
        keep(look.page, tmp_path, "phone-local-full-disk")
