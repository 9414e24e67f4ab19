"""The one Clock: all time in every process comes from here, passed in, so that tests and the demo can scale or step it.

Two times, never mixed: *wall* (Unix seconds, UTC) names moments for people and databases; *boot* (CLOCK_BOOTTIME seconds)
measures durations, so that a step of the wall clock moves no poll, delay or watchdog.
"""

import ctypes
import math
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

BRUSSELS = ZoneInfo("Europe/Brussels")
"""The time of the people whom all this is for."""

Trust = Literal["system", "always"]

_STA_UNSYNC = 0x0040  # adjtimex(2)
_STATUS_OFFSET = 40  # of `int status` in struct timex with 64-bit longs; 20 with 32-bit ones
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# systemd-timesyncd's mark, and that of maillages-clock.service, which waits for chrony: a hardened unit may not ask the kernel.
_MARKS = (Path("/run/systemd/timesync/synchronized"), Path("/run/maillages-clock/synchronised"))


def kernel_synchronised() -> bool:
    """Whether the kernel's clock is disciplined: the mark of a time service in /run, or adjtimex(2) without STA_UNSYNC."""
    if any(mark.exists() for mark in _MARKS):
        return True
    buffer = ctypes.create_string_buffer(512)
    offset = _STATUS_OFFSET if ctypes.sizeof(ctypes.c_long) == 8 else 20
    if ctypes.CDLL(None, use_errno=True).adjtimex(buffer) < 0:
        return False
    return not int.from_bytes(buffer.raw[offset : offset + 4], "little") & _STA_UNSYNC


class Clock:
    """The machine's clock, as it is (`scale` 1) or sped up for an exercise.

    A scaled clock maps CLOCK_BOOTTIME linearly: at boot second `origin_boot` it shows `origin_wall`, and from there runs
    `scale` times as fast. All processes given the same three numbers agree to the microsecond. Its boot time is counted
    from the same origin, so durations scale alike.
    """

    def __init__(
        self,
        *,
        scale: float = 1.0,
        origin_boot: float = 0.0,
        origin_wall: float | None = None,
        trust: Trust = "system",
        boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        walltime: Callable[[], float] = time.time,
        synchronised: Callable[[], bool] = kernel_synchronised,
    ) -> None:
        if not 0 < scale < math.inf:
            raise ValueError(f"clock scale is {scale}, expected a positive number")
        self.scale = scale
        self._origin_boot = origin_boot
        self._origin_wall = origin_wall
        self._trust = trust
        self._boottime = boottime
        self._walltime = walltime
        self._synchronised = synchronised
        self.boot_id = _BOOT_ID.read_text().strip()

    @classmethod
    def of_exercise(cls, text: str) -> "Clock":
        """A scaled clock from `SCALE,ORIGIN_BOOT,ORIGIN_WALL`, the same for all processes of an exercise. Raises ValueError."""
        try:
            scale, origin_boot, origin_wall = map(float, text.split(","))
        except ValueError:
            raise ValueError(f"exercise clock {text!r}, expected SCALE,ORIGIN_BOOT,ORIGIN_WALL") from None
        return cls(scale=scale, origin_boot=origin_boot, origin_wall=origin_wall)

    @property
    def exercise(self) -> bool:
        """A process on a scaled clock is an exercise: everything that it says is marked so."""
        return self._origin_wall is not None

    def boot(self) -> float:
        """Seconds since boot (CLOCK_BOOTTIME: counts suspend, never steps), scaled."""
        return self._origin_boot + (self._boottime() - self._origin_boot) * self.scale

    def wall(self) -> float:
        """Unix seconds, UTC."""
        if self._origin_wall is None:
            return self._walltime()
        return self._origin_wall + (self._boottime() - self._origin_boot) * self.scale

    def wall_of(self, boot_s: float) -> float:
        """What wall time now says a boot second was."""
        return self.wall() - (self.boot() - boot_s)

    def synchronised(self) -> bool:
        """Whether wall time can be believed."""
        return self._trust == "always" or self.exercise or self._synchronised()

    def real(self, seconds: float) -> float:
        """How many real seconds `seconds` of this clock take: for the time-outs of blocking calls."""
        return seconds / self.scale

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait at most `seconds` of this clock for `event`; True when it is set."""
        return event.wait(max(0.0, self.real(seconds)))


def rfc3339(wall_s: float) -> str:
    """RFC 3339 in UTC with milliseconds, as `2026-07-14T16:05:00.000+00:00`."""
    return datetime.fromtimestamp(round(wall_s * 1000) / 1000, UTC).isoformat(timespec="milliseconds")


def parse_until(text: str, now_s: float) -> float:
    """Unix seconds of a moment as a person gives it: a span from now (`2h`, `45m`, `1h30m`), the next `HH:MM` in Belgium, or
    RFC 3339. Raises ValueError naming what was found and expected."""
    span = re.fullmatch(r"(?:(\d{1,3})h)?(?:(\d{1,4})m(?:in)?)?", text.strip())
    if span and any(span.groups()):
        return now_s + 3600 * int(span[1] or 0) + 60 * int(span[2] or 0)
    try:
        if hour := re.fullmatch(r"(\d{1,2}):(\d{2})", text.strip()):
            here = datetime.fromtimestamp(now_s, BRUSSELS)
            then = here.replace(hour=int(hour[1]), minute=int(hour[2]), second=0, microsecond=0, fold=0)
            return (then if then > here else then + timedelta(days=1)).timestamp()
        return from_rfc3339(text)
    except ValueError:
        raise ValueError(f"found {text!r}, expected a span (2h, 45m), a time of day (14:30) or RFC 3339") from None


def from_rfc3339(text: str) -> float:
    """Unix seconds of an RFC 3339 time. Raises ValueError when it has no offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset")
    return moment.timestamp()
