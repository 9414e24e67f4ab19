"""KELLER Series 30 pressure probes by the KELLER bus on RS485, 9600 8N1 (or 115200): the probe's other protocol, same wire.

Source: KELLER, Description of the communication protocol for Series 30 and Series 40 pressure transmitters, chapter 5. A message
is `address | function | data | CRC`, the CRC that of Modbus but high byte first; an exception has 128 added to the function. No
message says its length: it follows from the function. Address 250 is answered by any probe, so only one may be on the line.
After a power-up everything but F48 (initialise) is answered by exception 32. Adapters for two wires return what is sent.
"""

import re
import struct
from typing import Self

from pydantic import Field as Constraint
from pydantic import field_validator, model_validator

from edge.sensors import _keller as keller
from edge.sensors import _modbus_rtu as rtu
from edge.sensors._crc import TABLE
from edge.sensors._crc import crc16 as crc_of
from edge.sensors._framing import ScanFramer, Step, head
from edge.sensors.base import Driver, Field, FrameError, Identify, Sheet

ANY = 250
F30, F32, F48, F66, F69, F73, F74, F95 = 30, 32, 48, 66, 69, 73, 74, 95

_REPLY_BYTES = {F30: 8, 31: 5, F32: 5, 33: 5, F48: 10, F66: 5, F69: 8, F73: 9, F74: 9, F95: 5, 100: 9, 101: 5}
_REQUEST_BYTES = {F30: 5, F32: 5, F48: 4, F66: 5, F69: 4, F73: 5, F74: 5, F95: 5}
_EXCEPTION, _EXCEPTION_BYTES = 0x80, 5
_NOT_INITIALISED = 32
_EXCEPTIONS = {
    1: "not possible now",
    2: "illegal channel, coefficient or parameter",
    3: "message of wrong length",
    4: "no valid data",
    _NOT_INITIALISED: "not initialised: the probe has been without power",
}
_POWER_UP, _STATUS = 0x80, {"CH0": 0x01, "P1": 0x12, "P2": 0x24, "T": 0x08, "TOB1": 0x10, "TOB2": 0x20}
"""Status bits that spoil a channel: its own, and for a pressure that of the temperature it is compensated with (5.1)."""

_NAMES = {number: name for name, number in keller.CHANNELS.items()}


def crc16(data: bytes | bytearray) -> bytes:
    """The two CRC bytes as sent, high byte first."""
    return rtu.crc16(data)[::-1]


class KellerBusOptions(keller.KellerOptions):
    """`address`: the probe's, or 250 for any. `channel`: the one that is read."""

    address: int = Constraint(default=ANY, ge=1, le=255)
    channel: str = "P1"

    @field_validator("channel")
    @classmethod
    def _known(cls, channel: str) -> str:
        if channel not in keller.CHANNELS:
            raise ValueError(f"found {channel!r}, expected one of {', '.join(keller.CHANNELS)}")
        return channel

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if not self.needs() <= {self.channel}:
            raise ValueError(
                f"compensation: {self.compensation!r} needs {', '.join(sorted(self.needs()))}, found channel {self.channel!r}"
            )
        return self


_REPLIES, _REFUSALS = bytes(_REPLY_BYTES), bytes(function | _EXCEPTION for function in _REPLY_BYTES)
_FUNCTIONS = re.compile(
    b"[%b](?:(?<=[%b])|(?=[%b]|\\Z))" % tuple(map(re.escape, (_REPLIES + _REFUSALS, _REPLIES, bytes(_EXCEPTIONS))))
)
"""The function byte of a reply or request, or of an exception with a code that is known (or not there yet)."""


def _data(function: int) -> tuple[int, ...]:
    """How many bytes of data a message with this function has, and how many more the longer one of request and reply."""
    if function & _EXCEPTION:
        return (_EXCEPTION_BYTES - 4,)
    reply = _REPLY_BYTES[function]
    short, long = sorted((reply, _REQUEST_BYTES.get(function, reply)))
    return (short - 4, long - short)[: 1 + (long > short)]


_DATA = {function: _data(function) for function in _REPLIES + _REFUSALS}
_OF_ADDRESS = [crc_of(bytes((address, 0)), 0xFFFF) ^ crc_of(bytes(2), 0xFFFF) for address in range(256)]
_OF_FUNCTION = [crc_of(bytes((0, function)), 0xFFFF) for function in range(256)]
"""The two bytes' parts in the CRC over both, which is their sum modulo 2."""


