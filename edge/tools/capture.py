"""`maillages-edge sniff` and `replay`: the bytes of a port beside what a driver makes of them, live or from a file.

A capture file is JSON Lines. The first says what follows, `{"capture": 1, "port": ..., "baudrate": ..., "driver": ...,
"options": {...}, "started": <RFC 3339>}`; each other line is a burst of bytes, `{"t": <seconds since then>, "hex": "AA C0 ..."}`,
with `"sent": true` for what this machine said. `t` runs on boot time, so no step of the wall clock is in it.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from io import RawIOBase
from itertools import cycle, zip_longest
from pathlib import Path
from threading import Event
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from common.clock import Clock, from_rfc3339, rfc3339
from common.config import faults
from edge.errors import ConfigError, PortError
from edge.sensors import _modbus_rtu as rtu
from edge.sensors.base import COMMUNICATION_KINDS, Driver, Field, FrameError, Options
from edge.tools.screen import (
    BAD,
    FAINT,
    GOOD,
    WARNING,
    Screen,
    error_object,
    field_object,
    field_text,
    hexadecimal,
    paint,
    printable,
    time_of_day,
)
from edge.transports.port import READ_TIMEOUT_S, Port

_QUIET_S = 0.03
"""Real seconds without a byte that end a burst: more than the 16 ms for which a USB adapter holds bytes back."""
_BURST_BYTES = 256
_REOPEN_S = 1.0
_COMMAND_GAP_S = 0.1
_NOTHING_S = 5.0
_ROW_BYTES, _WIDE_ROW_BYTES, _WIDE_COLUMNS = 8, 16, 132
_TIME_COLUMNS = len("18:05:00.123")
_LEAST_COLUMNS = 20

T = TypeVar("T", bound=BaseModel)
Item = tuple[Field, ...] | FrameError


@dataclass(frozen=True, slots=True)
class Burst:
    """Bytes that came together (or were `sent`), `t_s` after the capture began; `items` is what the driver made of them."""

    t_s: float
    data: bytes
    sent: bool = False
    items: tuple[Item, ...] = ()


class Header(BaseModel):
    """First line of a capture file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    capture: Literal[1] = 1
    port: str
    baudrate: int
    driver: str | None = None
    options: dict[str, Any] = {}
    started: str


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    t: float
    hex: str
    sent: bool = False


class Ear:
    """A driver at work on bursts: its framer keeps an unfinished frame from one to the next, unless as much silence lies between
    them as makes a transport give it up. Without a framer (Modbus) a burst is a frame. Without a driver nothing is made of them."""

    def __init__(self, driver: Driver | None, options: Options | None) -> None:
        """Raises ConfigError for a driver whose bytes come over no port."""
        if driver is not None and driver.link in ("payload", "file"):
            raise ConfigError(
                f"driver {driver.name} is for {driver.link}, expected one whose device speaks on a serial port"
            )
        self._driver = driver
        self._options = options
        self._framer = driver.framer(options) if driver is not None and driver.framer is not None else None
        self._heard_s: float | None = None

    def hear(self, t_s: float, data: bytes) -> tuple[Item, ...]:
        """What the driver makes of bytes that came at `t_s`."""
        if self._driver is None:
            return ()
        if self._framer is None:
            return (self._decode(data),)
        if self._heard_s is not None and t_s - self._heard_s > READ_TIMEOUT_S:
            self._framer.reset()
        self._heard_s = t_s
        return tuple(i if isinstance(i, FrameError) else self._decode(i) for i in self._framer.feed(data))

    def _decode(self, frame: bytes) -> Item:
        assert self._driver is not None  # noqa: S101 - the caller looked
        try:
            if self._framer is None and self._driver.recognise is not None and (asked := self._driver.recognise(frame)):
                return tuple(asked)
            return tuple(self._driver.decode(frame, self._options))
        except FrameError as error:
            return error


class View:
    """Bursts on a Screen, and the count of what they held."""

    def __init__(self, screen: Screen, started_wall_s: float) -> None:
        self._screen = screen
        self._started_wall_s = started_wall_s
        self._bytes = 0
        self._last_s = 0.0
        self.decoded = 0
        self.dropped: Counter[str] = Counter()

    @property
    def heard(self) -> bool:
        """Whether any byte came."""
        return self._bytes > 0

    def show(self, burst: Burst) -> None:
        if not burst.sent:
            self._bytes += len(burst.data)
            self._last_s = burst.t_s
        for item in burst.items:
            if isinstance(item, FrameError):
                self.dropped[item.kind] += 1
                self.decoded += item.kind not in COMMUNICATION_KINDS
            else:
                self.decoded += 1
        wall_s = self._started_wall_s + burst.t_s
        value = {"time": rfc3339(wall_s), "hex": hexadecimal(burst.data), "sent": burst.sent}
        self._screen.say(
            rows(time_of_day(wall_s), burst, self._screen.columns),
            value | {"frames": [_frame_object(item) for item in burst.items]},
        )

    def summary(self, driver: Driver | None) -> str:
        """One line about all of it."""
        text = f"{self._bytes} bytes, the last after {self._last_s:.1f} s" if self._bytes else "no byte came"
        if driver is None:
            return text
        lost = ", ".join(f"{kind} {count}" for kind, count in sorted(self.dropped.items())) or "none"
        return f"{text}; frames of {driver.name}: {self.decoded}; errors: {lost}"


