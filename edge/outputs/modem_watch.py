"""Whether the SMS modem could send, asked once a minute before it has to: registration, signal, SIM.

Credit is not asked for: what an operator answers to a USSD code is free text of its own.
"""

import logging
from typing import Protocol

from common.clock import Clock
from common.modem import ModemError, ModemStatus
from common.worker import Worker

log = logging.getLogger(__name__)

EVERY_S = 60.0
STALE_S = 300.0
"""What the modem said so long ago is no longer told."""


class Modem(Protocol):
    """What can be asked."""

    def status(self) -> ModemStatus:
        """Raises ModemError when it does not answer."""


class ModemWatch:
    """Asks in a thread of its own: a modem may take a minute to answer, and is not asked while it sends."""

    def __init__(self, modem: Modem, clock: Clock) -> None:
        self._modem = modem
        self._clock = clock
        self._worker = Worker("modem-watch", self._look, clock)
        self._status: ModemStatus | None = None
        self._asked_s: float | None = None
        self._trouble: str | None = None

    def start(self) -> None:
        self._worker.start()

    def stop(self) -> None:
        self._worker.stop()

    def health(self) -> dict[str, float]:
        """Values for a gateway's health. `sms_unusable`: 1 when no SMS could be sent. What is not known is not there."""
        if self._asked_s is None or self._clock.boot() - self._asked_s >= STALE_S:
            return {}
        values = {"sms_unusable": float(self._trouble is not None)}
        status = self._status
        if status is not None:
            values |= {"sms_registered": float(status.registered), "sms_sim_ready": float(status.sim == "ready")}
            if status.signal_dbm is not None:
                values["sms_signal_dbm"] = status.signal_dbm
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
        return now + EVERY_S


def _trouble(status: ModemStatus) -> str | None:
    if status.sim != "ready":
        return f"SIM: {status.sim.replace('_', ' ')}"
    return None if status.registered else "not registered with a network"
