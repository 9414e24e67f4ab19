"""Jobs at a time of day, for the housekeeping of both sides. Everything that has a period or a delay runs on boot time instead."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from common.clock import BRUSSELS, Clock

log = logging.getLogger(__name__)

GRACE_S = 6 * 3600
"""How late a job may still run: a step of the wall clock, or a machine that slept, skips no night, and repeats none."""
HEARD_GRACE_S = 60
"""Of a weekly one, which people hear: better left out than at another hour."""
LOOK_S = 30.0
"""The wall clock may be stepped while nothing is due."""
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(slots=True)
class _Job:
    name: str
    do: Callable[[], object]
    at: time
    weekday: int | None
    grace_s: float
    due_s: float = 0.0

    @property
    def period_s(self) -> float:
        return 86400 if self.weekday is None else 7 * 86400

    def after(self, wall_s: float) -> float:
        """When it is next due after a moment, Unix s."""
        day = datetime.fromtimestamp(wall_s, BRUSSELS).date()
        while True:
            due = datetime.combine(day, self.at, BRUSSELS)
            if due.timestamp() > wall_s and self.weekday in (None, due.weekday()):
                return due.timestamp()
            day += timedelta(days=1)


class Calendar:
    """Runs each job once a day or week, one at a time, in a thread of its own: `daily`, `weekly`, then `start`, at the end `stop`.

    A job that raises is logged and comes again the next time. Nothing runs while the clock is not synchronised, since a
    job that deletes by age must not believe a wrong date; and never in an exercise, whose days are minutes.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: list[_Job] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def daily(self, at: time, job: Callable[[], object], name: str) -> None:
        """Run `job` every day at `at`, Belgian time, to the second. Outside of 02:00 to 03:00, please: in spring that hour is missing, in
        autumn it comes twice."""
        self._jobs.append(_Job(name, job, at.replace(microsecond=0), None, GRACE_S))

    def weekly(self, day: str, at: time, job: Callable[[], object], name: str) -> None:
        """As `daily`, on one day of the week (`mon` to `sun`), and at most a minute late."""
        self._jobs.append(_Job(name, job, at.replace(microsecond=0), _DAYS.index(day), HEARD_GRACE_S))

    def start(self) -> None:
        if self._clock.exercise:
            return
        for job in self._jobs:
            job.due_s = job.after(self._clock.wall())
        self._thread = threading.Thread(target=self._run, name="calendar", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Waits for the job that is running."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def due(self) -> dict[str, datetime]:
        """When each job is next due, by name; from `start` on."""
        return {job.name: datetime.fromtimestamp(job.due_s, BRUSSELS) for job in self._jobs}

    def _run(self) -> None:
        while True:
            wait_s = min((job.due_s for job in self._jobs), default=float("inf")) - self._clock.wall()
            if self._clock.wait(self._stop, min(wait_s, LOOK_S)):
                return
            for job in self._jobs:
                now = self._clock.wall()
                next_s = job.after(now)
                if now >= job.due_s:
                    late_s, job.due_s = now - job.due_s, next_s
                    if late_s <= job.grace_s:
                        self._do(job)
                elif (
                    job.due_s - next_s > 1.5 * job.period_s
                ):  # the clock was set back by days: else what ran is not repeated
                    job.due_s = next_s

    def _do(self, job: _Job) -> None:
        if not self._clock.synchronised():
            log.warning("%s is left out today: the clock is not synchronised", job.name)
            return
        try:
            job.do()
        except Exception:  # whatever it is, the other jobs and the next day go on
            log.exception("%s failed; next try at its next time", job.name)
