"""What communes and the crisis cell read about an alarm, in the words of a catalogue: SMS here, mails in central/notify/mail.py,
pages in common/words.py. French first; Dutch, German and English for whoever asks for them.

Times are local (Europe/Brussels); every message has place, value, unit, trend, threshold and the occurrence's short reference.
Levels are local thresholds, never a phase of an authority; nothing is ever said in the name of the national alert system.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any, Literal

from common import gsm7
from common.clock import BRUSSELS, from_rfc3339
from wire.alarm import AlarmEvent
from wire.quantities import QUANTITIES

_SILENT = frozenset({"stale", "comm_fail"})
_MEASURED = frozenset({"high", "low", "rise", "fall"})
_UNITS = {"Cel": "°C", "%RH": "%", "%EL": "%", "ug/m3": "µg/m³"}
_MAX_PARTS = 3
SEVERAL = "central"
"""The gateway of central's own alarms that are of no single one."""
LINK_TEST = "link_test"
"""The quantity of central's own test of the links to people: no alarm."""
GRAFANA_RULE = "grafana-"
"""So begin the rules of central's alarms that an alert of Grafana raised."""
_EXPONENT_FROM = 1e5

Language = Literal["fr", "nl", "de", "en"]
_Catalogue = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """A station as people call it, and its river if it measures one. `travel_s`: how long its water takes, at the least, to where a
    message about it goes; only for those that tell of it downstream."""

    station: str
    river: str | None = None
    travel_s: float | None = None


def reference(occurrence: str) -> str:
    """The short code under which people talk of an occurrence: the last five hexadecimal digits of its id."""
    return occurrence[-5:].upper()


def sms(
    event: AlarmEvent,
    place: Place | None,
    *,
    reminder: bool = False,
    raised_s: float | None = None,
    returned_s: float | None = None,
    answerable: bool = False,
    mailed: bool = False,
    language: Language = "fr",
) -> str:
    """The text of an SMS in the GSM-7 alphabet, at most 160 septets, whatever names and values are.

    `place` is None for what concerns a whole gateway. `reminder`: its reader was told already. `raised_s` (Unix): when the
    occurrence began, told when that was more than a minute before the event. `returned_s`: when it returned to normal without
    being acknowledged. `answerable`: who sends it also reads answers; `mailed`: else, its reader has the mail with the link.

    What does not fit is said in fewer words; then since when it lasts and where the link is are left out, then the end of the
    place's name; and where too little of that would be left, the forecast. All else is always there.
    """
    text = ""
    for short, extras, forecast in _FORMS:
        head, tail = _sms(
            event, place, _catalogue(language), short=short, extras=extras, forecast=forecast, reminder=reminder,
            raised_s=raised_s, returned_s=returned_s, answerable=answerable, mailed=mailed,
        )  # fmt: skip
        name = gsm7.normalise(where(event, place, language, short=short))
        room = gsm7.SINGLE - gsm7.septets(head) - gsm7.septets(tail)
        if gsm7.septets(name) <= room:
            return head + name + tail
        # A quantity that is named with the place is no part of its name.
        own = (
            gsm7.normalise(_on_one_line(place.station))
            if place and not (event.quantity or "water_").startswith("water_")
            else ""
        )
        before = gsm7.septets(name.removesuffix(own)) if own and name.endswith(own) else 0
        if room >= _PLACE_MIN + before and short and not extras:
            return head + _shortened(name, room) + tail
        text = head + _shortened(name, max(room, 0)) + tail
    return text


_PLACE_MIN = 10
"""Septets of a place's name that are kept in any case."""
_FORMS = (
    (False, True, True),
    (False, False, True),
    (True, True, True),
    (True, False, True),
    (True, False, False),
)
"""Of an SMS, the richest first: in short words, with extras, with the forecast."""


