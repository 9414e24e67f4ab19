"""A relay on an LCUS-1 board (or its siblings with 2, 4, 8 channels).

The board is a CH340 USB adapter, 9600 8N1. A command is four bytes: A0, channel from 1, state 0 or 1, sum of the three
modulo 256; A0 01 01 A2 switches channel 1 on (vendor's sheet, "LC USB switch communication protocol"). It answers nothing.
"""

import contextlib
import logging
import termios

import serial

from edge.errors import OutputError

log = logging.getLogger(__name__)

_PORT_ERRORS = (OSError, termios.error)  # pyserial lets termios' own through


def command(channel: int, on: bool) -> bytes:
    """The four bytes that switch a channel."""
    return bytes([0xA0, channel, on, (0xA0 + channel + on) & 0xFF])


class Relay:
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
                log.warning("relay %s: lost: %s", self._path, e)
            raise OutputError(f"relay {self._path}: {e}") from e
        if self._lost:
            self._lost = False
            log.info("relay %s: back", self._path)

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
