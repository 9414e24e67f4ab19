"""One serial port: opened, read and written by the one thread that owns it."""

import contextlib
import errno
import os
import re
import termios
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import serial
from serial.rs485 import RS485Settings
from serial.tools.list_ports import comports

from common.clock import Clock
from edge.errors import PortError, PortInUse
from edge.sensors.base import FrameError

READ_TIMEOUT_S = 0.5
"""Real seconds without a byte after which a read returns. A longer pause inside a frame means that its rest is lost."""

_STALE_S = 1.0
_WRITE_TIMEOUT_S = 2.0
_USB = re.compile(r"usb:([0-9A-Fa-f]{4}):([0-9A-Fa-f]{4})(?::(.+))?")

Lister = Callable[[], Iterable[Any]]
"""The serial ports that exist now, each with `device`, `vid`, `pid` and `serial_number` (`serial.tools.list_ports.comports`)."""


def is_usb(url: str) -> bool:
    """Whether a port is named by its adapter, `usb:VID:PID` or `usb:VID:PID:SERIAL` (four hex digits each; the serial number as
    the adapter spells it). Raises ValueError for what begins so and is none."""
    if not url.startswith("usb:"):
        return False
    if _USB.fullmatch(url) is None:
        raise ValueError(f"found {url!r}, expected usb:VID:PID or usb:VID:PID:SERIAL, as usb:1a86:7523")
    return True


def device(url: str, lister: Lister = comports) -> str:
    """Where the port is now: an adapter's device path, anything else as it is. Raises PortError unless just one adapter fits."""
    named = _USB.fullmatch(url)
    if named is None:
        return url
    vid, pid, number = int(named[1], 16), int(named[2], 16), named[3]
    adapters = [port for port in lister() if port.vid is not None]
    found = [p for p in adapters if (p.vid, p.pid) == (vid, pid) and number in (None, p.serial_number)]
    if len(found) == 1:
        return str(found[0].device)
    if found:
        raise PortError(
            f"port {url}: {len(found)} adapters fit ({_listed(found)}), expected one: add the serial number, or name the port"
            " by /dev/serial/by-id"
        )
    raise PortError(f"port {url}: no such adapter is plugged in, found {_listed(adapters) or 'none'}")


def _listed(ports: Iterable[Any]) -> str:
    return ", ".join(f"{_usb_name(p)} at {p.device}" for p in ports)


def _usb_name(port: Any) -> str:
    return f"usb:{port.vid:04x}:{port.pid:04x}:{port.serial_number or ''}".rstrip(":")


@dataclass(frozen=True, slots=True)
class Plugged:
    """A serial port of this machine. `names` outlive replugging and may stand in a configuration, the best first; they are none
    for an adapter without anything of its own. `title` is what the adapter says of itself."""

    device: str
    names: tuple[str, ...]
    title: str


_ALIASES = ("/dev/serial/by-id", "/dev/serial0", "/dev/serial1", "/dev/serial/by-path")
"""Links that udev keeps: by adapter, of the Raspberry Pi's own UARTs, by the socket that an adapter is plugged into."""


def plugged(lister: Lister = comports, aliases: Iterable[str] = _ALIASES) -> list[Plugged]:
    """The serial ports that exist now, sorted by device."""
    links = [link for path in map(Path, aliases) for link in (sorted(path.iterdir()) if path.is_dir() else [path])]
    found = []
    for port in sorted(lister(), key=lambda p: str(p.device)):
        here = os.path.realpath(port.device)
        names = [str(link) for link in links if link.is_symlink() and os.path.realpath(link) == here]
        if port.vid is not None:
            names.insert(min(1, len(names)), _usb_name(port))
        title = " ".join(filter(None, (port.manufacturer, port.product)))
        found.append(Plugged(str(port.device), tuple(names), title))
    return found


class Port:
    """A device path, a pty, `socket://` or `rfc2217://`: whatever `serial.serial_for_url` opens, 8N1 and raw (no echo, no flow
    control, every byte as it is); or an adapter by what it is (see `is_usb`), looked up anew at each opening.

    With `rts` the kernel raises RTS while it sends, for RS485 transceivers that must be told the direction.

    After a `read`, `wall_s` and `boot_s` say when it returned. What had been waiting in the kernel while this program was
    not reading (before it opened the port, while it was stopped or stuck) has no known time and is thrown away.
    """

    def __init__(self, url: str, baudrate: int, clock: Clock, *, rts: bool = False, lister: Lister = comports) -> None:
        self.url = url
        self.baudrate = baudrate
        self.wall_s = 0.0
        self.boot_s = 0.0
        self._rts = rts
        self._lister = lister
        self._clock = clock
        self._lock = threading.Lock()
        # serial_for_url also gives others of the same make.
        self._serial: serial.Serial | None = None

    def open(self) -> None:
        """Raises PortError; PortInUse when another program holds it."""
        try:
            opened = serial.serial_for_url(
                device(self.url, self._lister),
                baudrate=self.baudrate,
                timeout=READ_TIMEOUT_S,
                write_timeout=_WRITE_TIMEOUT_S,
                exclusive=True,
            )
        except (OSError, termios.error, ValueError) as e:
            error = PortInUse if _errno(e) in _BUSY else PortError
            raise error(f"port {self.url} cannot be opened: {_reason(e)}") from e
        with self._lock:
            self._serial = opened
        if self._rts:
            self._direct_by_rts(opened)
        self.discard()

    def _direct_by_rts(self, port: serial.Serial) -> None:
        try:
            port.rs485_mode = RS485Settings()
        except (OSError, termios.error, ValueError) as e:
            raise PortError(
                f"port {self.url}: its kernel driver cannot switch RS485 by RTS ({_reason(e)}); leave rs485 out where the adapter"
                " turns the line by itself"
            ) from e

    def retune(self, baudrate: int) -> None:
        """Go on at another speed, without letting go of the port. Raises PortError."""
        try:
            self._opened().baudrate = baudrate
        except (OSError, termios.error, ValueError) as e:
            raise PortError(f"port {self.url} cannot go to {baudrate} baud: {_reason(e)}") from e
        self.baudrate = baudrate

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
        return self._read_within(READ_TIMEOUT_S)

    def read_on(self, pause_s: float) -> bytes:
        """What comes next, empty after a pause of `pause_s` real seconds. Raises as `read`."""
        return self._read_within(pause_s)

    def _read_within(self, timeout_s: float) -> bytes:
        port = self._opened()
        try:
            if port.timeout != timeout_s:
                port.timeout = timeout_s
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


_BUSY = (errno.EAGAIN, errno.EBUSY)
"""The lock that `exclusive` takes, and the refusal of the kernel (TIOCEXCL) to all but root."""


def _errno(error: Exception) -> int | None:
    number = getattr(error, "errno", None) or (error.args[0] if isinstance(error, termios.error) else None)
    return number if isinstance(number, int) else None


def _reason(error: Exception) -> str:
    """The system's own words where there are some: pyserial wraps them twice."""
    number = _errno(error)
    if number in _BUSY:
        return "in use by another program"
    return str(error) if number is None else os.strerror(number)
