# ruff: noqa: S608 - the queries are made of constants of this file
"""Each alert rule on a real InfluxDB that a flood has filled: it fires for whom it must, and for nobody else.

The evaluator does what Grafana's does with our rules, and no more: each query over its own time range, the last value of each
series, a threshold. It knows no `for`.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from central.store.base import Point, Reading, Series
from central.store.influx import Influx as Store
from common.clock import rfc3339
from grafana.alerts import RULES, Rule
from tests import servers
from tests.grafana.flood import MINUTE_S, Flood
from tests.grafana.influx import Influx

NOW_MS = 1_784_045_100_000  # 2026-07-14T16:05:00Z
MINUTE_MS = 60_000
FLOOD_MIN = 130
LATE = "yerne-limont"
BY_UID = {rule.uid.removeprefix("maillages-"): rule for rule in RULES}


class LateFlood(Flood):
    """Ten minutes before its end the line of a gateway returns, and what was kept for hours arrives: a crest at the Yerne that
    passed all thresholds and has gone again, its alarm raised, answered and over."""

    def _pass(self, status: list[Point]) -> None:
        if round((self.end_s - self.now) / MINUTE_S) == 10:
            begun = self.now - 3 * 3600
            gateway = self._registry.owner(LATE) or ""
            series = Series("water_level", {"gateway": gateway, "station": LATE, "sensor": "level-1"})
            times = [begun + n * MINUTE_S + 7 for n in range(60)]
            self._local.write([Reading(series, 2.0, 1, round(t * 1000)) for t in times])
            for transition, state, level, after_s in (
                ("raise", "UNACK", 3, 60), ("ack", "ACK", 3, 600), ("clear", "NORMAL", 0, 3660),
            ):  # fmt: skip
                self._event(
                    gateway, LATE, transition, state, level, value=2.0, time=rfc3339(begun + after_s), by="Garde"
                )
            self._states[LATE] = ("NORMAL", 0)
        super()._pass(status)


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    directory = tmp_path_factory.mktemp("rules")
    with servers.influxd(directory) as server:
        store = Store(server.url, "maillages", None, None)
        store.setup()
        LateFlood(directory, store, NOW_MS / 1000, FLOOD_MIN).run()
        database = Influx(server.url, NOW_MS)
        database.create("empty")
        database.create("worse")
        database.write("worse", list(worse()))
        yield database


def worse() -> Iterator[Point]:
    """What the flood has none of, beside what must not fire."""

    def series(name: str, field: str, values: dict[int, float], **tags: str) -> Iterator[Point]:
        for back, value in values.items():
            fields = {field: value} | ({"qc": 1} if "station" in tags else {})
            yield Point(Series(name, tags), fields, NOW_MS - back * MINUTE_MS)

    yield from series("battery_level", "value", {600: 22.0, 200: 19.0}, station="moha", sensor="l1")
    yield from series("battery_level", "value", {600: 12.0, 200: 98.0}, station="replaced", sensor="l1")
    yield from series("battery_level", "value", {200: 0.0}, station="empty", sensor="l1")
    late = {back: 5000.0 - 60 * back for back in range(20)}
    yield from series("gateway_health", "unconfirmed_s", late, gateway="gw-late")
    caught_up = {back: 3600.0 if back > 2 else 4.0 for back in range(20)}
    yield from series("gateway_health", "unconfirmed_s", caught_up, gateway="gw-caught-up")
    yield from series("central_status", "broker_dropped", {back: 500.0 if back < 5 else 7.0 for back in range(20)})
    yield from series("central_status", "messages_failed", {1: 2})
    for station, hours, value in (("day", 24, 55.0), ("half", 12, 400.0), ("two-hours", 3, 400.0), ("clean", 24, 12.0)):
        dust = {60 * hour + 30: value for hour in range(hours)}
        yield from series("pm10", "value", dust, station=station)
        yield from series("pm2_5", "value", dust, station=station)


def values(influx: Influx, query: str, span_s: int, **options: object) -> dict[frozenset[tuple[str, str]], float]:
    """Labels -> the last value of each series that has one."""
    answer = influx.ask(query, span=span_s * 1000, **options)  # type: ignore[arg-type]
    found = {}
    for tags, rows in answer:
        known = [v for row in rows for name, v in row.items() if name != "time" and v is not None]
        if known:
            found[frozenset(tags.items())] = float(known[-1])
    return found


def holds(evaluator: dict[str, Any], value: float) -> bool:
    low, high = [*evaluator["params"], float("inf")][:2]
    return value < low if evaluator["type"] == "lt" else low < value < high


def firing(influx: Influx, rule: Rule, **options: object) -> set[str] | str:
    """The stations or gateways for which it fires, "" without one; its state where no series comes."""
    asked: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for data in rule.data():
        model = data["model"]
        if "query" in model:
            asked[model["refId"]] = values(influx, model["query"], data["relativeTimeRange"]["from"], **options)
        elif model["type"] == "reduce":
            asked[model["refId"]] = asked[model["expression"]]
        else:
            (condition,) = model["conditions"]
            first = asked[model["expression"]]
            hit = {who for who, value in first.items() if holds(condition["evaluator"], value)}
    if not first:
        return rule.absent[0]
    return {dict(who).get("station") or dict(who).get("gateway") or "" for who in hit}


@pytest.mark.system
@pytest.mark.parametrize(
    ("uid", "fires"),
    [
        ("seuil-local-3", {"hoyoux-huy", "hoyoux-marchin"}),
        ("seuil-local-2", {"mehaigne-moha", "burdinale-marneffe"}),
        ("seuil-local-1", set()),
        ("montee-rapide", {"hoyoux-huy", "mehaigne-moha"}),
        ("station-muette", {"burdinale-marneffe", "solieres-huy"}),
        ("air-pm10", set()),
        ("air-pm2-5", set()),
        ("batterie", set()),
        ("arriere", set()),
        ("central-muet", set()),
        ("courtier-pertes", set()),
        ("messages-echoues", {""}),
    ],
)
def test_rule_fires_in_the_flood_for_whom_it_must(influx: Influx, uid: str, fires: set[str]) -> None:
    assert firing(influx, BY_UID[uid]) == fires


@pytest.mark.system
@pytest.mark.parametrize(
    ("uid", "fires"),
    [
        ("batterie", {"moha", "empty"}),
        ("arriere", {"gw-late"}),
        ("courtier-pertes", {""}),
        ("messages-echoues", {""}),
        ("air-pm10", {"day", "half"}),
        ("air-pm2-5", {"day", "half"}),
    ],
)
def test_rule_fires_for_what_the_flood_has_none_of(influx: Influx, uid: str, fires: set[str]) -> None:
    assert firing(influx, BY_UID[uid], database="worse") == fires


@pytest.mark.system
def test_a_threshold_fires_while_the_water_is_there_and_one_rule_only(influx: Influx) -> None:
    levels = ["seuil-local-1", "seuil-local-2", "seuil-local-3"]
    seen = set()
    for back in range(0, 120, 5):
        hits = [uid for uid in levels if "hoyoux-huy" in firing(influx, BY_UID[uid], now=NOW_MS - back * MINUTE_MS)]
        assert len(hits) <= 1
        seen |= set(hits)
    assert "seuil-local-3" in seen
    assert len(seen) >= 2, "it has risen through them"


@pytest.mark.system
def test_late_data_of_an_occurrence_that_has_returned_fires_none(influx: Influx) -> None:
    (row,) = influx.ask(f'SELECT max("value") FROM "water_level" WHERE "station" = \'{LATE}\' AND $timeFilter')
    assert row[1][0]["max"] == 2.0, "the crest is in the database"
    (row,) = influx.ask(f'SELECT count("event") FROM "alarm" WHERE "station" = \'{LATE}\' AND $timeFilter')
    assert row[1][0]["count"] == 3, "and so is its alarm"
    for back in range(15):
        for rule in RULES:
            assert LATE not in firing(influx, rule, now=NOW_MS - back * MINUTE_MS), rule.uid


@pytest.mark.system
def test_a_dead_central_is_said_to_be_dead_and_nothing_else(influx: Influx) -> None:
    later = NOW_MS + 6 * MINUTE_MS
    assert firing(influx, BY_UID["central-muet"], now=later) == "Alerting"
    for uid, rule in BY_UID.items():
        if "station_status" in rule.query and uid != "central-muet":
            assert firing(influx, rule, now=later) == "NoData", uid
    assert {firing(influx, r, database="empty") for r in RULES} == {"NoData", "Alerting", "OK"}
