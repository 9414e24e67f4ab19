"""The files for Grafana's provisioning: their form, what they may use, and where an alert goes."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from grafana import alerts
from grafana.alerts import CENTRAL, EXERCISE, RULES, TECHNICIANS, Rule, Span
from wire.alarm import Kind

ROOT = Path(__file__).parents[2] / "grafana"
BOARDS = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "dashboards").glob("*.json"))]
PROVISIONING = {
    str(path.relative_to(ROOT / "provisioning")): yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "provisioning").glob("*/*.yaml"))
}
ALERTING = json.loads((ROOT / "provisioning/alerting/maillages.json").read_text(encoding="utf-8"))
(TREE,) = ALERTING["policies"]
GROUPING = {"group_by", "group_wait", "group_interval", "repeat_interval"}

each_rule = pytest.mark.parametrize("rule", [pytest.param(r, id=r.uid.removeprefix("maillages-")) for r in RULES])


def test_no_secret_and_no_address_stands_in_a_file() -> None:
    (source,) = PROVISIONING["datasources/maillages.yaml"]["datasources"]
    settings = {p["name"]: p["receivers"][0]["settings"] for p in ALERTING["contactPoints"]}
    for value in (
        source["url"], source["user"], source["jsonData"]["dbName"], source["secureJsonData"]["password"], settings[CENTRAL]["url"],
        settings[CENTRAL]["password"], settings[TECHNICIANS]["addresses"],
    ):  # fmt: skip
        assert re.fullmatch(r"\$MAILLAGES_[A-Z_]+", value), "braces would expand a $ in the value once more"


@each_rule
def test_rule_points_at_a_panel_and_uses_what_grafana_10_knows(rule: Rule) -> None:
    known = {board["uid"]: {panel["id"] for panel in board["panels"]} for board in BOARDS}
    made = rule.file()
    assert made["panelId"] in known[made["dashboardUid"]]
    assert made["noDataState"] in {"NoData", "Alerting", "OK"}, "KeepLast is of 10.4"
    assert made["execErrState"] in {"Error", "Alerting"}, "OK would call a dead database calm water"
    refs = [d["refId"] for d in made["data"]]
    assert len(set(refs)) == len(refs)
    for data in made["data"]:
        model = data["model"]
        assert model["refId"] == data["refId"]
        assert set(re.findall(r"\b[A-E]\b", model.get("expression", ""))) <= set(refs)
        for condition in model.get("conditions", ()):
            assert condition["evaluator"]["type"] in {"gt", "lt", "within_range"}
    assert "$$" not in json.dumps(made["annotations"]), "annotations are taken raw"
    assert "$" not in json.dumps([made["labels"], made["title"]]), "labels and titles are expanded"
    assert made["labels"].get("genre", "high") in get_args(Kind)


@each_rule
def test_what_no_data_and_an_error_are_has_a_reason(rule: Rule) -> None:
    for state, reason in (rule.absent, rule.error):
        assert len(reason) > 20, state
    if rule.query.find("station_status") > 0:
        assert rule.absent[0] != "OK", "OK would call a dead central a calm river"


@each_rule
def test_rule_query_keeps_to_the_portable_subset(rule: Rule) -> None:
    assert not re.search(r'FROM\s+"[^"]+"\.|SLIMIT|SOFFSET|now\(\)', rule.query)
    assert len(re.findall(r"\b(?:first|last|top|bottom|percentile|min|max)\(", rule.query)) <= 1, "one selector"
    assert "$timeFilter" in rule.query
    assert not re.search(r"\$(?!timeFilter)", rule.query), "a rule has no variables"


def test_uids_are_different_and_fit() -> None:
    uids = [r.uid for r in RULES]
    assert len(set(uids)) == len(uids)
    assert all(len(uid) <= 40 for uid in uids), "Grafana's limit"


def matching(labels: dict[str, str]) -> dict[str, Any]:
    """The route that Grafana takes: the first below the root whose matchers all hold."""
    for route in TREE["routes"]:
        checks = {
            "=": lambda value, wanted: value == wanted,
            "=~": lambda value, wanted: bool(re.fullmatch(wanted, value)),
        }
        if all(checks[op](labels.get(name, ""), wanted) for name, op, wanted in route["object_matchers"]):
            return route
    return TREE


@each_rule
def test_stations_go_to_central_and_central_to_the_technicians(rule: Rule) -> None:
    route = matching({"alertname": rule.title, **rule.labels})
    chain = "central_status" in rule.query or rule.uid == "maillages-central-muet"
    assert route["receiver"] == (TECHNICIANS if chain else CENTRAL)
    if rule.kind in ("high", "rise"):
        assert "mute_time_intervals" not in route, "a real flood during an exercise is told"
    elif rule.kind:
        assert route["mute_time_intervals"] == [EXERCISE]


@each_rule
@pytest.mark.parametrize("name", ["DatasourceNoData", "DatasourceError"])
def test_what_a_dead_database_makes_of_a_rule_never_goes_to_central(rule: Rule, name: str) -> None:
    assert matching({**rule.labels, "alertname": name})["receiver"] == TECHNICIANS


def test_policies_name_what_exists() -> None:
    points = {p["name"] for p in ALERTING["contactPoints"]}
    mutes = {m["name"] for m in ALERTING["muteTimes"]}
    assert {TREE["receiver"], *(r["receiver"] for r in TREE["routes"])} == points
    assert {name for r in TREE["routes"] for name in r.get("mute_time_intervals", [])} == mutes
    assert all(set(r) >= GROUPING for r in TREE["routes"])
    template = ALERTING["templates"][0]["template"]
    settings = next(p["receivers"][0]["settings"] for p in ALERTING["contactPoints"] if p["name"] == TECHNICIANS)
    for name in re.findall(r'template "([^"]+)"', settings["subject"] + settings["message"]):
        assert f'define "{name}"' in template


def test_a_query_that_finds_nothing_is_not_told_in_the_words_of_its_rule() -> None:
    """Grafana gives such an alert the annotations of the rule: "threshold reached"."""
    text = ALERTING["templates"][0]["template"]
    of_queries, of_rules = re.search(
        r"if \.Labels\.rulename \}\}(.*?)\{\{ else \}\}\{\{ \.Annotations\.summary(.*?)PanelURL", text, re.S
    ).groups()  # type: ignore[union-attr]
    assert "sans_donnees" in of_queries
    assert "en_erreur" in of_queries
    assert "summary" not in of_queries
    assert "description" in of_rules


def test_an_exercise_is_a_mute_timing_in_utc() -> None:
    span = Span.parse("2026-12-05T09:00+01:00/2026-12-05T12:30+01:00")
    assert span.interval() == {
        "times": [{"start_time": "08:00", "end_time": "11:30"}],
        "days_of_month": ["5"], "months": ["12"], "years": ["2026"],
    }  # fmt: skip
    until_midnight = Span.parse("2026-12-05T22:00+00:00/2026-12-06T00:00+00:00")
    assert until_midnight.interval()["times"] == [{"start_time": "22:00", "end_time": "24:00"}]
    made = alerts.provisioning(span)
    assert made["muteTimes"][0]["time_intervals"] == [span.interval()]


@pytest.mark.parametrize(
    "text",
    ["", "2026-12-05T09:00+01:00", "2026-12-05T09:00/2026-12-05T10:00", "2026-12-05T10:00Z/2026-12-05T09:00Z",
     "2026-12-05T20:00Z/2026-12-06T09:00Z"],
)  # fmt: skip
def test_an_exercise_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|Invalid"):
        Span.parse(text)
