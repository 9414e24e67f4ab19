"""Alerts that Grafana posts: they join what stands, are told once, and end on evidence only.

`tests/fakes/grafana_payloads.json` is what a real Grafana posted (backend of January 2023, 9.4.0-pre); the others are of that form.
"""

import contextlib
import http.client
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from central.alarms import webhook
from central.alarms.log import AlarmLog
from central.alarms.own import Own
from central.alarms.webhook import Delivery, Webhook
from central.alarms.wishes import Wishes
from central.config import Station
from central.db import Database
from central.errors import Refused, Unavailable
from central.holding import Holding
from central.registry import Registry
from central.status import Measured
from central.web.app import BURST
from common import texts
from common.clock import Clock, from_rfc3339, rfc3339
from tests import servers
from tests.central.scene import Scene
from tests.central.test_alarm_log import T0
from tests.central.test_alarm_log import event as made
from wire.ids import uuid7
from wire.station import QuantityInfo, Stations

FIRST = uuid7(T0)
GW, HERE = "gw-huy-01", "hoyoux-huy"
RISE = {
    "alertname": "Montée rapide",
    "regle": "montee-rapide",
    "genre": "rise",
    "seuil": "1",
    "quantity": "water_level",
}
SILENT = {"alertname": "Station muette", "regle": "station-muette", "genre": "stale", "seuil": "1"}
BATTERY = {"regle": "batterie", "genre": "power", "seuil": "1", "quantity": "battery_level", "sensor": "level-1"}
BACKLOG = {"regle": "arriere", "genre": "system", "seuil": "1", "quantity": "unconfirmed_s", "gateway": GW}


def level(n: int) -> dict[str, str]:
    return {"regle": "seuil-local", "genre": "high", "seuil": str(n), "quantity": "water_level"}


def alert(
    status: str, labels: dict[str, str], began_s: float, ended_s: float | None = None, **changes: Any
) -> dict[str, Any]:
    """One alert of a payload; its station is HERE unless it is of a gateway."""
    where = {} if "gateway" in labels else {"station": HERE}
    at = [
        datetime.fromtimestamp(s, UTC).isoformat() if s is not None else "0001-01-01T00:00:00Z"
        for s in (began_s, ended_s)
    ]
    return {
        "status": status, "labels": where | labels, "annotations": {"summary": "…"}, "startsAt": at[0], "endsAt": at[1],
        "generatorURL": "?orgId=1", "fingerprint": "c6eadffa33fcdf37", "silenceURL": "", "dashboardURL": "", "panelURL": "",
        "values": {"B": 0.42, "C": 1},
    } | changes  # fmt: skip


def payload(*alerts: dict[str, Any]) -> bytes:
    return json.dumps(
        {"receiver": "maillages-central", "status": "firing", "alerts": alerts, "version": "1", "orgId": 1}
    ).encode()


