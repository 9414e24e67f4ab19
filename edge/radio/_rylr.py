"""What the REYAX LoRa modems have in common: AT commands and the lines that they answer, 115200 8N1.

Source: REYAX, LoRa AT Command Guide for RYLR998 and RYLR498, 23-OCT-2023. What a node sends arrives as
`+RCV=<address>,<length>,<data>,<RSSI>,<SNR>`; the data may hold commas and line ends, so it is cut by its length.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field as Constraint
from pydantic import model_validator

from edge.radio._airtime import Channel
from edge.radio._eu868 import check
from edge.sensors._framing import ScanFramer, Step, head
from edge.sensors.base import Field, FrameError, ModemSettings, Options, SettingStep

PAYLOAD_BYTES = 240
ADDED_BYTES = 8
"""The guide, on AT+SEND: the module's own part of a packet on the air."""
LINE_BYTES = 128
"""Longer than any line but +RCV."""

ERRORS = {
    1: "no CR LF at the end of the command",
    2: "the command does not begin with AT",
    4: "unknown command",
    5: "the data is not as long as declared",
    10: "transmission took too long",
    12: "CRC error on reception",
    13: "more than 240 bytes to send",
    14: "flash memory cannot be written",
    15: "unknown failure",
    17: "the last transmission is not finished",
    18: "preamble not allowed",
    19: "header error on reception",
    20: "time of the power saving mode not allowed",
}


class RylrOptions(Options):
    """A modem needs none: what it is set to is in its settings file."""


_HEADER = re.compile(rb"\+RCV=(\d{1,5}),(\d{1,3}),")
_NOT_HEADER = re.compile(rb"[^0-9,]")
_HEADER_BYTES = len("+RCV=65535,240,")
_SIGNAL = re.compile(rb",(-?\d{1,3}),(-?\d{1,3})\r\n")
_NOT_SIGNAL = re.compile(rb"[^0-9,\r-]")
_SIGNAL_BYTES = len(",-999,-999\r\n")
_LINE_END = re.compile(rb"[\r\n]")
_LINE = re.compile(rb"\+([A-Z]+)(?:=([^\r\n]*))?\r\n")
_SEND = re.compile(rb"AT\+SEND=(\d{1,5}),(\d{1,3}),(.*)\r\n", re.DOTALL)
_COMMAND = re.compile(rb"AT(?:\+([A-Z]+)(?:(\?)|=([^\r\n]*))?)?\r\n")


def _cut(buffer: bytearray) -> Step | None:
    if buffer[0] in b"\r\n":  # blank lines between answers
        return 1, b""
    if b"+RCV=".startswith(buffer[:5]):
        return _cut_received(buffer)
    line = _LINE.match(buffer, 0, LINE_BYTES)
    if line:
        return line.end(), line[0]
    found = _LINE_END.search(buffer, 0, LINE_BYTES)
    if found is None:
        return (
            None if len(buffer) < LINE_BYTES else (1, FrameError("overflow", f"{LINE_BYTES} bytes without a line end"))
        )
    end = found.start()
    if buffer[end] == ord("\r") and len(buffer) == end + 1:
        return None
    return 1, FrameError("format", f"{_text(buffer[:end])!r} is no answer of the modem")


def _cut_received(buffer: bytearray) -> Step | None:
    start = buffer[:_HEADER_BYTES]
    header = _HEADER.match(start)
    if header is None:
        # What is known at the first byte that is wrong is the same however the bytes were split.
        wrong = _NOT_HEADER.search(start, 5)
        if wrong is None and len(start) < _HEADER_BYTES:
            return None
        shown = start[: wrong.end()] if wrong else start
        return 1, FrameError("format", f"{_text(shown)!r}, expected +RCV=<address>,<length>,")
    address, length = int(header[1]), int(header[2])
    if address > 0xFFFF:
        return 1, FrameError("format", f"address {address}, expected at most 65535")
    if length > PAYLOAD_BYTES:
        return 1, FrameError("length", f"{length} bytes declared, expected at most {PAYLOAD_BYTES}")
    end = header.end() + length
    if len(buffer) <= end:
        return None
    if buffer[end] != ord(","):
        return 1, FrameError("length", f"no comma after the {length} bytes declared")
    tail = buffer[end : end + _SIGNAL_BYTES]
    signal = _SIGNAL.match(tail)
    if signal is None:
        wrong = _NOT_SIGNAL.search(tail)
        if wrong is None and len(tail) < _SIGNAL_BYTES:
            return None
        shown = tail[: wrong.end()] if wrong else tail
        return 1, FrameError("format", f"{_text(shown)!r} after the data, expected ,<RSSI>,<SNR> and CR LF")
    return end + signal.end(), bytes(buffer[: end + signal.end()])


