"""The situation as one HTML document in French, and as JSON. Pure: a situation and the time of now in, text out.

Everything is in the document, style and script too: it asks for nothing else, and a browser lets it run nothing else (`POLICY`).
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from typing import Any

from common import texts, words
from edge.situation import Measure, SensorNow, Situation, Standing, StationNow

REFRESH_S = 5
"""How often the page asks again; half as often without script."""

WIDTH, HEIGHT = 360, 114
LEFT, RIGHT, TOP, BOTTOM = 44, 352, 6, 96
_LABEL_PX = 11
_SPAN_S = 3600.0
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
"""As html.escape has them; its module would bring a table of 2,231 names, half a megabyte of a gateway's memory."""
_NO_BREAK = "\u00a0"
_GAP_S = 600.0

_SHAPES = {
    "1": '<path d="M12 3 22 21H2z"/><text x="12" y="19">1</text>',
    "2": '<path d="M12 1 23 12 12 23 1 12z"/><text x="12" y="16.5">2</text>',
    "3": '<path d="M7.5 1h9L23 7.5v9L16.5 23h-9L1 16.5v-9z"/><text x="12" y="16.5">3</text>',
    "calm": '<circle cx="12" cy="12" r="10"/><path class="mark" d="m7 12.5 3.5 3.5L17 9"/>',
    "unjudged": '<circle cx="12" cy="12" r="10"/><path class="mark" d="M7 12h10"/>',
    "silent": '<rect x="2" y="2" width="20" height="20" rx="3"/><path class="mark" d="m7.5 7.5 9 9m0-9-9 9"/>',
}
_ARROWS = ("M3 12h18m-7-6 7 6-7 6", "M5 19 19 5M9 5h10v10", "m5 5 14 14M19 9v10H9")


@dataclass(frozen=True, slots=True)
class Now:
    """`boot_s` and `wall_s` of the moment at which the page is made; `answered`: the data path has just said what it shows."""

    boot_s: float
    wall_s: float
    answered: bool


def document(s: Situation | None, now: Now) -> str:
    """The whole page. Without a situation it says that there is none."""
    name = s.gateway if s else ""
    worst = max((a.level for a in s.alarms), default=0) if s else 0
    title = _text(say("title", gateway=name) if name else words.say("name"))
    return (
        '<!DOCTYPE html>\n<html lang="fr">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{f'({worst}) ' if worst else ''}{title}</title>\n"
        f'<noscript><meta http-equiv="refresh" content="{2 * REFRESH_S}"></noscript>\n'
        f'<link rel="icon" href="data:,">\n<style>{_style()}</style>\n</head>\n<body>\n'
        f'<p id="lost" class="notice lost" role="alert" data-text="{_text(say("lost"))}" hidden></p>\n'
        f'<div id="live"{"" if now.answered else " class=stale"} data-time="{_text(_second(s.wall_s if s else now.wall_s))}">\n'
        f"{''.join(_live(s, now))}</div>\n"
        f"<footer><p>{_text(words.say('emergency'))}</p>\n<p>{_text(words.say('nature'))} {_text(say('own'))}</p></footer>\n"
        f"<script>{_script()}</script>\n</body>\n</html>\n"
    )


def status(s: Situation | None, now: Now) -> str:
    """`/status.json`: the members of edge/situation.py, with `answered` and `age_s`, of the situation as a whole, before them."""
    if s is None:
        return json.dumps({"answered": False, "age_s": None})
    age_s = round(max(0.0, now.boot_s - s.boot_s), 3)
    return json.dumps({"answered": now.answered, "age_s": age_s} | asdict(s), ensure_ascii=False)


def say(key: str, /, **parts: object) -> str:
    """A phrase of the catalogue's [lan]."""
    found: Any = texts.phrases("lan")[key]
    return str(found.format(**parts)) if parts else str(found)


@cache
def policy() -> str:
    """Content-Security-Policy: the document's own style and script, its own address to ask again, and nothing else."""
    style, script = _hash(_style()), _hash(_script())
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _style() -> str:
    return _asset("common", "static/base.css") + _asset("edge.page", "style.css")


@cache
def _script() -> str:
    return _asset("common", "static/lost.js") + _asset("edge.page", "page.js")