class Central:
    """The webhook on a real alarm log, on hands of its own."""

    def __init__(self, path: Path) -> None:
        self.now, self.online, self.database = 0.0, True, True
        self.db = Database(path)
        self.db.open()
        self.alarms = AlarmLog(self.db)
        self.clock = Clock(boottime=lambda: self.now, walltime=lambda: T0 + self.now, trust="always")
        self.wishes = Wishes(self.db, self.alarms, self.clock)
        stations = (
            Station(id=HERE, gateway=GW, commune="61031", name="Huy"),
            Station(id="never", gateway=GW, commune="61031", name="N"),
        )
        self.registry = Registry(stations, Holding(self.db))
        self.info = QuantityInfo(quantity="water_level", period_s=60, thresholds=(0.55, 0.8, 1.2))
        described = {"id": HERE, "name": "Huy", "lat": 50.5, "lon": 5.2, "commune": "61031", "sensors": []}
        self.registry.publish(GW, Stations.model_validate({"stations": [described]}))
        self.own = Own(self.alarms, self.wishes, self.clock, lambda: None)
        self.webhook = Webhook(self.own, self.registry, self.clock, self._measured)
        self.seq = 0

    def _measured(self) -> list[Measured]:
        if not self.database:
            raise Unavailable("away")
        return [Measured(self.registry.stations[HERE], "level-1", self.info, (1, 0.7), self.online, 0.3, 0)]

    def post(self, *alerts: dict[str, Any]) -> list[str]:
        return [d.outcome for d in self.webhook.take(webhook.parse(payload(*alerts)))]

    def fire(self, labels: dict[str, str], began: float | None = None, **changes: Any) -> str:
        return self.post(alert("firing", labels, T0 + (self.now if began is None else began), **changes))[0]

    def resolve(self, labels: dict[str, str], began: float, **changes: Any) -> str:
        return self.post(alert("resolved", labels, T0 + began, T0 + self.now, **changes))[0]

    def tell(self, transition: str, state: str, level: int, at: float, occurrence: str = FIRST, **changes: Any) -> None:
        self.seq += 1
        event = made(
            self.seq, transition, state, level, occurrence, time=rfc3339(T0 + at), id=uuid7(T0 + at), **changes
        )
        self.alarms.record(event, self.clock.wall())

    @property
    def said(self) -> list[tuple[str, str, int]]:
        own = [o for o in self.alarms.newest(99) if o.source == "central"]
        events = sorted((e for o in own for e in self.alarms.events(o.occurrence)), key=lambda e: e.seq)
        return [(e.transition, e.state, e.level) for e in events]


@pytest.fixture
def central(tmp_path: Path):
    one = Central(tmp_path / "central.db")
    yield one
    assert one.alarms.impossible_events() == {}
    one.db.close()


def test_what_a_real_grafana_posted_is_understood(central: Central) -> None:
    bodies = json.loads((Path(__file__).parents[1] / "fakes/grafana_payloads.json").read_text(encoding="utf-8"))
    said = []
    began_s = from_rfc3339(bodies["firing"]["alerts"][0]["startsAt"])
    central.now = began_s + 30 - T0
    for name in ("test", "firing", "firing", "resolved"):
        said += [d.outcome for d in central.webhook.take(webhook.parse(json.dumps(bodies[name]).encode()))]
    assert said == ["ignored", "raised", "known", "unproven"], "its series had vanished"
    (occurrence,) = central.alarms.open_occurrences()
    (event,) = central.alarms.events(occurrence.occurrence)
    assert (event.station, event.kind, event.quantity) == (HERE, "rise", "water_level")
    assert event.trend_per_h == pytest.approx(1.3207, abs=1e-3)
    assert from_rfc3339(event.time) == began_s


# ---------------------------------------------------------------------- joining


def test_a_threshold_that_a_gateway_has_told_of_is_not_told_again(central: Central) -> None:
    central.tell("raise", "UNACK", 2, 0)
    central.now = 70
    assert central.fire(level(2)) == "joined"
    assert central.fire(level(1)) == "joined", "told at a higher level"
    central.tell("ack", "ACK", 2, 100, by="planu")
    assert central.fire(level(2)) == "joined"
    assert central.said == []


def test_a_level_that_comes_of_a_rise_has_been_told_too(central: Central) -> None:
    central.tell("raise", "UNACK", 2, 0, kind="rise", rule="hoyoux-rise")
    central.now = 70
    assert central.fire(level(2)) == "joined"


@pytest.mark.parametrize(
    "other",
    [
        {"station": "never"},
        {"quantity": "water_temperature"},
        {"kind": "low", "level": 1},
        {"status": "Exercise"},
        {"status": "Test"},
    ],
    ids=lambda o: "-".join(o),
)
def test_an_alarm_of_something_else_is_not_joined(central: Central, other: dict[str, Any]) -> None:
    """Nor does an exercise swallow what is real."""
    central.tell("raise", "UNACK", other.pop("level", 3), 0, kind=other.pop("kind", "rise"), **other)
    central.now = 70
    assert central.fire(RISE) == "raised"