def _sms(
    event: AlarmEvent,
    place: Place | None,
    c: _Catalogue,
    *,
    short: bool,
    extras: bool,
    forecast: bool,
    reminder: bool,
    raised_s: float | None,
    returned_s: float | None,
    answerable: bool,
    mailed: bool,
) -> tuple[str, str]:
    """What stands before the place's name, and after it; both normalised."""
    parts = c["sms"] | c["sms_short"] if short else c["sms"]
    extra = ""
    if extras and raised_s is not None and from_rfc3339(event.time) - raised_s > 60:
        extra += parts["since"].format(time=_near(raised_s, event, c))
    if returned_s is not None:
        key = "returned" if event.kind in _MEASURED else "returned_fault"
        extra += parts[key].format(time=_near(returned_s, event, c))
    elif event.transition != "clear":
        if _is_loss(event) and event.quantity in (None, "water_level", "water_distance"):
            extra += parts["not_falling"]
        if (at_s := arrives_s(event, place)) is not None:
            extra += parts["arrives"].format(time=_near(at_s, event, c))
        elif forecast and (at_s := next_level_s(event)) is not None:
            extra += parts["next_level"].format(level=event.level + 1, time=_near(at_s, event, c))
    if event.level >= 2 and returned_s is None:
        extra += parts["danger"]
    key = "answer" if answerable else "by_mail" if mailed and extras and event.transition != "clear" else "reference"
    message = parts["message"].format(
        prefix=c["prefix_short" if short else "prefix"][event.status],
        headline=_told(event, reminder, c, short=short),
        where="\0",
        facts=_facts(event, c, short=short),
        extra=extra,
        end=parts[key].format(reference=reference(event.occurrence)),
    )
    head, _, tail = message.partition("\0")
    return gsm7.normalise(head), gsm7.normalise(tail)


def reply(name: str, /, language: Language = "fr", **facts: object) -> str:
    """An answer to somebody's SMS: entry `name` of the catalogue's section `sms`, at most three parts."""
    return _cut(gsm7.normalise(str(_catalogue(language)["sms"][name]).format(**facts).strip()))


def modem_test(gateway: str, wall_s: float) -> str:
    """The SMS by which a technician tries a gateway's modem. It begins with TEST."""
    return reply("test", prefix=_catalogue()["prefix"]["Test"], gateway=gateway, time=local_time(wall_s))


def digest_sms(
    events: Sequence[AlarmEvent], places: Sequence[str], *, answerable: bool = True, language: Language = "fr"
) -> str:
    """Several alarms in one SMS of at most 160 septets, where one each would be a flood. `places`: where, worst first; those
    that do not fit are counted."""
    c = _catalogue(language)
    parts = c["sms"]
    key = "digest" if answerable else "digest_only"
    names = list(dict.fromkeys(_shortened(gsm7.normalise(p), _DIGEST_PLACE) for p in places))
    text = ""
    for kept in range(len(names), -1, -1):
        more = [f"+{len(names) - kept}"] if kept < len(names) else []
        said = parts[key].format(
            prefix=c["prefix"][events[0].status],
            count=len(events),
            level=max(e.level for e in events),
            where=", ".join(names[:kept] + more),
        )
        text = gsm7.normalise(said)
        if gsm7.septets(text) <= gsm7.SINGLE:
            break
    return text


_DIGEST_PLACE = 30


@dataclass(frozen=True, slots=True)
class Present:
    """What a station measures now: `value` None when it has fallen silent; `level` 0 when no alarm stands."""

    where: str
    quantity: str
    value: float | None
    level: int


def situation(present: Sequence[Present], wall_s: float, language: Language = "fr") -> str:
    """The present levels, highest first, in one SMS."""
    parts, lines = _catalogue(language)["sms"], []
    for each in sorted(present, key=lambda p: -p.level):
        level = parts["situation_level"].format(level=each.level) if each.level else ""
        lines.append(
            f"{each.where} " + parts["situation_silent"].format(level=level)
            if each.value is None
            else parts["situation_line"].format(where=each.where, value=amount(each.value, each.quantity), level=level)
        )
    said = "; ".join(lines) or parts["situation_nothing"]
    return reply("situation", language, time=local_time(wall_s, language=language), lines=said)


def headline(event: AlarmEvent, language: Language = "fr") -> str:
    """What it is now, in a few words: the level or the fault, or the return from it."""
    return _headline(event, _catalogue(language))


def told(event: AlarmEvent, *, reminder: bool = False, language: Language = "fr") -> str:
    """The headline of a message about an event: what it is now, and which step that is (got worse, lower, told again)."""
    return _told(event, reminder, _catalogue(language))


