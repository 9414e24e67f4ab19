"""Keeps the siren as the alarms want it, in its own thread: a stuck relay board must not hold up the data path."""

import contextlib
import threading

from common.clock import Clock
from edge.errors import OutputError
from edge.outputs.siren import Siren

REASSERT_S = 5.0
"""How often the state is written again: a board that lost its power or plug is right again after this."""


class SirenKeeper:
    """`want(on)` says what the siren should do; the thread makes it so, at once and again and again."""

    def __init__(self, siren: Siren, clock: Clock) -> None:
        self._siren = siren
        self._clock = clock
        self._changed = threading.Event()
        self._stopping = False
        self._on = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="siren", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Silence it: nobody will be there to end it in time. After a restart the alarms' state makes it resume."""
        self._stopping = True
        self._changed.set()
        if self._thread:
            self._thread.join(timeout=5)
        self._siren.close()

    def want(self, on: bool) -> None:
        if on != self._on:
            self._on = on
            self._changed.set()

    def _run(self) -> None:
        while True:
            stopping = self._stopping
            self._changed.clear()
            with contextlib.suppress(OutputError):  # logged once by the siren itself; the next round tries again
                self._siren.set(self._on and not stopping)
            if stopping:
                return
            self._changed.wait(REASSERT_S)
