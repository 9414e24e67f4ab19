"""Telling people until someone answers: one planner, one courier thread per channel, everything in the database.

The planner follows the alarm log by a cursor: events, the escalations that they start and the messages of a step are written
in one transaction, so that a process killed at any moment goes on where it was. A courier writes its intent (`trying`)
before a provider hears of a message, and the outcome after. An intent without outcome, found at a start:

- e-mail is sent again under the same Message-ID, by which mail systems drop a second copy;
- an SMS follows its gateway's `on_unknown`: "repeat" sends it again to the same gateway under the same {id}; "leave" ends
  it as `unknown`, which counts as not told: when nobody of a step was told for certain, the next step follows at once.

**Late** is judged on the occurrence. An event older than 60 s waits 30 s, for the rest of its story and for the gateway's own
`notify`; then an occurrence that is still active or unacknowledged is told with the time at which it was raised, one that
is over goes into a digest. Someone whom the gateway's SMS reached gets no second SMS in that round; the mail stays, it
carries the link to answer.

Durations run on boot time; what must survive a restart is kept as wall time and bounded by its full length when read back.
"""

import hashlib
import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, or_, select, update

from central import tables
from central.alarms.log import RETURNING, AlarmLog, Occurrence
from central.alarms.own import Own
from central.config import CentralConfig
from central.db import Database
from central.errors import StateUnavailable
from central.notify import mail
from central.notify.channels import Channels, Outcome, SmtpChannel
from central.notify.flood import Flood
from central.notify.mail import Mail
from central.notify.recipients import Channel, Recipient, eligible
from central.notify.shared import recipients_of
from central.notify.storms import Storms
from central.notify.told import DELIVERED
from central.tables import ack_token, alarm_event, alarm_occurrence, digest_item, escalation, notify_cursor
from common import texts
from common.clock import Clock, from_rfc3339
from common.modem import Report
from common.texts import Place
from common.worker import Worker
from wire.alarm import EXERCISE, AlarmEvent
from wire.ids import uuid7

log = logging.getLogger(__name__)

LATE_S = 60.0
HOLD_S = 30.0
DIGEST_S = 900.0
RETRY_S = 5.0
RETRY_MAX_S = 300.0
_HIGHEST = 3

_E = escalation.c
_M = tables.message.c

Notifying = Literal["true", "false", "none"]

