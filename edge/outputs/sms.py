"""The gateway's own SMS: when central has not said within a minute that it is telling people, or says that it cannot. And
what people answer to them: `OK <reference>` acknowledges, `ETAT` asks for the present levels. It needs no network but GSM.

A thread of its own, since a modem may take a minute a message. An attempt is recorded before the modem is asked and never
repeated to the same person for the same raise or escalation (contract: docs/wire.md, alarm receipts), unless it is certain that
nothing was sent: that one is tried again while nobody has acknowledged. What the network reports of a message it took is kept.
"""

import logging
import re
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from common import texts
from common.clock import BRUSSELS, Clock, from_rfc3339, rfc3339
from common.modem import Failed, ModemError, Outcome, Received, Report
from edge import config
from edge.alarm_log import AlarmLog, AlarmLogUnwritable, Announcement
from wire.alarm import EXERCISE, AlarmEvent, Notified
from wire.errors import WireError

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0
INBOX_S = 5.0
FLOOD = 10
FLOOD_S = 600.0
"""More than 10 messages in 10 minutes nobody can act upon (ISA-18.2): what is not of the highest level then comes in one."""
MAX_ANSWERS = 20
ANSWERS_S = 3600.0
"""What answers by itself must not be answered for ever."""

RETRY_S = 60.0
MEND_S = 600.0
"""Between attempts that fail: of what may work by itself at first, then twice as long each time, up to that of what a person
must mend. An attempt of which the network says a time-out may have arrived all the same, so each may be one SMS more."""
REPORT_S = 86400.0
"""The network gives up after a day; no report by then is none."""
LATE_S = 2 * REPORT_S
"""Older messages have no report to come: their references are used again."""
OVERDUE_S = 60.0

_HIGHEST = 3
_TECHNICAL = frozenset({"quality", "power", "system"})
_OK = re.compile(r"OK[\s:.#-]*([0-9A-F]{5})?[\s.!]*", re.IGNORECASE)
_STATE = re.compile(r"[ÉE]TAT[\s.!?]*", re.IGNORECASE)


class Modem(Protocol):
    """What sends and receives."""

    def send(self, number: str, text: str, handing_over: Callable[[], None] = ...) -> Outcome: ...

    def inbox(self) -> list[Received]: ...

    def reports(self) -> list[Report]: ...

    def delete(self, message: Received) -> None: ...


