"""The boards: our own linter of their form, and every query of theirs on a real InfluxDB 1.6 that central's own code has filled with
the demo's flood (tests/grafana/flood.py), each with a value that is known from the data."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from central.store.influx import Influx as Store
from demo.series import river
from grafana.model import CALM, PRESENT
from tests import servers
from tests.grafana.flood import CALIBRATED_BY, FLOOD_S, SILENT_MIN, STATIONS, Flood
from tests.grafana.influx import Influx, Rows
from tests.grafana.test_provisioning import PROVISIONING
from wire.quantities import QUANTITIES

ROOT = Path(__file__).parents[2] / "grafana"
BOARDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "dashboards").glob("*.json"))
}
PANELS = [
    pytest.param(board, panel, id=f"{name}-{panel['id']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
]
TARGETS = {
    f"{name}-{panel['id']}-{target['refId']}": (board, panel, target)
    for name, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel["targets"]
}

NOW_MS = 1_784_045_100_000  # 2026-07-14T16:05:00Z
MINUTE_MS = 60_000
FLOOD_MIN = 240
SPANS_MIN = {"10m": 10, "2h": 120, "3h": 180, "7d": 7 * 1440, "30d": 30 * 1440, "10y": 3653 * 1440}
UNITS = {
    "none", "percent", "percentunit", "lengthmm", "celsius", "ppm", "volt", "dBm", "conμgm3", "s", "dtdhms", "suffix: m", "suffix: s",
    "suffix: min", "suffix: cm/h", "time:HH:mm", "time:DD/MM HH:mm", "time:DD/MM HH:mm:ss", "time:DD/MM/YYYY HH:mm",
}  # fmt: skip
CREST = river().at(FLOOD_S - 10)


def mean(newest_min: int, oldest_min: int) -> float:
    """Of the readings at Huy from so many minutes ago (included) to so many."""
    return sum(river().at(FLOOD_S - 60 * n - 10) for n in range(newest_min, oldest_min)) / (oldest_min - newest_min)


AGE_S = SILENT_MIN * 60 + 10.0

MOHA, SCHOOL, LIMONT, MARCHIN = (
    {"station": s} for s in ("mehaigne-moha", "ecole-wanze", "yerne-limont", "hoyoux-marchin")
)
HUY = {"commune": "61031"}

# Of every query: the variables, what finds the row (the last such row is taken), a column and its value.
KNOWN: dict[str, tuple[dict[str, str], dict[str, Any], str, Any]] = {
    "situation-1-A": ({}, {}, "Seuil local 3", 2),
    "situation-2-A": ({}, {}, "Âge", 10 / 60),
    "situation-3-A": ({}, {}, "time", NOW_MS),
    "situation-4-A": ({}, {"Station": "Huy, pont du Hoyoux"}, "Niveau", CREST),
    "situation-4-B": ({}, {"station": "burdinale-marneffe"}, "Âge", AGE_S),
    "situation-5-A": ({}, {"station": "mehaigne-moha"}, "Seuil suivant", 1.2),
    "situation-5-B": ({}, {"station": "solieres-huy"}, "Grandeur", "unknown"),
    "situation-6-A": ({}, {"station": "burdinale-marneffe"}, "Muette depuis", AGE_S),
    "situation-7-A": ({}, {"station": "hoyoux-huy"}, "max", CREST / 1.2),
    "situation-10-A": ({}, {"Station": "Donceel, Yerne à Limont"}, "part", 0.0),
    "situation-11-A": ({}, {"station": "hoyoux-huy"}, "max", CREST / 1.2),
    "situation-12-A": ({}, {"station": "burdinale-marneffe"}, "max", 2 - 4),
    "situation-13-A": ({}, {}, "Sans réponse", 4),
    "situation-14-A": ({}, {}, "Hors ligne", 2),
    "commune-1-A": (HUY, {}, "Muettes", 1),
    "commune-2-A": (HUY, {}, "Sans réponse", 1),
    "commune-3-A": (HUY, {}, "Envoyés", pytest.approx(19, abs=1)),
    "commune-4-A": (HUY, {}, "Âge", 10 / 60),
    "commune-5-A": (HUY, {"station": "mehaigne-moha"}, "Niveau (m)", 0.8396),
    "commune-6-A": ({"commune": "61072"}, {"Grandeur": "pm10"}, "Station", "Wanze, école communale"),
    "commune-7-A": (HUY, {"station": "hoyoux-huy"}, "Niveau (m)", CREST),
    "commune-8-A": (HUY, {"station": "mehaigne-moha"}, "max", 0.8396 / 1.2),
    "commune-9-A": (HUY, {"station": "hoyoux-huy"}, "max", CREST / 1.2),
    "commune-10-A": (HUY, {"station": "solieres-huy"}, "max", -4),
    "commune-11-A": ({"commune": "61039"}, {"Destinataire": "Garde de Marchin"}, "Résultat", "failed"),
    "commune-12-A": (HUY, {"station": "hoyoux-huy"}, "Seuil", 1),
    "station-1-A": ({}, {}, "Niveau", CREST),
    "station-2-A": ({}, {}, "Seuil", 3),
    "station-3-A": ({}, {}, "Tendance", 132.0744827586207),
    "station-4-A": (MOHA, {}, "Dans", (1.2 - 0.8396) / 1.2556551724137933 * 60),
    "station-5-A": ({}, {}, "Âge", 10 / 60),
    "station-6-A": ({}, {}, "Réponse", ""),
    "station-7-A": ({}, {}, "Niveau", CREST),
    "station-7-B": ({}, {}, "Seuil local 2", 0.8),
    "station-7-C": (MOHA, {"time": NOW_MS + 60 * MINUTE_MS}, "Projection", 0.8396 + 1.2556551724137933),
    "station-8-A": ({}, {}, "Fiche", "https://fiches.example.be/hoyoux-huy"),
    "station-9-A": ({}, {"time": NOW_MS - 20 * MINUTE_MS}, "Vitesse", (mean(5, 20) - mean(20, 35)) * 400),
    "station-10-A": (MARCHIN, {"time": 1_784_041_200_000}, "Pluie", 11.4),
    "station-11-A": (SCHOOL, {}, "Air", 11.5),
    "station-11-B": (MOHA, {}, "Eau", 8.4),
    "station-12-A": (MOHA, {}, "Batterie", 3.896),
    "station-12-B": (MOHA, {}, "Charge", 83),
    "station-12-C": (MOHA, {}, "Signal", -93),
    "station-13-A": (LIMONT, {"time": 1_784_041_200_000}, "bon", 60),
    "station-13-B": (LIMONT, {}, "non évalué", 1),
    "station-13-C": ({}, {}, "suspect ou d'intérêt", 5),
    "station-13-D": ({}, {}, "mauvais", 1),
    "station-14-A": ({"station": "burdinale-marneffe"}, {"quantity": "water_level"}, "min", 0),
    "station-15-A": ({}, {}, "Par", CALIBRATED_BY),
    "station-16-A": ({}, {"Passage": "raise"}, "Valeur", 0.55168),
    "air-1-A": (SCHOOL, {}, "last_ecole-wanze/dust-1/belaqi_hourly_indicative", 10),
    "air-2-A": (SCHOOL, {}, "last_ecole-wanze/dust-1/belaqi_daily_indicative", 8),
    "air-3-A": (SCHOOL, {}, "Valeur", 40.61),
    "air-4-A": (SCHOOL, {}, "Valeur", 105.39),
    "air-5-A": (SCHOOL, {}, "Valeur", 785),
    "air-6-A": (SCHOOL, {}, "mean_ecole-wanze/dust-1/pm2_5_mean_24h", 31.225),
    "air-7-A": (SCHOOL, {}, "mean_ecole-wanze/dust-1/pm10_mean_24h", 73.744),
    "air-8-A": (SCHOOL, {}, "PM2,5", 40.6),
    "air-8-B": (SCHOOL, {}, "PM10", 108.1),
    "air-9-A": (SCHOOL, {}, "CO2", 787),
    "air-10-A": (SCHOOL, {}, "Air", 11.5),
    "air-11-A": (SCHOOL, {}, "PM2,5", 40.1),
    "chaine-1-A": ({}, {}, "En ligne", 3),
    "chaine-2-A": ({}, {}, "time", NOW_MS),
    "chaine-3-A": ({}, {}, "Valeur", 4),
    "chaine-4-A": ({}, {}, "Valeur", 0),
    # A step that reached nobody is followed at once, by the clock of the machine and not by that of the flood: one more or less.
    "chaine-5-A": ({}, {}, "Valeur", pytest.approx(12, abs=1)),
    "chaine-6-A": ({}, {}, "Valeur", 7),
    "chaine-7-A": ({}, {}, "Valeur", 0),
    "chaine-8-A": ({}, {"Passerelle": "gw-burdinne-01"}, "Entendue il y a", SILENT_MIN * 60),
    "chaine-9-A": ({}, {"Passerelle": "gw-waremme-01"}, "Alimentation", 1),
    "chaine-10-A": ({}, {"gateway": "gw-solieres-01"}, "min", 0),
    "chaine-11-A": ({}, {"gateway": "gw-waremme-01"}, "max", 3),
    "chaine-12-A": ({}, {"gateway": "gw-waremme-01"}, "max", pytest.approx(4.4, abs=1e-3)),
    "chaine-13-A": ({}, {}, "Envoyés", 3),
    "chaine-13-B": ({}, {}, "Échecs", 0),
    "chaine-14-A": ({}, {}, "Clients", 7),
    "chaine-14-B": ({}, {}, "Messages gardés", 42),
    "chaine-15-A": ({}, {"station": "burdinale-marneffe"}, "mean", 540 / 1440),
    "chaine-16-A": ({}, {"station": "mehaigne-moha"}, "min", -93),
    "chaine-17-A": ({}, {"station": "mehaigne-moha"}, "min", 3.896),
    "apres-1-A": ({}, {}, "Crête", CREST),
    "apres-2-A": ({}, {}, "time", NOW_MS - 10_000),
    "apres-3-A": ({}, {}, "Minutes", 122),
    "apres-4-A": ({}, {}, "Minutes", 110),
    "apres-5-A": ({}, {}, "Minutes", 28),
    "apres-6-A": ({}, {}, "Niveau", CREST),
    "apres-6-B": ({}, {}, "Seuil local 3", 1.2),
    "apres-7-A": (MARCHIN, {"time": 1_784_041_200_000}, "Pluie", 11.4),
    "apres-8-A": ({}, {"Passage": "escalate"}, "Valeur", 1.2009),
    "apres-9-A": ({}, {"Passage": "ack"}, "Seuil", 2),
    "apres-10-A": ({}, {"Destinataire": "Bourgmestre de Huy"}, "Voie", "sms"),
    "apres-11-A": ({"station": "geer-bergilers"}, {}, "Durée", 21 * 60),
}  # fmt: skip


def settings(panel: dict[str, Any], name: str) -> Iterator[Any]:
    """Every value of a field setting: the default and those of the overrides."""
    config = panel["fieldConfig"]
    if name in config["defaults"]:
        yield config["defaults"][name]
    for override in config["overrides"]:
        yield from (p["value"] for p in override["properties"] if p["id"] == name)


def queries() -> Iterator[tuple[str, str]]:
    """Name and text of every query of panels, annotations and variables."""
    for name, (_, _, target) in TARGETS.items():
        yield name, target["query"]
    for name, board in BOARDS.items():
        for annotation in board["annotations"]["list"]:
            if "query" in annotation:
                yield f"{name}-annotation-{annotation['name']}", annotation["query"]
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{name}-variable-{variable['name']}", variable["query"]


def outer_columns(query: str) -> list[str]:
    """Column names of the outer SELECT; none for fields that are chosen by a regular expression."""
    head = re.split(r"\bFROM\b", query, maxsplit=1)[0]
    parts = re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)(?![^(]*\))', head.removeprefix("SELECT"))
    return [names[-1] for part in parts if (names := re.findall(r'"([^"]+)"', part))]


# --- form


def test_committed_boards_and_rules_are_what_the_generator_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "grafana.boards", tmp_path], check=True, cwd=ROOT.parent)
    for made in ("dashboards", "provisioning/alerting"):
        written = {path.name: path.read_bytes() for path in (tmp_path / made).iterdir()}
        assert written == {path.name: path.read_bytes() for path in (ROOT / made).iterdir()}


def test_the_six_boards_are_there_under_stable_uids() -> None:
    assert {name: board["uid"] for name, board in BOARDS.items()} == {
        name: f"maillages-{name}" for name in ("situation", "commune", "station", "air", "chaine", "apres")
    }


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_board_has_unique_ids_and_loads_from_grafana_10(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert board["schemaVersion"] <= 42
    assert (board["timezone"], board["weekStart"]) == ("Europe/Brussels", "monday")
    assert {a["name"] for a in board["annotations"]["list"]} >= {"Alarmes", "Acquittements", "Pannes", "Notes"}
    assert board["description"]


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_do_not_overlap_and_fit_the_width(board: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in board["panels"]]
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, (a, b)
    assert max(p["x"] + p["w"] for p in places) == 24
    covered = {(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])}
    assert len(covered) == 24 * max(p["y"] + p["h"] for p in places), (
        "no hole that Grafana would close by moving panels"
    )


def test_the_wall_fits_1080_lines() -> None:
    assert max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in BOARDS["situation"]["panels"]) <= 27


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_panel_explains_itself_and_uses_the_provisioned_source(board: dict[str, Any], panel: dict[str, Any]) -> None:
    uids = {source["uid"] for source in PROVISIONING["datasources/maillages.yaml"]["datasources"]}
    assert panel["title"]
    assert len(panel["description"]) > 40
    assert panel["datasource"]["uid"] in uids
    assert {target["datasource"]["uid"] for target in panel["targets"]} <= uids
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    defaults = panel["fieldConfig"]["defaults"]
    assert "unit" in defaults or panel["type"] == "geomap", "a number without unit"
    assert set(settings(panel, "unit")) <= UNITS
    assert defaults.get("noValue"), "an empty panel must say what empty means"
    for limits in settings(panel, "thresholds"):
        first, *steps = [step["value"] for step in limits["steps"]]
        assert first is None
        assert steps == sorted(set(steps))
    assert panel.get("timeFrom") in {None, *SPANS_MIN}


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_tile_never_shows_the_unknown_in_green(board: dict[str, Any], panel: dict[str, Any]) -> None:
    if panel["type"] == "stat":
        for limits in settings(panel, "thresholds"):
            assert limits["steps"][0]["color"] != CALM, "no value has the colour of the first step"
    for mapping in (m for mappings in settings(panel, "mappings") for m in mappings if m["type"] == "special"):
        assert mapping["options"]["result"]["color"] != CALM, "without a row, a tile shows what null maps to"


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_nothing_of_the_present_is_never_told_as_good_news(board: dict[str, Any], panel: dict[str, Any]) -> None:
    """Without central every panel of the present is empty: it may not say that no station is silent, or none upstream."""
    empty = panel["fieldConfig"]["defaults"]["noValue"]
    if panel.get("timeFrom") == PRESENT and len(empty) > len("Courtier muet"):
        assert "central" in empty or "depuis 10 minutes" in empty


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_panel_refers_to_columns_that_its_queries_give(board: dict[str, Any], panel: dict[str, Any]) -> None:
    given = {"Time"} | {name for t in panel["targets"] for name in outer_columns(t["query"])}
    if any("$tag_quantity" in t["alias"] for t in panel["targets"]):
        given |= set(QUANTITIES)
    named = {o["matcher"]["options"] for o in panel["fieldConfig"]["overrides"]}
    for layer in panel["options"].get("layers", []):
        style = layer["config"]["style"]
        if layer["type"] == "markers":
            named |= {layer["location"]["latitude"], layer["location"]["longitude"]}
            named |= {style[key]["field"] for key in ("color", "text") if style.get(key, {}).get("field")}
            assert layer["filterData"]["options"] in {target["refId"] for target in panel["targets"]}
        else:
            shipped = json.loads((ROOT / "maps" / Path(layer["config"]["src"]).name).read_text(encoding="utf-8"))
            assert all(style["text"]["field"] in f["properties"] for f in shipped["features"])
    assert named <= given
    columns = {o["matcher"]["options"] for o in panel["fieldConfig"]["overrides"]} | given
    for sort in panel["options"].get("sortBy", []):
        shown = set(settings(panel, "displayName")) | columns
        assert sort["displayName"] in shown


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_links_lead_to_a_board_that_takes_them(board: dict[str, Any], panel: dict[str, Any]) -> None:
    given = {name for t in panel["targets"] if t["resultFormat"] == "table" for name in outer_columns(t["query"])}
    takes = {b["uid"]: {v["name"] for v in b["templating"]["list"]} for b in BOARDS.values()}
    links = [link for links in settings(panel, "links") for link in links] + panel["links"]
    for link in links:
        if link["url"] == "${__value.raw}":
            continue
        to = re.fullmatch(r"/d/([^?]+)(?:\?var-(\w+)=(?:\$\{__data\.fields\.(\w+)\}|\$(\w+)))?", link["url"])
        assert to, link
        assert to[1] in takes
        if to[2]:
            assert to[2] in takes[to[1]]
            assert to[3] in given or to[4] in takes[board["uid"]]


KINDS = {"bargauge", "geomap", "stat", "state-timeline", "status-history", "table", "timeseries"}
TEXTS = {
    "station", "Station", "Nom", "Commune", "Passerelle", "Capteur", "Grandeur", "Grandeur muette", "Événement", "Passage", "État",
    "Destinataire", "Voie", "Résultat", "Texte envoyé", "Motif", "Répondu par", "Par", "Fiche", "Photo", "En ligne", "en_ligne", "Horloge",
    "Alimentation", "Modem SMS",
}  # fmt: skip
COUNTS = {"Seuil", "Seuil local", "En attente", "lat", "lon", "Pente"}
OF_THE_QUANTITY = {"Valeur", "Seuil suivant", "Dernière valeur", "Décalage"}
"""Numbers whose unit stands in the column Grandeur of the same row."""


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_every_number_of_a_table_has_its_unit(board: dict[str, Any], panel: dict[str, Any]) -> None:
    assert panel["type"] in KINDS
    if panel["type"] not in {"table", "geomap"}:
        return
    units = {
        o["matcher"]["options"]
        for o in panel["fieldConfig"]["overrides"]
        for p in o["properties"]
        if p["id"] == "unit" and p["value"] != "none"
    }
    for target in panel["targets"]:
        columns = set(outer_columns(target["query"]))
        bare = {c for c in columns - units - TEXTS - COUNTS if not re.search(r"\((?:m|%|µg/m³)\)$", c)}
        assert bare <= (OF_THE_QUANTITY if "Grandeur" in columns else set()), "numbers without unit"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_board_names_only_variables_sources_and_boards_that_exist(board: dict[str, Any]) -> None:
    own = {v["name"] for v in board["templating"]["list"]}
    parts = [board["panels"], board["annotations"]["list"], board["templating"]["list"]]
    used = set(re.findall(r"(?<!\()\$\{?([A-Za-z]\w*)", json.dumps(parts)))
    assert used <= own | {
        "timeFilter",
        "tag_station",
        "tag_gateway",
        "tag_quantity",
        "col",
        "SYS",
    }  # $SYS is a topic, in a text
    provisioned = {source["uid"] for source in PROVISIONING["datasources/maillages.yaml"]["datasources"]}
    sources = [part["datasource"] for part in (*parts[1], *parts[2]) if "datasource" in part]
    assert {source["uid"] for source in sources} <= provisioned | {"-- Grafana --"}
    for link in board["links"]:
        assert link["type"] == "dashboards"
        assert all(set(link["tags"]) <= set(other["tags"]) for other in BOARDS.values())


def test_the_map_and_the_alarms_lead_to_the_station_and_to_what_was_sent() -> None:
    text = {name: json.dumps(board) for name, board in BOARDS.items()}
    assert "/d/maillages-station?var-station=${__data.fields.station}" in text["situation"]
    panel = TARGETS["situation-4-A"][1]
    assert [link["url"] for links in settings(panel, "links") for link in links] == [
        "/d/maillages-station?var-station=${__data.fields.station}"
    ]
    assert "/d/maillages-apres?var-station=${__data.fields.station}" in text["situation"], "to the texts of the SMS"


@pytest.mark.parametrize("query", [pytest.param(text, id=name) for name, text in queries()])
def test_query_keeps_to_the_portable_subset(query: str) -> None:
    assert not re.search(r'FROM\s+"[^"]+"\."', query), "no retention policy, no database"
    assert not re.search(r"SLIMIT|SOFFSET|SAMPLE|HOLT_WINTERS|now\(\)|\binto\b", query, re.IGNORECASE)
    for select in re.findall(r"SELECT ([^()]*(?:\([^()]*\)[^()]*)*?) FROM", query):
        assert len(re.findall(r"\b(?:first|last|top|bottom|percentile)\(", select)) <= 1, "one selector"
    if query.startswith("SELECT"):
        assert "$timeFilter" in query


# --- every query, on a real database


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    directory = tmp_path_factory.mktemp("boards")
    with servers.influxd(directory) as server:
        store = Store(server.url, "maillages", None, None)
        store.setup()
        Flood(directory, store, NOW_MS / 1000, FLOOD_MIN).run()
        database = Influx(server.url, NOW_MS)
        database.create("empty")
        yield database


def ask(influx: Influx, name: str, **more: Any) -> Rows:
    """Rows of a target in the panel's own range, the tags of their series beside the columns."""
    board, panel, target = TARGETS[name]
    minutes = SPANS_MIN[panel["timeFrom"]] if "timeFrom" in panel else 1440
    to = board["time"]["to"]
    ahead = 60 * MINUTE_MS if to == "now+1h" and "timeFrom" not in panel else 0
    answer = influx.ask(target["query"], **{"span": minutes * MINUTE_MS, "ahead": ahead} | more)
    if target["resultFormat"] == "table":
        assert all(tags == {} for tags, _ in answer)
        assert len(answer) <= 1, "a table is one frame"
    return [tags | row for tags, rows in answer for row in rows]


