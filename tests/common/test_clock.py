"""The Clock: what moves its two times and what does not, and that processes of an exercise agree."""

import ctypes
import re
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import clock as clock_module
from common.clock import Clock, from_rfc3339, kernel_synchronised, parse_until, rfc3339

FLOOD = 1_528_704_000.0  # 2018-06-11 08:00 UTC
MS = st.integers(0, 4_102_444_800_000)  # 1970 to 2100


class Machine:
    """The two clocks of a machine, in the hands of a test."""

    def __init__(self, boot: float = 1000.0, wall: float = 1_784_045_100.0) -> None:
        self.boot = boot
        self.wall = wall

    def clock(self, **more: object) -> Clock:
        return Clock(boottime=lambda: self.boot, walltime=lambda: self.wall, **more)

    def runs(self, seconds: float) -> None:
        self.boot += seconds
        self.wall += seconds


# Boot and wall


def test_unscaled_it_is_the_machines_clock() -> None:
    clock = Clock()
    before = time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
    seen = clock.boot(), clock.wall()
    after = time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
    assert before[0] <= seen[0] <= after[0]
    assert before[1] <= seen[1] <= after[1]
    assert not clock.exercise
    assert clock.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.parametrize("step_s", [3600.0, -3600.0, -1_784_045_100.0])
def test_a_step_of_the_wall_clock_moves_wall_and_not_boot(step_s: float) -> None:
    machine = Machine()
    clock = machine.clock()
    boot, wall = clock.boot(), clock.wall()
    machine.runs(5)
    machine.wall += step_s
    assert clock.boot() - boot == 5
    assert clock.wall() - wall == 5 + step_s


def test_an_exercise_does_not_see_the_machines_wall_clock() -> None:
    machine = Machine()
    clock = machine.clock(scale=120, origin_boot=1000.0, origin_wall=FLOOD)
    machine.wall -= 86400
    assert clock.wall() == FLOOD


@given(
    scale=st.floats(0.5, 1000),
    origin_boot=st.floats(0, 1e7),
    since_s=st.floats(-600, 86400),
    seconds=st.floats(0, 3600),
)
def test_scale_maps_boot_and_wall_alike(scale: float, origin_boot: float, since_s: float, seconds: float) -> None:
    machine = Machine(boot=origin_boot + since_s)
    clock = machine.clock(scale=scale, origin_boot=origin_boot, origin_wall=FLOOD)
    boot, wall = clock.boot(), clock.wall()
    assert wall - FLOOD == pytest.approx(scale * since_s, abs=1e-3)
    assert boot - origin_boot == pytest.approx(scale * since_s, abs=1e-3)
    machine.runs(seconds)
    assert clock.boot() - boot == pytest.approx(scale * seconds, abs=1e-3)
    assert clock.wall() - wall == pytest.approx(scale * seconds, abs=1e-3)


def test_scaled_without_an_origin_of_wall_time_only_durations_scale() -> None:
    machine = Machine()
    clock = machine.clock(scale=60)
    boot, wall = clock.boot(), clock.wall()
    machine.runs(2)
    assert (clock.boot() - boot, clock.wall() - wall) == (120, 2)
    assert not clock.exercise


@pytest.mark.parametrize("scale", [0, -1.0])
def test_a_clock_does_not_stand_still_or_run_backwards(scale: float) -> None:
    with pytest.raises(ValueError, match="expected a positive number"):
        Clock(scale=scale)


