"""One serial port: opened, read and written by the one thread that owns it."""

import contextlib
import errno
import os
import termios
import threading

import serial

from common.clock import Clock
from edge.errors import PortError
from edge.sensors.base import FrameError

READ_TIMEOUT_S = 0.5
"""Real seconds without a byte after which a read returns. A longer pause inside a frame means that its rest is lost."""

_STALE_S = 1.0
_WRITE_TIMEOUT_S = 2.0


class Port:
    """A device path, a pty, `socket://` or `rfc2217://`: whatever `serial.serial_for_url` opens, 8N1.

    After a `read`, `wall_s` and `boot_s` say when it returned. What had been waiting in the kernel while this program was
    not reading (before it opened the port, while it was stopped or stuck) has no known time and is thrown away.
    """

    def __init__(self, url: str, baudrate: int, clock: Clock) -> None:
        self.url = url
        self.baudrate = baudrate
        self.wall_s = 0.0
        self.boot_s = 0.0
        self._clock = clock
        self._lock = threading.Lock()
        # serial_for_url also gives others of the same make.
        self._serial: serial.Serial | None = None

    def open(self) -> None:
        """Raises PortError."""
        try:
            opened = serial.serial_for_url(
                self.url,
                baudrate=self.baudrate,
                timeout=READ_TIMEOUT_S,
                write_timeout=_WRITE_TIMEOUT_S,
                exclusive=True,
            )
        except (OSError, termios.error, ValueError) as e:
            raise PortError(f"port {self.url} cannot be opened: {_reason(e)}") from e
        with self._lock:
            self._serial = opened
        self.discard()

    def close(self) -> None:
        with self._lock:
            if self._serial is not None:
                with contextlib.suppress(OSError, termios.error):
                    self._serial.close()
                self._serial = None

    def read(self) -> bytes:
        """What has come, as soon as a byte is there; empty after READ_TIMEOUT_S of silence or a `cancel`.

        Raises PortError; FrameError `gap` when bytes waited for longer than the program was reading, and are thrown away.
        """
        port = self._opened()
        try:
            data = port.read(1)
            if data and (waiting := port.in_waiting):
                data += port.read(waiting)
        except (OSError, termios.error) as e:
            raise PortError(f"port {self.url} cannot be read: {_reason(e)}") from e
        last = self.boot_s
        self.wall_s = self._clock.wall()
        self.boot_s = self._clock.boot()  # last: a stop between the two shows
        stalled = self._clock.real(self.boot_s - last)
        if data and stalled > _STALE_S:
            self.discard()
            raise FrameError(
                "gap", f"the gateway did not read for {stalled:.1f} s; what had come meanwhile is thrown away"
            )
        return data

    def write(self, data: bytes) -> None:
        """Raises PortError."""
        try:
            self._opened().write(data)
        except (OSError, termios.error) as e:
            raise PortError(f"port {self.url} cannot be written: {_reason(e)}") from e

    def discard(self) -> None:
        """Throw away what has come until now. Raises PortError."""
        try:
            self._opened().reset_input_buffer()
        except (OSError, termios.error) as e:
            raise PortError(f"port {self.url} cannot be read: {_reason(e)}") from e
        self.boot_s = self._clock.boot()

    def cancel(self) -> None:
        """From another thread: end a `read` that is waiting, where the port can."""
        with self._lock:
            cancel_read = getattr(self._serial, "cancel_read", None)
            if cancel_read is not None:
                cancel_read()

    def _opened(self) -> serial.Serial:
        if self._serial is None:
            raise PortError(f"port {self.url} is not open")
        return self._serial


def _reason(error: Exception) -> str:
    """The system's own words where there are some: pyserial wraps them twice."""
    number = getattr(error, "errno", None) or (error.args[0] if isinstance(error, termios.error) else None)
    if number == errno.EAGAIN:  # of the lock that `exclusive` takes
        return "in use by another program"
    return os.strerror(number) if isinstance(number, int) else str(error)
