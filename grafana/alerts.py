# ruff: noqa: S608 - the queries are made of constants of this file
"""Alert rules, and whom Grafana tells: files for its provisioning.

Valid from Grafana 10 on: no evaluator but gt, lt and within_range, no `KeepLast` and no `notification_settings` (10.4). What older
versions ignore may stand there (`keepFiringFor` and `missing_series_evals_to_resolve`, 12.0). The files are JSON, which Grafana's
provisioning takes as it takes YAML.

What is measured is read from `station_status`: central writes a row a minute for silent stations too, since Grafana takes a series
that vanishes for one that has returned to normal. Its `level` is the alarm log's and its trend that of the newest readings, so late
data of an occurrence that is over fires nothing. Levels are local thresholds, never a phase of an authority.

Two ways lead out. What concerns a station or a gateway is posted to central, which knows whom to tell and what it has told already.
What concerns central, its broker or its database goes to the technicians by Grafana's own mail: the dead cannot report their death.
That a query finds nothing or fails is of the second kind, whatever its rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from grafana.model import DATASOURCE, Json
from grafana.parts import AIR, CHAIN, SITUATION
from wire.alarm import Kind

FOLDER = "Cellule de crise"
GROUP = "maillages-1m"
CENTRAL, TECHNICIANS = "maillages-central", "maillages-techniciens"
EXERCISE = "maillages-exercice"
WEBHOOK_URL, WEBHOOK_TOKEN, MAIL_TO = (
    "$MAILLAGES_CENTRAL_WEBHOOK", "$MAILLAGES_CENTRAL_TOKEN", "$MAILLAGES_TECHNICIANS",
)  # fmt: skip
"""Environment variables of Grafana; with braces a $ in their value would be expanded once more."""

_PRESENT_S = 300
_DAY_S = 86_400
_EXPRESSION = "__expr__"

STATION_WHO = "{{ $labels.station }}"
_NO_PHASE = "Seuil local de la commune : ce n'est pas une phase de crue du SPW."


@dataclass(frozen=True)
class Rule:
    """One rule: it fires for each series of `query` whose last value `compare`s true for `for_s` seconds.

    `kind` and `level`: as what it enters central's alarm log; without a kind Grafana tells the technicians. `facts`: what the log is told
    beside the labels of the query. `name`: of its rule there, for those that share one. `absent` and `error`: what no data and a failing
    query are, each with its reason, which is shown with the alert. `panel`: board and panel that show what it judges.
    """

    uid: str
    title: str
    query: str
    compare: tuple[Literal["gt", "lt", "within_range"], tuple[float, ...]]
    summary: str
    description: str
    panel: tuple[str, int]
    absent: tuple[Literal["NoData", "Alerting", "OK"], str]
    error: tuple[Literal["Error", "Alerting"], str]
    kind: Kind | None = None
    level: int = 1
    name: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    for_s: int = 0
    span_s: int = _PRESENT_S
    keep_s: int = 0

    @property
    def labels(self) -> dict[str, str]:
        """Grafana's policies and central's webhook go by these. Labels are expanded by provisioning: none holds a `$`."""
        if self.kind is None:
            return {"destination": "techniciens"}
        name = self.name or self.uid.removeprefix("maillages-")
        return {"destination": "central", "regle": name, "genre": self.kind, "seuil": str(self.level), **self.facts}

    @property
    def annotations(self) -> dict[str, str]:
        board, panel = self.panel
        return {
            "summary": self.summary,
            "description": self.description,
            "sans_donnees": f"{self.absent[0]} : {self.absent[1]}",
            "en_erreur": f"{self.error[0]} : {self.error[1]}",
            "__dashboardUid__": board,
            "__panelId__": str(panel),
        }

    def data(self) -> list[Json]:
        """A is asked, B its last value, C the condition."""
        kind, limits = self.compare
        evaluator = {"type": kind, "params": list(limits)}
        last: Json = {"type": "reduce", "expression": "A", "reducer": "last", "settings": {"mode": "dropNN"}}
        judged: Json = {"type": "threshold", "expression": "B", "conditions": [{"evaluator": evaluator}]}
        return [_query("A", self.query, self.span_s), _expression("B", last), _expression("C", judged)]

    def file(self) -> Json:
        """As a provisioning file has it."""
        board, panel = self.panel
        keep: Json = {"keepFiringFor": f"{self.keep_s}s"} if self.keep_s else {}
        if self.kind:  # from 12.0 on: a series that vanishes is no return; a day later nobody knows any more
            keep["missing_series_evals_to_resolve"] = 1440
        return {
            "uid": self.uid,
            "title": self.title,
            "condition": "C",
            "data": self.data(),
            "noDataState": self.absent[0],
            "execErrState": self.error[0],
            "for": f"{self.for_s}s",
            "annotations": self.annotations,
            "labels": self.labels,
            "isPaused": False,
            "dashboardUid": board,
            "panelId": panel,
            **keep,
        }


def _query(ref: str, text: str, span_s: int) -> Json:
    return {
        "refId": ref,
        "queryType": "",
        "relativeTimeRange": {"from": span_s, "to": 0},
        "datasourceUid": DATASOURCE["uid"],
        "model": {
            "refId": ref,
            "datasource": DATASOURCE,
            "query": text,
            "rawQuery": True,
            "resultFormat": "time_series",
            "intervalMs": 60_000,
            "maxDataPoints": 1000,
        },
    }


def _expression(ref: str, model: Json) -> Json:
    where = {"type": _EXPRESSION, "uid": _EXPRESSION}
    return {
        "refId": ref,
        "queryType": "",
        "relativeTimeRange": {"from": 0, "to": 0},
        "datasourceUid": _EXPRESSION,
        "model": {"refId": ref, "datasource": where, **model},
    }


# --- the rules

_TOLD_ELSEWHERE = (
    "le central n'écrit plus : « Central muet » le dit. OK ferait passer une panne pour un retour au calme."
)
_DATABASE = "la base ne répond pas : dit comme tel aux techniciens, non comme une alarme de ce genre."
_ABSENT: tuple[Literal["NoData"], str] = ("NoData", _TOLD_ELSEWHERE)
_ERROR: tuple[Literal["Error"], str] = ("Error", _DATABASE)


def _status(field_: str, where: str = "", as_: str = "last") -> str:
    return f'SELECT last("{field_}") AS "{as_}" FROM "station_status" WHERE {where}$timeFilter GROUP BY "station", "quantity", "commune"'


def _threshold(level: int) -> Rule:
    return Rule(
        uid=f"maillages-seuil-local-{level}",
        title=f"Seuil local {level} atteint",
        query=_status("level"),
        # Exactly one of the three fires for a station, so that it is said once.
        compare=("within_range", (level - 0.5, level + 0.5)) if level < 3 else ("gt", (2.5,)),
        summary=f"Seuil local {level} atteint : {STATION_WHO}",
        description=f"Grandeur {{{{ $labels.quantity }}}}, commune {{{{ $labels.commune }}}} (code INS). {_NO_PHASE}",
        panel=(SITUATION, 5),
        absent=_ABSENT,
        error=_ERROR,
        kind="high",
        name="seuil-local",
        level=level,  # the gateway's rule has waited already (on-delay, deadband): waiting again would only lose minutes
    )


def _smog(quantity: str, name: str, limit: float, panel: int) -> Rule:
    return Rule(
        uid=f"maillages-air-{quantity.replace('_', '-')}",
        title=f"{name} : moyenne de 24 h au seuil d'information",
        # Hours without a reading at the ends count as clean air: the mean is at least this, and two hours are not taken for a day.
        query=f'SELECT integral("value", 1h) / 24 FROM "{quantity}" WHERE "qc" < 4 AND $timeFilter GROUP BY "station"',
        compare=("gt", (limit,)),
        span_s=_DAY_S,
        for_s=900,
        keep_s=3600,
        summary=f"{name} élevées : {STATION_WHO}",
        description=f"Moyenne de 24 h au-dessus de {limit:g} µg/m³ (seuil d'information wallon). Indicatif : capteur non certifié.",
        panel=(AIR, panel),
        absent=("OK", "aucun capteur de poussières n'a mesuré : « Station muette » le dit de chacun."),
        error=_ERROR,
        kind="high",
        facts={"quantity": quantity, "moyenne_h": "24"},
    )


RULES: Sequence[Rule] = (
    *(_threshold(level) for level in (3, 2, 1)),
    Rule(
        uid="maillages-montee-rapide",
        title="Montée rapide",
        query=_status("trend_per_h", '"quantity" = \'water_level\' AND "online" = 1 AND '),
        # On the hourly levels of July 2021 (SPW) a rise of 0.15 m in one hour came 18 to 22 h before the crest at four of six gauges.
        compare=("gt", (0.15,)),
        for_s=600,  # a gateway that has a rule of its own for the rise says it first
        keep_s=900,
        summary=f"Montée rapide : {STATION_WHO}",
        description='Plus de 15 cm par heure depuis dix minutes : {{ printf "%.2f" $values.B.Value }} m/h.',
        panel=(SITUATION, 5),
        absent=_ABSENT,
        error=_ERROR,
        kind="rise",
    ),
    Rule(
        uid="maillages-station-muette",
        title="Station muette",
        # The share of what it measures: one alert a station, however many of its sensors are silent.
        query=f'SELECT mean("o") FROM ({_status("online", as_="o")}) WHERE $timeFilter GROUP BY "station", "commune"',
        compare=("lt", (0.999,)),
        for_s=1200,  # gateways tell of a silent sensor first, and central of a silent gateway after 15 minutes
        summary=f"Station muette : {STATION_WHO}",
        description="Une de ses mesures au moins manque depuis plus de vingt minutes, commune {{ $labels.commune }} (code INS).",
        panel=(SITUATION, 6),
        absent=_ABSENT,
        error=_ERROR,
        kind="stale",
    ),
    _smog("pm10", "Poussières PM10", 50, 7),
    _smog("pm2_5", "Poussières PM2,5", 35, 6),
    Rule(
        uid="maillages-batterie",
        title="Batterie faible",
        query='SELECT last("value") FROM "battery_level" WHERE "qc" < 4 AND $timeFilter GROUP BY "station", "sensor"',
        compare=("lt", (20.0,)),
        span_s=_DAY_S,  # radio nodes tell of their battery a few times a day
        for_s=1800,
        keep_s=3600,
        summary=f"Batterie faible : {STATION_WHO}",
        description='Capteur {{ $labels.sensor }} : {{ printf "%.0f" $values.B.Value }} %. À remplacer avant qu\'il ne se taise.',
        panel=(CHAIN, 17),
        absent=("OK", "aucun capteur sur batterie n'a parlé ; celui qui se tait est une station muette."),
        error=_ERROR,
        facts={"quantity": "battery_level"},
        kind="power",
    ),
    Rule(
        uid="maillages-arriere",
        title="Mesures en attente sur une passerelle",
        query='SELECT min("unconfirmed_s") FROM "gateway_health" WHERE $timeFilter GROUP BY "gateway"',
        compare=("gt", (900.0,)),
        span_s=900,
        keep_s=900,
        summary="Mesures en attente : passerelle {{ $labels.gateway }}",
        description="Depuis un quart d'heure la plus ancienne mesure attend plus de 15 minutes, alors que la liaison passe.",
        panel=(CHAIN, 11),
        absent=("OK", "une passerelle qui ne dit plus rien est une alarme du central lui-même (passerelle muette)."),
        error=_ERROR,
        facts={"quantity": "unconfirmed_s"},
        kind="system",
    ),
    Rule(
        uid="maillages-central-muet",
        title="Central muet",
        query='SELECT count("online") FROM "station_status" WHERE $timeFilter',
        compare=("lt", (1.0,)),
        for_s=120,
        summary="Le central n'écrit plus rien",
        description="Aucune ligne de station_status depuis cinq minutes : personne ne sait ce que les stations mesurent. "
        "Les passerelles avertissent seules.",
        panel=(SITUATION, 3),
        absent=("Alerting", "l'absence de lignes est précisément la panne."),
        error=("Alerting", "sans base de données on ne voit pas davantage si le central vit."),
    ),
    Rule(
        uid="maillages-courtier-pertes",
        title="Messages perdus au courtier",
        # After a restart of the broker its counter begins at 0: that is no loss.
        query='SELECT max("d") FROM (SELECT non_negative_derivative("broker_dropped", 1m) AS "d" FROM "central_status" '
        "WHERE $timeFilter) WHERE $timeFilter",
        compare=("gt", (0.5,)),
        span_s=900,
        keep_s=900,
        summary="Le courtier MQTT a jeté des messages",
        description='Jusqu\'à {{ printf "%.0f" $values.B.Value }} par minute. Les passerelles les renvoient, mais plus tard.',
        panel=(CHAIN, 7),
        absent=("OK", "tous les courtiers ne tiennent pas ce compte ; s'il manque, rien n'est connu d'une perte."),
        error=_ERROR,
    ),
    Rule(
        uid="maillages-messages-echoues",
        title="Messages non envoyés",
        query='SELECT last("messages_failed") FROM "central_status" WHERE $timeFilter',
        compare=("gt", (0.5,)),
        keep_s=900,
        summary="Des messages du central n'ont pas pu être envoyés",
        description='{{ printf "%.0f" $values.B.Value }} échecs en 24 heures : modem, fournisseur SMS ou serveur de courriel.',
        panel=(CHAIN, 5),
        absent=("NoData", _TOLD_ELSEWHERE),
        error=_ERROR,
    ),
)


# --- whom Grafana tells


@dataclass(frozen=True)
class Span:
    """An exercise, in UTC, within one day: Grafana's mute timings know times of a day, not moments."""

    begin: datetime
    end: datetime

    @classmethod
    def parse(cls, text: str) -> "Span":
        """Of `BEGIN/END`, RFC 3339 with offset. Raises ValueError."""
        begin, _, end = text.partition("/")
        moments = [datetime.fromisoformat(part) for part in (begin, end)]
        if any(m.tzinfo is None for m in moments):
            raise ValueError("expected times with an offset, as 2026-12-05T09:00+01:00")
        first, last = (m.astimezone(UTC) for m in moments)
        if not first < last or first.date() != (last - timedelta(seconds=1)).date():
            raise ValueError("expected an end after the beginning, on the same day in UTC")
        return cls(first, last)

    def interval(self) -> Json:
        until = "24:00" if self.end.date() != self.begin.date() else f"{self.end:%H:%M}"
        return {
            "times": [{"start_time": f"{self.begin:%H:%M}", "end_time": until}],
            "days_of_month": [str(self.begin.day)],
            "months": [str(self.begin.month)],
            "years": [str(self.begin.year)],
        }


