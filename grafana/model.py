"""What a board is made of, as classic dashboard JSON (schemaVersion 38, that of Grafana 10.0).

Grafana 10 to 13 load it; the newer dashboard schemas do not load on 10 and 11. uid and panel ids never change and are never used
again: alert rules and people's bookmarks point at them.

Queries are InfluxQL that InfluxDB 1.x, 2.x and 3.x all run: one selector with plain fields, or aggregates, in a subquery; no
retention policy, no SLIMIT. A table comes from an outer SELECT without GROUP BY, so that it is one frame with the tags as columns
whatever the version: a map layer draws no more than its first frame.

What a panel shows as the present is read from the last ten minutes only: when central stops writing, the map empties and the tiles
say so. Nothing old stays on the wall as if it were now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

DATASOURCE = {"type": "influxdb", "uid": "maillages-influxdb"}
PRESENT = "10m"  # central writes station_status every minute
TAG = "maillages"

# Local thresholds have colours of their own; black and white print and colour-blind readers have the number beside it.
NEUTRAL, CALM, LEVEL_1, LEVEL_2, LEVEL_3, SILENT = "#5a6473", "#2f8f4e", "#cc9a06", "#f0801a", "#e02f44", "#8f5fd6"
BLUE = "#3274d9"


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
    """One panel. `at` is x, y, width, height in grid units (24 wide; 26 high fill a 1080p wall); `defaults` is the field
    configuration, with `noValue` the sentence of the empty state; `overrides` its exceptions by column name. `time`: how far back
    it reads instead of the board's range. `links`: title and path, beside the panel's own title."""

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
    time: str | None = None
    links: Mapping[str, str] = field(default_factory=dict)

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
            "links": [{"title": title, "url": url} for title, url in self.links.items()],
        } | ({"timeFrom": self.time, "hideTimeOverride": True} if self.time else {})


@dataclass(frozen=True)
class Board:
    uid: str
    title: str
    description: str
    panels: Sequence[Panel]
    variables: Sequence[Json] = ()
    annotations: Sequence[Json] = ()
    span: tuple[str, str] = ("now-24h", "now")
    refresh: str = "30s"

    def json(self) -> Json:
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": 38,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "timezone": "Europe/Brussels",
            "weekStart": "monday",
            "refresh": self.refresh,
            "time": {"from": self.span[0], "to": self.span[1]},
            "timepicker": {"refresh_intervals": ["30s", "1m", "5m"]},
            "annotations": {"list": list(self.annotations)},
            "templating": {"list": list(self.variables)},
            "links": [
                {
                    "type": "dashboards",
                    "title": "Tableaux",
                    "tags": [TAG],
                    "asDropdown": False,
                    "includeVars": False,
                    "keepTime": False,
                    "icon": "external link",
                    "targetBlank": False,
                    "tooltip": "",
                    "url": "",
                }
            ],
            "panels": [panel.json() for panel in self.panels],
        }


# --- field settings


def thresholds(*steps: tuple[float, str], base: str) -> Json:
    """Colour steps: `base` below the first and of what is unknown, each colour from its value on."""
    rest = [{"value": value, "color": color} for value, color in steps]
    return {"mode": "absolute", "steps": [{"value": None, "color": base}, *rest]}


def values(texts: Mapping[str, str], colors: Mapping[str, str] | None = None) -> Json:
    """What is shown for a stored value."""
    options = {
        key: {"text": text, "index": index} | ({"color": colors[key]} if colors and key in colors else {})
        for index, (key, text) in enumerate(texts.items())
    }
    return {"type": "value", "options": options}


def special(match: str, text: str, color: str = "text") -> Json:
    """What is shown for "empty" or "null"."""
    return {"type": "special", "options": {"match": match, "result": {"text": text, "color": color, "index": 99}}}


def pattern(expression: str, text: str) -> Json:
    """What is shown for a text that matches."""
    return {"type": "regex", "options": {"pattern": expression, "result": {"text": text, "index": 0}}}


LEVELS = thresholds((1, LEVEL_1), (2, LEVEL_2), (3, LEVEL_3), base=CALM)
HIDDEN: Json = {"custom.hidden": True}
NOTHING = special("null", "—")
# A column that is empty from top to bottom has no type, and a plain cell would show it as "null".
UNKNOWN: Json = {
    "noValue": "—",
    "mappings": [NOTHING],
    "custom.cellOptions": {"type": "color-text"},
    "color": {"mode": "fixed", "fixedColor": "text"},
}
# A column that holds no number yet stands where its numbers will stand.
NUMBER: Json = UNKNOWN | {"custom.align": "right"}
AGE: Json = NUMBER | {"unit": "dtdhms"}
METRES: Json = NUMBER | {"unit": "suffix: m", "decimals": 2}
BACKGROUND: Json = {"custom.cellOptions": {"type": "color-background", "mode": "basic"}}
# In a table level 0 is an alarm that ended or a silent station: grey, not the green of a calm river.
LEVEL_CELL: Json = BACKGROUND | {
    "thresholds": thresholds((1, LEVEL_1), (2, LEVEL_2), (3, LEVEL_3), base=NEUTRAL),
    "color": {"mode": "thresholds"},
    "custom.width": 70,
    "custom.align": "center",
    "noValue": "—",
}


def stat(
    text: str = "value", fields: str = "", color: str = "background", *, every: bool = False, graph: str = "none"
) -> Json:
    """Options of a stat panel; `fields` is a regular expression of column names, by default every number; `every`: one tile a row."""
    return {
        "reduceOptions": {"values": every, "calcs": ["lastNotNull"], "fields": fields},
        "colorMode": color,
        "graphMode": graph,
        "justifyMode": "center",
        "orientation": "auto",
        "textMode": text,
    }


def tile(unit: str, limits: Json, empty: str, decimals: int = 0) -> Json:
    """Field defaults of a stat panel that is coloured by its value."""
    return {
        "unit": unit,
        "decimals": decimals,
        "noValue": empty,
        "color": {"mode": "thresholds"},
        "thresholds": limits,
    }


def table(*sort: tuple[str, bool]) -> Json:
    """Options of a table; `sort` is columns, most important first, and whether they descend."""
    return {
        "showHeader": True,
        "cellHeight": "md",
        "footer": {"show": False, "reducer": ["sum"], "fields": ""},
        "sortBy": [{"displayName": name, "desc": desc} for name, desc in sort],
    }


def cells(empty: str) -> Json:
    """Field defaults of a table; `empty` is what it says when it has no row."""
    return {"custom": {"align": "auto", "filterable": False, "minWidth": 60}, "noValue": empty, "unit": "none"}


def lines(
    unit: str,
    empty: str,
    *,
    decimals: int | None = 1,
    limits: Json | None = None,
    style: str = "off",
    draw: str = "line",
    gap_ms: int = 600_000,
    **custom: Any,
) -> Json:
    """Field defaults of a time series; a gap longer than `gap_ms` stays a gap."""
    return {
        "unit": unit,
        **({} if decimals is None else {"decimals": decimals}),
        "noValue": empty,
        "color": {"mode": "palette-classic"},
        "thresholds": limits or thresholds(base=CALM),
        "custom": {
            "drawStyle": draw,
            "lineWidth": 2 if draw == "line" else 0,
            "fillOpacity": 0 if draw == "line" else 80,
            "showPoints": "never",
            "spanNulls": gap_ms if draw == "line" else False,
            "thresholdsStyle": {"mode": style},
        }
        | custom,
    }


SEEN: Json = {
    "unit": "time:HH:mm",
    "noValue": "MUET",
    "color": {"mode": "thresholds"},
    "thresholds": thresholds((0, NEUTRAL), base=LEVEL_3),
}
"""A moment, or in red that there was none."""


LEGEND: Json = {
    "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom"},
    "tooltip": {"mode": "multi", "sort": "desc"},
}


def states(empty: str, *mappings: Json, limits: Json = LEVELS) -> Json:
    """Field defaults of a state timeline."""
    return {
        "unit": "none",
        "noValue": empty,
        "color": {"mode": "thresholds"},
        "thresholds": limits,
        "mappings": list(mappings),
        "custom": {"fillOpacity": 85, "lineWidth": 0},
    }


TIMELINE: Json = {
    "showValue": "never",
    "mergeValues": True,
    "alignValue": "left",
    "rowHeight": 0.85,
    "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom"},
    "tooltip": {"mode": "single"},
}


def fixed(color: str, **custom: Any) -> Json:
    """An override: a colour of its own."""
    return {"color": {"mode": "fixed", "fixedColor": color}} | {f"custom.{key}": value for key, value in custom.items()}


def dashed(color: str, width: int = 2) -> Json:
    return fixed(color, lineStyle={"fill": "dash", "dash": [10, 8]}, lineWidth=width)
