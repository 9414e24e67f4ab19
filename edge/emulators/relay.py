"""A simulated LCUS-1 relay board: four-byte commands in, relays that click, nothing back."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.emulators.family import Bench, Family, toml
from edge.emulators.pty import PtyDevice


@dataclass(frozen=True, slots=True)
class Switched:
    """A relay that changed; `boot_s` is real CLOCK_BOOTTIME, whatever clock the gateway lives on."""

    boot_s: float
    channel: int
    on: bool


class RelayBoard(PtyDevice):
    """Keeps the state of its relays and the history of their changes. `changed` is notified at each change and bad frame.

    Commands with a wrong sum, state or channel do nothing and are counted in `refused`. Unplugged, it has no power: all off.
    """

    def __init__(
        self,
        path: Path,
        channels: int = 1,
        boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        super().__init__(path)
        self.changed = threading.Condition()
        self.history: list[Switched] = []
        self.received_frames = 0
        self.refused = 0
        self._on = dict.fromkeys(range(1, channels + 1), False)
        self._boottime = boottime
        self._buffer = b""

    def on(self, channel: int = 1) -> bool:
        """Whether a relay is drawn."""
        return self._on[channel]

    def received(self, data: bytes) -> None:
        self._buffer += data
        with self.changed:
            while (start := self._buffer.find(0xA0)) >= 0 and len(self._buffer) >= start + 4:
                header, channel, state, total = self._buffer[start : start + 4]
                if (header + channel + state) % 256 == total and state in (0, 1) and channel in self._on:
                    self._buffer = self._buffer[start + 4 :]
                    self.received_frames += 1
                    self._switch(channel, bool(state))
                else:
                    self._buffer = self._buffer[start + 1 :]
                    self.refused += 1
            if start < 0:
                self._buffer = b""
            self.changed.notify_all()

    def unplug(self) -> None:
        super().unplug()
        with self.changed:
            self._buffer = b""
            for channel in self._on:
                self._switch(channel, False)
            self.changed.notify_all()

    def _switch(self, channel: int, on: bool) -> None:
        if self._on[channel] != on:
            self._on[channel] = on
            self.history.append(Switched(self._boottime(), channel, on))


def _make(bench: Bench) -> RelayBoard:
    channels = bench.only.options["channels"]
    if channels not in range(1, 9):
        raise ValueError(f"channels {channels}, expected 1 to 8")
    return RelayBoard(bench.path, channels)


FAMILIES = (
    Family(
        name="lcus1",
        title="LCUS-1 relay board (siren)",
        true={},
        make=_make,
        options={"channels": 1},
        kind="output",
        written=lambda _, path, __: f"[outputs.siren]\nport = {toml(str(path))}\n",
        happened=lambda board: [f"relay {one.channel} {'on' if one.on else 'off'}" for one in board.history],
    ),
)
