"""SDI-12 probes through an adapter (USB or UART) that makes the break and the levels; 9600 8N1 to the adapter, or as it says.

Source: SDI-12, A Serial-Digital Interface Standard for Microprocessor-Based Sensors, versions 1.3 and 1.4, section 4.4. A command
is `address body !`, an answer `address data CR LF`. A measurement is started (`aM!`, `aC!`), answered by when it is ready and
how many values there will be, and fetched by `aD0!` to `aD9!`. During `aM!` the probe says by a service request, its address
alone, that it is ready before its time. Asked so (`aMC!`, `aCC!`, `aRC0!`), data end in three characters of CRC.
"""

import re
from collections.abc import Generator
from operator import attrgetter
from typing import Self

from pydantic import Field as Constraint
from pydantic import field_validator, model_validator

from edge.sensors import _crc
from edge.sensors._framing import ScanFramer, Step, head
from edge.sensors._named import Named, distinct, fields
from edge.sensors.base import Ask, Dialogue, Driver, Field, FrameError, Options, Sheet
from wire.quantities import QUANTITIES

LINE_BYTES = 128
DATA_CHARACTERS = 75  # of values in an answer to C and R, 35 to M (4.4.6, 4.4.8)
DIGITS = 7
REPLY_S = 1.0
"""A probe begins within 15 ms, and a line of 80 characters takes 0.7 s at 1200 Bd; the adapter costs some more."""

_ADDRESS = "[0-9A-Za-z]"
_MEASURING = "M[1-9]?|MC[1-9]?|C[1-9]?|CC[1-9]?|R[0-9]|RC[0-9]|V|HA"
_BODIES = {
    "acknowledge_active": "",
    "change_address": f"A{_ADDRESS}",
    "identify": "I",
    "start_measurement": "M[1-9]?",
    "start_measurement_crc": "MC[1-9]?",
    "start_concurrent": "C[1-9]?",
    "start_concurrent_crc": "CC[1-9]?",
    "start_verification": "V",
    "start_high_volume": "HA",
    "continuous": "R[0-9]",
    "continuous_crc": "RC[0-9]",
    "send_data": "D[0-9]{1,3}",
    "identify_measurement": f"I(?:{_MEASURING})",
    "identify_parameter": f"I(?:{_MEASURING})_[0-9]{{3}}",
    "extended": "X[ -~]*",
}
_ECHO = re.compile(rb"(?:\?|[0-9A-Za-z](?:[A-Z][0-9A-Za-z_.+-]*)?)!")
_VALUE = re.compile(r"[+-](?=\.?[0-9])[0-9]*\.?[0-9]*")
_IDENTITY = re.compile(r"(?P<version>[0-9]{2})(?P<vendor>.{8})(?P<model>.{6})(?P<firmware>.{3})(?P<serial>.{0,13})")


class Sdi12Options(Options):
    """`address` of the probe. `measure`: the body of the command that measures (`M`, `MC`, `C1`, `R0`, `V` ...); with C in the
    second place the answers carry a CRC. `quantities`: what the values are, in order (see `_named.fields`). `ready_within_s`: the
    longest that this probe takes to measure; the announcement carries no CRC, so a longer one is taken for noise.

    For a line read by hand: `after`, the command that it answers, and `crc`, whether it carries one.
    """

    address: str = Constraint(default="0", pattern=f"^{_ADDRESS}$")
    measure: str = Constraint(default="M", pattern=f"^(?:{_MEASURING})$")
    quantities: tuple[Named, ...] = ()
    ready_within_s: int = Constraint(default=120, ge=0, le=999)
    after: str = ""
    crc: bool = False

    @field_validator("address", mode="before")
    @classmethod
    def _digit(cls, address: object) -> object:
        return str(address) if type(address) is int else address

    @field_validator("quantities")
    @classmethod
    def _distinct(cls, quantities: tuple[Named, ...]) -> tuple[Named, ...]:
        return distinct(quantities)

    @model_validator(mode="after")
    def _a_command(self) -> Self:
        if self.after and _command(self.after) is None:
            raise ValueError(f"after: found {self.after!r}, expected a command such as {self.address}D0!")
        return self


