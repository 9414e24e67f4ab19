"""The page in a real browser (headless Chromium), on a phone and on a wall screen; once over the whole chain of processes.

Screenshots are written to the directory MAILLAGES_ARTEFACTS, or to the test's own.
"""

import contextlib
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from central.alarms.log import AlarmLog
from central.db import Database
from common.clock import Clock
from edge.emulators.gsm import GsmModem
from edge.emulators.log import DeviceLog
from edge.emulators.mb7389 import Mb7389
from tests import servers
from tests.central.scene import HUY, Scene
from tests.chain import Program
from tests.fakes.providers import SmtpServer
from tests.people import tell
from tests.system.test_alarms import EDGE

pytestmark = pytest.mark.system

SCREENS = {"phone": {"width": 390, "height": 844}, "wall": {"width": 1920, "height": 1080}}
CHROMIUM = "/usr/bin/chromium"
SOON_MS = 15_000

CENTRAL = """
data_dir = "{tmp}/central"
[clock]
trust = "always"
[mqtt]
host = "127.0.0.1"
port = {broker}
[store]
kind = "embedded"
[web]
port = {web}
public_url = "http://127.0.0.1:{web}"
open_reading = true
[smtp]
host = "127.0.0.1"
port = {smtp}
starttls = false
from = "alertes@example.be"
[[station]]
id = "hoyoux-test"
gateway = "gw-test-01"
commune = "61031"
name = "Huy, pont du Hoyoux"
river = "Hoyoux"
"""

