"""RAKwireless RAK3172 (RUI3 firmware) as a point-to-point LoRa modem, AT commands on a UART, 115200 8N1.

Source: RAKwireless, RUI3 AT Command Manual (AT+NWM, AT+P2P, AT+SYNCWORD, AT+PRECV, AT+PSEND; return codes). A packet arrives as
`+EVT:RXP2P:<RSSI>:<SNR>:<hex>`. Firmware before RUI3 says it in two lines, `+EVT:RXP2P, RSSI -60, SNR 11` and `+EVT:<hex>`; one
public project has the length in bytes before the digits. Both are read.
"""

import re
from typing import Annotated, Literal

from pydantic import Field as Constraint

from edge.radio._eu868 import LoraSettings
from edge.radio._lines import LINE_BYTES, cutter, framer_of, line_end, shown
from edge.sensors._framing import Step
from edge.sensors.base import Driver, Field, FrameError, Identify, Modem, Options, SettingStep, Sheet

ERRORS = {
    "AT_ERROR": "unknown command, or it failed",
    "AT_PARAM_ERROR": "a parameter is not allowed",
    "AT_BUSY_ERROR": "busy, or receiving",
    "AT_TEST_PARAM_OVERFLOW": "the parameter is too long",
    "AT_NO_CLASSB_ENABLE": "class B is not enabled",
    "AT_NO_NETWORK_JOINED": "it has joined no network",
    "AT_RX_ERROR": "an error on reception",
    "AT_DUTYCYCLE_RESTRICTED": "its own duty cycle limit",
    "AT_MODE_NO_SUPPORT": "not in this working mode",
    "AT_COMMAND_NOT_FOUND": "unknown command",
}
"""The manual's return codes; the last two are seen in public logs."""

LISTEN_FOR_EVER = 65534
"""Parameter of AT+PRECV: receive until told otherwise. 65535 ends with the first packet."""


class Rak3172Options(Options):
    """A modem needs none: what it is set to is in its settings file."""


_EVENT = b"+EVT:RXP2P"
_PACKET = re.compile(rb"\+EVT:RXP2P:(-?\d{1,4}):(-?\d{1,3}):(?:(\d{1,3}):)?((?:[0-9A-Fa-f]{2})*)")
_TWO_LINES = re.compile(
    rb"\+EVT:RXP2P, RSSI (-?\d{1,4}), SNR (-?\d{1,3})[\r\n]+\+EVT:()((?:[0-9A-Fa-f]{2})*)"
)  # the empty group is the length
_FIRST_LINE = re.compile(rb"\+EVT:RXP2P, RSSI (-?\d{1,4}), SNR (-?\d{1,3})[\r\n]*")
_SECOND_LINE = re.compile(rb"\+EVT:((?:[0-9A-Fa-f]{2})+)")
_SECOND_BEGINS = b"+EVT:"
_DIGITS = b"0123456789ABCDEFabcdef"
_VALUE = re.compile(rb"AT\+([A-Z0-9]+)=([^\r\n]*)|(\d[\d:,]*)")
_BANNER = (b"RAKwireless ", b"Version:", b"---", b"===", b"LoRa (R) ")
_COMMAND = re.compile(rb"AT(?:\+([A-Z0-9]+)(?:=([^\r\n]*))?|Z)?\r\n")

_cut_line = cutter(_EVENT)


def _cut(buffer: bytearray) -> Step | None:
    step = _cut_line(buffer)
    if step is None or not isinstance(step[1], bytes) or _FIRST_LINE.fullmatch(step[1]) is None:
        return step
    end = begin = step[0]
    while begin < len(buffer) and buffer[begin] in b"\r\n" and begin < end + 4:
        begin += 1
    second = buffer[begin : begin + len(_SECOND_BEGINS) + 1]
    if len(second) <= len(_SECOND_BEGINS) and _SECOND_BEGINS.startswith(second[: len(_SECOND_BEGINS)]):
        return None
    if not second.startswith(_SECOND_BEGINS) or second[-1] not in _DIGITS:
        return end, FrameError("length", "a packet without its second line")
    last = line_end(buffer, begin)
    if last is None:
        return None if len(buffer) < begin + LINE_BYTES else (end, FrameError("overflow", "a second line without end"))
    return last, bytes(buffer[:last])


