"""Devices that answer when asked, one after the other, each at its own period."""

import contextlib
import queue
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from common.clock import Clock
from edge.errors import PortError
from edge.sensors.base import COMMUNICATION_KINDS, Ask, Duty, Field, FrameError
from edge.transports.base import Sink, Source, T, Transport, duty_of, is_reply, required
from edge.transports.port import Port

_TURNAROUND_S = 0.02  # real
_TURNAROUND_BITS = 38.5
"""MODBUS over Serial Line V1.02, 2.5.1.1: 3.5 characters of 11 bits; slow lines need more than _TURNAROUND_S."""


@dataclass(slots=True)
class _Turn:
    """A sensor's place in the round: when its reading is due, and when it is to be dealt with next."""

    source: Source
    duty: Duty | None
    due_s: float | None
    at_s: float
    asleep: bool = False
    failed: bool = False
    asked: "list[Future[None]]" = field(default_factory=list)
    """Who waits for its next poll."""


class Polled(Transport):
    """Asks each sensor on the port when it is due; a poll that comes too late is not made up.

    Its periods count from when it was first asked, so sensors that share a port do not queue in each of them. A poll that fails
    by the line is repeated once, at once but after those that are due by then: a silent device costs the others on its bus
    one time-out at a time. A device that can sleep does so when its period is long enough, and is asked when it is warm.
    """

    def __init__(self, name: str, port: Port, sources: Sequence[Source], clock: Clock, sink: Sink) -> None:
        super().__init__(name, port, sources, clock, sink)
        self._turns: list[_Turn] = []
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def poll_now(self, key: str) -> "Future[None]":
        """From another thread: ask this sensor as soon as the line is free; done when it has answered, or not. Cancel it when it is
        wanted no more: then nothing happens, however late the line comes back."""
        done: Future[None] = Future()

        def hasten() -> None:
            for turn in self._turns:
                if turn.source.key == key and not done.cancelled():
                    turn.asked.append(done)
                    turn.at_s = min(turn.at_s, self._clock.boot())

        self._do(hasten)
        return done

    def exchange(self, data: bytes, reply_s: float) -> "Future[bytes]":
        """From another thread: write these bytes between two polls, and give what comes within `reply_s` real seconds. Cancel: as
        `poll_now`."""
        done: Future[bytes] = Future()

        def converse() -> None:
            if not done.set_running_or_notify_cancel():
                return
            heard = b""
            try:
                self._turn_around()
                self._port.write(data)
                asked = self._clock.boot()
                while self._clock.real(self._clock.boot() - asked) < reply_s and not self._stopped.is_set():
                    heard += self._read()
            except (FrameError, PortError) as e:
                done.set_exception(e)
                raise
            done.set_result(heard)

        self._do(converse)
        return done

    def _do(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)
        self._woken.set()

    @abstractmethod
    def _ask(self, source: Source) -> list[Field]:
        """One poll. Raises FrameError when it gives no value, PortError."""

    def _serve(self) -> None:
        for source in self._sources:
            self._set_up(source)
        boot = self._clock.boot()
        self._turns = [
            _Turn(source, duty, None, boot + (duty.warm_up_s if duty else 0.0))
            for source in self._sources
            for duty in (duty_of(source),)
        ]
        while True:
            turn = min(self._turns, key=lambda t: t.at_s)
            self._clock.wait(self._woken, turn.at_s - self._clock.boot())
            self._woken.clear()
            if self._stopped.is_set():
                return
            if not self._jobs.empty():
                with contextlib.suppress(FrameError):
                    self._jobs.get()()
                self._woken.set()
            elif self._clock.boot() < turn.at_s:
                continue
            elif turn.asleep:
                self._wake(turn)
            else:
                self._take(turn)

    def _take(self, turn: _Turn) -> None:
        source = turn.source
        due = turn.due_s = self._clock.boot() if turn.due_s is None else turn.due_s
        try:
            fields = self._ask(source)
        except FrameError as error:
            if self._stopped.is_set():
                return
            if error.kind in COMMUNICATION_KINDS and not turn.failed:
                turn.failed = True
                turn.at_s = self._clock.boot()
                self._drop(source.key, error)
                return
            self._fail(source, self._clock.wall(), self._clock.boot(), error)
        else:
            self._emit(source, self._port.wall_s, self._port.boot_s, fields)
        turn.failed = False
        for asked in turn.asked:
            if asked.set_running_or_notify_cancel():
                asked.set_result(None)
        turn.asked.clear()
        late = (self._clock.boot() - due) // source.period_s
        turn.at_s = turn.due_s = due + (late + 1) * source.period_s
        if turn.duty is not None:
            self._say(turn.duty.sleep(source.options))
            turn.asleep = True
            turn.at_s -= turn.duty.warm_up_s

    def _wake(self, turn: _Turn) -> None:
        duty = required(turn.duty, turn.source.driver, "duty")
        woken = self._clock.boot()
        self._say(duty.wake(turn.source.options))
        turn.asleep = False
        turn.at_s = woken + duty.warm_up_s

    def _turn_around(self) -> None:
        """Give the line the silence that it needs between what was last said on it and a request, and begin afresh."""
        self._stopped.wait(max(_TURNAROUND_S, _TURNAROUND_BITS / self._port.baudrate))
        self._port.discard()


