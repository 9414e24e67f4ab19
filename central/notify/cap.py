"""Alarms as messages of the Common Alerting Protocol (OASIS CAP 1.2), for people and tools to relay. We publish, we send nothing.

A message tells of one event of an occurrence: its raise is an Alert, what follows an Update that names all before it, its
return an Update that gives the all-clear, its shelving a Cancel. An acknowledgement is none: CAP's Ack means something else.
Scope is always Restricted: informing the population is the authority's decision. Event codes are OASIS Event Terms v1.2. There
is no `expires` while an alarm stands: nobody knows when it ends, and silence is no end.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple
from xml.etree import ElementTree as ET

from common import texts
from common.clock import BRUSSELS, from_rfc3339
from common.texts import Place
from wire.alarm import AlarmEvent

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
MEDIA_TYPE = "application/cap+xml"
CODES = "OET:v1.2"
"""`valueName` of event codes (OASIS Event Terms List version 1.2)."""
HEADLINE_MAX = 140
AFTER_END_S = 3600.0
"""An all-clear expires after so long."""

MessageType = Literal["Alert", "Update", "Cancel"]

_PLAIN_ID = re.compile(r"[0-9A-Za-z.-]{1,64}")
_WITHHOLDING = frozenset({"shelve", "suppress", "out_of_service"})
_CHANGING = frozenset({"raise", "escalate", "deescalate"})
_BACK = frozenset({"unshelve", "unsuppress", "in_service"})


class Area(NamedTuple):
    """Where: the commune by name and NIS code (Statbel), and a position in degrees (WGS 84) where one is known."""

    commune: str
    nis: str
    place: str
    position: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Message:
    """An event, what kind of message it makes, and the earlier ones of its occurrence that still stand."""

    event: AlarmEvent
    kind: MessageType
    references: tuple[AlarmEvent, ...]

    @property
    def identifier(self) -> str:
        return identifier(self.event.id)

    @property
    def sent_s(self) -> float:
        return from_rfc3339(self.event.time)


class _Meaning(NamedTuple):
    code: str
    categories: tuple[str, ...]
    urgency: str
    severity: str
    certainty: str
    response: str


def messages(events: Sequence[AlarmEvent]) -> Iterator[Message]:
    """The messages of one occurrence; `events` are all of its events, by number."""
    standing: list[AlarmEvent] = []
    for event in events:
        if event.withheld is not None or event.transition in _WITHHOLDING:
            if standing:
                yield Message(event, "Cancel", tuple(standing))
            standing = []
        elif event.transition in _CHANGING or (event.transition in _BACK and event.state == "UNACK"):
            yield Message(event, "Update" if standing else "Alert", tuple(standing))
            standing.append(event)
        elif event.transition == "clear" and standing:
            yield Message(event, "Update", tuple(standing))
            standing.append(event)


def identifier(event_id: str) -> str:
    """The identifier of an event's message: its id, which is a UUID; in hexadecimal where it is something that CAP forbids."""
    return event_id if _PLAIN_ID.fullmatch(event_id) else "x_" + event_id.encode().hex()


def event_id(identifier: str) -> str:
    """The id of the event whose message it is. Raises ValueError for what is no identifier."""
    if identifier.startswith("x_"):
        return bytes.fromhex(identifier[2:]).decode()
    if not _PLAIN_ID.fullmatch(identifier):
        raise ValueError(f"{identifier!r}: expected an identifier of a message")
    return identifier