def decode(frame: bytes, options: Rak3172Options) -> list[Field]:
    """One line with its end (or a packet's two) -> `payload_hex rssi snr`. Of two lines that were parted, the first gives `reply`
    (`signal`), `rssi`, `snr`, the second `payload_hex`.

    An answer gives `reply` first (`ok`, `tx_done`, `ready` after a restart, `banner`, or a setting's name in small letters) and
    `value` where it has one. Raises FrameError: `no_data` when a reception has ended without a packet, `exception` for an AT
    error, `length` when the data is not as long as declared, `header`, `format`.
    """
    del options
    line = frame.rstrip(b"\r\n")
    if line.startswith(_EVENT):
        return _event(line)
    if second := _SECOND_LINE.fullmatch(line):
        return [Field("payload_hex", second[1].decode("ascii").upper(), "")]
    if line == b"+EVT:TXP2P DONE":
        return [Field("reply", "tx_done", "")]
    if line == b"OK":
        return [Field("reply", "ok", "")]
    text = line.decode("latin-1")
    if text in ERRORS:
        raise FrameError("exception", f"{text}: {ERRORS[text]}")
    if re.fullmatch(r"AT_[A-Z_]+", text):
        raise FrameError("exception", text)
    if line.startswith(b"Current Work Mode:"):
        return [Field("reply", "ready", ""), Field("value", text.partition(":")[2].strip(" ."), "")]
    if line.startswith(_BANNER):
        return [Field("reply", "banner", "")]
    if value := _VALUE.fullmatch(line):
        name, said, bare = (None if part is None else part.decode("latin-1") for part in value.groups())
        return [Field("reply", (name or "value").lower(), ""), Field("value", bare or said or "", "")]
    raise FrameError("header", f"{shown(line)} is no line of the modem")


def _event(line: bytes) -> list[Field]:
    if line == b"+EVT:RXP2P RECEIVE TIMEOUT":
        raise FrameError("no_data", "the time to receive has ended, and nothing was heard")
    if line == b"+EVT:RXP2P RECEIVE ERROR":
        raise FrameError("no_data", "a packet could not be received")
    if first := _FIRST_LINE.fullmatch(line):
        return [Field("reply", "signal", ""), Field("rssi", int(first[1]), "dBm"), Field("snr", int(first[2]), "dB")]
    packet = _PACKET.fullmatch(line) or _TWO_LINES.fullmatch(line)
    if packet is None:
        raise FrameError("format", f"{shown(line)}, expected +EVT:RXP2P:<RSSI>:<SNR>:<hex>")
    rssi, snr, declared, digits = packet.groups()
    if declared and int(declared) * 2 != len(digits):
        raise FrameError("length", f"{int(declared)} bytes declared, {len(digits) // 2} given")
    return [
        Field("payload_hex", digits.decode("ascii").upper(), ""),
        Field("rssi", int(rssi), "dBm"),
        Field("snr", int(snr), "dB"),
    ]


def write(name: str, value: str | int) -> bytes:
    """Write a setting, as `write("PRECV", 65534)`."""
    return f"AT+{name}={value}\r\n".encode("ascii")


def query(name: str) -> bytes:
    """Ask for a setting."""
    return f"AT+{name}=?\r\n".encode("ascii")


def send(payload_hex: str) -> bytes:
    """Send 1 to 255 bytes; not while it receives for ever. Raises ValueError when they cannot be sent."""
    data = bytes.fromhex(payload_hex)
    if not 0 < len(data) <= 255:
        raise ValueError(f"payload has {len(data)} bytes, expected 1 to 255")
    return write("PSEND", data.hex().upper())


def test() -> bytes:
    """Ask whether the modem listens to commands; it answers OK."""
    return b"AT\r\n"


def reset() -> bytes:
    """Restart it; it ends its banner with its working mode."""
    return b"ATZ\r\n"


