"""Devices that answer when asked, one after the other, each at its own period."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

from common.clock import Clock
from edge.sensors.base import Ask, Field, FrameError
from edge.transports.base import Sink, Source, T, Transport, is_reply, required
from edge.transports.port import Port


class Polled(Transport):
    """Asks each sensor on the port when it is due; a poll that comes too late is not made up."""

    def __init__(self, name: str, port: Port, sources: Sequence[Source], clock: Clock, sink: Sink) -> None:
        super().__init__(name, port, sources, clock, sink)
        self._due: dict[str, float] = {}

    @abstractmethod
    def _ask(self, source: Source) -> list[Field]:
        """One poll. Raises FrameError when it gives no value, PortError."""

    def _serve(self) -> None:
        self._due = {source.key: self._clock.boot() for source in self._sources}
        while True:
            source = min(self._sources, key=lambda s: self._due[s.key])
            due = self._due[source.key]
            if self._clock.wait(self._stopped, due - self._clock.boot()):
                return
            try:
                fields = self._ask(source)
            except FrameError as error:
                if self._stopped.is_set():
                    return
                self._fail(source, self._clock.wall(), self._clock.boot(), error)
            else:
                self._emit(source, self._port.wall_s, self._port.boot_s, fields)
            late = (self._clock.boot() - due) // source.period_s
            self._due[source.key] = due + (late + 1) * source.period_s


class Poll(Polled):
    """One device that answers `request` with a frame, or takes part in a `dialogue`."""

    _REPLY_S = 2.0  # real

    def __init__(self, name: str, port: Port, sources: Sequence[Source], clock: Clock, sink: Sink) -> None:
        super().__init__(name, port, sources, clock, sink)
        (source,) = self._sources
        self._framer = required(source.driver.framer, source.driver, "framer")(source.options)
        self._request = b""
        if source.driver.dialogue is None:
            self._request = required(source.driver.request, source.driver, "request or dialogue")(source.options)

    def _serve(self) -> None:
        self._set_up(self._sources[0])
        super()._serve()

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

        return self._hear(Ask(self._request, self._REPLY_S), measured)

    def _converse(self, source: Source) -> list[Field]:
        steps = required(source.driver.dialogue, source.driver, "dialogue")(source.options)
        try:
            ask = next(steps)
            while True:
                try:
                    frame = self._hear(ask, bytes)
                except FrameError as error:
                    ask = steps.throw(error)
                else:
                    ask = steps.send(frame)
        except StopIteration as end:
            fields: list[Field] = end.value
            return fields

    def _hear(self, ask: Ask, take: Callable[[bytes], T | None]) -> T:
        """Send, and give each frame that comes to `take` until it makes something of one. Raises FrameError, PortError."""
        if ask.request:
            self._framer.reset()
            self._port.discard()
            self._port.write(ask.request)
        asked = self._clock.boot()
        missing = FrameError("timeout", f"no answer within {ask.reply_s:.0f} s")
        data = b""  # what the framer still holds of the last read comes first
        while True:
            for item in self._framer.feed(data):
                if isinstance(item, FrameError):
                    missing = item
                elif (taken := take(item)) is not None:
                    return taken
            if self._clock.real(self._clock.boot() - asked) >= ask.reply_s or self._stopped.is_set():
                raise missing
            data = self._read()
            if not data:
                self._framer.reset()