def crc16(data: bytes) -> bytes:
    """The three characters of CRC over an answer from its address on (4.4.12)."""
    crc = _crc.crc16(data, 0)
    return bytes((0x40 | crc >> 12, 0x40 | crc >> 6 & 0x3F, 0x40 | crc & 0x3F))


_begins = head((b"\r\n" + bytes(range(0x21, 0x7F)),))


def _cut(buffer: bytearray) -> Step | None:
    if buffer[0] in b"\r\n":
        return 1, b""
    echo = _ECHO.match(buffer, 0, LINE_BYTES)
    if echo:
        return echo.end(), b""
    end = re.search(rb"[\r\n]", buffer[:LINE_BYTES])
    if end:
        return end.end(), bytes(buffer[: end.end()])
    if len(buffer) < LINE_BYTES:
        return None
    return LINE_BYTES, FrameError("overflow", f"{LINE_BYTES} bytes without the end of a line")


def _command(text: str) -> tuple[str, str, str] | None:
    """Address, name and body of a command; None when it is none."""
    if text == "?!":
        return "?", "address_query", ""
    if not re.fullmatch(f"{_ADDRESS}.*!", text):
        return None
    address, body = text[0], text[1:-1]
    name = next((name for name, pattern in _BODIES.items() if re.fullmatch(pattern, body)), None)
    return None if name is None else (address, name, body)


def decode(frame: bytes, options: Sdi12Options) -> list[Field]:
    """One line -> the quantities that the configuration names, or `values`, a list, after `aD0!` or `aR0!`; after any other
    command the answer's parts, `reply` first. Without `after`, its form says what a line is.

    Raises FrameError: `tail` without the end of a line; `header` from another address; `crc`; `no_data` for the address alone in
    answer to `aD0!` (the measurement was aborted); `format`; `sensor_fault`, `out_of_range` by `quantities`.
    """
    address, name, body = _command(options.after) or (options.address, "", "")
    text = _text(frame)
    if name in ("send_data", "continuous", "continuous_crc"):
        values = _values(_checked(text, address, crc=options.crc or name == "continuous_crc"))
        return _fields(address, values, options)
    if name == "":
        return _by_form(text, address, options)
    return _answer(text, address, name, body)


def _text(frame: bytes) -> str:
    line = frame.rstrip(b"\r\n")
    if line == frame:
        raise FrameError("tail", f"{_shown(frame)} does not end in a carriage return")
    if not line or not all(0x20 <= byte < 0x7F for byte in line):
        raise FrameError("format", f"{_shown(line)}, expected printable characters")
    return line.decode("ascii")


def _checked(text: str, address: str, *, crc: bool) -> str:
    """What stands between address and CRC."""
    if text[0] != address and address != "?":
        raise FrameError("header", f"{text!r} comes from address {text[0]}, asked was {address}")
    if crc and len(text) > 1:
        body, came, computed = text[:-3], text[-3:], crc16(text[:-3].encode("ascii")).decode("ascii")
        if came != computed:
            raise FrameError("crc", f"CRC {came!r} in {text!r}, computed {computed!r}")
        text = body
    return text[1:]


def _values(data: str) -> list[float]:
    if not data:
        raise FrameError("no_data", "the address alone: the measurement was aborted")
    found = _VALUE.findall(data)
    if "".join(found) != data or len(data) > DATA_CHARACTERS:
        raise FrameError("format", f"{data!r}, expected up to {DATA_CHARACTERS} characters of signed values")
    for value in found:
        if sum(c.isdigit() for c in value) > DIGITS:
            raise FrameError("format", f"{value!r} has more than {DIGITS} digits")
    return [float(value) if "." in value else int(value) for value in found]


def _fields(address: str, values: list[float], options: Sdi12Options) -> list[Field]:
    named = fields(options.quantities, values)
    return [*(named if options.quantities else [Field("values", values, "")]), Field("address", address, "")]


