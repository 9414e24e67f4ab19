"""A sensor that has stopped answering gets its power cut for a moment, where a relay stands in its supply.

The relay cuts while it is drawn (normally closed contact): a board without power or plug leaves the sensor running.
"""

import contextlib
import logging
import queue
import threading
from collections import Counter
from collections.abc import Mapping

from common.clock import Clock
from edge import config
from edge.errors import OutputError
from edge.outputs.relay import Relay

log = logging.getLogger(__name__)

EVERY_S = 1800.0
"""A sensor that is torn away answers to no power; its relay should not click for days."""


class PowerCycler:
    """`heard(key, answered)` after each attempt to hear a sensor; after so many failures in a row its supply is cut, at most once
    in half an hour. The relay works in a thread of its own."""

    def __init__(self, supplies: Mapping[str, config.Power], relays: Mapping[str, Relay], clock: Clock) -> None:
        """Both by sensor key, `<station>/<sensor>`."""
        self._cycles: Counter[str] = Counter()
        self._supplies = supplies
        self._relays = relays
        self._clock = clock
        self._failures: Counter[str] = Counter()
        self._cycled_s: dict[str, float] = {}
        self._due: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="power", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No sensor is left without its power."""
        self._stopped.set()
        self._due.put(None)
        if self._thread:
            self._thread.join(timeout=5)
        for relay in self._relays.values():
            relay.close()

    @property
    def cycles(self) -> Mapping[str, int]:
        """How often the power of a sensor was cut."""
        return self._cycles

    def heard(self, key: str, *, answered: bool) -> None:
        supply = self._supplies.get(key)
        if supply is None:
            return
        self._failures[key] = 0 if answered else self._failures[key] + 1
        now = self._clock.boot()
        if self._failures[key] >= supply.after and now - self._cycled_s.get(key, -EVERY_S) >= EVERY_S:
            self._failures[key] = 0
            self._cycled_s[key] = now
            self._due.put((key, f"has not answered {supply.after} times in a row"))

    def supplies(self, key: str) -> bool:
        """Whether a relay is in the supply of this sensor."""
        return key in self._supplies

    def cut(self, key: str, by: str) -> float:
        """A person wants it, now. Gives for how many seconds."""
        off_s = self._supplies[key].off_s
        self._cycled_s[key] = self._clock.boot()
        self._due.put((key, f"is to be restarted, says {by}"))
        return off_s

    def _run(self) -> None:
        for relay in self._relays.values():  # of a process that was killed while it had one drawn
            with contextlib.suppress(OutputError):
                relay.set(False)
        while (due := self._due.get()) is not None:
            key, why = due
            relay, off_s = self._relays[key], self._supplies[key].off_s
            log.warning("%s %s: its power is cut for %g s", key, why, off_s)
            try:
                relay.set(True)
                self._cycles[key] += 1
                self._clock.wait(self._stopped, off_s)
            except OutputError as e:
                log.error("the power of %s cannot be cut: %s", key, e)
            while not self._restored(relay) and not self._clock.wait(self._stopped, 1.0):
                pass

    def _restored(self, relay: Relay) -> bool:
        try:
            relay.set(False)
        except OutputError:  # it is logged once by the relay; a board that is gone cuts nothing
            return False
        return True
