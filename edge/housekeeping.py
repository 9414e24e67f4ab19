"""What a gateway's disk is relieved of, each hour: readings that central has stored long since, alarms that are over."""

from common.clock import Clock
from common.worker import Worker
from edge.alarm_log import AlarmLog
from edge.journal import Journal

FIRST_S = 300.0
EVERY_S = 3600.0
ALARM_DAYS = 90
"""So long an alarm that is over, and that central has, stays in the log."""
DAY_S = 86400.0


class Housekeeping:
    """In a thread of its own, by boot time; never in an exercise, whose days are minutes."""

    def __init__(self, journal: Journal, alarms: AlarmLog, clock: Clock) -> None:
        self._journal = journal
        self._alarms = alarms
        self._clock = clock
        self._due_s = 0.0
        self._worker = Worker("housekeeping", self._work, clock, retry_s=EVERY_S)

    def start(self) -> None:
        if not self._clock.exercise:
            self._due_s = self._clock.boot() + FIRST_S
            self._worker.start()

    def stop(self) -> None:
        self._worker.stop()

    def tidy(self) -> None:
        """Do it now; not while the clock is not synchronised, since age must not be judged by a wrong date."""
        if self._clock.synchronised():
            self._journal.prune()
            self._alarms.prune(self._clock.wall() - ALARM_DAYS * DAY_S)

    def _work(self) -> float:
        if self._clock.boot() >= self._due_s:
            self.tidy()
            self._due_s = self._clock.boot() + EVERY_S
        return self._due_s
