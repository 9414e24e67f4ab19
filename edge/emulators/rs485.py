"""Modbus RTU servers on one RS485 line.

Sources: MODBUS over Serial Line V1.02 (framing, CRC); MODBUS Application Protocol V1.1b3 (functions 3, 4, 6, 16, exceptions).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.sensor import AskedDevice

HOLDING, INPUT = 3, 4
_WRITE_ONE, _WRITE_MANY = 6, 16
_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS = 1, 2
_REQUEST_BYTES = {HOLDING: 8, INPUT: 8, _WRITE_ONE: 8}


@dataclass(slots=True)
class Image:
    """What a server's registers hold at one moment: words by function and register; `said` by function and the first register of
    a value, what it says."""

    words: dict[int, dict[int, int]] = field(default_factory=dict)
    said: dict[tuple[int, int], tuple[str, float]] = field(default_factory=dict)

    def put(self, function: int, register: int, data: bytes, quantity: str = "", value: float = 0.0) -> None:
        """Bytes of a value into its registers."""
        words = self.words.setdefault(function, {})
        for offset in range(0, len(data), 2):
            words[register + offset // 2] = int.from_bytes(data[offset : offset + 2])
        if quantity:
            self.said[function, register] = quantity, value


class Server(Protocol):
    """One device on the line. A `silent` one is broken. `settings` are its holding registers that may be written;
    `address_register` is the one that is its address, `any_address` one that it answers to beside its own."""

    address: int
    sensor: str
    silent: bool
    settings: dict[int, int]
    address_register: int | None
    any_address: int | None

    def image(self, wall_s: float, warm: bool) -> Image: ...


class Rs485Line(AskedDevice):
    """The adapter and the servers on its line: each answers requests to its own address, nobody those to others."""

    def __init__(
        self, path: Path, devices: Sequence[Server], *, clock: Clock, log: DeviceLog, warm_up_s: float = 0.0
    ) -> None:
        super().__init__(path, clock=clock, log=log, warm_up_s=warm_up_s)
        self.devices = list(devices)

    def question(self, data: bytes) -> int:
        if len(data) < 2:
            return 0
        size = _REQUEST_BYTES.get(data[1], 8)
        if data[1] == _WRITE_MANY:
            if len(data) < 7:
                return 0
            size = 9 + data[6]
        if len(data) < size:
            return 0
        return size if crc16(data[:size]) == 0 else -1

    def answer(self, question: bytes) -> None:
        for device in self.devices:
            if question[0] in (device.address, device.any_address) and not device.silent:
                self._answer(device, question)

    def _answer(self, device: Server, request: bytes) -> None:
        asked, function = request[0], request[1]
        asked = device.address if asked == 0 else asked
        if function in (_WRITE_ONE, _WRITE_MANY):
            code = _write(device, request)
            self.write(with_crc(bytes((asked, function | 0x80, code)) if code else bytes((asked,)) + request[1:6]))
            return
        image = device.image(self.clock.wall(), self.warm)
        known = dict(image.words.get(function, {}))
        if function == HOLDING:
            known |= device.settings
        first, count = int.from_bytes(request[2:4]), int.from_bytes(request[4:6])
        wanted = range(first, first + count)
        if not known or function not in (HOLDING, INPUT):
            self.write(with_crc(bytes((asked, function | 0x80, _ILLEGAL_FUNCTION))))
        elif not wanted or count > 125 or any(r not in known for r in wanted):
            self.write(with_crc(bytes((asked, function | 0x80, _ILLEGAL_ADDRESS))))
        else:
            words = b"".join(known[r].to_bytes(2) for r in wanted)
            said = [image.said[function, r] for r in wanted if (function, r) in image.said]
            self.send(with_crc(bytes((asked, function, len(words))) + words), device.sensor, dict(said))


def _write(device: Server, request: bytes) -> int:
    """Write holding registers; returns an exception code, 0 when it is done."""
    register, last = int.from_bytes(request[2:4]), int.from_bytes(request[4:6])
    if request[1] == _WRITE_ONE:
        values: Mapping[int, int] = {register: last}
    else:
        data = request[7:-2]
        values = {register + i: int.from_bytes(data[2 * i : 2 * i + 2]) for i in range(last)}
    if not values or any(r not in device.settings for r in values):
        return _ILLEGAL_ADDRESS
    device.settings.update(values)
    if device.address_register is not None:
        device.address = values.get(device.address_register, device.address)
    return 0


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS; 0 over a frame that ends in its own CRC (low byte first)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def with_crc(body: bytes) -> bytes:
    """A body and its CRC, low byte first."""
    return body + crc16(body).to_bytes(2, "little")


def word(value: float) -> bytes:
    """A signed register; what does not fit stands at its end."""
    return min(max(round(value), -0x8000), 0x7FFF).to_bytes(2, signed=True)
