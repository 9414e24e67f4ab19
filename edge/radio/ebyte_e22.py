"""Ebyte E22 (868 MHz, transparent mode) on a UART, 9600 8N1: bytes as the node sent them, and one more for the signal strength.

Sources: Ebyte, E22-900T22D User Manual (registers, commands); E22-xxxT22S manual of 2024 (software mode switching, REG1 bit 4;
RSSI as -(256 - raw) dBm); the manual of 2018 has -raw/2. Nothing marks where a packet ends but a pause on the line, and nothing
but the radio's own CRC guards it: a node should add a counter and a check of its own.
"""

from typing import Annotated, Literal, Self

from pydantic import Field as Constraint
from pydantic import model_validator

from edge.radio._eu868 import check
from edge.sensors.base import Driver, Field, FrameError, Identify, Modem, ModemSettings, Options, SettingStep, Sheet

PACKET_BYTES = 240
REFUSED = b"\xff\xff\xff"
_WRITE, _READ, _WRITE_TEMPORARILY = 0xC0, 0xC1, 0xC2
_ON_AIR = b"\xc0\xc1\xc2\xc3"
_SWITCHED = b"\xc1\xc2\xc3\x02"
_MODES = ("transparent", "wor", "configuration", "sleep")
_CHANNEL = 5
_REGISTERS = 9
_LOWEST_HZ = 850_125_000
_STEP_HZ = 1_000_000
_BANDWIDTH_KHZ = 500

RssiRule = Literal["-(256-raw)", "-raw/2"]


class EbyteE22Options(Options):
    """`rssi_byte`: whether each packet ends with a byte of signal strength (REG3 bit 7), as the settings file says. Where it is
    not said, bytes in the form of an answer or a command are taken for one, and others are a packet without that byte.
    `rssi_rule`: what such a byte means."""

    rssi_byte: bool | None = None
    rssi_rule: RssiRule = "-(256-raw)"


def _rssi(raw: int, rule: RssiRule) -> float:
    return raw - 256 if rule == "-(256-raw)" else -raw / 2


def is_answer(frame: bytes) -> bool:
    """Whether bytes have the form of an answer to a command. A packet's payload can have it too."""
    if frame == REFUSED or (len(frame) == 5 and frame.startswith(_SWITCHED)):
        return True
    return len(frame) > 3 and frame[0] == _READ and frame[2] == len(frame) - 3


def decode(frame: bytes, options: EbyteE22Options) -> list[Field]:
    """All bytes up to a pause -> `payload_hex`, and `rssi` where a byte of it follows.

    An answer gives `reply` first: `rssi` (with `rssi`, or `rssi_noise` and `rssi_packet`), `registers` (`start`, `data`) or `mode`
    (`value`). Raises FrameError: `exception` for a refusal, `length`.
    """
    if options.rssi_byte is None and is_answer(frame):
        return _answer(frame, options.rssi_rule)
    if options.rssi_byte is None and recognise(frame):
        raise FrameError("header", "a command, no packet")
    if not frame or len(frame) > PACKET_BYTES + 1:
        raise FrameError("length", f"{len(frame)} bytes, expected 1 to {PACKET_BYTES} and the signal strength")
    if not options.rssi_byte:
        return [Field("payload_hex", frame.hex().upper(), "")]
    return [
        Field("payload_hex", frame[:-1].hex().upper(), ""),
        Field("rssi", _rssi(frame[-1], options.rssi_rule), "dBm"),
    ]


