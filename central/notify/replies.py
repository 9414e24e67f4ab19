"""What people answer to the SMS of a modem at central: `OK <reference>` acknowledges, `ETAT` asks for what stands. And what the
network reports of a message it took.

Only numbers of recipients are listened to. A message is deleted from the modem after it was dealt with, so after a kill it is,
if need be, dealt with twice. What answers by itself is not answered for ever.
"""

import logging
import re
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from central.alarms.log import AlarmLog, Occurrence
from central.notify.channels import ModemSms
from central.notify.notifier import Notifier
from central.notify.recipients import Recipient, Recipients
from common import texts
from common.clock import Clock
from common.modem import ModemError, Received
from common.texts import Place, Present
from common.worker import Worker
from wire.alarm import AlarmEvent

log = logging.getLogger(__name__)

INBOX_S = 5.0
MAX_ANSWERS = 20
ANSWERS_S = 3600.0

_OK = re.compile(r"OK[\s:.#-]*([0-9A-F]{5})?[\s.!]*", re.IGNORECASE)
_STATE = re.compile(r"[ÉE]TAT[\s.!?]*", re.IGNORECASE)


class Replies:
    """Asks each modem every few seconds, in its `worker`."""

    def __init__(
        self,
        modems: Sequence[ModemSms],
        people: Recipients,
        alarms: AlarmLog,
        notifier: Notifier,
        place: Callable[[AlarmEvent], Place | None],
        clock: Clock,
    ) -> None:
        self._modems = modems
        self._people = people
        self._alarms = alarms
        self._notifier = notifier
        self._place = place
        self._clock = clock
        self._deaf: set[str] = set()
        self._answered: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=MAX_ANSWERS))
        self.worker = Worker("sms-replies", self._listen, clock)

    def _listen(self) -> float:
        for sender in self._modems:
            try:
                messages = sender.device.inbox()
            except ModemError as e:
                if sender.name not in self._deaf:
                    log.warning("%s: answers cannot be read: %s", sender.name, e.reason)
                self._deaf.add(sender.name)
                continue
            self._deaf.discard(sender.name)
            for report in sender.device.reports():
                self._notifier.note_report(sender.reference(report.reference), report)
            for message in messages:
                self._hear(sender, message)
        return self._clock.boot() + INBOX_S

    def _hear(self, sender: ModemSms, message: Received) -> None:
        recipient = next((r for r in self._people.all() if r.phone == message.number), None)
        if message.text is None:
            log.warning("%s: a message that cannot be read is deleted: %s", sender.name, message.fault)
        elif recipient is None:
            log.warning("%s: a message from an unknown number is deleted", sender.name)
        else:
            self._reply(sender, recipient, self._answer(recipient, message.text.strip()))
        try:
            sender.device.delete(message)
        except ModemError as e:
            log.warning("%s: an answer stays in the modem: %s", sender.name, e.reason)

    def _answer(self, recipient: Recipient, text: str) -> str:
        """Do what an SMS asks for; the text to answer."""
        language = recipient.language
        if _STATE.fullmatch(text):
            return texts.situation(self._present(), self._clock.wall(), language)
        match = _OK.fullmatch(text)
        if match is None:
            return texts.reply("help", language)
        open_ = [o for o in self._alarms.open_occurrences() if self._waits(o) and self._told(recipient, o) is not None]
        named = match[1].upper() if match[1] else None
        if named is None and len(open_) != 1:
            references = ", ".join(texts.reference(o.occurrence) for o in open_)
            return (
                texts.reply("which", language, references=references)
                if open_
                else texts.reply("nothing_open", language)
            )
        found = [o for o in open_ if named in (None, texts.reference(o.occurrence))]
        if not found:
            return texts.reply("not_open", language, reference=named)
        return self._acknowledge(recipient, found[0])

    def _acknowledge(self, recipient: Recipient, occurrence: Occurrence) -> str:
        reference, language = texts.reference(occurrence.occurrence), recipient.language
        if occurrence.level > (self._told(recipient, occurrence) or 0):
            return texts.reply("worse", language, reference=reference, level=occurrence.level)
        self._notifier.acknowledge(occurrence.occurrence, recipient.name)
        log.info("%s acknowledged %s by SMS", recipient.id, reference)
        event = self._alarms.event(occurrence.last_event)
        where = texts.where(event, self._place(event), language) if event else ""
        return texts.reply("acknowledged", language, reference=reference, where=where)

    def _told(self, recipient: Recipient, occurrence: Occurrence) -> int | None:
        return self._notifier.level_told(recipient.id, occurrence.occurrence)

    def _waits(self, occurrence: Occurrence) -> bool:
        event = self._alarms.event(occurrence.last_event)
        withheld = event is not None and event.withheld is not None
        return occurrence.answered_by is None and not withheld

    def _present(self) -> list[Present]:
        """What the alarms that stand said last."""
        found = []
        for occurrence in self._alarms.open_occurrences():
            event = self._alarms.event(occurrence.last_event)
            if event is not None and event.withheld is None and not texts.is_link_test(event):
                where = texts.where(event, self._place(event))
                value = None if texts.is_loss(event) else event.value
                found.append(Present(where, event.quantity or "", value, occurrence.level))
        return found

    def _reply(self, sender: ModemSms, recipient: Recipient, text: str) -> None:
        now = self._clock.boot()
        answered = self._answered[recipient.id]
        if len(answered) == MAX_ANSWERS and now - answered[0] < ANSWERS_S:
            log.warning("%s: %s gets no more answers for now", sender.name, recipient.id)
            return
        answered.append(now)
        outcome = sender.device.send(recipient.phone or "", text)
        if outcome.kind != "sent":
            log.error("%s: %s got no answer: %s", sender.name, recipient.id, outcome.reason)
