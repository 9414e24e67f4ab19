"""The devices' own log: what really left them, to be compared with what was stored."""

import json
import threading
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sent:
    """One frame that went onto the line whole. `boot_s` (CLOCK_BOOTTIME) and `wall_s` are the clock's at its last byte.

    `values` are in the unit in which a gateway publishes them, keyed by quantity. Empty: a frame without a value.
    """

    boot_s: float
    wall_s: float
    sensor: str
    values: dict[str, float] = field(default_factory=dict)


class DeviceLog:
    """What all devices of a demo or test sent, in memory and, with a `path`, as JSON lines (one write each, appended).

    With `keep` memory holds no more than the last so many; `total` counts all."""

    def __init__(self, path: Path | None = None, *, keep: int | None = None) -> None:
        self.path = path
        self.total = 0
        self._lock = threading.Lock()
        self._sent: deque[Sent] = deque(maxlen=keep)

    def add(self, sent: Sent) -> None:
        with self._lock:
            self._sent.append(sent)
            self.total += 1
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(sent)) + "\n")

    def sent(self, sensor: str | None = None) -> list[Sent]:
        """All of it, or one sensor's, in the order in which it went."""
        with self._lock:
            return [s for s in self._sent if sensor is None or s.sensor == sensor]
