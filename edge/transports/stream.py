"""Devices that talk by themselves: every frame a Sample, or one Sample per period."""

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from common.clock import Clock
from edge.sensors.base import COMMUNICATION_KINDS, Field, FrameError
from edge.transports.base import Sink, Source, Transport, duty_of, is_reading, is_reply, required
from edge.transports.port import Port

_SILENT_S = 3.0  # real
_SILENT_FRAMES = 5
_INTERVALS = 9


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the device said at one moment: fields, or why it has none."""

    wall_s: float
    boot_s: float
    fields: tuple[Field, ...]
    error: FrameError | None = None


class Stream(Transport):
    """One talking device.

    With `period_s` 0 each valid frame is a Sample at once, and so is each of the device's own errors (no target, blind zone).
    Noise is not: it is counted, and silence of 3 s, or of five usual intervals if those are longer, gives a Sample with the
    last thing that went wrong.

    With a period, the Sample is the low median of the last `median_s` seconds before it is due: a value that was really
    measured, with the time of the last frame of that window. `blind_zone` takes part as a value below all others, so one
    stray echo in front of the sensor is no flood, and water that has reached the sensor is no silence.

    A device that can sleep does so between windows that are far enough apart, and what it says while it warms up is no value.
    """

    def __init__(self, name: str, port: Port, sources: Sequence[Source], clock: Clock, sink: Sink) -> None:
        super().__init__(name, port, sources, clock, sink)
        (self._source,) = self._sources
        self._framer = required(self._source.driver.framer, self._source.driver, "framer")(self._source.options)
        self._window_s = min(self._source.median_s, self._source.period_s)  # a frame counts for one period only
        self._duty = duty_of(self._source, self._window_s)
        self._asleep = False
        self._warm_s = 0.0
        self._window: deque[_Heard] = deque()
        self._noise: FrameError | None = None
        self._unread = 0
        self._intervals: deque[float] = deque(maxlen=_INTERVALS)
        self._heard_s: float | None = None
        self._silent_since_s = 0.0
        self._due_s = 0.0

    def _serve(self) -> None:
        source, port = self._source, self._port
        self._set_up(source)
        self._framer.reset()
        self._window.clear()
        self._noise = None
        self._unread = 0
        self._heard_s = None
        self._silent_since_s = self._clock.boot()
        self._due_s = self._silent_since_s + source.period_s
        if self._duty is not None:
            self._asleep = False
            self._warm_s = self._silent_since_s + self._duty.warm_up_s
            self._due_s = self._warm_s + self._window_s
        while not self._stopped.is_set():
            if self._asleep and not self._wake():
                return
            try:
                data = self._read()
            except FrameError as gap:
                self._framer.reset()
                self._ignore(gap)
                data = b""
            if source.period_s:
                self._end_period(port.wall_s, port.boot_s)
            if self._asleep:
                continue
            if not data:
                self._framer.reset()
            self._unread += len(data)
            for item in self._framer.feed(data) if data else ():
                self._take(item)
            if not source.period_s:
                self._judge_silence(port.wall_s, port.boot_s)

    def _wake(self) -> bool:
        """Let the device rest until it must warm up for its next reading, and wake it; False when stopped meanwhile."""
        duty = required(self._duty, self._source.driver, "duty")
        if self._clock.wait(self._stopped, self._due_s - self._window_s - duty.warm_up_s - self._clock.boot()):
            return False
        self._say(duty.wake(self._source.options))
        self._port.discard()
        self._framer.reset()
        self._asleep = False
        self._heard_s = None
        self._warm_s = self._port.boot_s + duty.warm_up_s
        if self._warm_s >= self._due_s:  # the gateway stood still: the reading comes late, but warm
            self._due_s = self._warm_s + self._window_s
        return True

    def _take(self, item: bytes | FrameError) -> None:
        wall, boot = self._port.wall_s, self._port.boot_s
        if boot < self._warm_s:
            return
        try:
            if isinstance(item, FrameError):
                raise item
            heard = _Heard(wall, boot, tuple(self._decode(self._source.driver, self._source.options, item)))
        except FrameError as error:
            if error.kind in COMMUNICATION_KINDS:
                self._ignore(error)
                return
            self._drop(self._source.key, error)
            heard = _Heard(wall, boot, (), error)
        if is_reply(heard.fields):
            return
        if self._heard_s is not None:
            self._intervals.append(boot - self._heard_s)
        self._heard_s = self._silent_since_s = boot
        self._noise = None
        self._unread = 0
        if self._source.period_s:
            self._window.append(heard)
        else:
            self._emit(self._source, wall, boot, heard.fields, heard.error)

    def _ignore(self, noise: FrameError) -> None:
        self._noise = noise
        self._drop(self._source.key, noise)

    def _judge_silence(self, wall: float, boot: float) -> None:
        silent = boot - self._silent_since_s
        if self._clock.real(silent) < _SILENT_S:
            return
        if self._intervals and silent < _SILENT_FRAMES * statistics.median(self._intervals):
            return
        self._silent_since_s = boot
        self._nothing(wall, boot)

    def _nothing(self, wall: float, boot: float) -> None:
        if self._noise:
            self._emit(self._source, wall, boot, error=self._noise)
        elif self._unread:
            partial = FrameError("length", f"{self._unread} bytes came, and no whole frame among them")
            self._fail(self._source, wall, boot, partial)
        else:
            self._fail(self._source, wall, boot, FrameError("timeout", "the device says nothing"))
        self._noise = None
        self._unread = 0

    def _end_period(self, wall: float, boot: float) -> None:
        """Give the Sample of a period that has ended by now; the frame just read, if any, is of the next one."""
        if boot < self._due_s:
            return
        start = self._due_s - self._window_s
        window = [heard for heard in self._window if start < heard.boot_s <= self._due_s]
        self._window.clear()
        periods = (boot - self._due_s) // self._source.period_s + 1
        self._due_s += periods * self._source.period_s
        sample = median(window, self._source)
        if sample is None:
            self._nothing(wall, boot)
        else:
            self._emit(self._source, sample.wall_s, sample.boot_s, sample.fields, sample.error)
        if self._duty is not None:
            self._say(self._duty.sleep(self._source.options))
            self._asleep = True


def median(window: Sequence[_Heard], source: Source) -> _Heard | None:
    """The low median of what was heard, quantity by quantity, at the time of the last; None when nothing was heard."""
    valid = [heard for heard in window if heard.error is None]
    blind = [heard for heard in window if heard.error is not None and heard.error.kind == "blind_zone"]
    if blind and len(blind) > (len(valid) + len(blind) - 1) // 2:
        return blind[-1]
    if not valid:
        return window[-1] if window else None
    last = valid[-1]
    values: dict[tuple[str, int | None], list[float]] = {}
    for heard in valid:
        for field in heard.fields:
            if is_reading(field, source.driver):
                values.setdefault((field.name, field.channel), []).append(field.value)
    middle = {}
    for key, of_one in values.items():
        below = len(blind)  # each blind frame is lower than every value
        middle[key] = sorted(of_one)[max(0, (len(of_one) + below - 1) // 2 - below)]
    fields = [
        Field(f.name, middle[f.name, f.channel], f.unit, f.channel) if is_reading(f, source.driver) else f
        for f in last.fields
    ]
    return _Heard(last.wall_s, last.boot_s, tuple(fields))
