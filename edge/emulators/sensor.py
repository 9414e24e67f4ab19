"""A pty device that measures: it acts at its own interval and logs what it sent."""

from pathlib import Path

from common.clock import Clock
from edge.emulators.log import DeviceLog, Sent
from edge.emulators.pty import PtyDevice


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


def next_due(due: float, interval_s: float, now: float) -> float:
    """The next moment of a steady rhythm. What was missed is not made up."""
    return due + interval_s if due + interval_s > now else now + interval_s