NO_EXERCISE = Span(datetime(2020, 1, 1, 0, 0, tzinfo=UTC), datetime(2020, 1, 1, 0, 1, tzinfo=UTC))
"""A mute timing must have a time: one that is past mutes nothing."""


@dataclass(frozen=True)
class Addresses:
    """Where the contact points lead: by default to environment variables of Grafana."""

    webhook: str = WEBHOOK_URL
    token: str = field(default=WEBHOOK_TOKEN, repr=False)
    technicians: str = MAIL_TO


def receivers(to: Addresses) -> list[Json]:
    """The contact points, as files and API have them but for their names."""
    return [
        {
            "name": CENTRAL,
            "uid": CENTRAL,
            "type": "webhook",
            "settings": {
                "url": to.webhook,
                "httpMethod": "POST",
                # Basic: the one form that every version from 9.4 on keeps when the secret is encrypted.
                "username": "grafana",
                "password": to.token,
            },
            "disableResolveMessage": False,
        },
        {
            "name": TECHNICIANS,
            "uid": TECHNICIANS,
            "type": "email",
            "settings": {
                "addresses": to.technicians,
                "singleEmail": True,
                "subject": '{{ template "maillages.objet" . }}',
                "message": '{{ template "maillages.texte" . }}',
            },
            "disableResolveMessage": False,
        },
    ]