def _asset(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    """Safe in HTML text and in a quoted attribute; what does not print (also what would turn the line around) is a space."""
    text = "".join(c if c.isprintable() or c == _NO_BREAK else " " for c in text)
    return text.replace(" :", f"{_NO_BREAK}:").replace(" ?", f"{_NO_BREAK}?").translate(_ESCAPES)


def _first_big(text: str) -> str:
    return text[:1].upper() + text[1:]


# ---------------------------------------------------------------------- parts


def _live(s: Situation | None, now: Now) -> Iterator[str]:
    if s is None:
        yield f"<header><h1>{_text(words.say('name'))}</h1></header>\n<main>{_notice(say('no_answer_ever'))}</main>\n"
        return
    if s.status != "Actual":
        yield f'<p class="exercise" role="note">{_text(words.say("exercise"))}</p>\n'
    time = _text(words.say("time", time=_second(s.wall_s)))
    title = _text(say("title", gateway=s.gateway))
    yield f'<header><h1>{_text(words.say("name"))} <span>{title}</span></h1><p class="time">{time}</p></header>\n<main>\n'
    since_s = max(0.0, now.boot_s - s.boot_s)
    if not now.answered:
        yield _notice(say("no_answer", age=words.age(since_s)))
    if s.exercise_s is not None:
        yield f'<p class="exercise" role="note">{_text(say("exercise_alarm", time=_second(s.exercise_s)))}</p>\n'
    if s.in_memory:
        yield _notice(say("disk_refuses", count=s.in_memory))
    if not s.clock_synchronised:
        yield _notice(say("clock_wrong"))
    yield _tiles(s)
    yield '<div class="columns">\n<section id="stations" aria-labelledby="stations-title">\n'
    yield f'<h2 id="stations-title" class="hidden">{_text(words.say("stations"))}</h2>\n'
    for station in s.stations:
        yield _station(station, [a for a in s.alarms if a.station == station.id], since_s, s.wall_s)
    yield '</section>\n<div class="side">\n'
    yield _panel("alarms", words.say("alarms"), [_alarm(a, s.wall_s) for a in s.alarms] or [_p(words.say("no_alarms"))])
    yield _panel("sensors", say("sensors"), ["<ul>", *_sensors(s.stations, since_s), "</ul>"])
    yield _panel("health", say("health"), ["<dl>", *(_fact(*fact) for fact in _facts(s)), "</dl>"])
    yield "</div>\n</div>\n</main>\n"


def _notice(text: str) -> str:
    return f'<p class="notice">{_text(text)}</p>\n'


def _p(text: str) -> str:
    return f"<p>{_text(text)}</p>"


def _panel(name: str, title: str, body: Iterable[str]) -> str:
    head = (
        f'<section id="{name}" class="panel" aria-labelledby="{name}-title"><h2 id="{name}-title">{_text(title)}</h2>'
    )
    return "\n".join([head, *body, "</section>\n"])


def _shape(name: str, kind: str = "") -> str:
    return f'<svg class="shape {kind}" viewBox="0 0 24 24" aria-hidden="true" focusable="false">{_SHAPES[name]}</svg>'


def _tiles(s: Situation) -> str:
    unanswered = sum(1 for a in s.alarms if _unanswered(a))
    siren = "siren_none" if s.siren is None else "siren_on" if s.siren else "siren_off"
    link = "standalone" if s.linked is None else "linked" if s.linked else "unlinked"
    calm = not s.alarms
    tiles = (
        ("alert" if unanswered else "none", f"<strong>{unanswered}</strong>", say("unanswered")),
        ("none" if calm else "plain", f"<strong>{len(s.alarms)}</strong>", say("standing")),
        ("level-3" if s.siren else "plain", "", say(siren)),
        ("silent" if s.linked is False else "plain", _shape("silent") if s.linked is False else "", say(link)),
        ("plain" if s.waiting else "none", f"<strong>{s.waiting}</strong>", say("waiting")),
    )
    items = "".join(f'<li class="tile {kind}">{mark} <span>{_text(text)}</span></li>\n' for kind, mark, text in tiles)
    return f'<ul class="tiles">\n{items}</ul>\n'


def _unanswered(a: Standing) -> bool:
    return a.state == "UNACK" or (a.state == "RTN_UNACK" and a.acknowledged_by is None)


def _station(station: StationNow, alarms: Sequence[Standing], since_s: float, wall_s: float) -> str:
    measured = [(sensor, m) for sensor in station.sensors for m in sensor.measures]
    big = [(sensor, m) for sensor, m in measured if any(t is not None for t in m.thresholds)] or measured[:1]
    small = [(sensor, m) for sensor, m in measured if (sensor, m) not in big]
    silent = any(not _fresh(m, since_s) for _, m in big)
    lost = any(a.data_lost or a.kind in ("stale", "comm_fail") for a in alarms if a.state != "RTN_UNACK")
    if station.level and not lost:
        kind, badge = f"level-{station.level}", words.say("state_over", level=station.level)
    elif station.level:
        kind, badge = f"level-{station.level}", words.say("level_long", level=station.level)
    elif silent:
        kind, badge = "silent", words.say("state_silent")
    elif any(t is not None for _, m in big for t in m.thresholds):
        kind, badge = "calm", words.say("state_calm")
    else:
        kind, badge = "unjudged", words.say("state_unjudged")
    shape = str(station.level) if station.level else kind
    nodata = f' <b class="nodata">{_text(words.say("no_data"))}</b>' if station.level and (silent or lost) else ""
    place = " · ".join(
        part for part in (station.river, str(texts.phrases("commune").get(station.commune, station.commune))) if part
    )
    more = len(big) > 1
    lines = [
        f'<article id="station-{_text(station.id)}" class="station {kind}" aria-labelledby="name-{_text(station.id)}">',
        f'<p class="badge">{_shape(shape)}{_text(badge)}{nodata}</p>',
        f'<h3 id="name-{_text(station.id)}">{_text(station.name)}</h3>\n<p class="place">{_text(place)}</p>',
        *(_measure(m, sensor, since_s, f"{station.id}-{i}", named=more) for i, (sensor, m) in enumerate(big)),
        *(_alarm(a, wall_s, station=True) for a in alarms),
    ]
    if small:
        items = "".join(_other(m, sensor, since_s, twice=_twice(m, measured)) for sensor, m in small)
        lines.append(f'<ul class="others" aria-label="{_text(words.say("others"))}">\n{items}</ul>')
    return "\n".join([*lines, "</article>\n"])


def _twice(measure: Measure, all_of: Sequence[tuple[SensorNow, Measure]]) -> bool:
    return sum(1 for _, m in all_of if m.quantity == measure.quantity) > 1


def _fresh(m: Measure, since_s: float) -> bool:
    """As the gateway said; nothing that it said long ago is."""
    return m.fresh and since_s < 60


def _measure(m: Measure, sensor: SensorNow, since_s: float, name: str, *, named: bool) -> str:
    fresh = _fresh(m, since_s)
    what = words.label(m.quantity) + (f" ({sensor.id})" if named else "")
    label = f"{_text(what)} · " if named or m.quantity != "water_level" else ""
    if m.value is None or m.age_s is None:
        return (
            f'<p class="value old"><strong>{_text(words.say("no_value"))}</strong></p>\n'
            f'<p class="age">{label}{_text(say("since_start"))}</p>' + (_refused(m, since_s) or "")
        )
    amount = words.amount(m.value, m.quantity)
    trend = ""
    if m.trend_per_h is not None and fresh and not m.at_least:
        arrow = _ARROWS[words.direction(m.trend_per_h, m.quantity)]
        trend = (
            f' <span class="trend"><svg class="arrow" viewBox="0 0 24 24" aria-hidden="true" focusable="false">'
            f'<path d="{arrow}"/></svg>{_text(words.trend(m.trend_per_h, m.quantity))}</span>'
        )
    shown = _text(say("at_least", amount=amount) if m.at_least else amount)
    age = say("measured" if fresh else "last_known", age=words.age(m.age_s + since_s))
    quality = say("quality", word=say(f"quality_{m.qc}"))
    lines = [
        f'<p class="value{"" if fresh else " old"}"><strong>{shown}</strong>{trend}</p>',
        f'<p class="age">{label}{_text(age)} · <span class="quality-{m.qc}">{_text(quality)}</span></p>',
    ]
    if m.at_least:
        lines.append(f'<p class="position">{_text(say("reached"))}</p>')
    elif fresh and not m.descending:
        reached = max((i for i, t in enumerate(m.thresholds, 1) if t is not None and m.value >= t), default=0)
        lines += [
            f'<p class="position">{_text(line)}</p>'
            for line in words.positions(m.value, reached, m.thresholds, m.quantity)
        ]
    elif not fresh and m.quantity == "water_level":
        lines.append(f'<p class="position">{_text(words.say("no_lower"))}</p>')
    lines.append(_refused(m, since_s) or "")
    if any(t is not None for t in m.thresholds) or m.recent:
        lines.append(_chart(m, since_s, name))
    return "\n".join(line for line in lines if line)


def _refused(m: Measure, since_s: float) -> str | None:
    if m.refused_age_s is None:
        return None
    return f'<p class="refused">{_text(say("refused", age=words.age(m.refused_age_s + since_s)))}</p>'


def _other(m: Measure, sensor: SensorNow, since_s: float, *, twice: bool) -> str:
    label = _text(words.label(m.quantity) + (f" ({sensor.id})" if twice else ""))
    if m.value is not None and _fresh(m, since_s):
        doubt = f" ({_text(say('quality_3'))})" if m.qc == 3 else ""
        return f"<li>{label} <b>{_text(words.amount(m.value, m.quantity))}</b>{doubt}</li>\n"
    if m.value is None or m.age_s is None:
        return f'<li class="quiet">{label} : {_text(words.say("no_value"))}</li>\n'
    return f'<li class="quiet">{label} : {_text(words.amount(m.value, m.quantity))}, {_text(words.age(m.age_s + since_s))}</li>\n'


def _chart(m: Measure, since_s: float, name: str) -> str:
    """The last hour by age, since the clock may be wrong; thresholds are lines, and where nothing was measured it is grey."""
    points = [(age + since_s, v) for age, v in m.recent if age + since_s <= _SPAN_S]
    limits = [(i, t) for i, t in enumerate(m.thresholds, 1) if t is not None]
    shown = [v for _, v in points] + [t for _, t in limits] or [0.0]
    bottom, top = min(shown), max(shown)
    margin = (top - bottom) * 0.06 or 1.0
    bottom, top = bottom - margin, top + margin

    def x(age_s: float) -> float:
        return round(RIGHT - age_s / _SPAN_S * (RIGHT - LEFT), 1)

    def y(value: float) -> float:
        return round(BOTTOM - (value - bottom) / (top - bottom) * (BOTTOM - TOP), 1)

    gaps: list[tuple[float, float]] = []
    runs: list[str] = []
    before, run = _SPAN_S, ""
    for age, value in points:
        if before - age > _GAP_S:
            gaps.append((before, age))
            runs, run = [*runs, run], ""
        run += f"{'L' if run else 'M'}{x(age)} {y(value)}"
        before = age
    runs.append(run)
    if before > _GAP_S:
        gaps.append((before, 0.0))
    parts = [
        f'<rect class="gap" x="{x(old)}" y="{TOP}" width="{round(x(new) - x(old), 1)}" height="{BOTTOM - TOP}"/>'
        for old, new in gaps
    ]
    parts.append(f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>')
    for minutes, place in ((60, "start"), (30, "middle"), (0, "end")):
        text = _text(say("ago", minutes=minutes) if minutes else say("now"))
        parts.append(f'<text class="at-{place}" x="{x(minutes * 60)}" y="{BOTTOM + 13}">{text}</text>')
    free = float(BOTTOM)
    for level, limit in sorted(limits, key=lambda one: one[1]):  # upwards: a label makes room for the next
        free = min(y(limit) + 4, free)
        parts.append(
            f'<path class="limit limit-{level}" d="M{LEFT} {y(limit)}H{RIGHT}"/>'
            f'<text class="limit" x="{LEFT - 4}" y="{free}">{_text(words.number(limit, m.quantity))}</text>'
        )
        free -= _LABEL_PX
    parts += [f'<path class="line" d="{path}{"" if "L" in path else "h0"}"/>' for path in runs if path]
    if points and points[-1][0] < _GAP_S:
        parts.append(f'<circle class="dot" cx="{x(points[-1][0])}" cy="{y(points[-1][1])}" r="3.5"/>')
    label = words.label(m.quantity)
    if points:
        low, high = (words.amount(f(v for _, v in points), m.quantity) for f in (min, max))
        title = say("chart", label=label, low=low, high=high)
    else:
        title = say("chart_empty", label=label)
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="chart-{_text(name)}">'
        f'<title id="chart-{_text(name)}">{_text(title)}</title>{"".join(parts)}</svg>'
    )


def _alarm(a: Standing, wall_s: float, *, station: bool = False) -> str:
    since = words.say("since", time=words.when(a.since_s, wall_s))
    sensor = f" ({_text(a.sensor)})" if a.sensor and a.kind not in ("high", "low", "rise", "fall") else ""
    what = _text(_first_big(a.what)) if station else f"<b>{_text(a.where)}</b>{_NO_BREAK}: {_text(a.what)}"
    if a.acknowledged_by is not None and a.acknowledged_s is not None:
        said = words.say("acked", by=a.acknowledged_by, time=words.when(a.acknowledged_s, wall_s))
        answer = f'<span class="answer">{_text(_first_big(said))}.</span>'
    elif _unanswered(a):
        answer = f'<b class="answer">{_text(words.say("returned" if a.state == "RTN_UNACK" else "unacked"))}</b>'
    else:
        answer = f'<span class="answer">{_text(_first_big(words.say("acked_somehow")))}.</span>'
    withheld = _withheld(a, wall_s)
    kind = "withheld" if withheld else "unanswered" if _unanswered(a) else "answered"
    mark = f"{_shape(str(a.level), f'level-{a.level}')} " if a.level and not station else ""
    return (
        f'<p class="alarm {kind}">{mark}{what}{sensor} {_text(since)}. {answer}'
        + (f' <b class="held">{_text(_first_big(withheld))}</b> {_text(say("silent_all"))}.' if withheld else "")
        + f' <span class="reference">{_text(words.say("reference", reference=a.reference))}</span></p>'
    )


def _withheld(a: Standing, wall_s: float) -> str | None:
    if a.withheld == "shelved":
        time = words.when(a.until_s, wall_s) if a.until_s is not None else ""
        return say("shelved_by", time=time, by=a.withheld_by) if a.withheld_by else say("shelved", time=time)
    if a.withheld == "suppressed":
        return say("suppressed", by=a.withheld_by)
    return say("out_of_service") if a.withheld else None


def _sensors(stations: Sequence[StationNow], since_s: float) -> Iterator[str]:
    reasons: Mapping[str, str] = texts.phrases("lan")["error"]
    for station in stations:
        for sensor in station.sensors:
            fresh = any(_fresh(m, since_s) for m in sensor.measures)
            known = any(m.value is not None for m in sensor.measures)
            said = []
            if sensor.out_of_service:
                said.append(say("sensor_out"))
            if sensor.trouble is not None:
                said.append(say("failing", age=words.age(sensor.trouble.age_s + since_s)))
                said.append(reasons.get(sensor.trouble.kind, reasons["other"]))
            else:
                said.append(say("answers" if fresh else "silent" if known else "unheard"))
            if sensor.missed:
                said.append(say("missed", count=sensor.missed) if sensor.missed > 1 else say("missed_one"))
            detail = (
                f" <small>{_text(sensor.trouble.detail)}</small>" if sensor.trouble and sensor.trouble.detail else ""
            )
            good = fresh and sensor.trouble is None
            where = f"{station.name} " if len(stations) > 1 else ""
            yield (
                f'<li class="{"up" if good else "down"}">{_shape("calm" if good else "silent")}<div><b>{_text(where)}{_text(sensor.id)}</b>'
                f" ({_text(sensor.driver)}) : {_text(', '.join(said))}{detail}</div></li>"
            )


def _fact(name: str, value: str, bad: bool = False) -> str:
    return f"<div{' class=bad' if bad else ''}><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>"


def _facts(s: Situation) -> Iterator[tuple[str, str, bool]]:
    link = "link_none" if s.linked is None else "link_up" if s.linked else "link_down"
    yield say("link"), say(link), s.linked is False
    late = s.waiting > 0 and s.unconfirmed_s >= 60 and s.linked is not None
    depth = say(
        "depth_unconfirmed" if late else "depth_confirmed", count=s.waiting, duration=_duration(s.unconfirmed_s)
    )
    yield say("depth"), depth, late
    if s.in_memory:
        yield say("in_memory"), str(s.in_memory), True
    yield say("clock"), say("clock_set" if s.clock_synchronised else "clock_unset"), not s.clock_synchronised
    yield say("started"), say("started_for", duration=_duration(s.wall_s - s.started_s)), False
    for name, unit, sign, limit in (  # told as bad from the limit on, in the direction of the sign
        ("cpu_temperature", "°C", 1, 80),
        ("disk_free_percent", "%", -1, 10),
        ("memory_free_percent", "%", -1, 10),
        ("storage_used_up_percent", "%", 1, 80),
    ):
        value = s.health.get(name)
        if value is not None:
            yield say(name), f"{value:.0f}{_NO_BREAK}{unit}", sign * value >= sign * limit
    voltage = s.health.get("under_voltage")
    if voltage is not None:
        yield say("under_voltage"), say("voltage_low" if voltage else "voltage_good"), bool(voltage)
    if s.health.get("journal_damaged"):
        yield say("journal_damaged"), f"{s.health['journal_damaged']:.0f}", True


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 2:
        return say("duration_s", seconds=int(seconds))
    if minutes < 60:
        return say("duration_min", minutes=minutes)
    if minutes < 48 * 60:
        return say("duration_h", hours=minutes // 60, minutes=minutes % 60)
    return say("duration_d", days=minutes // 1440)


def _second(wall_s: float) -> str:
    return texts.local_time(words.bounded(wall_s), "second")