def test_what_has_returned_before_grafana_s_word_came_is_over(central: Central) -> None:
    central.tell("raise", "UNACK", 2, 0)
    central.tell("clear", "RTN_UNACK", 0, 130)
    central.now = 140
    assert central.fire(level(2), 70) == "over", "it began while the alarm stood: people were told then"
    second = uuid7(T0 + 200)
    central.tell("raise", "UNACK", 3, 200, second)
    central.tell("deescalate", "UNACK", 1, 280, second)
    central.now = 290
    assert central.fire(level(3), 265) == "over", "lower since"
    assert central.said == []
    central.now = 400
    assert central.fire(level(3)) == "raised", "a new one, and higher than what stands"


def test_a_silent_station_joins_its_gateway_s_silence(central: Central) -> None:
    central.own.begin(GW, "gateway-silent", "comm_fail", 1)
    central.now = 300
    assert central.fire(SILENT) == "joined"


def test_a_warning_of_water_upstream_is_no_alarm_of_this_station(central: Central) -> None:
    central.own.begin(GW, "hoyoux-downstream", "high", 2, station=HERE, quantity="water_level")
    central.now = 300
    assert central.fire(level(2)) == "raised"


# ---------------------------------------------------------------------- raising and ending


def test_an_alert_for_which_nothing_stands_is_raised_once_with_what_is_known(central: Central) -> None:
    central.now = 660
    assert central.fire(RISE, 600) == "raised"
    for _ in range(3):
        assert central.fire(RISE, 600) == "known"
    (occurrence,) = central.alarms.open_occurrences()
    (event,) = central.alarms.events(occurrence.occurrence)
    assert (event.source, event.gateway, event.station, event.rule) == ("central", GW, HERE, "grafana-montee-rapide")
    assert (event.kind, event.level, event.value, event.trend_per_h, event.unit) == ("rise", 1, 0.7, 0.42, "m")
    assert from_rfc3339(event.time) == T0 + 600, "as of when it began"
    text = texts.sms(event, texts.Place("Huy, pont du Hoyoux", "Hoyoux"))
    assert "montée rapide, seuil local 1. Huy, pont du Hoyoux: " in text
    assert "0,70 m (+0,42 m/h)" in text


def test_it_ends_when_grafana_says_so_of_a_station_that_measures(central: Central) -> None:
    central.fire(RISE, 0)
    central.now = 900
    assert central.resolve(RISE, 0) == "ended"
    assert central.resolve(RISE, 0) == "over"
    assert central.fire(RISE, 0) == "over", "a delivery that was held up"
    assert central.said == [("raise", "UNACK", 1), ("clear", "RTN_UNACK", 0)]
    assert central.fire(RISE, 850) == "raised"
    assert central.said[-1] == ("raise", "UNACK", 1)
    assert len({o.occurrence for o in central.alarms.newest(9)}) == 1, "nobody had answered: the same alarm again"


@pytest.mark.parametrize("reason", ["MissingSeries", "NoData", "Error", "RuleDeleted"])
def test_a_series_that_vanished_ends_nothing(central: Central, reason: str) -> None:
    central.fire(RISE, 0)
    central.now = 900
    assert central.resolve(RISE, 0, annotations={"grafana_state_reason": reason}) == "unproven"
    assert central.said == [("raise", "UNACK", 1)]


def test_a_silent_station_ends_nothing_that_it_measured(central: Central) -> None:
    central.fire(RISE, 0)
    central.now, central.online = 900, False
    assert central.resolve(RISE, 0) == "unproven"
    central.now, central.online, central.database = 930, True, False
    assert central.resolve(RISE, 0) == "unproven"
    central.now, central.database = 960, True
    assert central.resolve(RISE, 0) == "ended"