def _by_form(text: str, address: str, options: Sdi12Options) -> list[Field]:
    if text[1:2] in ("+", "-"):
        return _fields(address, _values(_checked(text, address, crc=options.crc)), options)
    if re.fullmatch(f"{_ADDRESS}[0-9]{{4}}", text):
        return _answer(text, address, "start_measurement", "")
    if len(text) == 1:
        return _answer(text, address, "acknowledge_active", "")
    return _answer(text, address, "extended", "")


def _answer(text: str, address: str, name: str, body: str) -> list[Field]:
    if name == "change_address" and text in (address, body[1:]):
        address = text
    data = _checked(text, address, crc=False)
    who = Field("address", text[0], "")
    if name in ("acknowledge_active", "address_query", "change_address"):
        if data:
            raise FrameError("format", f"{text!r}, expected an address")
        return [Field("reply", name, ""), who]
    if name == "identify":
        identity = _IDENTITY.fullmatch(data)
        if identity is None:
            raise FrameError("format", f"{data!r}, expected version (2), vendor (8), model (6), firmware (3), serial")
        return [
            Field("reply", name, ""),
            who,
            *(Field(part, value.strip(), "") for part, value in identity.groupdict().items()),
        ]
    if name in ("identify_parameter", "extended"):
        return [Field("reply", name, ""), who, Field("text", data, "")]
    if not data and name.startswith(("start_measurement", "start_verification")):
        return [Field("reply", "service_request", ""), who]
    ready_in, count = _started(data, body)
    return [Field("reply", name, ""), who, Field("ready_in", ready_in, "s"), Field("count", count, "1")]


def _started(data: str, body: str) -> tuple[int, int]:
    """Seconds until ready and number of values, of which C and CC say two digits and HA three."""
    measuring = body.removeprefix("I")
    digits = 3 if measuring.startswith("HA") else 2 if measuring.startswith("C") else 1
    if not re.fullmatch(f"[0-9]{{{3 + digits}}}", data):
        raise FrameError("format", f"{data!r}, expected 3 digits of time and {digits} of count")
    return int(data[:3]), int(data[3:])


def dialogue(options: Sdi12Options) -> Dialogue:
    """One whole measurement: start, wait for the service request or the time, fetch all values. Raises FrameError."""
    address, measure = options.address, options.measure
    crc = measure[1:2] == "C" or measure == "HA"
    line = yield Ask(f"{address}{measure}!".encode("ascii"), REPLY_S)
    if measure.startswith("R"):
        return _fields(address, _values(_checked(_text(line), address, crc=crc)), options)
    ready_in, count = _started(_checked(_text(line), address, crc=False), measure)
    if count == 0:
        raise FrameError("no_data", "the probe has no value for this command")
    if ready_in > options.ready_within_s:
        raise FrameError("format", f"ready in {ready_in} s, expected at most {options.ready_within_s} (ready_within_s)")
    if ready_in:
        yield from _ready(address, ready_in)
    values: list[float] = []
    for page in range(1000 if measure == "HA" else 10):
        line = yield Ask(f"{address}D{page}!".encode("ascii"), REPLY_S)
        values += _values(_checked(_text(line), address, crc=crc))
        if len(values) >= count:
            break
    if len(values) != count:
        raise FrameError("length", f"{len(values)} values, announced were {count}")
    return _fields(address, values, options)


def _ready(address: str, ready_in: int) -> Generator[Ask, bytes, None]:
    try:
        line = yield Ask(b"", ready_in)
    except FrameError as e:
        if e.kind != "timeout":  # the time is over, and no service request came: a concurrent measurement sends none
            raise
    else:
        if _checked(_text(line), address, crc=False):
            raise FrameError("format", f"{_shown(line)} while waiting, expected a service request")


def _shown(line: bytes) -> str:
    return repr(line.decode("latin-1"))


def _built(address: str, body: str) -> bytes:
    if _command(f"{address}{body}!") is None:
        raise ValueError(f"{address}{body}! is no SDI-12 command")
    return f"{address}{body}!".encode("ascii")


def _numbered(letters: str, index: int) -> str:
    return f"{letters}{index}" if index else letters


def acknowledge_active(address: str = "0") -> bytes:
    """Is this probe there?"""
    return _built(address, "")


