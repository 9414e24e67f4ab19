# ruff: noqa: S608 - the queries are made of constants of this file
"""Writes the boards: `python grafana/boards.py [DIRECTORY]`, by default grafana/dashboards beside this file.

Classic dashboard JSON (schemaVersion 38, that of Grafana 10.0): Grafana 10 to 13 load it, the newer dashboard schemas do not
load on 10 and 11. The JSON is committed; a test writes it again and compares. uid and panel ids never change: alert rules and
people's bookmarks point at them.

Queries are InfluxQL that InfluxDB 1.x, 2.x and 3.x all run: one selector with plain fields, or aggregates, in a subquery; no
retention policy, no SLIMIT. A table comes from an outer SELECT without GROUP BY, so that it is one frame with the tags as
columns whatever the version: a map layer draws no more than its first frame.

What the boards show as the present is read from the last ten minutes only: when central stops writing, the map empties and
the tiles say so. Nothing old stays on the wall as if it were now.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import texts
from wire.quantities import QUANTITIES

Json = Mapping[str, Any]

DATASOURCE = {"type": "influxdb", "uid": "maillages-influxdb"}
SITUATION = "maillages-situation"
PRESENT = "10m"  # central writes station_status every minute

# Local thresholds have colours of their own; black and white print and colour-blind readers have the number beside it.
NEUTRAL, CALM, LEVEL_1, LEVEL_2, LEVEL_3, SILENT = "#5a6473", "#2f8f4e", "#f2cc0c", "#ff9830", "#e02f44", "#8f5fd6"

COMMUNES: Mapping[str, str] = texts.phrases("commune")
"""Name by NIS code, in the order of the catalogue."""

_UNITS_FR = {"Cel": "°C", "ug/m3": "µg/m³", "%RH": "%", "%EL": "%"}

TRANSITIONS_FR = {
    "raise": "survenue", "escalate": "aggravation", "deescalate": "atténuation", "clear": "fin", "ack": "acquittée",
    "shelve": "mise en attente", "unshelve": "reprise", "suppress": "suspendue", "unsuppress": "rétablie",
    "out_of_service": "hors service", "in_service": "en service", "reset": "réarmée", "notify": "message",
}  # fmt: skip

STATES_FR = {
    "NORMAL": "normal", "UNACK": "non acquittée", "ACK": "acquittée", "RTN_UNACK": "terminée, non acquittée",
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """One InfluxQL query. `alias` names the series of a time series."""

    query: str
    ref: str = "A"
    table: bool = True
    alias: str = ""

    def json(self) -> Json:
        return {
            "refId": self.ref,
            "datasource": DATASOURCE,
            "query": self.query,
            "rawQuery": True,
            "resultFormat": "table" if self.table else "time_series",
            "alias": self.alias,
        }


@dataclass(frozen=True)
class Panel:
    """One panel. `at` is x, y, width, height in grid units (24 wide, 26 high fill a 1080p wall); `defaults` is the field
    configuration, `overrides` its exceptions by column name; `present` reads the last ten minutes only."""

    id: int
    kind: str
    title: str
    description: str
    at: tuple[int, int, int, int]
    targets: Sequence[Target]
    options: Json
    defaults: Json
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    transformations: Sequence[Json] = ()
    present: bool = False

    def json(self) -> Json:
        x, y, w, h = self.at
        overrides = [
            {
                "matcher": {"id": "byName", "options": name},
                "properties": [{"id": key, "value": value} for key, value in properties.items()],
            }
            for name, properties in self.overrides.items()
        ]
        return {
            "id": self.id,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "gridPos": {"x": x, "y": y, "w": w, "h": h},
            "datasource": DATASOURCE,
            "targets": [target.json() for target in self.targets],
            "options": self.options,
            "fieldConfig": {"defaults": self.defaults, "overrides": overrides},
            "transformations": list(self.transformations),
        } | ({"timeFrom": PRESENT} if self.present else {})


def thresholds(*steps: tuple[float, str], base: str) -> Json:
    """Colour steps: `base` below the first, each colour from its value on."""
    rest = [{"value": value, "color": color} for value, color in steps]
    return {"mode": "absolute", "steps": [{"value": None, "color": base}, *rest]}


def values(texts: Mapping[str, str]) -> Json:
    """What is shown for a stored value."""
    options = {key: {"text": text, "index": index} for index, (key, text) in enumerate(texts.items())}
    return {"type": "value", "options": options}


LEVELS = thresholds((1, LEVEL_1), (2, LEVEL_2), (3, LEVEL_3), base=CALM)
HIDDEN = {"custom.hidden": True}
COMMUNE = {"mappings": [values(COMMUNES)]}
QUANTITIES_FR = {q.name: f"{q.label_fr} ({_UNITS_FR.get(q.unit, q.unit)})" for q in QUANTITIES.values()}
# central writes a station that its gateway never described under the quantity "unknown".
QUANTITY = {"mappings": [values(QUANTITIES_FR | {"unknown": "Station jamais décrite"})]}
STATION_LINK = {
    "links": [
        {"title": "Niveau et seuils de la station", "url": f"/d/{SITUATION}?var-station=${{__data.fields.station}}"}
    ]
}


def last_status(*fields: str, where: str = "") -> str:
    """The last row of every station and quantity. Of the selector `online`, the one field that no row goes without: a
    silent station has a row, and may have no value and no level."""
    columns = ", ".join(f'"{name}"' for name in fields)
    return (
        f'SELECT last("online") AS "en_ligne", {columns} FROM "station_status" '
        f'WHERE {where}"commune" =~ /^$commune$/ AND $timeFilter GROUP BY "station", "quantity", "commune"'
    )


def _counts() -> str:
    """Number of stations at each local threshold, below all of them, and silent.

    InfluxQL has no CASE, and its count() of nothing is no row instead of 0. So each column sums a polynomial that is 1 at its
    level and 0 at the three others: no station at threshold 3 reads 0, no station at all reads nothing.
    """
    inner = last_status("level")
    per_station = (
        f'SELECT max("level") AS "l", min("en_ligne") AS "ok" FROM ({inner}) WHERE $timeFilter GROUP BY "station"'
    )
    each = (
        'SELECT "l" * ("l" - 1) * ("l" - 2) / 6 AS "trois", "l" * ("l" - 1) * (3 - "l") / 2 AS "deux", '
        '"l" * ("l" - 2) * ("l" - 3) / 2 AS "un", "ok" * (1 - "l") * (2 - "l") * (3 - "l") / 6 AS "zero", '
        f'1 - "ok" AS "muette" FROM ({per_station})'
    )
    return (
        'SELECT sum("trois") AS "Seuil local 3", sum("deux") AS "Seuil local 2", sum("un") AS "Seuil local 1", '
        f'sum("zero") AS "Sous les seuils", sum("muette") AS "Muettes" FROM ({each}) WHERE $timeFilter'
    )


def _tile(text: str = "value", fields: str = "", color: str = "background") -> Json:
    """Options of a stat panel; `fields` is a regular expression of column names, by default every number."""
    return {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": fields},
        "colorMode": color,
        "graphMode": "none",
        "justifyMode": "center",
        "orientation": "vertical",
        "textMode": text,
    }


def _table(*sort: tuple[str, bool]) -> Json:
    """Options of a table; `sort` is columns, most important first, and whether they descend."""
    return {
        "showHeader": True,
        "cellHeight": "md",
        "footer": {"show": False, "reducer": ["sum"], "fields": ""},
        "sortBy": [{"displayName": name, "desc": desc} for name, desc in sort],
    }


TABLE_CELLS = {"custom": {"align": "auto", "filterable": False}, "noValue": "—"}
# In a table level 0 is an alarm that ended or a silent station: grey, not the green of a calm river.
LEVEL_CELL = {
    "custom.cellOptions": {"type": "color-background", "mode": "basic"},
    "thresholds": thresholds((1, LEVEL_1), (2, LEVEL_2), (3, LEVEL_3), base=NEUTRAL),
}
AGE = {"unit": "s", "decimals": 0}
METRES = {"unit": "lengthm", "decimals": 2}


def _lines(unit: str, limits: Json, style: str) -> Json:
    """Field defaults of a time series; a gap longer than ten minutes stays a gap."""
    return {
        "unit": unit,
        "decimals": 2 if unit == "lengthm" else 0,
        "noValue": "Aucune mesure",
        "color": {"mode": "palette-classic"},
        "thresholds": limits,
        "custom": {
            "drawStyle": "line",
            "lineWidth": 2,
            "fillOpacity": 0,
            "showPoints": "never",
            "spanNulls": 600_000,
            "thresholdsStyle": {"mode": style},
        },
    }


LEGEND = {
    "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom"},
    "tooltip": {"mode": "multi", "sort": "desc"},
}


def counts() -> Panel:
    tile = {"color": {"mode": "thresholds"}}
    return Panel(
        id=1,
        kind="stat",
        title="Stations par seuil local",
        description=(
            "Nombre de stations par seuil local atteint, toutes grandeurs confondues, et nombre de stations muettes. Une "
            "station muette garde, si elle l'a transmis, son dernier seuil. Les seuils locaux sont ceux de la commune : ce "
            "ne sont pas les phases de crue du SPW."
        ),
        at=(0, 0, 14, 4),
        targets=[Target(_counts())],
        options=_tile("value_and_name"),
        defaults={
            **tile,
            "unit": "none",
            "decimals": 0,
            "noValue": "Aucun état reçu",
            "thresholds": thresholds(base=NEUTRAL),
        },
        overrides={
            "Seuil local 3": {"thresholds": thresholds((1, LEVEL_3), base=NEUTRAL)},
            "Seuil local 2": {"thresholds": thresholds((1, LEVEL_2), base=NEUTRAL)},
            "Seuil local 1": {"thresholds": thresholds((1, LEVEL_1), base=NEUTRAL)},
            "Sous les seuils": {"thresholds": thresholds((1, CALM), base=NEUTRAL)},
            "Muettes": {"thresholds": thresholds((1, SILENT), base=NEUTRAL)},
        },
        present=True,
    )


def newest_reading() -> Panel:
    inner = last_status("age_s")
    return Panel(
        id=2,
        kind="stat",
        title="Mesure la plus récente",
        description="Âge de la mesure la plus récente de toutes les stations, au dernier état écrit par le central.",
        at=(14, 0, 5, 4),
        targets=[Target(f'SELECT min("age_s") AS "Âge" FROM ({inner}) WHERE $timeFilter')],
        options=_tile(),
        defaults={
            "unit": "s",
            "decimals": 0,
            "noValue": "Inconnu",
            "color": {"mode": "thresholds"},
            "thresholds": thresholds((900, LEVEL_2), (3600, LEVEL_3), base=CALM),
        },
        present=True,
    )


def newest_status() -> Panel:
    return Panel(
        id=3,
        kind="stat",
        title="Dernier état du central",
        description=(
            "Moment où le central a écrit son dernier état des stations ; il en écrit un par minute. Plus de trois minutes : "
            "le central ou la base de données est en panne, et ce tableau ne dit plus rien de l'eau."
        ),
        at=(19, 0, 5, 4),
        targets=[Target('SELECT last("online") AS "en_ligne" FROM "station_status" WHERE $timeFilter')],
        options=_tile(fields="/^Time$/", color="value"),
        defaults={"unit": "dateTimeFromNow", "noValue": "Aucun", "color": {"mode": "fixed", "fixedColor": "text"}},
    )


def map_of_stations() -> Panel:
    columns = (
        '"name" AS "Station", "commune" AS "Commune", "level" AS "Seuil local", "value" AS "Niveau", "age_s" AS "Âge"'
    )
    inner = last_status("level", "value", "age_s", "lat", "lon", "name", where="\"quantity\" = 'water_level' AND ")
    silent = last_status("age_s", "lat", "lon", "name")

    def layer(name: str, ref: str, style: Json) -> Json:
        return {
            "type": "markers",
            "name": name,
            "tooltip": True,
            "location": {"mode": "coords", "latitude": "lat", "longitude": "lon"},
            "filterData": {"id": "byRefId", "options": ref},
            "config": {"showLegend": ref == "A", "style": style},
        }

    def symbol(name: str) -> Json:
        return {"mode": "fixed", "fixed": f"img/icons/marker/{name}.svg"}

    label = {
        "text": {"mode": "field", "field": "Station", "fixed": ""},
        "textConfig": {"fontSize": 13, "offsetX": 0, "offsetY": 20, "textAlign": "center", "textBaseline": "top"},
    }

    return Panel(
        id=4,
        kind="geomap",
        title="Carte des stations de niveau d'eau",
        description=(
            "Couleur : seuil local atteint (vert sous les seuils, puis jaune, orange, rouge). Croix violette : au moins une "
            "grandeur de la station est muette ; une station muette et sous les seuils n'est pas verte. Le fond de carte est "
            "celui de Grafana ; sans réseau, les stations restent."
        ),
        at=(0, 4, 12, 13),
        targets=[
            Target(
                f'SELECT {columns}, "en_ligne" AS "En ligne", "lat", "lon", "station" FROM ({inner}) '
                'WHERE "lat" >= -90 AND ("en_ligne" = 1 OR "level" > 0)'
            ),
            Target(
                'SELECT "name" AS "Station", "commune" AS "Commune", "quantity" AS "Grandeur muette", "age_s" AS "Âge", '
                f'"lat", "lon", "station" FROM ({silent}) WHERE "lat" >= -90 AND "en_ligne" = 0',
                ref="B",
            ),
        ],
        options={
            "view": {"id": "coords", "lat": 50.55, "lon": 5.27, "zoom": 10, "allLayers": True},
            "basemap": {"type": "default", "name": "Fond", "config": {}},
            "controls": {"showZoom": True, "mouseWheelZoom": True, "showAttribution": True, "showScale": True},
            "tooltip": {"mode": "details"},
            "layers": [
                layer(
                    "Seuil local",
                    "A",
                    {
                        "color": {"field": "Seuil local", "fixed": NEUTRAL},
                        "opacity": 0.9,
                        "size": {"fixed": 11, "min": 5, "max": 15},
                        "symbol": symbol("circle"),
                        **label,
                    },
                ),
                layer(
                    "Muette",
                    "B",
                    {
                        "color": {"fixed": SILENT},
                        "opacity": 1,
                        "size": {"fixed": 14, "min": 5, "max": 15},
                        "symbol": symbol("x-mark"),
                        **label,
                    },
                ),
            ],
        },
        defaults={"color": {"mode": "thresholds"}, "thresholds": LEVELS, "noValue": "—"},
        overrides={
            "Commune": COMMUNE,
            "Grandeur muette": QUANTITY,
            "Niveau": METRES,
            "Âge": AGE,
            "En ligne": {"mappings": [values({"1": "oui", "0": "non"})]},
        },
        present=True,
    )


def to_handle() -> Panel:
    def rows(ref: str, of: str, trend: str) -> Target:
        limits = ("threshold_1", "threshold_2", "threshold_3")
        inner = last_status("level", "value", *limits, "trend_per_h", "age_s", "name", where=of)
        return Target(
            'SELECT "name" AS "Station", "commune" AS "Commune", "quantity" AS "Grandeur", "level" AS "Seuil local", '
            f'"value" AS "Valeur", {trend}"threshold_1" AS "Seuil 1", "threshold_2" AS "Seuil 2", '
            '"threshold_3" AS "Seuil 3", "age_s" AS "Âge", "en_ligne" AS "En ligne", "station" '
            f'FROM ({inner}) WHERE "level" > 0 OR "en_ligne" = 0',
            ref=ref,
        )

    return Panel(
        id=5,
        kind="table",
        title="À traiter",
        description=(
            "Toute station qui a atteint un seuil local ou qui est muette. Valeur et seuils dans l'unité de la grandeur ; "
            "tendance de l'eau en centimètres par heure. « — » : inconnu, ce qui n'est pas zéro. Vide : rien à traiter."
        ),
        at=(12, 4, 12, 8),
        targets=[
            rows("A", "\"quantity\" = 'water_level' AND ", '"trend_per_h" * 100 AS "Tendance", '),
            rows("B", "\"quantity\" != 'water_level' AND ", ""),
        ],
        options=_table(("Seuil local", True), ("Âge", True)),
        defaults=TABLE_CELLS | {"unit": "none"},
        overrides={
            "Time": HIDDEN,
            "station": HIDDEN,
            "Station": STATION_LINK,
            "Commune": COMMUNE,
            "Grandeur": QUANTITY,
            "Seuil local": LEVEL_CELL,
            "Valeur": {"decimals": 2},
            "Tendance": {"unit": "suffix: cm/h", "decimals": 0},
            "Seuil 1": {"decimals": 2},
            "Seuil 2": {"decimals": 2},
            "Seuil 3": {"decimals": 2},
            "Âge": AGE,
            "En ligne": {
                "mappings": [values({"1": "oui", "0": "MUETTE"})],
                "custom.cellOptions": {"type": "color-text"},
                "thresholds": thresholds((1, CALM), base=SILENT),
            },
        },
        transformations=[{"id": "merge", "options": {}}],
        present=True,
    )


def silent_stations() -> Panel:
    inner = last_status("value", "age_s", "name")
    return Panel(
        id=6,
        kind="table",
        title="Stations muettes",
        description=(
            "Grandeurs dont plus rien n'arrive. « Muette depuis » est l'âge de la dernière mesure reçue ; « jamais reçue » : "
            "la station est déclarée et n'a rien envoyé. Vide : toutes les stations parlent."
        ),
        at=(12, 12, 12, 5),
        targets=[
            Target(
                'SELECT "name" AS "Station", "commune" AS "Commune", "quantity" AS "Grandeur", "age_s" AS "Muette depuis", '
                f'"value" AS "Dernière valeur", "en_ligne", "station" FROM ({inner}) WHERE "en_ligne" = 0'
            )
        ],
        options=_table(("Muette depuis", True)),
        defaults=TABLE_CELLS | {"unit": "none"},
        overrides={
            "Time": HIDDEN,
            "station": HIDDEN,
            "en_ligne": HIDDEN,
            "Station": STATION_LINK,
            "Commune": COMMUNE,
            "Grandeur": QUANTITY,
            "Muette depuis": AGE | {"noValue": "jamais reçue"},
            "Dernière valeur": {"decimals": 2},
        },
        present=True,
    )


def shares() -> Panel:
    share = (
        'SELECT "value" / "threshold_3" AS "part" FROM "station_status" WHERE "quantity" = \'water_level\' AND "online" = 1 '
        'AND "commune" =~ /^$commune$/ AND $timeFilter GROUP BY "station"'
    )
    query = f'SELECT max("part") FROM ({share}) WHERE $timeFilter GROUP BY time($__interval), "station" fill(none)'
    return Panel(
        id=7,
        kind="timeseries",
        title="Niveaux, en part du seuil local 3",
        description=(
            "Toutes les stations de niveau d'eau sur une échelle : 100 % est le seuil local 3 de chacune. Le maximum de chaque "
            "intervalle. Une station muette, ou sans seuil 3, n'est pas dessinée."
        ),
        at=(0, 17, 8, 9),
        targets=[Target(query, table=False, alias="$tag_station")],
        options=LEGEND,
        defaults=_lines("percentunit", thresholds((1, LEVEL_3), base=CALM), "line"),
    )


def level_of_station() -> Panel:
    level = (
        'SELECT max("value") AS "Niveau" FROM "water_level" WHERE "station" = \'$station\' AND $timeFilter '
        'GROUP BY time($__interval), "sensor" fill(none)'
    )
    limits = ", ".join(f'max("threshold_{n}") AS "Seuil local {n}"' for n in (1, 2, 3))
    drawn = (
        f'SELECT {limits} FROM "station_status" WHERE "station" = \'$station\' AND "quantity" = \'water_level\' '
        "AND $timeFilter GROUP BY time($__interval) fill(none)"
    )

    def limit(color: str) -> Json:
        return {
            "color": {"mode": "fixed", "fixedColor": color},
            "custom.lineStyle": {"fill": "dash", "dash": [10, 10]},
            "custom.lineWidth": 1,
        }

    return Panel(
        id=8,
        kind="timeseries",
        title="Niveau et seuils locaux : $station",
        description=(
            "Niveau mesuré par la station choisie en haut du tableau (maximum de chaque intervalle, une courbe par capteur) et "
            "ses trois seuils locaux en pointillés."
        ),
        at=(8, 17, 8, 9),
        targets=[
            Target(level, table=False, alias="$col ($tag_sensor)"),
            Target(drawn, ref="B", table=False, alias="$col"),
        ],
        options=LEGEND,
        defaults=_lines("lengthm", thresholds(base=CALM), "off"),
        overrides={f"Seuil local {n}": limit(color) for n, color in ((1, LEVEL_1), (2, LEVEL_2), (3, LEVEL_3))},
    )


def alarm_events() -> Panel:
    return Panel(
        id=9,
        kind="table",
        title="Événements d'alarme",
        description="Chaque passage d'une alarme, le plus récent d'abord : survenue, aggravation, acquittement, fin, messages.",
        at=(16, 17, 8, 9),
        targets=[
            Target(
                'SELECT "station", "text" AS "Événement", "transition" AS "Passage", "level" AS "Seuil local", '
                '"value" AS "Valeur", "state" AS "État" FROM "alarm" WHERE $timeFilter ORDER BY time DESC LIMIT 200'
            )
        ],
        options=_table(("Heure", True)),
        defaults=TABLE_CELLS | {"unit": "none"},
        overrides={
            "Time": {"displayName": "Heure", "unit": "dateTimeAsLocal", "custom.width": 165},
            "station": {"displayName": "Station"},
            "Passage": {"mappings": [values(TRANSITIONS_FR)]},
            "Seuil local": LEVEL_CELL,
            "Valeur": {"decimals": 2},
            "État": {"mappings": [values(STATES_FR)]},
        },
    )


def alarm_annotations() -> Json:
    """Marks on every curve where an alarm begins, worsens or ends."""
    query = (
        'SELECT "text", "station" FROM "alarm" WHERE ("transition" = \'raise\' OR "transition" = \'escalate\' '
        "OR \"transition\" = 'clear') AND $timeFilter ORDER BY time DESC LIMIT 500"
    )
    what = {"query": query, "textColumn": "text", "tagsColumn": "station", "timeEndColumn": "", "titleColumn": ""}
    return {
        "name": "Alarmes",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": LEVEL_3,
        **what,
        "target": {**what, "refId": "Anno", "rawQuery": True, "fromAnnotations": True, "resultFormat": "table"},
    }


def commune_variable() -> Json:
    """The communes by name; the stored tag is the NIS code, which a query variable would show bare."""
    choices = [
        {"text": name, "value": nis, "selected": False} for nis, name in sorted(COMMUNES.items(), key=lambda c: c[1])
    ]
    return {
        "name": "commune",
        "label": "Commune",
        "type": "custom",
        "query": ", ".join(f"{choice['text']} : {choice['value']}" for choice in choices),
        "options": [{"text": "Toutes", "value": "$__all", "selected": True}, *choices],
        "current": {"text": ["Toutes"], "value": ["$__all"], "selected": True},
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "hide": 0,
        "skipUrlSync": False,
    }


def station_variable() -> Json:
    query = 'SHOW TAG VALUES FROM "station_status" WITH KEY = "station" WHERE "commune" =~ /^$commune$/'
    return {
        "name": "station",
        "label": "Station",
        "type": "query",
        "datasource": DATASOURCE,
        "query": query,
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": False,
        "includeAll": False,
        "options": [],
        "current": {},
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    }


def situation() -> Json:
    """The wall of a crisis cell: where is it bad, is it getting worse, what do we not know."""
    panels = [
        counts(), newest_reading(), newest_status(), map_of_stations(), to_handle(), silent_stations(), shares(),
        level_of_station(), alarm_events(),
    ]  # fmt: skip
    return {
        "uid": SITUATION,
        "title": "Situation",
        "description": "Niveaux d'eau et d'air face aux seuils locaux, alarmes et stations muettes.",
        "tags": ["maillages"],
        "schemaVersion": 38,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "Europe/Brussels",
        "weekStart": "monday",
        "refresh": "30s",
        "time": {"from": "now-24h", "to": "now"},
        "timepicker": {"refresh_intervals": ["30s", "1m", "5m"]},
        "annotations": {"list": [alarm_annotations()]},
        "templating": {"list": [commune_variable(), station_variable()]},
        "links": [],
        "panels": [panel.json() for panel in panels],
    }


def main(arguments: Sequence[str]) -> None:
    directory = Path(arguments[0]) if arguments else Path(__file__).parent / "dashboards"
    text = json.dumps(situation(), ensure_ascii=False, indent=2) + "\n"
    (directory / "situation.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
