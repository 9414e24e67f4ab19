"""What communes and the crisis cell read about an alarm: SMS and mail, from the French catalogue. Used by both sides.

Times are local (Europe/Brussels), decimals have a comma, every message has place, value, unit, trend, threshold and the
occurrence's short reference. Levels are local thresholds, never a phase of an authority; nothing is ever said in the name
of the national alert system.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from common import gsm7
from common.clock import BRUSSELS, from_rfc3339
from wire.alarm import AlarmEvent
from wire.quantities import QUANTITIES

_SILENT = frozenset({"stale", "comm_fail"})
_MEASURED = frozenset({"high", "low", "rise", "fall"})
_UNITS = {"Cel": "°C", "%RH": "%", "%EL": "%", "ug/m3": "µg/m³"}
_MAX_PARTS = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A station as people call it, and its river if it measures one."""

    station: str
    river: str | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail's subject and its two bodies, plain and HTML."""

    subject: str
    text: str
    html: str


def reference(occurrence: str) -> str:
    """The short code under which people talk of an occurrence: the last five hexadecimal digits of its id."""
    return occurrence[-5:].upper()


def sms(
    event: AlarmEvent,
    place: Place | None,
    *,
    raised_s: float | None = None,
    returned_s: float | None = None,
    answerable: bool = False,
) -> str:
    """The text of an SMS in the GSM-7 alphabet: usually one part of 160 septets, never more than three parts.

    `place` is None for what concerns a whole gateway. `raised_s` (Unix): when the occurrence began, told when that was more
    than a minute before the event. `returned_s`: when it returned to normal without being acknowledged. `answerable`: who sends
    it also reads answers.
    """
    parts = _catalogue()["sms"]
    extra = ""
    if raised_s is not None and from_rfc3339(event.time) - raised_s > 60:
        extra += parts["since"].format(time=_near(raised_s, event))
    if returned_s is not None:
        extra += parts["returned" if event.kind in _MEASURED else "returned_fault"].format(
            time=_near(returned_s, event)
        )
    elif _is_loss(event) and event.transition != "clear":
        extra += parts["not_falling"] if event.quantity in (None, "water_level", "water_distance") else ""
    if event.level >= 2 and returned_s is None:
        extra += parts["danger"]
    text = gsm7.normalise(
        parts["message"].format(
            prefix=_catalogue()["prefix"][event.status],
            headline=headline(event),
            where=where(event, place),
            facts=_facts(event),
            extra=extra,
            end=parts["answer" if answerable else "reference"].format(reference=reference(event.occurrence)),
        )
    )
    return _cut(text)


def reply(name: str, **facts: object) -> str:
    """An answer to somebody's SMS: entry `name` of the catalogue's section `sms`, cut like any SMS."""
    return _cut(gsm7.normalise(str(_catalogue()["sms"][name]).format(**facts).strip()))


def modem_test(gateway: str, wall_s: float) -> str:
    """The SMS by which a technician tries a gateway's modem. It begins with TEST."""
    return reply("test", prefix=_catalogue()["prefix"]["Test"], gateway=gateway, time=_local(wall_s))


def digest_sms(events: Sequence[AlarmEvent], places: Sequence[str]) -> str:
    """Several alarms in one SMS, where one each would be a flood. `places`: where, worst first."""
    prefix = _catalogue()["prefix"][events[0].status]
    return reply("digest", prefix=prefix, count=len(events), where=", ".join(dict.fromkeys(places)))


@dataclass(frozen=True, slots=True)
class Present:
    """What a station measures now: `value` None when it has fallen silent; `level` 0 when no alarm stands."""

    where: str
    quantity: str
    value: float | None
    level: int


def situation(present: Sequence[Present], wall_s: float) -> str:
    """The present levels, highest first, in one SMS."""
    parts = _catalogue()["sms"]
    lines = []
    for each in sorted(present, key=lambda p: -p.level):
        level = parts["situation_level"].format(level=each.level) if each.level else ""
        lines.append(
            f"{each.where} " + parts["situation_silent"].format(level=level)
            if each.value is None
            else parts["situation_line"].format(where=each.where, value=amount(each.value, each.quantity), level=level)
        )
    return reply("situation", time=_local(wall_s), lines="; ".join(lines) or parts["situation_nothing"])