def _answer(frame: bytes, rule: RssiRule) -> list[Field]:
    if frame == REFUSED:
        raise FrameError("exception", "the module refuses the command")
    if frame.startswith(_SWITCHED) and len(frame) == 5:
        mode = _MODES[frame[4]] if frame[4] < len(_MODES) else str(frame[4])
        return [Field("reply", "mode", ""), Field("value", mode, "")]
    start, data = frame[1], frame[3:]
    # Registers 0 and 1 are the address in configuration mode; read one or two at once, they are the signal of normal mode.
    if start == 0 and len(data) == 1:
        return [Field("reply", "rssi", ""), Field("rssi", _rssi(data[0], rule), "dBm")]
    if start == 0 and len(data) == 2:
        return [
            Field("reply", "rssi", ""),
            Field("rssi_noise", _rssi(data[0], rule), "dBm"),
            Field("rssi_packet", _rssi(data[1], rule), "dBm"),
        ]
    return [
        Field("reply", "registers", ""),
        Field("start", start, "1"),
        Field("data", data.hex().upper(), ""),
    ]


def read_registers(start: int, length: int) -> bytes:
    """Configuration mode: read registers; it answers C1, start, length and their bytes."""
    return bytes((_READ, start, length))


def write_registers(start: int, data_hex: str, temporary: bool = False) -> bytes:
    """Configuration mode: write registers for good, or until the next restart. It answers as to a read."""
    data = bytes.fromhex(data_hex)
    return bytes((_WRITE_TEMPORARILY if temporary else _WRITE, start, len(data))) + data


def read_channel() -> bytes:
    """Configuration mode: read the channel's register."""
    return read_registers(_CHANNEL, 1)


def write_channel(channel: int) -> bytes:
    """Configuration mode: write the channel; at 868 MHz it is 850.125 MHz + 1 MHz each."""
    return write_registers(_CHANNEL, f"{channel:02X}")


def read_ambient_rssi() -> bytes:
    """Normal mode, with REG1 bit 5: how loud the channel is now."""
    return _ON_AIR + bytes((0, 1))


def read_rssi() -> bytes:
    """As `read_ambient_rssi`, and of the last packet."""
    return _ON_AIR + bytes((0, 2))


def switch_mode(mode: str) -> bytes:
    """Switch to `transparent`, `wor`, `configuration` or `sleep`, where REG1 bit 4 allows it; else it is sent on the air."""
    return _ON_AIR + bytes((2, _MODES.index(mode)))


def recognise(frame: bytes) -> list[Field]:
    """Read a command back (see Driver.recognise). A packet can look like one."""
    if frame.startswith(_ON_AIR) and len(frame) == len(_ON_AIR) + 2:
        return _recognise_on_air(*frame[len(_ON_AIR) :])
    if len(frame) < 3:
        return []
    head, start, length = frame[:3]
    data = frame[3:]
    if head == _READ and not data:
        if (start, length) == (_CHANNEL, 1):
            return [Field("command", "read_channel", "")]
        return [Field("command", "read_registers", ""), Field("start", start, "1"), Field("length", length, "1")]
    if head not in (_WRITE, _WRITE_TEMPORARILY) or len(data) != length or not data:
        return []
    if (head, start, length) == (_WRITE, _CHANNEL, 1):
        return [Field("command", "write_channel", ""), Field("channel", data[0], "1")]
    return [
        Field("command", "write_registers", ""),
        Field("start", start, "1"),
        Field("data", data.hex().upper(), ""),
        Field("temporary", head == _WRITE_TEMPORARILY, ""),
    ]


def _recognise_on_air(start: int, length: int) -> list[Field]:
    if (start, length) == (0, 1):
        return [Field("command", "read_ambient_rssi", "")]
    if (start, length) == (0, 2):
        return [Field("command", "read_rssi", "")]
    if start == 2 and length < len(_MODES):
        return [Field("command", "switch_mode", ""), Field("mode", _MODES[length], "")]
    return []


_RATES = {300: 0, 1200: 1, 2400: 2, 4800: 3, 9600: 4}
_POWERS = {22: 0, 17: 1, 13: 2, 10: 3}
_UART_9600_8N1 = 0b011_00_000
_SWITCH_BY_SOFTWARE = 0b0001_0000
_RSSI_BYTE = 0b1000_0000
_FACTORY_WOR_CYCLE = 0b011


