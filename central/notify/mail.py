"""The mail about an alarm: a plain part and an HTML part that say the same, in the words of the catalogue.

The HTML is for mail clients: one column, nothing loaded from elsewhere, no script; it is readable where styles are ignored. A
graph is a PNG that travels within the mail. The draft of a message to the population is for who plans for emergencies; it is
marked as a draft, and nothing here sends it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import jinja2

from common import gsm7, texts
from common.clock import from_rfc3339
from common.texts import Language, Place
from wire.alarm import AlarmEvent

GRAPH = "graph@maillages"
"""Content-ID (RFC 2392) of the graph within its mail."""

_MEASURED = frozenset({"high", "low", "rise", "fall"})
_AIR = frozenset({"pm1", "pm2_5", "pm4", "pm10", "no2", "o3"})
_WATER = frozenset({"water_level", "water_distance"})
_DRAFT_PLACE_MIN = 12


@dataclass(frozen=True, slots=True)
class Mail:
    """Subject, the two bodies, and the graph (PNG) that the HTML shows, if there is one."""

    subject: str
    text: str
    html: str
    graph: bytes | None = None


class Block(NamedTuple):
    """A paragraph. `kind` is how it looks in HTML; `text` and `link` stand in the plain part one below the other."""

    kind: Literal[
        "exercise", "line", "value", "answer", "told", "unknown", "item", "draft_title", "draft", "note", "small"
    ]
    text: str
    link: str = ""


def mail(
    event: AlarmEvent,
    place: Place | None,
    *,
    reminder: bool = False,
    raised_s: float | None = None,
    returned_s: float | None = None,
    told: Sequence[str] = (),
    ack_url: str | None = None,
    next_step_s: float | None = None,
    graph: bytes | None = None,
    draft_for: str | None = None,
    language: Language = "fr",
) -> Mail:
    """The mail about an event. `told`: names of the others who were told. `ack_url`: the reader's own link to acknowledge.
    `next_step_s` (Unix): when others are told unless someone acknowledges. `draft_for`: the commune for whose population a
    draft is added. Other parameters as in `texts.sms`."""
    parts = texts.phrases("mail", language)
    head, where = texts.told(event, reminder=reminder, language=language), texts.where(event, place, language)
    facts = texts.facts(event, language)
    measured, clear = event.kind in _MEASURED, event.transition == "clear"
    off = texts.is_disagreement(event)

    def at(wall_s: float) -> str:
        return texts.local_time(wall_s, language=language)

    began_s = from_rfc3339(event.time) if raised_s is None else raised_s
    label = texts.label(event.quantity, language)
    test = texts.is_link_test(event)
    if label is None:
        kind = texts.LINK_TEST if test else "system" if texts.is_silent_gateway(event) else event.kind
        label = texts.phrases("kind", language)[kind]
    blocks = []
    if event.status != "Actual":
        word = texts.phrases("word", language)[event.status]
        blocks.append(Block("exercise", parts["exercise"].format(word=word)))
    blocks.append(Block("line", parts["what"].format(label=label, headline=head)))
    blocks.append(Block("line", parts["where"].format(where=where)))
    blocks.append(Block("line", parts["since"].format(time=at(began_s))))
    if event.value is not None and not texts.is_storm(event):
        blocks.append(Block("value", parts["value_off" if off else "value"].format(**facts)))
    elif measured:
        blocks.append(Block("value", parts["no_value"]))
    if event.threshold is not None:
        blocks.append(Block("line", parts["tolerance" if off else "threshold"].format(**facts)))
    if (arrives_s := texts.arrives_s(event, place)) is not None:
        blocks.append(Block("line", parts["arrives"].format(time=at(arrives_s))))
    elif (next_s := texts.next_level_s(event)) is not None:
        blocks.append(Block("line", parts["next_level"].format(level=event.level + 1, time=at(next_s))))
    if returned_s is not None:
        key = "returned" if measured else "returned_fault"
        blocks.append(Block("line", parts[key].format(time=at(returned_s))))
    if not clear:
        if ack_url:
            blocks.append(Block("answer", parts["answer"], ack_url))
        else:
            blocks.append(Block("line", parts["answer_page"].format(reference=texts.reference(event.occurrence))))
        if next_step_s is not None:
            blocks.append(Block("note", parts["answer_deadline"].format(time=at(next_step_s))))
    if not test:
        blocks.append(Block("told", parts["told"].format(names=", ".join(told)) if told else parts["told_nobody"]))
        unknowns = _unknowns(event, parts, upstream=arrives_s is not None)
        blocks += [Block("unknown", parts["unknown"]), *(Block("item", line) for line in unknowns)]
    if draft_for and not clear and (text := draft(event, place, draft_for, language)):
        blocks.append(Block("draft_title", parts["draft_title"]))
        blocks.append(Block("draft", text))
        blocks.append(Block("note", parts["draft_note"].format(length=gsm7.septets(gsm7.normalise(text)))))
    blocks += [Block("small", parts["emergency"]), Block("small", parts["nature"])]
    prefix = texts.phrases("prefix", language)[event.status]
    subject = parts["subject"].format(
        prefix=prefix, headline=head, where=where, time=facts["time"], reference=texts.reference(event.occurrence)
    )
    return Mail(
        subject,
        _plain(blocks),
        _html(
            blocks,
            language,
            title=prefix + head,
            where=where,
            level=0 if clear or returned_s is not None else event.level,
            amount="" if texts.is_storm(event) else facts["value"] + facts["trend"],
            button=parts["answer_button"],
            graph=parts["graph"].format(label=label, unit=f" ({texts.unit(event.unit)})" if event.unit else "")
            if graph
            else "",
        ),
        graph,
    )


def draft(event: AlarmEvent, place: Place | None, commune: str, language: Language = "fr") -> str | None:
    """A message to the population as BE-Alert would take it, at most 160 septets, for an authority to check, change and send;
    None where there is nothing to tell people of. It begins with TEST or EXERCICE when it is none."""
    parts = texts.phrases("mail", language)
    if event.level < 2 or event.kind not in ("high", "rise") or event.data_lost or place is None:
        return None
    if event.quantity in _WATER:
        form, what = parts["draft"], parts["draft_what_rise" if event.kind == "rise" else "draft_what"]
    elif event.quantity in _AIR and event.kind == "high":
        form, what = parts["draft_air"], ""
    else:
        return None
    time = texts.local_time(from_rfc3339(event.time), "hour", language)
    name = place.station
    while True:
        text = str(
            texts.phrases("prefix", language)[event.status]
            + form.format(
                commune=commune, what=what, where=name, time=time, label=texts.label(event.quantity, language)
            )
        )
        if gsm7.septets(gsm7.normalise(text)) <= gsm7.SINGLE or len(name) <= _DRAFT_PLACE_MIN:
            return text
        name = name[:-1].rstrip(" ,")


def digest(items: Sequence[tuple[AlarmEvent, Place | None, float]], language: Language = "fr") -> Mail:
    """One mail about occurrences that were over before anyone was told: event, place, when it was raised (Unix)."""
    return _list([(*item, "") for item in items], "digest", language)


def flood(items: Sequence[tuple[AlarmEvent, Place | None, float, str]], language: Language = "fr") -> Mail:
    """One mail about many alarms that stand, where one each would be a flood; the worst first. The last member of an item is the
    reader's link to acknowledge it."""
    return _list(sorted(items, key=lambda i: (-i[0].level, i[2])), "flood", language)


