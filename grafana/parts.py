# ruff: noqa: S608 - the queries are made of constants of these files
"""What several boards share: words, the last state of stations, links between boards, variables, annotations."""

from collections.abc import Mapping

from common import texts
from grafana.model import (
    AGE,
    CALM,
    DATASOURCE,
    HIDDEN,
    LEVEL_1,
    LEVEL_2,
    LEVEL_3,
    LEVEL_CELL,
    NEUTRAL,
    NOTHING,
    NUMBER,
    SILENT,
    UNKNOWN,
    Json,
    special,
    thresholds,
    values,
)
from wire.quantities import QUANTITIES

SITUATION, COMMUNE, STATION, AIR, CHAIN, AFTER = (
    f"maillages-{name}" for name in ("situation", "commune", "station", "air", "chaine", "apres")
)

COMMUNES: Mapping[str, str] = texts.phrases("commune")
"""Name by NIS code, in the order of the catalogue."""

_UNITS_FR = {"Cel": "°C", "ug/m3": "µg/m³", "%RH": "%", "%EL": "%"}
QUANTITIES_FR = {q.name: f"{q.label_fr} ({_UNITS_FR.get(q.unit, q.unit)})" for q in QUANTITIES.values()}

TRANSITIONS_FR = {
    "raise": "survenue", "escalate": "aggravation", "deescalate": "atténuation", "clear": "fin", "ack": "acquittée",
    "shelve": "mise en attente", "unshelve": "reprise", "suppress": "suspendue", "unsuppress": "rétablie",
    "out_of_service": "hors service", "in_service": "en service", "reset": "réarmée", "notify": "message",
}  # fmt: skip
STATES_FR = {
    "NORMAL": "normal", "UNACK": "non acquittée", "ACK": "acquittée", "RTN_UNACK": "terminée, non acquittée",
}  # fmt: skip
KINDS_FR = texts.phrases("kind")
RESULTS_FR = {"accepted": "envoyé", "failed": "ÉCHEC", "unknown": "incertain", "dropped": "annulé"}
CHANNELS_FR = {"sms": "SMS", "email": "courriel"}
FLAGS_FR = {1: "bon", 2: "non évalué", 3: "suspect ou d'intérêt", 4: "mauvais"}
"""QARTOD flags of what has a value (IOOS)."""

NAMED: Json = {"mappings": [values(COMMUNES)], "custom.align": "left"}
# central writes a station that its gateway never described under the quantity "unknown".
QUANTITY: Json = {"mappings": [values(QUANTITIES_FR | {"unknown": "Station jamais décrite"}), NOTHING]}
ONLINE: Json = {
    "mappings": [values({"1": "oui", "0": "MUETTE"}, {"0": SILENT, "1": CALM})],
    "custom.cellOptions": {"type": "color-text"},
    "custom.align": "center",
}
ANSWERED: Json = UNKNOWN | {"mappings": [special("empty", "PERSONNE", LEVEL_3), NOTHING]}
SOON: Json = NUMBER | {
    "unit": "suffix: min",
    "decimals": 0,
    "color": {"mode": "thresholds"},
    "thresholds": thresholds((0, LEVEL_3), (30, LEVEL_2), (120, LEVEL_1), (360, NEUTRAL), base=NEUTRAL),
}
TREND: Json = NUMBER | {"unit": "suffix: cm/h", "decimals": 0}


def link(uid: str, title: str, variable: str = "station", column: str = "station") -> Json:
    """From a row to a board."""
    return {"links": [{"title": title, "url": f"/d/{uid}?var-{variable}=${{__data.fields.{column}}}"}]}


TO_STATION = link(STATION, "Ouvrir la station")
TO_MESSAGES = link(AFTER, "Messages envoyés, avec leur texte")

_COLUMNS: Mapping[str, Json] = {
    "Seuil": LEVEL_CELL,
    "Station": TO_STATION | {"custom.width": 200},
    "Commune": NAMED,
    "Grandeur": QUANTITY,
    "Tendance": TREND,
    "Dans": SOON,
    "Âge": AGE | {"custom.width": 105},
    "Répondu par": ANSWERED | TO_MESSAGES,
    "En ligne": ONLINE,
}


