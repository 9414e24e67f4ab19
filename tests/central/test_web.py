"""The page over real HTTP: what it says of levels, silence and alarms, what acknowledges and what never does."""

import contextlib
import re
import socket
import threading
import time
from datetime import UTC, datetime
from html import unescape
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.alarms.own import Own
from central.alarms.silence import SilenceWatch
from central.alarms.wishes import Wishes
from central.errors import Unavailable
from central.mqtt import Received
from central.store.embedded import Embedded
from central.web import words
from central.web.app import changes
from central.web.chart import PAGE, chart
from central.web.history import BUCKET_MS, DAY_S, thin
from common.clock import Clock
from tests import servers
from tests.central.scene import HUY, WAREMME, Scene, Stream
from wire.alarm import EXERCISE
from wire.station import QuantityInfo

CLOCK = Clock(trust="always")
PAGES = ("/", "/alarmes", "/api/stations", "/healthz", "/static/page.js", "/nothing", "/api/nothing", "/ack/nothing")


@pytest.fixture(scope="module")
def flood(tmp_path_factory):
    """The whole scene, only to be looked at."""
    scene = Scene(tmp_path_factory.mktemp("flood"), CLOCK)
    with contextlib.closing(scene):
        scene.start()
        scene.flood()
        yield scene


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path, CLOCK)
    with contextlib.closing(made):
        made.start()
        yield made


def card(html, station):
    """The words of a station's card."""
    found = re.search(rf'<article id="station-{station}".*?</article>', html, re.S)
    assert found, f"no card of {station}"
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", found[0])).replace("\u00a0", " ").split())


def kind(html, station):
    """The class of a station's card, which gives it its colour."""
    return re.search(rf'<article id="station-{station}" class="station ([^"]+)"', html)[1]


def order(html):
    return re.findall(r'<article id="station-([^"]+)"', html)


# ---------------------------------------------------------------------- what it shows


def test_the_worst_comes_first_and_each_state_is_said_in_words(flood):
    html = flood.get("/").text
    assert order(html)[:4] == ["hoyoux-huy", "mehaigne-wanze", "burdinale-marneffe", "solieres-huy"]
    worst = card(html, "hoyoux-huy")
    assert "Seuil local 3 atteint" in worst
    assert "SANS RÉPONSE" in worst
    assert "1,65 m" in worst
    assert re.search(r"monte de \d+ cm/h", worst)
    assert "45 cm au-dessus du seuil 3 (1,20 m)" in worst
    assert "Acquittée par Planification d'urgence, Wanze" in card(html, "mehaigne-wanze")
    assert "35 cm sous le seuil 3 (1,20 m)" in card(html, "mehaigne-wanze")
    assert "Sous les seuils" in card(html, "geer-waremme")
    assert "PM10 98,4 µg/m³" in card(html, "ecole-wanze")


def test_silence_is_never_calm_and_absent_is_not_zero(flood):
    html = flood.get("/").text
    silent, never = card(html, "burdinale-marneffe"), card(html, "solieres-huy")
    assert "MUETTE" in silent
    assert "il y a 5 h" in silent
    assert "Cela ne veut pas dire que l'eau baisse." in silent
    assert "JAMAIS REÇUE" in never
    assert "pas de valeur" in never
    assert " m " not in never
    assert {kind(html, s) for s in ("burdinale-marneffe", "solieres-huy")} == {"silent"}
    assert "Humidité relative : muette depuis" in card(html, "ecole-wanze")


def test_zero_is_a_value(scene):
    scene.gateway(WAREMME)
    scene.measure("geer-waremme/level-1/water_level", lambda _: 0.0, from_s=3600)
    html = scene.get("/").text
    assert "0,00 m" in card(html, "geer-waremme")
    assert "stable" in card(html, "geer-waremme")
    (station,) = [s for s in scene.get("/api/stations").json["stations"] if s["id"] == "geer-waremme"]
    assert station["quantities"][0]["value"] == 0.0
    assert station["state"] == "calm"


