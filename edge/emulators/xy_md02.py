"""XY-MD02 temperature and humidity transmitters, Modbus RTU servers on one RS485 line.

Source: seller's manual of the XY-MD02 (input registers 1 and 2, signed, 0.1); MODBUS over Serial Line V1.02 (CRC,
exceptions 1 and 2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.clock import Clock
from edge.emulators.log import DeviceLog
from edge.emulators.sensor import SensorDevice

_REQUEST_LENGTH = 8
_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS = 1, 2


@dataclass(slots=True)
class XyMd02:
    """One transmitter. `climate(wall_s)` is the true (air temperature Cel, relative humidity %RH). A `silent` one is broken."""

    address: int
    sensor: str
    climate: Callable[[float], tuple[float, float]]
    silent: bool = False


class Rs485Line(SensorDevice):
    """The adapter and the transmitters on its line: each answers requests to its own address, nobody those to others."""

    def __init__(self, path: Path, devices: Sequence[XyMd02], *, clock: Clock, log: DeviceLog) -> None:
        super().__init__(path, clock, log, interval_s=0)
        self.devices = {device.address: device for device in devices}
        self._input = bytearray()

    def tick(self) -> float | None:
        return None

    def received(self, data: bytes) -> None:
        self._input += data
        while len(self._input) >= _REQUEST_LENGTH:
            request = bytes(self._input[:_REQUEST_LENGTH])
            if crc16(request) != 0:
                del self._input[0]
                continue
            del self._input[:_REQUEST_LENGTH]
            device = self.devices.get(request[0])
            if device is not None and not device.silent:
                self._answer(device, request)

    def _answer(self, device: XyMd02, request: bytes) -> None:
        function = request[1]
        register, count = int.from_bytes(request[2:4]), int.from_bytes(request[4:6])
        temperature, humidity = (round(value * 10) for value in device.climate(self.clock.wall()))
        match function:
            case 4:
                known = {1: temperature, 2: humidity}
            case 3:
                known = {0x0101: device.address, 0x0102: 9600, 0x0103: 0, 0x0104: 0}
            case _:
                self.write(_with_crc(bytes((device.address, function | 0x80, _ILLEGAL_FUNCTION))))
                return
        wanted = range(register, register + count)
        if not wanted or any(r not in known for r in wanted):
            self.write(_with_crc(bytes((device.address, function | 0x80, _ILLEGAL_ADDRESS))))
            return
        words = b"".join(known[r].to_bytes(2, signed=known[r] < 0) for r in wanted)
        names = {1: "air_temperature", 2: "relative_humidity"} if function == 4 else {}
        reply = _with_crc(bytes((device.address, function, len(words))) + words)
        self.send(reply, device.sensor, {names[r]: known[r] / 10 for r in wanted if r in names})


def crc16(data: bytes) -> int:
    """CRC-16/MODBUS; 0 over a frame that ends in its own CRC (low byte first)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def _with_crc(body: bytes) -> bytes:
    return body + crc16(body).to_bytes(2, "little")
