"""A siren on an LCUS-1 relay board (or its siblings with 2, 4, 8 channels), and when it sounds.

The board is a CH340 USB adapter, 9600 8N1. A command is four bytes: A0, channel from 1, state 0 or 1, sum of the three
modulo 256; A0 01 01 A2 switches channel 1 on (vendor's sheet, "LC USB switch communication protocol"). It answers nothing.
"""

import contextlib
import logging
import termios
from collections.abc import Iterable
from dataclasses import dataclass

import serial

from edge.errors import OutputError
from wire.alarm import State

log = logging.getLogger(__name__)

_PORT_ERRORS = (OSError, termios.error)  # pyserial lets termios' own through


@dataclass(frozen=True, slots=True)
class SirenInput:
    """What the siren needs of one occurrence. `since_boot_s`: boot time (s) of its last raise or escalation."""

    level: int
    state: State
    since_boot_s: float


def should_sound(now_boot_s: float, alarms: Iterable[SirenInput], min_level: int, max_s: float) -> bool:
    """Whether any alarm of `min_level` and above is unacknowledged and its `max_s` seconds are not used up.

    A function of state alone: asked again after a restart, it says the same. RTN_UNACK is silent: the danger has passed.
    """
    return any(a.state == "UNACK" and a.level >= min_level and now_boot_s - a.since_boot_s < max_s for a in alarms)


def command(channel: int, on: bool) -> bytes:
    """The four bytes that switch a channel."""
    return bytes([0xA0, channel, on, (0xA0 + channel + on) & 0xFF])


class Siren:
    """One relay. The port is opened by the first use and again after a failure; it logs when it is lost and when it is back."""

    def __init__(self, port: str, channel: int = 1) -> None:
        """`port` is anything that `serial.serial_for_url` opens."""
        self._path = port
        self._channel = channel
        self._port: serial.Serial | None = None
        self._lost = False

    def set(self, on: bool) -> None:
        """Switch it on or off; to be called at every change and, say, every second in between.

        The board cannot be asked, so the command is written each time (it does nothing to a relay that is there already):
        a board that lost its power or its plug is right again with the next call. Raises OutputError when it cannot be
        written, also not to a port opened anew.
        """
        frame = command(self._channel, on)
        try:
            if self._port is None or not self._written(self._port, frame):
                self._port = serial.serial_for_url(self._path, baudrate=9600, timeout=0, write_timeout=1.0)
                self._port.write(frame)
        except (*_PORT_ERRORS, ValueError) as e:
            self.close()
            if not self._lost:
                self._lost = True
                log.warning("siren %s: lost: %s", self._path, e)
            raise OutputError(f"siren {self._path}: {e}") from e
        if self._lost:
            self._lost = False
            log.info("siren %s: back", self._path)

    def close(self) -> None:
        """Let go of the port. The relay stays as it is."""
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(*_PORT_ERRORS):
                port.close()

    def _written(self, port: serial.Serial, frame: bytes) -> bool:
        try:
            port.write(frame)
        except _PORT_ERRORS:
            self.close()
            return False
        return True