def recognise(frame: bytes) -> list[Field]:
    """Read a command back (see Driver.recognise)."""
    if not frame.startswith(b"AT") or frame.startswith(b"AT_"):
        return []
    command = _COMMAND.fullmatch(frame)
    if command is None:
        raise FrameError("format", f"{shown(frame)} is no AT command with CR LF")
    name, value = (None if part is None else part.decode("latin-1") for part in command.groups())
    if name is None:
        return [Field("command", "test" if frame == test() else "reset", "")]
    if value == "?":
        return [Field("command", "query", ""), Field("name", name, "")]
    if name == "PSEND":
        if value is None or not re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", value):
            raise FrameError("format", f"{shown(frame)}, expected AT+PSEND=<hex>")
        return [Field("command", "send", ""), Field("payload_hex", value.upper(), "")]
    if value is None:
        return [Field("command", name.lower(), "")]
    return [Field("command", "write", ""), Field("name", name, ""), Field("value", value, "")]


_BANDWIDTHS = {125: 0, 250: 1, 500: 2}


class Settings(LoraSettings):
    """A settings file (firmware-configs/) of a RAK3172. `sync_word` has four hex digits, as the chip's two registers: 1424 is
    the one byte 12 of other modems, 3444 is 34, LoRaWAN's."""

    driver: Literal["rak3172"]
    sync_word: Annotated[str, Constraint(pattern="^[0-9A-F]{4}$")]
    power_dbm: Annotated[int, Constraint(ge=5, le=22)]

    def steps(self) -> tuple[SettingStep, ...]:
        """Point-to-point mode first: changing it restarts the modem. The firmware gives the bandwidth as its number or in kHz."""
        channel, rest = f"{self.frequency_hz}:{self.spreading_factor}", f"{self.coding_rate - 5}:{self.preamble}"
        parameter = f"{channel}:{_BANDWIDTHS[self.bandwidth_khz]}:{rest}:{self.power_dbm}"
        in_khz = f"{channel}:{self.bandwidth_khz}:{rest}:{self.power_dbm}"
        return (
            SettingStep(query=query("NWM"), expected=b"AT+NWM=0\r\n", write=write("NWM", 0), write_s=5.0),
            SettingStep(
                query=query("P2P"),
                expected=write("P2P", parameter),
                also=(write("P2P", in_khz),),
                write=write("P2P", parameter),
            ),
            SettingStep(
                query=query("SYNCWORD"),
                expected=write("SYNCWORD", self.sync_word),
                write=write("SYNCWORD", self.sync_word),
            ),
        )


def _described(line: bytes) -> list[Field] | None:
    """For `scan`: its version and settings, not the question that another modem echoes. The first question ends what other questions
    left in its line buffer."""
    try:
        reply, *value = decode(line, Rak3172Options())
    except FrameError:
        return None
    if (
        reply.name != "reply"
        or not value
        or value[0].value == "?"
        or (reply.value == "ver" and "RAK3172" not in str(value[0].value))
    ):
        return None
    return [Field(str(reply.value), value[0].value, "")]


def _ends(line: bytes) -> bool:
    return line.startswith((b"OK", b"AT_", b"Current Work Mode:"))


DRIVER = Driver(
    name="rak3172",
    title="RAKwireless RAK3172 LoRa modem, point to point (RUI3 AT commands)",
    link="modem",
    quantities=("rssi", "snr"),
    options=Rak3172Options,
    decode=decode,
    framer=lambda _options: framer_of(_cut),
    baudrate=115200,
    identify=Identify(
        requests=(query("NWM"), query("VER")), details=(query("VER"), query("P2P")), reply_s=0.5, describe=_described
    ),
    source="RAKwireless, RUI3 AT Command Manual",
    sheet=Sheet(
        wiring="3.3 V supply, 3.3 V levels; 5 V destroys it. Antenna before power.",
        limits="Firmware RUI3, in point-to-point mode.",
        faults="Older firmware prints an event on two lines. AT_PARAM_ERROR and AT_BUSY_ERROR name what was refused.",
    ),
    commands={"send": send, "write": write, "query": query, "test": test, "reset": reset},
    recognise=recognise,
    modem=Modem(
        settings=Settings,
        before=(write("PRECV", 0),),  # while it receives for ever, it takes no settings
        listen=write("PRECV", LISTEN_FOR_EVER),
        listening=(b"OK\r\n", b"AT_BUSY_ERROR\r\n"),
        ends=_ends,
    ),
)
