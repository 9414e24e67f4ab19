"""Jobs at a time of day, for the housekeeping of both sides. Everything that has a period or a delay runs on boot time instead."""

import logging
from collections.abc import Callable
from datetime import time

from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from common.clock import BRUSSELS, Clock

log = logging.getLogger(__name__)

GRACE_S = 6 * 3600
"""How late a job may still run: a step of the wall clock, or a machine that slept, skips no night, and repeats none."""
HEARD_GRACE_S = 60
"""Of a weekly one, which people hear: better left out than at another hour."""


class Calendar:
    """Runs each job once a day or week, one at a time, in a thread of its own: `daily`, `weekly`, then `start`, at the end `stop`.

    A job that raises is logged and comes again the next time. Nothing runs while the clock is not synchronised, since a
    job that deletes by age must not believe a wrong date; and never in an exercise, whose days are minutes.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        logging.getLogger("apscheduler").setLevel(logging.WARNING)  # else two lines for each run of each job
        self._scheduler = BackgroundScheduler(
            timezone=BRUSSELS,
            executors={"default": {"type": "threadpool", "max_workers": 1}},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": GRACE_S},
        )

    def daily(self, at: time, job: Callable[[], object], name: str) -> None:
        """Run `job` every day at `at`, Belgian time, to the second. Outside of 02:00 to 03:00, please: in spring that hour is missing, in
        autumn it comes twice."""
        trigger = CronTrigger(hour=at.hour, minute=at.minute, second=at.second, timezone=BRUSSELS)
        self._scheduler.add_job(self._run, trigger, args=(job, name), name=name)

    def weekly(self, day: str, at: time, job: Callable[[], object], name: str) -> None:
        """As `daily`, on one day of the week (`mon` to `sun`), and at most a minute late."""
        trigger = CronTrigger(day_of_week=day, hour=at.hour, minute=at.minute, second=at.second, timezone=BRUSSELS)
        self._scheduler.add_job(self._run, trigger, args=(job, name), name=name, misfire_grace_time=HEARD_GRACE_S)

    def start(self) -> None:
        if self._clock.exercise:
            return
        self._scheduler.start()

    def stop(self) -> None:
        """Waits for the job that is running."""
        if self._scheduler.running:
            self._scheduler.shutdown()

    def _run(self, job: Callable[[], object], name: str) -> None:
        if not self._clock.synchronised():
            log.warning("%s is left out today: the clock is not synchronised", name)
            return
        try:
            job()
        except Exception:  # whatever it is, the other jobs and the next day go on
            log.exception("%s failed; next try at its next time", name)