def rows(moment: str, burst: Burst, columns: int) -> list[str]:
    """A burst as a hex dump with what was decoded beside it."""
    per = _WIDE_ROW_BYTES if columns >= _WIDE_COLUMNS else _ROW_BYTES
    mark = " > " if burst.sent else "   "
    left = [
        f"{hexadecimal(part):<{3 * per - 1}}  {printable(part):<{per}}"
        for start in range(0, len(burst.data), per)
        for part in (burst.data[start : start + per],)
    ]
    room = max(_LEAST_COLUMNS, columns - _TIME_COLUMNS - len(mark) - 4 * per - 4)
    right = [
        paint(line, style)
        for item in burst.items
        for style, text in (_item_text(item),)
        for line in _packed(text, room)
    ]
    blank = " " * (4 * per + 1)
    found = []
    for i, (raw, decoded) in enumerate(zip_longest(left, right, fillvalue="")):
        head = paint(moment, FAINT) + mark if i == 0 else " " * (_TIME_COLUMNS + len(mark))
        found.append((head + (raw or blank) + ("  " + decoded if decoded else "")).rstrip())
    return found


def _item_text(item: Item) -> tuple[str, list[str]]:
    if isinstance(item, FrameError):
        said = f"{item.kind}: {item.reason}".split(" ")
        return WARNING if item.kind not in COMMUNICATION_KINDS else BAD, said
    return GOOD, [field_text(field) + " " for field in item]


def _packed(words: list[str], room: int) -> list[str]:
    """Words in lines of at most `room` characters, unless one alone is longer."""
    lines = [""]
    for word in words:
        wider = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and len(wider.rstrip()) > room:
            lines.append(word)
        else:
            lines[-1] = wider
    return [line.rstrip() for line in lines]


def _frame_object(item: Item) -> dict[str, Any]:
    if isinstance(item, FrameError):
        return {"error": error_object(item), "fields": [field_object(field) for field in item.fields]}
    return {"fields": [field_object(field) for field in item]}


