"""The files for Grafana's provisioning: their form, and that the alert rules fire for the right stations."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from central.store.base import Point, Series
from tests import servers
from tests.grafana.influx import Influx

ROOT = Path(__file__).parents[2] / "grafana"
BOARDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "dashboards").glob("*.json"))
}
PROVISIONING = {
    str(path.relative_to(ROOT / "provisioning")): yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "provisioning").glob("*/*.yaml"))
}
RULES = [rule for group in PROVISIONING["alerting/maillages.yaml"]["groups"] for rule in group["rules"]]
RULE_QUERIES = [
    pytest.param(data["model"]["query"], id=f"{rule['uid']}-{data['refId']}")
    for rule in RULES
    for data in rule["data"]
    if "query" in data["model"]
]

NOW_MS = 1_784_045_100_000  # 2026-07-14T16:05:00Z
MINUTE_MS = 60_000


def test_no_secret_and_no_address_stands_in_a_file() -> None:
    (source,) = PROVISIONING["datasources/maillages.yaml"]["datasources"]
    for value in (source["url"], source["user"], source["jsonData"]["dbName"], source["secureJsonData"]["password"]):
        assert re.fullmatch(r"\$MAILLAGES_INFLUX_[A-Z]+", value), "braces would expand a $ in the value once more"


def test_alert_rules_point_at_panels_and_use_what_grafana_10_knows() -> None:
    known = {board["uid"]: {panel["id"] for panel in board["panels"]} for board in BOARDS.values()}
    folders = {p["folder"] for p in PROVISIONING["dashboards/maillages.yaml"]["providers"]}
    assert {g["folder"] for g in PROVISIONING["alerting/maillages.yaml"]["groups"]} <= folders
    assert len({rule["uid"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["panelId"] in known[rule["dashboardUid"]]
        assert rule["noDataState"] in {"NoData", "Alerting"}, "OK would call a dead central a calm river"
        assert rule["execErrState"] in {"Error", "Alerting"}
        refs = {d["refId"] for d in rule["data"]}
        assert rule["condition"] in refs
        for data in rule["data"]:
            assert data["model"]["refId"] == data["refId"]
            assert data["model"].get("expression", rule["condition"]) in refs
            for condition in data["model"].get("conditions", ()):
                assert condition["evaluator"]["type"] in {"gt", "lt"}
        assert "$$" not in json.dumps(rule["annotations"]), "annotations are taken raw"


@pytest.mark.parametrize("query", RULE_QUERIES)
def test_rule_query_keeps_to_the_portable_subset(query: str) -> None:
    assert not re.search(r'FROM\s+"[^"]+"\.|SLIMIT|SOFFSET', query)
    assert len(re.findall(r"\b(?:first|last|top|bottom|percentile)\(", query)) <= 1, "one selector"
    assert "$timeFilter" in query


def status(station: str, quantity: str, commune: str, time_ms: int, **fields: float | str) -> Point:
    tags = {"station": station, "quantity": quantity, "commune": commune}
    return Point(Series("station_status", tags), fields, time_ms)


def seed() -> list[Point]:
    """Three hours, as central writes them: a flood that reaches level 3, a level of exactly zero, a station silent with its
    alarm still on, one silent below its thresholds, one never described, and one calm for water and at level 1 for air."""
    where = {"lat": 50.51, "lon": 5.23}
    limits = {"threshold_1": 1.0, "threshold_2": 1.5, "threshold_3": 2.0}
    points: list[Point] = []
    for minute in range(180):
        at = NOW_MS - minute * MINUTE_MS
        flood = 2.4 - minute * 0.01
        level = sum(flood >= limit for limit in limits.values())
        points += [
            status("hoyoux-huy", "water_level", "61031", at, level=level, online=1, value=flood, trend_per_h=0.6, age_s=12.0,
                   name="Hoyoux à Huy", **limits, **where),
            status("yerne-limont", "water_level", "64023", at, level=0, online=1, value=0.0, trend_per_h=0.0, age_s=0.0,
                   name="Yerne à Limont", **limits, **where),
            status("mehaigne-moha", "water_level", "61072", at, level=2, online=0, value=1.6, age_s=7200.0 - minute * 60,
                   name="Mehaigne à Moha", **limits, **where),
            status("geer-bergilers", "water_level", "64056", at, level=0, online=0, name="Geer à Bergilers", **limits, **where),
            status("burdinale", "unknown", "61028", at, level=0, online=0, name="Burdinale"),
            status("huy-quai", "pm2_5", "61031", at, level=1, online=1, value=31.5, trend_per_h=-2.0, age_s=45.0,
                   name="Huy, quai", threshold_1=25.0, threshold_2=50.0, threshold_3=75.0, **where),
            status("huy-quai", "water_level", "61031", at, level=0, online=1, value=0.4, trend_per_h=0.0, age_s=45.0,
                   name="Huy, quai", **limits, **where),
            Point(Series("water_level", {"gateway": "gw-huy-01", "station": "hoyoux-huy", "sensor": "level-1"}),
                  {"value": flood, "qc": 1}, at),
        ]  # fmt: skip
    points += [
        Point(Series("alarm", {"station": "hoyoux-huy", "rule": "hoyoux-high", "kind": "high"}),
              {"event": f"e{n}", "occurrence": "o1", "transition": transition, "state": state, "level": n + 1, "value": 1.0 + n / 2,
               "text": f"Hoyoux à Huy : seuil local {n + 1}"},
              NOW_MS - (140 - 50 * n) * MINUTE_MS)
        for n, (transition, state) in enumerate((("raise", "UNACK"), ("escalate", "UNACK"), ("ack", "ACK")))
    ]  # fmt: skip
    # An alarm of the system concerns no station, a silent sensor has no value, a return has no level left.
    points.append(
        Point(Series("alarm", {"rule": "chain", "kind": "system"}),
              {"event": "e9", "occurrence": "o9", "transition": "clear", "state": "NORMAL", "level": 0, "text": "Chaîne rétablie"},
              NOW_MS - MINUTE_MS)
    )  # fmt: skip
    return points


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    with servers.influxd(tmp_path_factory.mktemp("grafana")) as server:
        database = Influx(server.url, NOW_MS)
        database.create("maillages")
        database.write("maillages", seed())
        yield database


@pytest.mark.system
@pytest.mark.parametrize(
    ("uid", "firing"),
    [
        ("maillages-seuil-local-2", {"hoyoux-huy", "mehaigne-moha"}),
        ("maillages-station-muette", {"mehaigne-moha", "geer-bergilers", "burdinale"}),
    ],
)
def test_alert_rule_fires_for_the_right_stations(influx: Influx, uid: str, firing: set[str]) -> None:
    (rule,) = (r for r in RULES if r["uid"] == uid)
    (data, _, threshold) = rule["data"]
    answer = influx.ask(data["model"]["query"], span=data["relativeTimeRange"]["from"] * 1000)
    evaluator = threshold["model"]["conditions"][0]["evaluator"]
    compare = {"gt": float.__gt__, "lt": float.__lt__}[evaluator["type"]]
    assert all(set(tags) == {"station", "quantity", "commune"} for tags, _ in answer)
    fired = {tags["station"] for tags, rows in answer if compare(float(rows[-1]["last"]), evaluator["params"][0])}
    assert fired == firing