def _framer(options: KellerBusOptions) -> ScanFramer:
    if options.address == ANY:
        return _AnyAddress(_cut)
    return ScanFramer(_cut, head((bytes((options.address,)), _REPLIES + _REFUSALS)))


class _AnyAddress(ScanFramer):
    """Without a known address 24 bytes of 256 may be the function of a message. What stands where one is due is cut, and its misfit
    told; behind noise a misfit is more noise, and passed over here."""

    def _next(self, buffer: bytearray, noisy: bool) -> int:
        size = len(buffer)
        if size < 2 or (not noisy and buffer[1] in _DATA):
            return 0
        for found in _FUNCTIONS.finditer(buffer, 1):
            at = found.end()
            function = buffer[at - 1]
            crc = _OF_FUNCTION[function] ^ _OF_ADDRESS[buffer[at - 2]]
            for more in _DATA[function]:
                end = at + more
                if end + 2 > size:
                    return found.start() - 1
                for byte in buffer[at:end]:
                    crc = (crc >> 8) ^ TABLE[(crc ^ byte) & 0xFF]
                at = end
                if crc >> 8 == buffer[end] and crc & 0xFF == buffer[end + 1]:
                    return found.start() - 1
        return size - 1  # its last byte may be an address


def _cut(buffer: bytearray) -> Step | None:
    if len(buffer) < 2:
        return None
    function = buffer[1]
    size = _EXCEPTION_BYTES if function & _EXCEPTION else _REPLY_BYTES[function]
    sent = _REQUEST_BYTES.get(function, size)
    if sent != size:
        if len(buffer) < sent:
            return None
        # What we sent ourselves; a reply as long as it (F32, F66, F95) is not told from it, and is nothing to measure either.
        if _misfit(buffer[:sent]) is None:
            return sent, b""
    if len(buffer) < size:
        return None
    if error := _misfit(buffer[:size]):
        return 1, error
    return size, bytes(buffer[:size])


def _misfit(frame: bytes | bytearray) -> FrameError | None:
    came, computed = frame[-2:], crc16(frame[:-2])
    if came != computed:
        return FrameError("crc", f"CRC {came.hex().upper()}, computed {computed.hex().upper()}")
    return None


def decode(frame: bytes, options: KellerBusOptions) -> list[Field]:
    """One message -> the quantity of the channel asked (see `_keller.fields`) and `status`; any other function's reply gives
    `reply` first.

    Raises FrameError: `length crc header format exception`; `sensor_state` when the probe waits to be initialised; `warming_up`
    in power-up mode; `sensor_fault` for what the status says of the channel, or NaN; `saturated`. The status stays usable.
    """
    if len(frame) < _EXCEPTION_BYTES:
        raise FrameError("length", f"{len(frame)} bytes, a reply has at least {_EXCEPTION_BYTES}")
    function = frame[1]
    expected = _EXCEPTION_BYTES if function & _EXCEPTION else _REPLY_BYTES.get(function)
    if expected is not None and len(frame) < expected:
        raise FrameError("length", f"{len(frame)} bytes of {expected}")
    if error := _misfit(frame):
        raise error
    if expected is None:
        raise FrameError("format", f"function {function}, expected one of {', '.join(map(str, _REPLY_BYTES))}")
    if len(frame) > expected:
        raise FrameError("length", f"{len(frame)} bytes, expected {expected}")
    if options.address not in (ANY, frame[0]):
        raise FrameError("header", f"reply from address {frame[0]}, asked was {options.address}")
    data = frame[2:-2]
    if function & _EXCEPTION:
        said = f"exception {data[0]} to F{function & ~_EXCEPTION}: {_EXCEPTIONS.get(data[0], 'not in the document')}"
        raise FrameError("sensor_state" if data[0] == _NOT_INITIALISED else "exception", said)
    if function not in (F73, F74):
        return _reply(function, data)
    status = Field("status", data[4], "1")
    try:
        value = keller.from_float(data[:4]) if function == F73 else keller.from_integer(data[:4], options.channel)
        _judge(data[4], options.channel)
    except FrameError as e:
        raise FrameError(e.kind, f"{options.channel}: {e.reason}", (status,)) from e
    return [*keller.fields({options.channel: value}, options), status]


def _judge(status: int, channel: str) -> None:
    if status & _POWER_UP:
        raise FrameError("warming_up", f"status {status:02X}: the probe is in power-up mode")
    if status & _STATUS.get(channel, 0):
        raise FrameError("sensor_fault", f"status {status:02X}: error on the channel or on its temperature")