class Heard(Protocol):
    """What became of an exercise's SMS to a recipient (id): `sent` (the modem took it), `failed`, `unknown`, then `delivered`."""

    def __call__(self, recipient: str, fate: str, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """An exercise alarm: who is still to be told."""

    event: AlarmEvent
    heard: Heard
    to: deque[config.Recipient]


class Desk(Protocol):
    """The gateway, as who answers an SMS meets it."""

    def told(self, event: AlarmEvent, notified: tuple[Notified, ...]) -> None:
        """SMS about `event` were tried."""

    def acknowledge(self, occurrence: str, by: str, level: int | None) -> None:
        """Raises WireError when it cannot be, or when it has become worse than `level`."""

    def present(self) -> list[texts.Present]: ...


def due(a: Announcement, now_boot_s: float, boot_id: str, after_s: float) -> bool:
    """Whether central has had its chance: it said that it could not, or `after_s` went by without its word.

    One from before a reboot is due at once: how long ago it was, nobody knows.
    """
    if a.notifying in ("true", "none"):
        return False
    return a.notifying == "false" or a.boot_id != boot_id or now_boot_s - a.boot_s >= after_s


class SmsNotifier:
    """Sends to the recipients of the alarm's level, one after another, and deals with what they answer."""

    def __init__(
        self,
        settings: config.Sms,
        modem: Modem,
        alarms: AlarmLog,
        clock: Clock,
        desk: Desk,
        place: Callable[[str | None], texts.Place | None],
    ) -> None:
        """`place` names a station for people, None for what concerns the whole gateway."""
        self._settings = settings
        self._modem = modem
        self._alarms = alarms
        self._clock = clock
        self._desk = desk
        self._place = place
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._listen_at_s = 0.0
        self._deaf = False
        self._sent: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=FLOOD))
        self._again: dict[tuple[str, str], tuple[float, float]] = {}
        """When what failed is due again, and how long that was to wait, by event and recipient."""
        self._overdue_at_s = 0.0
        self._rehearsal: _Rehearsal | None = None
        self._answered: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MAX_ANSWERS))

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="sms", daemon=True)
        self._thread.start()

    def rehearse(self, event: AlarmEvent, heard: "Heard") -> list[str]:
        """Tell the recipients who are marked for it of an exercise alarm, once each, and never while a real one waits. Gives who they
        are; what becomes of each is `heard`, in this notifier's thread."""
        to = [r for r in self._settings.recipient if r.exercise and r.min_level <= event.level]
        self._rehearsal = _Rehearsal(event, heard, deque(to))
        return [r.id for r in to]

    def end_rehearsal(self) -> None:
        """Who was not told yet is not any more. The network's reports are still heard."""
        if self._rehearsal is not None:
            self._rehearsal.to.clear()

    def stop(self) -> None:
        """End after the message that is being sent."""
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._clock.wait(self._stop, LOOK_AGAIN_S):
            try:
                if not self._look():
                    self._rehearse()
                if self._clock.boot() >= self._listen_at_s:
                    self._listen_at_s = self._clock.boot() + INBOX_S
                    self._listen()
                    self._hear_reports()
            except AlarmLogUnwritable as e:
                log.warning("sms: waiting: %s", e)
            except Exception:
                log.exception("sms: a fault of this program, tried again")

    # ------------------------------------------------------------------ telling

    def _look(self) -> bool:
        """Tell what is due. Whether there is an alarm that someone may have to be told of, now or soon."""
        now = self._clock.boot()
        waiting = [a for a in self._alarms.announcements() if a.event.rule != EXERCISE]
        announcements = [a for a in waiting if due(a, now, self._clock.boot_id, self._settings.after_s)]
        standing = {a.event.id for a in announcements}
        self._again = {key: again for key, again in self._again.items() if key[0] in standing}
        returned = {a.event.id: from_rfc3339(a.returned) for a in announcements if a.returned is not None}
        outcomes: dict[str, list[Notified]] = {a.event.id: [] for a in announcements}
        for recipient in self._settings.recipient:
            mine = [a.event for a in announcements if self._concerns(a.event, recipient)]
            mine = [e for e in mine if self._again.get((e.id, recipient.id), (now, 0.0))[0] <= now]
            mine = [e for e in mine if recipient.id not in self._alarms.sms_tried(e.id)]
            for group in self._grouped(recipient, mine):
                if self._stop.is_set():
                    break
                for event, outcome in self._tell(recipient, group, returned):
                    outcomes[event.id].append(outcome)
        for a in announcements:
            if outcomes[a.event.id]:
                self._desk.told(a.event, tuple(outcomes[a.event.id]))
        return any(a.event.kind not in _TECHNICAL and a.notifying not in ("true", "none") for a in waiting)

    def _rehearse(self) -> None:
        """One SMS of the exercise; it does not count as one of a flood."""
        rehearsal = self._rehearsal
        try:
            recipient = rehearsal.to.popleft() if rehearsal else None
        except IndexError:
            return
        if rehearsal is None or recipient is None:
            return
        event, at = rehearsal.event, rfc3339(self._clock.wall())

        def handing_over() -> None:
            self._alarms.sms_begin(event.id, recipient.id, at)

        text = texts.sms(event, self._place(event.station), answerable=True)
        try:
            outcome = self._modem.send(recipient.phone, text, handing_over)
            references = outcome.references if outcome.kind == "sent" else ()
            self._alarms.sms_end(event.id, recipient.id, outcome.kind, references)
        except AlarmLogUnwritable as e:
            rehearsal.heard(recipient.id, "failed", str(e))
            return
        log.info("sms: exercise, %s: %s", recipient.id, outcome.kind)
        rehearsal.heard(recipient.id, outcome.kind, "" if outcome.kind == "sent" else outcome.reason)
        self._desk.told(event, (Notified(channel="sms", to=recipient.id, at=at, result=outcome.kind),))

    def _concerns(self, event: AlarmEvent, recipient: config.Recipient) -> bool:
        if event.kind in _TECHNICAL and not recipient.technician:
            return False
        at = datetime.fromtimestamp(self._clock.wall(), BRUSSELS).time()
        return recipient.min_level <= event.level and (event.level == _HIGHEST or recipient.reachable(at))

    def _grouped(self, recipient: config.Recipient, events: Sequence[AlarmEvent]) -> list[list[AlarmEvent]]:
        """One message an alarm, worst first; in a flood the lower levels together, once there is room for one."""
        now = self._clock.boot()
        sent = self._sent[recipient.id]
        while sent and now - sent[0] >= FLOOD_S:
            sent.popleft()
        worst = [[e] for e in events if e.level == _HIGHEST]
        rest = sorted((e for e in events if e.level < _HIGHEST), key=lambda e: -e.level)
        room = FLOOD - len(sent) - len(worst)
        if len(rest) <= room:
            return worst + [[e] for e in rest]
        return worst + [[e] for e in rest[: max(0, room - 1)]] + ([rest[max(0, room - 1) :]] if room > 0 else [])

    def _tell(
        self, recipient: config.Recipient, group: Sequence[AlarmEvent], returned: Mapping[str, float]
    ) -> list[tuple[AlarmEvent, Notified]]:
        at = rfc3339(self._clock.wall())
        events = [e for e in group if self._alarms.sms_open(e.id, recipient.id)]
        if not events:
            return []

        def handing_over() -> None:
            for event in events:
                self._alarms.sms_begin(event.id, recipient.id, at)

        places = [texts.where(e, self._place(e.station)) for e in events]
        if len(events) == 1:
            (event,) = events
            text = texts.sms(event, self._place(event.station), returned_s=returned.get(event.id), answerable=True)
        else:
            text = texts.digest_sms(events, places)
        outcome = self._modem.send(recipient.phone, text, handing_over)
        if isinstance(outcome, Failed):
            return self._put_off(recipient, events, at, outcome)
        self._sent[recipient.id].append(self._clock.boot())
        told = ", ".join(e.rule for e in events)
        if outcome.kind == "sent":
            log.info("sms: %s told of %s", recipient.id, told)
        else:
            log.error("sms: %s not told of %s: %s", recipient.id, told, outcome.reason)
        for event in events:
            references = outcome.references if outcome.kind == "sent" else ()
            self._alarms.sms_end(event.id, recipient.id, outcome.kind, references)
        return [(e, Notified(channel="sms", to=recipient.id, at=at, result=outcome.kind)) for e in events]

    def _put_off(
        self, recipient: config.Recipient, events: Sequence[AlarmEvent], at: str, outcome: Failed
    ) -> list[tuple[AlarmEvent, Notified]]:
        """Nothing was sent: it is tried again. Only the first failure is told of."""
        new = [e for e in events if (e.id, recipient.id) not in self._again]
        if new:
            told = ", ".join(e.rule for e in new)
            log.error("sms: %s not told of %s, tried again: %s", recipient.id, told, outcome.reason)
        for event in events:
            self._alarms.sms_wait(event.id, recipient.id, at)
            _, waited_s = self._again.get((event.id, recipient.id), (0.0, 0.0))
            wait_s = min(waited_s * 2 or RETRY_S, MEND_S) if outcome.retry else MEND_S
            self._again[event.id, recipient.id] = self._clock.boot() + wait_s, wait_s
        return [(e, Notified(channel="sms", to=recipient.id, at=at, result="failed")) for e in new]

    # ------------------------------------------------------------------ what became of it

    def _hear_reports(self) -> None:
        for report in self._modem.reports():
            recipient = next((r for r in self._settings.recipient if r.phone == report.number), None)
            if recipient is None or report.state == "pending":
                continue
            since = rfc3339(self._clock.wall() - LATE_S)
            settled = self._alarms.sms_report(recipient.id, report.reference, report.state, since)
            for about in settled or ():  # None: of an answer, or of one whose fate was unknown
                if self._rehearsal is not None and about.event.id == self._rehearsal.event.id:
                    self._rehearsal.heard(recipient.id, about.fate, f"the network reports {report.status:#04x}")
                if about.fate == "delivered":
                    log.info("sms: %s has got that of %s", recipient.id, about.event.rule)
                else:
                    log.error(
                        "sms: %s, that of %s: %s, status %#04x",
                        recipient.id,
                        about.event.rule,
                        about.fate,
                        report.status,
                    )
                if about.fate == "failed":
                    note = Notified(channel="sms", to=recipient.id, at=about.at, result="failed")
                    self._desk.told(about.event, (note,))
        if self._clock.boot() >= self._overdue_at_s:
            self._overdue_at_s = self._clock.boot() + OVERDUE_S
            for overdue in self._alarms.sms_overdue(rfc3339(self._clock.wall() - REPORT_S)):
                log.warning("sms: whether %s got that of %s is not known", overdue.recipient, overdue.event.rule)

    # ------------------------------------------------------------------ listening

    def _listen(self) -> None:
        try:
            messages = self._modem.inbox()
        except ModemError as e:
            if not self._deaf:
                log.warning("sms: answers cannot be read: %s", e.reason)
            self._deaf = True
            return
        self._deaf = False
        for message in messages:
            recipient = next((r for r in self._settings.recipient if r.phone == message.number), None)
            if message.text is None:
                log.warning("sms: a message that cannot be read is deleted: %s", message.fault)
            elif recipient is None:
                log.warning("sms: a message from an unknown number is deleted")
            else:
                self._reply(recipient, self._answer(recipient, message.text.strip()))
            try:
                self._modem.delete(message)  # after it was dealt with: it is, if need be, dealt with twice
            except ModemError as e:
                log.warning("sms: an answer stays in the modem: %s", e.reason)
                return

    def _answer(self, recipient: config.Recipient, text: str) -> str:
        """Do what an SMS asks for; the text to answer."""
        if _STATE.fullmatch(text):
            return texts.situation(self._desk.present(), self._clock.wall())
        match = _OK.fullmatch(text)
        if match is None:
            return texts.reply("help")
        open_ = [e for e in self._alarms.active().active if e.state in ("UNACK", "RTN_UNACK") and e.withheld is None]
        named = match[1].upper() if match[1] else None
        if named is None and len(open_) != 1:
            references = ", ".join(texts.reference(e.occurrence) for e in open_)
            return texts.reply("which", references=references) if open_ else texts.reply("nothing_open")
        found = [e for e in open_ if named in (None, texts.reference(e.occurrence))]
        if not found:
            return texts.reply("not_open", reference=named)
        return self._acknowledge(recipient, found[0])

    def _acknowledge(self, recipient: config.Recipient, event: AlarmEvent) -> str:
        reference = texts.reference(event.occurrence)
        level = self._alarms.sms_told(recipient.id, event.occurrence)
        if level is not None and event.level > level:
            return texts.reply("worse", reference=reference, level=event.level)
        try:
            self._desk.acknowledge(event.occurrence, recipient.id, event.level)
        except WireError as e:
            log.error("sms: the acknowledgement of %s by %s was not taken: %s", reference, recipient.id, e)
            return texts.reply("failed")
        log.info("sms: %s acknowledged %s", recipient.id, event.rule)
        where = texts.where(event, self._place(event.station))
        return texts.reply("acknowledged", reference=reference, where=where)

    def _reply(self, recipient: config.Recipient, text: str) -> None:
        now = self._clock.boot()
        answered = self._answered[recipient.id]
        if len(answered) == MAX_ANSWERS and now - answered[0] < ANSWERS_S:
            log.warning("sms: %s gets no more answers for now", recipient.id)
            return
        answered.append(now)
        outcome = self._modem.send(recipient.phone, text)
        if outcome.kind != "sent":
            log.error("sms: %s got no answer: %s", recipient.id, outcome.reason)