def cap(message: Message, place: Place | None, areas: Sequence[Area], sender: str, web: str) -> bytes:
    """A message as XML, valid against CAP-v1.2.xsd. `sender`: an address of who is responsible. `web`: the page."""
    event = message.event
    clear = event.transition == "clear" or message.kind == "Cancel"
    meaning = _meaning(event)
    words, parts = texts.phrases("cap"), texts.phrases("mail")
    facts = texts.facts(event)
    headline, where = texts.told(event), texts.where(event, place)
    root = ET.Element("alert", xmlns=NAMESPACE)
    _add(root, "identifier", message.identifier)
    _add(root, "sender", _sender(sender))
    _add(root, "sent", _time(message.sent_s))
    _add(root, "status", event.status)
    _add(root, "msgType", message.kind)
    _add(root, "source", event.gateway)
    _add(root, "scope", "Restricted")
    _add(root, "restriction", words["restriction"])
    if event.status != "Actual":
        _add(root, "note", parts["exercise"].format(word=texts.phrases("word")[event.status]))
    elif message.kind == "Cancel":
        _add(root, "note", words["withheld"])
    if message.references:
        before = (f"{_sender(sender)},{identifier(e.id)},{_time(from_rfc3339(e.time))}" for e in message.references)
        _add(root, "references", " ".join(before))
    _add(root, "incidents", identifier(event.occurrence))
    info = ET.SubElement(root, "info")
    _add(info, "language", "fr-BE")
    for category in meaning.categories:
        _add(info, "category", category)
    _add(info, "event", words[meaning.code])
    _add(info, "responseType", "AllClear" if clear and message.kind == "Update" else meaning.response)
    _add(info, "urgency", "Past" if clear else meaning.urgency)
    _add(info, "severity", meaning.severity)
    _add(info, "certainty", meaning.certainty)
    code = ET.SubElement(info, "eventCode")
    _add(code, "valueName", CODES)
    _add(code, "value", meaning.code)
    _add(info, "effective", _time(message.sent_s))
    if clear:
        _add(info, "expires", _time(message.sent_s + AFTER_END_S))
    _add(info, "senderName", words["sender_name"])
    prefix = texts.phrases("prefix")[event.status]
    _add(info, "headline", _cut(f"{prefix}{headline}, {where}"))
    said = [
        parts["what"].format(label=texts.label(event.quantity) or texts.phrases("kind")[event.kind], headline=headline)
    ]
    said.append(parts["where"].format(where=where))
    off = texts.is_disagreement(event)
    if event.value is not None and not texts.is_storm(event):
        said.append(parts["value_off" if off else "value"].format(**facts))
    if event.threshold is not None:
        said.append(parts["tolerance" if off else "threshold"].format(**facts))
    if (next_s := texts.next_level_s(event)) is not None:
        said.append(parts["next_level"].format(level=event.level + 1, time=texts.local_time(next_s)))
    if texts.is_loss(event) and not clear:
        said.append(words["loss"])
    _add(info, "description", "\n".join(said))
    _add(info, "instruction", f"{parts['nature']} {parts['emergency']}")
    _add(info, "web", web)
    for name, value in (
        ("level", str(event.level) if event.level else None),
        ("kind", event.kind),
        ("state", event.state),
        ("reference", texts.reference(event.occurrence)),
        ("value", None if event.value is None else repr(event.value)),
        ("threshold", None if event.threshold is None else repr(event.threshold)),
        ("trend_per_h", None if event.trend_per_h is None else repr(event.trend_per_h)),
        ("unit", event.unit),
        ("clock", event.clock),
    ):
        if value is not None:
            parameter = ET.SubElement(info, "parameter")
            _add(parameter, "valueName", f"maillages:{name}")
            _add(parameter, "value", value)
    for area in areas:
        element = ET.SubElement(info, "area")
        _add(element, "areaDesc", f"{area.commune} ({area.place})")
        if area.position:
            _add(element, "circle", f"{area.position[0]:.5f},{area.position[1]:.5f} 0.0")
        geocode = ET.SubElement(element, "geocode")
        _add(geocode, "valueName", "NIS")
        _add(geocode, "value", area.nis)
    return _xml(root)


