"""What every driver is made of. Drivers are pure: bytes in, fields out, no port, no clock.

A driver module declares one `DRIVER`. Modules are found by their place in `edge.sensors` and `edge.radio`: a new device is
one module and one vector file (tests/vectors/<driver>.toml), nothing else.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from edge.radio._airtime import Channel

ErrorKind = Literal[
    "checksum", "crc", "length", "header", "tail", "format",
    "warming_up", "no_data", "sensor_state",
    "no_target", "blind_zone", "out_of_range", "saturated",
    "sensor_fault", "sensor_missing",
    "inconsistent", "implausible", "simulated",
    "exception", "unknown_port", "crc_stat",
    "timeout", "port", "gap", "overflow",
    "unauthenticated", "no_key", "forged", "replay",
]  # fmt: skip

COMMUNICATION_KINDS: frozenset[ErrorKind] = frozenset(
    {"checksum", "crc", "length", "header", "tail", "format", "timeout", "port", "gap", "overflow", "exception"}
)
"""Kinds that say the line or the device does not answer properly; the others come from a device that does."""


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that a frame said. `name` and `unit` are the table's (wire.quantities) where it has them."""

    name: str
    value: Any
    unit: str
    channel: int | None = None


class FrameError(Exception):
    """A frame, or noise, that gives no value. `kind` is counted; `fields` are side quantities that stay usable.

    `at_most_m` is set by `blind_zone` alone: the water has reached the sensor, so the distance is at most this (metres).
    """

    def __init__(
        self, kind: ErrorKind, reason: str, fields: tuple[Field, ...] = (), at_most_m: float | None = None
    ) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind: ErrorKind = kind
        self.reason = reason
        self.fields = fields
        self.at_most_m = at_most_m


class Framer(Protocol):
    """Cuts a byte stream into frames. It resynchronises: one bad byte costs at most the frame that it is in.

    `feed` yields whole frames (bytes, checked) and a FrameError for each thing dropped; memory stays bounded whatever comes.
    Any split of the same bytes gives the same frames. `reset` forgets a partial frame (after a gap or a reopened port).
    """

    def feed(self, data: bytes) -> Iterator[bytes | FrameError]: ...

    def reset(self) -> None: ...