def mail(
    event: AlarmEvent,
    place: Place | None,
    *,
    raised_s: float | None = None,
    returned_s: float | None = None,
    told: Sequence[str] = (),
    ack_url: str | None = None,
    next_step_s: float | None = None,
) -> Mail:
    """The mail about an event. `told`: names of the others who were told. `ack_url`: the reader's own link to acknowledge.
    `next_step_s` (Unix): when others are told unless someone acknowledges."""
    parts = _catalogue()["mail"]
    head = headline(event)
    began = from_rfc3339(event.time) if raised_s is None else raised_s
    quantity = QUANTITIES.get(event.quantity or "")
    lines = []
    if event.status != "Actual":
        lines += [parts["exercise"].format(word=_catalogue()["word"][event.status]), ""]
    lines.append(parts["what"].format(label=quantity.label_fr if quantity else _subject(event), headline=head))
    lines.append(parts["where"].format(where=where(event, place)))
    lines.append(parts["since"].format(time=_local(began)))
    if event.value is not None:
        lines.append(parts["value"].format(value=_value(event), trend=_trend(event), time=_time(event)))
    elif event.kind in _MEASURED:
        lines.append(parts["no_value"])
    if event.threshold is not None:
        lines.append(parts["threshold"].format(threshold=_threshold(event)))
    if event.next_level_at is not None and event.transition != "clear":
        lines.append(parts["next_level"].format(time=_local(from_rfc3339(event.next_level_at))))
    if returned_s is not None:
        lines.append(parts["returned" if event.kind in _MEASURED else "returned_fault"].format(time=_local(returned_s)))
    lines += ["", *_unknowns(event), ""]
    lines.append(parts["told"].format(names=", ".join(told)) if told else parts["told_nobody"])
    if event.transition != "clear":
        lines.append("")
        if ack_url:
            lines += [parts["answer"], ack_url]
        else:
            lines.append(parts["answer_page"].format(reference=reference(event.occurrence)))
        if next_step_s is not None:
            lines.append(parts["answer_deadline"].format(time=_local(next_step_s)))
    lines += ["", parts["emergency"], parts["nature"]]
    subject = parts["subject"].format(
        prefix=_catalogue()["prefix"][event.status],
        headline=head,
        where=where(event, place),
        time=_time(event),
        reference=reference(event.occurrence),
    )
    return Mail(subject, "\n".join(lines) + "\n", _html(lines, ack_url))


def digest(items: Sequence[tuple[AlarmEvent, Place | None, float]]) -> Mail:
    """One mail about occurrences that were over before anyone was told: event, place, when it was raised (Unix)."""
    parts = _catalogue()["mail"]
    lines = [parts["digest_intro"], ""]
    lines += [
        parts["digest_item"].format(
            time=_local(raised_s),
            headline=_catalogue()["prefix"][event.status] + headline(event),
            where=where(event, place),
            reference=reference(event.occurrence),
        )
        for event, place, raised_s in items
    ]
    statuses = {event.status for event, _, _ in items}
    prefix = _catalogue()["prefix"][statuses.pop()] if len(statuses) == 1 else ""
    return Mail(prefix + parts["digest_subject"], "\n".join(lines) + "\n", _html(lines, None))


def headline(event: AlarmEvent) -> str:
    """What it is now, in a few words: the level or the fault, or the return from it."""
    heads = _catalogue()["headline"]
    returned = event.transition == "clear" or (event.level == 0 and event.state in ("RTN_UNACK", "NORMAL"))
    if _is_silent_gateway(event):
        key = "clear_gateway_silent" if returned else "gateway_silent"
    elif returned:
        key = "clear" if event.kind in _MEASURED else "clear_measure" if event.kind in _SILENT else "clear_fault"
    else:
        key = "data_lost" if event.data_lost and event.kind in _MEASURED else event.kind
    found = str(heads[key].format(level=event.level))
    what = _catalogue()["system"].get(event.quantity) if event.station is None else None
    return f"{found}: {what}" if what else found


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


def where(event: AlarmEvent, place: Place | None) -> str:
    """The place as people know it, on one line: river and station, or what is measured there."""
    return _on_one_line(_where(event, place))


def _end(until: str) -> str:
    """The end of a shelf; as it came, where it is no time."""
    try:
        return _local(from_rfc3339(until))
    except (ValueError, OverflowError):
        return _on_one_line(until)


def _on_one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def local_time(wall_s: float, form: str = "full") -> str:
    """Unix seconds as Belgian local time, in a form of the catalogue: full `14/07 18h05`, hour `18h05`, second `18h05:32`."""
    return _local(wall_s, form)


def phrases(section: str) -> Mapping[str, Any]:
    """A section of the French catalogue."""
    found: Mapping[str, Any] = _catalogue()[section]
    return found


def amount(value: float, quantity: str, sign: str = "") -> str:
    """A value with its unit, as people read it: `1,84 m`. `sign` "+" marks what is not negative too."""
    known = QUANTITIES.get(quantity)
    if known is None:
        return _number(value, 2, sign)
    return f"{_number(value, known.decimals, sign)} {unit(known.unit)}"


def unit(symbol: str) -> str:
    """A SenML unit as people write it."""
    return _UNITS.get(symbol, symbol)