def _text(data: bytes | bytearray) -> str:
    return data.decode("latin-1")


def decode(frame: bytes, options: RylrOptions) -> list[Field]:
    """One whole line with CR LF -> `address length payload rssi snr` (payload as latin-1 text; see `unhex`).

    An answer gives `reply` first (`ok`, `ready`, or the setting's name in small letters) and `value` where it has one.
    Raises FrameError: `exception` for +ERR, `length` when the data is not as long as declared, `format`.
    """
    del options
    if not frame.startswith(b"+"):
        raise FrameError("header", f"{_text(frame[:20])!r} does not begin with +")
    if not frame.startswith(b"+RCV"):
        return _answer(frame)
    step = _cut_received(bytearray(frame))
    if step is None:
        raise FrameError("length", f"{_text(frame)!r} is not finished")
    taken, item = step
    if isinstance(item, FrameError):
        raise item
    if taken != len(frame):
        raise FrameError("length", f"{len(frame) - taken} bytes after a whole line")
    address, length, rest = frame.removeprefix(b"+RCV=").split(b",", 2)
    payload, signal = rest[: int(length)], rest[int(length) + 1 :]
    rssi, snr = signal.split(b",")
    return [
        Field("address", int(address), "1"),
        Field("length", int(length), "1"),
        Field("payload", _text(payload), ""),
        Field("rssi", int(rssi), "dBm"),
        Field("snr", int(snr), "dB"),
    ]


def _answer(frame: bytes) -> list[Field]:
    line = _LINE.fullmatch(frame)
    if line is None:
        raise FrameError("format", f"{_text(frame[:40])!r}, expected +<NAME> or +<NAME>=<value> and CR LF")
    name, value = _text(line[1]), None if line[2] is None else _text(line[2])
    if name == "ERR":
        code = int(value) if value and value.isdecimal() else 0
        raise FrameError("exception", f"+ERR={value}: {ERRORS.get(code, 'not in the guide')}")
    fields = [Field("reply", name.lower(), "")]
    return fields if value is None else [*fields, Field("value", value, "")]


def unhex(payload: str) -> bytes:
    """The bytes of a payload that a node sent as hex text. Raises FrameError `format`."""
    if not re.fullmatch(r"(?:[0-9A-Fa-f]{2})*", payload):
        raise FrameError("format", f"payload {payload[:40]!r} is not hex text of whole bytes")
    return bytes.fromhex(payload)


def payload(packet: Mapping[str, Field]) -> bytes:
    """What a node sent as hex text (see Modem.payload). Raises FrameError `format`."""
    return unhex(packet["payload"].value)


def send(address: int, payload: str | bytes) -> bytes:
    """Send at most 240 bytes to a node (0: to all). Text is sent as latin-1. Raises ValueError when it cannot be sent."""
    data = payload.encode("latin-1") if isinstance(payload, str) else payload
    if not 0 <= address <= 0xFFFF:
        raise ValueError(f"address is {address}, expected 0 to 65535")
    if not 0 < len(data) <= PAYLOAD_BYTES:
        raise ValueError(f"payload has {len(data)} bytes, expected 1 to {PAYLOAD_BYTES}")
    return b"AT+SEND=%d,%d,%b\r\n" % (address, len(data), data)


def write(name: str, value: str | int) -> bytes:
    """Write a setting, as `write("NETWORKID", 18)`."""
    return f"AT+{name}={value}\r\n".encode("ascii")