def feed(found: Sequence[tuple[Message, str]], base: str, updated_s: float) -> bytes:
    """An Atom feed (RFC 4287) of messages with their titles. `base`: the address under which it is."""
    words = texts.phrases("cap")
    root = ET.Element("feed", xmlns="http://www.w3.org/2005/Atom")
    root.set("xml:lang", "fr-BE")
    _add(root, "id", f"{base}/atom.xml")
    _add(root, "title", words["feed_title"])
    _add(root, "subtitle", words["restriction"])
    _add(root, "updated", _time(max((m.sent_s for m, _ in found), default=updated_s)))
    _add(ET.SubElement(root, "author"), "name", words["sender_name"])
    ET.SubElement(root, "link", rel="self", href=f"{base}/atom.xml", type="application/atom+xml")
    for message, title in found:
        address = f"{base}/{message.identifier}.xml"
        entry = ET.SubElement(root, "entry")
        _add(entry, "id", address)
        _add(entry, "title", title)
        _add(entry, "updated", _time(message.sent_s))
        for term in (message.event.status, message.kind):
            ET.SubElement(entry, "category", term=term)
        ET.SubElement(entry, "link", rel="alternate", href=address, type=MEDIA_TYPE)
        _add(entry, "summary", f"{message.event.status}, {message.kind}: {title}")
    return _xml(root)


def title(message: Message, place: Place | None) -> str:
    """One line about a message; it says when it is an exercise or a test, and when a message is withdrawn."""
    event = message.event
    withdrawn = texts.phrases("cap")["withdrawn"] if message.kind == "Cancel" else ""
    prefix = texts.phrases("prefix")[event.status]
    return _cut(f"{prefix}{withdrawn}{texts.told(event)}, {texts.where(event, place)}")


def _meaning(event: AlarmEvent) -> _Meaning:
    """What an alarm is in CAP's terms. Code and category: OASIS Event Terms v1.2; the rest is ours: a local threshold is no
    phase of an authority, so nothing is ever Extreme."""
    level = event.level
    if event.kind in ("stale", "comm_fail", "quality"):
        return _Meaning("OET-045", ("Infra",), "Immediate", "Minor", "Observed", "Assess")
    if event.kind == "power":
        return _Meaning("OET-145", ("Infra",), "Immediate", "Minor", "Observed", "Assess")
    if event.kind == "system":
        return _Meaning("OET-000", ("Infra",), "Expected", "Minor", "Observed", "Assess")
    severity = {3: "Severe", 2: "Moderate"}.get(level, "Minor")
    urgency = "Immediate" if level == 3 else "Expected"
    certainty = "Likely" if event.data_lost else "Observed"
    quantity = event.quantity or ""
    if quantity in ("water_level", "water_distance"):
        if event.kind == "rise":
            return _Meaning(
                "OET-079", ("Met",), "Immediate", "Severe" if level > 1 else "Moderate", "Likely", "Monitor"
            )
        if event.kind == "high":
            return (
                _Meaning("OET-081", ("Met",), urgency, severity, certainty, "Monitor")
                if level > 1
                else _Meaning("OET-103", ("Infra", "Transport"), urgency, severity, certainty, "Monitor")
            )
        return _Meaning("OET-125", ("Infra", "Transport"), urgency, severity, certainty, "Monitor")
    if quantity in ("pm1", "pm2_5", "pm4", "pm10", "no2", "o3", "no2_ppm", "o3_ppm", "co2"):
        return _Meaning("OET-004", ("Env", "Health"), urgency, severity, certainty, "Monitor")
    if quantity == "air_temperature":
        code = "OET-098" if event.kind in ("high", "rise") else "OET-043"
        return _Meaning(code, ("Met",), urgency, severity, certainty, "Monitor")
    if quantity == "rainfall":
        return _Meaning("OET-159", ("Met",), urgency, severity, certainty, "Monitor")
    return _Meaning("OET-000", ("Other",), urgency, severity, certainty, "Monitor")


def _time(wall_s: float) -> str:
    """CAP's form: local, with an offset, without a fraction."""
    return datetime.fromtimestamp(wall_s, BRUSSELS).isoformat(timespec="seconds")


def _sender(sender: str) -> str:
    return re.sub(r"[\s,<&]", "", sender)


def _cut(text: str) -> str:
    return text if len(text) < HEADLINE_MAX else text[: HEADLINE_MAX - 2] + "…"


def _add(parent: ET.Element, name: str, text: str) -> None:
    """XML has no control characters; what cannot be printed is left out."""
    ET.SubElement(parent, name).text = "".join(c for c in text if c.isprintable() or c == "\n")


def _xml(root: ET.Element) -> bytes:
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'.encode()