# ---------------------------------------------------------------------- parts


@cache
def _catalogue() -> dict[str, Any]:
    return tomllib.loads((resources.files("common") / "messages_fr.toml").read_text(encoding="utf-8"))


def _where(event: AlarmEvent, place: Place | None) -> str:
    forms = _catalogue()["place"]
    if event.station is None:
        form = forms["gateway_stations" if place else "gateway"]
        return str(form.format(gateway=event.gateway, stations=place.station if place else ""))
    if place is None:
        return event.station
    quantity = QUANTITIES.get(event.quantity or "")
    if place.river and (quantity is None or quantity.name.startswith("water_")):
        named = place.river.lower() in place.station.lower()
        return place.station if named else str(forms["river"].format(river=place.river, station=place.station))
    if quantity is None or quantity.name == "water_level":
        return place.station
    label = quantity.label_fr
    if event.mean_h is not None:
        label = str(forms["mean"].format(label=label, hours=event.mean_h))
    return str(forms["quantity"].format(label=label, station=place.station))


def _facts(event: AlarmEvent) -> str:
    parts = _catalogue()["sms"]
    if event.transition != "clear" and _is_loss(event):
        return str(parts["silent"].format(time=_time(event)))
    if event.kind not in _MEASURED:
        return _time(event)
    if event.value is None:
        return str(parts["no_value"].format(time=_time(event)))
    threshold = event.threshold is not None
    return str(
        parts["value_threshold" if threshold else "value"].format(
            value=_value(event),
            trend=_trend(event),
            time=_time(event),
            threshold=_threshold(event) if threshold else "",
        )
    )


def _unknowns(event: AlarmEvent) -> list[str]:
    parts = _catalogue()["mail"]
    lines = [parts["unknown"]]
    if _is_loss(event) and event.transition != "clear":
        lines.append(parts["unknown_gateway" if _is_silent_gateway(event) else "unknown_value"])
    if event.clock == "estimated":
        lines.append(parts["unknown_clock"])
    return [*lines, parts["unknown_future"]]


def _is_loss(event: AlarmEvent) -> bool:
    return event.kind in _SILENT or event.data_lost


def _is_silent_gateway(event: AlarmEvent) -> bool:
    """Central's own alarm of a gateway from which nothing comes."""
    return event.source == "central" and event.kind == "comm_fail"


def _value(event: AlarmEvent) -> str:
    return "" if event.value is None else _number(event.value, _decimals(event)) + _unit(event)


def _threshold(event: AlarmEvent) -> str:
    per_hour = "/h" if event.kind in ("rise", "fall") else ""
    return "" if event.threshold is None else _number(event.threshold, _decimals(event)) + _unit(event) + per_hour


def _trend(event: AlarmEvent) -> str:
    if event.trend_per_h is None:
        return ""
    return f" ({_number(event.trend_per_h, _decimals(event), sign='+')}{_unit(event)}/h)"


def _decimals(event: AlarmEvent) -> int:
    quantity = QUANTITIES.get(event.quantity or "")
    return quantity.decimals if quantity else 2


def _unit(event: AlarmEvent) -> str:
    return f" {unit(event.unit)}" if event.unit else ""


def _number(value: float, decimals: int, sign: str = "") -> str:
    """Decimal comma; no minus before a zero; beyond any measurement (10^9) with an exponent."""
    if abs(value) >= 1e9:
        return f"{value:{sign}.2e}".replace(".", ",")
    value = round(value, decimals) + 0.0
    return f"{value:{sign}.{decimals}f}".replace(".", ",")


def _time(event: AlarmEvent) -> str:
    return _local(from_rfc3339(event.time), "estimated" if event.clock == "estimated" else "full")


def _local(wall_s: float, form: str = "full") -> str:
    at = datetime.fromtimestamp(wall_s, BRUSSELS)
    return str(
        _catalogue()["time"][form].format(day=at.day, month=at.month, hour=at.hour, minute=at.minute, second=at.second)
    )


def _near(wall_s: float, event: AlarmEvent) -> str:
    """A time beside the event's own: the hour is enough on the same day."""
    same_day = _local(wall_s)[:5] == _local(from_rfc3339(event.time))[:5]
    return _local(wall_s, "hour" if same_day else "full")


def _subject(event: AlarmEvent) -> str:
    return str(_catalogue()["kind"]["system" if _is_silent_gateway(event) else event.kind])


def _html(lines: Sequence[str], url: str | None) -> str:
    def line(text: str) -> str:
        if url and text == url:
            return f'<a href="{escape(url)}"><strong>{escape(url)}</strong></a>'
        return escape(text)

    return '<!DOCTYPE html>\n<html lang="fr"><body><p>' + "<br>\n".join(map(line, lines)) + "</p></body></html>\n"


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