def routes() -> list[Json]:
    """Below the root, the first that matches. What is measured is never muted, not in an exercise either."""
    apart = {"group_by": ["..."], "group_wait": "10s", "group_interval": "1m", "repeat_interval": "4h"}
    technicians = {"group_by": ["alertname"], "group_wait": "30s", "group_interval": "5m", "repeat_interval": "4h"}
    central = {"receiver": CENTRAL, **apart}
    return [
        # Of whatever rule: central may be what is dead.
        {
            "receiver": TECHNICIANS,
            "object_matchers": [
                ["alertname", "=~", "DatasourceNoData|DatasourceError"],
                ["destination", "=~", "central|techniciens"],
            ],
            **technicians,
        },
        {**central, "object_matchers": [["destination", "=", "central"], ["genre", "=~", "high|rise"]]},
        {**central, "object_matchers": [["destination", "=", "central"]], "mute_time_intervals": [EXERCISE]},
        {"receiver": TECHNICIANS, "object_matchers": [["destination", "=", "techniciens"]], **technicians},
    ]


TEMPLATE_NAME = "maillages"
TEMPLATE = """\
{{ define "maillages.quoi" -}}
{{ if eq . "DatasourceNoData" }}une requête ne trouve rien{{ else if eq . "DatasourceError" }}une requête échoue{{ else }}{{ . }}{{ end }}
{{- end }}
{{ define "maillages.objet" -}}
Maillages : {{ if .Alerts.Firing }}{{ len .Alerts.Firing }} panne(s) en cours{{ else }}rétabli{{ end }} -
{{- " " }}{{ template "maillages.quoi" .CommonLabels.alertname }}
{{- end }}
{{ define "maillages.texte" -}}
{{ range .Alerts.Firing }}EN COURS depuis {{ .StartsAt.UTC.Format "02/01/2006 15:04" }} UTC :
{{ if .Labels.rulename }}{{ template "maillages.quoi" .Labels.alertname }}, règle « {{ .Labels.rulename }} ».
{{ if eq .Labels.alertname "DatasourceNoData" }}{{ .Annotations.sans_donnees }}{{ else }}{{ .Annotations.en_erreur }}{{ end }}
{{ else }}{{ .Annotations.summary }}
{{ .Annotations.description }}
{{ end }}{{ with .PanelURL }}Tableau : {{ . }}
{{ end }}
{{ end }}{{ range .Alerts.Resolved }}RÉTABLI : {{ or .Labels.rulename .Annotations.summary .Labels.alertname }}
{{ end }}
{{- end }}"""
"""An alert of a query that finds nothing has the annotations of its rule: they would say that a threshold was reached."""


def provisioning(exercise: Span = NO_EXERCISE, to: Addresses | None = None) -> Json:
    """One file for Grafana's `provisioning/alerting`. Its policy tree takes the place of the whole one of the organisation."""
    points = receivers(to or Addresses())
    return {
        "apiVersion": 1,
        "groups": [
            {
                "orgId": 1,
                "name": GROUP,
                "folder": FOLDER,
                "interval": "1m",
                "rules": [rule.file() for rule in RULES],
            }
        ],
        "contactPoints": [
            {"orgId": 1, "name": p["name"], "receivers": [{k: v for k, v in p.items() if k != "name"}]} for p in points
        ],
        "templates": [{"orgId": 1, "name": TEMPLATE_NAME, "template": TEMPLATE}],
        "muteTimes": [{"orgId": 1, "name": EXERCISE, "time_intervals": [exercise.interval()]}],
        "policies": [
            {
                "orgId": 1,
                "receiver": TECHNICIANS,
                "group_by": ["alertname"],
                "group_wait": "30s",
                "group_interval": "5m",
                "repeat_interval": "4h",
                "routes": routes(),
            }
        ],
    }
