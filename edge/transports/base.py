"""What all transports share: a thread, a port that comes and goes, and the way from a frame to a Sample."""

import logging
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from common.clock import Clock
from edge.errors import ConfigError, PortError
from edge.sample import Sample
from edge.sensors.base import Driver, Duty, Field, FrameError
from edge.transports.port import Port
from wire.quantities import QUANTITIES

log = logging.getLogger(__name__)

T = TypeVar("T")
Sink = Callable[[Sample], None]
"""Takes each Sample, in a transport's thread. It must not block for long: what comes meanwhile may have to be thrown away."""

_REOPEN_S = 1.0  # real
_COMMAND_GAP_S = 0.1  # real
_REST_S = 60.0
_LOST_PERIOD_S = 10.0
_QUIET_S = 600.0


@dataclass(frozen=True, slots=True)
class Source:
    """A configured sensor: where it belongs, what decodes it, how often it gives a Sample (`period_s` 0: each frame), and
    whether only sealed packets of its node count."""

    station: str
    sensor: str
    driver: Driver
    options: Any
    period_s: float
    median_s: float
    address: int | None = None
    dev_eui: str | None = None
    authenticated: bool = False

    @property
    def key(self) -> str:
        return f"{self.station}/{self.sensor}"


class Transport(ABC):
    """One port and the sensors on it, served by one thread. A lost port is tried again every second until it is back.

    `dropped` counts by (sensor key or modem name, kind) what never became a value.
    """

    def __init__(self, name: str, port: Port, sources: Sequence[Source], clock: Clock, sink: Sink) -> None:
        self.name = name
        self.dropped: Counter[tuple[str, str]] = Counter()
        self._port = port
        self._sources = tuple(sources)
        self._clock = clock
        self._sink = sink
        self._stopped = threading.Event()
        self._woken = threading.Event()
        """Set with `_stopped`, and when there is something else to be looked at."""
        self._thread: threading.Thread | None = None
        self._lost = False
        self._lost_due: dict[str, float] = {}
        self._dropped_at: dict[tuple[str, str], float] = {}
        self._warned: set[str] = set()
        self._failing: set[str] = set()

    @property
    def keys(self) -> frozenset[str]:
        """Its sensors, `<station>/<sensor>`."""
        return frozenset(source.key for source in self._sources)

    def start(self) -> None:
        if self._thread is not None:
            raise RuntimeError(f"{self.name} is already started")
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the port is closed and no further Sample will come. Does nothing when it is not running."""
        if self._thread is None:
            return
        self._stopped.set()
        self._woken.set()
        self._port.cancel()
        self._thread.join()
        self._thread = None

    @abstractmethod
    def _serve(self) -> None:
        """Work on the open port until stopped. Raises PortError when it is gone."""

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._port.open()
                self._serve()
            except PortError as e:
                self._port_lost(e)
            except Exception as e:
                log.exception("%s failed and is opened again", self.name)
                self._port_lost(PortError(f"the gateway failed on it: {e!r}"))
            finally:
                self._port.close()
            self._stopped.wait(_REOPEN_S)

    def _set_up(self, source: Source) -> None:
        """Send what the driver wants said when the port opens."""
        self._say(source.driver.setup(source.options) if source.driver.setup else ())

    def _say(self, commands: Sequence[bytes]) -> None:
        """Send them one by one; what is answered, if anything, is not waited for."""
        for command in commands:
            self._port.write(command)
            self._stopped.wait(_COMMAND_GAP_S)

    def _read(self) -> bytes:
        """As Port.read; the first bytes after a loss say that the port is back."""
        data = self._port.read()
        if data and self._lost:
            self._lost = False
            log.info("%s is back", self.name)
        return data

    def _port_lost(self, error: PortError) -> None:
        wall, boot = self._clock.wall(), self._clock.boot()
        if not self._lost:
            self._lost = True
            self._lost_due = {s.key: boot for s in self._sources}
            log.warning("%s is lost: %s", self.name, error)
        for source in self._sources:
            if boot >= self._lost_due[source.key]:
                self._lost_due[source.key] = boot + (source.period_s or _LOST_PERIOD_S)
                self.dropped[source.key, "port"] += 1
                self._emit(source, wall, boot, error=FrameError("port", str(error)))

    def _decode(self, driver: Driver, options: Any, frame: bytes) -> list[Field]:
        """The driver's fields. Raises FrameError only: a driver that fails otherwise costs its frame and nothing else."""
        try:
            return driver.decode(frame, options)
        except FrameError:
            raise
        except Exception as e:
            log.exception("%s: driver %s failed on the frame %s", self.name, driver.name, frame.hex())
            raise FrameError("format", f"driver {driver.name} failed: {e!r}") from e

    def _emit(
        self,
        source: Source,
        wall_s: float,
        boot_s: float,
        fields: Sequence[Field] = (),
        error: FrameError | None = None,
    ) -> None:
        """Hand over a Sample: values apart from health, and of an error what stays usable."""
        readings = tuple(f for f in fields if is_reading(f, source.driver))
        side = tuple(f for f in fields if not is_reading(f, source.driver))
        sample = Sample(
            source.station, source.sensor, wall_s, boot_s, readings, side + (error.fields if error else ()), error
        )
        if error is not None and error.kind != "port":  # of a port it is said that it is back
            self._failing.add(source.key)
        elif readings and source.key in self._failing:
            self._failing.discard(source.key)
            if source.key in self._warned:
                self._warned.discard(source.key)
                log.info("%s gives values again", source.key)
        try:
            self._sink(sample)
        except Exception:
            log.exception("%s: a sample of %s could not be handed over", self.name, source.key)

    def _fail(self, source: Source, wall_s: float, boot_s: float, error: FrameError) -> None:
        """Count, and hand over a Sample that has no value."""
        self._drop(source.key, error)
        self._emit(source, wall_s, boot_s, error=error)

    def _drop(self, key: str, error: FrameError) -> None:
        self._count(key, error.kind, error.reason)

    def _count(self, key: str, kind: str, reason: str) -> None:
        """Count what gave no value, and say so when its kind begins."""
        self.dropped[key, kind] += 1
        boot = self._clock.boot()
        if boot - self._dropped_at.get((key, kind), float("-inf")) > _QUIET_S:
            log.warning("%s: %s on %s: %s", key, kind, self.name, printable(reason))
            self._warned.add(key)
        self._dropped_at[key, kind] = boot


