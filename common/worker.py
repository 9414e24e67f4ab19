"""A thread that does one kind of work and does not end at the first thing that nobody foresaw."""

import logging
import threading
from collections.abc import Callable

from common.clock import Clock

log = logging.getLogger(__name__)

RETRY_S = 5.0
STOP_S = 10.0


class Worker:
    """Calls `work` when woken, and when the time comes that it named last (boot seconds; None: only when woken).

    What `work` raises is logged once, with its traceback, and it is called again after `retry_s`.
    """

    def __init__(self, name: str, work: Callable[[], float | None], clock: Clock, *, retry_s: float = RETRY_S) -> None:
        self._name = name
        self._work = work
        self._clock = clock
        self._retry_s = retry_s
        self._wake = threading.Event()
        self._stop = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stop = False
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for the work in hand, but not for ever: what takes longer is taken up as interrupted at the next start."""
        self._stop = True
        self._wake.set()
        if self._thread:
            self._thread.join(STOP_S)

    def wake(self) -> None:
        self._wake.set()

    @property
    def stopping(self) -> bool:
        """For work that takes long: whether it should end."""
        return self._stop

    @property
    def alive(self) -> bool:
        """Whether it runs, or was not started yet."""
        return self._thread is None or self._thread.is_alive()

    def _run(self) -> None:
        failing = False
        while not self._stop:
            self._wake.clear()
            try:
                until = self._work()
                if failing:
                    log.info("%s: works again", self._name)
                failing = False
            except Exception:
                if not failing:
                    log.exception("%s: cannot go on, tries again every %g s", self._name, self._retry_s)
                failing = True
                until = self._clock.boot() + self._retry_s
            if self._stop:
                return
            if until is None:
                self._wake.wait()
            else:
                self._clock.wait(self._wake, until - self._clock.boot())
