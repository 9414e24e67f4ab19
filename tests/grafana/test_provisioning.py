"""Boards and alert rules: their form, and every query of theirs on a real InfluxDB 1.6 filled as docs/wire.md says."""

import json
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from central.store.base import Point, Series
from central.store.influx import line
from tests import servers

ROOT = Path(__file__).parents[2] / "grafana"
BOARDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "dashboards").glob("*.json"))
}
PROVISIONING = {
    str(path.relative_to(ROOT / "provisioning")): yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "provisioning").glob("*/*.yaml"))
}
PANELS = [
    pytest.param(board, panel, id=f"{name}-{panel['id']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
]
RULES = [rule for group in PROVISIONING["alerting/maillages.yaml"]["groups"] for rule in group["rules"]]

NOW_MS = 1_784_045_100_000  # 2026-07-14T16:05:00Z
MINUTE_MS = 60_000
UNITS = {"none", "s", "lengthm", "percentunit", "dateTimeFromNow", "dateTimeAsLocal", "suffix: cm/h"}


def settings(panel: dict[str, Any], name: str) -> Iterator[Any]:
    """Every value of a field setting: the default and those of the overrides."""
    config = panel["fieldConfig"]
    if name in config["defaults"]:
        yield config["defaults"][name]
    for override in config["overrides"]:
        yield from (p["value"] for p in override["properties"] if p["id"] == name)


def queries() -> Iterator[tuple[str, str]]:
    """Name and text of every query of boards, annotations, variables and alert rules."""
    for name, board in BOARDS.items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{name}-{panel['id']}-{target['refId']}", target["query"]
        for annotation in board["annotations"]["list"]:
            yield f"{name}-annotation-{annotation['name']}", annotation["query"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{name}-variable-{variable['name']}", variable["query"]
    for rule in RULES:
        yield from ((f"{rule['uid']}-{d['refId']}", d["model"]["query"]) for d in rule["data"] if "query" in d["model"])


# --- form


def test_committed_boards_are_what_the_generator_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "boards.py", tmp_path], check=True)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in (ROOT / "dashboards").iterdir()}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_board_has_stable_unique_ids_and_loads_from_grafana_10(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert board["uid"].startswith("maillages-")
    assert board["schemaVersion"] <= 42
    assert (board["timezone"], board["weekStart"]) == ("Europe/Brussels", "monday")


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_do_not_overlap_and_fit_the_wall(board: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in board["panels"]]
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (a, b)
    assert max(p["x"] + p["w"] for p in places) == 24
    assert max(p["y"] + p["h"] for p in places) <= 26


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_panel_explains_itself_and_uses_the_provisioned_source(board: dict[str, Any], panel: dict[str, Any]) -> None:
    uids = {source["uid"] for source in PROVISIONING["datasources/maillages.yaml"]["datasources"]}
    assert panel["title"]
    assert len(panel["description"]) > 40
    assert panel["datasource"]["uid"] in uids
    assert {target["datasource"]["uid"] for target in panel["targets"]} <= uids
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert set(settings(panel, "unit")) <= UNITS
    assert panel["fieldConfig"]["defaults"].get("noValue"), "an empty panel must say what empty means"
    for limits in settings(panel, "thresholds"):
        first, *steps = [step["value"] for step in limits["steps"]]
        assert first is None
        assert steps == sorted(set(steps))


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_panel_refers_to_columns_that_its_queries_give(board: dict[str, Any], panel: dict[str, Any]) -> None:
    given = {"Time"} | {name for t in panel["targets"] for name in outer_columns(t["query"])}
    named = {o["matcher"]["options"] for o in panel["fieldConfig"]["overrides"]}
    if panel["type"] == "geomap":
        for layer in panel["options"]["layers"]:
            style = layer["config"]["style"]
            named |= {layer["location"]["latitude"], layer["location"]["longitude"]}
            named |= {style[key]["field"] for key in ("color", "text") if style.get(key, {}).get("field")}
            assert layer["filterData"]["options"] in {target["refId"] for target in panel["targets"]}
    assert named <= given
    for links in settings(panel, "links"):
        for link in links:
            uid = re.match(r"/d/([^?]+)\?var-(\w+)=\$\{__data\.fields\.(\w+)\}$", link["url"])
            assert uid, link
            assert uid[1] in {b["uid"] for b in BOARDS.values()}
            assert uid[2] in {v["name"] for v in board["templating"]["list"]}
            assert uid[3] in given


def outer_columns(query: str) -> list[str]:
    """Column names of the outer SELECT."""
    head = re.split(r"\bFROM\b", query, maxsplit=1)[0]
    parts = re.split(r",(?![^(]*\))", head.removeprefix("SELECT"))
    return [re.findall(r'"([^"]+)"', part)[-1] for part in parts]


@pytest.mark.parametrize("query", [pytest.param(text, id=name) for name, text in queries()])
def test_query_keeps_to_the_portable_subset(query: str) -> None:
    assert not re.search(r'FROM\s+"[^"]+"\."', query), "no retention policy, no database"
    assert not re.search(r"SLIMIT|SOFFSET|SAMPLE|HOLT_WINTERS", query)
    for select in re.findall(r"SELECT ([^()]*(?:\([^()]*\)[^()]*)*?) FROM", query):
        assert len(re.findall(r"\b(?:first|last|top|bottom|percentile)\(", select)) <= 1, "one selector"
    if query.startswith("SELECT"):
        assert "$timeFilter" in query


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


# --- every query, on a real database

Rows = list[dict[str, Any]]


class Influx:
    """A database, asked as Grafana's data source asks."""

    def __init__(self, url: str) -> None:
        self._url = url

    def create(self, database: str) -> None:
        self._post("/query", {}, urllib.parse.urlencode({"q": f'CREATE DATABASE "{database}"'}))

    def write(self, database: str, points: list[Point]) -> None:
        self._post("/write", {"db": database, "precision": "ms"}, "\n".join(line(p) for p in points))

    def ask(
        self, query: str, *, database: str = "maillages", now: int = NOW_MS, span: int = 86_400_000, **variables: str
    ) -> list[tuple[dict[str, str], Rows]]:
        """Series as (tags, rows) for the `span` ms that end `now`, macros and variables expanded as Grafana does."""
        text = expand(query, now - span, now, {"commune": ".*", "station": "hoyoux-huy"} | variables)
        answer = self._post("/query", {"db": database, "epoch": "ms"}, urllib.parse.urlencode({"q": text}))
        (result,) = answer["results"]
        assert "error" not in result, (result, text)
        return [
            (series.get("tags", {}), [dict(zip(series["columns"], row, strict=True)) for row in series["values"]])
            for series in result.get("series", [])
        ]

    def _post(self, path: str, parameters: dict[str, str], body: str) -> Any:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = urllib3.request(
            "POST", f"{self._url}{path}?{urllib.parse.urlencode(parameters)}", body=body, headers=headers
        )
        assert answer.status < 300, (answer.data, body)
        return answer.json() if answer.data else None


def expand(query: str, start_ms: int, end_ms: int, variables: dict[str, str]) -> str:
    """Macros and variables replaced; nothing of Grafana's may be left."""
    text = query.replace("$timeFilter", f"time >= {start_ms}ms and time <= {end_ms}ms")
    text = text.replace("$__interval_ms", "60000").replace("$__interval", "1m")
    for name, value in variables.items():
        text = re.sub(rf"\$(?:{name}\b|\{{{name}\}})", lambda _, v=value: v, text)
    assert not re.search(r"\$\w|\$\{", text), text
    return text


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
        database = Influx(server.url)
        database.create("maillages")
        database.create("empty")
        database.write("maillages", seed())
        yield database


def query(panel_id: int, ref: str = "A", board: str = "situation") -> str:
    (panel,) = (p for p in BOARDS[board]["panels"] if p["id"] == panel_id)
    (target,) = (t for t in panel["targets"] if t["refId"] == ref)
    text: str = target["query"]
    return text


def present(influx: Influx, panel_id: int, ref: str = "A", **more: Any) -> Rows:
    """Rows of a panel that shows the present: one frame, no tags beside its columns."""
    (panel,) = (p for p in BOARDS["situation"]["panels"] if p["id"] == panel_id)
    assert panel["timeFrom"] == "10m"
    answer = influx.ask(query(panel_id, ref), span=10 * MINUTE_MS, **more)
    assert all(tags == {} for tags, _ in answer)
    assert len(answer) <= 1
    return [row for _, rows in answer for row in rows]


@pytest.mark.system
@pytest.mark.parametrize(("name", "text"), [pytest.param(n, t, id=n) for n, t in queries()])
def test_query_runs_and_gives_its_columns(influx: Influx, name: str, text: str) -> None:
    answer = influx.ask(text)
    assert answer, "the seed has something for every query"
    assert influx.ask(text, database="empty") == [], "no data is an empty answer, never an error and never a zero"
    if text.startswith("SELECT"):
        for _, rows in answer:
            assert len(rows[0]) == 1 + len(outer_columns(text))


@pytest.mark.system
@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_every_column_of_a_table_comes_under_its_name(
    influx: Influx, board: dict[str, Any], panel: dict[str, Any]
) -> None:
    for target in panel["targets"]:
        if target["resultFormat"] == "table" and panel["id"] != 3:
            ((tags, rows),) = influx.ask(target["query"])
            assert tags == {}
            assert set(rows[0]) == {"time", *outer_columns(target["query"])}


@pytest.mark.system
def test_counts_by_threshold_know_zero_from_absent(influx: Influx) -> None:
    (row,) = present(influx, 1)
    del row["time"]
    assert row == {"Seuil local 3": 1, "Seuil local 2": 1, "Seuil local 1": 1, "Sous les seuils": 1, "Muettes": 3}
    (huy,) = present(influx, 1, commune="(61031|64023)")
    assert (huy["Seuil local 2"], huy["Muettes"], huy["Sous les seuils"]) == (0, 0, 1)
    assert present(influx, 1, commune="61003") == []


@pytest.mark.system
def test_the_present_empties_when_central_stops(influx: Influx) -> None:
    later = NOW_MS + 11 * MINUTE_MS
    for panel in BOARDS["situation"]["panels"]:
        if "timeFrom" in panel:
            for target in panel["targets"]:
                assert present(influx, panel["id"], target["refId"], now=later) == [], panel["title"]
    ((_, rows),) = influx.ask(query(3), now=later)
    assert rows[0]["time"] == NOW_MS


@pytest.mark.system
def test_the_newest_reading_may_be_zero_seconds_old(influx: Influx) -> None:
    (row,) = present(influx, 2)
    assert row["Âge"] == 0.0
    assert present(influx, 2, commune="64056") == [], "never heard has no age"


@pytest.mark.system
def test_the_map_has_every_water_station_once_and_marks_the_silent(influx: Influx) -> None:
    rows = {row["station"]: row for row in present(influx, 4)}
    assert len(present(influx, 4)) == len(rows)
    assert {station: (row["Seuil local"], row["Niveau"]) for station, row in rows.items()} == {
        "hoyoux-huy": (3, 2.4),
        "yerne-limont": (0, 0.0),
        "huy-quai": (0, 0.4),
        "mehaigne-moha": (2, 1.6),
    }, "silent below its thresholds is not drawn as calm"
    assert all(row["time"] == NOW_MS for row in rows.values())
    assert all((row["lat"], row["lon"]) == (50.51, 5.23) for row in rows.values())
    assert {row["station"] for row in present(influx, 4, "B")} == {"mehaigne-moha", "geer-bergilers"}


@pytest.mark.system
def test_to_handle_holds_levels_and_silence_and_nothing_else(influx: Influx) -> None:
    water = {row["station"]: row for row in present(influx, 5)}
    assert set(water) == {"hoyoux-huy", "mehaigne-moha", "geer-bergilers"}
    flood = water["hoyoux-huy"]
    assert (flood["Station"], flood["Commune"], flood["Grandeur"]) == ("Hoyoux à Huy", "61031", "water_level")
    assert (flood["Valeur"], flood["Seuil 1"], flood["Seuil 3"], flood["Âge"]) == (2.4, 1.0, 2.0, 12.0)
    assert flood["Tendance"] == pytest.approx(60)
    assert water["geer-bergilers"]["Valeur"] is None
    assert water["geer-bergilers"]["Âge"] is None
    assert water["geer-bergilers"]["En ligne"] == 0
    others = {row["station"]: row for row in present(influx, 5, "B")}
    assert set(others) == {"huy-quai", "burdinale"}
    air = others["huy-quai"]
    assert (air["Grandeur"], air["Valeur"], air["Seuil local"]) == ("pm2_5", 31.5, 1)
    assert present(influx, 5, commune="64023") == []


@pytest.mark.system
def test_silent_stations_tell_since_when_or_never(influx: Influx) -> None:
    rows = {row["Station"]: row["Muette depuis"] for row in present(influx, 6)}
    assert rows == {"Mehaigne à Moha": 7200.0, "Geer à Bergilers": None, "Burdinale": None}


@pytest.mark.system
def test_levels_are_drawn_with_gaps_and_without_the_silent(influx: Influx) -> None:
    shares = {tags["station"]: rows for tags, rows in influx.ask(query(7))}
    assert set(shares) == {"hoyoux-huy", "yerne-limont", "huy-quai"}
    assert shares["hoyoux-huy"][-1]["max"] == pytest.approx(1.2)
    assert shares["yerne-limont"][-1]["max"] == 0.0
    assert len(shares["hoyoux-huy"]) == 180, "minutes without a row give none"
    ((tags, level),) = influx.ask(query(8))
    assert tags == {"sensor": "level-1"}
    assert level[-1] == {"time": NOW_MS, "Niveau": 2.4}
    ((_, limits),) = influx.ask(query(8, "B"))
    assert limits[-1] == {"time": NOW_MS, "Seuil local 1": 1.0, "Seuil local 2": 1.5, "Seuil local 3": 2.0}


@pytest.mark.system
def test_alarm_events_come_newest_first_with_or_without_a_station(influx: Influx) -> None:
    ((_, rows),) = influx.ask(query(9))
    assert [row["Passage"] for row in rows] == ["clear", "ack", "escalate", "raise"]
    assert (rows[0]["station"], rows[0]["Valeur"], rows[0]["Seuil local"]) == (None, None, 0)
    assert (rows[-1]["station"], rows[-1]["Événement"]) == ("hoyoux-huy", "Hoyoux à Huy : seuil local 1")


@pytest.mark.system
def test_annotations_mark_beginnings_and_ends(influx: Influx) -> None:
    (annotation,) = BOARDS["situation"]["annotations"]["list"]
    ((_, rows),) = influx.ask(annotation["query"])
    assert [(row["text"], row["station"]) for row in rows] == [
        ("Chaîne rétablie", None),
        ("Hoyoux à Huy : seuil local 2", "hoyoux-huy"),
        ("Hoyoux à Huy : seuil local 1", "hoyoux-huy"),
    ]
    assert {annotation["textColumn"], annotation["tagsColumn"]} <= set(rows[0])


@pytest.mark.system
def test_stations_of_the_chosen_communes_can_be_chosen(influx: Influx) -> None:
    (variable,) = (v for v in BOARDS["situation"]["templating"]["list"] if v["name"] == "station")
    ((_, rows),) = influx.ask(variable["query"], commune="(61031|64023)")
    assert {row["value"] for row in rows} == {"hoyoux-huy", "huy-quai", "yerne-limont"}


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