@pytest.mark.system
@pytest.mark.parametrize("name", TARGETS)
def test_query_gives_its_columns_and_what_is_known_from_the_data(influx: Influx, name: str) -> None:
    variables, where, column, value = KNOWN[name]
    rows = [r for r in ask(influx, name, **variables) if where.items() <= r.items()]
    assert rows
    target = TARGETS[name][2]
    if target["resultFormat"] == "table" and "/" not in target["query"][:14]:
        assert set(rows[-1]) == {"time", *outer_columns(target["query"])}
    assert rows[-1][column] == (pytest.approx(value) if isinstance(value, float) else value)
    assert ask(influx, name, database="empty", **variables) == [], "no data is an empty answer: no error and no zero"


def test_something_is_known_of_every_query() -> None:
    assert KNOWN.keys() == TARGETS.keys()


@pytest.mark.system
def test_counts_by_threshold_know_zero_from_absent(influx: Influx) -> None:
    (row,) = ask(influx, "situation-1-A")
    assert list(row.values())[1:] == [2, 2, 0, 4, 2]
    assert ask(influx, "situation-1-A", commune="61080") == []
    assert sum(row[name] for name in ("Seuil local 3", "Seuil local 2", "Seuil local 1", "Sous les seuils")) == 8


@pytest.mark.system
def test_the_present_empties_when_central_stops(influx: Influx) -> None:
    later = NOW_MS + 11 * MINUTE_MS
    for name, (_, panel, _) in TARGETS.items():
        if panel.get("timeFrom") == "10m":
            assert ask(influx, name, now=later, **KNOWN[name][0]) == [], panel["title"]