def test_a_level_stays_when_its_station_falls_silent(scene):
    scene.gateway(HUY)
    scene.measure("hoyoux-huy/level-1/water_level", lambda _: 1.3, until_s=1200, from_s=7200)
    scene.event("hoyoux-huy", "raise", "UNACK", 3, 3000, value=1.25, data_lost=True)
    html = scene.get("/").text
    assert kind(html, "hoyoux-huy") == "level-3"
    assert "PLUS DE MESURE" in card(html, "hoyoux-huy")
    assert "monte" not in card(html, "hoyoux-huy"), "no trend from what is no longer measured"
    assert (
        scene.get("/api/stations").json["stations"][0] | {"level": 3, "silent": True, "state": "over"}
        == (scene.get("/api/stations").json["stations"][0])
    )


def test_water_above_a_threshold_is_not_calm_before_its_alarm_has_come(scene):
    scene.gateway(HUY)
    scene.measure("hoyoux-huy/level-1/water_level", lambda _: 0.9, from_s=3600)
    assert kind(scene.get("/").text, "hoyoux-huy") == "level-2"


def test_a_value_that_failed_its_check_is_no_sign_of_life(scene):
    scene.gateway(HUY)
    scene.measure("hoyoux-huy/level-1/water_level", lambda _: 0.3, until_s=1200, from_s=3000)
    scene.measure("hoyoux-huy/level-1/water_level", lambda _: 9.0, from_s=300, qc=4)
    html = scene.get("/").text
    assert kind(html, "hoyoux-huy") == "silent"
    assert "9,00" not in card(html, "hoyoux-huy")


NO_SENSOR = {"rule": EXERCISE, "sensor": None, "quantity": None, "unit": None, "threshold": None}


@pytest.mark.parametrize("of", [{"value": 1.3}, NO_SENSOR], ids=["a rule", "a technician"])
def test_an_exercise_of_one_gateway_is_shown_and_not_counted(scene, of):
    scene.gateway(HUY)
    scene.measure("hoyoux-huy/level-1/water_level", lambda _: 0.3, from_s=3600)
    scene.event("hoyoux-huy", "raise", "UNACK", 3, 100, status="Exercise", **of)
    html = scene.get("/").text
    assert kind(html, "hoyoux-huy") == "calm"
    assert "EXERCICE" in scene.get("/alarmes").text
    assert "EXERCICE" in card(html, "hoyoux-huy")
    assert 'class="exercise"' not in html


def test_a_central_in_an_exercise_says_so_on_every_page(tmp_path):
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    scene = Scene(tmp_path, Clock(scale=120.0, origin_boot=boot, origin_wall=1_784_000_000.0))
    with contextlib.closing(scene):
        scene.start()
        scene.gateway(HUY)
        scene.measure("hoyoux-huy/level-1/water_level", lambda _: 1.3, from_s=3600)
        scene.event("hoyoux-huy", "raise", "UNACK", 3, 100, value=1.3)
        for path in ("/", "/alarmes", "/nothing", scene.ack_path()):
            assert "EXERCICE : aucune situation réelle" in scene.get(path).text, path
        assert scene.get("/api/stations").json["exercise"] is True
        servers.wait_until(lambda: kind(scene.get("/").text, "hoyoux-huy") == "level-3", 10, "the alarm counts here")


def test_alarms_tell_their_story_and_who_was_told_but_no_number_and_no_address(flood):
    path = flood.ack_path()
    html = flood.get("/alarmes").text
    said = unescape(re.sub(r"<[^>]+>", " ", html))
    assert "Aggravation, seuil local 3 atteint" in said
    assert "Planification d'urgence, Huy, SMS, envoyé (par la passerelle)" in said
    assert "Planification d'urgence, Huy, e-mail, envoyé" in said
    assert "Acquittée par Technicien de garde" in said
    for page in ("/", "/alarmes", "/api/stations", path):
        assert "@" not in flood.get(page).text, page
        assert "+32" not in flood.get(page).text, page


def test_a_gateway_with_a_mad_clock_blinds_no_page(scene):
    first = scene.event("hoyoux-huy", "raise", "UNACK", 1, 50, value=0.6, time="2199-12-31T23:59:59.000-11:00")
    scene.event("meuse-amay", "raise", "UNACK", 1, 50, value=2.5, time="1970-01-01T00:00:00.000+01:00")
    for path in ("/", "/alarmes", "/api/stations"):
        assert scene.get(path).status == 200, path
    assert first.occurrence in scene.get("/alarmes").text


