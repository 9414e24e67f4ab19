"""Calendar jobs on the real scheduler and the real wall clock: due in a second or two, waited for by events."""

import logging
import threading
from datetime import datetime, timedelta
from datetime import time as time_of_day

import pytest

from common.calendar import Calendar
from common.clock import BRUSSELS, Clock

DEADLINE_S = 30


def soon(seconds: float) -> time_of_day:
    return (datetime.now(BRUSSELS) + timedelta(seconds=seconds)).time()


@pytest.fixture
def calendar():
    made: list[Calendar] = []

    def make(clock: Clock) -> Calendar:
        made.append(Calendar(clock))
        return made[-1]

    yield make
    for c in made:
        c.stop()


def test_runs_a_job_at_its_time_in_belgium(calendar) -> None:
    ran = threading.Event()
    seen = []

    def job() -> None:
        seen.append((datetime.now(BRUSSELS), threading.current_thread()))
        ran.set()

    c = calendar(Clock(trust="always"))
    due = soon(2)
    c.daily(due, job, "housekeeping")
    c.start()
    assert ran.wait(DEADLINE_S)
    ((at, thread),) = seen
    assert at.time() >= due.replace(microsecond=0)
    assert thread is not threading.main_thread()


def test_a_job_that_fails_is_logged_and_stops_neither_the_next_one_nor_its_own_next_day(calendar, caplog) -> None:
    failed, ran = threading.Event(), threading.Event()

    def bad() -> None:
        failed.set()
        raise ZeroDivisionError("disk on fire")

    c = calendar(Clock(trust="always"))
    c.daily(soon(2), bad, "bad job")
    c.daily(soon(3), ran.set, "good job")
    with caplog.at_level(logging.ERROR):
        c.start()
        assert failed.wait(DEADLINE_S)
        assert ran.wait(DEADLINE_S)
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "bad job" in record.getMessage()
    assert "disk on fire" in caplog.text
    (again,) = [j.next_run_time for j in c._scheduler.get_jobs() if j.name == "bad job"]
    assert timedelta(hours=22) < again - datetime.now(BRUSSELS) < timedelta(hours=26)


def test_a_weekly_job_runs_on_its_day_only(calendar) -> None:
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    due = datetime.now(BRUSSELS) + timedelta(seconds=2)
    ran, other = threading.Event(), []
    c = calendar(Clock(trust="always"))
    c.weekly(days[due.weekday()], due.time(), ran.set, "today")
    c.weekly(days[(due.weekday() + 3) % 7], due.time(), lambda: other.append(1), "another day")
    c.start()
    assert ran.wait(DEADLINE_S)
    assert other == []
    nexts = {j.name: (j.next_run_time.date() - due.date()).days for j in c._scheduler.get_jobs()}
    assert nexts == {"today": 7, "another day": 3}


def test_leaves_a_job_out_while_the_clock_is_not_synchronised(calendar, caplog) -> None:
    ran, done = [], threading.Event()
    answers = iter([False, True])
    c = calendar(Clock(synchronised=lambda: next(answers)))
    c.daily(soon(2), lambda: ran.append("early"), "early job")
    c.daily(soon(3), done.set, "late job")
    c.start()
    assert done.wait(DEADLINE_S)
    assert ran == []
    assert [r.getMessage() for r in caplog.records] == ["early job is left out today: the clock is not synchronised"]


def test_an_exercise_has_no_calendar(calendar) -> None:
    c = calendar(Clock(scale=120, origin_boot=0, origin_wall=1_528_704_000))
    c.daily(soon(2), lambda: None, "pruning")
    before = threading.enumerate()
    c.start()
    assert threading.enumerate() == before
    c.stop()


def test_stop_waits_for_the_job_that_is_running(calendar) -> None:
    begun, over, never = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        never.wait(0.5)
        over.set()

    c = calendar(Clock(trust="always"))
    c.daily(soon(2), slow, "slow job")
    c.start()
    assert begun.wait(DEADLINE_S)
    c.stop()
    assert over.is_set()