def query(name: str) -> bytes:
    """Ask for a setting."""
    return f"AT+{name}?\r\n".encode("ascii")


def test() -> bytes:
    """Ask whether the modem listens; it answers +OK."""
    return b"AT\r\n"


def reset() -> bytes:
    """Restart it; it says +READY when it is back."""
    return b"AT+RESET\r\n"


def recognise(frame: bytes) -> list[Field]:
    """Read a command back (see Driver.recognise)."""
    if not frame.startswith(b"AT"):
        return []
    if sent := _SEND.fullmatch(frame):
        address, length, payload = int(sent[1]), int(sent[2]), sent[3]
        if length != len(payload):
            raise FrameError("length", f"{length} bytes declared, {len(payload)} given")
        return [
            Field("command", "send", ""),
            Field("address", address, "1"),
            Field("length", length, "1"),
            Field("payload", _text(payload), ""),
        ]
    command = _COMMAND.fullmatch(frame)
    if command is None or command[1] == b"SEND":
        raise FrameError("format", f"{_text(frame[:40])!r} is no AT command with CR LF")
    name, asked, value = (None if part is None else _text(part) for part in command.groups())
    if name is None:
        return [Field("command", "test", "")]
    if asked or value == "?":  # how other modems are asked: this one refuses it
        return [Field("command", "query", ""), Field("name", name, "")]
    if value is None:
        return [Field("command", name.lower(), "")]
    return [Field("command", "write", ""), Field("name", name, ""), Field("value", value, "")]


_BANDWIDTHS = {125: 7, 250: 8, 500: 9}


class RylrSettings(ModemSettings):
    """A settings file (firmware-configs/): radio channel and identity of a modem. All nodes of a network share all but `address`
    and `power_dbm`. A model narrows what its guide allows; what the law allows where the gateway stands is checked here."""

    band_hz: int
    spreading_factor: int
    bandwidth_khz: Literal[125, 250, 500]
    coding_rate: Annotated[int, Constraint(ge=5, le=8, description="denominator of 4/n")]
    preamble: int
    network_id: int
    address: Annotated[int, Constraint(ge=0, le=0xFFFF)]
    power_dbm: int

    @model_validator(mode="after")
    def _lawful(self) -> Self:
        check("band_hz", self.band_hz, self.band_hz, self.bandwidth_khz, self.power_dbm)
        return self

    @property
    def carrier(self) -> tuple[int, int]:
        return self.band_hz, self.bandwidth_khz

    @property
    def on_air(self) -> Channel:
        return Channel(
            centre_hz=self.band_hz,
            spreading_factor=self.spreading_factor,
            bandwidth_khz=self.bandwidth_khz,
            coding_rate=self.coding_rate,
            preamble=self.preamble,
            added_bytes=ADDED_BYTES,
            hex_text=True,
        )

    def steps(self) -> tuple[SettingStep, ...]:
        """In the order that the guide gives: address, network, band, parameters, then power."""
        parameter = f"{self.spreading_factor},{_BANDWIDTHS[self.bandwidth_khz]},{self.coding_rate - 4},{self.preamble}"
        values = (
            ("ADDRESS", self.address),
            ("NETWORKID", self.network_id),
            ("BAND", self.band_hz),
            ("PARAMETER", parameter),
            ("CRFOP", self.power_dbm),
        )
        return tuple(
            SettingStep(query=query(name), expected=f"+{name}={value}\r\n".encode("ascii"), write=write(name, value))
            for name, value in values
        )


TOLD = frozenset({"ok", "ver", "address", "networkid", "band", "parameter"})
"""Answers by which `scan` knows the family; other modems have lines of the same form."""

SISTER = (b"+VER=RYLR89", b"+VER=RYLR40")
"""How the RYLR896 and RYLR406 say their version."""


def framer() -> ScanFramer:
    return ScanFramer(_cut, head((b"+\r\n",)))


COMMANDS: dict[str, Callable[..., bytes]] = {"send": send, "write": write, "query": query, "test": test, "reset": reset}