_TELLING = frozenset({"raise", "escalate"})
_TAKEN_CARE_OF = frozenset({"shelve", "suppress", "out_of_service"})


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An acknowledgement that stopped an escalation. `before`: who had already given one, None when this was the first."""

    occurrence: str
    by: str
    before: str | None


class _Link(NamedTuple):
    """A link to acknowledge, and its row."""

    url: str
    row: dict[str, Any]


class Notifier:
    """Follows the alarm log and tells the recipients of the station's commune.

    `on_notifying(event id, "true" | "false" | "none")` is what the second alarm receipt says; "false" may be followed by
    "true" when a provider accepts later. `on_acknowledged()`: there is an acknowledgement in the alarm log that its owner has
    not confirmed. `on_outcome()`: what became of a message is known. All are called from the notifier's threads and must not
    block. `graph(event)`: a PNG for the mail, soon or None. `own` raises storms of silence; without it each alarm is told by itself.
    """

    def __init__(
        self,
        config: CentralConfig,
        db: Database,
        alarms: AlarmLog,
        clock: Clock,
        channels: Channels,
        *,
        on_notifying: Callable[[str, Notifying], None],
        on_acknowledged: Callable[[], None],
        graph: Callable[[AlarmEvent], bytes | None] = lambda _: None,
        on_outcome: Callable[[], None] = lambda: None,
        own: Own | None = None,
    ) -> None:
        self._config = config
        self._db = db
        self._alarms = alarms
        self._clock = clock
        self._channels = channels
        self._on_notifying = on_notifying
        self._on_acknowledged = on_acknowledged
        self._graph = graph
        self._on_outcome = on_outcome
        self._own = own
        self._storms = Storms(config, db, alarms, own, clock)
        self._people = recipients_of(config, db, clock)
        self._stopping = threading.Event()
        self._planner = Worker("notify-planner", self._plan_once, clock)
        self._couriers: dict[Channel, Worker] = {}
        if channels.email:
            self._couriers["email"] = Worker("notify-email", lambda: self._deliver_once("email"), clock)
        if channels.sms:
            self._couriers["sms"] = Worker("notify-sms", lambda: self._deliver_once("sms"), clock)
        if channels.webhook:
            self._couriers["webhook"] = Worker("notify-webhook", lambda: self._deliver_once("webhook"), clock)
        self._deadlines: dict[str, float] = {}  # escalation occurrence or "digest" -> boot seconds
        self._retry_at: dict[str, float] = {}  # message -> boot seconds
        self._said: list[tuple[str, Notifying]] = []  # to be called back once it is on the disk
        self._flood = Flood()
        self._interrupted: set[Channel] = set()  # an intent may stand whose outcome could not be written
        self._broken: set[str] = set()  # channels whose last attempt did not work

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Take up what an earlier process left, then work."""
        self._recover()
        for worker in (self._planner, *self._couriers.values()):
            worker.start()

    def stop(self) -> None:
        """End the threads, each after the attempt in hand."""
        self._stopping.set()
        for worker in (self._planner, *self._couriers.values()):
            worker.stop()
        for sender in self._channels.sms:
            sender.close()
        if self._channels.email:
            self._channels.email.close()
        if self._channels.webhook:
            self._channels.webhook.close()

    def wake(self) -> None:
        """There is something new in the alarm log."""
        self._planner.wake()

    # ------------------------------------------------------------------ acknowledging

    def acknowledge(self, occurrence: str, by: str) -> Acknowledged | None:
        """A person answers for an occurrence: nobody else is told, and its gateway is asked. None: no such occurrence."""
        now = self._clock.wall()
        with self._db.transaction() as tx:
            known = self._alarms.occurrence(occurrence)
            if known is None:
                return None
            before = known.answered_by
            if known.state == "NORMAL":
                return Acknowledged(occurrence, by, before or known.gateway)
            if before is None:
                self._note_acknowledgement(tx, known, by, now)
                for member in self._storms.members(occurrence):
                    if member.state != "NORMAL" and member.answered_by is None:
                        self._note_acknowledgement(tx, member, by, now)
        _call(self._on_acknowledged)  # also when it was already: its owner has not confirmed
        self._planner.wake()
        return Acknowledged(occurrence, by, before)

    def _note_acknowledgement(self, tx: Connection, known: Occurrence, by: str, now: float) -> None:
        self._alarms.acknowledge(known.occurrence, by, now)
        stopped = {"stopped": "acked", "next_s": None}
        tx.execute(
            self._db.insert(escalation)
            .values(
                occurrence=known.occurrence,
                event=known.last_event,
                seq=known.last_seq,
                level=known.level,
                step=0,
                **stopped,
            )
            .on_conflict_do_update(index_elements=["occurrence"], set_=stopped)
        )
        self._drop(tx, "acknowledged", _M.occurrence == known.occurrence, _M.purpose == "alarm")

    def occurrence(self, occurrence: str) -> Occurrence | None:
        """An occurrence as it stands; None when there is none."""
        return self._alarms.occurrence(occurrence)

    def token_occurrence(self, token: str) -> Occurrence | None:
        """Which occurrence a mail's link is for; None for a link that was never given. Changes nothing."""
        row = self._db.row(select(ack_token.c.occurrence).where(ack_token.c.hash == _digest(token)))
        return self._alarms.occurrence(row.occurrence) if row else None

    def token_recipient(self, token: str) -> str | None:
        """The name of the person whom a mail's link was sent to."""
        row = self._db.row(
            select(_M.recipient).join(ack_token, ack_token.c.message == _M.id).where(ack_token.c.hash == _digest(token))
        )
        return self._name(row.recipient) if row else None

    def acknowledge_by_token(self, token: str, by: str | None = None) -> Acknowledged | None:
        """Acknowledge by a mail's link, in the name of its reader unless `by` is given. None for a link never given.

        Used again it changes nothing and says who had acknowledged.
        """
        with self._db.transaction() as tx:
            occurrence = self.token_occurrence(token)
            if occurrence is None:
                return None
            tx.execute(
                update(ack_token)
                .where(ack_token.c.hash == _digest(token), ack_token.c.used_s.is_(None))
                .values(used_s=self._clock.wall())
            )
        return self.acknowledge(occurrence.occurrence, by or self.token_recipient(token) or "lien")

    def level_told(self, recipient: str, occurrence: str) -> int | None:
        """The highest level of an occurrence of which a message to somebody went out; None for one who was told nothing."""
        went_out = select(func.max(_M.level).label("level")).where(
            _M.recipient == recipient,
            _M.occurrence == occurrence,
            _M.purpose == "alarm",
            _M.state.in_(("accepted", "unknown")),
        )
        row = self._db.row(went_out)
        return row.level if row else None

    def note_report(self, reference: str, report: Report) -> None:
        """What the network says of an SMS that it took: delivered, or never; then its reader is told otherwise. `reference`: the name
        that its modem gave; it comes again, so the newest to that number is meant."""
        if report.state == "pending":
            return
        named = select(tables.message).where(_M.reference == reference, _M.state == "accepted")
        rows = [
            row
            for row in self._db.rows(named.order_by(_M.changed_s.desc()))
            if (known := self._recipient(row.recipient)) and known.phone == report.number
        ]
        for row in rows:
            if row.text != rows[0].text:  # several alarms may be in one message
                break
            log.info("message %s: %s, says the network", row.id, report.state)
            if report.state == "failed":
                self._note_undelivered(row, f"not delivered ({report.status:#04x})")
            elif report.state == "delivered":
                self._note_delivered(row)

    def note_delivery(self, reference: str, *, delivered: bool) -> bool:
        """What a provider says of an SMS that it took, by the name under which it reports. False: no message has it (yet)."""
        rows = self._db.rows(select(tables.message).where(_M.reference == reference))
        for row in rows:
            if row.state == "accepted":
                log.info("message %s: %s, says the provider", row.id, "delivered" if delivered else "not delivered")
                if delivered:
                    self._note_delivered(row)
                else:
                    self._note_undelivered(row, "not delivered, says the provider")
        return bool(rows)

    def _note_delivered(self, message: Row[Any]) -> None:
        with self._db.transaction() as tx:
            tx.execute(update(tables.message).where(_M.id == message.id).values(reason=DELIVERED))

    def _note_undelivered(self, message: Row[Any], why: str) -> None:
        """Its reader is told otherwise, unless nobody is to be told any more."""
        with self._db.transaction() as tx:
            self._close_message(message.id, Outcome("failed", why))
            if not self._is_over(message):
                self._fall_over(tx, message)
        self._planner.wake()
        _call(self._on_outcome)

    def notifying(self, event_id: str) -> Notifying | None:
        """What the second receipt of an event said; None before it was said."""
        said = tables.notifying.c
        row = self._db.row(select(said.outcome).where(said.event == event_id))
        return row.outcome if row else None

    # ------------------------------------------------------------------ planning

    def _recover(self) -> None:
        self._take_up("sms", "email")
        self._load_deadlines()

    def _take_up(self, *channels: Channel) -> None:
        """What nobody is trying any more: of an earlier process, or of an attempt whose outcome could not be written."""
        now = self._clock.wall()
        repeats = {s.name for s in self._channels.sms if s.on_unknown == "repeat"}
        with self._db.transaction() as tx:
            trying = update(tables.message).where(_M.state == "trying", _M.channel.in_(channels))
            again = or_(_M.channel.in_(("email", "webhook")), _M.via.in_(repeats))
            tx.execute(trying.where(again).values(state="waiting"))
            tx.execute(trying.values(state="unknown", reason="interrupted", changed_s=now))

    def _load_deadlines(self) -> None:
        now_wall, now_boot = self._clock.wall(), self._clock.boot()
        longest = max(self._config.escalation.step_s, HOLD_S)
        self._deadlines = {
            row.occurrence: now_boot + min(max(0.0, row.next_s - now_wall), longest)
            for row in self._db.rows(select(_E.occurrence, _E.next_s).where(_E.next_s.is_not(None)))
        }
        d = digest_item.c
        oldest = self._db.row(select(func.min(d.added_s).label("at")).where(d.digest.is_(None)))
        if oldest and oldest.at is not None:
            self._deadlines["digest"] = now_boot + min(max(0.0, oldest.at + DIGEST_S - now_wall), DIGEST_S)

    def _plan_once(self) -> float | None:
        """Everything that is due; gives the boot second of the next thing, or None."""
        try:
            self._plan()
        except BaseException:
            self._said.clear()
            self._load_deadlines()  # what was rolled back is due again
            raise
        said, self._said = self._said, []
        for event_id, outcome in said:
            _call(self._on_notifying, event_id, outcome)
        for courier in self._couriers.values():
            courier.wake()
        return min(self._deadlines.values(), default=None)

    def _plan(self) -> None:
        while self._plan_event():
            pass
        with self._own.lock if self._own else nullcontext(), self._db.transaction() as tx:
            self._storms.end_those_over()
            self._follow_states(tx)
            now = self._clock.boot()
            for occurrence in [o for o, at in self._deadlines.items() if o != "digest" and at <= now]:
                if self._deadlines.pop(occurrence, None) is not None:  # a storm may have taken it in meanwhile
                    self._next_step(tx, occurrence)
            if self._deadlines.get("digest", now + 1) <= now:
                del self._deadlines["digest"]
                self._compose_digest(tx)
            self._judge_steps(tx)

    def _plan_event(self) -> bool:
        a = alarm_event.c
        planned = select(notify_cursor.c.position).scalar_subquery()
        row = self._db.row(select(a.position, a.id, a.json).where(a.position > planned).order_by(a.position).limit(1))
        if row is None:
            return False
        here = update(notify_cursor).values(position=row.position)
        try:
            with self._db.transaction() as tx:
                self._consider(tx, AlarmEvent.model_validate_json(row.json))
                tx.execute(here)
        except StateUnavailable:
            raise
        except Exception:  # one event must not silence those after it; unanswered, its gateway sends its own SMS
            log.exception("event %s cannot be planned and is passed over", row.id)
            with self._db.transaction() as tx:
                tx.execute(here)
        return True

    def _consider(self, tx: Connection, event: AlarmEvent) -> None:
        occurrence = self._alarms.occurrence(event.occurrence)
        assert occurrence is not None  # noqa: S101 - written with the event
        begun = self._escalation(event.occurrence)
        if event.notified and event.rule != EXERCISE:  # that tries every way
            self._drop_reached(tx, event)
        overtaken = begun is not None and begun.seq >= event.seq
        withheld = event.withheld is not None or event.transition in _TAKEN_CARE_OF
        unheard_of = begun is None and event.state != "NORMAL"
        back = event.transition in RETURNING and event.state == "UNACK"  # evaluated afresh: to be told again
        if not withheld and not overtaken and (event.transition in _TELLING or unheard_of or back):
            self._begin(tx, event)
            return
        self._say(tx, event.id, "none")
        if begun is None:
            return
        if occurrence.answered_by is not None and begun.step:  # before the first step: it is told, and then no more
            self._stop_telling(tx, event.occurrence, "acked")
        elif withheld:
            self._stop_telling(tx, event.occurrence, "shelved")
        elif event.transition == "notify" and begun.step == 0 and event.occurrence in self._deadlines:
            self._deadlines[event.occurrence] = self._clock.boot()
        if (
            event.transition == "clear"
            and not withheld
            and not texts.is_link_test(event)
            and occurrence.state in ("NORMAL", "RTN_UNACK")
        ):
            self._tell_of_return(tx, event)

    def _begin(self, tx: Connection, event: AlarmEvent) -> None:
        """Start, or start again for a higher level. Messages of the event before that nobody has are overtaken."""
        late = event.source == "gateway" and self._clock.wall() - from_rfc3339(event.time) > LATE_S
        hold = max(HOLD_S if late else 0.0, self._storms.hold_s(event))
        before = self._escalation(event.occurrence)
        if before and self.notifying(before.event) is None:
            self._say(tx, before.event, "none")  # the newer event speaks for both
        begins = {
            "event": event.id,
            "seq": event.seq,
            "level": max(event.level, self._level_seen(event)),
            "step": 0,
            "next_s": self._clock.wall() + hold,
            "stopped": None,
            "storm": None,
        }
        tx.execute(
            self._db.insert(escalation)
            .values(occurrence=event.occurrence, **begins)
            .on_conflict_do_update(index_elements=["occurrence"], set_=begins)
        )
        self._drop(tx, "overtaken", _M.occurrence == event.occurrence, _M.event != event.id)
        self._deadlines[event.occurrence] = self._clock.boot() + hold

    def _escalation(self, occurrence: str) -> Row[Any] | None:
        return self._db.row(select(escalation).where(_E.occurrence == occurrence))

    def _level_seen(self, event: AlarmEvent) -> int:
        """A level for an occurrence that becomes known by its return (level 0): the highest that its events had, else 1."""
        return event.level or max((e.level for e in self._alarms.events(event.occurrence)), default=0) or 1

    def _follow_states(self, tx: Connection) -> None:
        """What reconciliation changed without an event: a closed occurrence is told no more, a reopened one again."""
        o = alarm_occurrence.c
        escalations = select(_E.occurrence).join(alarm_occurrence, o.occurrence == _E.occurrence)
        for row in self._db.rows(escalations.where(_E.stopped.is_(None), o.state == "NORMAL")):
            told = self._db.row(
                select(_M.id).where(
                    _M.occurrence == row.occurrence,
                    _M.purpose == "alarm",
                    _M.state.in_(("accepted", "trying", "unknown")),
                )
            )
            self._stop_telling(tx, row.occurrence, "returned")
            if not told:
                tx.execute(
                    self._db.insert(digest_item)
                    .values(occurrence=row.occurrence, added_s=self._clock.wall())
                    .on_conflict_do_nothing()
                )
                self._deadlines.setdefault("digest", self._clock.boot() + DIGEST_S)
        for row in self._db.rows(
            escalations.where(_E.stopped == "returned", o.state.in_(("UNACK", "RTN_UNACK")), o.acked_by.is_(None))
        ):
            self._change(tx, row.occurrence, stopped=None, next_s=self._clock.wall())
            self._deadlines[row.occurrence] = self._clock.boot()

    def _change(self, tx: Connection, occurrence: str, **values: object) -> None:
        tx.execute(update(escalation).where(_E.occurrence == occurrence).values(**values))

    def _next_step(self, tx: Connection, name: str) -> None:
        row = self._escalation(name)
        if row is None or row.stopped is not None:
            return
        event = self._alarms.event(row.event)
        assert event is not None  # noqa: S101 - the log keeps every event
        occurrence = self._alarms.occurrence(name)
        if row.step and occurrence and occurrence.answered_by is not None:
            self._stop_telling(tx, name, "acked")
            return
        if row.step == 0 and self._gathered(tx, event):
            return
        steps = self._steps(event, row.level)
        if not steps:
            self._change(tx, name, stopped="nobody", next_s=None)
            self._say(tx, event.id, "false" if event.status == "Actual" else "none")
            return
        number = row.step + 1
        reached = self._reached(event) if number <= len(steps) else frozenset()
        for recipient in steps[row.step % len(steps)]:
            test = texts.is_link_test(event)
            for channel in self._channels_of(recipient) if test else self._first_channels(recipient):
                if channel != "sms" or recipient.id not in reached:
                    self._queue(tx, "alarm", event, number, recipient, channel, row.level)
        if number < len(steps) * (1 if texts.is_link_test(event) else self._config.escalation.rounds):
            next_s = self._clock.wall() + self._config.escalation.step_s
            self._change(tx, name, step=number, next_s=next_s)
            self._deadlines[name] = self._clock.boot() + self._config.escalation.step_s
        else:
            self._change(tx, name, step=number, next_s=None, stopped="done")
        if number == 1 and not self._db.row(select(_M.id).where(_M.event == event.id, _M.purpose == "alarm")):
            self._say(tx, event.id, "none")

    def _gathered(self, tx: Connection, event: AlarmEvent) -> bool:
        """Whether a storm of silence tells of it, and of others, instead."""
        gathered, storm = self._storms.gather(tx, event)
        for occurrence in gathered:
            self._deadlines.pop(occurrence, None)
        told = self._escalation(storm) if storm else None
        if told and (said := self.notifying(told.event)):  # it joins one that was told already
            self._say(tx, told.event, said)
        return storm is not None

    def _judge_steps(self, tx: Connection) -> None:
        """What the providers' answers mean: for the receipt, and for a step that reached nobody."""
        said = tables.notifying.c
        steps_told = (
            select(
                _E.occurrence,
                _E.event,
                _E.step,
                _E.level,
                _E.stopped,
                said.outcome,
                func.count(_M.id).label("messages"),
                _count(_M.state == "accepted").label("accepted"),
                _count(or_(_M.state == "trying", and_(_M.state == "waiting", _M.attempts == 0))).label("untried"),
                _count(_M.state != "dropped").label("meant"),
                _count(_M.step == _E.step).label("here"),
                _count(and_(_M.step == _E.step, _M.state.in_(("failed", "unknown")))).label("lost"),
            )
            .select_from(escalation)
            .join(tables.message, and_(_M.event == _E.event, _M.purpose == "alarm"), isouter=True)
            .join(tables.notifying, said.event == _E.event, isouter=True)
            .where(or_(_E.stopped.is_(None), said.outcome.is_(None), said.outcome == "false"))
            .group_by(_E.occurrence, said.outcome)
        )
        for row in self._db.rows(steps_told):
            over = row.stopped in ("acked", "returned", "shelved")
            if row.accepted:
                if row.outcome in (None, "false"):
                    self._say(tx, row.event, "true")
            elif row.outcome is None and row.level == 1 and not over and self._all_wait(row.event):
                self._say(tx, row.event, "none")  # quiet hours: its gateway shall wake nobody either
            elif row.outcome is None and not row.untried and (row.messages or over):
                self._say(tx, row.event, "none" if over or not row.meant else "false")
            if row.occurrence not in self._deadlines or not row.here or row.lost != row.here:
                continue
            event = self._alarms.event(row.event)
            if event:
                steps = len(self._steps(event, row.level))
                if row.step % max(steps, 1):  # a round's end waits, lest broken channels use up all rounds at once
                    self._deadlines[row.occurrence] = self._clock.boot()

    def _all_wait(self, event_id: str) -> bool:
        """Whether everyone who is told of an event at this step has quiet hours now."""
        now = self._clock.boot()
        rows = self._db.rows(select(tables.message).where(_M.event == event_id, _M.purpose == "alarm"))
        return bool(rows) and all(r.state == "waiting" and self._quiet_until(r, now) > now for r in rows)

    def _tell_of_return(self, tx: Connection, event: AlarmEvent) -> None:
        told = select(_M.recipient).where(
            _M.occurrence == event.occurrence, _M.purpose == "alarm", _M.state.in_(("accepted", "unknown"))
        )
        for row in self._db.rows(told.distinct()):
            recipient = self._recipient(row.recipient)
            if recipient and "email" in self._channels_of(recipient):
                self._queue(tx, "clear", event, 0, recipient, "email", 0)

    def _compose_digest(self, tx: Connection) -> None:
        digest = uuid7(self._clock.wall())
        tx.execute(update(digest_item).where(digest_item.c.digest.is_(None)).values(digest=digest))
        for recipient in self._people.all():
            if "email" in self._channels_of(recipient) and self._digest_items(digest, recipient):
                self._put(tx, "digest", digest, None, 0, recipient, "email", 0)

    def _digest_items(self, digest: str, recipient: Recipient) -> list[tuple[AlarmEvent, Place | None, float]]:
        items = []
        d = digest_item.c
        for row in self._db.rows(select(d.occurrence).where(d.digest == digest).order_by(d.added_s)):
            begun = self._escalation(row.occurrence)
            occurrence = self._alarms.occurrence(row.occurrence)
            event = self._alarms.event(begun.event) if begun else None
            if not (event and occurrence and begun):
                continue
            if any(recipient in step for step in self._steps(event, begun.level)):
                items.append((event, self._config.place(event), occurrence.raised_s))
        return items

    def _stop_telling(self, tx: Connection, occurrence: str, why: str) -> None:
        self._change(tx, occurrence, stopped=why, next_s=None)
        self._drop(tx, why, _M.occurrence == occurrence, _M.purpose == "alarm")
        self._deadlines.pop(occurrence, None)

    def _drop(self, tx: Connection, reason: str, *where: ColumnElement[bool]) -> None:
        tx.execute(
            update(tables.message)
            .where(_M.state == "waiting", *where)
            .values(state="dropped", reason=reason, changed_s=self._clock.wall())
        )

    def _drop_reached(self, tx: Connection, event: AlarmEvent) -> None:
        for note in event.notified:
            if note.result == "sent":
                self._drop(
                    tx,
                    "reached by the gateway",
                    _M.occurrence == event.occurrence,
                    _M.recipient == note.to,
                    _M.channel == note.channel,
                    _M.purpose == "alarm",
                )

    def _reached(self, event: AlarmEvent) -> frozenset[str]:
        """Whom the gateway's own SMS reached about this event or a later one, as it said last: a network may fail one it took."""
        if event.rule == EXERCISE:
            return frozenset()
        last = {
            note.to: note.result
            for e in self._alarms.events(event.occurrence)
            if e.seq >= event.seq
            for note in e.notified
            if note.channel == "sms"
        }
        return frozenset(to for to, result in last.items() if result == "sent")

    def _steps(self, event: AlarmEvent, level: int) -> list[list[Recipient]]:
        if texts.is_link_test(event):
            recipient = self._recipient(event.sensor or "")
            return [[recipient]] if recipient and self._channels_of(recipient) else []
        people, at_s = self._people.all(), self._told_since(event)
        communes = self._storms.communes(event) or self._config.communes_told(event)
        mending = self._config.neighbours_of(event) is not None
        steps = eligible(people, communes, event.kind, level, event.status, at_s, mending=mending)
        if not steps and self._clock.exercise:  # on a scaled clock no message leaves this machine
            steps = eligible(people, communes, event.kind, level, "Actual", at_s, mending=mending)
        reachable = ([r for r in step if self._channels_of(r)] for step in steps)
        return [step for step in reachable if step]

    def _told_since(self, event: AlarmEvent) -> float:
        """When telling of an event began; now, before it did. Who was on call then keeps the order of the steps to its end."""
        first = select(func.min(_M.created_s).label("at")).where(_M.event == event.id, _M.purpose == "alarm")
        row = self._db.row(first)
        return row.at if row and row.at is not None else self._clock.wall()

    def _recipient(self, id_: str) -> Recipient | None:
        return next((r for r in self._people.all() if r.id == id_), None)

    def _channels_of(self, recipient: Recipient) -> list[Channel]:
        """Those on which they can be reached, in their order."""
        usable: dict[Channel, bool] = {
            "sms": bool(self._channels.sms),
            "email": self._channels.email is not None,
            "webhook": self._channels.webhook is not None,
        }
        return [c for c in recipient.channels or recipient.addresses if usable[c]]

    def _first_channels(self, recipient: Recipient) -> list[Channel]:
        """All at once; of those who have an order, the first one."""
        channels = self._channels_of(recipient)
        return channels[:1] if recipient.channels else channels

    def _queue(
        self,
        tx: Connection,
        purpose: str,
        event: AlarmEvent,
        step: int,
        recipient: Recipient,
        channel: Channel,
        level: int,
    ) -> None:
        """Put a message into the outbox, unless this person's earlier one about the same event is still on its way."""
        pending = self._db.row(
            select(_M.id).where(
                _M.event == event.id,
                _M.purpose == purpose,
                _M.recipient == recipient.id,
                _M.channel == channel,
                _M.state.in_(("waiting", "trying")),
            )
        )
        if pending is None:
            self._put(tx, purpose, event.id, event.occurrence, step, recipient, channel, level)

    def _put(
        self,
        tx: Connection,
        purpose: str,
        event: str,
        occurrence: str | None,
        step: int,
        recipient: Recipient,
        channel: Channel,
        level: int,
    ) -> None:
        now = self._clock.wall()
        tx.execute(
            self._db.insert(tables.message)
            .values(
                id=uuid7(now),
                purpose=purpose,
                event=event,
                occurrence=occurrence,
                step=step,
                recipient=recipient.id,
                channel=channel,
                level=level,
                state="waiting",
                attempts=0,
                created_s=now,
                changed_s=now,
            )
            .on_conflict_do_nothing()
        )

    def _say(self, tx: Connection, event_id: str, outcome: Notifying) -> None:
        tx.execute(
            self._db.insert(tables.notifying)
            .values(event=event_id, outcome=outcome)
            .on_conflict_do_update(index_elements=["event"], set_={"outcome": outcome})
        )
        self._said.append((event_id, outcome))
        for row in self._storms.events(event_id):
            self._say(tx, row.event, outcome)

    # ------------------------------------------------------------------ delivering

    def _deliver_once(self, channel: Channel) -> float | None:
        """Attempt every message of a channel that is due, real alarms first, then the highest level; gives the boot second of the next."""
        if channel in self._interrupted:
            self._take_up(channel)
            self._interrupted.discard(channel)
        while not self._stopping.is_set():
            now = self._clock.boot()
            o = alarm_occurrence.c
            real = func.coalesce(o.status, "Actual") == "Actual"
            rows = self._db.rows(
                select(tables.message)
                .join(alarm_occurrence, o.occurrence == _M.occurrence, isouter=True)
                .where(_M.channel == channel, _M.state == "waiting")
                .order_by((_M.purpose == "alarm").desc(), real.desc(), _M.level.desc(), _M.attempts, _M.created_s)
            )
            waits = {r.id: self._due_at(r, now) for r in rows}
            due = next((r for r in rows if waits[r.id] <= now), None)
            if due is None:
                if channel == "email" and self._channels.email:
                    self._channels.email.close()
                return min(waits.values(), default=None)
            group = [r for r in rows if waits[r.id] <= now and self._may_join(due, r)]
            if len(group) <= max(1, self._flood.room(due.recipient, channel, now)):
                group = [due]
            try:
                self._attempt(group)
            except StateUnavailable:
                self._interrupted.add(channel)
                raise
            except Exception:  # one message must not hold up the others of its channel
                log.exception("message %s: attempt broke off", due.id)
                self._settle_all(group, Outcome("retry", "attempt broke off"))
            self._planner.wake()
            _call(self._on_outcome)
        return None

    def _due_at(self, message: Row[Any], now: float) -> float:
        """Boot second: after a failure later, in a flood when there is room, at level 1 after the reader's quiet hours."""
        at = self._retry_at.get(message.id, now)
        if message.purpose != "alarm" or message.level >= _HIGHEST:
            return at
        return max(at, self._flood.free_at(message.recipient, message.channel, now), self._quiet_until(message, now))

    def _quiet_until(self, message: Row[Any], now: float) -> float:
        recipient = self._recipient(message.recipient)
        if recipient is None or message.level > 1:
            return now
        wall = self._clock.wall()
        return now + max(0.0, (recipient.quiet_until(wall) or wall) - wall)

    def _may_join(self, first: Row[Any], other: Row[Any]) -> bool:
        """Whether two messages can be one in a flood: of alarms to the same person, none of the highest level."""
        alarms = first.purpose == "alarm" and other.purpose == "alarm"
        return bool(alarms and first.recipient == other.recipient and max(first.level, other.level) < _HIGHEST)

    def _attempt(self, group: Sequence[Row[Any]]) -> None:
        """One message, or several to the same person as one."""
        message = group[0]
        recipient = self._recipient(message.recipient)
        if recipient is None:  # no longer known
            for row in group:
                self._close_message(row.id, Outcome("failed", "recipient is gone"))
        elif len(group) > 1 and message.channel != "webhook":  # that is a program: it takes each
            self._attempt_together(group, recipient)
        elif message.channel == "email":
            self._attempt_mail(message, recipient)
        elif message.channel == "webhook":
            self._attempt_webhook(message, recipient)
        else:
            self._attempt_sms(message, recipient)

    def _attempt_mail(self, message: Row[Any], recipient: Recipient) -> None:
        smtp = self._channels.email
        if smtp is None or recipient.email is None:
            self._close_message(message.id, Outcome("failed", "no address or no server"))
            return
        is_alarm = message.purpose == "alarm"
        link = self._link(message.id, message.occurrence) if is_alarm else None
        made = self._mail(message, recipient, link.url if link else None)
        if self._intend(message.id, "smtp", made.subject, link):
            self._settle(message, self._send_mail(smtp, recipient, made, message.id))

    def _send_mail(self, smtp: SmtpChannel, recipient: Recipient, letter: Mail, message_id: str) -> Outcome:
        outcome = smtp.send(recipient.email or "", letter, message_id, self._clock.wall())
        self._note_health("smtp", outcome)
        if outcome.kind == "accepted":
            self._flood.sent(recipient.id, "email", self._clock.boot())
        return outcome

    def _attempt_together(self, group: Sequence[Row[Any]], recipient: Recipient) -> None:
        """Many alarms in one message. Each settles as the one does; links to answer are in the mail, one for each alarm."""
        found = [(row, event) for row in group if (event := self._alarms.event(row.event))]
        found = [
            (row, event) for row, event in found if event.status == found[0][1].status
        ]  # an exercise says so by itself
        found.sort(key=lambda pair: (-pair[1].level, pair[0].created_s))
        rows, events = [row for row, _ in found], [event for _, event in found]
        channel: Channel = rows[0].channel
        if channel == "email" and self._channels.email and recipient.email:
            links = [self._link(row.id, event.occurrence) for row, event in found]
            items = [
                (e, self._config.place(e), self._raised(e) or 0.0, link.url)
                for e, link in zip(events, links, strict=True)
            ]
            letter = mail.flood(items, recipient.language)
            if self._intend_all(rows, "smtp", letter.subject, links):
                self._settle_all(rows, self._send_mail(self._channels.email, recipient, letter, _joint_id(rows)))
        elif channel == "sms" and recipient.phone:
            places = [texts.where(e, self._config.place(e), recipient.language) for e in events]
            self._settle_all(rows, self._send_sms(rows, recipient, lambda answerable: texts.digest_sms(
                events, places, answerable=answerable, language=recipient.language)))  # fmt: skip
        else:
            self._settle_all(rows, Outcome("failed", "no address"))

    def _settle_all(self, rows: Sequence[Row[Any]], outcome: Outcome | None) -> None:
        for row in rows if outcome else ():
            self._settle(row, outcome)  # type: ignore[arg-type]

    def _intend_all(self, rows: Sequence[Row[Any]], via: str, text: str, links: Sequence[_Link] = ()) -> bool:
        """As `_intend`, of messages that are sent as one: all, or none when one was dropped meanwhile."""
        with self._db.transaction() as tx:
            if not all(self._intend(row.id, via, text) for row in rows):
                back = update(tables.message).where(_M.state == "trying", _M.id.in_([row.id for row in rows]))
                tx.execute(back.values(state="waiting", via=None))
                return False
            for link in links:
                tx.execute(ack_token.insert(), link.row)
        return True

    def _attempt_webhook(self, message: Row[Any], recipient: Recipient) -> None:
        event, webhook = self._alarms.event(message.event), self._channels.webhook
        if webhook is None or event is None or recipient.webhook is None:
            self._close_message(message.id, Outcome("failed", "no address"))
            return
        text = self._sms_text(message, event, recipient, answerable=False)
        link = self._link(message.id, event.occurrence)
        content = {
            "id": message.id,
            "step": message.step,
            "text": text,
            "acknowledge": link.url,
            "event": event.model_dump(mode="json"),
        }
        if self._intend(message.id, "webhook", text, link):
            outcome = webhook.send(recipient.webhook, content)
            self._settle(message, outcome)

    def _attempt_sms(self, message: Row[Any], recipient: Recipient) -> None:
        event = self._alarms.event(message.event)
        if event is None or recipient.phone is None:
            self._close_message(message.id, Outcome("failed", "no number"))
            return
        outcome = self._send_sms(
            [message], recipient, lambda answerable: self._sms_text(message, event, recipient, answerable=answerable)
        )
        if outcome:
            self._settle(message, outcome)

    def _send_sms(
        self, rows: Sequence[Row[Any]], recipient: Recipient, text_of: Callable[[bool], str]
    ) -> Outcome | None:
        """Through the gateways in order; `text_of` gives the words for one whose answers are read, or not. Interrupted with one of
        them, it begins with that one. None when it was dropped meanwhile."""
        outcome = Outcome("failed", "no SMS gateway")
        retry: Outcome | None = None
        for sender in sorted(self._channels.sms, key=lambda s: s.name != rows[0].via):
            text = text_of(sender.answerable)
            if not self._intend_all(rows, sender.name, text):
                return None
            outcome = sender.send(recipient.phone or "", text, _joint_id(rows))
            self._note_health(sender.name, outcome)
            if outcome.kind == "accepted":
                self._flood.sent(recipient.id, "sms", self._clock.boot())
            if outcome.kind == "accepted" or (outcome.kind == "unknown" and sender.on_unknown == "leave"):
                return outcome
            if outcome.kind in ("retry", "unknown"):
                retry = retry or Outcome("retry", f"{sender.name}: {outcome.reason}")
        return retry or outcome

    def _intend(self, message_id: str, via: str, text: str, link: _Link | None = None) -> bool:
        """Write down that a provider is about to hear of it, and the link that it carries. False when it was dropped meanwhile: it
        must not be sent."""
        with self._db.transaction() as tx:
            changed = tx.execute(
                update(tables.message)
                .where(_M.id == message_id, _M.state.in_(("waiting", "trying")))
                .values(
                    attempts=_M.attempts + case((_M.state == "waiting", 1), else_=0),
                    state="trying",
                    via=via,
                    text=text,
                    changed_s=self._clock.wall(),
                )
            )
            if link and changed.rowcount:
                tx.execute(ack_token.insert(), link.row)
            return changed.rowcount == 1

    def _settle(self, message: Row[Any], outcome: Outcome) -> None:
        if outcome.kind != "retry":
            with self._db.transaction() as tx:
                self._close_message(message.id, outcome)
                if outcome.kind == "accepted":
                    self._drop_other_channels(tx, message)
                else:
                    self._fall_over(tx, message)
            return
        delay = min(RETRY_S * 2 ** min(message.attempts, 10), RETRY_MAX_S)
        self._retry_at[message.id] = self._clock.boot() + delay
        with self._db.transaction() as tx:
            over = self._is_over(message)
            state = "dropped" if over else "waiting"
            self._mark(tx, message.id, state=state, reason=outcome.reason, via=None)
            if not over:
                self._fall_over(tx, message)

    def _is_over(self, message: Row[Any]) -> bool:
        """Whether it tells of what somebody has answered for, what has returned, or what a newer event tells better."""
        overtaken = self._db.row(
            select(_E.stopped).where(
                _E.occurrence == message.occurrence,
                or_(_E.event != message.event, _E.stopped.in_(("acked", "returned", "shelved"))),
            )
        )
        return overtaken is not None and message.purpose == "alarm"

    def _fall_over(self, tx: Connection, message: Row[Any]) -> None:
        """Who has an order of channels is told on the next one, while the one before may still be tried again."""
        recipient, event = self._recipient(message.recipient), self._alarms.event(message.event)
        if recipient is None or event is None or not recipient.channels or message.purpose != "alarm":
            return
        after = dict(pairwise(self._channels_of(recipient))).get(message.channel)
        if after is None:
            return
        asked = self._db.row(
            select(_M.id).where(
                _M.event == event.id,
                _M.purpose == "alarm",
                _M.recipient == recipient.id,
                _M.channel == after,
                _M.step == message.step,
            )
        )
        if asked is None:
            self._queue(tx, "alarm", event, message.step, recipient, after, message.level)
            self._couriers[after].wake()

    def _drop_other_channels(self, tx: Connection, message: Row[Any]) -> None:
        recipient = self._recipient(message.recipient)
        if recipient and recipient.channels and message.purpose == "alarm":
            mine = and_(_M.event == message.event, _M.recipient == recipient.id, _M.purpose == "alarm")
            self._drop(tx, "reached otherwise", mine)

    def _close_message(self, message_id: str, outcome: Outcome) -> None:
        self._retry_at.pop(message_id, None)
        with self._db.transaction() as tx:
            known = {"reference": outcome.reference} if outcome.reference else {}
            self._mark(tx, message_id, state=outcome.kind, reason=outcome.reason or None, **known)
        if outcome.kind != "accepted":
            log.warning("message %s: %s, %s", message_id, outcome.kind, outcome.reason)

    def _mark(self, tx: Connection, message_id: str, **values: object) -> None:
        tx.execute(update(tables.message).where(_M.id == message_id).values(changed_s=self._clock.wall(), **values))

    def _note_health(self, name: str, outcome: Outcome) -> None:
        if outcome.kind == "accepted":
            if name in self._broken:
                self._broken.discard(name)
                log.info("%s: accepts messages again", name)
        elif outcome.kind in ("retry", "unknown") and name not in self._broken:
            self._broken.add(name)
            log.warning("%s: %s, %s", name, outcome.kind, outcome.reason)

    # ------------------------------------------------------------------ words

    def _mail(self, message: Row[Any], recipient: Recipient, ack_url: str | None) -> Mail:
        if message.purpose == "digest":
            return mail.digest(self._digest_items(message.event, recipient), recipient.language)
        event = self._alarms.event(message.event)
        assert event is not None  # noqa: S101 - the log keeps every event
        told = self._db.rows(
            select(_M.recipient)
            .where(
                _M.occurrence == event.occurrence,
                _M.purpose == "alarm",
                _M.state.in_(("accepted", "trying")),
                _M.recipient != recipient.id,
            )
            .distinct()
            .order_by(_M.recipient)
        )
        names = [r.recipient for r in told]
        names += sorted(r for r in self._reached(event) if r != recipient.id and r not in names)
        begun = self._escalation(event.occurrence)
        is_alarm = message.purpose == "alarm"
        return mail.mail(
            self._storms.counted(event),
            self._config.place(event),
            reminder=is_alarm and self._is_reminder(message, event),
            raised_s=self._raised(event),
            returned_s=self._returned(event) if is_alarm else None,
            told=[self._name(r) for r in names],
            ack_url=ack_url,
            next_step_s=begun.next_s if begun else None,
            graph=self._graph(event),
            draft_for=self._commune(event) if recipient.role == "planu" else None,
            language=recipient.language,
        )

    def _sms_text(self, message: Row[Any], event: AlarmEvent, recipient: Recipient, *, answerable: bool) -> str:
        return texts.sms(
            self._storms.counted(event),
            self._config.place(event),
            reminder=self._is_reminder(message, event),
            raised_s=self._raised(event),
            returned_s=self._returned(event),
            answerable=answerable,
            mailed="email" in self._first_channels(recipient),
            language=recipient.language,
        )

    def _is_reminder(self, message: Row[Any], event: AlarmEvent) -> bool:
        """Whether it is of a later round: its reader was told of the same before."""
        return bool(message.step > len(self._steps(event, message.level)))

    def _commune(self, event: AlarmEvent) -> str | None:
        """The name of a station's commune; None of an alarm that is told to others than it."""
        if self._config.reach_of(event) is not None:
            return None
        station = next((s for s in self._config.station if s.id == event.station), None)
        return texts.commune(station.commune) if station else None

    def _link(self, message_id: str, occurrence: str) -> _Link:
        """A link of its own for each mail. A mail that is sent again gets a new one, since only hashes are kept."""
        token = secrets.token_urlsafe(16)
        url = f"{self._config.web.public_url.rstrip('/')}/ack/{token}"
        return _Link(url, {"hash": _digest(token), "message": message_id, "occurrence": occurrence})

    def _name(self, recipient: str) -> str:
        known = self._recipient(recipient)
        return known.name if known else recipient

    def _raised(self, event: AlarmEvent) -> float | None:
        occurrence = self._alarms.occurrence(event.occurrence)
        return occurrence.raised_s if occurrence else None

    def _returned(self, event: AlarmEvent) -> float | None:
        occurrence = self._alarms.occurrence(event.occurrence)
        return occurrence.changed_s if occurrence and occurrence.state == "RTN_UNACK" else None


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """In a GROUP BY: of how many rows it is true."""
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _call(function: Callable[..., None], *arguments: object) -> None:
    """A callback's fault is its own: it must not keep the next person from being told."""
    try:
        function(*arguments)
    except Exception:
        log.exception("callback of the notifier")


def _joint_id(rows: Sequence[Row[Any]]) -> str:
    """The id under which a provider hears of messages that are sent as one. It is of just these: with one more it is another, or
    a provider that takes an id once would drop that one."""
    ids = sorted(str(row.id) for row in rows)
    return ids[0] if len(ids) == 1 else hashlib.sha256(" ".join(ids).encode()).hexdigest()[:32]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