class Recorder:
    """Writes a capture file (unbuffered), each line at once: what was heard before a power cut is there. A full disk ends the file, not the
    listening; `note` hears of it."""

    def __init__(self, file: RawIOBase, header: Header, note: Callable[[str], None]) -> None:
        self._file = file
        self._note = note
        self._full = False
        self._write(header.model_dump())

    def add(self, burst: Burst) -> None:
        line: dict[str, Any] = {"t": round(burst.t_s, 4), "hex": hexadecimal(burst.data)}
        self._write(line | {"sent": True} if burst.sent else line)

    def _write(self, value: dict[str, Any]) -> None:
        if self._full:
            return
        try:
            self._file.write(json.dumps(value).encode() + b"\n")
        except OSError as e:
            self._full = True
            self._note(paint(f"nothing more is recorded: {e.strerror}", BAD))


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture file, read: its bursts carry no items yet."""

    header: Header
    bursts: tuple[Burst, ...]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ConfigError: file, line, what was expected. A last line without its end (a power cut) is left out."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as e:
            raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: expected a capture file (text), found bytes") from None
        first, *others = text[: text.rfind("\n") + 1].splitlines() or [""]
        header = _parsed(Header, f"{path}, line 1", first)
        try:
            from_rfc3339(header.started)
        except ValueError as e:
            raise ConfigError(f"{path}, line 1: started: {e}, expected an RFC 3339 time") from e
        return cls(header, tuple(_burst(f"{path}, line {n}", line) for n, line in enumerate(others, 2)))

    @property
    def started_wall_s(self) -> float:
        return from_rfc3339(self.header.started)


def _parsed(kind: type[T], where: str, line: str) -> T:
    try:
        return kind.model_validate_json(line)
    except ValidationError as e:
        raise ConfigError("\n".join(f"{where}: {fault}" for fault in faults(e))) from e


def _burst(where: str, line: str) -> Burst:
    one = _parsed(_Line, where, line)
    try:
        return Burst(one.t, bytes.fromhex(one.hex), one.sent)
    except ValueError:
        raise ConfigError(f"{where}: hex: found {one.hex[:40]!r}, expected pairs of hex digits") from None


def replay(capture: Capture, ear: Ear, view: View) -> None:
    """Show all bursts of a file as if they came now, without waiting between them."""
    for burst in capture.bursts:
        items = () if burst.sent else ear.hear(burst.t_s, burst.data)
        view.show(Burst(burst.t_s, burst.data, burst.sent, items))


@dataclass(frozen=True, slots=True)
class Asking:
    """What a gateway says to a device: `setup` when the port opens, then one of `requests` after the other, every `every_s`."""

    setup: tuple[bytes, ...]
    requests: tuple[bytes, ...]
    every_s: float


def asking(driver: Driver, options: Options, every_s: float) -> Asking:
    """As the driver has it. Raises ConfigError for a device that is not asked, or only in a dialogue."""
    setup = driver.setup(options) if driver.setup is not None else ()
    if driver.reads is not None:
        unit = driver.unit(options)
        reads = driver.reads(options)
        requests = tuple(rtu.read_request(unit, read.function, read.register, read.count) for read in reads)
        return Asking(setup, requests, every_s)
    request = driver.request(options) if driver.request is not None and driver.dialogue is None else b""
    if not request:
        raise ConfigError(f"--ask: driver {driver.name} with these options has no single question, expected none")
    return Asking(setup, (request,), every_s)


class Sniffer:
    """Listens on a port until `stop`; a lost port is opened again when it is back. Each burst goes to `take`."""

    def __init__(self, port: Port, clock: Clock, ear: Ear, take: Callable[[Burst], None], note: Callable[[str], None]):
        self._port = port
        self._clock = clock
        self._ear = ear
        self._take = take
        self._note = note
        self._started_s = clock.boot()

    def run(self, stop: Event, seconds: float | None, ask: Asking | None = None) -> None:
        """Open the port and listen, at most `seconds`; with `ask`, speak as a gateway does.

        Raises PortError when the port cannot be opened at first.
        """
        self._port.open()
        self._started_s = self._clock.boot()
        end_s = float("inf") if seconds is None else self._started_s + seconds
        try:
            while not stop.is_set() and self._clock.boot() < end_s:
                try:
                    self._listen(stop, end_s, ask)
                except PortError as e:
                    self._note(paint(f"{e}; waiting for it to come back", BAD))
                    if not self._reopen(stop, end_s):
                        return
                    self._note(paint(f"port {self._port.url} is back", GOOD))
        finally:
            self._port.close()

    def _listen(self, stop: Event, end_s: float, ask: Asking | None) -> None:
        for command in ask.setup if ask else ():
            self._say(command)
            stop.wait(_COMMAND_GAP_S)
        requests = cycle(ask.requests if ask else ())
        due_s = self._clock.boot() if ask else float("inf")
        quiet_s = self._clock.boot() + _NOTHING_S
        burst, at_s = b"", 0.0
        while not stop.is_set() and self._clock.boot() < end_s:
            if ask and self._clock.boot() >= due_s and not burst:
                due_s = self._clock.boot() + ask.every_s
                self._say(next(requests))
            try:
                data = self._port.read_on(_QUIET_S)
            except FrameError as gap:
                self._note(paint(str(gap), BAD))
                continue
            if data:
                burst, at_s = burst + data, self._port.boot_s
            if burst and (not data or len(burst) >= _BURST_BYTES):
                self._heard(at_s, burst)
                burst, quiet_s = b"", float("inf")
            elif self._clock.boot() >= quiet_s:
                quiet_s = float("inf")
                self._note(paint(f"nothing in {_NOTHING_S:.0f} s: {SILENT_HINT}", WARNING))
        if burst:
            self._heard(at_s, burst)

    def _heard(self, at_s: float, data: bytes) -> None:
        t_s = at_s - self._started_s
        self._take(Burst(t_s, data, items=self._ear.hear(t_s, data)))

    def _say(self, data: bytes) -> None:
        self._port.write(data)
        self._take(Burst(self._clock.boot() - self._started_s, data, sent=True))

    def _reopen(self, stop: Event, end_s: float) -> bool:
        self._port.close()
        while not stop.wait(_REOPEN_S) and self._clock.boot() < end_s:
            try:
                self._port.open()
            except PortError:
                continue
            return True
        return False


SILENT_HINT = "check power, that RX and TX are crossed (A and B on RS485), and the baud rate; a device that must be asked needs --ask"