CONTRAST = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (style.backgroundImage !== "none") return null;
      const colour = parse(style.backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  const poor = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || element.closest("svg, script, noscript, [hidden], .hidden, .skip")) continue;
    const back = behind(element);
    if (!back) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(back)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${walk.currentNode.data.trim()}`);
  }
  return poor;
}"""

STRUCTURE = """() => ({
  lang: document.documentElement.lang,
  title: document.title,
  h1: document.querySelectorAll("h1").length,
  skipped: [...document.querySelectorAll("h1, h2, h3, h4")].map((h) => +h.tagName[1])
    .filter((level, i, all) => i && level > all[i - 1] + 1),
  main: document.querySelectorAll("main").length,
  nameless: [...document.querySelectorAll("a, button, summary")].filter((e) => !e.textContent.trim()).length,
  pictures: [...document.querySelectorAll("svg:not([aria-hidden=true])")].filter((s) => !s.querySelector("title")).length,
  doubled: [...document.querySelectorAll("[id]")].map((e) => e.id).filter((id, i, all) => all.indexOf(id) !== i),
  dangling: [...document.querySelectorAll("[aria-labelledby]")].map((e) => e.getAttribute("aria-labelledby"))
    .filter((id) => !document.getElementById(id)).length,
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  inline: document.querySelectorAll("[style], style, script:not([src]), [onclick]").length,
  small: [...document.querySelectorAll("button")].filter((b) => b.getBoundingClientRect().height < 44).length,
})"""

SOUND = {
    "lang": "fr", "h1": 1, "skipped": [], "main": 1, "nameless": 0, "pictures": 0, "doubled": [], "dangling": 0, "wide": 0,
    "inline": 0, "small": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).exists():
        message = f"{CHROMIUM} is not installed"
        if os.environ.get("MAILLAGES_REQUIRE_SERVERS"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Look:
    """A browser window that notes what it should not do: complain, be refused by the policy, ask elsewhere, fail."""

    def __init__(self, browser: Browser, screen: str, *, script: bool = True) -> None:
        self.context = browser.new_context(
            viewport=SCREENS[screen], java_script_enabled=script, locale="fr-BE", has_touch=screen == "phone"
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(SOON_MS)
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.loads = 0
        self.page.on("console", lambda m: self.complaints.append(m.text))
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("request", lambda r: self.hosts.add(urlsplit(r.url).netloc))
        self.page.on("load", lambda _: self._loaded())

    def _loaded(self) -> None:
        self.loads += 1

    def __enter__(self) -> "Look":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


def keep(page: Page, tmp_path: Path, name: str) -> None:
    directory = Path(os.environ.get("MAILLAGES_ARTEFACTS") or tmp_path)
    directory.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=directory / f"{name}.png", full_page=True)


@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_is_whole_in_a_browser_and_follows_what_happens(tmp_path, browser, screen):
    scene = Scene(tmp_path, Clock(trust="always"))
    with contextlib.closing(scene), Look(browser, screen) as look:
        scene.start()
        scene.flood()
        page = look.page
        page.goto(scene.url())
        expect(page.locator("#station-hoyoux-huy .badge")).to_contain_text("Seuil local 3 atteint")
        expect(page).to_have_title(re.compile(r"^\(3\) "))
        for path in ("/", "/alarmes", scene.ack_path(), "/nothing"):
            page.goto(scene.url(path))
            found = page.evaluate(STRUCTURE)
            assert found.pop("title"), path
            assert found == SOUND, path
            assert page.evaluate(CONTRAST) == [], path
            keep(page, tmp_path, f"{screen}-{path.split('/')[1] or 'situation'}")
        wrong = [c for c in look.complaints if "404" not in c]  # of /nothing, which was asked for
        assert wrong == []

        page.goto(scene.url())
        loads = look.loads
        expect(page.locator("#station-meuse-amay")).to_have_class(re.compile("calm"))
        scene.measure("meuse-amay/level-1/water_level", lambda _: 2.5, from_s=30)
        scene.event("meuse-amay", "raise", "UNACK", 1, 1, value=2.5)
        expect(page.locator("#station-meuse-amay")).to_have_class(re.compile("level-1"))
        expect(page.locator("#alarms")).to_contain_text("Amay, quai de Meuse")
        scene.notifier.acknowledge(scene.alarms.newest(1)[0].occurrence, "Commune d'Amay")
        expect(page.locator("#station-meuse-amay .answer")).to_contain_text("Acquittée par Commune d'Amay")
        assert look.loads == loads, "it was loaded again"
        assert look.hosts == {f"127.0.0.1:{scene.port}"}
        assert [c for c in look.complaints if "404" not in c] == []


@pytest.mark.parametrize("screen", SCREENS)
def test_what_is_withheld_is_marked_and_the_shelves_are_listed(tmp_path, browser, screen):
    scene = Scene(tmp_path, Clock(trust="always"))
    with contextlib.closing(scene), Look(browser, screen) as look:
        scene.start()
        scene.flood()
        scene.withheld()
        page = look.page
        page.goto(scene.url())
        alarms = page.locator("#alarms")
        for text in ("EN VEILLE jusqu'à", "par Commune d'Amay, motif : travaux au pont", "INHIBÉE", "HORS SERVICE"):
            expect(alarms).to_contain_text(text)
        expect(alarms).to_contain_text("TERMINÉE, À RÉARMER")
        expect(page.locator(".held.tile")).to_contain_text("3")
        page.goto(scene.url("/alarmes"))
        expect(page.locator("#shelves")).to_contain_text("Amay, quai de Meuse")
        expect(page.locator("#shelves")).to_contain_text("travaux au pont")
        for path in ("/", "/alarmes"):
            page.goto(scene.url(path))
            found = page.evaluate(STRUCTURE)
            assert found.pop("title"), path
            assert found == SOUND, path
            assert page.evaluate(CONTRAST) == [], path
            keep(page, tmp_path, f"{screen}-veille-{path.strip('/') or 'situation'}")


def test_a_narrow_phone_needs_no_sideways_scrolling(tmp_path, browser):
    scene = Scene(tmp_path, Clock(trust="always"))
    with contextlib.closing(scene), Look(browser, "phone") as look:
        scene.start()
        scene.flood()
        look.page.set_viewport_size({"width": 360, "height": 640})
        for path in ("/", "/alarmes", scene.ack_path()):
            look.page.goto(scene.url(path))
            assert look.page.evaluate(STRUCTURE)["wide"] == 0, path


def test_a_page_that_hears_nothing_says_so_and_recovers(tmp_path, browser):
    scene = Scene(tmp_path, Clock(trust="always"))
    with contextlib.closing(scene), Look(browser, "phone") as look:
        scene.start()
        scene.gateway(HUY)
        page = look.page
        page.goto(scene.url())
        expect(page.locator("#stations")).to_be_visible()
        expect(page.locator("#lost")).to_be_hidden()
        scene.page.stop()
        expect(page.locator("#lost")).to_be_visible(timeout=30_000)
        expect(page.locator("#lost")).to_contain_text(re.compile(r"CONNEXION PERDUE.*\d\dh\d\d:\d\d, il y a \d+ s"))
        expect(page.locator("body")).to_have_class("stale")
        keep(page, tmp_path, "phone-connexion-perdue")
        loads = look.loads
        again = Scene(tmp_path / "again", Clock(trust="always"), port=scene.port)
        with contextlib.closing(again):
            again.start()
            expect(page.locator("#lost")).to_be_hidden(timeout=30_000)
            assert look.loads == loads


def test_without_javascript_it_shows_the_same_and_acknowledges(tmp_path, browser):
    scene = Scene(tmp_path, Clock(trust="always"))
    with contextlib.closing(scene), Look(browser, "phone", script=False) as look:
        scene.start()
        scene.flood()
        page = look.page
        page.goto(scene.url())
        expect(page.locator("#station-hoyoux-huy .badge")).to_contain_text("Seuil local 3 atteint")
        assert '<noscript><meta http-equiv="refresh"' in page.content()
        page.goto(scene.url(scene.ack_path()))
        page.get_by_role("button", name="Je m'en occupe").click()
        expect(page.get_by_role("status")).to_contain_text("C'est noté")
        assert look.complaints == []


@pytest.mark.timeout(300)
def test_from_rising_water_to_a_click(tmp_path, browser):
    """Serial bytes, gateway, broker, central, mail, browser: the page follows, and the link's button is the answer."""
    distance = {"m": 4.5}
    level = Mb7389(
        tmp_path / "ttyLEVEL", "hoyoux-test/level-1", lambda _: distance["m"], clock=Clock(), log=DeviceLog()
    )
    with contextlib.ExitStack() as ends:
        broker = ends.enter_context(servers.mosquitto(tmp_path))
        smtp = ends.enter_context(SmtpServer())
        for device in (level, GsmModem(tmp_path / "ttyGSM")):
            device.start()
            ends.callback(device.stop)
        web = servers.free_port()
        edge_toml, central_toml = tmp_path / "edge.toml", tmp_path / "central.toml"
        edge_toml.write_text(EDGE.format(tmp=tmp_path, nobody=broker.port))
        tell(tmp_path / "central")
        central_toml.write_text(CENTRAL.format(tmp=tmp_path, broker=broker.port, smtp=smtp.port, web=web))
        central = Program("maillages-central", central_toml, tmp_path / "central.log")
        edge = Program("maillages-edge", edge_toml, tmp_path / "edge.log")
        central.start()
        ends.callback(central.kill9)
        edge.start()
        ends.callback(edge.kill9)
        servers.wait_until(lambda: servers.accepts(web), 30, "the page")

        look = ends.enter_context(Look(browser, "phone"))
        page = look.page
        page.goto(f"http://127.0.0.1:{web}/")
        card = page.locator("#station-hoyoux-test")
        expect(card).to_contain_text("Sous les seuils", timeout=30_000)
        expect(card.locator(".value")).to_contain_text(" m")
        expect(page.locator("#gateways")).to_contain_text("en ligne")

        distance["m"] = 2.6
        expect(card.locator(".badge")).to_contain_text("Seuil local 3 atteint", timeout=30_000)
        expect(card).to_contain_text("SANS RÉPONSE")
        servers.wait_until(lambda: bool(smtp.to("planu@example.be")), 20, "a mail")
        text = smtp.to("planu@example.be")[-1].get_body(("plain",)).get_content()
        (link,) = [line for line in text.splitlines() if line.startswith(f"http://127.0.0.1:{web}/ack/")]

        reader = ends.enter_context(Look(browser, "phone"))
        reader.page.goto(link)
        expect(card).to_contain_text("SANS RÉPONSE")
        reader.page.get_by_role("button", name="Je m'en occupe").click()
        expect(reader.page.get_by_role("status")).to_contain_text("C'est noté")
        keep(reader.page, tmp_path, "phone-acquitte")
        expect(card).to_contain_text("Acquittée par Coordinateur planification d'urgence, Huy")
        assert look.complaints + reader.complaints == []
        db = Database(tmp_path / "central" / "central.db")
        db.open_read_only()
        ends.callback(db.close)
        assert AlarmLog(db).newest(1)[0].acked_by == "Coordinateur planification d'urgence, Huy"
        assert edge.terminate() == 0
        assert central.terminate() == 0
