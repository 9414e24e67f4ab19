"""`maillages-edge scan`: which ports there are, and what answers on each.

A port is listened to first. Then come the questions of the drivers (`Driver.identify`), each put once at its baud rate, then
SDI-12 and Modbus addresses one by one. Nothing that is sent sets, stores or moves anything.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from common.clock import Clock
from edge import drivers
from edge.errors import ConfigError, PortError, PortInUse
from edge.qc import GROSS_RANGE, gross_range
from edge.sensors import _modbus_rtu as rtu
from edge.sensors import sdi12
from edge.sensors.base import COMMUNICATION_KINDS, Driver, Field, FrameError, Options
from edge.tools.screen import (
    FAINT,
    GOOD,
    STRONG,
    WARNING,
    field_object,
    field_text,
    hexadecimal,
    paint,
    printable,
)
from edge.transports.port import Plugged, Port
from wire.quantities import QUANTITIES

_READ_S = 0.05
LISTEN_S = 2.5
"""A Plantower sends every 2.3 s in steady air (PMS5003 series data manual V2.3)."""
UNITS = (*range(1, 17), 254)
"""Modbus addresses that are asked by default: what devices leave the factory with, and the Senseair S8's for any."""
ADDRESSES = "0123456789"
"""SDI-12 addresses that are asked by default."""