def test_a_person_ends_what_grafana_has_lost_sight_of(central: Central) -> None:
    central.fire(BATTERY, 0)
    (occurrence,) = central.alarms.open_occurrences()
    with pytest.raises(Refused):
        central.wishes.reset(occurrence, "technicien")
    central.alarms.acknowledge(occurrence.occurrence, "technicien", T0)
    central.wishes.reset(central.alarms.open_occurrences()[0], "technicien")
    for _ in range(3):
        central.own.keep()
    assert central.said == [("raise", "UNACK", 1), ("ack", "ACK", 1), ("reset", "NORMAL", 1)]
    last = central.alarms.events(occurrence.occurrence)[-1]
    assert texts.transition(last) == "réarmée par technicien (alimentation en défaut)", "nobody knows that it is over"
    assert central.wishes.pending("central") == []
    assert central.fire(BATTERY, 0) == "over"
    central.now = 60
    assert central.fire(BATTERY) == "raised"


def test_levels_follow_each_other_in_one_alarm(central: Central) -> None:
    central.fire(level(1), 0)
    central.now = 60
    assert central.post(alert("firing", level(2), T0 + 60), alert("resolved", level(1), T0, T0 + 60)) == [
        "changed",
        "known",
    ]
    central.now = 120
    assert central.fire(level(1)) == "changed"
    assert central.resolve(level(2), 60) == "known", "it stands at the lower one"
    central.now = 180
    assert central.resolve(level(1), 120) == "ended"
    assert central.said == [
        ("raise", "UNACK", 1), ("escalate", "UNACK", 2), ("deescalate", "UNACK", 1), ("clear", "RTN_UNACK", 0),
    ]  # fmt: skip


def test_two_sensors_and_a_gateway_are_alarms_of_their_own(central: Central) -> None:
    other = BATTERY | {"sensor": "level-2"}
    assert [central.fire(x) for x in (BATTERY, other, BACKLOG, BATTERY, other, BACKLOG)] == ["raised"] * 3 + [
        "known"
    ] * 3
    whole = next(o for o in central.alarms.open_occurrences() if o.station is None)
    (event,) = central.alarms.events(whole.occurrence)
    assert texts.headline(event) == "passerelle en défaut: le central ne confirme plus ses mesures"


def test_a_shelf_is_of_one_station(central: Central) -> None:
    central.fire(SILENT, 0)
    (occurrence,) = central.alarms.open_occurrences()
    central.wishes.shelve(occurrence, "technicien", T0 + 3600)
    central.own.keep()
    (shelf,) = central.wishes.shelves()
    assert shelf == ("central", GW, "grafana-station-muette", HERE)


# ---------------------------------------------------------------------- what is none, and what is wrong


def test_tests_and_faults_of_queries_are_no_alarm(central: Central) -> None:
    names = ("TestAlert", "DatasourceNoData", "DatasourceError")
    assert central.post(*(alert("firing", RISE | {"alertname": name}, T0) for name in names)) == ["ignored"] * 3
    assert central.fire(SILENT | {"station": "never"}) == "undescribed", "it may not be installed yet"
    assert central.said == []


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({"genre": "storm"}, "genre"), ({"seuil": "4"}, "seuil"), ({"station": "elsewhere"}, "elsewhere"),
        ({"regle": "x" * 60}, "regle"), ({"quantity": "<b>"}, "quantity"), ({"gateway": "gw-other", "station": ""}, "station"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_placed_is_named_and_stops_no_other(
    central: Central, labels: dict[str, str], named: str
) -> None:
    wrong = alert("firing", RISE, T0)
    wrong["labels"] |= labels
    with pytest.raises(Refused, match=named):
        central.post(wrong, alert("firing", BATTERY, T0))
    assert len(central.said) == 1


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["alerts", "status", "labels", "startsAt"]), x),
    ).map(lambda x: json.dumps(x).encode())
)
def test_whatever_is_posted_is_a_delivery_or_refused(body: bytes) -> None:
    with contextlib.suppress(Refused):
        assert isinstance(webhook.parse(body), Delivery)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_deliveries_repeated_and_out_of_order_come_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    """Alerts fire and resolve, one after the other; whatever order they arrive in, once the last has come the state is right."""
    count = data.draw(st.integers(1, 5))
    story = []
    for i in range(count):
        story.append(alert("firing", RISE, T0 + 100 * i))
        if i < count - 1 or data.draw(st.booleans()):
            story.append(alert("resolved", RISE, T0 + 100 * i, T0 + 100 * i + 50))
    arriving = data.draw(st.permutations(story + data.draw(st.lists(st.sampled_from(story), max_size=4))))
    central = Central(tmp_path_factory.mktemp("webhook") / "central.db")
    central.now = 1000
    for one in [*arriving, *story]:
        central.post(one)
    (occurrence,) = central.alarms.newest(9)
    assert (occurrence.state == "UNACK") == (story[-1]["status"] == "firing")
    assert central.alarms.impossible_events() == {}
    central.db.close()