def test_what_people_and_gateways_write_is_text(scene):
    first = scene.event("hoyoux-huy", "raise", "UNACK", 1, 50, value=0.6)
    by = {"by": '<script>alert("x")</script>', "occurrence": first.occurrence}
    scene.event("hoyoux-huy", "ack", "ACK", 1, 40, value=0.6, **by)
    for path in ("/", "/alarmes"):
        html = scene.get(path).text
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert" in html


# ---------------------------------------------------------------------- what is broken


class Moody(Embedded):
    """A database that is away, or hangs, as told."""

    def __init__(self, path):
        super().__init__(path)
        self.away = False
        self.free = threading.Event()
        self.free.set()

    def dump(self, measurement, start_ms, end_ms):
        self.free.wait(60)
        if self.away:
            raise Unavailable("nobody there")
        return super().dump(measurement, start_ms, end_ms)


def test_without_a_database_the_page_comes_and_alarms_are_shown(tmp_path):
    store = Moody(tmp_path / "store.db")
    store.away = True
    scene = Scene(tmp_path, CLOCK, store=store)
    with contextlib.closing(scene):
        scene.start()
        scene.gateway(HUY)
        scene.measure("hoyoux-huy/level-1/water_level", lambda _: 0.3, from_s=3600)
        scene.event("hoyoux-huy", "raise", "UNACK", 2, 50, value=0.9)
        html = scene.get("/").text
        assert "Mesures indisponibles" in html
        assert "Seuil local 2 atteint" in card(html, "hoyoux-huy")
        assert "Mesure indisponible" in card(html, "meuse-amay")
        assert kind(html, "meuse-amay") == "silent"
        assert scene.get("/api/stations").json["readings"] == {"available": False, "read": None}
        assert scene.get("/healthz").text == "ok\n"

        store.away = False
        servers.wait_until(lambda: "0,30" in card(scene.get("/").text, "hoyoux-huy"), 15, "readings are back")
        assert "Mesures indisponibles" not in scene.get("/").text
        store.away = True
        servers.wait_until(lambda: "Mesures indisponibles" in scene.get("/").text, 15, "they are away again")
        assert "0,30" in card(scene.get("/").text, "hoyoux-huy"), "what was read before stays, with its age"


def test_a_database_that_hangs_holds_up_no_page(tmp_path):
    store = Moody(tmp_path / "store.db")
    scene = Scene(tmp_path, CLOCK, store=store)
    with contextlib.closing(scene):
        scene.start()
        scene.gateway(HUY)
        scene.event("hoyoux-huy", "raise", "UNACK", 2, 50, value=0.9)
        store.free.clear()
        began = time.monotonic()
        html = scene.get("/").text
        assert time.monotonic() - began < 8
        assert "Mesures indisponibles" in html
        began = time.monotonic()
        assert scene.get("/").status == scene.get("/api/stations").status == 200
        assert time.monotonic() - began < 2, "it waits once"
        assert "Seuil local 2 atteint" in card(html, "hoyoux-huy")
        assert "jamais reçue" not in card(html, "meuse-amay").lower(), "not known is not never"
        assert scene.ask("POST", scene.ack_path()).status == 200
        store.free.set()


def test_a_gateway_that_is_gone_is_not_online_whatever_it_said_last(scene):
    scene.gateway(HUY)
    hands = {"boot": 0.0}
    clock = Clock(boottime=lambda: hands["boot"], trust="always")
    own = Own(scene.alarms, Wishes(scene.db, scene.alarms, clock), clock, scene.notifier.wake)
    watch = SilenceWatch([HUY], [HUY], own, clock, 900, alarms_flow=lambda: True, readings_flow=lambda: True)
    while hands["boot"] < 1000:
        hands["boot"] = watch.look()
    html = scene.get().text
    assert f"<b>{HUY}</b> :\nHORS LIGNE" in html
    assert "PASSERELLE MUETTE" in html
    assert f"passerelle {HUY} (Huy, pont du Hoyoux / Amay, quai de Meuse / +1)" in html
    watch.heard(Received(f"maillages/v1/{HUY}/health", b"[]", None, None, {}, False, 1, 1))
    watch.look()
    servers.wait_until(lambda: f"<b>{HUY}</b> :\nen ligne" in scene.get().text, 5, "it speaks again")


def test_without_its_broker_central_vouches_for_no_gateway(scene):
    scene.gateway(HUY)
    assert "en ligne" in scene.get("/").text
    scene.linked = False
    servers.wait_until(lambda: "Central n&#39;est plus relié" in scene.get("/").text, 10, "the notice")
    assert {g["online"] for g in scene.get("/api/stations").json["gateways"]} == {None}


