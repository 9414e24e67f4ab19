"""Ebyte E22-900T22: transparent mode, configuration mode, and the switch between them.

Sources: Ebyte, E22-900T22D User Manual (registers, answers); E22-xxxT22S manual of 2024 (switching by command).
"""

from collections.abc import Sequence
from pathlib import Path

from common.clock import Clock
from edge.emulators.family import Word
from edge.emulators.log import DeviceLog
from edge.emulators.lora import LoraModem, LoraNode, family

_SWITCH = b"\xc0\xc1\xc2\xc3\x02"
_REFUSED = b"\xff\xff\xff"
_BY_SOFTWARE = 0x10
_RSSI_BYTE = 0x80
_REGISTERS = 9
_TRANSPARENT, _CONFIGURATION = 0, 2
_SWITCHING_S = 0.1
"""Deaf for so long after a switch: from memory, the manual shows it on the pin AUX without a figure."""


class EbyteE22(LoraModem):
    """`registers` 0 to 8 are in its flash. `m1` is the level of the pin M1, with M0 low: high is configuration mode.

    What it is sent in transparent mode, and is no command that it knows there, goes on the air (`transmitted`).
    """

    def __init__(self, path: Path, nodes: Sequence[LoraNode], *, clock: Clock, log: DeviceLog) -> None:
        super().__init__(path, nodes, clock=clock, log=log)
        self.registers = bytearray.fromhex("000000620012030000")
        self.m1 = False
        self.transmitted: list[bytes] = []
        self._switched = _TRANSPARENT
        self._hears_at = self._real()

    @property
    def mode(self) -> int:
        return _CONFIGURATION if self.m1 else self._switched

    def frame(self, node: LoraNode, payload: bytes) -> bytes:
        if self.mode == _CONFIGURATION or self._real() < self._hears_at:
            return b""
        return payload + bytes((node.rssi + 256,)) if self.registers[6] & _RSSI_BYTE else payload

    def received(self, data: bytes) -> None:
        """Commands come whole: a gateway writes each at once."""
        if len(data) == len(_SWITCH) + 1 and data.startswith(_SWITCH) and self.registers[4] & _BY_SOFTWARE:
            self._switched = data[-1]
            self._hears_at = self._real() + _SWITCHING_S
            self.write(_SWITCH[1:] + data[-1:])
        elif self.mode == _CONFIGURATION:
            self.write(self._answer(data))
        else:
            self.transmitted.append(data)

    def _answer(self, command: bytes) -> bytes:
        if len(command) < 3 or not command[2] or command[1] + command[2] > _REGISTERS:
            return _REFUSED
        head, start, length = command[:3]
        if head in (0xC0, 0xC2) and len(command) == 3 + length:
            self.registers[start : start + length] = command[3:]
        elif head != 0xC1 or len(command) > 3:
            return _REFUSED
        return bytes((0xC1, start, length)) + self.registers[start : start + length]


def _pin(device: EbyteE22, level: str) -> None:
    if level not in ("0", "1"):
        raise ValueError("expected m1=1 (configuration mode) or m1=0")
    device.m1 = level == "1"


FAMILIES = (
    family(
        "ebyte_e22",
        "Ebyte E22-900T22 LoRa module, new: M1 high until it is set up; and a node",
        EbyteE22,
        words={"m1": Word(example="m1=1", do=_pin)},
    ),
)
