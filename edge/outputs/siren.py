"""When the siren sounds, and the thread that keeps its relay so: a stuck relay board must not hold up the data path."""

import contextlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from common.clock import Clock
from edge.errors import OutputError
from edge.outputs.relay import Relay
from wire.alarm import State

REASSERT_S = 5.0
"""How often the state is written again: a board that lost its power or plug is right again after this."""


@dataclass(frozen=True, slots=True)
class SirenInput:
    """What the siren needs of one occurrence. `since_boot_s`: boot time (s) of its last raise or escalation."""

    level: int
    state: State
    since_boot_s: float


def should_sound(now_boot_s: float, alarms: Iterable[SirenInput], min_level: int, max_s: float) -> bool:
    """Whether any alarm of `min_level` and above is unacknowledged and its `max_s` seconds are not used up.

    A function of state alone: asked again after a restart, it says the same. RTN_UNACK is silent: the danger has passed.
    """
    return any(a.state == "UNACK" and a.level >= min_level and now_boot_s - a.since_boot_s < max_s for a in alarms)


class SirenKeeper:
    """`want(on)` says what the siren should do; the thread makes it so, at once and again and again."""

    def __init__(self, relay: Relay, clock: Clock) -> None:
        self._relay = relay
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
        self._relay.close()

    def want(self, on: bool) -> None:
        if on != self._on:
            self._on = on
            self._changed.set()

    def _run(self) -> None:
        while True:
            stopping = self._stopping
            self._changed.clear()
            with contextlib.suppress(OutputError):  # logged once by the relay itself; the next round tries again
                self._relay.set(self._on and not stopping)
            if stopping:
                return
            self._changed.wait(REASSERT_S)