def test_a_port_that_is_taken_stops_nothing_and_the_page_comes_when_it_is_free(tmp_path, caplog):
    scene = Scene(tmp_path, CLOCK)
    with contextlib.closing(scene):
        with socket.create_server(("127.0.0.1", scene.port)):
            scene.begin()
            servers.wait_until(lambda: f"web.port {scene.port}" in caplog.text, 10, "the message")
            scene.event("hoyoux-huy", "raise", "UNACK", 3, 5, value=1.3)
            servers.wait_until(lambda: bool(scene.smtp.mails), 15, "alarms go out")
        servers.wait_until(lambda: servers.accepts(scene.port), 20, "the page")
        assert scene.get("/healthz").status == 200


# ---------------------------------------------------------------------- acknowledging


def acked(scene):
    return [o.acked_by for o in scene.alarms.open_occurrences()]


def test_looking_at_a_link_never_acknowledges_and_the_button_does_once(scene):
    scene.event("hoyoux-huy", "raise", "UNACK", 3, 5, value=1.3)
    path = scene.ack_path()
    for method in ("GET", "HEAD", "GET"):
        assert scene.ask(method, path).status == 200
    assert acked(scene) == [None]
    html = scene.get(path).text
    assert '<form method="post"' in html
    assert "Vous répondez au nom de : Planification d&#39;urgence, Huy." in html

    done = scene.ask("POST", path)
    assert "C&#39;est noté" in done.text
    assert "<form" not in done.text
    assert acked(scene) == ["Planification d'urgence, Huy"]
    first = scene.alarms.open_occurrences()[0].acked_s

    again = scene.ask("POST", path)
    assert again.status == 200
    assert "Déjà acquittée par Planification d&#39;urgence, Huy" in again.text
    assert "Déjà acquittée par Planification d&#39;urgence, Huy" in scene.get(path).text
    assert scene.alarms.open_occurrences()[0].acked_s == first


def test_a_link_to_an_alarm_that_is_over_says_so(scene):
    first = scene.event("hoyoux-huy", "raise", "UNACK", 1, 5, value=0.6)
    path = scene.ack_path()
    scene.event("hoyoux-huy", "ack", "ACK", 1, 4, by="Technicien", value=0.6, occurrence=first.occurrence)
    assert "Déjà acquittée par Technicien" in scene.get(path).text
    assert "<form" not in scene.get(path).text
    scene.event("hoyoux-huy", "clear", "NORMAL", 0, 3, value=0.5, occurrence=first.occurrence)
    for method in ("GET", "POST"):
        assert "Cette alarme est terminée" in scene.ask(method, path).text


@pytest.mark.parametrize("token", ["x", "A" * 22, "%00", "..%2f..%2fhealthz", "é".encode().hex(), "a" * 4000])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_link_that_was_never_given_is_a_clear_404(flood, method, token):
    answer = flood.ask(method, f"/ack/{token}")
    assert answer.status == 404
    assert 'lang="fr"' in answer.text


def test_a_body_that_is_too_large_is_refused_whole_or_in_pieces(scene):
    scene.event("hoyoux-huy", "raise", "UNACK", 3, 5, value=1.3)
    path = scene.ack_path()
    assert scene.ask("POST", path, b"x" * 100_000).status == 413
    with socket.create_connection(("127.0.0.1", scene.port), timeout=15) as line:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        line.sendall(head + b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
        assert b" 413 " in line.makefile("rb").readline()
    assert acked(scene) == [None]


# ---------------------------------------------------------------------- the rest of HTTP


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_every_answer_forbids_what_a_page_could_be_made_to_do(flood, method, path):
    headers = flood.ask(method, path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/nothing", 404),
        ("GET", "/api/", 404),
        ("POST", "/api/stations", 405),
        ("DELETE", "/api/stations", 405),
        ("GET", "/api/%2e%2e/healthz", 404),
    ],
)
def test_the_api_answers_errors_as_problems(flood, method, path, status):
    answer = flood.ask(method, path)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"] in ("Not Found", "Method Not Allowed")
    assert "expected" in problem["detail"]