class Poll(Polled):
    """Devices of one family that answer `request` with a frame, or take part in a `dialogue`: one, or several by `address`."""

    _REPLY_S = 2.0  # real

    def __init__(self, name: str, port: Port, sources: Sequence[Source], clock: Clock, sink: Sink) -> None:
        super().__init__(name, port, sources, clock, sink)
        self._framers = {s.key: required(s.driver.framer, s.driver, "framer")(s.options) for s in self._sources}
        self._requests = {
            s.key: required(s.driver.request, s.driver, "request or dialogue")(s.options)
            for s in self._sources
            if s.driver.dialogue is None
        }

    def _ask(self, source: Source) -> list[Field]:
        try:
            return self._answer(source) if source.driver.dialogue is None else self._converse(source)
        except FrameError as error:
            if error.kind == "sensor_state":  # it has restarted and waits to be told again what to do
                self._set_up(source)
            raise

    def _answer(self, source: Source) -> list[Field]:
        def measured(frame: bytes) -> list[Field] | None:
            fields = self._decode(source.driver, source.options, frame)
            return None if is_reply(fields) else fields

        return self._hear(source, Ask(self._requests[source.key], self._REPLY_S), measured)

    def _converse(self, source: Source) -> list[Field]:
        steps = required(source.driver.dialogue, source.driver, "dialogue")(source.options)
        try:
            ask = next(steps)
            while True:
                try:
                    frame = self._hear(source, ask, bytes)
                except FrameError as error:
                    ask = steps.throw(error)
                else:
                    ask = steps.send(frame)
        except StopIteration as end:
            fields: list[Field] = end.value
            return fields

    def _hear(self, source: Source, ask: Ask, take: Callable[[bytes], T | None]) -> T:
        """Send, and give each frame that comes to `take` until it makes something of one. Raises FrameError, PortError."""
        framer = self._framers[source.key]
        if ask.request:
            framer.reset()
            self._turn_around()
            self._port.write(ask.request)
        asked = self._clock.boot()
        missing = FrameError("timeout", f"no answer within {ask.reply_s:.0f} s")
        data = b""  # what the framer still holds of the last read comes first
        while True:
            for item in framer.feed(data):
                if isinstance(item, FrameError):
                    missing = item
                elif (taken := take(item)) is not None:
                    return taken
            if self._clock.real(self._clock.boot() - asked) >= ask.reply_s or self._stopped.is_set():
                raise missing
            data = self._read()
            if not data:
                framer.reset()