def address_query() -> bytes:
    """What is the address? For one probe alone on the line."""
    return b"?!"


def change_address(new_address: str, address: str = "0") -> bytes:
    """Give the probe another address."""
    return _built(address, f"A{new_address}")


def identify(address: str = "0") -> bytes:
    """Ask for version, vendor, model, firmware and serial number."""
    return _built(address, "I")


def start_measurement(address: str = "0", index: int = 0) -> bytes:
    """Measure (`index` 1 to 9: the additional measurements). No other probe may be asked until it is done."""
    return _built(address, _numbered("M", index))


def start_measurement_crc(address: str = "0", index: int = 0) -> bytes:
    """The same, with CRC."""
    return _built(address, _numbered("MC", index))


def start_concurrent(address: str = "0", index: int = 0) -> bytes:
    """Measure while others do; no service request follows."""
    return _built(address, _numbered("C", index))


def start_concurrent_crc(address: str = "0", index: int = 0) -> bytes:
    """The same, with CRC."""
    return _built(address, _numbered("CC", index))


def start_verification(address: str = "0") -> bytes:
    """Check yourself; the results are fetched as data."""
    return _built(address, "V")


def start_high_volume(address: str = "0") -> bytes:
    """Measure up to 999 values, fetched as text with CRC (version 1.4)."""
    return _built(address, "HA")


def continuous(address: str = "0", index: int = 0) -> bytes:
    """The present values of a probe that measures all the time."""
    return _built(address, f"R{index}")


def continuous_crc(address: str = "0", index: int = 0) -> bytes:
    """The same, with CRC."""
    return _built(address, f"RC{index}")


def send_data(address: str = "0", page: int = 0) -> bytes:
    """Fetch the values of a measurement, page by page until all announced have come."""
    return _built(address, f"D{page}")


def identify_measurement(body: str = "M", address: str = "0") -> bytes:
    """How long would this measurement take, and how many values give? (version 1.4)"""
    return _built(address, f"I{body}")


def identify_parameter(body: str = "M", number: int = 1, address: str = "0") -> bytes:
    """What is this value of this measurement? (version 1.4)"""
    return _built(address, f"I{body}_{number:03}")


def extended(text: str, address: str = "0") -> bytes:
    """A maker's own command, without its X."""
    return _built(address, f"X{text}")


def recognise(frame: bytes) -> list[Field]:
    """Read a command back (see Driver.recognise)."""
    found = _command(frame.decode("latin-1"))
    if found is None:
        return []
    address, name, body = found
    return [Field("command", name, ""), Field("address", address, ""), Field("body", body, "")]


DRIVER = Driver(
    name="sdi12",
    title="SDI-12 probes (through an adapter)",
    link="poll",
    quantities=tuple(QUANTITIES),
    options=Sdi12Options,
    decode=decode,
    framer=lambda _options: ScanFramer(_cut, _begins),
    dialogue=dialogue,
    address=attrgetter("address"),
    source="SDI-12 Support Group, SDI-12 versions 1.3 and 1.4",
    sheet=Sheet(
        wiring="Three wires: 12 V supply, ground, data (5 V, inverted). They go to an SDI-12 adapter, never to a "
        "Pi's pin. The adapter makes 1200 baud 7E1 on the data wire; the settings here are those from the "
        "gateway to the adapter.",
        limits="Cable up to 60 m. One address each (0-9, a-z, A-Z). The address `?` only with one probe.",
        faults="Garbled answers: two probes with one address. No answer: 12 V dips during the measurement, or "
        "the adapter needs another baud rate. An aborted measurement is asked again at the next period.",
        options='address = "0", measure = "M", quantities = [{ name = "water_level" }]',
    ),
    commands={
        function.__name__: function
        for function in (
            acknowledge_active,
            address_query,
            change_address,
            identify,
            start_measurement,
            start_measurement_crc,
            start_concurrent,
            start_concurrent_crc,
            start_verification,
            start_high_volume,
            continuous,
            continuous_crc,
            send_data,
            identify_measurement,
            identify_parameter,
            extended,
        )
    },
    recognise=recognise,
)