def _reply(function: int, data: bytes) -> list[Field]:
    if function == F48:
        names = ("class", "group", "year", "week", "buffer", "initialised")
        return [Field("reply", "F48_initialise", ""), *(Field(n, v, "1") for n, v in zip(names, data, strict=True))]
    if function == F69:
        return [Field("reply", "F69_serial_number", ""), Field("serial_number", int.from_bytes(data, "big"), "1")]
    if function == F30:
        return [Field("reply", "F30_coefficient", ""), Field("value", float(f"{struct.unpack('>f', data)[0]:.7g}"), "")]
    if function == F66:
        return [Field("reply", "F66_address", ""), Field("address", data[0], "1")]
    return [Field("reply", f"F{function}", ""), *(Field("value", value, "1") for value in data)]


def _message(address: int, function: int, *data: int) -> bytes:
    body = bytes((address, function, *data))
    return body + crc16(body)


def initialise(address: int = ANY) -> bytes:
    """F48: to be sent once after each power-up."""
    return _message(address, F48)


def read_channel(channel: str = "P1", address: int = ANY) -> bytes:
    """F73: a channel as a float, with the status."""
    return _message(address, F73, keller.CHANNELS[channel])


def read_channel_integer(channel: str = "P1", address: int = ANY) -> bytes:
    """F74: a channel in Pa or hundredths of Cel, with the status."""
    return _message(address, F74, keller.CHANNELS[channel])


def read_coefficient(number: int, address: int = ANY) -> bytes:
    """F30: a calibration value; 80 and 81 are the ends of P1's range in bar."""
    return _message(address, F30, number)


def read_configuration(number: int, address: int = ANY) -> bytes:
    """F32: one byte of the configuration."""
    return _message(address, F32, number)


def read_serial_number(address: int = ANY) -> bytes:
    """F69."""
    return _message(address, F69)


def set_address(new_address: int, address: int = ANY) -> bytes:
    """F66: give the probe another address; 0 at address 250 asks for the present one."""
    return _message(address, F66, new_address)


def zero(command: int = 0, address: int = ANY) -> bytes:
    """F95: 0 takes the present P1 for zero, 1 undoes it; 2 and 3 the same for P2."""
    return _message(address, F95, command)


_COMMANDS = {
    F30: "coefficient",
    F32: "configuration",
    F48: "initialise",
    F66: "set_address",
    F69: "serial_number",
    F95: "zero",
}


def recognise(frame: bytes) -> list[Field]:
    """Read a request back (see Driver.recognise)."""
    if len(frame) < 4 or len(frame) != _REQUEST_BYTES.get(frame[1]) or _misfit(frame):
        return []
    function, data = frame[1], frame[2:-2]
    if function in (F73, F74):
        name = f"F{function}_read_{_NAMES.get(data[0], data[0])}"
        data = b""
    else:
        name = f"F{function}_{_COMMANDS[function]}"
    return [
        Field("command", name, ""),
        Field("address", frame[0], "1"),
        *(Field("argument", value, "1") for value in data),
    ]


DRIVER = Driver(
    name="keller_bus",
    title="KELLER Series 30 pressure and level probes (KELLER bus)",
    link="poll",
    quantities=("water_level", "water_pressure", "water_temperature"),
    options=KellerBusOptions,
    decode=decode,
    framer=_framer,
    setup=lambda options: (initialise(options.address),),
    request=lambda options: read_channel(options.channel, options.address),
    identify=Identify(requests=(initialise(ANY),), reply_s=0.4),
    address=lambda options: None if options.address == ANY else options.address,
    source="KELLER, Description of the communication protocol for Series 30 and Series 40 pressure transmitters",
    sheet=Sheet(
        wiring="The wires of `keller_modbus`: the probe tells the two protocols apart. RS485, A and B, supply on "
        "its label, vent tube in dry air.",
        limits="One channel per sensor. Address 250 is answered by any probe: then it must be alone on the line.",
        faults="Exception 32 after a power-up is mended by itself (F48). CRC errors on every message: a device "
        "of another protocol on the line. A wet vent tube shifts the level.",
        options='address = 1, compensation = "vent"',
    ),
    commands={
        function.__name__: function
        for function in (
            initialise,
            read_channel,
            read_channel_integer,
            read_coefficient,
            read_configuration,
            read_serial_number,
            set_address,
            zero,
        )
    },
    recognise=recognise,
)