def transition(event: AlarmEvent) -> str:
    """What happened to an alarm, and by whom."""
    parts = _catalogue()["log"]
    name = "unshelve_by" if event.transition == "unshelve" and event.by else event.transition
    until = note = ""
    if event.transition == "shelve":
        until = parts["until"].format(time=_end(event.until)) if event.until else ""
        note = parts["note"].format(note=_on_one_line(event.note)) if event.note else ""
    by = event.by or parts["nobody"]
    return str(parts[name].format(headline=headline(event), by=by, until=until, note=note))


def log_line(event: AlarmEvent, place: Place | None) -> str:
    """What happened, where, and to which alarm: one line of the crisis cell's log."""
    parts = _catalogue()["log"]
    prefix = _catalogue()["prefix"][event.status]
    return str(parts["line"].format(prefix=prefix, where=where(event, place), what=transition(event)))


def where(event: AlarmEvent, place: Place | None, language: Language = "fr", *, short: bool = False) -> str:
    """The place as people know it, on one line: river and station, or what is measured there."""
    return _on_one_line(_where(event, place, _catalogue(language), short=short))


def facts(event: AlarmEvent, language: Language = "fr") -> dict[str, str]:
    """`value`, `trend`, `threshold` and `time` of an event as people read them; empty where it has none."""
    c = _catalogue(language)
    return {
        "value": _value(event, c),
        "trend": _trend(event, c),
        "threshold": _threshold(event, c),
        "time": _time(event, c),
    }


def label(quantity: str | None, language: Language = "fr") -> str | None:
    """What a quantity is called; None for one that the table does not know."""
    known = QUANTITIES.get(quantity or "")
    return str(_catalogue(language)["quantity"].get(known.name, known.label_fr)) if known else None


def next_level_s(event: AlarmEvent) -> float | None:
    """When (Unix) the next local threshold would be reached at the present rate; None where that is not known."""
    if event.next_level_at is None or event.transition == "clear" or _is_loss(event) or event.level not in (1, 2):
        return None
    try:
        at_s = from_rfc3339(event.next_level_at)
        _local(at_s, _catalogue())
    except (ValueError, OverflowError, OSError):
        return None
    return at_s


def commune(nis: str) -> str:
    """The name of a commune; its NIS code where it is none of Huy-Waremme."""
    return str(_catalogue()["commune"].get(nis, nis))


def arrives_s(event: AlarmEvent, place: Place | None) -> float | None:
    """From when on (Unix) the water of an alarm upstream may arrive; None for any other alarm, and when it is over."""
    if place is None or place.travel_s is None or event.transition == "clear":
        return None
    return from_rfc3339(event.time) + place.travel_s


def is_loss(event: AlarmEvent) -> bool:
    """Whether what is measured is unknown: that never means that the water falls."""
    return _is_loss(event)


def is_link_test(event: AlarmEvent) -> bool:
    """Whether it only tests that people can be reached."""
    return event.source == "central" and event.quantity == LINK_TEST


def is_silent_gateway(event: AlarmEvent) -> bool:
    """Whether it is central's own alarm of a gateway from which nothing comes."""
    return _is_silent_gateway(event)


def is_smog(event: AlarmEvent) -> bool:
    """Whether it is central's own alarm of a commune's air over a day: an indication, no episode of the smog plan."""
    return event.source == "central" and event.mean_h is not None


def is_storm(event: AlarmEvent) -> bool:
    """Whether it is central's own alarm of many stations, or gateways, that fell silent at once: `value` is how many,
    and `note` of its raise names them."""
    return event.source == "central" and event.kind in _SILENT and event.value is not None


def is_disagreement(event: AlarmEvent) -> bool:
    """Whether it is central's own alarm of two neighbours that disagree: `value` is by how much more than expected."""
    return event.source == "central" and event.kind == "quality"


def _end(until: str) -> str:
    """The end of a shelf; as it came, where it is no time."""
    try:
        return local_time(from_rfc3339(until))
    except (ValueError, OverflowError):
        return _on_one_line(until)