@pytest.mark.system
def test_the_map_has_every_water_station_once_and_marks_the_silent(influx: Influx) -> None:
    rows = ask(influx, "situation-4-A")
    assert {r["station"]: r["Seuil local"] for r in rows} == {
        "hoyoux-huy": 3, "hoyoux-marchin": 3, "mehaigne-moha": 2, "burdinale-marneffe": 2, "meuse-amay": 0, "geer-bergilers": 0,
        "yerne-limont": 0,
    }  # fmt: skip
    assert len(rows) == 7
    assert all((r["lat"], r["lon"]) == STATIONS[r["station"]][4] for r in rows)
    assert [r["station"] for r in ask(influx, "situation-4-B")] == ["burdinale-marneffe"]


@pytest.mark.system
def test_to_handle_holds_levels_and_silence_with_who_has_answered(influx: Influx) -> None:
    rows = {r["station"]: r for r in ask(influx, "situation-5-A")}
    assert set(rows) == {"hoyoux-huy", "hoyoux-marchin", "mehaigne-moha", "burdinale-marneffe"}
    assert rows["hoyoux-huy"]["Seuil suivant"] is None, "the last one is passed"
    assert rows["burdinale-marneffe"]["Tendance"] is None
    assert {r["Répondu par"] for r in rows.values()} == {""}, "nobody has answered"
    earlier = {r["station"]: r for r in ask(influx, "situation-5-A", now=NOW_MS - 90 * MINUTE_MS)}
    assert earlier["hoyoux-huy"]["Répondu par"] == "Planification d'urgence, Huy"


