"""The gateway's own SMS: when central has not said within a minute that it is telling people, or says that it cannot.

A thread of its own, since a modem may take a minute a message. An attempt is recorded before the modem is asked and never
repeated to the same person for the same raise or escalation (contract: docs/wire.md, alarm receipts).
"""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from common.clock import Clock, rfc3339
from common.modem import Outcome
from edge import config
from edge.alarm_log import AlarmLog, AlarmLogUnwritable, Announcement
from wire.alarm import AlarmEvent, Notified

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0


class Sender(Protocol):
    """A modem."""

    def send(self, number: str, text: str) -> Outcome: ...


def due(a: Announcement, now_boot_s: float, boot_id: str, after_s: float) -> bool:
    """Whether central has had its chance: it said that it could not, or `after_s` went by without its word.

    One from before a reboot is due at once: how long ago it was, nobody knows.
    """
    if a.notifying in ("true", "none"):
        return False
    return a.notifying == "false" or a.boot_id != boot_id or now_boot_s - a.boot_s >= after_s


class SmsNotifier:
    """Sends to the recipients of the alarm's level, one after another. `told` hears what was tried, and must not block."""

    def __init__(
        self,
        settings: config.Sms,
        sender: Sender,
        alarms: AlarmLog,
        clock: Clock,
        text: Callable[[AlarmEvent], str],
        told: Callable[[AlarmEvent, tuple[Notified, ...]], None],
    ) -> None:
        self._settings = settings
        self._sender = sender
        self._alarms = alarms
        self._clock = clock
        self._text = text
        self._told = told
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="sms", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the message that is being sent."""
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._clock.wait(self._stop, LOOK_AGAIN_S):
            try:
                self._look()
            except AlarmLogUnwritable as e:
                log.warning("sms: waiting: %s", e)
            except Exception:
                log.exception("sms: a fault of this program, tried again")

    def _look(self) -> None:
        now = self._clock.boot()
        for announcement in self._alarms.announcements():
            event = announcement.event
            if not due(announcement, now, self._clock.boot_id, self._settings.after_s):
                continue
            tried = self._alarms.sms_tried(event.id)
            notified = []
            for recipient in self._settings.recipient:
                if recipient.min_level > event.level or recipient.id in tried or self._stop.is_set():
                    continue
                outcome = self._send(event, recipient)
                if outcome is not None:
                    notified.append(outcome)
            if notified:
                self._told(event, tuple(notified))

    def _send(self, event: AlarmEvent, recipient: config.Recipient) -> Notified | None:
        at = rfc3339(self._clock.wall())
        if not self._alarms.sms_begin(event.id, recipient.id, at):
            return None
        outcome = self._sender.send(recipient.phone, self._text(event))
        self._alarms.sms_end(event.id, recipient.id, outcome.kind)
        if outcome.kind == "sent":
            log.info("sms: %s told of %s", recipient.id, event.rule)
        else:
            log.error("sms: %s not told of %s: %s", recipient.id, event.rule, outcome.reason)
        return Notified(channel="sms", to=recipient.id, at=at, result=outcome.kind)
