"""When and how the siren sounds, and the thread that keeps its relay so: a stuck relay board must not hold up the data path."""

import logging
import math
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Literal, Protocol

from common.clock import Clock
from edge.config import Pattern
from edge.errors import OutputError
from wire.alarm import State

log = logging.getLogger(__name__)

REASSERT_S = 5.0
"""How often the state is written again, at least: a board that lost its power or plug is right again after this."""
TEST_TIMEOUT_S = 10.0
"""Beyond its pulse, a test that has not ended by then has failed: the board holds its thread up."""

Outcome = Literal["done", "failed", "skipped"]
"""Of a test: the relay took both commands (what it switched, nobody can tell), it did not, or an alarm sounded."""

_CODES: Mapping[Outcome, float] = {"failed": 0.0, "done": 1.0, "skipped": 2.0}


class Switch(Protocol):
    """A relay. `set` raises OutputError."""

    def set(self, on: bool) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SirenInput:
    """What the siren needs of one occurrence. `since_boot_s`: boot time (s) of its last raise or escalation."""

    level: int
    state: State
    since_boot_s: float


def should_sound(now_boot_s: float, alarms: Iterable[SirenInput], min_level: int, max_s: float) -> SirenInput | None:
    """The alarm that the siren sounds: unacknowledged, of `min_level` and above, its `max_s` seconds not used up; None for silence.
    Of several the highest, and of those the first, so that a second one does not break the pattern.

    A function of state alone: asked again after a restart, it says the same. RTN_UNACK is silent: the danger has passed.
    """
    sounding = (
        a for a in alarms if a.state == "UNACK" and a.level >= min_level and now_boot_s - a.since_boot_s < max_s
    )
    return max(sounding, key=lambda a: (a.level, -a.since_boot_s), default=None)


def beat(pattern: Pattern, since_s: float) -> tuple[bool, float]:
    """Whether the siren is on `since_s` seconds after an alarm was announced, and for how many seconds it stays so.

    A pattern begins with its sound at 0 and repeats for ever, so whoever asks late is in step.
    """
    if pattern.off_s == 0:
        return True, math.inf
    at_s = since_s % (pattern.on_s + pattern.off_s)
    return (True, pattern.on_s - at_s) if at_s < pattern.on_s else (False, pattern.on_s + pattern.off_s - at_s)


@dataclass(frozen=True, slots=True)
class _Pulse:
    until_boot_s: float
    outcome: "Future[Outcome]"


class SirenKeeper:
    """`want(alarm)` says what the siren should sound; the thread makes it so, at once and again and again.

    What the relay has at any time is a function of (pattern of the level, time since announced): writing it again, or late,
    breaks no pattern.
    """

    def __init__(self, relay: Switch, patterns: Mapping[int, Pattern], clock: Clock) -> None:
        """`patterns` by level, 1 to 3."""
        self._relay = relay
        self._patterns = patterns
        self._clock = clock
        self._changed = threading.Event()
        self._stopping = False
        self._alarm: SirenInput | None = None
        self._pulse: _Pulse | None = None
        self._lost = False
        self._tested: tuple[float, Outcome] | None = None
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

    def want(self, alarm: SirenInput | None) -> None:
        if alarm != self._alarm:
            self._alarm = alarm
            self._changed.set()

    def test(self, pulse_s: float) -> Outcome:
        """Sound for `pulse_s` seconds and wait for the end of it. An alarm goes first: it is not disturbed, and cuts a test short."""
        at = self._clock.wall()
        outcome = self._try(pulse_s)
        self._tested = (at, outcome)
        if outcome == "failed":
            log.error("siren test: failed")
        else:
            log.info("siren test: %s", "skipped, an alarm sounds" if outcome == "skipped" else f"done, {pulse_s:g} s")
        return outcome

    def health(self) -> dict[str, float]:
        """`siren_lost` (1: the relay takes no command) and, since the start, the last test: Unix time, outcome (0 failed, 1 done,
        2 skipped)."""
        found = {"siren_lost": float(self._lost)}
        if self._tested is not None:
            found |= {"siren_test_at": round(self._tested[0], 3), "siren_test_outcome": _CODES[self._tested[1]]}
        return found

    def _try(self, pulse_s: float) -> Outcome:
        if self._alarm is not None:
            return "skipped"
        pulse = _Pulse(self._clock.boot() + pulse_s, Future())
        self._pulse = pulse
        self._changed.set()
        try:
            return pulse.outcome.result(self._clock.real(pulse_s) + TEST_TIMEOUT_S)
        except FutureTimeout:
            self._pulse = None
            return "failed"

    def _run(self) -> None:
        while True:
            self._changed.clear()
            stopping, alarm, pulse = self._stopping, self._alarm, self._pulse
            now = self._clock.boot()
            on, lasts_s = False, math.inf
            if alarm is not None:
                on, lasts_s = beat(self._patterns[alarm.level], now - alarm.since_boot_s)
            elif pulse is not None and now < pulse.until_boot_s:
                on, lasts_s = True, pulse.until_boot_s - now
            try:
                self._relay.set(on and not stopping)
                self._lost = False
            except OutputError:  # logged once by the relay itself; the next round tries again
                self._lost = True
            if pulse is not None and (self._lost or stopping or alarm is not None or now >= pulse.until_boot_s):
                self._pulse = None
                failed = self._lost or stopping
                pulse.outcome.set_result("failed" if failed else "skipped" if alarm is not None else "done")
            if stopping:
                return
            self._changed.wait(min(REASSERT_S, self._clock.real(lasts_s)))