@pytest.mark.system
def test_a_station_beyond_its_last_threshold_is_not_projected(influx: Influx) -> None:
    assert ask(influx, "station-7-C") == []
    points = ask(influx, "station-7-C", **MOHA)
    assert [p["time"] - NOW_MS for p in points] == [10 * n * MINUTE_MS for n in range(7)]


@pytest.mark.system
def test_what_was_sent_stands_there_word_by_word(influx: Influx) -> None:
    texts = [r["Texte envoyé"] for r in ask(influx, "apres-10-A") if r["Voie"] == "sms"]
    assert texts[-1].startswith("HUY-WAREMME seuil local 1 atteint. Huy, pont du Hoyoux: 0,55 m")


@pytest.mark.system
@pytest.mark.parametrize(("name", "text"), [pytest.param(n, t, id=n) for n, t in queries() if n not in TARGETS])
def test_annotations_and_variables_find_something(influx: Influx, name: str, text: str) -> None:
    more = {"station": "burdinale-marneffe"} if name.endswith("Pannes") else {}
    answer = influx.ask(text, **more)
    if not name.startswith("air-annotation") or more:  # the default station has alarms
        assert answer, name
    assert influx.ask(text, database="empty") == []
    if "annotation" in name:
        assert {"time", "text", "station"} <= set(answer[0][1][0])