def _on_one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def local_time(wall_s: float, form: str = "full", language: Language = "fr") -> str:
    """Unix seconds as Belgian local time, in a form of the catalogue: full `14/07 18h05`, hour `18h05`, second `18h05:32`."""
    return _local(wall_s, _catalogue(language), form)


def phrases(section: str, language: Language = "fr") -> Mapping[str, Any]:
    """A section of a catalogue."""
    found: Mapping[str, Any] = _catalogue(language)[section]
    return found


def amount(value: float, quantity: str, sign: str = "") -> str:
    """A value with its unit, as people read it in French: `1,84 m`. `sign` "+" marks what is not negative too."""
    known = QUANTITIES.get(quantity)
    if known is None:
        return _number(value, 2, _catalogue("fr"), sign)
    return f"{_number(value, known.decimals, _catalogue('fr'), sign)} {unit(known.unit)}"


def unit(symbol: str) -> str:
    """A SenML unit as people write it."""
    return _UNITS.get(symbol, symbol)


# ---------------------------------------------------------------------- parts


@cache
def _catalogue(language: Language = "fr") -> dict[str, Any]:
    return tomllib.loads((resources.files("common") / f"messages_{language}.toml").read_text(encoding="utf-8"))


def _headline(event: AlarmEvent, c: _Catalogue, *, short: bool = False) -> str:
    heads = c["headline"] | c["headline_short"] if short else c["headline"]
    returned = event.transition == "clear" or (event.level == 0 and event.state in ("RTN_UNACK", "NORMAL"))
    if is_link_test(event):
        return str(heads[LINK_TEST])
    if is_disagreement(event):
        key = "clear_disagreement" if returned else "disagreement"
    elif is_smog(event):
        key = "clear_smog" if returned else f"smog_{event.level}"
    elif event.source == "central" and event.kind in _MEASURED and not event.rule.startswith(GRAFANA_RULE):
        key = "clear_upstream" if returned else "upstream"
    elif is_storm(event):
        several = "gateways" if event.gateway == SEVERAL else "stations"
        key = f"clear_{several}_silent" if returned else f"{several}_silent"
    elif _is_silent_gateway(event):
        key = "clear_gateway_silent" if returned else "gateway_silent"
    elif returned:
        key = "clear" if event.kind in _MEASURED else "clear_measure" if event.kind in _SILENT else "clear_fault"
    else:
        key = "data_lost" if event.data_lost and event.kind in _MEASURED else event.kind
    found = str(heads[key].format(level=event.level, count=round(event.value or 0)))
    what = c["system"].get(event.quantity) if event.station is None else None
    return f"{found}: {what}" if what else found


def _told(event: AlarmEvent, reminder: bool, c: _Catalogue, *, short: bool = False) -> str:
    step = "reminder" if reminder and event.transition != "clear" else event.transition
    form = (c["step_short"] if short else c["step"]).get(step, "{headline}")
    return str(form.format(headline=_headline(event, c, short=short)))


def _where(event: AlarmEvent, place: Place | None, c: _Catalogue, *, short: bool = False) -> str:
    forms = c["place"] | c["place_short"] if short else c["place"]
    if is_link_test(event):
        return str(forms[LINK_TEST])
    if is_storm(event):
        names = event.note if event.transition == "raise" else None
        key = "gateways" if event.gateway == SEVERAL else "gateway"
        return str(forms[f"{key}_stations" if names else key].format(gateway=event.gateway, stations=names))
    if event.station is None and not is_smog(event):
        form = forms["gateway_stations" if place else "gateway"]
        return str(form.format(gateway=event.gateway, stations=place.station if place else ""))
    if place is None:
        return event.station or event.gateway
    quantity = QUANTITIES.get(event.quantity or "")
    if place.river and (quantity is None or quantity.name.startswith("water_")):
        named = place.river.lower() in place.station.lower()
        return place.station if named else str(forms["river"].format(river=place.river, station=place.station))
    if quantity is None or quantity.name == "water_level":
        return place.station
    label = str(c["quantity"].get(quantity.name, quantity.label_fr))
    if event.mean_h is not None:
        label = str(forms["mean"].format(label=label, hours=event.mean_h))
    return str(forms["quantity"].format(label=label, station=place.station))


