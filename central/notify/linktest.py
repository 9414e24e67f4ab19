"""The monthly test of the links: everyone gets a `Test` message on each channel and answers it as an alarm; a report says who did not.

For each person it is an occurrence of its own (source central, kind system, quantity `link_test`, status Test; `sensor` is the
recipient's id), so that links, SMS and the log work as in an alarm. The alarm log is all that is remembered: what is open and
older than `report_after_s` is reported, then closed; a report that cannot be sent now is sent later.
"""

import logging
from collections.abc import Callable
from datetime import datetime

from central.alarms.log import AlarmLog, Occurrence
from central.config import LINK_TEST
from central.config import LinkTest as Settings
from central.db import Database
from central.notify.channels import SmtpChannel
from central.notify.mail import notice
from central.notify.recipients import Recipients
from central.notify.told import told
from common import texts
from common.clock import BRUSSELS, Clock, rfc3339
from common.worker import Worker
from wire.alarm import AlarmEvent, State, Transition
from wire.ids import uuid7

log = logging.getLogger(__name__)

RULE = LINK_TEST
GATEWAY = texts.SEVERAL
LOOK_S = 60.0
RETRY_S = 60.0


class LinkTest:
    """`begin()` at its time; its `worker` follows what people answer. `changed()`: there is something new in the alarm log."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        alarms: AlarmLog,
        people: Recipients,
        smtp: SmtpChannel | None,
        clock: Clock,
        *,
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._db = db
        self._alarms = alarms
        self._people = people
        self._smtp = smtp
        self._clock = clock
        self._changed = changed
        self.worker = Worker("link-test", self._follow, clock, retry_s=RETRY_S)

    def begin_if_first(self) -> None:
        """Begin when it is the first such day of its month."""
        if datetime.fromtimestamp(self._clock.wall(), BRUSSELS).day <= 7:
            self.begin()

    def begin(self) -> None:
        """Test everyone, unless a test is still open."""
        if self._open():
            log.warning("link test: one is still open, no other is begun")
            return
        people = self._people.all()
        for recipient in people:
            self._record(recipient.id, "raise", "UNACK", None)
        log.info("link test: %d people are asked to answer", len(people))
        self._changed()
        self.worker.wake()

    def _open(self) -> list[Occurrence]:
        return [o for o in self._alarms.open_occurrences() if o.source == "central" and o.rule == RULE]

    def _follow(self) -> float | None:
        tests = self._open()
        if not tests:
            return None
        now = self._clock.wall()
        if now - min(o.raised_s for o in tests) >= self._settings.report_after_s:
            self._report(tests)
            for test in tests:
                self._close(test)
            self._changed()
        return self._clock.boot() + LOOK_S

    def _report(self, tests: list[Occurrence]) -> None:
        """Raises ConnectionError when the mail could not be handed over: all is kept and tried again."""
        known = {r.id: r for r in self._people.all()}
        names = {r.id: r.name for r in known.values()}
        words, channels, fates = (texts.phrases(s) for s in ("link_test", "page", "page"))
        lines, silent = [], 0
        for test in sorted(tests, key=lambda o: (o.answered_by is not None, self._id(o))):
            id_ = self._id(test)
            if id_ not in known:
                continue  # forgotten meanwhile
            ways = "; ".join(
                f"{channels['channel'][t.channel]} {fates['fate'][t.fate]}"
                for t in told(self._db, (), test.occurrence, names)
            )
            silent += test.answered_by is None
            key = "line_silent" if test.answered_by is None else "line_answered"
            lines.append(words[key].format(name=names[id_], ways=ways or words["no_way"]))
        log.info("link test: %d of %d did not answer", silent, len(lines))
        subject = texts.phrases("prefix")["Test"] + words["subject"].format(silent=silent, total=len(lines))
        letter = notice(subject, words["intro"], lines)
        for id_ in self._settings.report_to:
            recipient = known.get(id_)
            if recipient is None or recipient.email is None or self._smtp is None:
                log.error("link test: %s cannot get the report, expected a recipient with a mail address", id_)
                continue
            outcome = self._smtp.send(recipient.email, letter, f"{tests[0].occurrence}.{id_}", self._clock.wall())
            self._smtp.close()
            if outcome.kind == "retry":
                raise ConnectionError(f"the report to {id_}: {outcome.reason}")
            if outcome.kind != "accepted":
                log.error("link test: the report to %s: %s", id_, outcome.reason)

    def _close(self, test: Occurrence) -> None:
        id_ = self._id(test)
        if test.state == "UNACK":
            self._record(id_, "ack", "ACK", test, by=test.answered_by or GATEWAY)
        self._record(id_, "clear", "NORMAL", test)

    def _id(self, test: Occurrence) -> str:
        event = self._alarms.event(test.last_event)
        return (event.sensor if event else None) or ""

    def _record(
        self, recipient: str, transition: Transition, state: State, test: Occurrence | None, by: str | None = None
    ) -> None:
        with self._db.transaction():  # central raises others under this gateway: a number is used once
            self._record_next(recipient, transition, state, test, by)

    def _record_next(
        self, recipient: str, transition: Transition, state: State, test: Occurrence | None, by: str | None
    ) -> None:
        now = self._clock.wall()
        event = AlarmEvent(
            id=uuid7(now),
            occurrence=test.occurrence if test else uuid7(now),
            seq=self._alarms.next_seq(GATEWAY),
            source="central",
            gateway=GATEWAY,
            station=None,
            sensor=recipient,
            quantity=texts.LINK_TEST,
            rule=RULE,
            kind="system",
            transition=transition,
            state=state,
            level=0 if transition == "clear" else 1,
            value=None,
            unit=None,
            threshold=None,
            time=rfc3339(now),
            clock="synchronised" if self._clock.synchronised() else "estimated",
            status="Test",
            by=by,
        )
        self._alarms.record(event, now)