def duty_of(source: Source, window_s: float = 0.0) -> Duty | None:
    """How a sensor rests between its readings; None when it cannot, or when warming up and `window_s` of measuring would
    leave it less than a minute of rest in each period: starting a fan over and over wears it too."""
    duty = source.driver.duty
    if duty is None or source.period_s < _rests_from_s(duty, window_s):
        return None
    return duty


def rests_from_s(driver: Driver, window_s: float) -> float | None:
    """The shortest period in which a device of this driver rests; None when it never does."""
    return None if driver.duty is None else _rests_from_s(driver.duty, window_s)


def _rests_from_s(duty: Duty, window_s: float) -> float:
    return duty.warm_up_s + window_s + _REST_S


def is_reading(field: Field, driver: Driver) -> bool:
    """Whether a field is a value of the table that this device is there to measure, by its driver or by the channel that was
    given the quantity. The rest (signal, identity, unnamed channels) is its health."""
    return field.name in QUANTITIES and (field.name in driver.quantities or field.channel is not None)


def is_reply(fields: Sequence[Field]) -> bool:
    """Whether a frame was an answer to a command, no measurement."""
    return bool(fields) and fields[0].name == "reply"


def printable(text: str) -> str:
    """Text of a stranger for the log: a line break or a terminal's escape in it shows as such and acts on nothing."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def required(part: T | None, driver: Driver, name: str) -> T:
    """A part of a driver that its link cannot do without."""
    if part is None:
        raise ConfigError(f"driver {driver.name} cannot be used here: expected one that declares {name}")
    return part
