"""Whether the SMS modem could send, asked once a minute before it has to: registration, signal, SIM; and once a day, of a prepaid card,
how much is left on it.
"""

import logging
import re
from typing import Protocol

from common.clock import Clock
from common.modem import ModemError, ModemStatus
from common.worker import Worker
from edge.config import Credit

log = logging.getLogger(__name__)

EVERY_S = 60.0
STALE_S = 300.0
"""What the modem said so long ago is no longer told."""


DAY_S = 86400.0
CREDIT_AGAIN_S = 3600.0
CREDIT_STALE_S = 3 * DAY_S


class Modem(Protocol):
    """What can be asked. Both raise ModemError when it does not answer."""

    def status(self) -> ModemStatus: ...

    def ussd(self, code: str) -> str: ...


class ModemWatch:
    """Asks in a thread of its own: a modem may take a minute to answer, and is not asked while it sends."""

    def __init__(self, modem: Modem, clock: Clock, credit: Credit | None = None) -> None:
        self._modem = modem
        self._asks = credit
        self._clock = clock
        self._worker = Worker("modem-watch", self._look, clock)
        self._status: ModemStatus | None = None
        self._asked_s: float | None = None
        self._trouble: str | None = None
        self._credit: tuple[float, float] | None = None
        """What is left, and when it was said."""
        self._credit_due_s = 0.0
        self._credit_unknown = ""

    def start(self) -> None:
        self._worker.start()

    def stop(self) -> None:
        self._worker.stop()

    def health(self) -> dict[str, float]:
        """Values for a gateway's health. `sms_unusable`: 1 when no SMS could be sent. `sms_credit`: in the operator's currency. What
        is not known is not there."""
        if self._asked_s is None or self._clock.boot() - self._asked_s >= STALE_S:
            return {}
        values = {"sms_unusable": float(self._trouble is not None)}
        status = self._status
        if status is not None:
            values |= {"sms_registered": float(status.registered), "sms_sim_ready": float(status.sim == "ready")}
            if status.signal_dbm is not None:
                values["sms_signal_dbm"] = status.signal_dbm
        if self._credit is not None and self._clock.boot() - self._credit[1] < CREDIT_STALE_S:
            values["sms_credit"] = self._credit[0]
        return values

    def _look(self) -> float:
        try:
            status = self._modem.status()
            trouble = _trouble(status)
        except ModemError as e:
            status, trouble = None, e.reason
        now = self._clock.boot()
        if trouble != self._trouble:
            if trouble is None:
                log.info("sms: the modem can send again")
            else:
                log.warning("sms: the modem cannot send: %s", trouble)
        self._status, self._trouble, self._asked_s = status, trouble, now
        if self._asks is not None and trouble is None and now >= self._credit_due_s:
            self._ask_credit(self._asks)
        return now + EVERY_S

    def _ask_credit(self, asks: Credit) -> None:
        try:
            said = self._modem.ussd(asks.code)
            found = re.search(asks.answer, said)
            unknown = "" if found else f"no amount in {said!r}"
        except ModemError as e:
            found, unknown = None, e.reason
        now = self._clock.boot()
        self._credit_due_s = now + (DAY_S if found else CREDIT_AGAIN_S)
        if found:
            self._credit = (float(found[1].replace(",", ".")), now)
        elif unknown != self._credit_unknown:
            log.warning("sms: what is left on the card is not known: %s", unknown)
        self._credit_unknown = unknown


def _trouble(status: ModemStatus) -> str | None:
    if status.sim != "ready":
        return f"SIM: {status.sim.replace('_', ' ')}"
    return None if status.registered else "not registered with a network"