def _facts(event: AlarmEvent, c: _Catalogue, *, short: bool = False) -> str:
    parts = c["sms"]
    if event.transition != "clear" and _is_loss(event):
        return str(parts["silent"].format(time=_time(event, c)))
    if event.kind not in _MEASURED and (event.value is None or event.quantity not in QUANTITIES):
        return _time(event, c)
    if event.value is None:
        return str(parts["no_value"].format(time=_time(event, c)))
    key = "value_off" if is_disagreement(event) else "value" if event.threshold is None else "value_threshold"
    return str(
        parts[key].format(
            value=_value(event, c),
            trend=_trend(event, c, short=short),
            time=_time(event, c),
            threshold=_threshold(event, c, short=short),
        )
    )


def _is_loss(event: AlarmEvent) -> bool:
    return event.kind in _SILENT or event.data_lost


def _is_silent_gateway(event: AlarmEvent) -> bool:
    """Central's own alarm of a gateway from which nothing comes."""
    return event.source == "central" and event.kind == "comm_fail" and event.station is None


def _value(event: AlarmEvent, c: _Catalogue) -> str:
    return "" if event.value is None else _number(event.value, _decimals(event), c) + _unit(event)


def _threshold(event: AlarmEvent, c: _Catalogue, *, short: bool = False) -> str:
    """In short without the unit: it is that of the value beside it."""
    per_hour = "/h" if event.kind in ("rise", "fall") else ""
    unit = "" if short else _unit(event)
    return "" if event.threshold is None else _number(event.threshold, _decimals(event), c) + unit + per_hour


def _trend(event: AlarmEvent, c: _Catalogue, *, short: bool = False) -> str:
    if event.trend_per_h is None:
        return ""
    unit = "" if short else _unit(event)
    return f" ({_number(event.trend_per_h, _decimals(event), c, sign='+')}{unit}/h)"


def _decimals(event: AlarmEvent) -> int:
    quantity = QUANTITIES.get(event.quantity or "")
    return quantity.decimals if quantity else 2


def _unit(event: AlarmEvent) -> str:
    return f" {unit(_on_one_line(event.unit))[:_UNIT_MAX]}" if event.unit else ""


_UNIT_MAX = 8


def _number(value: float, decimals: int, c: _Catalogue, sign: str = "") -> str:
    """With the language's decimal sign; no minus before a zero; beyond any measurement with an exponent."""
    form = f"{sign}.1e" if abs(value) >= _EXPONENT_FROM else f"{sign}.{decimals}f"
    text = format(round(value, decimals) + 0.0, form)
    return text.replace(".", str(c["number"]["decimal"]))


def _time(event: AlarmEvent, c: _Catalogue) -> str:
    return _local(from_rfc3339(event.time), c, "estimated" if event.clock == "estimated" else "full")


def _local(wall_s: float, c: _Catalogue, form: str = "full") -> str:
    at = datetime.fromtimestamp(wall_s, BRUSSELS)
    return str(c["time"][form].format(day=at.day, month=at.month, hour=at.hour, minute=at.minute, second=at.second))


def _near(wall_s: float, event: AlarmEvent, c: _Catalogue) -> str:
    """A time beside the event's own: the hour is enough on the same day."""
    same_day = _local(wall_s, c)[:5] == _local(from_rfc3339(event.time), c)[:5]
    return _local(wall_s, c, "hour" if same_day else "full")


def _shortened(name: str, room: int) -> str:
    """A normalised name within `room` septets; its beginning tells most."""
    if gsm7.septets(name) <= room:
        return name
    while name and gsm7.septets(name) > room - 3:
        name = name[:-1]
    return name.rstrip(" ,") + "..."[: max(room, 0)]


def _cut(text: str) -> str:
    """Keep within three parts, whatever a name holds: the reference at the end stays."""
    room = (
        _MAX_PARTS * gsm7.PART - 2
    )  # a two-septet sign may leave one septet free at the end of each part but the last
    if gsm7.septets(text) <= room:
        return text
    tail = "... " + text[-9:]
    head = text
    while gsm7.septets(head + tail) > room:
        head = head[:-1]
    return head + tail