def notice(subject: str, intro: str, lines: Sequence[str]) -> Mail:
    """A mail of one sentence and a list."""
    blocks = [Block("line", intro), *(Block("item", line) for line in lines)]
    return Mail(subject, _plain(blocks), _html(blocks, "fr", title=subject, level=0))


def _list(items: Sequence[tuple[AlarmEvent, Place | None, float, str]], key: str, language: Language) -> Mail:
    parts, prefixes = texts.phrases("mail", language), texts.phrases("prefix", language)
    lines = [
        Block(
            "item",
            parts["digest_item"].format(
                time=texts.local_time(raised_s, language=language),
                headline=prefixes[event.status] + texts.headline(event, language),
                where=texts.where(event, place, language),
                reference=texts.reference(event.occurrence),
            ),
            link,
        )
        for event, place, raised_s, link in items
    ]
    statuses = {event.status for event, *_ in items}
    level = max((event.level for event, *_ in items), default=0)
    title = (prefixes[statuses.pop()] if len(statuses) == 1 else "") + parts[f"{key}_subject"].format(
        count=len(items), level=level
    )
    blocks = [Block("line", parts[f"{key}_intro"]), *lines]
    blocks += [Block("small", parts["emergency"]), Block("small", parts["nature"])]
    level = level if key == "flood" else 0
    html = _html(blocks, language, title=title, level=level, button=parts["answer_button"])
    return Mail(title, _plain(blocks), html)


def _unknowns(event: AlarmEvent, parts: Any, *, upstream: bool) -> list[str]:
    lines = []
    if texts.is_loss(event) and event.transition != "clear":
        key = "gateway" if texts.is_silent_gateway(event) else "value"
        if texts.is_storm(event):
            key = "gateways" if event.gateway == texts.SEVERAL else "stations"
        lines.append(parts[f"unknown_{key}"])
    if texts.is_disagreement(event) and event.transition != "clear":
        lines.append(parts["unknown_disagreement"])
    if texts.is_smog(event):
        lines.append(parts["unknown_smog"])
    if event.clock == "estimated":
        lines.append(parts["unknown_clock"])
    return [*lines, parts["unknown_arrival" if upstream else "unknown_future"]]


_APART = frozenset({"answer", "told", "unknown", "draft_title"})
"""What begins after an empty line in the plain part."""


def _plain(blocks: Sequence[Block]) -> str:
    lines: list[str] = []
    before = ""
    for block in blocks:
        if lines and (block.kind in _APART or (block.kind != before and "small" in (block.kind, before))):
            lines.append("")
        lines += [block.text, block.link] if block.link else [block.text]
        if block.kind == "exercise":
            lines.append("")
        before = block.kind
    return "\n".join(lines) + "\n"


def _html(
    blocks: Sequence[Block],
    language: Language,
    *,
    title: str,
    level: int,
    where: str = "",
    amount: str = "",
    button: str = "",
    graph: str = "",
) -> str:
    return _template().render(
        blocks=blocks, language=language, title=title, level=level, where=where, amount=amount, button=button,
        graph=graph, cid=GRAPH,
    )  # fmt: skip


@cache
def _template() -> jinja2.Template:
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("central.notify"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return env.get_template("mail.html")