def test_the_processes_of_an_exercise_agree() -> None:
    text = f"120,{time.clock_gettime(time.CLOCK_BOOTTIME)!r},{FLOOD!r}"
    code = (
        "import sys, time; from common.clock import Clock; c = Clock.of_exercise(sys.argv[1]);"
        "print(time.clock_gettime(time.CLOCK_BOOTTIME), c.wall(), c.boot(), time.clock_gettime(time.CLOCK_BOOTTIME))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, text],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    before, wall, boot, after = map(float, child.stdout.split())

    def at(moment: float) -> Clock:
        ours = Clock.of_exercise(text)
        return Clock(
            scale=ours.scale,
            origin_boot=ours._origin_boot,
            origin_wall=ours._origin_wall,
            boottime=lambda: moment,
        )

    assert at(before).wall() - 1e-6 <= wall <= at(after).wall() + 1e-6
    assert at(before).boot() - 1e-6 <= boot <= at(after).boot() + 1e-6


def test_an_exercise_by_its_three_numbers() -> None:
    clock = Clock.of_exercise("120,5000.5,1528704000")
    assert clock.exercise
    assert clock.scale == 120
    assert clock.synchronised()


@pytest.mark.parametrize("text", ["", "120", "120,1", "120,1,2,3", "fast,1,2", "0,1,2"])
def test_other_text_is_no_exercise(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Clock.of_exercise(text)


# Waiting


def test_real_says_how_long_a_blocking_call_may_take() -> None:
    assert Clock(scale=120).real(60) == 0.5
    assert Clock().real(60) == 60


def test_wait_ends_as_soon_as_the_event_is_set() -> None:
    event, answers = threading.Event(), []
    waiter = threading.Thread(target=lambda: answers.append(Clock().wait(event, 3600)))
    waiter.start()
    event.set()
    waiter.join(30)
    assert answers == [True]


def test_wait_lasts_its_seconds_and_not_the_machines() -> None:
    begun = time.monotonic()
    assert not Clock(scale=36_000).wait(threading.Event(), 3600)
    assert 0.1 <= time.monotonic() - begun < 30


@pytest.mark.parametrize("seconds", [0, -5.0])
def test_a_wait_that_is_over_already_only_looks(seconds: float) -> None:
    event = threading.Event()
    assert not Clock().wait(event, seconds)
    event.set()
    assert Clock().wait(event, seconds)


# Whether wall time can be believed


@pytest.mark.parametrize(
    ("trust", "kernel", "origin_wall", "believed"),
    [
        ("system", True, None, True),
        ("system", False, None, False),
        ("always", False, None, True),
        ("system", False, FLOOD, True),
    ],
)
def test_wall_time_is_believed(trust: str, kernel: bool, origin_wall: float | None, believed: bool) -> None:
    assert Clock(trust=trust, origin_wall=origin_wall, synchronised=lambda: kernel).synchronised() is believed


def test_the_kernel_is_asked_each_time() -> None:
    answers = iter([False, True, False])
    clock = Clock(synchronised=lambda: next(answers))
    assert [clock.synchronised() for _ in range(3)] == [False, True, False]


class Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), laid out by ctypes for this machine."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 400),
    )


def test_the_kernels_answer_is_adjtimexs_status() -> None:
    timex = Timex()
    assert ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) >= 0
    disciplined = not timex.status & 0x0040 or any(mark.exists() for mark in clock_module._MARKS)
    assert kernel_synchronised() is disciplined


# RFC 3339


@given(MS)
def test_a_time_in_milliseconds_comes_back(ms: int) -> None:
    text = rfc3339(ms / 1000)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", text)
    assert round(from_rfc3339(text) * 1000) == ms


@given(MS, st.integers(-14 * 60, 14 * 60))
def test_the_offset_is_counted(ms: int, offset_min: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    text = moment.astimezone(timezone(timedelta(minutes=offset_min))).isoformat(timespec="milliseconds")
    assert round(from_rfc3339(text) * 1000) == ms


@pytest.mark.parametrize(
    ("wall_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000+00:00"),
        (1_784_045_100.0004, "2026-07-14T16:05:00.000+00:00"),
        (1_784_045_100.0006, "2026-07-14T16:05:00.001+00:00"),
        (1_784_045_099.9996, "2026-07-14T16:05:00.000+00:00"),
    ],
)
def test_milliseconds_are_rounded_and_never_cut(wall_s: float, text: str) -> None:
    assert rfc3339(wall_s) == text


def test_z_is_an_offset() -> None:
    assert from_rfc3339("2026-07-14T16:05:00Z") == from_rfc3339("2026-07-14T18:05:00+02:00") == 1_784_045_100.0


@pytest.mark.parametrize("text", ["2026-07-14T16:05:00", "2026-07-14", "soon", ""])
def test_a_time_without_offset_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        from_rfc3339(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", "2026-11-24T23:00:00+01:00"),
        ("45m", "2026-11-24T21:45:00+01:00"),
        ("1h30m", "2026-11-24T22:30:00+01:00"),
        ("22:15", "2026-11-24T22:15:00+01:00"),
        ("06:30", "2026-11-25T06:30:00+01:00"),
        ("2026-11-24T23:59:00+00:00", "2026-11-24T23:59:00+00:00"),
        ("2026-11-24T23:59:00Z", "2026-11-24T23:59:00+00:00"),
    ],
)
def test_the_end_of_a_span_as_a_person_gives_it(text: str, expected: str) -> None:
    now = from_rfc3339("2026-11-24T21:00:00+01:00")
    assert parse_until(text, now) == from_rfc3339(expected)


@pytest.mark.parametrize("text", ["", "h", "2", "25:00", "12:60", "morgen", "2026-11-24T23:59:00", "-2h"])
def test_what_is_no_moment_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"found {text!r}, expected a span"):
        parse_until(text, 0.0)