_BUS_BAUDRATE = 9600
_LAST_UNIT = 254
_IMPOSSIBLE = 4
_IDENTITY = ("", "1")
"""Units of what tells who a device is; its other quantities are many, and no help to a person here."""
_AT_OK = re.compile(rb"(?:^|[\r\n])OK\r\n")
_QUIET_S = 0.1
_MODBUS_S = 0.2
_SDI12_S, _SDI12_QUIET_S = 0.4, 0.3
_MODBUS_QUESTIONS = ((3, 0), (4, 1))
"""Function and register: every device answers one of them, be it by an exception; a cheap one that is asked for a register which it
does not have may say nothing."""
_END_OF_LINE, _LINE_S = b"\r\n", 0.2
_MOST_BYTES = 2048
_KEPT_BYTES, _SHOWN_BYTES = 64, 12
_LEAST_SHARE = 0.5
"""So much of what came must be frames of a family: noise has one now and then."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A driver whose frames these are, what they say, and the options by which they were had."""

    driver: str
    fields: tuple[Field, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def doubt(self) -> int:
        """How unlikely its values are: 1 to 4 as QARTOD flags, 5 when the device says that it has none."""
        if any(f.name == "error" for f in self.fields):
            return 5
        flags = [gross_range(f.value, GROSS_RANGE[f.name]) for f in self.fields if f.name in GROSS_RANGE]
        return max(flags, default=1)


def likeliest(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The likeliest first; without those whose values cannot be, unless all are so."""
    ordered = sorted(candidates, key=lambda c: (c.doubt, -len(c.fields)))
    return tuple(c for c in ordered if c.doubt < _IMPOSSIBLE or c.doubt == ordered[0].doubt)


@dataclass(frozen=True, slots=True)
class Found:
    """A device: several candidates when their frames do not tell them apart, none for one that no driver knows."""

    candidates: tuple[Candidate, ...]
    baudrate: int
    address: str = ""


@dataclass(slots=True)
class Report:
    """What is known of a port. `strange` are bytes that nobody knows, by baud rate; `problem` is why it could not be asked."""

    port: Plugged
    found: list[Found] = field(default_factory=list)
    strange: dict[int, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problem: str = ""
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask: at which baud rates (none: those of the drivers), which Modbus units and SDI-12 addresses. `listen_s` comes before."""

    baudrates: tuple[int, ...] = ()
    units: tuple[int, ...] = UNITS
    addresses: str = ADDRESSES
    listen_s: float = LISTEN_S


class _OutOfTime(Exception):
    """The scan's time is over, or Ctrl-C."""


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """A driver that can be recognised by its frames, with some options for it (None where it has no default)."""

    driver: Driver
    options: Options | None
    values: Mapping[str, Any]

    def describe(self, frame: bytes) -> list[Field] | None:
        identify = self.driver.identify
        if identify is not None and identify.describe is not None:
            return identify.describe(frame)
        try:
            return [f for f in self.driver.decode(frame, self.options) if f.name != "reply"]
        except FrameError as error:
            if error.kind in COMMUNICATION_KINDS:
                return None
            return [Field("error", error.kind, ""), *error.fields]

    def recognise(self, data: bytes) -> list[Field] | None:
        """What the frames in `data` say, the last of each name; None when they are not this family's."""
        said: dict[str, Field] = {}
        known = 0
        framer = self.driver.framer
        for item in [data] if framer is None else framer(self.options).feed(data):
            if isinstance(item, bytes) and (fields := self.describe(item)) is not None:
                known += len(item)
                said |= {f.name: f for f in fields}
        return list(said.values()) if known and known >= _LEAST_SHARE * len(data) else None


def families() -> list[Family]:
    """The drivers whose devices can be found on a line of their own."""
    found = []
    for driver in map(drivers.find, drivers.names()):
        if driver.reads is not None or (driver.identify is None and (driver.framer is None or driver.link != "stream")):
            continue
        for values in _variants(driver):
            options = _options(driver, values)
            if options is not None or (driver.identify is not None and driver.identify.describe is not None):
                found.append(Family(driver, options, values))
    return found


def _variants(driver: Driver) -> tuple[Mapping[str, Any], ...]:
    return ({},) if driver.identify is None else driver.identify.variants


def modbus_drivers() -> list[Driver]:
    return [driver for driver in map(drivers.find, drivers.names()) if driver.reads is not None]


def _options(driver: Driver, values: Mapping[str, Any]) -> Options | None:
    try:
        return drivers.options(driver, values)
    except ConfigError:
        return None


class Scanner:
    """Asks one port. `tell` hears what is being done."""

    def __init__(
        self,
        port: Plugged,
        clock: Clock,
        known: Sequence[Family],
        on_modbus: Sequence[Driver],
        plan: Plan,
        out_of_time: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        self._port = Port(port.device, _BUS_BAUDRATE, clock)
        self._clock = clock
        self._known = known
        self._modbus_drivers = on_modbus
        self._plan = plan
        self._out_of_time = out_of_time
        self._tell = tell
        self._report = Report(port)
        self._echoes = False

    def run(self) -> Report:
        report = self._report
        try:
            self._port.open()
            try:
                self._ask_all()
            finally:
                self._port.close()
        except PortInUse:
            report.problem = f"in use by {_holder(report.port.device) or 'another program'}"
        except PortError as e:
            report.problem = str(e)
        except _OutOfTime:
            report.complete = False
        if self._echoes and not report.found:
            report.notes.append(
                "it returns what is sent: an RS485 or SDI-12 adapter with an echo, or RX and TX are joined"
            )
        return report

    def _ask_all(self) -> None:
        for baudrate in self._baudrates(f for f in self._known if f.driver.link == "stream"):
            self._port.retune(baudrate)
            self._tell(f"listens at {baudrate}")
            if self._take(self._hear(self._plan.listen_s, self._plan.listen_s), baudrate):
                return
        buses = self._plan.baudrates or (_BUS_BAUDRATE,)
        for baudrate in buses:  # before an adapter's line buffer is full of binary questions
            self._port.retune(baudrate)
            if self._sdi12_alone(baudrate):
                return
        for baudrate in self._baudrates(self._known):
            self._port.retune(baudrate)
            self._tell(f"asks at {baudrate}")
            if self._question(baudrate):
                return
        for baudrate in buses:
            self._port.retune(baudrate)
            if self._sdi12(baudrate) or self._modbus(baudrate):
                return

    def _baudrates(self, some: Iterable[Family]) -> Sequence[int]:
        return self._plan.baudrates or sorted({f.driver.baudrate for f in some})

    def _question(self, baudrate: int) -> bool:
        """Put the questions of the drivers; whether a device was found that has the line for itself."""
        self._ask(_END_OF_LINE, _LINE_S)  # what a modem took for the beginning of a command is over
        asked: set[bytes] = set()
        for family in self._at(baudrate):
            identify = family.driver.identify
            for request in identify.requests if identify else ():
                if request in asked:
                    continue
                asked.add(request)
                data = self._ask(request, identify.reply_s if identify else 0)
                found = self._take(data, baudrate, request)
                if any(f.driver.address is None for f in found) or self._report.notes:
                    return True
        return False

    def _at(self, baudrate: int) -> list[Family]:
        """Whoever speaks at this speed; anybody may where it was asked for."""
        return [f for f in self._known if self._plan.baudrates or f.driver.baudrate == baudrate]

    def _recognised(self, data: bytes, baudrate: int) -> dict[Family, list[Field]]:
        known: dict[Family, list[Field]] = {}
        for family in self._at(baudrate) if data else ():
            if family.driver not in [k.driver for k in known] and (fields := family.recognise(data)) is not None:
                known[family] = fields
        return known

    def _take(self, data: bytes, baudrate: int, request: bytes = b"") -> list[Family]:
        """Note whose frames these are, asked for details. With a `request` they are what followed it."""
        known = self._recognised(data, baudrate)
        if request and not known:  # not at first: an Ebyte's answer begins with the question, as an adapter's echo does
            data = self._without_echo(request, data)
            known = self._recognised(data, baudrate)
        for family, fields in known.items():
            identify = family.driver.identify
            said = {f.name: f for f in fields}
            for request in identify.details if identify else ():
                more = family.recognise(self._exchange(request, identify.reply_s if identify else 0))
                said |= {f.name: f for f in more or ()}
            known[family] = list(said.values())
        if known:
            candidates = [Candidate(f.driver.name, tuple(fields), f.values) for f, fields in known.items()]
            self._report.found.append(Found(likeliest(candidates), baudrate))
        elif _AT_OK.search(data):
            self._report.strange.clear()  # what it said to the others' questions
            self._report.notes.append(f"a modem answers AT with OK at {baudrate} baud: a GSM modem, for [outputs.sms]?")
        elif data:
            self._note_strange(data, baudrate)
        return list(known)

    def _note_strange(self, data: bytes, baudrate: int) -> None:
        self._report.strange.setdefault(baudrate, data[:_KEPT_BYTES])

    def _sdi12_alone(self, baudrate: int) -> bool:
        """Ask what one SDI-12 probe alone answers; if anything came, ask each address. Whether there was a probe."""
        if not self._plan.addresses:
            return False
        self._tell("SDI-12 ?")
        before = dict(self._report.strange)
        alone = self._sdi12_answer("?", sdi12.address_query(), baudrate)
        there = next((str(f.value) for f in alone or () if f.name == "address"), None)
        if there:
            self._sdi12_identify(there, baudrate)
            return True
        return self._report.strange != before and self._sdi12(baudrate)

    def _sdi12(self, baudrate: int) -> bool:
        """Ask each SDI-12 address; whether there was a probe."""
        found = False
        for address in self._plan.addresses:
            self._tell(f"SDI-12 {address}")
            if self._sdi12_answer(address, sdi12.acknowledge_active(address), baudrate) is not None:
                self._sdi12_identify(address, baudrate)
                found = True
        return found

    def _sdi12_identify(self, address: str, baudrate: int) -> None:
        said = self._sdi12_answer(address, sdi12.identify(address), baudrate, 2 * _SDI12_S) or []
        fields = tuple(f for f in said if f.name not in ("reply", "address"))
        candidate = Candidate("sdi12", fields, {"address": address})
        self._report.found.append(Found((candidate,), baudrate, f"address {address}"))

    def _sdi12_answer(
        self, address: str, request: bytes, baudrate: int, reply_s: float = _SDI12_S
    ) -> list[Field] | None:
        data = self._exchange(request, reply_s, _SDI12_QUIET_S)
        options = sdi12.Sdi12Options(address=address if address != "?" else "0", after=request.decode("ascii"))
        framer = sdi12.DRIVER.framer
        assert framer is not None  # noqa: S101 - SDI-12 speaks in lines
        for item in framer(options).feed(data):
            if isinstance(item, bytes) and len(item) >= _LEAST_SHARE * len(data):
                try:
                    return sdi12.decode(item, options)
                except FrameError:
                    break
        if data:
            self._note_strange(data, baudrate)
        return None

    def _modbus(self, baudrate: int) -> bool:
        """Look for Modbus devices; whether there were any."""
        found = False
        for unit in self._plan.units:
            self._tell(f"Modbus {unit}")
            if not any(self._modbus_answer(unit, *question, 1, baudrate) for question in _MODBUS_QUESTIONS):
                continue
            candidates = [c for driver in self._modbus_drivers if (c := self._modbus_candidate(driver, unit, baudrate))]
            self._report.found.append(Found(likeliest(candidates), baudrate, f"unit {unit}"))
            found = True
        return found

    def _modbus_candidate(self, driver: Driver, unit: int, baudrate: int) -> Candidate | None:
        """This driver, if all that it reads can be read there and makes sense."""
        assert driver.reads is not None  # noqa: S101 - modbus_drivers() looked
        replies: dict[tuple[int, int, int], bytes] = {}
        for variant in _variants(driver):
            for name in ("unit", "address"):
                values: dict[str, Any] = {name: unit, **variant}
                options = _options(driver, values)
                if options is None or driver.unit(options) != unit:
                    continue
                fields: list[Field] = []
                try:
                    for read in driver.reads(options):
                        question = (read.function, read.register, read.count)
                        if question not in replies:
                            replies[question] = self._modbus_answer(unit, *question, baudrate)
                        fields += driver.decode(replies[question], read.options or options)
                except FrameError:
                    continue
                return Candidate(driver.name, tuple(fields), values)
        return None

    def _modbus_answer(self, unit: int, function: int, register: int, count: int, baudrate: int) -> bytes:
        """The whole reply of this unit, an exception too; nothing when none came."""
        data = self._exchange(rtu.read_request(unit, function, register, count), _MODBUS_S)
        for start in range(len(data)):
            reply = data[start:]
            if reply[0] == unit and len(reply) > 1 and reply[1] & 0x7F == function:
                try:
                    rtu.parse_reply(reply)
                except FrameError as error:
                    if error.kind != "exception":
                        continue
                return reply
        if data:
            self._note_strange(data, baudrate)
        return b""

    def _exchange(self, request: bytes, reply_s: float, quiet_s: float = _QUIET_S) -> bytes:
        """What is answered, without an echo of what was sent."""
        return self._without_echo(request, self._ask(request, reply_s, quiet_s))

    def _ask(self, request: bytes, reply_s: float, quiet_s: float = _QUIET_S) -> bytes:
        self._check_time()
        self._port.discard()
        self._port.write(request)
        return self._hear(reply_s, quiet_s)

    def _without_echo(self, request: bytes, data: bytes) -> bytes:
        if data.startswith(request):
            self._echoes = True
            return data[len(request) :]
        return data

    def _hear(self, seconds: float, quiet_s: float) -> bytes:
        """What comes within `seconds`, until `quiet_s` of silence after it has begun."""
        self._check_time()
        data = b""
        now = self._clock.boot()
        end_s, last_s = now + seconds, now
        while now < end_s and len(data) < _MOST_BYTES and not (data and now - last_s >= quiet_s):
            try:
                more = self._port.read_on(_READ_S)
            except FrameError:  # this program stood still: what came meanwhile is gone
                more = b""
            now = self._clock.boot()
            if more:
                data, last_s = data + more, now
        return data

    def _check_time(self) -> None:
        if self._out_of_time():
            raise _OutOfTime


def _holder(device: str) -> str:
    """The program that has a device open, as far as this user may see (proc(5)); empty when that is not known."""
    here = os.path.realpath(device)
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        process = link.parents[1]
        with suppress(OSError):  # it has ended, or is another user's
            if str(link.readlink()) == here and process.name != str(os.getpid()):
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                names = [Path(word).name for word in words]
                name = next((n for n in names if n.startswith("maillages-")), names[0])
                return f"{name} (process {process.name})"
    return ""


def lines(report: Report) -> list[str]:
    """A report for people."""
    port = report.port
    shown = [paint(port.device, STRONG) + (f"  {port.title}" if port.title else "")]
    if port.names:
        shown.append(f'  port = "{port.names[0]}"')
        shown += [paint(f"    or {name}", FAINT) for name in port.names[1:]]
    if report.problem:
        return [*shown, "  " + paint(report.problem, WARNING)]
    for found in report.found:
        shown += _found_lines(found)
    if not report.found:
        for baudrate, data in report.strange.items():
            text = f"{hexadecimal(data[:_SHOWN_BYTES])}  {printable(data[:_SHOWN_BYTES])}"
            shown.append("  " + paint(f"nobody knows what speaks at {baudrate} baud:  {text}", WARNING))
    shown += ["  " + paint(note, WARNING) for note in report.notes]
    if not (report.found or report.strange or report.notes):
        shown.append("  " + paint("nothing answers" if report.complete else "nothing yet", WARNING))
    if not report.complete:
        shown.append("  " + paint("not everything was asked: the time was over", WARNING))
    return shown


def _found_lines(found: Found) -> list[str]:
    if not found.candidates:
        return [
            f"  {paint(f'{found.address}: a device that no driver knows by its defaults', WARNING)}, {found.baudrate} baud"
        ]
    shown = []
    for i, candidate in enumerate(found.candidates):
        shown_fields = [f for f in candidate.fields if f.value != "" and (f.name in QUANTITIES or f.unit in _IDENTITY)]
        said = "  ".join(map(field_text, shown_fields))
        name = paint(candidate.driver, GOOD)
        options = ", ".join(f"{key} = {json.dumps(value)}" for key, value in candidate.options.items())
        with_them = f", options = {{ {options} }}" if options else ""
        shown.append(f"  {'or ' if i else ''}{name}  {found.baudrate} baud{with_them}" + (f":  {said}" if said else ""))
    return shown


def value(report: Report) -> dict[str, Any]:
    """A report as an object for JSON."""
    return {
        "port": report.port.device,
        "names": list(report.port.names),
        "title": report.port.title,
        "found": [
            {
                "candidates": [
                    {"driver": c.driver, "options": dict(c.options), "fields": [field_object(f) for f in c.fields]}
                    for c in found.candidates
                ],
                "baudrate": found.baudrate,
                "address": found.address or None,
            }
            for found in report.found
        ],
        "unknown": [{"baudrate": b, "hex": hexadecimal(data)} for b, data in report.strange.items()],
        "notes": report.notes,
        "problem": report.problem or None,
        "complete": report.complete,
    }


def numbers(text: str) -> tuple[int, ...]:
    """`1-16,254` as numbers; nothing for `none`. Raises ConfigError outside 1 to 254."""
    if text == "none":
        return ()
    found: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise ConfigError(f"--modbus: found {part!r}, expected addresses such as 1-16,254, or none")
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= _LAST_UNIT:
            raise ConfigError(f"--modbus: found {part!r}, expected addresses from 1 to {_LAST_UNIT}, ascending")
        found |= dict.fromkeys(range(low, high + 1))
    return tuple(found)


def addresses(text: str) -> str:
    """`0-9,a-f` as SDI-12 addresses; nothing for `none`. Raises ConfigError."""
    if text == "none":
        return ""
    found: dict[str, None] = {}
    for part in text.split(","):
        span = re.fullmatch("([0-9A-Za-z])(?:-([0-9A-Za-z]))?", part)
        if span is None:
            raise ConfigError(f"--sdi12: found {part!r}, expected addresses such as 0-9,a-z, or none")
        codes = range(ord(span[1]), ord(span[2] or span[1]) + 1)
        found |= dict.fromkeys(chr(code) for code in codes if chr(code).isalnum())
    return "".join(found)


def scan(
    ports: Sequence[Plugged],
    clock: Clock,
    plan: Plan,
    out_of_time: Callable[[], bool],
    take: Callable[[Report], None],
    tell: Callable[[str], None],
) -> None:
    """Ask all ports at the same time, each in a thread of its own; each report goes to `take` as soon as it is there."""
    known, on_modbus = families(), modbus_drivers()
    doing = {port.device: "" for port in ports}  # its size stays: threads write, others read

    def told(port: Plugged, text: str) -> None:
        doing[port.device] = text
        shown = "   ".join(f"{Path(device).name}: {what}" for device, what in sorted(doing.items()) if what)
        tell(f"scanning   {shown}" if shown else "")

    def one(port: Plugged) -> None:
        report = Scanner(port, clock, known, on_modbus, plan, out_of_time, partial(told, port)).run()
        told(port, "")
        take(report)

    with ThreadPoolExecutor(len(ports), "scan") as pool:
        done = [pool.submit(one, port) for port in ports]
    for future in done:
        future.result()