def columns(*names: str) -> dict[str, Json]:
    """Overrides of a table of stations: these columns look the same in all of them; what only the links need is hidden."""
    return {"Time": HIDDEN, "station": HIDDEN} | {name: _COLUMNS[name] for name in names}


def last_status(*fields: str, where: str = '"commune" =~ /^$commune$/') -> str:
    """The last row of every station and quantity. Of the selector `online`, the one field that no row goes without: a
    silent station has a row, and may have no value and no level."""
    columns = ", ".join(f'"{name}"' for name in fields)
    return (
        f'SELECT last("online") AS "en_ligne", {columns} FROM "station_status" '
        f'WHERE {where} AND $timeFilter GROUP BY "station", "quantity", "commune"'
    )


def commune_variable(*, several: bool) -> Json:
    """The communes by name; the stored tag is the NIS code, which a query variable would show bare."""
    choices = [
        {"text": name, "value": nis, "selected": False} for nis, name in sorted(COMMUNES.items(), key=lambda c: c[1])
    ]
    every: list[Json] = [{"text": "Toutes", "value": "$__all", "selected": True}] if several else []
    first = choices[0] if not several else {}
    return {
        "name": "commune",
        "label": "Commune",
        "type": "custom",
        "query": ", ".join(f"{choice['text']} : {choice['value']}" for choice in choices),
        "options": [*every, *choices],
        "current": {"text": ["Toutes"], "value": ["$__all"], "selected": True}
        if several
        else {"text": "Huy", "value": "61031", "selected": True}
        if "61031" in COMMUNES
        else first,
        "multi": several,
        "includeAll": several,
        "allValue": ".*" if several else None,
        "hide": 0,
        "skipUrlSync": False,
    }


def station_variable(quantity: str = "") -> Json:
    """The stations; of a quantity only."""
    where = f" WHERE \"quantity\" = '{quantity}'" if quantity else ""
    query = f'SHOW TAG VALUES FROM "station_status" WITH KEY = "station"{where}'
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


def _annotation(name: str, color: str, where: str, *, on: bool) -> Json:
    query = f'SELECT "text", "station" FROM "alarm" WHERE {where} AND $timeFilter ORDER BY time DESC LIMIT 500'
    what = {"query": query, "textColumn": "text", "tagsColumn": "station", "timeEndColumn": "", "titleColumn": ""}
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": on,
        "hide": False,
        "iconColor": color,
        **what,
        "target": {**what, "refId": "Anno", "rawQuery": True, "fromAnnotations": True, "resultFormat": "table"},
    }


def annotations(*on: str, station: str = "") -> list[Json]:
    """Marks on every curve: alarms that begin, worsen or end; answers; outages of stations and of the chain; people's own notes,
    which an editor adds in Grafana under the tag `maillages`. `on`: those that are shown until someone switches the others on.
    `station`: of the variable's station only."""
    only = f" AND \"station\" = '{station}'" if station else ""
    step = "(\"transition\" = 'raise' OR \"transition\" = 'escalate' OR \"transition\" = 'clear')"
    outage = "(\"kind\" = 'stale' OR \"kind\" = 'comm_fail' OR \"kind\" = 'power' OR \"kind\" = 'system')"
    measured = (
        "(\"kind\" = 'high' OR \"kind\" = 'low' OR \"kind\" = 'rise' OR \"kind\" = 'fall' OR \"kind\" = 'quality')"
    )
    wheres = {
        "Seuil local 3": (LEVEL_3, f'"transition" != \'ack\' AND "level" = 3 AND {measured}{only}'),
        "Alarmes": (LEVEL_3, f"{step} AND {measured}{only}"),
        "Acquittements": ("#3274d9", f"\"transition\" = 'ack'{only}"),
        "Pannes": (SILENT, f"{step} AND {outage}{only}"),
    }
    notes = {
        "name": "Notes",
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": False,
        "iconColor": "#e0b400",
        "target": {"type": "tags", "tags": ["maillages"], "matchAny": False, "limit": 100},
    }
    return [*(_annotation(name, color, where, on=name in on) for name, (color, where) in wheres.items()), notes]


def counts(inner: str) -> str:
    """Number of stations at each local threshold, below all of them, and silent.

    InfluxQL has no CASE, and its count() of nothing is no row instead of 0. So each column sums a polynomial that is 1 at its
    level and 0 at the three others: no station at threshold 3 reads 0, no station at all reads nothing.
    """
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