# ---------------------------------------------------------------------- over HTTP


@pytest.fixture
def scene(tmp_path: Path):
    one = Scene(tmp_path, Clock(trust="always"))
    with contextlib.closing(one):
        one.start()
        one.gateway(GW)
        yield one


def post(scene: Scene, body: bytes, token: str | None, *, basic: bool = False) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json"}
    if token:
        import base64

        headers["Authorization"] = (
            f"Basic {base64.b64encode(f'grafana:{token}'.encode()).decode()}" if basic else f"Bearer {token}"
        )
    connection = http.client.HTTPConnection("127.0.0.1", scene.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", "/api/grafana", body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("basic", [False, True])
def test_an_alert_is_told_once_by_mail_to_each(scene: Scene, basic: bool) -> None:
    _, token = scene.accounts.add_token("webhook", 1)
    scene.measure("hoyoux-huy/level-1/water_level", lambda t: 0.4 + t / 36000, from_s=3600)
    body = payload(alert("firing", RISE, scene.now))
    answers = [post(scene, body, token, basic=basic) for _ in range(2)]
    assert [(status, a["alerts"][0]["outcome"]) for status, a in answers] == [(200, "raised"), (200, "known")]
    servers.wait_until(lambda: len(scene.smtp.mails) == 1, 10, "the mail")
    assert "montée rapide" in scene.get("/").text


def test_only_with_the_token_and_in_bounds(scene: Scene) -> None:
    _, token = scene.accounts.add_token("webhook", 1)
    _, reader = scene.accounts.add_token("read", 1)
    body = payload(alert("firing", RISE, scene.now))
    for wrong in (None, "x", reader):
        status, problem = post(scene, body, wrong)
        assert (status, problem["title"]) == (401, "Unauthorized")
        assert "scope webhook" in problem["detail"]
    status, problem = post(scene, b'{"alerts":[]}', token)
    assert status == 422
    assert "alerts" in problem["detail"]
    status, problem = post(scene, payload(alert("firing", RISE | {"genre": "storm"}, scene.now)), token)
    assert (status, "genre" in problem["detail"]) == (422, True)
    assert post(scene, b" " * (1 << 20) + body, token)[0] == 413
    for broken in (b'"values": {"B": NaN}', b'"startsAt": "0001-01-01T00:00:00Z"', b'"labels": [[[[[[[[]]]]]]]]'):
        name = broken.partition(b":")[0].strip(b'"').decode()
        hurt = (
            json.dumps(alert("firing", RISE, scene.now) | {name: "@"})
            .encode()
            .replace(f'"{name}": "@"'.encode(), broken)
        )
        status, problem = post(scene, b'{"alerts":[' + hurt + b"]}", token)
        assert (status, name in problem["detail"]) == (422, True), problem
    assert scene.alarms.open_occurrences() == []


def test_too_many_are_told_to_wait(scene: Scene) -> None:
    _, token = scene.accounts.add_token("webhook", 1)
    body = payload(alert("firing", RISE | {"alertname": "TestAlert"}, scene.now))
    taken = 0
    while (status := post(scene, body, token)[0]) == 200:
        taken += 1
        assert taken < 100 * BURST, "nobody is ever told to wait"
    assert status == 429
    assert taken >= BURST