class Options(BaseModel):
    """Base of a driver's options: what the bytes cannot tell (model, register scale, address)."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusRead:
    """One Modbus RTU read: function 3 or 4, first register, count. The driver's `decode` gets the whole RTU reply, and the
    sensor's options, or those `options` that say what of them this reply is."""

    function: Literal[3, 4]
    register: int
    count: int
    options: Options | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """One step of a dialogue: what is sent (no bytes: nothing, only listen on), and how many seconds its answer may take."""

    request: bytes
    reply_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """How a device rests between readings that are far apart: the commands of `wake` and `sleep`, which do no harm to one that
    is already awake or asleep, and for how many seconds after waking its values do not count."""

    wake: Callable[[Any], tuple[bytes, ...]]
    sleep: Callable[[Any], tuple[bytes, ...]]
    warm_up_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Identify:
    """How a device is found on a port of which nothing is known (`maillages-edge scan`).

    `requests` are sent one by one until it answers, and `details` once it is found; each answer takes at most `reply_s`. Without
    requests it is known by what it says by itself. All must be harmless to this device and to any other that may be there: they
    read, and set, store, calibrate or switch nothing.
    `variants` are the options by which the frames may have to be read, the first by which they can be is taken.
    `describe` gets a frame of the driver's framer (without one, all that came) and gives what it tells of the device, perhaps
    nothing; None when it is not surely one of this family. Without it, that is what `decode` finds.
    """

    requests: tuple[bytes, ...] = ()
    details: tuple[bytes, ...] = ()
    variants: tuple[Mapping[str, Any], ...] = ({},)
    reply_s: float = 1.0
    describe: Callable[[bytes], list[Field] | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingStep:
    """One setting of a modem. Send `query`; if no line of the answer is `expected` or one of `also`, which say the same, send
    `write`, which may take `write_s` seconds, and query again. A modem's flash is written only when something differs."""

    query: bytes
    expected: bytes
    write: bytes
    also: tuple[bytes, ...] = ()
    write_s: float = 1.0


class ModemSettings(BaseModel):
    """Base of a modem's settings file (firmware-configs/): `driver` says whose it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    driver: str
    power_dbm: int

    def steps(self) -> tuple[SettingStep, ...]:
        """In the order in which they are written."""
        raise NotImplementedError

    @property
    def on_air(self) -> Channel | None:
        """Where its nodes are on the air; None when that does not say how long a packet takes."""
        return None

    @property
    def carrier(self) -> tuple[int, int]:
        """Centre in Hz and width in kHz of the channel, as the law sees it."""
        raise NotImplementedError

    def airtime_s(self, size: int) -> float:
        """Seconds on the air of a payload of `size` bytes; where `on_air` is None at least so many."""
        if self.on_air is None:
            raise NotImplementedError
        return self.on_air.airtime_s(size)

    def options(self) -> dict[str, Any]:
        """What these settings say of the driver's own options."""
        return {}


def _payload_hex(packet: Mapping[str, Field]) -> bytes:
    return bytes.fromhex(packet["payload_hex"].value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Modem:
    """How a modem is set up, and kept listening.

    `before` is said before its settings are read, and its answer is not judged; `after`, when they are written, each command
    with its answer. `listen` makes it receive, and one of `listening` is the answer of one that does; with `listens_once` it is
    said again after each packet, else when the modem says by the kind `no_data` that it has stopped. `payload` gives what a node
    sent, of a packet's fields by name; `addressed`: the field `address` names the node.
    `ends` says which line is the last of an answer. `signal` is what to ask about the last packet: field, unit, question.

    Without a framer, a frame ends with a pause of `pause_s` seconds; as packets and answers then look alike, `is_answer` knows
    the answers, and is asked only when one is due. `asks_on_air`: in its normal mode it sends on the air what it is asked, so one
    that does not answer is left alone until the port opens anew.
    """

    settings: type[ModemSettings]
    payload: Callable[[Mapping[str, Field]], bytes] = _payload_hex
    addressed: bool = False
    before: tuple[bytes, ...] = ()
    after: tuple[tuple[bytes, bytes], ...] = ()
    listen: bytes = b""
    listening: tuple[bytes, ...] = ()
    listens_once: bool = False
    ends: Callable[[bytes], bool] = bool
    signal: tuple[tuple[str, str, bytes], ...] = ()
    pause_s: float = 0.0
    is_answer: Callable[[bytes], bool] | None = None
    asks_on_air: bool = False


Dialogue = Generator[Ask, bytes, list[Field]]
"""A poll of several steps: each Ask is answered by a frame, or by a FrameError thrown in (`timeout` when nothing came)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What a technician must know that the bytes do not say, in plain sentences (Markdown), for docs/sensors.md.

    `wiring`: supply, levels, pins; of a radio device where it hangs. `limits`: range, and what it cannot do. `faults`: what is
    known to go wrong, and how it shows. `options`: members of the configuration's `options` in an example, TOML.
    """

    wiring: str
    limits: str
    faults: str
    options: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """A device family.

    `link` says who moves its bytes: `stream` devices talk by themselves, `poll` devices answer `request` or a `dialogue`, `modbus` ones
    answer `reads` at the address that `unit` takes from their options, a `file` of the kernel (1-Wire) is read anew each time,
    a `modem` (see Modem) hands over radio frames, a `payload` codec reads what a modem or network server hands over.
    `decode(frame, options)` returns the frame's fields or raises FrameError; a reply that is well-formed but no measurement
    returns fields whose first is named `reply`.
    `address` says where several `poll` devices of this family may share a bus, and is None for options with which any device
    answers: then, as without it, the device must be alone. `setup` is sent when the port opens, and wakes a device that has a
    `duty`: it may have been put to sleep before this program started.
    `sound_m_s`: for options with which an ultrasonic device reckons with one speed of sound whatever the air's temperature, that
    speed in m/s; None for one that compensates by itself.
    Every driver of this package has a `sheet`.
    `identify` lets `scan` find the device; one that talks by itself and has options that all have a default needs none.
    `life` says what running costs the device itself, with its source, for `maillages-edge drivers`.
    `commands` build what we send; `recognise` reads one back (a trace, an echo on a half-duplex bus) as fields whose first is
    named `command`, none when the bytes are no command, FrameError when they surely are a broken one.
    """

    name: str
    title: str
    link: Literal["stream", "poll", "modbus", "file", "modem", "payload"]
    quantities: tuple[str, ...]
    options: type[Options]
    decode: Callable[[bytes, Any], list[Field]]
    framer: Callable[[Any], Framer] | None = None
    baudrate: int = 9600
    setup: Callable[[Any], tuple[bytes, ...]] | None = None
    request: Callable[[Any], bytes] | None = None
    dialogue: Callable[[Any], Dialogue] | None = None
    reads: Callable[[Any], tuple[ModbusRead, ...]] | None = None
    unit: Callable[[Any], int] = attrgetter("unit")
    address: Callable[[Any], int | str | None] | None = None
    duty: Duty | None = None
    modem: Modem | None = None
    period_s: float = 60.0
    sound_m_s: Callable[[Any], float | None] | None = None
    source: str = ""
    sheet: Sheet | None = None
    commands: dict[str, Callable[..., bytes]] = field(default_factory=dict)
    recognise: Callable[[bytes], list[Field]] | None = None
    identify: Identify | None = None
    life: str = ""