class Settings(ModemSettings):
    """A settings file (firmware-configs/) of an E22-900T22: other E22 have other powers behind the same numbers.

    `address` and `network_id` must be those of the nodes. The manual does not give the bandwidth; 500 kHz is the chip's widest.
    Faster air rates than 9600 leave no pause between packets by which they could be told apart.
    """

    driver: Literal["ebyte_e22"]
    model: Literal["E22-900T22"]
    channel: Annotated[int, Constraint(ge=0, le=80)]
    air_rate_bps: Literal[300, 1200, 2400, 4800, 9600]
    address: Annotated[int, Constraint(ge=0, le=0xFFFF)]
    network_id: Annotated[int, Constraint(ge=0, le=0xFF)]
    power_dbm: Literal[22, 17, 13, 10]
    rssi_byte: bool

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        check("channel", self.channel, *self.carrier, self.power_dbm)
        return self

    @property
    def carrier(self) -> tuple[int, int]:
        return _LOWEST_HZ + self.channel * _STEP_HZ, _BANDWIDTH_KHZ

    def airtime_s(self, size: int) -> float:
        """The manual names no spreading factor: the payload at the air rate, without what is put around it."""
        return 8 * size / self.air_rate_bps

    def registers(self) -> bytes:
        """ADDH ADDL NETID REG0 REG1 REG2 REG3."""
        return self.address.to_bytes(2) + bytes(
            (
                self.network_id,
                _UART_9600_8N1 | _RATES[self.air_rate_bps],
                _SWITCH_BY_SOFTWARE | _POWERS[self.power_dbm],
                self.channel,
                (_RSSI_BYTE if self.rssi_byte else 0) | _FACTORY_WOR_CYCLE,
            )
        )

    def steps(self) -> tuple[SettingStep, ...]:
        """All registers at once; the key (registers 7 and 8) cannot be read back and is left alone."""
        registers = self.registers()
        return (
            SettingStep(
                query=read_registers(0, len(registers)),
                expected=bytes((_READ, 0, len(registers))) + registers,
                write=write_registers(0, registers.hex()),
            ),
        )

    def options(self) -> dict[str, bool]:
        return {"rssi_byte": self.rssi_byte}


def _described(answer: bytes) -> list[Field] | None:
    """For `scan`: what is in its flash. It says so only with its jumpers at configuration; else the question goes on the air."""
    if not is_answer(answer) or answer[:3] != read_registers(0, _REGISTERS):
        return None
    return [Field("registers", answer[3:].hex().upper(), "")]


DRIVER = Driver(
    name="ebyte_e22",
    title="Ebyte E22-900T22 LoRa modem, transparent mode",
    link="modem",
    quantities=("rssi",),
    options=EbyteE22Options,
    decode=decode,
    baudrate=9600,
    identify=Identify(requests=(read_registers(0, _REGISTERS),), reply_s=0.3, describe=_described),
    source="Ebyte, E22-900T22D User Manual; E22-xxxT22S User Manual, 2024",
    sheet=Sheet(
        wiring="Supply 3.3 to 5 V as the board says, levels of 3.3 V. Antenna before power. The first time M0 to "
        "ground and M1 to 3.3 V; when the log says that the settings were written and read back, M1 to "
        "ground too.",
        limits="A packet is known by the pause behind it. Nothing but the radio's CRC guards the bytes: use "
        "authenticated nodes.",
        faults="Signal strength off by a factor: the manuals of 2018 and later give the byte another meaning "
        "(`rssi_rule`). FF FF FF is a refused command.",
    ),
    commands={
        "read_registers": read_registers,
        "write_registers": write_registers,
        "read_channel": read_channel,
        "write_channel": write_channel,
        "read_ambient_rssi": read_ambient_rssi,
        "read_rssi": read_rssi,
        "switch_mode": switch_mode,
    },
    recognise=recognise,
    modem=Modem(
        settings=Settings,
        before=(switch_mode("configuration"),),
        after=((switch_mode("transparent"), _SWITCHED + b"\x00"),),
        pause_s=0.05,
        is_answer=is_answer,
        asks_on_air=True,
    ),
)