def test_pages_answer_errors_in_french(flood):
    assert "Cette page n&#39;existe pas." in flood.get("/nothing").text
    wrong = flood.ask("POST", "/")
    assert (wrong.status, set(wrong.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert "ne s&#39;utilise pas ainsi" in wrong.text


def test_the_api_says_what_the_page_shows(flood):
    said = flood.get("/api/stations").json
    stations = {s["id"]: s for s in said["stations"]}
    assert next(iter(stations)) == "hoyoux-huy"
    hoyoux, never = stations["hoyoux-huy"], stations["solieres-huy"]
    assert (hoyoux["state"], hoyoux["level"], hoyoux["commune"]) == ("over", 3, {"nis": "61031", "name": "Huy"})
    level = hoyoux["quantities"][0]
    assert (level["quantity"], level["unit"], level["thresholds"]) == ("water_level", "m", [0.55, 0.8, 1.2])
    assert level["value"] == pytest.approx(1.65, abs=0.02)
    assert [(a["level"], a["acknowledged"]) for a in hoyoux["alarms"]] == [(3, False)]
    assert (never["state"], never["quantities"], never["lat"]) == ("never", [], None)
    assert said["readings"]["available"] is True


def test_nothing_a_client_says_of_hosts_gets_into_a_page(flood):
    answer = flood.ask("GET", "/", Host="evil.test", X_Forwarded_Host="evil.test", X_Forwarded_Prefix="/evil")
    assert "evil" not in answer.text
    assert not re.search(r'(src|href)="(https?:)?//', answer.text)


def test_links_carry_the_path_of_the_public_address_and_a_proxy_may_cut_it(tmp_path):
    scene = Scene(tmp_path, CLOCK, root="/crues")
    with contextlib.closing(scene):
        scene.start()
        scene.event("hoyoux-huy", "raise", "UNACK", 3, 5, value=1.3)
        path = scene.ack_path()
        assert path.startswith("/crues/ack/")
        for prefix in ("", "/crues"):
            html = scene.get(prefix + "/").text
            assert set(re.findall(r'(?:href|src)="(/[^"]*)"', html)) >= {"/crues/static/style.css", "/crues/alarmes"}
            assert not re.findall(r'(?:href|src)="/(?!crues/)', html)
            assert scene.get(prefix + "/static/style.css").status == 200
            assert scene.get(prefix + "/api/no").headers["content-type"] == "application/problem+json"
            assert scene.get(path.removeprefix("/crues") if not prefix else path).status == 200
        assert "C&#39;est noté" in scene.ask("POST", path).text


# ---------------------------------------------------------------------- live


def test_the_stream_sends_what_changes_and_ends_with_central(scene):
    scene.gateway(HUY)
    scene.measure("hoyoux-huy/level-1/water_level", lambda _: 0.3, from_s=3600)
    stream = Stream(scene.port)
    with contextlib.closing(stream):
        assert "calm" in stream.part("stations", "0,30")
        scene.event("hoyoux-huy", "raise", "UNACK", 3, 5, value=1.3)
        assert "Seuil local 3 atteint" in stream.part("stations", "Seuil local 3")
        scene.ask("POST", scene.ack_path())
        assert "Planification d&#39;urgence, Huy" in stream.part("station-hoyoux-huy", "Acquittée")
        began = time.monotonic()
        scene.page.stop()
        assert stream.ended()
        assert time.monotonic() - began < 5


def test_a_late_backlog_fills_its_hours_of_the_chart(scene):
    scene.gateway(HUY)
    scene.measure("hoyoux-huy/level-1/water_level", lambda _: 0.3, without=(3900, 80000))
    html = scene.get("/").text
    assert "Interruptions : 1." in card(html, "hoyoux-huy")
    scene.measure("hoyoux-huy/level-1/water_level", lambda _: 0.4, until_s=3900, from_s=14400)
    servers.wait_until(lambda: "à 0,40" in card(scene.get("/").text, "hoyoux-huy"), 90, "the backlog is drawn")


def test_only_what_changed_is_sent_and_a_new_order_sends_all_cards():
    before = {"time": "1", "stations": "ab", "station-a": "a", "station-b": "b", "alarms": "-"}
    assert changes(before, before) == {}
    assert changes({}, before) == {"time": "1", "stations": "ab", "alarms": "-"}
    assert changes(before, before | {"time": "2", "stations": "aB", "station-b": "B"}) == {
        "time": "2",
        "station-b": "B",
    }
    moved = {"time": "2", "stations": "ba", "station-b": "b", "station-a": "a", "alarms": "-"}
    assert changes(before, moved) == {"time": "2", "stations": "ba"}


# ---------------------------------------------------------------------- the chart and the words

NOW = 1_784_000_000.0
minutes = st.lists(st.integers(0, 1439), unique=True, max_size=200).map(sorted)
values = st.floats(-5, 20, allow_nan=False)


@given(st.data(), minutes)
def test_thinning_keeps_order_and_extremes(data, at):
    points = [(m * 60_000, data.draw(values)) for m in at]
    kept = thin(points)
    assert set(kept) <= set(points)
    assert kept == sorted(kept)
    for bucket in {t // BUCKET_MS for t, _ in points}:
        inside = [v for t, v in points if t // BUCKET_MS == bucket]
        shown = [v for t, v in kept if t // BUCKET_MS == bucket]
        assert (min(shown), max(shown)) == (min(inside), max(inside))
        assert len(shown) <= 2


@given(st.data(), minutes, st.sampled_from([0.0, 60.0, 900.0]))
def test_no_line_crosses_a_gap_and_everything_stays_in_its_box(data, at, period_s):
    start = round((NOW - DAY_S) * 1000)
    points = [(start + m * 60_000, data.draw(values)) for m in at]
    info = QuantityInfo(quantity="water_level", period_s=period_s, thresholds=(0.5, None, 1.2))
    made = chart(points, info, NOW)
    drawn = [[float(x) for x in re.findall(r"[ML]([\d.-]+) ", line)] for line in made.lines]
    ys = [float(y) for line in made.lines for y in re.findall(r"[ML][\d.-]+ ([\d.-]+)", line)]
    assert sum(map(len, drawn)) == len(points)
    assert all(PAGE.left <= x <= PAGE.right for xs in drawn for x in xs)
    assert all(PAGE.top <= y <= PAGE.bottom for y in [*ys, *(t[2] for t in made.thresholds)])
    longest_px = max(3 * period_s, 600) / DAY_S * (PAGE.right - PAGE.left) + 0.2
    assert all(b - a <= longest_px for xs in drawn for a, b in pairwise(xs))
    assert (made.low is None) == (not points)
    assert len(made.gaps) >= (1 if not points else 0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "à l'instant"),
        (59, "à l'instant"),
        (60, "il y a 1 min"),
        (3599, "il y a 59 min"),
        (3660, "il y a 1 h 01 min"),
        (86400 * 3, "il y a 3 jours"),
        (-30, "à l'instant"),
        (-3600, "heure dans l'avenir : horloge à vérifier"),
    ],
)
def test_ages_in_words(seconds, said):
    assert words.age(seconds) == said


def test_the_day_with_two_hours_at_two_has_its_hours_in_their_places():
    """25 October 2026: Belgian clocks go back; the axis follows the local hour."""
    info = QuantityInfo(quantity="water_level", period_s=60)
    midnight = datetime(2026, 10, 25, 23, 0, tzinfo=UTC)  # in Belgium, at the end of that day
    hours = chart([], info, midnight.timestamp()).hours
    assert [h for _, h in hours] == [6, 12, 18, 0]
    assert hours[-1][0] == PAGE.right
    assert all(a < b for (a, _), (b, _) in pairwise(hours))


def test_the_mail_of_an_alarm_carries_its_graph_within(tmp_path):
    scene = Scene(tmp_path, Clock(trust="always"))
    scene.start()
    try:
        scene.gateway(HUY)
        scene.measure("hoyoux-huy/level-1/water_level", lambda t: 1 + t / 1e6)
        scene.event("hoyoux-huy", "raise", "UNACK", 2, 1, value=0.9)
        servers.wait_until(lambda: bool(scene.smtp.to("planu-huy@huy.test")), 15, "a mail")
        (mail,) = scene.smtp.to("planu-huy@huy.test")
    finally:
        scene.close()
    (image,) = [part for part in mail.walk() if part.get_content_type() == "image/png"]
    assert image.get_content().startswith(b"\x89PNG")
    assert image.get_content_disposition() == "inline"
    cid = image["Content-ID"].strip("<>")
    assert f'src="cid:{cid}"' in mail.get_body(("html",)).get_content()
    assert "PROJET de message" in mail.get_body(("plain",)).get_content(), "it went to the planner"
