"""The push button beside the siren: who presses it acknowledges what the siren sounds for.

A press is a contact that was seen open, then closed for the debounce time. One that stays closed, or that chatters, is a fault
of the button and acknowledges nothing more: no broken cable may keep the siren silent.
"""

import contextlib
import logging
import termios
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

import serial

from common.clock import Clock
from edge.errors import OutputError

log = logging.getLogger(__name__)

LOOK_S = 0.02
"""How often the contact is looked at, in real seconds."""
RETRY_S = 5.0
MAX_PRESSES = 5
CHATTER_S = 60.0
"""More than 5 presses in a minute are no person's; what chatters is believed again after a minute without a press."""

_PORT_ERRORS = (OSError, termios.error)  # pyserial lets termios' own through


class Contact(Protocol):
    """`closed` raises OutputError when it cannot be looked at."""

    def closed(self) -> bool: ...

    def close(self) -> None: ...


class SerialContact:
    """A button between an output and an input of a serial adapter: RTS and CTS, or DTR and DSR (RS-232 and TTL adapters alike).

    Opening the port raises RTS and DTR. Nothing is sent.
    """

    def __init__(self, port: str, line: str, opened: Callable[[str], serial.Serial] = serial.serial_for_url) -> None:
        """`line`: `cts` or `dsr`."""
        self._path = port
        self._line = line
        self._opened = opened
        self._port: serial.Serial | None = None

    def closed(self) -> bool:
        """Whether it is pressed now. Raises OutputError when the port cannot be had."""
        try:
            if self._port is None:
                self._port = self._opened(self._path)
            return bool(self._port.cts if self._line == "cts" else self._port.dsr)
        except (*_PORT_ERRORS, ValueError) as e:
            self.close()
            raise OutputError(f"button {self._path}: {e}") from e

    def close(self) -> None:
        """Let go of the port."""
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(*_PORT_ERRORS):
                port.close()


class Press:
    """Tells presses from bounces, a stuck contact and a chattering one. Fed with looks in order of time; keeps no clock.

    | contact            | seen as                                                                  |
    |--------------------|--------------------------------------------------------------------------|
    | closed at first    | nothing: it was not seen open                                            |
    | open, then closed  | a press once it has stayed closed for `debounce_s`, one only             |
    | closed `stuck_s`   | a fault, until it has stayed open for `debounce_s`                       |
    | 6th press a minute | a fault, until a minute without a press; none of them counts             |
    """

    def __init__(self, debounce_s: float, stuck_s: float) -> None:
        self._debounce_s = debounce_s
        self._stuck_s = stuck_s
        self._raw: bool | None = None
        self._raw_since_s = 0.0
        self._closed: bool | None = None
        """Debounced; None before it was seen open."""
        self._presses: deque[float] = deque(maxlen=MAX_PRESSES + 1)
        self._chatters = False
        self.stuck = False

    @property
    def fault(self) -> bool:
        return self.stuck or self._chatters

    def look(self, now_s: float, closed: bool) -> float | None:
        """The contact is open or closed now. Gives since when (s) it has been closed at the moment when that is a press, else None."""
        if closed is not self._raw:
            self._raw, self._raw_since_s = closed, now_s
        lasted_s = now_s - self._raw_since_s
        self.stuck = (closed and (self.stuck or lasted_s >= self._stuck_s)) or (
            self.stuck and lasted_s < self._debounce_s
        )
        self._chatters = self._chatters and now_s - self._presses[-1] < CHATTER_S
        if closed is self._closed or lasted_s < self._debounce_s or (closed and self._closed is None):
            return None
        self._closed = closed
        return self._pressed(now_s) if closed else None

    def _pressed(self, now_s: float) -> float | None:
        self._presses.append(now_s)
        if len(self._presses) > MAX_PRESSES and now_s - self._presses[0] < CHATTER_S:
            self._chatters = True
        return None if self._chatters else self._raw_since_s


class ButtonKeeper:
    """Looks at the contact in a thread of its own and calls `pressed(since_boot_s)` for each press."""

    def __init__(
        self, contact: Contact, debounce_s: float, stuck_s: float, clock: Clock, pressed: Callable[[float], None]
    ) -> None:
        """`pressed` must not wait: the next look is due."""
        self._contact = contact
        self._times = (debounce_s, stuck_s)
        self._clock = clock
        self._pressed = pressed
        self._stopped = threading.Event()
        self._fault = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="button", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread:
            self._thread.join(timeout=5)
        self._contact.close()

    def health(self) -> dict[str, float]:
        """`button_fault`: 1 while it is stuck, chatters or cannot be looked at."""
        return {"button_fault": float(self._fault)}

    def _run(self) -> None:
        press = Press(*self._times)
        wait_s = LOOK_S
        while not self._stopped.wait(wait_s):
            try:
                closed = self._contact.closed()
            except OutputError as e:
                self._note(True, str(e))
                press = Press(*self._times)  # what comes back closed was not pressed
                wait_s = RETRY_S
                continue
            wait_s = LOOK_S
            since_s = press.look(self._clock.boot(), closed)
            self._note(press.fault, "stuck" if press.stuck else "chatters")
            if since_s is not None:
                self._pressed(since_s)

    def _note(self, fault: bool, what: str) -> None:
        if fault is not self._fault:
            self._fault = fault
            if fault:
                log.error("button: %s; it acknowledges nothing", what)
            else:
                log.info("button: works again")
