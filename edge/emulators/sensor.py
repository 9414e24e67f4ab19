"""A pty device that measures: it acts at its own interval and logs what it sent."""

from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from common.clock import Clock
from edge.emulators.log import DeviceLog, Sent
from edge.emulators.pty import PtyDevice

Truth = Callable[[float], Mapping[str, float]]
"""What there is to measure at a wall time, keyed by quantity, in the table's units."""

_ASKED = 1000


class SensorDevice(PtyDevice):
    """Calls `measure` every `interval_s` real seconds (a scaled clock does not make electronics faster).

    What it measures is asked for by wall time of `clock`, so a replay follows the exercise's time.
    """

    def __init__(self, path: Path, clock: Clock, log: DeviceLog, interval_s: float) -> None:
        super().__init__(path)
        self.clock = clock
        self.log = log
        self.interval_s = interval_s
        self.powered = True
        """Without power it sends no frame; may be changed while it runs."""
        self._due = self._real()

    def send(self, frame: bytes, sensor: str, values: dict[str, float]) -> None:
        """Put a frame on the line and log it if it went whole."""
        if self.powered and self.write(frame):
            self.log.add(Sent(self.clock.boot(), self.clock.wall(), sensor, values))

    def measure(self) -> None:
        """Send what is due. Called in the device's thread."""

    def tick(self) -> float | None:
        now = self._real()
        if now >= self._due:
            self._due = next_due(self._due, self.interval_s, now)
            self.measure()
        return max(0.0, self._due - self._real())

    def _real(self) -> float:
        """Real seconds, from an origin of no meaning."""
        return self.clock.real(self.clock.boot())


class AskedDevice(SensorDevice):
    """A sensor that is told things. Subclasses cut what comes into questions, and answer them; `talking` ones also send unasked.

    For `warm_up_s` (of the clock) from a `restart` on it is not up yet; one that is started has run for a while.
    """

    def __init__(
        self, path: Path, *, clock: Clock, log: DeviceLog, interval_s: float = 1.0, warm_up_s: float = 0.0
    ) -> None:
        super().__init__(path, clock, log, interval_s)
        self.warm_up_s = warm_up_s
        self.questions: deque[bytes] = deque(maxlen=_ASKED)
        """The last questions, whole and in order."""
        self._warm_at = float("-inf")
        self._input = bytearray()

    @property
    def talking(self) -> bool:
        """Whether it sends by itself now."""
        return False

    @property
    def warm(self) -> bool:
        """Whether what it says is what there is."""
        return self.clock.boot() >= self._warm_at

    def restart(self) -> None:
        self._input.clear()
        self._warm_at = self.clock.boot() + self.warm_up_s

    def tick(self) -> float | None:
        return super().tick() if self.talking else None

    def received(self, data: bytes) -> None:
        if not self.powered:
            return
        self._input += data
        while self._input and (size := self.question(bytes(self._input))) and abs(size) <= len(self._input):
            question = bytes(self._input[: abs(size)])
            del self._input[: abs(size)]
            if size > 0:
                self.questions.append(question)
                self.answer(question)

    def question(self, data: bytes) -> int:
        """How many bytes at the beginning are a question (it may not be whole yet); below 0: so many are noise; 0: too few to tell."""
        raise NotImplementedError

    def answer(self, question: bytes) -> None:
        """Do what a whole question asks."""
        raise NotImplementedError


def next_due(due: float, interval_s: float, now: float) -> float:
    """The next moment of a steady rhythm. What was missed is not made up."""
    return due + interval_s if due + interval_s > now else now + interval_s
